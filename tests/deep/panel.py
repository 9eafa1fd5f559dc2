"""One search, many targets: each case that a correct target is asked goes to others too, and all share its truths.

What costs is the truth about a problem. The correct target has the support of those beside it, so that its cases are
those that each of them would be asked as long as it passes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.bench import TargetBench
from conformance.engine import Finding, Outcome, Profile, Search
from properties.base import Case, Property


class Halt(BaseException):
    """Ends a search at once: Hypothesis takes an Exception for a failure, and asks again."""


class Panel(Search):
    """A search that hands each case on, once, in the order of the search; what it is handed to may raise Halt."""

    def __init__(
        self,
        prop: Property,
        correct: TargetBench,
        cell: str,
        dtype: str,
        profile: Profile,
        seed: int,
        ask: Callable[[Case], None],
    ) -> None:
        super().__init__(prop, correct, cell, dtype, profile, seed)
        self.ask = ask

    def run(self) -> Finding:
        """As a search. Raises: RuntimeError where the suite itself failed."""
        try:
            finding = super().run()
        except Halt as halt:
            if halt.__cause__ is not None:
                raise RuntimeError("a case could not be handed on") from halt.__cause__
            return self.finding
        if finding.verdict == "error":
            raise RuntimeError(finding.message)
        return finding

    def _outcome(self, case: Case) -> Outcome:
        known = self._name(case) in self.outcomes
        outcome = super()._outcome(case)
        if not known:
            try:
                self.ask(case)
            except Exception as error:
                raise Halt from error
        return outcome


def read_results(path: Path, given: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run with the same settings left. Raises: SystemExit where the settings were others."""
    if not path.is_file():
        return {**given, **empty}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    others = {name: found.get(name) for name, value in given.items() if found.get(name) != value}
    if others:
        raise SystemExit(f"{path}: made with {others}, want {given}; name another --out, or remove the file")
    return found


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Whole or not at all: a run may be stopped at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=0), encoding="utf-8")
    part.replace(path)
