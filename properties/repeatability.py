"""repeatability: an answer depends on the problem alone, not on what was asked before.

again        the same problem a second time
between      another problem of the same sizes, or of more or fewer steps, in between
after error  something malformed in between: an unknown name, a loss one step too long, no parameters

Every answer is judged against the truth. Whether two answers to one problem agree in every bit is said in a note, and
judged only where a target declares itself `deterministic`: sums may be in another order each time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import FAULTS, Answer, Bench, Case, Comparison, Judgement, Property, Term
from properties.compare import against_truth
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape
from properties.units import negated

FORMS = ("again", "between", "after error")
OTHERS = ("of the same sizes", "shorter", "longer")
DIFFERENT = "seen: two answers to one problem that differ in their last bits"
EQUAL = "seen: two answers to one problem that are equal in every bit"


class Repeatability(Property):
    """Three forms, drawn in turn."""

    id = "repeatability"
    statement = "A second call, calls with others between them, and a call after an error are all within budget."
    source = "The contract of an adapter: a function of the problem."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(offered(support, cell), largest=(6, 3, 4, 4, 4), edges=False, calm=True)

        def build(draw: Draw) -> Case:
            form, other, fault = (draw.integer(0, len(names) - 1) for names in (FORMS, OTHERS, FAULTS))
            problem = draw_problem(draw, shape, support, cell, dtype)
            if OTHERS[other] == "longer" and support.max_size.get("T", problem.T + 1) <= problem.T:
                other = 0
            parameters = {"form": form}
            if FORMS[form] == "between":
                parameters["other"] = other
            elif FORMS[form] == "after error":
                parameters["fault"] = fault
            return Case(problem, parameters)

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, form = case.problem, FORMS[case.parameters["form"]]
        first = bench.run(problem)
        comparisons = list(against_truth(problem, first, bench.truth(problem)).comparisons)
        if form == "between":
            other = another(problem, OTHERS[case.parameters["other"]])
            comparisons += against_truth(other, bench.run(other), bench.truth(other)).comparisons
        elif form == "after error":
            bench.provoke(problem, FAULTS[case.parameters["fault"]])
        second = bench.run(problem)
        comparisons += against_truth(problem, second, bench.truth(problem)).comparisons
        equal = all(first[key].tobytes() == second[key].tobytes() for key in first)
        if bench.support.deterministic:
            comparisons += bitwise(problem, first, second)
        return Judgement(tuple(comparisons), (EQUAL if equal else DIFFERENT,))


def another(problem: Problem, how: str) -> Problem:
    """A problem of the same configuration: other inputs, and a step less or more."""
    other = negated(problem)
    if how == "of the same sizes" or (how == "shorter" and problem.T == 1):
        return other

    def cut(array: Any) -> Any:
        if array is None:
            return None
        return np.array(array[:-1]) if how == "shorter" else np.concatenate([array, array[:1]])

    T = problem.T - 1 if how == "shorter" else problem.T + 1
    loss = replace(other.loss, g=cut(other.loss.g), target=cut(other.loss.target))
    lengths = None if problem.lengths is None else np.minimum(problem.lengths, T)
    return replace(other, x=cut(other.x), lengths=lengths, loss=loss)


def bitwise(problem: Problem, first: Answer, second: Answer) -> list[Comparison]:
    """Each array of two answers; allowed is 0, and an error of the smallest number is a zero's sign or a NaN's bits."""
    out = []
    for key, one in first.items():
        two = second[key]
        with np.errstate(all="ignore"):
            error = np.abs(np.asarray(two, dtype=np.float64) - np.asarray(one, dtype=np.float64)).reshape(-1)
        bits = [a.tobytes() != b.tobytes() for a, b in zip(one.reshape(-1), two.reshape(-1), strict=True)]
        error = np.where(bits, np.where(error > 0, error, 5e-324), 0.0)
        at = int(np.argmax(error))
        where = tuple(int(i) for i in np.unravel_index(at, one.shape)) if one.ndim else ()
        worst = float(error[at])
        terms = (Term(1.0, problem, key, where),)
        ratio = np.inf if worst else 0.0
        out.append(Comparison(key, where, float(two[where]), float(one[where]), worst, 0.0, ratio, True, terms))
    return out


PROPERTY = Repeatability()
