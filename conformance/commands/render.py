"""bpttcheck render: make every form of a report again from its results.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.errors import UsageError
from conformance.render import ReportError, render

HELP = "render a report again from its results.json"
EXAMPLES = "example:\n  bpttcheck render reports\n"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="a report directory")


def main(arguments: argparse.Namespace) -> int:
    """Write every form of the report beside its results.json."""
    try:
        for path in render(arguments.directory):
            print(path)
    except ReportError as error:
        raise UsageError(str(error)) from error
    return 0
