"""The implementations side by side: a tanh network, forward and backward, as `gradients(problem)` is called.

What a target does beside the arithmetic (conversion, building a module, allocation) is in its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bptt.problem import Problem, gradient_shapes
from implementations import registry

SIZES = [(20, 1, 4, 8), (100, 1, 16, 32), (100, 16, 64, 128)]


@pytest.mark.benchmark(min_rounds=7, max_time=0.7, warmup=True, warmup_iterations=2)
@pytest.mark.parametrize("name", registry.BUILT_IN)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(str(n) for n in sizes))
def test_elman(
    benchmark: Any, elman: Callable[..., Problem], sizes: tuple[int, int, int, int], dtype: str, name: str
) -> None:
    by_name = dict(zip("TBDH", sizes, strict=True))
    benchmark.group = f"elman tanh, {dtype}, {' '.join(f'{letter}={n}' for letter, n in by_name.items())}"
    benchmark.extra_info["subject"] = name
    try:
        target = registry.load(name)
    except registry.Unavailable as error:
        pytest.skip(str(error))
    problem = elman(by_name, "cotangent", dtype)
    answer = benchmark(target.gradients, problem)
    assert set(answer) == set(gradient_shapes(problem))
