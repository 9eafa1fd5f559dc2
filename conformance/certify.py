"""The run: for each target, each property, cell and dtype that it offers is searched, and a verdict is drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bptt.cells import CELLS
from bptt.problem import DTYPES
from conformance.again import reproducible
from conformance.bench import Executed, TargetBench, Truths
from conformance.engine import Finding, Profile, Search
from conformance.errors import TargetUnavailable, UsageError
from conformance.results import (
    SCHEMA_VERSION,
    certified_json,
    environment,
    finding_json,
    suite_version,
    write_results,
)
from conformance.targets import Target, resolve
from oracle import canary
from properties import PROPERTIES
from properties.base import Property


class Progress(Protocol):
    """What a display of the run is told."""

    def begin(self, findings: int) -> None: ...
    def finding(self, target: str, finding: Finding) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class Plan:
    """One run: who is judged, by what, and how much."""

    targets: tuple[str, ...]
    properties: tuple[Property, ...]
    profile: Profile
    seed: int
    report_dir: Path
    command: tuple[str, ...]


def select(ids: str | None) -> tuple[Property, ...]:
    """The properties named in a comma-separated list, or all. Raises: UsageError with the ids that exist."""
    if ids is None:
        return tuple(PROPERTIES.values())
    chosen = []
    for name in filter(None, (part.strip() for part in ids.split(","))):
        if name not in PROPERTIES:
            raise UsageError(f"--select: property {name!r} is not known; expected some of {', '.join(PROPERTIES)}")
        chosen.append(PROPERTIES[name])
    if not chosen:
        raise UsageError(f"--select: nothing selected; expected some of {', '.join(PROPERTIES)}")
    return tuple(dict.fromkeys(chosen))


def run(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Judge every target, write results.json, and return what it holds.

    Raises: UsageError before anything is run, if a target or option is wrong.
    """
    canary.check("before the run")
    started, clock = datetime.now(UTC), time.perf_counter()
    loaded: list[tuple[str, Target | None, str]] = []
    for text in dict.fromkeys(plan.targets):
        try:
            loaded.append((text, resolve(text), ""))
        except TargetUnavailable as error:
            loaded.append((text, None, str(error)))
    judged = judge_targets([target for _, target, _ in loaded if target is not None], plan, progress)
    targets = [_unavailable(text, reason) if target is None else judged[text] for text, target, reason in loaded]
    results = {
        "schema_version": SCHEMA_VERSION,
        "suite_version": suite_version(),
        "seed": plan.seed,
        "profile": plan.profile.name,
        "command": list(plan.command),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "environment": environment(),
        "properties": {p.id: p.statement for p in plan.properties},
        "targets": targets,
    }
    write_results(results, plan.report_dir)
    return results


def _unavailable(text: str, reason: str) -> dict[str, Any]:
    return {
        "name": text,
        "kind": "built-in",
        "verdict": "no verdict",
        "reason": reason,
        "source": {"file": None, "sha256": None},
        "certified": certified_json([], []),
        "notes": [],
        "findings": [],
    }


@dataclass
class Record:
    """What has been found of one target so far."""

    target: Target
    findings: list[Finding] = field(default_factory=list)
    executed: list[Executed] = field(default_factory=list)
    rendered: list[dict[str, Any]] = field(default_factory=list)


def judge_targets(targets: Sequence[Target], plan: Plan, progress: Progress) -> dict[str, dict[str, Any]]:
    """All findings of all targets, by name; targets that are asked the same problems share the truth about them."""
    records = {target.name: Record(target) for target in targets}
    work = [
        (prop, cell, dtype) for cell in CELLS for dtype in DTYPES for prop in plan.properties if prop.concerns(cell)
    ]
    wanted = [(item, t) for item in work for t in targets if item[1] in t.support.cells and item[2] in t.support.dtypes]
    progress.begin(len(wanted))
    for prop, cell, dtype in work:
        truths = Truths()
        for (p, c, d), target in wanted:
            if (p, c, d) == (prop, cell, dtype):
                bench = TargetBench(target, dtype, truths)
                finding = _search(Search(prop, bench, cell, dtype, plan.profile, plan.seed), target, truths)
                record = records[target.name]
                record.findings.append(finding)
                record.executed.append(bench.executed)
                record.rendered.append(finding_json(finding, target, plan.report_dir))
                progress.finding(target.name, finding)
    progress.end()
    return {name: _conclusion(record) for name, record in records.items()}


def _search(search: Search, target: Target, truths: Truths) -> Finding:
    """Run a search, and see whether the failure that it found shows again."""
    finding = search.run()
    if finding.smallest is not None and finding.smallest.failed:
        earlier = [outcome.case.problem for outcome in search.outcomes.values()]
        finding.smallest = reproducible(finding.property, finding.smallest, target, earlier, truths)
    return finding


def _conclusion(record: Record) -> dict[str, Any]:
    target = record.target
    certified = certified_json(record.executed, record.findings)
    verdict, reason = conclude(record.findings, certified["keys"])
    return {
        "name": target.name,
        "kind": target.kind,
        "verdict": verdict,
        "reason": reason,
        "source": {"file": target.file, "sha256": target.sha256},
        "certified": certified,
        "notes": _notes(record.executed, certified),
        "findings": record.rendered,
    }


FAULTS = ("fail", "crash", "timeout")


def conclude(findings: Sequence[Finding], keys: Sequence[str]) -> tuple[str, str | None]:
    """(verdict, reason): a fault means not conformant; nothing executed, or anything open, means no verdict."""
    verdicts = [finding.verdict for finding in findings]
    if any(verdict in FAULTS for verdict in verdicts):
        return "not conformant", None
    for verdict in ("error", "inconclusive"):
        if verdict in verdicts:
            return "no verdict", f"{verdicts.count(verdict)} of {len(verdicts)} findings are {verdict}"
    if "pass" not in verdicts:
        return "no verdict", "nothing was executed: the target supports none of what was asked"
    if not any(key.startswith("d") for key in keys):
        return "no verdict", "the target claimed no gradient"
    return "certified", None


def _notes(executed: Sequence[Executed], certified: dict[str, Any]) -> list[str]:
    notes = []
    if certified["unclaimed"]:
        notes.append(f"not claimed, and so not certified, in some configuration: {', '.join(certified['unclaimed'])}")
    extra = sorted(set().union(*(one.extra for one in executed))) if executed else []
    if extra:
        notes.append(f"keys that mean nothing here were ignored: {', '.join(extra[:20])}")
    declined = sorted(set().union(*(one.declined for one in executed))) if executed else []
    notes += [f"declined as unsupported: {reason}" for reason in declined[:20]]
    return notes


def exit_status(results: dict[str, Any]) -> int:
    """1 not conformant, else 3 no verdict, else 0."""
    verdicts = [target["verdict"] for target in results["targets"]]
    if "not conformant" in verdicts:
        return 1
    return 0 if verdicts and all(verdict == "certified" for verdict in verdicts) else 3


__all__ = ["Plan", "Progress", "conclude", "exit_status", "judge_targets", "run", "select"]
