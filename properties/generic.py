"""Problems with every array random and non-zero, of given sizes and names: what fixed cases are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.strategies import Array, offered, probabilities, recurrent, to_dtype

REDUCTIONS = (("sum", "sum"), ("mean", "sum"), ("sum", "mean"), ("mean", "mean"), ("tokens", "tokens"))
"""Over time and over the batch."""
MANY = 1000
FARTHEST = 20
"""Steps that a truncated problem reaches back at most: passes of a long sequence cost."""


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


def is_finest(support: Support, dtype: str) -> bool:
    """Whether a dtype is the one for problems whose budgets say little elsewhere: float64, or any without it."""
    return dtype == "float64" or "float64" not in support.dtypes


def contracting(problem: Problem) -> Problem:
    """The same with half the recurrent weights where many steps meet many units.

    Enclosures widen by a norm of the weights at each step; there they would not decide at their first precision.
    """
    if problem.T * problem.H <= MANY:
        return problem
    halved = {name: array / 2 if name in ("W_hh", "W_h") else array for name, array in problem.params.items()}
    return replace(problem, params=halved)


def labelled(problem: Problem) -> Problem:
    """The same with a class a row for its probabilities: all of them in turn, the last one first."""
    count = problem.T * problem.B
    target = problem.K - 1 - np.arange(count).reshape(problem.T, problem.B) % problem.K
    return replace(problem, loss=replace(problem.loss, target=target))


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
