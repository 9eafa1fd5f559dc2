"""Errors of outputs, loss and output cotangents, in units of u.

    o = h W_hy + b_y          D_o = D_h |W_hy| + (H+1) (|h| |W_hy| + |b_y|)                       (1)
    squared error             dL/do errs by 2 scale w (D_o + 8 |o-y|)                             (2)
    softmax                   |dp_k| <= p_k (D_k + e sum_j p_j D_j) e + p_k c, e = exp(2 u max D)  (3)
    cross-entropy             dL/do errs by w ((sum y) dp + K p + 8 (p + y)); the K p admits p - y for (sum y) p - y   (4)

c counts the roundings of softmax and of log-softmax, shifted or not. The 8 holds those of the weights 1/length, 1/B and
the scale, wherever an implementation multiplies them in. Derivation: ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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


def loss_errors(unrolled: Unrolled, model: Model, h: Floats, Dh: Floats) -> LossErrors:
    """Shapes: h, the exact states |h_t|, and Dh, their error bounds, both (T,B,H)."""
    problem = unrolled.problem
    T, B, H, K = problem.T, problem.B, problem.H, problem.K
    active = (np.arange(T)[:, None] < problem.row_lengths[None, :])[:, :, None]
    o = floats(unrolled.outputs).reshape(T, B, K)
    do = floats(unrolled.cotangents).reshape(T, B, K)
    peak = 0.0
    if problem.readout == "linear":
        W, b = np.abs(floats(unrolled.leaves["W_hy"].value)), np.abs(floats(unrolled.leaves["b_y"].value))[0]
        sums = np.abs(h) @ W + b
        D = Dh @ W
        D = D + model.terms(H + 1) * (sums + model.u * D) + (H + 1) * model.eta
        if model.flush:
            D = D + model.eta * (np.abs(h).sum(axis=-1, keepdims=True) + 1)
        peak = float(sums.max())
    else:
        D = Dh
    w = np.array([float(weight) for weight in row_weights(problem)])[None, :, None]
    terms = model.terms(T * B * K + T + B + 16)
    loss = problem.loss
    D = np.where(active, D, 0.0)
    if loss.kind == "cotangent":
        g = np.abs(do)
        errors = np.zeros_like(do)
        total = float((g * D).sum() + terms * (g * (np.abs(o) + model.u * D))[np.broadcast_to(active, g.shape)].sum())
    elif loss.kind == "squared_error":
        assert loss.scale is not None and loss.target is not None
        distance = np.where(active, np.abs(o - loss.target.astype(np.float64)), 0.0)
        errors = 2 * loss.scale * w * (D + 8 * (distance + model.u * D) + model.eta) + model.eta  # (2)
        sizes = (distance + model.u * D) ** 2
        total = float((loss.scale * w * (2 * distance * D + model.u * D * D + terms * sizes)).sum())
        peak = max(peak, float(sizes.sum()))
    else:
        errors, total = _cross_entropy(unrolled, model, o, D, w, active)
    total += terms * model.eta
    return LossErrors(D, np.where(active, errors, 0.0), total, do, peak)


def _cross_entropy(
    unrolled: Unrolled, model: Model, o: Floats, D: Floats, w: Floats, active: Floats
) -> tuple[Floats, float]:
    problem, K = unrolled.problem, unrolled.problem.K
    shifted = o - o.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    p = powers / powers.sum(axis=-1, keepdims=True)
    assert problem.loss.target is not None
    if problem.loss.target.ndim == 3:
        y = problem.loss.target.astype(np.float64)
    else:
        y = (np.arange(K) == problem.loss.target[:, :, None]).astype(np.float64)
    largest = np.abs(o).max(axis=-1, keepdims=True)
    spread = np.exp(2 * model.u * D.max(axis=-1, keepdims=True))
    mean = (p * D).sum(axis=-1, keepdims=True)
    c = model.terms(K) + 10 * model.ulp + 10 * np.log(K) + 3 * model.ulp * largest  # roundings of p, relative
    relative = (D + spread * mean) * spread  # (3)
    dp = p * (relative + c * spread) * (1 + model.u * c) + K * model.eta
    sum_y = y.sum(axis=-1, keepdims=True)
    errors = w * (sum_y * dp + K * p + 8 * (p + model.u * dp + y)) + model.eta  # (4)
    log_p = np.abs(shifted - np.log(powers.sum(axis=-1, keepdims=True)))
    terms = model.terms(problem.T * problem.B * K + problem.T + problem.B + 16)
    each = w * y * (D + spread * mean + c + 2 * model.ulp * log_p + terms * log_p)
    return errors, float(np.where(active, each, 0.0).sum())
