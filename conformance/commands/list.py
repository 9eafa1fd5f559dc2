"""bpttcheck list: what is there to judge, to be judged by, and to be judged on."""

from __future__ import annotations

import argparse

from bptt.cells import CELLS
from conformance.screen import say, tell
from implementations.registry import BUILT_IN, availability
from properties import PROPERTIES

HELP = "list the implementations, the properties or the cells"
EXAMPLES = """\
examples:
  bpttcheck list implementations
  bpttcheck list properties
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("what", choices=["implementations", "properties", "cells"])


def main(arguments: argparse.Namespace) -> int:
    """Print the list."""
    if arguments.what == "implementations":
        for name, reason in availability().items():
            say(f"{name:13} {BUILT_IN[name].summary}" if reason is None else f"{name:13} unavailable: {reason}")
    elif arguments.what == "properties":
        for prop in PROPERTIES.values():
            tell(prop.id)
            for text in (prop.statement, f"source: {prop.source}", *([f"needs: {prop.needs}"] if prop.needs else [])):
                say(f"    {text}")
    else:
        for cell in CELLS.values():
            tell(f"{cell.name}: {cell.title}")
            for line in cell.equations:
                tell(f"    {line}")
            shapes = ", ".join(
                f"{name} ({','.join(map(str, letters(shape)))})" for name, shape in cell.shapes(1001, 7).items()
            )
            say(f"    parameters: {shapes}")
    return 0


def letters(shape: tuple[int, ...]) -> list[str]:
    """1001 and multiples of 7 back into D and H."""
    return ["D" if n == 1001 else ("H" if n == 7 else f"{n // 7}H") for n in shape]
