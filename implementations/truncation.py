"""Truncated BPTT as backward sweeps: which losses a sweep takes, and how far down each row of it goes.

For the parameters of a cell, truncated BPTT is a masked double sum over losses t and steps s <= t,

    dtheta = sum_t sum_{s<=t} m(t,s) (dL_t/dh_t) (dh_t/dh_s) (d+h_s/dtheta)                                    (1)

    full, cec         m = 1                                                                                     (2)
    window(k)         m = [t - s < k]                                                                           (3)
    chunk(k)          m = [s and t lie in the same block of k steps]                                            (4)
    periodic(k1,k2)   m = [s > e(t) - k2],  e(t) = min(length, k1 ceil(t/k1)),  k2 >= k1                        (5)

(5) is BPTT(h; h') of Williams and Peng (1990): it runs every k1 steps, k2 steps back. `cec` changes the cell's
Jacobian and not the mask. In all of them losses of one block share the condition on s, so that one sweep a block

    t in (first, last],   s > floor        with a floor for each row of the batch                                (6)

computes exactly its part of (1): start at `last`, add dL_t/dh_t while t > first, drop the carry at the floor.
Blocks are all T steps for (2), 1 step for (3), k for (4), k1 for (5).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = ("full", "window", "chunk", "periodic", "cec")


@dataclass(frozen=True)
class Sweep:
    """One backward pass (6): losses t with first < t <= last, propagated to the steps s > floor.

    Shapes: floor (B,) int64, 0 where the pass reaches the initial state; length (B,) int64.
    """

    first: int
    last: int
    floor: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]

    @property
    def bottom(self) -> int:
        """The lowest floor: no row has anything to do at a step s <= bottom."""
        return int(self.floor.min())

    @property
    def ends(self) -> npt.NDArray[np.bool_]:
        """(B,): the rows whose final state, which is that of t = length, is a loss of this sweep.

        A row of length 0 ends in the first sweep, which passes its final cotangent to the initial state.
        """
        return ((self.length > self.first) | (self.first == 0)) & (self.length <= self.last)

    def active(self, s: int) -> npt.NDArray[np.bool_]:
        """(B,): the rows that propagate through step s: not padding, and above the floor."""
        return (s <= self.length) & (s > self.floor)


def row_lengths(lengths: npt.ArrayLike | None, T: int, B: int) -> npt.NDArray[np.int64]:
    """Count the steps of each row: `lengths` (B,), or T for all rows where it is None -> (B,) int64."""
    return np.full(B, T, dtype=np.int64) if lengths is None else np.array(lengths, dtype=np.int64)


def mask(truncation: Any, t: int, s: int, length: int) -> bool:
    """Evaluate m(t,s) of (2) to (5) for a row of that length; False unless 1 <= s <= t <= length."""
    if not 1 <= s <= t <= length:
        return False
    match truncation.kind:
        case "full" | "cec":
            return True
        case "window":
            return bool(t - s < truncation.k)
        case "chunk":
            return bool((t - 1) // truncation.k == (s - 1) // truncation.k)
        case "periodic":
            end = min(length, truncation.k1 * -(-t // truncation.k1))  # -(-a // b) is the ceiling of a / b
            return bool(s > end - truncation.k2)
    raise _unknown(truncation.kind)


def sweeps(truncation: Any, T: int, length: npt.NDArray[np.int64]) -> Iterator[Sweep]:
    """Yield the sweeps whose sum is (1), from the first block to the last.

    Shapes: length (B,) int64, all <= T. A sweep without a loss in any row is left out.
    Raises: NotImplementedError for an unknown kind; ValueError unless k >= 1 and k2 >= k1 >= 1.
    """
    block, depth = _block_and_depth(truncation, T)
    for first in range(0, T, block):
        last = min(first + block, T)
        if first and not (length > first).any():
            return
        if depth is None:  # (2), (4): down to the start of the block
            floor = np.full_like(length, first)
        else:  # (3), (5): down to depth steps below the block's end in the row
            floor = np.maximum(np.minimum(length, last) - depth, 0)
            if first:
                floor[length <= first] = last  # these rows are over: nothing to propagate
        yield Sweep(first, last, floor, length)


def _block_and_depth(truncation: Any, T: int) -> tuple[int, int | None]:
    """Return the number of losses a sweep takes, and how many steps back from their end it goes (None: its start)."""
    match truncation.kind:
        case "full" | "cec":
            return T, None
        case "window":
            block, depth = 1, truncation.k
        case "chunk":
            block, depth = truncation.k, None
        case "periodic":
            block, depth = truncation.k1, truncation.k2
        case _:
            raise _unknown(truncation.kind)
    if not (block >= 1 and (depth is None or depth >= block)):
        message = f"truncation {truncation.kind}: want k >= 1 and k2 >= k1 >= 1, got {truncation}"
        raise ValueError(message)
    return int(block), None if depth is None else int(depth)


def _unknown(kind: object) -> NotImplementedError:
    return NotImplementedError(f"truncation {kind!r}; known: {', '.join(KINDS)}")
