"""Properties of relabelling, flipping, cutting, memory, repetition, extremes and sizes.

Each passes for the NumPy target in every cell, fails for wrong targets, and says whom it cannot ask. A false theorem
would pass unseen where the exact difference of two solutions makes up for it: so that difference is tested to be zero.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from conformance.bench import TargetBench
from conformance.engine import Finding, Profile, Search
from conformance.targets import resolve
from properties import PROPERTIES
from properties.compare import Part, of_sums

MUTANTS = Path(__file__).parent / "mutants" / "elman.py"
BRIEF = Profile("x", 6, 0)
KILLS = {
    "unit-permutation": ("odd_unit_lost", "initial_state_gradient_units_shifted"),
    "sign-symmetry": ("tanh_derivative_by_absolute_value", "tanh_argument_clamped_above"),
    "chunked-forward": ("initial_state_ignored", "bias_from_second_step_on", "initial_state_rows_shifted"),
    "zero-initial-state": ("missing_initial_state_loses_dx", "missing_initial_state_drops_bias"),
}
SYMMETRIES = ("unit-permutation", "sign-symmetry", "zero-initial-state")


def search(prop: str, target: str, cell: str = "elman", dtype: str = "float64", profile: Profile = BRIEF) -> Finding:
    """The finding of one property on one target."""
    loaded = resolve(target)
    return Search(PROPERTIES[prop], TargetBench(loaded, dtype), cell, dtype, profile, 0).run()


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("prop", sorted(KILLS))
def test_property_passes_numpy_and_says_something(prop, cell):
    for dtype in ("float64", "float32"):
        finding = search(prop, "numpy", cell, dtype)
        assert finding.smallest is None, finding.smallest
        assert finding.verdict in ("pass", "inconclusive"), finding.message
        assert finding.examples >= 6
        assert finding.conclusive >= 0.95 * finding.examples


@pytest.mark.parametrize(("prop", "name"), [(prop, name) for prop, names in KILLS.items() for name in names])
def test_property_alone_fails_a_wrong_target(prop, name):
    finding = search(prop, f"{MUTANTS}:{name}", profile=Profile("x", 60, 0))
    assert finding.verdict in ("fail", "crash"), finding.message


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("prop", SYMMETRIES)
def test_symmetry_holds_of_the_exact_solutions(prop, cell):
    loaded = resolve("numpy")
    search_ = Search(PROPERTIES[prop], TargetBench(loaded, "float64"), cell, "float64", Profile("x", 12, 0), 0)
    search_.run()
    comparisons = [
        c for outcome in search_.outcomes.values() if outcome.judgement for c in outcome.judgement.comparisons
    ]
    assert len(comparisons) > 50
    for comparison in comparisons:
        assert abs(comparison.want) <= 2.0**-30 * comparison.allowed


def test_sums_take_rationals_beside_balls():
    bench = TargetBench(resolve("numpy"), "float64")
    tiny = 2.0**-600  # 1 - 1 + tiny - tiny is 0 for rationals, and undecided for balls
    params = {"W_xh": np.ones((3, 1)), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)}
    x, h0, loss = np.array([[[1, -1, tiny]]]), np.array([[-tiny]]), Loss("cotangent", g=np.ones((1, 1, 1)))
    kink = Problem("elman", params, x, loss, h0, None, "relu")
    beyond = replace(kink, h0=h0 + 1)
    assert bench.truth(kink).solution.N.name != bench.truth(beyond).solution.N.name
    judgement = of_sums(bench, [Part(+1, kink), Part(-1, beyond)], ["h", "loss"])
    assert [(c.holds, c.want) for c in judgement.comparisons] == [(True, -1.0), (True, -1.0)]


def test_counterexample_of_a_flip_is_small():
    finding = search("sign-symmetry", f"{MUTANTS}:tanh_derivative_by_absolute_value", profile=Profile("x", 40, 300))
    problem = finding.smallest.case.problem
    assert problem.T <= 3
    assert max(problem.B, problem.D, problem.H) <= 2


def unsupported(prop: str, cell: str = "elman", **declared: Any) -> str | None:
    """Why a target that declares this is not asked."""
    return PROPERTIES[prop].unsupported(Support(**declared), cell)


def test_properties_say_what_they_need():
    assert unsupported("unit-permutation", max_size={"H": 1}) == "needs two hidden units"
    assert unsupported("unit-permutation") is None
    assert "h0_none" in unsupported("zero-initial-state")
    assert unsupported("zero-initial-state", h0_none=True) is None
    assert "T of 2" in unsupported("chunked-forward", max_size={"T": 1})
    assert "h, c or o" in unsupported("chunked-forward", outputs=("dW_hh",))
