"""The budget: its units and zeros, what widens it, and that no admissible implementation, however hostile, leaves it.

The attack runs an implementation twice. The first run records every operation and, by reverse differentiation, how much
each one's rounding moves a chosen entry of the result; the second run rounds every operation by its full unit, in the
direction that moves the entry most. What follows is an admissible implementation, as bad as they come.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from implementations import numpy_bptt
from oracle.ball_numbers import BallNumbers
from oracle.budget import Budget, Model, additions, backward, budget, compiled
from oracle.budget.transport import ROUND, Transport
from oracle.solution import Solution, solve

Array = NDArray[Any]
U = 2.0**-24
OTHERWISE = 2**9 * 2.0**-52
"""How far two ways to add up the same terms >= 0 may differ, where no term meets more than 2**9 roundings of 2**-53."""
ONE, ZERO = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)


def make(
    cell: str = "elman", seed: int = 0, sizes: Sequence[int] = (4, 2, 2, 3, 2), activation: str = "tanh", **fields: Any
) -> Problem:
    """A random float64 problem with a cotangent loss; sizes are T, B, D, H, K, without a readout if K is 0."""
    T, B, D, H, K = sizes
    rng = np.random.default_rng(seed)
    shapes = CELLS[cell].shapes(D, H) | ({"W_hy": (H, K), "b_y": (K,)} if K else {})
    params = {name: rng.normal(size=shape) * 0.7 for name, shape in shapes.items()}
    states = CELLS[cell].states
    problem = Problem(
        cell,
        params,
        rng.normal(size=(T, B, D)),
        Loss("cotangent", g=rng.normal(size=(T, B, K or H))),
        activation=activation if CELLS[cell].activations else None,
        readout="linear" if K else "none",
        **{f"{state}0": rng.normal(size=(B, H)) for state in states},
    )
    return replace(problem, **fields)


def solved(problem: Problem, model: Model | None = None) -> tuple[Solution, Budget]:
    solution = solve(problem, BallNumbers(200))
    return solution, budget(solution, model or Model(problem.dtype))


def line(T: int, params: dict[str, Any] | None = None, activation: str = "identity", **fields: Any) -> Problem:
    """One float32 neuron with weights 1 and inputs 1, and no loss but the fields given."""
    weights = {"W_xh": ONE, "W_hh": ONE, "b_h": ZERO[0]} | (params or {})
    loss = Loss("cotangent", g=np.zeros((T, 1, 1), np.float32))
    fields = {"loss": loss, "h0": ZERO, "x": np.ones((T, 1, 1), np.float32)} | fields
    return Problem("elman", weights, activation=activation, dtype="float32", **fields)


def ratio(solution: Solution, bounds: Budget, key: str, got: Array) -> float:
    """The largest error over budget, 0/0 being 0."""
    hi, lo, _ = solution.near(key)
    error, bound = np.abs((np.asarray(got, np.float64) - hi) - lo), bounds.arrays[key]
    with np.errstate(all="ignore"):
        return float(np.max(np.where(error == 0, 0.0, error / bound)))


# ---- an arithmetic that rounds as badly as it may -------------------------------------------------------------------


class Machine:
    """Scalars whose every operation is recorded, and rounded by the signs given (none: exactly)."""

    def __init__(self, signs: Array | None = None) -> None:
        self.signs = signs
        self.values: list[float] = []
        self.inputs: list[tuple[tuple[int, float], ...]] = []
        self.units: list[float] = []

    def put(self, value: float, inputs: tuple[tuple[int, float], ...] = (), units: float = 0.0) -> Number:
        if units and self.signs is not None:
            value *= 1 + self.signs[len(self.values)] * units * U
        self.values.append(value)
        self.inputs.append(inputs)
        self.units.append(units)
        return Number(self, len(self.values) - 1)

    def worst_signs(self, entry: Number) -> Array:
        """The direction in which each operation's rounding moves the entry upwards."""
        adjoint = np.zeros(len(self.values))
        adjoint[entry.at] = 1.0
        for k in range(entry.at, -1, -1):
            if adjoint[k]:
                for at, slope in self.inputs[k]:
                    adjoint[at] += adjoint[k] * slope
        return np.sign(adjoint * self.values)


class Number:
    """A scalar of a machine."""

    def __init__(self, machine: Machine, at: int) -> None:
        self.machine, self.at = machine, at

    @property
    def value(self) -> float:
        return self.machine.values[self.at]

    def __add__(self, other: Number) -> Number:
        return self.machine.put(self.value + other.value, ((self.at, 1.0), (other.at, 1.0)), 1.0)

    def __sub__(self, other: Number) -> Number:
        return self.machine.put(self.value - other.value, ((self.at, 1.0), (other.at, -1.0)), 1.0)

    def __mul__(self, other: Number) -> Number:
        return self.machine.put(self.value * other.value, ((self.at, other.value), (other.at, self.value)), 1.0)

    def function(self, value: float, slope: float) -> Number:
        return self.machine.put(value, ((self.at, slope),), 8.0)  # 4 ulp are up to 8 u

    def tanh(self) -> Number:
        z = math.tanh(self.value)
        return self.function(z, 1 - z * z)

    def sigmoid(self) -> Number:
        z = 1 / (1 + math.exp(-self.value))
        return self.function(z, z * (1 - z))

    def half(self) -> Number:
        return self.machine.put(self.value / 2, ((self.at, 0.5),))  # exact


def total(terms: Sequence[Number]) -> Number:
    """From the first to the last; a constant 0 is no term."""
    terms = [term for term in terms if term.value or term.machine.units[term.at]]
    found = terms[0]
    for term in terms[1:]:
        found = found + term
    return found


def enter(machine: Machine, array: Array) -> Any:
    """Nested lists of exact numbers."""
    return [enter(machine, part) for part in array] if array.ndim else machine.put(float(array))


def vector_matrix(x: Sequence[Number], W: Any) -> list[list[Number]]:
    """The products of x W, a list for each column, not yet added up."""
    return [[x_i * row[j] for x_i, row in zip(x, W, strict=True)] for j in range(len(W[0]))]


def transposed(W: Any) -> Any:
    return [list(column) for column in zip(*W, strict=True)]


Results = dict[tuple[Any, ...], Number]


def elman(machine: Machine, problem: Problem, road: str) -> Results:
    """The tanh network without a readout, one row at a time; `road` is reverse, double-sum or forward."""
    T, B, D, H = problem.T, problem.B, problem.D, problem.H
    one = machine.put(1.0)
    W_xh, W_hh, b_h = (enter(machine, problem.params[name]) for name in ("W_xh", "W_hh", "b_h"))
    x, h0, g = enter(machine, problem.x), enter(machine, problem.h0), enter(machine, problem.loss.g)
    out: Results = {}
    terms: dict[tuple[Any, ...], list[Number]] = {}
    for b in range(B):
        h = [h0[b]]
        for t in range(T):
            products = zip(vector_matrix(x[t][b], W_xh), vector_matrix(h[-1], W_hh), b_h, strict=True)
            h.append([total([*from_x, *from_h, bias]).tanh() for from_x, from_h, bias in products])
        out |= {("h", t, b, j): h[t + 1][j] for t in range(T) for j in range(H)}

        def give(t: int, delta: Sequence[Number], b: int = b, h: Any = h) -> list[Number]:
            for j, d in enumerate(delta):
                terms.setdefault(("db_h", j), []).append(d)
                for i in range(D):
                    terms.setdefault(("dW_xh", i, j), []).append(x[t][b][i] * d)
                for i in range(H):
                    terms.setdefault(("dW_hh", i, j), []).append(h[t][i] * d)
            for i, products in enumerate(vector_matrix(delta, transposed(W_xh))):
                terms.setdefault(("dx", t, b, i), []).append(total(products))
            return [total(products) for products in vector_matrix(delta, transposed(W_hh))]

        slopes = [[one - z * z for z in h[t + 1]] for t in range(T)]
        if road == "forward":  # dh_t/dh_0, carried upwards
            P = [[machine.put(float(i == j)) for j in range(H)] for i in range(H)]
            sums: list[list[Number]] = [[] for _ in range(H)]
            for t in range(T):
                P = [[total(p) * s for p, s in zip(vector_matrix(row, W_hh), slopes[t], strict=True)] for row in P]
                for i, row in enumerate(P):
                    sums[i].append(total([p * g_j for p, g_j in zip(row, g[t][b], strict=True)]))
            out |= {("dh0", b, i): total(parts) for i, parts in enumerate(sums)}
            continue
        passes = [[t] for t in range(T)] if road == "double-sum" else [list(range(T))]
        for losses in passes:
            carry: list[Number] | None = None
            for t in range(losses[-1], -1, -1):
                if t in losses:
                    carry = list(g[t][b]) if carry is None else [c + g_j for c, g_j in zip(carry, g[t][b], strict=True)]
                assert carry is not None
                carry = give(t, [c * s for c, s in zip(carry, slopes[t], strict=True)])
            assert carry is not None
            for i in range(H):
                terms.setdefault(("dh0", b, i), []).append(carry[i])
    return out | {key: total(parts) for key, parts in terms.items()}


def lstm(machine: Machine, problem: Problem, road: str) -> Results:
    """The LSTM with a linear readout, one row at a time, in reverse; `road` is the order of the terms of dL/dh_t."""
    T, B, D, H, K = problem.T, problem.B, problem.D, problem.H, problem.K
    one = machine.put(1.0)
    W_x, W_h, bias, W_hy, b_y = (enter(machine, problem.params[name]) for name in ("W_x", "W_h", "b", "W_hy", "b_y"))
    x, g = enter(machine, problem.x), enter(machine, problem.loss.g)
    h0, c0 = enter(machine, problem.h0), enter(machine, problem.c0)
    out: Results = {}
    terms: dict[tuple[Any, ...], list[Number]] = {}

    def give(key: tuple[Any, ...], term: Number) -> None:
        terms.setdefault(key, []).append(term)

    for b in range(B):
        h, c, gates = [h0[b]], [c0[b]], []
        for t in range(T):
            products = zip(vector_matrix(x[t][b], W_x), vector_matrix(h[-1], W_h), bias, strict=True)
            a = [total([*from_x, *from_h, b_j]) for from_x, from_h, b_j in products]
            i, f, o = ([a_j.sigmoid() for a_j in a[k * H : (k + 1) * H]] for k in (0, 1, 3))
            g_ = [a_j.tanh() for a_j in a[2 * H : 3 * H]]
            c.append([f[j] * c[-1][j] + i[j] * g_[j] for j in range(H)])
            squashed = [c_j.tanh() for c_j in c[-1]]
            h.append([o[j] * squashed[j] for j in range(H)])
            gates.append((i, f, g_, o, squashed))
            outputs = [total([*parts, b_k]) for parts, b_k in zip(vector_matrix(h[-1], W_hy), b_y, strict=True)]
            out |= {("h", t, b, j): h[-1][j] for j in range(H)} | {("c", t, b, j): c[-1][j] for j in range(H)}
            out |= {("o", t, b, k): outputs[k] for k in range(K)}
        carry: list[list[Number]] = [[] for _ in range(H)]
        carry_c: list[Number] | None = None
        for t in range(T - 1, -1, -1):
            i, f, g_, o, squashed = gates[t]
            readout = vector_matrix(g[t][b], transposed(W_hy))
            first = [[*carry[j], *readout[j]] if road == "carry first" else [*readout[j], *carry[j]] for j in range(H)]
            dh = [total(parts) for parts in first]
            dc = [dh[j] * o[j] * (one - squashed[j] * squashed[j]) for j in range(H)]
            if carry_c is not None:
                dc = [carry_c[j] + dc[j] for j in range(H)]
            delta = [dc[j] * g_[j] * i[j] * (one - i[j]) for j in range(H)]
            delta += [dc[j] * c[t][j] * f[j] * (one - f[j]) for j in range(H)]
            delta += [dc[j] * i[j] * (one - g_[j] * g_[j]) for j in range(H)]
            delta += [dh[j] * squashed[j] * o[j] * (one - o[j]) for j in range(H)]
            for j, d in enumerate(delta):
                give(("db", j), d)
                for n in range(D):
                    give(("dW_x", n, j), x[t][b][n] * d)
                for n in range(H):
                    give(("dW_h", n, j), h[t][n] * d)
            for n, parts in enumerate(vector_matrix(delta, transposed(W_x))):
                out["dx", t, b, n] = total(parts)
            for k in range(K):
                give(("db_y", k), g[t][b][k])
                for n in range(H):
                    give(("dW_hy", n, k), h[t + 1][n] * g[t][b][k])
            back = vector_matrix(delta, transposed(W_h))
            carry = back if road == "carry first" else [[total(parts)] for parts in back]
            carry_c = [dc[j] * f[j] for j in range(H)]
        assert carry_c is not None
        for j in range(H):
            out["dh0", b, j], out["dc0", b, j] = total(carry[j]), carry_c[j]
    return out | {key: total(parts) for key, parts in terms.items()}


Implementation = Callable[[Machine, Problem, str], Results]


def attack(run: Implementation, problem: Problem, road: str, rng: np.random.Generator) -> float:
    """The worst error over budget of an implementation: three runs with random signs, and one against each entry."""
    solution, bounds = solved(problem, Model("float32"))
    recorded = Machine()
    entries = run(recorded, problem, road)

    def excess(got: Results, key: tuple[Any, ...]) -> float:
        name, *where = key
        hi, lo, _ = solution.near(name)
        return abs(got[key].value - hi[tuple(where)] - lo[tuple(where)]) / bounds.arrays[name][tuple(where)]

    worst = 0.0
    for _ in range(3):
        got = run(Machine(rng.choice([-1.0, 1.0], len(recorded.values))), problem, road)
        worst = max(worst, *(excess(got, key) for key in got))
    for key, entry in entries.items():
        signs = recorded.worst_signs(entry)
        for direction in (1.0, -1.0):
            got = run(Machine(direction * signs), problem, road)
            worst = max(worst, excess(got, key))
    return worst


ATTACKS = [
    (elman, "elman", "reverse", (5, 2, 1, 2, 0)),
    (elman, "elman", "double-sum", (5, 1, 1, 2, 0)),
    (elman, "elman", "forward", (5, 1, 1, 3, 0)),
    (elman, "elman", "reverse", (1, 1, 1, 1, 0)),
    (lstm, "lstm", "readout first", (3, 1, 1, 2, 2)),
    (lstm, "lstm", "carry first", (3, 1, 2, 1, 5)),
    (lstm, "lstm", "carry first", (1, 1, 1, 1, 1)),
]


@pytest.mark.parametrize(("run", "cell", "road", "sizes"), ATTACKS, ids=[f"{a[1]}-{a[2]}-{a[3]}" for a in ATTACKS])
def test_no_rounding_leaves_the_budget_and_some_use_much_of_it(
    run: Implementation, cell: str, road: str, sizes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(7)
    found = [attack(run, make(cell, seed, sizes), road, rng) for seed in range(2)]
    assert max(found) <= 1
    assert max(found) >= 0.3  # a budget that no attack comes near would say little


# ---- what each clause is for: an admissible run in float32 that needs it ---------------------------------------------


def test_readout_terms_may_be_added_to_the_carry_one_by_one() -> None:
    """Each product is below half a unit of the carry, so that a loop in float32 loses them all, at every step."""
    T, K = 8, 400
    small = np.float32(0.9 * 2.0**-25)
    loss = Loss("cotangent", g=np.ones((T, 1, K), np.float32), g_h_final=ONE)
    readout = {"W_hy": np.full((1, K), small), "b_y": np.zeros(K, np.float32)}
    problem = line(T, readout, loss=loss, readout="linear")
    carry = np.float32(1)
    for _ in range(T * K):
        carry = carry + small
    assert carry == 1
    solution, bounds = solved(problem)
    assert 0.1 <= ratio(solution, bounds, "dh0", np.array([[carry]])) <= 1


@pytest.mark.parametrize("x", [0.1, 0.3, 0.9])
def test_passes_may_add_to_one_running_sum(x: float) -> None:
    """100 of 200 steps a window: equal terms are rounded the same way, nearly 15,000 times over."""
    T = 200
    problem = line(
        T,
        x=np.full((T, 1, 1), np.float32(x)),
        loss=Loss("cotangent", g=np.full((T, 1, 1), np.float32(0.7))),
        truncation=Truncation("window", k=100),
    )
    solution, bounds = solved(problem)
    got = numpy_bptt.gradients(problem)
    assert max(ratio(solution, bounds, key, got[key]) for key in ("dW_xh", "dW_hh", "db_h")) <= 1
    assert additions(problem.truncation, problem.row_lengths, T) == 100 * 101 // 2 + 100 * 100


@pytest.mark.parametrize("a", [-3.0, -6.0, -12.0])
def test_logistic_function_and_its_slope_may_come_by_way_of_tanh(a: float) -> None:
    problem = make(sizes=(1, 1, 1, 1, 0), activation="sigmoid", x=np.full((1, 1, 1), 1.0), h0=np.zeros((1, 1)))
    problem = replace(problem, params={"W_xh": np.full((1, 1), a), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)})

    def run(machine: Machine, problem: Problem, _: str) -> Results:
        one = machine.put(1.0)
        W, g = machine.put(a), machine.put(float(problem.loss.g[0, 0, 0]))  # type: ignore[index]
        T = (one * W).half().tanh()
        delta = g * (one - T * T).half().half()
        return {("h", 0, 0, 0): (one + T).half(), ("db_h", 0): delta, ("dx", 0, 0, 0): delta * W}

    assert 0.3 <= attack(run, problem, "", np.random.default_rng(0)) <= 1


def test_final_cotangents_are_terms_of_the_loss_like_any_other() -> None:
    """In one flat sum each of them is one more rounding of all the others."""
    problem = make("lstm", sizes=(1, 2, 1, 30, 1))
    B, H, g, final = problem.B, problem.H, problem.loss.g, np.full((2, 30), 2.0**-60)
    solution, without = solved(problem)
    _, both = solved(replace(problem, loss=Loss("cotangent", g=g, g_h_final=final, g_c_final=final)))
    size = np.abs(np.asarray(g) * solution.near("o")[0]).sum()
    assert both.arrays["loss"] - without.arrays["loss"] >= 2 * B * H * 2.0**-53 * size


def test_parameters_and_cotangents_may_be_read_as_zero_where_subnormals_are_flushed() -> None:
    tiny = np.float32(1e-38)
    g = np.full((1, 1, 1), np.float32(1e10))
    lost = line(1, {"W_hy": tiny * ONE, "b_y": ZERO[0]}, readout="linear", loss=Loss("cotangent", g=g))
    solution, bounds = solved(lost, Model("float32", flush=True))
    assert ratio(solution, bounds, "dh0", ZERO) <= 1
    lost = line(2, {"W_hh": ONE * np.float32(1e10)}, loss=Loss("cotangent", g=np.array([[[0]], [[tiny]]], np.float32)))
    solution, bounds = solved(lost, Model("float32", flush=True))
    assert ratio(solution, bounds, "dh0", ZERO) <= 1
    assert ratio(solution, bounds, "loss", np.array(0.0)) <= 1
    final = Loss("cotangent", g=np.zeros((1, 1, 1), np.float32), g_h_final=tiny * ONE)
    solution, bounds = solved(line(1, loss=final, lengths=np.array([0])), Model("float32", flush=True))
    assert ratio(solution, bounds, "dh0", ZERO) <= 1
    assert solved(line(1, loss=final, lengths=np.array([0])))[1].arrays["dh0"] == 0


def test_function_of_a_subnormal_may_be_off_by_its_ulps() -> None:
    _, bounds = solved(line(1, activation="tanh", x=np.full((1, 1, 1), np.float32(1e-45))))
    assert bounds.arrays["h"][0, 0, 0] >= 4 * 2.0**-149


# ---- units, zeros, and what widens or narrows the budget -------------------------------------------------------------


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_budgets_are_proportional_to_u(cell: str) -> None:
    """2^-24 over 2^-53, on a smooth problem where the second order is small in both."""
    solution, wide = solved(make(cell), Model("float32"))
    narrow = budget(solution, Model("float64"))
    for key, bound in wide.arrays.items():
        found = bound[bound > 0] / narrow.arrays[key][bound > 0] / 2.0**29
        assert found.size
        assert (np.abs(found - 1) <= 1e-3).all(), key


def test_budget_grows_with_the_declared_error_of_functions() -> None:
    solution, _ = solved(make("gru_reset_after"))
    bounds = [budget(solution, Model("float64", ulp=ulp)).arrays for ulp in (0.5, 1.0, 4.0, 16.0)]
    for key in bounds[0]:
        for less, more in itertools.pairwise(bounds):
            assert (less[key] <= more[key]).all(), key
        assert (bounds[0][key] < bounds[-1][key]).any() or key == "db_y", key  # a sum of the cotangents alone


def test_budget_is_exactly_zero_where_nothing_is_computed() -> None:
    problem = make(sizes=(5, 3, 2, 3, 2), lengths=np.array([5, 2, 0]), truncation=Truncation("chunk", k=2))
    g = np.array(problem.loss.g)
    g[:2] = 0  # no loss in the first chunk, so that none reaches h_0
    _, bounds = solved(replace(problem, loss=Loss("cotangent", g=g)))
    assert (bounds.arrays["dx"][2:, 1] == 0).all()  # beyond the length of row 1
    assert (bounds.arrays["dx"][:, 2] == 0).all()
    assert (bounds.arrays["dx"][:2] == 0).all()
    assert (bounds.arrays["dx"][2:, 0] > 0).all()
    assert (bounds.arrays["dh0"] == 0).all()
    assert (bounds.arrays["dW_hh"] > 0).all()


def test_zero_cotangent_has_a_budget_of_zero() -> None:
    problem = make("lstm")
    _, bounds = solved(replace(problem, loss=Loss("cotangent", g=np.zeros_like(problem.loss.g))))
    assert all((bound == 0).all() for key, bound in bounds.arrays.items() if key.startswith("d")), bounds.arrays


def test_overflow_makes_only_what_it_reaches_infinite() -> None:
    huge = np.array([[[1.0]], [[1e38]], [[1e38]]], np.float32)
    _, bounds = solved(line(3, x=huge, loss=Loss("cotangent", g=np.ones((3, 1, 1), np.float32))))
    assert np.isfinite(bounds.arrays["h"][0]).all()
    assert np.isinf(bounds.arrays["h"][2]).all()
    assert np.isinf(bounds.arrays["dW_xh"]).all()
    steep = Loss("cotangent", g=np.full((3, 1, 1), np.float32(1e38)))
    _, bounds = solved(line(3, loss=steep))
    assert np.isfinite(bounds.arrays["h"]).all()
    assert all(np.isinf(bounds.arrays[key]).all() for key in ("loss", "dW_hh", "dh0"))


def test_error_of_a_loss_is_not_mistaken_for_its_size() -> None:
    """In float16 a bound of 2^15 u is 16, far from overflow."""
    T, B, H = 16, 4, 16
    rng, zeros = np.random.default_rng(0), np.zeros((B, H), np.float16)
    params = {n: (rng.normal(size=shape) / 8).astype(np.float16) for n, shape in CELLS["lstm"].shapes(2, H).items()}
    loss = Loss("cotangent", g=rng.normal(size=(T, B, H)).astype(np.float16))
    problem = Problem("lstm", params, np.ones((T, B, 2), np.float16), loss, zeros, zeros, dtype="float16")
    _, bounds = solved(problem)
    assert 2.0**4 < bounds.arrays["loss"] < np.inf
    assert np.isfinite(bounds.arrays["h"]).all()


def test_weights_may_be_multiplied_in_at_the_end() -> None:
    """The mean over 4 rows of a gradient is below overflow, its sum over the rows is beyond."""
    x, target = np.full((1, 4, 1), np.float32(1e30)), np.full((1, 4, 1), np.float32(-2e7))
    loss = Loss("squared_error", target=target, scale=0.5, batch_reduction="mean")
    problem = line(1, {"W_xh": ONE * np.float32(1e-22)}, x=x, loss=loss, h0=np.zeros((4, 1), np.float32))
    solution, bounds = solved(problem)
    gradient, largest = abs(solution.near("dW_xh")[0][0, 0]), float(np.finfo(np.float32).max)
    assert gradient < largest / 2 < largest < 4 * gradient
    assert np.isinf(bounds.arrays["dW_xh"]).all()
    assert np.isfinite(bounds.arrays["loss"])


def test_kinks_are_counted_and_either_branch_is_within_budget() -> None:
    """a = 0.1 + 0.2 - 0.3 in float64 is not 0, but no farther from it than its own rounding."""
    params = {"W_xh": np.array([[0.1], [0.2], [-0.3]]), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)}
    loss = Loss("cotangent", g=np.ones((1, 1, 1)))
    problem = Problem("elman", params, np.ones((1, 1, 3)), loss, h0=np.zeros((1, 1)), activation="relu")
    solution, bounds = solved(problem)
    assert bounds.kinks == 1
    for branch in (0.0, 1.0):
        assert ratio(solution, bounds, "db_h", np.array([branch])) <= 1
    away = replace(problem, params=params | {"b_h": np.full(1, -1e-10)})
    solution, bounds = solved(away)
    assert bounds.kinks == 0
    assert bounds.arrays["db_h"] == 0  # no unit is active: nothing is rounded


def test_flushing_costs_more_than_keeping_subnormals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LOOPS", None)  # it knows no flushing: both in NumPy, to the last bit
    problem = make("lstm", x=np.full((4, 2, 2), 1e-300))
    solution, keep = solved(replace(problem, params={n: 1e-4 * p for n, p in problem.params.items()}))
    flush = budget(solution, Model("float64", flush=True))
    for key, bound in keep.arrays.items():
        assert (flush.arrays[key] >= bound).all(), key
    assert (flush.arrays["dW_x"] > keep.arrays["dW_x"]).all()


def test_wider_accumulator_pays_for_long_sums() -> None:
    solution, plain = solved(make(sizes=(3, 2, 64, 24, 8)), Model("float32"))
    wide = budget(solution, Model("float32", accumulate="float64"))
    assert np.linalg.norm(wide.arrays["h"]) < 0.5 * np.linalg.norm(plain.arrays["h"])
    assert np.linalg.norm(wide.arrays["dx"]) < 0.5 * np.linalg.norm(plain.arrays["dx"])
    short = Model("float16", accumulate="float32")
    assert short.terms(1) < 1.001  # one product: rounded once to storage
    assert Model("float16").terms(3, 5) == Model("float16").terms(5, 3) > Model("float16").terms(8)


# ---- transport -------------------------------------------------------------------------------------------------------


def test_transport_accounts_for_its_own_rounding() -> None:
    """Jacobians whose products cancel to nothing: what float64 leaves of them is rounding, and must be bounded."""
    rng = np.random.default_rng(5)
    S, T = 3, 12
    J = rng.normal(size=(T, S, S))
    for t in range(1, T, 2):
        J[t] = np.round(np.linalg.inv(J[t - 1]), 12)
    local = rng.random((T + 1, S))
    kappa = S + 1
    transport = Transport(T, 1, S)
    sources = np.zeros((1, T + 1, 1, S))
    sources[0, 0, 0] = local[0]
    transport.add()
    arrived = local[0]
    exact = [[[Fraction(int(i == j)) for j in range(S)] for i in range(S)]]
    for t in range(T):
        transport.advance(J[t][None])
        transport.add()
        sources[0, t + 1, 0] = local[t + 1] + kappa * ROUND * arrived @ np.abs(J[t])
        arrived = transport.arrive(sources[:, : t + 2])[0, 0]
        columns = [[Fraction(float(v)) for v in column] for column in J[t].T]
        exact = [
            [[sum(p * q for p, q in zip(row, column, strict=True)) for column in columns] for row in P] for P in exact
        ]
        exact.append([[Fraction(int(i == j)) for j in range(S)] for i in range(S)])
        for j in range(S):
            want = sum(
                Fraction(float(l_i)) * abs(P[i][j])
                for l_s, P in zip(local, exact, strict=False)
                for i, l_i in enumerate(l_s)
            )
            assert Fraction(float(arrived[j])) * (1 + Fraction(1, 2**40)) >= want


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru_reset_after"])
@pytest.mark.parametrize(
    "truncation",
    [
        Truncation("window", k=1),
        Truncation("window", k=3),
        Truncation("chunk", k=2),
        Truncation("chunk", k=4),
        Truncation("periodic", k1=2, k2=3),
        Truncation("periodic", k1=4, k2=4),
        Truncation("periodic", k1=3, k2=8),
    ],
    ids=str,
)
def test_passes_side_by_side_are_bounded_as_one_by_one(
    cell: str, truncation: Truncation, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make(cell, sizes=(11, 4, 2, 3, 2), truncation=truncation, lengths=np.array([11, 7, 0, 10]))
    _, together = solved(problem)
    monkeypatch.setattr(backward, "ROOM", 0)
    _, alone = solved(problem)
    for key, bound in together.arrays.items():
        assert np.allclose(bound, alone.arrays[key], rtol=OTHERWISE, atol=0.0), key
    for key, scale in together.scales.items():
        assert np.allclose(scale, alone.scales[key], rtol=OTHERWISE, atol=0.0), key


@pytest.mark.parametrize("truncation", [Truncation("periodic", k1=4, k2=4), Truncation("window", k=3)], ids=str)
def test_row_is_bounded_as_if_it_were_alone(truncation: Truncation) -> None:
    lengths = np.array([11, 7, 10])
    problem = make("elman", sizes=(11, 3, 2, 3, 0), truncation=truncation, lengths=lengths)
    _, together = solved(problem)
    for b in range(3):
        row = slice(b, b + 1)
        assert problem.h0 is not None and problem.loss.g is not None
        loss = replace(problem.loss, g=problem.loss.g[:, row])
        _, alone = solved(replace(problem, x=problem.x[:, row], h0=problem.h0[row], lengths=lengths[row], loss=loss))
        assert np.allclose(together.arrays["dx"][:, row], alone.arrays["dx"], rtol=OTHERWISE, atol=0.0)
        assert np.allclose(together.arrays["dh0"][row], alone.arrays["dh0"], rtol=OTHERWISE, atol=0.0)


def test_underflow_of_a_tangent_is_carried_by_the_adjoint() -> None:
    """x is the smallest number: in forward mode x delta is rounded to a multiple of it before the cotangent comes."""
    tiny, g = 5e-324, 300.0
    problem = make(sizes=(1, 1, 1, 1, 0), x=np.full((1, 1, 1), tiny), loss=Loss("cotangent", g=np.full((1, 1, 1), g)))
    solution, bounds = solved(problem)
    slope = 1 - solution.near("h")[0][0, 0, 0] ** 2
    tangent = float(tiny * slope)  # to the nearest multiple
    error = abs(tangent * g - solution.near("dW_xh")[0][0, 0])
    assert tiny < error <= bounds.arrays["dW_xh"][0, 0]
