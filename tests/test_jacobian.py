"""Spectral norms and state Jacobians: against NumPy's and mpmath's singular values, differences, and closed forms."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb, fmpq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from oracle.ball_numbers import BallNumbers
from oracle.jacobian import jacobian_norms, matrix_norm_bounds, spectral_norm_bounds, state_jacobian
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import Matrix
from oracle.trace import Node, Trace

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
Array = NDArray[Any]
ACTIVATED = [(name, phi) for name, cell in CELLS.items() for phi in cell.activations or (None,)]
GAP = 1e-6  # what (1) allows with m = 2^31 is ln(20)/2^31, a thousandth of it
SVD = 2.0**-44  # NumPy's singular values are within a modest multiple of 2^-53 of the largest, for sizes up to 20


# ---- norms -----------------------------------------------------------------------------------------------------------


def matrices(kind: str, seed: int, rows: int, cols: int) -> Array:
    """A matrix of a kind, with entries of about 1."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(rows, cols))
    if kind == "singular":
        A = A[:, :1] * rng.normal(size=(1, cols))
    elif kind == "non-normal":
        A = np.triu(A, 1) + 1e-3 * np.eye(rows, cols)
    elif kind == "orthogonal":
        A = np.linalg.qr(rng.normal(size=(max(rows, cols),) * 2))[0][:rows, :cols]
    elif kind == "integers":
        A = rng.integers(-2, 3, (rows, cols)).astype(np.float64)
    elif kind == "spread":
        A = A * 2.0 ** rng.integers(-300, 20, (rows, cols))
    elif kind == "two equal values":
        A = np.zeros((rows, cols))
        np.fill_diagonal(A, 1.0)
    return A


@settings(UNHURRIED, max_examples=120)
@given(
    st.sampled_from(["normal", "singular", "non-normal", "orthogonal", "integers", "spread", "two equal values"]),
    st.integers(0, 2**32 - 1),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([0, 0, -1000, -500, 500, 990]),
)
def test_spectral_norm_bounds_enclose_numpys_svd(kind: str, seed: int, rows: int, cols: int, scale: int) -> None:
    A = matrices(kind, seed, rows, cols)
    norm = float(np.linalg.svd(A, compute_uv=False)[0])
    scale = max(scale, -500) if kind == "spread" else scale  # the scaling itself must be exact
    lower, upper = spectral_norm_bounds(np.ldexp(A, scale))  # NumPy's own squares would underflow
    lower, upper = float(np.ldexp(lower, -scale)), float(np.ldexp(upper, -scale))
    assert lower <= norm * (1 + SVD)
    assert upper >= norm * (1 - SVD)
    assert upper - lower <= GAP * norm


@settings(UNHURRIED, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_spectral_norm_bounds_enclose_the_norm_to_60_digits(seed: int, rows: int, cols: int) -> None:
    A = matrices("normal", seed, rows, cols)
    context = mpmath.MPContext()
    context.dps = 60
    norm = max(context.svd_r(context.matrix(A.tolist()), compute_uv=False))
    lower, upper = spectral_norm_bounds(A)
    assert context.mpf(lower) <= norm <= context.mpf(upper)


@settings(UNHURRIED, max_examples=60)
@given(
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=8),
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=8),
    st.integers(-1074, 960),
)
@example([3], [1], -1074)
@example([0, 0], [0], 5)
def test_spectral_norm_bounds_of_rank_one_are_exact_inequalities(u: list[int], v: list[int], e: int) -> None:
    square = Fraction(4) ** e * sum(a * a for a in u) * sum(b * b for b in v)  # |u|^2 |v|^2 4^e
    lower, upper = spectral_norm_bounds(np.ldexp(np.outer(u, v).astype(np.float64), e))
    assert 0 <= Fraction(lower) ** 2 <= square <= Fraction(upper) ** 2


@pytest.mark.parametrize(
    ("matrix", "norm"),
    [
        ([[0.0, 1.0], [0.0, 0.0]], 1.0),  # nilpotent: its eigenvalues are 0
        ([[2.0, -2.0], [2.0, -2.0]], 4.0),
        ([[1.0, 1e8], [0.0, 1.0]], 1e8),
        ([[3.0, 4.0]], 5.0),
        ([3.0, 4.0], 5.0),
        ([[-7.0]], 7.0),
        ([[2.0**-1074]], 2.0**-1074),
        ([[1e308, 0.0], [0.0, 1e-308]], 1e308),
        ([[2.0**1023, 2.0**1023]] * 2, float("inf")),
    ],
)
def test_spectral_norm_bounds_of_known_matrices(matrix: list[Any], norm: float) -> None:
    lower, upper = spectral_norm_bounds(np.array(matrix))
    assert 0.0 <= lower <= norm <= upper
    assert norm < 1e-300 or norm > 1e300 or upper - lower <= GAP * norm


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 2), (1, 7)])
def test_spectral_norm_bounds_of_zero_are_zero(shape: tuple[int, int]) -> None:
    assert spectral_norm_bounds(np.zeros(shape)) == (0.0, 0.0)
    assert spectral_norm_bounds(-np.zeros(shape)) == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_spectral_norm_bounds_read_every_dtype(dtype: Any) -> None:
    A = matrices("normal", 3, 4, 4).astype(dtype)
    assert spectral_norm_bounds(A) == spectral_norm_bounds(A.astype(np.float64))


def test_matrix_norm_bounds_hold_for_every_matrix_of_the_balls() -> None:
    rng = np.random.default_rng(5)
    A = rng.normal(size=(3, 3))
    N = BallNumbers(192)
    with N.scope():
        lower, upper = matrix_norm_bounds(N, Matrix(3, 3, [arb(a, 1e-12) for a in A.reshape(-1).tolist()]))
    assert lower < upper
    for _ in range(50):
        norm = float(np.linalg.norm(A + rng.choice([-1e-12, 1e-12], (3, 3)), 2))
        assert lower * (1 - SVD) <= norm <= upper * (1 + SVD)


@pytest.mark.parametrize("ball", [arb(1, 1e-3), arb(0, 1e-50), arb(0, "inf"), arb("nan")])
def test_matrix_norm_bounds_of_wide_balls_claim_nothing(ball: Any) -> None:
    N = BallNumbers(192)
    with N.scope():
        lower, upper = matrix_norm_bounds(N, Matrix(2, 2, [ball] * 4))
    assert lower == 0.0
    assert upper >= 2.0


# ---- Jacobians -------------------------------------------------------------------------------------------------------


def problem_of(cell: str, activation: str | None, T: int, B: int, H: int, lengths: list[int] | None = None) -> Problem:
    """A problem of random moderate numbers."""
    rng = np.random.default_rng(11)
    spec = CELLS[cell]
    D = 2
    return Problem(
        cell,
        {name: rng.normal(size=shape) * 0.7 for name, shape in spec.shapes(D, H).items()},
        rng.normal(size=(T, B, D)),
        Loss("cotangent", g=rng.normal(size=(T, B, H))),
        h0=rng.normal(size=(B, H)),
        c0=rng.normal(size=(B, H)) if "c" in spec.states else None,
        activation=activation,
        lengths=None if lengths is None else np.array(lengths),
    )


def run_from(problem: Problem, N: MpmathNumbers, b: int, k: int, t: int, state: list[Any]) -> list[Any]:
    """s_t of row b where s_k is the given state: h and then c, one list of numbers of N."""
    H, names = problem.H, problem.spec.states
    trace = Trace(N)
    leaves = {name: Node("leaf", N.decode(problem.params[name]), name=name) for name in problem.params}
    w = problem.spec.prepare(trace, leaves, H)
    for s in range(k + 1, min(t, int(problem.row_lengths[b])) + 1):
        nodes = {
            name: Node("leaf", Matrix(1, H, state[i * H : (i + 1) * H]), name=name) for i, name in enumerate(names)
        }
        x_s = Node("leaf", N.decode(problem.x[s - 1, b][None]), name="x")
        new = problem.spec.step(trace, w, x_s, nodes, problem.activation, problem.truncation.kind == "cec")
        state = [value for name in names for value in new[name].value.data]
    return state


def start(problem: Problem, N: MpmathNumbers, b: int) -> list[Any]:
    """s_0 of row b."""
    return [value for name in problem.spec.states for value in N.decode(getattr(problem, f"{name}0")[b][None]).data]


@pytest.mark.parametrize(("cell", "activation"), ACTIVATED)
@pytest.mark.parametrize(("k", "t"), [(0, 4), (1, 3), (2, 2), (3, 4)])
def test_state_jacobian_is_the_difference_of_the_unrolled_network(
    cell: str, activation: str | None, k: int, t: int
) -> None:
    problem = problem_of(cell, activation, 4, 2, 2, [4, 2])
    N, balls = MpmathNumbers(600), BallNumbers(400)
    delta = N.scalar(1, -150)  # a central difference errs by about delta^2, and rounding by 2^-600 / delta
    for b, got in enumerate(state_jacobian(problem, balls, k, t)):
        at = run_from(problem, N, b, 0, k, start(problem, N, b))
        size = len(at)
        assert (got.rows, got.cols) == (size, size)
        for i in range(size):
            ends = []
            for direction in (1, -1):
                moved = list(at)
                moved[i] = moved[i] + direction * delta
                ends.append(run_from(problem, N, b, k, t, moved))
            for j, (up, down) in enumerate(zip(*ends, strict=True)):
                difference = (up - down) / (2 * delta)
                n, d = mpmath.libmp.to_rational(difference._mpf_)
                with balls.scope():
                    error = abs(got.row(i)[j] - arb(fmpq(int(n), int(d))))
                assert error < arb((1, -280)), (b, i, j)


@pytest.mark.parametrize("activation", CELLS["elman"].activations)
def test_state_jacobian_is_the_product_of_numpys_jacobians(activation: str) -> None:
    problem = problem_of("elman", activation, 6, 3, 4)
    W = problem.params["W_hh"]
    h = problem.h0
    want = np.stack([np.eye(4)] * 3)
    for x_t in problem.x:
        a = x_t @ problem.params["W_xh"] + h @ W + problem.params["b_h"]
        h, slope = {
            "tanh": (np.tanh(a), 1 - np.tanh(a) ** 2),
            "sigmoid": (1 / (1 + np.exp(-a)), np.exp(-a) / (1 + np.exp(-a)) ** 2),
            "relu": (np.maximum(a, 0), (a > 0).astype(float)),
            "identity": (a, np.ones_like(a)),
        }[activation]
        want = want @ (W * slope[:, None, :])
    for b, got in enumerate(state_jacobian(problem, BallNumbers(128), 0, 6)):
        values = np.array([float(value.mid()) for value in got.data]).reshape(4, 4)
        assert np.linalg.norm(values - want[b]) <= 1e-13 * np.linalg.norm(want[b])  # some 100 roundings of 2^-53


def linear(W: Array, T: int, dtype: str = "float64") -> Problem:
    """h_t = x_t + h_{t-1} W."""
    H = len(W)
    g = np.ones((T, 1, H), W.dtype)
    params = {"W_xh": np.eye(H, dtype=W.dtype), "W_hh": W, "b_h": np.zeros(H, W.dtype)}
    return Problem("elman", params, g.copy(), Loss("cotangent", g=g), activation="identity", dtype=dtype)


def exact(ball: Any) -> Fraction:
    """The number that an exact ball is."""
    assert ball.is_exact()
    n, e = ball.man_exp()
    return int(n) * Fraction(2) ** int(e)


@settings(UNHURRIED, max_examples=30)
@given(st.floats(-3, 3), st.integers(0, 6), st.integers(0, 6))
def test_state_jacobian_of_a_scalar_linear_network_is_a_power(w: float, k: int, n: int) -> None:
    (product,) = state_jacobian(linear(np.array([[w]]), max(1, k + n)), BallNumbers(60 * 12), k, k + n)
    assert exact(product.data[0]) == Fraction(w) ** n


@settings(UNHURRIED, max_examples=15)
@given(st.permutations(range(5)), st.lists(st.sampled_from([1.0, -1.0]), min_size=5, max_size=5), st.integers(0, 9))
def test_state_jacobian_of_a_signed_permutation_preserves_norms(order: list[int], signs: list[float], n: int) -> None:
    W = np.eye(5)[order] * np.array(signs)
    N = BallNumbers(128)
    (product,) = state_jacobian(linear(W, max(1, n)), N, 0, n)
    want = np.linalg.matrix_power(W.astype(np.int64), n)
    assert [exact(value) for value in product.data] == want.reshape(-1).tolist()
    with N.scope():
        lower, upper = matrix_norm_bounds(N, product)
    assert lower <= 1.0 <= upper <= lower * (1 + GAP)


def test_state_jacobian_under_cec_carries_the_cell_state_and_nothing_else() -> None:
    plain = problem_of("lstm_1997", None, 5, 1, 3)
    problem = Problem(
        "lstm_1997", plain.params, plain.x, plain.loss, h0=plain.h0, c0=plain.c0, truncation=Truncation("cec")
    )
    (product,) = state_jacobian(problem, BallNumbers(128), 1, 5)
    blocks = [[product.row(i)[j] for j in range(6)] for i in range(6)]
    assert all(value == 0 for row in blocks[:3] for value in row), "errors do not travel through h"
    assert [[exact(value) for value in row[3:]] for row in blocks[3:]] == np.eye(3).tolist()


def test_state_jacobian_of_a_row_that_ended_is_the_identity() -> None:
    problem = problem_of("gru_reset_after", None, 4, 3, 2, [4, 2, 0])
    _, ended, empty = state_jacobian(problem, BallNumbers(128), 2, 4)
    for product in (ended, empty):
        assert [exact(value) for value in product.data] == [1, 0, 0, 1]


# ---- norms of the last steps' Jacobians ------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "activation"), ACTIVATED)
def test_jacobian_norms_are_those_of_the_state_jacobians(cell: str, activation: str | None) -> None:
    problem, N = problem_of(cell, activation, 6, 3, 3, [2, 5, 0]), BallNumbers(192)
    norms = jacobian_norms(problem, N, 4)
    assert len(norms) == 5  # of the row of length 5, over 0 to 4 steps
    for n, norm in enumerate(norms):
        lower, upper = matrix_norm_bounds_of(state_jacobian(problem, N, 5 - n, 5)[1], N)
        assert lower * (1 - SVD) <= norm <= upper * (1 + SVD)


def matrix_norm_bounds_of(product: Matrix, N: BallNumbers) -> tuple[float, float]:
    with N.scope():
        return matrix_norm_bounds(N, product)


def test_jacobian_norms_end_where_the_balls_say_nothing() -> None:
    W = np.array([[0.1, 0.1], [-0.1, -0.1]])  # its square is zero, but not for balls of few digits
    norms = jacobian_norms(linear(W, 5), BallNumbers(30), 5)
    assert norms == [1.0, pytest.approx(0.2, rel=2.0**-29)]
    W = np.array([[0.5, 0.5], [-0.5, -0.5]])
    assert jacobian_norms(linear(W, 3), BallNumbers(30), 3) == [1.0, 1.0, 0.0, 0.0]
