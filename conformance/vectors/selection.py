"""Which vectors there are: plans, each of which meets every cell (an Elman cell with each activation), and a few more.

A plan leaves the cell open. What no cell but some can show (kinks, peepholes' cotangents, the carousel) stands below.
A vector that is dropped or changed here changes nobody else's id: tests/data/vector_ids.txt holds them to that.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bptt.cells import CELLS
from bptt.problem import Problem
from bptt.truncation import Truncation
from conformance.vectors.corners import CORNERS
from conformance.vectors.recipe import Recipe, build

FORGETFUL = ("elman", "lstm", "lstm_peephole", "gru_reset_after", "gru_reset_before")
"""Cells in which errors can be made to vanish: the carousel of lstm_1997 keeps them as they are."""


@dataclass(frozen=True)
class Vector:
    """A vector: its recipe, and the problem that comes of it."""

    recipe: Recipe

    @property
    def id(self) -> str:
        """Its name."""
        return self.recipe.id

    @functools.cached_property
    def problem(self) -> Problem:
        """Its problem, stored in the dtype that its numbers are stored in."""
        return build(self.recipe, CORNERS)


def _window(k: int) -> Truncation:
    return Truncation("window", k=k)


def _chunk(k: int) -> Truncation:
    return Truncation("chunk", k=k)


def _periodic(k1: int, k2: int) -> Truncation:
    return Truncation("periodic", k1=k1, k2=k2)


PLANS: tuple[dict[str, Any], ...] = (
    # generic problems: every loss, reduction and truncation, with and without a readout
    {"loss": "finals", "sizes": (7, 3, 5, 3, 0), "linear": False},
    {"loss": "finals", "sizes": (6, 2, 3, 5, 4), "numbers": "double"},
    {"loss": "finals", "sizes": (3, 2, 2, 3, 2), "numbers": "narrow"},
    {"loss": "cotangent", "sizes": (2, 3, 2, 3, 0), "linear": False, "lengths": (2, 1, 2), "numbers": "narrow"},
    {"loss": "half-squared", "sizes": (2, 2, 2, 3, 2), "reduction": "mean", "numbers": "narrow"},
    {"loss": "cotangent", "sizes": (8, 2, 3, 4, 3), "truncation": _window(3)},
    {"loss": "final-h", "sizes": (7, 2, 4, 3, 0), "linear": False, "truncation": _window(2)},
    {"loss": "finals", "sizes": (7, 2, 3, 4, 2), "truncation": _chunk(3)},
    {"loss": "cotangent", "sizes": (9, 3, 2, 3, 2), "truncation": _periodic(2, 5), "lengths": (9, 4, 7)},
    {"loss": "half-squared", "sizes": (6, 3, 2, 4, 3), "reduction": "mean", "lengths": (6, 3, 5)},
    {"loss": "squared", "sizes": (5, 3, 4, 3, 0), "reduction": "tokens", "linear": False, "lengths": (3, 5, 0)},
    {"loss": "half-squared", "sizes": (5, 3, 2, 3, 2), "reduction": "time-mean", "truncation": _chunk(2)},
    {"loss": "squared", "sizes": (4, 3, 3, 2, 4), "reduction": "batch-mean", "lengths": (4, 0, 2)},
    {"loss": "classes", "sizes": (6, 3, 2, 4, 5), "reduction": "mean", "lengths": (2, 6, 4)},
    {"loss": "probabilities", "sizes": (5, 2, 3, 4, 3), "reduction": "tokens", "numbers": "double"},
    {"loss": "classes", "sizes": (5, 2, 3, 4, 0), "linear": False, "truncation": _window(2)},
    # rows: empty, in order of their lengths, one that ends inside a block
    {"loss": "finals", "sizes": (5, 3, 2, 3, 2), "lengths": (5, 0, 3)},
    {"loss": "finals", "sizes": (5, 3, 2, 4, 0), "linear": False, "lengths": (0, 5, 2), "truncation": _window(2)},
    {"loss": "half-squared", "sizes": (4, 3, 2, 3, 2), "reduction": "mean", "lengths": (4, 0, 3)},
    {"loss": "cotangent", "sizes": (7, 7, 2, 3, 2), "lengths": (1, 2, 3, 4, 5, 6, 7)},
    {"loss": "final-h", "sizes": (7, 7, 2, 3, 2), "lengths": (7, 6, 5, 4, 3, 2, 1)},
    {"loss": "finals", "sizes": (6, 4, 2, 3, 2), "lengths": (6, 3, 5, 6), "truncation": _periodic(3, 4)},
    {"loss": "finals", "sizes": (7, 3, 2, 3, 2), "lengths": (7, 2, 5), "truncation": _chunk(3)},
    # sizes: one class, one step, one row, at and past the widths of vectors and tiles, many steps
    {"loss": "classes", "sizes": (4, 3, 2, 3, 1), "reduction": "mean"},
    {"loss": "finals", "sizes": (1, 3, 2, 5, 3)},
    {"loss": "cotangent", "sizes": (5, 1, 2, 3, 2)},
    {"loss": "finals", "sizes": (3, 2, 4, 1, 2), "truncation": _window(5)},
    {"loss": "finals", "sizes": (19, 2, 3, 5, 3), "numbers": "double"},
    {"loss": "half-squared", "sizes": (33, 1, 2, 3, 2)},
    {"loss": "cotangent", "sizes": (21, 1, 2, 3, 2), "truncation": _window(17)},
    {"loss": "cotangent", "sizes": (3, 2, 17, 33, 3)},
    {"loss": "squared", "sizes": (3, 17, 5, 4, 19), "reduction": "mean"},
    {"loss": "classes", "sizes": (3, 5, 3, 9, 10), "reduction": "mean"},
    {"loss": "finals", "sizes": (17, 9, 18, 19, 10)},
    {"loss": "final-h", "sizes": (3, 7, 9, 6, 4), "truncation": _chunk(2)},
    # extremes
    {"loss": "finals", "sizes": (4, 2, 2, 3, 2), "corner": "loud"},
    {"loss": "squared", "sizes": (4, 2, 2, 3, 2), "corner": "loud"},
    {"loss": "finals", "sizes": (5, 2, 2, 3, 2), "corner": "faint"},
    {"loss": "finals", "sizes": (4, 2, 2, 3, 2), "corner": "subnormal"},
    {"loss": "finals", "sizes": (4, 2, 2, 3, 2), "corner": "subnormal", "numbers": "double"},
    {"loss": "finals", "sizes": (4, 2, 2, 3, 2), "corner": "silent"},
    {"loss": "finals", "sizes": (5, 3, 2, 3, 2), "corner": "far"},
    {"loss": "classes", "sizes": (5, 3, 2, 3, 3), "corner": "far"},
    {"loss": "finals", "sizes": (5, 2, 2, 3, 2), "corner": "saturated8"},
    {"loss": "finals", "sizes": (5, 2, 2, 3, 2), "corner": "saturated18", "numbers": "double"},
    {"loss": "finals", "sizes": (4, 2, 3, 2, 2), "corner": "huge"},
    {"loss": "finals", "sizes": (4, 2, 3, 2, 2), "corner": "tiny", "numbers": "double"},
    {"loss": "cotangent", "sizes": (6, 2, 2, 3, 2), "corner": "last-loss", "truncation": _window(4)},
    {"loss": "cotangent", "sizes": (4, 2, 2, 3, 2), "corner": "vanishing", "cells": FORGETFUL},
    {"loss": "cotangent", "sizes": (6, 2, 2, 3, 2), "corner": "vanishing", "numbers": "double", "cells": FORGETFUL},
    {"loss": "finals", "sizes": (5, 3, 3, 4, 3), "corner": "zeros"},
    {"loss": "cotangent", "sizes": (5, 2, 3, 5, 2), "corner": "pruned"},
    {"loss": "cotangent", "sizes": (4, 2, 3, 4, 0), "linear": False, "corner": "cancelling"},
    {"loss": "probabilities", "sizes": (4, 2, 2, 3, 3), "corner": "logits"},
    {"loss": "classes", "sizes": (5, 3, 2, 3, 4), "corner": "confident"},
    {"loss": "finals", "sizes": (4, 2, 3, 5, 2), "corner": "strong"},
    {"loss": "finals", "sizes": (5, 2, 3, 4, 2), "initial": False},
)
CAROUSEL: tuple[dict[str, Any], ...] = (
    {"loss": "finals", "sizes": (5, 3, 2, 3, 2), "truncation": Truncation("cec"), "lengths": (5, 0, 3)},
    {"loss": "finals", "sizes": (7, 3, 2, 4, 3), "truncation": Truncation("cec")},
    {"loss": "finals", "sizes": (6, 2, 3, 4, 0), "truncation": Truncation("cec"), "linear": False, "numbers": "double"},
    {"loss": "half-squared", "sizes": (5, 3, 2, 3, 2), "truncation": Truncation("cec"), "lengths": (5, 0, 3)},
)
"""Plans of lstm_1997 alone: all pre-activations take h as a constant."""
EXACT: tuple[dict[str, Any], ...] = (
    {"loss": "final-h", "sizes": (9, 3, 2, 4, 3), "corner": "exact"},
    {"loss": "cotangent", "sizes": (8, 2, 3, 4, 0), "linear": False, "corner": "exact", "truncation": _window(3)},
    {"loss": "half-squared", "sizes": (8, 4, 2, 4, 4), "corner": "exact", "reduction": "mean"},
    {"loss": "cotangent", "sizes": (24, 2, 2, 4, 2), "corner": "exact", "truncation": _periodic(3, 7)},
    {"loss": "cotangent", "sizes": (23, 3, 2, 5, 2), "corner": "exact", "truncation": _chunk(7), "lengths": (23, 0, 9)},
    {"loss": "cotangent", "sizes": (16, 3, 33, 33, 0), "corner": "exact", "linear": False},
    {"loss": "cotangent", "sizes": (400, 1, 1, 4, 0), "corner": "exact", "linear": False},
    {"loss": "cotangent", "sizes": (400, 1, 1, 3, 0), "corner": "exact", "linear": False, "truncation": _chunk(97)},
)
"""Plans of Elman cells with a relu or the identity, in which nothing is rounded."""
KINKS: tuple[dict[str, Any], ...] = (
    {"loss": "final-h", "sizes": (5, 3, 2, 4, 3), "corner": "kinks"},
    {"loss": "cotangent", "sizes": (4, 3, 3, 3, 0), "corner": "kinks", "linear": False},
)
WIDE = {"loss": "cotangent", "sizes": (2, 1, 2, 137, 0), "linear": False}
"""For Elman cells alone: at four times as many weights it would be the largest of all."""

FAR_OUT: tuple[dict[str, Any], ...] = (
    {"sizes": (2, 33, 34, 35, 36)},
    {"sizes": (34, 18, 2, 3, 2)},
    {"sizes": (32, 16, 2, 2, 2)},
    {"sizes": (4, 16, 8, 16, 8)},
    {"sizes": (2, 4, 32, 32, 32)},
    {"sizes": (1, 3, 2, 137, 0), "linear": False},
    {"sizes": (1, 2, 300, 3, 2)},
    {"sizes": (1, 2, 2, 3, 300)},
    {"sizes": (2, 260, 2, 2, 2)},
    {"sizes": (515, 1, 1, 2, 2)},
    {"sizes": (28, 2, 2, 3, 2), "truncation": _periodic(2, 17)},
    {"sizes": (28, 2, 2, 3, 2), "truncation": _chunk(9)},
    {"sizes": (5, 3, 2, 3, 2), "lengths": (0, 0, 0)},
)
"""For Elman cells with tanh: several axes beyond a tile at once, full tiles, one axis far out, and rows all empty."""


def _recipes() -> Iterator[Recipe]:
    for plan in PLANS:
        given = {name: value for name, value in plan.items() if name != "cells"}
        for cell, spec in CELLS.items():
            if cell in plan.get("cells", CELLS):
                for activation in spec.activations or (None,):
                    yield Recipe(cell, activation, **given)
    for cell, spec in CELLS.items():
        if "c" in spec.states:
            yield Recipe(cell, None, "final-c", (5, 3, 2, 4, 3), lengths=(5, 2, 4))
            yield Recipe(cell, None, "final-c", (4, 2, 3, 3, 0), linear=False, truncation=_chunk(2))
    yield from (Recipe("lstm_1997", None, **plan) for plan in CAROUSEL)
    for activation in ("relu", "identity"):
        yield from (Recipe("elman", activation, **plan, numbers="narrow") for plan in EXACT)
    yield from (Recipe("elman", "relu", **plan, numbers="narrow") for plan in KINKS)
    yield Recipe("elman", "tanh", **WIDE)  # type: ignore[arg-type]
    yield Recipe("elman", "tanh", "cotangent", (313, 1, 1, 2, 2))
    for plan in FAR_OUT:
        yield Recipe("elman", "tanh", "finals" if plan["sizes"][0] < 100 else "cotangent", **plan)


@functools.cache
def selection() -> dict[str, Vector]:
    """Every vector by its id, in the order in which they stand here."""
    found: dict[str, Vector] = {}
    for recipe in _recipes():
        assert recipe.id not in found, recipe.id
        found[recipe.id] = Vector(recipe)
    return found


__all__ = ["Vector", "replace", "selection"]
