"""Every planted bug of tests/mutants by its name, such as `elman.py:truncation_ignored`, and the correct code beneath.

The tables of bugs differ in what they tell; what the studies ask of a bug stands here in one form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bptt.cells import CELLS
from conformance.targets import Target, afresh
from tests.loading import in_process, load

MUTANTS = Path(__file__).parents[1] / "mutants"
LONGEST = 300
"""Steps that a bug is offered for: the fixed exact problems of 10,000 and 1,000 steps are cut to these."""
CORRECT = {
    "elman": str(MUTANTS / "elman_base.py"),
    "lstm": "numpy",
    "training": str(MUTANTS / "elman_base.py"),
    "blind": str(MUTANTS / "blind_base.py"),
}
"""Table to the correct implementation that its bugs override: silent bugs agree with it to the last bit."""


@dataclass(frozen=True)
class Bug:
    """A planted bug. `group` is its family; `caught_by` the property that it names, None where it was written blind."""

    table: str
    name: str
    sentence: str
    cells: tuple[str, ...]
    group: str
    needs: str
    caught_by: str | None

    @property
    def key(self) -> str:
        """Its file and name, as a target on the command line has it."""
        return f"{self.table}.py:{self.name}"

    @property
    def path(self) -> str:
        """What resolves to it."""
        return f"{MUTANTS / self.table}.py:{self.name}"


def bugs() -> dict[str, Bug]:
    """All of them, table by table, group by group."""
    found = []
    for table in CORRECT:
        titles = sections(table)
        for name, planted in load("mutants", table).PLANTED.items():
            cells = getattr(planted.gradients, "SUPPORTS", {"cells": ("elman",)})["cells"]
            found.append(
                Bug(
                    table,
                    name,
                    planted.sentence,
                    tuple(cell for cell in CELLS if cell in cells),
                    {"elman": titles.get(name, ""), "lstm": "LSTM cells", "training": "training loops"}.get(table)
                    or planted.family,
                    getattr(planted, "needs", ""),
                    getattr(planted, "caught_by", None),
                )
            )
    return {bug.key: bug for bug in found}


def sections(table: str) -> dict[str, str]:
    """The heading above each class of a table's file."""
    found, title = {}, ""
    for line in (MUTANTS / f"{table}.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "noqa" not in line:
            title = line[2:].partition(":")[0]
        elif match := re.match(r"class (\w+)\(", line):
            found[match[1]] = title
    return found


def fresh(names: Mapping[str, Bug]) -> dict[str, Target]:
    """Bugs of one table as targets without memory, by key; what a bug keeps, it keeps in a class of its own."""
    first = next(iter(names.values()))
    planted = afresh(in_process(first.path)).call.__globals__["PLANTED"]
    return {
        key: shortened(replace(in_process(bug.path), call=planted[bug.name].gradients)) for key, bug in names.items()
    }


def correct(table: str, like: Target) -> Target:
    """The correct implementation under a table's bugs, with the support of one of them."""
    return replace(in_process(CORRECT[table]), support=like.support)


def digests() -> dict[str, str]:
    """Each table's file in a digest: results are of these bugs."""
    return {table: hashlib.sha256((MUTANTS / f"{table}.py").read_bytes()).hexdigest() for table in CORRECT}


def shortened(target: Target) -> Target:
    """The same target for at most LONGEST steps."""
    return replace(target, support=replace(target.support, max_size={**target.support.max_size, "T": LONGEST}))
