"""memory: inputs stay as they are, however they lie in memory, and results belong to the caller.

A target is given arrays that are read-only, in Fortran order, strided (with NaN between the entries) or reversed (a
negative stride), and gives the gradients that it gives for plain ones. It writes to no input; no result shares memory
with another one or with an input; and what one call returned is not changed by the next ones, of the same sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import LAYOUTS, Bench, Case, Judgement, Property
from properties.compare import against_truth
from properties.generic import generic, labelled
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape
from properties.units import negated

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
            out += [Case(one, {"layout": layout}) for one in posed for layout in range(len(LAYOUTS))]
        return out

    def asked_too(self, case: Case) -> Sequence[Problem]:
        plain = case.parameters.get("layout") == LAYOUTS.index("plain")
        return [negated(case.problem)] * (LATER_CALLS if plain else 1)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problems = [case.problem, *self.asked_too(case)]
        answers = bench.run_together(problems, LAYOUTS[case.parameters["layout"]])
        judgements = [against_truth(p, a, bench.truth(p)) for p, a in zip(problems, answers, strict=True)]
        return Judgement(tuple(c for judgement in judgements for c in judgement.comparisons))


PROPERTY = Memory()
