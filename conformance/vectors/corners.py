"""Corners: changes that take a generic problem to where code goes wrong. Each works on exact numbers, in place."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from bptt.cells import CELLS
from conformance.vectors.recipe import Arrays, Recipe, integers, permutation, sizes_of

FAR = 800
"""An argument at which exp overflows in float64 too."""
MINUS_ZERO = Fraction(-1, 2**3000)
"""What is rounded to -0 in every dtype."""
SHIFT = {"single": 60, "double": 500, "narrow": 5}
VANISH = {"single": 48, "double": 900, "narrow": 5}
SUBNORMAL = {"single": -132, "double": -1042, "narrow": -15}
FORGET = {"lstm": ("b", 1), "lstm_peephole": ("b", 1), "gru_reset_after": ("b_x", 1), "gru_reset_before": ("b", 1)}
"""The bias and the block of the gate that keeps the old state: f or z."""
COTANGENTS = ("loss.g", "loss.g_h_final", "loss.g_c_final")


def scale(arrays: Arrays, name: str, factor: Fraction | int) -> None:
    """Multiply an array, if it is there."""
    if name in arrays:
        shape, entries = arrays[name]
        arrays[name] = shape, [factor * v for v in entries]


def at_step(arrays: Arrays, name: str, step: int, factor: Fraction | int) -> None:
    """Multiply one step of an array of steps; `step` counts from 0."""
    shape, entries = arrays[name]
    width = math.prod(shape[1:])
    entries[step * width : (step + 1) * width] = [factor * v for v in entries[step * width : (step + 1) * width]]


def recurrent(recipe: Recipe) -> str:
    """The recurrent weights' name."""
    return "params.W_hh" if recipe.cell == "elman" else "params.W_h"


def inputs(recipe: Recipe) -> str:
    """The input weights' name."""
    return "params.W_xh" if recipe.cell == "elman" else "params.W_x"


def last_loss(recipe: Recipe, arrays: Arrays) -> None:
    """A loss at the last step alone."""
    for t in range(recipe.sizes[0] - 1):
        at_step(arrays, "loss.g", t, 0)


def loud(recipe: Recipe, arrays: Arrays) -> None:
    """Cotangents and targets of some thousands."""
    for name in (*COTANGENTS, "loss.target"):
        scale(arrays, name, 4096)


def faint(recipe: Recipe, arrays: Arrays) -> None:
    """Cotangents of some 2^-50."""
    for name in COTANGENTS:
        scale(arrays, name, Fraction(1, 2**50))


def subnormal(recipe: Recipe, arrays: Arrays) -> None:
    """Cotangents among the subnormal numbers."""
    for name in COTANGENTS:
        scale(arrays, name, Fraction(2) ** SUBNORMAL[recipe.numbers])


def silent(recipe: Recipe, arrays: Arrays) -> None:
    """Cotangents that are zero: so is every gradient, exactly."""
    for name in COTANGENTS:
        scale(arrays, name, 0)


def far(recipe: Recipe, arrays: Arrays) -> None:
    """The arguments of the second step, and the biases before a softmax, are where exp overflows."""
    at_step(arrays, "x", 1, FAR)
    if recipe.loss in ("classes", "probabilities"):
        scale(arrays, "params.b_y", FAR)


def _saturated(argument: int) -> Callable[[Recipe, Arrays], None]:
    def change(recipe: Recipe, arrays: Arrays) -> None:
        at_step(arrays, "x", recipe.sizes[0] // 2, argument)

    change.__doc__ = f"The arguments of a middle step are some {argument}."
    return change


def huge(recipe: Recipe, arrays: Arrays) -> None:
    """Huge inputs and tiny weights, whose products are moderate."""
    scale(arrays, "x", Fraction(2) ** SHIFT[recipe.numbers])
    scale(arrays, inputs(recipe), Fraction(2) ** -SHIFT[recipe.numbers])


def tiny(recipe: Recipe, arrays: Arrays) -> None:
    """Tiny inputs and huge weights."""
    scale(arrays, "x", Fraction(2) ** -SHIFT[recipe.numbers])
    scale(arrays, inputs(recipe), Fraction(2) ** SHIFT[recipe.numbers])


def vanishing(recipe: Recipe, arrays: Arrays) -> None:
    """A loss at the last step, and a factor far below 1 at each step back."""
    last_loss(recipe, arrays)
    scale(arrays, recurrent(recipe), Fraction(1, 2 ** (VANISH[recipe.numbers] // recipe.sizes[0])))
    if recipe.cell in FORGET:
        name, block = FORGET[recipe.cell]
        entries, H = arrays[f"params.{name}"][1], recipe.sizes[3]
        entries[block * H : (block + 1) * H] = [v - 6 for v in entries[block * H : (block + 1) * H]]


def zeros(recipe: Recipe, arrays: Arrays) -> None:
    """About half the entries of every array are 0 or -0; the first, middle and last stay."""
    for name, (_, entries) in arrays.items():
        if name == "loss.target":
            continue
        signs = integers(f"{recipe.id}|{name}|zeros", len(entries), 4)
        kept = {0, len(entries) // 2, len(entries) - 1}
        for i, sign in enumerate(signs):
            if sign < 2 and i not in kept and not (recipe.activation == "relu" and name.startswith("params.b")):
                entries[i] = MINUS_ZERO if sign else Fraction(0)


def pruned(recipe: Recipe, arrays: Arrays) -> None:
    """A third of the weights are exactly zero."""
    for name in (recurrent(recipe), inputs(recipe)):
        entries = arrays[name][1]
        for i, turn in enumerate(integers(f"{recipe.id}|{name}|pruned", len(entries), 3)):
            if turn == 0 and i:
                entries[i] = Fraction(0)


def cancelling(recipe: Recipe, arrays: Arrays) -> None:
    """At each step the entries of a row's cotangent add up to exactly zero: v, -v, w, -w, ..."""
    shape, entries = arrays["loss.g"]
    K = shape[-1]
    for row in range(0, len(entries), K):
        for k in range(0, K - 1, 2):
            entries[row + k + 1] = -entries[row + k]
        if K % 2:
            entries[row + K - 1] = Fraction(0)


def logits(recipe: Recipe, arrays: Arrays) -> None:
    """All logits are far from zero, on one side: a shift, which changes nothing."""
    shape, entries = arrays["params.b_y"]
    arrays["params.b_y"] = shape, [v + FAR for v in entries]


def confident(recipe: Recipe, arrays: Arrays) -> None:
    """Logits some twenty apart: probabilities below 1e-7."""
    scale(arrays, "params.b_y", 20)


def strong(recipe: Recipe, arrays: Arrays) -> None:
    """Recurrent weights of a spectral norm above 2."""
    scale(arrays, recurrent(recipe), 4)


def _ints(recipe: Recipe, arrays: Arrays, name: str, choices: tuple[int, ...]) -> None:
    if name in arrays:
        shape, entries = arrays[name]
        turns = integers(f"{recipe.id}|{name}|exact", len(entries), len(choices))
        arrays[name] = shape, [Fraction(choices[turn]) for turn in turns]


def exact(recipe: Recipe, arrays: Arrays) -> None:
    """Small integers and a signed permutation: no operation rounds, whatever its order."""
    T, _, _, H, _ = sizes_of(recipe)
    thin = (0, 0, 0, 1, -1) if T < 40 else (*(0,) * (T // 4), 1, -1)
    for name in ("params.W_xh", "h0", "params.W_hy", "loss.g_h_final"):
        _ints(recipe, arrays, name, (1, -1))
    for name in ("x", "loss.g", "loss.target"):
        _ints(recipe, arrays, name, thin)
    for name in ("params.b_h", "params.b_y"):
        _ints(recipe, arrays, name, (0, 1, -1) if T < 40 else (0,))
    W = [Fraction(0)] * (H * H)
    signs = integers(f"{recipe.id}|signs", H, 2)
    for i, j in enumerate(permutation(recipe.id, H)):
        W[i * H + j] = Fraction(1 if recipe.activation == "relu" or signs[i] else -1)
    arrays["params.W_hh"] = (H, H), W
    if "loss.g" in arrays:  # what comes from the last step has the whole way to go
        at_end = arrays["loss.g"][1]
        at_end[-1] = at_end[-1] or Fraction(1)
    if T >= 40:
        arrays["x"][1][0] = Fraction(1)


def kinks(recipe: Recipe, arrays: Arrays) -> None:
    """Small integers and sparse weights: many arguments of the relu are exactly zero, where its derivative is 0."""
    for name in ("params.W_xh", "params.W_hh", "params.W_hy"):
        _ints(recipe, arrays, name, (0, 1, -1))
    for name in ("h0", "x", "params.b_h", "params.b_y", "loss.g", "loss.target", "loss.g_h_final"):
        _ints(recipe, arrays, name, (0, 1, -1))


CORNERS: dict[str, Callable[[Recipe, Arrays], None]] = {
    "last-loss": last_loss,
    "loud": loud,
    "faint": faint,
    "subnormal": subnormal,
    "silent": silent,
    "far": far,
    "saturated8": _saturated(8),
    "saturated18": _saturated(18),
    "huge": huge,
    "tiny": tiny,
    "vanishing": vanishing,
    "zeros": zeros,
    "pruned": pruned,
    "cancelling": cancelling,
    "logits": logits,
    "confident": confident,
    "strong": strong,
    "exact": exact,
    "kinks": kinks,
}
EXACT = ("exact", "kinks")
"""Corners in which no rounding occurs."""
assert set(FORGET) <= set(CELLS)
