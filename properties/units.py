"""Which axes of a problem's arrays count inputs, hidden units or outputs, and arrays relabelled or flipped along them.

A name is a parameter's, a gradient's without its d, a state's, an initial state's, or a loss array's (g, target, ...).
An axis of n H columns holds n blocks of H units: one a gate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem, gradient_shapes
from properties.strategies import Array, to_dtype

Indices = NDArray[np.int64]
Axis = tuple[str, int]
"""What an axis counts: ("units", blocks), ("inputs", 1), ("outputs", 1), or ("", 1) for steps and rows."""

PLAIN, INPUTS, UNITS, OUTPUTS = ("", 1), ("inputs", 1), ("units", 1), ("outputs", 1)


def axes(problem: Problem) -> dict[str, tuple[Axis, ...]]:
    """Name to what each of its axes counts.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> p = Problem("lstm", {"W_x": np.ones((1, 4)), "W_h": np.ones((1, 4)), "b": np.ones(4)}, np.ones((2, 1, 1)),
    ...             Loss("cotangent", g=np.ones((2, 1, 1))))
    >>> axes(p)["W_x"], axes(p)["g"]
    ((('inputs', 1), ('units', 4)), (('', 1), ('', 1), ('units', 1)))
    """
    out: dict[str, tuple[Axis, ...]] = {"loss": (), "lengths": (PLAIN,), "x": (PLAIN, PLAIN, INPUTS)}
    for name, shape in problem.spec.shapes(0, 1).items():  # so that an axis of 0 counts inputs, one of n n blocks
        out[name] = tuple(("units", n) if n else INPUTS for n in shape)
    last = OUTPUTS if problem.readout == "linear" else UNITS
    if problem.readout == "linear":
        out |= {"W_hy": (UNITS, OUTPUTS), "b_y": (OUTPUTS,)}
    for state in problem.spec.states:
        out |= {state: (PLAIN, PLAIN, UNITS), f"{state}0": (PLAIN, UNITS), f"g_{state}_final": (PLAIN, UNITS)}
    out |= dict.fromkeys(("o", "g", "target"), (PLAIN, PLAIN, last))
    if problem.loss.target is not None and problem.loss.target.ndim == 2:
        out["target"] = (PLAIN, PLAIN)
    return out


def plain_name(key: str, problem: Problem) -> str:
    """The name of the array that a key of an answer is, or is the gradient of."""
    known = axes(problem)
    return key if key in known else key[1:]


def relabelled(problem: Problem, order: Indices) -> dict[str, Indices]:
    """For each key, at each entry of the network whose unit j is the old unit order[j], its flat index in the old."""
    known = axes(problem)
    out = {}
    for key, shape in gradient_shapes(problem).items():
        out[key] = _reordered(shape, known[plain_name(key, problem)], order)
    return out


def _reordered(shape: tuple[int, ...], kinds: tuple[Axis, ...], order: Indices) -> Indices:
    places = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    for axis, (kind, blocks) in enumerate(kinds):
        if kind == "units":
            whole = np.concatenate([order + block * len(order) for block in range(blocks)])
            places = np.take(places, whole, axis=axis)
    return places


def relabel(problem: Problem, order: Indices) -> Problem:
    """The network whose unit j is the old unit order[j]."""
    known = axes(problem)

    def moved(name: str, array: Array) -> Array:
        if name == "target" and array.ndim == 2 and problem.readout == "none":  # classes are units
            return np.asarray(np.argsort(order)[array])
        return np.ascontiguousarray(array.reshape(-1)[_reordered(array.shape, known[name], order)])

    return each_array(problem, moved)


def signs_of(shape: tuple[int, ...], kinds: tuple[Axis, ...], signs: dict[str, Indices], odd: int) -> Indices:
    """The sign of each entry: along an axis of one block each unit's; along one of gates block `odd` alone flips."""
    out = np.ones(shape, dtype=np.int64)
    for axis, (kind, blocks) in enumerate(kinds):
        if not kind:
            continue
        one = signs[kind]
        if blocks > 1:
            one = np.concatenate([one if block == odd else np.ones_like(one) for block in range(blocks)])
        out *= one.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return out


def each_array(problem: Problem, change: Callable[[str, Array], Array], **names: Any) -> Problem:
    """The problem with `change(name, array)` in place of each array but the lengths, and other names or numbers."""
    changed: dict[str, Any] = {}
    for dotted, array in problem.arrays():
        name = dotted.split(".")[-1]
        changed[name] = array if name == "lengths" else change(name, array)
    loss = replace(problem.loss, **{n: changed[n] for n in ("g", "g_h_final", "g_c_final", "target") if n in changed})
    inputs = {name: changed[name] for name in ("x", "h0", "c0") if name in changed}
    return replace(problem, params={name: changed[name] for name in problem.params}, loss=loss, **inputs, **names)


def in_dtype(problem: Problem, dtype: str) -> Problem:
    """The problem in another dtype, its numbers rounded where that does not hold them."""

    def cast(_: str, array: Array) -> Array:
        return to_dtype(array, dtype) if array.dtype.kind == "f" else array

    return each_array(problem, cast, dtype=dtype)


def negated(problem: Problem) -> Problem:
    """Another problem of the same sizes and names, its inputs and initial states negated."""

    def minus(name: str, array: Array) -> Array:
        return np.asarray(-array) if name in ("x", "h0", "c0") else array

    return each_array(problem, minus)
