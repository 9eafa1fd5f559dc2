"""truncation-nesting: each window adds one diagonal of the double sum to the one before, and the rest is a tail.

diagonal  dtheta[window(k+1)] - dtheta[window(k)] = sum_t (dL_t/ds_t) (ds_t/ds_{t-k}) (d+s_{t-k}/dtheta)
tail      || dtheta[full] - dtheta[window(k)] ||_F <= sum_t ||dL_t/dh_t|| gamma_h sum_{j>=k} gamma^j c_{t-j}

with gamma = ||W_hh||_2 sup |phi'|, gamma_h = sup |phi'|, and for each row of the batch (the rows' tails add up)

    c_s = ||h_{s-1}|| for W_hh    ||x_s|| for W_xh    1 for b_h    ||W_xh||_2 for x    ||W_hh||_2 [s = 1] for h0

Derivation of the tail: ours, from the bound on the Jacobians: delta_s = (dL_t/dh_t) (dh_t/dh_s) diag(phi'(a_s)) is at
most ||dL_t/dh_t|| gamma^(t-s) gamma_h, and the immediate partials are outer products with h_{s-1}, x_s and 1, or
products with W_xh^T and W_hh^T. It is for the Elman cell alone: the gates of the others leave no closed bound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem, gradient_shapes
from bptt.support import Support
from bptt.truncation import Truncation
from oracle.jacobian import spectral_norm_bounds
from oracle.numbers import Matrix
from oracle.solution import Solution, scope
from oracle.truth import CONCLUSIVE, norm
from oracle.unrolled import Unrolled
from properties.base import Bench, Case, Comparison, Judgement, Property, Term
from properties.compare import Floats, exact_sum, worst_entry
from properties.jacobian_norm_bound import GAMMA_H, UPWARDS
from properties.pieces import every_gradient
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape

FORMS = ("diagonal", "tail")


class TruncationNesting(Property):
    """Two forms, drawn in turn: every cell's diagonals, and the tail of the Elman cell."""

    id = "truncation-nesting"
    statement = (
        "What window(k+1) adds to window(k) is the k-th diagonal of the double sum; "
        "the difference of full and window(k) is within a geometric tail."
    )
    source = "The masks of the double sum; for the tail, the Jacobian bound of Pascanu, Mikolov and Bengio (2013)."
    needs = "truncation window"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if "window" in support.truncations else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(
            offered(support, cell), truncations=("window",), largest=(10, 3, 4, 4, 4), edges=False, calm=True
        )
        forms = FORMS if cell == "elman" and "full" in support.truncations else FORMS[:1]

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            problem = draw_problem(draw, shape, support, cell, dtype)
            k = min(draw.integer(1, 4), problem.T)
            return Case(replace(problem, truncation=Truncation("window", k=k)), {"form": FORMS.index(form)})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, k = case.problem, case.problem.truncation.k
        assert k is not None
        if FORMS[case.parameters["form"]] == "tail":
            return tail(problem, replace(problem, truncation=Truncation("full")), k, bench)
        return diagonal(problem, replace(problem, truncation=Truncation("window", k=k + 1)), k, bench)


def diagonal(problem: Problem, wider: Problem, k: int, bench: Bench) -> Judgement:
    """The difference of the two windows against the k-th diagonal, term by term from the local Jacobians."""
    runs, truths = [bench.run(p) for p in (wider, problem)], [bench.truth(p) for p in (wider, problem)]
    solution = truths[0].solution
    with scope(solution.N):
        terms = diagonal_terms(solution.unrolled, k)
    wanted = Solution(problem, solution.N, {key: matrix.data for key, matrix in terms.items()}, solution.unrolled)
    out = []
    for key in every_gradient(problem):
        if not all(key in run for run in runs):
            continue
        ones = np.ones(runs[0][key].shape, dtype=np.int64)
        got = exact_sum([(ones, runs[0][key]), (-ones, runs[1][key])])
        hi, lo, radius = wanted.near(key)
        with np.errstate(all="ignore"):
            error = np.abs((got - hi) - lo)
        allowed = truths[0].allowed(key) + truths[1].allowed(key) + radius + np.abs(got) * 2.0**-52
        small = norm(allowed) <= CONCLUSIVE[problem.dtype] * norm(solution.near(key)[0]) < np.inf or all(
            truth.conclusive(key) for truth in truths
        )
        found, where = worst_entry(key, got, hi, error, allowed, small, np.ones(got.shape, dtype=np.bool_))
        out.append(replace(found, terms=(Term(1.0, wider, key, where), Term(-1.0, problem, key, where))))
    return Judgement(tuple(out))


def diagonal_terms(u: Unrolled, k: int) -> dict[str, Matrix]:
    """Every gradient's terms with t - s = k, by the local Jacobians; call it within the scope of the unrolled numbers.

    Shapes: as `oracle.reverse.reverse_gradients`. The readout's gradients know no mask: theirs is zero.
    """
    problem, N = u.problem, u.N
    B, D, H, T, states = problem.B, problem.D, problem.H, problem.T, problem.spec.states
    params = {name: leaf.value for name, leaf in u.leaves.items()}
    out = {f"d{name}": N.zeros(value.rows, value.cols) for name, value in params.items()}
    out |= {"dx": N.zeros(T * B, D)} | {f"d{name}0": N.zeros(B, H) for name in states}

    def add(key: str, offset: int, values: list[Any]) -> None:
        for j, value in enumerate(values):
            out[key].data[offset + j] = out[key].data[offset + j] + value

    for b, length in enumerate(problem.row_lengths.tolist()):
        local = []
        for s in range(1, length + 1):
            before = {name: Matrix(1, H, u.states[name][s - 1].row(b)) for name in states}
            x_s = N.decode(problem.x[s - 1, b][None])
            local.append(problem.spec.local(N, params, x_s, before, problem.activation, False))
        for t in range(k + 1, length + 1):
            v = cotangent_of_state(u, b, t)
            for s in range(t, t - k, -1):
                v = N.matmul(v, N.transpose(local[s - 1][0]))
            s = t - k
            for name, part in local[s - 1][1](v).items():
                add(f"d{name}", ((s - 1) * B + b) * D if name == "x" else 0, part.data)
            if s == 1:
                v = N.matmul(v, N.transpose(local[0][0]))
                for i, name in enumerate(states):
                    add(f"d{name}0", b * H, v.data[i * H : (i + 1) * H])
    return out


def cotangent_of_state(u: Unrolled, b: int, t: int) -> Matrix:
    """dL_t/ds_t of one row, (1,S): the loss of step t, with the final cotangents where t is the row's last."""
    problem, N, H = u.problem, u.N, u.problem.H
    v = Matrix(1, problem.K, u.cotangents.row((t - 1) * problem.B + b))
    if problem.readout == "linear":
        v = N.matmul(v, N.transpose(u.leaves["W_hy"].value))
    parts = {name: [N.scalar(0)] * H for name in problem.spec.states} | {"h": list(v.data)}
    for name, final in u.final_cotangents.items():
        if final is not None and t == problem.row_lengths[b]:
            parts[name] = [a + g for a, g in zip(parts[name], final.row(b), strict=True)]
    return Matrix(1, H * len(parts), [value for name in problem.spec.states for value in parts[name]])


def tail(problem: Problem, full: Problem, k: int, bench: Bench) -> Judgement:
    """The norm of the difference of full and window(k) against the tail, and the norms of both budgets."""
    runs, truths = [bench.run(p) for p in (full, problem)], [bench.truth(p) for p in (full, problem)]
    out = []
    for key, bound in tails(truths[0].solution, k).items():
        if not all(key in run for run in runs):
            continue
        slack = (norm(truths[0].allowed(key)) + norm(truths[1].allowed(key))) * UPWARDS
        with np.errstate(all="ignore"):
            rest = runs[0][key].astype(np.float64) - runs[1][key].astype(np.float64)
        size = norm(rest) if np.isfinite(rest).all() else np.nan
        direction = rest / size if size > 0 else np.zeros(rest.shape)
        allowed = bound + slack + norm(runs[0][key]) * 2.0**-50  # the last for the difference, rounded
        ratio = size / allowed if allowed else (0.0 if size == 0 else np.inf)
        terms = [
            Term(sign * float(direction[where]), p, key, where)
            for sign, p in ((1.0, full), (-1.0, problem))
            for where in np.ndindex(direction.shape)
        ]
        small = slack <= CONCLUSIVE[problem.dtype] * max(bound, norm(truths[0].solution.near(key)[0]))
        out.append(Comparison(key, (), size, 0.0, size, allowed, float(ratio), small, tuple(terms), f"tail {bound!r}"))
    return Judgement(tuple(out))


def tails(solution: Solution, k: int) -> dict[str, float]:
    """The bound on || full - window(k) ||_F of each gradient of an Elman network, from its exact states and losses."""
    problem, u = solution.problem, solution.unrolled
    assert problem.activation is not None
    gamma_h, (_, W_hh), (_, W_xh) = (
        GAMMA_H[problem.activation],
        spectral_norm_bounds(problem.params["W_hh"]),
        spectral_norm_bounds(problem.params["W_xh"]),
    )
    out = dict.fromkeys((key for key in gradient_shapes(problem) if key in COEFFICIENTS), 0.0)
    with scope(solution.N):
        for b, length in enumerate(problem.row_lengths.tolist()):
            before = [norm(floats(u.states["h"][s].row(b))) for s in range(length)]
            sent = [norm(floats(cotangent_of_state(u, b, t).data)) for t in range(1, length + 1)]
            for t in range(k + 1, length + 1):
                for s in range(1, t - k + 1):
                    delta = sent[t - 1] * float(np.float64(W_hh * gamma_h) ** (t - s)) * gamma_h
                    sizes = (before[s - 1], norm(problem.x[s - 1, b].astype(np.float64)), 1.0, W_xh, W_hh * (s == 1))
                    for key, size in zip(COEFFICIENTS, sizes, strict=True):
                        out[key] += delta * size
    return {key: bound * UPWARDS + TINY for key, bound in out.items()}


COEFFICIENTS = ("dW_hh", "dW_xh", "db_h", "dx", "dh0")
TINY = float(np.finfo(np.float64).tiny)
"""Covers what underflows in a bound's own arithmetic."""


def floats(values: list[Any]) -> Floats:
    """Absolute values, rounded or bounded from above: the norm is at most UPWARDS too small."""
    return np.array([float(abs(value).upper() if hasattr(value, "upper") else abs(value)) for value in values])


PROPERTY = TruncationNesting()
