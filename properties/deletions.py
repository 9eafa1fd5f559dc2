"""A problem with some steps, rows, inputs, units or outputs left out: what is tried once Hypothesis has done its best.

Hypothesis makes the numbers small that a problem is drawn from. Where a failure needs one unit of six and that one is
not the first, it has to find the seed of another network; leaving out the other five is surer. An axis is cut by
halves, then by ever smaller parts, anywhere (delta debugging).

Source: Zeller and Hildebrandt (2002), "Simplifying and isolating failure-inducing input".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bptt.errors import ProblemError
from bptt.problem import Problem
from properties.pieces import rows, take
from properties.strategies import Array
from properties.units import axes, each_array

KINDS = ("steps", "rows", "units", "inputs", "outputs")


def deletions(problem: Problem) -> Iterator[Problem]:
    """Smaller problems of the same names, the largest cuts of each axis first; none has an axis of 0.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> p = Problem("elman", {"W_xh": one, "W_hh": one, "b_h": one[0]}, np.ones((4, 1, 1)),
    ...             Loss("cotangent", g=np.ones((4, 1, 1))), activation="tanh")
    >>> [smaller.T for smaller in deletions(p)]
    [2, 2, 3, 3, 3, 3]
    """
    sizes = {"steps": problem.T, "rows": problem.B, "units": problem.H, "inputs": problem.D}
    if problem.readout == "linear":
        sizes["outputs"] = problem.K
    for kind in KINDS:
        size = sizes.get(kind, 1)
        part = size // 2
        while part:
            for start in range(0, size - part + 1, part):
                try:
                    smaller = without(problem, kind, list(range(start, start + part)))
                except ProblemError:  # probabilities that were rounded need not add up to 1 any longer
                    continue
                yield smaller
            part //= 2


def without(problem: Problem, kind: str, left_out: list[int]) -> Problem:
    """The problem without some of its steps, rows, units, inputs or outputs, counted from 0.

    A row is as much shorter as it loses steps. A class that is left out was the last one that is left, or its
    probability goes to the first.
    """
    if kind == "rows":
        return rows(problem, np.delete(np.arange(problem.B), left_out).tolist())
    if kind == "steps":
        return _without_steps(problem, left_out)
    known = axes(problem)

    def cut(name: str, array: Array) -> Array:
        for axis, (counts, blocks) in enumerate(known[name]):
            if counts == kind:
                size = array.shape[axis] // blocks
                gone = [block * size + i for block in range(blocks) for i in left_out]
                array = np.delete(array, gone, axis=axis)
        return np.ascontiguousarray(array)

    classes = "outputs" if problem.readout == "linear" else "units"
    smaller = {name: cut(name, array) for name, array in _named(problem)}
    target = problem.loss.target
    if kind == classes and problem.loss.kind == "cross_entropy" and target is not None:
        if target.ndim == 2:
            kept = np.delete(np.arange(problem.K), left_out)
            smaller["target"] = np.minimum(np.searchsorted(kept, target), len(kept) - 1)
        else:  # exact for multiples of 1/64
            smaller["target"][..., 0] += target[..., left_out].sum(axis=-1).astype(target.dtype)
    return each_array(problem, lambda name, _: smaller[name])


def _named(problem: Problem) -> Iterator[tuple[str, Array]]:
    """The arrays but the lengths, each with its own name."""
    for dotted, array in problem.arrays():
        name = dotted.rpartition(".")[2]
        if name != "lengths":
            yield name, array


def _without_steps(problem: Problem, left_out: list[int]) -> Problem:
    kept, loss, lengths = np.delete(np.arange(problem.T), left_out), problem.loss, problem.lengths
    if lengths is not None:
        lengths = lengths - (np.array(left_out) < lengths[:, None]).sum(axis=1)
    return replace(
        problem,
        x=take(problem.x, kept, 0),
        lengths=lengths,
        loss=replace(loss, g=take(loss.g, kept, 0), target=take(loss.target, kept, 0)),
    )
