"""BPTT in plain NumPy: the target `numpy`. One step at a time; the cells are in `implementations.numpy_cells`.

    forward     s_t = cell(x_t, s_{t-1}) for t <= length, s_t = s_{t-1} after it;    o_t = h_t W_hy + b_y       (1)
    backward    ds_t = dL_t/ds_t + what the cell pulls back from step t+1, for t = last, ..., floor + 1         (2)

s is h, or the pair (h, c). A truncation is a list of backward sweeps (`implementations.truncation`).
"""

from typing import Any

import numpy as np

from implementations.losses import evaluate
from implementations.numpy_cells import Array, Arrays, Cell, Named, Step
from implementations.numpy_cells.elman import Elman
from implementations.numpy_cells.gru_reset_after import GruResetAfter
from implementations.numpy_cells.gru_reset_before import GruResetBefore
from implementations.numpy_cells.lstm import Lstm
from implementations.numpy_cells.lstm_1997 import Lstm1997
from implementations.numpy_cells.lstm_peephole import LstmPeephole
from implementations.truncation import Sweep, row_lengths, sweeps

SUPPORTS: dict[str, Any] = {
    "cells": ["elman", "lstm", "lstm_peephole", "lstm_1997", "gru_reset_after", "gru_reset_before"],
    "activations": ["tanh", "sigmoid", "relu", "identity"],
    "readouts": ["none", "linear"],
    "losses": ["cotangent", "squared_error", "cross_entropy"],
    "reductions": ["sum", "mean", "tokens"],
    "truncations": ["full", "window", "chunk", "periodic", "cec"],  # cec: lstm_1997 only
    "dtypes": ["float64", "float32"],
    "lengths": True,
    "h0_none": True,
    "final_cotangents": True,
}


def gradients(problem: Any) -> dict[str, Any]:
    """Compute the loss, the states and every gradient of a problem, in its dtype.

    Shapes: loss scalar, h and c (T,B,H), o (T,B,K), dx (T,B,D), dh0 and dc0 (B,H), d + name as the parameter.
    Units:  those of the loss's reduction.
    Error:  nothing is computed in a wider type; overflow and underflow go into the result without a warning.
    Raises: NotImplementedError for what SUPPORTS does not list.
    """
    if problem.dtype not in SUPPORTS["dtypes"]:
        message = f"dtype {problem.dtype!r}; known: {', '.join(SUPPORTS['dtypes'])}"
        raise NotImplementedError(message)
    with np.errstate(all="ignore"):
        return _solve(problem, _cell(problem))


def _cell(problem: Any) -> Cell:
    """Choose the cell of a problem."""
    cec = problem.truncation.kind == "cec"
    if cec and problem.cell != "lstm_1997":
        message = f"truncation 'cec' for {problem.cell!r}; it is defined for 'lstm_1997' only"
        raise NotImplementedError(message)
    match problem.cell:
        case "elman":
            return Elman(problem.activation)
        case "lstm":
            return Lstm()
        case "lstm_peephole":
            return LstmPeephole()
        case "lstm_1997":
            return Lstm1997(cec)
        case "gru_reset_after":
            return GruResetAfter()
        case "gru_reset_before":
            return GruResetBefore()
    message = f"cell {problem.cell!r}; known: {', '.join(SUPPORTS['cells'])}"
    raise NotImplementedError(message)


def _solve(problem: Any, cell: Cell) -> dict[str, Any]:
    dtype = np.dtype(problem.dtype)
    params: Named = {name: np.asarray(value, dtype) for name, value in problem.params.items()}
    x = np.asarray(problem.x, dtype)  # (T,B,D)
    T, B, _ = x.shape
    H = params["W_hh" if problem.cell == "elman" else "W_h"].shape[0]
    length = row_lengths(problem.lengths, T, B)

    # (1); start and the states of a Step are (B,H), the arrays of states (T,B,H)
    given = (problem.h0, problem.c0)[: len(cell.states)]
    start = tuple(np.zeros((B, H), dtype) if s0 is None else np.asarray(s0, dtype) for s0 in given)
    steps = _forward(cell, params, x, start, length)
    states = tuple(np.stack(series) for series in zip(*(step.now for step in steps), strict=True))
    h = states[0]
    linear = problem.readout == "linear"
    o = h @ params["W_hy"] + params["b_y"] if linear else h.copy()  # (T,B,K)

    loss = evaluate(problem, o, *steps[-1].now)
    grads: Named = {f"d{name}": np.zeros_like(value) for name, value in params.items()}
    if linear:
        grads["dW_hy"] += np.tensordot(h, loss.do, axes=((0, 1), (0, 1)))
        grads["db_y"] += loss.do.sum(axis=(0, 1))
    dh = loss.do @ params["W_hy"].T if linear else loss.do  # (T,B,H), what the losses of each step send into h_t
    dfinal = (loss.dh_final,) if loss.dc_final is None else (loss.dh_final, loss.dc_final)

    # (2), summed over the sweeps
    dx = np.zeros_like(x)
    dstart = tuple(np.zeros((B, H), dtype) for _ in start)
    for sweep in sweeps(problem.truncation, T, length):
        carry = _backward(cell, params, steps, sweep, dh, dfinal, grads, dx)
        for ds0, arrived in zip(dstart, carry, strict=True):
            np.add(ds0, arrived, out=ds0, where=sweep.floor[:, None] == 0)
    return {
        "loss": loss.value,
        "o": o,
        **dict(zip(cell.states, states, strict=True)),
        **grads,
        "dx": dx,
        **{f"d{name}0": ds0 for name, ds0 in zip(cell.states, dstart, strict=True)},
    }


def _forward(cell: Cell, params: Named, x: Array, start: Arrays, length: Array) -> list[Step]:
    """Run all T steps; a row keeps its state after its last step."""
    steps = []
    prev = start
    for t in range(1, x.shape[0] + 1):
        now, gates = cell.forward(params, x[t - 1], prev)
        live = (t <= length)[:, None]  # (B,1)
        now = tuple(np.where(live, new, old) for new, old in zip(now, prev, strict=True))
        steps.append(Step(x[t - 1], prev, now, gates))
        prev = now
    return steps


def _backward(
    cell: Cell, params: Named, steps: list[Step], sweep: Sweep, dh: Array, dfinal: Arrays, grads: Named, dx: Array
) -> Arrays:
    """Run one sweep, add to grads and dx (T,B,D), and return what arrives below it, (B,H) a state.

    The gradient of a row that does not take part in a step is carried on unchanged: so the final cotangents,
    injected at the end, pass through the padding to t = length, and to the initial state where length is 0.
    """
    carry = [np.where(sweep.ends[:, None], g, 0) for g in dfinal]
    for t in range(sweep.last, sweep.bottom, -1):
        if t > sweep.first:
            carry[0] = carry[0] + dh[t - 1]  # (B,H), 0 in the padding
        rows = sweep.active(t)
        if not rows.any():
            continue
        dx_t, dprev = cell.backward(params, steps[t - 1].rows(rows), tuple(ds[rows] for ds in carry), grads)
        dx[t - 1, rows] += dx_t
        for ds, arrived in zip(carry, dprev, strict=True):
            ds[rows] = arrived
    return tuple(carry)
