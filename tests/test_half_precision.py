"""A kernel in half precision gets a verdict: certified where it is right, accused where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conformance import engine
from conformance.bench import TargetBench
from conformance.engine import Finding, Profile, Search
from conformance.targets import Target
from implementations import numpy_bptt
from properties import PROPERTIES
from tests.loading import in_process

Answer = dict[str, Any]
SMOKE = Profile("smoke", 20, 0)


def honest(problem: Any) -> Answer:
    """NumPy's own arithmetic in the problem's dtype."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_bptt, "SUPPORTS", {**numpy_bptt.SUPPORTS, "dtypes": ["float16"]})
        return numpy_bptt.gradients(problem)


def without_last_input(problem: Any) -> Answer:
    """The input weights' gradient lacks the last step."""
    answer = honest(problem)
    last = problem.x[-1].T @ np.ones((problem.x.shape[1], answer["db_h"].size), np.float16)
    answer["dW_xh"] = answer["dW_xh"] - np.float16(0.5) * last
    return answer


def loses_unit_17(problem: Any) -> Answer:
    """The seventeenth unit's bias has no gradient."""
    answer = honest(problem)
    answer["db_h"][16:17] = 0
    return answer


def search(gradients: Callable[[Any], Answer], name: str, **declared: Any) -> Finding:
    """The finding of one property on a kernel in float16."""
    support = replace(in_process("numpy").support, cells=("elman",), dtypes=("float16",), **declared)
    target = Target("half", "path", support, gradients, None, None)
    return Search(PROPERTIES[name], TargetBench(target, "float16"), "elman", "float16", SMOKE, 0).run()


@pytest.mark.parametrize("name", ["shared-weight-summation", "final-cotangent", "unit-permutation", "loss-differences"])
def test_a_right_kernel_passes(name):
    finding = search(honest, name)
    assert (finding.verdict, finding.message) == ("pass", "")
    assert finding.examples == finding.conclusive >= 20


@pytest.mark.parametrize(
    ("wrong", "name"), [(without_last_input, "shared-weight-summation"), (loses_unit_17, "shapes")]
)
def test_a_wrong_kernel_fails(wrong, name):
    assert search(honest, name).verdict == "pass"
    assert search(wrong, name).verdict == "fail"


def in_float32(problem: Any) -> Answer:
    """A bfloat16 problem in NumPy's float32."""
    return numpy_bptt.gradients(SimpleNamespace(**{**vars(problem), "dtype": "float32"}))


@pytest.mark.parametrize("cell", ["lstm", "gru_reset_after"])
@pytest.mark.parametrize("name", sorted(set(PROPERTIES) - {"oracle-agreement"}))
def test_problems_in_bfloat16_are_made_without_an_error(cell, name, monkeypatch):
    monkeypatch.setattr(engine, "ROUNDS", 1)
    monkeypatch.setattr(engine, "MOST_VAGUE", 5)
    support = replace(in_process("numpy").support, cells=(cell,), dtypes=("bfloat16",))
    target = Target("half", "path", support, in_float32, None, None)
    search = Search(PROPERTIES[name], TargetBench(target, "bfloat16"), cell, "bfloat16", replace(SMOKE, examples=5), 0)
    finding = search.run()
    assert finding.verdict in ("pass", "inconclusive") or not PROPERTIES[name].concerns(cell), finding.message


def test_a_sloppy_declaration_earns_no_allowance():
    finding = search(honest, "shared-weight-summation", elementary_ulp=64.0)
    assert (finding.verdict, finding.vague) == ("inconclusive", 0)
