"""cotangent-linearity: the gradients are linear in the cotangents, those on the final state among them.

sum    gradients(g + g') = gradients(g) + gradients(g'), with g + g' rounded to the dtype
scale  gradients(2^n g) = 2^n gradients(g)
zero   the zero cotangent gives exactly zero, the loss too
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, exactly, of_sums
from properties.pieces import every_gradient, finals
from properties.recipe import Draw, Recipe
from properties.strategies import Array, draw_problem, entries, offered, replace_shape, to_dtype

FORMS = ("zero", "scale", "sum")


class CotangentLinearity(Property):
    """Three forms, drawn in turn; `n` is the power of two, `seed` gives the other cotangents."""

    id = "cotangent-linearity"
    statement = "The gradients are linear in the cotangent, and the zero cotangent gives exactly zero."
    source = "A vector-Jacobian product is linear in the vector; sums of products with zero are exact."
    needs = "the loss cotangent"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if "cotangent" in support.losses else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(
            offered(support, cell), losses=("cotangent",), largest=(10, 3, 4, 4, 4), edges=False, calm=True
        )

        def build(draw: Draw) -> Case:
            form = draw.of(FORMS)
            problem = draw_problem(draw, shape, support, cell, dtype)
            n, seed = draw.integer(1, 6), draw.seed()
            if form == "zero":
                return Case(mapped(problem, np.zeros_like), {"form": 0})
            return Case(problem, {"form": 1, "n": n} if form == "scale" else {"form": 2, "seed": seed})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, form = case.problem, FORMS[case.parameters["form"]]
        keys = ["loss", *every_gradient(problem)]
        if form == "zero":
            answer = bench.run(problem)
            zeros = [exactly(problem, key, answer[key], np.zeros_like(answer[key])) for key in keys if key in answer]
            return Judgement(tuple(zeros))
        if form == "scale":
            times = 1 << (case.parameters["n"] % 64)
            scaled = mapped(problem, lambda g: g * g.dtype.type(times))
            return of_sums(bench, [Part(+1, scaled), Part(-times, problem)], keys)
        seeds = iter(range(case.parameters["seed"], case.parameters["seed"] + 3))
        other = mapped(problem, lambda g: entries("normal", next(seeds), g.shape, problem.dtype))
        terms = iter([g for _, g in cotangents(other)])
        both = mapped(problem, lambda g: to_dtype(g.astype(np.float64) + next(terms), problem.dtype))
        return of_sums(bench, [Part(+1, both), Part(-1, problem), Part(-1, other)], keys)


def cotangents(problem: Problem) -> list[tuple[str, Array]]:
    """All cotangents of the loss, by the names of their fields."""
    assert problem.loss.g is not None
    return [("g", problem.loss.g), *finals(problem.loss).items()]


def mapped(problem: Problem, f: Callable[[Array], Array]) -> Problem:
    """The problem with other cotangents."""
    changed: dict[str, Array] = {name: f(g) for name, g in cotangents(problem)}
    return replace(problem, loss=replace(problem.loss, **changed))  # type: ignore[arg-type]


PROPERTY = CotangentLinearity()
