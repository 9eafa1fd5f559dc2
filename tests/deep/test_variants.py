"""Every variant of every cell, and every one of Elman's under all properties: none is accused (`tox -e teeth`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bptt.cells import CELLS
from conformance.bench import TargetBench, Truths
from conformance.engine import Profile, Search
from properties import PROPERTIES
from tests.deep.soundness import variants
from tests.loading import in_process

CELLS_PY = Path(__file__).parents[1] / "variants" / "cells.py"


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_correct_variant_of_a_cell_is_not_accused(cell):
    truths = {dtype: Truths() for dtype in ("float64", "float32")}
    for name in variants("cells"):
        target = in_process(f"{CELLS_PY}:{name}")
        for dtype, known in truths.items():
            bench = TargetBench(target, dtype, known)
            profile = Profile("standard", 100, 0)
            finding = Search(PROPERTIES["oracle-agreement"], bench, cell, dtype, profile, 0).run()
            assert finding.verdict == "pass", (name, dtype, finding.message, finding.smallest)


@pytest.mark.parametrize("prop", [prop.id for prop in PROPERTIES.values() if prop.concerns("elman")])
def test_no_variant_of_elman_is_accused(prop):
    """All of them in one test: they are mostly asked the same problems, which are solved once."""
    verdicts = Counter()
    for dtype in ("float64", "float32"):
        known = Truths()
        for name in variants("elman"):
            target = in_process(f"{CELLS_PY.with_name('elman.py')}:{name}")
            if dtype in target.support.dtypes:
                bench = TargetBench(target, dtype, known)
                finding = Search(PROPERTIES[prop], bench, "elman", dtype, Profile("smoke", 20, 0), 0).run()
                assert finding.verdict in ("pass", "unsupported", "inconclusive"), (name, dtype, finding.smallest)
                verdicts[finding.verdict] += 1
    assert verdicts["pass"] > 0
