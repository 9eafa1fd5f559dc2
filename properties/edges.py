"""Problems at the edges of kernels, in every certificate: T, H and B at and past vector, tile and window widths.

Generic on purpose: unequal odd sizes, every array random and non-zero, a loss at every step and on the final state.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.problem import Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.corners import corner_problems, extra_problems
from properties.generic import contracting, generic, labelled
from properties.long_range import long_range_problems
from properties.strategies import Shape, offered

SIZES = (  # T, B, D, H, K
    (1, 3, 2, 5, 3),
    (7, 3, 5, 3, 2),
    (17, 2, 3, 5, 4),
    (33, 3, 2, 4, 3),
    (65, 1, 2, 3, 2),
    (129, 1, 2, 2, 2),
    (6, 7, 3, 7, 2),
    (5, 2, 17, 33, 3),
    (4, 5, 3, 65, 17),
    (3, 17, 33, 4, 33),
)
SEVERAL = (
    *((19, 9, 18, 19, 10), (18, 3, 34, 20, 9), (33, 3, 17, 33, 17)),
    *((515, 1, 1, 2, 2), (2, 1, 2, 137, 2)),
    *((4, 16, 8, 16, 8), (3, 4, 16, 32, 16), (2, 8, 64, 64, 4)),
    *((2, 33, 34, 35, 36), (34, 18, 2, 3, 2), (2, 32, 32, 32, 32), (32, 16, 2, 2, 2)),
    *((2, 1, 2, 257, 2), (1, 3, 2, 137, 2), (1, 2, 300, 3, 2), (1, 2, 2, 3, 300), (2, 260, 2, 2, 2)),
    *((1, 1, 131, 130, 131), (1, 70, 2, 67, 69)),
)
"""Where several axes are beyond a tile at once (T B too), where one is far beyond, and where tiles are full to the last
entry; last, where a product's rows and columns are both past a multiple of 64, and a weight has more than 2^14 entries.
"""
DISPATCHED = ((32, 1, 2, 32, 2), (4, 8, 2, 32, 2), (4, 1, 2, 129, 2), (65, 8, 2, 32, 2), (3, 3, 2, 65, 2))
"""Sizes at which a fused path is taken only where several axes fit it; the last with rows that end early."""
PARTS = (
    *((2, 4 + r, 4 + (r + 1) % 12, 4 + (r + 2) % 12, 4 + (r + 3) % 12) for r in range(12)),
    *((2, 16 + r, 16 + (r + 9) % 16, 16 + (r + 7) % 16, 16 + (r + 11) % 16) for r in range(16)),
    *((T, 1, 2, 3, 3) for T in range(25, 32)),
)
"""Every size from 4 to 31 along every axis: how many lanes of the last vector count is often looked up in a table, or
told case by case. The largest of two axes do not meet.
"""
TAILS = (15, 31)
"""Units one short of full vectors, for every activation."""
TILE = 16
BLOCKS = (
    *(Truncation("window", k=17), Truncation("chunk", k=9), Truncation("chunk", k=20)),
    *(Truncation("periodic", k1=5, k2=17), Truncation("periodic", k1=2, k2=17), Truncation("periodic", k1=20, k2=22)),
)
"""Truncations that reach far and still leave some of 28 steps out."""
ORDERS = {"ascending": [1, 2, 3, 4, 5, 6, 7], "descending": [7, 6, 5, 4, 3, 2, 1], "odd one out": [6, 3, 5, 6]}
"""Lengths in order, which a kernel that sorts rows may take another way; one that alone ends inside a block of 3."""
WIDE = ((5, 17, 18, 33, 19), (34, 2, 2, 3, 2))
"""Sizes at which every loss meets every readout."""


def edge_problems(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """One problem a size and a corner, over every loss; names take turns over what is offered."""
    shape = offered(support, cell)
    fields = ("readouts", "losses", "truncations", "activations", "reductions")
    turns = {name: itertools.cycle(getattr(shape, name)) for name in fields}
    for i, sizes in enumerate(SIZES):
        problem = generic(1000 + i, support, cell, dtype, sizes, {name: next(turn) for name, turn in turns.items()})
        if problem is not None:
            yield problem
    yield from extra_problems(support, cell, dtype, shape, turns)
    yield from _empty_rows(support, cell, dtype, shape)
    yield from _several(support, cell, dtype, shape)
    yield from _dispatched(support, cell, dtype, shape)
    yield from _parts(support, cell, dtype, shape)
    yield from _ordered_rows(support, cell, dtype, shape)
    yield from _rows_end_with_blocks(support, cell, dtype, shape)
    yield from _long_blocks(support, cell, dtype, shape)
    yield from _wide(support, cell, dtype, shape)
    yield from corner_problems(support, cell, dtype, shape)
    yield from long_range_problems(support, cell, dtype, shape)


def _several(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Kernels that are right at one wide axis at a time may not be where tiles meet, nor far out."""
    losses, readouts = itertools.cycle(reversed(shape.losses)), itertools.cycle(shape.readouts)
    activations, reductions = itertools.cycle(shape.activations), itertools.cycle(shape.reductions or ("sum",))
    for i, sizes in enumerate(SEVERAL):
        names: dict[str, Any] = {"readouts": next(readouts), "losses": next(losses), "activations": next(activations)}
        names |= {"truncations": shape.truncations[0], "reductions": next(reductions)}
        if sizes[-1] > TILE and "linear" in shape.readouts:
            names["readouts"] = "linear"  # without it K is H
        problem = generic(4000 + i, support, cell, dtype, sizes, names)
        if problem is not None:
            yield problem if problem.loss.kind != "cross_entropy" else labelled(problem)


def _dispatched(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Without truncation, for sizes of which only all together take a kernel's other path; and tails."""
    plain: dict[str, Any] = {
        "readouts": shape.readouts[0],
        "losses": shape.losses[0],
        "truncations": shape.truncations[0],
    }
    plain |= {"reductions": (shape.reductions or ("sum",))[0], "activations": shape.activations[0]}
    for i, sizes in enumerate(DISPATCHED):
        problem = generic(4500 + 2 * i, support, cell, dtype, sizes, plain)
        if problem is not None and sizes == DISPATCHED[-1] and shape.lengths:
            yield replace(problem, lengths=np.array([3, 2, 1]))
        elif problem is not None:
            yield contracting(problem)
    for i, (H, activation) in enumerate(itertools.product(TAILS, shape.activations)):
        problem = generic(4600 + 2 * i, support, cell, dtype, (4, 2, 2, H, 2), {**plain, "activations": activation})
        if problem is not None:
            yield problem


def _parts(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Without truncation, with a readout where there is one, for vectors of which a part is left."""
    losses, activations = itertools.cycle(shape.losses), itertools.cycle(shape.activations)
    names: dict[str, Any] = {"readouts": "linear" if "linear" in shape.readouts else shape.readouts[0]}
    names |= {"truncations": shape.truncations[0], "reductions": (shape.reductions or ("sum",))[0]}
    for i, sizes in enumerate(PARTS):
        names |= {"losses": next(losses), "activations": next(activations)}
        problem = generic(11000 + i, support, cell, dtype, sizes, names)
        if problem is not None:
            yield problem


def _rows_end_with_blocks(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Rows that end with a chunk or a block of four steps, early and late."""
    if not shape.lengths:
        return
    names = {"readouts": shape.readouts[0], "losses": shape.losses[0], "activations": shape.activations[0]}
    names |= {"reductions": (shape.reductions or ("sum",))[0]}
    for i, cut in enumerate((Truncation("chunk", k=4), Truncation("periodic", k1=4, k2=5))):
        if cut.kind in shape.truncations:
            wanted = {**names, "truncations": cut.kind}
            problem = generic(5100 + 2 * i, support, cell, dtype, (12, 3, 2, 3, 3), wanted)
            if problem is not None:
                yield replace(problem, lengths=np.array([12, 4, 8]), truncation=cut)


def _wide(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Every loss with every readout where each axis is beyond a tile; the other names take turns."""
    truncations, activations = itertools.cycle(shape.truncations), itertools.cycle(shape.activations)
    reductions = itertools.cycle(shape.reductions or ("sum",))
    for i, (sizes, loss, readout) in enumerate(itertools.product(WIDE, shape.losses, shape.readouts)):
        names: dict[str, Any] = {"readouts": readout, "losses": loss, "truncations": next(truncations)}
        names |= {"activations": next(activations), "reductions": next(reductions)}
        problem = generic(9700 + i, support, cell, dtype, sizes, names)
        if problem is not None and problem.truncation.kind in ("window", "chunk") and problem.T < TILE:
            yield replace(problem, truncation=replace(problem.truncation, k=2))
        elif problem is not None:
            yield problem


def _long_blocks(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Truncations of more than a few steps that are shorter than the sequence."""
    losses = itertools.cycle(shape.losses)
    for i, cut in enumerate(BLOCKS):
        if cut.kind not in shape.truncations:
            continue
        names: dict[str, Any] = {"readouts": shape.readouts[0], "losses": next(losses), "truncations": cut.kind}
        names |= {"activations": shape.activations[0], "reductions": (shape.reductions or ("sum",))[0]}
        problem = generic(6000 + 2 * i, support, cell, dtype, (28, 1, 1, 2, 2), names)
        if problem is not None:
            yield replace(problem, truncation=cut)


def _ordered_rows(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Rows in the order of their lengths, and lengths beside the blocks of a truncation."""
    if not shape.lengths:
        return
    kind = "periodic" if "periodic" in shape.truncations else shape.truncations[-1]
    for i, (loss, lengths) in enumerate(zip(itertools.cycle(shape.losses), ORDERS.values())):
        names: dict[str, Any] = {"readouts": shape.readouts[i % len(shape.readouts)], "losses": loss}
        names |= {
            "truncations": kind,
            "activations": shape.activations[0],
            "reductions": (shape.reductions or ("sum",))[0],
        }
        problem = generic(5000 + 2 * i, support, cell, dtype, (max(lengths), len(lengths), 2, 3, 3), names)
        if problem is not None:
            cut = Truncation("periodic", k1=3, k2=4) if kind == "periodic" else problem.truncation
            yield replace(problem, lengths=np.array(lengths), truncation=cut)


def _empty_rows(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """A row of length 0 under every truncation, and nothing but such rows: final cotangents pass through them."""
    if not (shape.lengths and "cotangent" in shape.losses):
        return
    names = {"readouts": shape.readouts[0], "losses": "cotangent", "activations": shape.activations[0]}
    for i, kind in enumerate(shape.truncations):
        wanted = {**names, "truncations": kind, "reductions": "sum"}
        problem = generic(3000 + i, support, cell, dtype, (5, 3, 2, 3, 3), wanted)
        if problem is not None:
            yield replace(problem, lengths=np.array([5, 0, 3]))
            if i == 0:
                yield replace(problem, lengths=np.zeros(3, dtype=np.int64))
