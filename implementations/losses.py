"""The loss and its gradient at the outputs, in the problem's dtype: what the NumPy-based implementations share.

Per step and row, with output o and target y (vectors of K numbers):

    cotangent       L_t = <g_t, o_t>                      dL_t/do_t = g_t                                       (1)
    squared_error   L_t = scale sum (o - y)^2             dL_t/do_t = 2 scale (o - y)                           (2)
    cross_entropy   L_t = -sum_k y_k log softmax(o)_k     dL_t/do_t = (sum y) p - y,  p = softmax(o)            (3)

and L = sum over rows and steps t <= length of L_t / n, where n is the row's divisor

    sum: 1      mean over time: its length      mean over the batch: B, times that      tokens: sum of lengths  (4)

A cotangent on the final state adds <g_h_final, h_final> + <g_c_final, c_final>                                 (5)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from implementations.truncation import row_lengths

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Evaluated:
    """A loss: value (a scalar of the dtype), do (T,B,K), dh_final (B,H), dc_final (B,H) or None without c.

    do may be the problem's own array g, which is not to be written to.
    """

    value: Any
    do: Array
    dh_final: Array
    dc_final: Array | None


def evaluate(problem: Any, o: Array, h_final: Array, c_final: Array | None = None) -> Evaluated:
    """Compute the loss of a problem and its gradients at the outputs and at the final states.

    Shapes: o (T,B,K), h_final and c_final (B,H) -> Evaluated. do is exactly 0 in the padding.
    Error:  everything is computed in o.dtype, with one division by n, which is an exact integer.
    Raises: NotImplementedError for an unknown loss or reduction.
    """
    loss = problem.loss
    T, B, _ = o.shape
    length = row_lengths(problem.lengths, T, B)
    if loss.kind == "cotangent" and problem.lengths is None and loss.time_reduction == loss.batch_reduction == "sum":
        do = _contiguous(loss.g, o)  # nothing to leave out and to divide by, so that a small problem takes little time
        value = np.einsum("tbk,tbk->", do, o)
    else:
        live = np.arange(1, T + 1)[:, None] <= length  # (T,B)
        L, do = _per_step(loss, o)  # (T,B), (T,B,K)
        n = divisors(loss, length).astype(o.dtype)  # (B,)
        if not live.all():  # large arrays are copied only where that changes them
            L, do = np.where(live, L, 0), np.where(live[..., None], do, 0)
        if not (n == 1).all():
            do = do / n[:, None]
        value = (L.sum(axis=0) / n).sum()
    dh_final = np.zeros(h_final.shape, o.dtype)
    dc_final = None if c_final is None else np.zeros(c_final.shape, o.dtype)
    if loss.kind == "cotangent":  # (5)
        if loss.g_h_final is not None:
            dh_final += loss.g_h_final
            value += (dh_final * h_final).sum()
        if c_final is not None and dc_final is not None and loss.g_c_final is not None:
            dc_final += loss.g_c_final
            value += (dc_final * c_final).sum()
    return Evaluated(value, do, dh_final, dc_final)


def divisors(loss: Any, length: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return n of (4) for each row: length (B,) -> (B,) int64; an empty sum or length counts as 1."""
    over_time, over_batch = loss.time_reduction, loss.batch_reduction
    if over_time == over_batch == "tokens":
        return np.full_like(length, max(int(length.sum()), 1))
    if over_time not in ("sum", "mean") or over_batch not in ("sum", "mean"):
        message = f"reductions {over_time!r} (time), {over_batch!r} (batch); known: sum, mean, tokens in both"
        raise NotImplementedError(message)
    n = np.maximum(length, 1) if over_time == "mean" else np.ones_like(length)
    return n * len(length) if over_batch == "mean" else n


def log_softmax(o: Array) -> tuple[Array, Array]:
    """Return log softmax and softmax over the last axis, o (...,K) -> (...,K) twice; safe for large arguments."""
    shifted = o - o.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=-1, keepdims=True)
    return shifted - np.log(total), e / total


def _contiguous(g: Any, o: Array) -> Array:
    """Return g in the dtype of o and in order; the order of a sum by einsum depends on strides."""
    return np.ascontiguousarray(g, dtype=o.dtype)


def _per_step(loss: Any, o: Array) -> tuple[Array, Array]:
    """L_t (T,B) and dL_t/do_t (T,B,K) by (1) to (3), neither reduced nor masked."""
    match loss.kind:
        case "cotangent":
            g = _contiguous(loss.g, o)  # (T,B,K)
            return np.einsum("tbk,tbk->tb", g, o), g
        case "squared_error":
            scale = float(loss.scale)  # a Python float leaves the dtype alone
            r = o - np.asarray(loss.target, dtype=o.dtype)  # (T,B,K)
            return scale * (r * r).sum(axis=-1), 2 * scale * r
        case "cross_entropy":
            log_p, p = log_softmax(o)
            target = np.asarray(loss.target)
            if target.ndim == o.ndim - 1:  # class indices (T,B)
                index = target[..., None]
                y = np.zeros_like(o)
                np.put_along_axis(y, index, 1, axis=-1)
                return -np.take_along_axis(log_p, index, axis=-1)[..., 0], p - y
            y = target.astype(o.dtype)  # probabilities (T,B,K)
            L = -np.where(y == 0, 0, y * log_p).sum(axis=-1)
            return L, y.sum(axis=-1, keepdims=True) * p - y
    message = f"loss {loss.kind!r}; known: cotangent, squared_error, cross_entropy"
    raise NotImplementedError(message)
