"""The run: for each target, each property, cell and dtype that it offers is searched, and a verdict is drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bptt.cells import CELLS
from bptt.problem import DTYPES
from conformance import journal
from conformance.belongings import files_of
from conformance.conclusion import conclusion
from conformance.diagnosis.attach import Failed, attach
from conformance.engine import Profile
from conformance.errors import TargetUnavailable, UsageError
from conformance.items import AGREEMENT, Item, Judged, judge_items, offers
from conformance.render.terminal import many
from conformance.results import (
    SCHEMA_VERSION,
    certified_json,
    environment,
    suite_version,
    write_results,
)
from conformance.stopping import STOP
from conformance.targets import DEFAULT, Setting, Target, forget, known
from conformance.workers import Remote
from oracle import canary
from properties import PROPERTIES
from properties.base import Property

Planned = tuple[str, str, str, str]
"""A finding to be made: target, property, cell, dtype."""


class Progress(Protocol):
    """What a display of the run is told."""

    def begin(self, planned: Sequence[Planned], done: int, jobs: int) -> None: ...
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
    resume: bool = False


class Interrupted(KeyboardInterrupt):
    """A run was stopped; `results` is what it had found, which is written, and `--resume` takes it up again."""

    def __init__(self, results: dict[str, Any]) -> None:
        super().__init__()
        self.results = results


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

    Raises: UsageError before anything is run, if a target or option is wrong; Interrupted, with what was found by then.
    """
    canary.check("before the run")
    loaded: list[tuple[str, Target | None, str]] = []
    try:
        for text in dict.fromkeys(plan.targets):
            try:
                loaded.append((text, known(text, plan.setting), ""))
            except TargetUnavailable as error:
                loaded.append((text, None, str(error)))
        kind = _kind(plan, loaded)
        notes = journal.resume(plan.report_dir, kind) if plan.resume else journal.begin(plan.report_dir, kind)
        sitting = Sitting(plan, [target for _, target, _ in loaded if target is not None], notes)
        stopped: KeyboardInterrupt | None = None
        try:
            try:
                sitting.judge(progress)
            except Exception:
                STOP.check()  # what a signal left behind is no fault of anyone's
                raise
        except KeyboardInterrupt as error:
            stopped = error
    finally:
        forget()
    judged = sitting.conclusions(stopped is not None)
    targets = [_unavailable(text, reason) if target is None else judged[text] for text, target, reason in loaded]
    results = {
        "schema_version": SCHEMA_VERSION,
        "suite_version": suite_version(),
        "seed": plan.seed,
        "profile": plan.profile.name,
        "command": list(plan.command),
        "started": notes.started,
        "seconds": round(notes.seconds, 3),
        "environment": environment(),
        "properties": {p.id: p.statement for p in plan.properties},
        "targets": targets,
        "files": files_of(targets, plan.report_dir),
    }
    if stopped is not None:
        results["incomplete"] = {"findings": sitting.done, "planned": len(sitting.planned)}
    write_results(results, plan.report_dir)
    if stopped is not None:
        raise Interrupted(results) from stopped
    notes.remove()
    return results


def _kind(plan: Plan, loaded: Sequence[tuple[str, Target | None, str]]) -> dict[str, str]:
    """What findings depend on, in words: two sittings that agree in all of it make one run."""
    where = environment()
    kind = {
        "bpttcheck": suite_version(),
        "Python": f"{where['implementation']} {where['python']} on {where['machine']}",
        **where["packages"],
        "the profile": plan.profile.name,
        "the seed": str(plan.seed),
        "the list of properties": ",".join(p.id for p in plan.properties),
        "the list of targets": ", ".join(text for text, _, _ in loaded),
        "--report-dir": str(plan.report_dir),
        "--in-process": str(plan.setting.in_process),
        "the digest of --cases": "none"
        if plan.cases is None
        else journal.digest_of(sorted(plan.cases.glob("*.safetensors"))),
    }
    for text, target, reason in loaded:
        kind[f"the sha256 of {text}"] = reason if target is None else str(target.sha256)
        if target is not None and isinstance(target.call, Remote):
            process = target.call.process
            kind[f"the way to run {text}"] = f"{' '.join(process.command)} within {process.limits}"
    return kind


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


class Sitting:
    """All findings of all targets, those of earlier sittings included: `judge`, then `conclusions`.

    planned  the findings to be made
    found    what was found of each item, in no order
    """

    def __init__(self, plan: Plan, targets: Sequence[Target], notes: journal.Journal) -> None:
        self.plan, self.targets, self.notes = plan, targets, notes
        names = tuple(target.name for target in targets)
        told = AGREEMENT in {prop.id for prop in plan.properties}
        where = (plan.report_dir, plan.cases, plan.setting)
        self.items = [
            Item(prop.id, cell, dtype, names, plan.profile, plan.seed, *where, agreement=told)
            for cell in CELLS
            for dtype in DTYPES
            for prop in plan.properties
            if prop.concerns(cell) and any(offers(target, cell, dtype) for target in targets)
        ]
        self.planned = [
            (target.name, item.property, item.cell, item.dtype)
            for item in self.items
            for target in targets
            if offers(target, item.cell, item.dtype)
        ]
        self.found = {key: judged for key, judged in notes.found.items() if key in map(journal.key_of, self.items)}

    @property
    def done(self) -> int:
        """How many findings there are."""
        return sum(len(judged) for judged in self.found.values())

    def judge(self, progress: Progress) -> None:
        """Judge what no earlier sitting did, then diagnose the failures of all."""
        left = [item for item in self.items if journal.key_of(item) not in self.found]
        compiled = {
            name: digest for judged in self.found.values() for one in judged for name, digest in one.compiled.items()
        }
        progress.begin(self.planned, self.done, self.plan.jobs)
        try:
            with contextlib.closing(judge_items(left, self.plan.jobs)) as found:
                for item, judged in found:
                    STOP.check()  # what was found on the way out is not kept
                    if self.plan.resume:
                        for one in judged:
                            journal.agree(compiled, one.compiled)
                    self.notes.add(item, judged)
                    self.found[journal.key_of(item)] = judged
                    for one in judged:
                        progress.finding(one.target, one.finding)
        finally:
            progress.end()
        for target in self.targets:
            mine = self._of(target)
            attach(target, [Failed(one.finding, one.failure) for one in mine if one.failure], self.plan.report_dir)

    def _of(self, target: Target) -> list[Judged]:
        """A target's findings, in the order of the items."""
        keys = [journal.key_of(item) for item in self.items]
        return [one for key in keys for one in self.found.get(key, ()) if one.target == target.name]

    def conclusions(self, stopped: bool) -> dict[str, dict[str, Any]]:
        """What is said of each target, by name; where the run was stopped no verdict, unless something has failed."""
        concluded = {target.name: conclusion(target, self._of(target), self.plan.setting) for target in self.targets}
        if stopped:
            for target in concluded.values():
                if target["verdict"] != "not conformant":
                    target["verdict"] = "no verdict"
                planned = many(len(self.planned), "finding")
                target["reason"] = f"interrupted after {self.done} of {planned}; --resume goes on"
        return concluded


def exit_status(results: dict[str, Any]) -> int:
    """1 not conformant, else 3 no verdict, else 0."""
    verdicts = [target["verdict"] for target in results["targets"]]
    if "not conformant" in verdicts:
        return 1
    return 0 if verdicts and all(verdict == "certified" for verdict in verdicts) else 3


__all__ = ["Interrupted", "Plan", "Planned", "Progress", "Sitting", "exit_status", "run", "select"]
