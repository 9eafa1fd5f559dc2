"""Smaller versions of one problem: how a fixed case that fails is shrunk.

A reduction keeps the first T', B', D', H', K' of each axis, and leaves each array as it is or replaces it by ones or
zeros; names stay, so that the target still supports it. Drawn so that most things are kept at first, and every integer
shrinks towards the simpler problem.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from bptt.errors import ProblemError
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from properties.base import Case
from properties.recipe import Draw, Recipe

Array = NDArray[Any]
KEPT = 7
"""Of eight draws, how many keep a size or an array as it is."""


def reductions(case: Case) -> SearchStrategy[Case]:
    """Cases that are the given one made smaller or simpler, the given one among them."""

    def build(draw: Draw) -> Case:
        try:
            return Case(reduce_problem(draw, case.problem), case.parameters)
        except ProblemError:  # probabilities that were rounded need not add up to 1 any longer
            hypothesis.reject()

    return Recipe(build)


def reduce_problem(draw: Draw, problem: Problem) -> Problem:
    """Draw one reduction of a problem."""

    def size(full: int, least: int = 1) -> int:
        keep, smaller = draw.integer(0, KEPT), draw.integer(min(least, full), full)
        return full if keep else smaller

    def simpler(array: Array | None) -> Array | None:
        kind = draw.integer(0, KEPT + 2)
        if array is None or kind > 1 or array.dtype.kind != "f":
            return array
        return np.ones_like(array) if kind == 0 else np.zeros_like(array)

    classes = 2 if problem.loss.kind == "cross_entropy" else 1
    T, B, D, H = (
        size(problem.T),
        size(problem.B),
        size(problem.D),
        size(problem.H, classes if problem.readout == "none" else 1),
    )
    K = size(problem.K, classes) if problem.readout == "linear" else H
    params: dict[str, Array] = {}
    for name, shape in problem.spec.shapes(problem.D, problem.H).items():
        rows = D if len(shape) == 2 and name.startswith("W_x") else H
        cut = cut_blocks(problem.params[name], rows if len(shape) == 2 else None, problem.H, H)
        params[name] = _given(simpler(cut))
    if problem.readout == "linear":
        params["W_hy"] = _given(simpler(_copy(problem.params["W_hy"][:H, :K])))
        params["b_y"] = _given(simpler(_copy(problem.params["b_y"][:K])))
    lengths = problem.lengths
    if lengths is not None:
        lengths = np.minimum(lengths[:B], T)
    return replace(
        problem,
        params=params,
        x=_given(simpler(_copy(problem.x[:T, :B, :D]))),
        h0=None if problem.h0 is None else simpler(_copy(problem.h0[:B, :H])),
        c0=None if problem.c0 is None else simpler(_copy(problem.c0[:B, :H])),
        lengths=lengths,
        loss=_loss(simpler, problem.loss, (T, B, H, K)),
        truncation=_truncation(draw, problem.truncation),
    )


def _given(array: Array | None) -> Array:
    assert array is not None
    return array


def _copy(array: Array) -> Array:
    return np.array(array, order="C")


def cut_blocks(array: Array, rows: int | None, H: int, smaller: int) -> Array:
    """The first `rows` rows and, of each block of H columns, the first `smaller` ones."""
    wide = array.reshape(*array.shape[:-1], array.shape[-1] // H, H)[..., :smaller]
    flat = wide.reshape(*array.shape[:-1], -1)
    return _copy(flat if rows is None else flat[:rows])


def _loss(simpler: Any, loss: Loss, sizes: tuple[int, int, int, int]) -> Loss:
    T, B, H, K = sizes
    if loss.kind == "cotangent":
        assert loss.g is not None
        finals = {name: getattr(loss, name) for name in ("g_h_final", "g_c_final")}
        cut: dict[str, Any] = {
            name: None if final is None else simpler(_copy(final[:B, :H])) for name, final in finals.items()
        }
        return Loss(
            "cotangent",
            g=simpler(_copy(loss.g[:T, :B, :K])),
            **cut,
        )
    assert loss.target is not None
    if loss.kind == "squared_error":
        return replace(loss, target=simpler(_copy(loss.target[:T, :B, :K])))
    if loss.target.ndim == 2:
        return replace(loss, target=np.minimum(loss.target[:T, :B], K - 1))
    target = _copy(loss.target[:T, :B, :K])
    if loss.target.shape[2] > K:  # what the lost classes had goes to the first: exact for multiples of 1/64
        target[:, :, 0] += loss.target[:T, :B, K:].sum(axis=2).astype(target.dtype)
    return replace(loss, target=target)


def _truncation(draw: Draw, truncation: Truncation) -> Truncation:
    keep, k = draw.integer(0, KEPT), draw.integer(1, max(1, truncation.k or truncation.k1 or 1))
    if keep or truncation.kind not in ("window", "chunk"):
        return truncation
    return Truncation(truncation.kind, k=k)
