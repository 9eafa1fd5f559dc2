"""The problems of every property, in every dtype: pairs and arb enclose the same numbers (`tox -e teeth`)."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings

from bptt.cells import CELLS
from bptt.problem import Problem
from bptt.support import Support
from oracle.ball_numbers import BallNumbers
from oracle.budget import compiled
from oracle.pairs import solve_in_pairs
from oracle.solution import scope, solve
from properties import PROPERTIES
from properties.base import Case
from properties.recipe import no_constants

DRAWN, LARGEST = 12, 4000
"""Problems drawn of a property, and T B H of the largest that is solved here."""

pytestmark = pytest.mark.skipif(compiled.LOOPS is None, reason="pairs are not compiled here")


def problems_of(name: str, support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """Those that a property draws, and one in seven of its fixed ones."""
    prop, found = PROPERTIES[name], list[Problem]()

    @hypothesis.seed(len(name))
    @settings(
        max_examples=DRAWN,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(prop.cases(support, cell, dtype))
    def draw(case: Case) -> None:
        found.append(case.problem)

    with no_constants():
        draw()
    yield from found
    yield from (case.problem for case in prop.fixed(support, cell, dtype)[::7])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_pairs_and_arb_enclose_the_same(cell: str, dtype: str) -> None:
    support, solved = Support(cells=(cell,), dtypes=(dtype,), h0_none=True), 0
    for name, prop in PROPERTIES.items():
        if not prop.concerns(cell) or prop.unsupported(support, cell):
            continue
        for problem in problems_of(name, support, cell, dtype):
            if problem.T * problem.B * problem.H > LARGEST:
                continue
            found = solve_in_pairs(problem)
            if found is None:
                continue
            fine = solve(problem, BallNumbers(384))
            solved += 1
            with scope(fine.N):
                for key, values in fine.values.items():
                    same = [a.overlaps(b) for a, b in zip(found.values[key], values, strict=True)]
                    assert all(same), (name, key, problem)
    assert solved > 200
