"""What honest Elman implementations share: reading a problem, its losses, its mask, and one road to every result.

`solve` is reverse mode with every part replaceable. Losses that share a row of the mask m(t,s) form a lane, and all
lanes travel back together: delta_s = sum over lanes of m(t,s) dh_s phi'(a_s). Arrays count steps from 0 here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Results = dict[str, Any]
Adapter = Callable[[Any], Results]

SUPPORTS: dict[str, Any] = {
    "cells": ["elman"],
    "truncations": ["full", "window", "chunk", "periodic"],
    "dtypes": ["float64", "float32"],
    "h0_none": True,
}


class Net(NamedTuple):
    """A problem's arrays in one dtype: x (T,B,D), h0 (B,H), lengths (B,), mask (T,T,B) with axes t, s, b."""

    activation: str
    W_xh: Array
    W_hh: Array
    b_h: Array
    x: Array
    h0: Array
    lengths: Array
    mask: Array


At = Callable[[int], tuple[Array, Array]]
Pre = Callable[[Net, Array, Array], Array]
Phi = Callable[[str, Array], Array]
Slope = Callable[[str, Array, Array], Array]
Saved = Callable[[Net, Array, Array, Pre, Phi], At]
Back = Callable[[Net, At, Array, Slope], tuple[Array, Array]]
Total = Callable[[Array, Array], Array]


def read(problem: Any, dtype: Any = None) -> Net:
    """Return the problem's arrays, converted to `dtype` where one is given."""
    kind = np.dtype(dtype or problem.dtype)
    W_xh, W_hh, b_h = (np.asarray(problem.params[name], kind) for name in ("W_xh", "W_hh", "b_h"))
    x = np.asarray(problem.x, kind)
    T, B, _ = x.shape
    h0 = np.zeros((B, len(b_h)), kind) if problem.h0 is None else np.asarray(problem.h0, kind)
    lengths = np.full(B, T) if problem.lengths is None else np.asarray(problem.lengths)
    return Net(problem.activation, W_xh, W_hh, b_h, x, h0, lengths, read_mask(problem.truncation, T, lengths))


def read_mask(truncation: Any, T: int, lengths: Array) -> Array:
    """Return m(t,s) of each row, (T,T,B), False wherever t or s lies beyond the row or s after t."""
    steps = np.arange(1, T + 1)
    t, s, n = steps[:, None, None], steps[:, None], lengths
    within: Array = (s <= t) & (t <= n)
    if truncation.kind == "window":
        within &= t - s < truncation.k
    elif truncation.kind == "chunk":
        within &= (t - 1) // truncation.k == (s - 1) // truncation.k
    elif truncation.kind == "periodic":
        within &= s > np.minimum(n, -(-t // truncation.k1) * truncation.k1) - truncation.k2
    elif truncation.kind != "full":
        reason = f"there is no mask for the truncation {truncation.kind}"
        raise NotImplementedError(reason)
    return within


def activate(name: str, a: Array) -> Array:
    """Return phi(a)."""
    if name == "sigmoid":
        tail = np.exp(-np.abs(a))
        return np.asarray(np.where(a < 0, tail, 1) / (1 + tail))
    if name == "relu":
        return np.where(a > 0, a, a.dtype.type(0))
    return np.asarray(np.tanh(a)) if name == "tanh" else a


def slope(name: str, a: Array, h: Array) -> Array:
    """Return phi'(a), where h = phi(a)."""
    if name in ("tanh", "sigmoid"):
        return np.asarray(1 - h * h if name == "tanh" else h * (1 - h))
    return np.asarray((a > 0).astype(a.dtype)) if name == "relu" else np.ones_like(a)


def affine(net: Net, x_t: Array, h_prev: Array) -> Array:
    """Return x_t W_xh + h_prev W_hh + b_h."""
    return np.asarray(x_t @ net.W_xh + h_prev @ net.W_hh + net.b_h)


def states(net: Net, pre: Pre = affine, phi: Phi = activate) -> tuple[Array, Array]:
    """Return a (T,B,H) and h (T+1,B,H), h_0 first; a row's state stands still after its last step."""
    a, h = [], [net.h0]
    for t, x_t in enumerate(net.x):
        a.append(pre(net, x_t, h[-1]))
        h.append(np.where((t < net.lengths)[:, None], phi(net.activation, a[-1]), h[-1]))
    return np.stack(a), np.stack(h)


def stored(net: Net, a: Array, h: Array, pre: Pre, phi: Phi) -> At:  # noqa: ARG001 - others compute anew
    """Return the function s -> (a_s, h_s) that looks both up."""
    return lambda s: (a[s], h[s + 1])


def log_softmax(o: Array) -> Array:
    """Return log softmax(o) over the last axis."""
    shifted = o - np.max(o, axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)))


def losses(problem: Any, lengths: Array, o: Array) -> tuple[Any, Array]:
    """Return the loss without its final cotangent, and do (T,B,K)."""
    spec, kind = problem.loss, o.dtype
    counted = np.arange(len(o))[:, None] < lengths
    divisor = np.maximum(1, lengths) if spec.time_reduction == "mean" else np.ones_like(lengths)
    divisor = divisor * (len(lengths) if spec.batch_reduction == "mean" else 1)
    if spec.time_reduction == "tokens":
        divisor = np.full_like(divisor, max(1, lengths.sum()))
    if spec.kind == "cotangent":
        do = np.asarray(spec.g, kind)
        each = np.einsum("tbk,tbk->tb", do, o)
    elif spec.kind == "squared_error":
        error = o - np.asarray(spec.target, kind)
        each, do = kind.type(spec.scale) * np.einsum("tbk,tbk->tb", error, error), kind.type(2 * spec.scale) * error
    else:
        y = np.asarray(spec.target)
        if y.ndim < o.ndim:
            y = np.where(counted, y, 0)[:, :, None] == np.arange(o.shape[-1])
        y, log_p = y.astype(kind), log_softmax(o)
        each, do = -np.einsum("tbk,tbk->tb", y, log_p), y.sum(axis=-1, keepdims=True) * np.exp(log_p) - y
    rows = divisor.astype(kind)
    zero = kind.type(0)
    return (np.where(counted, each, zero) / rows).sum(), np.where(counted[:, :, None], do / rows[:, None], zero)


def lanes(mask: Array) -> tuple[Array, Array]:
    """Return the lane of each t, (T,), and whether a lane reaches back to step s of a row, (lanes,T,B)."""
    reach = np.logical_or.accumulate(mask, axis=1)  # s is not before the first step that t reaches
    patterns, lane = np.unique(reach.reshape(len(reach), -1), axis=0, return_inverse=True)
    return lane.ravel(), patterns.reshape(-1, *reach.shape[1:])


def reverse(net: Net, at: At, dh_loss: Array, derivative: Slope) -> tuple[Array, Array]:
    """Return delta (T,B,H) and dh0 (B,H), all lanes travelling back together."""
    lane, reach = lanes(net.mask)
    dh, delta = np.zeros((len(reach), *net.h0.shape), net.h0.dtype), np.empty_like(dh_loss)
    for s in reversed(range(len(dh_loss))):
        dh[lane[s]] += dh_loss[s]
        each = np.where(reach[:, s, :, None], dh * derivative(net.activation, *at(s)), net.h0.dtype.type(0))
        delta[s] = each.sum(axis=0)
        dh = each @ net.W_hh.T
    return delta, dh.sum(axis=0)


def stacked(left: Array, right: Array) -> Array:
    """Return the sum over t and b of left_tb^T right_tb, as one product of all (t,b) at once."""
    return np.asarray(left.reshape(-1, left.shape[-1]).T @ right.reshape(-1, right.shape[-1]))


def solve(
    problem: Any, *, dtype: Any = None, pre: Pre = affine, phi: Phi = activate, derivative: Slope = slope,
    saved: Saved = stored, back: Back = reverse, total: Total = stacked,
) -> Results:  # fmt: skip
    """Solve one problem, with any part replaced."""
    with np.errstate(all="ignore"):
        net = read(problem, dtype)
        a, h = states(net, pre, phi)
        linear = problem.readout == "linear"
        W_hy, b_y = (np.asarray(problem.params[n], h.dtype) for n in ("W_hy", "b_y")) if linear else (None, None)
        o = h[1:].copy() if W_hy is None else h[1:] @ W_hy + b_y
        loss, do = losses(problem, net.lengths, o)
        dh_loss = do.copy() if W_hy is None else do @ W_hy.T
        empty, final = net.lengths == 0, getattr(problem.loss, "g_h_final", None)
        rows = np.flatnonzero(~empty)
        if final is not None:
            loss = loss + np.einsum("bh,bh->", np.asarray(final, h.dtype), h[-1])
            dh_loss[net.lengths[rows] - 1, rows] += final[rows]
        delta, dh0 = back(net, saved(net, a, h, pre, phi), dh_loss, derivative)
        if final is not None:
            dh0[empty] += final[empty]
        ones = np.ones((*delta.shape[:2], 1), delta.dtype)
        found = {"loss": loss, "h": h[1:], "o": o, "dx": delta @ net.W_xh.T, "dh0": dh0}
        found |= {"dW_xh": total(net.x, delta), "dW_hh": total(h[:-1], delta), "db_h": total(ones, delta)[0]}
        return found | {"dW_hy": total(h[1:], do), "db_y": total(ones, do)[0]} if linear else found
