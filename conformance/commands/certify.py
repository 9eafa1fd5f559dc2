"""bpttcheck certify: judge targets and write a report."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from conformance.belongings import former, remove_former
from conformance.cases import read_folder
from conformance.certify import Plan, exit_status, run, select
from conformance.commands.setting import add_setting, setting_of
from conformance.engine import PROFILES
from conformance.progress import progress_for
from conformance.render import print_summary, render
from conformance.results import prepare_directory

HELP = "judge implementations and write a conformance report"
EXAMPLES = """\
examples:
  bpttcheck certify numpy c
  bpttcheck certify adapters/mine.py --profile smoke
  bpttcheck certify adapters/mine.py:gradients --select oracle-agreement --seed 7
  bpttcheck certify mypackage.kernels:gradients --report-dir build/bptt
"""
MOST = 64
"""Processes at most."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET", help="a built-in name, a file.py[:function] or a module[:function]"
    )
    parser.add_argument(
        "--profile", choices=list(PROFILES), default="standard", help="how many examples (default: standard)"
    )
    parser.add_argument("--select", metavar="ID,...", help="only these properties")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other problems (default: 0)")
    parser.add_argument("--jobs", type=jobs, metavar="N", help="processes that share the work (default: one a core)")
    parser.add_argument(
        "--cases", type=Path, metavar="DIR", help="judge the case files in this folder too, before anything is drawn"
    )
    add_setting(parser)
    parser.add_argument("--report-dir", type=Path, default=Path("reports"), metavar="DIR", help="default: reports")


def jobs(text: str) -> int:
    """A number of processes. Raises: ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 1 to {MOST}")
    return int(text)


def without_jobs(words: Sequence[str]) -> list[str]:
    """The command without --jobs, which changes nothing that is found.

    >>> without_jobs(["certify", "numpy", "--jobs", "2", "--seed=1", "--jobs=2"])
    ['certify', 'numpy', '--seed=1']
    """
    values = [i + 1 for i, word in enumerate(words) if word == "--jobs"]
    return [word for i, word in enumerate(words) if i not in values and not word.startswith("--jobs")]


def cores() -> int:
    """How many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return min(MOST, len(allowed(0)) if allowed else os.cpu_count() or 1)


def main(arguments: argparse.Namespace) -> int:
    """Run it; the exit status is 0 certified, 1 not conformant, 3 no verdict."""
    properties = select(arguments.select)
    if arguments.cases is not None:
        read_folder(arguments.cases)
    prepare_directory(arguments.report_dir)
    plan = Plan(
        targets=tuple(arguments.targets),
        properties=properties,
        profile=PROFILES[arguments.profile],
        seed=arguments.seed,
        report_dir=arguments.report_dir,
        command=("bpttcheck", *without_jobs(arguments.words)),
        jobs=arguments.jobs or cores(),
        cases=arguments.cases,
        setting=setting_of(arguments),
    )
    before, began = former(arguments.report_dir), time.time()
    results = run(plan, progress_for())
    written = render(arguments.report_dir)
    if plan.cases is None or plan.cases.resolve() != (plan.report_dir / "cases").resolve():
        remove_former(before, results["files"], plan.report_dir, began)
    print_summary(results, sys.stdout)
    page = next((path for path in written if path.suffix == ".html"), None)
    if page is not None:
        print(f"report: {page}")
    return exit_status(results)
