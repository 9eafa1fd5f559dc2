"""bpttcheck study: the systems of the sources, and questions about training, each as one experiment with intervals."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conformance.render import visible
from conformance.results import prepare_directory
from conformance.screen import tell
from oracle import canary

HELP = "list the studies, or run one of them: an experiment with seeds, intervals and a picture"
EXAMPLES = """\
examples:
  bpttcheck study list
  bpttcheck study run S2 --report-dir s2
  bpttcheck study run clipping --report-dir clipping --quick

exit status of run: 0 every check of the study holds, 1 one does not
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(dest="action", metavar="list|run", required=True)
    actions.add_parser("list", help="print every study with its question")
    run = actions.add_parser("run", help="run one study and write study.json, study.html, study.md and its pictures")
    run.add_argument("study", type=known, metavar="ID", help="as `bpttcheck study list` has it: S1 to S11, or a name")
    run.add_argument("--report-dir", type=Path, required=True, metavar="DIR", help="where to write")
    run.add_argument("--quick", action="store_true", help="few repetitions of small runs, to see that it works")


def known(text: str) -> str:
    """The id of a study, in any letters. Raises: ArgumentTypeError, with the ids that there are."""
    from conformance.studies import STUDIES

    found = next((name for name in STUDIES if name.lower() == text.lower()), None)
    if found is None:
        raise argparse.ArgumentTypeError(f"study {text!r} is not known; there are {', '.join(STUDIES)}")
    return found


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0, or 1 where a check of the study does not hold."""
    from conformance.studies import STUDIES

    if arguments.action == "list":
        for study in STUDIES.values():
            tell(f"{study.id:10} {study.title}")
            tell(wrapped(study.question, " " * 11))
        return 0
    prepare_directory(arguments.report_dir)
    canary.check("before the study")
    return _run(arguments.study, arguments.report_dir, quick=arguments.quick)


def wrapped(text: str, indent: str = "") -> str:
    """A text in lines as long as the terminal's, 80 where there is none, and at most 100."""
    columns = min(shutil.get_terminal_size().columns, 100)
    return textwrap.fill(visible(text), columns, initial_indent=indent, subsequent_indent=indent)


def _run(name: str, folder: Path, *, quick: bool) -> int:
    from conformance.studies import STUDIES
    from conformance.studies.base import Run
    from conformance.studies.networks import trainer
    from conformance.studies.report import as_json, of_the_quick_form, write

    study = STUDIES[name]
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    console = Console(file=sys.stderr, no_color=bool(os.environ.get("NO_COLOR")))
    columns = (TextColumn(f"study {name}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    start = time.process_time()
    with Progress(*columns, console=console, transient=True, disable=not live) as progress:
        task = progress.add_task("", total=None)
        run = Run(
            quick=quick,
            begin=lambda total: progress.update(task, total=total),
            advance=lambda: progress.advance(task),
        )
        found = study.run(run)
    results = as_json(study, found, quick=quick, trainer=trainer()[0], seconds=time.process_time() - start)
    write(results, folder)
    tell(f"{study.id}: {study.title}\n")
    if quick:
        tell(wrapped(f"Quick form: {of_the_quick_form(results)}") + "\n")
    for line in found.answer:
        tell(wrapped(line) + "\n")
    for check in found.checks:
        tell(wrapped(f"{'holds' if check.holds else 'DOES NOT HOLD'}: {check.statement} ({check.detail})"))
    tell(f"\n{folder / 'study.html'}")
    return 0 if all(check.holds for check in found.checks) else 1
