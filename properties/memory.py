"""memory: inputs stay as they are, however they lie in memory, and results belong to the caller.

A target is given arrays that are read-only, in Fortran order, strided (with NaN between the entries), reversed (a
negative stride), batch-first (the first two of three axes exchanged), sliced (part of longer rows) or broadcast (a
stride of 0 along equal entries, and equal arrays one object), and gives the gradients that it gives for plain ones. It
writes to no input; no result shares memory with another one or with an input; and what one call returned is not changed
by the next ones, of the same sizes. Where arrays are updated in place, as by an optimizer, the next call sees it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import LAYOUTS, Bench, Case, Judgement, Property
from properties.compare import after, against_truth
from properties.generic import generic, labelled
from properties.recipe import Draw, Recipe
from properties.strategies import Array, draw_problem, offered, replace_shape
from properties.units import each_array, negated

IN_PLACE = "updated in place"
LATER_CALLS = 9
"""How many calls an answer must outlive where arrays lie plainly: buffers may be used in turn."""


class Memory(Property):
    """A problem and another of the same sizes, once or several times, in one of the layouts."""

    id = "memory"
    statement = (
        "Inputs are left untouched and taken read-only and in any layout; "
        "results share no memory and outlive later calls."
    )
    source = "The contract of an adapter."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(offered(support, cell), largest=(6, 3, 4, 4, 4), edges=False, calm=True)

        def build(draw: Draw) -> Case:
            layout = draw.integer(0, len(LAYOUTS) - 1)
            return Case(draw_problem(draw, shape, support, cell, dtype), {"layout": layout})

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        """Every loss in every layout, class indices and lengths among the arrays."""
        shape, out = offered(support, cell), []
        names = {"truncations": shape.truncations[0], "activations": shape.activations[0]}
        names |= {"reductions": (shape.reductions or ("sum",))[0]}
        for i, loss in enumerate(shape.losses):
            names |= {"losses": loss, "readouts": shape.readouts[-1 - i % len(shape.readouts)]}
            problem = generic(9001 + 2 * i, support, cell, dtype, (3, 2, 2, 3, 3), names)
            if problem is None:
                continue
            posed = [problem, *([labelled(problem)] if loss == "cross_entropy" else [])]
            for one, layout in itertools.product(posed, LAYOUTS):
                lying = uniform(one) if layout == "broadcast" else one
                out.append(Case(lying, {"layout": LAYOUTS.index(layout)}))
        return out

    def asked_too(self, case: Case) -> Sequence[Problem]:
        layout = LAYOUTS[case.parameters.get("layout", 0)]
        if layout == IN_PLACE:
            return ()  # the problem itself comes first, as the comparisons say
        return [negated(case.problem)] * (LATER_CALLS if layout == "plain" else 1)

    def check(self, case: Case, bench: Bench) -> Judgement:
        layout = LAYOUTS[case.parameters["layout"]]
        later = [updated(case.problem)] if layout == IN_PLACE else self.asked_too(case)
        problems = [case.problem, *later]
        answers = bench.run_together(problems, layout)
        judgements = [against_truth(p, a, bench.truth(p)) for p, a in zip(problems, answers, strict=True)]
        first, *others = ([*judgement.comparisons] for judgement in judgements)
        if layout == IN_PLACE:
            others = [[after(case.problem, c) for c in comparisons] for comparisons in others]
        return Judgement((*first, *itertools.chain.from_iterable(others)))


def uniform(problem: Problem) -> Problem:
    """The same with inputs that are equal in all rows, equal initial states, and a loss that is alike at all steps."""

    def alike(name: str, array: Array) -> Array:
        if name == "x":
            return np.repeat(array[:, :1], problem.B, axis=1)
        if name == "c0" and problem.h0 is not None:
            return np.array(problem.h0)
        if name in ("g", "g_h_final", "g_c_final"):
            return np.full_like(array, 0.75)
        return np.repeat(array[:1], problem.T, axis=0) if name == "target" else array

    return each_array(problem, alike)


def updated(problem: Problem) -> Problem:
    """Another problem of the same sizes and names, in which each array is another."""

    def other(name: str, array: Array) -> Array:
        if name == "lengths":
            return array
        if name == "target" and problem.loss.kind == "cross_entropy":
            return np.array(array[..., ::-1]) if array.dtype.kind == "f" else (array + 1) % problem.K
        return np.asarray(array * array.dtype.type(0.5 if name in problem.params else -1))

    return each_array(problem, other)


PROPERTY = Memory()
