"""batch-consistency: the rows of a batch do not meet but in the gradients of the weights, and there they add up.

    permute   the rows in another order: each row's states and gradients in that order, the weights' as they were
    split     the batch in two: each row's own as they were, the weights' gradients and the losses add up
    alone     one row as a batch of its own: its states and its dx, dh0, dc0 as they were

The two runs may round differently (BLAS sums a row of another batch in another order), so that their budgets are
allowed, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Once, Part, of_sums
from properties.pieces import of_rows, of_weights, places, rows
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape

FORMS = ("permute", "split", "alone")


class BatchConsistency(Property):
    """Three forms, drawn in turn; `order` or `at` says which permutation, cut or row."""

    id = "batch-consistency"
    statement = (
        "Permuting, splitting or running the rows of a batch on their own changes nothing but the order of sums."
    )
    source = "The loss is a sum over rows, each of which has a state of its own; linearity of the derivative."
    needs = "batches of two rows"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if support.max_size.get("B", 2) >= 2 else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        base = replace_shape(offered(support, cell), largest=(8, 4, 4, 4, 4), edges=False, calm=True)
        sums = tuple(name for name in base.reductions if name == "sum")
        apart = replace_shape(base, reductions=sums, losses=base.losses if sums else ("cotangent",))
        forms = FORMS if sums or "cotangent" in base.losses else FORMS[:1]

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            problem = draw_problem(draw, base if form == "permute" else apart, support, cell, dtype)
            order, at = 1 + draw.integer(0, 6) % max(1, 2 * problem.B - 2), draw.integer(0, 3) % problem.B
            if problem.B < 2:  # nothing to permute or to split
                hypothesis.reject()
            if form == "permute":
                return Case(problem, {"form": 0, "order": order})
            return Case(problem, {"form": FORMS.index(form), "at": at})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, form = case.problem, FORMS[case.parameters["form"]]
        if form == "permute":
            order = reordered(problem.B, case.parameters["order"])
            part = Part(-1, rows(problem, order), places(problem, np.argsort(order)))
            return of_sums(bench, [Part(+1, problem), part], ["loss", *of_rows(problem), *of_weights(problem)])
        at, bench = case.parameters["at"] % problem.B, Once(bench)
        if form == "alone":
            return _same_rows(bench, problem, rows(problem, [at]), [at])
        first, second = (list(range(max(1, at))), list(range(max(1, at), problem.B)))
        pieces = [rows(problem, first), rows(problem, second)]
        sums = of_sums(bench, [Part(+1, problem), *(Part(-1, p) for p in pieces)], ["loss", *of_weights(problem)])
        found = [_same_rows(bench, problem, p, c) for p, c in zip(pieces, (first, second), strict=True)]
        return Judgement(sums.comparisons + found[0].comparisons + found[1].comparisons)


def _same_rows(bench: Bench, problem: Problem, piece: Problem, chosen: Sequence[int]) -> Judgement:
    """What the piece says of its rows is what the whole says of them."""
    return of_sums(bench, [Part(+1, piece), Part(-1, problem, places(problem, chosen))], of_rows(problem))


def reordered(B: int, n: int) -> list[int]:
    """A permutation by its number: a rotation, from B on reversed too."""
    turned = np.roll(np.arange(B), n % B).tolist()
    return turned[::-1] if n >= B else turned


PROPERTY = BatchConsistency()
