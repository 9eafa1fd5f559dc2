"""Nine properties: correct code passes them in every cell, wrong code fails them alone, and what they need is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support, read_support
from bptt.truncation import Truncation
from conformance import engine
from conformance.bench import TargetBench
from conformance.engine import LEAST_SHARE, Finding, Profile, Search
from oracle.rational_numbers import RationalNumbers
from oracle.solution import solve
from properties import PROPERTIES
from properties.base import Case, Judgement
from properties.compare import Once, Part, of_sums
from properties.norm_preservation import LONG, expected, within_theorem
from properties.pieces import first_steps, padding, places, rows
from properties.truncation_nesting import diagonal_terms, tails
from tests.loading import in_process

HERE = Path(__file__).parent
IDS = (
    "batch-consistency",
    "causality",
    "cell-state-jacobian",
    "cotangent-linearity",
    "final-cotangent",
    "norm-preservation",
    "padding-invariance",
    "readout-locality",
    "truncation-nesting",
)
PAIRS = [(name, cell) for name in IDS for cell in CELLS if PROPERTIES[name].concerns(cell)]
DTYPES = ("float64", "float32")
"""Taken in turn; tests/deep/test_properties.py takes each cell in both, and more problems."""
WRONG = {  # by form, in the order of the property's FORMS: each has a planted bug that it sees without the others
    "batch-consistency": (
        "slope_of_first_row_for_all",
        "initial_state_gradient_shared_by_rows",
        "initial_state_gradient_shared_by_rows",
    ),
    "causality": ("next_input_prefetched_too_early", "dx_one_step_late"),
    "cotangent-linearity": ("weight_decay_in_the_gradient", "loss_scale_left_in_bias", "error_signal_clipped"),
    "final-cotangent": ("final_gradient_ignored", "final_gradient_replaces_last_loss", "final_gradient_at_every_step"),
    "padding-invariance": ("padding_holds_a_gradient", "masked_steps_update_state", "padding_counted_in_the_loss"),
    "readout-locality": (
        "readout_weight_uses_state_before",
        "readout_weight_of_last_step_only",
        "readout_truncated_with_the_cell",
    ),
    "truncation-nesting": ("window_rounded_up_to_pairs", "carry_accumulates"),
}
WRONG_NORMS = ("carry_rescaled_to_unit_norm", "float64_carry_kept_in_single", "carry_off_by_1e_9")
WRONG_CELLS = {
    "cell_gradient_without_forget_gate": ("cell-state-jacobian", "lstm", 0),
    "cell_gradient_without_output": ("cell-state-jacobian", "lstm_1997", 0),
    "carousel_ignored": ("cell-state-jacobian", "lstm_1997", 1),
    "carousel_decays": ("cell-state-jacobian", "lstm_1997", 1),
    "peepholes_send_nothing_back": ("cell-state-jacobian", "lstm_peephole", 0),
    "final_cell_cotangent_ignored": ("final-cotangent", "lstm", 2),
}
FEW = Profile("x", 40, 0)


@pytest.fixture
def drawn_once(monkeypatch):
    """As few examples as a profile says: drawing does not go on until twenty are conclusive."""
    monkeypatch.setattr(engine, "ROUNDS", 1)


class OneForm:
    """A property in one of its forms."""

    def __init__(self, name: str, form: int | None) -> None:
        self.of, self.form = PROPERTIES[name], form

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def kept(self, case: Case) -> bool:
        return self.form is None or case.parameters["form"] == self.form

    def cases(self, *what: Any) -> Any:
        return self.of.cases(*what).filter(self.kept)

    def fixed(self, *what: Any) -> list[Case]:
        return [case for case in self.of.fixed(*what) if self.kept(case)]


def search(
    target: str, name: str, cell: str, dtype: str, profile: Profile, form: int | None = None, **support: Any
) -> Finding:
    """The finding of one property, or one form of it, on a target, with its support narrowed."""
    found = in_process(target)
    found = replace(found, support=replace(found.support, **support))
    prop: Any = OneForm(name, form)
    return Search(prop, TargetBench(found, dtype), cell, dtype, profile, 0, alone=True).run()


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize(("name", "cell", "dtype"), [(*pair, DTYPES[n % 2]) for n, pair in enumerate(PAIRS)])
def test_property_passes_for_numpy_and_says_something(name, cell, dtype):
    finding = search("numpy", name, cell, dtype, Profile("x", 6, 0))
    assert finding.smallest is None, finding.smallest
    assert finding.verdict in ("pass", "inconclusive"), finding.message
    assert finding.examples >= 6
    assert finding.conclusive >= LEAST_SHARE * finding.examples  # as few as six may miss the share of 0.95 by chance


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in WRONG for form in range(len(WRONG[name]))])
def test_each_form_alone_fails_a_planted_bug(name, form):
    finding = search(f"{HERE}/mutants/elman.py:{WRONG[name][form]}", name, "elman", "float64", FEW, form)
    assert finding.verdict == "fail", (finding.verdict, finding.message)


@pytest.mark.parametrize("bug", WRONG_NORMS)
def test_norm_preservation_fails_what_is_off_in_the_last_bits(bug):
    finding = search(f"{HERE}/mutants/elman.py:{bug}", "norm-preservation", "elman", "float64", FEW)
    assert finding.verdict == "fail", (finding.verdict, finding.message)


@pytest.mark.parametrize("bug", sorted(WRONG_CELLS))
def test_each_form_alone_fails_a_planted_bug_of_an_lstm(bug):
    name, cell, form = WRONG_CELLS[bug]
    finding = search(f"{HERE}/mutants/lstm.py:{bug}", name, cell, "float64", FEW, form)
    assert finding.verdict == "fail", (finding.verdict, finding.message)


RELATED = [name for name in WRONG if name != "truncation-nesting"]


@pytest.mark.parametrize("cell", ["elman", "lstm_1997"])
@pytest.mark.parametrize("name", RELATED)
def test_runs_that_are_compared_are_the_same_in_the_exact_solutions(name, cell, monkeypatch):
    """What a pair of runs may differ by is next to nothing: else it is no pair of the theorem, and would say little."""
    judged: list[Judgement] = []
    judge = engine.judge

    def kept(*what: Any) -> Any:
        outcome = judge(*what)
        judged.append(outcome.judgement)
        return outcome

    monkeypatch.setattr(engine, "judge", kept)
    lengths = name != "final-cotangent"  # there the cotangent of a row of length 0 is seen in dh0, and in nothing else
    search("numpy", name, cell, "float64", Profile("x", 12, 0), lengths=lengths)
    wants = [abs(c.want) for judgement in judged for c in judgement.comparisons]
    assert len(wants) > 30
    assert max(wants) < 1e-12  # what rounding the states and cotangents of one run to float64 makes of numbers near 1


@pytest.mark.parametrize("name", sorted(WRONG))
def test_counterexample_is_shrunk(name):
    bug = f"{HERE}/mutants/elman.py:{WRONG[name][0]}"
    finding = search(bug, name, "elman", "float64", Profile("x", 40, 300))
    problem = finding.smallest.case.problem
    assert problem.T <= 3, problem.T
    assert max(problem.B, problem.D, problem.H) <= 2, (problem.B, problem.D, problem.H)
    assert finding.smallest.judgement.worst.terms, "a failure can be shown"


# Some of what a property needs is left out. What else it needs is there.
LACKING = [
    ("batch-consistency", "elman", {"max_size": {"B": 1}}),
    ("causality", "elman", {"max_size": {"T": 1}}),
    ("causality", "gru_reset_after", {"losses": ("squared_error",), "outputs": ("loss", "dx")}),
    ("cell-state-jacobian", "lstm", {"losses": ("squared_error",)}),
    ("cell-state-jacobian", "lstm", {"final_cotangents": False}),
    ("cell-state-jacobian", "lstm", {"truncations": ("chunk", "cec")}),
    ("cell-state-jacobian", "lstm_1997", {"outputs": ("loss", "dx")}),
    ("cotangent-linearity", "elman", {"losses": ("squared_error", "cross_entropy")}),
    ("final-cotangent", "elman", {"final_cotangents": False}),
    ("final-cotangent", "lstm", {"losses": ("squared_error",)}),
    ("norm-preservation", "elman", {"activations": ("tanh", "relu")}),
    ("norm-preservation", "elman", {"losses": ("squared_error",)}),
    ("norm-preservation", "elman", {"truncations": ("chunk",)}),
    ("norm-preservation", "elman", {"final_cotangents": False, "readouts": ("linear",)}),
    ("padding-invariance", "elman", {"lengths": False}),
    ("padding-invariance", "elman", {"max_size": {"T": 1}}),
    ("readout-locality", "elman", {"readouts": ("none",)}),
    ("readout-locality", "elman", {"outputs": ("loss", "dx")}),
    ("readout-locality", "elman", {"losses": ("squared_error",), "truncations": ("full",)}),
    ("truncation-nesting", "lstm", {"truncations": ("full", "chunk")}),
]


@pytest.mark.parametrize(("name", "cell", "support"), LACKING)
def test_property_says_what_it_needs(name, cell, support):
    finding = search("numpy", name, cell, "float64", Profile("x", 6, 0), **support)
    assert finding.verdict == "unsupported"
    assert finding.message == f"needs {PROPERTIES[name].needs}"


# Each of these offers little; what is asked must lie within it, and much of each property can still be.
NARROW: list[dict[str, Any]] = [
    {"max_size": {"T": 2, "B": 1, "D": 1, "H": 1, "K": 2}},
    {"max_size": {"T": 3, "B": 2, "D": 2, "H": 4, "K": 1}, "h0_none": False},
    {"losses": ("squared_error",), "reductions": ("mean",), "lengths": False},
    {"losses": ("cross_entropy",), "reductions": ("tokens",), "truncations": ("window",)},
    {"losses": ("cotangent",), "reductions": (), "readouts": ("linear",), "final_cotangents": False},
    {"losses": ("cotangent",), "readouts": ("none",), "truncations": ("full",), "lengths": False, "h0_none": False},
    {"truncations": ("chunk", "cec"), "final_cotangents": False, "h0_none": False},
]


class Strict:
    """A bench that refuses what a target does not offer."""

    def __init__(self, bench: TargetBench) -> None:
        self.support, self.truth, self.bench = bench.support, bench.truth, bench

    def run(self, problem: Problem) -> Any:
        s, loss = self.support, problem.loss
        for name in "TBDHK":
            assert getattr(problem, name) <= s.max_size.get(name, 1 << 30), name
        assert problem.readout in s.readouts
        assert loss.kind in s.losses
        assert problem.truncation.kind in s.truncations
        assert problem.activation in (None, *s.activations)
        if loss.kind != "cotangent":
            assert {loss.time_reduction, loss.batch_reduction} <= set(s.reductions)
        assert s.lengths or problem.lengths is None
        assert s.h0_none or problem.h0 is not None
        assert s.final_cotangents or (loss.g_h_final is None and loss.g_c_final is None)
        return self.bench.run(problem)


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("narrow", NARROW, ids=range(len(NARROW)))
@pytest.mark.parametrize("name", IDS)
def test_cases_lie_within_what_a_target_offers(name, narrow, monkeypatch):
    judge = engine.judge
    monkeypatch.setattr(engine, "judge", lambda prop, case, bench, alone: judge(prop, case, Strict(bench), alone))
    for cell in ("elman", "lstm_1997"):
        if PROPERTIES[name].concerns(cell):
            finding = search("numpy", name, cell, "float64", Profile("x", 5, 0), **narrow)
            assert finding.verdict in ("pass", "inconclusive", "unsupported"), (cell, finding.message, finding.smallest)


# ---- the pieces that the properties are made of ----------------------------------------------------------------------


def linear(T: int = 4, B: int = 3, seed: int = 0, **fields: Any) -> Problem:
    """A linear Elman problem of small integers: rationals solve it exactly."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> Any:
        return rng.integers(-3, 4, shape).astype(np.float64)

    params = {"W_xh": array(2, 2), "W_hh": array(2, 2), "b_h": array(2)}
    loss = Loss("cotangent", g=array(T, B, 2), g_h_final=array(B, 2))
    made = Problem("elman", params, array(T, B, 2), loss, h0=array(B, 2), activation="identity")
    return replace(made, **fields)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_diagonal_is_the_difference_of_two_windows(k):
    problem = linear(lengths=np.array([4, 2, 0]))
    narrow, wide = (
        solve(replace(problem, truncation=Truncation("window", k=n)), RationalNumbers()) for n in (k, k + 1)
    )
    for key, terms in diagonal_terms(wide.unrolled, k).items():
        want = [a - b for a, b in zip(wide.values[key], narrow.values[key], strict=True)]
        assert terms.data == want, key


def test_tail_is_met_by_one_unit_and_not_by_less():
    one = np.ones((1, 1))
    g = np.zeros((4, 1, 1))
    g[-1] = 3
    problem = Problem(
        "elman", {"W_xh": 2 * one, "W_hh": one / 2, "b_h": one[0]}, np.ones((4, 1, 1)), Loss("cotangent", g=g),
        h0=one, activation="identity",
    )  # fmt: skip
    full = solve(problem, RationalNumbers())
    cut = solve(replace(problem, truncation=Truncation("window", k=2)), RationalNumbers())
    for key, bound in tails(full, 2).items():
        if key == "dx":  # two steps of dx stand beside one another: their norms add up to more than the whole's
            continue
        rest = abs(float(sum(full.values[key]) - sum(cut.values[key])))
        assert rest <= bound <= rest * (1 + 1e-5), key  # one sign, one unit: the triangle inequalities are equalities


def test_rows_and_steps_know_their_places():
    problem = linear(lengths=np.array([4, 2, 0]))
    piece = first_steps(rows(problem, [2, 0]), 3)
    where = places(problem, [2, 0], 3)
    assert (problem.x.reshape(-1)[where["dx"]] == piece.x).all()
    assert (problem.h0.reshape(-1)[where["dh0"]] == piece.h0).all()
    assert piece.lengths.tolist() == [0, 3]
    assert padding(piece).tolist() == [[True, False]] * 3


def test_part_counts_as_often_as_it_says():
    problem = linear()
    doubled = replace(problem, loss=replace(problem.loss, g=2 * problem.loss.g, g_h_final=2 * problem.loss.g_h_final))
    bench = Once(TargetBench(in_process("numpy"), "float64"))
    right = of_sums(bench, [Part(+1, doubled), Part(-2, problem)], ["dW_hh"])
    assert right.comparisons[0].want == 0
    assert not right.failed
    assert [term.coefficient for term in right.comparisons[0].terms] == [1.0, -2.0]
    wrong = of_sums(bench, [Part(+1, doubled), Part(-1, problem)], ["dW_hh"])
    assert wrong.comparisons[0].want != 0


def test_norms_are_those_of_the_cotangent_however_long():
    prop = PROPERTIES["norm-preservation"]
    for case in prop.fixed(Support(), "elman", "float64"):
        problem = case.problem
        assert (problem.T, problem.B, problem.D, problem.H) == LONG
        assert within_theorem(problem)
        v = problem.loss.g[-1] if problem.loss.g_h_final is None else problem.loss.g_h_final
        want = expected(problem)
        assert (np.sort(np.abs(want["dh0"])) == np.sort(np.abs(v))).all()
        assert (np.sort(np.abs(want["dx"])) == np.sort(np.abs(v))).all()
    assert not within_theorem(replace(problem, params=problem.params | {"W_hh": 2 * problem.params["W_hh"]}))
    assert not within_theorem(replace(problem, loss=replace(problem.loss, g=np.ones_like(problem.loss.g))))


def test_narrow_accumulation_is_no_fault_where_exactness_is_asked():
    support = read_support({"accumulate": "float32", "subnormals": "flush"})
    for name, cell in (("norm-preservation", "elman"), ("cell-state-jacobian", "lstm_1997")):
        case = PROPERTIES[name].fixed(support, cell, "float64")[0]
        v = case.problem.loss.g_h_final if name == "norm-preservation" else case.problem.loss.g_c_final
        assert (v.astype(np.float32) == v).all()
        assert np.abs(v).min() >= 2.0**-10
