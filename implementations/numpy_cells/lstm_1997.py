"""The LSTM cell without a forget gate in NumPy, gates in the order i, g, o.

    [a_i a_g a_o] = x_t W_x + h_{t-1} W_h + b                                           (1)
    i, o = sigma(a_i), sigma(a_o)    g = tanh(a_g)                                      (2)
    c_t = c_{t-1} + i * g            h_t = o * tanh(c_t)                                (3)

    dc = dc_t + dh_t * o * (1 - tanh(c_t)^2)                                            (4)
    delta_t = [dc g i(1-i)   dc i (1-g^2)   dh_t tanh(c_t) o(1-o)]                      (5)
    dW_x += x_t^T delta_t    dW_h += h_{t-1}^T delta_t    db += sum over rows of delta_t     (6)
    dx_t = delta_t W_x^T     dh_{t-1} = delta_t W_h^T     dc_{t-1} = dc                 (7)

The constant error carousel (truncation `cec`) takes h_{t-1} in (1) for a constant: dh_{t-1} = 0                 (8)

Products * are entrywise, X^T is a transpose, and += adds over the steps that a sweep visits.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from implementations.numpy_cells import Array, Arrays, Named, Step, sigmoid


@dataclass(frozen=True)
class Lstm1997:
    """An LSTM cell that never forgets; with `cec`, errors travel along c alone."""

    cec: bool
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def forward(self, params: Named, x: Array, prev: Arrays) -> tuple[Arrays, Arrays]:
        """One step: x (B,D), prev h and c (B,H) -> h and c (B,H)."""
        h_prev, c_prev = prev
        a_i, a_g, a_o = np.split(x @ params["W_x"] + h_prev @ params["W_h"] + params["b"], 3, axis=1)  # (B,H)  (1)
        i, g, o = sigmoid(a_i), np.tanh(a_g), sigmoid(a_o)  # (2)
        c = c_prev + i * g  # (3)
        tanh_c = np.tanh(c)
        return (o * tanh_c, c), (i, g, o, tanh_c)

    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        """Pull dh and dc (B,H) back -> dx (B,D), dh_prev and dc_prev (B,H)."""
        (h_prev, _), (dh, dc) = step.prev, dnow
        i, g, o, tanh_c = step.gates
        dc = dc + dh * o * (1 - tanh_c * tanh_c)  # (4)
        delta = np.hstack([dc * g * i * (1 - i), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)])  # (B,3H)  (5)
        grads["dW_x"] += step.x.T @ delta  # (6)
        grads["dW_h"] += h_prev.T @ delta
        grads["db"] += delta.sum(axis=0)
        dh_prev = np.zeros_like(dh) if self.cec else delta @ params["W_h"].T  # (8), (7)
        return delta @ params["W_x"].T, (dh_prev, dc)
