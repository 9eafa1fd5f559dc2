"""final-cotangent: a cotangent on the final state is a loss on the state after each row's last step.

at-end    a cotangent v on the final h is a loss at t = length that sends v into h: g = v where there is no
          readout; else v = g W_hy^T, rounded to the dtype, for all gradients but the readout's
together  gradients(g, v_h, v_c) = gradients(g) + gradients(v_h alone) + gradients(v_c alone)
handover  the steps up to t on their own, with what later steps send back as cotangents on their final state:
          their gradients dx, dh0, dc0 are those of the whole
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Loss, Problem
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, of_sums
from properties.pieces import every_gradient, finals, first_steps, of_rows, places
from properties.recipe import Draw, Recipe
from properties.shared_weight_summation import boundary_values
from properties.strategies import Array, Shape, draw_problem, entries, offered, replace_shape, to_dtype

FORMS = ("at-end", "together", "handover")


class FinalCotangent(Property):
    """Three forms, drawn in turn; `t` is the step of the handover."""

    id = "final-cotangent"
    statement = (
        "A cotangent on the final state is a loss at t = length, adds to those on the steps, "
        "and hands over what later steps send back."
    )
    source = "The chain rule at the last state; linearity of the derivative."
    needs = "final cotangents and the loss cotangent"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if support.final_cotangents and "cotangent" in support.losses else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        base = replace_shape(
            offered(support, cell), losses=("cotangent",), largest=(8, 3, 4, 4, 4), edges=False, calm=True
        )
        over = "full" in support.truncations and support.max_size.get("T", 2) >= 2
        forms = FORMS if over else FORMS[:2]

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            shape: Shape = replace_shape(base, finals=form == "together")
            if form == "handover":
                shape = replace_shape(shape, truncations=("full",), lengths=False)
            problem = draw_problem(draw, shape, support, cell, dtype)
            t, seed = 1 + draw.integer(0, 9) % max(1, problem.T - 1), draw.seed()
            if form == "handover":
                if problem.T < 2:
                    hypothesis.reject()
                return Case(problem, {"form": 2, "t": t})
            if form == "together":
                return Case(with_finals(problem, problem.spec.states, seed), {"form": 1})
            return Case(with_loss_at_end(problem, seed), {"form": 0})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, form = case.problem, FORMS[case.parameters["form"]]
        if form == "at-end":
            at_end = moved_to_final(problem)
            keys = [key for key in every_gradient(problem) if key not in ("dW_hy", "db_y")]
            return of_sums(bench, [Part(+1, at_end), Part(-1, problem)], keys)
        if form == "together":
            parts = [Part(-1, piece) for piece in apart(problem)]
            return of_sums(bench, [Part(+1, problem), *parts], ["loss", *every_gradient(problem)])
        t = case.parameters["t"]
        part = Part(-1, problem, places(problem, range(problem.B), t))
        keys = [key for key in of_rows(problem) if key.startswith("d")]
        return of_sums(bench, [Part(+1, handed_over(problem, t, bench)), part], keys)


def with_finals(problem: Problem, states: tuple[str, ...], seed: int) -> Problem:
    """The problem with cotangents on the final states named, and on no other."""
    shape = (problem.B, problem.H)
    drawn: dict[str, Any] = {
        f"g_{name}_final": entries("normal", seed + i, shape, problem.dtype) for i, name in enumerate(states)
    }
    assert problem.loss.g is not None
    return replace(problem, loss=Loss("cotangent", g=problem.loss.g, **drawn))


def with_loss_at_end(problem: Problem, seed: int) -> Problem:
    """The problem with normal cotangents at each row's last step; those before it stay."""
    assert problem.loss.g is not None
    g = problem.loss.g.copy()
    for b, length in enumerate(problem.row_lengths.tolist()):
        g[length - 1, b] = entries("normal", seed + b, (problem.K,), problem.dtype)
    return replace(problem, loss=Loss("cotangent", g=g))


def moved_to_final(problem: Problem) -> Problem:
    """The problem with what each row's last loss sends into h as a cotangent on the final h, in place of that loss.

    A row without steps has no loss: its cotangent goes straight through to dh0.
    """
    assert problem.loss.g is not None
    g, final = problem.loss.g.copy(), np.zeros((problem.B, problem.K))
    for b, length in enumerate(problem.row_lengths.tolist()):
        final[b] = g[length - 1, b]
        g[length - 1, b] = 0  # of a row without steps, that is its padding
    sent: Array = final @ problem.params["W_hy"].T.astype(np.float64) if problem.readout == "linear" else final
    return replace(problem, loss=Loss("cotangent", g=g, g_h_final=to_dtype(sent, problem.dtype)))


def apart(problem: Problem) -> list[Problem]:
    """The problem with its step cotangents alone, and with each of those on the final state alone."""
    assert problem.loss.g is not None
    none = np.zeros_like(problem.loss.g)
    ends = [replace(Loss("cotangent", g=none), **{name: g}) for name, g in finals(problem.loss).items()]
    return [replace(problem, loss=loss) for loss in (Loss("cotangent", g=problem.loss.g), *ends)]


def handed_over(problem: Problem, t: int, bench: Bench) -> Problem:
    """The steps up to t, with the exact part of dL/ds_t that comes from later ones, rounded, on the final state."""
    piece = first_steps(problem, t)
    g = problem.loss.g
    assert g is not None
    _, arriving = boundary_values(bench.truth(problem).solution, problem)
    own = g[t - 1].astype(np.float64)
    arriving["h"][t - 1] -= own @ problem.params["W_hy"].T if problem.readout == "linear" else own
    later: dict[str, Any] = {f"g_{name}_final": to_dtype(ds[t - 1], problem.dtype) for name, ds in arriving.items()}
    return replace(piece, loss=replace(piece.loss, **later))


PROPERTY = FinalCotangent()
