"""Diagnoses of a run's failures, put where people read: results, messages and the cases' scripts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.bench import Truths
from conformance.counterexample import comment
from conformance.diagnosis.diagnose import Diagnosis, Failure, diagnose
from conformance.targets import Target
from conformance.whole import write_whole

MOST = 16
"""How many failures of one target are diagnosed; the others of a kind share the diagnosis of the first."""


@dataclass(frozen=True)
class Failed:
    """A finding that failed by a wrong number, as it stands in the results."""

    finding: dict[str, Any]
    failure: Failure


def attach(target: Target, failed: Sequence[Failed], report_dir: Path) -> None:
    """Diagnose failures of one target, each kind once, and write down what was found."""
    known: dict[tuple[object, ...], Diagnosis | None] = {}
    truths = Truths()
    for one in failed:
        kind = _kind(one)
        if kind not in known:
            if len(known) >= MOST:
                continue
            named = [m.hypothesis.id for found in known.values() if found is not None for m in found.matches]
            known[kind] = _safely(target, one.failure, truths, tuple(dict.fromkeys(named)))
        found = known[kind]
        if found is not None:
            _write(one.finding, found, report_dir)


def _kind(one: Failed) -> tuple[object, ...]:
    """What failures have in common that are diagnosed as one: the configuration and the array that is most wrong."""
    p, comparison = one.failure.smallest, one.finding["counterexample"]["comparison"]
    return (p.cell, p.activation, p.loss.kind, p.truncation.kind, comparison and comparison["array"])


def _safely(target: Target, failure: Failure, truths: Truths, first: tuple[str, ...]) -> Diagnosis | None:
    """No diagnosis rather than no report."""
    try:
        return diagnose(target, failure, truths, first)
    except Exception:
        if os.environ.get("BPTTCHECK_TRACEBACK"):
            raise
        return None


def _write(finding: dict[str, Any], found: Diagnosis, report_dir: Path) -> None:
    counterexample = finding["counterexample"]
    counterexample["diagnosis"] = found.json()
    first, *rest = finding["message"].split("\n")
    finding["message"] = "\n".join([first, f"  diagnosis: {found.sentence}", *rest])
    path = report_dir / counterexample["script"]
    text, said = path.read_text(encoding="utf-8"), f"\n\ndiagnosis: {comment(found.sentence)}\n\nRun it:"
    if said not in text:  # an interrupted run may have come so far
        write_whole({path: text.replace("\n\nRun it:", said, 1).encode("utf-8")})
