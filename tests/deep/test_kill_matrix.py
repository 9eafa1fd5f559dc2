"""Over the whole kill matrix: every planted bug is killed, and every property kills (`tox -e teeth`)."""

from __future__ import annotations

from argparse import Namespace

from bptt.cells import CELLS
from properties import PROPERTIES
from tests.deep.bugs import bugs
from tests.deep.kill_matrix import fill
from tests.deep.kill_matrix_page import Matrix


def test_every_bug_is_killed_and_every_property_kills(tmp_path):
    every, results = bugs(), {"items": {}, "kills": {}}
    given = Namespace(properties=list(PROPERTIES), cells=list(CELLS), examples=100, bugs=None, cover=True)
    fill(results, every, given, tmp_path / "kill_matrix.json")
    matrix = Matrix.of(results, every)
    assert [prop_id for prop_id in PROPERTIES if not matrix.killed(prop_id)] == []
    assert [key for key in every if not matrix.killers(key)] == []
