"""loss-differences: Richardson differences of the target's own loss match the target's own gradient.

Along a direction v, with D(e) = (L(theta + e v) - L(theta - e v)) / 2e,

    (4 D(e/2) - D(e)) / 3 = <dL/dtheta, v> + O(e^4)                                                       (1)

Times 6 e, (1) is a sum of four losses and a gradient's entries, with coefficients that are powers of two:

    8 (L(e/2) - L(-e/2)) - (L(e) - L(-e)) - (4 e + 2 e) <dL/dtheta, v> = R                                (2)

R, exact, is what the O(e^4) leaves, the rounding of the moved points to the dtype included; the oracle knows it. So a
target is held to (2) within the budgets of its four losses and of its gradient, and e need not be small: it is chosen
so large that the losses' budgets are small beside e <dL/dtheta, v>. v has the signs of the exact gradient, so that
nothing cancels, and sizes 1, 1/2, 1/4, so that entries that changed places show.
Source: Richardson (1911), the extrapolation; the rest is ours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import DTYPES, Problem
from bptt.support import Support
from oracle.truth import Truth
from properties.base import Bench, Case, Judgement, Property, Term
from properties.compare import of_terms
from properties.recipe import Draw, Recipe
from properties.strategies import Array, draw_problem, offered, replace_shape, to_dtype

STEP = {"float64": 2.0**-12, "float32": 1.0, "float16": 1.0, "bfloat16": 1.0}
"""e of (1): so large that what rounding does to the losses is small beside their differences; R is exact at any e."""

WEAK = {"float32": 2.0**-4, "float16": 0.25, "bfloat16": 0.25}
"""An array whose gradient is at most this part of the strongest is not moved alone: its share is lost in the losses'
budgets. With the others it is."""


class LossDifferences(Property):
    """Of one array, or of all at once, in a random direction."""

    id = "loss-differences"
    statement = "Richardson differences of the target's own loss match its gradient."
    source = "Richardson (1911): differences of two step widths, extrapolated; (2) is ours."
    needs = "the key loss, a gradient and the truncation full"

    def unsupported(self, support: Support, cell: str) -> str | None:
        claimed = support.outputs is None or (
            "loss" in support.outputs and any(key.startswith("d") for key in support.outputs)
        )
        return None if claimed and "full" in support.truncations else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(
            offered(support, cell), largest=(5, 2, 3, 3, 3), edges=False, calm=True, truncations=("full",)
        )

        def build(draw: Draw) -> Case:
            problem = draw_problem(draw, shape, support, cell, dtype)
            return Case(problem, {"array": draw.integer(0, 15), "sizes": draw.integer(0, 1 << 16)})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, truth = case.problem, bench.truth(case.problem)
        names = [name for name in moved_names(problem) if claims(bench.support, f"d{name}")]
        sizes = {name: float(np.abs(truth.solution.near(f"d{name}")[0]).sum()) for name in names}
        strong = [name for name in names if sizes[name] > WEAK.get(problem.dtype, 0.0) * max(sizes.values())]
        turn = case.parameters["array"] % (len(strong) + 1)
        names = strong[turn - 1 : turn] if turn else names
        rng = np.random.default_rng(case.parameters["sizes"])
        directions = {name: direction(truth, f"d{name}", rng) for name in names}
        e = STEP[problem.dtype]
        terms = [
            Term(sign * weight / e, moved(problem, directions, sign * step), "loss", ())
            for weight, step in ((8.0, e / 2), (-1.0, e))
            for sign in (1, -1)
        ]
        size = 0.0
        for name, v in directions.items():
            exact = truth.solution.near(f"d{name}")[0]
            size += float(6 * np.abs(exact * v).sum())
            for where in np.ndindex(v.shape):
                terms += [Term(-part * float(v[where]), problem, f"d{name}", where) for part in (4.0, 2.0)]
        smallest = 4.0  # v is at least 1/4
        terms = [replace(term, coefficient=term.coefficient * smallest) for term in terms]
        return of_terms(bench, f"d{names[0]}" if turn else "gradient", terms, smallest * size)


def claims(support: Support, key: str) -> bool:
    """Whether a target may return a key."""
    return support.outputs is None or key in support.outputs


def moved_names(problem: Problem) -> list[str]:
    """Every array that the loss has a gradient in."""
    initial = [f"{state}0" for state in problem.spec.states] if problem.h0 is not None else []
    return [*problem.parameter_shapes(), "x", *initial]


def direction(truth: Truth, key: str, rng: np.random.Generator) -> Array:
    """v: the exact gradient's signs (1 where it is zero), sizes 1, 1/2 and 1/4."""
    gradient = truth.solution.near(key)[0]
    return np.asarray(np.where(gradient < 0, -1.0, 1.0) * 2.0 ** -rng.integers(0, 3, gradient.shape))


def moved(problem: Problem, directions: dict[str, Array], step: float) -> Problem:
    """The problem at theta + step v, rounded to the dtype."""

    def at(name: str, array: Array) -> Array:
        if name not in directions:
            return array
        return to_dtype(array.astype(np.float64) + step * directions[name], problem.dtype)

    inputs: dict[str, Any] = {
        n: at(n, getattr(problem, n)) for n in ("x", "h0", "c0") if getattr(problem, n) is not None
    }
    assert all(array.dtype == DTYPES[problem.dtype] for array in inputs.values())
    return replace(problem, params={name: at(name, array) for name, array in problem.params.items()}, **inputs)


PROPERTY = LossDifferences()
