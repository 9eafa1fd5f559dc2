"""shapes: sizes of 1, odd, equal, and around the widths of vectors and tiles, each axis in turn, two at times.

A kernel that works in vectors, tiles, warps or blocks has a case of its own for what is left over; one that squeezes,
broadcasts or shares buffers has one for sizes of 1 and for sizes that are equal by chance. Every array is random and
non-zero, and every step has a loss (properties/edges.py makes the problems), so that nothing hides what is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import hypothesis
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.base import Bench, Case, Judgement, Property
from properties.compare import against_truth
from properties.generic import generic
from properties.recipe import Draw, Recipe
from properties.strategies import Shape, offered

WIDTHS = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65)
SMALL = (3, 2, 4, 4, 3)  # T, B, D, H, K where an axis is not wide
NARROW = {"T": (3, 1, 2, 2, 2), "H": (2, 2, 3, 4, 3)}
"""The same beside a long T or a wide H: what a problem costs is about T B H^2."""
FIXED = ((1, 1, 1, 1, 1), (2, 2, 2, 2, 2), (33, 1, 2, 2, 2), (2, 33, 2, 3, 2), (2, 1, 65, 3, 2), (2, 2, 3, 33, 2))
LONG = 12
"""Steps up to which a truncation may reach back over a third of them."""
FIXED_WIDE_OUTPUT = (2, 2, 2, 3, 65)
FIXED_ONE_CLASS = (2, 2, 2, 3, 1)
"""Its softmax is 1 and its cross-entropy 0, whatever the output: a kernel may take it for a binary one."""


class Shapes(Property):
    """Within budget of the exact solution, whatever the sizes."""

    id = "shapes"
    statement = "Gradients are within budget at sizes of 1, odd sizes, and sizes around vector and tile widths."
    source = "The definition of the problem has no special sizes."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = offered(support, cell)
        limits = [support.max_size.get(name, 1 << 20) for name in "TBDHK"]

        def build(draw: Draw) -> Case:
            wide, width = draw.integer(0, 5), draw.of(WIDTHS)
            second, width_2 = draw.integer(0, 9), draw.of(WIDTHS[:9])
            small = NARROW.get("TBDHK"[wide] if wide < 5 else "", SMALL)
            sizes = [draw.integer(1, most) for most in small]
            if wide < 5:
                sizes[wide] = width
            if second in (1, 2, 4) and wide not in (0, 3):  # B, D or K wide too
                sizes[second] = width_2
            elif wide == 5 and second >= 5:  # all equal
                sizes = [min(width, 5)] * 5
            sizes = [min(size, limit) for size, limit in zip(sizes, limits, strict=True)]
            problem = made(shape, draw, support, cell, dtype, sizes)
            return Case(problem if problem is not None else hypothesis.reject())

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        shape = offered(support, cell)
        wanted = [*FIXED, *([FIXED_WIDE_OUTPUT] if "linear" in shape.readouts else [])]
        out = []
        for i, sizes in enumerate(wanted):
            readout = "linear" if sizes is FIXED_WIDE_OUTPUT else shape.readouts[i % len(shape.readouts)]
            losses = [name for name in shape.losses if name != "cross_entropy" or classes(readout, sizes) > 1]
            names = {
                "readouts": readout,
                "losses": (losses or list(shape.losses))[i % max(1, len(losses))],
                "truncations": shape.truncations[0],
                "activations": shape.activations[i % len(shape.activations)],
                "reductions": (shape.reductions or ("sum",))[0],
            }
            problem = generic(3000 + 2 * i, support, cell, dtype, sizes, names)
            out += [] if problem is None else [Case(problem)]
        if "linear" in shape.readouts and "cross_entropy" in shape.losses:
            names = {
                "readouts": "linear",
                "losses": "cross_entropy",
                "truncations": shape.truncations[0],
                "activations": shape.activations[0],
                "reductions": (shape.reductions or ("sum",))[0],
            }
            one_class = generic(3001, support, cell, dtype, FIXED_ONE_CLASS, names)
            out += [] if one_class is None else [Case(one_class)]
        return out

    def check(self, case: Case, bench: Bench) -> Judgement:
        return against_truth(case.problem, bench.run(case.problem), bench.truth(case.problem))


def classes(readout: str, sizes: Sequence[int]) -> int:
    """K, which is H where there is no readout."""
    return sizes[3] if readout == "none" else sizes[4]


def made(shape: Shape, draw: Draw, support: Support, cell: str, dtype: str, sizes: list[int]) -> Problem | None:
    """A generic problem of these sizes with drawn names, or None where they are beyond the target."""
    readout = draw.of(shape.readouts)
    losses = [name for name in shape.losses if name != "cross_entropy" or classes(readout, sizes) > 1]
    names = {
        "readouts": readout,
        "losses": draw.of(losses or shape.losses),
        "truncations": draw.of(shape.truncations),
        "activations": draw.of(shape.activations),
        "reductions": draw.of(shape.reductions or ("sum",)),
    }
    T, B, D, H, K = sizes
    problem = generic(draw.integer(0, 1 << 16), support, cell, dtype, (T, B, D, H, K), names)
    if problem is not None and T > LONG and problem.truncation.kind in ("window", "periodic"):  # T backward passes
        short = {"k": 3} if problem.truncation.kind == "window" else {"k1": 3, "k2": 4}
        problem = replace(problem, truncation=Truncation(problem.truncation.kind, **short))
    return problem


PROPERTY = Shapes()
