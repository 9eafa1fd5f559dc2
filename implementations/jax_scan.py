"""JAX, compiled by XLA: the target `jax`, on the CPU; `lax.scan` over the steps, and its derivative.

The forward equations stand here; the gradients are JAX's. A truncation is a list of sweeps
(`implementations.truncation`), and each sweep is differentiated over the window of steps that it visits, from the
recorded state below it. Where it may go no further down in a row, a rule of our own stops it: `_gate` is the identity
whose cotangent is dropped. The constant error carousel (`cec`) stops the gradient of h at each pre-activation.

XLA compiles anew for every combination of sizes, which takes a second or two. So sizes are rounded up to a few, and
what is added is zero: units without weights, rows of length 0, steps after the last one, sweeps without a loss. None of
it reaches a result, for a sum with further zeros is the same sum; outputs that were added have no loss.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jax import lax
from jax import numpy as jnp

from implementations.losses import divisors
from implementations.offered import require
from implementations.truncation import row_lengths, sweeps

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
    "elementary_ulp": 8.0,  # tanh in float64: 6.7 was seen, among six million arguments
    "subnormals": "flush",
}

FEWEST, GROWTH = 8, 4
"""Sizes are rounded up to FEWEST, or to that times a power of GROWTH."""
KEPT = 256
"""How many compiled functions are kept; then all are dropped, since each of them takes memory."""

Array = npt.NDArray[Any]
Named = dict[str, jax.Array]
State = tuple[jax.Array, ...]


class Kind(NamedTuple):
    """What XLA compiles for, beside the sizes; `steps` is how many steps the widest sweep visits, rounded up."""

    cell: str
    activation: str | None
    cec: bool
    readout: str
    loss: str
    labels: bool
    scale: float
    steps: int


def gradients(problem: Any) -> dict[str, Any]:
    """Compute the loss, the states and every gradient of a problem, in its dtype.

    Shapes: loss scalar, h and c (T,B,H), o (T,B,K), dx (T,B,D), dh0 and dc0 (B,H), d + name as the parameter.
    Raises: NotImplementedError for what SUPPORTS does not list.
    """
    require(problem, SUPPORTS)
    with jax.enable_x64(problem.dtype == "float64"):
        kind, arrays = _padded(problem)
        if len(_seen) >= KEPT:
            jax.clear_caches()
            _seen.clear()
        _seen.add((kind, *(array.shape for array in jax.tree.leaves(arrays))))
        found = jax.device_get(_solve(kind, arrays))
    return _cut(problem, found)


_seen: set[Any] = set()


# ---- sizes -----------------------------------------------------------------------------------------------------------


def rounded(n: int) -> int:
    """The smallest size that is compiled for and not below n.

    >>> rounded(1), rounded(9), rounded(33)
    (8, 32, 128)
    """
    size = FEWEST
    while size < n:
        size *= GROWTH
    return size


def _padded(problem: Any) -> tuple[Kind, dict[str, Any]]:
    """The problem in rounded sizes, and what is compiled for it.

    Shapes: x (T+steps,B,D), so that a window which starts at any step lies within; g and target likewise; lengths and
    divisor (B,); first, last, bottom (S,) and floor (S,B) of the sweeps.
    """
    loss, (T, B, D) = problem.loss, problem.x.shape
    H = problem.params["W_hh" if problem.cell == "elman" else "W_h"].shape[0]
    length = row_lengths(problem.lengths, T, B)
    passes = list(sweeps(problem.truncation, T, length))
    steps = rounded(max(one.last - one.bottom for one in passes))
    K = problem.params["W_hy"].shape[1] if problem.readout == "linear" else H
    sizes = {name: rounded(n) for name, n in (("B", B), ("D", D), ("H", H), ("K", K))}
    sizes |= {"T": rounded(T) + steps, "S": 1 if len(passes) == 1 else rounded(len(passes))}
    labels = loss.kind == "cross_entropy" and loss.target.ndim == 2
    kind = Kind(problem.cell, problem.activation, problem.truncation.kind == "cec", problem.readout, loss.kind, labels,
                float(loss.scale) if loss.kind == "squared_error" else 1.0, steps)  # fmt: skip
    states = ("h", "c") if problem.cell.startswith("lstm") else ("h",)
    start = [getattr(problem, f"{name}0") for name in states]
    finals = [getattr(loss, f"g_{name}_final", None) for name in states]
    nothing = np.zeros((B, H), problem.dtype)
    data = loss.g if loss.kind == "cotangent" else loss.target
    arrays = {
        "params": {name: _parameter(name, value, H, sizes) for name, value in problem.params.items()},
        "x": _to(problem.x, [sizes["T"], sizes["B"], sizes["D"]]),
        "start": [_to(nothing if s0 is None else s0, [sizes["B"], sizes["H"]]) for s0 in start],
        "data": _to(data, [sizes["T"], sizes["B"]] + ([] if labels else [sizes["K"]])),
        "finals": [_to(nothing if g is None else g, [sizes["B"], sizes["H"]]) for g in finals],
        "outputs": np.array(K),
        "length": _to(length, [sizes["B"]]),
        "divisor": _to(divisors(loss, length).astype(problem.dtype), [sizes["B"]], 1),
        "first": _to(np.array([one.first for one in passes]), [sizes["S"]]),
        "last": _to(np.array([one.last for one in passes]), [sizes["S"]]),
        "bottom": _to(np.array([one.bottom for one in passes]), [sizes["S"]]),
        "floor": _to(np.stack([one.floor for one in passes]), [sizes["S"], sizes["B"]]),
        "ends": _to(np.stack([one.ends for one in passes]), [sizes["S"], sizes["B"]]),
    }
    return kind, arrays


def _to(array: Array, shape: list[int], value: float = 0) -> Array:
    """The array with `value` after it, to that shape."""
    array = np.asarray(array)
    out = np.full(shape, value, array.dtype)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


_ROWS = {"W_x": "D", "W_xh": "D", "W_h": "H", "W_hh": "H"}


def _parameter(name: str, value: Array, H: int, sizes: dict[str, int]) -> Array:
    """A parameter in rounded sizes; each gate's columns are widened by themselves."""
    if name in ("W_hy", "b_y"):
        return _to(value, [sizes[n] for n in "HK"[-value.ndim :]])
    rows = [sizes[_ROWS[name]]] if value.ndim == 2 else []
    gates = value.shape[-1] // H
    wide = _to(np.reshape(value, (*value.shape[:-1], gates, H)), [*rows, gates, sizes["H"]])
    return wide.reshape(*rows, gates * sizes["H"])


def _cut(problem: Any, found: dict[str, Array]) -> dict[str, Array]:
    """The results in the problem's own sizes."""
    (T, B, D), K = problem.x.shape, problem.params["W_hy"].shape[1] if problem.readout == "linear" else None
    H = problem.params["W_hh" if problem.cell == "elman" else "W_h"].shape[0]
    out: dict[str, Array] = {}
    for key, array in found.items():
        if key == "loss":
            out[key] = array
        elif key in ("h", "c", "o", "dx"):
            out[key] = array[:T, :B, : {"o": K or H, "dx": D}.get(key, H)]
        elif key in ("dh0", "dc0"):
            out[key] = array[:B, :H]
        elif key in ("dW_hy", "db_y"):
            out[key] = array[..., :K] if array.ndim == 1 else array[:H, :K]
        else:
            shape = problem.params[key[1:]].shape
            gates = shape[-1] // H
            split = array.reshape(*array.shape[:-1], gates, array.shape[-1] // gates)
            out[key] = split[tuple(slice(n) for n in (*shape[:-1], gates, H))].reshape(shape)
    return {key: np.array(array) for key, array in out.items()}


# ---- what is compiled --------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def _solve(kind: Kind, a: dict[str, Any]) -> dict[str, Any]:
    """Loss, states, outputs and gradients in rounded sizes."""
    T = a["x"].shape[0]
    start = tuple(a["start"])
    everywhere = {"x": a["x"], "data": a["data"], "t": jnp.arange(1, T + 1)}
    states = _unroll(kind, a["params"], start, everywhere, a["length"], None)
    before = tuple(jnp.concatenate([s0[None], s]) for s0, s in zip(start, states, strict=True))  # before[t]: after t
    o = _read_out(kind, a["params"], states[0])
    everyone = jnp.ones_like(a["ends"][0])
    loss = _loss(kind, a, o, everywhere, (0, T), tuple(s[-1] for s in states), everyone)

    def one(total: Any, sweep: dict[str, jax.Array]) -> tuple[Any, None]:
        """Add the gradients of one sweep."""
        bottom = sweep["bottom"]
        below = tuple(lax.dynamic_index_in_dim(s, bottom, keepdims=False) for s in before)
        window = {name: lax.dynamic_slice_in_dim(array, bottom, kind.steps) for name, array in everywhere.items()}

        def part(params: Named, x: jax.Array, below: State) -> jax.Array:
            steps = {**window, "x": x}
            found = _unroll(kind, params, below, steps, a["length"], sweep["floor"])
            final = tuple(s[-1] for s in found)
            span = (sweep["first"], sweep["last"])
            return _loss(kind, a, _read_out(kind, params, found[0]), steps, span, final, sweep["ends"])

        params, dx, dstart = jax.grad(part, argnums=(0, 1, 2))(a["params"], window["x"], below)
        wide = lax.dynamic_update_slice_in_dim(jnp.zeros_like(a["x"]), dx, bottom, 0)
        return jax.tree.map(jnp.add, total, (params, wide, dstart)), None

    nothing = jax.tree.map(jnp.zeros_like, (a["params"], a["x"], start))
    passes = {name: a[name] for name in ("first", "last", "bottom", "floor", "ends")}
    (params, dx, dstart), _ = lax.scan(one, nothing, passes)
    names = ("h", "c")[: len(start)]
    return {
        "loss": loss,
        "o": o,
        **dict(zip(names, states, strict=True)),
        **{f"d{name}": array for name, array in params.items()},
        "dx": dx,
        **{f"d{name}0": array for name, array in zip(names, dstart, strict=True)},
    }


def _identity(state: jax.Array, opened: jax.Array) -> jax.Array:
    del opened  # only the rule below reads it
    return state


def _gate_forwards(state: jax.Array, opened: jax.Array) -> tuple[jax.Array, jax.Array]:
    return state, opened


def _gate_backwards(opened: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, None]:
    return jnp.where(opened, cotangent, 0), None


_gate = jax.custom_vjp(_identity)
"""The state (B,H); in the rows that are not `opened` (B,1) its cotangent is dropped."""
_gate.defvjp(_gate_forwards, _gate_backwards)


def _unroll(
    kind: Kind, params: Named, start: State, steps: dict[str, jax.Array], length: jax.Array, floor: jax.Array | None
) -> State:
    """The states after each of the steps, (n,B,H) each; a row that is over keeps its state."""
    step = partial(step_of(kind), params)

    def body(state: State, at: tuple[jax.Array, jax.Array]) -> tuple[State, State]:
        x, t = at
        if floor is not None:
            opened = ((t == 1) | (floor != t - 1))[:, None]
            state = tuple(_gate(s, opened) for s in state)
        live = (t <= length)[:, None]
        # A row that is over runs on zeros, so that nothing infinite arises behind a gradient that is zero.
        new = step(jnp.where(live, x, 0), tuple(jnp.where(live, s, 0) for s in state))
        state = tuple(jnp.where(live, after, before) for after, before in zip(new, state, strict=True))
        return state, state

    states: State = lax.scan(body, start, (steps["x"], steps["t"]))[1]
    return states


def _read_out(kind: Kind, params: Named, h: jax.Array) -> jax.Array:
    """h (n,B,H) -> o (n,B,K)."""
    return h @ params["W_hy"] + params["b_y"] if kind.readout == "linear" else h


def _loss(
    kind: Kind,
    a: dict[str, Any],
    o: jax.Array,
    steps: dict[str, jax.Array],
    span: tuple[Any, Any],
    final: State,
    ends: jax.Array,
) -> jax.Array:
    """The losses of the steps first < t <= last, and the final cotangents of the rows `ends`, reduced."""
    (first, last), t, data = span, steps["t"][:, None], steps["data"]
    real = jnp.arange(o.shape[-1]) < a["outputs"]
    live = (t > first) & (t <= last) & (t <= a["length"])  # (n,B)
    if kind.loss == "cotangent":
        each = (data * o).sum(-1)
    elif kind.loss == "squared_error":
        each = kind.scale * (jnp.where(real, o - data, 0) ** 2).sum(-1)
    else:
        log_p = jax.nn.log_softmax(jnp.where(real, o, -jnp.inf))
        if kind.labels:
            each = -jnp.take_along_axis(log_p, data[..., None], -1)[..., 0]
        else:
            each = -jnp.where(real, data * log_p, 0).sum(-1)
    total = (jnp.where(live, each, 0).sum(0) / a["divisor"]).sum()
    for g, s in zip(a["finals"], final, strict=True):
        total = total + (jnp.where(ends[:, None], g, 0) * s).sum()
    return total


# ---- the cells ---------------------------------------------------------------------------------------------------

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "identity": lambda a: a,
}
_sigma = jax.nn.sigmoid


def _elman(p: Named, x: jax.Array, state: State, phi: Callable[[jax.Array], jax.Array]) -> State:
    (h,) = state
    return (phi(x @ p["W_xh"] + h @ p["W_hh"] + p["b_h"]),)


def _lstm(p: Named, x: jax.Array, state: State) -> State:
    h, c = state
    a_i, a_f, a_g, a_o = jnp.split(x @ p["W_x"] + h @ p["W_h"] + p["b"], 4, axis=1)
    c = _sigma(a_f) * c + _sigma(a_i) * jnp.tanh(a_g)
    return _sigma(a_o) * jnp.tanh(c), c


def _lstm_peephole(p: Named, x: jax.Array, state: State) -> State:
    h, c = state
    a_i, a_f, a_g, a_o = jnp.split(x @ p["W_x"] + h @ p["W_h"] + p["b"], 4, axis=1)
    c = _sigma(a_f + p["p_f"] * c) * c + _sigma(a_i + p["p_i"] * c) * jnp.tanh(a_g)
    return _sigma(a_o + p["p_o"] * c) * jnp.tanh(c), c


def _lstm_1997(p: Named, x: jax.Array, state: State, *, cec: bool) -> State:
    h, c = state
    h = lax.stop_gradient(h) if cec else h
    a_i, a_g, a_o = jnp.split(x @ p["W_x"] + h @ p["W_h"] + p["b"], 3, axis=1)
    c = c + _sigma(a_i) * jnp.tanh(a_g)
    return _sigma(a_o) * jnp.tanh(c), c


def _gru_reset_after(p: Named, x: jax.Array, state: State) -> State:
    (h,) = state
    u_r, u_z, u_n = jnp.split(x @ p["W_x"] + p["b_x"], 3, axis=1)
    v_r, v_z, v_n = jnp.split(h @ p["W_h"] + p["b_h"], 3, axis=1)
    z = _sigma(u_z + v_z)
    n = jnp.tanh(u_n + _sigma(u_r + v_r) * v_n)
    return ((1 - z) * n + z * h,)


def _gru_reset_before(p: Named, x: jax.Array, state: State) -> State:
    (h,) = state
    W_hr, W_hz, W_hn = jnp.split(p["W_h"], 3, axis=1)
    u_r, u_z, u_n = jnp.split(x @ p["W_x"] + p["b"], 3, axis=1)
    z = _sigma(u_z + h @ W_hz)
    n = jnp.tanh(u_n + (_sigma(u_r + h @ W_hr) * h) @ W_hn)
    return ((1 - z) * n + z * h,)


_STEPS: dict[str, Callable[[Named, jax.Array, State], State]] = {
    "lstm": _lstm,
    "lstm_peephole": _lstm_peephole,
    "gru_reset_after": _gru_reset_after,
    "gru_reset_before": _gru_reset_before,
}


def step_of(kind: Kind) -> Callable[[Named, jax.Array, State], State]:
    """Choose the forward step of a cell."""
    if kind.cell == "elman":
        return partial(_elman, phi=_ACTIVATIONS[str(kind.activation)])
    return partial(_lstm_1997, cec=kind.cec) if kind.cell == "lstm_1997" else _STEPS[kind.cell]
