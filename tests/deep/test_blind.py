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
FIRST = ("oracle-agreement", "shapes", "memory", "repeatability")
"""Asked before the others, in this order: one of them finds nearly every bug."""
TRUTHS: defaultdict[tuple[str, str], Truths] = defaultdict(Truths)
"""By cell and dtype: the problems of the first are mostly the same for all bugs."""


def caught(table: str, name: str) -> bool:
    """Whether a property fails the bug in a cell and dtype; FIRST are asked first."""
    target = in_process(f"{MUTANTS / table}.py:{name}")
    for prop_id in dict.fromkeys((*FIRST, *PROPERTIES)):
        prop = PROPERTIES[prop_id]
        for dtype in target.support.dtypes:
            for cell in filter(prop.concerns, target.support.cells):
                known = TRUTHS[cell, dtype] if prop_id == FIRST[0] else None
                bench = TargetBench(afresh(target), dtype, known)
                if Search(prop, bench, cell, dtype, FIRST_FAILURE, 0).run().verdict in ("fail", "crash"):
                    return True
    return False


@pytest.mark.parametrize(("table", "name"), PLANTED)
def test_bug_written_blind_is_caught(table, name):
    assert caught(table, name)
