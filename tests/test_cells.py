"""Every cell: its step and its hand-derived Jacobian and immediate partials, in all number systems, and its budget.

The roads share a cell's `step` but no derivative: reverse mode differentiates what `step` does, the double sum uses
`local`, and the third, a step's Jacobian by forward differentiation, is the budget's. Conventions (the order of the
gates, what a peephole sees) are held against implementations.numpy_bptt, and closed forms against pencil and paper.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb, fmpz
from numpy.typing import NDArray

from bptt.bits import decode
from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from implementations import numpy_bptt
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model, budget
from oracle.budget.graph import build_graph
from oracle.budget.transport import step_jacobians
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import Matrix
from oracle.solution import solve
from oracle.unrolled import unroll

Array = NDArray[Any]
SMOKE = 1e-10  # a smoke test's tolerance, far above what rounding costs on these sizes
ACTIVATED = [(name, phi) for name, cell in CELLS.items() for phi in cell.activations or (None,)]
NAMES = [f"{name}-{phi}" if phi else name for name, phi in ACTIVATED]
LOSSES = ("cotangent", "final cotangents", "squared_error", "class indices", "probabilities")
REDUCTIONS = (("sum", "sum"), ("mean", "sum"), ("sum", "mean"), ("mean", "mean"), ("tokens", "tokens"))
SIZES = ((6, 3, 2, 3, 4), (1, 2, 3, 2, 1), (5, 1, 1, 4, 3), (4, 4, 5, 1, 2), (7, 2, 3, 3, 5))  # T, B, D, H, K
TRUNCATIONS = (
    Truncation(),
    Truncation("window", k=1),
    Truncation("window", k=3),
    Truncation("chunk", k=2),
    Truncation("periodic", k1=2, k2=3),
    Truncation("cec"),
)
exact = mpmath.MPContext()
exact.prec = 600
every_cell = pytest.mark.parametrize(("cell", "activation"), ACTIVATED, ids=NAMES)


def truncations(cell: str) -> list[Truncation]:
    """The truncations above that mean something for a cell."""
    return [t for t in TRUNCATIONS if t.kind in CELLS[cell].truncations]


def make_loss(rng: np.random.Generator, name: str, cell: str, shape: tuple[int, ...], dtype: str) -> Loss:
    """A loss over outputs (T,B,K) and states of H units; shape is (T,B,K,H)."""
    T, B, K, H = shape
    time, batch = REDUCTIONS[rng.integers(len(REDUCTIONS))]

    def normal(*sizes: int) -> Array:
        return rng.normal(size=sizes).astype(dtype)

    if name == "cotangent":
        return Loss("cotangent", g=normal(T, B, K))
    if name == "final cotangents":
        g_c = normal(B, H) if "c" in CELLS[cell].states else None
        return Loss("cotangent", g=normal(T, B, K), g_h_final=normal(B, H), g_c_final=g_c)
    if name == "squared_error":
        scale = float(rng.choice([0.5, 1.0]))
        return Loss(name, target=normal(T, B, K), scale=scale, time_reduction=time, batch_reduction=batch)
    if name == "class indices":
        target = rng.integers(K, size=(T, B))
    else:
        target = (rng.multinomial(64, np.ones(K) / K, size=(T, B)) / 64).astype(dtype)
    return Loss("cross_entropy", target=target, time_reduction=time, batch_reduction=batch)


def make_problem(
    cell: str,
    seed: int,
    activation: str | None = None,
    *,
    truncation: Truncation = TRUNCATIONS[0],
    loss: str = "final cotangents",
    readout: str = "linear",
    sizes: tuple[int, ...] | None = None,
    norm: float = 1.0,
    dtype: str = "float64",
    padded: bool = True,
) -> Problem:
    """A problem from a seed: generic data, spectral norm `norm` a recurrent block, rows of lengths 0 to T.

    Every third has no lengths, every eleventh no initial states.
    """
    rng = np.random.default_rng(seed)
    T, B, D, H, K = sizes or SIZES[seed % len(SIZES)]
    K = K if readout == "linear" else H
    shapes = CELLS[cell].shapes(D, H)
    if readout == "linear":
        shapes |= {"W_hy": (H, K), "b_y": (K,)}
    params = {}
    for name, shape in shapes.items():
        value = rng.normal(size=shape)
        if name in ("W_h", "W_hh"):
            blocks = np.split(value, shape[1] // H, axis=1)
            value = np.concatenate([block * (norm / np.linalg.norm(block, 2)) for block in blocks], axis=1)
        params[name] = value.astype(dtype)
    states = {f"{state}0": rng.normal(size=(B, H)).astype(dtype) for state in CELLS[cell].states}
    lengths = rng.integers(0, T + 1, size=B) if padded and seed % 3 else None
    if lengths is not None and B > 1:
        lengths[:2] = 0, T
    return Problem(
        cell,
        params,
        rng.normal(size=(T, B, D)).astype(dtype),
        make_loss(rng, loss, cell, (T, B, K, H), dtype),
        **(states if seed % 11 else {}),
        activation=activation,
        readout=readout,
        lengths=lengths,
        truncation=truncation,
        dtype=dtype,
    )


def spread(cell: str, activation: str | None, seed: int) -> list[Problem]:
    """All losses with both readouts and all truncations in turn, for one cell: sizes and lengths vary with the seed."""
    kinds = itertools.cycle(truncations(cell))
    combinations = itertools.product(LOSSES, ("linear", "none"), range(len(truncations(cell)) // 2))
    return [
        make_problem(cell, seed + i, activation, truncation=next(kinds), loss=loss, readout=readout)
        for i, (loss, readout, _) in enumerate(combinations)
    ]


def as_mpf(value: Any) -> Any:
    """An mpf, or the midpoint of a ball, exactly."""
    if isinstance(value, arb):
        n, e = value.mid().man_exp()
        return exact.ldexp(exact.mpf(int(n)), int(e))
    return exact.make_mpf(value._mpf_)


def as_ball(value: Any) -> arb:
    """An mpf as a ball of radius 0."""
    sign, n, e, _ = value._mpf_
    return arb((fmpz(-int(n) if sign else int(n)), fmpz(int(e))))


def distance(a: list[Any], b: list[Any]) -> tuple[Any, Any]:
    """(the Euclidean norm of a - b, that of a), both exact enough."""
    left, right = [as_mpf(x) for x in a], [as_mpf(x) for x in b]
    return exact.norm([x - y for x, y in zip(left, right, strict=True)]), exact.norm(left)


@every_cell
def test_reverse_mode_and_the_double_sum_agree_to_the_working_precision(cell: str, activation: str | None) -> None:
    for problem in spread(cell, activation, 100):
        reverse = solve(problem, BallNumbers(128))
        double = solve(problem, MpmathNumbers(128), "double-sum")
        assert reverse.values.keys() == double.values.keys()
        for key in reverse.values:
            error, size = distance(reverse.values[key], double.values[key])
            assert error <= exact.ldexp(size, -100), (key, error, size, problem.truncation, problem.loss.kind)


@every_cell
def test_mpmath_lies_within_the_balls_of_a_lower_precision(cell: str, activation: str | None) -> None:
    for problem in spread(cell, activation, 200)[::2]:
        balls = solve(problem, BallNumbers(64))
        fine = solve(problem, MpmathNumbers(256))
        for key, values in balls.values.items():
            inside = [b.contains(as_ball(m)) for b, m in zip(values, fine.values[key], strict=True)]
            assert all(inside), (key, inside, problem.truncation)
            assert max(float(b.rad()) for b in values) < 2.0**-40, key  # else containment says little


@every_cell
def test_numpy_computes_the_same_gradients(cell: str, activation: str | None) -> None:
    for problem in spread(cell, activation, 300):
        solution = solve(problem, BallNumbers(128))
        got = numpy_bptt.gradients(problem)
        for key in solution.values:
            want = solution.near(key)[0]
            error, size = np.linalg.norm(got[key] - want), np.linalg.norm(want)
            assert got[key].shape == want.shape, key
            assert error <= SMOKE * size, (key, error, size, problem.truncation, problem.loss.kind)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_cell
def test_numpy_stays_within_a_finite_budget(cell: str, activation: str | None, dtype: str) -> None:
    rng = np.random.default_rng(400)
    for seed in range(30 if activation is None else 12):
        problem = make_problem(
            cell,
            seed,
            activation,
            truncation=truncations(cell)[seed % len(truncations(cell))],
            loss=LOSSES[seed % len(LOSSES)],
            readout=("linear", "none")[seed // 3 % 2],
            sizes=(int(rng.integers(1, 16)), 2, 3, int(rng.integers(1, 6)), 3),
            norm=float(rng.uniform(0.3, 2)),
            dtype=dtype,
        )
        solution = solve(problem, BallNumbers(160))
        bounds = budget(solution, Model(dtype)).arrays
        got = numpy_bptt.gradients(problem)
        running = np.arange(problem.T)[:, None] < problem.row_lengths
        for key in solution.values:
            hi, lo, rad = solution.near(key)
            error = np.abs((got[key].astype(np.float64) - hi) - lo)
            within = (error <= bounds[key] + rad) & np.isfinite(bounds[key])
            judged = within[running] if key in (*problem.spec.states, "o") else within
            assert judged.all(), (key, seed, float(error.max()), float(np.max(bounds[key])))


@every_cell
def test_budget_is_infinite_where_a_gradient_overflows(cell: str, activation: str | None) -> None:
    """x W_x stays moderate, but dW_x = x^T delta is beyond the largest float32: infinity is an admissible answer."""
    problem = make_problem(cell, 4, activation, dtype="float32", padded=False)
    name = next(iter(problem.params))
    assert name.startswith("W_x")
    assert problem.loss.g is not None
    params = {**problem.params, name: problem.params[name] * np.float32(1e-37)}
    loss = Loss("cotangent", g=problem.loss.g * np.float32(1e6))
    huge = replace(problem, params=params, x=problem.x * np.float32(1e37), loss=loss)
    solution = solve(huge, BallNumbers(256))
    assert np.abs(solution.near(f"d{name}")[0]).max() > np.finfo(np.float32).max
    assert np.isinf(budget(solution, Model("float32")).arrays[f"d{name}"]).all()


@every_cell
def test_hand_derived_jacobian_is_that_of_the_step(cell: str, activation: str | None) -> None:
    for truncation in (t for t in truncations(cell) if t.kind in ("full", "cec")):
        problem = make_problem(cell, 4, activation, truncation=truncation, padded=False)
        N = MpmathNumbers(64)
        unrolled = unroll(problem, N)
        traced, absolute = step_jacobians(build_graph(unrolled), adjoint=True)
        params = {name: leaf.value for name, leaf in unrolled.leaves.items()}
        cec = truncation.kind == "cec"
        for t, b in itertools.product(range(problem.T), range(problem.B)):
            state = {s: Matrix(1, problem.H, unrolled.states[s][t].row(b)) for s in problem.spec.states}
            J, _ = problem.spec.local(N, params, N.decode(problem.x[t, b][None]), state, activation, cec)
            want = np.array([float(value) for value in J.data]).reshape(J.rows, J.cols)
            assert (np.abs(traced[t, b] - want) <= 2.0**-45 * absolute[t, b]).all(), (t, b)
            assert (np.abs(want) <= absolute[t, b] * (1 + 2.0**-45)).all(), (t, b)


def test_constant_error_carousel_carries_errors_along_c_alone() -> None:
    problem = make_problem("lstm_1997", 4, truncation=Truncation("cec"), sizes=(5, 3, 2, 3, 4))
    H = problem.H
    N = MpmathNumbers(64)
    unrolled = unroll(problem, N)
    params = {name: leaf.value for name, leaf in unrolled.leaves.items()}
    state = {s: Matrix(1, H, unrolled.states[s][0].row(1)) for s in ("h", "c")}
    J, _ = problem.spec.local(N, params, N.decode(problem.x[0, 1][None]), state, None, True)
    assert J.data[: 2 * H * H] == [0] * (2 * H * H)  # d(h_t, c_t)/dh_{t-1}
    assert [row for i in range(H) for row in J.row(H + i)[H:]] == np.eye(H).ravel().tolist()  # dc_t/dc_{t-1}

    lengths = problem.row_lengths
    assert lengths[0] == 0 < lengths[1]
    assert problem.loss.g_h_final is not None
    passed_through = as_exact(np.where(lengths[:, None] == 0, problem.loss.g_h_final, 0.0))
    for values in (
        solve(problem, BallNumbers(128)).values,
        solve(problem, MpmathNumbers(128), "double-sum").values,
    ):
        assert [as_mpf(value) for value in values["dh0"]] == passed_through


def as_exact(array: Array) -> list[Any]:
    """An array's entries, exactly, in C order."""
    return [exact.ldexp(exact.mpf(n), e) for n, e in zip(*decode(array), strict=True)]


def tanh(a: float) -> Any:
    """In 600 bits."""
    return exact.tanh(a)


def sech2(a: float) -> Any:
    """The derivative of tanh, in 600 bits."""
    return exact.sech(a) ** 2


def one_unit(cell: str, h0: float, c0: float | None = None, **peepholes: float) -> dict[str, Any]:
    """T = 1, one unit, x = 0, all weights 0 but the peepholes, dL/dh = 1: every gate is 1/2, every candidate 0."""
    params = {name: np.zeros(shape) for name, shape in CELLS[cell].shapes(1, 1).items()}
    params |= {name: np.array([value]) for name, value in peepholes.items()}
    problem = Problem(
        cell,
        params,
        np.zeros((1, 1, 1)),
        Loss("cotangent", g=np.ones((1, 1, 1))),
        h0=np.full((1, 1), h0),
        c0=None if c0 is None else np.full((1, 1), c0),
    )
    reverse = solve(problem, BallNumbers(256)).values
    double = solve(problem, MpmathNumbers(256), "double-sum").values
    for key, values in reverse.items():
        error, size = distance(values, double[key])
        assert error <= exact.ldexp(size, -240), key
    return {key: [as_mpf(value) for value in values] for key, values in reverse.items()}


def same(got: list[Any], want: list[Any]) -> bool:
    """Equal to 240 bits, entry by entry; 0 exactly where 0 is wanted."""
    return all(abs(a - b) <= exact.ldexp(abs(exact.mpf(b)), -240) for a, b in zip(got, want, strict=True))


def test_lstm_closed_form_of_one_step() -> None:
    h0, c0 = 0.75, 1.25  # c = c0/2, h = tanh(c)/2
    slope = sech2(c0 / 2)
    got = one_unit("lstm", h0, c0)
    assert same(got["c"], [c0 / 2])
    assert same(got["h"], [tanh(c0 / 2) / 2])
    db = [0, c0 * slope / 8, slope / 4, tanh(c0 / 2) / 4]
    assert same(got["db"], db)
    assert same(got["dW_h"], [h0 * value for value in db])
    assert same(got["dc0"], [slope / 4])
    assert same(got["dh0"], [0])


def test_lstm_peephole_closed_form_of_one_step() -> None:
    h0, c0 = 0.75, 1.25  # with p_i = p_f = 0 and p_o = p: o = sigma(p c), h = o tanh(c)
    p, c = 0.5, c0 / 2
    o = 1 / (1 + exact.exp(-p * c))
    through_c = o * sech2(c) + tanh(c) * o * (1 - o) * p
    got = one_unit("lstm_peephole", h0, c0, p_o=p)
    assert same(got["h"], [o * tanh(c)])
    db = [0, through_c * c0 / 4, through_c / 2, tanh(c) * o * (1 - o)]
    assert same(got["db"], db)
    assert same(got["dp_i"], [0])
    assert same(got["dp_f"], [c0 * db[1]])
    assert same(got["dp_o"], [c * db[3]])
    assert same(got["dc0"], [through_c / 2])


def test_lstm_1997_closed_form_of_one_step() -> None:
    h0, c0 = 0.75, 1.25  # c = c0, h = tanh(c0)/2
    got = one_unit("lstm_1997", h0, c0)
    assert same(got["h"], [tanh(c0) / 2])
    db = [0, sech2(c0) / 4, tanh(c0) / 4]
    assert same(got["db"], db)
    assert same(got["dW_h"], [h0 * value for value in db])
    assert same(got["dc0"], [sech2(c0) / 2])


@pytest.mark.parametrize("cell", ["gru_reset_after", "gru_reset_before"])
def test_gru_closed_form_of_one_step(cell: str) -> None:
    h0 = 0.75  # r = z = 1/2, n = 0: h = h0/2
    got = one_unit(cell, h0)
    assert same(got["h"], [h0 / 2])
    assert same(got["dh0"], [0.5])
    assert same(got["db_x" if cell == "gru_reset_after" else "db"], [0, h0 / 4, 0.5])
    assert same(got["dW_h"], [0, h0 * h0 / 4, h0 / 4])  # r halves dW_hn: in h0 W_hn or in (r h0) W_hn
    if cell == "gru_reset_after":
        assert same(got["db_h"], [0, h0 / 4, 0.25])


def test_gru_variants_differ_where_the_reset_gate_matters() -> None:
    """With W_hr and W_hn generic, resetting after a product is not resetting before it."""
    after = make_problem("gru_reset_after", 4, padded=False)
    shared = {name: after.params[name] for name in ("W_x", "W_h", "W_hy", "b_y")}
    params = {**shared, "b": after.params["b_x"] + after.params["b_h"]}
    before = Problem("gru_reset_before", params, after.x, after.loss, h0=after.h0, readout="linear")
    one, other = solve(after, BallNumbers(64)).near("h")[0], solve(before, BallNumbers(64)).near("h")[0]
    assert np.abs(one - other).max() > 2.0**-10


@pytest.mark.parametrize("cell", CELLS)
def test_cell_says_what_its_step_needs(cell: str) -> None:
    spec = CELLS[cell]
    assert spec.name == cell
    assert spec.title
    assert spec.states[0] == "h"
    equations = "\n".join(spec.equations)
    for state in spec.states:
        assert any(line.startswith(f"{state} = ") for line in equations.replace("; ", "\n").splitlines())
    for name in spec.shapes(2, 3):
        assert name.split("_")[0] in equations
