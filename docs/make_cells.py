"""Writes docs/cells.md: each cell's equations beside the lines of code that compute them.

    python docs/make_cells.py

Everything on the page is read from the cells' own files: the equations from their first lines, the code from the lines
that carry an equation's number in a comment, up to the next number.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from bptt.cells import CELLS
from bptt.cells.base import Cell

PAGE = Path(__file__).parent / "cells.md"
HEAD = """\
# The cells

Each cell is one file: parameter shapes, states, one step written over an abstract arithmetic
([bptt/arithmetic.py](../bptt/arithmetic.py)), and local derivatives derived by hand. From the step alone the oracle
evaluates the network in mpmath, in balls and in rationals, differentiates it in reverse and in forward mode, and
derives the rounding-error budget ([budget.md](budget.md)); the hand-derived Jacobians serve the literal double sum,
which shares no gradient code with the rest. `A` is the abstract arithmetic, `N` a number system; T steps, B rows of a
batch, D inputs, H hidden units. States are row vectors, ∘ is the entrywise product, σ the logistic function.

This page is made from those files by `python docs/make_cells.py`: the equations are their first lines, the code beside
an equation are the lines that carry its number.
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(section(cell) for cell in CELLS.values())


def section(cell: Cell) -> str:
    """A cell's part of the page."""
    module = inspect.getmodule(type(cell))
    assert module is not None and module.__file__ is not None and module.__doc__ is not None
    path = f"bptt/cells/{Path(module.__file__).name}"
    shapes = ", ".join(f"`{name}` {sizes}" for name, sizes in symbolic(cell).items())
    states = " and ".join(f"`{name}` (B,H)" for name in cell.states)
    text, source = inspect.getdoc(module) or "", Path(module.__file__).read_text(encoding="utf-8")
    lines = [
        f"\n## `{cell.name}`: {cell.title}\n",
        f"[{path}](../{path}) · state {states} · parameters {shapes}\n",
    ]
    code = dict(numbered_code(source))
    for kind, body in numbered_text(text):
        if kind == "text":
            lines.append(body + "\n")
        else:
            lines.append(f"```text\n{body}\n```\n")
            block = "\n".join(code[n] for n in re.findall(r"\((\d+)\)$", body, re.MULTILINE) if n in code)
            lines.append(f"```python\n{block}\n```\n" if block else "")
    return "\n".join(line for line in lines if line)


def symbolic(cell: Cell) -> dict[str, str]:
    """Each parameter's shape in the letters D and H."""
    one, wide, tall = cell.shapes(1, 1), cell.shapes(2, 1), cell.shapes(1, 2)
    found = {}
    for name, sizes in one.items():
        letters = []
        for i, size in enumerate(sizes):
            letter = "D" if wide[name][i] != size else "H" if tall[name][i] != size else ""
            letters.append(f"{size if size > 1 or not letter else ''}{letter}")
        found[name] = f"({','.join(letters)}{',' if len(letters) == 1 else ''})"
    return found


def numbered_text(text: str) -> Iterator[tuple[str, str]]:
    """("text", paragraph) and ("equations", indented block), in order."""
    run: list[str] = []
    kind = "text"
    for line in [*text.splitlines(), ""]:
        numbered = line.startswith("    ") or re.search(r"\(\d+\)$", line) is not None
        now = "equations" if numbered else "text"
        if run and (now != kind or not line):
            yield kind, textwrap.dedent("\n".join(run)) if kind == "equations" else " ".join(run)
            run = []
        kind = now
        if line:
            run.append(line)


def numbered_code(source: str) -> Iterator[tuple[str, str]]:
    """(number, lines of code): the line with the number in its comment, and those below it of the same depth.

    Where a number stands in the step and among the derivatives, the step's lines are taken.
    """
    lines = source.splitlines()
    seen = set()
    for i, line in enumerate(lines):
        match = re.search(r"  # \((\d+)\)$", line)
        if match is None or match[1] in seen:
            continue
        seen.add(match[1])
        depth = len(line) - len(line.lstrip())
        block = [line]
        for below in lines[i + 1 :]:
            shallower = len(below) - len(below.lstrip()) < depth
            another = re.search(r"  # \(\d+\)$|\{$|^\s*(def|if) ", below)
            if not below.strip() or shallower or another:
                break
            block.append(below)
        yield match[1], textwrap.dedent("\n".join(block))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
