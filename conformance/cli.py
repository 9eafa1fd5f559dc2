"""The command line: parsing, exit statuses, and one clear line for whatever is wrong.

Exit status, the first that applies: 2 bad usage or bad input; 1 not conformant; 3 no verdict; 0 certified.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from conformance.errors import TargetUnavailable, UsageError
from conformance.render.terminal import shorten, visible
from conformance.results import suite_version
from conformance.screen import flush, lose, say
from conformance.stopping import signal_of

COMMANDS = (
    "certify",
    "explore",
    "doctor",
    "replay",
    "compare",
    "matrix",
    "oracle",
    "list",
    "new",
    "render",
    "vectors",
    "study",
    "claims",
    "completion",
)
BAD_USAGE, NO_VERDICT = 2, 3
LONGEST = 4000
"""Characters of the line that says what was wrong."""
EXAMPLES = """\
examples:
  bpttcheck new mine                     write an adapter to fill in
  bpttcheck doctor mine.py               a few questions, in seconds
  bpttcheck certify mine.py              the verdict, and reports/report.html
  bpttcheck COMMAND --help               examples of each command

exit status: 0 certified, 1 not conformant, 2 bad usage or bad input,
             3 no verdict
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        raise UsageError(f"{message}; see {self.prog} --help")


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="bpttcheck",
        description="Says whether code that computes BPTT gradients is right, how right,\nand if not, why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bpttcheck {suite_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"conformance.commands.{name}")
        sub = commands.add_parser(
            name,
            help=module.HELP,
            description=textwrap.fill(module.HELP[0].upper() + module.HELP[1:] + ".", 78),
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # a report records its command, in the words of --help
        )
        module.configure(sub)
        sub.set_defaults(main=module.main)
    return parser


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The command line as its parser has it. Raises: UsageError, with the way out for a file named like an option."""
    try:
        return build_parser().parse_args(words)
    except UsageError as error:
        for word in words:
            if word.startswith("-") and "=" not in word and (_is_adapter(word) or Path(word).is_file()):
                raise UsageError(f"{word} reads as an option; expected ./{word} for the file of that name") from error
        raise


def _is_adapter(word: str) -> bool:
    return word.partition(":")[0].endswith(".py")


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status."""
    words = list(sys.argv[1:] if words is None else words)
    _open_streams()
    try:
        _check_text(words)
        arguments = parsed(words)
        arguments.words = words
        status: int = _run(arguments)
        flush(sys.stdout)
    except UsageError as error:
        return _say(str(error), BAD_USAGE)
    except TargetUnavailable as error:
        return _say(str(error), NO_VERDICT)
    except BrokenPipeError:  # whoever read the output has gone
        lose(sys.stdout)
        return NO_VERDICT
    except KeyboardInterrupt as error:
        return _say("interrupted", 128 + signal_of(error))
    except OSError as error:  # of a file that was to take another's place, the other is the one to name
        return _say(f"{error.filename2 or error.filename or 'a file'}: {error.strerror or error}", BAD_USAGE)
    except Exception as error:  # a fault of ours: one line, no verdict; BPTTCHECK_TRACEBACK=1 shows the rest
        if os.environ.get("BPTTCHECK_TRACEBACK"):
            raise
        return _say(f"internal error: {type(error).__name__}: {error}; please report it", NO_VERDICT)
    return status


def _open_streams() -> None:
    """What a caller had closed takes what is said, and loses it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end


def _check_text(words: Sequence[str]) -> None:
    """A report records its command, in UTF-8. Raises: UsageError."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{visible(word)}: not UTF-8; expected names in UTF-8 alone") from error


def _run(arguments: argparse.Namespace) -> int:
    try:
        status: int = arguments.main(arguments)
    except SystemExit as error:  # not ours: nothing behind the parser exits
        raise RuntimeError(f"something raised SystemExit({error.code})") from error
    return status


def _say(text: str, status: int) -> int:
    line = shorten(" ".join(text.split("\n")), LONGEST)  # a target's words may be in it
    say(f"bpttcheck: {line}", sys.stderr)
    return status
