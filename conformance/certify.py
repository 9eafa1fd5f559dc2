"""The run: for each target, each property, cell and dtype that it offers is searched, and a verdict is drawn."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bptt.cells import CELLS
from bptt.problem import DTYPES
from conformance.belongings import files_of
from conformance.bench import Executed
from conformance.diagnosis.attach import Failed, attach
from conformance.engine import Profile
from conformance.errors import TargetUnavailable, UsageError
from conformance.items import Item, Judged, judge_items, offers
from conformance.results import (
    SCHEMA_VERSION,
    certified_json,
    environment,
    suite_version,
    write_results,
)
from conformance.targets import DEFAULT, Setting, Target, forget, known
from oracle import canary
from properties import PROPERTIES
from properties.base import Property


class Progress(Protocol):
    """What a display of the run is told."""

    def begin(self, findings: int) -> None: ...
    def finding(self, target: str, finding: Mapping[str, Any]) -> None: ...
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
    jobs: int = 1
    cases: Path | None = None
    setting: Setting = DEFAULT


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
            loaded.append((text, known(text, plan.setting), ""))
        except TargetUnavailable as error:
            loaded.append((text, None, str(error)))
    try:
        judged = judge_targets([target for _, target, _ in loaded if target is not None], plan, progress)
    finally:
        forget()
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
        "files": files_of(targets, plan.report_dir),
    }
    write_results(results, plan.report_dir)
    return results


def _unavailable(text: str, reason: str) -> dict[str, Any]:
    return {
        "name": text,
        "kind": "built-in",
        "verdict": "no verdict",
        "reason": reason,
        "source": {"file": None, "sha256": None, "compiled": {}},
        "certified": certified_json([], []),
        "notes": [],
        "findings": [],
    }


def judge_targets(targets: Sequence[Target], plan: Plan, progress: Progress) -> dict[str, dict[str, Any]]:
    """All findings of all targets, by name, and what each target is certified to do."""
    names = tuple(target.name for target in targets)
    items = [
        Item(prop.id, cell, dtype, names, plan.profile, plan.seed, plan.report_dir, plan.cases, plan.setting)
        for cell in CELLS
        for dtype in DTYPES
        for prop in plan.properties
        if prop.concerns(cell) and any(offers(target, cell, dtype) for target in targets)
    ]
    progress.begin(sum(offers(target, item.cell, item.dtype) for item in items for target in targets))
    judged: dict[str, list[Judged]] = {name: [] for name in names}
    with contextlib.closing(judge_items(items, plan.jobs)) as found:
        for one in found:
            judged[one.target].append(one)
            progress.finding(one.target, one.finding)
    progress.end()
    for target in targets:
        failed = [Failed(one.finding, one.failure) for one in judged[target.name] if one.failure is not None]
        attach(target, failed, plan.report_dir)
    return {target.name: _conclusion(target, judged[target.name], plan.setting) for target in targets}


def _conclusion(target: Target, judged: Sequence[Judged], setting: Setting) -> dict[str, Any]:
    executed = [one.executed for one in judged]
    findings = [one.finding for one in judged]
    certified = certified_json(executed, findings)
    surprises = _meet(target, findings)
    counted = [finding["verdict"] for finding in findings if not finding["expected"]]
    verdict, reason = conclude(counted, certified["keys"])
    if verdict != "not conformant" and surprises:
        verdict, reason = "no verdict", "; ".join(surprises)
    if verdict == "certified" and setting.in_process:
        verdict, reason = "no verdict", "judged in the suite's own process: --in-process never certifies"
    return {
        "name": target.name,
        "kind": target.kind,
        "verdict": verdict,
        "reason": reason,
        "source": {
            "file": target.file,
            "sha256": target.sha256,
            "compiled": dict(sorted(file for one in judged for file in one.compiled.items())),
        },
        "certified": certified,
        "notes": _notes(executed, certified) + [f"fails as expected: {one}" for one in target.expected],
        "findings": findings,
    }


def _meet(target: Target, findings: Sequence[dict[str, Any]]) -> list[str]:
    """Mark the failures that are expected, and say which expectations were not met."""
    unmet = []
    for finding in findings:
        finding["expected"] = None
    for expected in target.expected:
        mine = [finding for finding in findings if expected.covers(finding)]
        failed = [finding for finding in mine if finding["verdict"] in FAULTS]
        for finding in failed:
            finding["expected"] = str(expected)
        if not mine:
            unmet.append(f"expected-failures: no finding is of {expected.property}")
        elif not failed:
            unmet.append(f"expected-failures: {expected.property} did not fail; remove it ({expected.reason})")
    return unmet


FAULTS = ("fail", "crash", "timeout")


def conclude(verdicts: Sequence[str], keys: Sequence[str]) -> tuple[str, str | None]:
    """(verdict, reason): a fault means not conformant; nothing executed, or anything open, means no verdict."""
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
