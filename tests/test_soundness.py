"""The soundness study: honest implementations of every cell keep to the budget, and one that does not is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bptt.cells import CELLS
from tests.deep import soundness


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_no_honest_implementation_is_over_budget(cell, dtype):
    for norm, T in ((0.5, 3), (2.0, 10)):
        _, tally = soundness.study(((cell, dtype, norm, T), range(3)))
        assert tally.over == []
        assert tally.judged >= 100
        assert 0 < tally.worst[0] < 1
        assert {"numpy", *soundness.variants("cells")} - {"real_time"} <= set(tally.answers)


def test_study_counts_what_is_over_budget(monkeypatch):
    honest = soundness.targets()[0]

    def off(problem):
        answer = honest.call(problem)
        return answer | {"dx": np.nextafter(answer["dx"] * (1 + 1e-9), np.inf)}

    monkeypatch.setattr(soundness, "targets", lambda: [replace(honest, call=off)])
    _, tally = soundness.study((("elman", "float64", 0.9, 10), range(4)))
    assert tally.over
    assert {line.split()[1] for line in tally.over} == {"dx"}
    assert soundness.exit_status({("elman", "float64", 0.9, 10): tally}) == 1
