"""The oracle at 256 bits: its gradient in mpmath and in balls, the floor under the balls, and the budget.

The floor is what no oracle in balls does without: the ball matrix products, tanh and exp of the same shapes, on
arguments of the same bits that stand ready as matrices. With x, W and dL/do given, reverse mode needs

    forward    X W_xh    h_{t-1} W_hh at each t    tanh    h W_hy    exp                                        (1)
    backward   do W_hy^T    delta_t W_hh^T at each t    h^T do    X^T delta    h_-^T delta    delta W_xh^T      (2)

where X, h, h_-, delta and do are all T*B rows below one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb_mat

from bptt.problem import Problem, gradient_shapes
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model, budget
from oracle.numbers import Matrix, stack
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
    [("mpmath", SMALL, 5), ("arb", SMALL, 15), ("arb", LARGE, 7)],
    ids=["mpmath-small", "arb-small", "arb-large"],
)
def test_gradient(benchmark: Any, elman: Callable[..., Problem], system: str, sizes: Sizes, rounds: int) -> None:
    label(benchmark, sizes, f"gradient, {system}")
    problem = elman(sizes, "cross_entropy")
    solution = benchmark.pedantic(
        solve, setup=lambda: ((problem, numbers(system, PREC)), {}), rounds=rounds, warmup_rounds=1
    )
    assert set(solution.values) == set(gradient_shapes(problem))


@pytest.mark.parametrize(("sizes", "rounds"), [(SMALL, 15), (LARGE, 7)], ids=["small", "large"])
def test_floor_of_the_gradient_in_balls(
    benchmark: Any, elman: Callable[..., Problem], sizes: Sizes, rounds: int
) -> None:
    label(benchmark, sizes, "floor")
    N = BallNumbers(PREC)
    run = floor(elman(sizes, "cross_entropy"), N)
    with N.scope():
        products = benchmark.pedantic(run, rounds=rounds, warmup_rounds=1)
    H, T = sizes["H"], sizes["T"]
    assert [(M.nrows(), M.ncols()) for M in products[-2:]] == [(H, H), (T * sizes["B"], sizes["D"])]


def floor(problem: Problem, N: BallNumbers) -> Callable[[], list[Any]]:
    """A function that computes (1) and (2) on the arguments that solving the problem in N meets; delta is do W_hy^T."""
    T = problem.T
    u = solve(problem, N).unrolled

    def native(matrix: Matrix) -> Any:
        return arb_mat(matrix.rows, matrix.cols, matrix.data)

    with N.scope():
        W_xh, W_hh, W_hy = (native(N.decode(problem.params[name])) for name in ("W_xh", "W_hh", "W_hy"))
        X = native(N.decode(problem.x))  # (T*B,D)
        h = native(stack(u.states["h"][1:]))  # (T*B,H)
        do = native(u.cotangents)  # (T*B,K)
        delta = do * W_hy.transpose()  # (T*B,H)
        h_t = native(u.states["h"][-1])  # (B,H), and so is delta_t
        delta_t = native(Matrix(problem.B, problem.H, delta.entries()[: problem.B * problem.H]))
        pre_activations = [a for step in u.steps for node in step.nodes if node.op == "linear" for a in node.value.data]
        outputs = u.outputs.data

    def run() -> list[Any]:
        products = [X * W_xh, *(h_t * W_hh for _ in range(T)), h * W_hy]  # (1)
        for a in pre_activations:
            a.tanh()
        for o in outputs:
            o.exp()
        W_hh_T, h_T, X_T = W_hh.transpose(), h.transpose(), X.transpose()
        products += [do * W_hy.transpose(), *(delta_t * W_hh_T for _ in range(T))]  # (2)
        return [*products, h_T * do, X_T * delta, h_T * delta, delta * W_xh.transpose()]

    return run


@pytest.mark.parametrize(("sizes", "rounds"), [(SMALL, 10), (LARGE, 5)], ids=["small", "large"])
def test_budget(benchmark: Any, elman: Callable[..., Problem], sizes: Sizes, rounds: int) -> None:
    label(benchmark, sizes, "budget")
    problem = elman(sizes, "cross_entropy")

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Solve afresh: a solution remembers its float64 form, which the budget that comes first pays for."""
        return (solve(problem, BallNumbers(PREC)), Model("float64")), {}

    bounds = benchmark.pedantic(budget, setup=setup, rounds=rounds)
    assert all(np.isfinite(bound).all() for bound in bounds.arrays.values())
