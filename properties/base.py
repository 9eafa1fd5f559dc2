"""What a property is, what it is given to run a target with, and what it says of one case."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from bptt.problem import Problem
from bptt.support import Support
from oracle.truth import Truth

Answer = dict[str, NDArray[Any]]
"""What a target returned: the claimed keys only, each a real floating array of the right shape."""


LAYOUTS = (
    *("plain", "read-only", "Fortran-ordered", "strided", "reversed"),
    *("batch-first", "sliced", "broadcast", "updated in place"),
)
"""How the arrays that a target is given may lie in memory; a case's parameter `layout` is an index."""
FAULTS = ("an unknown cell", "an unknown loss", "a loss array one step too long", "no parameters")
"""What may be wrong with a malformed problem; a case's parameter `faults` says how many of them are tried."""


@dataclass(frozen=True)
class Case:
    """A problem and the few integers that say what is done with it; all that a replay needs.

    deep  of a fixed one: whether a quick look leaves it out
    """

    problem: Problem
    parameters: dict[str, int] = field(default_factory=dict)
    deep: bool = field(default=False, compare=False)


class Bench(Protocol):
    """What a check may use: the target, and the truth about a problem in the target's declared arithmetic."""

    support: Support

    def run(self, problem: Problem) -> Answer:
        """The target's answer. Raises what the engine understands: declined, broken contract, crash."""

    def run_together(self, problems: Sequence[Problem], layout: str) -> list[Answer]:
        """The answers to problems asked one after another, all results held on to, the inputs in a layout.

        Raises the same, and a broken contract where results share memory or a later call changes an earlier result.
        """

    def provoke(self, problem: Problem, fault: str) -> None:
        """Ask the target something malformed; whatever it answers or raises is no matter."""

    def truth(self, problem: Problem) -> Truth:
        """Exact solution and budget, remembered for problems met before."""


@dataclass(frozen=True)
class Term:
    """coefficient times entry `where` of array `key` in the answer to `problem`."""

    coefficient: float
    problem: Problem
    key: str
    where: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """One array compared: at its worst entry, sum of terms = `got`, which should be within `allowed` of `want`.

    ratio is error / allowed, 0 for 0/0, infinite for NaN. `conclusive` says whether the whole array's budget is small.
    """

    key: str
    where: tuple[int, ...]
    got: float
    want: float
    error: float
    allowed: float
    ratio: float
    conclusive: bool
    terms: tuple[Term, ...] = ()
    note: str = ""

    @property
    def holds(self) -> bool:
        """Written so that NaN fails."""
        return bool(self.error <= self.allowed)


@dataclass(frozen=True)
class Judgement:
    """All comparisons of one case; it fails if one of them does, and is conclusive if every gradient's is.

    notes are said of the finding and judge nothing.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return not all(comparison.holds for comparison in self.comparisons)

    @property
    def conclusive(self) -> bool:
        judged = [c for c in self.comparisons if c.key.startswith("d")] or list(self.comparisons)
        return bool(judged) and all(c.conclusive for c in judged)

    @property
    def worst(self) -> Comparison | None:
        """The comparison with the largest ratio; a failing one before any that holds."""
        return max(self.comparisons, key=lambda c: (not c.holds, c.ratio), default=None)


class Property(ABC):
    """One theorem. A new property is a file in this folder with a subclass and `PROPERTY = ItsClass()`.

    id         stable: reports and case files keep it
    statement  a sentence that can be false
    source     where the theorem comes from
    needs      what a target must offer, in words
    """

    id: ClassVar[str]
    statement: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[str] = ""

    def concerns(self, cell: str) -> bool:
        """Whether the theorem is about this cell at all."""
        return True

    def unsupported(self, support: Support, cell: str) -> str | None:
        """Why a target that offers `support` cannot be asked, or None if it can."""
        return None

    @abstractmethod
    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        """Where the problems come from; shrinks towards T = B = D = H = 1 and weights 0 and 1."""

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        """Cases that every certificate contains, whatever the seed."""
        return ()

    def asked_too(self, case: Case) -> Sequence[Problem]:
        """What else a case asks the target, where an answer may depend on what was asked before."""
        return ()

    @abstractmethod
    def check(self, case: Case, bench: Bench) -> Judgement:
        """Run the target and compare."""


def active_mask(problem: Problem, key: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which entries of an array are judged: h, c, o only up to each row's length, everything else wholly."""
    mask = np.ones(shape, dtype=np.bool_)
    if key in ("h", "c", "o"):
        mask &= (np.arange(problem.T)[:, None] < problem.row_lengths[None, :])[:, :, None]
    return mask
