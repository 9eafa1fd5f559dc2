"""Truncated BPTT: which terms (t, s) of the double sum a gradient keeps.

    dtheta = sum_t sum_{s<=t} m(t,s) (dL_t/dh_t) (dh_t/dh_s) (d+h_s/dtheta)

    full            m = 1
    window(k)       m = [t - s < k]
    chunk(k)        m = [s and t in the same block of k steps]
    periodic(k1,k2) m = [s > e(t) - k2],  e(t) = min(length, k1 ceil(t/k1)),  k2 >= k1
    cec             m = 1, with h_{s-1} held constant in every pre-activation (lstm_1997)

Source of `periodic`: Williams and Peng (1990), BPTT(h; h'). Steps count from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bptt.errors import ProblemError

KINDS = ("full", "window", "chunk", "periodic", "cec")
_NEEDS: dict[str, tuple[str, ...]] = {
    "full": (),
    "cec": (),
    "window": ("k",),
    "chunk": ("k",),
    "periodic": ("k1", "k2"),
}


@dataclass(frozen=True)
class Truncation:
    """How far errors travel back; `k`, `k1`, `k2` are steps, at least 1, and None where the kind has none."""

    kind: str = "full"
    k: int | None = None
    k1: int | None = None
    k2: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ProblemError(f"truncation.kind: got {self.kind!r}, expected one of {', '.join(KINDS)}")
        for name in ("k", "k1", "k2"):
            value = getattr(self, name)
            if name in _NEEDS[self.kind]:
                if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
                    raise ProblemError(f"truncation.{name}: got {value!r}, expected an integer of at least 1")
            elif value is not None:
                raise ProblemError(f"truncation.{name}: got {value!r}, expected None for kind {self.kind!r}")
        if self.kind == "periodic" and not (self.k1 is not None and self.k2 is not None and self.k2 >= self.k1):
            raise ProblemError(f"truncation.k2: got {self.k2}, expected at least k1 = {self.k1}")

    def __str__(self) -> str:
        return self.kind + (
            f"({', '.join(str(getattr(self, n)) for n in _NEEDS[self.kind])})" if _NEEDS[self.kind] else ""
        )

    def first(self, t: int, length: int) -> int:
        """The smallest s >= 1 with m(t,s) = 1, for a row of this length and 1 <= t <= length.

        >>> Truncation("window", k=2).first(5, 9), Truncation("chunk", k=4).first(7, 9)
        (4, 5)
        >>> Truncation("periodic", k1=2, k2=3).first(5, 5), Truncation("periodic", k1=2, k2=3).first(5, 9)
        (3, 4)
        """
        if self.kind == "window":
            assert self.k is not None
            return max(1, t - self.k + 1)
        if self.kind == "chunk":
            assert self.k is not None
            return (t - 1) // self.k * self.k + 1
        if self.kind == "periodic":
            assert self.k1 is not None and self.k2 is not None
            end = min(length, self.k1 * -(-t // self.k1))
            return max(1, end - self.k2 + 1)
        return 1

    def mask(self, t: int, s: int, length: int) -> bool:
        """m(t,s) of the module's first lines, for 1 <= s <= t <= length; False elsewhere."""
        return 1 <= s <= t <= length and s >= self.first(t, length)


@dataclass(frozen=True)
class Sweep:
    """One backward pass: row b starts from the losses in `seeds[:, b]` and stops after step `first[b]`.

    Shapes: seeds (T,B) bool, seeds[t-1] is step t; first (B,) int, at least 1.
    """

    seeds: NDArray[np.bool_]
    first: NDArray[np.int64]

    @property
    def steps(self) -> range:
        """The steps that the sweep visits, from the last loss down to the smallest first step."""
        used = np.flatnonzero(self.seeds.any(axis=1))
        rows = self.seeds.any(axis=0)
        if used.size == 0:
            return range(0)
        return range(int(used[-1]) + 1, int(self.first[rows].min()) - 1, -1)


def sweeps(truncation: Truncation, lengths: NDArray[np.int64], T: int) -> list[Sweep]:
    """Split the masked double sum into backward passes: losses that reach back to the same step share one.

    Shapes: lengths (B,), 0 <= length <= T. Each (t, b) with t <= length is a seed of exactly one sweep.
    Source: ours, from the mask alone.
    """
    return list(_sweeps(truncation, tuple(lengths.tolist()), T))


@lru_cache(maxsize=4)
def _sweeps(truncation: Truncation, lengths: tuple[int, ...], T: int) -> tuple[Sweep, ...]:
    """Kept, since a problem's solution and its budget ask for the same passes. The arrays are read-only."""
    B = len(lengths)
    known: dict[int, list[tuple[int, list[int]]]] = {}  # by length: (first step, the losses that reach back to it)
    for length in set(lengths):
        by_first: dict[int, list[int]] = {}
        for t in range(1, length + 1):
            by_first.setdefault(truncation.first(t, length), []).append(t - 1)
        known[length] = sorted(by_first.items())
    result = []
    for j in range(max((len(rows) for rows in known.values()), default=0)):
        seeds = np.zeros((T, B), dtype=np.bool_)
        first = np.full(B, T + 1, dtype=np.int64)  # a row with no loss in this sweep stops before it starts
        for b, length in enumerate(lengths):
            if j < len(known[length]):
                first[b], losses = known[length][j]
                seeds[losses, b] = True
        seeds.flags.writeable = first.flags.writeable = False
        result.append(Sweep(seeds, first))
    return tuple(result)
