"""chunked-forward: a sequence run in pieces, each from the state that the one before left, has the states of the whole.

    (h_t, c_t) depends on the past through (h_{t-1}, c_{t-1}) alone                                       (1)

The state that is carried is the exact one, rounded to the dtype: what that rounding changes is in the exact difference
of the solutions. Each piece has the steps, lengths and loss of its part of the whole; states and outputs are judged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, of_sums
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape, to_dtype

PIECES = 4


class ChunkedForward(Property):
    """Pieces of k steps, at most four of them."""

    id = "chunked-forward"
    statement = "Running a sequence in pieces with the state carried gives the states and outputs of the whole."
    source = "The recurrence itself: the state is all that a step knows of the past."
    needs = "T of 2, and h, c or o among the outputs"

    def unsupported(self, support: Support, cell: str) -> str | None:
        claimed = support.outputs is None or {"h", "c", "o"} & set(support.outputs)
        return None if claimed and support.max_size.get("T", 2) >= 2 else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(offered(support, cell), largest=(9, 3, 4, 4, 4), edges=False, calm=True)

        def build(draw: Draw) -> Case:
            problem = draw_problem(draw, shape, support, cell, dtype)
            if problem.T < 2:
                hypothesis.reject()
            return Case(problem, {"k": draw.integer(-(-problem.T // PIECES), problem.T - 1)})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, k = case.problem, case.parameters["k"]
        assert k >= 1
        parts = [Part(+1, problem)]
        for start in range(0, problem.T, k):
            piece = steps_of(problem, start, min(problem.T, start + k), bench)
            places = {key: _places(problem, n, start, piece.T) for key, n in (("o", problem.K), ("h", problem.H))}
            places |= dict.fromkeys(problem.spec.states, places["h"])
            parts.append(Part(-1, piece, places=places))
        return of_sums(bench, parts, [*problem.spec.states, "o"])


def _places(problem: Problem, width: int, start: int, steps: int) -> Any:
    """Where a piece's array (steps,B,width) stands in the whole's (T,B,width)."""
    out = np.full((problem.T, problem.B, width), -1)
    out[start : start + steps] = np.arange(steps * problem.B * width).reshape(steps, problem.B, width)
    return out


def steps_of(problem: Problem, start: int, stop: int, bench: Bench) -> Problem:
    """The steps from start to stop as a problem of its own, from the exact state before them rounded to the dtype."""
    solution, loss = bench.truth(problem).solution, problem.loss
    initial: dict[str, Any] = {}
    for name in problem.spec.states:
        rounded = to_dtype(solution.state(name, start), problem.dtype)
        initial[f"{name}0"] = getattr(problem, f"{name}0") if start == 0 else rounded
    sliced: dict[str, Any] = {}
    for name in ("g", "target"):
        array = getattr(loss, name)
        sliced[name] = None if array is None else np.ascontiguousarray(array[start:stop])
    return replace(
        problem,
        x=np.ascontiguousarray(problem.x[start:stop]),
        lengths=None if problem.lengths is None else np.clip(problem.lengths - start, 0, stop - start),
        loss=replace(loss, **sliced),
        **initial,
    )


PROPERTY = ChunkedForward()
