"""Pieces of a problem: some of its rows, its first steps, its last state; and where their arrays stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Loss, Problem, gradient_shapes
from bptt.support import Support
from properties.base import Bench
from properties.strategies import Array, to_dtype

Places = dict[str, NDArray[np.int64]]

OF_STEPS = ("h", "c", "o", "dx")
"""The keys whose arrays are (T,B,.); those of the initial state are (B,H), and the others know neither axis."""


def of_rows(problem: Problem) -> list[str]:
    """The keys that have an axis of rows."""
    return [*problem.spec.states, "o", "dx", *(f"d{state}0" for state in problem.spec.states)]


def of_weights(problem: Problem) -> list[str]:
    """The gradients of all parameters, those of the readout too."""
    return [f"d{name}" for name in problem.parameter_shapes()]


def every_gradient(problem: Problem) -> list[str]:
    """All gradients."""
    return [key for key in gradient_shapes(problem) if key.startswith("d")]


def take(array: Array | None, indices: Sequence[int] | slice | NDArray[np.int64], axis: int) -> Any:
    """A copy of some entries along an axis; None of None."""
    if array is None:
        return None
    chosen = np.arange(array.shape[axis])[indices] if isinstance(indices, slice) else list(indices)
    return np.ascontiguousarray(np.take(array, chosen, axis=axis))


def rows(problem: Problem, chosen: Sequence[int]) -> Problem:
    """The problem of some rows, in the given order."""
    loss = problem.loss
    return replace(
        problem,
        x=take(problem.x, chosen, 1),
        h0=take(problem.h0, chosen, 0),
        c0=take(problem.c0, chosen, 0),
        lengths=take(problem.lengths, chosen, 0),
        loss=replace(
            loss,
            g=take(loss.g, chosen, 1),
            target=take(loss.target, chosen, 1),
            g_h_final=take(loss.g_h_final, chosen, 0),
            g_c_final=take(loss.g_c_final, chosen, 0),
        ),
    )


def first_steps(problem: Problem, T: int) -> Problem:
    """The problem of the first T steps; the final cotangents, if any, are now on the state after these."""
    loss = problem.loss
    return replace(
        problem,
        x=take(problem.x, slice(T), 0),
        lengths=None if problem.lengths is None else np.minimum(problem.lengths, T),
        loss=replace(loss, g=take(loss.g, slice(T), 0), target=take(loss.target, slice(T), 0)),
    )


def places(problem: Problem, chosen: Sequence[int] | slice | NDArray[np.int64], steps: int | None = None) -> Places:
    """Where in the problem's arrays those of the problem of some rows and of its first steps stand."""
    shapes = gradient_shapes(problem)
    out = {}
    for key in of_rows(problem):
        flat = np.arange(int(np.prod(shapes[key]))).reshape(shapes[key])
        of_row = take(flat, chosen, 1 if key in OF_STEPS else 0)
        out[key] = of_row[:steps] if key in OF_STEPS else of_row
    return out


def finals(loss: Loss) -> dict[str, Any]:
    """The cotangents on the final state that are there, by the names of their fields."""
    both = {"g_h_final": loss.g_h_final, "g_c_final": loss.g_c_final}
    return {name: g for name, g in both.items() if g is not None}


def claims(support: Support, keys: Sequence[str]) -> bool:
    """Whether a target may claim one of the keys: it does unless its SUPPORTS['outputs'] leaves all of them out."""
    return support.outputs is None or any(key in support.outputs for key in keys)


def padding(problem: Problem) -> NDArray[np.bool_]:
    """(T,B): the steps after a row's last."""
    out: NDArray[np.bool_] = np.arange(problem.T)[:, None] >= problem.row_lengths[None, :]
    return out


def exact_states(problem: Problem, bench: Bench, t: int) -> dict[str, Array]:
    """The exact states after step t, by name, (B,H), rounded to the dtype; for t = 0 those that are given."""
    solution = bench.truth(problem).solution
    return {name: to_dtype(solution.state(name, t), problem.dtype) for name in problem.spec.states}
