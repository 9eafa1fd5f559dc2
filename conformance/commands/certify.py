"""bpttcheck certify: judge targets and write a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.certify import Plan, exit_status, run, select
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
    parser.add_argument("--report-dir", type=Path, default=Path("reports"), metavar="DIR", help="default: reports")


def main(arguments: argparse.Namespace) -> int:
    """Run it; the exit status is 0 certified, 1 not conformant, 3 no verdict."""
    properties = select(arguments.select)
    prepare_directory(arguments.report_dir)
    plan = Plan(
        targets=tuple(arguments.targets),
        properties=properties,
        profile=PROFILES[arguments.profile],
        seed=arguments.seed,
        report_dir=arguments.report_dir,
        command=("bpttcheck", *arguments.words),
    )
    results = run(plan, progress_for())
    written = render(arguments.report_dir)
    print_summary(results, sys.stdout)
    page = next((path for path in written if path.suffix == ".html"), None)
    if page is not None:
        print(f"report: {page}")
    return exit_status(results)
