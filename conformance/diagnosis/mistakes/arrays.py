"""Mistakes in one array by itself: transposed, scaled, clipped, rounded, a row or a block of it lost or copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import COLUMNS, WIDE, Array, Arrays, rounded

Change = Callable[[Array], Array]
TILES = (32, 16, 64, 8, 4)


def each(
    change: Callable[[Base, str, Array], Array | None], only: Callable[[str, Array], bool] = lambda key, v: True
) -> Callable[[Base], Arrays]:
    """A prediction: every array that qualifies, changed by itself."""

    def predict(base: Base) -> Arrays:
        found = {key: change(base, key, value.copy()) for key, value in base.exact.items() if only(key, value)}
        return {key: value for key, value in found.items() if value is not None}

    return predict


def gradient(key: str, v: Array) -> bool:
    """Whether it is a gradient."""
    return key.startswith("d")


def matrix(key: str, v: Array) -> bool:
    """Whether it is a gradient with two axes."""
    return key.startswith("d") and v.ndim == 2


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Each acts on one array at a time."""

    def one(
        id_: str,
        words: str,
        f: Callable[[Base, str, Array], Array | None],
        only: Callable[[str, Array], bool],
        order: int = 25,
        hint: str = "",
    ) -> Hypothesis:
        return Hypothesis(id_, words, each(f, only), local=True, order=order, hint=hint)

    yield one("zero", "all zero", lambda b, k, v: v * 0, lambda k, v: True, 6)
    yield one(
        "not-a-number",
        "NaN throughout: uninitialised memory, or 0 times infinity",
        lambda b, k, v: v * WIDE(np.nan),
        lambda k, v: True,
        7,
    )
    yield one("negated", "of the wrong sign", lambda b, k, v: -v, lambda k, v: True, 12, "negate it")
    yield one("doubled", "twice what it should be", lambda b, k, v: 2 * v, lambda k, v: True, 12, "halve it")
    yield one("halved", "half of what it should be", lambda b, k, v: v / 2, lambda k, v: True, 12, "double it")
    yield one("transposed", "returned transposed", _transposed, matrix, 11, "return its transpose")
    yield one(
        "other-layout",
        "laid out column by column, as a transposed array in memory",
        lambda b, k, v: np.ascontiguousarray(v.T).reshape(v.shape) if v.shape[0] != v.shape[1] else None,
        matrix,
        13,
        "return its transpose, reshaped",
    )
    yield one(
        "rows-rolled",
        "with its rows rolled by one",
        lambda b, k, v: np.roll(v, 1, axis=0),
        lambda k, v: v.ndim >= 1,
        20,
    )
    yield one(
        "rows-rolled-back",
        "with its rows rolled back by one",
        lambda b, k, v: np.roll(v, -1, axis=0),
        lambda k, v: v.ndim >= 1,
        20,
    )
    yield one(
        "columns-rolled",
        "with its columns rolled by one",
        lambda b, k, v: np.roll(v, 1, axis=-1),
        lambda k, v: v.ndim >= 2,
        20,
    )
    yield one(
        "reversed",
        "with its entries in reverse order along the first axis",
        lambda b, k, v: v[::-1],
        lambda k, v: v.ndim >= 1,
        21,
    )
    for axis, name in ((0, "first axis"), (-1, "last axis")):
        for at, which in ((0, "first"), (-1, "last")):
            yield one(
                f"lost-{which}-{name.replace(' ', '-')}",
                f"zero in the {which} entry of the {name}",
                lambda b, k, v, x=axis, i=at: _lost(v, x, i),
                lambda k, v: v.ndim >= 1 and gradient(k, v),
                16,
            )
    for tile in TILES:
        yield one(
            f"tail-lost-{tile}",
            f"zero in the tail of the last tile of {tile} units",
            lambda b, k, v, n=tile: _tail(v, n),
            lambda k, v: gradient(k, v) and v.ndim >= 1,
            15,
        )
        yield one(
            f"beyond-lost-{tile}",
            f"zero beyond the first {tile} units",
            lambda b, k, v, n=tile: _beyond(v, n),
            lambda k, v: gradient(k, v) and v.ndim >= 1,
            16,
        )
    for limit in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0):
        yield one(
            f"clipped-{limit:g}",
            f"clipped to [-{limit:g}, {limit:g}]",
            lambda b, k, v, c=limit: np.clip(v, -c, c),
            gradient,
            14,
        )
        yield one(
            f"norm-clipped-{limit:g}",
            f"scaled down to a norm of {limit:g}",
            lambda b, k, v, c=limit: v * min(WIDE(1), c / max(_norm(v), WIDE(1e-300))),
            gradient,
            15,
        )
        yield Hypothesis(
            f"total-norm-clipped-{limit:g}",
            f"all gradients are scaled down to a common norm of {limit:g}",
            _clip_total(limit),
            order=15,
        )
    for power in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
        yield one(
            f"flushed-{power:g}",
            f"zero where it is below {power:g}",
            lambda b, k, v, c=power: np.where(np.abs(v) < c, 0, v),
            gradient,
            22,
        )
    for narrow in ("float32", "float16", "bfloat16"):
        yield one(
            f"rounded-{narrow}", f"rounded to {narrow}", lambda b, k, v, d=narrow: rounded(v, d), lambda k, v: True, 24
        )
    yield one(
        "zero-where-weight-is-zero", "taken to be zero where the weight itself is zero", _where_zero, gradient, 18
    )
    yield one("times-weight", "multiplied by the weight itself", _times_weight, gradient, 30)
    yield one(
        "diagonal-zero", "zero on the diagonal", lambda b, k, v: v * (1 - np.eye(*v.shape, dtype=WIDE)), matrix, 26
    )
    yield one("diagonal-only", "zero off the diagonal", lambda b, k, v: v * np.eye(*v.shape, dtype=WIDE), matrix, 26)
    yield one("upper-only", "zero below the diagonal", lambda b, k, v: np.triu(v), matrix, 27)
    yield one("lower-only", "zero above the diagonal", lambda b, k, v: np.tril(v), matrix, 27)
    yield one(
        "mean-in-each",
        "the mean of its entries in each",
        lambda b, k, v: np.full_like(v, v.mean()),
        lambda k, v: gradient(k, v) and v.ndim >= 1,
        30,
    )
    yield one("absolute", "the absolute value of what it should be", lambda b, k, v: np.abs(v), gradient, 30)
    yield one("squared", "the square of what it should be", lambda b, k, v: v * v, gradient, 31)
    yield from _blocks(problem)
    yield from _copies(problem)


def _norm(v: Array) -> Array:
    return np.asarray(np.sqrt((v * v).sum()))


def _transposed(base: Base, key: str, v: Array) -> Array | None:
    if v.shape[0] == v.shape[1]:
        return v.T
    if key == "dW_h" and v.shape[1] % v.shape[0] == 0:
        n = v.shape[0]
        return np.concatenate([v[:, j : j + n].T for j in range(0, v.shape[1], n)], axis=1)
    return None


def _lost(v: Array, axis: int, at: int) -> Array:
    index: list[slice | int] = [slice(None)] * v.ndim
    index[axis] = at
    v[tuple(index)] = 0
    return v


def _tail(v: Array, tile: int) -> Array | None:
    n = v.shape[-1]
    if n <= tile or n % tile == 0:
        return v
    v[..., n - n % tile :] = 0
    return v


def _beyond(v: Array, tile: int) -> Array | None:
    v[..., tile:] = 0
    return v


def _clip_total(limit: float) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        params = [f"d{name}" for name in base.problem.parameter_shapes()]
        total = np.sqrt(sum((base.exact[key] ** 2).sum() for key in params))
        factor = min(WIDE(1), WIDE(limit) / max(total, WIDE(1e-300)))
        return {key: base.exact[key] * factor for key in params}

    return predict


def _weight(base: Base, key: str) -> Array | None:
    p, name = base.problem, key[1:]
    if name in p.params:
        return p.params[name]
    return {"x": p.x, "h0": p.h0, "c0": p.c0}.get(name)


def _where_zero(base: Base, key: str, v: Array) -> Array | None:
    weight = _weight(base, key)
    return None if weight is None else np.where(weight == 0, 0, v)


def _times_weight(base: Base, key: str, v: Array) -> Array | None:
    weight = _weight(base, key)
    return None if weight is None else v * weight.astype(WIDE)


def _blocks(problem: Problem) -> Iterator[Hypothesis]:
    """Blocks of columns that belong to gates: zero, doubled, negated, or copied from another gate's."""
    gates = COLUMNS[problem.cell]
    n = len(gates)
    if n < 2:
        return
    names = [f"d{name}" for name, shape in problem.spec.shapes(101, 103).items() if shape[-1] == n * 103]

    def blocks(f: Callable[[list[Array]], list[Array]]) -> Callable[[Base], Arrays]:
        return lambda base: {
            key: np.concatenate(f([b.copy() for b in np.split(base.exact[key], n, axis=-1)]), axis=-1) for key in names
        }

    for k, gate in enumerate(gates):
        for factor, words in ((0, "zero"), (2, "counted twice"), (-1, "of the wrong sign")):
            yield Hypothesis(
                f"block-{gate}-{words.replace(' ', '-')}",
                f"the block of gate {gate} is {words}",
                blocks(lambda bs, k=k, c=factor: [b * WIDE(c) if j == k else b for j, b in enumerate(bs)]),
                local=True,
                order=12,
            )
        for m, other in enumerate(gates):
            if m != k:
                yield Hypothesis(
                    f"block-{gate}-from-{other}",
                    f"the block of gate {gate} is copied from that of {other}",
                    blocks(lambda bs, k=k, m=m: [bs[m] if j == k else b for j, b in enumerate(bs)]),
                    local=True,
                    order=13,
                )
    for m, gate in enumerate(gates):
        yield Hypothesis(
            f"blocks-all-from-{gate}",
            f"every other block is copied from that of gate {gate}",
            blocks(lambda bs, m=m: [bs[m]] * n),
            local=True,
            order=14,
        )


def _copies(problem: Problem) -> Iterator[Hypothesis]:
    """One array returned in place of another of its shape."""
    names = [f"d{name}" for name in problem.parameter_shapes()] + [f"d{s}0" for s in problem.spec.states]
    for key in names:
        for other in names:
            if other != key:
                yield Hypothesis(
                    f"{key}-is-{other}",
                    f"{key} holds what {other} should",
                    lambda base, k=key, o=other: (
                        {k: base.exact[o]} if base.exact[o].shape == base.exact[k].shape else None
                    ),
                    order=16,
                )
