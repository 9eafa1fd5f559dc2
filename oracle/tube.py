"""A problem whose arrays are balls: its states, outputs and gradients, enclosed over all numbers within them.

    f(w) in F(W) for every w in W                                                                                  (1)

F is the oracle's own code in ball arithmetic, begun with balls instead of the points that the arrays' floats are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from bptt.problem import Problem
from oracle.ball_numbers import BallNumbers
from oracle.numbers import Matrix, Scalar
from oracle.reverse import reverse_gradients
from oracle.unrolled import Unrolled, unroll

Floats = NDArray[np.float64]
Balls = list[Scalar]
"""An array's entries as balls, in C order."""


class TubeNumbers(BallNumbers):
    """Balls, where some arrays, by their identity, stand for the balls given instead of the floats that they hold."""

    def __init__(self, prec: int, given: Mapping[int, Balls]) -> None:
        super().__init__(prec)
        self.given = given

    def decode(self, array: NDArray[Any]) -> Matrix:
        if id(array) not in self.given:
            return super().decode(array)
        cols = array.shape[-1] if array.ndim else 1
        return Matrix(array.size // cols, cols, list(self.given[id(array)]))


def _unrolled(problem: Problem, balls: Mapping[str, Balls], prec: int) -> Unrolled:
    """The network over the balls of some of its arrays: parameters by name, x, h0, c0, and g of the loss."""
    params = {name: np.array(array) for name, array in problem.params.items()}  # fresh arrays, so that ids are theirs
    fresh: dict[str, Any] = {name: np.array(getattr(problem, name)) for name in ("x", "h0", "c0") if name in balls}
    loss = replace(problem.loss, g=np.array(problem.loss.g)) if "g" in balls else problem.loss
    own = replace(problem, params=params, loss=loss, **fresh)
    arrays: dict[str, Any] = {**params, **fresh, "g": loss.g}
    return unroll(own, TubeNumbers(prec, {id(arrays[name]): values for name, values in balls.items()}))


def values_over(problem: Problem, balls: Mapping[str, Balls], prec: int) -> dict[str, Balls]:
    """(1) for the states and outputs of the last step: h, c where there is one, o; (B,.) each. Within `scope`.

    Raises: Undecided where a ball straddles a relu's kink.

    >>> from bptt.problem import Loss
    >>> one, N = np.ones((1, 1)), BallNumbers(64)
    >>> p = Problem("elman", {"W_xh": one, "W_hh": one, "b_h": one[0]}, one[None], Loss("cotangent", g=one[None]),
    ...             h0=one, activation="identity")
    >>> with N.scope():
    ...     values_over(p, {"h0": [arb(1, 0.5)]}, 64)["h"][0].contains(arb("3.4"))
    True
    """
    u = _unrolled(problem, balls, prec)
    B, T = problem.B, problem.T
    out = {name: u.states[name][T].data for name in problem.spec.states}
    return out | {"o": u.outputs.rows_from((T - 1) * B, B).data}


def gradients_over(problem: Problem, balls: Mapping[str, Balls], prec: int) -> dict[str, Balls]:
    """(1) for every gradient, by d + name. Within `scope`. Raises: Undecided.

    >>> from bptt.problem import Loss
    >>> one, N = np.ones((1, 1)), BallNumbers(64)
    >>> p = Problem("elman", {"W_xh": one, "W_hh": one, "b_h": one[0]}, one[None], Loss("cotangent", g=one[None]),
    ...             h0=one, activation="identity")
    >>> with N.scope():
    ...     gradients_over(p, {"h0": [arb(1, 0.5)]}, 64)["dW_hh"][0].contains(arb("1.4"))
    True
    """
    return {key: matrix.data for key, matrix in reverse_gradients(_unrolled(problem, balls, prec)).items()}


def widened(values: Balls, radii: Floats) -> Balls:
    """Each ball with so much added to its radius.

    >>> widened([arb(1)], np.array([0.5]))[0].contains(arb("1.4"))
    True
    """
    return [value + arb(0, float(r)) for value, r in zip(values, radii.reshape(-1), strict=True)]


def distance(one: Balls, other: Balls, shape: tuple[int, ...]) -> Floats:
    """Upper bounds of |a - b| over a in the one and b in the other ball; infinite where a ball says nothing.

    >>> bool(distance([arb(1, 0.5)], [arb(1)], (1,))[0] >= 0.5)
    True
    """
    ends = np.array([float((a - b).abs_upper()) for a, b in zip(one, other, strict=True)]).reshape(shape)
    bound: Floats = np.where(np.isnan(ends), np.inf, ends * (1 + 2.0**-50) + np.where(ends > 0, 5e-324, 0.0))
    return bound
