"""The targets that compile what they are given: each problem in the sizes of its own, and within its budget.

`torch-compile` and `jax`, where they are there; what they compile takes seconds, so that the problems are few.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from conformance.targets import Target
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model, budget
from oracle.solution import solve
from tests.loading import in_process

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of PyTorch's own parts
TRUNCATIONS = (Truncation("window", k=2), Truncation("chunk", k=2), Truncation("periodic", k1=2, k2=3), Truncation())
LENGTHS = (None, (5, 0, 3), (2, 5, 5))


@pytest.fixture(scope="module", params=["torch-compile", "jax"])
def target(request: pytest.FixtureRequest) -> Target:
    """A target, or no test where its package is missing."""
    pytest.importorskip(request.param.partition("-")[0], reason=f"{request.param} is not available")
    return in_process(request.param)


def make(seed: int, cell: str, loss: str, truncation: Truncation, sizes: tuple[int, int, int, int, int]) -> Problem:
    """A random problem; readout, lengths and initial state vary with the seed."""
    T, B, D, H, K = sizes
    rng = np.random.default_rng(seed)
    shapes = CELLS[cell].shapes(D, H)
    readout = ("linear", "none")[seed % 2]
    if readout == "linear":
        shapes |= {"W_hy": (H, K), "b_y": (K,)}
    else:
        K = H
    target: dict[str, Any] = {
        "cotangent": {"g": rng.normal(size=(T, B, K)), "g_h_final": rng.normal(size=(B, H))},
        "squared_error": {"target": rng.normal(size=(T, B, K)), "scale": 0.5, "time_reduction": "mean"},
        "cross_entropy": {"target": rng.integers(0, K, (T, B)), "batch_reduction": "mean"},
    }[loss]
    lengths = LENGTHS[seed % 3]
    states = {f"{name}0": rng.normal(size=(B, H)) for name in CELLS[cell].states} if seed % 4 else {}
    return Problem(
        cell, {name: rng.normal(size=shape) * 0.7 for name, shape in shapes.items()}, rng.normal(size=(T, B, D)),
        Loss(loss, **target), activation="sigmoid" if cell == "elman" else None, readout=readout, truncation=truncation,
        lengths=np.minimum(lengths, T) if lengths and B == 3 else None, **states,
    )  # fmt: skip


def within_budget(target: Target, problem: Problem) -> None:
    """Fail where an array is missing, of a wrong shape, or over its budget."""
    answer = target.call(problem)
    exact = solve(problem, BallNumbers(128))
    support = target.support
    bounds = budget(exact, Model(problem.dtype, None, support.elementary_ulp, support.subnormals == "flush")).arrays
    live = np.arange(problem.T)[:, None] < problem.row_lengths
    for name in exact.values:
        near, rest, radius = exact.near(name)
        got = np.asarray(answer[name])
        assert got.shape == near.shape
        assert got.dtype == problem.dtype
        judged = live if name in ("h", "c", "o") else ...
        assert (np.abs((got.astype(float) - near) - rest) + radius <= bounds[name])[judged].all(), name


@pytest.mark.parametrize("loss", ["cotangent", "squared_error", "cross_entropy"])
@pytest.mark.parametrize("cell", ["elman", "lstm_1997"])
def test_compiled_target_is_within_budget_under_every_truncation(target: Target, cell: str, loss: str) -> None:
    for seed, truncation in enumerate(TRUNCATIONS):
        within_budget(target, make(seed + len(loss), cell, loss, truncation, (5, 3, 2, 3, 4)))


def test_compiled_target_serves_sizes_of_one_and_sizes_beyond_those_that_are_rounded_to(target: Target) -> None:
    for seed, sizes in enumerate([(1, 1, 1, 1, 1), (9, 1, 9, 1, 9), (2, 9, 1, 9, 1)]):
        within_budget(target, make(seed, "elman", "cross_entropy", Truncation(), sizes))


def test_compiled_target_carries_the_constant_error(target: Target) -> None:
    within_budget(target, make(1, "lstm_1997", "cotangent", Truncation("cec"), (5, 3, 2, 3, 4)))


def test_compiled_target_refuses_what_it_does_not_offer(target: Target) -> None:
    one = make(0, "lstm", "cotangent", Truncation(), (2, 1, 1, 1, 1))
    half = {
        "params": {name: value.astype("float16") for name, value in one.params.items()},
        "x": one.x.astype("float16"),
    }
    loss = replace(one.loss, g=one.loss.g.astype("float16"), g_h_final=one.loss.g_h_final.astype("float16"))
    with pytest.raises(NotImplementedError, match=r"dtypes?:? 'float16'"):
        target.call(replace(one, dtype="float16", loss=loss, **half))


def test_jax_compiles_once_for_sizes_that_are_rounded_to_the_same() -> None:
    pytest.importorskip("jax", reason="jax is not available")
    from implementations import jax_scan

    in_process("jax").call(make(0, "elman", "cotangent", Truncation(), (3, 2, 2, 2, 2)))
    before = jax_scan._solve._cache_size()
    for sizes in ((4, 3, 1, 5, 2), (8, 8, 8, 8, 8), (1, 1, 1, 1, 1)):
        in_process("jax").call(make(0, "elman", "cotangent", Truncation(), sizes))
    assert jax_scan._solve._cache_size() == before
    in_process("jax").call(make(0, "elman", "cotangent", Truncation(), (3, 2, 9, 2, 2)))
    assert jax_scan._solve._cache_size() == before + 1
