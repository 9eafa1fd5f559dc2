"""How targets are run, as options that several commands share."""

from __future__ import annotations

import argparse
import math
import shutil

from conformance.errors import UsageError
from conformance.render.terminal import shorten
from conformance.targets import Setting
from conformance.workers import LONGEST, Limits


def add_setting(parser: argparse.ArgumentParser) -> None:
    """Add --python, --timeout and --in-process."""
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="run adapters under this Python, of a virtual environment say; NumPy is all it needs",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=Limits.seconds,
        metavar="S",
        help="seconds a problem (default: 60); loading the target may take 120, or this where it is more",
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run targets in this very process, for debugging; certifies nothing",
    )


def setting_of(arguments: argparse.Namespace) -> Setting:
    """What the options say. Raises: UsageError."""
    python = arguments.python
    if python is not None and shutil.which(python) is None:
        raise UsageError(f"--python {python!r}: no such program; expected the path of a Python interpreter")
    return Setting(arguments.in_process, python, Limits(seconds=arguments.timeout))


def seed(text: str) -> int:
    """A seed: any integer, negative ones too, that a report can hold. Raises: ArgumentTypeError."""
    try:
        value = int(text)
    except ValueError:
        value = 1 << 63
    if not abs(value) < 1 << 63:
        raise argparse.ArgumentTypeError(f"got {shorten(text, 60)!r}, expected an integer between -2**63 and 2**63")
    return value


def seconds(text: str) -> float:
    """A time. Raises: ArgumentTypeError."""
    return time_in("seconds", text, LONGEST)


def time_in(unit: str, text: str, most: float) -> float:
    """A number of units above 0, and no more than is sensible. Raises: ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of {unit} above 0, at most {most:.0f}")
    return value
