"""Whether the balls enclose: thousands of drawn entries a cell, recomputed at four times the precision, none outside.

    python -m tests.deep.enclosures --entries 10000 --prec 96

Every entry of every array (loss, states, outputs and gradients, by each road in turn) is a ball of `prec` bits. The
same entry by reverse mode in balls of four times as many bits must lie within it, all of it. The survey runs twice, in
processes of its own: as the process is, and with flush-to-zero and denormals-are-zero switched on after the problems
were drawn. Both must come to the very same balls, which a digest of all midpoints and radii shows.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Problem
from oracle import canary
from oracle.ball_numbers import BallNumbers
from oracle.numbers import Scalar, Undecided
from oracle.solution import solve
from tests.deep.agreement import drawn, write

SIZES = (7, 2, 3, 3, 3)
ROADS = ("reverse", "double-sum", "forward")
FLUSHED = "subnormal numbers are flushed to zero"


def flush_subnormals() -> None:
    """Set flush-to-zero and denormals-are-zero for this process: bits 15 and 6 of MXCSR, fenv_t's last word on x86-64.

    Raises: OSError where that is not so; RuntimeError where the canary does not notice.
    """
    name = ctypes.util.find_library("m")
    if platform.machine() not in ("x86_64", "AMD64") or name is None:
        raise OSError("flush-to-zero is set through fenv_t of x86-64")
    libm = ctypes.CDLL(name)
    environment = (ctypes.c_uint32 * 8)()
    libm.fegetenv(environment)
    environment[7] |= 0x8040
    libm.fesetenv(environment)
    if FLUSHED not in canary.problems_found():
        raise RuntimeError("flush-to-zero was set, and the canary does not see it")


def has_subnormals(problem: Problem) -> bool:
    """Whether an input is subnormal; asked before they are flushed."""
    floats = [array for _, array in problem.arrays() if array.dtype.kind == "f"]
    return any(bool(((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)).any()) for array in floats)


def exact_parts(ball: Scalar) -> str:
    """A ball's midpoint and radius, exactly."""
    if not ball.is_finite():
        return str(ball)
    return " ".join(str(int(part)) for end in (ball.mid(), ball.rad()) for part in end.man_exp())


def survey(problems: Sequence[tuple[str, Problem]], prec: int) -> dict[str, int | str]:
    """How many entries are inside, on the edge and outside; how many problems undecided; the digest of all balls."""
    counts: dict[str, int] = dict.fromkeys(("inside", "edge", "outside", "without bounds", "undecided"), 0)
    digest = hashlib.sha256()
    for road, problem in problems:
        try:
            coarse = solve(problem, BallNumbers(prec), road).values
            fine = solve(problem, BallNumbers(4 * prec)).values
        except Undecided:
            counts["undecided"] += 1
            continue
        for key in coarse:
            for wide, narrow in zip(coarse[key], fine[key], strict=True):
                where = "inside" if wide.contains(narrow) else "edge" if wide.overlaps(narrow) else "outside"
                counts[where] += 1
                counts["without bounds"] += not wide.is_finite()
                digest.update(f"{exact_parts(wide)};{exact_parts(narrow)}\n".encode())
    return {**counts, "digest": digest.hexdigest()}


def problems_of(cell: str, entries: int, seed: int, prec: int) -> list[tuple[str, Problem]]:
    """(road, problem), as many as it takes for the given number of entries; those left undecided do not count."""
    out: list[tuple[str, Problem]] = []
    total = 0
    while total < entries:
        problem = drawn(cell, seed, len(out), SIZES)
        out.append((ROADS[len(out) % len(ROADS)], problem))
        try:
            total += sum(len(values) for values in solve(problem, BallNumbers(prec)).values.values())
        except Undecided:
            continue
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a line a cell and setting; 1 if an entry is not inside, or the two settings differ."""
    parser = argparse.ArgumentParser(description="Whether the balls enclose.")
    parser.add_argument("--entries", type=int, default=10_000, help="entries a cell, at least")
    parser.add_argument("--cell", choices=["all", *CELLS], default="all")
    parser.add_argument("--prec", type=int, default=96, help="bits of the balls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--setting", choices=["plain", "flush"], help="one survey in this process, written as JSON")
    given = parser.parse_args(arguments)
    if given.setting:
        problems = problems_of(given.cell, given.entries, given.seed, given.prec)
        subnormal = sum(has_subnormals(problem) for _, problem in problems)
        if given.setting == "flush":
            flush_subnormals()
        write(json.dumps({**survey(problems, given.prec), f"of {len(problems)} problems hold subnormals": subnormal}))
        return 0
    write(f"balls of {given.prec} bits against {4 * given.prec} bits, by the roads {', '.join(ROADS)} in turn")
    failed = False
    for cell in CELLS if given.cell == "all" else [given.cell]:
        command = [sys.executable, "-m", "tests.deep.enclosures", "--cell", cell, "--entries", str(given.entries)]
        command += ["--prec", str(given.prec), "--seed", str(given.seed)]
        digests = set()
        for setting in ("plain", "flush"):
            run = subprocess.run(
                [*command, "--setting", setting],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                cwd=Path(__file__).parents[2],
            )
            found = json.loads(run.stdout)
            digests.add(found.pop("digest"))
            write(f"{cell:17}{setting:6} " + ", ".join(f"{number} {what}" for what, number in found.items()))
            failed |= not found["inside"] >= given.entries or found["edge"] > 0 or found["outside"] > 0
        write(f"{cell:17}{'the same balls' if len(digests) == 1 else 'DIFFERENT BALLS'} under both settings")
        failed |= len(digests) > 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
