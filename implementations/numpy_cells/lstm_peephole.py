"""The LSTM cell with peepholes in NumPy, gates in the order i, f, g, o.

    [a_i a_f a_g a_o] = x_t W_x + h_{t-1} W_h + b                                       (1)
    i = sigma(a_i + p_i * c_{t-1})    f = sigma(a_f + p_f * c_{t-1})    g = tanh(a_g)   (2)
    c_t = f * c_{t-1} + i * g                                                           (3)
    o = sigma(a_o + p_o * c_t)        h_t = o * tanh(c_t)                               (4)

    delta_o = dh_t * tanh(c_t) * o(1-o)                                                 (5)
    dc = dc_t + dh_t * o * (1 - tanh(c_t)^2) + delta_o * p_o                            (6)
    delta_i, delta_f, delta_g = dc * g * i(1-i), dc * c_{t-1} * f(1-f), dc * i * (1-g^2)     (7)
    dW_x += x_t^T delta_t    dW_h += h_{t-1}^T delta_t    db += sum over rows of delta_t     (8)
    dp_i, dp_f, dp_o += sums over rows of delta_i * c_{t-1}, delta_f * c_{t-1}, delta_o * c_t     (9)
    dx_t = delta_t W_x^T     dh_{t-1} = delta_t W_h^T                                   (10)
    dc_{t-1} = dc * f + delta_i * p_i + delta_f * p_f                                   (11)

Products * are entrywise, X^T is a transpose, and += adds over the steps that a sweep visits.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from implementations.numpy_cells import Array, Arrays, Named, Step, sigmoid


@dataclass(frozen=True)
class LstmPeephole:
    """An LSTM cell whose gates see the cell state: i and f the previous one, o the new one."""

    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def forward(self, params: Named, x: Array, prev: Arrays) -> tuple[Arrays, Arrays]:
        """One step: x (B,D), prev h and c (B,H) -> h and c (B,H)."""
        h_prev, c_prev = prev
        a_i, a_f, a_g, a_o = np.split(x @ params["W_x"] + h_prev @ params["W_h"] + params["b"], 4, axis=1)  # (B,H)  (1)
        i = sigmoid(a_i + params["p_i"] * c_prev)  # (2)
        f = sigmoid(a_f + params["p_f"] * c_prev)
        g = np.tanh(a_g)
        c = f * c_prev + i * g  # (3)
        o = sigmoid(a_o + params["p_o"] * c)  # (4)
        tanh_c = np.tanh(c)
        return (o * tanh_c, c), (i, f, g, o, tanh_c)

    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        """Pull dh and dc (B,H) back -> dx (B,D), dh_prev and dc_prev (B,H)."""
        (h_prev, c_prev), (_, c), (dh, dc) = step.prev, step.now, dnow
        i, f, g, o, tanh_c = step.gates
        delta_o = dh * tanh_c * o * (1 - o)  # (5)
        dc = dc + dh * o * (1 - tanh_c * tanh_c) + delta_o * params["p_o"]  # (6)
        delta_i, delta_f, delta_g = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g * g)  # (7)
        delta = np.hstack([delta_i, delta_f, delta_g, delta_o])  # (B,4H)
        grads["dW_x"] += step.x.T @ delta  # (8)
        grads["dW_h"] += h_prev.T @ delta
        grads["db"] += delta.sum(axis=0)
        grads["dp_i"] += (delta_i * c_prev).sum(axis=0)  # (9)
        grads["dp_f"] += (delta_f * c_prev).sum(axis=0)
        grads["dp_o"] += (delta_o * c).sum(axis=0)
        dc_prev = dc * f + delta_i * params["p_i"] + delta_f * params["p_f"]  # (11)
        return delta @ params["W_x"].T, (delta @ params["W_h"].T, dc_prev)  # (10)
