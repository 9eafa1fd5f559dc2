"""PyTorch autograd over an unrolled loop: the target `torch`, on the CPU.

The forward equations stand here; the gradients are autograd's. A truncation is a list of sweeps
(`implementations.truncation`): for each, the loop is unrolled again from the recorded state below the lowest
floor, each row is detached at its own floor, and the sweep's losses are differentiated. The constant error
carousel (`cec`) detaches h wherever it enters a pre-activation. No global state of torch is changed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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

Named = dict[str, Tensor]
State = tuple[Tensor, ...]
Step = Callable[[Named, Tensor, State], State]
"""Parameters, x (B,D) and the state before -> the state after."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "identity": lambda a: a,
}


def gradients(problem: Any) -> dict[str, Any]:
    """Compute the loss, the states and every gradient of a problem, in its dtype.

    Shapes: loss scalar, h and c (T,B,H), o (T,B,K), dx (T,B,D), dh0 and dc0 (B,H), d + name as the parameter.
    Raises: NotImplementedError for what SUPPORTS does not list.
    """
    return unrolled_gradients(problem, step_of(problem.cell, problem.activation, problem.truncation.kind))


def unrolled_gradients(problem: Any, step: Step) -> dict[str, Any]:
    """As `gradients`, with a step of the problem's cell."""
    dtype = dtype_of(problem, SUPPORTS["dtypes"])
    params = {name: tensor(value, dtype) for name, value in problem.params.items()}
    x = tensor(problem.x, dtype)  # (T,B,D)
    T, B, _ = x.shape
    H = params["W_hh" if problem.cell == "elman" else "W_h"].shape[0]
    names = ("h", "c") if problem.cell.startswith("lstm") else ("h",)
    given = (problem.h0, problem.c0)[: len(names)]
    start = tuple(torch.zeros(B, H, dtype=dtype) if s0 is None else tensor(s0, dtype) for s0 in given)
    length = row_lengths(problem.lengths, T, B)

    with torch.no_grad():
        states = _unroll(step, params, x, start, range(1, T + 1), length)
        series = [torch.stack(one) for one in zip(*states, strict=True)]  # (T,B,H) a state
        o = read_out(problem, params, series[0])
        loss = partial_loss(problem, o, 0, states[-1], np.ones(B, dtype=bool))

    leaves = {**params, "x": x, **{f"{name}0": s0 for name, s0 in zip(names, start, strict=True)}}
    total = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    with torch.enable_grad():
        for leaf in leaves.values():
            leaf.requires_grad_()
        for sweep in sweeps(problem.truncation, T, length):
            bottom = sweep.bottom
            below = start if bottom == 0 else states[bottom - 1]
            part = _unroll(step, params, x, below, range(bottom + 1, sweep.last + 1), length, sweep)
            h = torch.stack([state[0] for state in part[sweep.first - bottom :]])  # (last - first, B, H)
            L = partial_loss(problem, read_out(problem, params, h), sweep.first, part[-1], sweep.ends)
            found = torch.autograd.grad(L, list(leaves.values()), allow_unused=True)
            for name, grad in zip(leaves, found, strict=True):
                if grad is not None:
                    total[name] += grad
    return {
        "loss": array(loss),
        "o": array(o),
        **{name: array(one) for name, one in zip(names, series, strict=True)},
        **{f"d{name}": array(grad) for name, grad in total.items()},
    }


def dtype_of(problem: Any, supported: list[str]) -> torch.dtype:
    """Return the torch dtype of a problem; NotImplementedError for one that is not supported."""
    if problem.dtype not in supported:
        message = f"dtype {problem.dtype!r}; known: {', '.join(supported)}"
        raise NotImplementedError(message)
    dtype: torch.dtype = getattr(torch, problem.dtype)
    return dtype


def tensor(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Copy an array of any strides, writable or not, into a tensor of the same shape."""
    copied = torch.from_numpy(np.array(value, order="C"))
    return copied if dtype is None else copied.to(dtype)


def array(value: Tensor) -> Any:
    """Copy a tensor into an array that shares memory with nothing."""
    return value.detach().numpy().copy()


def read_out(problem: Any, params: Named, h: Tensor) -> Tensor:
    """Apply the readout: h (n,B,H) -> o (n,B,K)."""
    return h @ params["W_hy"] + params["b_y"] if problem.readout == "linear" else h


def partial_loss(problem: Any, o: Tensor, first: int, final: State, ends: Any) -> Tensor:
    """Sum the losses of the steps first+1, first+2, ..., and the final cotangents of the rows `ends`, reduced.

    Shapes: o (n,B,K) for those n steps, final (B,H) a state, ends (B,) bool -> scalar.
    """
    loss = problem.loss
    n, B, _ = o.shape
    T = problem.x.shape[0]
    length = torch.from_numpy(row_lengths(problem.lengths, T, B))  # (B,)
    steps = torch.arange(first + 1, first + n + 1)[:, None]  # (n,1)
    live = steps <= length  # (n,B)
    L = torch.where(live, _per_step(loss, o, slice(first, first + n)), 0)  # (n,B)
    match loss.time_reduction, loss.batch_reduction:
        case "tokens", "tokens":
            total = L.sum() / length.sum().clamp(min=1).to(o.dtype)
        case ("sum" | "mean") as over_time, ("sum" | "mean") as over_batch:
            row = L.sum(0) / length.clamp(min=1).to(o.dtype) if over_time == "mean" else L.sum(0)  # (B,)
            total = row.mean() if over_batch == "mean" else row.sum()
        case other:
            message = f"reductions {other}; known: sum, mean, tokens in both"
            raise NotImplementedError(message)
    if loss.kind == "cotangent":
        for g, s in zip((loss.g_h_final, loss.g_c_final), final, strict=False):
            if g is not None:
                total = total + (tensor(np.where(ends[:, None], g, 0), o.dtype) * s).sum()
    return total


def _per_step(loss: Any, o: Tensor, steps: slice) -> Tensor:
    """L_t of each step and row: o (n,B,K) -> (n,B)."""
    match loss.kind:
        case "cotangent":
            return (tensor(loss.g[steps], o.dtype) * o).sum(-1)
        case "squared_error":
            return float(loss.scale) * ((o - tensor(loss.target[steps], o.dtype)) ** 2).sum(-1)
        case "cross_entropy":
            target = tensor(loss.target[steps])
            log_p = functional.log_softmax(o, dim=-1)
            if target.ndim == o.ndim - 1:  # class indices (n,B)
                return -log_p.gather(-1, target[..., None])[..., 0]
            return -(target.to(o.dtype) * log_p).sum(-1)  # probabilities (n,B,K)
    message = f"loss {loss.kind!r}; known: cotangent, squared_error, cross_entropy"
    raise NotImplementedError(message)


def _unroll(
    step: Step,
    params: Named,
    x: Tensor,
    state: State,
    steps: range,
    length: Any,
    sweep: Sweep | None = None,
) -> list[State]:
    """Run those steps (counted from 1) and return the state after each; a sweep detaches each row at its floor."""
    states = []
    for t in steps:
        if sweep is not None and t > 1:
            above = torch.from_numpy(sweep.floor != t - 1)[:, None]  # (B,1)
            state = tuple(torch.where(above, s, s.detach()) for s in state)
        live = torch.from_numpy(t <= length)[:, None]  # (B,1)
        # A row that is over runs on zeros, so that nothing infinite arises behind a gradient that is zero.
        new = step(params, torch.where(live, x[t - 1], 0), tuple(torch.where(live, s, 0) for s in state))
        state = tuple(torch.where(live, after, before) for after, before in zip(new, state, strict=True))
        states.append(state)
    return states


def step_of(cell: str, activation: str | None, truncation: str) -> Step:
    """Choose the forward step of a cell.

    Raises: NotImplementedError for what is not offered.
    """
    if truncation == "cec" and cell != "lstm_1997":
        message = f"truncation 'cec' for {cell!r}; it is defined for 'lstm_1997' only"
        raise NotImplementedError(message)
    match cell:
        case "elman" if activation in _ACTIVATIONS:
            phi = _ACTIVATIONS[activation]
            return lambda p, x, state: _elman(p, x, state, phi)
        case "lstm_1997":
            return lambda p, x, state: _lstm_1997(p, x, state, cec=truncation == "cec")
        case "lstm" | "lstm_peephole" | "gru_reset_after" | "gru_reset_before":
            return _STEPS[cell]
    message = f"cell {cell!r} with activation {activation!r}"
    raise NotImplementedError(message)


def _elman(p: Named, x: Tensor, state: State, phi: Callable[[Tensor], Tensor]) -> State:
    (h,) = state
    return (phi(x @ p["W_xh"] + h @ p["W_hh"] + p["b_h"]),)


def _lstm(p: Named, x: Tensor, state: State) -> State:
    h, c = state
    a_i, a_f, a_g, a_o = (x @ p["W_x"] + h @ p["W_h"] + p["b"]).chunk(4, dim=1)
    c = torch.sigmoid(a_f) * c + torch.sigmoid(a_i) * torch.tanh(a_g)
    return torch.sigmoid(a_o) * torch.tanh(c), c


def _lstm_peephole(p: Named, x: Tensor, state: State) -> State:
    h, c = state
    a_i, a_f, a_g, a_o = (x @ p["W_x"] + h @ p["W_h"] + p["b"]).chunk(4, dim=1)
    c = torch.sigmoid(a_f + p["p_f"] * c) * c + torch.sigmoid(a_i + p["p_i"] * c) * torch.tanh(a_g)
    return torch.sigmoid(a_o + p["p_o"] * c) * torch.tanh(c), c


def _lstm_1997(p: Named, x: Tensor, state: State, *, cec: bool) -> State:
    h, c = state
    a_i, a_g, a_o = (x @ p["W_x"] + (h.detach() if cec else h) @ p["W_h"] + p["b"]).chunk(3, dim=1)
    c = c + torch.sigmoid(a_i) * torch.tanh(a_g)
    return torch.sigmoid(a_o) * torch.tanh(c), c


def _gru_reset_after(p: Named, x: Tensor, state: State) -> State:
    (h,) = state
    u_r, u_z, u_n = (x @ p["W_x"] + p["b_x"]).chunk(3, dim=1)
    v_r, v_z, v_n = (h @ p["W_h"] + p["b_h"]).chunk(3, dim=1)
    z = torch.sigmoid(u_z + v_z)
    n = torch.tanh(u_n + torch.sigmoid(u_r + v_r) * v_n)
    return ((1 - z) * n + z * h,)


def _gru_reset_before(p: Named, x: Tensor, state: State) -> State:
    (h,) = state
    W_hr, W_hz, W_hn = p["W_h"].chunk(3, dim=1)
    u_r, u_z, u_n = (x @ p["W_x"] + p["b"]).chunk(3, dim=1)
    z = torch.sigmoid(u_z + h @ W_hz)
    n = torch.tanh(u_n + (torch.sigmoid(u_r + h @ W_hr) * h) @ W_hn)
    return ((1 - z) * n + z * h,)


_STEPS: dict[str, Step] = {
    "lstm": _lstm,
    "lstm_peephole": _lstm_peephole,
    "gru_reset_after": _gru_reset_after,
    "gru_reset_before": _gru_reset_before,
}
