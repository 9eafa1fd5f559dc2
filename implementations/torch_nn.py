"""torch.nn.RNN, LSTM and GRU as they are shipped: the target `torch-nn`, one layer, one direction, on the CPU.

The modules are opaque here: parameters are converted to theirs, gradients back; readout and loss stand beside.

    ours                              theirs
    elman  W_xh, W_hh, b_h            weight_ih = W_xh^T, weight_hh = W_hh^T, bias_ih = b_h, bias_hh = 0
    lstm   W_x, W_h, b (i,f,g,o)      the same, rows in the order i, f, g, o
    gru_reset_after  (r,z,n)          weight_ih = W_x^T, weight_hh = W_h^T, bias_ih = b_x, bias_hh = b_h

Rows of length 0 never reach a module, since packing refuses them; their final state is the initial one.
nn.LSTM reports c after its last step only: the c of every step comes from running it one step at a time.
Without h0 the module is called without one, and nothing is claimed for dh0 and dc0.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from implementations.torch_autograd import State, array, dtype_of, partial_loss, read_out, tensor
from implementations.truncation import row_lengths

SUPPORTS: dict[str, Any] = {
    "cells": ["elman", "lstm", "gru_reset_after"],
    "activations": ["tanh", "relu"],
    "readouts": ["none", "linear"],
    "losses": ["cotangent", "squared_error", "cross_entropy"],
    "reductions": ["sum", "mean", "tokens"],
    "truncations": ["full", "chunk"],
    "dtypes": ["float64", "float32"],
    "lengths": True,
    "h0_none": True,
    "final_cotangents": True,
}

# Our parameter, theirs, and whether it is transposed.
_RENAMED = {
    "elman": (("W_xh", "weight_ih_l0", True), ("W_hh", "weight_hh_l0", True), ("b_h", "bias_ih_l0", False)),
    "lstm": (("W_x", "weight_ih_l0", True), ("W_h", "weight_hh_l0", True), ("b", "bias_ih_l0", False)),
    "gru_reset_after": (
        ("W_x", "weight_ih_l0", True),
        ("W_h", "weight_hh_l0", True),
        ("b_x", "bias_ih_l0", False),
        ("b_h", "bias_hh_l0", False),
    ),
}


def gradients(problem: Any) -> dict[str, Any]:
    """Compute the loss, the states and every gradient of a problem, in its dtype.

    Shapes: loss scalar, h and c (T,B,H), o (T,B,K), dx (T,B,D), dh0 and dc0 (B,H), d + name as the parameter.
    Raises: NotImplementedError for what SUPPORTS does not list.
    """
    dtype = dtype_of(problem, SUPPORTS["dtypes"])
    T, B, _ = problem.x.shape
    block = _block(problem, T)
    module = _module(problem, dtype)
    x = tensor(problem.x, dtype)  # (T,B,D)
    given = {"h0": problem.h0, "c0": problem.c0} if problem.cell == "lstm" else {"h0": problem.h0}
    start = {name: tensor(s0, dtype) for name, s0 in given.items() if s0 is not None}
    readout = {name: tensor(problem.params[name], dtype) for name in ("W_hy", "b_y") if problem.readout == "linear"}
    theirs = {ours: getattr(module, name) for ours, name, _ in _RENAMED[problem.cell]}
    leaves = {**theirs, **readout, "x": x, **start}

    with torch.enable_grad():
        for leaf in leaves.values():
            leaf.requires_grad_()
        h, final = _run_in_blocks(module, x, tuple(start.values()), problem.lengths, block)
        o = read_out(problem, readout, h)  # (T,B,K)
        loss = partial_loss(problem, o, 0, final, np.ones(B, dtype=bool))
        tensors = list(leaves.values())
        # Where every row has length 0 and there is no initial state, nothing at all enters the loss.
        found = torch.autograd.grad(loss, tensors, allow_unused=True) if loss.requires_grad else (None,) * len(tensors)
    grads = {
        name: torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), found, strict=True)
    }
    for ours, _, transposed in _RENAMED[problem.cell]:
        if transposed:
            grads[ours] = grads[ours].T

    result = {"loss": array(loss), "h": array(h), "o": array(o), **{f"d{name}": array(g) for name, g in grads.items()}}
    if problem.cell == "lstm":
        result["c"] = array(_cell_states(module, x, tuple(start.values()), problem.lengths))
    return result


def _block(problem: Any, T: int) -> int:
    """Return the number of steps between two detachments."""
    match problem.truncation.kind:
        case "full":
            return T
        case "chunk":
            return int(problem.truncation.k)
    message = f"truncation {problem.truncation.kind!r}; a module can be detached between calls only: full, chunk"
    raise NotImplementedError(message)


def _module(problem: Any, dtype: torch.dtype) -> nn.RNNBase:
    """Build the module with the problem's parameters; the global random generator is not touched."""
    kind: type[nn.RNNBase]
    options: dict[str, str] = {}
    match problem.cell, problem.activation:
        case "elman", ("tanh" | "relu") as activation:
            kind, options = nn.RNN, {"nonlinearity": activation}
        case "lstm", _:
            kind = nn.LSTM
        case "gru_reset_after", _:
            kind = nn.GRU
        case cell, activation:
            message = f"cell {cell!r} with activation {activation!r}; torch.nn has RNN (tanh, relu), LSTM, GRU"
            raise NotImplementedError(message)
    W_x, W_h, *_ = (problem.params[ours] for ours, _, _ in _RENAMED[problem.cell])
    # Built on the meta device, since the modules' own initialisation would draw from the global random generator.
    module = kind(W_x.shape[0], W_h.shape[0], device="meta", dtype=dtype, **options).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        for ours, name, transposed in _RENAMED[problem.cell]:
            value = tensor(problem.params[ours], dtype)
            getattr(module, name).copy_(value.T if transposed else value)
    return module


def _run_in_blocks(module: nn.RNNBase, x: Tensor, start: State, lengths: Any, block: int) -> tuple[Tensor, State]:
    """Run all steps, detaching between blocks: x (T,B,D), start () or (B,H) a state -> h (T,B,H), final (B,H) a state.

    A row that is over keeps its final state attached.
    """
    T, B, _ = x.shape
    length = row_lengths(lengths, T, B)
    state = start
    pieces = []
    for first in range(0, T, block):
        if first:
            going_on = torch.from_numpy(length > first)[:, None]  # (B,1)
            state = tuple(torch.where(going_on, s.detach(), s) for s in state)
        x_block = x[first : first + block]
        inside = None if lengths is None else np.clip(length - first, 0, x_block.shape[0])  # (B,)
        h, state = _run(module, x_block, state, inside)
        pieces.append(h)
    return torch.cat(pieces), state


def _run(module: nn.RNNBase, x: Tensor, state: State, inside: Any) -> tuple[Tensor, State]:
    """Call the module once, with its own default for a state that is ().

    Shapes: x (n,B,D), state (B,H) each, inside (B,) steps of each row or None -> h (n,B,H), state (B,H) each.
    With `inside`, rows are packed; what a row holds after its last step is 0.
    """
    if inside is None:
        h, last = module(x, _to_hx(module, state))
        return h, _from_hx(last)
    n, B, _ = x.shape
    rows = torch.from_numpy(np.flatnonzero(inside))
    before = state or tuple(x.new_zeros(B, module.hidden_size) for _ in range(2 if isinstance(module, nn.LSTM) else 1))
    h = x.new_zeros(n, B, module.hidden_size)
    if len(rows) == 0:
        return h, before
    packed = pack_padded_sequence(x[:, rows], torch.from_numpy(inside)[rows], enforce_sorted=False)
    out, last = module(packed, _to_hx(module, tuple(s[rows] for s in state)))
    padded, _ = pad_packed_sequence(out, total_length=n)
    after = tuple(s.index_copy(0, rows, new) for s, new in zip(before, _from_hx(last), strict=True))
    return h.index_copy(1, rows, padded), after


def _cell_states(module: nn.RNNBase, x: Tensor, start: State, lengths: Any) -> Tensor:
    """Run nn.LSTM one step at a time for its c: x (T,B,D) -> c (T,B,H)."""
    T, B, _ = x.shape
    length = row_lengths(lengths, T, B)
    state = start
    series = []
    with torch.no_grad():
        for t in range(T):
            _, state = _run(module, x[t : t + 1], state, None if lengths is None else np.clip(length - t, 0, 1))
            series.append(state[1])
    return torch.stack(series)


def _to_hx(module: nn.RNNBase, state: State) -> Any:
    """Give states (B,H) the layer axis the module wants, as a pair for nn.LSTM; None for no state."""
    if not state:
        return None
    hx = tuple(s[None].contiguous() for s in state)  # (1,B,H)
    return hx if isinstance(module, nn.LSTM) else hx[0]


def _from_hx(hx: Any) -> State:
    """Take the layer axis away again: (1,B,H), or a pair of them -> (B,H) a state."""
    return tuple(s[0] for s in hx) if isinstance(hx, tuple) else (hx[0],)
