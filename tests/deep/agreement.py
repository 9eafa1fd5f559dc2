"""How closely the roads to the gradients agree, in mpmath: thousands of drawn problems a cell, under every truncation.

    python -m tests.deep.agreement --problems 2000 --cell all

An array by some road is compared with reverse mode's, in bits of the working precision p:

    bits = p + log2(||a - r||_2 / scale)      scale = ||r||_2 + 2^p ||radius||_2                      (1)

r is reverse mode's array and radius what ball arithmetic of p bits carries for it, by either road: 2^p times a radius
is the sum of the absolute values of an entry's terms and of what their factors were made of, as ball arithmetic adds
them up. Without it an array whose terms cancel (all of them do where a softmax has one class or, in forward mode, where
the cotangent of the last step and that of the final state do) would be nothing but rounding. At 0 bits two roads are as
far apart as rounding may put them; one term of the double sum too many or too few costs nearly p bits.
Differences err absolutely, by about 2^-2p: there 2^-p is added to the scale. They are taken of small problems.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from bptt.cells import CELLS
from bptt.problem import Problem
from bptt.support import Support
from oracle.ball_numbers import BallNumbers
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import Scalar, Undecided
from oracle.solution import solve
from properties.recipe import Draw
from properties.strategies import draw_problem, offered, replace_shape

ALLOWED = 8.0
"""Bits: every road rounds in an order of its own, and may add up larger terms than reverse mode does."""
SUPPORT = Support(dtypes=("float64", "float32", "bfloat16"), h0_none=True)
SIZES = (6, 2, 3, 3, 3)
SMALL = (3, 2, 2, 2, 2)
"""T, B, D, H, K at most; the small ones are one in SHARE, and there differences are taken too."""
SHARE = 9
exact = mpmath.MPContext()  # for distances: the difference of two numbers of any precision is rounded once
exact.prec = 128


@dataclass(frozen=True)
class Compared:
    """An array by one road against reverse mode's: (1), and the same with the norm alone for its scale."""

    road: str
    key: str
    bits: float
    of_norm: float


class Dice:
    """What a `Draw` draws from where there is no Hypothesis: uniform integers from a seed."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def draw_integer(self, low: int, high: int, shrink_towards: int) -> int:
        """An integer from low to high, both included."""
        return int(self.rng.integers(low, high, endpoint=True))


def drawn(cell: str, seed: int, index: int, sizes: tuple[int, int, int, int, int]) -> Problem:
    """The index-th problem of a cell: truncations come in turn, and after a round of them the next dtype."""
    shape = offered(SUPPORT, cell)
    kind = shape.truncations[index % len(shape.truncations)]
    narrow = replace_shape(shape, largest=sizes, edges=False, truncations=(kind,))
    draw = Draw(Dice(seed, list(CELLS).index(cell), index))
    dtype = SUPPORT.dtypes[index // len(shape.truncations) % len(SUPPORT.dtypes)]
    return draw_problem(draw, narrow, SUPPORT, cell, dtype)


def compare(problem: Problem, prec: int, roads: Iterable[str]) -> Iterator[Compared]:
    """Every gradient by each road against reverse mode, in mpmath at `prec` bits.

    Raises: Undecided where a relu's kink is within a ball, or within a difference.
    """
    N = MpmathNumbers(prec)
    reverse, balls = solve(problem, N).values, solve(problem, BallNumbers(prec)).values
    keys = [f"d{name}" for name in (*problem.parameter_shapes(), "x", *(f"{s}0" for s in problem.spec.states))]
    for road in roads:
        found = solve(problem, N, road).values
        own = balls if road == "differences" else solve(problem, BallNumbers(prec), road).values
        for key in keys:
            norm = exact.norm([copied(value) for value in reverse[key]])
            radii = [max(radius(a), radius(b)) for a, b in zip(balls[key], own[key], strict=True)]
            scale = norm + exact.ldexp(exact.norm(radii), prec)
            scale += exact.ldexp(1, -prec) if road == "differences" else 0
            apart = [copied(a) - copied(r) for a, r in zip(found[key], reverse[key], strict=True)]
            distance = exact.norm(apart)
            yield Compared(road, key, lost(distance, scale, prec), lost(distance, norm, prec))


def copied(value: Scalar) -> Any:
    """The same number, of `exact`."""
    return exact.make_mpf(value._mpf_)


def radius(ball: Scalar) -> Any:
    """A ball's radius as a number of `exact`; of one without bounds 0, so that it excuses nothing."""
    if not ball.is_finite():
        return exact.zero
    n, e = ball.rad().man_exp()
    return exact.ldexp(exact.mpf(int(n)), int(e))


def lost(distance: Any, scale: Any, prec: int) -> float:
    """(1); -inf for two equal arrays."""
    if distance == 0:
        return -math.inf
    return prec + float(exact.log(distance / scale, 2)) if scale else math.inf


def survey(cell: str, problems: int, prec: int, seed: int) -> tuple[list[Compared], dict[str, int]]:
    """Every comparison of so many problems, and how many problems each road solved, or left undecided."""
    found: list[Compared] = []
    counts: dict[str, int] = dict.fromkeys(("double-sum", "forward", "differences", "undecided"), 0)
    index = 0
    while counts["forward"] < problems:
        small = index // len(CELLS[cell].truncations) % SHARE == 0
        problem = drawn(cell, seed, index, SMALL if small else SIZES)
        index += 1
        try:
            found += compare(problem, prec, ("double-sum", "forward"))
        except Undecided:
            counts["undecided"] += 1
            continue
        counts["double-sum"] += 1
        counts["forward"] += 1
        if small:
            try:
                found += compare(problem, prec, ("differences",))
            except Undecided:
                counts["undecided"] += 1
            else:
                counts["differences"] += 1
    return found, counts


def write(line: str) -> None:
    """At once, so that a long run can be watched."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a line a cell and road; 1 if any array is further apart than ALLOWED."""
    parser = argparse.ArgumentParser(description="How closely the roads to the gradients agree.")
    parser.add_argument("--problems", type=int, default=2000, help="problems a cell")
    parser.add_argument("--cell", choices=["all", *CELLS], default="all")
    parser.add_argument("--prec", type=int, default=256, help="working precision, bits")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    write(f"bits of {given.prec} in which a road and reverse mode differ; see the module's first lines")
    write(f"{'cell':17}{'road':12}problems  arrays  equal    worst  median  of the norm alone: median    99 %")
    failed = False
    for cell in CELLS if given.cell == "all" else [given.cell]:
        start = time.monotonic()
        found, counts = survey(cell, given.problems, given.prec, given.seed)
        for road in ("double-sum", "forward", "differences"):
            of_road = [one for one in found if one.road == road]
            if not of_road:
                continue
            worst = max(of_road, key=lambda one: one.bits)
            failed |= not worst.bits <= ALLOWED
            apart, of_norm = (sorted(v) for v in zip(*((o.bits, o.of_norm) for o in of_road), strict=True))
            n = len(of_road)
            write(
                f"{cell:17}{road:12}{counts[road]:8}{n:8}{apart.count(-math.inf) / n:7.0%}{worst.bits:9.1f}"
                f"{apart[n // 2]:8.1f}{of_norm[n // 2]:27.1f}{of_norm[n * 99 // 100]:8.1f}   worst: {worst.key}"
            )
        took = time.monotonic() - start
        write(f"{cell:17}{counts['undecided']} undecided: a relu's kink was near; {took:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
