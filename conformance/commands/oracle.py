"""bpttcheck oracle: a problem's exact loss and gradients, in certified digits."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bptt.errors import FileError
from bptt.files import load_problem
from bptt.problem import gradient_shapes
from conformance.errors import UsageError
from conformance.screen import say, tell
from oracle.digits import MAX_DIGITS, certified_digits
from oracle.errors import PrecisionExhausted

HELP = "print a problem's exact loss and gradients, certified digits only"
EXAMPLES = """\
examples:
  bpttcheck oracle reports/cases/3f2a90b1c4d5.safetensors
  bpttcheck oracle problem.safetensors --digits 50 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("problem", type=Path, metavar="PROBLEM", help="a problem file (.safetensors)")
    parser.add_argument(
        "--digits", type=int, default=17, metavar="N", help=f"significant digits, 1 to {MAX_DIGITS} (default: 17)"
    )
    parser.add_argument("--json", action="store_true", help="nested lists of strings instead of lines")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0, or 3 where some digit is decided at no precision that is tried."""
    if not 1 <= arguments.digits <= MAX_DIGITS:
        raise UsageError(f"--digits: got {arguments.digits}, expected 1 to {MAX_DIGITS}")
    try:
        problem = load_problem(arguments.problem)
    except FileError as error:
        raise UsageError(str(error)) from error
    try:
        found = certified_digits(problem, arguments.digits)
    except PrecisionExhausted as error:
        say(f"no answer: {error}")
        return 3
    shapes = gradient_shapes(problem)
    if arguments.json:
        tell(json.dumps({key: _nested(texts, shapes[key]) for key, texts in found.items()}, indent=1))
        return 0
    for key, texts in found.items():
        for where, text in zip(np.ndindex(shapes[key]), texts, strict=True):
            index = f"[{','.join(map(str, where))}]" if where else ""
            tell(f"{key}{index} = {text}")
    return 0


def _nested(texts: list[str], shape: tuple[int, ...]) -> Any:
    return np.array(texts, dtype=object).reshape(shape).tolist() if shape else texts[0]
