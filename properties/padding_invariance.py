"""padding-invariance: a padded row is worth its unpadded twin, and what the padding holds changes nothing.

    extend    more steps after every row's last: all else as it was, under every loss and reduction
    twin      a row cut down to its own length, without `lengths`: its states and its dx, dh0, dc0 as they were
    contents  other finite moderate numbers in the padding of x, g and target: all as it was

In each run the dx of the padding is exactly zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import Bench, Case, Comparison, Judgement, Property
from properties.compare import Once, Part, exactly, of_sums
from properties.pieces import every_gradient, first_steps, of_rows, padding, places, rows
from properties.recipe import Draw, Recipe
from properties.strategies import Array, draw_problem, entries, offered, replace_shape

FORMS = ("extend", "twin", "contents")


class PaddingInvariance(Property):
    """Three forms, drawn in turn; `more` steps are added, `row` is cut, `seed` fills the padding."""

    id = "padding-invariance"
    statement = "A padded row is its unpadded twin, and what the padding holds changes nothing."
    source = "The definition of lengths: after its last step a row's state stands still and no loss is added."
    needs = "lengths, and sequences of two steps"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if support.lengths and support.max_size.get("T", 2) >= 2 else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        longest = support.max_size.get("T", 1 << 20)
        base = replace_shape(offered(support, cell), largest=(8, 3, 4, 4, 4), edges=False, calm=True)
        shorter = replace_shape(base, largest=(min(8, longest - 1), 3, 4, 4, 4))
        by_row = tuple(name for name in base.reductions if name != "tokens") if "sum" in base.reductions else ()
        apart = replace_shape(base, reductions=by_row, losses=base.losses if by_row else ("cotangent",))
        forms = FORMS if by_row or "cotangent" in base.losses else ("extend", "contents")

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            shape = {"extend": shorter, "twin": apart, "contents": base}[form]
            problem = draw_problem(draw, shape, support, cell, dtype)
            T, B = problem.T, problem.B
            more, row, seed, lengths = draw.integer(1, 4), draw.integer(0, 2) % B, draw.seed(), draw.seed()
            if form == "extend":
                return Case(problem, {"form": 0, "more": min(more, longest - T), "seed": seed})
            if T < 2:  # no room for padding
                hypothesis.reject()
            drawn = np.random.default_rng(lengths).integers(1, T + 1, B)
            drawn[row] = min(drawn[row], T - 1)
            problem = replace(problem, lengths=drawn)
            if form == "twin":
                problem = replace(problem, loss=replace(problem.loss, batch_reduction="sum"))
                return Case(problem, {"form": 1, "row": row})
            return Case(problem, {"form": 2, "seed": seed})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, form, bench = case.problem, FORMS[case.parameters["form"]], Once(bench)
        if form == "extend":
            return self._extended(problem, extended(problem, case.parameters["more"], case.parameters["seed"]), bench)
        if form == "twin":
            return self._twin(problem, case.parameters["row"] % problem.B, bench)
        other = refilled(problem, case.parameters["seed"])
        keys = ["loss", *problem.spec.states, "o", *every_gradient(problem)]
        same = of_sums(bench, [Part(+1, problem), Part(-1, other)], keys)
        return Judgement((*same.comparisons, *_zeros(problem, bench), *_zeros(other, bench)))

    @staticmethod
    def _extended(problem: Problem, longer: Problem, bench: Bench) -> Judgement:
        keys = ["loss", *problem.spec.states, "o", *every_gradient(problem)]
        part = Part(-1, longer, places(longer, range(problem.B), problem.T))
        same = of_sums(bench, [Part(+1, problem), part], keys)
        return Judgement((*same.comparisons, *_zeros(longer, bench)))

    @staticmethod
    def _twin(problem: Problem, row: int, bench: Bench) -> Judgement:
        length = int(problem.row_lengths[row])
        twin = replace(first_steps(rows(problem, [row]), max(1, length)), lengths=None)
        if length == 0:
            return Judgement(tuple(_zeros(problem, bench)))
        part = Part(-1, problem, places(problem, [row], length))
        same = of_sums(bench, [Part(+1, twin), part], of_rows(problem))
        return Judgement((*same.comparisons, *_zeros(problem, bench)))


def _zeros(problem: Problem, bench: Bench) -> Iterator[Comparison]:
    """dx is exactly zero in the padding."""
    answer, judged = bench.run(problem), padding(problem)
    if "dx" in answer and judged.any():
        dx = answer["dx"]
        yield exactly(problem, "dx", dx, np.zeros_like(dx), judged[:, :, None])


def extended(problem: Problem, more: int, seed: int) -> Problem:
    """The problem with `more` steps of padding: normal numbers; targets of a cross-entropy are those of other steps."""
    loss = problem.loss

    def longer(array: Array, seed: int, other_steps: bool = False) -> Array:
        shape = (more, *array.shape[1:])
        tail = np.resize(array[::-1], shape) if other_steps else entries("normal", seed, shape, problem.dtype)
        return np.concatenate([array, tail])

    g = None if loss.g is None else longer(loss.g, seed + 1)
    target = None if loss.target is None else longer(loss.target, seed + 2, loss.kind == "cross_entropy")
    x, lengths = longer(problem.x, seed), problem.row_lengths
    return replace(problem, x=x, lengths=lengths, loss=replace(loss, g=g, target=target))


def refilled(problem: Problem, seed: int) -> Problem:
    """The problem with other numbers in its padding."""
    other, at, loss = extended(problem, problem.T, seed), padding(problem), problem.loss

    def mixed(array: Array | None, longer: Array | None) -> Any:
        if array is None or longer is None:
            return None
        return np.where(at.reshape(*at.shape, *[1] * (array.ndim - 2)), longer[problem.T :], array)

    filled = replace(loss, g=mixed(loss.g, other.loss.g), target=mixed(loss.target, other.loss.target))
    return replace(problem, x=mixed(problem.x, other.x), loss=filled)


PROPERTY = PaddingInvariance()
