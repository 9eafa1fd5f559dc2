"""Every planted bug is caught by the property that it names; no correct variant is accused.

Here each property is run as `certify` runs it, without shrinking. The whole command on every planted bug, with the
files that it writes and the replay, is tests/deep/test_planted_commands.py (`tox -e teeth`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.bench import TargetBench, Truths
from conformance.engine import PROFILES, Profile, Search, judge
from properties import PROPERTIES
from properties.base import Case
from tests.loading import in_process, load

HERE = Path(__file__).parent
FIRST_FAILURE = Profile("standard", 100, 0)
FIXED: dict[str, Sequence[Case]] = {}
"""The fixed problems, which are many, by what a target offers."""
BRIEF = replace(PROFILES["smoke"], shrinks=0)
FAR_REACHING = (
    ("oracle-agreement", "float64"),
    ("oracle-agreement", "float32"),
    ("exact-problems", "float32"),
    ("memory", "float64"),
    ("batch-consistency", "float32"),
)
"""What every variant is judged by here; tests/deep/test_variants.py takes all properties in both dtypes."""


PLANTED = {
    (table, name): planted
    for table in ("elman", "lstm", "training")
    for name, planted in load("mutants", table).PLANTED.items()
}
FAR_OUT = ("NAMES", "BEYOND", "REACHING", "MEETING", "LANES", "COMBINED", "WIDE")
VARIANTS = load("variants", "elman").VARIANTS
TRUTHS: defaultdict[tuple[str, str, str], Truths] = defaultdict(Truths)
"""By property, cell and dtype, whose problems are the same for all targets that offer the same."""


@pytest.mark.parametrize(("table", "name"), sorted(PLANTED))
def test_planted_bug_is_caught_by_the_property_that_it_names(table, name):
    target = in_process(f"{HERE / 'mutants' / table}.py:{name}")
    prop = PROPERTIES[PLANTED[table, name].caught_by]
    (cell,) = target.support.cells
    verdicts = {}
    needs = getattr(PLANTED[table, name], "needs", "")
    for dtype in sorted(target.support.dtypes, key=lambda dtype: dtype not in needs):
        bench = TargetBench(target, dtype, TRUTHS[prop.id, cell, dtype])
        finding = Search(prop, bench, cell, dtype, FIRST_FAILURE, 0, alone=True).run()
        verdicts[dtype] = finding.verdict
        if finding.verdict in ("fail", "crash"):
            break
    assert {"fail", "crash"} & set(verdicts.values()), verdicts


@pytest.mark.parametrize(("prop", "dtype"), FAR_REACHING)
def test_correct_variants_are_not_accused(prop, dtype):
    """All of them in one test: they are asked the same problems, which are solved once."""
    truths, verdicts = Truths(), {}
    for name in sorted(VARIANTS):
        target = in_process(f"{HERE / 'variants' / 'elman.py'}:{name}")
        if dtype in target.support.dtypes:
            bench = TargetBench(target, dtype, truths)
            finding = Search(PROPERTIES[prop], bench, "elman", dtype, BRIEF, 0).run()
            assert finding.verdict in ("pass", "unsupported", "inconclusive"), (name, finding.smallest)
            verdicts[name] = finding.verdict
    assert set(verdicts) == set(VARIANTS)
    assert list(verdicts.values()).count("pass") > len(verdicts) / 2


@pytest.mark.parametrize(
    ("table", "name", "prop", "cell"),
    [
        *(("far_out", name, "repeatability", "elman") for name in load("mutants", "far_out").FORGETFUL),
        ("far_out", "weights_of_another_dtype", "repeatability", "elman"),
        ("far_out", "plan_of_another_cell", "repeatability", "elman"),
        ("far_out", "plan_of_another_cell", "repeatability", "gru_reset_before"),
        ("far_out", "labels_as_they_lie", "memory", "elman"),
        ("far_out", "buffers_in_turn", "memory", "elman"),
        ("far_out", "rows_as_if_packed", "memory", "elman"),
        ("far_out", "strides_of_zero", "memory", "elman"),
        ("far_out", "one_buffer_for_one_start", "memory", "lstm"),
        ("far_out", "weights_of_the_first_call", "memory", "elman"),
        ("far_out", "recorded_after_20_calls", "repeatability", "elman"),
        ("far_out", "race_of_many_rows_and_units", "repeatability", "elman"),
        ("far_out", "plan_of_other_lengths", "repeatability", "elman"),
        ("elman", "periodic_taken_for_window", "truncation-equivalence", "elman"),
        ("elman", "truncation_of_weights_only", "truncation-equivalence", "elman"),
    ],
)
def test_bug_is_caught_by_the_fixed_cases_of_a_property(table, name, prop, cell):
    target = in_process(f"{HERE / 'mutants' / table}.py:{name}")
    bench = TargetBench(target, "float64")
    cases = PROPERTIES[prop].fixed(target.support, cell, "float64")
    assert any(judge(PROPERTIES[prop], case, bench).failed for case in cases)


def test_clipped_cell_state_is_caught_by_the_fixed_problems():
    target = in_process(f"{HERE / 'mutants' / 'far_out.py'}:cell_state_clipped")
    bench, prop = TargetBench(target, "float64"), PROPERTIES["oracle-agreement"]
    cases = prop.fixed(target.support, "lstm", "float64")
    assert any(judge(prop, case, bench).failed for case in cases if case.problem.T < 5 and case.problem.H < 5)


@pytest.mark.parametrize("name", [name for table in FAR_OUT for name in getattr(load("mutants", "far_out"), table)])
def test_bug_that_shows_far_out_is_caught_by_the_fixed_problems(name):
    target = in_process(f"{HERE / 'mutants' / 'far_out.py'}:{name}")
    prop = PROPERTIES["oracle-agreement"]
    bench = TargetBench(target, "float64", TRUTHS[prop.id, "elman", "float64"])
    offered = repr(target.support)
    if offered not in FIXED:
        FIXED[offered] = prop.fixed(target.support, "elman", "float64")
    assert any(judge(prop, case, bench).failed for case in FIXED[offered])


def test_every_property_catches_a_planted_bug_that_names_it():
    assert {planted.caught_by for planted in PLANTED.values()} == set(PROPERTIES)
