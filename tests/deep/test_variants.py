"""Every variant of every cell, and every one of Elman's under all properties: none is accused (`tox -e teeth`)."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", variants("elman"))
def test_correct_variant_of_elman_is_not_accused_by_any_property(name):
    target = in_process(f"{CELLS_PY.with_name('elman.py')}:{name}")
    for dtype in target.support.dtypes:
        for prop in (prop for prop in PROPERTIES.values() if prop.concerns("elman")):
            finding = Search(prop, TargetBench(target, dtype), "elman", dtype, Profile("smoke", 20, 0), 0).run()
            assert finding.verdict in ("pass", "unsupported", "inconclusive"), (prop.id, finding.smallest)
