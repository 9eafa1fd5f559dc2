"""Problems that reach far: what lies past the reach of a careless kernel is well above the budget there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.support import Support
from bptt.truncation import Truncation
from oracle.budget import Model
from oracle.truth import find_truth
from properties.long_range import long_range_problems
from properties.strategies import offered

SURELY = 2
"""Budgets: one for what rounding does to the careless kernel, one within which it may still be."""


def asked(cell, dtype, **support):
    kept = Support(cells=(cell,), **support)
    return list(long_range_problems(kept, cell, dtype, offered(kept, cell)))


@pytest.mark.parametrize(  # all of them: tests/deep/test_long_range.py
    ("cell", "dtype"), [("elman", "float64"), ("elman", "float32"), ("gru_reset_before", "float32")]
)
def test_gradient_that_is_cut_off_leaves_the_budget(cell, dtype):
    long = [p for p in asked(cell, dtype) if p.truncation.kind == "full" and p.T > 100]
    assert {p.activation for p in long} == set(offered(Support(cells=(cell,)), cell).activations)
    for problem in long:
        model = Model(dtype)
        truth, cut = (
            find_truth(one, model) for one in (problem, replace(problem, truncation=Truncation("window", k=100)))
        )
        key = "dW_hh" if cell == "elman" else "dW_h"
        difference = np.abs(truth.solution.near(key)[0] - cut.solution.near(key)[0])
        assert (difference > SURELY * truth.budget.arrays[key]).any(), problem.activation


def test_gradient_that_is_cut_off_after_a_thousand_steps_leaves_the_budget():
    (problem,) = (p for p in asked("elman", "float64") if p.T > 1024)
    cut = replace(problem, truncation=Truncation("window", k=1000))
    truth, other = (find_truth(one, Model("float64")) for one in (problem, cut))
    difference = np.abs(truth.solution.near("dh0")[0] - other.solution.near("dh0")[0])
    assert (difference > SURELY * truth.budget.arrays["dh0"]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_far_truncations_leave_something_out_beyond_64_steps(cell):
    kinds = [kind for kind in CELLS[cell].truncations if kind in ("window", "chunk", "periodic")]
    found = {p.truncation.kind: p for p in asked(cell, "float64") if p.truncation.kind in kinds and p.T > 100}
    assert set(found) == set(kinds)
    for problem in found.values():
        cut = problem.truncation
        names = {name: min(k, 64) for name, k in (("k", cut.k), ("k1", cut.k1), ("k2", cut.k2)) if k is not None}
        truth, other = (
            find_truth(one, Model("float64")) for one in (problem, replace(problem, truncation=replace(cut, **names)))
        )
        key = "dW_hh" if cell == "elman" else "dW_h"
        difference = np.abs(truth.solution.near(key)[0] - other.solution.near(key)[0])
        assert (difference > SURELY * truth.budget.arrays[key]).any(), cut


def test_what_a_target_does_not_offer_is_left_out():
    small = asked("elman", "float64", max_size={"T": 100, "B": 100, "D": 100, "H": 100, "K": 100})
    assert small == []
    only = asked("lstm", "float32", dtypes=("float32",), losses=("cotangent",), readouts=("none",), lengths=False)
    assert any(p.B > 128 for p in only)
    assert all(p.lengths is None and p.h0 is not None for p in only)
