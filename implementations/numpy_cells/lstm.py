"""The LSTM cell in NumPy, gates in the order i, f, g, o.

    [a_i a_f a_g a_o] = x_t W_x + h_{t-1} W_h + b                                       (1)
    i, f, o = sigma(a_i), sigma(a_f), sigma(a_o)    g = tanh(a_g)                       (2)
    c_t = f * c_{t-1} + i * g       h_t = o * tanh(c_t)                                 (3)

    dc = dc_t + dh_t * o * (1 - tanh(c_t)^2)                                            (4)
    di, df, dg, do = dc * g, dc * c_{t-1}, dc * i, dh_t * tanh(c_t)                     (5)
    delta_t = [di i(1-i)   df f(1-f)   dg (1-g^2)   do o(1-o)]                          (6)
    dW_x += x_t^T delta_t    dW_h += h_{t-1}^T delta_t    db += sum over rows of delta_t     (7)
    dx_t = delta_t W_x^T     dh_{t-1} = delta_t W_h^T     dc_{t-1} = dc * f             (8)

Products * are entrywise, X^T is a transpose, and += adds over the steps that a sweep visits.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from implementations.numpy_cells import Array, Arrays, Named, Step, sigmoid


@dataclass(frozen=True)
class Lstm:
    """An LSTM cell with a forget gate and without peepholes."""

    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def forward(self, params: Named, x: Array, prev: Arrays) -> tuple[Arrays, Arrays]:
        """One step: x (B,D), prev h and c (B,H) -> h and c (B,H)."""
        h_prev, c_prev = prev
        a_i, a_f, a_g, a_o = np.split(x @ params["W_x"] + h_prev @ params["W_h"] + params["b"], 4, axis=1)  # (B,H)  (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c = f * c_prev + i * g  # (3)
        tanh_c = np.tanh(c)
        return (o * tanh_c, c), (i, f, g, o, tanh_c)

    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        """Pull dh and dc (B,H) back -> dx (B,D), dh_prev and dc_prev (B,H)."""
        (h_prev, c_prev), (dh, dc) = step.prev, dnow
        i, f, g, o, tanh_c = step.gates
        dc = dc + dh * o * (1 - tanh_c * tanh_c)  # (4)
        di, df, dg, do = dc * g, dc * c_prev, dc * i, dh * tanh_c  # (5)
        delta = np.hstack([di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)])  # (B,4H)  (6)
        grads["dW_x"] += step.x.T @ delta  # (7)
        grads["dW_h"] += h_prev.T @ delta
        grads["db"] += delta.sum(axis=0)
        return delta @ params["W_x"].T, (delta @ params["W_h"].T, dc * f)  # (8)
