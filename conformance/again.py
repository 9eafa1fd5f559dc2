"""Whether a failure shows again: the target is loaded afresh and asked the case alone, or behind one other problem.

A target that keeps something between calls may fail only after it was asked something else. Then that problem becomes
the case's companion, which a replay asks first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from bptt.problem import Problem
from conformance.bench import TargetBench, Truths
from conformance.engine import Outcome, judge
from conformance.errors import ContractBroken, Declined, TargetCrash, TargetUnavailable, UsageError
from conformance.targets import Target, afresh
from properties.base import Case, Property

CALLS = 12
"""How often the target is asked: one that keeps state between calls may answer rightly for a while."""
COMPANIONS = 20
"""How many of the problems asked before a failure are tried in front of it."""


def ask_again(
    prop: Property, case: Case, target: Target, companion: Problem | None = None, truths: Truths | None = None
) -> Outcome:
    """The first failure of up to CALLS judgements of a case, the companion asked before each; else the last outcome."""
    for _ in range(CALLS):
        bench = TargetBench(target, case.problem.dtype, truths)
        if companion is not None:
            with contextlib.suppress(Declined, ContractBroken, TargetCrash):
                bench.run(companion)
        outcome = judge(prop, case, bench)
        if outcome.failed:
            break
    return outcome


def reproducible(
    prop: Property, outcome: Outcome, target: Target, earlier: Sequence[Problem], truths: Truths
) -> Outcome:
    """The outcome, with the companion that it takes to see it again, if one of the earlier problems is it.

    Earlier problems of the same sizes come first, in the order in which they were asked.
    """
    try:
        if ask_again(prop, outcome.case, afresh(target), outcome.companion, truths).failed:
            return outcome
        mine = outcome.case.problem
        alike = [p for p in earlier if p.x.shape == mine.x.shape and p.H == mine.H]
        for companion in (alike + [p for p in reversed(earlier) if p not in alike])[:COMPANIONS]:
            if ask_again(prop, outcome.case, afresh(target), companion, truths).failed:
                return replace(outcome, companion=companion)
    except (UsageError, TargetUnavailable):  # it no longer loads: what was seen stands
        return outcome
    return replace(outcome, repeats=False)
