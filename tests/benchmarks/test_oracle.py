"""The oracle at 256 bits: its gradient in mpmath and in balls, the floor under the balls, and the budget.

The floor is the gradient's own ball matrix products and activations alone: all that solving the problem hands to them
is written down once, as flint has it, and computed again, in turns with the gradient. An activation is a tanh, or a
softmax: exp, the sum of a row, its division. What is left out is everything else: making matrices of entries and
entries of matrices, slopes, entrywise products, the loss and its logarithms, the trace. The products are no more than

    forward    [x_t h_{t-1} 1] [W_xh; W_hh; b_h] at each t    [h 1] [W_hy; b_y]                     (1)
    backward   [delta_{t+1} do_t] [W_hh W_hy]^T at each t     delta_1 W_hh^T                        (2)
               [x h_- 1]^T delta    [h 1]^T do    delta W_xh^T                                      (3)

where x, h, h_-, delta and do are all T*B rows below one another; `multiplications` counts them from these shapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import repeat
from operator import mul
from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb, arb_mat

from bptt.problem import Problem, gradient_shapes
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model, budget
from oracle.numbers import Matrix
from oracle.solution import numbers, solve

PREC = 256
SMALL = {"T": 30, "B": 4, "D": 8, "H": 16, "K": 8}
LARGE = {"T": 100, "B": 8, "D": 16, "H": 32, "K": 16}
Sizes = dict[str, int]


def label(benchmark: Any, sizes: Sizes, subject: str) -> None:
    """Say what is compared with what, and which integers mpmath computes with: Python's or gmpy2's."""
    at = " ".join(f"{name}={n}" for name, n in sizes.items())
    benchmark.group = f"oracle, {PREC} bits, {at} (mpmath on {mpmath.libmp.BACKEND})"
    benchmark.extra_info["subject"] = subject


@pytest.mark.parametrize(
    ("system", "sizes", "rounds"),
    [("mpmath", SMALL, 5), ("arb", SMALL, 60), ("arb", LARGE, 7)],
    ids=["mpmath-small", "arb-small", "arb-large"],
)
def test_gradient(benchmark: Any, elman: Callable[..., Problem], system: str, sizes: Sizes, rounds: int) -> None:
    label(benchmark, sizes, f"gradient, {system}")
    problem = elman(sizes, "cross_entropy")
    solution = benchmark.pedantic(
        solve, setup=lambda: ((problem, numbers(system, PREC)), {}), rounds=rounds, warmup_rounds=1
    )
    assert set(solution.values) == set(gradient_shapes(problem))


@pytest.mark.parametrize(("sizes", "rounds"), [(SMALL, 60), (LARGE, 7)], ids=["small", "large"])
def test_floor_of_the_gradient_in_balls(
    benchmark: Any, elman: Callable[..., Problem], sizes: Sizes, rounds: int
) -> None:
    label(benchmark, sizes, "floor")
    problem = elman(sizes, "cross_entropy")
    N = Recorded(PREC)
    solve(problem, N)
    assert sum(X.nrows() * X.ncols() * W.ncols() for X, W in N.products) == multiplications(**sizes)
    T, B, H, K = (sizes[name] for name in "TBHK")
    assert (len(N.hidden), len(N.exponents)) == (T * B * H, T * B * K)
    rows = [N.exponents[i : i + K] for i in range(0, T * B * K, K)]

    def softmax(row: list[Any]) -> list[Any]:
        powers = list(map(arb.exp, row))
        return list(map(mul, powers, repeat(1 / sum(powers[1:], powers[0]))))

    def floor() -> Any:
        return [X * W for X, W in N.products], list(map(arb.tanh, N.hidden)), list(map(softmax, rows))

    turns: list[float] = []

    def solved() -> None:
        """A round of the gradient before each of the floor."""
        fresh = numbers("arb", PREC)
        start = time.perf_counter()
        solution = solve(problem, fresh)  # freed once the clock has been read, like the floor's results
        turns.append(time.perf_counter() - start)
        del solution

    with N.scope():
        benchmark.pedantic(floor, setup=solved, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["in turns with"] = {"gradient, arb": turns[-rounds:]}


def multiplications(T: int, B: int, D: int, H: int, K: int) -> int:
    """How many the products (1), (2) and (3) come to, those with 1 for the biases among them."""
    forward = (D + H + 1) * H + (H + 1) * K
    return T * B * (forward + (H + K) * H + forward + H * D)


class Recorded(BallNumbers):
    """Balls that write down the operands of their products, and the arguments of tanh and of exp."""

    def __init__(self, prec: int) -> None:
        super().__init__(prec)
        self.products: list[tuple[Any, Any]] = []
        self.hidden: list[Any] = []
        self.exponents: list[Any] = []

    def matmul(self, X: Matrix, W: Matrix) -> Matrix:
        out = super().matmul(X, W)
        self.products.append((native(X), native(W)))
        return out

    def matmul_tn(self, X: Matrix, Y: Matrix) -> Matrix:
        out = super().matmul_tn(X, Y)
        self.products.append((native(X).transpose(), native(Y)))
        return out

    def tanh(self, value: Any) -> Any:
        self.hidden.append(value)
        return value.tanh()

    def exp(self, value: Any) -> Any:
        self.exponents.append(value)
        return value.exp()


def native(matrix: Matrix) -> Any:
    """A matrix as flint has it: the same object at every step, if the gradient has it so."""
    return matrix.native if matrix.native is not None else arb_mat(matrix.rows, matrix.cols, matrix.data)


@pytest.mark.parametrize(("sizes", "rounds"), [(SMALL, 10), (LARGE, 5)], ids=["small", "large"])
def test_budget(benchmark: Any, elman: Callable[..., Problem], sizes: Sizes, rounds: int) -> None:
    label(benchmark, sizes, "budget")
    problem = elman(sizes, "cross_entropy")

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Solve afresh: a solution remembers its float64 form, which the budget that comes first pays for."""
        return (solve(problem, BallNumbers(PREC)), Model("float64")), {}

    bounds = benchmark.pedantic(budget, setup=setup, rounds=rounds)
    assert all(np.isfinite(bound).all() for bound in bounds.arrays.values())
