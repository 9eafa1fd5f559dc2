"""Problems from real text: a character-level network at several points of an actual training run.

Trained weights are not random weights, and one-hot inputs are not normal ones. The files are problems of this project's
own format, written by `python -m conformance.train_text`, which can be repeated; the text is in the public domain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bptt.files import load_problem
from bptt.problem import Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.units import in_dtype

DATA = Path(__file__).parent / "data"


def text_problems(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """The shipped problems of a cell that a target offers to solve, in float64 or float32."""
    if dtype not in ("float64", "float32"):
        return
    for path in sorted(DATA.glob(f"{cell}-*.safetensors")):
        problem = in_dtype(load_problem(path), dtype)
        sizes = {name: getattr(problem, name) for name in "TBDHK"}
        if any(value > support.max_size.get(name, value) for name, value in sizes.items()):
            continue
        if problem.readout not in support.readouts or problem.loss.kind not in support.losses:
            continue
        if problem.loss.time_reduction not in support.reductions:
            continue
        if problem.activation is not None and problem.activation not in support.activations:
            continue
        if problem.truncation.kind in support.truncations:
            yield problem
        for kind in ("window", "chunk"):
            if kind in support.truncations:
                yield replace(problem, truncation=Truncation(kind, k=max(1, problem.T // 3)))
                break
