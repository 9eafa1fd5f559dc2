"""Values that careless kernels treat apart, in every certificate: nothing, far too much, next to nothing.

Sizes are small, and all other arrays generic.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.problem import Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.generic import REDUCTIONS, generic, is_finest, labelled
from properties.strategies import Array, Shape, to_dtype
from properties.units import each_array

FAR = {"float64": 800.0, "float32": 110.0, "float16": 14.0, "bfloat16": 110.0}
"""Arguments at which exp overflows: a sigmoid or a softmax that is written carelessly turns them into NaN."""
LOUD = {"float64": 2.0**100, "float32": 2.0**50, "float16": 2.0**12, "bfloat16": 2.0**30}
"""What cotangents and targets are multiplied by: a kernel that clips its gradients shows."""
EXTRAS = {"empty": 4, "beyond": 3, "far": 5, "none": 4, "loud": 4, "faint": 3}
"""Further edges and their T: a row of length 0, a window over T, far arguments, no initial state, a large loss,
and arguments so small that a threshold beside 0 shows."""
QUIET = {"float64": 2.0**-40, "float32": 2.0**-30, "float16": 2.0**-6, "bfloat16": 2.0**-30}
"""What inputs, initial states and biases are multiplied by to be faint."""
SPIKE = {"float64": 2.0**10, "float32": 2.0**10, "float16": 2.0**4, "bfloat16": 2.0**10}
"""How far one entry of an array is from 0: beyond what a state, an input or a logit might be clipped to."""
SELDOM = 20.0
UNLIKELY = 80.0
"""By how much one logit is below the others: probabilities of 1e-9, and 1e-35, which float32 still has."""
GRADES = (
    *(2.0**k for k in range(-27, 4)),
    *(5.0, 6.0, 7.0, 9.0, 10.0, 12.0, 14.0, 15.25, 16.25, 17.25, 18.25),
    *(20.0, 24.0, 28.0, 32.0, 36.0, 75.0, 95.0, 350.0, 720.0),
)
"""Arguments of activations, with both signs: wherever a kernel begins to approximate or to clip, some are beyond it and
some are not far beyond."""
BIAS = {"float64": 2.0**20, "float32": 2.0**10, "float16": 4.0, "bfloat16": 4.0}
"""What is added to outputs and targets alike: their difference is exact, that of their squares is not."""


def extra_problems(
    support: Support, cell: str, dtype: str, shape: Shape, turns: Mapping[str, Iterator[Any]]
) -> Iterator[Problem]:
    """One problem an extra, over every loss or activation; the other names take turns."""
    for i, (extra, T) in enumerate(EXTRAS.items()):
        for j, (loss, activation) in enumerate(_pairs(shape, far=extra in ("far", "faint"))):
            names = {name: next(turn) for name, turn in turns.items()} | {"losses": loss, "activations": activation}
            problem = generic(2000 + 10 * i + j, support, cell, dtype, (T, 3, 2, 3, 3), names)
            if problem is not None:
                problem = _with_extra(problem, shape, extra)
            if problem is not None:
                yield problem


def corner_problems(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Corners of readouts; an array all zero, or one entry far out; every reduction; arguments 0 and of every size."""
    yield from _of_readouts(support, cell, dtype, shape)
    yield from _of_probabilities(support, cell, dtype, shape)
    yield from _zeros(support, cell, dtype, shape)
    yield from _silent(support, cell, dtype, shape)
    yield from _graded(support, cell, dtype, shape)
    yield from _spikes(support, cell, dtype, shape)
    yield from _reduced(support, cell, dtype, shape)


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
        if loss == "cross_entropy":  # the right class is the unlikely one
            for lower in (SELDOM, UNLIKELY):
                b_y = problem.params["b_y"].astype(np.float64)
                b_y[-1] -= lower
                right = np.where(target == 0, problem.K - 1, target)
                params = problem.params | {"b_y": to_dtype(b_y, dtype)}
                yield replace(problem, params=params, loss=replace(problem.loss, target=right))


def _of_probabilities(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """One class alone, its output past exp's overflow; probabilities that are, or begin as if they were, labels."""
    if "cross_entropy" not in shape.losses:
        return
    names: dict[str, Any] = {"losses": "cross_entropy", "activations": shape.activations[0]}
    names |= {"truncations": shape.truncations[0], "reductions": (shape.reductions or ("sum",))[0]}
    if "linear" in shape.readouts and is_finest(support, dtype):
        problem = generic(8010, support, cell, dtype, (2, 2, 2, 3, 1), names | {"readouts": "linear"})
        if problem is not None:
            b_y = to_dtype(np.full(1, FAR[dtype]), dtype)
            yield replace(problem, params=problem.params | {"b_y": b_y})
    problem = generic(8012, support, cell, dtype, (3, 2, 2, 3, 3), names | {"readouts": shape.readouts[0]})
    if problem is not None:
        target = np.array(problem.loss.target)
        certain = np.eye(problem.K, dtype=target.dtype)[np.arange(problem.T * problem.B) % problem.K]
        for reductions in (pair for pair in REDUCTIONS if set(pair) <= set(shape.reductions)):
            loss = replace(problem.loss, target=certain.reshape(target.shape))
            yield replace(problem, loss=replace(loss, time_reduction=reductions[0], batch_reduction=reductions[1]))
        target[0] = np.eye(problem.K, dtype=target.dtype)[np.arange(problem.B) % problem.K]
        yield replace(problem, loss=replace(problem.loss, target=target))


def _zeros(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """One array after the other all zero, and it alone: whoever skips what is zero may skip too much."""
    problem = _small(9500, support, cell, dtype, shape)
    if problem is None:
        return
    for this in _floats(problem):

        def zeroed(name: str, array: Array, this: str = this) -> Array:
            return np.zeros_like(array) if name == this else array

        yield each_array(problem, zeroed)


def _silent(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Nothing comes in: every argument is 0, and where the activation of 0 is 0, so is every state."""
    for i, activation in enumerate(shape.activations):
        problem = _small(9560 + i, support, cell, dtype, shape, loss=shape.losses[i % len(shape.losses)])
        if problem is not None and activation != "relu":  # whose slope at 0 may be either

            def silenced(name: str, array: Array) -> Array:
                quiet = name in ("x", "h0", "c0") or (name[0] in "bp" and name != "b_y")
                return np.zeros_like(array) if quiet else array

            yield each_array(problem, silenced, activation=activation)


def _graded(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """A row for each of GRADES and each sign: the argument of one gate in each unit, where the others' are less."""
    arguments = np.array([sign * grade for grade in GRADES for sign in (1, -1)])
    units = 4
    for i, activation in enumerate(shape.activations):
        names: dict[str, Any] = {"readouts": shape.readouts[0], "losses": shape.losses[0], "activations": activation}
        names |= {"truncations": shape.truncations[0], "reductions": (shape.reductions or ("sum",))[0]}
        problem = generic(9580 + 2 * i, support, cell, dtype, (1, len(arguments), 1, units, 2), names)
        if problem is None:
            continue

        def graded(name: str, array: Array) -> Array:
            if name == "x":
                return to_dtype(arguments.reshape(array.shape), dtype)
            if name in ("W_xh", "W_x"):
                gates = array.shape[1] // units
                whole = np.arange(array.shape[1]) // units == np.arange(array.shape[1]) % units % gates
                return to_dtype(np.where(whole, 1.0, 0.125).reshape(array.shape), dtype)
            if name in ("g", "g_h_final", "g_c_final"):  # so that sums do not cancel
                return to_dtype(np.copysign(array, arguments[:, None]), dtype)
            quiet = name in ("h0", "c0") or (name[0] in "bp" and name != "b_y")
            return np.zeros_like(array) if quiet else array

        yield each_array(problem, graded)


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
    for j, loss in enumerate(shape.losses):
        problem = _small(9600 + j, support, cell, dtype, shape, loss=loss)
        if problem is None:
            continue
        for i, this in enumerate(_floats(problem)):
            if j > 0 and this not in ("W_hy", "b_y", "target"):
                continue  # the other arrays have had their turn

            def spiked(name: str, array: Array, this: str = this, i: int = i) -> Array:
                if name != this:
                    return array
                there = np.arange(array.size).reshape(array.shape) == i % array.size
                return to_dtype(np.where(there, np.copysign(SPIKE[dtype], array), array), dtype)

            yield each_array(problem, spiked)


def _reduced(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Every loss, labels and probabilities apart, with every reduction, with and without lengths."""
    ways = [(loss, False) for loss in shape.losses if loss != "cotangent"]
    ways += [("cross_entropy", True) for loss in shape.losses if loss == "cross_entropy"]
    for i, ((loss, labels), (time, batch)) in enumerate(itertools.product(ways, REDUCTIONS)):
        if not {time, batch} <= set(shape.reductions):
            continue
        names = {"losses": loss, "activations": shape.activations[0], "reductions": time}
        for turn, lengths in enumerate((None, np.array([4, 1, 3])) if shape.lengths else (None,), i):
            names["readouts"] = shape.readouts[turn % len(shape.readouts)]
            names["truncations"] = shape.truncations[(turn + i // len(REDUCTIONS)) % len(shape.truncations)]
            problem = generic(9300 + i, support, cell, dtype, (4, 3, 1, 3, 3), names)
            if problem is not None:
                problem = labelled(problem) if labels else problem
                reduced = replace(problem.loss, time_reduction=time, batch_reduction=batch)
                yield replace(problem, loss=reduced, lengths=lengths)


def _small(
    seed: int, support: Support, cell: str, dtype: str, shape: Shape, T: int = 3, loss: str | None = None
) -> Problem | None:
    names: dict[str, Any] = {"readouts": shape.readouts[-1], "losses": loss or shape.losses[0]}
    names |= {"activations": shape.activations[0], "truncations": shape.truncations[0]}
    names |= {"reductions": (shape.reductions or ("sum",))[0]}
    return generic(seed, support, cell, dtype, (T, 2, 2, 2, 2), names)


def _floats(problem: Problem) -> list[str]:
    """The names of a problem's arrays, without those that must be integers or add up to 1."""
    names = [dotted.split(".")[-1] for dotted, array in problem.arrays() if array.dtype.kind == "f"]
    return [name for name in names if name != "target" or problem.loss.kind != "cross_entropy"]
