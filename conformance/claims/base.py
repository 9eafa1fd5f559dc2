"""A claim, what was found of it, and the two ways to find it: a search for a counterexample, and an exhibit.

A verdict is what the code below makes of exact comparisons; no page and no claim says it beforehand.

    holds        no counterexample, over all problems that were drawn
    holds when   a counterexample, but none among the problems drawn under a condition
    refuted      a counterexample, certified by rationals or by disjoint balls, and seen a second way
    undecided    some comparison was too close to tell, the second way disagrees, or the quick form asks a part alone
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from oracle.ball_numbers import BallNumbers

VERDICTS = ("holds", "holds when", "refuted", "undecided")
PREC = 256
N = BallNumbers(PREC)
QUICK, FULL = 20, 200

Lines = tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """How much is drawn, and from which seed."""

    quick: bool = False
    seed: int = 0

    @property
    def count(self) -> int:
        """How many problems a claim is tried on."""
        return QUICK if self.quick else FULL

    def rng(self, name: str) -> np.random.Generator:
        """Each claim draws from a sequence of its own."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


@dataclass(frozen=True)
class Finding:
    """What became of a claim.

    condition       under which it holds, where it does not always
    shown           by what it is shown: a property, or the derivation in `notes`
    problems        over how many drawn problems
    counterexample  the smallest one, in exact numbers or certified digits
    second          how the counterexample (or exhibit) is seen another way
    """

    verdict: str
    shown: str
    problems: int = 0
    condition: str = ""
    counterexample: Lines = ()
    second: Lines = ()
    notes: Lines = ()

    def __post_init__(self) -> None:
        assert self.verdict in VERDICTS, self.verdict


@dataclass(frozen=True)
class Claim:
    """One claim of one of the sources, in our words."""

    id: str
    statement: str
    source: str
    decide: Callable[[Run], Finding] = field(repr=False)


Holds = Callable[[Any], bool | None]
"""Whether the claim is true of a candidate: certainly, certainly not, or too close to tell (None)."""
Second = Callable[[Any], tuple[Sequence[str], bool]]
"""The same counterexample another way: what was computed, and whether it agrees."""


def search(
    name: str,
    run: Run,
    *,
    holds: Holds,
    small: Sequence[Any],
    draw: Callable[[np.random.Generator], Any],
    show: Callable[[Any], Sequence[str]],
    second: Second,
    shown: str,
    condition: str = "",
    notes: Sequence[str] = (),
) -> Finding:
    """Look for a counterexample among small candidates, smallest first, then among drawn ones.

    With a condition, what is drawn meets it, and a counterexample there refutes the claim in that form too.
    """
    rng = run.rng(name)
    verdicts = [(candidate, holds(candidate)) for candidate in small]
    drawn = [(candidate, holds(candidate)) for candidate in (draw(rng) for _ in range(run.count))]
    within = next((c for c, verdict in drawn if verdict is False), None)
    found = next((c for c, verdict in verdicts if verdict is False), within)
    close = any(verdict is None for _, verdict in (*verdicts, *drawn))
    if found is None:
        return Finding("undecided" if close else "holds", shown, run.count, notes=tuple(notes))
    lines, agrees = second(found)
    if not agrees or (condition and close):
        verdict = "undecided"
    else:
        verdict = "holds when" if condition and within is None else "refuted"
    return Finding(
        verdict,
        shown,
        run.count,
        condition if verdict == "holds when" else "",
        tuple(show(found)),
        tuple(lines),
        tuple(notes),
    )


def exhibit(
    *,
    wanted: Sequence[tuple[Any, Holds]],
    show: Callable[[Any], Sequence[str]],
    second: Second,
    shown: str,
    notes: Sequence[str] = (),
) -> Finding:
    """A claim that something can happen: each candidate is certified to show its part, and is seen a second way."""
    lines: list[str] = []
    others: list[str] = []
    verdict = "holds"
    for candidate, shows in wanted:
        found = shows(candidate)
        said, agrees = second(candidate)
        lines += show(candidate)
        others += said
        if found is False and agrees:
            verdict = "refuted"
        elif not found or not agrees:
            verdict = "undecided" if verdict == "holds" else verdict
    return Finding(verdict, shown, len(wanted), "", tuple(lines), tuple(others), tuple(notes))


def ball(value: Any) -> Any:
    """A rational or float as a ball; a ball as it is. Within N.scope()."""
    return N.ratio(Fraction(value)) if isinstance(value, int | float | Fraction) else value


def same(xs: Sequence[Any], ys: Sequence[Any]) -> bool | None:
    """Whether two lists of numbers are equal: exactly for rationals; for balls, None unless disjoint or narrow.

    >>> same([Fraction(1, 3)], [Fraction(2, 6)]), same([1], [2])
    (True, False)
    """
    if len(xs) != len(ys):
        return False
    if all(isinstance(v, int | Fraction) for v in (*xs, *ys)):
        return list(xs) == list(ys)
    with N.scope():
        apart = [ball(x) - ball(y) for x, y in zip(xs, ys, strict=True)]
        if any(d > 0 or d < 0 for d in apart):
            return False
        narrow = 2.0 ** (-PREC / 2)
        return True if all(float(d.abs_upper()) <= narrow for d in apart) else None


def at_most(x: Any, bound: Any) -> bool | None:
    """Whether x <= bound, for rationals or balls."""
    if isinstance(x, int | Fraction) and isinstance(bound, int | Fraction):
        return x <= bound
    with N.scope():
        d = ball(x) - ball(bound)
        if d <= 0:
            return True
        return False if d > 0 else None


def number(value: Any) -> str:
    """A rational as it is; of a ball the digits that are certain."""
    if isinstance(value, int | Fraction):
        return str(value)
    with N.scope():
        return str(value.str(10, radius=False))


def listed(values: Sequence[Any]) -> str:
    """Several numbers."""
    return "(" + ", ".join(number(value) for value in values) + ")"


def derivative(f: Callable[[Fraction], Fraction], at: Fraction | int = 0) -> Fraction:
    """f'(at) of a polynomial of degree at most 4, from five of its values, exactly.

    >>> derivative(lambda w: w**3 + w, 2)
    Fraction(13, 1)
    """
    w = Fraction(at)
    return (8 * (f(w + 1) - f(w - 1)) - (f(w + 2) - f(w - 2))) / 12


def quarters(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Multiples of 1/4 from -2 to 2."""
    return rng.integers(-8, 9, shape) / 4.0
