"""The SUPPORTS declaration of an adapter: what it may say, what holds where it is silent, and how it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bptt.cells import CELLS
from bptt.errors import ProblemError
from bptt.problem import DTYPES, LOSSES, READOUTS, REDUCTIONS
from bptt.support import ACTIVATIONS, Support, read_support
from bptt.truncation import KINDS

VOCABULARY = {
    "cells": tuple(CELLS),
    "activations": ACTIVATIONS,
    "readouts": READOUTS,
    "losses": LOSSES,
    "reductions": REDUCTIONS,
    "truncations": KINDS,
    "dtypes": tuple(DTYPES),
}


@pytest.mark.parametrize("declared", [None, {}])
def test_support_that_says_nothing_offers_everything_common(declared: object) -> None:
    support = read_support(declared)
    assert support == Support()
    assert support.cells == tuple(CELLS)
    assert support.dtypes == ("float64", "float32"), "half precision is offered only where it is declared"
    assert (support.lengths, support.h0_none, support.final_cotangents, support.deterministic) == (
        True,
        False,
        True,
        False,
    )
    assert (support.accumulate, support.elementary_ulp, support.subnormals) == (None, 4.0, "keep")


@pytest.mark.parametrize("key", VOCABULARY)
def test_support_keeps_names_in_the_documented_order(key: str) -> None:
    names = VOCABULARY[key]
    assert getattr(read_support({key: list(reversed(names))}), key) == names
    assert getattr(read_support({key: {names[-1]}}), key) == (names[-1],)
    assert getattr(read_support({key: ()}), key) == ()


def test_support_reads_every_key() -> None:
    declared: dict[str, Any] = {
        "outputs": ["dW_hh", "loss"],
        "lengths": False,
        "h0_none": True,
        "final_cotangents": False,
        "deterministic": True,
        "max_size": {"T": 4, "H": 128},
        "accumulate": "float32",
        "elementary_ulp": 1,
        "subnormals": "flush",
    }
    support = read_support(declared)
    for key, value in declared.items():
        want = tuple(value) if key == "outputs" else value
        assert getattr(support, key) == want
    assert isinstance(support.elementary_ulp, float)
    assert read_support({"accumulate": None}).accumulate is None


def test_support_is_a_copy() -> None:
    sizes = {"T": 4}
    support = read_support({"max_size": sizes})
    sizes["T"] = 5
    assert support.max_size == {"T": 4}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (["elman"], "SUPPORTS: got list, expected a dict"),
        ("elman", "SUPPORTS: got str, expected a dict"),
        ({"cell": ["elman"]}, "SUPPORTS: unknown key 'cell'; expected some of cells, activations, readouts"),
        ({1: True}, "SUPPORTS: unknown key 1; expected some of cells"),
        ({"cells": "elman"}, "SUPPORTS['cells']: got 'elman', expected a list of names"),
        ({"cells": None}, "SUPPORTS['cells']: got None, expected a list of names"),
        ({"cells": 5}, "SUPPORTS['cells']: got 5, expected a list of names"),
        ({"dtypes": [float]}, "SUPPORTS['dtypes']: got [<class 'float'>], expected a list of names"),
        ({"cells": ["elman", "gru"]}, "SUPPORTS['cells']: got 'gru', expected some of elman, gru_reset_after"),
        (
            {"activations": ["gelu"]},
            "SUPPORTS['activations']: got 'gelu', expected some of tanh, sigmoid, relu, identity",
        ),
        ({"reductions": ["max"]}, "SUPPORTS['reductions']: got 'max', expected some of sum, mean, tokens"),
        ({"outputs": ["dW_hh", "dWhh"]}, "SUPPORTS['outputs']: got 'dWhh', expected some of loss, h, c, o, dW_xh,"),
        ({"outputs": "loss"}, "SUPPORTS['outputs']: got 'loss', expected a list of names"),
        ({"lengths": 1}, "SUPPORTS['lengths']: got 1, expected True or False"),
        ({"deterministic": "yes"}, "SUPPORTS['deterministic']: got 'yes', expected True or False"),
        ({"max_size": 64}, "SUPPORTS['max_size']: got 64, expected {'T': …, 'B': …, …} with integers from 1"),
        ({"max_size": {"N": 4}}, "SUPPORTS['max_size']: got {'N': 4}, expected {'T'"),
        ({"max_size": {"T": 0}}, "SUPPORTS['max_size']: got {'T': 0}, expected {'T'"),
        ({"max_size": {"T": True}}, "SUPPORTS['max_size']: got {'T': True}, expected {'T'"),
        ({"max_size": {"T": 4.0}}, "SUPPORTS['max_size']: got {'T': 4.0}, expected {'T'"),
        ({"accumulate": "float80"}, "SUPPORTS['accumulate']: got 'float80', expected one of float64, float32"),
        ({"accumulate": ["float32"]}, "SUPPORTS['accumulate']: got ['float32'], expected one of float64, float32"),
        ({"elementary_ulp": 0.4}, "SUPPORTS['elementary_ulp']: got 0.4, expected a number from 0.5 to 2^20"),
        ({"elementary_ulp": float("nan")}, "SUPPORTS['elementary_ulp']: got nan, expected a number from 0.5"),
        ({"elementary_ulp": float("inf")}, "SUPPORTS['elementary_ulp']: got inf, expected a number from 0.5"),
        ({"elementary_ulp": "4"}, "SUPPORTS['elementary_ulp']: got '4', expected a number from 0.5"),
        ({"elementary_ulp": True}, "SUPPORTS['elementary_ulp']: got True, expected a number from 0.5"),
        ({"subnormals": "ignore"}, "SUPPORTS['subnormals']: got 'ignore', expected 'keep' or 'flush'"),
        ({"subnormals": None}, "SUPPORTS['subnormals']: got None, expected 'keep' or 'flush'"),
    ],
)
def test_support_refuses_and_says_why(declared: object, message: str) -> None:
    with pytest.raises(ProblemError) as caught:
        read_support(declared)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
