"""A matrix that is square in an axis is no fault: where a problem is vast, want of memory is noted, not blamed."""

from __future__ import annotations

import numpy as np
import pytest

from bptt.support import Support
from conformance.bench import TargetBench
from conformance.engine import Profile, Search, is_vast
from conformance.errors import TargetStarved
from conformance.targets import Setting, Target, resolve
from conformance.workers import Limits
from implementations.numpy_bptt import gradients
from properties import PROPERTIES
from tests.test_worker import ADAPTERS, problem

WIDE = Support(
    cells=("elman",), activations=("tanh",), readouts=("linear",), losses=("cross_entropy",), truncations=("full",),
    lengths=False, final_cotangents=False,
)  # fmt: skip


def found(error, beyond):
    """The finding of a target that raises an error beyond so many classes."""
    asked = []

    def call(problem):
        asked.append(problem)
        if problem.params["b_y"].size > beyond:
            raise error
        return gradients(problem)

    bench = TargetBench(Target("mine.py", "path", WIDE, call, None, None), "float64")
    finding = Search(PROPERTIES["oracle-agreement"], bench, "elman", "float64", Profile("x", 20, 0), 0).run()
    assert any(p.params["b_y"].size > 30_000 for p in asked) or finding.verdict == "crash"
    return finding


def test_vast_problem_that_wants_too_much_memory_is_noted():
    kept = np.zeros(1)
    for error in (MemoryError("no room"), np._core._exceptions._ArrayMemoryError((33_000, 33_000), kept.dtype)):
        finding = found(error, 20_000)
        assert (finding.verdict, finding.declined) == ("pass", 1)
        (note,) = finding.notes
        assert "K=33000: the target took more memory than it is given" in note


@pytest.mark.parametrize(("error", "beyond"), [(MemoryError("no room"), 200), (RuntimeError("MemoryError"), 20_000)])
def test_any_other_crash_is_a_crash(error, beyond):
    assert found(error, beyond).verdict == "crash"


def test_memory_of_a_worker_is_told_apart():
    target = resolve(f"{ADAPTERS / 'misbehaving.py'}:grows", Setting(limits=Limits(60, 400 << 20)))
    with pytest.raises(TargetStarved, match="of memory, expected at most"):
        TargetBench(target, "float64").run(problem(3))
    target.call.process.close()
    assert not is_vast(problem(3))
