"""Honest Elman implementations that differ in their last bits, or in what they return; each must be certified.

Each is usable as `tests/variants/elman.py:name`. `VARIANTS` says in a sentence what sets each one apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import SUPPORTS as OFFERED
from common import (
    Adapter,
    Array,
    At,
    Net,
    Phi,
    Pre,
    Results,
    Slope,
    activate,
    lanes,
    reverse,
    slope,
    solve,
)  # fmt: skip

SUPPORTS: dict[str, Any] = OFFERED | {"max_size": {"T": 64, "B": 16, "D": 40, "H": 40, "K": 40}}
VARIANTS: dict[str, str] = {}


def variant(sentence: str) -> Callable[[Adapter], Adapter]:
    """Enter an adapter in `VARIANTS`."""

    def register(adapter: Adapter) -> Adapter:
        VARIANTS[adapter.__name__] = adapter.__doc__ = sentence
        return adapter

    return register


# The order of sums


@variant("All (t,b) are stacked, and each weight gradient is one product.")
def stacked_products(problem: Any) -> Results:
    return solve(problem)


@variant("Weight gradients are summed from the first step to the last, against the order of the backward pass.")
def summed_forward_in_time(problem: Any) -> Results:
    def total(left: Array, right: Array) -> Array:
        found = np.zeros((left.shape[-1], right.shape[-1]), right.dtype)
        for left_t, right_t in zip(left, right, strict=True):
            found += left_t.T @ right_t
        return found

    return solve(problem, total=total)


@variant("Weight gradients are summed row by row of the batch, as outer products, from the last step to the first.")
def outer_products(problem: Any) -> Results:
    def total(left: Array, right: Array) -> Array:
        found = np.zeros((left.shape[-1], right.shape[-1]), right.dtype)
        for b in range(left.shape[1]):
            for t in reversed(range(left.shape[0])):
                found += np.outer(left[t, b], right[t, b])
        return found

    return solve(problem, total=total)


@variant("Weight gradients are compensated sums: the rounding error of each addition is caught and added at the end.")
def compensated_sums(problem: Any) -> Results:
    def total(left: Array, right: Array) -> Array:
        terms = (left[..., :, None] * right[..., None, :]).reshape(-1, left.shape[-1], right.shape[-1])
        found, lost = np.zeros_like(terms[0]), np.zeros_like(terms[0])
        for term in terms:
            larger = found + term
            lost += np.where(np.abs(found) >= np.abs(term), found - larger + term, term - larger + found)
            found = larger
        return np.asarray(found + lost)

    return solve(problem, total=total)


@variant("Weight gradients are summed by halves: pairwise over all (t,b).")
def pairwise_sums(problem: Any) -> Results:
    def total(left: Array, right: Array) -> Array:
        terms = (left[..., :, None] * right[..., None, :]).reshape(-1, left.shape[-1], right.shape[-1])
        while len(terms) > 1:
            half, odd = len(terms) // 2, terms[len(terms) // 2 * 2 :]
            terms = np.concatenate([terms[:half] + terms[half : 2 * half], odd])
        return np.asarray(terms[0])

    return solve(problem, total=total)


# The algebra


@variant("tanh' is (1 - h)(1 + h).")
def factored_derivatives(problem: Any) -> Results:
    def derivative(name: str, a: Array, h: Array) -> Array:
        return (1 - h) * (1 + h) if name == "tanh" else slope(name, a, h)

    return solve(problem, derivative=derivative)


@variant("The sigmoid is (1 + tanh(a/2)) / 2.")
def sigmoid_by_tanh(problem: Any) -> Results:
    def phi(name: str, a: Array) -> Array:
        return (1 + np.tanh(a / 2)) / 2 if name == "sigmoid" else activate(name, a)

    return solve(problem, phi=phi)


@variant("The pre-activation is one product of [x, h, 1] with the stacked weights.")
def stacked_inputs(problem: Any) -> Results:
    def pre(net: Net, x_t: Array, h_prev: Array) -> Array:
        joined = np.concatenate([x_t, h_prev, np.ones_like(x_t[:, :1])], axis=1)
        return np.asarray(joined @ np.concatenate([net.W_xh, net.W_hh, net.b_h[None]]))

    return solve(problem, pre=pre)


@variant("The recurrent part comes first, entry by entry without a matrix product, and the bias starts the sum.")
def recurrent_part_first(problem: Any) -> Results:
    def pre(net: Net, x_t: Array, h_prev: Array) -> Array:
        found = np.repeat(net.b_h[None], len(x_t), axis=0)
        for part, weights in ((h_prev, net.W_hh), (x_t, net.W_xh)):
            for i, row in enumerate(weights):
                found = found + part[:, i, None] * row
        return found

    return solve(problem, pre=pre)


# The road


@variant("States are not stored: the backward pass computes each anew from the last of the checkpoints before it.")
def recomputed_states(problem: Any) -> Results:
    def saved(net: Net, a: Array, h: Array, pre: Pre, phi: Phi) -> At:  # noqa: ARG001 - a is not looked at
        checkpoints = h[:-1:4].copy()

        def at(s: int) -> tuple[Array, Array]:
            h_t = checkpoints[s // 4]
            for t in range(s // 4 * 4, s + 1):
                a_t = pre(net, net.x[t], h_t)
                h_t = np.where((t < net.lengths)[:, None], phi(net.activation, a_t), h_t)
            return a_t, h_t

        return at

    return solve(problem, saved=saved)


@variant("Each row travels back on its own, cut to its length, so that no padding is ever met.")
def row_by_row(problem: Any) -> Results:
    def back(net: Net, at: At, dh_loss: Array, derivative: Slope) -> tuple[Array, Array]:
        delta, dh0 = np.zeros_like(dh_loss), np.zeros_like(net.h0)
        for b, n in enumerate(net.lengths):
            row = slice(b, b + 1)

            def of_row(s: int, row: slice = row) -> tuple[Array, Array]:
                a, h = at(s)
                return a[row], h[row]

            if n:
                alone = net._replace(h0=net.h0[row], mask=net.mask[:n, :n, row])
                delta[:n, row], dh0[row] = reverse(alone, of_row, dh_loss[:n, row], derivative)
        return delta, dh0

    return solve(problem, back=back)


@variant("The masked double sum itself: every pair (t,s) has its own term, and m(t,s) is a factor 0 or 1.")
def masked_double_sum(problem: Any) -> Results:
    def back(net: Net, at: At, dh_loss: Array, derivative: Slope) -> tuple[Array, Array]:
        slopes = [derivative(net.activation, *at(s)) for s in range(len(dh_loss))]
        delta, dh0 = np.zeros_like(dh_loss), np.zeros_like(net.h0)
        for t, g in enumerate(dh_loss):
            dh = g
            for s in range(t, -1, -1):
                delta[s] += net.mask[t, s][:, None] * (dh * slopes[s])
                dh = dh * slopes[s] @ net.W_hh.T
            dh0 += net.mask[t, 0][:, None] * dh
        return delta, dh0

    return solve(problem, back=back)


def tangent_sums(net: Net, at: At, dh_loss: Array, derivative: Slope) -> Results:
    """Return dh0, dx, dW_xh, dW_hh and db_h by carrying d h_s / d theta forward, lane by lane."""
    (T, B, D), H, kind = net.x.shape, len(net.b_h), net.x.dtype
    shapes = {"dh0": (H,), "dx": (T, D), "dW_xh": (D, H), "dW_hh": (H, H), "db_h": (H,)}
    sums = {name: np.zeros((B, *shape), kind) for name, shape in shapes.items()}
    unit, (lane, reach) = np.eye(H, dtype=kind), lanes(net.mask)
    for mine in range(len(reach)):
        tangent = {name: np.zeros((B, *shape, H), kind) for name, shape in shapes.items()}
        tangent["dh0"] += unit
        h_prev = net.h0
        for s in range(np.flatnonzero(lane == mine)[-1] + 1):
            a, h = at(s)
            live = reach[mine, s] & (s < net.lengths)
            factor = np.where(live[:, None], derivative(net.activation, a, h), kind.type(0))
            tangent = {name: value @ net.W_hh for name, value in tangent.items()}
            tangent["dx"][:, s] += net.W_xh
            tangent["dW_xh"] += net.x[s, :, :, None, None] * unit
            tangent["dW_hh"] += h_prev[:, :, None, None] * unit
            tangent["db_h"] += unit
            for name, value in tangent.items():
                np.multiply(value, factor.reshape(B, *(1,) * len(shapes[name]), H), out=value)
                if lane[s] == mine:
                    sums[name] += np.einsum("b...h,bh->b...", value, dh_loss[s])
            h_prev = h
    weights = {name: sums[name].sum(axis=0) for name in ("dW_xh", "dW_hh", "db_h")}
    return weights | {"dh0": sums["dh0"], "dx": sums["dx"].swapaxes(0, 1)}


@variant("Forward mode (real-time recurrent learning): d h_t / d theta is carried along, and nothing goes back.")
def forward_mode(problem: Any) -> Results:
    sums: Results = {}

    def back(net: Net, at: At, dh_loss: Array, derivative: Slope) -> tuple[Array, Array]:
        sums.update(tangent_sums(net, at, dh_loss, derivative))
        return np.zeros_like(dh_loss), sums.pop("dh0")

    return solve(problem, back=back) | sums


# Precision and form of the results


@variant("float32 problems are solved in float64, and float64 is returned.")
def float64_throughout(problem: Any) -> Results:
    return solve(problem, dtype="float64")


@variant("The longest float of the machine is used within, and its results are rounded to the problem's dtype.")
def extended_precision_within(problem: Any) -> Results:
    return {name: np.asarray(value).astype(problem.dtype) for name, value in solve(problem, dtype="longdouble").items()}


@variant("Arrays come in Fortran order.")
def fortran_order(problem: Any) -> Results:
    return {name: np.array(value, order="F") for name, value in solve(problem).items()}


@variant("Arrays come with negative strides and in the other byte order.")
def reversed_strides_and_bytes(problem: Any) -> Results:
    def turned(value: Any) -> Array:
        swapped = np.asarray(value).astype(np.dtype(problem.dtype).newbyteorder("S"))
        return np.flip(np.flip(swapped).copy())

    return {name: turned(value) for name, value in solve(problem).items()}


@variant("Arrays come as nested lists, and the loss as a Python float.")
def nested_lists(problem: Any) -> Results:
    return {name: np.asarray(value).tolist() for name, value in solve(problem).items()}


# Partial ones


@variant("The cross-entropy is declined with a reason, whatever the values.")
def without_cross_entropy(problem: Any) -> Results:
    if problem.loss.kind == "cross_entropy":
        reason = "this implementation has no softmax"
        raise NotImplementedError(reason)
    return solve(problem)


@variant("dx is not computed, and None stands in its place.")
def without_input_gradient(problem: Any) -> Results:
    return solve(problem) | {"dx": None}


@variant("Only the gradients are returned: neither states, nor outputs, nor the loss.")
def gradients_only(problem: Any) -> Results:
    return {name: value for name, value in solve(problem).items() if name.startswith("d")}
