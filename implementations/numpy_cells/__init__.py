"""The cells in NumPy, one a file: each class has a forward step and, next to it, the backward step.

A cell is used by `implementations.numpy_bptt` and knows nothing of losses, lengths or truncation:

    now, gates = cell.forward(params, x, prev)               one step; `gates` is what backward needs again
    dx, dprev = cell.backward(params, step, dnow, grads)     adds to grads["dW_..."]; dnow = dL/d(now)

States are tuples, (h,) or (h, c), of arrays (B,H); x is (B,D). All arithmetic is in the dtype of the arrays.
"""

from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Named = dict[str, Array]


class Step(NamedTuple):
    """What forward saw and computed at one step: x (B,D), prev and now (B,H) each, gates (B,H) each."""

    x: Array
    prev: Arrays
    now: Arrays
    gates: Arrays

    def rows(self, chosen: npt.NDArray[np.bool_]) -> "Step":
        """Return the same step for the chosen rows of the batch only."""
        if chosen.all():
            return self
        return Step(self.x[chosen], pick(self.prev, chosen), pick(self.now, chosen), pick(self.gates, chosen))


class Cell(Protocol):
    """What `numpy_bptt` asks of a cell."""

    states: ClassVar[tuple[str, ...]]

    def forward(self, params: Named, x: Array, prev: Arrays) -> tuple[Arrays, Arrays]:
        """One step: x (B,D), prev (B,H) each -> now (B,H) each, gates (B,H) each."""

    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        """Pull dnow (B,H) each back through a step -> dx (B,D), dprev (B,H) each; add the weights' part to grads."""


def pick(arrays: Arrays, chosen: npt.NDArray[np.bool_]) -> Arrays:
    """Return the chosen rows of each array."""
    return tuple(a[chosen] for a in arrays)


def sigmoid(a: Array) -> Array:
    """Compute 1 / (1 + exp(-a)), entrywise: exp of nothing positive, and relative accuracy in both tails."""
    e = np.exp(-np.abs(a))
    result: Array = np.where(a >= 0, np.ones_like(e), e) / (1 + e)
    return result
