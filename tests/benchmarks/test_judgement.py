"""One judgement by `oracle-agreement`: draw a problem, solve it, bound it, run the target, compare.

Every round draws another problem, as the property does but with uniform integers in place of Hypothesis's: the
quartiles are those of the problems, not of the clock.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from conformance.bench import TargetBench
from conformance.engine import Outcome, judge
from properties.base import Case
from properties.oracle_agreement import PROPERTY
from properties.recipe import Draw
from properties.strategies import draw_problem, offered
from tests.loading import in_process

ROUNDS = 60
DTYPE = "float64"


class Uniform:
    """A choice sequence of uniform integers."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def draw_integer(self, low: int, high: int, *, shrink_towards: int) -> int:
        """As Hypothesis's choice sequence has it; nothing is shrunk here."""
        del shrink_towards
        return int(self._rng.integers(low, high, endpoint=True))


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_judgement_of_numpy(benchmark: Any, cell: str) -> None:
    benchmark.group = f"one judgement, target numpy, {DTYPE}"
    benchmark.extra_info["subject"] = cell
    bench = TargetBench(in_process("numpy"), DTYPE)
    shape = offered(bench.support, cell)
    seeds = itertools.count()
    outcomes: list[Outcome] = []

    def judgement() -> None:
        problem = draw_problem(Draw(Uniform(next(seeds))), shape, bench.support, cell, DTYPE)
        outcomes.append(judge(PROPERTY, Case(problem), bench))

    benchmark.pedantic(judgement, rounds=ROUNDS, warmup_rounds=1)
    assert {outcome.verdict for outcome in outcomes} <= {"pass", "inconclusive"}
