"""Problems with one or two axes far beyond a tile or a thread block: beside every name, and beside each other.

What is wrong past 64, 128 or 256 only under one loss, truncation, reduction or activation, or only where another axis
is wide too, shows in none of the problems in which one thing at a time is unusual. All other axes are short, so that
most of these problems take no longer than others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from bptt.problem import Problem
from bptt.support import Support
from properties.generic import contracting, generic, labelled
from properties.pairwise import made, names_of
from properties.strategies import offered

FAR = (  # T, B, D, H, K
    *((132, 2, 2, 2, 2), (3, 260, 2, 2, 2), (3, 2, 260, 3, 3), (3, 2, 3, 3, 260)),
    *((4, 2, 2, 66, 3), (2, 1, 2, 132, 2)),
)
"""One axis past 256; steps, for which some truncations take a pass each, and units past 128, and units past 64."""
ROWS = 7
"""Problems of one size: so many losses in turn, of which five have a reduction."""
BOTH = (
    *((136, 34, 2, 2, 2), (34, 160, 2, 2, 2), (66, 66, 2, 2, 2), (130, 2, 136, 2, 2), (130, 1, 2, 2, 136)),
    *((130, 1, 2, 18, 2), (66, 1, 2, 34, 2), (34, 1, 2, 66, 2), (10, 1, 2, 128, 2), (3, 130, 2, 34, 2)),
    *((4, 130, 130, 2, 2), (4, 130, 2, 2, 130), (6, 260, 3, 3, 3), (6, 4, 260, 4, 3), (6, 4, 4, 4, 260)),
    *((2, 66, 2, 66, 2), (2, 2, 68, 68, 68), (3, 3, 5, 132, 2), (10, 9, 10, 11, 12), (18, 17, 19, 20, 21)),
)
"""Two axes past 32, 64 or 128 at once, whole vectors and parts of them; last, all axes past 8 and past 16."""


def wide_problems(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """The problems, as far as the target offers them; names take turns."""
    yield from _beside_names(support, cell, dtype)
    yield from _beside_axes(support, cell, dtype)


def _beside_names(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """Each far size beside every loss, truncation, reduction, initial state, activation, and rows of all lengths."""
    levels = names_of(offered(support, cell))
    losses = sorted(levels["loss"], key=lambda loss: loss[0] == "cotangent")  # those with a reduction first
    names = ("readout", "truncation", "lengths", "h0", "activation")
    for i, (T, B, D, H, K) in enumerate(FAR):
        reductions = itertools.cycle(levels["reduction"])
        for j in range(ROWS):
            loss = losses[j % len(losses)]
            turn = {name: levels[name][(i + j + j // len(levels[name])) % len(levels[name])] for name in names}
            if max(T, B, D, H) < K and "linear" in levels["readout"]:
                turn["readout"] = "linear"  # without it K is H
            reduction = levels["reduction"][0] if loss[0] == "cotangent" else next(reductions)
            row = (T, B, D, H, (turn["readout"], K), loss, turn["truncation"], reduction)
            further = (turn["lengths"], turn["h0"], turn["activation"])
            problem = made(2000 + ROWS * i + j, support, cell, dtype, (*row, *further))
            if problem is not None and support.serves(problem):
                yield problem


def _beside_axes(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """Without truncation, with a readout where there is one."""
    shape = offered(support, cell)
    losses, activations = itertools.cycle(shape.losses), itertools.cycle(shape.activations)
    names: dict[str, Any] = {"readouts": "linear" if "linear" in shape.readouts else shape.readouts[0]}
    names |= {"truncations": shape.truncations[0], "reductions": (shape.reductions or ("sum",))[0]}
    for i, sizes in enumerate(BOTH):
        names |= {"losses": next(losses), "activations": next(activations)}
        problem = generic(11500 + i, support, cell, dtype, sizes, names)
        if problem is not None and problem.loss.kind == "cross_entropy" and i % 2:
            problem = labelled(problem)
        if problem is not None:
            yield contracting(problem)
