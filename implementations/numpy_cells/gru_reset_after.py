"""The GRU cell that resets after the product with W_hn, in NumPy, gates in the order r, z, n.

    u = x_t W_x + b_x        v = h_{t-1} W_h + b_h              (B,3H) each, with parts r, z, n   (1)
    r = sigma(u_r + v_r)     z = sigma(u_z + v_z)     n = tanh(u_n + r * v_n)                     (2)
    h_t = (1-z) * n + z * h_{t-1}                                                                 (3)

    delta_n = dh_t * (1-z) * (1-n^2)                                                              (4)
    delta_z = dh_t * (h_{t-1} - n) * z(1-z)        delta_r = delta_n * v_n * r(1-r)               (5)
    du = [delta_r   delta_z   delta_n]             dv = [delta_r   delta_z   delta_n * r]         (6)
    dW_x += x_t^T du    db_x += sum over rows of du    dW_h += h_{t-1}^T dv    db_h += sum over rows of dv   (7)
    dx_t = du W_x^T          dh_{t-1} = dh_t * z + dv W_h^T                                       (8)

Products * are entrywise, X^T is a transpose, and += adds over the steps that a sweep visits.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from implementations.numpy_cells import Array, Arrays, Named, Step, sigmoid


@dataclass(frozen=True)
class GruResetAfter:
    """A GRU cell with r outside the recurrent product of n, as in cuDNN."""

    states: ClassVar[tuple[str, ...]] = ("h",)

    def forward(self, params: Named, x: Array, prev: Arrays) -> tuple[Arrays, Arrays]:
        """One step: x (B,D), prev h (B,H) -> h (B,H)."""
        (h_prev,) = prev
        u_r, u_z, u_n = np.split(x @ params["W_x"] + params["b_x"], 3, axis=1)  # (B,H)  (1)
        v_r, v_z, v_n = np.split(h_prev @ params["W_h"] + params["b_h"], 3, axis=1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (2)
        n = np.tanh(u_n + r * v_n)
        return ((1 - z) * n + z * h_prev,), (r, z, n, v_n)  # (3)

    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        """Pull dh (B,H) back -> dx (B,D), dh_prev (B,H)."""
        (h_prev,), (dh,) = step.prev, dnow
        r, z, n, v_n = step.gates
        delta_n = dh * (1 - z) * (1 - n * n)  # (4)
        delta_z = dh * (h_prev - n) * z * (1 - z)  # (5)
        delta_r = delta_n * v_n * r * (1 - r)
        du = np.hstack([delta_r, delta_z, delta_n])  # (B,3H)  (6)
        dv = np.hstack([delta_r, delta_z, delta_n * r])
        grads["dW_x"] += step.x.T @ du  # (7)
        grads["db_x"] += du.sum(axis=0)
        grads["dW_h"] += h_prev.T @ dv
        grads["db_h"] += dv.sum(axis=0)
        return du @ params["W_x"].T, (dh * z + dv @ params["W_h"].T,)  # (8)
