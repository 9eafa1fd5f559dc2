"""Messages: the replay command can be pasted into a shell, and no array is both wrong and within budget."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from bptt.problem import Loss, Problem
from conformance.engine import Finding, Outcome
from conformance.messages import failure_message, quoted, replay_command
from properties import PROPERTIES
from properties.base import Case, Comparison, Judgement


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to read the words")
@pytest.mark.parametrize(
    "word", ["mine.py", "a b.py:f", "it's.py", "a\nb'c.py", "\x1b[31m\\n.py", "$(ls);`ls`.py", "é\t.py"]
)
def test_quoted_word_is_read_as_it_was(word):
    assert quoted(word).isprintable()
    read = subprocess.run(["bash", "-c", f"printf %s {quoted(word)}"], capture_output=True, check=True, text=True)
    assert read.stdout == word


def test_path_that_looks_like_an_option_is_none():
    assert replay_command("r/cases/0.safetensors", "--seed.py") == "bpttcheck replay r/cases/0.safetensors ./--seed.py"


def test_array_that_is_wrong_in_one_of_several_runs_is_wrong():
    params = {"W_xh": np.ones((1, 1)), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)}
    problem = Problem("elman", params, np.ones((1, 1, 1)), Loss("cotangent", g=np.ones((1, 1, 1))), activation="tanh")

    def compared(key, error):
        return Comparison(key, (0,), 1.0 + error, 1.0, error, 0.5, 2 * error, conclusive=True)

    of_two_runs = Judgement((compared("h", 0.1), compared("dx", 0.1), compared("dx", 1.0)))
    outcome = Outcome(Case(problem), "fail", of_two_runs)
    finding = Finding(PROPERTIES["repeatability"], "elman", "float64", "fail", smallest=outcome)
    assert "  wrong: dx; within budget: h" in failure_message(finding, outcome, "mine", None).splitlines()
