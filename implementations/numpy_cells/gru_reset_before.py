"""The GRU cell that resets the state before the product with W_hn, in NumPy, gates in the order r, z, n.

    [r z] = sigma(x_t W_x + h_{t-1} W_h + b)    the first 2H columns                    (1)
    q = r * h_{t-1}                                                                     (2)
    n = tanh(x_t W_xn + q W_hn + b_n)           the last H columns                      (3)
    h_t = (1-z) * n + z * h_{t-1}                                                       (4)

    delta_n = dh_t * (1-z) * (1-n^2)            dq = delta_n W_hn^T                     (5)
    delta_z = dh_t * (h_{t-1} - n) * z(1-z)     delta_r = dq * h_{t-1} * r(1-r)         (6)
    delta_t = [delta_r   delta_z   delta_n]     dW_x += x_t^T delta_t     db += sum over rows of delta_t     (7)
    dW_h += [h_{t-1}^T [delta_r delta_z]    q^T delta_n]                                (8)
    dx_t = delta_t W_x^T    dh_{t-1} = dh_t * z + dq * r + [delta_r delta_z] [W_hr W_hz]^T     (9)

Products * are entrywise, X^T is a transpose, and += adds over the steps that a sweep visits.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from implementations.numpy_cells import Array, Arrays, Named, Step, sigmoid


@dataclass(frozen=True)
class GruResetBefore:
    """A GRU cell with r inside the recurrent product of n."""

    states: ClassVar[tuple[str, ...]] = ("h",)

    def forward(self, params: Named, x: Array, prev: Arrays) -> tuple[Arrays, Arrays]:
        """One step: x (B,D), prev h (B,H) -> h (B,H)."""
        (h_prev,) = prev
        W_hrz, W_hn = np.split(params["W_h"], [2 * h_prev.shape[1]], axis=1)  # (H,2H), (H,H)
        u_r, u_z, u_n = np.split(x @ params["W_x"] + params["b"], 3, axis=1)  # (B,H)
        v_r, v_z = np.split(h_prev @ W_hrz, 2, axis=1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (1)
        q = r * h_prev  # (2)
        n = np.tanh(u_n + q @ W_hn)  # (3)
        return ((1 - z) * n + z * h_prev,), (r, z, n, q)  # (4)

    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        """Pull dh (B,H) back -> dx (B,D), dh_prev (B,H)."""
        (h_prev,), (dh,) = step.prev, dnow
        r, z, n, q = step.gates
        W_hrz, W_hn = np.split(params["W_h"], [2 * h_prev.shape[1]], axis=1)  # (H,2H), (H,H)
        delta_n = dh * (1 - z) * (1 - n * n)  # (5)
        dq = delta_n @ W_hn.T
        delta_z = dh * (h_prev - n) * z * (1 - z)  # (6)
        delta_r = dq * h_prev * r * (1 - r)
        delta_rz = np.hstack([delta_r, delta_z])  # (B,2H)
        delta = np.hstack([delta_rz, delta_n])  # (B,3H)  (7)
        grads["dW_x"] += step.x.T @ delta
        grads["db"] += delta.sum(axis=0)
        grads["dW_h"] += np.hstack([h_prev.T @ delta_rz, q.T @ delta_n])  # (8)
        return delta @ params["W_x"].T, (dh * z + dq * r + delta_rz @ W_hrz.T,)  # (9)
