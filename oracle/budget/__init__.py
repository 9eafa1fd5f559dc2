"""The budget: how far any admissible implementation may be from the exact solution, entry by entry.

    budget(solution, model) -> Budget      no tolerance is chosen anywhere; docs/budget.md has the theorem
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bptt.problem import gradient_shapes
from bptt.truncation import sweeps
from oracle.budget.backward import backward_errors
from oracle.budget.forward import forward_errors
from oracle.budget.graph import Floats, Graph, build_graph
from oracle.budget.loss import loss_errors
from oracle.budget.model import Model
from oracle.solution import Solution

INFLATE = 1 + 2.0**-20
"""The bounds themselves are computed in float64 from terms that are all >= 0: at most 2^26 roundings of 2^-53 each."""


@dataclass
class Budget:
    """arrays[key]: the bound of each entry, of the array's shape; infinite where no bound could be had.

    scales[key]: for the arrays that are sums, the sum of the absolute values of their terms.
    kinks: relu units whose exact argument is within its error of 0, so that either branch is admissible.
    """

    arrays: dict[str, Floats]
    scales: dict[str, Floats]
    kinks: int
    model: Model


def budget(solution: Solution, model: Model) -> Budget:
    """Bound the error of every value of a solution, for any admissible implementation in the model's arithmetic.

    Error:  the bounds hold; they are not tight (docs/budget.md has measurements of both).
    """
    with np.errstate(all="ignore"):
        return _budget(solution, model)


def _budget(solution: Solution, model: Model) -> Budget:
    unrolled, problem = solution.unrolled, solution.problem
    T, B, H, S = problem.T, problem.B, problem.H, problem.H * len(problem.spec.states)
    graph = build_graph(unrolled)
    forward = forward_errors(graph, model)
    states = forward.states[1:]
    h = graph.places[graph.outputs["h"]].value
    loss = loss_errors(unrolled, model, h, states[:, :, :H])
    seeds, seed_errors = _seeds(solution, graph, model, loss.do, loss.cotangents)
    lengths = problem.row_lengths
    passes = sweeps(problem.truncation, lengths, T)
    backward = backward_errors(graph, model, forward, seeds, seed_errors, passes)
    arrays: dict[str, Floats] = {"loss": np.array(loss.loss), "o": loss.outputs}
    for i, name in enumerate(problem.spec.states):
        arrays[name] = states[:, :, i * H : (i + 1) * H]
        final = getattr(problem.loss, f"g_{name}_final")
        if final is not None:
            g, last = np.abs(final.astype(np.float64)), solution.near(name)[0][-1]
            D = arrays[name][-1]
            arrays["loss"] = arrays["loss"] + (g * D).sum() + model.terms(T * B * problem.K + B * H) * (g * (np.abs(last) + model.u * D)).sum()
    scales: dict[str, Floats] = {}
    arrays |= _parameters(solution, graph, model, forward.nodes, backward.size, backward.error, scales)
    M, E = backward.initial
    E = E + model.terms(T) * (M + model.u * E + model.eta * (M + E > 0))
    E[lengths == 0] = 0.0
    for i, name in enumerate(problem.spec.states):
        arrays[f"d{name}0"], scales[f"d{name}0"] = E[:, i * H : (i + 1) * H], M[:, i * H : (i + 1) * H]
    if problem.readout == "linear":
        do, Ddo = np.abs(loss.do), loss.cotangents
        n = model.terms(T * B + T + B)
        computed = do + model.u * Ddo
        flat = (T * B, -1)
        hs, Dh = np.abs(h).reshape(flat), states[:, :, :H].reshape(flat)
        sent, rows = computed.reshape(flat), hs + model.u * Dh
        arrays["dW_hy"] = hs.T @ Ddo.reshape(flat) + Dh.T @ sent + n * (rows.T @ sent + model.eta * nonzero(rows.T, sent))
        arrays["db_y"] = (Ddo + n * computed + n * model.eta * (computed > 0)).sum(axis=(0, 1))
        scales |= {"dW_hy": hs.T @ do.reshape(flat), "db_y": do.sum(axis=(0, 1))}
    peak = max(forward.peak, loss.peak, backward.peak, float(np.abs(arrays["loss"])))
    peak = max([peak, *(float(np.max(sums, initial=0.0)) for sums in (*scales.values(), *backward.size.values()))])
    shapes = gradient_shapes(problem)
    fits = peak < model.overflow
    out = {}
    for key, shape in shapes.items():
        bound = arrays[key].reshape(shape)
        bound = bound * (model.u * INFLATE)
        out[key] = np.where(np.isfinite(bound), bound, np.inf) if fits else np.full(shape, np.inf)
    assert S == graph.S
    return Budget(out, scales, forward.kinks, model)


def nonzero(X: Floats, Y: Floats) -> Floats:
    """Where X Y, both >= 0, has a term that is not zero, whether or not it underflows: there underflow may cost eta."""
    found: Floats = ((X > 0).astype(np.float64) @ (Y > 0).astype(np.float64) > 0).astype(np.float64)
    return found


def _seeds(solution: Solution, graph: Graph, model: Model, do: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """dL_t/ds_t and its error, (T,B,S): the readout's transpose, and the final cotangents at t = length."""
    problem = solution.problem
    T, B, H = problem.T, problem.B, problem.H
    seeds = np.zeros((T, B, graph.S))
    bounds = np.zeros_like(seeds)
    place = graph.places[graph.outputs["h"]]
    n = model.terms(place.consumers + 2)
    if problem.readout == "linear":
        W = problem.params["W_hy"].astype(np.float64)
        seeds[:, :, :H] = do @ W.T
        size = (np.abs(do) + model.u * errors) @ np.abs(W.T)
        bounds[:, :, :H] = errors @ np.abs(W.T) + n * size + n * model.eta
    else:
        seeds[:, :, :H], bounds[:, :, :H] = do, errors + n * (np.abs(do) + model.u * errors)
    for i, name in enumerate(problem.spec.states):
        final = getattr(problem.loss, f"g_{name}_final")
        if final is None:
            continue
        part = slice(i * H, (i + 1) * H)
        for b, length in enumerate(problem.row_lengths.tolist()):
            if length:
                seeds[length - 1, b, part] += final[b]
                bounds[length - 1, b, part] += n * np.abs(final[b].astype(np.float64))
    return seeds, bounds


def _parameters(
    solution: Solution,
    graph: Graph,
    model: Model,
    D: dict[int, Floats],
    size: dict[int, Floats],
    error: dict[int, Floats],
    scales: dict[str, Floats],
) -> dict[str, Floats]:
    """Sums over time and batch: |X|^T E + D_X^T M^ + n |X^|^T M^, n terms in any order, nested or flat over (t, b)."""
    problem = solution.problem
    T, B = problem.T, problem.B
    n = model.terms(T * B + T + B)
    found: dict[int, Floats] = {}
    terms_of: dict[int, Floats] = {}
    dx = np.zeros((T, B, problem.D))
    live = graph.active[:, :, None]

    def give(i: int, value: Floats, terms: Floats) -> None:
        found[i] = found[i] + value if i in found else value
        terms_of[i] = terms_of[i] + terms if i in terms_of else terms

    def rows(i: int) -> tuple[Floats, Floats]:
        place = graph.places[i]
        flat = (T * B, -1)
        return (place.magnitude * live).reshape(flat), (D[i] * live).reshape(flat)

    for k, place in enumerate(graph.places):
        if place.op not in ("linear", "mul") or place.constant:
            continue
        M, E = size[k].reshape(T * B, -1), error[k].reshape(T * B, -1)
        computed = M + model.u * E
        if place.op == "mul":
            for this, other in (place.inputs, place.inputs[::-1]):
                if graph.places[this].constant:
                    X, DX = rows(other)
                    bound = X * E + DX * computed + (n + 1) * (X + model.u * DX) * computed
                    give(this, (bound + n * model.eta * (computed > 0)).sum(axis=0), (X * M).sum(axis=0))
            continue
        for i in range(place.products):
            X_at, W_at = place.inputs[2 * i], place.inputs[2 * i + 1]
            X, DX = rows(X_at)
            rounded = X + model.u * DX
            bound = X.T @ E + DX.T @ computed + n * (rounded.T @ computed + model.eta * nonzero(rounded.T, computed))
            give(W_at, bound, X.T @ M)
            if graph.places[X_at].name == "x":
                Wt = graph.places[W_at].magnitude.T
                width = model.terms(graph.places[X_at].consumers + T)
                dx += (E @ Wt + width * (computed @ Wt + model.eta * nonzero(computed, Wt))).reshape(T, B, -1)
                scales["dx"] = scales.get("dx", 0.0) + (M @ Wt).reshape(T, B, -1)
                if model.flush:
                    dx += model.eta * computed.sum(axis=-1).reshape(T, B, 1)
        for i in place.inputs[2 * place.products :]:
            if graph.places[i].constant:
                give(i, (E + n * computed + n * model.eta * (computed > 0)).sum(axis=0), M.sum(axis=0))
    for block, source, (start, stop) in graph.prelude:
        if block in found:
            whole, terms = np.zeros((2, *graph.places[source].value.shape))
            whole[..., start:stop], terms[..., start:stop] = found[block], terms_of[block]
            give(source, whole, terms)
    out = {}
    for i, place in enumerate(graph.places):
        if place.op == "leaf" and place.constant and place.name not in ("W_hy", "b_y"):
            out[f"d{place.name}"] = found.get(i, np.zeros(place.value.shape))
            scales[f"d{place.name}"] = terms_of.get(i, np.zeros(place.value.shape))
    out["dx"] = np.where(live, dx, 0.0)
    return out


__all__ = ["Budget", "Model", "budget"]
