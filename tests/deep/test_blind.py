"""Every bug of the two blind tables is caught by some property at the standard profile (`tox -e teeth`)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from conformance.bench import TargetBench, Truths
from conformance.engine import Profile, Search
from conformance.targets import afresh
from properties import PROPERTIES
from tests.loading import in_process, load

MUTANTS = Path(__file__).parents[1] / "mutants"
TABLES = ("blind", "blind_second")
PLANTED = [(table, name) for table in TABLES for name in sorted(load("mutants", table).PLANTED)]
FIRST_FAILURE = Profile("standard", 100, 0)
FIRST = "oracle-agreement"
TRUTHS: defaultdict[tuple[str, str], Truths] = defaultdict(Truths)
"""By cell and dtype: the problems of FIRST are mostly the same for all bugs."""


def caught(table: str, name: str) -> bool:
    """Whether a property fails the bug in a cell and dtype; the property that reaches furthest is asked first."""
    target = in_process(f"{MUTANTS / table}.py:{name}")
    for prop in sorted(PROPERTIES.values(), key=lambda prop: prop.id != FIRST):
        for dtype in target.support.dtypes:
            for cell in filter(prop.concerns, target.support.cells):
                bench = TargetBench(afresh(target), dtype, TRUTHS[cell, dtype] if prop.id == FIRST else None)
                if Search(prop, bench, cell, dtype, FIRST_FAILURE, 0).run().verdict in ("fail", "crash"):
                    return True
    return False


@pytest.mark.parametrize(("table", "name"), PLANTED)
def test_bug_written_blind_is_caught(table, name):
    assert caught(table, name)
