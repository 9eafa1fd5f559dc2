"""Comparisons: of an array with the truth, and of a sum of arrays with what the exact solutions make of it.

No tolerance is chosen here: an array may be off by its budget, a sum of arrays by the sum of their budgets plus the
exact difference between the oracle's solutions of the problems involved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem
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
    judged = judged & (allowed < np.inf)
    with np.errstate(all="ignore"):
        ratio = np.where(error == 0, 0.0, error / allowed)
    ratio = np.where(judged, np.where(np.isnan(ratio), np.inf, ratio), -1.0)
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape)) if ratio.ndim else ()
    r = float(ratio[where])
    if r < 0:  # nothing of the array is judged
        return Comparison(key, where, 0.0, 0.0, 0.0, 0.0, 0.0, conclusive), where
    found = Comparison(
        key, where, float(got[where]), float(want[where]), float(error[where]), float(allowed[where]), r, conclusive
    )
    return found, where


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


def _with_terms(c: Comparison, terms: tuple[Term, ...]) -> Comparison:
    return Comparison(c.key, c.where, c.got, c.want, c.error, c.allowed, c.ratio, c.conclusive, terms, c.note)


@dataclass(frozen=True)
class Part:
    """One run in a sum: its sign, and which entries of its arrays stand at which entries of the whole."""

    sign: int
    problem: Problem


def of_sums(bench: Bench, parts: Sequence[Part], keys: Sequence[str]) -> Judgement:
    """sum sign answer[key] = sum sign exact[key], within the sum of the budgets, for arrays of one shape.

    The exact sum on the right is zero where the theorem holds of the very same numbers, and otherwise what rounding
    the inputs of the runs to the dtype has changed.
    """
    answers = [bench.run(part.problem) for part in parts]
    truths = [bench.truth(part.problem) for part in parts]
    out = []
    for key in keys:
        if not all(key in answer for answer in answers):
            continue
        signed = [(part.sign, answer[key]) for part, answer in zip(parts, answers, strict=True)]
        got = exact_sum(signed)
        want, radius = exact_combination([(p.sign, t) for p, t in zip(parts, truths, strict=True)], key)
        allowed = sum((truth.allowed(key) for truth in truths), radius)
        with np.errstate(all="ignore"):
            error = np.abs(got - want)
        judged = active_mask(parts[0].problem, key, got.shape)
        size = norm(truths[0].solution.near(key)[0])
        small = norm(allowed) <= CONCLUSIVE[parts[0].problem.dtype] * size < np.inf or all(
            truth.conclusive(key) for truth in truths
        )
        comparison, where = worst_entry(key, got, want, error, allowed, small, judged)
        out.append(_with_terms(comparison, tuple(Term(float(p.sign), p.problem, key, where) for p in parts)))
    return Judgement(tuple(out))


def exact_sum(signed: Sequence[tuple[int, NDArray[np.floating]]]) -> Floats:
    """The entrywise sum of sign times array, correctly rounded (math.fsum); NaN and infinities go through."""
    shape = signed[0][1].shape
    columns = [(sign * np.asarray(array, dtype=np.float64)).reshape(-1).tolist() for sign, array in signed]
    values = []
    for entries in zip(*columns, strict=True):
        finite = all(math.isfinite(value) for value in entries)
        values.append(math.fsum(entries) if finite else math.nan)
    return np.array(values, dtype=np.float64).reshape(shape)


def exact_combination(signed: Sequence[tuple[int, Truth]], key: str) -> tuple[Floats, Floats]:
    """(value, radius) of the sum of sign times the exact arrays, in the solutions' own arithmetic."""
    first = signed[0][1]
    shape = first.solution.near(key)[0].shape
    N = max((truth.solution.N for _, truth in signed), key=lambda numbers: numbers.prec)
    values, radii = [], []
    with scope(N):
        columns = [[v if sign > 0 else -v for v in truth.solution.values[key]] for sign, truth in signed]
        for entries in zip(*columns, strict=True):
            total = sum(entries[1:], entries[0])
            values.append(float(total.mid()) if hasattr(total, "mid") else float(total))
            radii.append(float(total.rad()) if hasattr(total, "rad") else 0.0)
    value = np.array(values, dtype=np.float64).reshape(shape)
    radius = np.array(radii, dtype=np.float64).reshape(shape) * (1 + 2.0**-40) + np.abs(value) * 2.0**-52
    return value, radius
