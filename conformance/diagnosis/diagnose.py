"""Why a target is wrong: its answers to generic problems of the failing configuration, beside those of known mistakes.

Deterministic: the problems' seeds are fixed, the hypotheses have an order, and nothing depends on time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bptt.errors import ProblemError
from bptt.problem import Problem
from conformance.bench import TargetBench, Truths
from conformance.diagnosis.family import SIZES, alike
from conformance.diagnosis.fits import fitted
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.match import Match, Observation, about_single, agrees, explain, narrow, predictions
from conformance.diagnosis.mistakes import hypotheses
from conformance.diagnosis.mistakes.stale import STALE
from conformance.diagnosis.mistakes.terms import reaches
from conformance.diagnosis.where import describe, other_truncations, triggers
from conformance.errors import ContractBroken, Declined, TargetCrash, TargetUnavailable, UsageError
from conformance.targets import Target, afresh
from oracle.errors import PrecisionExhausted

CALLS = 12
"""How often a target is asked the same problem, where it is right at first."""
SHOWN = 4
"""How many hypotheses that explain as much are named."""
TIE = 1.5
"""Digits within which two explanations are equally good."""
ENOUGH = 40
"""Answers after which no more are asked for to confirm an explanation."""
UNTESTED = ("values-float32", "values-float16", "values-bfloat16", "about-float32")
"""What is no prediction, but seen in the answers themselves."""
LARGE = 30_000
"""T B H^2 beyond which one problem of a size is enough."""
LOUD = ((8.0, 64.0), (512.0, 4096.0))
"""What cotangents and targets are multiplied by where nothing shows without."""
COSTLY = 6_000
"""T^2 B H beyond which nothing is fitted."""


@dataclass(frozen=True)
class Failure:
    """What a finding knows of its failure: the smallest problem, the worst, and what must be asked before."""

    smallest: Problem
    worst: Problem
    companion: Problem | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What was found: a sentence, the hypotheses that explain it with their digits, and where the error sits."""

    sentence: str
    matches: tuple[Match, ...] = ()
    where: str | None = None

    def json(self) -> dict[str, Any]:
        """As it stands in results.json."""
        return {
            "sentence": self.sentence,
            "matches": [
                {
                    "id": one.hypothesis.id,
                    "sentence": one.hypothesis.sentence,
                    "arrays": list(one.arrays),
                    "digits": round(one.digits, 1),
                }
                for one in self.matches
            ],
            "where": self.where,
        }


@dataclass
class Asked:
    """A freshly loaded target and what it has answered so far; a problem that it does not answer is passed over."""

    bench: TargetBench
    earlier: list[tuple[Problem, dict[str, Any]]] = field(default_factory=list)

    def ask(self, problem: Problem, call: int = 1) -> Observation | None:
        """The answer beside the truth."""
        try:
            answer = self.bench.run(problem)
            truth = self.bench.truth(problem)
        except (Declined, ContractBroken, TargetCrash, PrecisionExhausted):
            return None
        seen = Observation(Base(problem, truth, tuple(self.earlier)), answer, call)
        self.earlier.append((problem, answer))
        return seen


def diagnose(
    target: Target, failure: Failure, truths: Truths | None = None, first: Sequence[str] = ()
) -> Diagnosis | None:
    """Say what is wrong with a target that failed; None where it answers nothing, or nothing wrong.

    `first` are ids of hypotheses that explained earlier failures of the same target: if one explains this one too, no
    other is tried.
    """
    dtypes = [failure.smallest.dtype]
    if dtypes[0] != "float64" and "float64" in target.support.dtypes:
        dtypes.insert(0, "float64")
    for dtype in dtypes:
        try:
            asked = Asked(TargetBench(afresh(target), dtype, truths))
        except (UsageError, TargetUnavailable):
            return None
        wrong, right, special = _observe(asked, failure, dtype)
        if wrong:
            return _explain(asked, wrong, right, first, special, failure.smallest)
    return None


def _observe(asked: Asked, failure: Failure, dtype: str) -> tuple[list[Observation], list[Observation], bool]:
    """Wrong answers, right answers, and whether it took other than generic problems to see it."""
    right: list[Observation] = []
    for stage, problems in enumerate(_stages(failure, asked, dtype)):
        wrong: list[Observation] = []
        for problem in problems:
            seen = asked.ask(problem)
            if seen is not None:
                (wrong if seen.wrong else right).append(seen)
        if wrong:
            return sorted(wrong, key=_work), right, stage > 0
    again = _alike(failure.smallest, SIZES[0], 0, asked, dtype)
    for call in range(2, CALLS + 1):
        seen = None if again is None else asked.ask(again, call)
        if seen is not None and seen.wrong:
            return [seen], right[:1], True
    return [], right, True


def _work(seen: Observation) -> int:
    p = seen.base.problem
    return p.T**2 * p.B * p.H**2 // 10_000  # the smallest first, in the order asked where that makes no difference


def _alike(like: Problem, sizes: tuple[int, ...], seed: int, asked: Asked, dtype: str, **more: Any) -> Problem | None:
    T, B, D, H, K = sizes
    try:
        return alike(like, (T, B, D, H, K), seed, asked.bench.support, dtype=dtype, **more)
    except ProblemError:
        return None


def _stages(failure: Failure, asked: Asked, dtype: str) -> Iterator[list[Problem]]:
    """Problems to ask, stage by stage until one is answered wrongly: generic, then ever more like the failing ones."""
    small, worst = failure.smallest, failure.worst

    def made(*ones: Problem | None) -> list[Problem]:
        return [one for one in ones if one is not None]

    def of(like: Problem, sizes: tuple[int, ...], seed: int, **more: Any) -> Problem | None:
        return _alike(like, sizes, seed, asked, dtype, **more)

    def sizes(p: Problem) -> tuple[int, ...]:
        return p.T, p.B, p.D, p.H, p.K

    def own(p: Problem, seed: int, **more: Any) -> Problem | None:
        return of(p, sizes(p), seed, same_truncation=True, keep_lengths=True, **more)

    yield made(*(of(worst, SIZES[seed], seed) for seed in range(4)))
    yield made(of(worst, (5, 3, 5, 5, 5), 29), of(worst, (6, 2, 4, 4, 4), 30))
    yield made(own(small, 22), of(small, SIZES[0], 23))
    yield made(of(worst, SIZES[0], 24, zeros=0.3), of(worst, SIZES[2], 25, zeros=0.3))
    if worst.loss.kind != "cross_entropy":  # limits compiled in: some entries are beyond them, and some are not
        for first, second in LOUD:
            yield made(of(worst, SIZES[0], 32, loud=first), of(worst, SIZES[2], 33, loud=second))
    yield made(of(worst, SIZES[0], 26, scale=4.0), of(worst, SIZES[2], 27, scale=0.05))
    yield made(of(worst, (20, 2, 3, 4, 3), 28), of(worst, (9, 1, 2, 35, 2), 31))
    large = worst.T * worst.B * worst.H**2 > LARGE
    yield made(own(worst, 20), None if large else own(worst, 21))
    if dtype == small.dtype:
        yield made(*(p for p in (failure.companion, worst) if p is not None))
        yield made(*(p for p in (failure.companion, small) if p is not None))


def _explain(
    asked: Asked,
    wrong: list[Observation],
    right: list[Observation],
    first: Sequence[str],
    special: bool,
    smallest: Problem,
) -> Diagnosis:
    problem = wrong[0].base.problem
    known = [*hypotheses(problem), *reaches(problem, smallest)]
    keys = {key for seen in wrong for key in seen.wrong}
    favoured = [one for one in known if one.id in first]
    found = _search(favoured, wrong, right)
    if not any(_full(one, keys) and one.always and one.whole for one in found):
        found = _search([one for one in known if not one.late], wrong, right)
        if not any(_full(one, keys) and one.always for one in found):
            found += _search([one for one in known if one.late], wrong, right)
        if not any(_full(one, keys) for one in found):
            found += narrow(wrong)
            if not any(_full(one, keys) for one in found) and problem.T**2 * problem.B * problem.H < COSTLY:
                found += _search(list(fitted(wrong[0])), wrong, right)
            if not any(_full(one, keys) for one in found):
                found += about_single(wrong)
    full = _confirmed(_ranked([one for one in found if _full(one, keys)]), asked, problem)
    stale = bool(full) and full[0].hypothesis.id.startswith(STALE)
    when: str | None = None
    if (special or right) and not stale:
        when, others = triggers(asked, wrong[0])
        full = _ranked(_held_against(full, others))
    if len(full) > 1 and not stale:
        full = _ranked(_held_against(full, other_truncations(asked, wrong[0])))
    if full:
        best = full[0]
        equal = tuple(
            one
            for one in full
            if one.digits >= best.digits - TIE and one.always >= best.always and one.whole >= best.whole
        )[:SHOWN]
        return Diagnosis(_sentence(best, when), equal, describe(wrong, when))
    parts = _cover(_confirmed([one for one in found if one.always], asked, problem), keys)
    where = describe(wrong, when)
    if parts:
        rest = sorted(keys - {key for one in parts for key in one.arrays})
        text = "; ".join(_sentence(one, None) for one in parts)
        if rest:
            text = f"no known mistake explains all of it: {', '.join(rest)} not at all; of the others alone: {text}"
        return Diagnosis(text + (f" ({when})" if when else ""), tuple(parts), where)
    return Diagnosis(f"no known mistake explains it; {where}", (), where)


def _confirmed(full: list[Match], asked: Asked, like: Problem) -> list[Match]:
    """Without the explanations that further problems of this kind contradict; none is asked where several were."""
    if not full or len(asked.earlier) > ENOUGH or full[0].hypothesis.id.startswith(STALE):
        return full
    sizes = (like.T, like.B, like.D, like.H, like.K)
    for seed in (51, 52):
        problem = _alike(like, sizes, seed, asked, like.dtype, same_truncation=True)
        seen = None if problem is None else asked.ask(problem)
        if seen is not None and seen.wrong:
            kept = [one for one in full if one.hypothesis.id in UNTESTED or explain(one.hypothesis, [seen], ())]
            full = kept
    return full


def _held_against(full: Sequence[Match], others: Sequence[Observation]) -> list[Match]:
    """Explanations held against what was seen at other sizes.

    One that explains less of what is wrong there than another is left out; one that predicts a mistake where there was
    none has exceptions.
    """

    def explains(one: Match, seen: Observation) -> bool:
        match = explain(one.hypothesis, [seen], ())
        return match is not None and set(match.arrays) == set(seen.wrong)

    wrong = [seen for seen in others if seen.wrong]
    explained = [
        len(wrong) if one.hypothesis.id in UNTESTED else sum(explains(one, seen) for seen in wrong) for one in full
    ]

    def contradicted(one: Match, seen: Observation) -> bool:
        predicted = predictions(one.hypothesis, seen.base) or {}
        return not all(agrees(seen, key, predicted.get(key)) for key in seen.answer)

    right = [seen for seen in others if not seen.wrong]
    return [
        replace(one, always=one.always and not any(contradicted(one, seen) for seen in right))
        for one, count in zip(full, explained, strict=True)
        if count == max(explained)
    ]


def _full(one: Match, keys: set[str]) -> bool:
    return set(one.arrays) == keys


def _search(known: Sequence[Hypothesis], wrong: Sequence[Observation], right: Sequence[Observation]) -> list[Match]:
    found = []
    for one in known:
        if explain(one, wrong[:1], ()) is not None:
            match = explain(one, wrong, right)
            if match is not None:
                found.append(match)
    return found


def _ranked(found: Sequence[Match]) -> list[Match]:
    """The best first: as many digits as any, then without exceptions, then the whole answer, then the simplest."""
    if not found:
        return []
    best = max(one.digits for one in found)
    return sorted(found, key=lambda one: (one.digits < best - TIE, not one.always, not one.whole, one.hypothesis.order))


def _cover(found: Sequence[Match], keys: set[str]) -> list[Match]:
    """Few hypotheses that explain as many of the wrong arrays as can be, each for arrays of its own."""
    left, out = set(keys), []
    while left:
        candidates = [one for one in found if set(one.arrays) & left]
        if not candidates:
            break
        best = min(
            candidates,
            key=lambda one: (-len(set(one.arrays) & left), not one.always, one.hypothesis.order, -one.digits),
        )
        arrays = tuple(key for key in best.arrays if key in left)
        out.append(Match(best.hypothesis, best.digits, arrays, best.whole, best.always))
        left -= set(arrays)
    return out


def _sentence(match: Match, when: str | None) -> str:
    """The hypothesis for people: what it says, of which arrays, to how many digits."""
    words, arrays = match.hypothesis.sentence, ", ".join(match.arrays)
    if match.hypothesis.id == "about-float32":
        return f"{arrays}: {words}" + (f"; {when}" if when else "")
    digits = f"{int(np.floor(match.digits))} digits"
    text = f"{arrays}: {words} ({digits})" if match.hypothesis.local else f"{words} ({arrays} to {digits})"
    if not match.hypothesis.local and not match.whole:
        text = f"in {arrays} alone: {words} ({digits})"
    return text + (f"; {when}" if when else "")
