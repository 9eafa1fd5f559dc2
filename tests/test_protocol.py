"""The protocol's schema: what the suite asks and what workers in Python answer fit it, and what is wrong does not."""

from __future__ import annotations

import jsonschema
import pytest

from conformance.cli import main
from tests.protocol import SCHEMA, fits, record


@pytest.fixture
def said(monkeypatch):
    """All that is asked and answered in a test: (request, answer)."""
    return record(monkeypatch)


def test_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_all_that_is_said_in_a_run_fits_the_schema(said, tmp_path, capsys):
    refuses = tmp_path / "refuses.py"
    refuses.write_text(
        "SUPPORTS = {'cells': ['elman', 'lstm', 'gru_reset_after'], 'dtypes': ['float64']}\n"
        "def gradients(problem):\n"
        "    if problem.cell == 'elman':\n"
        "        raise NotImplementedError('no elman')\n"
        "    return {'h': problem.x} if problem.cell == 'lstm' else None[0]\n",
        encoding="utf-8",
    )
    right = tmp_path / "right.py"
    right.write_text(
        "from implementations.numpy_bptt import gradients\n"
        "SUPPORTS = {'cells': ['elman'], 'activations': ['tanh'], 'dtypes': ['float64']}\n",
        encoding="utf-8",
    )
    words = ["certify", str(right), str(refuses), "--select", "memory,repeatability", "--profile", "smoke"]
    assert main([*words, "--jobs", "1", "--report-dir", str(tmp_path / "report")]) == 1
    capsys.readouterr()
    for request, answer in said:
        assert fits(request, "request"), request
        assert fits(answer, "answer"), answer
    asked, answered = {request["type"] for request, _ in said}, {answer["type"] for _, answer in said}
    assert asked == {"start", "gradients", "release", "compiled"}
    assert answered >= {"started", "answer", "released", "compiled", "unsupported", "error", "broken"}


def test_a_target_that_cannot_be_loaded_answers_as_the_schema_says(said, tmp_path, capsys):
    assert main(["certify", str(tmp_path / "nowhere.py"), "--report-dir", str(tmp_path / "report")]) == 2
    capsys.readouterr()
    assert [answer["type"] for _, answer in said] == ["failed"]
    assert all(fits(request, "request") and fits(answer, "answer") for request, answer in said)


@pytest.mark.parametrize(
    ("message", "side"),
    [
        ({"type": "started", "seq": 1, "version": 2}, "answer"),
        ({"type": "answer"}, "answer"),
        ({"type": "answer", "seq": "1"}, "answer"),
        ({"type": "unsupported", "seq": 1}, "answer"),
        ({"type": "released", "seq": 0}, "answer"),
        ({"type": "gradients", "seq": 1, "shapes": None}, "request"),
        ({"type": "start", "seq": 1, "version": 1, "target": "numpy"}, "request"),
        ({"type": "answer", "seq": 1}, "request"),
        ({"type": "stop", "seq": 1}, "answer"),
        ({"type": "gradient", "seq": 1}, "request"),
    ],
)
def test_what_is_wrong_does_not_fit(message, side):
    assert not fits(message, side)
