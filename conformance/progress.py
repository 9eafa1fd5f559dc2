"""The display of a run: a live bar on a terminal; elsewhere, in a log, failures as they are found and a sign of life.

A log that nobody watches gets few lines: each failure at once, and about every half minute how far the run is.
--verbose gives it one line a finding, --quiet nothing at all.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from conformance.estimate import Estimate, spoken
from conformance.render.terminal import folded, many, visible

EVERY = 30.0
"""Seconds between signs of life in a log."""
FAULTS = ("fail", "crash", "timeout", "error")

Planned = Sequence[tuple[str, str, str, str]]
"""The findings to be made: target, property, cell, dtype."""


def finding_line(target: str, finding: Mapping[str, Any]) -> str:
    """What became of one finding, in a line."""
    f = finding
    what = f"{visible(target)} · {f['property']} · {f['cell']} · {f['dtype']}"
    counts = f"{many(f['examples'], 'example')}, {f['conclusive']} conclusive, {f['seconds']:.1f} s"
    if f["verdict"] == "unsupported":
        counts = visible(f["message"])[:100]
    return f"{f['verdict']:12} {what}: {counts}"


class Silent:
    """Nothing."""

    def begin(self, planned: Planned, done: int, jobs: int) -> None: ...
    def finding(self, target: str, finding: Mapping[str, Any]) -> None: ...
    def end(self) -> None: ...


class PlainProgress:
    """Lines, for logs: failures and signs of life; with `verbose` every finding."""

    def __init__(self, stream: TextIO, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.verbose, self.clock = stream, verbose, clock

    def begin(self, planned: Planned, done: int, jobs: int) -> None:
        """So many findings are to be made, and so many were by an earlier sitting."""
        self.done, self.total, self.failed = done, len(planned), 0
        self.estimate = Estimate([prop for _, prop, _, _ in planned], jobs)
        self.said = self.clock()
        if done:
            self._line(f"[{done}/{self.total}] taken over from the run that was interrupted")

    def finding(self, target: str, finding: Mapping[str, Any]) -> None:
        """A line if it is a failure, or if it is time for one."""
        self.done += 1
        failed = finding["verdict"] in FAULTS
        self.failed += failed
        self.estimate.finding(finding["property"], finding["seconds"], finding["verdict"] != "unsupported")
        if failed or self.verbose:
            self._line(f"[{self.done}/{self.total}] {finding_line(target, finding)}")
        elif self.clock() - self.said >= EVERY and self.done < self.total:
            left = self.estimate.seconds()
            rest = "" if left is None else f", {spoken(left)}"
            self._line(f"[{self.done}/{self.total}] {self.failed} failed{rest}")

    def end(self) -> None:
        """Nothing more to say: the summary follows."""

    def _line(self, text: str) -> None:
        self.said = self.clock()
        print(text, file=self.stream, flush=True)


class LiveProgress:
    """One bar for the whole run, in a line that fits 80 columns; with `verbose` every finding above it."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        console = Console(file=stream, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
        self.verbose = verbose
        self.bars = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}", markup=False, style="red"),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("{task.fields[at]}", markup=False, style="dim"),
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None

    def begin(self, planned: Planned, done: int, jobs: int) -> None:
        """Show the bar."""
        self.estimate = Estimate([prop for _, prop, _, _ in planned], jobs)
        self.failed = 0
        self.task = self.bars.add_task("", total=len(planned), completed=done, at="", left="", failed="")
        self.bars.start()

    def finding(self, target: str, finding: Mapping[str, Any]) -> None:
        """Move it on."""
        assert self.task is not None
        self.failed += finding["verdict"] in FAULTS
        self.estimate.finding(finding["property"], finding["seconds"], finding["verdict"] != "unsupported")
        left = self.estimate.seconds()
        self.bars.update(
            self.task,
            advance=1,
            failed=f"{self.failed} failed" if self.failed else "",
            left="" if left is None else spoken(left),
            at=finding["property"][:24],  # 79 columns in all
        )
        if self.verbose:
            for part in folded(finding_line(target, finding), self.bars.console.width):
                self.bars.console.print(part, markup=False, soft_wrap=True)

    def end(self) -> None:
        """Take it away."""
        self.bars.stop()


def progress_for(
    stream: TextIO | None = None, *, verbose: bool = False, quiet: bool = False
) -> Silent | PlainProgress | LiveProgress:
    """The display that suits a stream (default: standard error)."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        return Silent()
    live = stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    return LiveProgress(stream, verbose=verbose) if live else PlainProgress(stream, verbose=verbose)
