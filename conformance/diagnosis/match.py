"""How well a prediction explains an answer, in digits.

    digits = log10( ||got - exact|| / ||got - predicted|| )

over the judged entries of an array, Frobenius norms: how many digits of the error itself are explained, and no more
than those of the answer: beside a gradient of 1e30 a clip to 1 and one to 5 are far from it by as much. Two arrays that
agree to within what rounding costs agree as well as can be; an array that is wrong by little leaves few digits to
explain, which the number says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bptt.problem import SIGNIFICAND
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import WIDE, Array, Arrays, rounded, wide
from properties.base import Answer, active_mask

LEAST = {"float64": 8.0, "float32": 4.0, "float16": 2.0, "bfloat16": 1.5}
"""Digits that a match must have on its own."""
LEAST_NOISE = 1.5
"""Digits that it must have where the rest is within what rounding costs."""
RESIDUE = 1e-21, 1e-16
"""What is left of a sum that cancels in extended precision, relative to what it should be: as good as 0."""
MOST = {"float64": 15.9, "float32": 7.2, "float16": 3.3, "bfloat16": 2.4}
SLACK = 8.0
"""A mistake makes numbers larger: what rounding may cost them, in budgets of the right ones."""


@dataclass
class Observation:
    """A target's answer to a problem, beside the truth."""

    base: Base
    answer: Answer
    call: int = 1

    @cached_property
    def got(self) -> Arrays:
        """The answer in extended precision, judged entries only."""
        return {key: self.judged(key, wide(value)) for key, value in self.answer.items()}

    def judged(self, key: str, value: Array) -> Array:
        """The entries of an array that are judged, flat."""
        mask = active_mask(self.base.problem, key, value.shape)
        return np.asarray(value[mask])

    @cached_property
    def want(self) -> Arrays:
        """The exact arrays, judged entries only."""
        return {key: self.judged(key, self.base.exact[key]) for key in self.answer}

    @cached_property
    def wrong(self) -> tuple[str, ...]:
        """The arrays that are not within budget."""
        out = []
        for key, value in self.answer.items():
            error, allowed = self.base.truth.error(key, value), self.base.truth.allowed(key)
            mask = active_mask(self.base.problem, key, value.shape)
            if not bool(((error <= allowed) | (allowed == np.inf) | ~mask).all()):
                out.append(key)
        return tuple(out)

    def noise(self, key: str, predicted: Array, rough: float = 0.0) -> float:
        """What rounding may have cost an array that is `predicted`."""
        size, wanted = norm(predicted), norm(self.want[key])
        unit = 2.0 ** -SIGNIFICAND[self.base.problem.dtype]
        grown = max(1.0, size / wanted) if wanted > 0 else 1.0
        return SLACK * (self.base.noise(key) * grown + unit * size * (1 + rough))


@dataclass(frozen=True)
class Fit:
    """How a prediction compares with one answer's array."""

    digits: float
    within: bool
    potential: float

    def accepted(self, dtype: str) -> bool:
        """Whether the array counts as explained."""
        return self.digits >= LEAST[dtype] or (self.within and self.digits >= LEAST_NOISE)


def norm(array: Array) -> float:
    """The Frobenius norm of the finite entries."""
    finite = array[np.isfinite(array)]
    with np.errstate(over="ignore", under="ignore"):
        return float(np.sqrt((finite * finite).sum())) if finite.size else 0.0


def fit(seen: Observation, key: str, predicted: Array, rough: float = 0.0) -> Fit:
    """Compare an array; entries that are not finite must not be finite in the same way."""
    dtype = seen.base.problem.dtype
    got, want, p = seen.got[key], seen.want[key], seen.judged(key, np.asarray(predicted, dtype=WIDE))
    odd, odd_p = ~np.isfinite(got), ~np.isfinite(p)
    if (
        (odd != odd_p).any()
        or (np.isnan(got) != np.isnan(p)).any()
        or (got[odd & ~np.isnan(got)] != p[odd & ~np.isnan(got)]).any()
    ):
        return Fit(0.0, False, 0.0)
    error, off = norm(got[~odd] - p[~odd]), norm(got[~odd] - want[~odd])
    noise = seen.noise(key, p, rough)
    most = MOST[dtype]
    floor = max(noise / SLACK, 1e-300)
    if odd.any():
        return Fit(most if error <= noise else 0.0, error <= noise, most)
    potential = _digits(off, floor)
    digits = most if error == 0 else _digits(off, error)
    size, wanted = norm(p[~odd]), norm(want[~odd])
    if error > 0 and size > 0 and not RESIDUE[0] * wanted < size < RESIDUE[1] * wanted:
        digits = min(digits, _digits(4 * max(size, norm(got[~odd])), error))
    return Fit(min(max(digits, 0.0), most), error <= noise, potential)


def _digits(size: float, error: float) -> float:
    """How many decimal digits of a size an error leaves right; none where the error is not finite."""
    ratio = size / error
    return float(np.log10(ratio)) if ratio >= 1 else 0.0


def agrees(seen: Observation, key: str, predicted: Array | None) -> bool:
    """Whether a prediction leaves alone an array that is right."""
    if predicted is None:
        return True
    got, p = seen.got[key], seen.judged(key, np.asarray(predicted, dtype=WIDE))
    odd, odd_p = ~np.isfinite(got), ~np.isfinite(p)
    if (odd != odd_p).any():
        return False
    return norm(got[~odd] - p[~odd]) <= seen.noise(key, p)


@dataclass(frozen=True)
class Match:
    """A hypothesis that explains the wrong arrays.

    arrays  those that it explains          whole  whether the right arrays are right under it as well
    always  whether it predicts no mistake on problems that were answered rightly
    """

    hypothesis: Hypothesis
    digits: float
    arrays: tuple[str, ...]
    whole: bool
    always: bool


def predictions(hypothesis: Hypothesis, base: Base) -> Arrays | None:
    """What a hypothesis predicts, or None where it does not apply; a fault in it counts as none."""
    try:
        with np.errstate(all="ignore"):
            return hypothesis.predict(base)
    except (ArithmeticError, ValueError, IndexError, KeyError, TypeError, AttributeError):
        return None


def explain(hypothesis: Hypothesis, wrong: Sequence[Observation], right: Sequence[Observation]) -> Match | None:
    """Hold a hypothesis against every observation: an array counts as explained if it is so wherever it is wrong."""
    explained: set[str] = set()
    missed: set[str] = set()
    fits: dict[str, Fit] = {}
    all_predicted: list[tuple[Observation, Arrays]] = []
    for seen in wrong:
        predicted = predictions(hypothesis, seen.base) or {}
        all_predicted.append((seen, predicted))
        for key in seen.wrong:
            one = fit(seen, key, predicted[key], hypothesis.rough) if key in predicted else Fit(0.0, False, 0.0)
            if not one.accepted(seen.base.problem.dtype):
                missed.add(key)
                continue
            explained.add(key)
            if key not in fits or one.potential > fits[key].potential:
                fits[key] = one
        if not explained - missed:
            return None
    explained -= missed
    all_predicted += [(seen, predictions(hypothesis, seen.base) or {}) for seen in right]
    whole = always = True
    for seen, predicted in all_predicted:
        for key in seen.answer:
            if key in seen.wrong or agrees(seen, key, predicted.get(key)):
                continue
            always = always and key not in explained and bool(seen.wrong)
            whole = whole and (hypothesis.local or not seen.wrong)
    order = tuple(key for key in wrong[0].base.exact if key in explained)
    return Match(hypothesis, min(fits[key].digits for key in order), order, whole, always)


def narrow(wrong: Sequence[Observation]) -> list[Match]:
    """Arrays whose entries are all numbers of a narrower dtype, and right to about its precision."""
    found: dict[str, tuple[str, float]] = {}
    for key in {key for seen in wrong for key in seen.wrong}:
        concerned = [seen for seen in wrong if key in seen.wrong]
        for dtype in ("bfloat16", "float16", "float32"):
            if all(_is_narrow(seen, key, dtype) for seen in concerned):
                off = max(norm(s.got[key] - s.want[key]) / max(norm(s.want[key]), 1e-300) for s in concerned)
                found[key] = (dtype, -float(np.log10(max(off, 1e-300))))
                break
    matches = []
    for dtype in sorted({dtype for dtype, _ in found.values()}):
        keys = tuple(key for key in wrong[0].base.exact if found.get(key, ("",))[0] == dtype)
        one = Hypothesis(
            f"values-{dtype}",
            f"computed or summed in {dtype}: every entry is a {dtype} number, and right to its precision alone",
            lambda base: None,
            local=True,
            order=24,
        )
        matches.append(Match(one, min(found[key][1] for key in keys), keys, True, True))
    return matches


def about_single(wrong: Sequence[Observation]) -> list[Match]:
    """Arrays of float64 that are right to float32's precision alone, wherever they are wrong."""
    if any(seen.base.problem.dtype != "float64" for seen in wrong):
        return []
    keys = sorted({key for seen in wrong for key in seen.wrong})
    unit = 2.0 ** -SIGNIFICAND["float32"]
    for seen in wrong:
        for key in seen.wrong:
            got, want = seen.got[key], seen.want[key]
            off = norm(got - want) / norm(want) if norm(want) > 0 and np.isfinite(got).all() else np.inf
            if not unit / 32 <= off <= 16 * unit:
                return []
    if "h" in keys:
        place = "the forward pass"
    else:
        weights = {f"d{name}" for name in wrong[0].base.problem.parameter_shapes()}
        place = "the sums or products of these gradients" if set(keys) <= weights else "the way back"
    one = Hypothesis(
        "about-float32",
        f"right to about float32's precision alone: something of {place} is computed in float32",
        lambda base: None,
        local=True,
        order=60,
    )
    order = tuple(key for key in wrong[0].base.exact if key in keys)
    return [Match(one, 0.0, order, True, True)]


def _is_narrow(seen: Observation, key: str, dtype: str) -> bool:
    got, want = seen.got[key], seen.want[key]
    if SIGNIFICAND[dtype] >= SIGNIFICAND[seen.base.problem.dtype] or not np.isfinite(got).all() or got.size < 2:
        return False
    close = norm(got - want) <= 64 * 2.0 ** -SIGNIFICAND[dtype] * norm(want)
    return close and bool((rounded(got, dtype) == got).all())
