"""Leaving out steps, rows, units, inputs and outputs: what is left is the same problem without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

from bptt.cells import CELLS
from bptt.errors import ProblemError
from bptt.problem import Problem
from bptt.support import Support
from conformance.bench import TargetBench
from conformance.engine import Profile, Search
from conformance.targets import Target
from oracle.ball_numbers import BallNumbers
from oracle.solution import solve
from properties.base import Bench, Case, Comparison, Judgement, Property
from properties.deletions import KINDS, deletions, without
from properties.generic import generic
from properties.recipe import Draw, Recipe
from properties.reductions import reductions

SIZES = (4, 3, 3, 4, 5)
LOSSES = ("cotangent", "squared_error", "cross_entropy")


def make(cell: str = "elman", seed: int = 0, **names: Any) -> Problem:
    """A generic problem of SIZES."""
    activation = CELLS[cell].activations[0] if CELLS[cell].activations else None
    fixed = {"reductions": "sum", "truncations": "full", "activations": activation}
    found = generic(seed, Support(), cell, "float64", SIZES, {**fixed, **names})
    assert found is not None
    return found


def of_axes(problem: Problem) -> dict[str, int]:
    """The sizes by what they count."""
    return dict(zip(KINDS, (problem.T, problem.B, problem.H, problem.D, problem.K), strict=True))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("readout", ["none", "linear"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_deletion_is_a_problem_with_one_axis_shorter(cell: str, readout: str, loss: str) -> None:
    """Each of them passes a Problem's own checks, and each axis is cut."""
    full, cut = make(cell, readouts=readout, losses=loss), set()
    for smaller in deletions(full):
        less = [kind for kind, size in of_axes(smaller).items() if size < of_axes(full)[kind]]
        assert less in ([less[0]], ["units", "outputs"])
        assert min(of_axes(smaller).values()) >= 1
        cut.add(less[0])
    assert cut == set(KINDS if readout == "linear" else KINDS[:4])


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_deleted_unit_without_weights_or_loss_changes_nothing_for_the_others(cell: str) -> None:
    """Block by block: a unit that nothing reads and that has no loss leaves the rest of the network as it was."""
    full = make(cell, readouts="linear", losses="cotangent")
    rest = np.delete(np.arange(full.H), 2)
    params = {name: np.array(array) for name, array in full.params.items()}
    params["W_hh" if cell == "elman" else "W_h"][2] = 0
    params["W_hy"][2] = 0
    finals = {name: np.array(getattr(full.loss, name)) for name in ("g_h_final", "g_c_final")[: len(full.spec.states)]}
    for final in finals.values():
        final[:, 2] = 0
    full = replace(full, params=params, loss=replace(full.loss, **finals))
    want, got = solve(full, BallNumbers(128)), solve(without(full, "units", [2]), BallNumbers(128))
    for name in full.spec.states:
        same(want.near(name)[0][..., rest], got.near(name)[0])
    same(want.near("dx")[0], got.near("dx")[0])


def same(one: Any, other: Any) -> None:
    """Both are the nearest floats to one exact value, or next to it."""
    assert (np.abs(one - other) <= 2 * np.spacing(np.abs(one))).all()


def test_deleted_steps_shorten_the_rows_that_had_them() -> None:
    full = replace(make(losses="cotangent", readouts="none"), lengths=np.array([4, 2, 0]))
    smaller = without(full, "steps", [1, 2])
    assert smaller.row_lengths.tolist() == [2, 1, 0]
    assert np.array_equal(smaller.x, full.x[[0, 3]])


def test_deleted_classes_leave_labels_and_probabilities_valid() -> None:
    full = make(losses="cross_entropy", readouts="linear")
    target = np.resize(np.arange(5), (4, 3))
    labels = without(replace(full, loss=replace(full.loss, target=target)), "outputs", [1, 4]).loss.target
    assert labels is not None
    assert labels.reshape(-1)[:5].tolist() == [0, 1, 1, 2, 2]
    shares = np.full((4, 3, 5), 0.25)
    shares[..., 0] = 0
    smaller = without(replace(full, loss=replace(full.loss, target=shares)), "outputs", [1, 4])
    assert smaller.loss.target is not None
    assert np.array_equal(smaller.loss.target[0, 0], [0.5, 0.25, 0.25])


def rounded_probabilities() -> Problem:
    """Probabilities that add up to 1 as a Problem asks; without some of the classes they do not."""
    full = make(losses="cross_entropy", readouts="linear")
    for seed in range(1000):
        target = np.random.default_rng(seed).dirichlet(np.full(5, 0.3), (4, 3))
        found = replace(full, loss=replace(full.loss, target=target))
        try:
            for gone in ([0, 1], [2, 3], [0], [1], [2], [3], [4]):
                without(found, "outputs", gone)
        except ProblemError:
            return found
    raise AssertionError("no such probabilities")


def test_rounded_probabilities_that_do_not_add_up_any_longer_are_passed_over() -> None:
    full = rounded_probabilities()
    kept = [smaller for smaller in deletions(full) if smaller.K < 5]
    assert 0 < len(kept) < 7

    @settings(max_examples=300, database=None, derandomize=True)
    @given(reductions(Case(full)))
    def each(case: Case) -> None:
        assert case.problem.K <= 5

    each()


class Needy(Property):
    """Fails where there are three steps, and an input of 7 in the last of two rows; draws one large problem."""

    id = "needy"
    statement = "What the test says."
    source = "This test."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        def build(draw: Draw) -> Case:
            draw.integer(0, 1)
            one = make(losses="cotangent", readouts="linear")
            x = np.zeros_like(one.x)
            x[2, 1, 2] = 7
            return Case(replace(one, x=x))

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        return ()

    def check(self, case: Case, bench: Bench) -> Judgement:
        one = case.problem
        ratio = 2.0 if one.T >= 3 and one.B >= 2 and (one.x == 7).any() else 0.5
        return Judgement((Comparison("db_h", (0,), 0.0, 0.0, ratio, 1.0, ratio, True),))


@pytest.mark.parametrize(("shrinks", "sizes"), [(200, (3, 2, 1, 1, 1)), (0, SIZES)])
def test_engine_leaves_out_what_a_failure_does_not_need(shrinks: int, sizes: tuple[int, ...]) -> None:
    target = Target("needy", "path", Support(), lambda _: {}, None, None)
    bench = TargetBench(target, "float64")
    finding = Search(Needy(), bench, "elman", "float64", Profile("x", 20, shrinks), 0).run()
    assert finding.smallest is not None
    one = finding.smallest.case.problem
    assert sizes == (one.T, one.B, one.D, one.H, one.K)
