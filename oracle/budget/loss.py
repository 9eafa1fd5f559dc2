"""Errors of outputs, loss and output cotangents, in units of u.

    o = h W_hy + b_y          D_o = D_h |W_hy| + (H+1) (|h| |W_hy| + |b_y|)                       (1)
    squared error             dL/do errs by 2 scale w (D_o + 8 |o-y|)                             (2)
    softmax                   |dp_k| <= p_k (D_k + sum_j p_j D_j + c) e, e = exp(2 u max D + u c)  (3)
    cross-entropy             dL/do errs by w ((sum y) dp + K p + 8 (p + y)); K p admits p - y      (4)

c counts the roundings of softmax and of log-softmax, shifted or not:

    c = K + 6 ulp + 4 + (2 ulp + 3) (max |o| + log K)                                             (5)

The 8 holds those of the weights 1/length, 1/B and the scale, wherever an implementation multiplies them in. A loss is
one sum, in any order, of up to T B K terms and those of the final cotangents. Derivation: ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bptt.losses import row_weights
from oracle.budget.graph import Floats, floats
from oracle.budget.model import Model
from oracle.unrolled import Unrolled


@dataclass
class LossErrors:
    """Bounds in units of u: outputs (T,B,K), cotangents (T,B,K), loss; and the exact |dL/do| rounded to float64."""

    outputs: Floats
    cotangents: Floats
    loss: float
    do: Floats
    peak: float


def loss_errors(unrolled: Unrolled, model: Model, h: Floats, states: Floats) -> LossErrors:
    """Shapes: h (T,B,H), the exact states h_t, and the error bounds of the whole states, (T,B,S)."""
    problem = unrolled.problem
    T, B, H, K = problem.T, problem.B, problem.H, problem.K
    active = (np.arange(T)[:, None] < problem.row_lengths[None, :])[:, :, None]
    o = floats(unrolled.outputs).reshape(T, B, K)
    do = floats(unrolled.cotangents).reshape(T, B, K)
    Dh = states[:, :, :H]
    if problem.readout == "linear":
        W, b = np.abs(floats(unrolled.leaves["W_hy"].value)), np.abs(floats(unrolled.leaves["b_y"].value))[0]
        sums = np.abs(h) @ W + b
        D = Dh @ W
        flushed = (np.abs(h) + model.u * Dh) @ model.read(W) + model.read(b)
        sums = sums + model.u * D
        D = D + model.terms(H + 1) * sums + model.lost(H + 1) + flushed
        D = np.where(sums < model.overflow, D, np.inf)
    else:
        D = Dh
    w = np.array([float(weight) for weight in row_weights(problem)])[None, :, None]
    loss = problem.loss
    finals = sum(getattr(loss, f"g_{name}_final") is not None for name in problem.spec.states)
    count = T * B * K + T + B + 16 + finals * B * H
    terms = model.terms(count)
    D = np.where(active, D, 0.0)
    if loss.kind == "cotangent":
        g = np.abs(do)
        errors = model.read(do)
        sizes = np.where(active, np.abs(o) + model.u * D, 0.0)
        total = float((g * D + errors * sizes + terms * g * sizes).sum())
        peak = float((g * sizes).sum())
        for i, name in enumerate(problem.spec.states):
            error, size = _final(unrolled, model, name, states[-1, :, i * H : (i + 1) * H], terms)
            total, peak = total + error, peak + size
    elif loss.kind == "squared_error":
        assert loss.scale is not None and loss.target is not None
        target = loss.target.astype(np.float64)
        distance = np.where(active, np.abs(o - target), 0.0)
        both = np.where(active, D + model.read(target), 0.0)
        sizes = distance + model.u * both
        errors = 2 * loss.scale * w * (both + 8 * sizes + model.eta) + 3 * model.eta  # (2)
        total = float((loss.scale * w * (2 * distance * both + model.u * both**2 + terms * sizes**2)).sum())
        sizes = sizes**2
        peak = float(sizes.sum())
    else:
        errors, total, peak = _cross_entropy(unrolled, model, o, D, w, active, terms)
    total += model.lost(count)
    return LossErrors(D, np.where(active, errors, 0.0), total, do, peak)


def _cross_entropy(
    unrolled: Unrolled, model: Model, o: Floats, D: Floats, w: Floats, active: NDArray[np.bool_], terms: float
) -> tuple[Floats, float, float]:
    problem, K = unrolled.problem, unrolled.problem.K
    shifted = o - o.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    p = powers / powers.sum(axis=-1, keepdims=True)
    assert problem.loss.target is not None
    if problem.loss.target.ndim == 3:
        y = problem.loss.target.astype(np.float64)
    else:
        y = (np.arange(K) == problem.loss.target[:, :, None]).astype(np.float64)
    largest = (np.abs(o) + model.u * D).max(axis=-1, keepdims=True)
    c = model.terms(K) + 6 * model.ulp + 4 + (2 * model.ulp + 3) * (largest + np.log(K))  # (5)
    mean = (p * D).sum(axis=-1, keepdims=True)
    spread = np.exp(2 * model.u * D.max(axis=-1, keepdims=True))
    dp = p * (D + mean + c) * spread * np.exp(model.u * c) + K * model.eta  # (3)
    sum_y, flushed = y.sum(axis=-1, keepdims=True), model.read(y)
    errors = w * (sum_y * dp + K * p + 8 * (p + model.u * dp + y) + flushed) + 3 * model.eta  # (4)
    log_p = np.abs(shifted - np.log(powers.sum(axis=-1, keepdims=True)))
    off = D + spread * mean + c + 2 * model.ulp * log_p  # of a computed log p
    each = w * (y * off + (terms * y + flushed) * (log_p + model.u * off))
    peak = float(np.where(active, y * (log_p + model.u * off), 0.0).sum())
    return errors, float(np.where(active, each, 0.0).sum()), peak


def _final(unrolled: Unrolled, model: Model, name: str, D: Floats, terms: float) -> tuple[float, float]:
    """The error of <g_final, state_final> and the size of its terms, from the state's bound D (B,H)."""
    final = getattr(unrolled.problem.loss, f"g_{name}_final")
    if final is None:
        return 0.0, 0.0
    g, size = np.abs(final.astype(np.float64)), np.abs(floats(unrolled.states[name][-1])) + model.u * D
    return float((g * D + (model.read(g) + terms * g) * size).sum()), float((g * size).sum())
