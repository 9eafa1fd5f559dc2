"""The far-reaching problems of every cell: what is cut off after 100 steps leaves the budget (`tox -e teeth`)."""

from __future__ import annotations

import pytest

from bptt.cells import CELLS
from tests.test_long_range import test_gradient_that_is_cut_off_leaves_the_budget as leaves_the_budget


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_gradient_that_is_cut_off_leaves_the_budget(cell, dtype):
    leaves_the_budget(cell, dtype)
