"""The roads to the gradients: four that share no gradient code agree, and so do witnesses from outside.

What agreement means is tests/deep/agreement.py's (1): arrays may be as far apart as rounding puts them, and not much
farther. A term of the double sum too many or too few would cost nearly all bits, and each road is broken here once.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from oracle.ball_numbers import BallNumbers
from oracle.differences import _Differences
from oracle.forward_mode import Dual, Duals
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import NotInThisSystem, Undecided
from oracle.rational_numbers import RationalNumbers
from oracle.reverse import Adjoints, Reverse, Terms
from oracle.solution import ROADS, solve
from oracle.trace import Node
from properties.strategies import offered, problems, replace_shape

sys.path.append(str(Path(__file__).parent / "deep"))
agreement = importlib.import_module("agreement")

UNHURRIED = settings(  # the machine may be busy
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
Array = NDArray[Any]
EXACT_ROADS = ("reverse", "double-sum", "forward")
OTHERS = tuple(road for road in ROADS if road != "reverse")
ONE_OF_EACH = {
    "full": Truncation(),
    "window": Truncation("window", k=2),
    "chunk": Truncation("chunk", k=3),
    "periodic": Truncation("periodic", k1=2, k2=3),
    "cec": Truncation("cec"),
}
SIZES = (4, 2, 2, 2, 2)  # T, B, D, H, K at most
KINDS = [(cell, kind) for cell, spec in CELLS.items() for kind in spec.truncations]
ACTIVATED = [(name, phi) for name, cell in CELLS.items() for phi in cell.activations or (None,)]
every_kind = pytest.mark.parametrize(("cell", "kind"), KINDS)


def small(cell: str, kind: str, sizes: tuple[int, ...] = SIZES) -> Any:
    """Small problems of a cell under one kind of truncation."""
    shape = replace_shape(offered(agreement.SUPPORT, cell), largest=sizes, edges=False, truncations=(kind,))
    return problems(agreement.SUPPORT, cell, "float64", shape)


def assert_agreement(problem: Problem, prec: int, roads: tuple[str, ...]) -> None:
    """Every gradient by each road, as close to reverse mode's as rounding puts it; no example where a kink is near."""
    try:
        compared = list(agreement.compare(problem, prec, roads))
    except Undecided:
        assert problem.activation == "relu"
        assume(False)
    for one in compared:
        assert one.bits <= agreement.ALLOWED, f"{one.road}: {one.key} is {one.bits:.1f} bits off"


# ---- the four roads --------------------------------------------------------------------------------------------------


@every_kind
def test_roads_agree_to_the_working_precision(cell: str, kind: str) -> None:
    @settings(UNHURRIED, max_examples=6)
    @given(small(cell, kind), st.sampled_from([64, 256]))
    def check(problem: Problem, prec: int) -> None:
        assert_agreement(problem, prec, ("double-sum", "forward"))

    check()


@every_kind
def test_differences_agree_to_the_working_precision(cell: str, kind: str) -> None:
    @settings(UNHURRIED, max_examples=3)
    @given(small(cell, kind, (3, 2, 2, 2, 2)), st.sampled_from([64, 256]))
    def check(problem: Problem, prec: int) -> None:
        assert_agreement(problem, prec, ("differences",))

    check()


@pytest.mark.parametrize("cell", CELLS)
def test_roads_agree_to_2048_bits(cell: str) -> None:
    kinds = CELLS[cell].truncations

    @settings(UNHURRIED, max_examples=2)
    @given(st.sampled_from(kinds).flatmap(lambda kind: small(cell, kind, (2, 1, 1, 1, 1))))
    def check(problem: Problem) -> None:
        assert_agreement(problem, 2048, OTHERS)

    check()


@every_kind
def test_balls_of_all_roads_hold_the_same_numbers(cell: str, kind: str) -> None:
    @settings(UNHURRIED, max_examples=4)
    @given(small(cell, kind))
    def check(problem: Problem) -> None:
        fine = solve(problem, BallNumbers(400), "double-sum").values
        for road in EXACT_ROADS:
            for key, balls in solve(problem, BallNumbers(64), road).values.items():
                # not `contains`: by luck, as of 1 - h^2 with a subnormal h, a ball of 64 bits is the narrower one
                meet = [one.overlaps(other) for one, other in zip(balls, fine[key], strict=True)]
                assert all(meet), f"{road}: {key}"

    check()


def test_differences_are_for_mpmath_alone() -> None:
    problem = linear(1, [1], [1], [1], Truncation())
    for N in (BallNumbers(64), RationalNumbers()):
        with pytest.raises(NotInThisSystem, match="differences"):
            solve(problem, N, "differences")


def test_differences_are_undecided_at_a_kink() -> None:
    problem = replace(linear(0, [1, 1], [0, -1], [1, 1], Truncation()), activation="relu")  # a_1 = 0 + 1 - 1
    with pytest.raises(Undecided, match="kink"):
        solve(problem, MpmathNumbers(64), "differences")
    moved = replace(problem, x=problem.x + 2.0**-40)
    assert_agreement(moved, 64, OTHERS)


# ---- each road is broken once ----------------------------------------------------------------------------------------


def overwrite(_: Reverse, adjoints: Adjoints, node: Node, value: Any) -> None:
    """An adjoint is what arrived last, instead of the sum of all that arrived."""
    adjoints[node] = Terms()
    adjoints[node].addends = (value,)


def straight(_: Duals, a: Dual) -> Dual:
    """What is held is not held."""
    return a


def stepped(self: _Differences, losses: list[Any]) -> list[Any]:
    """Divided by e instead of 2e."""
    return [(up - down) / self.e for up, down in zip(losses[::2], losses[1::2], strict=True)]


def shortened(cell: Any) -> Callable[..., Any]:
    """A local Jacobian without what comes through the gates."""
    local = type(cell).local

    def lacking(self: Any, N: Any, *rest: Any) -> tuple[Any, Any]:
        J, pull = local(self, N, *rest)
        return N.zeros(J.rows, J.cols), pull

    return lacking


def generic(cell: str, seed: int, truncation: Truncation, activation: str | None = None) -> Problem:
    """A problem of moderate random numbers; readouts, losses, reductions and lengths change with the seed."""
    rng = np.random.default_rng(seed)
    T, B, D, H, K = 4, 3, 2, 2, 3
    spec, readout = CELLS[cell], ("linear", "none")[seed % 2]
    K = K if readout == "linear" else H
    shapes = spec.shapes(D, H) | ({"W_hy": (H, K), "b_y": (K,)} if readout == "linear" else {})
    time, batch = (("sum", "mean"), ("mean", "sum"), ("tokens", "tokens"))[seed % 3]
    ends = {f"g_{state}_final": rng.normal(size=(B, H)) for state in spec.states}
    losses = (
        Loss("cotangent", g=rng.normal(size=(T, B, K)), **ends),
        Loss("squared_error", target=rng.normal(size=(T, B, K)), scale=0.5, time_reduction=time, batch_reduction=batch),
        Loss("cross_entropy", target=rng.integers(K, size=(T, B)), time_reduction=time, batch_reduction=batch),
    )
    return Problem(
        cell,
        {name: rng.normal(size=shape) for name, shape in shapes.items()},
        rng.normal(size=(T, B, D)),
        losses[seed // 2 % 3],
        **{f"{state}0": rng.normal(size=(B, H)) for state in spec.states},
        activation=activation,
        readout=readout,
        lengths=np.array([T, 2, 0]) if seed % 7 else None,
        truncation=truncation,
    )


@pytest.mark.parametrize("road", ROADS)
def test_a_broken_road_is_seen(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cec = generic("lstm_1997", 0, Truncation("cec"))
    full = generic("gru_reset_before", 1, Truncation())
    problem = cec if road == "forward" else full
    broken = {
        "reverse": (Reverse, "_give", overwrite),
        "double-sum": (type(problem.spec), "local", shortened(problem.spec)),
        "forward": (Duals, "hold", straight),
        "differences": (_Differences, "_quotients", stepped),
    }[road]
    small_one = replace(problem, lengths=np.array([2, 1, 0]))
    assert_agreement(small_one, 64, OTHERS)
    monkeypatch.setattr(*broken)
    for other in OTHERS:
        worst = max(one.bits for one in agreement.compare(small_one, 64, (other,)))
        assert (worst > 50) == (road in ("reverse", other)), (other, worst)


# ---- witnesses from outside ------------------------------------------------------------------------------------------


def linear(w: int, x: list[int], h0_and_b: list[int], g: list[int], truncation: Truncation) -> Problem:
    """h_t = w h_{t-1} + x_t + b in one unit, L = sum_t g_t h_t."""
    one = np.ones((1, 1))
    h0, b = [*h0_and_b, 0][:2]
    return Problem(
        "elman",
        {"W_xh": one, "W_hh": w * one, "b_h": b * one[0]},
        np.array(x, dtype=np.float64)[:, None, None],
        Loss("cotangent", g=np.array(g, dtype=np.float64)[:, None, None]),
        h0=h0 * one,
        activation="identity",
        truncation=truncation,
    )


def exactly(problem: Problem, key: str) -> list[list[Any]]:
    """A gradient by every road: exactly, in rationals, and by differences to 256 bits."""
    found = [solve(problem, RationalNumbers(), road).values[key] for road in EXACT_ROADS]
    differences = solve(problem, MpmathNumbers(256), "differences").values[key]
    return [*found, [Fraction(round(value * 2**200), 2**200) for value in differences]]


integers = st.integers(-4, 4)


@settings(UNHURRIED, max_examples=25)
@given(integers, st.lists(integers, min_size=3, max_size=3), integers, st.lists(integers, min_size=3, max_size=3))
@example(2, [1, 1, 1], 1, [0, 0, 1])
def test_scalar_linear_network_has_the_polynomials_of_pencil_and_paper(
    w: int, x: list[int], h0: int, g: list[int]
) -> None:
    h1 = w * h0 + x[0]
    h2 = w * h1 + x[1]  # h_3 = w^3 h_0 + w^2 x_1 + w x_2 + x_3, and a window keeps the last of the three uses of w
    dW = {
        Truncation(): g[0] * h0 + g[1] * (2 * w * h0 + x[0]) + g[2] * (3 * w * w * h0 + 2 * w * x[0] + x[1]),
        Truncation("window", k=1): g[0] * h0 + g[1] * h1 + g[2] * h2,
        Truncation("window", k=2): g[0] * h0 + g[1] * (h1 + w * h0) + g[2] * (h2 + w * h1),
        Truncation("chunk", k=2): g[0] * h0 + g[1] * (h1 + w * h0) + g[2] * h2,
        Truncation("periodic", k1=2, k2=2): g[0] * h0 + g[1] * (h1 + w * h0) + g[2] * (h2 + w * h1),
        Truncation("periodic", k1=2, k2=3): g[0] * h0 + g[1] * (h1 + w * h0) + g[2] * (h2 + w * h1 + w * w * h0),
    }
    dh0 = {
        Truncation(): w * g[0] + w**2 * g[1] + w**3 * g[2],
        Truncation("window", k=2): w * g[0] + w**2 * g[1],
        Truncation("chunk", k=2): w * g[0] + w**2 * g[1],
    }
    for truncation, want in dW.items():
        problem = linear(w, x, [h0], g, truncation)
        assert exactly(problem, "dW_hh") == [[want]] * 4, truncation
    for truncation, want in dh0.items():
        problem = linear(w, x, [h0], g, truncation)
        assert exactly(problem, "dh0") == [[want]] * 4, truncation


@settings(UNHURRIED, max_examples=10)
@given(
    st.permutations(range(3)),
    st.lists(st.sampled_from([1, -1]), min_size=3, max_size=3),
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [Truncation(), Truncation("window", k=2), Truncation("chunk", k=3), Truncation("periodic", k1=2, k2=3)]
    ),
)
def test_signed_permutation_is_integer_arithmetic(
    order: list[int], signs: list[int], seed: int, truncation: Truncation
) -> None:
    rng = np.random.default_rng(seed)
    T, H = 5, 3
    W = np.eye(H, dtype=np.int64)[order] * np.array(signs)
    h0, x, g = rng.integers(-9, 10, H), rng.integers(-9, 10, (T, H)), rng.integers(-9, 10, (T, H))
    h = [h0]
    for x_t in x:
        h.append(h[-1] @ W + x_t)
    dW, dx, dh0 = np.zeros((H, H), np.int64), np.zeros((T, H), np.int64), np.zeros(H, np.int64)
    for t, s in itertools.product(range(1, T + 1), repeat=2):
        if truncation.mask(t, s, T):
            dh_s = g[t - 1] @ np.linalg.matrix_power(W.T, t - s)
            dW += np.outer(h[s - 1], dh_s)
            dx[s - 1] += dh_s
            dh0 += dh_s @ W.T if s == 1 else 0
    eye = np.eye(H)
    problem = Problem(
        "elman",
        {"W_xh": eye, "W_hh": W.astype(np.float64), "b_h": np.zeros(H)},
        x.astype(np.float64)[:, None],
        Loss("cotangent", g=g.astype(np.float64)[:, None]),
        h0=h0.astype(np.float64)[None],
        activation="identity",
        truncation=truncation,
    )
    for key, want in {"dW_hh": dW, "dx": dx, "dh0": dh0}.items():
        assert exactly(problem, key) == [want.reshape(-1).tolist()] * 4, key


@settings(UNHURRIED, max_examples=12)
@given(st.sampled_from(["tanh", "sigmoid"]), st.integers(0, 2**32 - 1), st.sampled_from([64, 256]))
def test_one_step_is_the_outer_product_of_pencil_and_paper(phi: str, seed: int, prec: int) -> None:
    rng = np.random.default_rng(seed)
    D, H = 2, 3
    x, h0, g = rng.normal(size=D), rng.normal(size=H), rng.normal(size=H)
    params = {"W_xh": rng.normal(size=(D, H)), "W_hh": rng.normal(size=(H, H)), "b_h": rng.normal(size=H)}
    problem = Problem("elman", params, x[None, None], Loss("cotangent", g=g[None, None]), h0=h0[None], activation=phi)
    with mpmath.workprec(1200):
        W_xh, W_hh = mpmath.matrix(params["W_xh"].tolist()), mpmath.matrix(params["W_hh"].tolist())
        a = mpmath.matrix([x.tolist()]) * W_xh + mpmath.matrix([h0.tolist()]) * W_hh
        a += mpmath.matrix([params["b_h"].tolist()])
        slope = [mpmath.sech(v) ** 2 if phi == "tanh" else mpmath.sech(v / 2) ** 2 / 4 for v in a]
        delta = mpmath.matrix([[g_j * s_j for g_j, s_j in zip(g.tolist(), slope, strict=True)]])
        want = {
            "dW_xh": [x_i * d for x_i in x.tolist() for d in delta],
            "dW_hh": [h_i * d for h_i in h0.tolist() for d in delta],
            "db_h": list(delta),
            "dx": list(delta * W_xh.T),
            "dh0": list(delta * W_hh.T),
        }
        for road, (key, values) in itertools.product(ROADS, want.items()):
            got = solve(problem, MpmathNumbers(prec), road).values[key]
            error = mpmath.norm([mpmath.mp.make_mpf(v._mpf_) - w for v, w in zip(got, values, strict=True)])
            assert error <= mpmath.norm(values) * mpmath.mpf(2) ** (8 - prec), (road, key)


@pytest.mark.parametrize(("cell", "activation"), ACTIVATED)
def test_one_step_knows_no_truncation(cell: str, activation: str | None) -> None:
    whole = generic(cell, 3, Truncation(), activation)
    assert whole.loss.target is not None
    one = replace(whole, x=whole.x[:1], lengths=None, loss=replace(whole.loss, target=whole.loss.target[:1]))
    for kind in (Truncation("window", k=1), Truncation("chunk", k=3), Truncation("periodic", k1=2, k2=2)):
        for road in EXACT_ROADS:
            want, got = (solve(p, MpmathNumbers(128), road).values for p in (one, replace(one, truncation=kind)))
            assert got == want, (road, kind)


FLOAT64 = 1e-10
"""A cross-check's tolerance on generic problems of five steps: their sums of absolute terms are some thousands."""


@pytest.mark.parametrize(("cell", "activation"), ACTIVATED)
def test_pytorch_finds_the_same_gradients(cell: str, activation: str | None) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from implementations import torch_autograd

    kinds = CELLS[cell].truncations
    for seed in range(8):
        problem = generic(cell, seed, ONE_OF_EACH[kinds[seed % len(kinds)]], activation)
        solution = solve(problem, BallNumbers(128), "forward")
        got = torch_autograd.gradients(problem)
        assert set(got) == set(solution.values)
        close(solution, {key: value for key, value in got.items() if key not in (*problem.spec.states, "o")})


class Jax:
    """An `Arithmetic` over JAX's arrays."""

    def __init__(self, jax: Any) -> None:
        self.np, self.tanh, self.sigmoid, self.hold = jax.numpy, jax.numpy.tanh, jax.nn.sigmoid, jax.lax.stop_gradient

    def linear(self, products: Any, addends: Any = ()) -> Any:
        return sum(X @ W for X, W in products) + sum(addends)

    def columns(self, value: Any, start: int, stop: int) -> Any:
        return value[..., start:stop]

    def mul(self, a: Any, b: Any) -> Any:
        return a * b

    def add(self, a: Any, b: Any) -> Any:
        return a + b

    def mix(self, z: Any, n: Any, h: Any) -> Any:
        return (1 - z) * n + z * h

    def relu(self, a: Any) -> Any:
        return self.np.where(a > 0, a, 0.0)

    def identity(self, a: Any) -> Any:
        return a


def loss_in_jax(jax: Any, problem: Problem, leaves: dict[str, Any]) -> Any:
    """The loss of a problem without lengths, as a function of all that has a gradient."""
    A, spec, loss, jnp = Jax(jax), problem.spec, problem.loss, jax.numpy
    w = spec.prepare(A, {name: leaves[name] for name in spec.shapes(problem.D, problem.H)}, problem.H)
    state = {name: leaves[f"{name}0"] for name in spec.states}
    h = []
    for x_t in leaves["x"]:
        state = spec.step(A, w, x_t, state, problem.activation, problem.truncation.kind == "cec")
        h.append(state["h"])
    o = jnp.stack(h)
    if problem.readout == "linear":
        o = o @ leaves["W_hy"] + leaves["b_y"]
    if loss.kind == "cotangent":
        finals = ((loss.g, o), *((getattr(loss, f"g_{name}_final"), value) for name, value in state.items()))
        return sum((g * value).sum() for g, value in finals)
    if loss.kind == "squared_error":
        total = loss.scale * ((o - loss.target) ** 2).sum()
    else:
        total = -jnp.take_along_axis(jax.nn.log_softmax(o), loss.target[..., None], axis=-1).sum()
    parts = {"sum": 1, "mean": problem.T, "tokens": problem.T * problem.B}[loss.time_reduction]
    return total / (parts * (problem.B if loss.batch_reduction == "mean" else 1))


@pytest.mark.parametrize(("cell", "activation"), ACTIVATED)
def test_jax_finds_the_same_gradients(cell: str, activation: str | None) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    jax.config.update("jax_enable_x64", True)
    for seed in range(6):
        kind = "cec" if seed % 2 and "cec" in CELLS[cell].truncations else "full"
        problem = replace(generic(cell, seed, ONE_OF_EACH[kind], activation), lengths=None)
        leaves = {**problem.params, "x": problem.x, "h0": problem.h0, "c0": problem.c0}
        leaves = {name: jax.numpy.asarray(value) for name, value in leaves.items() if value is not None}
        loss, gradients = jax.value_and_grad(lambda at, p=problem: loss_in_jax(jax, p, at))(leaves)
        got = {"loss": np.asarray(loss)} | {f"d{name}": np.asarray(value) for name, value in gradients.items()}
        close(solve(problem, BallNumbers(128), "forward"), got)


def close(solution: Any, got: dict[str, Array]) -> None:
    """Every array within FLOAT64 of the exact one, relative to its norm."""
    for key, value in got.items():
        want = solution.near(key)[0]
        assert value.shape == want.shape, key
        assert np.linalg.norm(value - want) <= FLOAT64 * np.linalg.norm(want), key
