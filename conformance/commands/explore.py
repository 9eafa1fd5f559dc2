"""bpttcheck explore: search for as long as one likes, and keep what was found as cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.certify import select
from conformance.commands.setting import add_setting, seed, setting_of, time_in
from conformance.explore import explore
from conformance.render.terminal import many
from conformance.results import prepare_directory
from conformance.screen import say
from conformance.targets import resolve
from oracle import canary

HELP = "search on and on for a failure, and keep what was found as case files"
EXAMPLES = """\
examples:
  bpttcheck explore adapters/mine.py --minutes 30
  bpttcheck explore mine.py --select oracle-agreement --seed 7 --cases cases
  bpttcheck certify mine.py --cases cases         (judges them from then on)
"""
LONGEST = 60.0 * 24 * 366
"""Minutes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("target", metavar="TARGET", help="a built-in name, a file.py[:function] or a module[:function]")
    parser.add_argument("--minutes", type=minutes, metavar="M", help="how long (default: until it is stopped, Ctrl-C)")
    parser.add_argument("--select", metavar="ID,...", help="only these properties")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="any integer: another one, other problems (default: 0)"
    )
    add_setting(parser)
    parser.add_argument("--cases", type=Path, default=Path("cases"), metavar="DIR", help="where to (default: cases)")


def minutes(text: str) -> float:
    """A time. Raises: ArgumentTypeError."""
    return time_in("minutes", text, LONGEST)


def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 if a failure was found, 0 if none was, 3 if nothing could be asked."""
    properties = select(arguments.select)
    canary.check("before the search")
    target = resolve(arguments.target, setting_of(arguments))
    prepare_directory(arguments.cases, "--cases", "cases")
    seconds = None if arguments.minutes is None else 60 * arguments.minutes
    found = explore(target, properties, arguments.cases, arguments.seed, seconds, say)
    worst = max((ratio for _, ratio in found.worst.values()), default=0.0)
    kept = len(found.failures) + len(found.worst)
    say(
        f"{many(found.examples, 'example')} in {many(found.rounds, 'round')}: {many(len(found.failures), 'failure')}, "
        f"largest error ÷ budget otherwise {worst:.3g}; {many(kept, 'case')} in {arguments.cases}"
    )
    if found.failures:
        return 1
    return 0 if found.examples else 3
