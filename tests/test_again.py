"""A target that keeps something between calls: its failure is found again in a freshly loaded target."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from conformance.cli import main

SOURCE = """
from implementations import numpy_bptt

SUPPORTS = {"cells": ["elman"], "activations": ["tanh"], "losses": ["cotangent"], "truncations": ["full"],
            "dtypes": ["float64"], "lengths": False}
first = {}


def gradients(problem):
    answer = numpy_bptt.gradients(problem)
    answer["db_h"] = first.setdefault(answer["h"].shape, answer["db_h"])
    return answer
"""


@pytest.fixture
def report(tmp_path, capsys):
    """The report on an adapter that returns the first db_h that it ever found for a shape."""
    (tmp_path / "keeps.py").write_text(SOURCE)
    target = f"{tmp_path / 'keeps.py'}"
    arguments = ["certify", target, "--profile", "smoke", "--select", "oracle-agreement"]
    assert main([*arguments, "--report-dir", str(tmp_path / "r")]) == 1
    capsys.readouterr()
    return tmp_path / "r"


def test_failure_that_takes_two_calls_has_a_companion(report, capsys, monkeypatch):
    finding = json.loads((report / "results.json").read_text())["targets"][0]["findings"][0]
    assert "shows only after another problem was asked" in finding["message"]
    counterexample = finding["counterexample"]
    case = report / counterexample["case"]
    assert len(list(case.parent.glob("*.safetensors"))) >= 2  # the case, its companion, perhaps the worst one
    words = shlex.split(counterexample["replay"])
    for name in [name for name in sys.modules if name.startswith("bpttcheck_target_")]:
        monkeypatch.delitem(sys.modules, name)  # a replay is a process of its own
    assert main(words[1:]) == 1
    assert "db_h" in capsys.readouterr().out


def test_script_asks_the_companion_first(report):
    (script,) = report.rglob("*.py")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "error" in run.stdout
