"""extremes: where numbers are very small, very large, zero of either sign, or where a function is flat.

zeros       half the entries of every array are 0 or -0
far         the arguments of one step are beyond the overflow of exp
saturated   the arguments of one step are where 1 - tanh^2 is about the unit roundoff
huge, tiny  inputs of 2^500 and weights of 2^-500 (in float32 of 2^60), and the other way round
vanishing   a loss at the last step alone, whose gradient at the first is some 2^-900 (in float32 2^-48), or a few
            2^-13 (2^-6) a step where a gate forgets; not for lstm_1997, whose cell state keeps errors as they are
subnormal   cotangents so small that the gradients are subnormal; not where a target declares that it flushes them
logits      a softmax whose logits are all far from 0, on one side: a shift that changes nothing

The step that saturates is never the first: what the others send back is left to judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.base import Bench, Case, Judgement, Property
from properties.compare import against_truth
from properties.corners import FAR
from properties.generic import generic
from properties.recipe import Draw, Recipe
from properties.strategies import Array, offered, to_dtype
from properties.units import each_array

KINDS = ("zeros", "far", "saturated", "huge", "tiny", "vanishing", "subnormal", "logits")
FLAT = {"float64": 18.0, "float32": 8.0, "float16": 3.5, "bfloat16": 3.0}
"""Arguments at which 1 - tanh^2 is about the unit roundoff."""
SHIFT = {"float64": 500, "float32": 60, "float16": 5, "bfloat16": 60}
VANISH = {"float64": 900, "float32": 48, "float16": 5, "bfloat16": 48}
"""The recurrent products over all steps are about 2 to the minus this."""
SUBNORMAL = {"float64": -1040, "float32": -130, "float16": -15, "bfloat16": -127}
FORGET = {"lstm": 1, "lstm_peephole": 1, "gru_reset_after": 1, "gru_reset_before": 1}
"""The block of the gate that keeps the old state: f or z. Its bias is negative where errors are to vanish."""


class Extremes(Property):
    """Within budget of the exact solution, at each extreme."""

    id = "extremes"
    statement = (
        "Vanishing and subnormal gradients, saturation, arguments beyond exp's overflow, "
        "huge and tiny inputs and signed zeros are within budget."
    )
    source = "The definition of the problem; IEEE 754 has gradual underflow and signed zeros."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape, kinds = offered(support, cell), kinds_for(support, cell)

        def build(draw: Draw) -> Case:
            kind = draw.of(kinds)
            sizes = (2 + draw.integer(0, 3), *(draw.integer(1, most) for most in (2, 3, 3)), draw.integer(2, 3))
            names = {
                "readouts": draw.of(shape.readouts),
                "losses": draw.of(losses_for(kind, support)),
                "truncations": draw.of(shape.truncations),
                "activations": draw.of(shape.activations),
                "reductions": draw.of(shape.reductions or ("sum",)),
            }
            problem = made(kind, draw.integer(0, 1 << 16), support, cell, dtype, sizes, names)
            return Case(problem if problem is not None else hypothesis.reject())

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        shape, out = offered(support, cell), []
        for i, kind in enumerate(kinds_for(support, cell)):
            losses = losses_for(kind, support)
            for j, activation in enumerate(shape.activations):
                names = {
                    "readouts": shape.readouts[(i + j) % len(shape.readouts)],
                    "losses": losses[j % len(losses)],
                    "truncations": shape.truncations[0],
                    "activations": activation,
                    "reductions": (shape.reductions or ("sum",))[0],
                }
                problem = made(kind, 4000 + 10 * i + j, support, cell, dtype, (4, 2, 2, 3, 3), names)
                out += [] if problem is None else [Case(problem)]
        return out

    def check(self, case: Case, bench: Bench) -> Judgement:
        return against_truth(case.problem, bench.run(case.problem), bench.truth(case.problem))


def kinds_for(support: Support, cell: str) -> list[str]:
    """The extremes that a target can be asked for."""
    missing = []
    if "cotangent" not in support.losses:
        missing += ["vanishing", "subnormal"]
    if "full" not in support.truncations or cell == "lstm_1997":
        missing.append("vanishing")
    if support.subnormals == "flush":
        missing.append("subnormal")
    if "cross_entropy" not in support.losses or "linear" not in support.readouts:
        missing.append("logits")
    return [kind for kind in KINDS if kind not in missing]


def losses_for(kind: str, support: Support) -> list[str]:
    """The losses at which an extreme is of use: cross-entropies are flat where their logits are far apart."""
    if kind in ("vanishing", "subnormal"):
        return ["cotangent"]
    if kind == "logits":
        return ["cross_entropy"]
    return [name for name in support.losses if name != "cross_entropy" or kind != "far"] or list(support.losses)


def made(
    kind: str,
    seed: int,
    support: Support,
    cell: str,
    dtype: str,
    sizes: tuple[int, ...],
    names: Mapping[str, Any],
) -> Problem | None:
    """A generic problem at an extreme, or None where its sizes are beyond the target."""
    wanted = [min(size, support.max_size.get(name, size)) for name, size in zip("TBDHK", sizes, strict=True)]
    names = {**names, **({"readouts": "linear"} if kind == "logits" else {})}
    T, B, D, H, K = wanted
    if names["losses"] == "cross_entropy" and (K if names["readouts"] == "linear" else H) < 2:
        return None
    problem = generic(seed, support, cell, dtype, (T, B, D, H, K), names)
    if problem is None:
        return None
    return extreme(kind, replace(problem, lengths=None), np.random.default_rng([seed, KINDS.index(kind)]))


def extreme(kind: str, problem: Problem, rng: np.random.Generator) -> Problem:
    """The problem taken to an extreme."""
    dtype, T = problem.dtype, problem.T
    params = dict(problem.params)
    W_x = "W_xh" if problem.cell == "elman" else "W_x"
    if kind in ("far", "saturated"):
        scale = FAR[dtype] if kind == "far" else FLAT[dtype]
        at = 1 + int(rng.integers(0, max(1, T - 1)))
        return replace(problem, x=scaled(problem.x, np.where(np.arange(T) == at, scale, 1)[:, None, None], dtype))
    if kind in ("huge", "tiny"):
        factor = 2.0 ** (SHIFT[dtype] if kind == "huge" else -SHIFT[dtype])
        params[W_x] = scaled(params[W_x], 1 / factor, dtype)
        return replace(problem, params=params, x=scaled(problem.x, factor, dtype))
    if kind == "vanishing":
        W_h = "W_hh" if problem.cell == "elman" else "W_h"
        params[W_h] = scaled(params[W_h], 2.0 ** -(VANISH[dtype] // T), dtype)
        if problem.cell in FORGET:
            bias = "b_x" if "b_x" in params else "b"
            block = slice(FORGET[problem.cell] * problem.H, (FORGET[problem.cell] + 1) * problem.H)
            lower = params[bias].astype(np.float64)
            lower[block] -= FLAT[dtype] / 2
            params[bias] = to_dtype(lower, dtype)
        assert problem.loss.g is not None
        last = (np.arange(T) == T - 1)[:, None, None].astype(problem.loss.g.dtype)
        loss = replace(problem.loss, g=problem.loss.g * last)
        return replace(problem, params=params, loss=loss, truncation=Truncation("full"))
    if kind == "subnormal":
        cotangents = ("g", "g_h_final", "g_c_final")
        return each_array(problem, lambda n, a: scaled(a, 2.0 ** SUBNORMAL[dtype], dtype) if n in cotangents else a)
    if kind == "logits":
        side = FAR[dtype] * (1 if rng.integers(0, 2) else -1)
        params["b_y"] = to_dtype(params["b_y"].astype(np.float64) + side, dtype)
        return replace(problem, params=params)
    keep_biases = problem.activation == "relu"  # its kink at 0 is judged in exact problems only

    def with_zeros(name: str, array: Array) -> Array:
        if name == "target" or (keep_biases and name.startswith("b_")):
            return array
        zeros = np.where(rng.random(array.shape) < 0.5, 0.0, -0.0).astype(array.dtype)
        there = rng.random(array.shape) < 0.5
        there.reshape(-1)[int(rng.integers(0, array.size))] = True
        return np.asarray(np.where(there, array, zeros))

    return each_array(problem, with_zeros)


def scaled(array: Array, factor: Array | float, dtype: str) -> Array:
    """An array times a factor, rounded to the dtype."""
    return to_dtype(array.astype(np.float64) * factor, dtype)


PROPERTY = Extremes()
