"""A second table of planted bugs, written before the diagnosis was taught the mistakes of `blind.py`.

The form is that of `blind.py`: a class overrides one small piece, and its docstring is the mistake in one sentence.
"""
# ruff: noqa: N801 - the class has the name that the adapter is called by

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import blind
import numpy as np
from blind import (
    CLIPPED,
    DERIVATIVE,
    ELMAN,
    FORGETFUL,
    FORWARD,
    GATES,
    GRUS,
    LSTM_1997,
    LSTMS,
    PADDING,
    PEEPHOLE,
    PRECISION,
    SCALED,
    STATE,
    SUPPORTS,
    TAIL,
    TERMS,
    TRANSPOSED,
    TRUNCATION,
    Planted,
)
from blind_base import Array, Gru, Lstm, Lstm1997, LstmPeephole, Network

__all__ = ["PLANTED", "SUPPORTS", "Planted"]

PLANTED: dict[str, Planted] = {}
plant = partial(blind.plant, table=PLANTED)
BIASES = ("b", "b_h", "b_x")


@plant(TERMS, needs="T > 1")
class input_gradient_one_step_late(Network):
    """dx_s is written where dx_{s+1} belongs, and that of step T is lost."""

    def add_x(self, s: int, value: Array) -> None:
        if s < self.T:
            super().add_x(s + 1, value)


@plant(TERMS, (*ELMAN, *LSTMS), "B > 1")
class bias_from_the_first_row(Network):
    """The gradient of the cell's bias takes the first row of the batch and not the sum over the rows."""

    def spread(self, s: int, tape: SimpleNamespace, da: Array) -> Array:
        self.grad[self.bias_name] += da[0] - da.sum(axis=0)
        return super().spread(s, tape, da)


@plant(TERMS, needs="T > 1")
class recurrent_weight_without_last_step(Network):
    """The recurrent weights' gradient sums over the steps 1 to T−1 and leaves out step T."""

    def add(self, name: str, s: int, value: Array) -> None:
        if not (name == self.recurrent_name and s == self.T):
            super().add(name, s, value)


@plant(TRUNCATION, needs="window(k), k < T")
class window_at_the_end_of_the_row(Network):
    """window(k) is one pass over the last k steps of each row, whatever the loss's own step."""

    def window_sweeps(self) -> Iterator[tuple[range, Array]]:
        yield range(1, self.T + 1), self.lengths - self.truncation.k


@plant(TRUNCATION, needs="chunk(k), k < T")
class chunk_borders_feed_the_initial_state(Network):
    """Under chunk dh0 and dc0 sum what arrives at the start of every chunk, not of the first alone."""

    def sweep(self, losses: range, cut: Array) -> None:
        if self.truncation.kind != "chunk":
            super().sweep(losses, cut)
            return
        dh = np.zeros((self.B, self.H), self.dtype)
        dc = np.zeros_like(dh)
        for s in reversed(losses):
            g_h, g_c = self.injection(s)
            on = self.active[s - 1][:, None]
            dh, dc = np.where(on, dh + g_h, 0), np.where(on, dc + g_c, 0)
            dh, dc = self.step_back(s, self.tapes[s - 1], dh, dc)
        self.add_initial(dh, dc)


@plant(TRUNCATION, needs="periodic(k1,k2), k1 < k2")
class periodic_arguments_exchanged(Network):
    """periodic(k1,k2) is run every k2 steps over the last k1."""

    def periodic_sweeps(self) -> Iterator[tuple[range, Array]]:
        for block in self.blocks(self.truncation.k2):
            last = self.truncation.k2 * -(-block[0] // self.truncation.k2)
            yield block, np.minimum(self.lengths, last) - self.truncation.k1


@plant(TRUNCATION, LSTM_1997, "cec")
class cec_detaches_the_input_too(Lstm1997):
    """Under cec the inputs are detached along with h₋, so that dx is zero."""

    def carry_x(self, da: Array) -> Array:
        carried = super().carry_x(da)
        return np.zeros_like(carried) if self.truncation.kind == "cec" else carried


@plant(SCALED, needs="mean over the batch, B > 1")
class batch_mean_taken_twice(Network):
    """The gradient of a mean over the batch divides by B twice, the loss once."""

    def gradient_divisors(self) -> Array:
        twice = self.loss.time_reduction != "tokens" and self.loss.batch_reduction == "mean"
        return self.divisors() * (self.batch_divisor() if twice else 1)


@plant(SCALED, needs="linear readout, T > 1")
class readout_bias_averaged_over_time(Network):
    """The gradient of b_y is averaged over the T steps and not summed."""

    def add(self, name: str, s: int, value: Array) -> None:
        super().add(name, s, value / self.T if name == "b_y" else value)


@plant(TRANSPOSED, FORGETFUL, "H > 1")
class lstm_forget_block_not_transposed(Lstm):
    """The forget gate's gradient goes back to h₋ through its block of W_h untransposed, the others' are right."""

    def carry(self, da: Array) -> Array:
        block, da_f = self.split(self.params["W_h"])[1], self.split(da)[1]
        return super().carry(da) + da_f @ (block - block.T)


@plant(GATES, GRUS)
class gru_input_weight_columns_r_n_z(Gru):
    """The columns of dW_x alone are in the order r, n, z."""

    def add(self, name: str, s: int, value: Array) -> None:
        if name == "W_x":
            r, z, n = self.split(value)
            value = self.join(r, n, z)
        super().add(name, s, value)


@plant(DERIVATIVE, LSTMS)
class lstm_input_gate_meets_itself(Lstm):
    """The input gate's gradient multiplies by i where g belongs."""

    def input_gate_back(self, tape: SimpleNamespace, dc: Array) -> Array:
        return dc * tape.i * self.sigmoid_slope(tape.i)


@plant(DERIVATIVE, GRUS)
class gru_update_gate_slope_missing(Gru):
    """The update gate's gradient leaves out the derivative of the sigmoid."""

    def update_gate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return dh * (tape.h_prev - tape.n)


@plant(DERIVATIVE, FORGETFUL)
class lstm_cell_carried_through_input_gate(Lstm):
    """The gradient along c is multiplied by i where f belongs."""

    def gates_back(self, tape: SimpleNamespace, dh: Array, dc: Array) -> tuple[Array, Array]:
        da, dc_prev = super().gates_back(tape, dh, dc)
        da_o = self.output_gate_back(tape, dh)
        arrived = dc + self.cell_back(tape, dh) + self.output_peephole_back(da_o)[0]
        return da, dc_prev + arrived * (tape.i - tape.f)


@plant(DERIVATIVE, PEEPHOLE)
class peephole_of_input_meets_new_cell(LstmPeephole):
    """The gradient of p_i multiplies by c where c₋ belongs."""

    def peephole_inputs(self, tape: SimpleNamespace) -> dict[str, Array]:
        return super().peephole_inputs(tape) | {"p_i": tape.c}


@plant(DERIVATIVE, GRUS)
class gru_candidate_through_z(Gru):
    """The candidate's gradient is multiplied by z where 1−z belongs, while the forward is right."""

    def candidate_back(self, tape: SimpleNamespace, dh: Array) -> Array:
        return dh * tape.z * self.tanh_slope(tape.n)


@plant(PADDING, needs="a row of length 0")
class empty_rows_take_one_step(Network):
    """A row of length 0 is taken for one of length 1, in forward, loss and gradient alike."""

    def read_lengths(self, problem: Any) -> Array:
        return np.maximum(super().read_lengths(problem), 1)


@plant(STATE, LSTMS)
class initial_states_exchanged(Lstm):
    """h0 is read as the initial c, and c0 as the initial h."""

    def initial_state(self) -> tuple[Array, Array]:
        h0, c0 = super().initial_state()
        return c0, h0


@plant(STATE, needs="final cotangent of h")
class final_cotangent_sent_twice(Network):
    """The final cotangent of h enters the way back twice."""

    def final_injection(self, s: int) -> tuple[Array, Array]:
        g_h, g_c = super().final_injection(s)
        return 2 * g_h, g_c


@plant(CLIPPED)
class weight_gradients_clipped_by_value(Network):
    """Every entry of the parameters' gradients is clipped to [−1, 1]."""

    def results(self) -> dict[str, Array]:
        self.grad = {name: np.clip(value, -1, 1) for name, value in self.grad.items()}
        return super().results()


@plant(TAIL, needs="H above 8 and no multiple of 8")
class bias_units_beyond_the_vector_lost(Network):
    """The cell's bias gradients are summed in vectors of 8 entries, and a remainder beyond the first stays zero."""

    def results(self) -> dict[str, Array]:
        for name in BIASES:
            if name in self.grad:
                width = self.grad[name].size
                if width > 8:
                    self.grad[name][width - width % 8 :] = 0
        return super().results()


@plant(PRECISION, needs="float64")
class slope_of_tanh_in_single(Network):
    """The derivative of tanh is computed in float32."""

    def tanh_slope(self, y: Array) -> Array:
        y = y.astype(np.float32)
        return (1 - y * y).astype(self.dtype)


@plant(PRECISION)
class saved_states_in_half(Network):
    """The states h₋ that the recurrent weights' gradient multiplies by were saved in float16."""

    def recurrent_input(self, tape: SimpleNamespace) -> Array:
        return tape.h_prev.astype(np.float16).astype(self.dtype)


@plant(FORWARD, LSTMS)
class lstm_bias_added_twice(Lstm):
    """The bias is added to the pre-activations twice, as by a layer with two biases, and db is the gradient of one."""

    def split(self, a: Array) -> list[Array]:
        backward = hasattr(self, "grad")
        return super().split(a if backward else a + self.params["b"])
