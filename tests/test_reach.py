"""What a certificate asks: pairs of features that never met are told, those that the notation excludes are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bptt.problem import Loss
from bptt.support import Support
from conformance.engine import PROFILES
from implementations import numpy_bptt
from properties.generic import generic
from tests.deep import reach

NAMES = {
    "readouts": "none",
    "losses": "cotangent",
    "truncations": "full",
    "activations": "tanh",
    "reductions": "sum",
}


def test_pairs_that_never_met_are_told():
    one = generic(2, Support(), "elman", "float64", (3, 2, 2, 3, 3), NAMES)
    wide = generic(2, Support(), "elman", "float64", (18, 2, 2, 3, 3), NAMES | {"losses": "squared_error"})
    other = replace(wide, loss=replace(wide.loss, time_reduction="mean"))
    found = reach.Reach()
    for problem in (one, wide, other):
        found.note(problem, numpy_bptt.gradients(problem))
    unmet = found.unmet()
    assert (("T", "> 16"), ("loss", "cotangent, final too")) in unmet
    assert (("T", "> 1"), ("loss", "squared_error")) in unmet
    assert not any({"loss", "reduction"} == {a[0], b[0]} for a, b in unmet)  # a cotangent has no other reduction
    assert any("T > 16: never with loss cotangent, final too" in line for line in reach.lines(found))


def test_infinite_entries_do_not_count():
    one = generic(2, Support(), "elman", "float64", (3, 2, 2, 3, 3), NAMES)
    found = reach.Reach()
    found.note(replace(one, loss=Loss("cotangent", g=one.loss.g)), {"h": np.array([np.inf, 200.0]), "o": np.zeros(1)})
    assert found.largest["h"] == 200
    assert "h 1e2" in list(reach.lines(found))[-1]


def test_what_a_property_asks_is_counted():
    found = reach.reach("elman", "float64", PROFILES["smoke"], ["cotangent-linearity"])
    assert len(found.pairs) > 100
    assert found.largest["x"] > 0
