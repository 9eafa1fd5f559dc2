"""bpttcheck new: write an adapter to fill in, for one cell, with every array and its shape."""

from __future__ import annotations

import argparse
import keyword
import sys
from pathlib import Path

from bptt.cells import CELLS
from bptt.cells.base import Cell
from conformance.commands.list import letters
from conformance.errors import UsageError
from conformance.messages import quoted
from conformance.screen import tell

HELP = "write an adapter to fill in"
EXAMPLES = """\
examples:
  bpttcheck new mine
  bpttcheck new my_gru --cell gru_reset_after --dir adapters
"""
ACTIVATIONS = '    "activations": ["tanh"],  # also: "sigmoid", "relu", "identity"; see problem.activation\n'
TEMPLATE = '''\
"""{name}.py: an adapter for bpttcheck, for the cell {cell}.

{equations}

{words}

To do: fill in gradients(problem). It returns zeros as it stands, and they are wrong. Ask as often as you like

    bpttcheck doctor {name}.py      a few seconds: which array is wrong, and what would make it right
    bpttcheck certify {name}.py     the verdict, and reports/report.html

States and loss first, then the gradients: both commands name the arrays that are still wrong.
"""

import numpy as np

# What the adapter can do. A narrow start: widen it once it is certified. A line that is removed offers everything.
SUPPORTS = {{
    "cells": ["{cell}"],
{activations}    "readouts": ["none"],  # also: "linear"
    "losses": ["cotangent"],  # also: "squared_error", "cross_entropy"
    "truncations": ["full"],  # also: {truncations}
    "dtypes": ["float64"],  # also: "float32", "float16", "bfloat16"
    "lengths": False,  # True: rows of different lengths, in problem.lengths
    "final_cotangents": False,  # True: cotangents of the final state, in problem.loss.{finals}
}}


def gradients(problem):
    """The loss, the states and the gradients of one problem.

    T steps, B rows of a batch, D inputs, H units. Given, as NumPy arrays (copy before you change one):

{given}

    Wanted: the keys below. The loss is the sum of all entries of g∘h, a number; a gradient has the shape of its array.
    Leave out an array that you do not compute: it is not certified then.
    """
{unpack}
    T, B, D = x.shape
    H = h0.shape[1]

    # Forward: t from 0 to T - 1.
{states}

    # Backward: t from T - 1 to 0; what step t receives is g[t] and what step t + 1 sent back.
{zeros}

    return {{
{answer}
    }}
'''


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("name", metavar="NAME", help="the file will be NAME.py")
    parser.add_argument("--cell", metavar="CELL", default="elman", help="the cell that it computes (default: elman)")
    parser.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="the folder (default: this one)")


def main(arguments: argparse.Namespace) -> int:
    """Write the file and say what comes next."""
    name = arguments.name.removesuffix(".py")
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise UsageError(f"NAME: got {arguments.name!r}, expected a name for a module of Python such as my_kernel")
    if name in sys.stdlib_module_names or name == "numpy":
        raise UsageError(f"NAME: {name} is a module that others import, expected another name, such as my_{name}")
    if arguments.cell not in CELLS:
        raise UsageError(f"--cell: got {arguments.cell!r}, expected one of {', '.join(CELLS)}")
    if not arguments.dir.is_dir():
        raise UsageError(f"--dir: there is no folder {arguments.dir}")
    path = arguments.dir / f"{name}.py"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(adapter(name, CELLS[arguments.cell]))
    except FileExistsError as error:
        raise UsageError(f"{path} exists, and is left as it is; expected a new name") from error
    tell(f"wrote {path}: fill in gradients(problem), then\n  bpttcheck doctor {quoted(str(path))}")
    tell(f"  bpttcheck certify {quoted(str(path))}")
    return 0


def adapter(name: str, cell: Cell) -> str:
    """The text of an adapter for a cell."""
    parameters = {key: letters(shape) for key, shape in cell.shapes(1001, 7).items()}
    starts = [f"{state}0" for state in cell.states]
    given = {f'problem.params["{key}"]': shape for key, shape in parameters.items()}
    given |= {"problem.x": ["T", "B", "D"]} | {f"problem.{start}": ["B", "H"] for start in starts}
    given |= {"problem.loss.g": ["T", "B", "H"]}
    width = max(map(len, given))
    notes = dict.fromkeys((f"problem.{start}" for start in starts), "the state before the first step")
    notes["problem.loss.g"] = "dL/dh_t of every step"
    unpack = [f'{key} = problem.params["{key}"]' for key in parameters]
    unpack += [f"{key} = problem.{key}" for key in ("x", *starts)] + ["g = problem.loss.g"]
    answer = ["loss", *cell.states, "o", *(f"d{key}" for key in (*parameters, "x", *starts))]
    return TEMPLATE.format(
        name=name,
        cell=cell.name,
        equations=_indented(cell.equations),
        words=_words(cell),
        activations=ACTIVATIONS if cell.activations else "",
        truncations=", ".join(f'"{kind}"' for kind in cell.truncations if kind != "full"),
        finals=" and ".join(f"g_{state}_final" for state in cell.states),
        given=_indented([_line(key, shape, width, notes.get(key, "")) for key, shape in given.items()], 8),
        unpack=_indented(unpack),
        states=_indented([f"{state} = np.zeros((T, B, H))" for state in cell.states] + ["loss = (g * h).sum()"]),
        zeros=_indented([f"d{key} = np.zeros_like({key})" for key in (*parameters, "x", *starts)]),
        answer=_indented([_entry(key) for key in answer], 8),
    )


def _words(cell: Cell) -> str:
    """What the letters of a cell's equations mean."""
    before = " and ".join(f"{state}₋" for state in reversed(cell.states))
    if cell.activations:
        return f"All vectors are rows; φ is the activation, {before} the previous state."
    return (
        f"All vectors are rows; σ is the logistic sigmoid, ∘ the entrywise product, {before} the previous state.\n"
        "The blocks of H columns stand in the order in which the equations name them first."
    )


def _line(key: str, shape: list[str], width: int, note: str) -> str:
    sizes = f"({', '.join(shape)}{',' if len(shape) == 1 else ''})"
    return f"{key:{width}}  {sizes:9}  {note}".rstrip()


def _entry(key: str) -> str:
    if key == "o":
        return '"o": h.copy(),  # the output: without a readout, h'
    return f'"{key}": {key},'


def _indented(lines: list[str] | tuple[str, ...], by: int = 4) -> str:
    return "\n".join(" " * by + line for line in lines)
