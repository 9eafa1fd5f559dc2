"""Pairwise problems: any two features meet, and no more problems are asked than that takes."""

from __future__ import annotations

import itertools

import pytest

from bptt.cells import CELLS
from bptt.support import Support
from properties.generic import REDUCTIONS
from properties.pairwise import covering, pairwise_problems


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
