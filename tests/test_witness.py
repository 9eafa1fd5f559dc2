"""What two wrong answers agree on: a property may hold of answers that are all outside their own budgets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bptt.support import Support
from conformance.bench import TargetBench
from conformance.cli import main
from conformance.engine import Profile, Search
from conformance.targets import Target
from implementations.numpy_bptt import gradients
from properties import PROPERTIES

BLIND = ("batch-consistency", "causality", "cotangent-linearity", "padding-invariance", "sign-symmetry")
"""Theorems that hold of twice the gradient as well."""
GOOD = Path(__file__).parent / "adapters" / "good.py"
DOUBLED = """

def doubled(problem):
    return {key: 2 * value if key.startswith("d") else value for key, value in gradients(problem).items()}
"""


def doubled(problem):
    return {key: 2 * np.asarray(value) if key.startswith("d") else value for key, value in gradients(problem).items()}


def finding(call, prop, alone):
    bench = TargetBench(Target("mine", "path", Support(cells=("elman",)), call, None, None), "float64")
    return Search(PROPERTIES[prop], bench, "elman", "float64", Profile("x", 20, 60), 0, alone=alone).run()


@pytest.mark.parametrize("prop", BLIND)
def test_answers_that_agree_with_each_other_are_held_to_their_own_budgets(prop):
    assert finding(doubled, prop, alone=True).verdict == "pass"
    found = finding(doubled, prop, alone=False)
    assert found.verdict == "fail"
    assert found.smallest.worst.key.startswith("d")
    assert found.smallest.worst.ratio > 1e3
    assert finding(gradients, prop, alone=False).verdict == "pass"


def test_such_a_counterexample_is_shown_by_its_script_and_its_replay(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(GOOD.read_text() + DOUBLED)
    assert main(["certify", "mine.py:doubled", "--profile", "smoke", "--select", "batch-consistency", "--quiet"]) == 1
    (target,) = json.loads(Path("reports/results.json").read_text())["targets"]
    (found,) = target["findings"]
    capsys.readouterr()
    case, script = (str(Path("reports") / found["counterexample"][name]) for name in ("case", "script"))
    assert main(["replay", case, "mine.py:doubled"]) == 1
    assert main(["replay", case, "mine.py"]) == 0
    shown = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (1, ""), shown.stdout
