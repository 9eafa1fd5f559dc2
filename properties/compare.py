"""Comparisons: of an array with the truth, and of a sum of arrays with what the exact solutions make of it.

No tolerance is chosen here: an array may be off by its budget, a sum of arrays by the sum of their budgets plus the
exact difference between the oracle's solutions of the problems involved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem, gradient_shapes
from oracle.numbers import Numbers
from oracle.pairs import Balls, PairSolution, entrywise
from oracle.solution import scope
from oracle.truth import CONCLUSIVE, Truth, norm
from properties.base import Answer, Bench, Comparison, Judgement, Term, active_mask

Floats = NDArray[np.float64]


def worst_entry(
    key: str, got: Floats, want: Floats, error: Floats, allowed: Floats, conclusive: bool, judged: NDArray[np.bool_]
) -> tuple[Comparison, tuple[int, ...]]:
    """The comparison at the entry with the largest error / allowed; NaN counts as infinite, 0/0 as 0.

    Where no bound could be had (`allowed` is infinite: overflow is admissible) nothing is judged.
    """
    return _worst(key, got, want, error, allowed, conclusive, _ratios(error, allowed, judged))


def _ratios(error: Floats, allowed: Floats, judged: NDArray[np.bool_]) -> Floats:
    """error / allowed of what is judged, and -1 elsewhere."""
    with np.errstate(all="ignore"):
        ratio = np.where(error == 0, 0.0, error / allowed)
    ratio[np.isnan(ratio)] = np.inf
    found: Floats = np.where(judged & (allowed < np.inf), ratio, -1.0)
    return found


def _worst(
    key: str, got: Floats, want: Floats, error: Floats, allowed: Floats, conclusive: bool, ratio: Floats
) -> tuple[Comparison, tuple[int, ...]]:
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape)) if ratio.ndim else ()
    r = float(ratio[where])
    if r < 0:  # nothing of the array is judged
        return Comparison(key, where, 0.0, 0.0, 0.0, 0.0, 0.0, conclusive), where
    found = Comparison(
        key, where, float(got[where]), float(want[where]), float(error[where]), float(allowed[where]), r, conclusive
    )
    return found, where


def after(first: Problem, comparison: Comparison) -> Comparison:
    """The same, which says that another problem was asked before: whoever shows the failure asks it again."""
    before = Term(0.0, first, comparison.key, (0,) * len(comparison.where))
    return replace(comparison, terms=(before, *comparison.terms))


def against_truth(problem: Problem, answer: Answer, truth: Truth) -> Judgement:
    """Every claimed array of an answer against the exact solution: |got - exact| <= budget, entry by entry."""
    out = []
    for key, got in answer.items():
        judged = active_mask(problem, key, got.shape)
        error = truth.error(key, got)
        hi = truth.solution.near(key)[0]
        comparison, where = worst_entry(key, got, hi, error, truth.allowed(key), truth.conclusive(key), judged)
        out.append(_with_terms(comparison, (Term(1.0, problem, key, where),)))
    return Judgement(tuple(out))


def within(problem: Problem, answer: Answer, truth: Truth) -> bool:
    """Whether `against_truth` has nothing to object to: the same question, where nothing is to be said of the worst."""
    for key, got in answer.items():
        allowed = truth.allowed(key)
        fine = (truth.error(key, got) <= allowed) | (allowed == np.inf)
        if not fine.all() and not fine[active_mask(problem, key, got.shape)].all():
            return False
    return True


def _with_terms(c: Comparison, terms: tuple[Term, ...]) -> Comparison:
    return Comparison(c.key, c.where, c.got, c.want, c.error, c.allowed, c.ratio, c.conclusive, terms, c.note)


@dataclass(frozen=True)
class Part:
    """One run in a sum: its sign, and which entries of its arrays stand at which entries of the whole.

    sign         1 or -1, or such a power of two: the run counts so often
    places[key]  at each entry of the whole, the flat index into this run's array; -1 where the run adds nothing
    signs[key]   1 or -1 at each entry of the whole
    A key without places has the whole's shape, each entry at its own place; one without signs is not flipped.
    """

    sign: int
    problem: Problem
    places: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    signs: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def at(self, key: str, array: NDArray[Any]) -> NDArray[Any]:
        """The run's array as it stands in the whole, unsigned; 0 where the run adds nothing."""
        if key not in self.places:
            return array
        places = self.places[key]
        flat = np.asarray(array).reshape(-1)
        out: NDArray[Any] = np.where(places >= 0, flat[np.maximum(places, 0)], flat.dtype.type(0))
        return out

    def weights(self, key: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """How often the run counts at each entry of the whole: the sign, or 0."""
        everywhere = np.ones(shape, dtype=np.int64)
        there = self.places.get(key, everywhere) >= 0
        out: NDArray[np.int64] = self.sign * there * self.signs.get(key, everywhere)
        return out

    def term(self, key: str, where: tuple[int, ...], weight: int) -> Term:
        """The entry of the run's own array that stands at an entry of the whole."""
        if key in self.places:
            own = gradient_shapes(self.problem)[key]
            where = tuple(int(i) for i in np.unravel_index(int(self.places[key][where]), own))
        return Term(float(weight), self.problem, key, where)


def of_sums(bench: Bench, parts: Sequence[Part], keys: Sequence[str]) -> Judgement:
    """sum sign answer[key] = sum sign exact[key], within the sum of the budgets; judged is what the first part has.

    The exact sum on the right is zero where the theorem holds of the very same numbers, and otherwise what rounding
    the inputs of the runs to the dtype has changed.
    """
    answers = [bench.run(part.problem) for part in parts]
    truths = [bench.truth(part.problem) for part in parts]
    keys = [key for key in keys if all(key in answer for answer in answers)]
    if not keys:
        return Judgement(())
    shapes = [parts[0].at(key, answers[0][key]).shape for key in keys]
    weights = [_flat(part.weights(key, shape) for key, shape in zip(keys, shapes, strict=True)) for part in parts]
    runs = list(zip(weights, parts, answers, truths, strict=True))
    got = exact_sum([(w, _flat(part.at(key, answer[key]) for key in keys)) for w, part, answer, _ in runs])
    want, radius = exact_combination([(w, part, truth) for w, part, _, truth in runs], keys)
    allowed = radius.copy()
    for w, part, _, truth in runs:
        allowed += np.abs(w) * _flat(part.at(key, truth.allowed(key)) for key in keys)
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
    masks = (active_mask(parts[0].problem, key, answers[0][key].shape) for key in keys)
    judged = _flat(parts[0].at(key, mask) for key, mask in zip(keys, masks, strict=True))
    ratio = _ratios(error, allowed, judged)
    out, start = [], 0
    for key, shape in zip(keys, shapes, strict=True):
        own = slice(start, start := start + math.prod(shape))
        found, exact, off, bound, each = (a[own].reshape(shape) for a in (got, want, error, allowed, ratio))
        size = norm(parts[0].at(key, truths[0].solution.near(key)[0]))
        small = norm(bound) <= CONCLUSIVE[parts[0].problem.dtype] * size < np.inf or all(
            truth.conclusive(key) for truth in truths
        )
        comparison, where = _worst(key, found, exact, off, bound, small, each)
        counts = [(part, int(w[own].reshape(shape)[where])) for part, w in zip(parts, weights, strict=True)]
        terms = tuple(part.term(key, where, count) for part, count in counts if count)
        out.append(_with_terms(comparison, terms))
    return Judgement(tuple(out))


def _flat(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """All entries of several arrays, one array after the other: on small ones it is the calls that take time."""
    return np.concatenate([array.reshape(-1) for array in arrays])


def exact_sum(weighted: Sequence[tuple[NDArray[np.int64], NDArray[np.floating]]]) -> Floats:
    """The entrywise sum of weight times array, correctly rounded (math.fsum); NaN and infinities come out as NaN.

    Exact where the weights are 0, 1, -1 and powers of two; an entry of weight 0 counts as 0, whatever it holds.
    """
    shape = weighted[0][1].shape
    columns = []
    for weights, array in weighted:
        present = np.where(weights == 0, 0.0, np.asarray(array, dtype=np.float64))
        columns.append((weights * present).reshape(-1).tolist())
    values = []
    for entries in zip(*columns, strict=True):
        finite = all(math.isfinite(value) for value in entries)
        values.append(math.fsum(entries) if finite else math.nan)
    return np.array(values, dtype=np.float64).reshape(shape)


def exact_combination(
    weighted: Sequence[tuple[NDArray[np.int64], Part, Truth]], keys: Sequence[str]
) -> tuple[Floats, Floats]:
    """(value, radius) of the sum of weight times the exact arrays, flat, in the solutions' own arithmetic."""
    if all(isinstance(truth.solution, PairSolution) for _, _, truth in weighted):
        value, _, radius = _combination_of_pairs(weighted, keys)
        return value, radius * (1 + 2.0**-40) + np.abs(value) * 2.0**-52
    N = max((truth.solution.N for _, _, truth in weighted), key=lambda numbers: numbers.prec)
    values, radii = [], []
    with scope(N):
        columns = [_signed(N, weights, part, truth, keys) for weights, part, truth in weighted]
        for entries in zip(*columns, strict=True):
            total = sum(entries[1:], entries[0])
            values.append(float(total.mid()) if hasattr(total, "mid") else float(total))
            radii.append(float(total.rad()) if hasattr(total, "rad") else 0.0)
    value = np.array(values, dtype=np.float64)
    radius = np.array(radii, dtype=np.float64) * (1 + 2.0**-40) + np.abs(value) * 2.0**-52
    return value, radius


def _combination_of_pairs(weighted: Sequence[tuple[NDArray[np.int64], Part, Truth]], keys: Sequence[str]) -> Balls:
    """(3,n): the sum in balls of pairs; products by the weights, 0 or powers of two, are exact."""
    total = np.zeros((3, weighted[0][0].size))
    for weights, part, truth in weighted:
        each = []
        for key in keys:
            one = np.stack(truth.solution.near(key)).reshape(3, -1)
            each.append(one[:, part.places[key].reshape(-1)] if key in part.places else one)
        balls = np.concatenate(each, axis=1)
        counted: Balls = np.where(weights == 0, 0.0, balls) * weights  # where the run adds nothing, the place is -1
        counted[2] = np.abs(counted[2])
        total = entrywise("add", total, counted)
    return total


def _signed(N: Numbers, weights: NDArray[np.int64], part: Part, truth: Truth, keys: Sequence[str]) -> list[Any]:
    """The exact entries of a run, weighted, in the order of the whole's, as numbers of N."""
    found = []
    for key in keys:
        exact = truth.solution.values[key]
        if N.name != truth.solution.N.name:  # rationals beside balls
            exact = [N.ratio(value) for value in exact]
        found += [exact[i] for i in part.places[key].reshape(-1).tolist()] if key in part.places else exact
    return [w * value if w else 0 for w, value in zip(weights.tolist(), found, strict=True)]


def exactly(problem: Problem, key: str, got: NDArray[Any], want: NDArray[Any], judged: Any = True) -> Comparison:
    """An array whose judged entries are right to the last bit in any admissible implementation; -0 equals 0."""
    with np.errstate(all="ignore"):
        error = np.abs(got - want).astype(np.float64)
    worst, where = worst_entry(key, got, want, error, np.zeros(got.shape), True, np.broadcast_to(judged, got.shape))
    return _with_terms(worst, (Term(1.0, problem, key, where),))


class Once:
    """A bench that asks the target about each problem once: for a check that looks at a run from several sides."""

    def __init__(self, bench: Bench) -> None:
        self.support = bench.support
        self.truth = bench.truth
        self._bench = bench
        self._runs: dict[int, tuple[Problem, Answer]] = {}

    def run(self, problem: Problem) -> Answer:
        """The target's answer, of this very problem object."""
        if id(problem) not in self._runs:
            self._runs[id(problem)] = problem, self._bench.run(problem)
        return self._runs[id(problem)][1]

    def run_together(self, problems: Sequence[Problem], layout: str) -> list[Answer]:
        """As the bench."""
        return self._bench.run_together(problems, layout)

    def provoke(self, problem: Problem, fault: str) -> None:
        """As the bench."""
        self._bench.provoke(problem, fault)


def of_terms(bench: Bench, name: str, terms: Sequence[Term], size: float) -> Judgement:
    """One sum of coefficient times entry: the target's is the exact one, within the sum of the budgets.

    The coefficients are powers of two of at least 1, so that no product is rounded. `name` is what the sum is called;
    it is conclusive where the budgets are small beside `size`. Nothing is judged where a key is not claimed.
    """
    answers = {id(term.problem): bench.run(term.problem) for term in {id(t.problem): t for t in terms}.values()}
    if not all(term.key in answers[id(term.problem)] for term in terms):
        return Judgement(())
    truths = {id(term.problem): bench.truth(term.problem) for term in terms}
    got = [term.coefficient * float(answers[id(term.problem)][term.key][term.where]) for term in terms]
    total = math.fsum(got) if all(map(math.isfinite, got)) else math.nan
    want, radius = exact_terms([(term, truths[id(term.problem)]) for term in terms])
    allowed = radius
    for term in terms:
        allowed += abs(term.coefficient) * float(truths[id(term.problem)].allowed(term.key)[term.where])
    allowed *= 1 + 2.0**-40  # covers the float64 roundings of this sum of terms >= 0
    small = allowed <= CONCLUSIVE[terms[0].problem.dtype] * size
    conclusive = small or (size == 0 and all(truths[id(term.problem)].conclusive(term.key) for term in terms))
    found, exact, error, bound = (np.array(v, dtype=np.float64) for v in (total, want, abs(total - want), allowed))
    comparison, _ = worst_entry(name, found, exact, error, bound, conclusive, np.array(True))
    return Judgement((_with_terms(comparison, tuple(terms)),))


def exact_terms(weighted: Sequence[tuple[Term, Truth]]) -> tuple[float, float]:
    """(value, radius) of the sum of coefficient times the exact entries, in the solutions' own arithmetic."""
    N = max((truth.solution.N for _, truth in weighted), key=lambda numbers: numbers.prec)
    with scope(N):
        total = N.ratio(Fraction(0))
        for term, truth in weighted:
            shape = gradient_shapes(term.problem)[term.key]
            value = truth.solution.values[term.key][int(np.ravel_multi_index(term.where, shape)) if shape else 0]
            total += N.ratio(Fraction(term.coefficient)) * (N.ratio(value) if isinstance(value, Fraction) else value)
        if hasattr(total, "mid"):
            value, radius = float(total.mid()), float(total.rad())
        else:
            value, radius = float(total), 0.0
    return value, radius * (1 + 2.0**-40) + abs(value) * 2.0**-52
