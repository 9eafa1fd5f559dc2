"""The results file: what a run found, as plain JSON, written atomically; every report is rendered from it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import platform
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bptt.problem import Problem
from conformance.bench import Executed
from conformance.counterexample import write_case, write_script
from conformance.engine import Finding, Outcome
from conformance.errors import UsageError
from conformance.folders import obstacle
from conformance.messages import failure_message, replay_command
from conformance.render.terminal import bounded
from conformance.targets import Target
from conformance.whole import write_whole

SCHEMA_VERSION = 1
PACKAGES = (
    *("numpy", "mpmath", "python-flint", "hypothesis", "safetensors", "jinja2", "jsonschema", "psutil", "rich"),
    *("torch", "jax"),
)
SHOWN = 4000
"""Entries of a counterexample that are spelled out in the results; a larger problem is in its case file alone."""


def suite_version() -> str:
    """The installed version of bpttcheck, or `unknown` where it was never installed."""
    try:
        return importlib.metadata.version("bpttcheck")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def environment() -> dict[str, Any]:
    """Where the run took place, by an allow-list: no user, host, path or variable of the environment."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": processor(),
        "packages": packages,
    }


def processor() -> str | None:
    """The processor's model, where the system says it."""
    named = platform.processor()
    with contextlib.suppress(OSError):
        if platform.system() == "Linux":
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
            models = re.findall(r"(?m)^(?:model name|Processor|cpu model|cpu)[ \t]*:[ \t]*(.*\S)", text)
            named = models[0] if models else named
    return named or None


def plain(value: float | None) -> float | str | None:
    """A float as JSON has it; infinities and NaN as strings."""
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")


def finding_json(finding: Finding, target: Target, report_dir: Path) -> dict[str, Any]:
    """One finding; a failure's case and script are written into the report directory on the way."""
    worst = finding.worst.worst if finding.worst else None
    out: dict[str, Any] = {
        "property": finding.property.id,
        "cell": finding.cell,
        "dtype": finding.dtype,
        "verdict": finding.verdict,
        "examples": finding.examples,
        "conclusive": int(finding.conclusive),
        "invalid": finding.declined,
        "seconds": round(finding.seconds, 3),
        "worst": worst
        and {
            "error_over_budget": plain(worst.ratio),
            "array": worst.key,
            "where": list(worst.where),
            "bound": worst.note or None,
        },
        "message": "",
        "notes": [bounded(note) for note in finding.notes],
        "counterexample": None,
    }
    if finding.smallest is not None:
        out["counterexample"] = _counterexample(finding, finding.smallest, target, report_dir)
    out["message"] = bounded(finding.message)  # whatever it holds of the target's words
    return out


def _counterexample(finding: Finding, outcome: Outcome, target: Target, report_dir: Path) -> dict[str, Any]:
    assert finding.bench is not None
    model = finding.bench.model
    case = write_case(report_dir / "cases", finding, outcome, model)
    worst_case = None
    if finding.worst is not None and finding.worst.failed and finding.worst is not outcome:
        worst_case = write_case(report_dir / "cases", finding, finding.worst, model)
    replay = replay_command(str(case), target.name)
    finding.message = failure_message(finding, outcome, target.name, replay)
    script = case.with_suffix(".py")
    write_script(script, target, finding, outcome)
    comparison = outcome.worst
    return {
        "case": case.relative_to(report_dir).as_posix(),
        "worst_case": worst_case.relative_to(report_dir).as_posix() if worst_case else None,
        "script": script.relative_to(report_dir).as_posix(),
        "replay": replay,
        "diagnosis": None,
        "problem": problem_json(outcome.case.problem),
        "stderr": bounded(outcome.stderr),
        "comparison": comparison
        and {
            "array": comparison.key,
            "where": list(comparison.where),
            "got": float(comparison.got).hex(),
            "want": float(comparison.want).hex(),
            "error": f"{comparison.error:.3g}",
            "budget": f"{comparison.allowed:.3g}",
        },
    }


def problem_json(problem: Problem) -> dict[str, Any]:
    """A problem's names, sizes and, if it is small, its numbers."""

    def spell(array: np.ndarray[Any, Any]) -> Any:
        return [spell(part) for part in array] if array.ndim else plain(array.item())

    shown = sum(array.size for _, array in problem.arrays()) <= SHOWN
    return {
        "cell": problem.cell,
        "activation": problem.activation,
        "readout": problem.readout,
        "loss": problem.loss.kind,
        "truncation": str(problem.truncation),
        "dtype": problem.dtype,
        **{name: getattr(problem, name) for name in "TBDHK"},
        "arrays": {name: spell(array) for name, array in problem.arrays()} if shown else {},
    }


def certified_json(executed: Sequence[Executed], findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was really run: the certificate says no more than this."""
    names: dict[str, set[str]] = {}
    for one in executed:
        for key, values in one.names.items():
            names.setdefault(key, set()).update(values)
    examples = sum(f["examples"] for f in findings)
    worst = [f["worst"] for f in findings if f["worst"] is not None]
    ratios = [float(w["error_over_budget"]) for w in worst if w["bound"] is None]  # a norm is meant to near its bound
    fields = ("cells", "activations", "readouts", "losses", "reductions", "truncations", "dtypes")
    return {
        **{name: sorted(names.get(name, ())) for name in fields},
        "keys": sorted(set().union(*(one.keys for one in executed))) if executed else [],
        "unclaimed": sorted(set().union(*(one.unclaimed for one in executed))) if executed else [],
        "examples": examples,
        "conclusive_share": round(sum(f["conclusive"] for f in findings) / examples, 6) if examples else None,
        "worst_error_over_budget": plain(max(ratios, default=None, key=lambda ratio: (math.isnan(ratio), ratio))),
    }


FILES = ("results.json", "report.html", "report.md", "junit.xml", "badge.svg", "results.sarif")
"""What a report consists of, beside the folder of its cases."""


def prepare_directory(report_dir: Path, option: str = "--report-dir", such: str = "reports") -> None:
    """Make the directory of an option, or say in one line why it cannot be written. Raises: UsageError."""
    if report_dir == Path():
        raise UsageError(f"{option}: got nothing; expected the name of a directory, such as {such}")
    if (what := obstacle(report_dir)) is not None:
        raise UsageError(f"{option} {report_dir}: {what}; expected a directory, or a name that is free")
    try:
        report_dir.mkdir(parents=True, exist_ok=True)
        probe = report_dir / f".{secrets.token_hex(6)}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(
            f"{option} {report_dir}: cannot be written ({why}); expected a directory of your own"
        ) from error


def check_free(report_dir: Path) -> None:
    """Whether a report's files can be put where they go, before a run is made for them. Raises: UsageError."""
    for name in FILES:
        if (report_dir / name).is_dir():
            raise UsageError(f"--report-dir {report_dir}: {name} is a folder there; move it away")
    if (what := obstacle(report_dir / "cases")) is not None:
        raise UsageError(f"--report-dir {report_dir}: cases: {what}, where a folder goes; move it away")


def write_results(results: dict[str, Any], report_dir: Path) -> Path:
    """Write results.json whole or not at all."""
    path = report_dir / "results.json"
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole({path: text.encode("utf-8")})
    return path
