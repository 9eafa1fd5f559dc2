"""bpttcheck replay: judge a saved case again, on targets that the caller names, never on one that the file names."""

from __future__ import annotations

import argparse
from pathlib import Path

from bptt.problem import Problem
from conformance.again import ask_again
from conformance.cases import read_case
from conformance.commands.setting import add_setting, setting_of
from conformance.engine import Finding, Outcome
from conformance.errors import TargetUnavailable, UsageError
from conformance.messages import comparison_line, failure_message
from conformance.screen import say
from conformance.targets import DEFAULT, Setting, resolve
from implementations.registry import prompt
from properties import PROPERTIES
from properties.base import Case

HELP = "judge a saved case again"
EXAMPLES = """\
examples:
  bpttcheck replay reports/cases/3f2a90b1c4d5.safetensors adapters/mine.py
  bpttcheck replay reports/cases/3f2a90b1c4d5.safetensors    (all built-in ones)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("case", type=Path, metavar="CASE", help="a case file of a report, or any problem file")
    parser.add_argument("target", nargs="?", metavar="TARGET", help="who is asked (default: every built-in target)")
    add_setting(parser)


def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 if the case fails, 3 if it says nothing, 0 if it passes."""
    saved = read_case(arguments.case)
    setting = setting_of(arguments)
    names = [arguments.target] if arguments.target else prompt()
    return max(
        (replay(name, saved.property, saved.case, saved.companion, setting) for name in names), key=(0, 3, 1).index
    )


def replay(
    name: str, property_id: str, case: Case, companion: Problem | None = None, setting: Setting = DEFAULT
) -> int:
    """Judge a case on one target and print what became of it."""
    try:
        target = resolve(name, setting)
    except TargetUnavailable as error:
        say(f"no verdict: {error}")
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
        say(f"{outcome.verdict}: {failure_message(finding, outcome, target.name, None)}")
        return 1
    return _passed(outcome, target.name, dtype)


def _passed(outcome: Outcome, name: str, dtype: str) -> int:
    worst = outcome.worst
    line = f"; worst {comparison_line(worst, dtype)}" if worst is not None else ""
    if outcome.verdict == "pass":
        say(f"pass: {name}{line}")
        return 0
    why = f": {outcome.message}" if outcome.message else ""
    say(f"no verdict: {name}: {outcome.verdict}{why}{line}")
    return 3
