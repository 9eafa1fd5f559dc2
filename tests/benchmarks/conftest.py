"""Benchmarks, which are no tests: a plain `pytest` passes by this folder (norecursedirs), `tox -e bench` runs it.

    pytest tests/benchmarks/test_*.py --benchmark-json=FILE && python tests/benchmarks/ratios.py FILE

Each benchmark says its group, within which times are compared, and its subject; ratios.py reads both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bptt.problem import Loss, Problem

Sizes = dict[str, int]
"""T, B, D, H, K by name; K where there is a readout."""


@pytest.fixture
def elman() -> Callable[..., Problem]:
    """A tanh network whose W_hh has the spectral norm 0.95, random and full."""
    return make_elman


def make_elman(sizes: Sizes, loss: str, dtype: str = "float64") -> Problem:
    """Draw a problem with the loss `cross_entropy` (class indices, a readout) or `cotangent` (on h itself)."""
    rng = np.random.default_rng(1990)
    T, B, D, H = (sizes[name] for name in "TBDH")
    K = sizes.get("K", H)

    def draw(*shape: int, scale: float = 1.0) -> Any:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    W_hh = rng.standard_normal((H, H))
    W_hh *= 0.95 / np.linalg.norm(W_hh, 2)
    params = {"W_xh": draw(D, H, scale=D**-0.5), "W_hh": W_hh.astype(dtype), "b_h": draw(H, scale=0.5)}
    if "K" in sizes:
        params |= {"W_hy": draw(H, K, scale=H**-0.5), "b_y": draw(K, scale=0.5)}
    return Problem(
        cell="elman",
        activation="tanh",
        readout="linear" if "K" in sizes else "none",
        params=params,
        x=draw(T, B, D),
        h0=draw(B, H, scale=0.5),
        loss=Loss(loss, g=draw(T, B, K)) if loss == "cotangent" else Loss(loss, target=rng.integers(0, K, (T, B))),
        dtype=dtype,
    )
