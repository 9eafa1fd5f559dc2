"""cell-state-jacobian: the Jacobian of the pair (h, c) over all steps, read from outside.

    J = d(h_T, c_T) / d(h_0, c_0)

    joint   with the cotangent e_i on the final (h, c) of one row of the batch, its dh0 and dc0 are row i of J, the
            product of the local Jacobians derived by hand
    cec     in lstm_1997 under `cec`, dc_t/dc_{t-1} is exactly the identity and nothing travels through h: with the
            cotangent v on the final c and none on h, dc0 = v to the last bit, and dh0 = 0

`cec` rounds nothing: c_t = c_{t-1} + i o g has the derivative 1, and all else that is added to v is a product with 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from oracle.ball_numbers import BallNumbers
from oracle.jacobian import state_jacobian
from oracle.solution import Solution, scope
from oracle.truth import Truth
from properties.base import Bench, Case, Judgement, Property
from properties.compare import against_truth, exactly
from properties.exact_problems import narrowest
from properties.pieces import claims
from properties.recipe import Draw, Recipe
from properties.strategies import Array, Shape, draw_problem, entries, offered, replace_shape, to_dtype

FORMS = ("joint", "cec")
LONG = 500
"""Steps of the fixed case."""
KEYS = ("dh0", "dc0")


class CellStateJacobian(Property):
    """Two forms, drawn in turn; `first` is the unit of (h, c) that the first row of the batch has its cotangent on."""

    id = "cell-state-jacobian"
    statement = (
        "Cotangents on the final (h, c) give the rows of its joint Jacobian; "
        "under cec the Jacobian of c is exactly the identity."
    )
    source = "Hochreiter and Schmidhuber (1997): the constant error carousel; the chain rule for the pair (h, c)."
    needs = "final cotangents, the loss cotangent, and truncation full or cec"

    def concerns(self, cell: str) -> bool:
        return "c" in CELLS[cell].states

    def unsupported(self, support: Support, cell: str) -> str | None:
        possible = support.final_cotangents and "cotangent" in support.losses and claims(support, KEYS)
        return None if possible and self._forms(support, cell) else f"needs {self.needs}"

    @staticmethod
    def _forms(support: Support, cell: str) -> list[str]:
        truncations = offered(support, cell).truncations
        return [form for form, kind in zip(FORMS, ("full", "cec"), strict=True) if kind in truncations]

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(
            offered(support, cell),
            losses=("cotangent",),
            h0_none=False,
            finals=False,
            largest=(8, 3, 3, 3, 3),
            edges=False,
            calm=True,
        )
        forms = self._forms(support, cell)

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            kinds: Shape = replace_shape(shape, truncations=("full",) if form == "joint" else ("cec",))
            kinds = replace_shape(kinds, lengths=False) if form == "joint" else kinds
            problem = draw_problem(draw, kinds, support, cell, dtype)
            first, seed, none = draw.integer(0, 5) % (2 * problem.H), draw.seed(), draw.flag()
            if form == "cec":
                return Case(carousel(problem, seed, support, none=none), {"form": 1})
            B = min(2 * problem.H, support.max_size.get("B", 2 * problem.H))
            return Case(probe(problem, B, first), {"form": 0})

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        if "cec" not in self._forms(support, cell):
            return ()
        limit = {name: support.max_size.get(name, LONG) for name in "TBDHK"}
        T, B, D, H = min(LONG, limit["T"]), min(2, limit["B"]), min(3, limit["D"]), min(4, limit["H"], limit["K"])
        readout = support.readouts[0]
        params = {
            name: entries("normal", i, size, dtype) for i, (name, size) in enumerate(CELLS[cell].shapes(D, H).items())
        }
        if readout == "linear":
            params |= {"W_hy": entries("normal", 5, (H, H), dtype), "b_y": entries("normal", 6, (H,), dtype)}
        problem = Problem(
            cell,
            params,
            entries("normal", 7, (T, B, D), dtype),
            Loss("cotangent", g=entries("zeros", 0, (T, B, H), dtype)),
            h0=entries("normal", 8, (B, H), dtype),
            c0=entries("normal", 9, (B, H), dtype),
            readout=readout,
            truncation=Truncation("cec"),
            dtype=dtype,
        )
        return [Case(carousel(problem, 10, support, none=False), {"form": 1})]

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        if FORMS[case.parameters["form"]] == "joint":
            truth = bench.truth(problem)
            answer = {key: got for key, got in bench.run(problem).items() if key in KEYS}
            return against_truth(problem, answer, Truth(problem, _by_jacobian(problem, truth), truth.budget))
        loss, final = problem.loss, problem.loss.g_c_final
        alone = loss.g is not None and not loss.g.any() and (loss.g_h_final is None or not loss.g_h_final.any())
        if final is None or not alone or problem.truncation.kind != "cec":  # a fixed case, cut while shrinking
            return Judgement(())
        answer = bench.run(problem)
        wanted = {"dc0": final, "dh0": np.zeros_like(final)}
        return Judgement(
            tuple(exactly(problem, key, answer[key], want) for key, want in wanted.items() if key in answer)
        )


def probe(problem: Problem, B: int, first: int) -> Problem:
    """B rows of one sequence, row b with the cotangent e_{first + b} on the final (h, c)."""
    T, H = problem.T, problem.H
    assert problem.h0 is not None and problem.c0 is not None
    eye = np.eye(2 * H)[(first + np.arange(B)) % (2 * H)]
    return replace(
        problem,
        x=np.repeat(problem.x[:, :1], B, axis=1),
        h0=np.repeat(problem.h0[:1], B, axis=0),
        c0=np.repeat(problem.c0[:1], B, axis=0),
        loss=Loss(
            "cotangent",
            g=to_dtype(np.zeros((T, B, problem.K)), problem.dtype),
            g_h_final=to_dtype(eye[:, :H], problem.dtype),
            g_c_final=to_dtype(eye[:, H:], problem.dtype),
        ),
    )


def carousel(problem: Problem, seed: int, support: Support, *, none: bool) -> Problem:
    """The problem with one cotangent, normal, on the final c; that on h is zero or not there."""
    assert problem.loss.g is not None
    shape = (problem.B, problem.H)
    v = to_dtype(entries("normal", seed, shape, narrowest(support, problem.dtype)), problem.dtype)
    v = np.where(np.abs(v) < 2.0**-10, v.dtype.type(1), v)  # no subnormals, which a target may flush
    on_h: Array | None = None if none else np.zeros_like(v)
    return replace(problem, loss=Loss("cotangent", g=np.zeros_like(problem.loss.g), g_h_final=on_h, g_c_final=v))


def _by_jacobian(problem: Problem, truth: Truth) -> Solution:
    """The truth's solution with dh0 and dc0 by the product of local Jacobians, v J^T for the cotangents v."""
    N = BallNumbers(max(256, truth.solution.N.prec))
    H, loss = problem.H, problem.loss
    assert loss.g_h_final is not None and loss.g_c_final is not None
    with scope(N):
        v = N.decode(np.concatenate([loss.g_h_final, loss.g_c_final], axis=1))
        row0 = replace(
            problem,
            x=np.ascontiguousarray(problem.x[:, :1]),
            h0=None if problem.h0 is None else problem.h0[:1],
            c0=None if problem.c0 is None else problem.c0[:1],
            loss=Loss("cotangent", g=np.ascontiguousarray(loss.g[:, :1])),  # type: ignore[index]
        )
        (J,) = state_jacobian(row0, N, 0, problem.T)
        back = N.matmul(v, N.transpose(J))
        values = {"dh0": N.columns(back, 0, H).data, "dc0": N.columns(back, H, 2 * H).data}
    return Solution(problem, N, values, truth.solution.unrolled)


PROPERTY = CellStateJacobian()
