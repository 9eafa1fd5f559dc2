"""An adapter behind a `torch.autograd.Function`: what gradcheck says of a correct one and of a scaled gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from implementations import numpy_bptt
from oracle.budget import Model
from oracle.truth import find_truth

pytest.importorskip("torch")
from tests.benchmarks.behind_autograd import behind_function, leaves, passes, unrolled_loop

MODES = pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])


@pytest.fixture
def tiny():
    rng = np.random.default_rng(7)
    params = {"W_x": (3, 8), "W_h": (2, 8), "b": (8,)}
    return Problem(
        cell="lstm",
        params={name: rng.normal(size=shape) for name, shape in params.items()},
        x=rng.normal(size=(3, 2, 3)),
        h0=rng.normal(size=(2, 2)),
        c0=rng.normal(size=(2, 2)),
        loss=Loss("cotangent", g=rng.normal(size=(3, 2, 2)), g_c_final=rng.normal(size=(2, 2))),
    )


def scaled(name):
    """The NumPy implementation, with the gradient of one array 1.01 times what it should be."""

    def gradients(problem):
        found = numpy_bptt.gradients(problem)
        return found | {f"d{name}": 1.01 * found[f"d{name}"]}

    return gradients


@MODES
def test_gradcheck_passes_a_correct_implementation(tiny, fast):
    assert passes(behind_function(numpy_bptt.gradients, tiny), fast=fast)
    assert passes(unrolled_loop(tiny), fast=fast)


@MODES
@pytest.mark.parametrize("name", ["W_x", "W_h", "b", "x", "h0", "c0"])
def test_gradcheck_fails_a_scaled_gradient(tiny, name, fast):
    assert not passes(behind_function(scaled(name), tiny), fast=fast)


@MODES
def test_gradcheck_fails_a_correct_truncated_gradient(tiny, fast):
    one_step = replace(tiny, truncation=Truncation("window", k=1))
    assert not passes(behind_function(numpy_bptt.gradients, one_step), fast=fast)


def test_function_returns_what_the_adapter_returns(tiny):
    function, given = behind_function(numpy_bptt.gradients, tiny)
    loss = function(*given)
    (3 * loss).backward()
    right = numpy_bptt.gradients(tiny)
    assert loss.item() == right["loss"]
    for name, tensor in zip(leaves(tiny), given, strict=True):
        assert np.array_equal(tensor.grad.numpy(), 3 * right[f"d{name}"])


def test_loop_is_within_budget(tiny):
    function, given = unrolled_loop(tiny)
    loss = function(*given)
    loss.backward()
    truth = find_truth(tiny, Model("float64"))
    found = {"loss": loss.detach()} | {f"d{name}": x.grad for name, x in zip(leaves(tiny), given, strict=True)}
    for key, value in found.items():
        assert (truth.error(key, value.numpy()) <= truth.allowed(key)).all()


def test_gradient_that_is_not_claimed_is_not_asked_for(tiny):
    def gradients(problem):
        return {key: value for key, value in numpy_bptt.gradients(problem).items() if key != "dx"}

    _, given = behind_function(gradients, tiny)
    assert len(given) == len(leaves(tiny)) - 1
