"""The data of the pictures: ratios entry by entry, blocks that hide nothing, norms below their bound."""

from __future__ import annotations

import numpy as np
import pytest

from bptt.problem import Loss, Problem
from conformance.bench import TargetBench, Truths
from conformance.engine import PROFILES, Finding, Outcome, Search
from conformance.picture import LARGEST, STEPS, by_step, picture_of, ratios_to_budget, telling
from conformance.render import validate
from oracle.budget import Model
from oracle.truth import find_truth
from properties import PROPERTIES
from properties.base import Case, Comparison, Judgement
from tests.loading import in_process
from tests.test_render import make_finding, make_results, make_target

MUTANTS = "tests/mutants/elman.py"


def problem_of(T=3, B=2, D=1, H=2, lengths=None):
    rng = np.random.default_rng(T)
    params = {"W_xh": rng.normal(size=(D, H)), "W_hh": rng.normal(size=(H, H)), "b_h": rng.normal(size=H)}
    loss = Loss("cotangent", g=rng.normal(size=(T, B, H)))
    x, h0 = rng.normal(size=(T, B, D)), rng.normal(size=(B, H))
    return Problem("elman", params, x, loss, activation="tanh", h0=h0, lengths=lengths)


def test_ratios_are_errors_over_budgets_with_their_sign():
    truth = find_truth(problem_of(lengths=np.array([3, 1])), Model("float64"))
    want = truth.solution.near("h")[0]
    allowed = truth.allowed("h")
    got = want.copy()
    got[0, 0, 0] += 1.0
    got[1, 0, 0] -= 1.0
    got[2, 0, 0] = np.nan
    got[2, 1] = np.nan  # beyond the row's length: nothing is judged there
    ratios = ratios_to_budget("h", got, truth)
    # got - want is exact to 2^-52, and so is its quotient.
    assert ratios[0, 0, 0] == pytest.approx(1 / allowed[0, 0, 0], rel=2.0**-50)
    assert ratios[1, 0, 0] == pytest.approx(-1 / allowed[1, 0, 0], rel=2.0**-50)
    assert np.isnan(ratios[2, 0, 0])
    assert (ratios[2, 1] == 0).all()
    assert (np.abs(ratios[0, 1]) <= 1).all()


@pytest.mark.parametrize("T", [1, STEPS, STEPS + 1, 100])
def test_blocks_of_steps_hide_nothing(T):
    problem = problem_of(T)
    rng = np.random.default_rng(0)
    ratios = {"dx": rng.normal(size=(T, 2, 1)) * 10, "dW_hh": rng.normal(size=(2, 2)), "loss": np.array(-3.0)}
    steps = by_step(ratios, problem)
    rows = {row["array"]: row for row in steps["rows"]}
    per = steps["per_column"]
    assert len(rows["dx"]["ratios"]) == -(-T // per) <= STEPS
    for j, value in enumerate(rows["dx"]["ratios"]):
        assert value == float(f"{np.abs(ratios['dx'][j * per : (j + 1) * per]).max():.3g}")
    assert rows["loss"]["ratios"] == [3.0]
    assert not rows["dW_hh"]["over_steps"]
    assert len(rows["dW_hh"]["ratios"]) == 1


def pictured(name, property_id, tmp_path):
    """The search, and the picture of its finding, of a target on elman in float64."""
    target = in_process(name)
    truths = Truths()
    search = Search(PROPERTIES[property_id], TargetBench(target, "float64", truths), "elman", "float64", SMOKE, 0)
    search.run()
    return search, picture_of(search, target, truths, tmp_path)


SMOKE = PROFILES["smoke"]


def numbers(rows):
    return np.array([[float(value) for value in row] for row in rows])


def test_a_failure_is_pictured_where_it_is_wrong(tmp_path):
    search, picture = pictured(f"{MUTANTS}:window_one_step_too_long", "oracle-agreement", tmp_path)
    assert search.finding.verdict == "fail"
    sizes = dict(part.split("=") for part in picture["problem"].split() if "=" in part)
    assert int(sizes["T"]) >= 4
    assert (tmp_path / picture["case"]).is_file()
    rows = {row["array"]: np.array([float(value) for value in row["ratios"]]) for row in picture["steps"]["rows"]}
    assert len(rows["h"]) == int(sizes["T"])
    assert (rows["h"] <= 1).all()  # the forward pass is right
    assert (rows["dx"] > 1).any()
    wrong = picture["wrong"]
    matrix = numbers(wrong["ratios"])
    assert wrong["array"].startswith("d")
    assert np.abs(matrix).max() == rows[wrong["array"]].max()
    assert (np.abs(matrix) > 1).any()
    norms, bound = (np.array([float(value) for value in picture["norms"][key]]) for key in ("values", "bound"))
    assert len(norms) == len(bound) == int(sizes["T"]) + 1
    assert (norms <= bound * (1 + 2e-2)).all()  # three digits each: half a unit of the third is below 1 %
    results = make_results(make_target(findings=[make_finding("fail", picture=picture)]))
    validate(results)


def test_what_passed_is_pictured_within_its_budget(tmp_path):
    search, picture = pictured("numpy", "oracle-agreement", tmp_path)
    assert search.finding.verdict == "pass"
    assert (picture["case"], picture["wrong"]) == (None, None)
    ratios = np.concatenate([[float(r) for r in row["ratios"]] for row in picture["steps"]["rows"]])
    assert (ratios <= 1).all()
    asked = [(one.case.problem, one.worst.ratio) for one in search.outcomes.values()]
    assert ratios.max() == float(f"{max(r for p, r in asked if p.T * p.B * (p.D + p.H + p.K) <= LARGEST):.3g}")
    assert pictured("numpy", "causality", tmp_path)[1] is None
    assert list(tmp_path.iterdir()) == []


def test_a_norm_beyond_its_bound_is_in_the_picture(tmp_path):
    search, picture = pictured(f"{MUTANTS}:tanh_derivative_with_plus", "jacobian-norm-bound", tmp_path)
    assert search.finding.verdict == "fail"
    assert float(picture["norms"]["got"]) > float(picture["norms"]["bound"][-1])


def outcome_of(T, H, verdict="fail"):
    judged = Judgement((Comparison("dx", (), 1.0, 0.0, 1.0, 0.5, 2.0, True),)) if verdict == "fail" else None
    return Outcome(Case(problem_of(T, H=H)), verdict, judged)


def test_of_a_pass_the_worst_that_is_not_too_large_is_pictured():
    finding = Finding(PROPERTIES["oracle-agreement"], "elman", "float64", verdict="pass")
    compared = [Judgement((Comparison("dx", (), 1.0, 1.0, r / 2, 0.5, r, True),)) for r in (0.25, 0.5, 0.125, 0.75)]
    sizes = [1, 2, 3, LARGEST]
    outcomes = [Outcome(Case(problem_of(T, H=1)), "pass", judged) for T, judged in zip(sizes, compared, strict=True)]
    assert telling(finding, outcomes) is outcomes[1]
    assert telling(finding, outcomes[3:]) is None
    finding.property = PROPERTIES["causality"]
    assert telling(finding, outcomes) is None


def test_the_telling_problem_has_several_steps_and_units():
    finding = Finding(PROPERTIES["causality"], "elman", "float64", verdict="fail")
    sizes = [(1, 1), (8, 3), (2, 6), (LARGEST, 1), (8, 3)]
    outcomes = [outcome_of(T, H) for T, H in sizes] + [outcome_of(16, 6, "crash"), outcome_of(16, 6, "pass")]
    assert telling(finding, outcomes) is outcomes[1]
    assert telling(finding, outcomes[3:4]) is None
    finding.verdict = "crash"
    assert telling(finding, outcomes) is None
