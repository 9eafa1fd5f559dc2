"""Recipes are drawn alike whatever modules happen to be loaded (the engine draws within `no_constants`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DRAW = """
import sys
sys.path.insert(0, sys.argv[1])
import {module}
from hypothesis import Phase, given, seed, settings
from properties.recipe import Recipe, no_constants

drawn = []

@seed(1)
@settings(max_examples=400, database=None, deadline=None, phases=[Phase.generate])
@given(Recipe(lambda draw: [draw.integer(0, 10**6) for _ in range(4)]))
def search(values):
    drawn.append(values)

with no_constants():
    search()
print(drawn)
"""


def test_constants_in_the_source_of_loaded_modules_change_nothing(tmp_path):
    numbers = ", ".join(str(7 * n + 3) for n in range(200))
    (tmp_path / "constants_of_mine.py").write_text(f"NUMBERS = [{numbers}]\n")
    root = Path(__file__).parents[1]
    found = [
        subprocess.run(
            [sys.executable, "-c", DRAW.format(module=module), str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
        ).stdout
        for module in ("json", "constants_of_mine")
    ]
    assert len(found[0]) > 1000
    assert found[0] == found[1]
