"""bpttcheck certify: judge targets and write a report."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from conformance.alone import alone
from conformance.belongings import former, remove_former
from conformance.cases import read_folder
from conformance.certify import Interrupted, Plan, exit_status, run, select
from conformance.commands.setting import add_setting, seed, setting_of
from conformance.engine import PROFILES
from conformance.messages import quoted
from conformance.progress import progress_for
from conformance.render import print_summary, render, visible
from conformance.render.terminal import many
from conformance.results import check_free, prepare_directory
from conformance.screen import spoken, tell
from conformance.stopping import stoppable
from properties.base import Property

HELP = "judge implementations and write a conformance report"
EXAMPLES = """\
examples:
  bpttcheck certify numpy c
  bpttcheck certify adapters/mine.py --profile smoke
  bpttcheck certify mine.py:gradients --select oracle-agreement --seed 7
  bpttcheck certify mypackage.kernels:gradients --report-dir build/bptt
  bpttcheck certify adapters/mine.py --profile thorough --resume

An interrupted run (Ctrl-C) keeps its findings in the report directory; the
same command with --resume goes on from there. In a log only failures are told
as they are found, and about every half minute how far the run is.

exit status: 0 certified, 1 not conformant, 2 bad usage, 3 no verdict
"""
MOST = 64
"""Processes at most."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET", help="a built-in name, a file.py[:function] or a module[:function]"
    )
    parser.add_argument(
        "--profile",
        choices=list(PROFILES),
        default="standard",
        help="how many examples; smoke leaves out half of the fixed ones (default: standard)",
    )
    parser.add_argument("--select", metavar="ID,...", help="only these properties")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="any integer: another one, other problems (default: 0)"
    )
    parser.add_argument("--jobs", type=jobs, metavar="N", help="processes that share the work (default: one a core)")
    parser.add_argument(
        "--cases", type=Path, metavar="DIR", help="judge the case files in this folder too, before anything is drawn"
    )
    add_setting(parser)
    parser.add_argument("--report-dir", type=Path, default=Path("reports"), metavar="DIR", help="default: reports")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in the report directory")
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("-v", "--verbose", action="store_true", help="tell of every finding as it is made")
    talk.add_argument("-q", "--quiet", action="store_true", help="no progress, only the summary")


def jobs(text: str) -> int:
    """A number of processes. Raises: ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 1 to {MOST}")
    return int(text)


FLAGS = ("--resume", "--verbose", "-v", "--quiet", "-q")
"""Words of the command that change nothing that is found."""


def without_manner(words: Sequence[str]) -> list[str]:
    """The command without the words that change nothing that is found.

    >>> without_manner(["certify", "numpy", "--jobs", "2", "--seed=1", "--jobs=2", "--resume", "-q"])
    ['certify', 'numpy', '--seed=1']
    """
    values = [i + 1 for i, word in enumerate(words) if word == "--jobs"]
    kept = [word for i, word in enumerate(words) if i not in values and not word.startswith("--jobs")]
    return [word for word in kept if word not in FLAGS]


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
    check_free(arguments.report_dir)
    with alone(arguments.report_dir):
        return _certify(arguments, properties)


def _certify(arguments: argparse.Namespace, properties: Sequence[Property]) -> int:
    plan = Plan(
        targets=tuple(arguments.targets),
        properties=tuple(properties),
        profile=PROFILES[arguments.profile],
        seed=arguments.seed,
        report_dir=arguments.report_dir,
        command=("bpttcheck", *without_manner(arguments.words)),
        jobs=arguments.jobs or cores(),
        cases=arguments.cases,
        setting=setting_of(arguments),
        resume=arguments.resume,
    )
    before, began = former(arguments.report_dir), time.time()
    try:
        with stoppable():
            results = run(plan, progress_for(verbose=arguments.verbose, quiet=arguments.quiet))
    except Interrupted as stopped:
        _tell_interrupted(stopped, arguments)
        raise
    written = render(arguments.report_dir)
    if plan.cases is None or plan.cases.resolve() != (plan.report_dir / "cases").resolve():
        remove_former(before, results["files"], plan.report_dir, began)
    with spoken(sys.stdout):
        print_summary(results, sys.stdout)
        page = next((path for path in written if path.suffix == ".html"), None)
        if page is not None:
            tell(f"report: {visible(str(page))}")
        sys.stdout.flush()
    return exit_status(results)


def _tell_interrupted(stopped: Interrupted, arguments: argparse.Namespace) -> None:
    """Render what there is, and say how to go on."""
    render(arguments.report_dir)
    print_summary(stopped.results, sys.stdout)
    words = [word for word in arguments.words if word != "--resume"]
    made, folder = stopped.results["incomplete"], visible(str(arguments.report_dir))
    tell(f"interrupted: {made['findings']} of {many(made['planned'], 'finding')} are kept in {folder}")
    said = " ".join(shlex.quote(word) if word.startswith("-") else quoted(word) for word in words)
    tell(f"go on with: bpttcheck {visible(said)} --resume")
