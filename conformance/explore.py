"""The open-ended search: round after round with new seeds, towards a large error ÷ budget; finds become cases.

Kept are, for each property, cell and dtype, the shrunk case of the first failure, after which that item rests, and for
each property the case with the largest error ÷ budget. `certify --cases DIR` judges them from then on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bptt.cells import CELLS
from bptt.problem import DTYPES
from conformance.bench import TargetBench, Truths
from conformance.counterexample import write_case
from conformance.engine import Finding, Outcome, Profile, Search
from conformance.items import offers, run_search
from conformance.messages import comparison_line, failure_message, replay_command
from conformance.targets import Target, afresh
from properties.base import Property

ROUND = Profile("explore", 100, 600)
"""Examples a round, and cases that a shrink may judge."""

Item = tuple[Property, str, str]
Say = Callable[[str], None]


@dataclass
class Explored:
    """What has been found so far. `worst` is the file and the ratio of the largest error ÷ budget, by property."""

    rounds: int = 0
    examples: int = 0
    failures: list[Path] = field(default_factory=list)
    worst: dict[str, tuple[Path, float]] = field(default_factory=dict)


def explore(
    target: Target, properties: Sequence[Property], folder: Path, seed: int, seconds: float | None, say: Say
) -> Explored:
    """Search until the time is over, nothing is left to search, or the user stops it (KeyboardInterrupt)."""
    found = Explored()
    until = time.monotonic() + seconds if seconds is not None else float("inf")
    items: list[Item] = [
        (prop, cell, dtype)
        for cell in CELLS
        for dtype in DTYPES
        for prop in properties
        if offers(target, cell, dtype) and prop.concerns(cell)
    ]
    try:
        for turn in itertools.count():
            for item in list(items):
                if time.monotonic() >= until:
                    return found
                finding = _round(target, item, seed + turn, until)
                if finding.verdict == "unsupported" or _keep(found, finding, target, folder, say):
                    items.remove(item)
            if not items:
                return found
    except KeyboardInterrupt:
        say("stopped")
    return found


def _round(target: Target, item: Item, seed: int, until: float) -> Finding:
    prop, cell, dtype = item
    truths = Truths()
    bench = TargetBench(afresh(target), dtype, truths)
    return run_search(Search(prop, bench, cell, dtype, ROUND, seed, until=until), target, truths)


def _keep(found: Explored, finding: Finding, target: Target, folder: Path, say: Say) -> bool:
    """Write down what a round found; whether it was a failure."""
    found.rounds += 1
    found.examples += finding.examples
    assert finding.bench is not None
    if finding.verdict == "error":
        say(f"error: {finding.property.id} · {finding.cell} · {finding.dtype}: {finding.message}")
    smallest = finding.smallest
    if smallest is not None and smallest.failed:
        path = write_case(folder, finding, smallest, finding.bench.model)
        found.failures.append(path)
        say(failure_message(finding, smallest, target.name, replay_command(str(path), target.name)))
        return True
    if finding.worst is not None:
        _keep_worst(found, finding, finding.worst, folder, say)
    return False


def _keep_worst(found: Explored, finding: Finding, worst: Outcome, folder: Path, say: Say) -> None:
    """Keep the case with the largest ratio of its property, in place of the one kept before."""
    comparison, best = worst.worst, found.worst.get(finding.property.id)
    if comparison is None or comparison.note or (best is not None and not comparison.ratio > best[1]):
        return  # a norm is meant to be near its bound
    assert finding.bench is not None
    path = write_case(folder, finding, worst, finding.bench.model)
    found.worst[finding.property.id] = (path, comparison.ratio)
    if best is not None and best[0] != path:
        best[0].unlink(missing_ok=True)
    line = comparison_line(comparison, finding.dtype)
    say(f"{comparison.ratio:.3g} of the budget · {finding.property.id} · {finding.cell} · {finding.dtype}: {line}")


__all__ = ["Explored", "explore"]
