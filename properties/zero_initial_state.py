"""zero-initial-state: a network without an initial state starts from zeros: h0 = c0 = None is h0 = c0 = 0.

Asked with zeros first, so that a target that starts from what an earlier call left behind is seen to.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import DTYPES, gradient_shapes
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, of_sums
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape


class ZeroInitialState(Property):
    """Every key that both answers claim; dh0 and dc0 too, where a target gives them."""

    id = "zero-initial-state"
    statement = "No initial state means zeros: loss, states, outputs and gradients are those of h0 = c0 = 0."
    source = "The definition of the problem."
    needs = "h0_none"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if support.h0_none else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(offered(support, cell), largest=(8, 3, 4, 4, 4), edges=False, calm=True, h0_none=False)

        def build(draw: Draw) -> Case:
            problem = draw_problem(draw, shape, support, cell, dtype)
            return Case(replace(problem, h0=None, c0=None))

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        zeros = {f"{state}0": np.zeros((problem.B, problem.H), DTYPES[problem.dtype]) for state in problem.spec.states}
        given, missing = Part(+1, replace(problem, **zeros)), Part(-1, replace(problem, h0=None, c0=None))  # type: ignore[arg-type]
        return of_sums(bench, [given, missing], list(gradient_shapes(problem)))


PROPERTY = ZeroInitialState()
