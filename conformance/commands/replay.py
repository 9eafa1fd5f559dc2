"""bpttcheck replay: judge a saved case again, on targets that the caller names, never on one that the file names."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from bptt.errors import FileError
from bptt.files import load_case, load_problem
from bptt.problem import Problem
from conformance.again import ask_again
from conformance.engine import Finding, Outcome
from conformance.errors import TargetUnavailable, UsageError
from conformance.messages import comparison_line, failure_message
from conformance.render import visible
from conformance.targets import resolve
from implementations.registry import availability
from properties import PROPERTIES
from properties.base import Case

HELP = "judge a saved case again"
EXAMPLES = """\
examples:
  bpttcheck replay reports/cases/3f2a90b1c4d5.safetensors adapters/mine.py
  bpttcheck replay reports/cases/3f2a90b1c4d5.safetensors          (all built-in targets)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("case", type=Path, metavar="CASE", help="a case file of a report, or any problem file")
    parser.add_argument("target", nargs="?", metavar="TARGET", help="who is asked (default: every built-in target)")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 if the case fails, 3 if it says nothing, 0 if it passes."""
    try:
        problem, extra = load_case(arguments.case)
    except FileError as error:
        raise UsageError(str(error)) from error
    property_id, case = read_case(arguments.case, Case(problem), extra)
    companion = read_companion(arguments.case, extra)
    names = [arguments.target] if arguments.target else [n for n, why in availability().items() if why is None]
    return max((replay(name, property_id, case, companion) for name in names), key=(0, 3, 1).index)


def read_companion(path: Path, extra: dict[str, Any]) -> Problem | None:
    """The problem to be asked first, from the file beside the case that it names. Raises: UsageError."""
    after = extra.get("after")
    if after is None:
        return None
    if not (isinstance(after, str) and re.fullmatch(r"[0-9a-f]{12}\.safetensors", after)):
        raise UsageError(f"{path}: its companion is {str(after)[:80]!r}; expected the name of a case file beside it")
    try:
        return load_problem(path.parent / after)
    except FileError as error:
        raise UsageError(str(error)) from error


def read_case(path: Path, case: Case, extra: dict[str, Any]) -> tuple[str, Case]:
    """The property and parameters of a case file. Raises: UsageError."""
    property_id = extra.get("property", "oracle-agreement")
    parameters = extra.get("parameters", {})
    if property_id not in PROPERTIES:
        raise UsageError(
            f"{path}: property {str(property_id)[:80]!r} is not known; expected one of {', '.join(PROPERTIES)}"
        )
    valid = isinstance(parameters, dict) and all(
        isinstance(k, str) and isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 31
        for k, v in parameters.items()
    )
    if not valid:
        raise UsageError(f"{path}: its parameters are {str(parameters)[:80]!r}; expected names with integers from 0")
    return property_id, Case(case.problem, parameters)


def replay(name: str, property_id: str, case: Case, companion: Problem | None = None) -> int:
    """Judge a case on one target and print what became of it."""
    try:
        target = resolve(name)
    except TargetUnavailable as error:
        print(f"no verdict: {visible(str(error))}")
        return 3
    prop = PROPERTIES[property_id]
    dtype = case.problem.dtype
    try:
        outcome = ask_again(prop, case, target, companion)
    except (KeyError, IndexError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"the case does not fit the property {property_id} ({type(error).__name__}: {error})"
        ) from error
    if outcome.failed:
        finding = Finding(prop, case.problem.cell, dtype)
        print(f"{outcome.verdict}: " + visible_lines(failure_message(finding, outcome, target.name, None)))
        return 1
    return _passed(outcome, target.name, dtype)


def _passed(outcome: Outcome, name: str, dtype: str) -> int:
    worst = outcome.worst
    line = f"; worst {comparison_line(worst, dtype)}" if worst is not None else ""
    if outcome.verdict == "pass":
        print(f"pass: {visible(name)}{visible(line)}")
        return 0
    print(f"no verdict: {visible(name)}: {outcome.verdict} {visible(outcome.message)}{visible(line)}")
    return 3


def visible_lines(text: str) -> str:
    """Control characters made visible, line by line."""
    return "\n".join(visible(line) for line in text.splitlines())
