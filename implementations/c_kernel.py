"""BPTT in C: the target `c`. The recurrence, its sweeps and the weight gradients are in `csrc`; the loss is in NumPy.

Three steps, in the problem's dtype, with every array by its name in one dict:

    forward     states and what the backward pass needs again; o = h W_hy + b_y                                 (1)
    loss        its value, do = dL/do, and the cotangents of the final states (`implementations.losses`)        (2)
    backward    dW_hy, db_y and dh = do W_hy^T; then every gradient of the cell                                 (3)

Elementary functions are the kernel's own, within 2.5 ulp (docs/c_kernel.md); the instruction set is the best that the
processor has. Large problems take two threads where there are two cores, and one where OMP_NUM_THREADS is 1; results
are the same bit by bit. Importing this module needs the compiled binding.
"""

import functools
import math
import os
from typing import Any

import numpy as np

from implementations import _bptt_c  # type: ignore[attr-defined]  # compiled
from implementations.losses import evaluate
from implementations.offered import require
from implementations.truncation import row_lengths

SUPPORTS: dict[str, Any] = {
    "cells": ["elman", "lstm", "lstm_peephole", "lstm_1997", "gru_reset_after", "gru_reset_before"],
    "activations": ["tanh", "sigmoid", "relu", "identity"],  # in the order of enum bptt_activation
    "readouts": ["none", "linear"],
    "losses": ["cotangent", "squared_error", "cross_entropy"],
    "reductions": ["sum", "mean", "tokens"],
    "truncations": ["full", "window", "chunk", "periodic", "cec"],  # in the order of enum bptt_truncation
    "dtypes": ["float64", "float32"],
    "lengths": True,
    "h0_none": True,
    "final_cotangents": True,
    "deterministic": True,
}

_HAS_C = ("lstm", "lstm_peephole", "lstm_1997")
_INT64_MAX = 2**63 - 1
_PAYS = 2e8
"""Multiplications of a forward pass from which on a second thread pays, even where others use its core too."""


def gradients(problem: Any) -> dict[str, Any]:
    """Compute the loss, the states and every gradient of a problem, in its dtype.

    Shapes: loss scalar, h and c (T,B,H), o (T,B,K), dx (T,B,D), dh0 and dc0 (B,H), d + name as the parameter.
    Units:  those of the loss's reduction.
    Error:  nothing is computed in a wider type; overflow and underflow go into the result without a warning.
    Raises: NotImplementedError for what SUPPORTS does not list; ValueError naming an array of the wrong size.
    """
    require(problem, SUPPORTS)
    with np.errstate(all="ignore"):
        return _solve(problem)


def _threads() -> int:
    """One thread or two: what OMP_NUM_THREADS says, or how many cores this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, int(said) if said.isdecimal() and int(said) else cores)


def _solve(problem: Any, instructions: str = "best", threads: int | None = None) -> dict[str, Any]:
    dtype = np.dtype(problem.dtype)
    arrays = {name: np.ascontiguousarray(value, dtype) for name, value in problem.params.items()}
    gradient_names = [f"d{name}" for name in arrays]
    x = arrays["x"] = np.ascontiguousarray(problem.x, dtype)
    T, B, D = x.shape
    H = arrays["W_hh" if problem.cell == "elman" else "W_h"].shape[0]
    linear = problem.readout == "linear"
    K = arrays["W_hy"].shape[1] if linear else H
    states = ("h", "c") if problem.cell in _HAS_C else ("h",)
    for state in states:
        given = getattr(problem, f"{state}0")
        arrays[f"{state}0"] = np.zeros((B, H), dtype) if given is None else np.ascontiguousarray(given, dtype)
    arrays["lengths"] = row_lengths(problem.lengths, T, B)
    options = _options(problem)

    cell = (f"{problem.cell}_forward", f"{problem.cell}_backward")
    readout = ("readout_forward", "readout_backward")
    size = (T, B, D, H, K)
    keys = (*states, "o", *gradient_names, "dx", *(f"d{state}0" for state in states))
    for end, places in _layout((*cell, *readout) if linear else cell, size, keys, dtype.itemsize):
        memory = np.empty(end, dtype).data
        arrays |= {name: np.ndarray(shape, dtype, memory, place) for name, shape, place in places}

    threads = threads or (_threads() if T * B * H * (D + H + K) > _PAYS else 1)

    def run(function: str) -> None:
        _bptt_c.call(function, arrays, size, options, instructions, threads)

    run(cell[0])  # (1)
    if linear:
        run(readout[0])
    else:
        arrays["o"][...] = arrays["h"]

    loss = evaluate(problem, arrays["o"], *(arrays[state][-1] for state in states))  # (2)
    arrays["dh_final"] = np.ascontiguousarray(loss.dh_final)
    if loss.dc_final is not None:
        arrays["dc_final"] = np.ascontiguousarray(loss.dc_final)

    arrays["do" if linear else "dh"] = np.ascontiguousarray(loss.do, dtype)  # (3)
    if linear:
        run(readout[1])
    run(cell[1])
    return {"loss": loss.value, **{key: arrays[key] for key in keys}}


_Places = list[tuple[str, tuple[int, ...], int]]


@functools.lru_cache(maxsize=64)
def _layout(
    functions: tuple[str, ...], size: tuple[int, int, int, int, int], keys: tuple[str, ...], itemsize: int
) -> list[tuple[int, _Places]]:
    """Place every output of the functions in one of two pieces of memory: what is returned, the rest and work memory.

    A piece is its number of entries, and name, shape and offset in bytes of each array. Memory is touched for the first
    time page by page, and that takes time; two pieces are kept by the C library for the next problem, many of them it
    returns to the system.
    """
    T, B, _, _, K = size
    shapes: dict[str, tuple[int, ...]] = {"o": (T, B, K)}
    for function in functions:
        shapes |= {
            name: _extents(shape, dict(zip("TBDHK", size, strict=True))) for name, shape in _bptt_c.outputs(function)
        }
    work = max(_bptt_c.work(function, size, itemsize) for function in functions)
    pieces = [{key: shapes.pop(key) for key in keys}, {**shapes, "work": (-(-work // itemsize),)}]
    align = 64 // itemsize
    found = []
    for piece in pieces:
        places: _Places = []
        end = 0
        for name, shape in piece.items():
            places.append((name, shape, end * itemsize))
            end += -(-math.prod(shape) // align) * align
        found.append((end, places))
    return found


def _options(problem: Any) -> tuple[int, int, int, int]:
    """Return (activation, truncation, k1, k2) as the kernel numbers them; any k above T acts as T does."""
    truncation = problem.truncation
    match truncation.kind:
        case "window" | "chunk":
            k1, k2 = truncation.k, 0
        case "periodic":
            k1, k2 = truncation.k1, truncation.k2
        case _:
            k1, k2 = 0, 0
    activation = SUPPORTS["activations"].index(problem.activation) if problem.cell == "elman" else 0
    kind = SUPPORTS["truncations"].index(truncation.kind)
    return activation, kind, min(int(k1), _INT64_MAX), min(int(k2), _INT64_MAX)


def _extents(shape: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """Read a shape as the kernel writes it: "TB4H" -> (T, B, 4 * H).

    >>> _extents("TB4H", {"T": 2, "B": 3, "H": 5})
    (2, 3, 20)
    """
    extents = []
    factor = 1
    for letter in shape:
        if letter.isdigit():
            factor = int(letter)
        else:
            extents.append(factor * sizes[letter])
            factor = 1
    return tuple(extents)
