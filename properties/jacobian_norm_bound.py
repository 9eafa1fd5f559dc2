"""jacobian-norm-bound: the Jacobian over n steps is at most (gamma_W gamma_h)^n in spectral norm.

    || dh_t/dh_k ||_2 <= (gamma_W gamma_h)^(t-k)       gamma_W = ||W_hh||_2, gamma_h = sup |phi'|

gamma_W is the largest singular value (a largest eigenvalue is not enough: W may not be normal), bounded from above by
the oracle in balls. The Jacobian is the target's own, read from outside: with h0 := h_k in each of H rows, the same
inputs in all of them, and the cotangent e_i on the last state of row i, dh0 holds row i of dh_t/dh_k.
Only the bound is judged: the target's matrix may exceed it by the norm of its budget.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from oracle.jacobian import spectral_norm_bounds
from oracle.truth import norm
from properties.base import Bench, Case, Comparison, Judgement, Property, Term
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape, to_dtype

GAMMA_H = {"tanh": 1.0, "relu": 1.0, "identity": 1.0, "sigmoid": 0.25}
UPWARDS = 1 + 2.0**-40
"""Covers the float64 roundings of the bound's own power and of the singular vectors' product."""


class JacobianNormBound(Property):
    """The bound for the Elman cell with any of its activations."""

    id = "jacobian-norm-bound"
    statement = "The spectral norm of dh_t/dh_k is at most (||W_hh||_2 sup|phi'|)^(t-k)."
    source = "Pascanu, Mikolov and Bengio (2013), with the exponent t-k for h_t and singular values for W_hh."
    needs = "the loss cotangent, truncation full, and final cotangents or the readout none"

    def concerns(self, cell: str) -> bool:
        return cell == "elman"

    def unsupported(self, support: Support, cell: str) -> str | None:
        possible = (
            "cotangent" in support.losses
            and "full" in support.truncations
            and (support.final_cotangents or "none" in support.readouts)
            and (support.outputs is None or "dh0" in support.outputs)
        )
        return None if possible else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        readouts = ("none",) if "none" in support.readouts else ("linear",)
        shape = replace_shape(
            offered(support, cell),
            readouts=readouts,
            losses=("cotangent",),
            truncations=("full",),
            lengths=False,
            h0_none=False,
            finals=False,
            largest=(12, 1, 4, min(6, support.max_size.get("B", 6)), 3),
            edges=False,
        )

        def build(draw: Draw) -> Case:
            return Case(probe(draw_problem(draw, shape, support, cell, dtype)))

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        assert problem.activation is not None
        got = np.asarray(bench.run(problem).get("dh0", np.zeros((0, 0))), dtype=np.float64)
        if got.size == 0:
            return Judgement(())
        truth = bench.truth(problem)
        _, gamma = spectral_norm_bounds(problem.params["W_hh"])
        with np.errstate(all="ignore"):
            bound = float(np.float64(gamma * GAMMA_H[problem.activation]) ** problem.T) * UPWARDS
            slack = norm(truth.allowed("dh0")) * UPWARDS
        allowed = bound + slack
        left, size, right = _top(got)
        ratio = size / allowed if allowed else (0.0 if size == 0 else np.inf)
        terms = tuple(
            Term(float(left[i] * right[j]), problem, "dh0", (i, j))
            for i in range(got.shape[0])
            for j in range(got.shape[1])
        )
        small = slack <= 2.0**-8 * bound or bound == 0.0
        return Judgement(
            (Comparison("dh0", (), size, 0.0, size, allowed, float(ratio), small, terms, f"bound {bound!r}"),)
        )


def probe(problem: Problem) -> Problem:
    """H rows of one sequence, row i with the cotangent e_i on the last state."""
    H = problem.H
    eye = to_dtype(np.eye(H), problem.dtype)
    g = np.zeros((problem.T, H, problem.K), dtype=eye.dtype)
    finals = {}
    if problem.readout == "none":
        g[-1] = eye
    else:
        finals["g_h_final"] = eye
    assert problem.h0 is not None
    return replace(
        problem,
        x=np.repeat(problem.x[:, :1], H, axis=1),
        h0=np.repeat(problem.h0[:1], H, axis=0),
        loss=Loss("cotangent", g=g, **finals),  # type: ignore[arg-type]
        truncation=Truncation("full"),
    )


def _top(matrix: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Unit vectors l, r and the number l M r: a lower bound of the spectral norm, whatever l and r are."""
    if not np.isfinite(matrix).all():
        return np.zeros(matrix.shape[0]), float("nan"), np.zeros(matrix.shape[1])
    left, _, right = np.linalg.svd(matrix)
    l, r = left[:, 0], right[0]  # noqa: E741
    value = float(l @ matrix @ r) / (float(np.linalg.norm(l)) * float(np.linalg.norm(r)) * UPWARDS)
    return l, value, r


PROPERTY = JacobianNormBound()
