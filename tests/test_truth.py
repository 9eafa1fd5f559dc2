"""The truth: what is conclusive, and that no ball without bounds passes for one."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bptt.problem import Loss, Problem
from oracle.budget import Budget, Model
from oracle.mpmath_numbers import MpmathNumbers
from oracle.rational_numbers import RationalNumbers
from oracle.solution import FIRST_PRECISION, solve
from oracle.truth import Truth, find_truth, norm
from tests.deep.tightness import network


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradient_that_a_softmax_cancels_is_measured_by_the_products_before(dtype: str) -> None:
    """Two classes with the same readout: p - y sums to zero, and so does all that goes back, in exact arithmetic."""
    base = network("lstm", dtype, 0.9, (6, 1, 4, 3), 0)
    column = np.array([[0.5], [1.5], [-1.0]], dtype)
    readout = {"W_hy": np.concatenate([column, column], axis=1), "b_y": np.array([0.25, -1.0], dtype)}
    loss = Loss("cross_entropy", target=np.zeros((6, 1), np.int64))
    problem = Problem(
        "lstm", {**base.params, **readout}, base.x, loss, h0=base.h0, c0=base.c0, readout="linear", dtype=dtype
    )
    truth = find_truth(problem, Model(dtype))
    for key, bound in truth.budget.arrays.items():
        assert truth.conclusive(key), key
        assert (bound > 0).any(), key
    assert np.abs(truth.solution.near("dW_h")[0]).max() < 2.0**-70
    assert truth.zero_scale("dW_h") > 0.01


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_a_truth_that_is_kept_holds_no_products_of_jacobians(cell):
    """A bench keeps hundreds of them, and these are S times as large as anything else in them."""
    problem, model = network(cell, "float64", 0.9, (4, 2, 3, 64), 0), Model("float64")
    find_truth(problem, model)
    tracemalloc.start()
    try:
        truth = find_truth(problem, model)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    S = 64 * len(problem.spec.states)
    assert truth.conclusive("h")
    jacobians = 4 * 2 * S * S * 8
    assert held < 2 * jacobians < most


def test_precision_grows_until_every_ball_is_finite() -> None:
    """At 128 bits the balls of this network outgrow all bounds; its budget is as finite as that of any other."""
    truth = find_truth(network("gru_reset_before", "float64", 2.0, (100, 2, 3, 8), 1), Model("float64"))
    assert truth.solution.N.prec > 128
    assert all(truth.conclusive(key) for key in truth.budget.arrays if key.startswith("d"))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_padding_asks_for_no_precision(dtype: str) -> None:
    """Beyond a row's length an output is a readout of what stands still, and nothing of it is judged."""
    base = network("elman", dtype, 0.9, (6, 2, 2, 3), 0)
    readout = {"W_hy": np.full((3, 2), 0.3, dtype), "b_y": np.full(2, 0.1, dtype)}
    loss = Loss("cotangent", g=np.ones((6, 2, 2), dtype))
    problem = replace(
        base, params={**base.params, **readout}, readout="linear", loss=loss, lengths=np.array([2, 6]), dtype=dtype
    )
    assert find_truth(problem, Model(dtype)).solution.N.prec == FIRST_PRECISION


@pytest.mark.parametrize(
    ("dtype", "share", "smallest"),
    [("float64", 2.0**-8, 2.0**-511), ("float32", 2.0**-8, 2.0**-63), ("float16", 2.0**-2, 2.0**-7),
     ("bfloat16", 2.0**-2, 2.0**-63)],
)  # fmt: skip
def test_conclusive_up_to_a_share_of_the_array_and_for_zeros_up_to_their_scale(dtype, share, smallest):
    """db_h = (-3, 4) has the norm 5; without a cotangent it is zero, and the products that cancel are what is given."""
    eye, sizes = np.eye(2, dtype="float32"), {"x": np.ones((1, 1, 2), "float32"), "h0": np.zeros((1, 2), "float32")}
    params = {"W_xh": eye, "W_hh": eye, "b_h": np.zeros(2, "float32")}
    problem = Problem("elman", params, loss=Loss("cotangent", g=np.array([[[-3, 4]]], "float32")), dtype="float32",
                      activation="identity", **sizes)  # fmt: skip
    solution = solve(problem, RationalNumbers())
    zero = solve(replace(problem, loss=Loss("cotangent", g=np.zeros((1, 1, 2), "float32"))), RationalNumbers())
    named = replace(problem)
    object.__setattr__(named, "dtype", dtype)

    def conclusive(of: Any, bound: float, scales: dict[str, Any]) -> bool:
        arrays = {"db_h": np.array([-bound, 0.0])}  # the sign is to change nothing
        return Truth(named, of, Budget(arrays, scales, 0, Model(dtype))).conclusive("db_h")

    assert conclusive(solution, 5 * share, {})
    assert not conclusive(solution, 5 * share * (1 + 2.0**-40), {})
    assert conclusive(zero, smallest, {})
    assert not conclusive(zero, 2 * smallest, {})
    assert conclusive(zero, 10.0, {"db_h": np.array([-6.0, 8.0])})
    assert not conclusive(zero, 10.1, {"db_h": np.array([-6.0, 8.0])})
    assert norm(np.array([-3.0, -4.0])) == 5


def test_radius_of_mpmath_is_some_last_bits_and_of_rationals_nothing():
    one = np.ones((1, 1))
    params = {"W_xh": one / 4, "W_hh": one, "b_h": one[0]}
    problem = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))),
                      activation="identity")  # fmt: skip
    assert (solve(problem, RationalNumbers()).near("h")[2] == 0).all()
    for prec in (60, 100):
        hi, _, radius = solve(problem, MpmathNumbers(prec)).near("h")
        assert (radius == hi * 2.0 ** (8 - prec)).all()
