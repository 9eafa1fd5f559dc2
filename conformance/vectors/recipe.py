"""From a vector's recipe to its problem: every number comes from the vector's id, by integers alone.

An id is made of what the recipe says, and the entries of the array `name` from the bytes of SHAKE-256("id|name"):

    s = u_1 + u_2 + u_3 + u_4 - 2 (2^32 - 1)      u_i unsigned, four bytes each, little-endian                   (1)
    v = s / 2479700525                            about normal: mean 0, variance 1, |v| < 3.47                   (2)

which is scaled by rationals and rounded once to what the vector's numbers are stored in. So the same id has the same
problem wherever and whenever it is made; no generator of a library, and no float, has a part in it. In (2) stands
2^32 / sqrt(3), the standard deviation of (1), as an integer. Source: ours; four uniform numbers are Irwin's sum.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import DTYPES, Array, Loss, Problem
from bptt.truncation import Truncation
from oracle.rounding import to_array

DEVIATION = 2479700525
STORED = {"narrow": "float32", "single": "float32", "double": "float64"}
"""What a vector's numbers are stored in. Narrow ones are bfloat16 values that float16 holds too."""
HELD_BY = {
    "narrow": ("float64", "float32", "float16", "bfloat16"),
    "single": ("float64", "float32"),
    "double": ("float64",),
}
"""The dtypes that hold all of a vector's inputs, so that its problem is a problem in each of them."""
LOSSES: dict[str, tuple[str, tuple[Any, ...]]] = {  # name: kind, and what the kind leaves open
    "cotangent": ("cotangent", ()),
    "finals": ("cotangent", ("g_h_final", "g_c_final")),
    "final-h": ("cotangent", ("g_h_final",)),
    "final-c": ("cotangent", ("g_c_final",)),
    "squared": ("squared_error", (1.0,)),
    "half-squared": ("squared_error", (0.5,)),
    "classes": ("cross_entropy", ("classes",)),
    "probabilities": ("cross_entropy", ("probabilities",)),
}
REDUCTIONS = {
    "sum": ("sum", "sum"),
    "time-mean": ("mean", "sum"),
    "batch-mean": ("sum", "mean"),
    "mean": ("mean", "mean"),
    "tokens": ("tokens", "tokens"),
}
Numbers = list[Fraction]
Arrays = dict[str, tuple[tuple[int, ...], Numbers]]
"""Name to shape and entries in C order: a problem's arrays before they are rounded."""


@dataclass(frozen=True)
class Recipe:
    """What a vector is. `sizes` are T, B, D, H, K; without a readout K is not used. `corner` names a change."""

    cell: str
    activation: str | None
    loss: str
    sizes: tuple[int, int, int, int, int]
    reduction: str = "sum"
    truncation: Truncation = field(default_factory=Truncation)
    linear: bool = True
    lengths: tuple[int, ...] | None = None
    initial: bool = True
    numbers: str = "single"
    corner: str = ""

    @property
    def id(self) -> str:
        """The vector's name: the same for the same recipe, in every version of the suite."""
        T, B, D, H, K = self.sizes
        cut = "".join(f"{n}." for n in (self.truncation.k, self.truncation.k1, self.truncation.k2) if n)
        rows = () if self.lengths is None else (f"rows{'.'.join(map(str, self.lengths))}",)
        parts = (
            self.cell.replace("_", "-"),
            *((self.activation,) if self.activation else ()),
            self.loss,
            *((self.reduction,) if self.reduction != "sum" else ()),
            self.truncation.kind + cut.rstrip("."),
            f"t{T}b{B}d{D}h{H}" + (f"k{K}" if self.linear else ""),
            *rows,
            *(() if self.initial else ("no-h0",)),
            *((self.corner,) if self.corner else ()),
            self.numbers,
        )
        return "-".join(parts)


def normals(name: str, count: int) -> Numbers:
    """(2) for each entry.

    >>> [round(float(v), 3) for v in normals("an id|x", 3)]
    [0.358, 2.061, 1.567]
    """
    words = struct.unpack(f"<{4 * count}I", hashlib.shake_256(name.encode()).digest(16 * count))
    return [Fraction(sum(words[i : i + 4]) - 2 * (2**32 - 1), DEVIATION) for i in range(0, 4 * count, 4)]


def integers(name: str, count: int, below: int) -> list[int]:
    """Integers from 0 up to `below`, not included; for the small `below` that are used about equally likely.

    >>> integers("an id|permutation", 5, 3)
    [0, 1, 2, 0, 1]
    """
    words = struct.unpack(f"<{count}Q", hashlib.shake_256(name.encode()).digest(8 * count))
    return [word % below for word in words]


def permutation(name: str, count: int) -> list[int]:
    """A permutation of 0 … count − 1.

    >>> permutation("an id", 4)
    [2, 0, 3, 1]
    """
    keys = integers(f"{name}|permutation", count, 2**63)
    return sorted(range(count), key=keys.__getitem__)


def inverse_root(n: int) -> Fraction:
    """1/sqrt(n) to 20 bits.

    >>> inverse_root(4)
    Fraction(1, 2)
    """
    return Fraction(math.isqrt(2**40 // n), 2**20)


def plain_arrays(recipe: Recipe) -> Arrays:
    """Every array of a generic problem: random and non-zero, weights of moderate size."""
    T, B, D, H, K = sizes_of(recipe)
    kind, open_ = LOSSES[recipe.loss]
    spec = CELLS[recipe.cell]
    found: Arrays = {}

    def give(name: str, shape: tuple[int, ...], scale: Fraction | int = 1) -> None:
        found[name] = shape, [scale * v for v in normals(f"{recipe.id}|{name}", math.prod(shape))]

    for name, shape in spec.shapes(D, H).items():
        if name in ("W_hh", "W_h"):
            give(f"params.{name}", shape, inverse_root(H) * Fraction(3, 4))
        else:
            give(f"params.{name}", shape, inverse_root(D) if len(shape) == 2 else Fraction(1, 2))
    if recipe.linear:
        give("params.W_hy", (H, K), inverse_root(H))
        give("params.b_y", (K,))
    give("x", (T, B, D))
    if recipe.initial:
        for state in spec.states:
            give(f"{state}0", (B, H))
    if kind == "cotangent":
        give("loss.g", (T, B, K))
        for name in open_:
            if name[2] in spec.states:
                give(f"loss.{name}", (B, H))
    elif kind == "squared_error":
        give("loss.target", (T, B, K))
    elif open_ == ("probabilities",):
        found["loss.target"] = (T, B, K), list(_probabilities(recipe.id, T * B, K))
    return found


def sizes_of(recipe: Recipe) -> tuple[int, int, int, int, int]:
    """T, B, D, H, K, where K is H without a readout."""
    T, B, D, H, K = recipe.sizes
    return T, B, D, H, K if recipe.linear else H


def _probabilities(name: str, rows: int, K: int) -> Iterator[Fraction]:
    """Rows of multiples of 1/64 that sum to 1: exact in every dtype."""
    cuts = integers(f"{name}|probabilities", rows * (K - 1), 65)
    for i in range(rows):
        points = [0, *sorted(cuts[i * (K - 1) : (i + 1) * (K - 1)]), 64]
        yield from (Fraction(b - a, 64) for a, b in itertools.pairwise(points))


def build(recipe: Recipe, corners: dict[str, Callable[[Recipe, Arrays], None]]) -> Problem:
    """The problem of a recipe, stored as STORED says; `corners` change the arrays in place, by name."""
    arrays = plain_arrays(recipe)
    if recipe.corner:
        corners[recipe.corner](recipe, arrays)
    stored = STORED[recipe.numbers]
    made: dict[str, Array] = {}
    for name, (shape, entries) in arrays.items():
        rounded = to_array(entries, shape, "bfloat16" if recipe.numbers == "narrow" else stored)
        made[name] = rounded.astype(DTYPES[stored])
    T, B, _, _, K = sizes_of(recipe)
    kind, open_ = LOSSES[recipe.loss]
    if open_ == ("classes",):
        made["loss.target"] = np.array(integers(f"{recipe.id}|classes", T * B, K), dtype=np.int64).reshape(T, B)
        made["loss.target"][-1, -1] = K - 1  # the last class is one of them
    time, batch = REDUCTIONS[recipe.reduction]
    parts: dict[str, Any] = {name: made.get(f"loss.{name}") for name in ("g", "g_h_final", "g_c_final", "target")}
    return Problem(
        cell=recipe.cell,
        activation=recipe.activation,
        readout="linear" if recipe.linear else "none",
        params={n.removeprefix("params."): array for n, array in made.items() if n.startswith("params.")},
        x=made["x"],
        h0=made.get("h0"),
        c0=made.get("c0"),
        lengths=None if recipe.lengths is None else np.array(recipe.lengths, dtype=np.int64),
        loss=Loss(
            kind,
            **parts,
            scale=open_[0] if kind == "squared_error" else None,
            time_reduction=time,
            batch_reduction=batch,
        ),
        truncation=recipe.truncation,
        dtype=stored,
    )
