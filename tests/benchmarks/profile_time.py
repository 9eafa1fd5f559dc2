"""Where certify's time goes: by property, and by part of the work.

    python -m tests.benchmarks.profile_time numpy --profile smoke
    python -m tests.benchmarks.profile_time --report reports

The second one runs nothing: it adds up, by property, the seconds of the wall that the findings of a report took, in as
many processes as that run had. The first:

One process does all of it (`--jobs 1`). A part is a few functions that do it, each wrapped in a clock; times are
exclusive: while one part calls another, only the other's clock runs. What no part covers is the rest: Hypothesis, the
properties' own arithmetic, results and files. Seconds are the processor's, for this process, so that a busy machine
stretches none of them; those of the wall are said once. The target computes in a process of its own: `target` is what
asking it costs in this one.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bptt
import conformance
import oracle
import properties
from conformance import bench
from conformance.certify import Plan, Planned, run, select
from conformance.engine import PROFILES
from conformance.workers import Remote
from implementations.worker import read_answer
from oracle import pairs, solution
from oracle.budget import budget
from oracle.solution import Solution
from properties import PROPERTIES, compare
from properties.recipe import Recipe
from tests.deep.agreement import write

FUNCTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "exact solution": (solution.solve, pairs.solve_in_pairs),
    "budget": (budget,),
    "comparison": (
        compare.against_truth,
        compare.of_sums,
        compare.of_terms,
        compare.exactly,
        compare.exact_combination,
        compare.exact_sum,
        compare.exact_terms,
    ),
    "reading answers": (read_answer,),
    "naming problems": (bench.digest,),
}
METHODS: dict[str, tuple[tuple[type, str], ...]] = {
    "drawing": (
        (Recipe, "do_draw"),
        *((type(prop), "fixed") for prop in PROPERTIES.values() if "fixed" in vars(type(prop))),
    ),
    "exact solution": ((Solution, "near"),),
    "target": ((Remote, "ask"),),
}
PARTS = ("drawing", "exact solution", "budget", "target", "comparison", *list(FUNCTIONS)[3:])
REST = "rest"
OURS = tuple(package.__name__ for package in (bptt, conformance, oracle, properties))


class Clock:
    """Seconds and calls by part; the part that was entered last is the one that runs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.running = [REST]
        self.since = time.process_time()

    def note(self) -> None:
        """Give the time since the last note to the part that runs."""
        now = time.process_time()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as a part of the work."""

        @functools.wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            self.note()
            self.running.append(part)
            self.calls[part] += 1
            try:
                return function(*arguments, **named)
            finally:
                self.note()
                self.running.pop()

        return wrapper


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Within, every function and method of the tables above is timed, under whatever name a module knows it."""
    undo: list[tuple[Any, str, Any]] = []

    def replace(place: Any, name: str, part: str) -> None:
        undo.append((place, name, vars(place)[name]))
        setattr(place, name, clock.timed(part, vars(place)[name]))

    try:
        for part, functions in FUNCTIONS.items():
            for function in functions:
                for module in [m for name, m in sys.modules.items() if name.partition(".")[0] in OURS]:
                    for name in [n for n, value in vars(module).items() if value is function]:
                        replace(module, name, part)
        for part, methods in METHODS.items():
            for owner, name in methods:
                replace(owner, name, part)
        yield
    finally:
        for place, name, value in reversed(undo):
            setattr(place, name, value)


class ByProperty:
    """In place of a display: the seconds and examples of each property, whose findings come one after another."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.examples: Counter[str] = Counter()
        self.since = 0.0

    def begin(self, planned: Sequence[Planned], done: int, jobs: int) -> None:
        """The findings that are to be made."""
        del planned, done, jobs
        self.since = time.process_time()

    def finding(self, target: str, finding: Mapping[str, Any]) -> None:
        """One more is, and took what has passed since the one before it."""
        del target
        now = time.process_time()
        self.seconds[finding["property"]] += now - self.since
        self.examples[finding["property"]] += finding["examples"]
        self.since = now

    def end(self) -> None:
        """All are."""


def of_report(folder: Path) -> Iterator[str]:
    """The first table, of a report's findings."""
    results, found = json.loads((folder / "results.json").read_text()), ByProperty()
    for target in results["targets"]:
        yield f"{target['name']}, {results['profile']}: {target['verdict']}"
        for finding in target["findings"]:
            found.seconds[finding["property"]] += finding["seconds"]
            found.examples[finding["property"]] += finding["examples"]
    yield f"{results['seconds']:.0f} s of the wall, {sum(found.seconds.values()):.0f} s in all processes"
    yield ""
    yield from by_property(found)


def rows(found: ByProperty, clock: Clock) -> Iterator[str]:
    """The two tables."""
    yield from by_property(found)
    yield ""
    whole = sum(clock.seconds.values())
    yield "| part of the work | calls | seconds | share | ms a call |"
    yield "|---|---:|---:|---:|---:|"
    for part in PARTS:
        yield row(part, clock.calls[part], clock.seconds[part], whole)
    yield f"| {REST} | | {clock.seconds[REST]:.1f} | {clock.seconds[REST] / whole:.0%} | |"
    yield f"| all | | {whole:.1f} | 100% | |"


def by_property(found: ByProperty) -> Iterator[str]:
    """The first table."""
    total = sum(found.seconds.values())
    yield "| property | examples | seconds | share | ms an example |"
    yield "|---|---:|---:|---:|---:|"
    for name, seconds in sorted(found.seconds.items(), key=lambda item: -item[1]):
        yield row(f"`{name}`", found.examples[name], seconds, total)
    yield row("all", found.examples.total(), total, total)


def row(name: str, count: int, seconds: float, total: float) -> str:
    """A line of either table."""
    each = f"{1e3 * seconds / count:.2f}" if count else ""
    return f"| {name} | {count} | {seconds:.1f} | {seconds / total:.0%} | {each} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run certify and print the tables."""
    parser = argparse.ArgumentParser(description="Where certify's time goes.")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--report", type=Path, metavar="DIR", help="of a run that is over")
    parser.add_argument("--profile", choices=list(PROFILES), default="smoke")
    parser.add_argument("--select", metavar="ID,...")
    given = parser.parse_args(arguments)
    if (given.report is None) == (not given.targets):
        parser.error("expected either targets or --report")
    if given.report is not None:
        for line in of_report(given.report):
            write(line)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(tuple(given.targets), select(given.select), PROFILES[given.profile], 0, Path(folder), ())
        start, clock, found = time.perf_counter(), Clock(), ByProperty()
        with clocked(clock):
            results = run(plan, found)
            clock.note()
    for target in results["targets"]:
        write(f"{target['name']}, {given.profile}: {target['verdict']}")
    write(f"{sum(clock.seconds.values()):.1f} s of the processor, {time.perf_counter() - start:.1f} s of the wall")
    write("")
    for line in rows(found, clock):
        write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
