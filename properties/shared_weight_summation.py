"""shared-weight-summation: the gradient of a shared weight is the sum over its untied copies.

Untied, the network has T copies of its weights, and dL/dW is the sum of the copies' gradients. Copy s, on its own, is a
problem of one step: input x_s, initial state h_{s-1}, and the cotangent dL/dh_s on its final state. All copies together
are one problem of one step with T B rows. The same is said of the rows of a batch, and of the losses of a sequence:

    steps    dW of the whole = dW of the one-step problem of all copies          (the states rounded to the dtype)
    rows     dW of the whole = sum over b of dW of row b on its own
    losses   dW of the whole = sum over t of dW with the loss of step t alone
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from oracle.solution import Solution
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, of_sums
from properties.recipe import Draw, Recipe
from properties.strategies import Array, Shape, draw_problem, offered, replace_shape, to_dtype

FORMS = ("steps", "rows", "losses")


class SharedWeightSummation(Property):
    """Three sums, drawn in turn: over steps, over rows, over losses."""

    id = "shared-weight-summation"
    statement = (
        "The gradient of a shared weight is the sum of the gradients of its T untied copies, "
        "of the batch rows on their own, and of the losses on their own."
    )
    source = (
        "Werbos (1990): backpropagation through time sums the contributions of all steps; linearity of the derivative."
    )
    needs = "the loss cotangent, or the reduction sum"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if self._forms(support, cell) else f"needs {self.needs}"

    def _forms(self, support: Support, cell: str) -> list[str]:
        cotangent = "cotangent" in support.losses
        steps = cotangent and "full" in support.truncations and self._ends(support, cell)
        sums = cotangent or "sum" in support.reductions
        return [form for form, possible in zip(FORMS, (steps, sums, cotangent), strict=True) if possible]

    @staticmethod
    def _ends(support: Support, cell: str) -> bool:
        """Whether a copy's cotangent can be handed in: on the final state, or on an output that is the state."""
        return support.final_cotangents or ("none" in support.readouts and CELLS[cell].states == ("h",))

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        base = replace_shape(offered(support, cell), largest=(10, 4, 4, 5, 4), work=4000)

        def build(draw: Draw) -> Case:
            form = draw.of(self._forms(support, cell))
            shape: Shape = replace_shape(base, reductions=("sum",))
            if form != "rows" or "sum" not in support.reductions:
                shape = replace_shape(shape, losses=("cotangent",))
            if form == "steps":
                shape = replace_shape(shape, truncations=("full",), lengths=False)
                if not support.final_cotangents:
                    shape = replace_shape(shape, readouts=("none",))
                limit = support.max_size.get("B", 1 << 20)
                shape = replace_shape(shape, edges=limit >= 1 << 20)
            elif form == "losses":  # one run a step
                shape = replace_shape(shape, edges=False)
            problem = draw_problem(draw, shape, support, cell, dtype)
            if form == "steps" and support.max_size.get("B", 1 << 20) < problem.T * problem.B:
                form = "rows"
            return Case(problem, {"form": FORMS.index(form)})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        form = FORMS[case.parameters["form"]]
        pieces = {"steps": self._copies, "rows": self._rows, "losses": self._losses}[form](problem, bench)
        keys = [f"d{name}" for name in problem.parameter_shapes()]
        return of_sums(bench, [Part(+1, problem), *(Part(-1, piece) for piece in pieces)], keys)

    @staticmethod
    def _copies(problem: Problem, bench: Bench) -> list[Problem]:
        """All copies as the T B rows of one problem of one step; their boundary values are the exact ones, rounded."""
        T, B, dtype = problem.T, problem.B, problem.dtype
        solution = bench.truth(problem).solution
        before, arriving = boundary_values(solution, problem)
        g = problem.loss.g
        assert g is not None
        direct = g if problem.readout == "none" else g @ problem.params["W_hy"].T  # what the copy's own loss sends
        flat = (T * B, problem.H)
        if bench.support.final_cotangents:  # the copy keeps its loss; later steps' part comes in on its final state
            finals = {"g_h_final": to_dtype((arriving["h"] - direct).reshape(flat), dtype)}
            if "c" in arriving:
                finals["g_c_final"] = to_dtype(arriving["c"].reshape(flat), dtype)
            loss = Loss("cotangent", g=g.reshape(1, T * B, problem.K), **finals)  # type: ignore[arg-type]
        else:
            loss = Loss("cotangent", g=to_dtype(arriving["h"].reshape(1, *flat), dtype))
        states = {name: to_dtype(values.reshape(flat), dtype) for name, values in before.items()}
        x = problem.x.reshape(1, T * B, problem.D)
        return [replace(problem, x=x, h0=states["h"], c0=states.get("c"), loss=loss)]

    @staticmethod
    def _rows(problem: Problem, _: Bench) -> list[Problem]:
        def row(array: Array | None, axis: int, b: int) -> Any:
            return None if array is None else np.ascontiguousarray(np.take(array, [b], axis=axis))

        loss = problem.loss
        return [
            replace(
                problem,
                x=row(problem.x, 1, b),
                h0=row(problem.h0, 0, b),
                c0=row(problem.c0, 0, b),
                lengths=row(problem.lengths, 0, b),
                loss=replace(
                    loss,
                    g=row(loss.g, 1, b),
                    target=row(loss.target, 1, b),
                    g_h_final=row(loss.g_h_final, 0, b),
                    g_c_final=row(loss.g_c_final, 0, b),
                ),
            )
            for b in range(problem.B)
        ]

    @staticmethod
    def _losses(problem: Problem, _: Bench) -> list[Problem]:
        loss = problem.loss
        assert loss.g is not None
        pieces = []
        for t in range(problem.T):
            g = np.zeros_like(loss.g)
            g[t] = loss.g[t]
            pieces.append(replace(problem, loss=Loss("cotangent", g=g)))
        if loss.g_h_final is not None or loss.g_c_final is not None:
            pieces.append(replace(problem, loss=replace(loss, g=np.zeros_like(loss.g))))
        return pieces


def boundary_values(solution: Solution, problem: Problem) -> tuple[dict[str, Array], dict[str, Array]]:
    """The exact states before each step and the adjoints after it, by name, (T,B,H), rounded to float64."""
    before: dict[str, Array] = {}
    arriving: dict[str, Array] = {}
    for name in problem.spec.states:
        before[name] = np.stack([solution.state(name, t) for t in range(problem.T)])
        arriving[name] = solution.adjoint(name)
    return before, arriving


PROPERTY = SharedWeightSummation()
