"""Problems that differ from a given one in a single field: whoever forgets that field in a key gives the old answer.

One array at a time is another (its entries negated, labels and lengths moved on by one), or one of the names and
numbers: truncation, reductions, scale, activation. The dtype is one of them: what was kept of a problem in float32 is
not good enough for float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.generic import REDUCTIONS, generic
from properties.strategies import offered
from properties.units import each_array, in_dtype


def siblings(problem: Problem, support: Support) -> list[Problem]:
    """All that a target offers to be asked."""
    found = [*_of_arrays(problem), *_of_labels(problem), *_of_names(problem, support)]
    return [sibling for sibling in found if support.serves(sibling)]


def in_other_dtypes(problem: Problem, support: Support) -> list[Problem]:
    """The same problem in the other dtypes that a target offers, where it offers the problem in its own."""
    others = (in_dtype(problem, dtype) for dtype in ("float64", "float32") if dtype != problem.dtype)
    return [other for other in others if support.serves(other)]


def of_other_cells(problem: Problem, support: Support) -> list[Problem]:
    """Problems of the same sizes, names and inputs for the other cells that a target offers."""
    found = []
    for cell in support.cells:
        shape = offered(support, cell)
        sizes = (problem.T, problem.B, problem.D, problem.H, problem.K)
        kind, reduction = problem.truncation.kind, problem.loss.time_reduction
        names = {
            "readouts": problem.readout,
            "losses": problem.loss.kind,
            "truncations": kind if kind in shape.truncations else shape.truncations[0],
            "activations": shape.activations[0],
            "reductions": reduction,
        }
        other = None if cell == problem.cell else generic(9900, support, cell, problem.dtype, sizes, names)
        if other is not None:
            found.append(replace(other, x=problem.x, lengths=problem.lengths))
    return [other for other in found if support.serves(other)]


def inexact(problem: Problem, support: Support) -> Problem:
    """The problem with reductions whose weights no dtype holds, and with labels for its probabilities."""
    loss = problem.loss
    if loss.kind == "cross_entropy" and loss.target is not None and loss.target.ndim == 3:
        loss = replace(loss, target=loss.target.argmax(axis=-1))
    if loss.kind != "cotangent" and "mean" in support.reductions:
        loss = _reduced(loss, "mean", "mean")
    return replace(problem, loss=loss)


def _of_arrays(problem: Problem) -> Iterator[Problem]:
    """One array of floats negated; probabilities in another order instead."""
    names = [dotted.split(".")[-1] for dotted, _ in problem.arrays()]
    for this in (name for name in names if name != "lengths"):

        def other(name: str, array: Any, this: str = this) -> Any:
            if name != this:
                return array
            return array[..., ::-1].copy() if problem.loss.kind == "cross_entropy" and name == "target" else -array

        yield each_array(problem, other)


def _of_labels(problem: Problem) -> Iterator[Problem]:
    """Other class indices; other lengths, or lengths where there were none."""
    target = problem.loss.target
    if problem.loss.kind == "cross_entropy" and target is not None and target.dtype.kind == "i" and problem.K > 1:
        yield replace(problem, loss=replace(problem.loss, target=(target + 1) % problem.K))
    lengths = problem.row_lengths.copy()
    lengths[0] = lengths[0] - 1 if lengths[0] > 1 else problem.T
    yield replace(problem, lengths=lengths)


def _of_names(problem: Problem, support: Support) -> Iterator[Problem]:
    """Another truncation, reduction, scale or activation on the very same arrays."""
    shape, k = offered(support, problem.cell), max(1, problem.T - 1)
    cuts = [Truncation("full"), *(Truncation(kind, k=n) for kind in ("window", "chunk") for n in (1, k))]
    cuts += [Truncation("periodic", k1=1, k2=k), Truncation("periodic", k1=k, k2=k), Truncation("cec")]
    for cut in cuts:
        if cut.kind in shape.truncations and cut != problem.truncation:
            yield replace(problem, truncation=cut)
    loss = problem.loss
    if loss.kind != "cotangent":
        for time, batch in REDUCTIONS:
            if {time, batch} <= set(shape.reductions) and (time, batch) != (loss.time_reduction, loss.batch_reduction):
                yield replace(problem, loss=_reduced(loss, time, batch))
    if loss.kind == "squared_error":
        yield replace(problem, loss=replace(loss, scale=1.5 - float(loss.scale or 0)))
    for activation in shape.activations:
        if activation not in (problem.activation, "relu"):  # whose kinks may leave nothing to judge
            yield replace(problem, activation=activation)


def _reduced(loss: Loss, time: str, batch: str) -> Loss:
    return replace(loss, time_reduction=time, batch_reduction=batch)


__all__ = ["in_other_dtypes", "inexact", "of_other_cells", "siblings"]
