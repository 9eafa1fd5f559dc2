"""Problems in which features meet: a kernel may be wrong where some of them do, and nowhere else.

What is drawn meets a given pair by chance. Here each value of each feature (the loss, the readout, the truncation, the
reductions, lengths, initial states, the activation, and a small or wider size of every axis) stands beside each value
of every other, in some four dozen problems. Four features decide together what a step's loss is multiplied by and how
far it reaches, the loss, the truncation, the reductions and lengths: of these all combinations are asked, on small
problems.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from bptt.problem import Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.generic import REDUCTIONS, generic, labelled
from properties.strategies import Shape, offered

AXES = {"T": (3, 1, 18), "B": (3, 1, 17), "D": (2, 1, 18), "H": (3, 1, 17)}
CLASSES = (3, 1, 18)
"""The sizes of each axis, K under a readout: a middling one, the least, and one beyond a vector's or a tile's width."""
CANDIDATES = 40
"""So many rows are looked at for the next one: of these the one in which most pairs meet that have not met yet."""
SIZES = (  # T, B, D, H, K
    *((5, 3, 2, 3, 3), (4, 17, 2, 18, 2), (4, 2, 18, 3, 19), (18, 2, 2, 3, 2)),
    *((3, 18, 2, 3, 18), (4, 3, 20, 18, 2), (6, 4, 3, 4, 17)),
)
"""The sizes at which names are combined, in turn: their number has no factor in common with those of the names."""
REACH = 2
"""How many steps truncations reach back, and how long blocks are."""
Row = tuple[Any, ...]
Void = tuple[int, tuple[Any, ...], int]


@lru_cache(maxsize=64)
def covering(levels: tuple[tuple[Any, ...], ...], void: Void | None = None, seed: int = 0) -> tuple[Row, ...]:
    """Rows of one value a feature so that every pair of two features' values is in some row.

    void    (i, values, j): in a row with one of these values of feature i, feature j means nothing, and meets nothing

    >>> rows = covering(((0, 1, 2), ("a", "b"), (True, False)))
    >>> len(rows), {(row[0], row[1]) for row in rows} == {(n, c) for n in (0, 1, 2) for c in "ab"}
    (6, True)
    """
    rng = np.random.default_rng(seed)

    def pairs(row: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
        nothing = None if void is None or levels[void[0]][row[void[0]]] not in void[1] else void[2]
        for m, n in itertools.combinations(range(len(row)), 2):
            if nothing not in (m, n):
                yield m, row[m], n, row[n]

    def meets(m: int, a: int, n: int, b: int) -> bool:
        """Whether any row may have both."""
        if void is None or void[2] not in (m, n):
            return True
        telling = [k for k, value in enumerate(levels[void[0]]) if value not in void[1]]
        return (a if m == void[0] else b) in telling if void[0] in (m, n) else bool(telling)

    open_ = {
        (m, a, n, b)
        for m, n in itertools.combinations(range(len(levels)), 2)
        for a, b in itertools.product(range(len(levels[m])), range(len(levels[n])))
        if meets(m, a, n, b)
    }
    rows = []
    while open_:
        best: list[int] = []
        met: set[tuple[int, int, int, int]] = set()
        i, a, j, b = min(open_)
        for tried in itertools.count(1):
            row = [int(rng.integers(len(values))) for values in levels]
            row[i], row[j] = a, b
            now = open_.intersection(pairs(row))
            if len(now) > len(met):
                best, met = row, now
            if met and tried >= CANDIDATES:
                break
        open_ -= met
        rows.append(tuple(values[k] for values, k in zip(levels, best, strict=True)))
    return tuple(rows)


def pairwise_problems(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """The problems, as far as the target offers them; where the notation excludes a pair, the nearest that it has."""
    shape = offered(support, cell)
    levels: dict[str, tuple[Any, ...]] = {
        name: tuple(size for size in sizes if size <= support.max_size.get(name, size)) for name, sizes in AXES.items()
    }
    outputs = [("linear", K) for K in CLASSES if support.max_size.get("K", K) >= K] + [("none", 0)]  # there K is H
    levels["output"] = tuple(pair for pair in outputs if pair[0] in shape.readouts)
    levels |= {name: values for name, values in names_of(shape).items() if name != "readout"}
    order = list(levels)
    cotangents = tuple(loss for loss in levels["loss"] if loss[0] == "cotangent")
    void = (order.index("loss"), cotangents, order.index("reduction"))  # of a cotangent the notation has but the sum
    rows = covering(tuple(levels.values()), void) if all(levels.values()) else ()
    for i, row in enumerate(rows):
        problem = made(i, support, cell, dtype, row)
        if problem is not None and support.serves(problem):
            yield problem


def combined_problems(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """Every combination of loss, truncation, reductions and lengths; sizes and other names take turns."""
    levels = names_of(offered(support, cell))
    combinations = itertools.product(*(levels[name] for name in ("loss", "truncation", "reduction", "lengths")))
    n = 0
    for loss, truncation, reduction, rows in combinations:
        if loss[0] == "cotangent" and reduction != levels["reduction"][0]:  # the notation has but the sum
            continue
        rest, others = n, []
        for name in ("readout", "h0", "activation"):
            others.append(levels[name][rest % len(levels[name])])
            rest //= len(levels[name])
        *sizes, K = (
            min(size, support.max_size.get(a, size)) for a, size in zip("TBDHK", SIZES[n % len(SIZES)], strict=True)
        )
        row = (*sizes, (others[0], K), loss, truncation, reduction, rows, *others[1:])
        problem = made(1000 + n, support, cell, dtype, row) if all(sizes) else None
        n += 1
        if problem is not None and support.serves(problem):
            yield problem


def names_of(shape: Shape) -> dict[str, tuple[Any, ...]]:
    """The values of each feature but sizes."""
    losses = [(loss, further) for loss in shape.losses for further in (False, True)]
    offered_too = {"cotangent": shape.finals, "squared_error": False, "cross_entropy": True}
    reductions = tuple(pair for pair in REDUCTIONS if set(pair) <= set(shape.reductions))
    return {
        "readout": tuple(shape.readouts),
        "loss": tuple((loss, further) for loss, further in losses if not further or offered_too[loss]),
        "truncation": tuple(shape.truncations),
        "reduction": reductions or (("sum", "sum"),),
        "lengths": ("none", "given", "some 0") if shape.lengths else ("none",),
        "h0": (True, False) if shape.h0_none else (True,),
        "activation": tuple(shape.activations),
    }


def made(i: int, support: Support, cell: str, dtype: str, row: Row) -> Problem | None:
    """The i-th problem: its sizes, its output, then loss, truncation, reduction, lengths, initial state, activation."""
    T, B, D, H, (readout, K), (loss, further), truncation, reduction, rows, started, activation = row
    if loss == "cross_entropy":  # of one class there is nothing to say
        H, K = (max(H, 2), K) if readout == "none" else (H, max(K, 2))
    if rows == "some 0":  # and one that is not
        B = max(B, 2)
    names = {"losses": loss, "readouts": readout, "truncations": truncation, "activations": activation}
    problem = generic(9100 + 2 * i, support, cell, dtype, (T, B, D, H, K), names | {"reductions": reduction[0]})
    if problem is None:
        return None
    if truncation in ("window", "chunk"):
        problem = replace(problem, truncation=Truncation(truncation, k=REACH))
    elif truncation == "periodic":
        problem = replace(problem, truncation=Truncation(truncation, k1=REACH, k2=REACH + 1))
    if loss == "cotangent" and not further:
        problem = replace(problem, loss=replace(problem.loss, g_h_final=None, g_c_final=None))
    elif loss == "cross_entropy" and further:
        problem = labelled(problem)
    if loss != "cotangent":
        problem = replace(
            problem, loss=replace(problem.loss, time_reduction=reduction[0], batch_reduction=reduction[1])
        )
    if rows != "none":
        lengths = np.roll(T - np.arange(B) % T, i)
        if rows == "some 0":
            lengths[i % B] = 0
        problem = replace(problem, lengths=lengths)
    return problem if started else replace(problem, h0=None, c0=None)
