"""The replay command of a message can be pasted into a shell, whatever a target's path is made of."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from conformance.messages import quoted, replay_command


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
