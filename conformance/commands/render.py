"""bpttcheck render: make every form of a report again from its results.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.errors import UsageError
from conformance.folders import no_folder
from conformance.render import ReportError, render
from conformance.screen import say

HELP = "render a report again from its results.json"
EXAMPLES = "example:\n  bpttcheck render reports\n"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="a report directory")


def main(arguments: argparse.Namespace) -> int:
    """Write every form of the report beside its results.json."""
    folder = arguments.directory
    if not folder.is_dir():
        raise UsageError(f"DIR {folder}: {no_folder(folder)}; expected a directory with a results.json in it")
    try:
        for path in render(folder):
            say(str(path))
    except ReportError as error:
        raise UsageError(str(error)) from error
    return 0
