"""Jacobians of the state and rigorous bounds on spectral norms.

For A = M^T M (or M M^T) of n rows, and m a power of two,

    (||A^m||_F / sqrt(n))^(1/m) <= lambda_max(A) <= ||A^m||_F^(1/m)                          (1)

since ||A^m||_F^2 is the sum of lambda_i^(2m) over n eigenvalues. With m = 2^SQUARINGS the two sides are within a
relative ln(n) / (2m) of each other. Everything is in balls, so both bounds are proved. Derivation: ours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem
from oracle.ball_numbers import BallNumbers
from oracle.numbers import Matrix
from oracle.solution import scope
from oracle.unrolled import Unrolled, unroll

SQUARINGS = 30


def spectral_norm_bounds(array: NDArray[Any]) -> tuple[float, float]:
    """(lower, upper) with lower <= ||array||_2 <= upper, for a matrix of floats; both rounded outwards.

    >>> lower, upper = spectral_norm_bounds(np.array([[2.0, -2.0], [2.0, -2.0]]))
    >>> lower <= 4.0 <= upper, upper / lower < 1 + 1e-6
    (True, True)
    """
    N = BallNumbers(192)
    with N.scope():
        return matrix_norm_bounds(N, N.decode(np.atleast_2d(array)))


def matrix_norm_bounds(N: BallNumbers, M: Matrix) -> tuple[float, float]:
    """(lower, upper) of the spectral norm of a matrix of balls, by (1). Call it within the scope of N.

    Where the balls are too wide for the squarings, it is (0, inf): true, and of no use.

    >>> N = BallNumbers(192)
    >>> with N.scope():
    ...     lower, upper = matrix_norm_bounds(N, Matrix(1, 2, [N.scalar(3), N.scalar(4)]))
    >>> lower <= 5 <= upper
    True
    """
    A = N.matmul_tn(M, M) if M.cols <= M.rows else N.matmul_nt(M, M)
    n = A.rows
    if all(value == 0 for value in A.data):
        return 0.0, 0.0
    log_scale = N.scalar(0)  # of A^m itself: A is rescaled after each squaring, its logarithm kept here
    for _ in range(SQUARINGS):
        size = sum((abs(v) for v in A.data), N.scalar(0)).mid()
        A = Matrix(A.rows, A.cols, [value / size for value in A.data])
        log_scale = 2 * (log_scale + N.log(size))
        A = N.matmul(A, A)
    frobenius = N.log(N.sum([v * v for v in A.data])) / 2
    m = 1 << (SQUARINGS + 1)  # A is (M^T M)^(m/2); the norm of M is lambda_max^(1/2)
    upper = N.exp((log_scale + frobenius) / m)
    lower = N.exp((log_scale + frobenius - N.log(N.scalar(n)) / 2) / m)
    return _outwards(lower, -1), _outwards(upper, +1)


def _outwards(value: Any, direction: int) -> float:
    """A ball's end as a float64 that is certainly beyond it; 0 or infinity where the ball says nothing about a norm."""
    end = float(value.upper() if direction > 0 else value.lower())
    if math.isnan(end):
        return np.inf if direction > 0 else 0.0
    return max(0.0, float(np.nextafter(np.nextafter(end, direction * np.inf), direction * np.inf)))


def state_jacobian(problem: Problem, N: BallNumbers, k: int, t: int) -> list[Matrix]:
    """ds_t/ds_k of each batch row, (S,S) with row i = d s_t / d s_k,i (row vectors), 0 <= k <= t <= T, as balls.

    The product of the local Jacobians that the cell derives by hand. A row that ended before t keeps its state.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": -2 * one, "b_h": one[0]}
    >>> loss = Loss("cotangent", g=np.ones((4, 1, 1)))
    >>> p = Problem("elman", params, np.ones((4, 1, 1)), loss, activation="identity")
    >>> state_jacobian(p, BallNumbers(64), 1, 4)[0].data
    [-8.00000000000000]
    """
    with scope(N):
        unrolled = unroll(problem, N)
        return _products(unrolled, k, t)


def jacobian_norms(problem: Problem, N: BallNumbers, most: int) -> list[float]:
    """||ds_t/ds_(t-n)||_2 for n = 0 .. min(t, most) in the longest row of the batch, t being its length.

    Error: the matrices are midpoints of balls, their norms NumPy's in float64: for pictures, not for proofs. The list
    ends where the balls are too wide to say three digits.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": -2 * one, "b_h": one[0]}
    >>> loss = Loss("cotangent", g=np.ones((4, 1, 1)))
    >>> p = Problem("elman", params, np.ones((4, 1, 1)), loss, activation="identity")
    >>> jacobian_norms(p, BallNumbers(64), 3)
    [1.0, 2.0, 4.0, 8.0]
    """
    norms = []
    with scope(N):
        unrolled = unroll(problem, N)
        b = int(np.argmax(problem.row_lengths))
        t = int(problem.row_lengths[b])
        product = N.eye(problem.H * len(problem.spec.states))
        for n in range(min(t, most) + 1):
            if n:
                product = N.matmul(_local(unrolled, b, t - n + 1), product)
            size = _norm_of_midpoints(product)
            if size is None:
                break
            norms.append(size)
    return norms


def _norm_of_midpoints(M: Matrix) -> float | None:
    """The spectral norm of a matrix of balls, or None where the largest entry has fewer than three digits."""
    largest = max(M.data, key=lambda v: abs(v).mid())
    size = abs(largest).mid()
    if not largest.is_finite():
        return None
    if size == 0:
        return 0.0 if all(v == 0 for v in M.data) else None
    if not max(v.rad() for v in M.data) <= 0.001 * size:
        return None
    scaled = np.array([float((v.mid() / size).mid()) for v in M.data]).reshape(M.rows, M.cols)
    return float(np.linalg.norm(scaled, 2)) * float(size)


def _products(u: Unrolled, k: int, t: int) -> list[Matrix]:
    problem, N = u.problem, u.N
    out = []
    for b in range(problem.B):
        product = N.eye(problem.H * len(problem.spec.states))
        for s in range(k + 1, min(t, int(problem.row_lengths[b])) + 1):
            product = N.matmul(product, _local(u, b, s))
        out.append(product)
    return out


def _local(u: Unrolled, b: int, s: int) -> Matrix:
    """ds_s/ds_(s-1) of row b."""
    problem, N = u.problem, u.N
    params = {name: leaf.value for name, leaf in u.leaves.items()}
    before = {name: Matrix(1, problem.H, u.states[name][s - 1].row(b)) for name in problem.spec.states}
    x_s = N.decode(problem.x[s - 1, b][None])
    cec = problem.truncation.kind == "cec"
    J: Matrix = problem.spec.local(N, params, x_s, before, problem.activation, cec)[0]
    return J


__all__ = ["jacobian_norms", "matrix_norm_bounds", "spectral_norm_bounds", "state_jacobian"]
