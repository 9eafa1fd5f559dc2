"""The claims: each is decided by computing, the page is what comes out, and a wrong formula changes a verdict."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest

from conformance.claims import CLAIMS, lstm, neuron, norms, shared
from conformance.claims.base import Run, derivative, same, search
from conformance.claims.networks import Neuron
from conformance.claims.report import SCHEMA, as_json, to_html, to_markdown, verdict
from conformance.claims.training import sign_test
from conformance.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "claims.md"
STUDIES = ("C08", "C12", "C13")
"""Their counts depend on how long the study is; test_studies_are_decided runs the shortest."""
QUICK = Run(quick=True)


@pytest.fixture(scope="module")
def found():
    return {name: claim.decide(QUICK) for name, claim in CLAIMS.items() if name not in STUDIES}


def test_every_claim_is_there():
    assert list(CLAIMS) == [f"C{n:02}" for n in range(1, 35)]


def test_page_has_the_verdicts_of_the_quick_form(found):
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(C\d\d)\]\(#c\d\d\) \| .+ \| (.+) \|$", text, re.MULTILINE))
    assert sorted(rows) == list(CLAIMS)
    results = as_json([(CLAIMS[name], finding) for name, finding in found.items()], QUICK, 0.0)
    fresh = dict(re.findall(r"^\| \[(C\d\d)\]\(#c\d\d\) \| .+ \| (.+) \|$", to_markdown(results), re.MULTILINE))
    assert {name: rows[name] for name in fresh} == fresh


@pytest.mark.parametrize("name", STUDIES)
def test_studies_are_decided(name):
    finding = CLAIMS[name].decide(QUICK)
    (claim,) = as_json([(CLAIMS[name], finding)], QUICK, 0.0)["claims"]
    assert verdict(claim).startswith("undecided in the quick form, " if name == "C08" else "holds when asked ")
    assert "this study" not in verdict(claim)
    assert "(won)" in finding.notes[0]
    assert "measured" in finding.shown or "enclosed" in finding.shown


def test_page_shows_every_exact_counterexample(found):
    text = PAGE.read_text(encoding="utf-8")
    for name, finding in found.items():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        results = as_json([(CLAIMS[name], replace(finding, problems=200))], QUICK, 0.0)
        own = to_markdown(results).partition(f"\n## {name}\n")[2]
        lines = [line for line in own.splitlines() if line.startswith(("Counterexample", "Another way"))]
        assert all(line in section for line in lines if "C_1000" not in line), name


def test_refutations_have_numbers_and_a_second_way(found):
    for name, finding in found.items():
        assert finding.verdict != "undecided", name
        if finding.verdict != "holds":
            assert finding.counterexample and finding.second, name
            assert re.search(r"\d", " ".join(finding.counterexample)), name


@pytest.mark.parametrize("wrong", [{"a": True}, {"a": False}])
def test_right_formula_for_the_bias_holds_and_the_printed_one_does_not(wrong):
    decided = neuron.c01(QUICK, lambda n, _: neuron.printed(n, wrong))
    assert decided.verdict == ("holds" if wrong["a"] else "refuted")


def test_wrong_recursion_is_refuted():
    def off(n, has=None):
        hand = neuron.printed(n, has)
        return hand | {"c": hand["c"] + 1}

    assert neuron.c02(QUICK).verdict == "holds"
    assert neuron.c02(QUICK, off).verdict == "refuted"


def test_transposed_jacobian_holds_where_the_printed_one_is_refuted():
    assert shared.c18(QUICK).verdict == "refuted"
    assert shared.c18(QUICK, transpose=True).verdict == "holds"


def test_broken_product_of_lstm_factors_changes_the_verdict(monkeypatch):
    assert lstm.c25(QUICK).verdict == "holds when"
    right = lstm.Steps.both
    monkeypatch.setattr(lstm.Steps, "both", lambda s: (right(s)[0] * 2, right(s)[1]))
    assert lstm.c25(QUICK).verdict == "refuted"


def test_wrong_bound_on_a_slope_is_no_longer_held(monkeypatch):
    assert norms.c21(QUICK).verdict == "holds"
    monkeypatch.setitem(norms.GAMMA, "sigmoid", Fraction(1, 5))
    assert norms.c21(QUICK).verdict != "holds"


def test_counterexample_that_no_second_way_shows_decides_nothing():
    def decide(agrees):
        return search(
            "x",
            QUICK,
            holds=lambda n: n != 3,
            small=[3],
            draw=lambda _: 4,
            show=str,
            second=lambda _: (["another"], agrees),
            shown="",
        ).verdict

    assert (decide(True), decide(False)) == ("refuted", "undecided")


def test_condition_that_does_not_help_refutes():
    finding = search(
        "x", QUICK, holds=lambda n: n < 3, small=[5], draw=lambda rng: int(rng.integers(0, 9)), show=str,
        second=lambda _: (["another"], True), shown="", condition="n is drawn",
    )  # fmt: skip
    assert (finding.verdict, finding.condition) == ("refuted", "")


def test_comparisons_that_are_too_close_stay_open():
    from conformance.claims.base import N, ball

    with N.scope():
        wide = ball(1).union(ball(2))
    assert same([wide], [1]) is None
    assert same([wide], [3]) is False
    assert derivative(lambda w: w**4, 1) == 4


def test_sign_test_needs_a_clear_majority():
    assert [sign_test(n, 8) for n in (8, 7, 6, 1, 0)] == ["won", "won", "open", "lost", "lost"]


def test_by_hand_the_neuron_is_the_sources():
    n = Neuron(1, 2, 3, (1.0, -1.0), 1)
    assert n.outputs() == [6, 17]
    assert n.outputs(a=Fraction(0)) == [5, 13]


def test_command_decides_and_writes(tmp_path, capsys):
    assert main(["claims", "c01", "C18", "--quick", "--report-dir", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert "2 claims: 2 refuted" in out
    results = json.loads((tmp_path / "r" / "claims.json").read_text(encoding="utf-8"))
    jsonschema.validate(results, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [verdict(claim) for claim in results["claims"]] == ["refuted", "refuted"]
    assert "W_hh" in (tmp_path / "r" / "claims.html").read_text(encoding="utf-8")


def test_command_names_what_it_does_not_know(capsys):
    assert main(["claims", "C99"]) == 2
    assert "there are C01 to C34" in capsys.readouterr().err
    assert main(["claims", "C01", "--seed", "-1"]) == 2


def test_undecided_claim_gives_no_verdict(monkeypatch, capsys):
    monkeypatch.setattr(shared, "_copies", lambda _n: [0, 0, 0])
    assert main(["claims", "C11", "--quick", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["claims"][0]["verdict"] == "undecided"


def test_page_cannot_be_left_by_what_stands_in_it(found):
    hostile = replace(found["C01"], counterexample=("<script>alert(1)</script> | `x` [a](b)",))
    results = as_json([(CLAIMS["C01"], hostile)], QUICK, 0.0)
    assert "<script>" not in to_html(results) + to_markdown(results)


def test_same_seed_same_findings(found):
    assert CLAIMS["C03"].decide(QUICK) == found["C03"]
