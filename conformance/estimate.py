"""How long a run will still take, from what its findings took so far.

A property costs about the same in every cell, so that the findings to come are taken to cost what those of their
property did; where none of it was made yet, what findings did on average. Processes that share the work divide it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

LEAST = 5
"""Findings that were executed, before anything is said."""


class Estimate:
    """Told of each finding, says how many seconds are left. `kinds` are the properties of the findings to be made."""

    def __init__(self, kinds: Sequence[str], jobs: int) -> None:
        self.left = Counter(kinds)
        self.jobs = max(jobs, 1)
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.executed = 0

    def finding(self, kind: str, seconds: float, executed: bool) -> None:
        """One finding was made in so many seconds; what is unsupported takes none."""
        self.left[kind] -= 1
        self.taken[kind].append(seconds)
        self.executed += executed

    def seconds(self) -> float | None:
        """The seconds that are left, or None as long as too little is known.

        >>> estimate = Estimate(["quick"] * 6 + ["slow"] * 6, jobs=2)
        >>> for _ in range(3):
        ...     estimate.finding("quick", 1.0, True)
        ...     estimate.finding("slow", 9.0, True)
        >>> estimate.seconds()
        15.0
        """
        if self.executed < LEAST:
            return None
        every = [seconds for taken in self.taken.values() for seconds in taken]
        usual = sum(every) / len(every)
        total = 0.0
        for kind, left in self.left.items():
            taken = self.taken.get(kind)
            total += max(left, 0) * (sum(taken) / len(taken) if taken else usual)
        return total / min(self.jobs, max(sum(self.left.values()), 1))


def spoken(seconds: float) -> str:
    """An estimate in words, no finer than it is true.

    >>> spoken(3.2), spoken(44), spoken(130), spoken(4000)
    ('a few seconds left', 'about 40 s left', 'about 2 min left', 'about 1 h 7 min left')
    """
    if seconds < 7.5:
        return "a few seconds left"
    if seconds < 55:
        return f"about {round(seconds, -1):.0f} s left"
    minutes = max(round(seconds / 60), 1)
    hours, rest = divmod(minutes, 60)
    return f"about {minutes} min left" if not hours else f"about {hours} h {rest} min left"


__all__ = ["Estimate", "spoken"]
