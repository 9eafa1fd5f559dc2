"""causality: what comes later changes nothing earlier.

states     other inputs after step t: the states and outputs up to t as they were
gradients  and with losses up to t alone, every gradient and the loss as they were; dL/dx after t exactly zero
"""

from __future__ import annotations

from dataclasses import replace

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Once, Part, exactly, of_sums
from properties.pieces import claims, every_gradient, places
from properties.recipe import Draw, Recipe
from properties.strategies import Shape, draw_problem, entries, offered, replace_shape

FORMS = ("states", "gradients")


class Causality(Property):
    """Two forms, drawn in turn; `t` is the last step that stays, `seed` gives the inputs after it."""

    id = "causality"
    statement = (
        "A later input changes no earlier state and no earlier loss's gradient; dL_t/dx_s is exactly 0 for s > t."
    )
    source = "The recurrence: h_t is a function of h_0 and x_1, ..., x_t."
    needs = "sequences of two steps, and the loss cotangent or one of h, c, o"

    def unsupported(self, support: Support, cell: str) -> str | None:
        possible = support.max_size.get("T", 2) >= 2 and self._forms(support)
        return None if possible else f"needs {self.needs}"

    @staticmethod
    def _forms(support: Support) -> list[str]:
        possible = (claims(support, ("h", "c", "o")), "cotangent" in support.losses)
        return [form for form, there in zip(FORMS, possible, strict=True) if there]

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        base = replace_shape(offered(support, cell), largest=(10, 3, 4, 4, 4), edges=False, calm=True)
        forms = self._forms(support)

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            shape: Shape = base if form == "states" else replace_shape(base, losses=("cotangent",), finals=False)
            problem = draw_problem(draw, shape, support, cell, dtype)
            t, seed = 1 + draw.integer(0, 9) % max(1, problem.T - 1), draw.seed()
            if problem.T < 2:  # nothing is later
                hypothesis.reject()
            if form == "gradients":
                problem = with_losses_until(problem, t)
            return Case(problem, {"form": FORMS.index(form), "t": t, "seed": seed})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, t, bench = case.problem, case.parameters["t"], Once(bench)
        other = with_inputs_after(problem, t, case.parameters["seed"])
        earlier = places(problem, range(problem.B), t)
        parts = [Part(+1, problem, earlier), Part(-1, other, earlier)]
        states = [*problem.spec.states, "o"]
        if FORMS[case.parameters["form"]] == "states":
            return of_sums(bench, parts, states)
        out = [*of_sums(bench, parts, ["loss", *states, *every_gradient(problem)]).comparisons]
        for run in (problem, other):
            answer = bench.run(run)
            if "dx" in answer:
                dx = answer["dx"]
                after = np.arange(problem.T)[:, None, None] >= t
                out.append(exactly(run, "dx", dx, np.zeros_like(dx), after))
        return Judgement(tuple(out))


def with_losses_until(problem: Problem, t: int) -> Problem:
    """The problem without the cotangents after step t; one that had a loss on the last step alone has it at t."""
    assert problem.loss.g is not None
    g = problem.loss.g.copy()
    if not g[:t].any():
        g[t - 1] = g[-1]
    g[t:] = 0
    return replace(problem, loss=replace(problem.loss, g=g, g_h_final=None, g_c_final=None))


def with_inputs_after(problem: Problem, t: int, seed: int) -> Problem:
    """The problem with other inputs after step t."""
    x = problem.x.copy()
    x[t:] = entries("normal", seed, x[t:].shape, problem.dtype)
    return replace(problem, x=x)


PROPERTY = Causality()
