"""A hypothesis: a known mistake, in words and as arrays: what an implementation that makes it would have returned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bptt.problem import Problem, gradient_shapes
from conformance.diagnosis.tape import PLAIN, WIDE, Arrays, Tape, Twist
from oracle.truth import Truth


@dataclass
class Base:
    """What predictions are made from: a problem, its exact arrays, the plain tape, and what was asked before it."""

    problem: Problem
    truth: Truth
    earlier: Sequence[tuple[Problem, Arrays]] = ()
    _tapes: dict[str, Tape] = field(default_factory=dict)

    @cached_property
    def exact(self) -> Arrays:
        """The oracle's values in extended precision."""
        out = {}
        for key in gradient_shapes(self.problem):
            hi, lo, _ = self.truth.solution.near(key)
            out[key] = hi.astype(WIDE) + lo.astype(WIDE)
        return out

    @cached_property
    def tape(self) -> Tape:
        """The plain tape."""
        return Tape(self.problem, PLAIN)

    def run(self, **twist: Any) -> Tape:
        """A tape with a twist."""
        return Tape(self.problem, Twist(**twist))

    def with_problem(self, problem: Problem) -> Arrays:
        """Every array of another problem's solution."""
        return Tape(problem).results

    def noise(self, key: str) -> float:
        """What rounding may cost an array, as a norm: its budget; 0 where it has none."""
        allowed = self.truth.allowed(key)
        size = float(np.linalg.norm(allowed.reshape(-1)))
        return size if np.isfinite(size) else 0.0


Predict = Callable[[Base], Arrays | None]


@dataclass(frozen=True)
class Hypothesis:
    """A known mistake.

    id        stable, in words with dashes
    sentence  what was done wrong, without a full stop
    predict   the arrays that come out otherwise than they should; None where the mistake cannot be made
    local     each array is wrong by itself: the sentence is about the wrong arrays, whichever they are
    order     simpler mistakes have lower numbers, and come first where several explain as much
    hint      what to change in an adapter, where it is a convention
    late      whether it is tried only where no other explains everything: one of many, or rare
    rough     by how many units in the last place its own rounding errors exceed those of a right implementation
    """

    id: str
    sentence: str
    predict: Predict
    local: bool = False
    order: int = 50
    hint: str = ""
    rough: float = 0.0
    late: bool = False


Propose = Callable[[Problem], Iterable[Hypothesis]]
"""The hypotheses of a family that make sense for problems of this configuration."""
