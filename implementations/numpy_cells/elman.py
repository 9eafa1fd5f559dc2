"""The Elman cell in NumPy.

    a_t = x_t W_xh + h_{t-1} W_hh + b_h                           (1)
    h_t = phi(a_t)         phi: tanh, sigmoid, relu, identity      (2)

    delta_t = dh_t * phi'(a_t)                                    (3)
    dW_xh += x_t^T delta_t    dW_hh += h_{t-1}^T delta_t    db_h += sum over rows of delta_t     (4)
    dx_t = delta_t W_xh^T     dh_{t-1} = delta_t W_hh^T           (5)

Products * are entrywise, X^T is a transpose, and += adds over the steps that a sweep visits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from implementations.numpy_cells import Array, Arrays, Named, Step, sigmoid

Entrywise = Callable[..., Array]

# phi(a), and next to it dh * phi'(a) from h = phi(a).
_ACTIVATIONS: dict[str, tuple[Entrywise, Entrywise]] = {
    "tanh": (np.tanh, lambda dh, h: dh * (1 - h * h)),
    "sigmoid": (sigmoid, lambda dh, h: dh * (h * (1 - h))),
    "relu": (lambda a: np.maximum(a, 0), lambda dh, h: np.where(h > 0, dh, 0)),  # relu'(0) = 0
    "identity": (lambda a: a, lambda dh, _: dh),
}


@dataclass(frozen=True)
class Elman:
    """An Elman cell with its activation."""

    activation: str
    states: ClassVar[tuple[str, ...]] = ("h",)

    def __post_init__(self) -> None:
        """Refuse an activation that is not in the table."""
        if self.activation not in _ACTIVATIONS:
            message = f"activation {self.activation!r}; known: {', '.join(_ACTIVATIONS)}"
            raise NotImplementedError(message)

    def forward(self, params: Named, x: Array, prev: Arrays) -> tuple[Arrays, Arrays]:
        """One step: x (B,D), prev h (B,H) -> h (B,H)."""
        (h_prev,) = prev
        a = x @ params["W_xh"] + h_prev @ params["W_hh"] + params["b_h"]  # (B,H)  (1)
        phi, _ = _ACTIVATIONS[self.activation]
        return (phi(a),), ()  # (2)

    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        """Pull dh (B,H) back -> dx (B,D), dh_prev (B,H)."""
        (h_prev,), (h,), (dh,) = step.prev, step.now, dnow
        _, times_slope = _ACTIVATIONS[self.activation]
        delta = times_slope(dh, h)  # (B,H)  (3)
        grads["dW_xh"] += step.x.T @ delta  # (4)
        grads["dW_hh"] += h_prev.T @ delta
        grads["db_h"] += delta.sum(axis=0)
        return delta @ params["W_xh"].T, (delta @ params["W_hh"].T,)  # (5)
