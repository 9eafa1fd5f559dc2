"""Backpropagation through time in plain NumPy, for all six cells: right, and cut into small methods.

`Network` is one problem, solved forward and then backward; a subclass per cell adds its step and the step's
reverse. Every mistake of `blind.py` overrides one small method. Steps s and t count from 1, as in mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray; kept loose, so that the module runs on any NumPy
SUPPORTS = {
    "cells": ["elman", "lstm", "lstm_peephole", "lstm_1997", "gru_reset_after", "gru_reset_before"],
    "dtypes": ["float64", "float32"],
}


class Network:
    """One problem: its forward run, its loss and its gradients."""

    has_c = False  # whether the cell has a state c beside h
    input_name, recurrent_name, bias_name = "W_x", "W_h", "b"

    def __init__(self, problem: Any) -> None:
        self.problem = problem
        self.loss, self.truncation = problem.loss, problem.truncation
        self.dtype = np.dtype(problem.dtype)
        self.params = {name: self.copy(value) for name, value in problem.params.items()}
        self.x = self.read_x(problem)
        self.T, self.B, self.D = self.x.shape
        self.H = self.params[self.recurrent_name].shape[0]
        self.lengths = self.read_lengths(problem)
        self.active = self.active_steps()  # (T, B): does the state move at this step?

    # Reading the problem

    def copy(self, value: Array) -> Array:
        """The values, in this problem's dtype, in memory of our own."""
        return np.array(value, dtype=self.dtype, order="C")

    def read_x(self, problem: Any) -> Array:
        """The inputs (T, B, D)."""
        return self.copy(problem.x)

    def read_lengths(self, problem: Any) -> Array:
        """The length of every row; T where none are given."""
        if problem.lengths is None:
            return np.full(self.B, self.T, dtype=np.int64)
        return np.array(problem.lengths, dtype=np.int64)

    def active_steps(self) -> Array:
        """Whether a step is within the row's length, (T,B)."""
        return np.arange(1, self.T + 1)[:, None] <= self.lengths[None, :]

    def loss_steps(self) -> Array:
        """Whether a step of a row enters the loss, (T,B)."""
        return self.active

    def initial_state(self) -> tuple[Array, Array]:
        """h_0 and c_0 (zeros where the cell has no c, or where none was given)."""
        zeros = np.zeros((self.B, self.H), self.dtype)
        h0, c0 = self.problem.h0, self.problem.c0
        return (zeros if h0 is None else self.copy(h0)), (zeros if c0 is None else self.copy(c0))

    # Elementary functions, and their slopes by way of their values

    def sigmoid(self, a: Array) -> Array:
        """The logistic function, without overflow."""
        e = np.exp(-np.abs(a))
        return np.where(a >= 0, 1 / (1 + e), e / (1 + e)).astype(self.dtype)

    def tanh(self, a: Array) -> Array:
        """The hyperbolic tangent."""
        return np.tanh(a)

    def sigmoid_slope(self, y: Array) -> Array:
        """The derivative of the logistic function where its value is y."""
        return y * (1 - y)

    def tanh_slope(self, y: Array) -> Array:
        """The derivative of the hyperbolic tangent where its value is y."""
        return 1 - y * y

    # Forward

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        """One step of the cell; what it returns has at least x, h_prev, c_prev, h and c."""
        raise NotImplementedError("no cell")

    def forward(self) -> None:
        """All steps: sets tapes, h, c (T, B, H) and the final states."""
        h, c = self.initial_state()
        self.tapes: list[SimpleNamespace] = []
        self.h = np.zeros((self.T, self.B, self.H), self.dtype)
        self.c = np.zeros_like(self.h)
        for s in range(1, self.T + 1):
            tape = self.step(self.x[s - 1], h, c)
            on = self.active[s - 1][:, None]
            h, c = np.where(on, tape.h, h), np.where(on, tape.c, c)
            self.tapes.append(tape)
            self.h[s - 1], self.c[s - 1] = h, c
        self.h_final, self.c_final = h, c

    def readout(self, h: Array) -> Array:
        """The outputs o."""
        if self.problem.readout == "linear":
            return h @ self.params["W_hy"] + self.params["b_y"]
        return h.copy()

    # The loss

    def time_divisor(self) -> Array:
        """What a mean over time divides each row by (1 for rows of length 0, which have nothing to divide)."""
        return np.maximum(self.lengths, 1).astype(self.dtype)

    def batch_divisor(self) -> Array:
        """What a mean over the batch divides by."""
        return self.dtype.type(self.B)

    def token_divisor(self) -> Array:
        """What the reduction `tokens` divides by."""
        return self.dtype.type(max(int(self.lengths.sum()), 1))

    def divisors(self) -> Array:
        """(B,): what each row's terms are divided by."""
        if self.loss.time_reduction == "tokens":
            return np.full(self.B, self.token_divisor(), self.dtype)
        divisor = self.time_divisor() if self.loss.time_reduction == "mean" else np.ones(self.B, self.dtype)
        return divisor * self.batch_divisor() if self.loss.batch_reduction == "mean" else divisor

    def gradient_divisors(self) -> Array:
        """(B,): the same for the gradient; one function serves both."""
        return self.divisors()

    def probabilities(self) -> Array:
        """The targets of a cross entropy as (T, B, K)."""
        target = np.asarray(self.loss.target)
        if target.ndim == 3:
            return self.copy(target)
        classes = np.where(self.active, target, 0)
        return (np.arange(self.o.shape[2]) == classes[..., None]).astype(self.dtype)

    def log_softmax(self, o: Array) -> Array:
        """log softmax over the last axis."""
        shifted = o - o.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    def error(self) -> Array:
        """o − y of the squared error."""
        return self.o - self.copy(self.loss.target)

    def loss_terms(self) -> Array:
        """(T, B): the loss of every step and row, before any reduction."""
        if self.loss.kind == "cotangent":
            return (self.copy(self.loss.g) * self.o).sum(axis=-1)
        if self.loss.kind == "squared_error":
            return self.dtype.type(self.loss.scale) * (self.error() ** 2).sum(axis=-1)
        return -(self.probabilities() * self.log_softmax(self.o)).sum(axis=-1)

    def loss_gradient(self) -> Array:
        """(T, B, K): the gradient of `loss_terms` with respect to o."""
        if self.loss.kind == "cotangent":
            return self.copy(self.loss.g)
        if self.loss.kind == "squared_error":
            return self.dtype.type(2 * self.loss.scale) * self.error()
        y = self.probabilities()
        return y.sum(axis=-1, keepdims=True) * np.exp(self.log_softmax(self.o)) - y

    def final_cotangents(self) -> tuple[Array, Array]:
        """The cotangents of the final h and c (zeros where there are none)."""
        zeros = np.zeros((self.B, self.H), self.dtype)
        if self.loss.kind != "cotangent":
            return zeros, zeros
        g_h, g_c = getattr(self.loss, "g_h_final", None), getattr(self.loss, "g_c_final", None)
        return (zeros if g_h is None else self.copy(g_h)), (zeros if g_c is None else self.copy(g_c))

    def total_loss(self) -> Any:
        """The loss."""
        terms = np.where(self.loss_steps(), self.loss_terms(), 0).sum(axis=0)
        g_h, g_c = self.final_cotangents()
        return (terms / self.divisors()).sum() + (g_h * self.h_final).sum() + (g_c * self.c_final).sum()

    # Truncation: groups of losses that travel back together, and where each row's journey ends

    def blocks(self, k: int) -> list[range]:
        """The steps 1 … T in blocks of k; the last may be short."""
        return [range(first, min(first + k, self.T + 1)) for first in range(1, self.T + 1, k)]

    def sweeps(self) -> Iterator[tuple[range, Array]]:
        """Pairs (steps t whose losses travel together, (B,) cut): the terms s > cut are kept."""
        name = "full" if self.truncation.kind == "cec" else self.truncation.kind
        return getattr(self, name + "_sweeps")()

    def full_sweeps(self) -> Iterator[tuple[range, Array]]:
        """All losses together, back to the first step."""
        yield range(1, self.T + 1), np.zeros(self.B, int)

    def window_sweeps(self) -> Iterator[tuple[range, Array]]:
        """Each loss alone, over k steps."""
        for t in range(1, self.T + 1):
            yield range(t, t + 1), np.full(self.B, t - self.truncation.k)

    def chunk_sweeps(self) -> Iterator[tuple[range, Array]]:
        """Each block alone."""
        for block in self.blocks(self.truncation.k):
            yield block, np.full(self.B, block[0] - 1)

    def period_end(self, block: range) -> Array:
        """(B,): e(t) for the steps t of a block of k1 steps."""
        last = self.truncation.k1 * -(-block[0] // self.truncation.k1)
        return np.minimum(self.lengths, last)

    def periodic_sweeps(self) -> Iterator[tuple[range, Array]]:
        """The losses of each k1 steps, over the k2 steps before e(t)."""
        for block in self.blocks(self.truncation.k1):
            yield block, self.period_end(block) - self.truncation.k2

    # Backward

    def outer(self, left: Array, right: Array) -> Array:
        """Σ over the rows of leftᵀ right."""
        return left.T @ right

    def add(self, name: str, s: int, value: Array) -> None:
        """Adds step s's term to a parameter's gradient."""
        self.grad[name] += value

    def add_x(self, s: int, value: Array) -> None:
        """Adds a term to the gradient of the input of step s."""
        self.dx[s - 1] += value

    def carry(self, da: Array) -> Array:
        """The gradient of the pre-activations, carried to the previous h."""
        return da @ self.params[self.recurrent_name].T

    def carry_x(self, da: Array) -> Array:
        """The gradient of the pre-activations, carried to the input."""
        return da @ self.params[self.input_name].T

    def recurrent_input(self, tape: SimpleNamespace) -> Array:
        """What the recurrent weights were multiplied by."""
        return tape.h_prev

    def gates_back(self, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        """From the state to the pre-activations: their gradient, and that of the previous c along c."""
        raise NotImplementedError("no cell")

    def spread(self, s: int, tape: SimpleNamespace, da: Array) -> Array:
        """From the pre-activations to weights, input and previous h; returns the last."""
        self.add(self.input_name, s, self.outer(tape.x, da))
        self.add(self.recurrent_name, s, self.outer(self.recurrent_input(tape), da))
        self.add(self.bias_name, s, da.sum(axis=0))
        self.add_x(s, self.carry_x(da))
        return self.carry(da)

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        """One step in reverse: the gradients of the previous h and c."""
        da, dc_prev = self.gates_back(tape, dh, dc)
        return self.spread(s, tape, da), dc_prev

    def final_injection(self, s: int) -> tuple[Array, Array]:
        """The final cotangents of the rows that end at step s."""
        g_h, g_c = self.final_cotangents()
        ends = (self.lengths == s)[:, None]
        return np.where(ends, g_h, 0), np.where(ends, g_c, 0)

    def injection(self, s: int) -> tuple[Array, Array]:
        """What the loss of step s adds to the gradients of h_s and c_s."""
        g_h, g_c = self.final_injection(s)
        return self.dh_loss[s - 1] + g_h, g_c

    def sweep(self, losses: range, cut: Array) -> None:
        """Carries the losses of some steps back over the steps s > cut."""
        dh = np.zeros((self.B, self.H), self.dtype)
        dc = np.zeros_like(dh)
        for s in range(losses[-1], 0, -1):
            if (s <= cut).all():
                return
            if s in losses:
                g_h, g_c = self.injection(s)
                dh, dc = dh + g_h, dc + g_c
            on = ((s > cut) & self.active[s - 1])[:, None]
            dh, dc = np.where(on, dh, 0), np.where(on, dc, 0)
            dh, dc = self.step_back(s, self.tapes[s - 1], dh, dc)
        self.add_initial(dh, dc)

    def add_initial(self, dh: Array, dc: Array) -> None:
        """Adds to the gradients of h_0 and c_0 what arrives there."""
        self.dh0 += dh
        self.dc0 += dc

    def empty_rows(self) -> None:
        """A row of length 0 passes its final cotangents through."""
        g_h, g_c = self.final_injection(0)
        self.dh0 += g_h
        self.dc0 += g_c

    def readout_back(self) -> None:
        """From the outputs to the readout's weights and to h; sets dh_loss."""
        if self.problem.readout != "linear":
            self.dh_loss = self.do
            return
        for s in range(1, self.T + 1):
            do = self.do[s - 1]
            self.add("W_hy", s, self.outer(self.readout_input(s), do))
            self.add("b_y", s, do.sum(axis=0))
        self.dh_loss = self.do @ self.params["W_hy"].T

    def readout_input(self, s: int) -> Array:
        """What the readout's weights were multiplied by at step s."""
        return self.h[s - 1]

    def backward(self) -> None:
        """All gradients: sets grad, dx, dh0 and dc0."""
        self.grad = {name: np.zeros_like(value) for name, value in self.params.items()}
        self.dx = np.zeros_like(self.x)
        self.dh0 = np.zeros((self.B, self.H), self.dtype)
        self.dc0 = np.zeros_like(self.dh0)
        scaled = self.loss_gradient() / self.gradient_divisors()[:, None]
        self.do = np.where(self.loss_steps()[:, :, None], scaled, 0).astype(self.dtype)
        self.readout_back()
        for losses, cut in self.sweeps():
            self.sweep(losses, cut)
        self.empty_rows()

    def results(self) -> dict[str, Array]:
        """The answer, under the adapter's keys."""
        found = {"loss": self.value, "h": self.h, "o": self.o, "dx": self.dx, "dh0": self.dh0}
        if self.has_c:
            found |= {"c": self.c, "dc0": self.dc0}
        return found | {"d" + name: value for name, value in self.grad.items()}

    def solve(self) -> dict[str, Array]:
        """Forward, loss, backward."""
        self.forward()
        self.o = self.readout(self.h)
        self.value = self.total_loss()
        self.backward()
        return self.results()


class Elman(Network):
    """h = φ(x W_xh + h₋ W_hh + b_h)."""

    input_name, recurrent_name, bias_name = "W_xh", "W_hh", "b_h"

    def activate(self, a: Array) -> Array:
        """φ(a)."""
        kind = self.problem.activation
        if kind == "relu":
            return np.maximum(a, 0)
        return a if kind == "identity" else getattr(self, kind)(a)

    def slope(self, tape: SimpleNamespace) -> Array:
        """φ'(a)."""
        kind = self.problem.activation
        if kind == "relu":
            return (tape.a > 0).astype(self.dtype)
        return np.ones_like(tape.a) if kind == "identity" else getattr(self, kind + "_slope")(tape.h)

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        a = x @ self.params["W_xh"] + h @ self.params["W_hh"] + self.params["b_h"]
        return SimpleNamespace(x=x, h_prev=h, c_prev=c, a=a, h=self.activate(a), c=c)

    def gates_back(self, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        return dh * self.slope(tape), dc


class Lstm(Network):
    """c = f∘c₋ + i∘g, h = o∘tanh(c); the gates i, f, g, o from x and h₋."""

    has_c = True

    def peephole(self, name: str, c: Array) -> Array:
        """What a gate sees of a cell state: nothing here."""
        return np.zeros_like(c)

    def split(self, a: Array) -> list[Array]:
        """The pre-activations by gate, in the order i, f, g, o."""
        return np.split(a, 4, axis=1)

    def join(self, da_i: Array, da_f: Array, da_g: Array, da_o: Array) -> Array:
        """The gates' gradients side by side: the reverse of `split`."""
        return np.concatenate([da_i, da_f, da_g, da_o], axis=1)

    def output_peephole(self, c_prev: Array, c: Array) -> Array:
        """What the output gate sees of the cell state."""
        return self.peephole("p_o", c)

    def squash(self, c: Array) -> Array:
        """What the output gate multiplies."""
        return self.tanh(c)

    def squash_slope(self, y: Array) -> Array:
        """The derivative of `squash` where its value is y."""
        return self.tanh_slope(y)

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        a_i, a_f, a_g, a_o = self.split(x @ self.params["W_x"] + h @ self.params["W_h"] + self.params["b"])
        i = self.sigmoid(a_i + self.peephole("p_i", c))
        f = self.sigmoid(a_f + self.peephole("p_f", c))
        g = self.tanh(a_g)
        new = f * c + i * g
        o = self.sigmoid(a_o + self.output_peephole(c, new))
        y = self.squash(new)
        return SimpleNamespace(x=x, h_prev=h, c_prev=c, i=i, f=f, g=g, o=o, c=new, y=y, h=o * y)

    def cell_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        """What h's gradient adds to c's, past the output gate."""
        return dh * tape.o * self.squash_slope(tape.y)

    def output_gate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        """The gradient of the output gate's pre-activation."""
        return dh * tape.y * self.sigmoid_slope(tape.o)

    def input_gate_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        """The gradient of the input gate's pre-activation."""
        return dc * tape.g * self.sigmoid_slope(tape.i)

    def forget_gate_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        """The gradient of the forget gate's pre-activation."""
        return dc * tape.c_prev * self.sigmoid_slope(tape.f)

    def candidate_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        """The gradient of the candidate's pre-activation."""
        return dc * tape.i * self.tanh_slope(tape.g)

    def output_peephole_back(self, da_o: Array) -> tuple[Array, Array]:
        """What the output gate's peephole adds to the gradients of c and of c₋."""
        seen = self.peephole("p_o", da_o)
        return seen, np.zeros_like(seen)

    def peepholes_back(self, da_i: Array, da_f: Array) -> Array:
        """What the peepholes of i and f add to the gradient of c₋."""
        return self.peephole("p_i", da_i) + self.peephole("p_f", da_f)

    def gates_back(self, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        dc = dc + self.cell_back(tape, dh)
        da_o = self.output_gate_back(tape, dh)
        seen, seen_before = self.output_peephole_back(da_o)
        dc = dc + seen
        da_i, da_f, da_g = (
            back(tape, dc) for back in (self.input_gate_back, self.forget_gate_back, self.candidate_back)
        )
        dc_prev = dc * tape.f + self.peepholes_back(da_i, da_f) + seen_before
        return self.join(da_i, da_f, da_g, da_o), dc_prev


class LstmPeephole(Lstm):
    """The LSTM whose gates see the cell state: i and f the previous one, o the new one."""

    def peephole(self, name: str, c: Array) -> Array:
        return self.params[name] * c

    def peephole_inputs(self, tape: SimpleNamespace) -> dict[str, Array]:
        """What each peephole's weights were multiplied by."""
        return {"p_i": tape.c_prev, "p_f": tape.c_prev, "p_o": tape.c}

    def spread(self, s: int, tape: SimpleNamespace, da: Array) -> Array:
        da_i, da_f, _, da_o = self.split(da)
        seen = self.peephole_inputs(tape)
        for name, gate in (("p_i", da_i), ("p_f", da_f), ("p_o", da_o)):
            self.add(name, s, (seen[name] * gate).sum(axis=0))
        return super().spread(s, tape, da)


class Lstm1997(Lstm):
    """The LSTM without a forget gate: c = c₋ + i∘g."""

    def split(self, a: Array) -> list[Array]:
        """The pre-activations by gate, in the order i, g, o."""
        return np.split(a, 3, axis=1)

    def keep(self, i: Array) -> Array:
        """What the previous cell state is multiplied by."""
        return np.ones_like(i)

    def keep_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        """What `keep` adds to the gradient of the input gate's pre-activation."""
        return np.zeros_like(dc)

    def candidate(self, a: Array) -> Array:
        """g."""
        return self.tanh(a)

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        a_i, a_g, a_o = self.split(x @ self.params["W_x"] + h @ self.params["W_h"] + self.params["b"])
        i, g, o = self.sigmoid(a_i), self.candidate(a_g), self.sigmoid(a_o)
        f = self.keep(i)
        new = f * c + i * g
        y = self.squash(new)
        return SimpleNamespace(x=x, h_prev=h, c_prev=c, i=i, f=f, g=g, o=o, c=new, y=y, h=o * y)

    def join_three(self, da_i: Array, da_g: Array, da_o: Array) -> Array:
        """The gates' gradients side by side."""
        return np.concatenate([da_i, da_g, da_o], axis=1)

    def gates_back(self, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        dc = dc + self.cell_back(tape, dh)
        da_i = self.input_gate_back(tape, dc) + self.keep_back(tape, dc)
        da = self.join_three(da_i, self.candidate_back(tape, dc), self.output_gate_back(tape, dh))
        return da, dc * tape.f

    def cut_recurrent(self, da: Array, dh_prev: Array) -> Array:
        """Under `cec` every pre-activation holds h₋ constant."""
        return np.zeros_like(dh_prev)

    def spread(self, s: int, tape: SimpleNamespace, da: Array) -> Array:
        dh_prev = super().spread(s, tape, da)
        return self.cut_recurrent(da, dh_prev) if self.truncation.kind == "cec" else dh_prev


class Gru(Network):
    """h = (1−z)∘n + z∘h₋; the two variants differ in n."""

    def split(self, a: Array) -> list[Array]:
        """The pre-activations by gate, in the order r, z, n."""
        return np.split(a, 3, axis=1)

    def join(self, da_r: Array, da_z: Array, da_n: Array) -> Array:
        """The gates' gradients side by side: the reverse of `split`."""
        return np.concatenate([da_r, da_z, da_n], axis=1)

    def blend(self, z: Array, n: Array, h: Array) -> Array:
        """The new state."""
        return (1 - z) * n + z * h

    def update_gate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        """The gradient of the update gate's pre-activation."""
        return dh * (tape.h_prev - tape.n) * self.sigmoid_slope(tape.z)

    def candidate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        """The gradient of the candidate's pre-activation."""
        return dh * (1 - tape.z) * self.tanh_slope(tape.n)

    def leak_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        """What the state's gradient passes straight to the previous state."""
        return dh * tape.z

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        da_n, da_z = self.candidate_back(tape, dh), self.update_gate_back(tape, dh)
        return self.spread_gates(s, tape, da_n, da_z) + self.leak_back(tape, dh), dc

    def spread_gates(self, s: int, tape: SimpleNamespace, da_n: Array, da_z: Array) -> Array:
        """From the pre-activations of n and z, and so of r, to weights, input and previous h."""
        raise NotImplementedError("no cell")


class GruResetAfter(Gru):
    """n = tanh(x W_xn + b_xn + r∘(h₋ W_hn + b_hn))."""

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        x_r, x_z, x_n = self.split(x @ self.params["W_x"] + self.params["b_x"])
        h_r, h_z, h_n = self.split(h @ self.params["W_h"] + self.params["b_h"])
        r, z = self.sigmoid(x_r + h_r), self.sigmoid(x_z + h_z)
        n = self.tanh(x_n + r * h_n)
        return SimpleNamespace(x=x, h_prev=h, c_prev=c, r=r, z=z, n=n, h_n=h_n, h=self.blend(z, n, h), c=c)

    def reset_gate_back(self, tape: SimpleNamespace, da_n: Array) -> Array:
        """The gradient of the reset gate's pre-activation."""
        return da_n * tape.h_n * self.sigmoid_slope(tape.r)

    def gated(self, tape: SimpleNamespace, da_n: Array) -> Array:
        """The gradient of h₋ W_hn + b_hn."""
        return da_n * tape.r

    def spread_gates(self, s: int, tape: SimpleNamespace, da_n: Array, da_z: Array) -> Array:
        da_r = self.reset_gate_back(tape, da_n)
        da_x, da_h = self.join(da_r, da_z, da_n), self.join(da_r, da_z, self.gated(tape, da_n))
        self.add("W_x", s, self.outer(tape.x, da_x))
        self.add("W_h", s, self.outer(self.recurrent_input(tape), da_h))
        self.add("b_x", s, da_x.sum(axis=0))
        self.add("b_h", s, da_h.sum(axis=0))
        self.add_x(s, self.carry_x(da_x))
        return self.carry(da_h)


class GruResetBefore(Gru):
    """n = tanh(x W_xn + (r∘h₋) W_hn + b_n)."""

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        x_r, x_z, x_n = self.split(x @ self.params["W_x"] + self.params["b"])
        h_r, h_z, _ = self.split(h @ self.params["W_h"])
        r, z = self.sigmoid(x_r + h_r), self.sigmoid(x_z + h_z)
        n = self.tanh(x_n + (r * h) @ self.split(self.params["W_h"])[2])
        return SimpleNamespace(x=x, h_prev=h, c_prev=c, r=r, z=z, n=n, h=self.blend(z, n, h), c=c)

    def reset_gate_back(self, tape: SimpleNamespace, reset: Array) -> Array:
        """The gradient of the reset gate's pre-activation, from that of r∘h₋."""
        return reset * tape.h_prev * self.sigmoid_slope(tape.r)

    def reset_back(self, tape: SimpleNamespace, reset: Array) -> Array:
        """What the gradient of r∘h₋ passes to h₋."""
        return reset * tape.r

    def candidate_input(self, tape: SimpleNamespace) -> Array:
        """What the candidate's recurrent weights were multiplied by."""
        return tape.r * self.recurrent_input(tape)

    def carry_candidate(self, da_n: Array) -> Array:
        """The candidate's gradient, carried to r∘h₋."""
        return da_n @ self.split(self.params["W_h"])[2].T

    def spread_gates(self, s: int, tape: SimpleNamespace, da_n: Array, da_z: Array) -> Array:
        reset = self.carry_candidate(da_n)
        da_r = self.reset_gate_back(tape, reset)
        da, none = self.join(da_r, da_z, da_n), np.zeros_like(da_n)
        d_gates = self.outer(self.recurrent_input(tape), self.join(da_r, da_z, none))
        d_candidate = self.outer(self.candidate_input(tape), self.join(none, none, da_n))
        self.add("W_x", s, self.outer(tape.x, da))
        self.add("W_h", s, d_gates + d_candidate)
        self.add("b", s, da.sum(axis=0))
        self.add_x(s, self.carry_x(da))
        return self.carry(self.join(da_r, da_z, none)) + self.reset_back(tape, reset)


CELLS: dict[str, type[Network]] = {
    "elman": Elman,
    "lstm": Lstm,
    "lstm_peephole": LstmPeephole,
    "lstm_1997": Lstm1997,
    "gru_reset_after": GruResetAfter,
    "gru_reset_before": GruResetBefore,
}


def gradients(problem: Any) -> dict[str, Array]:
    """The adapter: right for every cell."""
    return CELLS[problem.cell](problem).solve()


gradients.SUPPORTS = SUPPORTS  # type: ignore[attr-defined]
