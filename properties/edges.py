"""Problems at the edges of kernels, in every certificate: T, H and B at and past vector, tile and window widths.

Generic on purpose: unequal odd sizes, every array random and non-zero, a loss at every step and on the final state.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.strategies import Array, Shape, offered, probabilities, recurrent, to_dtype
from properties.units import each_array

SIZES = (  # T, B, D, H, K
    (1, 3, 2, 5, 3),
    (7, 3, 5, 3, 2),
    (17, 2, 3, 5, 4),
    (33, 3, 2, 4, 3),
    (65, 1, 2, 3, 2),
    (129, 1, 2, 2, 2),
    (6, 7, 3, 7, 2),
    (5, 2, 17, 33, 3),
    (4, 5, 3, 65, 17),
    (3, 17, 33, 4, 33),
)
SEVERAL = (
    *((19, 9, 18, 19, 10), (18, 3, 34, 20, 9), (33, 3, 17, 33, 17)),
    *((515, 1, 1, 2, 2), (2, 1, 2, 137, 2)),
    *((4, 16, 8, 16, 8), (3, 4, 16, 32, 16), (2, 8, 64, 64, 4)),
    *((2, 33, 34, 35, 36), (34, 18, 2, 3, 2), (2, 32, 32, 32, 32), (32, 16, 2, 2, 2)),
    *((1, 1, 2, 257, 2), (1, 3, 2, 137, 2), (1, 2, 300, 3, 2), (1, 2, 2, 3, 300), (2, 260, 2, 2, 2)),
)
"""Where several axes are beyond a tile at once (T B too), where one is far beyond, and where tiles are full to the last
entry."""
TILE = 16
BLOCKS = (
    *(Truncation("window", k=17), Truncation("chunk", k=9)),
    *(Truncation("periodic", k1=5, k2=17), Truncation("periodic", k1=2, k2=17)),
)
"""Truncations that reach far and still leave some of 28 steps out."""
ORDERS = {"ascending": [1, 2, 3, 4, 5, 6, 7], "descending": [7, 6, 5, 4, 3, 2, 1], "odd one out": [6, 3, 5, 6]}
"""Lengths in order, which a kernel that sorts rows may take another way; one that alone ends inside a block of 3."""
FARTHEST = 20
"""Steps that a truncated problem reaches back at most: passes of a long sequence cost."""
FAR = {"float64": 800.0, "float32": 110.0, "float16": 14.0, "bfloat16": 110.0}
"""Arguments at which exp overflows: a sigmoid or a softmax that is written carelessly turns them into NaN."""
LOUD = {"float64": 2.0**40, "float32": 2.0**30, "float16": 2.0**12, "bfloat16": 2.0**30}
"""What cotangents and targets are multiplied by: a kernel that clips its gradients shows."""
EXTRAS = {"empty": 4, "beyond": 3, "far": 5, "none": 4, "loud": 4, "faint": 3}
"""Further edges and their T: a row of length 0, a window over T, far arguments, no initial state, a large loss,
and arguments so small that a threshold beside 0 shows."""
QUIET = {"float64": 2.0**-40, "float32": 2.0**-30, "float16": 2.0**-6, "bfloat16": 2.0**-30}
"""What inputs, initial states and biases are multiplied by to be faint."""
SPIKE = {"float64": 2.0**10, "float32": 2.0**10, "float16": 2.0**4, "bfloat16": 2.0**10}
"""How far one entry of an array is from 0: beyond what a state, an input or a logit might be clipped to."""
WIDE = ((4, 17, 18, 33, 19), (34, 2, 2, 3, 2))
"""Sizes at which every loss meets every readout."""
UNLIKELY = 80.0
"""By how much one logit is below the others: a probability of 1e-35, which float32 still holds as a normal number."""
BIAS = {"float64": 2.0**20, "float32": 2.0**10, "float16": 4.0, "bfloat16": 4.0}
"""What is added to outputs and targets alike: their difference is exact, that of their squares is not."""


def edge_problems(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """One problem a size and an extra, over every loss; names take turns over what is offered."""
    shape = offered(support, cell)
    fields = ("readouts", "losses", "truncations", "activations", "reductions")
    turns = {name: itertools.cycle(getattr(shape, name)) for name in fields}
    for i, sizes in enumerate(SIZES):
        problem = generic(1000 + i, support, cell, dtype, sizes, {name: next(turn) for name, turn in turns.items()})
        if problem is not None:
            yield problem
    for i, (extra, T) in enumerate(EXTRAS.items()):
        for j, (loss, activation) in enumerate(_pairs(shape, far=extra in ("far", "faint"))):
            names = {name: next(turn) for name, turn in turns.items()} | {"losses": loss, "activations": activation}
            problem = generic(2000 + 10 * i + j, support, cell, dtype, (T, 3, 2, 3, 3), names)
            if problem is not None:
                problem = _with_extra(problem, shape, extra)
            if problem is not None:
                yield problem
    yield from _empty_rows(support, cell, dtype, shape)
    yield from _several(support, cell, dtype, shape)
    yield from _ordered_rows(support, cell, dtype, shape)
    yield from _long_blocks(support, cell, dtype, shape)
    yield from _of_readouts(support, cell, dtype, shape)
    yield from _zeros(support, cell, dtype, shape)
    yield from _spikes(support, cell, dtype, shape)
    yield from _wide(support, cell, dtype, shape)


def _several(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Kernels that are right at one wide axis at a time may not be where tiles meet, nor far out."""
    losses, readouts = itertools.cycle(reversed(shape.losses)), itertools.cycle(shape.readouts)
    activations, reductions = itertools.cycle(shape.activations), itertools.cycle(shape.reductions or ("sum",))
    for i, sizes in enumerate(SEVERAL):
        names: dict[str, Any] = {"readouts": next(readouts), "losses": next(losses), "activations": next(activations)}
        names |= {"truncations": shape.truncations[0], "reductions": next(reductions)}
        if sizes[-1] > TILE and "linear" in shape.readouts:
            names["readouts"] = "linear"  # without it K is H
        problem = generic(4000 + i, support, cell, dtype, sizes, names)
        if problem is not None:
            yield problem if problem.loss.kind != "cross_entropy" else labelled(problem)


def _long_blocks(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Truncations of more than a few steps that are shorter than the sequence."""
    losses = itertools.cycle(shape.losses)
    for i, cut in enumerate(BLOCKS):
        if cut.kind not in shape.truncations:
            continue
        names: dict[str, Any] = {"readouts": shape.readouts[0], "losses": next(losses), "truncations": cut.kind}
        names |= {"activations": shape.activations[0], "reductions": (shape.reductions or ("sum",))[0]}
        problem = generic(6000 + 2 * i, support, cell, dtype, (28, 1, 1, 2, 2), names)
        if problem is not None:
            yield replace(problem, truncation=cut)


def _of_readouts(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """A class that is never right and all but impossible; outputs close to their targets, both far from 0."""
    if "linear" not in shape.readouts:
        return
    names: dict[str, Any] = {"readouts": "linear", "truncations": shape.truncations[0]}
    names |= {"activations": shape.activations[0], "reductions": (shape.reductions or ("sum",))[0]}
    for i, loss in enumerate(("cross_entropy", "squared_error")):
        if loss not in shape.losses:
            continue
        problem = generic(8000 + 2 * i, support, cell, dtype, (3, 2, 2, 3, 3), names | {"losses": loss})
        if problem is None:
            continue
        b_y, target = problem.params["b_y"].astype(np.float64), problem.loss.target
        if loss == "cross_entropy":
            b_y[-1] -= UNLIKELY
            target = np.arange(problem.T * problem.B).reshape(problem.T, problem.B) % (problem.K - 1)
        else:
            assert target is not None
            b_y, target = b_y + BIAS[dtype], to_dtype(target.astype(np.float64) + BIAS[dtype], dtype)
        params = problem.params | {"b_y": to_dtype(b_y, dtype)}
        yield replace(problem, params=params, loss=replace(problem.loss, target=target))


def labelled(problem: Problem) -> Problem:
    """The same with a class a row for its probabilities: all of them in turn, the last one first."""
    count = problem.T * problem.B
    target = problem.K - 1 - np.arange(count).reshape(problem.T, problem.B) % problem.K
    return replace(problem, loss=replace(problem.loss, target=target))


def _ordered_rows(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Rows in the order of their lengths, and lengths beside the blocks of a truncation."""
    if not shape.lengths:
        return
    kind = "periodic" if "periodic" in shape.truncations else shape.truncations[-1]
    for i, (loss, lengths) in enumerate(zip(itertools.cycle(shape.losses), ORDERS.values())):
        names: dict[str, Any] = {"readouts": shape.readouts[i % len(shape.readouts)], "losses": loss}
        names |= {
            "truncations": kind,
            "activations": shape.activations[0],
            "reductions": (shape.reductions or ("sum",))[0],
        }
        problem = generic(5000 + 2 * i, support, cell, dtype, (max(lengths), len(lengths), 2, 3, 3), names)
        if problem is not None:
            cut = Truncation("periodic", k1=3, k2=4) if kind == "periodic" else problem.truncation
            yield replace(problem, lengths=np.array(lengths), truncation=cut)


def _empty_rows(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """A row of length 0 under every truncation, and nothing but such rows: final cotangents pass through them."""
    if not (shape.lengths and "cotangent" in shape.losses):
        return
    names = {"readouts": shape.readouts[0], "losses": "cotangent", "activations": shape.activations[0]}
    for i, kind in enumerate(shape.truncations):
        wanted = {**names, "truncations": kind, "reductions": "sum"}
        problem = generic(3000 + i, support, cell, dtype, (5, 3, 2, 3, 3), wanted)
        if problem is not None:
            yield replace(problem, lengths=np.array([5, 0, 3]))
            if i == 0:
                yield replace(problem, lengths=np.zeros(3, dtype=np.int64))


def _pairs(shape: Shape, far: bool) -> list[tuple[str, str | None]]:
    """(loss, activation) of the problems with one extra; far arguments meet every activation, the others every loss."""
    if not far:
        return list(zip(shape.losses, itertools.cycle(shape.activations)))
    pairs = list(zip(itertools.cycle(shape.losses), shape.activations))
    return pairs + [("cross_entropy", a) for a in shape.activations[:1] if "cross_entropy" in shape.losses]


def _with_extra(problem: Problem, shape: Shape, extra: str) -> Problem | None:
    T, loss = problem.T, problem.loss
    if extra == "beyond":
        return replace(problem, truncation=Truncation("window", k=T + 2)) if "window" in shape.truncations else None
    if extra == "empty":
        return replace(problem, lengths=np.array([T, 0, 2])) if shape.lengths else None
    if extra == "none":
        return replace(problem, h0=None, c0=None) if shape.h0_none else None
    if extra == "loud":
        louder = {name: getattr(loss, name) for name in ("g", "g_h_final", "g_c_final", "target")}
        volume = LOUD[problem.dtype]
        scaled: dict[str, Any] = {n: to_dtype(a * volume, problem.dtype) for n, a in louder.items() if a is not None}
        return None if loss.kind == "cross_entropy" else replace(problem, loss=replace(loss, **scaled))
    if extra == "faint":
        return _faint(problem)
    scale = FAR[problem.dtype]
    x = to_dtype(problem.x * np.where(np.arange(T) == 1, scale, 1)[:, None, None], problem.dtype)
    params = dict(problem.params)
    if loss.kind == "cross_entropy" and "b_y" in params:
        params["b_y"] = to_dtype(params["b_y"] * scale, problem.dtype)
    return replace(problem, x=x, params=params)


def _faint(problem: Problem) -> Problem:
    """Inputs, initial states and biases near 0: exactly so, as powers of two."""
    quiet = QUIET[problem.dtype]

    def quieter(name: str, array: Array) -> Array:
        small = name in ("x", "h0", "c0") or (array.ndim == 1 and name != "b_y" and array.dtype.kind == "f")
        return to_dtype(array * quiet, problem.dtype) if small else array

    return each_array(problem, quieter)


def _zeros(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """One array after the other all zero, and it alone: whoever skips what is zero may skip too much."""
    problem = _small(9500, support, cell, dtype, shape)
    if problem is None:
        return
    for this in _floats(problem):

        def zeroed(name: str, array: Array, this: str = this) -> Array:
            return np.zeros_like(array) if name == this else array

        yield each_array(problem, zeroed)


def _spikes(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """One entry of one array after the other far beyond the rest: whoever clips it shows.

    Where nothing but saturation would come of it, the other factor is small: h0 W_h, and one step of it.
    """
    for i, (T, less, more) in enumerate(((3, "W", "h0"), (1, "h0", "W"))):
        problem = _small(9690 + i, support, cell, dtype, shape, T)
        if problem is not None:
            W = "W_hh" if "W_hh" in problem.params else "W_h"
            factors = {less.replace("W", W): 1 / SPIKE[dtype], more.replace("W", W): SPIKE[dtype]}

            def moved(name: str, array: Array, factors: Mapping[str, float] = factors) -> Array:
                return to_dtype(array * factors[name], dtype) if name in factors else array

            yield each_array(problem, moved)
    problem = _small(9600, support, cell, dtype, shape)
    if problem is None:
        return
    for i, this in enumerate(_floats(problem)):

        def spiked(name: str, array: Array, this: str = this, i: int = i) -> Array:
            if name != this:
                return array
            there = np.arange(array.size).reshape(array.shape) == i % array.size
            return to_dtype(np.where(there, np.copysign(SPIKE[dtype], array), array), dtype)

        yield each_array(problem, spiked)


def _small(seed: int, support: Support, cell: str, dtype: str, shape: Shape, T: int = 3) -> Problem | None:
    names: dict[str, Any] = {"readouts": shape.readouts[-1], "losses": shape.losses[0]}
    names |= {"activations": shape.activations[0], "truncations": shape.truncations[0]}
    names |= {"reductions": (shape.reductions or ("sum",))[0]}
    return generic(seed, support, cell, dtype, (T, 2, 2, 2, 2), names)


def _floats(problem: Problem) -> list[str]:
    """The names of a problem's arrays, without those that must be integers or add up to 1."""
    names = [dotted.split(".")[-1] for dotted, array in problem.arrays() if array.dtype.kind == "f"]
    return [name for name in names if name != "target" or problem.loss.kind != "cross_entropy"]


def _wide(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Every loss with every readout where each axis is beyond a tile; the other names take turns."""
    truncations, activations = itertools.cycle(shape.truncations), itertools.cycle(shape.activations)
    reductions = itertools.cycle(shape.reductions or ("sum",))
    for i, (sizes, loss, readout) in enumerate(itertools.product(WIDE, shape.losses, shape.readouts)):
        names: dict[str, Any] = {"readouts": readout, "losses": loss, "truncations": next(truncations)}
        names |= {"activations": next(activations), "reductions": next(reductions)}
        problem = generic(9700 + i, support, cell, dtype, sizes, names)
        if problem is not None:
            yield problem


def generic(
    seed: int, support: Support, cell: str, dtype: str, wanted: tuple[int, int, int, int, int], names: Mapping[str, Any]
) -> Problem | None:
    """A problem with every array random and non-zero, or None where a size is beyond the target's largest."""
    T, B, D, H, K = wanted
    K = H if names["readouts"] == "none" else K
    sizes = dict(zip("TBDHK", (T, B, D, H, K), strict=True))
    if any(value > support.max_size.get(name, value) for name, value in sizes.items()):
        return None
    shape = offered(support, cell)
    rng = np.random.default_rng(seed)
    return Problem(
        cell=cell,
        activation=names["activations"],
        readout=names["readouts"],
        params=_params(rng, cell, names["readouts"], (D, H, K), dtype),
        x=to_dtype(rng.normal(size=(T, B, D)), dtype),
        h0=to_dtype(rng.normal(size=(B, H)), dtype),
        c0=to_dtype(rng.normal(size=(B, H)), dtype) if "c" in CELLS[cell].states else None,
        lengths=rng.integers(T // 2, T + 1, B) if shape.lengths and seed % 2 else None,
        loss=_loss(rng, names["losses"], names["reductions"], shape.finals, CELLS[cell].states, (T, B, H, K), dtype),
        truncation=_truncation(names["truncations"], max(1, min(T // 3, FARTHEST))),
        dtype=dtype,
    )


def _truncation(kind: str, k: int) -> Truncation:
    if kind in ("window", "chunk"):
        return Truncation(kind, k=k)
    return Truncation(kind, k1=k, k2=k + 1) if kind == "periodic" else Truncation(kind)


def _params(
    rng: np.random.Generator, cell: str, readout: str, sizes: tuple[int, int, int], dtype: str
) -> dict[str, Array]:
    D, H, K = sizes
    out = {}
    for name, dimensions in CELLS[cell].shapes(D, H).items():
        if name in ("W_hh", "W_h"):
            out[name] = recurrent("scaled", int(rng.integers(1 << 30)), H, dimensions[1], 0.95, dtype)
        else:
            out[name] = to_dtype(rng.normal(size=dimensions) * (D**-0.5 if len(dimensions) == 2 else 0.5), dtype)
    if readout == "linear":
        out |= {"W_hy": to_dtype(rng.normal(size=(H, K)) * H**-0.5, dtype), "b_y": to_dtype(rng.normal(size=K), dtype)}
    return out


def _loss(
    rng: np.random.Generator,
    kind: str,
    reduction: str,
    finals: bool,
    states: tuple[str, ...],
    sizes: tuple[int, int, int, int],
    dtype: str,
) -> Loss:
    T, B, H, K = sizes
    if kind == "cotangent":
        ends: dict[str, Any] = {}
        if finals:
            ends = {f"g_{s}_final": to_dtype(rng.normal(size=(B, H)), dtype) for s in states}
        return Loss(kind, g=to_dtype(rng.normal(size=(T, B, K)), dtype), **ends)
    if kind == "squared_error":
        target = to_dtype(rng.normal(size=(T, B, K)), dtype)
        return Loss(kind, target=target, scale=0.5, time_reduction=reduction, batch_reduction=reduction)
    return Loss(kind, target=probabilities(rng, (T, B, K), dtype), time_reduction=reduction, batch_reduction=reduction)
