"""The display of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from conformance.render import visible


class PlainProgress:
    """One line a finding, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.done = self.total = 0

    def begin(self, findings: int) -> None:
        """So many findings are to be made."""
        self.done, self.total = 0, findings

    def finding(self, target: str, finding: Mapping[str, Any]) -> None:
        """One line."""
        self.done += 1
        f = finding
        what = f"{visible(target)} · {f['property']} · {f['cell']} · {f['dtype']}"
        counts = f"{f['examples']} examples, {f['conclusive']} conclusive, {f['seconds']:.1f} s"
        if f["verdict"] == "unsupported":
            counts = visible(f["message"])[:100]
        self._line(f"[{self.done}/{self.total}] {f['verdict']:12} {what}: {counts}")

    def end(self) -> None:
        """Nothing more to say: the summary follows."""

    def _line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class LiveProgress:
    """One bar for the whole run."""

    def __init__(self, stream: TextIO) -> None:
        console = Console(file=stream, no_color=bool(os.environ.get("NO_COLOR")))
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[at]}", markup=False),
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None

    def begin(self, findings: int) -> None:
        """Show the bar."""
        self.task = self.bars.add_task("certify", total=findings, at="")
        self.bars.start()

    def finding(self, target: str, finding: Mapping[str, Any]) -> None:
        """Move it on."""
        assert self.task is not None
        at = f"{visible(target)[-20:]} {finding['property']} {finding['cell']}"
        self.bars.update(self.task, advance=1, at=at[:40])

    def end(self) -> None:
        """Take it away."""
        self.bars.stop()


def progress_for(stream: TextIO | None = None) -> PlainProgress | LiveProgress:
    """The display that suits a stream (default: standard error)."""
    stream = sys.stderr if stream is None else stream
    live = stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    return LiveProgress(stream) if live else PlainProgress(stream)
