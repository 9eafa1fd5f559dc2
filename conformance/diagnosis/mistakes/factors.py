"""An entrywise factor on the way back that is not the right one: another gate, another step, missing, or turned over.

A product z = a o b sends dz o b to a. Where b stands, an implementation can hold any array of the step that has its
shape; so it can for what the parameters' gradients are formed with, and for the blocks of the weights going back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.mistakes.path import EDGES, twisted
from conformance.diagnosis.tape import COLUMNS, GATES, SLOPES, WIDE, Array, Arrays, Site, Tape

Factor = Callable[[Tape, int], Array]


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Factors of products, of the mix and of sums; slopes; blocks of weights; factors of the parameters' gradients."""
    yield from _products(problem)
    yield from _slopes(problem)
    yield from _blocks(problem)
    yield from _transposed_blocks(problem)
    yield from _lefts(problem)
    yield from _peepholes(problem)
    yield from _uncut(problem)


def values(problem: Problem) -> dict[str, Factor]:
    """The arrays (B,H) of a step by name: gates, states, and one minus each gate."""
    cell = problem.cell
    found: dict[str, Factor] = {"1": lambda a, s: np.ones((a.B, a.H), WIDE)}
    if cell == "elman":
        return found
    for label, gate in GATES[cell].items():
        found[gate] = lambda a, s, m=label: a.node(s, m).value
        if label.startswith("sigmoid"):
            found[f"1 − {gate}"] = lambda a, s, m=label: 1 - a.node(s, m).value
    for name in problem.spec.states:
        found[f"{name}_t"] = lambda a, s, n=name: a.steps[s - 1][1][n].value
        found[f"{name}_{{t-1}}"] = lambda a, s, n=name: a.steps[s - 1][0][n].value
    if cell == "gru_reset_after":
        found["h_{t-1} W_hn, without its bias,"] = _inner_without_bias
        found["h_{t-1} W_hn + b_hn"] = lambda a, s: a.node(s, "linear1").value
    if cell.startswith("gru"):
        found["h_{t-1} − h_t"] = lambda a, s: a.steps[s - 1][0]["h"].value - a.steps[s - 1][1]["h"].value
        found["h_t − n"] = lambda a, s: a.steps[s - 1][1]["h"].value - a.node(s, "tanh0").value
        found["−n"] = lambda a, s: -a.node(s, "tanh0").value
    return found


def _inner_without_bias(a: Tape, s: int) -> Array:
    return np.asarray(a.node(s, "linear1").value - a.params["b_h"][:, 2 * a.H :])


def _right(label: str, i: int) -> Factor:
    """The right factor of the i-th input, of a product, a sum or the mix of a GRU."""

    def factor(a: Tape, s: int) -> Array:
        inputs = [node.value for node in a.node(s, label).inputs]
        if label.startswith("mul"):
            return inputs[1 - i]
        if label.startswith("mix"):
            z, n, h = inputs
            return np.asarray((h - n, 1 - z, z)[i])
        return np.ones((a.B, a.H), WIDE)

    return factor


def _products(problem: Problem) -> Iterator[Hypothesis]:
    for (label, i), words in EDGES[problem.cell].items():
        op = label.rstrip("0123456789")
        if op not in ("mul", "add", "mix"):
            continue
        right = _right(label, i)
        others = dict(values(problem))
        if op != "add":
            others["its value of the step before"] = _moved(right, -1)
            others["its value of the step after"] = _moved(right, 1)
        for name, factor in others.items():
            yield Hypothesis(
                f"factor-{label}-{i}-{name}",
                f"what flows back {words} takes the factor {name} where another belongs"
                if name != "1"
                else f"what flows back {words} misses its factor",
                twisted(gives={(label, i): lambda a, s, dz, f=factor: dz * f(a, s)}),
                order=29,
                late=True,
            )
    if problem.cell == "gru_reset_after":
        yield Hypothesis(
            "carry-not-reset",
            "the candidate's gradient goes back to h_{t-1} without the factor r",
            twisted(gives={("linear1", 0): lambda a, s, dz: dz / a.node(s, "sigmoid0").value @ _block(a, 2).T}),
            order=24,
        )
    if problem.cell == "gru_reset_before":
        yield Hypothesis(
            "carry-reset-missing",
            "the candidate's gradient goes back to h_{t-1} without the factor r",
            twisted(gives={("mul0", 1): lambda a, s, dz: dz}),
            order=24,
        )


def _block(a: Tape, k: int) -> Array:
    return a.params["W_h"][:, k * a.H : (k + 1) * a.H]


def _moved(factor: Factor, by: int) -> Factor:
    def moved(a: Tape, s: int) -> Array:
        return factor(a, s + by) if 1 <= s + by <= a.T else np.zeros((a.B, a.H), WIDE)

    return moved


def _slopes(problem: Problem) -> Iterator[Hypothesis]:
    labels = GATES[problem.cell]
    if problem.cell == "elman":
        if problem.activation in ("tanh", "sigmoid"):
            yield Hypothesis(
                "slope-of-state-before",
                "the derivative is formed with h_{t-1} where h_t belongs",
                _slope_before(problem.activation),
                order=21,
            )
        return
    for label, gate in labels.items():
        for other, from_ in labels.items():
            if other != label and other[:-1] == label[:-1]:
                yield Hypothesis(
                    f"slope-{gate}-of-{from_}",
                    f"the derivative of gate {gate} is formed with {from_}",
                    _slope_of(label, other),
                    order=30,
                    late=True,
                )


def _slope_before(activation: str) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        order = iter(range(base.problem.T - 1, -1, -1))

        def slope(a: Array, z: Array) -> Array:
            h = base.tape.hs[next(order)]
            return np.asarray(1 - h * h if activation == "tanh" else h * (1 - h))

        return twisted(slope={f"{activation}0": slope})(base)

    return predict


def _slope_of(label: str, other: str) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        order = iter(range(base.problem.T, 0, -1))

        def slope(a: Array, z: Array) -> Array:
            node = base.tape.node(next(order), other)
            return SLOPES[other[:-1]](node.inputs[0].value, node.value)

        return twisted(slope={label: slope})(base)

    return predict


# ---- blocks of the weights, going back ---------------------------------------------------------------------------


def per_block(
    names: tuple[str, ...], f: Callable[[Array], Array], gates: set[int] | None = None
) -> Callable[..., Array]:
    """A `read`: f of the square blocks of some gates (None: all) of some parameters."""

    def read(name: str, start: int, W: Array) -> Array:
        n = W.shape[0]
        if name not in names or W.shape[1] % n:
            return W
        blocks = [W[:, j : j + n] for j in range(0, W.shape[1], n)]
        return np.concatenate(
            [f(b) if gates is None or start // n + k in gates else b for k, b in enumerate(blocks)], axis=1
        )

    return read


def _blocks(problem: Problem) -> Iterator[Hypothesis]:
    gates = COLUMNS[problem.cell]
    W_h, W_x = ("W_hh", "W_xh") if problem.cell == "elman" else ("W_h", "W_x")
    if len(gates) > 1:
        for k, gate in enumerate(gates):
            yield Hypothesis(
                f"carry-without-transpose-{gate}",
                f"going back, the block of gate {gate} of {W_h} is read without its transpose",
                twisted(read=per_block((W_h,), lambda A: A.T, {k})),
                order=22,
                late=True,
            )
            yield Hypothesis(
                f"carry-misses-block-{gate}",
                f"going back to h_{{t-1}}, the gate {gate} is left out",
                twisted(read=per_block((W_h,), lambda A: A * 0, {k})),
                order=31,
                late=True,
            )
    for name, to in ((W_x, "x"), ("W_hy", "h")):
        if name == "W_hy" and problem.readout != "linear":
            continue
        yield Hypothesis(
            f"{name}-back-without-transpose",
            f"going back to {to}, {name} is read without its transpose where it is square",
            _square(name, problem),
            order=20,
        )
    for tile in (32, 16, 8, 4):
        yield Hypothesis(
            f"carry-tile-{tile}",
            f"the carry to h_{{t-1}} is formed in tiles of {tile} units, and a remainder beyond them is lost",
            _tiled(W_h, tile, rows=True, one=False),
            order=20,
        )
        yield Hypothesis(
            f"carry-inner-tile-{tile}",
            f"the sum over units in the carry runs in tiles of {tile}, and a remainder beyond them is lost",
            _tiled(W_h, tile, rows=False, one=False),
            order=21,
        )
        if problem.readout == "linear":
            yield Hypothesis(
                f"readout-beyond-{tile}",
                f"only the first {tile} outputs send a gradient back to h",
                _tiled("W_hy", tile, rows=False, one=True),
                order=20,
            )
            yield Hypothesis(
                f"readout-tile-{tile}",
                f"the outputs send their gradient back in tiles of {tile}, and a remainder beyond them is lost",
                _tiled("W_hy", tile, rows=False, one=False),
                order=21,
            )


def _square(name: str, problem: Problem) -> Callable[[Base], Arrays | None]:
    def predict(base: Base) -> Arrays | None:
        n, m = base.tape.params[name].shape
        return twisted(read=per_block((name,), lambda A: A.T))(base) if m % n == 0 and n > 1 else None

    return predict


def _tiled(name: str, tile: int, *, rows: bool, one: bool) -> Callable[[Base], Arrays | None]:
    """Beyond whole tiles, or beyond the first, rows of W (units that receive) or columns (that send) are lost."""

    def predict(base: Base) -> Arrays | None:
        n = base.problem.K if name == "W_hy" else base.problem.H
        kept = tile if one else n // tile * tile
        if kept >= n or n < tile:
            return None

        def read(which: str, start: int, W: Array) -> Array:
            if which != name:
                return W
            W = W.copy()
            if rows:
                W[kept:] = 0
            else:
                for j in range(0, W.shape[1], n):
                    W[:, j + kept : j + n] = 0
            return W

        return twisted(read=read)(base)

    return predict


def _transposed_blocks(problem: Problem) -> Iterator[Hypothesis]:
    """The gradient's block of one gate stands transposed."""
    gates = COLUMNS[problem.cell]
    if len(gates) < 2:
        return

    def turned(base: Base, k: int) -> Arrays:
        out = {}
        for name, shape in base.problem.spec.shapes(base.problem.D, base.problem.H).items():
            if len(shape) == 2 and shape[1] == len(gates) * shape[0]:
                v = base.exact[f"d{name}"].copy()
                n = shape[0]
                v[:, k * n : (k + 1) * n] = v[:, k * n : (k + 1) * n].T
                out[f"d{name}"] = v
        return out

    for k, gate in enumerate(gates):
        yield Hypothesis(
            f"block-{gate}-transposed",
            f"the block of gate {gate} is transposed",
            lambda base, k=k: turned(base, k),
            local=True,
            order=14,
        )


# ---- what the parameters' gradients are formed with --------------------------------------------------------------


def _lefts(problem: Problem) -> Iterator[Hypothesis]:
    """Another state in the place of the one that the recurrent weights or the peepholes are multiplied by."""
    if problem.cell == "elman":
        return
    gates, H_all = COLUMNS[problem.cell], len(COLUMNS[problem.cell])
    others = {name: f for name, f in values(problem).items() if ("_" in name and " " not in name) or name == "1"}
    if problem.cell == "gru_reset_before":
        others["r∘h_{t-1}"] = lambda a, s: a.node(s, "mul0").value
    peepholes = [name for name in problem.spec.shapes(problem.D, problem.H) if name.startswith("p_")]
    for other, f in others.items():
        for name in peepholes:
            yield Hypothesis(
                f"d{name}-with-{other}",
                f"d{name} is formed with {other}" + (": its factor is missing" if other == "1" else ""),
                lambda base, n=name, f=f: {f"d{n}": base.tape.parameter(n, left=_left(base.tape, f))},
                order=19,
            )
        if other == "1":
            continue
        for k, gate in enumerate(gates):

            def part(base: Base, f: Factor = f, k: int = k) -> Arrays:
                new = base.tape.parameter("W_h", left=_left(base.tape, f))
                v, n = base.exact["dW_h"].copy(), new.shape[1] // H_all
                v[:, k * n : (k + 1) * n] = new[:, k * n : (k + 1) * n]
                return {"dW_h": v}

            yield Hypothesis(
                f"dW_h-{gate}-with-{other}",
                f"the block of gate {gate} of dW_h is formed with {other}",
                part,
                order=23,
            )


def _left(tape: Tape, f: Factor) -> Callable[[Site], list[Array | None]]:
    return lambda site: [f(tape, s) for s in range(1, tape.T + 1)]


def _peepholes(problem: Problem) -> Iterator[Hypothesis]:
    if problem.cell != "lstm_peephole":
        return
    yield Hypothesis(
        "peephole-o-to-old-cell",
        "the output gate's peephole sends its gradient to c_{t-1} where c_t belongs",
        twisted(routes={("mul4", 1): "c"}),
        order=18,
    )
    for gates, labels in (("i and f", ("mul0", "mul1")), ("i, f and o", ("mul0", "mul1", "mul4"))):
        yield Hypothesis(
            f"peepholes-cut-{gates.replace(' ', '-').replace(',', '')}",
            f"nothing flows back through the peepholes of {gates} to c",
            twisted(edges={(label, 1): 0.0 for label in labels}),
            order=18,
        )


def _uncut(problem: Problem) -> Iterator[Hypothesis]:
    """Under `cec`, gates whose pre-activation is not cut from h_{t-1}."""
    if problem.truncation.kind != "cec":
        return
    for kept in ("i", "g", "o", "ig", "io", "go", "igo"):

        def held(dz: Array, kept: str = kept) -> Array:
            blocks = np.split(dz, 3, axis=-1)
            return np.concatenate([b * (gate in kept) for b, gate in zip(blocks, "igo", strict=True)], axis=-1)

        yield Hypothesis(
            f"cec-not-cut-{kept}",
            f"under cec the pre-activation of {', '.join(kept)} is not cut from h_{{t-1}}",
            twisted(held=held),
            order=12,
        )
