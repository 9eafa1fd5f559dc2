"""bpttcheck matrix: one page of many reports."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from conformance.errors import UsageError
from conformance.matrix import collect, to_page
from conformance.render import visible
from conformance.screen import say, tell

HELP = "gather all reports below a folder on one page"
EXAMPLES = """\
examples:
  bpttcheck matrix reports                     (writes reports/matrix.html)
  bpttcheck matrix build --output site/index.html
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="every results.json below it is taken")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: DIR/matrix.html)")


def main(arguments: argparse.Namespace) -> int:
    """Write the page whole or not at all, and name it."""
    page = arguments.output or arguments.directory / "matrix.html"
    reports, wrong = collect(arguments.directory)
    for line in wrong:
        say(f"left out: {line}", sys.stderr)
    text = to_page(reports, wrong, page.parent)
    if page.is_dir() or not page.parent.is_dir():
        raise UsageError(f"--output {page}: cannot be written there; expected a file in a folder that exists")
    beside = page.with_name(f".{page.name}.{secrets.token_hex(8)}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(page)
    finally:
        beside.unlink(missing_ok=True)
    tell(visible(str(page)))
    return 0
