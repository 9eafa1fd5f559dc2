"""Backward passes side by side: those of a truncation that are alike are one pass over more rows.

A window has a pass for each loss; taken one by one, most of their time goes to NumPy's calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.truncation import Sweep
from oracle.budget.graph import Floats


@dataclass
class Alike:
    """P passes of the same number of steps whose losses stand at the same places, counted back from the last one.

    Shapes: seeds (P,n,B) whether row b has the n-th loss; first (P,B), last (P,), the steps between which they run;
    offsets (n,) how many steps before the last one the losses are.
    """

    seeds: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    offsets: NDArray[np.int64]
    steps: int


def alike(passes: Sequence[Sweep], room: float) -> Iterator[Alike]:
    """Passes that can go side by side, no more at a time than leave each of their steps its share of `room`."""
    groups: dict[tuple[int, ...], list[tuple[int, Sweep]]] = {}
    for sweep in passes:
        steps = list(sweep.steps)
        if steps:
            offsets = (steps[0] - 1 - np.flatnonzero(sweep.seeds.any(axis=1))[::-1]).tolist()
            groups.setdefault((len(steps), *offsets), []).append((steps[0], sweep))
    for (steps_each, *offsets), group in groups.items():
        left = group
        while left:
            waiting, left, losses = left, [], set[int]()
            taken: list[tuple[int, Sweep]] = []
            for last, sweep in waiting:
                own = {last - offset for offset in offsets}
                fits = losses.isdisjoint(own) and len(taken) < max(1, room / steps_each)
                (taken if fits else left).append((last, sweep))
                losses |= own
            behind = np.array(offsets)
            seeds = np.array([sweep.seeds[last - 1 - behind] for last, sweep in taken])
            firsts = np.array([sweep.first for _, sweep in taken])
            yield Alike(seeds, firsts, np.array([last for last, _ in taken]), behind, steps_each)


class Moment:
    """Where passes side by side are: P of them, each at a step of its own, no two at the same; and their losses.

    Shapes: steps (P,) counted from 0; losses (P,n), likewise, no two the same.
    """

    def __init__(self, steps: NDArray[np.int64], losses: NDArray[np.int64]) -> None:
        self.P, self.steps, self.losses = len(steps), steps, losses
        self.only = int(steps[0]) if self.P == 1 else None

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """What an array (T,B,...) holds of the steps: (P B,...)."""
        if self.only is not None:
            return np.asarray(array[self.only])
        return array[self.steps].reshape(-1, *array.shape[2:])

    def into(self, array: Floats, values: Floats) -> None:
        """Add values (P B,...) to an array (T,B,...)."""
        if self.only is not None:
            array[self.only] += values
        else:
            array[self.steps] += values.reshape(self.P, -1, *array.shape[2:])
