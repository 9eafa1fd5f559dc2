"""The compiled loops of the budget: their bounds are those of NumPy's loops, and no tape makes them crash."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import oracle.budget as package
from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from oracle.ball_numbers import BallNumbers
from oracle.budget import Budget, Model, budget, compiled, forward
from oracle.budget.graph import build_graph
from oracle.budget.model import INFLATE
from oracle.solution import Solution, solve
from oracle.truth import find_truth
from properties.corners import corner_problems
from properties.long_range import long_range_problems
from properties.pairwise import pairwise_problems
from properties.strategies import offered

ROUNDINGS = INFLATE - 1
"""What a bound's own roundings are granted: each of two computations of it stays well within."""
SMALL = 2000
"""T B H of the problems that are solved here."""

needs_the_loops = pytest.mark.skipif(compiled.LOOPS is None, reason="the loops of the budget are not compiled here")


def both(solution: Solution, model: Model, monkeypatch: pytest.MonkeyPatch) -> tuple[Budget, Budget]:
    """The budget by NumPy's loops and by the compiled ones."""
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "LOOPS", None)
        plain = budget(solution, model)
    return plain, budget(solution, model)


def assert_alike(plain: Budget, other: Budget) -> None:
    """Every bound and scale of one is the other's, infinities included."""
    assert plain.kinks == other.kinks
    for one, two in ((plain.arrays, other.arrays), (plain.scales, other.scales)):
        assert one.keys() == two.keys()
        for key, bound in one.items():
            finite = np.isfinite(bound)
            assert (np.isfinite(two[key]) == finite).all(), key
            off = np.abs(np.asarray(two[key])[finite] - np.asarray(bound)[finite])
            assert (off <= ROUNDINGS * np.abs(np.asarray(bound)[finite])).all(), key


@needs_the_loops
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", CELLS)
def test_bounds_are_those_of_numpy(cell: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of features meets, and the corners; a truncation reaches past a block of steps."""
    support = Support(cells=(cell,))
    shape = offered(support, cell)
    far = [p for p in long_range_problems(support, cell, dtype, shape) if p.T == 150]
    near = [
        *list(pairwise_problems(support, cell, dtype))[::5],
        *list(corner_problems(support, cell, dtype, shape))[::6],
    ]
    met = set()
    for problem in [*(p for p in near if p.T * p.B * p.H <= SMALL), *far]:
        solution = solve(problem, BallNumbers(128))
        assert compiled.pays(build_graph(solution.unrolled), Model(dtype), [problem.T], problem.H)
        assert_alike(*both(solution, Model(dtype), monkeypatch))
        assert_alike(*both(solution, Model("float16", ulp=1), monkeypatch))  # underflow is a visible part of it
        met |= {problem.loss.kind, problem.truncation.kind, problem.readout, problem.activation}
    assert met >= {*shape.losses, *shape.truncations, *shape.readouts}


def small(cell: str = "lstm", **changes: Any) -> Problem:
    """Two rows of three steps, for any cell."""
    H, D = 2, 2
    draw = np.random.default_rng(5)
    params = {name: draw.normal(size=size) for name, size in CELLS[cell].shapes(D, H).items()}
    loss = Loss("cotangent", g=draw.normal(size=(3, 2, H)))
    states = {f"{name}0": draw.normal(size=(2, H)) for name in CELLS[cell].states}
    activation = "relu" if cell == "elman" else None
    problem = Problem(cell, params, draw.normal(size=(3, 2, D)), loss, activation=activation, **states)
    return replace(problem, **changes) if changes else problem


@needs_the_loops
@pytest.mark.parametrize("cell", CELLS)
def test_what_float64_costs_is_counted_as_in_numpy(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many more roundings than there are, and an underflow far larger: otherwise neither would be seen."""
    monkeypatch.setattr(forward, "conversion", lambda _: 2.0**46)
    monkeypatch.setattr(forward, "underflow", lambda _: 2.0**-20)
    probes = package.loss_probes

    def rougher(*given: Any) -> dict[str, forward.Probe]:
        return {name: replace(probe, roundings=2.0**40 * probe.roundings) for name, probe in probes(*given).items()}

    monkeypatch.setattr(package, "loss_probes", rougher)
    states = {f"g_{name}_final": np.ones((2, 2)) for name in CELLS[cell].states}
    problem = small(cell, truncation=Truncation("window", k=2))
    readout = {"W_hy": np.array([[0.5, -1.0], [2.0, 0.25]]), "b_y": np.zeros(2)}
    classes = Loss(
        "cross_entropy", target=np.array([[0, 1], [1, 1], [0, 0]]), time_reduction="sum", batch_reduction="sum"
    )
    for one in (
        problem,
        replace(problem, loss=replace(problem.loss, **states), lengths=np.array([3, 2])),
        replace(problem, params=problem.params | readout, readout="linear", loss=classes),
    ):
        assert_alike(*both(solve(one, BallNumbers(128)), Model(), monkeypatch))


@needs_the_loops
def test_what_is_without_bound_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    large = small("elman")
    large = replace(large, params={name: 1e200 * value for name, value in large.params.items()})
    solution = solve(large, BallNumbers(256))
    plain, other = both(solution, Model(), monkeypatch)
    assert_alike(plain, other)
    assert np.isinf(plain.arrays["dW_hh"]).any()


@needs_the_loops
def test_a_kink_is_one_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"W_xh": np.array([[0.1], [0.2], [-0.3]]), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)}
    loss = Loss("cotangent", g=np.ones((1, 1, 1)))
    problem = Problem("elman", params, np.ones((1, 1, 3)), loss, h0=np.zeros((1, 1)), activation="relu")
    plain, other = both(solve(problem, BallNumbers(128)), Model(), monkeypatch)
    assert_alike(plain, other)
    assert other.kinks == 1


def test_loops_are_taken_where_they_are_right_and_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build_graph(solve(small(), BallNumbers(128)).unrolled)
    monkeypatch.setattr(compiled, "LOOPS", object())
    assert compiled.pays(graph, Model("float32"), [3], 4)
    assert compiled.pays(graph, Model("float32", accumulate="float32"), [3], 4)
    assert compiled.pays(graph, Model("float32"), [3000], 4)
    assert not compiled.pays(graph, Model("float32", accumulate="float64"), [3], 4)
    assert not compiled.pays(graph, Model("float32", flush=True), [3], 4)
    for name, value in (("MOST_INPUTS", 3), ("OPS", compiled.OPS[:1]), ("LOOPS", None)):  # a linear reads more than 3
        with monkeypatch.context() as patched:
            patched.setattr(compiled, name, value)
            assert not compiled.pays(graph, Model("float32"), [3], 4)
    monkeypatch.setattr(compiled, "FEW_STATES", graph.S - 1)  # from here on their number counts
    assert compiled.pays(graph, Model("float32"), [3], 4)
    assert not compiled.pays(graph, Model("float32"), [3000], 4)
    assert not compiled.pays(graph, Model("float32"), [3] * 10**6, 4)


class Recorder:
    """In place of the compiled module: what it was given."""

    def __init__(self, loops: Any) -> None:
        self.loops, self.given = loops, {}

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> None:
            self.given[name] = given
            getattr(self.loops, name)(*given)

        return call


@pytest.fixture(params=[(cell, name) for cell in ("elman", "lstm_peephole", "lstm_1997", "gru_reset_after") for name in
                        ("forward", "backward", "pairs_forward", "pairs_backward")] + [("gru_reset_before", "product"),
                        ("elman", "entrywise")], ids="-".join)  # fmt: skip
def tape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int], bytes, list[Any]]:
    """A loop, and what it was given for a small problem."""
    if compiled.LOOPS is None:
        pytest.skip("the loops of the budget are not compiled here")
    cell, name = request.param
    recorder = Recorder(compiled.LOOPS)
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "LOOPS", recorder)
        cut = Truncation("cec") if cell == "lstm_1997" else Truncation("window", k=2)
        assert find_truth(small(cell, truncation=cut), Model()).solution.known is not None
    numbers, reals, arrays = recorder.given[name]
    return getattr(compiled.LOOPS, name), list(array("q", numbers)), reals, arrays


def test_tape_that_ends_too_soon_is_refused(tape: tuple[Any, list[int], bytes, list[Any]]) -> None:
    loop, numbers, reals, arrays = tape
    for length in range(len(numbers)):
        with pytest.raises(ValueError, match=r"^tape: "):
            loop(array("q", numbers[:length]).tobytes(), reals, arrays)
    if reals:
        with pytest.raises(ValueError, match=r"^tape: "):
            loop(array("q", numbers).tobytes(), b"", arrays)


def test_arrays_that_are_not_as_the_tape_says_are_refused(tape: tuple[Any, list[int], bytes, list[Any]]) -> None:
    loop, numbers, reals, arrays = tape
    written = array("q", numbers).tobytes()
    for i, values in [(i, values) for i, values in enumerate(arrays) if values.size]:
        others = [
            np.zeros(values.size + 1),
            values.astype(np.float32),
            values.astype(">f8"),
            np.zeros((2, values.size)).T,
        ]
        for other in others:
            with pytest.raises((ValueError, BufferError)):
                loop(written, reals, [*arrays[:i], other, *arrays[i + 1 :]])
        with pytest.raises(TypeError):
            loop(written, reals, [*arrays[:i], None, *arrays[i + 1 :]])
    frozen = [values.copy() for values in arrays]
    for values in frozen:
        values.flags.writeable = False
    with pytest.raises(ValueError, match=r"^tape: "):
        loop(written, reals, frozen)


def test_no_tape_crashes(tape: tuple[Any, list[int], bytes, list[Any]]) -> None:
    """One integer changed, or two: it is refused, or it computes something else."""
    loop, numbers, reals, arrays = tape
    draw, others = np.random.default_rng(17), [*range(-1, 25), 2**20, 2**62, -(2**63)]
    refused = 0
    for _ in range(1500):
        changed = list(numbers)
        for place in draw.integers(len(changed), size=draw.integers(1, 3)):
            changed[place] = others[draw.integers(len(others))]
        try:
            loop(array("q", changed).tobytes(), reals, [values.copy() for values in arrays])
        except (ValueError, MemoryError):
            refused += 1
    assert refused > 500
