"""A correct Elman BPTT in plain NumPy, cut into small methods, so that a planted bug overrides just one of them.

Steps count from 1 to T; slot 0 of `a`, `h` and `dh_loss` belongs to the initial state.

    a_t = x_t W_xh + h_{t-1} W_hh + b_h     h_t = phi(a_t)     o_t = h_t W_hy + b_y, or h_t              (1)
    L = sum_t w_t L_t(o_t) + <g_h_final, h_length>                                                       (2)
    dh_s = dL/dh_s of the losses at s + carry_s       delta_s = dh_s phi'(a_s)                           (3)
    dW_xh += x_s^T delta_s    dW_hh += h_{s-1}^T delta_s    db_h += sum over rows of delta_s             (4)
    dx_s += delta_s W_xh^T    carry_{s-1} = delta_s W_hh^T    dh0 += carry_0                             (5)
    dW_hy = sum_t h_t^T do_t    db_y = sum_t do_t                                                        (6)

A row's state stands still after its last step. Under a truncation the loss of step t reaches back to step first(t):
window t-k+1, chunk k*floor((t-1)/k)+1, periodic min(length, k1*ceil(t/k1))-k2+1. Losses that reach back to
the same step share one sweep of (3) to (5), so that `full` is one sweep, and `chunk` one a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Adapter = Callable[[Any], dict[str, Any]]

SUPPORTS: dict[str, Any] = {
    "cells": ["elman"],
    "truncations": ["full", "window", "chunk", "periodic"],
    "dtypes": ["float64", "float32"],
    "h0_none": True,
}


class Elman:
    """One problem and its solution: `Elman(problem).solve()` returns the states, the loss and every gradient.

    Shapes: x (T,B,D), a and h and dh_loss (T+1,B,H), o and do (T,B,K), lengths (B,).
    Error:  rounding in the problem's dtype; the inputs are never written to.
    Raises: NotImplementedError for a cell, dtype or truncation outside SUPPORTS.
    """

    def __init__(self, problem: Any) -> None:
        """Read the problem's arrays and sizes; missing lengths are T, a missing initial state is zero."""
        asked = {"cells": problem.cell, "dtypes": problem.dtype, "truncations": problem.truncation.kind}
        for kind, name in asked.items():
            if name not in SUPPORTS[kind]:
                reason = f"{name} is not among the {kind} {', '.join(SUPPORTS[kind])}"
                raise NotImplementedError(reason)
        self.problem = problem
        self.loss_spec, self.truncation = problem.loss, problem.truncation
        self.activation, self.dtype = problem.activation, np.dtype(problem.dtype)
        self.linear = problem.readout == "linear"
        self.x: Array = problem.x
        self.W_xh: Array = problem.params["W_xh"]
        self.W_hh: Array = problem.params["W_hh"]
        self.b_h: Array = problem.params["b_h"]
        self.T, self.B, self.D = self.x.shape
        self.H = len(self.b_h)
        self.lengths: Array = np.full(self.B, self.T) if problem.lengths is None else np.asarray(problem.lengths)

    def solve(self) -> dict[str, Any]:
        """Run forward and backward, and return the results by name."""
        with np.errstate(all="ignore"):  # overflow shows in the result; a warning would add nothing
            self.forward()
            self.backward()
            return self.result()

    def zeros(self, *shape: int) -> Array:
        """Zeros in the problem's dtype."""
        return np.zeros(shape, self.dtype)

    # The forward pass, equations 1 and 2

    def phi(self, a: Array) -> Array:
        """Return the activation."""
        if self.activation == "tanh":
            return np.asarray(np.tanh(a))
        if self.activation == "sigmoid":
            e = np.exp(-np.abs(a))  # at most 1, so that no argument overflows
            return np.asarray(np.where(a >= 0, 1, e) / (1 + e))
        return np.asarray(np.maximum(a, 0)) if self.activation == "relu" else a

    def dphi(self, a: Array, h: Array) -> Array:
        """Return the activation's derivative at a, where h = phi(a); 0 at a relu's kink."""
        slopes = {"tanh": 1 - h * h, "sigmoid": h * (1 - h), "relu": (a > 0).astype(self.dtype)}
        return np.asarray(slopes.get(self.activation, np.ones_like(a)))

    def initial_state(self) -> Array:
        """Return h_0."""
        return self.zeros(self.B, self.H) if self.problem.h0 is None else np.asarray(self.problem.h0)

    def pre_activation(self, t: int) -> Array:
        """Return a_t."""
        return np.asarray(self.x[t - 1] @ self.W_xh + self.h[t - 1] @ self.W_hh + self.b_h)

    def active(self, t: int) -> Array:
        """Say for each row whether step t is one of its own; otherwise its state stands still."""
        return np.asarray(t <= self.lengths)

    def forward(self) -> None:
        """Fill a, h and o."""
        self.a, self.h = self.zeros(self.T + 1, self.B, self.H), self.zeros(self.T + 1, self.B, self.H)
        self.h[0] = self.initial_state()
        for t in range(1, self.T + 1):
            self.a[t] = self.pre_activation(t)
            self.h[t] = np.where(self.active(t)[:, None], self.phi(self.a[t]), self.h[t - 1])
        self.o = self.readout()

    def readout(self) -> Array:
        """Return o, never an alias of h."""
        if not self.linear:
            return self.h[1:].copy()
        return np.asarray(self.h[1:] @ self.problem.params["W_hy"] + self.problem.params["b_y"])

    def time_divisor(self) -> Array:
        """Return what the sum over a row's steps is divided by, (B,)."""
        if self.loss_spec.time_reduction == "tokens":
            return np.full(self.B, max(1, int(self.lengths.sum())))
        return np.maximum(1, self.lengths) if self.loss_spec.time_reduction == "mean" else np.ones(self.B, np.int64)

    def batch_divisor(self) -> int:
        """Return what the sum over the rows is divided by."""
        return self.B if self.loss_spec.batch_reduction == "mean" else 1

    def counted(self) -> Array:
        """Say for each step and row whether its loss counts, (T,B)."""
        return np.asarray(np.arange(1, self.T + 1)[:, None] <= self.lengths)

    def weights(self) -> Array:
        """Return w_t of each row, (T,B)."""
        divisor = (self.time_divisor() * self.batch_divisor()).astype(self.dtype)
        return np.asarray(np.where(self.counted(), 1 / divisor, self.dtype.type(0)))

    def one_hot(self) -> Array:
        """Return the target of a cross-entropy as probabilities, (T,B,K); what the padding holds is not read."""
        target = np.asarray(self.loss_spec.target)
        if target.ndim == self.x.ndim:
            return target
        return (np.arange(self.o.shape[-1]) == np.where(self.counted(), target, 0)[..., None]).astype(self.dtype)

    def log_probabilities(self) -> Array:
        """Return log softmax(o), (T,B,K)."""
        shifted = self.o - self.o.max(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))

    def probabilities(self) -> Array:
        """Return softmax(o), (T,B,K)."""
        e = np.exp(self.o - self.o.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def step_losses(self) -> Array:
        """Return L_t of each row, unweighted, (T,B)."""
        loss = self.loss_spec
        if loss.kind == "cotangent":
            return np.asarray((loss.g * self.o).sum(axis=-1))
        if loss.kind == "squared_error":
            return np.asarray(self.dtype.type(loss.scale) * ((self.o - loss.target) ** 2).sum(axis=-1))
        return np.asarray(-(self.one_hot() * self.log_probabilities()).sum(axis=-1))

    def loss_gradients(self) -> Array:
        """Return dL_t/do_t, unweighted, (T,B,K)."""
        loss = self.loss_spec
        if loss.kind == "cotangent":
            return np.asarray(loss.g)
        if loss.kind == "squared_error":
            return np.asarray(self.dtype.type(2 * loss.scale) * (self.o - loss.target))
        y = self.one_hot()
        return np.asarray(y.sum(axis=-1, keepdims=True) * self.probabilities() - y)

    def final_slot(self) -> Array:
        """Return the step of each row whose state is its final one, (B,)."""
        return self.lengths

    def g_h_final(self) -> Array | None:
        """Return the cotangent on the final state, (B,H), or None."""
        g: Array | None = getattr(self.loss_spec, "g_h_final", None)
        return g

    def loss(self) -> Any:
        """Return (2)."""
        total = np.where(self.counted(), self.weights() * self.step_losses(), self.dtype.type(0)).sum()
        g = self.g_h_final()
        return total if g is None else total + (g * self.h[self.T]).sum()

    # The backward pass, equations 3 to 6

    def state_gradients(self) -> Array:
        """Return dL/dh_t as far as it comes straight from the losses of step t, (T+1,B,H)."""
        dh_loss = self.zeros(self.T + 1, self.B, self.H)
        dh_loss[1:] = self.do @ self.problem.params["W_hy"].T if self.linear else self.do
        g = self.g_h_final()
        if g is not None:
            dh_loss[self.final_slot(), np.arange(self.B)] += g
        return dh_loss

    def first(self, t: int) -> Array:
        """Return the first step that the loss of step t is credited to, for each row, (B,)."""
        cut = self.truncation
        if cut.kind == "window":
            return np.full(self.B, max(1, t - cut.k + 1))
        if cut.kind == "chunk":
            return np.full(self.B, cut.k * ((t - 1) // cut.k) + 1)
        if cut.kind == "periodic":
            end = np.minimum(self.lengths, cut.k1 * -(-t // cut.k1))
            return np.asarray(np.maximum(1, end - cut.k2 + 1))
        return np.ones(self.B, np.int64)

    def sweeps(self) -> list[tuple[range, Array]]:
        """Group the losses that reach back to the same steps: (range of t, first), in the order of time."""
        grouped: list[tuple[range, Array]] = []
        for t in range(1, self.T + 1):
            first = self.first(t)
            if grouped and np.array_equal(grouped[-1][1], first):
                grouped[-1] = (range(grouped[-1][0].start, t + 1), first)
            else:
                grouped.append((range(t, t + 1), first))
        return grouped

    def clear(self) -> None:
        """Set every sum to zero; the final cotangent of a row without steps is all that its dh0 ever gets."""
        self.dW_xh, self.dW_hh = self.zeros(self.D, self.H), self.zeros(self.H, self.H)
        self.db_h, self.dx = self.zeros(self.H), self.zeros(self.T, self.B, self.D)
        self.dh0 = self.dh_loss[0].copy()

    def backward(self) -> None:
        """Fill every gradient."""
        counted = self.counted()[:, :, None]
        self.do = np.where(counted, self.weights()[:, :, None] * self.loss_gradients(), self.dtype.type(0))
        self.dh_loss = self.state_gradients()
        self.clear()
        for losses, first in self.sweeps():
            self.sweep(losses, first)

    def sweep(self, losses: range, first: Array) -> None:
        """Carry the losses of some steps back to step `first`."""
        last, carry = int(first.min()), self.zeros(self.B, self.H)
        for s in range(losses[-1], last - 1, -1):
            dh = carry + self.dh_loss[s] if s in losses else carry
            delta = self.delta(s, dh, first)
            self.accumulate(s, delta)
            carry = self.carry(s, dh, delta)
        if last == 1:
            self.dh0 += carry

    def live(self, s: int, first: Array) -> Array:
        """Say for each row whether step s is its own and within reach, (B,)."""
        return np.asarray((s >= first) & self.active(s))

    def delta(self, s: int, dh: Array, first: Array) -> Array:
        """Return delta_s of (3), zero where step s is out of reach."""
        slope = self.dphi(self.a[s], self.h[s])
        return np.asarray(np.where(self.live(s, first)[:, None], dh * slope, self.dtype.type(0)))

    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        """Return what step s hands to step s-1, (5)."""
        return np.asarray(delta @ self.W_hh.T)

    def accumulate(self, s: int, delta: Array) -> None:
        """Add step s to every sum."""
        self.add_input_weight(s, delta)
        self.add_recurrent_weight(s, delta)
        self.add_bias(s, delta)
        self.add_input(s, delta)

    def add_input_weight(self, s: int, delta: Array) -> None:
        """Add step s to dW_xh, (4)."""
        self.dW_xh += self.x[s - 1].T @ delta

    def add_recurrent_weight(self, s: int, delta: Array) -> None:
        """Add step s to dW_hh, (4)."""
        self.dW_hh += self.h[s - 1].T @ delta

    def add_bias(self, s: int, delta: Array) -> None:
        """Add step s to db_h, (4)."""
        self.db_h += delta.sum(axis=0)

    def add_input(self, s: int, delta: Array) -> None:
        """Add step s to dx, (5)."""
        self.dx[s - 1] += delta @ self.W_xh.T

    def dW_hy(self) -> Array:
        """Return the readout's weight gradient, (6)."""
        return np.asarray(np.einsum("tbh,tbk->hk", self.h[1:], self.do))

    def db_y(self) -> Array:
        """Return the readout's bias gradient, (6)."""
        return np.asarray(self.do.sum(axis=(0, 1)))

    def result(self) -> dict[str, Any]:
        """Return what an adapter returns."""
        found = {"loss": self.loss(), "h": self.h[1:], "o": self.o, "dx": self.dx, "dh0": self.dh0}
        found |= {"dW_xh": self.dW_xh, "dW_hh": self.dW_hh, "db_h": self.db_h}
        return found | {"dW_hy": self.dW_hy(), "db_y": self.db_y()} if self.linear else found


def gradients(problem: Any) -> dict[str, Any]:
    """Return the correct results, as an adapter does."""
    return Elman(problem).solve()
