"""The study of fairness: every variant of a cell is judged on the same cases; an accusation is counted and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.engine import Profile
from implementations import numpy_bptt
from tests.deep import fairness
from tests.loading import in_process

WRONG = Path(__file__).parent / "mutants" / "elman.py"


@pytest.mark.parametrize(("cell", "count"), [("lstm", 10), ("elman", 31)])
def test_every_variant_of_a_cell_is_there(cell, count):
    found = fairness.variants(cell, "float64")
    assert len(found) == count
    assert all(cell in target.support.cells for target in found.values())
    assert all(target.support.max_size["T"] <= 64 for target in found.values())
    assert next(iter(found)) == "numpy"


def test_variants_are_judged_and_not_accused():
    item = fairness.finding("cotangent-linearity", "gru_reset_before", "float32", Profile("x", 3, 0), 1)
    assert item["accusations"] == []
    assert set(item["verdicts"]) == set(fairness.variants("gru_reset_before", "float32"))
    counts = {name: fairness.judged(verdicts) for name, verdicts in item["verdicts"].items()}
    assert counts.pop("cells.py:real_time") <= counts["numpy"]
    assert len(set(counts.values())) == 1
    assert counts["numpy"] >= 3


def test_float16_is_asked_of_variants_that_compute_in_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(numpy_bptt.SUPPORTS, "dtypes", ["float64", "float32"])
    words = ["--examples", "3", "--cells", "lstm", "--properties", "final-cotangent", "--dtypes", "float16"]
    assert fairness.main([*words, "--out", str(tmp_path)]) == 0
    assert "final-cotangent|lstm|float16: " in (out := capsys.readouterr().out)
    assert "| `cells.py:plain` | " in out
    assert {target.support.dtypes for target in fairness.variants("lstm", "float16").values()} == {("float16",)}


def test_accusation_is_shown_and_makes_the_status_1(monkeypatch, tmp_path, capsys):
    bug = fairness.limited(in_process(f"{WRONG}:weight_decay_in_the_gradient"))
    monkeypatch.setattr(fairness, "variants", lambda *_: {"numpy": fairness.limited(in_process("numpy")), "bug": bug})
    words = ["--examples", "2", "--cells", "elman", "--properties", "cotangent-linearity", "--out", str(tmp_path)]
    assert fairness.main(words) == 1
    first = capsys.readouterr().out
    assert "ACCUSED: cotangent-linearity · bug · elman float64 · " in first
    assert "dW_hh" in first
    monkeypatch.setattr(fairness, "finding", None)
    assert fairness.main(words) == 1  # from what is kept
    assert capsys.readouterr().out.count("ACCUSED") == first.count("ACCUSED")
