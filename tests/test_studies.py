"""Studies: every one runs in its quick form, its checks hold, and what it writes is whole, escaped and repeatable.

The theorems are each study's own checks. That they can fail is shown by breaking what they rest on.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.cli import main
from conformance.studies import STUDIES, carousel, clipping, jacobians, one_neuron, storage, truncated_loop, unfolding
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import Interval, band, interval, median_band, t_quantile
from conformance.studies.networks import cosine, step
from conformance.studies.picture import DASHES, MARKERS, Axis, draw
from conformance.studies.report import as_json, cell_text, write

SYSTEMS = [f"S{n}" for n in range(1, 12)]


def quick(study: Study) -> Found:
    counted = {"total": 0, "done": 0}

    def begin(total: int) -> None:
        counted["total"] = total

    def advance() -> None:
        counted["done"] += 1

    found = study.run(Run(quick=True, begin=begin, advance=advance))
    assert counted["total"] == counted["done"] > 0, "the progress bar would not end where it should"
    return found


def results_of(study: Study, found: Found) -> dict:
    return as_json(study, found, quick=True, trainer="numpy", seconds=0.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each study's quick run, made when it is first asked for: (results, folder of its files)."""
    made = {}

    def run(name):
        if name not in made:
            study, folder = STUDIES[name], tmp_path_factory.mktemp(name)
            results = results_of(study, quick(study))
            write(results, folder)
            made[name] = results, folder
        return made[name]

    return run


def test_every_system_of_the_sources_has_a_study():
    assert [name for name in STUDIES if name.startswith("S")] == SYSTEMS


@pytest.mark.parametrize("name", STUDIES)
def test_study_checks_hold_and_its_files_are_whole(name, runs):
    results, folder = runs(name)
    assert [check["statement"] for check in results["checks"] if check["holds"] is not True] == []
    assert results["answer"] and len(results["seeds"]) >= 2
    assert json.loads((folder / "study.json").read_text()) == results
    page = (folder / "study.html").read_text()
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page)
    text = (folder / "study.md").read_text()
    for picture in results["pictures"]:
        svg = (folder / f"{picture['name']}.svg").read_text()
        ET.fromstring(svg)
        assert "nan" not in svg.lower() and "inf" not in re.sub(r">[^<]*<", "><", svg)
        assert f"]({picture['name']}.svg)" in text
        for panel in picture["panels"]:
            styles = [s["style"] for s in panel["series"]]
            looks = {(DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in styles}
            assert len(looks) == len(styles), "two curves cannot be told apart without colour"
            assert panel["xlabel"] and panel["ylabel"]
            assert any(np.isfinite([v for v in s["y"] if not isinstance(v, str)]).any() for s in panel["series"])


LETTERS = re.compile(r"(?<![\w`])(?:[a-zA-Z](?:_\w+|(?= [=−])|²)|W_\w+|[a-z]\^[pn\d])(?!\w)")
"""A letter that stands for something: with an index or a power, or before an equals or minus sign."""


@pytest.mark.parametrize("name", STUDIES)
def test_letters_of_a_page_are_explained_there(name, runs):
    results, folder = runs(name)
    checks = [check[key] for check in results["checks"] for key in ("statement", "detail")]
    captions = [picture["caption"] for picture in results["pictures"]]
    said = " ".join([results["question"], results["method"], *results["answer"], *captions, *checks])
    known = results["symbols"]
    for letter in {match[0].partition("_")[0] for match in LETTERS.finditer(said)}:
        assert re.search(rf"(?<!\w){letter[0]}(?![a-z])", known), (letter, known)
    assert bool(known) == ("<strong>Symbols.</strong>" in (folder / "study.html").read_text())
    assert bool(known) == ("**Symbols.**" in (folder / "study.md").read_text())


@pytest.mark.parametrize("name", STUDIES)
def test_a_quick_page_does_not_pass_its_intervals_off_as_results(name, runs, tmp_path):
    results, folder = runs(name)
    for page in ("study.html", "study.md"):
        said = (folder / page).read_text()
        assert "It shows that the study works and no more: the runs are small." in said
        assert "Intervals are 95" not in said
        assert ("an interval says next to nothing" in said) is not results["measures"]
    write({**results, "form": "full"}, tmp_path)
    for page in ("study.html", "study.md"):
        said = (tmp_path / page).read_text()
        assert "no more: the runs are small" not in said
        assert ("Intervals are 95 %" in said) is not results["measures"]


@pytest.mark.parametrize("name", ["S1", "S8", "clipping", "evolution"])
def test_same_seeds_give_the_same_numbers(name, runs):
    results, _ = runs(name)
    again = results_of(STUDIES[name], quick(STUDIES[name]))
    assert again == results


def test_bounds_lie_above_measured_norms(runs):
    results, _ = runs("S7")
    for panel in results["pictures"][0]["panels"][:-1]:
        by_name = {s["name"]: s["y"] for s in panel["series"]}
        for gamma in jacobians.NORMS:
            pairs = list(zip(by_name[f"measured, {gamma:g}"], by_name[f"bound, {gamma:g}"], strict=True))
            assert pairs and all(norm <= bound * (1 + 2.0**-40) for norm, bound in pairs), panel["title"]


def test_carousel_factor_is_exactly_one(runs):
    results, _ = runs("S8")
    truncated = results["pictures"][0]["panels"][0]["series"][0]
    assert truncated["name"].startswith("truncated")
    assert set(truncated["y"]) == {1.0}


def test_checkpoints_hold_less_than_the_whole_run(runs):
    results, _ = runs("S3")
    curves = {s["name"]: s["y"] for s in results["pictures"][0]["panels"][0]["series"]}
    assert curves["minimum"][-1] < curves["checkpointing, peak"][-1] < curves["numpy, peak"][-1]


# --- that the checks can fail


def failed(found: Found) -> list[str]:
    return [check.statement for check in found.checks if not check.holds]


def test_jacobian_check_fails_where_the_largest_eigenvalue_stands_for_the_norm(monkeypatch):
    def radius(W):
        return 0.0, float(np.abs(np.linalg.eigvals(W)).max())

    monkeypatch.setattr(jacobians, "spectral_norm_bounds", radius)
    assert any("at most its bound" in statement for statement in failed(quick(STUDIES["S7"])))


def test_carousel_check_fails_for_a_full_gradient(monkeypatch):
    monkeypatch.setattr(carousel, "truncated", lambda problem, _kind: problem)
    assert len(failed(quick(STUDIES["S8"]))) == 2


def test_one_neuron_check_fails_without_the_recursive_part(monkeypatch):
    monkeypatch.setitem(one_neuron.VARIANTS, "complete", (1.0, 0.0))
    assert any("within the budget" in statement for statement in failed(quick(STUDIES["S1"])))


def test_storage_judgement_fails_where_a_piece_is_not_told_what_the_next_one_sent(monkeypatch):
    problems = [storage.problem_of("elman", 5, 0)]
    assert storage.judged(problems) <= 1.0
    gradients = storage.numpy_bptt.gradients

    def deaf(problem):
        return gradients(replace(problem, loss=replace(problem.loss, g_h_final=None)))

    monkeypatch.setattr(storage.numpy_bptt, "gradients", deaf)
    assert storage.judged(problems) > 1.0


def test_unfolding_check_fails_where_an_instance_is_left_out(monkeypatch):
    instances = unfolding.instances

    def fewer(problem):
        x, g = problem.x[1:], problem.loss.g[1:]
        return instances(replace(problem, x=x, loss=replace(problem.loss, g=g)))

    monkeypatch.setattr(unfolding, "instances", fewer)
    assert any("add up" in statement for statement in failed(quick(STUDIES["S4"])))


def test_clipping_check_fails_where_entries_are_cut(monkeypatch):
    cut = clipping.clipped
    monkeypatch.setattr(clipping, "clipped", lambda g, arm: cut(g, "by value" if arm == "by norm" else arm))
    assert any("keeps the direction" in statement for statement in failed(quick(STUDIES["clipping"])))


# --- the parts


def test_t_interval_has_the_quantiles_of_the_tables():
    # Abramowitz and Stegun (1964), table 26.10, to the digits printed there
    assert [round(t_quantile(n), 3) for n in (2, 3, 6, 11, 31)] == [12.706, 4.303, 2.571, 2.228, 2.042]


def test_intervals_cover_the_mean_and_the_median_as_often_as_they_say():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((8, 4000))
    for low, high in (band(draws)[1:], median_band(draws)[1:]):
        covered = np.mean((low <= 0) & (high >= 0))
        # 4000 independent trials at 0.95 or more: five standard deviations below are 0.933
        assert covered >= 0.933
    _, low, high = band(draws)
    assert np.mean((low <= 0) & (high >= 0)) <= 0.967  # and the t-interval is no wider than it says


def test_interval_of_one_value_is_that_value():
    assert interval([3.0]) == Interval(3.0, 3.0, 3.0)


def test_cosine_of_tiny_vectors_does_not_underflow():
    a = np.array([3e-200, 4e-200])
    assert abs(cosine(a, a) - 1) <= 2.0**-50  # a norm, two divisions and a dot product of two terms: under 8 roundings


def test_a_clipped_step_is_as_long_as_the_clip():
    params = {"W": np.array([1.0, 2.0])}
    after = step(params, {"dW": np.array([30.0, 40.0])}, rate=0.5, clip=1.0)
    np.testing.assert_allclose(params["W"] - after["W"], [0.3, 0.4], rtol=2.0**-49)  # a norm, a quotient, 2 products


@pytest.mark.parametrize(
    ("low", "high", "log"), [(1e-30, 1e25, True), (0.31, 0.33, False), (2.0, 7.0, True), (5, 5, False)]
)
def test_axis_has_ticks_within_its_ends(low, high, log):
    axis = Axis([low, high], log, None, 0, 100)
    ticks = axis.ticks()
    assert len(ticks) >= 1
    assert all(0 <= axis.at(tick) <= 100 for tick in ticks)


def hostile() -> tuple[Study, Found]:
    nasty = "<script>alert(1)</script> | `x` \x1b[2J"
    series = Series(nasty, [1, 2], [float("nan"), 1.0], [0.0, 0.5], [float("inf"), 2.0])
    study = Study("X", nasty, nasty, nasty, ("C01",), lambda _run: Found())
    return study, Found(
        [nasty],
        seeds=[1],
        tables=[Table(nasty, [nasty], [[nasty]])],
        pictures=[Picture("x", nasty, [Panel(nasty, nasty, nasty, [series], ylog=True)])],
        checks=[Check(nasty, True, nasty)],
    )


def test_texts_are_escaped_in_every_form(tmp_path):
    study, found = hostile()
    write(results_of(study, found), tmp_path)
    assert "<script" not in (tmp_path / "study.html").read_text()
    assert "<script" not in (tmp_path / "x.svg").read_text()
    assert not re.search(r"(?<!\\)<script", (tmp_path / "study.md").read_text())


def test_numbers_are_written_as_people_read_them():
    assert cell_text({"middle": -0.0001234, "low": "-inf", "high": 2e9}) == "−0.000123 [-inf, 2e+09]"


def test_pictures_are_the_same_bytes_again():
    study, found = hostile()
    picture = results_of(study, found)["pictures"][0]
    assert draw(picture) == draw(picture)


# --- the command


def test_command_lists_and_runs(tmp_path, capsys):
    assert main(["study", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name} " in listed for name in STUDIES)
    assert main(["study", "run", "s4", "--report-dir", str(tmp_path), "--quick"]) == 0
    said = capsys.readouterr()
    assert "holds: " in said.out and said.err == ""
    assert "Quick form: It shows that the study works and no more" in said.out
    assert {path.name for path in tmp_path.iterdir()} == {"study.json", "study.html", "study.md", "s4.svg"}


def test_command_exits_with_1_where_a_check_does_not_hold(tmp_path, capsys, monkeypatch):
    _, found = hostile()
    bad = Study(
        "S4", "t", "q?", "m.", (), lambda _run: Found(**vars(found) | {"checks": [Check("1 = 2", False, "no")]})
    )
    monkeypatch.setitem(STUDIES, "S4", bad)
    assert main(["study", "run", "S4", "--report-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "DOES NOT HOLD: 1 = 2" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["study", "run", "S12", "--report-dir", "x"], "there are S1, S2"),
        (["study", "run", "S1"], "--report-dir"),
        (["study"], "list|run"),
        (["study", "run", "S1", "--report-dir", "/dev/null/x"], "directory"),
    ],
)
def test_command_says_in_one_line_what_is_wrong(words, fix, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert fix in said and said.count("\n") == 1


def test_page_of_the_studies_shows_every_one():
    page = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()
    for study in STUDIES.values():
        assert f"## {study.id}" in page
        assert study.title in page
        assert "".join(f"\\{c}" if c in "\\*_<>|" else c for c in study.symbols) in page


def test_truncated_loop_carries_the_state_of_the_new_weights_on(monkeypatch):
    """The state that the unfolded pass left behind is that of the old ones: a bug that training-trajectory knows."""
    posed: list[Any] = []
    solve = truncated_loop.gradients

    def recorded(problem):
        posed.append((problem, solve(problem)))
        return posed[-1][1]

    monkeypatch.setattr(truncated_loop, "gradients", recorded)
    began: list[Any] = []
    last_step = truncated_loop.last_step
    monkeypatch.setattr(
        truncated_loop, "last_step", lambda *a, **k: began.append((a[1], k["h0"])) or last_step(*a, **k)
    )
    truncated_loop.train(0, lag=1, k=2, n=6, looks=[])
    steps = [(problem, answer) for problem, answer in posed if problem.T == 1]
    assert len(began) == len(steps) == 4
    for (_, h0), (problem, _), (params, after) in zip(began, steps, [*began[1:], (None, None)], strict=True):
        assert problem.h0.tobytes() == h0.tobytes()
        if params is not None:
            assert all(problem.params[name] is array for name, array in params.items())
            assert after.tobytes() == next(a for p, a in steps if p is problem)["h"][0].tobytes()
