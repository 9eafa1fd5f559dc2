"""repeatability: an answer depends on the problem alone, not on what was asked before.

Each case asks its problem, then a longer one, a shorter one and one of the same sizes, then everything malformed that
there is (an unknown name, a loss one step too long, no parameters), and then its problem again. The first answer, the
one to the other problem of the same sizes and the last answer are judged against the truth. The whole sequence is in
every case, so that a target that some call has spoilt fails a case that spoils a fresh one too.

Fixed cases are of other kinds. In one, a problem large enough to be divided among threads is asked over and over: a
race shows in one call of many. In another, a problem with rows of unequal lengths is asked two dozen times, each time
with its rows in another order and other inputs: what a target prepares once for a configuration that comes again and
again, a plan of the lengths or a recorded run, must still be what the problem asks for. In the others the problem is
asked before each of its siblings, which differ from it in one field alone (properties/siblings.py), after itself in
another dtype, and after problems of its sizes for other cells. What a target remembers of the first, and takes for the
second's, shows.

Whether the two answers agree in every bit is said in a note, and judged only where a target declares itself
`deterministic`: sums may be in another order each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import FAULTS, Answer, Bench, Case, Comparison, Judgement, Property, Term
from properties.compare import after, against_truth
from properties.generic import generic
from properties.recipe import Draw, Recipe
from properties.siblings import in_other_dtypes, inexact, of_other_cells, siblings
from properties.strategies import draw_problem, offered, replace_shape
from properties.units import negated

HISTORY = tuple((4, *middle, 2) for middle in itertools.permutations((1, 3, 0))) * 4
"""Lengths of five rows: of these plans the first, the last, the longest and the sum are equal."""
TIMES = 40
"""How often the large problem is asked: of a race that shows in one call of ten, one run in seventy sees nothing."""
LARGE = (3, 40, 6, 40, 5)
"""T, B, D, H, K: past 32 rows and 32 units, where kernels divide them."""
DIFFERENT = "seen: two answers to one problem that differ in their last bits"
EQUAL = "seen: two answers to one problem that are equal in every bit"


class Repeatability(Property):
    """A, others, errors, A."""

    id = "repeatability"
    statement = "Calls with others between them, and a call after an error, are all within budget."
    source = "The contract of an adapter: a function of the problem."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(offered(support, cell), largest=(5, 3, 4, 4, 4), edges=False, calm=True)
        longest = support.max_size.get("T", 1 << 20)

        def build(draw: Draw) -> Case:
            problem = draw_problem(draw, shape, support, cell, dtype)
            return Case(problem, {"longer": int(longest > problem.T), "faults": len(FAULTS)})

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        shape, other, out = offered(support, cell), [], []
        for i, loss in enumerate(shape.losses):
            names = {
                "readouts": shape.readouts[-1 - i % len(shape.readouts)],
                "losses": loss,
                "truncations": shape.truncations[i % len(shape.truncations)],
                "activations": shape.activations[0],
                "reductions": (shape.reductions or ("sum",))[0],
            }
            problem = None if i else generic(7300, support, cell, dtype, LARGE, names)
            if problem is not None:
                out.append(Case(problem, {"times": TIMES}))
            problem = generic(7001 + 2 * i, support, cell, dtype, (3, 2, 2, 2, 2), names)
            if problem is not None:
                out.append(Case(problem, {"siblings": 1}))
            problem = generic(7100 + 2 * i, support, cell, dtype, (3, 3, 2, 3, 2), names)
            plain = None if problem is None else inexact(problem, support)
            if plain is not None and in_other_dtypes(plain, support):
                other.append(Case(plain, {"dtypes": 1}))
            problem = generic(7150 + 2 * i, support, cell, dtype, (4, 5, 2, 2, 2), names)
            if problem is not None and shape.lengths:
                out.append(Case(replace(problem, lengths=np.array(HISTORY[0])), {"history": len(HISTORY)}))
            problem = generic(7200 + 2 * i, support, cell, dtype, (4, 2, 3, 3, 3), names)
            if problem is not None and of_other_cells(problem, support):
                other.append(Case(problem, {"cells": 1}))
        return other + out  # the former first: of their sizes nothing has been asked in this dtype by then

    def asked_too(self, case: Case) -> Sequence[Problem]:
        if _in_pairs(case) or case.parameters.get("times"):
            return ()
        if case.parameters.get("history"):
            return _history(case)[1:]
        steps = [*([1] if case.parameters["longer"] else []), *([-1] if case.problem.T > 1 else []), 0]
        return [another(case.problem, more) for more in steps]

    def check(self, case: Case, bench: Bench) -> Judgement:
        if _in_pairs(case):
            return self._pairs(case, bench)
        if case.parameters.get("history"):
            asked = _history(case)
            answers = [(problem, bench.run(problem)) for problem in asked]
            found = [against_truth(problem, answer, bench.truth(problem)) for problem, answer in answers]
            return Judgement(tuple(c for judgement in found for c in judgement.comparisons))
        if case.parameters.get("times"):
            return over_and_over(case.problem, bench, case.parameters["times"])
        problem, others = case.problem, self.asked_too(case)
        first = bench.run(problem)
        *_, same = [bench.run(other) for other in others]
        for fault in FAULTS[: case.parameters["faults"]]:
            bench.provoke(problem, fault)
        second = bench.run(problem)
        judged = [(problem, first), (others[-1], same), (problem, second)]
        comparisons = [c for p, answer in judged for c in against_truth(p, answer, bench.truth(p)).comparisons]
        equal = all(first[key].tobytes() == second[key].tobytes() for key in first)
        if bench.support.deterministic:
            comparisons += bitwise(problem, first, second)
        return Judgement(tuple(comparisons), (EQUAL if equal else DIFFERENT,))

    def _pairs(self, case: Case, bench: Bench) -> Judgement:
        problem, comparisons = case.problem, []
        if case.parameters.get("siblings"):
            pairs = [(problem, sibling) for sibling in siblings(problem, bench.support)]
        else:
            others = of_other_cells if case.parameters.get("cells") else in_other_dtypes
            pairs = [(other, problem) for other in others(problem, bench.support)]
        for first, second in pairs:
            bench.run(first)
            judgement = against_truth(second, bench.run(second), bench.truth(second))
            comparisons += [after(first, c) for c in judgement.comparisons]
        return Judgement(tuple(comparisons))


def _in_pairs(case: Case) -> bool:
    """Whether the case is a fixed one: its problem before each sibling, or after one of another dtype or cell."""
    return any(case.parameters.get(name) for name in ("siblings", "dtypes", "cells"))


def _history(case: Case) -> list[Problem]:
    """The problem with one order of its rows after another, its inputs negated each other time."""
    found = [case.problem]
    for i, lengths in enumerate(HISTORY[1 : case.parameters["history"]], start=1):
        problem = negated(case.problem) if i % 2 else case.problem
        rows = [min(lengths[b % len(lengths)], problem.T) for b in range(problem.B)]  # a case may be cut by shrinking
        found.append(replace(problem, lengths=np.array(rows)))
    return found


def another(problem: Problem, more: int) -> Problem:
    """A problem of the same configuration: other inputs, and a step more (1), less (-1) or neither (0)."""
    other = negated(problem)
    if more == 0:
        return other

    def cut(array: Any) -> Any:
        if array is None:
            return None
        return np.array(array[:-1]) if more < 0 else np.concatenate([array, array[:1]])

    lengths = None if problem.lengths is None else np.minimum(problem.lengths, problem.T + more)
    loss = replace(other.loss, g=cut(other.loss.g), target=cut(other.loss.target))
    return replace(other, x=cut(other.x), lengths=lengths, loss=loss)


def over_and_over(problem: Problem, bench: Bench, times: int) -> Judgement:
    """The answers to one problem; those that are the first one bit for bit are no further examples of anything."""
    first, truth, other = bench.run(problem), bench.truth(problem), 0
    comparisons = [*against_truth(problem, first, truth).comparisons]
    for _ in range(times - 1):
        answer = bench.run(problem)
        if any(answer[key].tobytes() != first[key].tobytes() for key in first):
            other += 1
            comparisons += against_truth(problem, answer, truth).comparisons
            if bench.support.deterministic:
                comparisons += bitwise(problem, first, answer)
    return Judgement(tuple(comparisons), (DIFFERENT if other else EQUAL,))


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
