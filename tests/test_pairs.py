"""Balls of pairs: every operation and every problem is enclosed, what fits is exact, and arb does what they cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flint import arb, arb_mat, ctx
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from conformance.bench import TargetBench
from conformance.engine import Profile, Search
from oracle import pairs
from oracle.ball_numbers import BallNumbers
from oracle.budget import Budget, Model, budget, compiled
from oracle.budget.model import INFLATE
from oracle.errors import OracleDisagrees
from oracle.pairs import Balls, PairSolution, confirm, entrywise, exact, product, ratios, solve_in_pairs
from oracle.solution import scope, solve
from oracle.truth import find_truth
from properties import PROPERTIES
from properties.corners import corner_problems
from properties.long_range import long_range_problems
from properties.pairwise import pairwise_problems
from properties.strategies import offered
from tests.loading import in_process

pytestmark = pytest.mark.skipif(compiled.LOOPS is None, reason="pairs are not compiled here")

BITS = 3500
"""So many hold every sum of two pairs of the sizes below without rounding."""
COUNT = 300
MUTANTS = Path(__file__).parent / "mutants" / "blind.py"
WIDTHS = (0.0, 2.0**-100, 1e-3)


@pytest.fixture(autouse=True)
def _precise() -> Iterator[None]:
    with ctx.workprec(BITS):
        yield


def rng() -> np.random.Generator:
    """The same for every test."""
    return np.random.default_rng(12)


def pair(values: NDArray[np.float64], width: float) -> Balls:
    """Balls about values with a lower half, of a width relative to them."""
    out = exact(values)
    out[1] = values * 2.0**-54 * rng().uniform(-1, 1, values.shape)
    out[2] = np.abs(values) * width * rng().uniform(0, 1, values.shape)
    return out


def members(balls: Balls, at: int) -> list[Any]:
    """The middle of each ball, at = 0, or an end of it, 1 or -1: exact numbers."""
    rows = zip(*(plane.reshape(-1).tolist() for plane in balls), strict=True)
    return [arb(hi) + arb(lo) + at * arb(rad) for hi, lo, rad in rows]


def holds(balls: Balls, values: list[Any]) -> bool:
    """Whether each ball contains the value, to all of BITS: arb's own radii have 30, and are rounded up."""
    rows = zip(members(balls, 0), balls[2].reshape(-1).tolist(), values, strict=True)
    return all(abs(arb(value.mid()) - middle) <= arb(rad) for middle, rad, value in rows)


def magnitudes(draw: np.random.Generator, low: int, high: int) -> NDArray[np.float64]:
    """Normal numbers times powers of ten."""
    return draw.normal(size=COUNT) * 10.0 ** draw.integers(low, high, COUNT)


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


def operands() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Of all sizes, of sizes that underflow, and such that cancel."""
    draw = rng()
    yield magnitudes(draw, -20, 20), magnitudes(draw, -20, 20)
    yield magnitudes(draw, -300, 10), magnitudes(draw, -300, 10)
    near = magnitudes(draw, -3, 3)
    yield near, -near * (1 + 2.0**-52 * draw.integers(-3, 4, COUNT))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("op", OPERATIONS)
def test_operations_enclose(op: str, width: float) -> None:
    for left, right in operands():
        a, b = pair(left, width), pair(right, width)
        got = entrywise(op, a, b)
        assert np.isfinite(got).all()
        for i, j in ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            values = map(OPERATIONS[op], members(a, i), members(b, j))
            assert holds(got, list(values))


def test_products_that_underflow_enclose() -> None:
    """Of numbers without a lower half: what the transformation loses where its error is no float64 any more."""
    draw = rng()
    a, b = (exact(magnitudes(draw, -170, -140)) for _ in range(2))
    values = [left * right for left, right in zip(members(a, 0), members(b, 0), strict=True)]
    assert holds(entrywise("mul", a, b), values)
    assert holds(product(a[:, :, None], b[:, None, :])[:, range(COUNT), range(COUNT)], values)


TAIL = float.fromhex("0x1.904601577793fp-108")
NARROW: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "the last error of a sum": (
        "add",
        (2.0**-54, TAIL, 0.0),
        (float.fromhex("0x1.14241696684f9p-78"), 1.5 * 2.0**-351, 0.0),
    ),
    "a radius that underflows": ("mul", (0.1, 0.0, 0.0), (1.0, 0.0, 1.5e-323)),
    "a lower half whose product underflows": ("mul", (1.5 * 2.0**-400, 0.0, 0.0), (1.0, 2.0**-700, 0.0)),
    "the sum of a product's lower parts": ("mul", (0.1, 0.0, 0.0), (0.3, 0.7 * 2.0**-95, 0.0)),
    "a quotient that underflows": ("div", (5e-324, 0.0, 0.0), (3.0, 0.0, 0.0)),
    "a divisor's lower half": ("div", (1.0, 0.0, 0.0), (1.0, -(2.0**-54), 1 - 2.0**-53)),
}
"""Operands of which one small error alone is made."""


@pytest.mark.parametrize("what", NARROW)
def test_small_errors_are_counted(what: str) -> None:
    op, left, right = NARROW[what]
    a, b = (np.array(ball).reshape(3, 1) for ball in (left, right))
    got = entrywise(op, a, b)
    for i, j in ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        values = [OPERATIONS[op](x, y) for x, y in zip(members(a, i), members(b, j), strict=True)]
        assert not np.isfinite(got).all() or holds(got, values)
    if op == "mul":
        for one, other in ((a, b), (b, a)):
            assert holds(
                product(one[:, :, None], other[:, :, None]), [x * y for x in members(a, 1) for y in members(b, 1)]
            )


def test_a_divisor_that_may_be_zero_says_nothing() -> None:
    one, wide = exact(np.ones(1)), np.array([[1.0], [0.0], [2.0]])
    assert not np.isfinite(entrywise("div", one, wide)).all()


def test_operations_are_as_sharp_as_106_bits() -> None:
    left, right = next(operands())
    for op in ("mul", "div"):
        got = entrywise(op, pair(left, 0), pair(right, 0))
        assert (got[2] <= 2.0**-100 * np.abs(got[0])).all()
    got = entrywise("add", pair(left, 0), pair(right, 0))
    assert (got[2] <= 2.0**-100 * (np.abs(left) + np.abs(right))).all()


def test_what_fits_is_exact() -> None:
    draw = rng()
    a, b = (exact(draw.integers(-8, 9, COUNT) / 4.0) for _ in range(2))
    for op in ("add", "sub", "mul"):
        assert (entrywise(op, a, b)[2] == 0).all()
    square = a[:, :225].reshape(3, 15, 15)
    assert (product(square, square)[2] == 0).all()
    zero, wide = exact(np.zeros(3)), pair(np.array([1.0, 1e-300, 5e-324]), 0.5)
    for got in (entrywise("mul", zero, wide), entrywise("mul", wide, zero), entrywise("div", zero, wide[:, [0, 0, 0]])):
        assert (got == 0).all()
    assert (product(wide[:, None, :], zero[:, :, None]) == 0).all()
    one = exact(np.ones(1))
    assert entrywise("exp", exact(np.zeros(1))).ravel().tolist() == [1, 0, 0]
    assert entrywise("log", one).ravel().tolist() == [0, 0, 0]


ARGUMENTS: dict[str, Callable[[np.random.Generator], list[NDArray[np.float64]]]] = {
    "exp": lambda draw: [draw.uniform(-1, 1, COUNT), draw.uniform(-600, 699, COUNT), magnitudes(draw, -300, -1)],
    "log": lambda draw: [
        np.exp(draw.uniform(-1, 1, COUNT)),
        np.exp(draw.uniform(-600, 600, COUNT)),
        1 + magnitudes(draw, -15, -2),
    ],
}


@pytest.mark.parametrize("width", [0.0, 2.0**-100, 1e-5])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_functions_enclose(name: str, width: float) -> None:
    for values in ARGUMENTS[name](rng()):
        a = pair(values, width)
        got = entrywise(name, a)
        said = np.isfinite(got).all(axis=0)
        assert said.mean() > 0.99
        for at in (0, 1, -1):
            assert holds(got[:, said], [getattr(v, name)() for v, s in zip(members(a, at), said, strict=True) if s])
        if width == 0.0:
            size = np.abs(got[0]) if name == "exp" else np.maximum(np.abs(got[0]), 1)
            assert (got[2] <= 2.0**-80 * size).all()
            assert np.median(got[2] / size) <= 2.0**-100


def test_wide_and_far_arguments_enclose() -> None:
    """Or say nothing: where a radius is too wide for the series, and where a result's lower half underflows."""
    wide = np.array([[1.0, -700.0, 1.0, 0.1, 2.0], [0.0] * 5, [8.0, 100.0, 0.9, 0.25, 0.26]])
    far = pair(rng().uniform(-679.9, -640, COUNT), 0.0)
    for name, a in (("exp", wide), ("exp", far), ("log", wide[:, 2:])):
        got = entrywise(name, np.ascontiguousarray(a))
        for at in (0, 1, -1):
            for i, value in enumerate(members(a, at)):
                ball = got[:, i : i + 1]
                exact_value = value.exp() if name == "exp" else value.log()
                assert not np.isfinite(ball).all() or (exact_value.is_finite() and holds(ball, [exact_value]))
    assert np.isfinite(entrywise("exp", far)).all()


def one_unit(activation: str, a: NDArray[np.float64]) -> Problem:
    """Rows of one step: h = phi(a), dx = phi'(a)."""
    params = {"W_xh": np.ones((1, 1)), "W_hh": np.zeros((1, 1)), "b_h": np.zeros(1)}
    loss = Loss("cotangent", g=np.ones((1, len(a), 1)))
    return Problem("elman", params, a.reshape(1, -1, 1), loss, activation=activation)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_activations_and_slopes_enclose(activation: str) -> None:
    draw = rng()
    a = np.concatenate([draw.uniform(-2, 2, COUNT), draw.uniform(-45, 45, COUNT), draw.uniform(-900, 900, COUNT)])
    a = np.concatenate([a, magnitudes(draw, -300, -1), [0.0, 339.9, 340.1, 679.9, -680.1, 1e300, 5e-324]])
    found = solve_in_pairs(one_unit(activation, a))
    assert found is not None
    values, slopes = [], []
    for v in a.tolist():
        e = (-abs(arb(v)) * (2 if activation == "tanh" else 1)).exp() if abs(v) < 1e4 else arb(0)
        values.append(arb(v).tanh() if activation == "tanh" else (1 / (1 + e) if v >= 0 else e / (1 + e)))
        slopes.append(e / (1 + e) ** 2 * (4 if activation == "tanh" else 1))
    h, dx = (np.stack(found.near(key)).reshape(3, -1) for key in ("h", "dx"))
    assert holds(h, values)
    assert holds(dx, slopes)
    near = np.abs(a) < 300
    assert (h[2] <= 2.0**-98 * np.abs(h[0]))[near & (np.abs(a) > 1e-200)].all()
    assert (dx[2] <= 2.0**-98 * dx[0])[near].all()


def test_products_enclose() -> None:
    draw = rng()
    for low, width in ((-3, 0.0), (-3, 1e-3), (-300, 0.0)):
        X, Y = (pair(np.abs(magnitudes(draw, low, 3)[:100]).reshape(shape), width) for shape in ((5, 20), (20, 5)))
        X[:, 1:], Y[:2, :, 1:] = X[:, 1:] * np.array([-1, -1, 1])[:, None, None], -Y[:2, :, 1:]
        for at in (0, 1, -1):
            want = arb_mat(5, 20, members(X, at)) * arb_mat(20, 5, members(Y, at))
            entries = [want[i, j] for i in range(5) for j in range(5)]
            assert holds(product(X, Y), entries)
            assert holds(product(np.ascontiguousarray(X.swapaxes(1, 2)), Y, transposed=True), entries)
    start = pair(np.ones((5, 5)), 1e-3)
    added = product(X, Y, start.copy())
    assert holds(added, [a + b for a, b in zip(members(start, 1), entries, strict=True)])


def test_sums_and_ratios_enclose() -> None:
    a = pair(magnitudes(rng(), -10, 10).reshape(10, 30), 1e-9)
    for at in (0, 1, -1):
        each = members(a, at)
        assert holds(entrywise("row sums", a), [sum(each[i : i + 30], arb(0)) for i in range(0, 300, 30)])
    values = [Fraction(1, 3), Fraction(-7, 10**9), Fraction(1, 4), Fraction(0)]
    assert holds(ratios(values), [arb(v.numerator) / v.denominator for v in values])
    assert ratios(values)[2].tolist()[2:] == [0, 0]


def spread(cell: str, dtype: str) -> Iterator[Problem]:
    """Every pair of features, the corners, and long ones, of a size that arb solves in no time."""
    support = Support(cells=(cell,))
    shape = offered(support, cell)
    yield from list(pairwise_problems(support, cell, dtype))[::4]
    yield from list(corner_problems(support, cell, dtype, shape))[::4]
    for problem in long_range_problems(support, cell, dtype, shape):
        if problem.T == 150:
            yield problem


def assert_near(one: Budget, other: Budget) -> None:
    """The same bounds, but for float64's roundings of what they are made of."""
    assert one.kinks == other.kinks
    for key, bound in one.arrays.items():
        assert (np.isfinite(bound) == np.isfinite(other.arrays[key])).all(), key
        finite = np.isfinite(bound)
        off = np.abs(bound[finite] - other.arrays[key][finite])
        assert (off <= (INFLATE - 1) * bound[finite]).all(), key


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", CELLS)
def test_problems_are_enclosed(cell: str, dtype: str) -> None:
    decided, met, asked = 0, set(), 0
    for problem in spread(cell, dtype):
        if problem.T * problem.B * problem.H > 3000:
            continue
        asked += 1
        found = solve_in_pairs(problem)
        if found is None:
            continue
        fine = solve(problem, BallNumbers(256))
        with scope(fine.N):
            for key, values in fine.values.items():
                assert all(a.overlaps(b) for a, b in zip(found.values[key], values, strict=True)), (key, problem)
        for key in fine.values:
            (hi, _, _), (want, _, _) = found.near(key), fine.near(key)
            assert hi.shape == want.shape
        for name in problem.spec.states:
            size = np.abs(fine.adjoint(name)).max(initial=0)
            assert (np.abs(found.adjoint(name) - fine.adjoint(name)) <= 2.0**-45 * size).all()
            for t in (0, problem.T):
                assert (np.abs(found.state(name, t) - fine.state(name, t)) <= 2.0**-45 * (1 + size)).all()
        assert_near(budget(found, Model("float64")), budget(fine, Model("float64")))
        decided += isinstance(find_truth(problem, Model("float64")).solution, PairSolution)
        met |= {problem.loss.kind, problem.truncation.kind, problem.readout, problem.activation}
    shape = offered(Support(cells=(cell,)), cell)
    assert met >= {*shape.losses, *shape.truncations, *shape.readouts, *shape.activations}
    assert decided >= 0.8 * asked  # over 150 steps the balls of a tanh network may grow too far


def neuron(**changes: Any) -> Problem:
    """One relu unit, one step."""
    params = {"W_xh": np.ones((3, 1)), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)}
    loss = Loss("cotangent", g=np.ones((1, 1, 1)))
    made = Problem("elman", params, np.ones((1, 1, 3)), loss, h0=np.zeros((1, 1)), activation="relu")
    return replace(made, **changes)


def test_what_says_nothing_is_left_to_arb() -> None:
    open_sign = neuron(x=np.array([[[1.0, 2.0**-300, 2.0**-600]]]), h0=np.array([[-1.0]]))
    assert solve_in_pairs(neuron()) is not None
    assert solve_in_pairs(replace(open_sign, x=open_sign.x[:, :, [0, 0, 0]])) is not None
    params = {"W_xh": np.ones((4, 1)), "W_hh": np.ones((1, 1)), "b_h": -np.array([2.0**-300])}
    third = np.array([[[1.0, 2.0**-300, 2.0**-600, -(2.0**-600)]]])
    assert solve_in_pairs(neuron(params=params, x=third, h0=np.array([[-1.0]]))) is None
    lost = np.array([[[1.0, 2.0**-100, 2.0**-200, -(2.0**-100)]]])  # 1, but for a radius of 2^-200
    for bias, there in ((2.0**-210, False), (-(2.0**-210), False), (2.0**-190, True), (-(2.0**-190), True)):
        params = {"W_xh": np.ones((4, 1)), "W_hh": np.ones((1, 1)), "b_h": np.array([bias])}
        assert (solve_in_pairs(neuron(params=params, x=lost, h0=np.array([[-1.0]]))) is not None) == there
    for large in (1e200, 1e308):
        beyond = neuron(params={n: large * p for n, p in neuron().params.items()}, x=np.full((1, 1, 3), 1e200))
        assert solve_in_pairs(beyond) is None
        truth = find_truth(beyond, Model("float64"))
        assert truth.solution.N.name == "arb"
        assert not isinstance(truth.solution, PairSolution)


@pytest.mark.parametrize("missing", [True, False])
def test_truth_is_the_same_without_pairs(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = replace(next(spread("lstm", "float64")), truncation=Truncation("full"))
    with_pairs = find_truth(problem, Model("float64"))
    assert isinstance(with_pairs.solution, PairSolution)
    if missing:
        monkeypatch.setattr(compiled, "LOOPS", None)
    else:
        monkeypatch.setattr(pairs, "sound", lambda: False)
    without = find_truth(problem, Model("float64"))
    assert not isinstance(without.solution, PairSolution)
    for key, bound in with_pairs.budget.arrays.items():
        off = np.abs(bound - without.budget.arrays[key])
        assert (off <= (INFLATE - 1) * bound).all()


class Fused:
    """The compiled module as a compiler that fuses products with additions, or keeps more bits, would make it."""

    def __init__(self, loops: Any, loop: str, plane: int, factor: float) -> None:
        self.loops, self.loop, self.plane, self.factor = loops, loop, plane, factor

    def __getattr__(self, name: str) -> Any:
        def call(numbers: bytes, reals: bytes, arrays: list[NDArray[np.float64]]) -> None:
            getattr(self.loops, name)(numbers, reals, arrays)
            if name == self.loop:
                arrays[-1][self.plane] *= self.factor

        return call


@pytest.mark.parametrize(
    ("loop", "plane", "factor"),
    [
        *((loop, *change) for loop in ("entrywise", "product") for change in ((0, 1 + 2.0**-52), (1, 0.0), (1, -1.0))),
        ("entrywise", 2, 2.0**30),
    ],
)
def test_an_unsound_build_is_noticed(loop: str, plane: int, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pairs.sound()
    pairs.sound.cache_clear()
    monkeypatch.setattr(compiled, "LOOPS", Fused(compiled.LOOPS, loop, plane, factor))
    assert not pairs.sound()
    pairs.sound.cache_clear()


def unsound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are off by far more than their radius, and nobody has noticed."""
    monkeypatch.setattr(compiled, "LOOPS", Fused(compiled.LOOPS, "product", 0, 1 + 2.0**-20))
    monkeypatch.setattr(pairs, "sound", lambda: True)


def test_two_enclosures_that_disagree_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = replace(next(spread("lstm", "float64")), truncation=Truncation("full"))
    right = solve_in_pairs(problem)
    assert right is not None
    confirm(right)
    confirm(solve(problem, BallNumbers(128)))
    unsound(monkeypatch)
    wrong = solve_in_pairs(problem)
    assert wrong is not None
    with pytest.raises(OracleDisagrees, match="no number in common"):
        confirm(wrong)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_small_disagreement_is_noticed_either_way(sign: int) -> None:
    problem = replace(next(spread("lstm", "float64")), truncation=Truncation("full"))
    found = solve_in_pairs(problem)
    assert found is not None
    hi, lo, rad = found.near("dx")
    at = np.unravel_index(np.argmax(np.abs(lo)), lo.shape)
    moved = lo.copy()
    moved[at] += sign * 2.0**-20 * np.abs(lo[at])
    found._near["dx"] = (hi, moved, rad)
    with pytest.raises(OracleDisagrees, match=r"dx: .* no number in common"):
        confirm(found)


def test_large_outputs_of_a_softmax_are_decided() -> None:
    """No power of e is formed of them: the largest of a row is taken off before."""
    params = {"W_xh": np.array([[1000.0, 999.0]]), "W_hh": np.zeros((2, 2)), "b_h": np.zeros(2)}
    loss = Loss("cross_entropy", target=np.zeros((1, 1), dtype=np.int64))
    assert solve_in_pairs(Problem("elman", params, np.ones((1, 1, 1)), loss, activation="identity")) is not None


@pytest.mark.parametrize("prop", ["oracle-agreement", "cotangent-linearity"])
def test_nobody_is_accused_on_the_word_of_pairs_alone(prop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle is wrong, and a right target is found to be outside of its budget: an error of ours, no failure."""
    unsound(monkeypatch)
    for target, verdict in (("numpy", "error"), (f"{MUTANTS}:loss_returned_as_vector", "fail")):
        bench = TargetBench(in_process(target), "float64")
        finding = Search(PROPERTIES[prop], bench, "elman", "float64", Profile("x", 5, 5), 0).run()
        assert finding.verdict == verdict
        assert ("no number in common" in finding.message) == (verdict == "error")
