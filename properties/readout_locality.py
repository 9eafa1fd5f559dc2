"""readout-locality: the gradients of the readout come from each step's own state and loss, and from nothing else.

    dL_t/dW_hy = h_t^T dL_t/do_t        dL_t/db_y = dL_t/do_t

    states      dW_hy is the sum over t of these products, with the h_t that the target returns itself
    alone       with the loss on step t alone, dW_hy and db_y are those of step t run alone from the state before it;
                a cotangent on the final state adds nothing to them
    truncation  no truncation changes them: they know no mask

The state before step t is the exact one, rounded to the dtype.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import KINDS, Truncation
from oracle.truth import CONCLUSIVE, norm
from properties.base import Bench, Case, Judgement, Property, Term
from properties.compare import Part, against_truth, of_sums, worst_entry
from properties.jacobian_norm_bound import UPWARDS
from properties.pieces import claims, exact_states, padding, take
from properties.recipe import Draw, Recipe
from properties.strategies import Array, draw_problem, offered, replace_shape

FORMS = ("states", "alone", "truncation")
KEYS = ("dW_hy", "db_y")


class ReadoutLocality(Property):
    """Three forms, drawn in turn; `t` is the step with a loss, `to` and `k` the other truncation."""

    id = "readout-locality"
    statement = "The gradient of L_t in W_hy depends on step t alone."
    source = "o_t = h_t W_hy + b_y: the readout's parameters enter at step t by o_t alone, with h_t given."
    needs = "the readout linear with dW_hy or db_y, and the loss cotangent or two truncations"

    def unsupported(self, support: Support, cell: str) -> str | None:
        possible = "linear" in support.readouts and claims(support, KEYS) and self._forms(support, cell)
        return None if possible else f"needs {self.needs}"

    @staticmethod
    def _forms(support: Support, cell: str) -> list[str]:
        cotangent = "cotangent" in support.losses
        possible = (cotangent and claims(support, ("h",)), cotangent, len(offered(support, cell).truncations) > 1)
        return [form for form, there in zip(FORMS, possible, strict=True) if there]

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        base = offered(support, cell)
        base = replace_shape(base, readouts=("linear",), largest=(10, 3, 4, 4, 4), edges=False, calm=True)
        forms = self._forms(support, cell)

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            shape = replace_shape(base, losses=("cotangent",)) if form != "truncation" else base
            problem = draw_problem(draw, shape, support, cell, dtype)
            t = 1 + draw.integer(0, 9) % max(1, int(problem.row_lengths.max()))
            others = [kind for kind in base.truncations if kind != problem.truncation.kind]
            to, k = draw.of(others or ["full"]), 1 + draw.integer(0, 9) % max(1, problem.T - 1)
            if form == "alone":
                return Case(with_loss_at(problem, t), {"form": 1, "t": t})
            return Case(problem, {"form": 0} if form == "states" else {"form": 2, "to": KINDS.index(to), "k": k})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, form = case.problem, FORMS[case.parameters["form"]]
        if form == "states":
            return of_own_states(problem, bench)
        if form == "alone":
            other = step_alone(problem, case.parameters["t"], bench)
        else:
            kind, k = KINDS[case.parameters["to"]], case.parameters["k"]
            blocks = {"window": {"k": k}, "chunk": {"k": k}, "periodic": {"k1": k, "k2": k + 1}}
            other = replace(problem, truncation=Truncation(kind, **blocks.get(kind, {})))
        return of_sums(bench, [Part(+1, problem), Part(-1, other)], KEYS)


def of_own_states(problem: Problem, bench: Bench) -> Judgement:
    """dW_hy less the sum of h_t^T g_t, of the target's own h: at most its budget, those of h times |g|, and rounding.

    The sum here is in float64: of n products and one difference it errs by less than 2 (n + 1) u times their sizes.
    """
    answer, truth = bench.run(problem), bench.truth(problem)
    if not {"h", "dW_hy"} <= set(answer):
        return Judgement(())
    assert problem.loss.g is not None
    live, g = ~padding(problem)[:, :, None], problem.loss.g.astype(np.float64)
    if not np.isfinite(np.where(live, answer["h"], 0.0)).all():  # nothing follows for dW_hy: it is h that is wrong
        return against_truth(problem, {"h": answer["h"]}, truth)

    def product(h: Array) -> Array:
        return np.asarray(np.einsum("tbh,tbk->hk", np.where(live, h, 0.0), np.abs(g)))

    with np.errstate(all="ignore"):
        error = answer["dW_hy"] - np.einsum("tbh,tbk->hk", np.where(live, answer["h"], 0.0), g)
    exact, budget = truth.solution.near("dW_hy")[0], truth.allowed("dW_hy")
    size = np.abs(exact) + budget + product(np.abs(truth.solution.near("h")[0]) + truth.allowed("h"))
    allowed = budget + product(truth.allowed("h")) * UPWARDS + 2 * (live.sum() + 1) * 2.0**-53 * size
    small = norm(allowed) <= CONCLUSIVE[problem.dtype] * norm(exact)
    small = small or (norm(exact) == 0 and truth.conclusive("dW_hy"))
    everywhere = np.ones(error.shape, dtype=np.bool_)
    found, (i, k) = worst_entry("dW_hy", error, np.zeros(error.shape), np.abs(error), allowed, small, everywhere)
    terms = [Term(-float(g[t, b, k]), problem, "h", (int(t), int(b), i)) for t, b, _ in np.argwhere(live)]
    return Judgement((replace(found, terms=(Term(1.0, problem, "dW_hy", (i, k)), *terms)),))


def with_loss_at(problem: Problem, t: int) -> Problem:
    """The problem without the cotangents on other steps; a step that had none gets the last one's."""
    assert problem.loss.g is not None
    g = np.zeros_like(problem.loss.g)
    g[t - 1] = problem.loss.g[t - 1] if problem.loss.g[t - 1].any() else problem.loss.g[-1]
    return replace(problem, loss=replace(problem.loss, g=g))


def step_alone(problem: Problem, t: int, bench: Bench) -> Problem:
    """Step t as a problem of its own, without cotangents on the final state."""
    state = exact_states(problem, bench, t - 1)
    return replace(
        problem,
        x=take(problem.x, [t - 1], 0),
        h0=state["h"],
        c0=state.get("c"),
        lengths=None if problem.lengths is None else (problem.lengths >= t).astype(np.int64),
        loss=Loss("cotangent", g=take(problem.loss.g, [t - 1], 0)),
    )


PROPERTY = ReadoutLocality()
