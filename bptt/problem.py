"""A BPTT problem: everything that determines a loss and its gradients, exactly; it validates itself.

Shapes: x (T,B,D), h0 and c0 (B,H), lengths (B,), o (T,B,K); row vectors. K = H where there is no readout.
All floating arrays are in `dtype`; bfloat16, which NumPy lacks, is kept as float32 arrays that hold bfloat16 values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.cells.base import Cell
from bptt.errors import ProblemError, ShapeError
from bptt.truncation import Truncation

Array = NDArray[Any]
DTYPES: dict[str, np.dtype[Any]] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.float32),
}
SIGNIFICAND = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
NARROW = ("float16", "bfloat16")
"""Formats of so few bits that a correct result may be off by a large part of itself after a few operations."""
READOUTS = ("none", "linear")
LOSSES = ("cotangent", "squared_error", "cross_entropy")
REDUCTIONS = ("sum", "mean", "tokens")
MAX_ENTRIES = 1 << 27


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss over outputs o (T,B,K) and, for `cotangent`, the final states; reductions as in the field's usual sense.

    cotangent      L = sum <g_t, o_t> + <g_h_final, h_final> + <g_c_final, c_final>; reductions are `sum`
    squared_error  L_t = scale sum (o - target)^2, scale 1 or 0.5
    cross_entropy  L_t = -sum_k target_k log softmax(o)_k, target class indices (T,B) or probabilities (T,B,K)
    """

    kind: str
    g: Array | None = None
    g_h_final: Array | None = None
    g_c_final: Array | None = None
    target: Array | None = None
    scale: float | None = None
    time_reduction: str = "sum"
    batch_reduction: str = "sum"


@dataclass(frozen=True, eq=False)
class Problem:
    """One BPTT problem. Building one checks it.

    Raises: ShapeError naming the array, its shape and the expected one; ProblemError naming the field and its value.
    """

    cell: str
    params: dict[str, Array]
    x: Array
    loss: Loss
    h0: Array | None = None
    c0: Array | None = None
    activation: str | None = None
    readout: str = "none"
    lengths: NDArray[np.int64] | None = None
    truncation: Truncation = field(default_factory=Truncation)
    dtype: str = "float64"

    def __post_init__(self) -> None:
        from bptt.validation import validate

        validate(self)

    @property
    def spec(self) -> Cell:
        """The cell's equations."""
        return CELLS[self.cell]

    @property
    def T(self) -> int:
        return int(self.x.shape[0])

    @property
    def B(self) -> int:
        return int(self.x.shape[1])

    @property
    def D(self) -> int:
        return int(self.x.shape[2])

    @property
    def H(self) -> int:
        return int(self.params["W_hh" if self.cell == "elman" else "W_h"].shape[0])

    @property
    def K(self) -> int:
        return int(self.params["W_hy"].shape[1]) if self.readout == "linear" else self.H

    @property
    def row_lengths(self) -> NDArray[np.int64]:
        """(B,): each row's length, T where `lengths` is None."""
        return np.full(self.B, self.T, dtype=np.int64) if self.lengths is None else self.lengths

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape, for the cell and the readout, in the documented order."""
        shapes = self.spec.shapes(self.D, self.H)
        if self.readout == "linear":
            shapes |= {"W_hy": (self.H, self.K), "b_y": (self.K,)}
        return shapes

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Every array that is there, by its dotted name: params.W_hh, x, h0, lengths, loss.g, ..."""
        for name in self.parameter_shapes():
            yield f"params.{name}", self.params[name]
        for name in ("x", "h0", "c0", "lengths"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)
        for name in ("g", "g_h_final", "g_c_final", "target"):
            if getattr(self.loss, name) is not None:
                yield f"loss.{name}", getattr(self.loss, name)


def gradient_shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    """Every key that a full answer has, with its shape: loss, states, o, and d + name for each array with a gradient.

    >>> import numpy as np
    >>> p = Problem("elman", {"W_xh": np.ones((2, 1)), "W_hh": np.ones((1, 1)), "b_h": np.ones(1)}, np.ones((3, 1, 2)),
    ...             Loss("cotangent", g=np.ones((3, 1, 1))), h0=np.ones((1, 1)), activation="tanh")
    >>> gradient_shapes(p)["dx"], list(gradient_shapes(p))
    ((3, 1, 2), ['loss', 'h', 'o', 'dW_xh', 'dW_hh', 'db_h', 'dx', 'dh0'])
    """
    T, B, D, H, K = problem.T, problem.B, problem.D, problem.H, problem.K
    shapes: dict[str, tuple[int, ...]] = {"loss": ()}
    shapes |= dict.fromkeys(problem.spec.states, (T, B, H))
    shapes["o"] = (T, B, K)
    shapes |= {f"d{name}": shape for name, shape in problem.parameter_shapes().items()}
    shapes["dx"] = (T, B, D)
    shapes |= {f"d{state}0": (B, H) for state in problem.spec.states}
    return shapes


__all__ = [
    "DTYPES",
    "LOSSES",
    "NARROW",
    "READOUTS",
    "REDUCTIONS",
    "SIGNIFICAND",
    "Loss",
    "Problem",
    "ProblemError",
    "ShapeError",
]
