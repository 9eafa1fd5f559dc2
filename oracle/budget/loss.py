"""Errors of outputs, loss and output cotangents, in units of u.

    o = h W_hy + b_y          D_o = |e W_hy| + R, R = (H+1) (|h| |W_hy| + |b_y|)                    (1)
    squared error             dL/do errs by |e W_hy C| + 2 scale w (R + 8 |o-y|)                  (2)
    softmax                   |dp_k| <= |e W_hy P|_k + p_k (R_k + sum_j p_j R_j + c + remainder)  (3)
    cross-entropy             dL/do errs by w ((sum y) dp + K p + 8 (p + y)); K p admits p - y      (4)

e is the error of the state, of which |e L| is known for a few matrices L, the probes: C is the second derivative of a
loss, P that of log sum exp; the remainder is of the second order. dL/dh errs by |e W_hy C W_hy^T|, and by the rest of
(2) or (4) times |W_hy^T|.

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
from oracle.budget.forward import Probe
from oracle.budget.graph import Floats, Rounded
from oracle.budget.model import Model


@dataclass
class LossErrors:
    """Bounds in units of u: outputs (T,B,K), cotangents (T,B,K), loss; and the exact dL/do rounded to float64.

    `local` (T,B,K) is what the bound of the cotangents has beside the linear image of the state's error, and `image`
    (T,B,H) bounds that image in dL/dh.
    `scale` (T,B,K) is the size of dL/do before o - y or p - y may have cancelled in it.
    """

    outputs: Floats
    cotangents: Floats
    loss: float
    do: Floats
    local: Floats
    image: Floats
    scale: Floats
    peak: float


def loss_probes(solved: Rounded, S: int) -> dict[str, Probe]:
    """What the error e of the state, (S,), is to be multiplied with: to give its image in o, in dL/do and in dL/dh."""
    problem = solved.problem
    T, B, H, K = problem.T, problem.B, problem.H, problem.K
    kind, linear = problem.loss.kind, problem.readout == "linear"
    if not linear and kind != "cross_entropy":
        return {}
    W = np.zeros((S, K))
    W[:H] = problem.params["W_hy"] if linear else np.eye(K)
    W_abs, back = np.abs(W), W[:H].T
    shape = (T, B, S, K)
    probes = {"o": Probe(np.broadcast_to(W, shape), np.broadcast_to(W_abs, shape))} if linear else {}
    w = np.array([float(weight) for weight in row_weights(problem)])[None, :, None, None]
    if kind == "squared_error":
        assert problem.loss.scale is not None
        twice, to_h = 2 * problem.loss.scale * np.broadcast_to(w, (T, B, 1, 1)), (W @ back, W_abs @ np.abs(back))
        probes["dh"] = Probe(twice * to_h[0], twice * to_h[1], 2 * K)
    elif kind == "cross_entropy":
        o = solved.outputs
        p, _ = _softmax(o)
        y = w[..., 0] * _probabilities(solved).sum(axis=-1, keepdims=True)
        yp = (y * p)[:, :, None, :]
        mean = p[:, :, None, :] @ W.T[None, None]  # (T,B,1,S): sum_j p_j W_ij
        mean_abs = p[:, :, None, :] @ W_abs.T[None, None]
        signed = (W - mean.swapaxes(-1, -2)) * yp
        absolute = (W_abs + mean_abs.swapaxes(-1, -2)) * yp
        roundings = 4 * K + 4 * float(np.abs(o).max(initial=0.0)) + 64
        probes["do"] = Probe(signed, absolute, roundings)
        if linear:
            probes["dh"] = Probe(signed @ back, absolute @ np.abs(back), roundings)
    return probes


def _softmax(o: Floats) -> tuple[Floats, Floats]:
    """p = softmax(o) and log p, each from shifted powers."""
    shifted = o - o.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / total, shifted - np.log(total)


def _probabilities(solved: Rounded) -> Floats:
    """The target y, (T,B,K): probabilities, or 1 at a class."""
    target, K = solved.problem.loss.target, solved.problem.K
    assert target is not None
    return (target if target.ndim == 3 else np.arange(K) == target[:, :, None]).astype(np.float64)


def loss_errors(solved: Rounded, model: Model, h: Floats, states: Floats, probes: dict[str, Floats]) -> LossErrors:
    """Shapes: h (T,B,H), the exact states h_t, and the error bounds of the whole states, (T,B,S), and of the probes."""
    problem = solved.problem
    T, B, H, K = problem.T, problem.B, problem.H, problem.K
    active = (np.arange(T)[:, None] < problem.row_lengths[None, :])[:, :, None]
    o, do = solved.outputs, solved.cotangents
    Dh = states[:, :, :H]
    if problem.readout == "linear":
        W, b = (np.abs(problem.params[name].astype(np.float64)) for name in ("W_hy", "b_y"))
        sums = np.abs(h) @ W + b
        flushed = (np.abs(h) + model.u * Dh) @ model.read(W) + model.read(b)
        sums, image = sums + model.u * (Dh @ W), probes["o"]
        R = model.flat(np.array(H + 1.0), sums, np.abs(o) + model.u * (image + flushed)) + model.lost(H + 1) + flushed
        R = np.where(active & (sums < model.overflow), R, np.where(active, np.inf, 0.0))
    else:
        image, R = Dh, np.zeros(Dh.shape)
    image = np.where(active, image, 0.0)
    D = image + R  # (1)
    w = np.array([float(weight) for weight in row_weights(problem)])[None, :, None]
    loss = problem.loss
    finals = sum(getattr(loss, f"g_{name}_final") is not None for name in problem.spec.states)
    count = T * B * K + T + B + 16 + finals * B * H
    terms = model.terms(count)
    in_h = np.zeros((T, B, H))
    if loss.kind == "cotangent":
        g = scale = np.abs(do)
        errors = local = model.read(do)
        sizes = np.where(active, np.abs(o) + model.u * D, 0.0)
        total = float((g * D + errors * sizes + terms * g * sizes).sum())
        peak = float((g * sizes).sum())
        for i, name in enumerate(problem.spec.states):
            error, size = _final(solved, model, name, states[-1, :, i * H : (i + 1) * H], terms)
            total, peak = total + error, peak + size
    elif loss.kind == "squared_error":
        assert loss.scale is not None and loss.target is not None
        target = loss.target.astype(np.float64)
        distance = np.where(active, np.abs(o - target), 0.0)
        both = np.where(active, D + model.read(target), 0.0)
        sizes = distance + model.u * both
        scale = 2 * loss.scale * w * (np.abs(o) + np.abs(target))
        local = 2 * loss.scale * w * (R + model.read(target) + 8 * sizes + model.eta) + 3 * model.eta  # (2)
        errors = local + 2 * loss.scale * w * image
        in_h = probes.get("dh", errors - local)
        total = float((loss.scale * w * (2 * distance * both + model.u * both**2 + terms * sizes**2)).sum())
        sizes = sizes**2
        peak = float(sizes.sum())
    else:
        local, scale, total, peak = _cross_entropy(solved, model, o, (D, R), w, active, terms)
        errors = local + probes["do"]
        in_h = probes.get("dh", probes["do"])
    total += model.lost(count)
    return LossErrors(
        D,
        np.where(active, errors, 0.0),
        total,
        do,
        np.where(active, local, 0.0),
        in_h,
        np.where(active, scale, 0.0),
        peak,
    )


def _cross_entropy(
    solved: Rounded,
    model: Model,
    o: Floats,
    bounds: tuple[Floats, Floats],
    w: Floats,
    active: NDArray[np.bool_],
    terms: float,
) -> tuple[Floats, Floats, float, float]:
    """The local error of dL/do, its scale, the error of the loss, and the size of its terms."""
    D, R = bounds
    K, y = solved.problem.K, _probabilities(solved)
    p, log_p = _softmax(o)
    log_p = np.abs(log_p)
    largest = (np.abs(o) + model.u * D).max(axis=-1, keepdims=True)
    c = model.terms(K) + 6 * model.ulp + 4 + (2 * model.ulp + 3) * (largest + np.log(K))  # (5)
    mean = (p * D).sum(axis=-1, keepdims=True)
    spread = np.exp(2 * model.u * D.max(axis=-1, keepdims=True))
    off = c * spread * np.exp(model.u * c)  # roundings, and the second order of a shift of o by D
    off = off + 2.5 * model.u * D.max(axis=-1, keepdims=True) ** 2 * spread
    dp = p * (D + mean + off) + K * model.eta
    local = p * (R + (p * R).sum(axis=-1, keepdims=True) + off) + K * model.eta  # (3)
    sum_y, flushed = y.sum(axis=-1, keepdims=True), model.read(y)
    errors = w * (sum_y * local + K * (p + model.u * dp) + 8 * (p + model.u * dp + y) + flushed) + 3 * model.eta  # (4)
    off = D + spread * mean + c + 2 * model.ulp * log_p  # of a computed log p
    each = w * (y * off + (terms * y + flushed) * (log_p + model.u * off))
    peak = float(np.where(active, y * (log_p + model.u * off), 0.0).sum())
    return errors, w * (sum_y * p + y), float(np.where(active, each, 0.0).sum()), peak


def _final(solved: Rounded, model: Model, name: str, D: Floats, terms: float) -> tuple[float, float]:
    """The error of <g_final, state_final> and the size of its terms, from the state's bound D (B,H)."""
    final = getattr(solved.problem.loss, f"g_{name}_final")
    if final is None:
        return 0.0, 0.0
    g, size = np.abs(final.astype(np.float64)), np.abs(solved.last[name]) + model.u * D
    return float((g * D + (model.read(g) + terms * g) * size).sum()), float((g * size).sum())
