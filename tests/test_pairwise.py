"""Pairwise problems: any two features meet, and no more problems are asked than that takes."""

from __future__ import annotations

import itertools

import pytest

from bptt.cells import CELLS
from bptt.support import Support
from properties.edges import PARTS, edge_problems
from properties.generic import REDUCTIONS
from properties.pairwise import combined_problems, covering, pairwise_problems


@pytest.mark.parametrize("seed", range(5))
def test_every_pair_of_values_is_in_some_row(seed):
    levels = ((0, 1, 2, 3), ("a", "b"), (True, False), (5,), ("x", "y", "z"))
    rows = covering(levels, seed=seed)
    for i, j in itertools.combinations(range(len(levels)), 2):
        assert {(row[i], row[j]) for row in rows} == set(itertools.product(levels[i], levels[j]))
    assert len(rows) < 30  # of 48


def test_feature_that_means_nothing_meets_nothing():
    levels = (("none", "some"), (1, 2, 3), ("a", "b", "c"))
    rows = covering(levels, (0, ("none",), 2))
    assert {(row[0], row[1]) for row in rows} == set(itertools.product(*levels[:2]))
    assert {(row[0], row[2]) for row in rows if row[0] == "some"} == {("some", c) for c in "abc"}
    assert {(row[1], row[2]) for row in rows if row[0] == "some"} == set(itertools.product(*levels[1:]))
    assert len(covering((("none",), (1, 2, 3), ("a", "b", "c")), (0, ("none",), 2))) == 3


@pytest.mark.parametrize("cell", CELLS)
def test_features_meet_in_problems(cell):
    support = Support(cells=(cell,), h0_none=True)
    found = list(pairwise_problems(support, cell, "float64"))
    assert 30 < len(found) < 50
    truncations = {p.truncation.kind for p in found}
    assert truncations >= {"full", "window", "chunk", "periodic"}
    for wide in ("T", "B", "D", "H", "K"):
        many = [p for p in found if getattr(p, wide) > 16]
        assert {p.truncation.kind for p in many} == truncations, wide
        assert {(p.loss.kind, p.loss.target is not None and p.loss.target.ndim) for p in many} == {
            ("cotangent", False), ("squared_error", 3), ("cross_entropy", 2), ("cross_entropy", 3)
        }  # fmt: skip
        assert any(p.h0 is None for p in many), wide
        means = {(p.loss.time_reduction, p.loss.batch_reduction) for p in many if p.loss.kind != "cotangent"}
        assert len(means) == len(REDUCTIONS), wide
        assert any(p.lengths is not None and (p.lengths == 0).any() for p in many), wide
        assert any(p.loss.kind == "cotangent" and p.loss.g_h_final is None for p in many), wide
    assert {p.readout for p in found if p.lengths is not None and (p.lengths == 0).any()} == {"linear", "none"}


def weighing(problem):
    """What decides of a step's loss what it is multiplied by, and how far it reaches."""
    loss, lengths = problem.loss, problem.lengths
    kind = (loss.kind, loss.target is not None and loss.target.ndim, loss.g_h_final is not None)
    rows = "none" if lengths is None else "some 0" if (lengths == 0).any() else "given"
    return (kind, problem.truncation.kind, (loss.time_reduction, loss.batch_reduction), rows)


@pytest.mark.parametrize("cell", CELLS)
def test_losses_truncations_reductions_and_lengths_are_combined(cell):
    support = Support(cells=(cell,), h0_none=True)
    found = [weighing(p) for p in combined_problems(support, cell, "float64")]
    kinds, cuts, means, rows = map(set, zip(*found, strict=True))
    assert [len(kinds), len(cuts), len(means), len(rows)] == [5, 5 if cell == "lstm_1997" else 4, len(REDUCTIONS), 3]
    plain = [kind for kind in kinds if kind[0] == "cotangent"]
    wanted = [*itertools.product(set(kinds) - set(plain), cuts, means, rows)]
    wanted += itertools.product(plain, cuts, [("sum", "sum")], rows)
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


def test_every_other_name_stands_beside_a_combined_one():
    found = list(combined_problems(Support(h0_none=True), "elman", "float32"))
    for p, others in itertools.groupby(sorted(found, key=lambda p: p.truncation.kind), lambda p: p.truncation.kind):
        assert len({(q.readout, q.h0 is None, q.activation) for q in others}) == 2 * 2 * 4, p


def test_combined_problems_are_those_that_a_target_serves():
    little = Support(truncations=("full", "chunk"), max_size={"T": 2, "B": 1, "K": 2}, lengths=False)
    found = list(combined_problems(little, "elman", "float64"))
    assert found
    assert all(little.serves(p) for p in found)
    assert not list(combined_problems(Support(max_size={"T": 0}), "elman", "float64"))


def test_every_part_of_a_vector_is_asked_along_every_axis():
    support = Support()
    found = list(edge_problems(support, "elman", "float64"))
    for axis in "BDHK":
        asked = [p for p in found if axis != "K" or p.readout == "linear"]
        assert {getattr(p, axis) for p in asked} >= {*range(1, 34)} - {16, 17}, axis
    assert {p.T for p in found} >= {sizes[0] for sizes in PARTS}


def test_only_what_is_offered_is_asked():
    little = Support(cells=("lstm",), losses=("cotangent",), readouts=("none",), truncations=("full",), lengths=False)
    found = list(pairwise_problems(little, "lstm", "float64"))
    assert 9 <= len(found) < 15
    assert all(little.serves(p) for p in found)
    assert not list(pairwise_problems(Support(max_size={"B": 0}), "elman", "float64"))
    support = Support(losses=("cross_entropy",), readouts=("linear",), max_size={"T": 5, "H": 4}, lengths=False)
    found = list(pairwise_problems(support, "elman", "float32"))
    assert found
    assert all(support.serves(p) for p in found)
    assert {p.T for p in found} == {1, 3}
