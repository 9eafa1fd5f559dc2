"""The open-ended search keeps what it finds, and `certify --cases` judges it from then on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bptt.files import load_case, save_problem
from conformance import explore as exploring
from conformance.cli import main
from conformance.engine import Profile
from properties import PROPERTIES
from tests.loading import in_process

HERE = Path(__file__).parent
GOOD = str(HERE / "adapters" / "good.py")
BAD = f"{GOOD}:loses_last_step"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(exploring, "ROUND", Profile("explore", 15, 100))


def explored(target, folder, seconds, *ids):
    folder.mkdir()
    said = []
    found = exploring.explore(in_process(target), [PROPERTIES[i] for i in ids], folder, 0, seconds, said.append)
    return found, said


def test_explore_ends_when_every_item_has_failed_and_keeps_a_case_of_each(tmp_path):
    found, said = explored(BAD, tmp_path / "cases", None, "oracle-agreement", "shared-weight-summation")
    assert len(found.failures) == 2
    assert all("replay: bpttcheck replay" in text for text in said)
    assert sorted(load_case(path)[1]["property"] for path in found.failures) == sorted(
        ["oracle-agreement", "shared-weight-summation"]
    )


def test_explore_keeps_the_case_nearest_to_its_budget(tmp_path):
    found, said = explored(GOOD, tmp_path / "cases", 4.0, "oracle-agreement")
    path, ratio = found.worst["oracle-agreement"]
    assert 0 < ratio < 1
    assert [p.name for p in (tmp_path / "cases").iterdir()] == [path.name]
    assert said[-1].startswith(f"{ratio:.3g} of the budget")


def test_certify_judges_saved_cases_first(tmp_path):
    explored(BAD, tmp_path / "cases", None, "oracle-agreement")
    arguments = ["--profile", "smoke", "--select", "oracle-agreement", "--cases", str(tmp_path / "cases")]
    assert main(["certify", GOOD, *arguments, "--report-dir", str(tmp_path / "good")]) == 0
    assert main(["certify", BAD, *arguments, "--report-dir", str(tmp_path / "bad")]) == 1
    (finding,) = json.loads((tmp_path / "bad" / "results.json").read_text())["targets"][0]["findings"]
    assert finding["verdict"] == "fail"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "there is no such folder"),
        (lambda folder: folder.mkdir(), "no case file in it"),
        (lambda folder: (folder.mkdir(), (folder / "a.safetensors").write_bytes(b"x" * 40)), "a.safetensors"),
    ],
)
def test_certify_refuses_a_folder_without_cases(tmp_path, capsys, make, message):
    make(tmp_path / "cases")
    assert main(["certify", GOOD, "--cases", str(tmp_path / "cases"), "--report-dir", str(tmp_path / "r")]) == 2
    assert message in capsys.readouterr().err


def test_certify_refuses_a_case_whose_parameters_mean_nothing(tmp_path, capsys):
    found, _ = explored(BAD, tmp_path / "cases", None, "shared-weight-summation")
    problem, extra = load_case(found.failures[0])
    save_problem(problem, tmp_path / "cases" / "odd.safetensors", extra | {"parameters": {"form": 99}})
    arguments = ["--select", "shared-weight-summation", "--cases", str(tmp_path / "cases")]
    assert main(["certify", GOOD, *arguments, "--report-dir", str(tmp_path / "r")]) == 2
    assert "odd.safetensors: the case does not fit the property" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "soon", "1e99"])
def test_explore_refuses_a_time_that_is_none(capsys, minutes):
    assert main(["explore", GOOD, f"--minutes={minutes}"]) == 2
    assert f"got '{minutes}', expected a number of minutes above 0, at most 527040" in capsys.readouterr().err
