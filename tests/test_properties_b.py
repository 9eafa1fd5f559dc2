"""Properties of relabelling, flipping, cutting, memory, repetition, extremes and sizes.

Each passes for the NumPy target in every cell, fails for wrong targets, and says whom it cannot ask. A false theorem
would pass unseen where the exact difference of two solutions makes up for it: so that difference is tested to be zero.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from conformance import engine
from conformance.again import reproducible
from conformance.bench import TargetBench, Truths
from conformance.counterexample import write_script
from conformance.engine import LEAST_SHARE, Finding, Profile, Search
from conformance.targets import Target
from conformance.workers import malformed
from implementations.worker import as_seen, laid_out, lying
from properties import PROPERTIES, extremes
from properties.base import FAULTS, LAYOUTS, Case
from properties.compare import Part, of_sums
from properties.repeatability import DIFFERENT, EQUAL
from tests.loading import in_process

MUTANTS = Path(__file__).parent / "mutants" / "elman.py"
BRIEF = Profile("x", 6, 0)
KILLS = {
    "unit-permutation": ("odd_unit_lost", "initial_state_gradient_units_shifted"),
    "sign-symmetry": ("tanh_derivative_by_absolute_value", "tanh_argument_clamped_above"),
    "chunked-forward": ("initial_state_ignored", "bias_from_second_step_on", "initial_state_rows_shifted"),
    "zero-initial-state": ("missing_initial_state_loses_dx", "missing_initial_state_drops_bias"),
    "loss-differences": ("loss_counts_padding", "weight_decay_beside_the_loss", "gradient_not_averaged_over_batch"),
    "extremes": ("tanh_by_exponentials", "subnormals_flushed", "softmax_overflows", "sigmoid_overflows"),
    "memory": (
        "strides_of_x_ignored",
        "initial_state_borrowed",
        "results_in_buffers_of_the_next_call",
        "outputs_share_memory_with_states",
    ),
    "repeatability": ("handle_kept_after_an_error", "steps_of_a_longer_call", "bias_buffer_not_cleared"),
    "shapes": ("output_tail_lost", "batch_of_one_squeezed", "bias_of_hidden_tail_lost", "dx_overwrites_upstream"),
}
SYMMETRIES = ("unit-permutation", "sign-symmetry", "zero-initial-state")


def search(prop: str, target: str, cell: str = "elman", dtype: str = "float64", profile: Profile = BRIEF) -> Finding:
    """The finding of one property on one target."""
    loaded = in_process(target)
    return Search(PROPERTIES[prop], TargetBench(loaded, dtype), cell, dtype, profile, 0, alone=True).run()


@pytest.mark.parametrize(
    ("prop", "cell", "dtype"),
    [
        (prop, cell, ("float64", "float32")[(i + j) % 2])  # in turn; tests/deep/test_properties.py takes both
        for i, prop in enumerate(sorted(KILLS))
        for j, cell in enumerate(sorted(CELLS))
    ],
)
def test_property_passes_numpy_and_says_something(prop, cell, dtype, monkeypatch):
    monkeypatch.setattr(engine, "ROUNDS", 1)  # six examples, not as many as make twenty that are conclusive
    finding = search(prop, "numpy", cell, dtype)
    assert finding.smallest is None, finding.smallest
    assert finding.verdict in ("pass", "inconclusive"), finding.message
    assert finding.examples >= 6
    assert finding.conclusive >= LEAST_SHARE * finding.examples


@pytest.mark.parametrize(("prop", "name"), [(prop, name) for prop, names in KILLS.items() for name in names])
def test_property_alone_fails_a_wrong_target(prop, name):
    finding = search(prop, f"{MUTANTS}:{name}", profile=Profile("x", 60, 0))
    assert finding.verdict in ("fail", "crash"), finding.message


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("prop", SYMMETRIES)
def test_symmetry_holds_of_the_exact_solutions(prop, cell, monkeypatch):
    monkeypatch.setattr(engine, "ROUNDS", 1)
    loaded = in_process("numpy")
    search_ = Search(PROPERTIES[prop], TargetBench(loaded, "float64"), cell, "float64", Profile("x", 12, 0), 0)
    search_.run()
    comparisons = [
        c for outcome in search_.outcomes.values() if outcome.judgement for c in outcome.judgement.comparisons
    ]
    assert len(comparisons) > 50
    for comparison in comparisons:
        assert abs(comparison.want) <= 2.0**-30 * comparison.allowed


def test_sums_take_rationals_beside_balls():
    bench = TargetBench(in_process("numpy"), "float64")
    small, tiny = 2.0**-300, 2.0**-600  # 1 + small + tiny - 1 - small - tiny is 0 for rationals, undecided for balls
    params = {"W_xh": np.ones((5, 1)), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)}
    x, h0 = np.array([[[1, small, tiny, -1, -small]]]), np.array([[-tiny]])
    loss = Loss("cotangent", g=np.ones((1, 1, 1)))
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
    assert "key loss" in unsupported("loss-differences", outputs=("dW_hh",))
    assert "full" in unsupported("loss-differences", truncations=("window",))
    assert unsupported("loss-differences", outputs=("loss", "dx")) is None


def test_extremes_ask_for_what_is_declared():
    assert set(extremes.kinds_for(Support(), "lstm")) == set(extremes.KINDS)
    assert "subnormal" not in extremes.kinds_for(Support(subnormals="flush"), "lstm")
    assert {"vanishing", "subnormal"}.isdisjoint(extremes.kinds_for(Support(losses=("squared_error",)), "lstm"))
    assert "logits" not in extremes.kinds_for(Support(readouts=("none",)), "lstm")
    assert "vanishing" not in extremes.kinds_for(Support(), "lstm_1997")


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_extremes_are_what_they_are_called(cell, dtype):
    bench = TargetBench(in_process("numpy"), dtype)
    smallest = float(np.finfo(dtype).tiny)
    seen = set()
    for case in PROPERTIES["extremes"].fixed(bench.support, cell, dtype):
        solution = bench.truth(case.problem).solution
        dx, x = np.abs(solution.near("dx")[0]), np.abs(case.problem.x)
        if 0 < dx.max() < smallest:
            seen.add("subnormal")
        if 0 < dx[0].max() < 2.0**-10 * dx[-1].max():
            seen.add("vanishing")
        if x.max() > 2.0**50:
            seen.add("huge")
        if 0 < x.max() < 2.0**-50:
            seen.add("tiny")
        if any(np.signbit(array[array == 0]).any() for _, array in case.problem.arrays() if array.dtype.kind == "f"):
            seen.add("zeros")
        if x.max() > {"float64": 710, "float32": 89}[dtype] and x.max() < 2.0**50:
            seen.add("far")
    assert seen == {"subnormal", "huge", "tiny", "zeros", "far"} | ({"vanishing"} if cell != "lstm_1997" else set())


def adapter(change: Any, **declared: Any) -> Target:
    """The NumPy target with its answer changed: `change(problem, answer)`."""
    numpy = in_process("numpy")

    def call(problem: Any) -> Any:
        return change(problem, numpy.call(problem))

    return Target("changed", "path", Support(cells=("elman",), **declared), call, None, None)


def finding_of(prop: str, target: Target) -> Finding:
    """The finding of a property on a target that is no file."""
    return Search(
        PROPERTIES[prop], TargetBench(target, "float64"), "elman", "float64", Profile("x", 30, 0), 0, alone=True
    ).run()


def test_bitwise_equality_is_noted_and_judged_only_where_declared():
    calls = itertools.count()

    def last_bit(_: Any, answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"db_h": answer["db_h"] * (1 + 2.0**-52 * (next(calls) // 3 % 2))}

    noted = finding_of("repeatability", adapter(last_bit))
    assert (noted.smallest, noted.notes[:1]) == (None, [DIFFERENT])
    judged = finding_of("repeatability", adapter(last_bit, deterministic=True))
    assert judged.verdict == "fail"
    equal = finding_of("repeatability", adapter(lambda _, answer: answer, deterministic=True))
    assert (equal.verdict, equal.notes) == ("pass", [EQUAL])


def test_memory_says_what_is_shared_and_what_was_not_taken():
    alias = finding_of("memory", adapter(lambda _, answer: answer | {"dh0": answer["h"][0]}))
    assert alias.smallest.message == "dh0: shares memory with h; want an array of its own"
    both = finding_of("memory", adapter(lambda _, answer: answer | {"o": answer["h"]}, readouts=("none",)))
    assert (both.verdict, both.message) == ("pass", "")  # without a readout o is h
    kept: dict[Any, Any] = {}

    def one_buffer(_: Any, answer: dict[str, Any]) -> dict[str, Any]:
        buffer = kept.setdefault(answer["dx"].shape, np.empty_like(answer["dx"]))
        buffer[:] = answer["dx"]
        return answer | {"dx": buffer}

    overwritten = finding_of("memory", adapter(one_buffer))
    assert overwritten.smallest.message == "dx: a later call changed what this one had returned; want it left alone"

    def in_place(problem: Any, answer: dict[str, Any]) -> dict[str, Any]:
        problem.x *= 1
        return answer

    crash = finding_of("memory", adapter(in_place))
    assert crash.verdict == "crash"
    assert crash.smallest.message.endswith("when its inputs were read-only; want them taken as they lie")


def test_halves_of_one_buffer_share_no_memory():
    def halves(_: Any, answer: dict[str, Any]) -> dict[str, Any]:
        both = np.stack([answer["dh0"], answer["dh0"]], axis=-1)
        return answer | {"dh0": both[..., 0]}

    assert finding_of("memory", adapter(halves)).smallest is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_hold_the_same_numbers(layout):
    array = np.arange(24.0).reshape(2, 3, 4)
    laid = laid_out(array, layout)
    assert np.array_equal(laid, array)
    assert not np.shares_memory(laid, array)
    plain = layout in ("plain", "read-only", "broadcast", "updated in place")
    assert laid.flags.writeable == (layout not in ("read-only", "broadcast"))
    assert laid.flags.c_contiguous == plain


def test_broadcast_arrays_have_strides_of_0_and_equal_ones_are_one():
    zeros, columns = np.zeros((2, 3)), np.arange(3.0) + np.zeros((2, 1))
    arrays = {"h0": zeros, "c0": zeros.copy(), "x": columns, "g": np.where(np.eye(3), -0.0, 0.0)}
    found = lying(arrays, "broadcast", {})
    assert found["h0"] is found["c0"]
    assert {name: array.strides for name, array in found.items()} == {
        "h0": (0, 0),
        "c0": (0, 0),
        "x": (0, 8),
        "g": (24, 8),
    }
    assert all(found[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_arrays_that_are_updated_in_place_stay_the_same_objects():
    kept: dict[str, np.ndarray] = {}
    first = lying({"x": np.ones(2), "h0": np.ones(3)}, "updated in place", kept)
    second = lying({"x": np.zeros(2), "h0": np.ones(4)}, "updated in place", kept)
    assert second["x"] is first["x"]
    assert second["h0"] is not first["h0"]
    assert first["x"].tolist() == [0, 0]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_malformed_and_stop_careful_targets(fault):
    case = PROPERTIES["extremes"].fixed(Support(), "elman", "float64")[0]
    message, arrays = malformed(case.problem, fault)
    numpy = in_process("numpy")
    with pytest.raises((ValueError, KeyError, NotImplementedError)):
        numpy.call(as_seen(message["problem"], arrays))


@pytest.mark.parametrize(
    ("name", "prop"),
    [
        ("rows_as_if_packed", "memory"),
        ("strides_of_zero", "memory"),
        ("weights_of_the_first_call", "memory"),
        ("recorded_after_20_calls", "repeatability"),
        ("plan_of_other_lengths", "repeatability"),
    ],
)
def test_script_lays_arrays_out_and_asks_as_often(name, prop, tmp_path):
    target = in_process(f"{MUTANTS.parent / 'far_out.py'}:{name}")
    finding = Search(
        PROPERTIES[prop], TargetBench(target, "float64"), "elman", "float64", Profile("x", 20, 40), 0
    ).run()
    outcome = reproducible(finding.property, finding.smallest, target, [], Truths())
    path = tmp_path / "script.py"
    write_script(path, target, finding, outcome)
    for place, status in (((), 1), (("implementations.numpy_bptt",), 0)):
        run = subprocess.run([sys.executable, "-P", str(path), *place], capture_output=True, text=True, check=False)
        assert run.returncode == status, run.stdout + run.stderr


def test_differences_have_no_remainder_where_the_loss_is_cubic():
    """(1) is exact for polynomials of degree 4: the identity network's loss in one weight of a short sequence."""
    bench = TargetBench(in_process("numpy"), "float64")
    one = np.ones((1, 1))
    loss = Loss("cotangent", g=np.ones((3, 1, 1)))
    problem = Problem(
        "elman", {"W_xh": one, "W_hh": one, "b_h": one[0]}, np.ones((3, 1, 1)), loss, one, None, "identity"
    )
    for turn in range(6):
        judgement = PROPERTIES["loss-differences"].check(Case(problem, {"array": turn, "sizes": 0}), bench)
        (comparison,) = judgement.comparisons
        assert comparison.holds
        assert comparison.conclusive
        assert abs(comparison.want) <= comparison.allowed or turn == 0


@pytest.mark.parametrize(
    ("prop", "name"),
    [(prop, name) for prop in ("memory", "repeatability", "loss-differences") for name in KILLS[prop]],
)
def test_script_shows_the_failure_without_us(prop, name, tmp_path):
    """What a case does beyond asking one problem is in its script: layouts, held results, errors, other problems."""
    target = in_process(f"{MUTANTS}:{name}")
    finding = search(prop, target.name, profile=Profile("x", 60, 40))
    outcome = reproducible(finding.property, finding.smallest, target, [], Truths())
    assert outcome.repeats
    path = tmp_path / "script.py"
    write_script(path, target, finding, outcome)
    run = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    correct = str(MUTANTS.parent / "elman_base.py")
    run = subprocess.run([sys.executable, "-I", str(path), correct], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
