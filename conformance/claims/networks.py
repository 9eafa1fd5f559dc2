"""Small networks for the claims: the oracle's answer to one, and the same by hand in plain rationals.

The hand's way shares no code with the oracle: a forward pass in Python's Fractions, and derivatives of polynomials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from conformance.claims.base import N, quarters
from oracle.jacobian import state_jacobian
from oracle.numbers import Numbers
from oracle.rational_numbers import RationalNumbers
from oracle.solution import is_rational, solve

Array = NDArray[Any]
ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid")


@dataclass(frozen=True)
class Neuron:
    """S1: y'_t = f(a + b x_t + c y'_{t-1}); the loss is the last output unless `g` has weights for all of them."""

    a: float
    b: float
    c: float
    x: tuple[float, ...]
    start: float
    f: str = "identity"

    def problem(self, truncation: Truncation | None = None, every: bool = False) -> Problem:
        """As a problem; `every`: the loss is the sum of all outputs."""
        T = len(self.x)
        g = np.ones((T, 1, 1)) if every else np.concatenate([np.zeros((T - 1, 1, 1)), np.ones((1, 1, 1))])
        params = {
            "W_xh": np.array([[float(self.b)]]),
            "W_hh": np.array([[float(self.c)]]),
            "b_h": np.array([float(self.a)]),
        }
        return Problem(
            "elman",
            params,
            np.array(self.x, dtype=np.float64).reshape(T, 1, 1),
            Loss("cotangent", g=g),
            h0=np.array([[float(self.start)]]),
            activation=self.f,
            truncation=truncation or Truncation(),
        )

    def outputs(self, **changed: Fraction) -> list[Fraction]:
        """By hand, for the identity and relu: y'_1 .. y'_T, with a, b or c changed."""
        a, b, c = (Fraction(changed.get(name, getattr(self, name))) for name in "abc")
        y, out = Fraction(self.start), []
        for x in self.x:
            y = a + b * Fraction(x) + c * y
            y = max(y, Fraction(0)) if self.f == "relu" else y
            out.append(y)
        return out

    def text(self) -> str:
        """Its numbers."""
        a, b, c, start = (Fraction(v) for v in (self.a, self.b, self.c, self.start))
        xs = ", ".join(str(Fraction(x)) for x in self.x)
        return f"f = {self.f}, a = {a}, b = {b}, c = {c}, x = ({xs}), ŷ_0 = {start}"


def draw_neuron(rng: np.random.Generator, longest: int = 6, shortest: int = 1, f: str | None = None) -> Neuron:
    """A neuron whose numbers are quarters."""
    T = int(rng.integers(shortest, longest + 1))
    name = f or ACTIVATIONS[int(rng.integers(4))]
    a, b, c, start = (float(v) for v in quarters(rng, 4))
    return Neuron(a, b, c, tuple(float(v) for v in quarters(rng, T)), start, name)


def numbers_for(problem: Problem) -> Numbers:
    """Rationals where they will do, else balls."""
    return RationalNumbers() if is_rational(problem) else N


def gradients(problem: Problem) -> dict[str, list[Any]]:
    """The oracle's values of a problem, each a flat list of rationals or balls."""
    return solve(problem, numbers_for(problem)).values


def elman(W: Any, x: Any, *, h0: Any = None, f: str = "identity", U: Any = None, b: Any = None) -> Problem:
    """A network of one row whose loss is the sum of the last state; inputs go straight to the units unless U is given.

    Shapes: W (H,H), x (T,D), h0 (H,), U (D,H), b (H,).
    """
    W, x = np.array(W, dtype=np.float64), np.array(x, dtype=np.float64)
    H, (T, D) = len(W), x.shape
    g = np.zeros((T, 1, H))
    g[-1] = 1.0
    params = {
        "W_xh": np.eye(D, H) if U is None else np.array(U, dtype=np.float64),
        "W_hh": W,
        "b_h": np.zeros(H) if b is None else np.array(b, dtype=np.float64),
    }
    start = np.zeros((1, H)) if h0 is None else np.array(h0, dtype=np.float64).reshape(1, H)
    return Problem("elman", params, x[:, None], Loss("cotangent", g=g), h0=start, activation=f)


def jacobian(problem: Problem, k: int, t: int) -> list[list[Any]]:
    """dh_t/dh_k of the only row, row i = d h_t / d h_k,i, in rationals or balls."""
    (J,) = state_jacobian(problem, numbers_for(problem), k, t)  # type: ignore[arg-type]
    return [J.row(i) for i in range(J.rows)]


def square_sum(J: Sequence[Sequence[Any]]) -> Any:
    """||J||_F^2, at least the square of the 2-norm, and equal to it for a matrix of rank one."""
    with N.scope():
        values = [v * v for row in J for v in row]
        return sum(values[1:], values[0])


def only_last(problem: Problem, kind: str, k: int) -> Problem:
    """The same problem under another truncation."""
    return replace(problem, truncation=Truncation(kind, k=k))


def slopes(f: str) -> Callable[[Any, Any], Any]:
    """f'(a), from a and f(a), by hand, in rationals or balls."""
    return {
        "identity": lambda _a, _y: 1,
        "relu": lambda a, _y: int(a > 0),
        "tanh": lambda _a, y: 1 - y * y,
        "sigmoid": lambda _a, y: y * (1 - y),
    }[f]
