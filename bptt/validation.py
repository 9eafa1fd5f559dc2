"""What makes a problem a problem; every message names the array, its shape or value, and what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bptt.bits import exact_sum
from bptt.cells import CELLS
from bptt.errors import ProblemError, ShapeError

if TYPE_CHECKING:
    from bptt.problem import Array, Loss, Problem


def validate(problem: Problem) -> None:
    """Check names, shapes, dtypes and values of a whole problem, the cheap things first."""
    _names(problem)
    _shapes(problem)
    _values(problem)
    _loss(problem)


def _one_of(field: str, value: object, names: tuple[str, ...]) -> None:
    if value not in names:
        raise ProblemError(f"{field}: got {value!r}, expected one of {', '.join(names)}")


def _names(problem: Problem) -> None:
    from bptt.problem import DTYPES, LOSSES, READOUTS, REDUCTIONS

    _one_of("cell", problem.cell, tuple(CELLS))
    cell = CELLS[problem.cell]
    if cell.activations:
        _one_of("activation", problem.activation, cell.activations)
    elif problem.activation is not None:
        raise ProblemError(f"activation: got {problem.activation!r}, expected None: {problem.cell} has none to choose")
    _one_of("readout", problem.readout, READOUTS)
    _one_of("dtype", problem.dtype, tuple(DTYPES))
    _one_of("loss.kind", problem.loss.kind, LOSSES)
    _one_of("loss.time_reduction", problem.loss.time_reduction, REDUCTIONS)
    _one_of("loss.batch_reduction", problem.loss.batch_reduction, REDUCTIONS)
    if (problem.loss.time_reduction == "tokens") != (problem.loss.batch_reduction == "tokens"):
        got = f"got {problem.loss.time_reduction}, {problem.loss.batch_reduction}"
        raise ProblemError(f"loss.time_reduction, loss.batch_reduction: {got}, expected 'tokens' in both or in neither")
    if problem.truncation.kind not in cell.truncations:
        raise ProblemError(
            f"truncation.kind: got {problem.truncation.kind!r}, "
            f"expected one of {', '.join(cell.truncations)} for {problem.cell}"
        )


def expect_shape(name: str, array: Array, expected: tuple[int, ...], sizes: str) -> None:
    """Raise ShapeError unless the array has the expected shape; `sizes` says what the letters are."""
    if array.shape != expected:
        raise ShapeError(f"{name}: shape {array.shape}, expected {expected} for {sizes}")


def _shapes(problem: Problem) -> None:
    from bptt.problem import DTYPES, MAX_ENTRIES

    given = {name: getattr(problem, name) for name in ("x", "h0", "c0", "lengths")}
    given |= {f"loss.{name}": getattr(problem.loss, name) for name in ("g", "g_h_final", "g_c_final", "target")}
    given |= problem.params
    for name, array in given.items():
        if not isinstance(array, np.ndarray) and (array is not None or name == "x" or name in problem.params):
            raise ShapeError(f"{name}: got {type(array).__name__}, expected a NumPy array")
    if problem.x.ndim != 3:
        raise ShapeError(f"x: shape {problem.x.shape}, expected three axes (T, B, D)")
    recurrent = "W_hh" if problem.cell == "elman" else "W_h"
    needed = list(CELLS[problem.cell].shapes(1, 1)) + (["W_hy", "b_y"] if problem.readout == "linear" else [])
    if sorted(problem.params) != sorted(needed):
        raise ProblemError(f"params: got {', '.join(sorted(problem.params)) or 'none'}, expected {', '.join(needed)}")
    for name, array in problem.params.items():
        if array.ndim != 2 and name in (recurrent, "W_hy"):
            raise ShapeError(f"{name}: shape {array.shape}, expected a matrix")
    T, B, D, H, K = problem.T, problem.B, problem.D, problem.H, problem.K
    sizes = f"T={T} B={B} D={D} H={H} K={K}"
    if min(T, B, D, H, K) < 1:
        raise ShapeError(f"sizes: got {sizes}, expected at least 1 each")
    if T * B * max(D, 4 * H, K) > MAX_ENTRIES:
        raise ProblemError(f"sizes: got {sizes}, expected at most {MAX_ENTRIES} entries an array")
    for name, shape in problem.parameter_shapes().items():
        expect_shape(name, problem.params[name], shape, sizes)
    states = problem.spec.states
    if problem.c0 is not None and "c" not in states:
        raise ProblemError(f"c0: expected None, {problem.cell} has no cell state")
    present = [getattr(problem, f"{state}0") is not None for state in states]
    if any(present) and not all(present):
        raise ProblemError("h0, c0: one is None and the other is not; expected both or neither")
    for state in states:
        initial = getattr(problem, f"{state}0")
        if initial is not None:
            expect_shape(f"{state}0", initial, (B, H), sizes)
    for name, array in problem.arrays():
        integers = name == "lengths" or (
            name == "loss.target" and problem.loss.kind == "cross_entropy" and array.ndim == 2
        )
        expected = np.dtype(np.int64) if integers else DTYPES[problem.dtype]
        if array.dtype != expected:
            raise ProblemError(f"{name}: dtype {array.dtype}, expected {expected} for a {problem.dtype} problem")


def _values(problem: Problem) -> None:
    for name, array in problem.arrays():
        if array.dtype.kind != "f":
            continue
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ProblemError(f"{name}{list(where)}: got {array[where]}, expected a finite number")
        if problem.dtype == "bfloat16":
            beyond = (np.ascontiguousarray(array).view(np.uint32) & 0xFFFF).reshape(array.shape)
            if beyond.any():
                where = tuple(int(i) for i in np.argwhere(beyond)[0])
                raise ProblemError(f"{name}{list(where)}: got {array[where]}, expected float32 that bfloat16 holds too")
    if problem.lengths is not None:
        if problem.lengths.shape != (problem.B,):
            raise ShapeError(f"lengths: shape {problem.lengths.shape}, expected {(problem.B,)}")
        if (problem.lengths < 0).any() or (problem.lengths > problem.T).any():
            raise ProblemError(f"lengths: got {problem.lengths.tolist()}, expected 0 to T = {problem.T}")


_FIELDS = {
    "cotangent": ("g", "g_h_final", "g_c_final"),
    "squared_error": ("target", "scale"),
    "cross_entropy": ("target",),
}


def _loss(problem: Problem) -> None:
    loss = problem.loss
    T, B, K = problem.T, problem.B, problem.K
    sizes = f"T={T} B={B} K={K}"
    for name in ("g", "g_h_final", "g_c_final", "target", "scale"):
        if getattr(loss, name) is not None and name not in _FIELDS[loss.kind]:
            raise ProblemError(f"loss.{name}: expected None for a {loss.kind} loss")
    if loss.kind == "cotangent":
        _cotangent(loss, problem, sizes)
        return
    if loss.target is None:
        raise ProblemError(f"loss.target: got None, expected an array for a {loss.kind} loss")
    if loss.kind == "squared_error":
        expect_shape("loss.target", loss.target, (T, B, K), sizes)
        if loss.scale not in (0.5, 1.0):
            raise ProblemError(f"loss.scale: got {loss.scale!r}, expected 1 or 0.5")
    elif loss.target.ndim == 2:
        expect_shape("loss.target", loss.target, (T, B), sizes)
        outside = (loss.target < 0) | (loss.target >= K)
        if outside.any():
            t, b = (int(i) for i in np.argwhere(outside)[0])
            raise ProblemError(f"loss.target[{t}, {b}]: got class {loss.target[t, b]}, expected 0 to K - 1 = {K - 1}")
    else:
        expect_shape("loss.target", loss.target, (T, B, K), sizes)
        _probabilities(loss.target, problem)


def _cotangent(loss: Loss, problem: Problem, sizes: str) -> None:
    if loss.g is None:
        raise ProblemError("loss.g: got None, expected an array for a cotangent loss")
    if (loss.time_reduction, loss.batch_reduction) != ("sum", "sum"):
        raise ProblemError(
            f"loss: got reductions {loss.time_reduction}, {loss.batch_reduction}, expected sum for a cotangent"
        )
    expect_shape("loss.g", loss.g, (problem.T, problem.B, problem.K), sizes)
    if loss.g_c_final is not None and "c" not in problem.spec.states:
        raise ProblemError(f"loss.g_c_final: expected None, {problem.cell} has no cell state")
    for name in ("g_h_final", "g_c_final"):
        if getattr(loss, name) is not None:
            expect_shape(f"loss.{name}", getattr(loss, name), (problem.B, problem.H), sizes + f" H={problem.H}")


def _probabilities(target: Array, problem: Problem) -> None:
    """y >= 0 and |sum y - 1| <= K u, decided in exact integer arithmetic (within the rows' lengths)."""
    from bptt.problem import SIGNIFICAND

    if (target < 0).any():
        where = tuple(int(i) for i in np.argwhere(target < 0)[0])
        raise ProblemError(f"loss.target{list(where)}: got {target[where]}, expected a probability of at least 0")
    lengths = problem.row_lengths
    p = SIGNIFICAND[problem.dtype]  # u = 2^-p
    for b in range(problem.B):
        for t in range(int(lengths[b])):
            n, e = exact_sum(target[t, b])
            n, e = n << max(e, 0), min(e, 0)
            if not (abs((n << p) - (1 << (p - e))) <= problem.K << -e):  # |n 2^e - 1| <= K 2^-p, times 2^(p-e)
                with np.errstate(over="ignore"):
                    total = float(target[t, b].sum(dtype=np.float64))
                raise ProblemError(f"loss.target[{t}, {b}]: probabilities sum to {total!r}, expected 1 within K u")
