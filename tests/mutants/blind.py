"""Planted bugs for every cell, written blind: from the contract of an adapter alone, without sight of the suite.

Every class below overrides one small piece of the right implementation, and its docstring is the mistake in one
sentence. `plant` turns the class into an adapter function of the same name (`path/blind.py:name`), hence the
names in snake_case; `PLANTED` lists them all.
"""
# ruff: noqa: N801 - the class has the name that the adapter is called by

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from blind_base import (
    CELLS,
    SUPPORTS,
    Array,
    Elman,
    Gru,
    GruResetAfter,
    GruResetBefore,
    Lstm,
    Lstm1997,
    LstmPeephole,
    Network,
)

__all__ = ["PLANTED", "SUPPORTS", "Planted"]

ALL = tuple(CELLS)
ELMAN = ("elman",)
LSTMS = ("lstm", "lstm_peephole", "lstm_1997")
FORGETFUL = ("lstm", "lstm_peephole")  # the LSTMs with a forget gate
PEEPHOLE = ("lstm_peephole",)
LSTM_1997 = ("lstm_1997",)
GRUS = ("gru_reset_after", "gru_reset_before")
AFTER = ("gru_reset_after",)
BEFORE = ("gru_reset_before",)
GATED = LSTMS + GRUS

TERMS = "terms of the double sum left out/duplicated/shifted"
TRUNCATION = "wrong truncation"
SCALED = "averaged instead of summed or scaled"
TRANSPOSED = "transposed"
GATES = "gates permuted"
DERIVATIVE = "one derivative wrong"
VARIANT = "the other GRU variant or z flipped"
PADDING = "padding and lengths"
STATE = "initial or final state"
CLIPPED = "clipped"
TAIL = "a row, unit or tail lost"
PRECISION = "lower precision"
MEMORY = "state kept between calls"
FORWARD = "wrong forward with the matching gradient"
CONTRACT = "contract breach"


class Planted(NamedTuple):
    """One planted bug: its adapter function, what is wrong, and where it shows."""

    gradients: Callable[[Any], dict[str, Any]]
    sentence: str
    cells: tuple[str, ...]
    needs: str
    family: str


PLANTED: dict[str, Planted] = {}


def plant(
    family: str, cells: tuple[str, ...] = ALL, needs: str = "", table: dict[str, Planted] = PLANTED
) -> Callable[[type[Network]], Any]:
    """Turns a class that overrides one piece into the adapter function of its name, entered in a table."""

    def make(mistake: type[Network]) -> Callable[[Any], dict[str, Any]]:
        name, sentence = mistake.__name__, (mistake.__doc__ or "").strip()
        solvers = {cell: type(name, (mistake, CELLS[cell]), {}) for cell in cells}

        def gradients(problem: Any) -> dict[str, Any]:
            if problem.cell not in solvers:
                raise NotImplementedError(f"{name} is for {', '.join(cells)}")
            return solvers[problem.cell](problem).solve()

        gradients.__name__ = gradients.__qualname__ = name
        gradients.__doc__ = sentence
        gradients.SUPPORTS = {  # type: ignore[attr-defined]
            "cells": list(cells),
            "dtypes": ["float64", "float32"],
        }
        table[name] = Planted(gradients, sentence, cells, needs, family)
        return gradients

    return make


# Terms of the double sum left out, duplicated or shifted


@plant(TERMS, needs="h0 not zero")
class first_step_left_out_of_recurrent_weight(Network):
    """The recurrent weights' gradient leaves out step 1, as if the initial state were always zero."""

    def add(self, name: str, s: int, value: Array) -> None:
        if not (name == self.recurrent_name and s == 1):
            super().add(name, s, value)


@plant(TERMS)
class recurrent_weight_meets_current_state(Network):
    """The recurrent weights' gradient multiplies by h_s where h_{s-1} belongs."""

    def recurrent_input(self, tape: SimpleNamespace) -> Array:
        return tape.h


@plant(TERMS)
class bias_without_last_step(Network):
    """The loop that sums the cell's bias gradient ends one step early, before step T."""

    def add(self, name: str, s: int, value: Array) -> None:
        if not (name in ("b", "b_h", "b_x") and s == self.T):
            super().add(name, s, value)


@plant(TERMS)
class last_step_counted_twice(Network):
    """The input weights' gradient starts from step T's term, which the loop then adds again."""

    def add(self, name: str, s: int, value: Array) -> None:
        super().add(name, s, 2 * value if name == self.input_name and s == self.T else value)


@plant(TERMS, PEEPHOLE, "T > 1")
class peephole_gradient_overwritten(LstmPeephole):
    """The gradient of p_o is assigned at every step and not accumulated."""

    def add(self, name: str, s: int, value: Array) -> None:
        if name == "p_o":
            self.grad[name] = value
        else:
            super().add(name, s, value)


@plant(TERMS)
class backward_stops_before_first_step(Network):
    """The backward loop runs down to step 2 only, and what arrives there is taken for dh0."""

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        return (dh, dc) if s == 1 else super().step_back(s, tape, dh, dc)


@plant(TERMS, needs="state gradients below 1e-8, and an array that holds nothing much larger")
class stops_when_the_gradient_is_small(Network):
    """The backward loop gives up once no entry of the state's gradient exceeds 1e-8."""

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        if max(np.abs(dh).max(), np.abs(dc).max()) < 1e-8:
            return np.zeros_like(dh), np.zeros_like(dc)
        return super().step_back(s, tape, dh, dc)


@plant(TERMS)
class first_loss_left_out(Network):
    """The loss of step 1 sends nothing back into the cell."""

    def injection(self, s: int) -> tuple[Array, Array]:
        return self.final_injection(s) if s == 1 else super().injection(s)


@plant(TERMS, needs="readout linear")
class readout_weight_meets_previous_state(Network):
    """The gradient of W_hy multiplies by h_{t-1} where h_t belongs."""

    def readout_input(self, s: int) -> Array:
        return self.tapes[s - 1].h_prev


@plant(TERMS, needs="exactly cancelling gradients, such as (1, -1)")
class sum_taken_for_any(Network):
    """A step is skipped when the sum of its state's gradient is zero, a shortcut meant for all entries zero."""

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        if dh.sum() == 0 and dc.sum() == 0:
            return np.zeros_like(dh), np.zeros_like(dc)
        return super().step_back(s, tape, dh, dc)


@plant(TERMS, needs="T odd")
class odd_step_lost_from_bias(Network):
    """Steps are summed into the bias gradient in pairs from the end, and the one left over of an odd T is lost."""

    def add(self, name: str, s: int, value: Array) -> None:
        if not (name in ("b", "b_h", "b_x") and s == 1 and self.T % 2):
            super().add(name, s, value)


# Wrong truncation


class FinalsApart(Network):
    """Sends the final cotangents back in a sweep of their own; a building block."""

    part = "all"

    def injection(self, s: int) -> tuple[Array, Array]:
        if self.part == "losses":
            return self.dh_loss[s - 1], np.zeros_like(self.dh_loss[s - 1])
        return self.final_injection(s) if self.part == "finals" else super().injection(s)

    def final_cut(self) -> Array:
        """Where the final cotangents' journey ends."""
        return np.zeros(self.B, int)

    def sweeps_apart(self, sweeps: Iterator[tuple[range, Array]]) -> Iterator[tuple[range, Array]]:
        """The losses' sweeps, then the final cotangents'."""
        self.part = "losses"
        yield from sweeps
        self.part = "finals"
        yield range(1, self.T + 1), self.final_cut()
        self.part = "all"


@plant(TRUNCATION, needs="window(k), k < T")
class window_one_step_longer(Network):
    """The window keeps t−s ≤ k, one step more than t−s < k."""

    def window_sweeps(self) -> Iterator[tuple[range, Array]]:
        for losses, cut in super().window_sweeps():
            yield losses, cut - 1


@plant(TRUNCATION, needs="window(k), k <= T")
class window_reaches_initial_state_one_step_late(Network):
    """Under a window dh0 and dc0 get the mask of step 0 and not that of step 1: the loss at t = k is left out."""

    current = range(0)

    def sweep(self, losses: range, cut: Array) -> None:
        self.current = losses
        super().sweep(losses, cut)

    def add_initial(self, dh: Array, dc: Array) -> None:
        if not (self.truncation.kind == "window" and self.current[-1] == self.truncation.k):
            super().add_initial(dh, dc)


@plant(TRUNCATION, needs="window(k), 1 < k < T")
class window_taken_for_chunk(Network):
    """window(k) is computed by detaching the state every k steps, as chunk(k)."""

    def window_sweeps(self) -> Iterator[tuple[range, Array]]:
        return self.chunk_sweeps()


@plant(TRUNCATION, needs="chunk(k), T not a multiple of k, k > 1")
class chunks_counted_from_the_end(Network):
    """The chunks are cut from step T backwards, so that the short block is the first and not the last."""

    def chunk_sweeps(self) -> Iterator[tuple[range, Array]]:
        k = self.truncation.k
        for last in range(self.T, 0, -k):
            first = max(last - k + 1, 1)
            yield range(first, last + 1), np.full(self.B, first - 1)


@plant(TRUNCATION, needs="chunk(k), k < T, T not a multiple of k")
class chunk_tail_joined_to_the_block_before(Network):
    """A short tail block is not detached from the block before it."""

    def chunk_sweeps(self) -> Iterator[tuple[range, Array]]:
        found = self.blocks(self.truncation.k)
        if len(found) > 1 and len(found[-1]) < self.truncation.k:
            found[-2:] = [range(found[-2][0], self.T + 1)]
        for block in found:
            yield block, np.full(self.B, block[0] - 1)


@plant(TRUNCATION, needs="chunk(k), k < T")
class chunk_detaches_one_step_early(Network):
    """The state is detached before the last step of the previous chunk, so that each chunk reaches one step further."""

    def chunk_sweeps(self) -> Iterator[tuple[range, Array]]:
        for losses, cut in super().chunk_sweeps():
            yield losses, cut - 1


@plant(TRUNCATION, needs="chunk(k), k < T")
class boundary_loss_in_both_chunks(Network):
    """Chunks overlap by one step, whose loss is sent back in both."""

    def chunk_sweeps(self) -> Iterator[tuple[range, Array]]:
        for block, _ in super().chunk_sweeps():
            first = max(block[0] - 1, 1)
            yield range(first, block[-1] + 1), np.full(self.B, first - 1)


@plant(TRUNCATION, LSTMS, "chunk(k), k < T")
class chunk_leaves_cell_state_attached(Lstm):
    """Between chunks h is detached but c is not."""

    def chunk_sweeps(self) -> Iterator[tuple[range, Array]]:
        return self.full_sweeps()

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        dh, dc = super().step_back(s, tape, dh, dc)
        if self.truncation.kind == "chunk" and s > 1 and (s - 1) % self.truncation.k == 0:
            dh = np.zeros_like(dh)
        return dh, dc


@plant(TRUNCATION, LSTMS, "chunk(k), k < T")
class chunk_leaves_hidden_state_attached(Lstm):
    """Between chunks c is detached but h is not."""

    def chunk_sweeps(self) -> Iterator[tuple[range, Array]]:
        return self.full_sweeps()

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        dh, dc = super().step_back(s, tape, dh, dc)
        if self.truncation.kind == "chunk" and s > 1 and (s - 1) % self.truncation.k == 0:
            dc = np.zeros_like(dc)
        return dh, dc


@plant(TRUNCATION, needs="chunk(k), lengths that end before the last block, final cotangents")
class final_cotangent_in_last_chunk_only(Network):
    """Under chunk the final cotangents enter with the last block alone, and rows that end before it lose theirs."""

    def injection(self, s: int) -> tuple[Array, Array]:
        if self.truncation.kind == "chunk" and s not in self.blocks(self.truncation.k)[-1]:
            return self.dh_loss[s - 1], np.zeros_like(self.dh_loss[s - 1])
        return super().injection(s)


@plant(TRUNCATION, needs="periodic(k1, k2), T not a multiple of k1, k2 < T")
class periodic_end_rounded_up(Network):
    """e(t) is k1·⌈t/k1⌉ in the tail as well, where it should end with the row."""

    def period_end(self, block: range) -> Array:
        return np.full(self.B, self.truncation.k1 * -(-block[0] // self.truncation.k1))


@plant(TRUNCATION, needs="periodic(k1, k2), lengths not multiples of k1, k2 < T")
class periodic_end_ignores_row_length(Network):
    """e(t) is cut at T and not at the row's own length."""

    def period_end(self, block: range) -> Array:
        return np.full(self.B, min(block[-1], self.T))


@plant(TRUNCATION, needs="periodic(k1, k2), k2 < T")
class periodic_end_late_at_multiples(Network):
    """e(t) is k1·(⌊t/k1⌋+1), which is a whole period late where t is a multiple of k1."""

    def periodic_sweeps(self) -> Iterator[tuple[range, Array]]:
        k1, k2 = self.truncation.k1, self.truncation.k2
        for t in range(1, self.T + 1):
            yield range(t, t + 1), np.minimum(self.lengths, k1 * (t // k1 + 1)) - k2


@plant(TRUNCATION, needs="periodic(k1, k2), k2 < T")
class periodic_keeps_one_step_more(Network):
    """The periodic mask keeps s ≥ e(t)−k2 where it should keep s > e(t)−k2."""

    def periodic_sweeps(self) -> Iterator[tuple[range, Array]]:
        for losses, cut in super().periodic_sweeps():
            yield losses, cut - 1


@plant(TRUNCATION, needs="periodic(k1, k2), 1 < k1, k2 < T")
class periodic_taken_for_window(Network):
    """periodic(k1,k2) is computed as window(k2), each loss over its own last k2 steps."""

    def periodic_sweeps(self) -> Iterator[tuple[range, Array]]:
        for t in range(1, self.T + 1):
            yield range(t, t + 1), np.full(self.B, t - self.truncation.k2)


@plant(TRUNCATION, needs="periodic(k1, k2), T not a multiple of k1")
class periodic_tail_never_sent_back(Network):
    """Losses are sent back every k1 steps, and those after the last multiple of k1 never are."""

    def periodic_sweeps(self) -> Iterator[tuple[range, Array]]:
        for losses, cut in super().periodic_sweeps():
            if len(losses) == self.truncation.k1:
                yield losses, cut


@plant(TRUNCATION, needs="window, chunk or periodic that cuts something")
class input_gradient_not_truncated(Network):
    """dx is the full gradient whatever the truncation."""

    def backward(self) -> None:
        super().backward()
        if self.truncation.kind in ("window", "chunk", "periodic"):
            kept = {name: value.copy() for name, value in self.grad.items()}, self.dh0.copy(), self.dc0.copy()
            self.dx[...] = 0
            for losses, cut in self.full_sweeps():
                self.sweep(losses, cut)
            self.grad, self.dh0, self.dc0 = kept


@plant(TRUNCATION, needs="window, chunk or periodic that cuts something, final cotangents")
class final_cotangent_not_truncated(FinalsApart):
    """The final cotangents travel back to the first step whatever the truncation."""

    def sweeps(self) -> Iterator[tuple[range, Array]]:
        return self.sweeps_apart(super().sweeps())


@plant(TRUNCATION, needs="window(k), k < T, lengths, final cotangents")
class final_cotangent_window_from_T(FinalsApart):
    """The window of the final cotangents is the last k steps before T and not before the row's length."""

    def final_cut(self) -> Array:
        return np.full(self.B, self.T - self.truncation.k)

    def window_sweeps(self) -> Iterator[tuple[range, Array]]:
        return self.sweeps_apart(super().window_sweeps())


@plant(TRUNCATION, needs="readout linear, window(k) or chunk(k), k < T")
class readout_truncated_too(Network):
    """Under window(k) and chunk(k) the readout's gradients sum only over the last k steps."""

    def add(self, name: str, s: int, value: Array) -> None:
        truncated = self.truncation.kind in ("window", "chunk") and s <= self.T - self.truncation.k
        if not (name in ("W_hy", "b_y") and truncated):
            super().add(name, s, value)


@plant(TRUNCATION, needs="T > 20, full")
class full_stops_after_20_steps(Network):
    """Full backpropagation silently stops 20 steps before each loss."""

    def full_sweeps(self) -> Iterator[tuple[range, Array]]:
        for t in range(1, self.T + 1):
            yield range(t, t + 1), np.full(self.B, t - 20)


@plant(TRUNCATION, LSTM_1997, "cec, T > 1 or dh0")
class cec_output_gate_not_cut(Lstm1997):
    """Under cec the input gate and the candidate are cut from h₋ but the output gate is not."""

    def cut_recurrent(self, da: Array, dh_prev: Array) -> Array:
        return self.split(da)[2] @ self.split(self.params["W_h"])[2].T


@plant(TRUNCATION, LSTM_1997, "cec")
class cec_drops_initial_cell_gradient(Lstm1997):
    """Under cec dc0 is set to zero along with dh0."""

    def add_initial(self, dh: Array, dc: Array) -> None:
        super().add_initial(dh, np.zeros_like(dc) if self.truncation.kind == "cec" else dc)


@plant(TRUNCATION, LSTM_1997, "cec, a row of length 0, g_h_final")
class cec_zeroes_dh0_of_empty_rows(Lstm1997):
    """Under cec dh0 is zeroed at the end, for the rows of length 0 as well."""

    def empty_rows(self) -> None:
        super().empty_rows()
        if self.truncation.kind == "cec":
            self.dh0[...] = 0


@plant(TRUNCATION, LSTM_1997, "cec")
class cec_cuts_recurrent_weight(Lstm1997):
    """Under cec the detached h₋ takes the recurrent weights' immediate partials with it: dW_h is zero."""

    def recurrent_input(self, tape: SimpleNamespace) -> Array:
        seen = super().recurrent_input(tape)
        return np.zeros_like(seen) if self.truncation.kind == "cec" else seen


# Averaged instead of summed, or scaled


@plant(SCALED, needs="B > 1")
class weights_averaged_over_batch(Network):
    """The gradients of the cell's parameters are averaged over the batch although the reduction is a sum."""

    def add(self, name: str, s: int, value: Array) -> None:
        super().add(name, s, value if name in ("W_hy", "b_y") else value / self.dtype.type(self.B))


@plant(SCALED, needs="squared_error with scale 1")
class squared_error_gradient_for_scale_half(Network):
    """The gradient of the squared error is o−y whatever the scale, which is right for ½ only."""

    def loss_gradient(self) -> Array:
        return self.error() if self.loss.kind == "squared_error" else super().loss_gradient()


@plant(SCALED, needs="squared_error, K > 1")
class squared_error_averaged_over_outputs(Network):
    """The squared error is averaged over the K outputs and not summed, in loss and gradient alike."""

    def loss_terms(self) -> Array:
        found = super().loss_terms()
        return found / self.dtype.type(self.o.shape[2]) if self.loss.kind == "squared_error" else found

    def loss_gradient(self) -> Array:
        found = super().loss_gradient()
        return found / self.dtype.type(self.o.shape[2]) if self.loss.kind == "squared_error" else found


@plant(SCALED, needs="time mean, float64")
class mean_divides_with_epsilon(Network):
    """The mean over time divides by length + 1e-8, a guard against rows of length 0."""

    def time_divisor(self) -> Array:
        return (self.lengths + 1e-8).astype(self.dtype)


@plant(SCALED, needs="float64, or in float32 a zero cotangent")
class weight_decay_left_on(Network):
    """A weight decay of 1e-9 is added to the recurrent weights' gradient."""

    def backward(self) -> None:
        super().backward()
        self.grad[self.recurrent_name] += self.dtype.type(1e-9) * self.params[self.recurrent_name]


@plant(SCALED, needs="time mean and batch mean, B > 1")
class batch_mean_forgotten_after_time_mean(Network):
    """With a mean over time and over the batch the gradient divides by the time alone."""

    def gradient_divisors(self) -> Array:
        both = self.loss.time_reduction == "mean" and self.loss.batch_reduction == "mean"
        return self.time_divisor() if both else super().gradient_divisors()


@plant(SCALED, needs="cross_entropy, float64")
class logarithm_with_epsilon(Network):
    """The cross entropy takes the logarithm of p + 1e-9."""

    def loss_terms(self) -> Array:
        if self.loss.kind != "cross_entropy":
            return super().loss_terms()
        p = np.exp(self.log_softmax(self.o))
        return -(self.probabilities() * np.log(p + self.dtype.type(1e-9))).sum(axis=-1)


# Transposed


@plant(TRANSPOSED, ELMAN, "H > 1")
class recurrent_weights_not_transposed(Elman):
    """The state's gradient goes back through W_hh and not through its transpose."""

    def carry(self, da: Array) -> Array:
        return da @ self.params["W_hh"]


@plant(TRANSPOSED, ELMAN, "H > 1")
class recurrent_gradient_transposed(Elman):
    """dW_hh is returned transposed."""

    def backward(self) -> None:
        super().backward()
        self.grad["W_hh"] = self.grad["W_hh"].T.copy()


@plant(TRANSPOSED, LSTMS, "H > 1")
class lstm_gate_blocks_not_transposed(Lstm):
    """The gates' gradients go back through the H×H blocks of W_h untransposed."""

    def carry(self, da: Array) -> Array:
        return sum(part @ block for part, block in zip(self.split(da), self.split(self.params["W_h"]), strict=True))


@plant(TRANSPOSED, BEFORE, "H > 1")
class gru_candidate_not_transposed(GruResetBefore):
    """The candidate's gradient goes back through W_hn and not through its transpose."""

    def carry_candidate(self, da_n: Array) -> Array:
        return da_n @ self.split(self.params["W_h"])[2]


@plant(TRANSPOSED, AFTER, "H > 1")
class gru_candidate_gradient_transposed(GruResetAfter):
    """The candidate's block of dW_h is transposed."""

    def backward(self) -> None:
        super().backward()
        self.grad["W_h"][:, 2 * self.H :] = self.grad["W_h"][:, 2 * self.H :].T.copy()


@plant(TRANSPOSED, ELMAN, "D == H > 1")
class input_orientation_guessed_from_shape(Elman):
    """Whether W_xh must be transposed on the way to dx is guessed from its shape, wrongly where D = H."""

    def carry_x(self, da: Array) -> Array:
        weights = self.params["W_xh"]
        return da @ (weights if weights.shape[0] == da.shape[1] else weights.T)


@plant(TRANSPOSED, needs="readout linear, K == H > 1")
class readout_orientation_guessed_from_shape(Network):
    """Whether W_hy must be transposed on the way back is guessed from its shape, wrongly where K = H."""

    def readout_back(self) -> None:
        super().readout_back()
        if self.problem.readout == "linear":
            weights = self.params["W_hy"]
            self.dh_loss = self.do @ (weights if weights.shape[0] == self.do.shape[2] else weights.T)


# Gates permuted


@plant(GATES, FORGETFUL)
class lstm_columns_i_f_o_g(Lstm):
    """The gates' columns are read, and their gradients written, in the order i, f, o, g."""

    def split(self, a: Array) -> list[Array]:
        a_i, a_f, a_o, a_g = np.split(a, 4, axis=1)
        return [a_i, a_f, a_g, a_o]

    def join(self, da_i: Array, da_f: Array, da_g: Array, da_o: Array) -> Array:
        return np.concatenate([da_i, da_f, da_o, da_g], axis=1)


@plant(GATES, FORGETFUL)
class lstm_columns_i_o_f_g(Lstm):
    """The gates' columns are read, and their gradients written, in the order i, o, f, g of an exchange format."""

    def split(self, a: Array) -> list[Array]:
        a_i, a_o, a_f, a_g = np.split(a, 4, axis=1)
        return [a_i, a_f, a_g, a_o]

    def join(self, da_i: Array, da_f: Array, da_g: Array, da_o: Array) -> Array:
        return np.concatenate([da_i, da_o, da_f, da_g], axis=1)


@plant(GATES, FORGETFUL)
class lstm_bias_columns_i_f_o_g(Lstm):
    """The columns of db alone are in the order i, f, o, g."""

    def backward(self) -> None:
        super().backward()
        d_i, d_f, d_g, d_o = np.split(self.grad["b"], 4)
        self.grad["b"] = np.concatenate([d_i, d_f, d_o, d_g])


@plant(GATES, LSTM_1997)
class lstm_1997_input_weight_columns_i_o_g(Lstm1997):
    """The columns of dW_x alone are in the order i, o, g."""

    def backward(self) -> None:
        super().backward()
        d_i, d_g, d_o = np.split(self.grad["W_x"], 3, axis=1)
        self.grad["W_x"] = np.concatenate([d_i, d_o, d_g], axis=1)


@plant(GATES, PEEPHOLE)
class peepholes_of_i_and_f_swapped(LstmPeephole):
    """dp_i and dp_f are returned under each other's name."""

    def backward(self) -> None:
        super().backward()
        self.grad["p_i"], self.grad["p_f"] = self.grad["p_f"], self.grad["p_i"]


@plant(GATES, GRUS)
class gru_columns_z_r_n(Gru):
    """The gates' columns are read, and their gradients written, in the order z, r, n."""

    def split(self, a: Array) -> list[Array]:
        a_z, a_r, a_n = np.split(a, 3, axis=1)
        return [a_r, a_z, a_n]

    def join(self, da_r: Array, da_z: Array, da_n: Array) -> Array:
        return np.concatenate([da_z, da_r, da_n], axis=1)


@plant(GATES, AFTER)
class gru_recurrent_bias_columns_z_r_n(GruResetAfter):
    """The columns of db_h alone are in the order z, r, n."""

    def backward(self) -> None:
        super().backward()
        d_r, d_z, d_n = np.split(self.grad["b_h"], 3)
        self.grad["b_h"] = np.concatenate([d_z, d_r, d_n])


# One derivative wrong


@plant(DERIVATIVE, ELMAN, "relu, a pre-activation of exactly 0")
class relu_slope_one_at_zero(Elman):
    """The derivative of relu at 0 is 1."""

    def slope(self, tape: SimpleNamespace) -> Array:
        return (tape.a >= 0).astype(self.dtype) if self.problem.activation == "relu" else super().slope(tape)


@plant(DERIVATIVE, ELMAN, "sigmoid")
class sigmoid_slope_taken_for_that_of_tanh(Elman):
    """The derivative of the sigmoid network is 1−h², that of tanh."""

    def slope(self, tape: SimpleNamespace) -> Array:
        return self.tanh_slope(tape.h) if self.problem.activation == "sigmoid" else super().slope(tape)


@plant(DERIVATIVE, ELMAN, "tanh")
class slope_at_previous_state(Elman):
    """The derivative of tanh is taken at h_{s-1}."""

    def slope(self, tape: SimpleNamespace) -> Array:
        return self.tanh_slope(tape.h_prev) if self.problem.activation == "tanh" else super().slope(tape)


@plant(DERIVATIVE, LSTMS)
class lstm_output_squash_slope_missing(Lstm):
    """From h to c the derivative of tanh(c) is left out."""

    def squash_slope(self, y: Array) -> Array:
        return np.ones_like(y)


@plant(DERIVATIVE, LSTMS)
class lstm_output_squash_slope_of_cell(Lstm):
    """From h to c the derivative of tanh(c) is 1−c², as if c were its value."""

    def cell_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return dh * tape.o * self.tanh_slope(tape.c)


@plant(DERIVATIVE, FORGETFUL)
class lstm_forget_gate_meets_new_cell(Lstm):
    """The forget gate's gradient multiplies by c where c₋ belongs."""

    def forget_gate_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        return dc * tape.c * self.sigmoid_slope(tape.f)


@plant(DERIVATIVE, LSTMS)
class lstm_candidate_slope_of_sigmoid(Lstm):
    """The candidate g is differentiated like the gates, as g(1−g)."""

    def candidate_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        return dc * tape.i * self.sigmoid_slope(tape.g)


@plant(DERIVATIVE, PEEPHOLE)
class peephole_of_output_not_carried(LstmPeephole):
    """The output gate's gradient does not flow through its peephole into c."""

    def output_peephole_back(self, da_o: Array) -> tuple[Array, Array]:
        return np.zeros_like(da_o), np.zeros_like(da_o)


@plant(DERIVATIVE, PEEPHOLE)
class peephole_of_output_carried_to_previous_cell(LstmPeephole):
    """The output gate's peephole sends its gradient to c₋ and not to c."""

    def output_peephole_back(self, da_o: Array) -> tuple[Array, Array]:
        return tuple(reversed(super().output_peephole_back(da_o)))  # type: ignore[return-value]


@plant(DERIVATIVE, PEEPHOLE)
class peephole_of_forget_not_carried(LstmPeephole):
    """The forget gate's gradient does not flow through its peephole into c₋."""

    def peepholes_back(self, da_i: Array, da_f: Array) -> Array:
        return self.peephole("p_i", da_i)


@plant(DERIVATIVE, PEEPHOLE)
class peephole_of_output_meets_previous_cell(LstmPeephole):
    """The gradient of p_o multiplies by c₋ where c belongs."""

    def peephole_inputs(self, tape: SimpleNamespace) -> dict[str, Array]:
        return super().peephole_inputs(tape) | {"p_o": tape.c_prev}


@plant(DERIVATIVE, LSTM_1997)
class lstm_1997_cell_gradient_forgets(Lstm1997):
    """The gradient along c is multiplied by 1−i, as if there were a coupled forget gate."""

    def gates_back(self, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        da, dc_prev = super().gates_back(tape, dh, dc)
        return da, dc_prev * (1 - tape.i)


@plant(DERIVATIVE, AFTER, "b_h not zero")
class gru_reset_gate_without_bias(GruResetAfter):
    """The reset gate's gradient multiplies by h₋ W_hn and forgets b_hn."""

    def reset_gate_back(self, tape: SimpleNamespace, da_n: Array) -> Array:
        return da_n * (tape.h_n - self.params["b_h"][2 * self.H :]) * self.sigmoid_slope(tape.r)


@plant(DERIVATIVE, AFTER)
class gru_recurrent_bias_not_reset(GruResetAfter):
    """db_h is taken equal to db_x, without the reset gate in its candidate's part."""

    def backward(self) -> None:
        super().backward()
        self.grad["b_h"] = self.grad["b_x"].copy()


@plant(DERIVATIVE, AFTER)
class gru_carry_not_reset(GruResetAfter):
    """The candidate's gradient goes back to h₋ without the reset gate."""

    def spread_gates(self, s: int, tape: SimpleNamespace, da_n: Array, da_z: Array) -> Array:
        super().spread_gates(s, tape, da_n, da_z)
        return self.carry(self.join(self.reset_gate_back(tape, da_n), da_z, da_n))


@plant(DERIVATIVE, AFTER)
class gru_after_reset_gate_held_constant(GruResetAfter):
    """The reset gate is treated as a constant: nothing is differentiated through r."""

    def reset_gate_back(self, tape: SimpleNamespace, da_n: Array) -> Array:
        return np.zeros_like(da_n)


@plant(DERIVATIVE, BEFORE)
class gru_reset_missing_on_the_way_back(GruResetBefore):
    """The gradient of r∘h₋ passes to h₋ without the factor r."""

    def reset_back(self, tape: SimpleNamespace, reset: Array) -> Array:
        return reset


@plant(DERIVATIVE, BEFORE)
class gru_candidate_weight_meets_unreset_state(GruResetBefore):
    """The candidate's part of dW_h multiplies by h₋ where r∘h₋ belongs."""

    def candidate_input(self, tape: SimpleNamespace) -> Array:
        return self.recurrent_input(tape)


@plant(DERIVATIVE, BEFORE)
class gru_reset_gate_meets_new_state(GruResetBefore):
    """The reset gate's gradient multiplies by h where h₋ belongs."""

    def reset_gate_back(self, tape: SimpleNamespace, reset: Array) -> Array:
        return reset * tape.h * self.sigmoid_slope(tape.r)


@plant(DERIVATIVE, GRUS)
class gru_leak_missing(Gru):
    """The state's gradient does not pass straight through z to h₋."""

    def leak_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return np.zeros_like(dh)


@plant(DERIVATIVE, GRUS)
class gru_update_gate_forgets_previous_state(Gru):
    """The update gate's gradient multiplies by −n where h₋−n belongs."""

    def update_gate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return -dh * tape.n * self.sigmoid_slope(tape.z)


@plant(DERIVATIVE, PEEPHOLE, "float32")
class float32_kernel_without_peephole_carry(LstmPeephole):
    """The float32 path is an older copy, in which the peepholes of i and f send nothing to c₋."""

    def peepholes_back(self, da_i: Array, da_f: Array) -> Array:
        return np.zeros_like(da_i) if self.dtype == np.float32 else super().peepholes_back(da_i, da_f)


# The other GRU variant, or z flipped


@plant(VARIANT, GRUS)
class gru_update_gate_sign(Gru):
    """The update gate's gradient has the sign of h = z∘n + (1−z)∘h₋, while the forward is right."""

    def update_gate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return -super().update_gate_back(tape, dh)


@plant(VARIANT, GRUS)
class gru_z_flipped(Gru):
    """Forward and backward are those of h = z∘n + (1−z)∘h₋."""

    def blend(self, z: Array, n: Array, h: Array) -> Array:
        return z * n + (1 - z) * h

    def update_gate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return -super().update_gate_back(tape, dh)

    def candidate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return dh * tape.z * self.tanh_slope(tape.n)

    def leak_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return dh * (1 - tape.z)


@plant(VARIANT, GRUS)
class gru_leak_through_one_minus_z(Gru):
    """The state's gradient passes straight to h₋ through 1−z and not through z."""

    def leak_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return dh * (1 - tape.z)


@plant(VARIANT, AFTER)
class gru_after_computed_as_before(GruResetAfter):
    """Forward and backward reset the state before the product: n = tanh(x W_xn + b_xn + (r∘h₋) W_hn + b_hn)."""

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        tape = super().step(x, h, c)
        x_n = self.split(x @ self.params["W_x"] + self.params["b_x"])[2]
        W_hn, b_hn = self.split(self.params["W_h"])[2], self.params["b_h"][2 * self.H :]
        tape.n = self.tanh(x_n + (tape.r * h) @ W_hn + b_hn)
        tape.h = self.blend(tape.z, tape.n, h)
        return tape

    def spread_gates(self, s: int, tape: SimpleNamespace, da_n: Array, da_z: Array) -> Array:
        reset = da_n @ self.split(self.params["W_h"])[2].T
        da_r, none = reset * tape.h_prev * self.sigmoid_slope(tape.r), np.zeros_like(da_n)
        da, gates = self.join(da_r, da_z, da_n), self.join(da_r, da_z, none)
        self.add("W_x", s, self.outer(tape.x, da))
        self.add(
            "W_h", s, self.outer(tape.h_prev, gates) + self.outer(tape.r * tape.h_prev, self.join(none, none, da_n))
        )
        self.add("b_x", s, da.sum(axis=0))
        self.add("b_h", s, da.sum(axis=0))
        self.add_x(s, self.carry_x(da))
        return self.carry(gates) + reset * tape.r


@plant(VARIANT, BEFORE)
class gru_before_computed_as_after(GruResetBefore):
    """Forward and backward reset after the product: n = tanh(x W_xn + r∘(h₋ W_hn) + b_n)."""

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        tape = super().step(x, h, c)
        x_n = self.split(x @ self.params["W_x"] + self.params["b"])[2]
        tape.h_n = h @ self.split(self.params["W_h"])[2]
        tape.n = self.tanh(x_n + tape.r * tape.h_n)
        tape.h = self.blend(tape.z, tape.n, h)
        return tape

    def spread_gates(self, s: int, tape: SimpleNamespace, da_n: Array, da_z: Array) -> Array:
        da_r = da_n * tape.h_n * self.sigmoid_slope(tape.r)
        da, da_h = self.join(da_r, da_z, da_n), self.join(da_r, da_z, da_n * tape.r)
        self.add("W_x", s, self.outer(tape.x, da))
        self.add("W_h", s, self.outer(tape.h_prev, da_h))
        self.add("b", s, da.sum(axis=0))
        self.add_x(s, self.carry_x(da))
        return self.carry(da_h)


@plant(VARIANT, AFTER, "b_h not zero")
class gru_after_bias_outside_reset(GruResetAfter):
    """Forward and backward leave b_hn outside the reset: n = tanh(x W_xn + b_xn + b_hn + r∘(h₋ W_hn))."""

    def step(self, x: Array, h: Array, c: Array) -> SimpleNamespace:
        tape = super().step(x, h, c)
        b_hn = self.params["b_h"][2 * self.H :]
        x_n = self.split(x @ self.params["W_x"] + self.params["b_x"])[2]
        tape.h_n = h @ self.split(self.params["W_h"])[2]
        tape.n = self.tanh(x_n + b_hn + tape.r * tape.h_n)
        tape.h = self.blend(tape.z, tape.n, h)
        return tape

    def backward(self) -> None:
        super().backward()
        self.grad["b_h"] = self.grad["b_x"].copy()


# Padding and lengths


@plant(PADDING, needs="time mean, lengths < T")
class mean_divides_by_T(Network):
    """The mean over time divides every row by T, in loss and gradient alike."""

    def time_divisor(self) -> Array:
        return np.full(self.B, self.T, self.dtype)


@plant(PADDING, needs="time mean, lengths < T")
class gradient_of_mean_divides_by_longest_row(Network):
    """The loss divides by each row's own length but its gradient by the longest row's."""

    def gradient_divisors(self) -> Array:
        if self.loss.time_reduction != "mean":
            return super().gradient_divisors()
        return super().gradient_divisors() / self.time_divisor() * self.dtype.type(max(self.lengths.max(), 1))


@plant(PADDING, needs="time mean, lengths")
class mean_divides_by_index_of_last_step(Network):
    """With lengths the mean over time divides by length−1, the index of the row's last step."""

    def time_divisor(self) -> Array:
        if self.problem.lengths is None:
            return super().time_divisor()
        return np.maximum(self.lengths - 1, 1).astype(self.dtype)


@plant(PADDING, needs="tokens, lengths < T")
class tokens_count_the_padding(Network):
    """The reduction `tokens` divides by T·B although there are lengths."""

    def token_divisor(self) -> Array:
        return self.dtype.type(self.T * self.B)


@plant(PADDING, needs="tokens, unequal lengths")
class tokens_taken_for_mean_of_means(Network):
    """The reduction `tokens` averages each row over its own length, and then over the batch."""

    def divisors(self) -> Array:
        if self.loss.time_reduction == "tokens":
            return self.time_divisor() * self.dtype.type(self.B)
        return super().divisors()


@plant(PADDING, needs="tokens, a row of length 0")
class tokens_count_empty_rows_as_one(Network):
    """The reduction `tokens` divides by the sum of max(length, 1)."""

    def token_divisor(self) -> Array:
        return self.dtype.type(np.maximum(self.lengths, 1).sum())


@plant(PADDING, needs="batch mean, a row of length 0")
class batch_mean_skips_empty_rows(Network):
    """The mean over the batch counts only the rows of length above 0."""

    def batch_divisor(self) -> Array:
        return self.dtype.type(max(int((self.lengths > 0).sum()), 1))


@plant(PADDING, needs="time mean, a row of length 0")
class empty_row_divides_by_zero(Network):
    """The mean over time of a row of length 0 is 0/0, and the NaN spreads."""

    def time_divisor(self) -> Array:
        return self.lengths.astype(self.dtype)

    def solve(self) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return super().solve()


@plant(PADDING, needs="final cotangents, lengths < T")
class final_cotangent_lost_in_short_rows(Network):
    """The final cotangents enter at step T, where the mask removes those of every shorter row."""

    def final_injection(self, s: int) -> tuple[Array, Array]:
        g_h, g_c = super().final_injection(s)
        return (g_h, g_c) if s in (0, self.T) else (np.zeros_like(g_h), np.zeros_like(g_c))


@plant(PADDING, needs="final cotangents, a row of length 0")
class empty_row_cotangent_lost(Network):
    """A row of length 0 does not pass its final cotangents on to the initial state."""

    def empty_rows(self) -> None:
        """Forgotten."""


@plant(PADDING, needs="lengths < T")
class loss_counts_the_padding(Network):
    """The loss, but not its gradient, counts the padded steps."""

    def total_loss(self) -> Any:
        terms = self.loss_terms().sum(axis=0)
        g_h, g_c = self.final_cotangents()
        return (terms / self.divisors()).sum() + (g_h * self.h_final).sum() + (g_c * self.c_final).sum()


@plant(PADDING, needs="lengths < T")
class loss_mask_one_step_late(Network):
    """The mask of the loss lets one padded step through, t ≤ length+1."""

    def loss_steps(self) -> Array:
        return np.arange(self.T)[:, None] <= self.lengths[None, :]


@plant(PADDING, needs="lengths")
class last_true_step_masked(Network):
    """The mask of the steps is t < length, which freezes each row before its last step."""

    def active_steps(self) -> Array:
        found = super().active_steps()
        return found if self.problem.lengths is None else np.arange(1, self.T + 1)[:, None] < self.lengths[None, :]


@plant(PADDING, needs="readout linear, lengths < T")
class readout_bias_counts_the_padding(Network):
    """The gradient of b_y sums over the padded steps as well."""

    def readout_back(self) -> None:
        super().readout_back()
        if self.problem.readout == "linear":
            unmasked = self.loss_gradient() / self.gradient_divisors()[:, None]
            self.grad["b_y"] = unmasked.sum(axis=(0, 1)).astype(self.dtype)


@plant(PADDING, needs="lengths not in descending order")
class initial_gradient_left_sorted(Network):
    """Rows are sorted by length for packing, and dh0 is returned in the sorted order."""

    def backward(self) -> None:
        super().backward()
        self.dh0 = self.dh0[np.argsort(-self.lengths, kind="stable")]


@plant(PADDING, needs="final cotangents, lengths < T")
class final_state_read_off_last_step(Network):
    """The final state in the loss is what step T's cell computed, from padding in the shorter rows."""

    def forward(self) -> None:
        super().forward()
        self.h_final, self.c_final = self.tapes[-1].h, self.tapes[-1].c


@plant(PADDING, needs="final cotangents, lengths < T")
class padded_state_reset_to_zero(Network):
    """A row's state is zero after its last step, and so is the final state in the loss."""

    def forward(self) -> None:
        super().forward()
        ended = (self.lengths < self.T)[:, None]
        self.h_final, self.c_final = np.where(ended, 0, self.h_final), np.where(ended, 0, self.c_final)
        self.h = np.where(self.active[:, :, None], self.h, 0).astype(self.dtype)
        self.c = np.where(self.active[:, :, None], self.c, 0).astype(self.dtype)


@plant(PADDING, needs="lengths < T")
class input_gradient_copied_into_padding(Network):
    """dx of the padded steps holds dx of the row's last step where it should be zero."""

    def backward(self) -> None:
        super().backward()
        for row, length in enumerate(self.lengths):
            if length > 0:
                self.dx[length:, row] = self.dx[length - 1, row]


# Initial or final state


@plant(STATE, needs="h0 not zero")
class initial_state_ignored(Network):
    """The forward run starts from h = 0 whatever h0 is, and the gradient follows it."""

    def initial_state(self) -> tuple[Array, Array]:
        h, c = super().initial_state()
        return np.zeros_like(h), c


@plant(STATE, LSTMS, "c0 not zero")
class initial_cell_ignored(Lstm):
    """The forward run starts from c = 0 whatever c0 is, and the gradient follows it."""

    def initial_state(self) -> tuple[Array, Array]:
        h, c = super().initial_state()
        return h, np.zeros_like(c)


@plant(STATE, FORGETFUL)
class initial_cell_gradient_before_forget_gate(Lstm):
    """dc0 is the gradient of c_1, the forget gate of step 1 left out."""

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        dh_prev, dc_prev = super().step_back(s, tape, dh, dc)
        if s > 1:
            return dh_prev, dc_prev
        seen, _ = self.output_peephole_back(self.output_gate_back(tape, dh))
        return dh_prev, dc + self.cell_back(tape, dh) + seen


@plant(STATE, LSTMS, "g_c_final")
class final_cell_cotangent_ignored(Lstm):
    """The cotangent of the final c is ignored on the way back."""

    def final_injection(self, s: int) -> tuple[Array, Array]:
        g_h, g_c = super().final_injection(s)
        return g_h, np.zeros_like(g_c)


@plant(STATE, LSTMS, "g_c_final")
class final_cell_cotangent_added_to_h(Lstm):
    """The cotangent of the final c is added to the gradient of h."""

    def final_injection(self, s: int) -> tuple[Array, Array]:
        g_h, g_c = super().final_injection(s)
        return (g_h, g_c) if s == 0 else (g_h + g_c, np.zeros_like(g_c))


@plant(STATE, LSTMS, "exactly one of g_h_final and g_c_final")
class final_cotangents_only_together(Lstm):
    """The final cotangents are used only where both are given."""

    def final_cotangents(self) -> tuple[Array, Array]:
        g_h, g_c = super().final_cotangents()
        together = (
            getattr(self.loss, "g_h_final", None) is not None and getattr(self.loss, "g_c_final", None) is not None
        )
        return (g_h, g_c) if together else (np.zeros_like(g_h), np.zeros_like(g_c))


@plant(STATE, needs="g_h_final, and a loss at the row's last step")
class final_cotangent_replaces_last_loss(Network):
    """The cotangent of the final h replaces the last step's gradient and is not added to it."""

    def injection(self, s: int) -> tuple[Array, Array]:
        g_h, g_c = super().injection(s)
        if getattr(self.loss, "g_h_final", None) is not None:
            g_h = np.where((self.lengths == s)[:, None], self.final_injection(s)[0], g_h)
        return g_h, g_c


@plant(STATE, needs="B > 1")
class initial_gradient_summed_over_batch(Network):
    """Every row of dh0 holds the sum over the batch, as for one initial state shared by all."""

    def backward(self) -> None:
        super().backward()
        self.dh0 = np.repeat(self.dh0.sum(axis=0, keepdims=True), self.B, axis=0)


@plant(STATE, needs="T == 1")
class single_step_without_initial_gradient(Network):
    """A shortcut for T = 1 returns before dh0 is set."""

    def add_initial(self, dh: Array, dc: Array) -> None:
        super().add_initial(np.zeros_like(dh) if self.T == 1 else dh, dc)


@plant(STATE, LSTMS, "g_h_final and g_c_final, a row of length 0")
class empty_row_cotangents_swapped(Lstm):
    """A row of length 0 passes the cotangent of the final c to dh0 and that of h to dc0."""

    def empty_rows(self) -> None:
        g_h, g_c = self.final_injection(0)
        self.dh0 += g_c
        self.dc0 += g_h


# Clipped


@plant(CLIPPED, needs="gradients of norm above 5")
class gradient_norm_clipped(Network):
    """The parameters' gradients are scaled down to a joint norm of at most 5."""

    def backward(self) -> None:
        super().backward()
        norm = np.sqrt(sum(float((value.astype(float) ** 2).sum()) for value in self.grad.values()))
        if norm > 5:
            self.grad = {name: value * self.dtype.type(5 / norm) for name, value in self.grad.items()}


@plant(CLIPPED, needs="a state gradient above 10")
class state_gradient_clipped(Network):
    """The state's gradient is clipped to [−10, 10] at every step."""

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        return super().step_back(s, tape, np.clip(dh, -10, 10), dc)


@plant(CLIPPED, ("elman", *LSTMS), "a sigmoid below -15")
class sigmoid_argument_clipped(Network):
    """The sigmoid clips its argument to [−15, 15]."""

    def sigmoid(self, a: Array) -> Array:
        return super().sigmoid(np.clip(a, -15, 15))


@plant(CLIPPED, needs="gradients below 1e-12")
class tiny_gradients_flushed(Network):
    """Entries below 1e-12 that would be added to a parameter's gradient are taken for zero."""

    def add(self, name: str, s: int, value: Array) -> None:
        super().add(name, s, np.where(np.abs(value) < 1e-12, 0, value))


@plant(CLIPPED, needs="cross_entropy, a target of probability below 1e-7")
class logarithm_of_softmax_clipped(Network):
    """The probabilities in the cross entropy are clipped to at least 1e-7."""

    def log_softmax(self, o: Array) -> Array:
        return np.maximum(super().log_softmax(o), self.dtype.type(np.log(1e-7)))


# A row, unit or tail lost


@plant(TAIL, needs="B % 4 == 3, such as B = 3")
class third_row_of_a_remainder_lost(Network):
    """Weight gradients take the rows in fours, and of a remainder of three the last is lost."""

    def outer(self, left: Array, right: Array) -> Array:
        return super().outer(left[:-1], right[:-1]) if self.B % 4 == 3 else super().outer(left, right)


@plant(TAIL, needs="T > 16")
class sixteen_saved_states(Network):
    """The previous states are saved in a ring of 16, and those of a longer run are overwritten before they are used."""

    def forward(self) -> None:
        super().forward()
        saved = [tape.h_prev for tape in self.tapes]
        for index, tape in enumerate(self.tapes):
            tape.h_prev = saved[index + (self.T - 1 - index) // 16 * 16]


@plant(TAIL, needs="H > 32, H not a multiple of 32")
class units_beyond_the_tile_lost(Network):
    """The product that carries the gradient to h₋ works in tiles of 32 units, and a remainder beyond them is lost."""

    def carry(self, da: Array) -> Array:
        found = super().carry(da)
        if self.H > 32:
            found[:, self.H // 32 * 32 :] = 0
        return found


@plant(TAIL, needs="D > 4, D not a multiple of 4")
class input_columns_beyond_the_vector_lost(Network):
    """dx is written in vectors of 4 inputs, and a remainder beyond them stays zero."""

    def carry_x(self, da: Array) -> Array:
        found = super().carry_x(da)
        if self.D > 4:
            found[:, self.D // 4 * 4 :] = 0
        return found


@plant(TAIL, needs="readout linear, K > 8")
class classes_beyond_eight_lost(Network):
    """Only the first 8 outputs send their gradient back to the state."""

    def readout_back(self) -> None:
        super().readout_back()
        if self.problem.readout == "linear":
            self.dh_loss = self.do[:, :, :8] @ self.params["W_hy"][:, :8].T


@plant(TAIL, needs="an exactly zero recurrent weight")
class zero_weights_stay_pruned(Network):
    """A recurrent weight of exactly zero is taken for pruned, and its gradient is zero."""

    def backward(self) -> None:
        super().backward()
        self.grad[self.recurrent_name][self.params[self.recurrent_name] == 0] = 0


@plant(TAIL)
class first_input_gradient_lost(Network):
    """dx of step 1 is never written."""

    def add_x(self, s: int, value: Array) -> None:
        if s > 1:
            super().add_x(s, value)


@plant(TAIL, needs="B > 16")
class rows_beyond_sixteen_without_initial_gradient(Network):
    """dh0 is written for the first block of 16 rows only."""

    def backward(self) -> None:
        super().backward()
        self.dh0[16:] = 0


# Lower precision


@plant(PRECISION, needs="float64")
class weights_accumulated_in_single(Network):
    """The products of the weight gradients are taken in float32."""

    def outer(self, left: Array, right: Array) -> Array:
        return super().outer(left.astype(np.float32), right.astype(np.float32)).astype(self.dtype)


@plant(PRECISION, GATED, "float64")
class sigmoid_in_single(Network):
    """The sigmoid is computed in float32."""

    def sigmoid(self, a: Array) -> Array:
        return super().sigmoid(a.astype(np.float32).astype(self.dtype)).astype(np.float32).astype(self.dtype)


@plant(PRECISION)
class tanh_by_continued_fraction(Network):
    """The hyperbolic tangent is the seventh convergent of its continued fraction, clipped to [−1, 1]."""

    def tanh(self, a: Array) -> Array:
        s = a * a
        above = a * (135135 + s * (17325 + s * (378 + s)))
        return np.clip(above / (135135 + s * (62370 + s * (3150 + 28 * s))), -1, 1)


@plant(PRECISION, needs="T > 1")
class state_gradient_in_half(Network):
    """The state's gradient is kept in float16 between steps."""

    def step_back(self, s: int, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        dh, dc = super().step_back(s, tape, dh, dc)
        return dh.astype(np.float16).astype(self.dtype), dc


@plant(PRECISION, needs="time mean, length not a power of two")
class reciprocal_of_length_in_half(Network):
    """The mean over time multiplies by 1/length rounded to float16."""

    def time_divisor(self) -> Array:
        return 1 / (1 / super().time_divisor()).astype(np.float16).astype(self.dtype)


@plant(PRECISION, needs="float64")
class initial_state_in_single(Network):
    """The initial state is read as float32."""

    def initial_state(self) -> tuple[Array, Array]:
        h, c = super().initial_state()
        return h.astype(np.float32).astype(self.dtype), c


@plant(PRECISION, GATED, "float64")
class sigmoid_with_epsilon(Network):
    """The sigmoid's denominator has 1e-9 added."""

    def sigmoid(self, a: Array) -> Array:
        return super().sigmoid(a) / (1 + self.dtype.type(1e-9) * super().sigmoid(a))


# State kept between calls


class Remembering(Network):
    """Has a memory that outlives the call; a building block."""

    memory: dict[Any, Any]

    def key(self, *more: Any) -> tuple[Any, ...]:
        """What the memory is sorted by."""
        return (self.problem.cell, self.T, self.B, self.D, self.H, self.dtype.name, *more)


@plant(MEMORY, needs="a second call with the same shapes")
class bias_gradient_never_cleared(Remembering):
    """The bias gradient's accumulator is not cleared between calls of the same shapes."""

    memory: ClassVar[dict[Any, Any]] = {}

    def backward(self) -> None:
        super().backward()
        self.grad[self.bias_name if self.bias_name in self.grad else "b_h"] += self.memory.get(self.key(), 0)
        self.memory[self.key()] = self.grad[self.bias_name if self.bias_name in self.grad else "b_h"].copy()


@plant(MEMORY, needs="a second call with the same shapes, its h0 zero")
class zero_initial_state_carries_on(Remembering):
    """An h0 of zeros is taken for none given, and the run carries on from the last call's final state."""

    memory: ClassVar[dict[Any, Any]] = {}

    def initial_state(self) -> tuple[Array, Array]:
        h, c = super().initial_state()
        return (h if h.any() else self.memory.get(self.key(), h)), c

    def forward(self) -> None:
        super().forward()
        self.memory[self.key()] = self.h_final.copy()


@plant(MEMORY, needs="a second call with the same shapes and other weights")
class input_weights_cached_by_shape(Remembering):
    """The transposed input weights for dx are cached by shape, and a second call uses the first one's."""

    memory: ClassVar[dict[Any, Any]] = {}

    def carry_x(self, da: Array) -> Array:
        return da @ self.memory.setdefault(self.key(), self.params[self.input_name].T.copy())


@plant(MEMORY, needs="a second call with the same T and B and other lengths")
class mask_cached_by_shape(Remembering):
    """The mask of the true steps is cached by T and B, and a second call with other lengths uses the first one's."""

    memory: ClassVar[dict[Any, Any]] = {}

    def active_steps(self) -> Array:
        return self.memory.setdefault((self.T, self.B), super().active_steps())


@plant(MEMORY, needs="a second call with the same x and other weights")
class forward_cached_by_input(Remembering):
    """The forward run is cached by x alone, and a second call with other parameters gets the first one's states."""

    memory: ClassVar[dict[Any, Any]] = {}

    def forward(self) -> None:
        key = self.key(self.x.tobytes())
        if key not in self.memory:
            super().forward()
            self.memory[key] = self.tapes, self.h, self.c, self.h_final, self.c_final
        self.tapes, h, c, self.h_final, self.c_final = self.memory[key]
        self.h, self.c = h.copy(), c.copy()


@plant(MEMORY, needs="a call with full after one with window")
class window_stays_on(Remembering):
    """The window of an earlier call stays on for a later call that asks for the full gradient."""

    memory: ClassVar[dict[Any, Any]] = {}

    def sweeps(self) -> Iterator[tuple[range, Array]]:
        if self.truncation.kind == "window":
            self.memory["k"] = self.truncation.k
        if self.truncation.kind == "full" and "k" in self.memory:
            self.truncation = SimpleNamespace(kind="window", k=self.memory["k"])
        return super().sweeps()


@plant(MEMORY, needs="an answer kept over a second call with the same shapes")
class input_gradient_buffer_shared(Remembering):
    """dx is a buffer of the module's, which the next call of the same shapes overwrites."""

    memory: ClassVar[dict[Any, Any]] = {}

    def results(self) -> dict[str, Array]:
        buffer = self.memory.setdefault(self.key(), np.empty_like(self.dx))
        buffer[...] = self.dx
        return super().results() | {"dx": buffer}


# Wrong forward with the matching gradient


@plant(FORWARD, FORGETFUL)
class forget_bias_plus_one(Lstm):
    """One is added to the forget gate's pre-activation."""

    def __init__(self, problem: Any) -> None:
        super().__init__(problem)
        self.params["b"][self.H : 2 * self.H] += 1


@plant(FORWARD, PEEPHOLE)
class peephole_output_gate_sees_previous_cell(LstmPeephole):
    """The output gate's peephole looks at c₋ where it should look at c."""

    def output_peephole(self, c_prev: Array, c: Array) -> Array:
        return self.peephole("p_o", c_prev)

    def output_peephole_back(self, da_o: Array) -> tuple[Array, Array]:
        return np.zeros_like(da_o), self.peephole("p_o", da_o)

    def peephole_inputs(self, tape: SimpleNamespace) -> dict[str, Array]:
        return super().peephole_inputs(tape) | {"p_o": tape.c_prev}


@plant(FORWARD, needs="readout linear, b_y not zero")
class readout_bias_omitted(Network):
    """The outputs leave out b_y."""

    def readout(self, h: Array) -> Array:
        return h @ self.params["W_hy"] if self.problem.readout == "linear" else super().readout(h)


@plant(FORWARD, LSTM_1997)
class lstm_1997_output_not_squashed(Lstm1997):
    """h is o∘c and not o∘tanh(c)."""

    def squash(self, c: Array) -> Array:
        return c.copy()

    def squash_slope(self, y: Array) -> Array:
        return np.ones_like(y)


@plant(FORWARD, LSTM_1997)
class lstm_1997_candidate_between_minus_two_and_two(Lstm1997):
    """The candidate is 4σ(a)−2, as in the article of 1997, and not tanh(a)."""

    def candidate(self, a: Array) -> Array:
        return 2 * self.tanh(a / 2)

    def candidate_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        return dc * tape.i * self.tanh_slope(tape.g / 2)


@plant(FORWARD, LSTM_1997)
class lstm_1997_coupled_forget_gate(Lstm1997):
    """The cell has a forget gate coupled to the input gate: c = (1−i)∘c₋ + i∘g."""

    def keep(self, i: Array) -> Array:
        return 1 - i

    def keep_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        return -dc * tape.c_prev * self.sigmoid_slope(tape.i)


@plant(FORWARD, GRUS)
class gru_hard_sigmoid(Gru):
    """The gates are hard sigmoids, 0.2·a + 0.5 between 0 and 1."""

    def sigmoid(self, a: Array) -> Array:
        return np.clip(self.dtype.type(0.2) * a + self.dtype.type(0.5), 0, 1)

    def sigmoid_slope(self, y: Array) -> Array:
        return self.dtype.type(0.2) * ((y > 0) & (y < 1))


@plant(FORWARD, ELMAN, "relu, a pre-activation above 6")
class relu_capped_at_six(Elman):
    """relu is capped at 6."""

    def activate(self, a: Array) -> Array:
        found = super().activate(a)
        return np.minimum(found, 6) if self.problem.activation == "relu" else found

    def slope(self, tape: SimpleNamespace) -> Array:
        found = super().slope(tape)
        return found * (tape.a < 6) if self.problem.activation == "relu" else found


@plant(FORWARD, needs="squared_error with scale ½")
class squared_error_scale_ignored(Network):
    """The squared error is Σ(o−y)² whatever the scale, and its gradient follows."""

    def loss_terms(self) -> Array:
        return (self.error() ** 2).sum(axis=-1) if self.loss.kind == "squared_error" else super().loss_terms()

    def loss_gradient(self) -> Array:
        return 2 * self.error() if self.loss.kind == "squared_error" else super().loss_gradient()


@plant(FORWARD, needs="cross_entropy with probabilities that are not all 0 or 1")
class probabilities_rounded_to_classes(Network):
    """Target probabilities are replaced by their most probable class."""

    def probabilities(self) -> Array:
        found = super().probabilities()
        return (np.arange(found.shape[2]) == found.argmax(axis=2)[..., None]).astype(self.dtype)


@plant(FORWARD, needs="cross_entropy, K == 1")
class single_class_taken_for_binary(Network):
    """With K = 1 the cross entropy is the binary one, of σ(o) with the target as its probability."""

    def binary(self) -> bool:
        """Whether there is one output."""
        return self.loss.kind == "cross_entropy" and self.o.shape[2] == 1

    def loss_terms(self) -> Array:
        if not self.binary():
            return super().loss_terms()
        o, y = self.o[..., 0], self.probabilities()[..., 0]
        return np.maximum(o, 0) - o * y + np.log1p(np.exp(-np.abs(o)))

    def loss_gradient(self) -> Array:
        return self.sigmoid(self.o) - self.probabilities() if self.binary() else super().loss_gradient()


@plant(FORWARD, PEEPHOLE)
class peephole_weights_of_i_and_f_exchanged(LstmPeephole):
    """The input gate looks at the cell state through p_f and the forget gate through p_i."""

    def __init__(self, problem: Any) -> None:
        super().__init__(problem)
        self.params["p_i"], self.params["p_f"] = self.params["p_f"], self.params["p_i"]

    def backward(self) -> None:
        super().backward()
        self.grad["p_i"], self.grad["p_f"] = self.grad["p_f"], self.grad["p_i"]


# Contract breach


@plant(CONTRACT, needs="lengths < T, x looked at after the call (or read-only)")
class input_masked_in_place(Network):
    """The padding of the caller's x is set to zero in place."""

    def solve(self) -> dict[str, Array]:
        if self.problem.lengths is not None:
            self.problem.x[~self.active] = 0
        return super().solve()


@plant(CONTRACT, needs="x not C-contiguous, more than one of T, B, D above 1")
class memory_order_taken_for_c(Network):
    """x is read in the order of its memory, whatever its strides are."""

    def read_x(self, problem: Any) -> Array:
        return self.copy(problem.x.ravel(order="K").reshape(problem.x.shape))


@plant(CONTRACT, needs="float64")
class loss_returned_in_single(Network):
    """The loss of a float64 problem is returned as float32."""

    def results(self) -> dict[str, Array]:
        return super().results() | {"loss": np.float32(self.value)}


@plant(CONTRACT)
class loss_returned_as_vector(Network):
    """The loss is returned as an array of shape (1,)."""

    def results(self) -> dict[str, Array]:
        return super().results() | {"loss": np.array([self.value], dtype=self.dtype)}


@plant(CONTRACT, needs="recurrent weights of spectral norm above 2")
class declines_large_weights(Network):
    """Problems whose recurrent weights have a spectral norm above 2 are declined as unsupported."""

    def solve(self) -> dict[str, Array]:
        if np.linalg.norm(self.params[self.recurrent_name].astype(float), 2) > 2:
            raise NotImplementedError("explosive recurrent weights")
        return super().solve()


@plant(CONTRACT, needs="a gradient that is exactly zero")
class zero_gradients_left_out(Network):
    """A parameter's gradient that is zero throughout is returned as None."""

    def results(self) -> dict[str, Array]:
        return super().results() | {"d" + name: None for name, value in self.grad.items() if not value.any()}


@plant(CONTRACT, needs="B == 1")
class single_row_squeezed(Network):
    """With B = 1 the batch axis of dh0 is squeezed away."""

    def results(self) -> dict[str, Array]:
        return super().results() | {"dh0": self.dh0[0] if self.B == 1 else self.dh0}
