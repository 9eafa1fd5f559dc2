"""The kill matrix: answers played back are judged as answers given, and the page names every bug and every property."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from conformance.bench import TargetBench, Truths
from conformance.engine import Profile, judge
from properties import PROPERTIES
from tests.deep import kill_matrix, kill_matrix_page, shrinking
from tests.deep.bugs import bugs, correct, fresh
from tests.deep.panel import Halt, Panel, read_results, write_results
from tests.deep.playback import same

BUGS = bugs()
PAGE = Path(__file__).parents[1] / "docs" / "kill_matrix.md"
FEW = 8


def one_by_one(prop_id, key, cell, dtype):
    """The number of the first case that a bug fails, asked and judged directly; None if it fails none."""
    bug, prop, truths = BUGS[key], PROPERTIES[prop_id], Truths()
    target = fresh({key: bug})[key]
    bench, cases = TargetBench(target, dtype, truths), []
    right = TargetBench(correct(bug.table, target), dtype, truths)
    Panel(prop, right, cell, dtype, Profile("standard", FEW, 0), kill_matrix.SEED, cases.append).run()
    return next((n for n, case in enumerate(cases, 1) if judge(prop, case, bench, alone=True).failed), None)


@pytest.mark.parametrize(
    ("prop_id", "key"),
    [
        ("batch-consistency", "blind.py:mask_cached_by_shape"),
        ("memory", "elman.py:results_in_buffers_of_the_next_call"),
        ("readout-locality", "elman.py:readout_weight_uses_state_before"),
        ("repeatability", "elman.py:every_tenth_call_loses_a_step"),
        ("repeatability", "elman.py:handle_kept_after_an_error"),
        ("sign-symmetry", "elman.py:hard_problems_declined"),
        ("unit-permutation", "elman.py:window_one_step_too_long"),
    ],
)
def test_played_back_answers_are_judged_as_given_ones(prop_id, key):
    found, seen = kill_matrix.kills(prop_id, BUGS[key].table, "elman", "float64", FEW, {key: BUGS[key]})
    directly = one_by_one(prop_id, key, "elman", "float64")
    assert (found[key]["case"] if key in found else None) == directly
    assert (seen["verdict"] == "all killed") == (directly is not None)


def test_bugs_of_two_findings_share_no_memory():
    key = "elman.py:bias_buffer_not_cleared"
    one, other = (fresh({key: BUGS[key]})[key] for _ in range(2))
    assert one.call.__globals__["PLANTED"] is not other.call.__globals__["PLANTED"]


def test_correct_implementation_that_fails_is_no_base_for_a_matrix(monkeypatch):
    key = "elman.py:bias_counted_twice"
    wrong = fresh({key: BUGS[key]})[key]
    monkeypatch.setattr(kill_matrix, "correct", lambda _table, _like: wrong)
    with pytest.raises(AssertionError, match="oracle-agreement"):
        kill_matrix.kills("oracle-agreement", "elman", "elman", "float64", 2, {key: BUGS[key]})


def test_results_are_the_same_only_to_the_last_bit():
    one = {"h": np.zeros(2), "loss": np.float64(1.0)}
    assert same(one, {"h": np.zeros(2), "loss": np.float64(1.0)})
    assert same([one, None], [one, None])
    assert not same(one, one | {"h": np.array([0.0, -0.0])})
    assert not same(one, one | {"h": np.zeros(2, np.float32)})
    assert not same(one, {"h": np.zeros(2)})
    assert not same(one, None)


def test_search_ends_where_a_case_cannot_be_handed_on():
    key = "elman.py:bias_counted_twice"
    right = TargetBench(correct("elman", fresh({key: BUGS[key]})[key]), "float64")
    asked = []

    def broken(case):
        asked.append(case)
        raise ValueError

    with pytest.raises(RuntimeError, match="handed on"):
        Panel(PROPERTIES["memory"], right, "elman", "float64", Profile("x", 4, 0), 0, broken).run()
    assert len(asked) == 1

    def enough(_case):
        raise Halt

    assert Panel(PROPERTIES["memory"], right, "elman", "float64", Profile("x", 4, 0), 0, enough).run().smallest is None


def test_results_of_other_settings_are_not_gone_on_with(tmp_path):
    path = tmp_path / "x" / "results.json"
    fresh_ones = read_results(path, {"seed": 0}, {"items": {}})
    assert fresh_ones == {"seed": 0, "items": {}}
    write_results(path, fresh_ones | {"items": {"a": 1}})
    assert read_results(path, {"seed": 0}, {"items": {}})["items"] == {"a": 1}
    with pytest.raises(SystemExit, match="seed"):
        read_results(path, {"seed": 1}, {"items": {}})


def test_matrix_says_what_falls_short():
    two = dict(list(BUGS.items())[:2])
    (first, bug), (second, _) = two.items()
    items = {
        f"{prop_id}|elman|elman|{dtype}": {"examples": 5, "unsupported": prop_id == "memory"}
        for prop_id in PROPERTIES
        for dtype in ("float64", "float32")
        if prop_id not in ("shapes", "causality")
    }
    results = {"items": items, "kills": {f"shapes|{first}": {}, f"causality|{first}": {}, f"causality|{second}": {}}}
    matrix = kill_matrix_page.Matrix.of(results, two)
    assert matrix.killed("causality") == [first, second]
    assert matrix.alone("causality") == [second]
    assert matrix.alone("causality", "shapes") == [first, second]
    assert matrix.marks["memory", first] == kill_matrix_page.NOT_ASKED
    assert matrix.marks["shapes", second] == kill_matrix_page.OPEN
    lines = matrix.shortfalls()
    assert "memory kills nothing" in lines
    assert lines[-1] == f"1 of {2 * len(PROPERTIES)} pairs are not tried out"
    assert not any(bug.sentence in line for line in lines)
    assert "| `recurrent_weight_overwritten` |" in kill_matrix_page.page(matrix)
    assert kill_matrix_page.picture(matrix).startswith("<svg")
    nothing = kill_matrix_page.Matrix.of({"items": {}, "kills": {}}, two)
    assert f"no property kills {first}: {bug.sentence}" in nothing.shortfalls()


def test_bugs_with_a_size_of_their_own_are_planted():
    assert set(shrinking.NEEDED) <= set(BUGS)
    for key, (sizes, _) in shrinking.NEEDED.items():
        assert all(size > shrinking.SMALL[name] for name, size in sizes.items()), key


def test_case_is_small_up_to_what_the_bug_needs():
    lost, plain = BUGS["elman.py:third_row_lost"], BUGS["elman.py:truncation_ignored"]
    three = {"sizes": {"T": 3, "B": 3, "D": 1, "H": 1}}
    assert shrinking.small(lost, three)
    assert not shrinking.small(plain, three)
    assert not shrinking.small(plain, {"sizes": None})


def test_page_lists_every_bug_and_every_property():
    text = PAGE.read_text(encoding="utf-8")
    columns = re.findall(r"^\| (\w) \| `([a-z-]+)` \| (\d+) \|", text, re.MULTILINE)
    assert [name for _, name, _ in columns] == list(PROPERTIES)
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (\d+) \|$", text, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(bug.name for bug in BUGS.values())
    marks = [row.split(" | ") for _, row, _ in rows]
    assert {len(row) for row in marks} == {len(PROPERTIES)}
    for (_, _, killers), row in zip(rows, marks, strict=True):
        assert row.count(kill_matrix_page.KILLED) == int(killers)
    for i, (_, name, kills) in enumerate(columns):
        assert sum(row[i] == kill_matrix_page.KILLED for row in marks) == int(kills), name
