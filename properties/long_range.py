"""Problems in which the first step still matters at the last, and problems of many rows, units, inputs and classes.

A random network forgets within a few dozen steps: what a kernel leaves out beyond them is below every budget, however
long the sequence. Here the recurrent weights have an eigenvalue 1 at the activation's slope, arguments are small, and
gates hold, so that a gradient that is cut off shows (tests/test_long_range.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.generic import generic, is_finest, labelled
from properties.strategies import Array, Shape, to_dtype
from properties.units import each_array

STEPS = {"float64": 270}
"""More than 8 bits count; elsewhere fewer, of which a budget still says something."""
FEWER_STEPS = 130
CUT_STEPS, REACH = 150, 70
"""Where a truncation leaves something out, and how far it reaches: past 64."""
ROWS = 200
"""More than 128, and no multiple of it."""
COUNTED = (2, 16400, 2, 2, 2)
"""Sizes T, B, D, H, K of which T B is more than 15 bits count, and T B D, T B H and T B K more than 16."""
STORED = (1100, 1, 1, 1, 1)
"""More steps than 2^10, at which a buffer of states may be full."""
UNITS, MOST_UNITS = 131, 520
MOST_WEIGHTS = 2**19
"""MOST_UNITS are asked for where there are no more recurrent weights than this: more take seconds."""
MANY = 1030
"""Inputs, and classes: past 1024."""
VOCABULARY = 33_000
"""Classes of which a label is more than 15 bits count."""
HOLDS = {"lstm": "b", "lstm_peephole": "b", "gru_reset_before": "b", "gru_reset_after": "b_x"}
"""The bias whose second block belongs to the gate that holds the state; the LSTM of 1997 has none, and holds."""
HELD = 6.0
"""Its argument: of the state 0.9975 is kept."""


def long_range_problems(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """The problems of this file, as far as the target offers them."""
    yield from _long(support, cell, dtype, shape)
    yield from _cut(support, cell, dtype, shape)
    if is_finest(support, dtype):  # elsewhere budgets of so many terms say little
        yield from _many_rows(support, cell, dtype, shape)
        yield from _many(support, cell, dtype, shape)


def remembering(problem: Problem) -> Problem:
    """The same network, such that it remembers: what is said above of weights, biases, inputs and initial states.

    Adjoints and states of one sign keep sums from cancelling, so that their budgets say something in float32 too.
    """
    H, activation = problem.H, problem.activation
    slope = {"sigmoid": 0.25}.get(activation or "", 1.0)
    held = HOLDS.get(problem.cell)

    def changed(name: str, array: Array) -> Array:
        if array.dtype.kind != "f" or (name == "target" and problem.loss.kind == "cross_entropy"):
            return array
        size = np.abs(array.astype(np.float64))
        if name in ("g", "g_h_final", "g_c_final", "target"):  # an output is above its target
            return to_dtype(-1 - size if name == "target" else size, problem.dtype)
        quiet = array.astype(np.float64) / 64
        if name == "x":
            return to_dtype(size / 4096, problem.dtype)
        if name in ("h0", "c0"):  # positive, for relu's sake, and far enough from 0
            return to_dtype(0.25 + size / 64, problem.dtype)
        if activation is not None and name == "W_hh":
            return to_dtype((np.eye(H) + 1 / H) / (2 * slope), problem.dtype)
        if activation is not None and name == "b_h":  # sigmoid's slope is at an argument of 0, where it is 1/2
            return to_dtype(np.full(H, -0.5 / slope if activation == "sigmoid" else 0.0), problem.dtype)
        if name in ("W_h", "b", "b_x", "b_h"):  # gates: the state neither dies nor grows by way of h
            if name == held:
                quiet[H : 2 * H] = HELD
            return to_dtype(quiet, problem.dtype)
        return array

    return each_array(problem, changed)


def _names(shape: Shape, loss: str, **names: Any) -> dict[str, Any]:
    first = {"readouts": shape.readouts[0], "losses": loss, "activations": shape.activations[0]}
    reductions = "mean" if "mean" in shape.reductions else (shape.reductions or ("sum",))[0]
    return first | {"truncations": shape.truncations[0], "reductions": reductions} | names


def _losses(shape: Shape) -> tuple[str, ...]:
    """Those whose adjoints may have one sign; a softmax's add up to 0."""
    return tuple(loss for loss in shape.losses if loss != "cross_entropy") or shape.losses


def _long(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Every activation and every loss over many steps without truncation."""
    losses = _losses(shape)
    if "full" not in shape.truncations:
        return
    for i in range(max(len(shape.activations), len(losses))):
        activation = shape.activations[i % len(shape.activations)]
        names = _names(shape, losses[i % len(losses)], activations=activation, truncations="full")
        rows = 2 if i == 0 else 1  # where steps are kept in blocks, a row's may be taken for another's
        problem = generic(7200 + 2 * i, support, cell, dtype, (STEPS.get(dtype, FEWER_STEPS), rows, 1, 2, 2), names)
        if problem is not None:
            yield remembering(problem)
    if is_finest(support, dtype):
        problem = generic(7290, support, cell, dtype, STORED, _names(shape, losses[0], truncations="full"))
        if problem is not None:
            yield remembering(problem)


def _cut(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Every truncation that reaches far and leaves something out; for all but windows, a row ends early."""
    losses = _losses(shape)
    cuts = (
        *(Truncation("window", k=REACH), Truncation("chunk", k=REACH)),
        *(Truncation("periodic", k1=5, k2=REACH), Truncation("periodic", k1=REACH, k2=REACH + 2)),
    )
    for i, cut in enumerate(cuts):
        if cut.kind not in shape.truncations:
            continue
        rows = 2 if shape.lengths and cut.kind != "window" else 1
        names = _names(shape, losses[i % len(losses)], truncations=cut.kind)
        problem = generic(7300 + 2 * i, support, cell, dtype, (CUT_STEPS, rows, 1, 2, 2), names)
        if problem is not None:
            lengths = np.array([CUT_STEPS, 47]) if rows == 2 else None
            yield replace(remembering(problem), truncation=cut, lengths=lengths)


def _many_rows(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Rows past 128 that end where no row 64 or 128 before them does; rows without an initial state; and far more."""
    names = _names(shape, shape.losses[0], truncations=shape.truncations[-1])
    problem = generic(7400, support, cell, dtype, (6, ROWS, 1, 2, 2), names)
    if problem is not None and shape.lengths:
        cut = Truncation("periodic", k1=2, k2=3) if problem.truncation.kind == "periodic" else problem.truncation
        yield replace(problem, truncation=cut, lengths=np.arange(ROWS) * 5 % 7)
    problem = generic(7402, support, cell, dtype, (3, ROWS, 1, 2, 2), _names(shape, shape.losses[-1]))
    if problem is not None and shape.h0_none:
        yield replace(problem, h0=None, c0=None)
    loss = "squared_error" if "squared_error" in shape.losses else shape.losses[0]
    reductions = "tokens" if "tokens" in shape.reductions else (shape.reductions or ("sum",))[0]
    problem = generic(7404, support, cell, dtype, COUNTED, _names(shape, loss, reductions=reductions))
    if problem is not None:
        yield problem


def _many(support: Support, cell: str, dtype: str, shape: Shape) -> Iterator[Problem]:
    """Many units with a loss on the final state, many inputs, many classes."""
    loss = "cotangent" if "cotangent" in shape.losses else shape.losses[0]
    recurrent = CELLS[cell].shapes(1, MOST_UNITS)["W_hh" if "W_hh" in CELLS[cell].shapes(1, 1) else "W_h"]
    classes = {UNITS: 2, (MOST_UNITS if recurrent[0] * recurrent[1] <= MOST_WEIGHTS else UNITS): 1}  # K by H
    for i, sizes in enumerate([*((1, 1, 1, H, K) for H, K in classes.items()), (1, 1, MANY, 2, 2)]):
        problem = generic(7500 + 2 * i, support, cell, dtype, sizes, _names(shape, loss))
        if problem is not None:
            yield problem
    if "linear" in shape.readouts:
        for i, loss in enumerate(shape.losses):
            names = _names(shape, loss, readouts="linear")
            problem = generic(7510 + 2 * i, support, cell, dtype, (2, 2, 1, 2, MANY), names)
            if problem is not None:
                yield problem
                if loss == "cross_entropy":
                    yield labelled(problem)
        if "cross_entropy" in shape.losses:
            names = _names(shape, "cross_entropy", readouts="linear")
            problem = generic(7520, support, cell, dtype, (1, 1, 1, 1, VOCABULARY), names)
            if problem is not None:
                yield labelled(problem)
