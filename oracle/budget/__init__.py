"""The budget: how far any admissible implementation may be from the exact solution, entry by entry.

budget(solution, model) -> Budget      no tolerance is chosen anywhere; docs/budget.md has the theorem
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bptt.losses import row_weights
from bptt.problem import gradient_shapes
from bptt.truncation import Truncation, sweeps
from oracle.budget.backward import BackwardErrors, Seeds, backward_errors
from oracle.budget.forward import forward_errors
from oracle.budget.graph import Floats, Graph, rounded
from oracle.budget.loss import LossErrors, loss_errors, loss_probes
from oracle.budget.model import INFLATE, Model
from oracle.solution import Solution


@dataclass
class Budget:
    """arrays[key]: the bound of each entry, of the array's shape; infinite where no bound could be had.

    scales[key]: for the arrays that are sums, the sum of the absolute values of their terms, before anything cancels
    in the losses' own gradients.
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
    problem = solution.problem
    T, B, H, S = problem.T, problem.B, problem.H, problem.H * len(problem.spec.states)
    solved = solution.known if solution.known is not None else rounded(solution.unrolled)
    graph = solved.graph
    forward = forward_errors(graph, model, loss_probes(solved, graph.S))
    states = forward.states[1:]
    h = graph.places[graph.outputs["h"]].value
    loss = loss_errors(solved, model, h, states, forward.probes)
    seeds = _seeds(solution, graph, model, loss)
    lengths = problem.row_lengths
    passes = sweeps(problem.truncation, lengths, T)
    backward = backward_errors(graph, model, forward, seeds, passes)
    graph.tangents.clear()  # S times as large as the states, and a truth keeps its graph
    arrays: dict[str, Floats] = {"loss": np.array(loss.loss), "o": loss.outputs}
    for i, name in enumerate(problem.spec.states):
        arrays[name] = states[:, :, i * H : (i + 1) * H]
    scales: dict[str, Floats] = {}
    sent = {k: backward.size[k] + model.u * backward.error[k] for k in backward.size}
    together = np.concatenate([size.reshape(-1) for size in sent.values()])
    lost = _lost(float(together.sum()), model, S)
    parameters, largest = _parameters(solution, graph, model, forward.nodes, backward, sent, scales, lost)
    arrays |= parameters
    M, E, Z = backward.initial
    E = E + model.terms(T) * (M + model.u * E) + lost(T) * (M + E > 0)
    for i, name in enumerate(problem.spec.states):
        final = getattr(problem.loss, f"g_{name}_final")  # what a row of length 0 passes through
        passed = 0.0 if final is None else model.read(final.astype(np.float64))[lengths == 0]
        E[lengths == 0, i * H : (i + 1) * H] = passed
        arrays[f"d{name}0"], scales[f"d{name}0"] = E[:, i * H : (i + 1) * H], Z[:, i * H : (i + 1) * H]
    if problem.readout == "linear":
        do, Ddo = np.abs(loss.do), loss.cotangents
        count = int(lengths.sum()) + T + B
        n = model.terms(count)
        computed = do + model.u * Ddo
        flat = (T * B, -1)
        hs, Dh = np.abs(h).reshape(flat), states[:, :, :H].reshape(flat)
        into, rows = computed.reshape(flat), hs + model.u * Dh
        sizes = rows.T @ into
        arrays["dW_hy"] = hs.T @ Ddo.reshape(flat) + Dh.T @ into + n * sizes
        arrays["dW_hy"] += model.lost(count) * nonzero(rows.T, into)
        arrays["db_y"] = (Ddo + n * computed).sum(axis=(0, 1)) + model.lost(count) * (computed.sum(axis=(0, 1)) > 0)
        scales |= {"dW_hy": hs.T @ loss.scale.reshape(flat), "db_y": loss.scale.sum(axis=(0, 1))}
        largest = float(np.max([largest, sizes.max(initial=0.0), into.sum(axis=0).max(initial=0.0)]))
    peak = np.max([largest, backward.peak, M.max(initial=0.0), together.max(initial=0.0)])
    weights = [float(weight) for weight in row_weights(problem) if weight]
    peak = peak / min(weights, default=1.0)  # an implementation may multiply by the weights 1/length, 1/B at the end
    peaks = {"loss": loss.peak, "o": 0.0} | dict.fromkeys(problem.spec.states, 0.0)  # of states and outputs: infinite
    out = {}
    for key, shape in gradient_shapes(problem).items():
        bound = arrays[key].reshape(shape) * (model.u * INFLATE)
        fits = np.isfinite(bound) & (peaks.get(key, peak) < model.overflow)
        out[key] = np.where(fits, bound, np.inf)
    assert S == graph.S
    return Budget(out, scales, forward.kinks, model)


def _lost(sizes: float, model: Model, S: int) -> Callable[[int], float]:
    """n -> what underflow may take from a gradient in n of its own operations, and in the products of a tangent.

    sizes  what all adjoints' computed sizes add up to

    In forward mode it is dz/dtheta of a node z that underflows, and what is lost meets the node's adjoint afterwards:
    it counts as often as all adjoints' sizes add up to, and once at least. A tangent goes through at most S products in
    a linear node, S where it meets dL/ds, and fewer than 16 with slopes, gates and peepholes.
    """
    carried = float(np.maximum(1.0, sizes))  # NaN stays
    return lambda n: model.lost(n + 2 * S + 16) * carried


def nonzero(X: Floats, Y: Floats) -> Floats:
    """Where X Y, both >= 0, has a term that is not zero, whether or not it underflows: there underflow may cost eta."""
    found: Floats = ((X > 0).astype(np.float64) @ (Y > 0).astype(np.float64) > 0).astype(np.float64)
    return found


def additions(truncation: Truncation, lengths: NDArray[np.int64], T: int) -> int:
    """How many terms X_s^T delta_s a parameter's gradient has where each pass adds its own to one running sum.

    A pass goes back from a block of losses: of one step for `window`, k for `chunk`, k1 for `periodic`, all for `full`.

    >>> additions(Truncation("window", k=3), np.array([5, 2]), 5)  # 1 + 2 + 3 + 3 + 3 and 1 + 2
    15
    """
    block = {"window": 1, "chunk": truncation.k, "periodic": truncation.k1}.get(truncation.kind) or T
    ends = [(min(end, n), n) for n in lengths.tolist() for end in range(block, n + block, block)]
    return sum(end - truncation.first(end, n) + 1 for end, n in ends)


def _seeds(solution: Solution, graph: Graph, model: Model, loss: LossErrors) -> Seeds:
    """dL_t/ds_t, its error and scale, (T,B,S): the readout's transpose, and the final cotangents at t = length."""
    problem = solution.problem
    T, B, H = problem.T, problem.B, problem.H
    do, errors = loss.do, loss.cotangents
    seeds, bounds, scales = np.zeros((3, T, B, graph.S))
    place = graph.places[graph.outputs["h"]]
    n = model.terms(place.consumers + 2)
    if problem.readout == "linear":
        W = problem.params["W_hy"].astype(np.float64)
        seeds[:, :, :H] = do @ W.T
        computed, Wt = np.abs(do) + model.u * errors, np.abs(W.T)
        bounds[:, :, :H] = loss.image + loss.local @ Wt + n * (computed @ Wt) + computed @ model.read(Wt)
        bounds[:, :, :H] += model.lost(place.consumers + 2) * nonzero(computed, Wt)
        scales[:, :, :H] = loss.scale @ Wt
    else:
        scales[:, :, :H] = loss.scale
        seeds[:, :, :H], bounds[:, :, :H] = do, errors + n * (np.abs(do) + model.u * errors)
    for i, name in enumerate(problem.spec.states):
        final = getattr(problem.loss, f"g_{name}_final")
        if final is None:
            continue
        part = slice(i * H, (i + 1) * H)
        for b, length in enumerate(problem.row_lengths.tolist()):
            if length:
                seeds[length - 1, b, part] += final[b]
                g = final[b].astype(np.float64)
                bounds[length - 1, b, part] += n * np.abs(g) + model.read(g)
                scales[length - 1, b, part] += np.abs(g)
    return Seeds(seeds, bounds, scales)


def _parameters(
    solution: Solution,
    graph: Graph,
    model: Model,
    D: dict[int, Floats],
    backward: BackwardErrors,
    sent: dict[int, Floats],
    scales: dict[str, Floats],
    lost: Callable[[int], float],
) -> tuple[dict[str, Floats], float]:
    """Sums over time and batch: A = |X|^T E + D_X^T M^, and the rounding of N terms of size |X^|^T M^, nested or flat.

    The terms are those of all passes, or sums over the losses t of the double sum's terms within sums over (s, b).
    sent[k] is M^ of place k. Beside the bounds, the largest size; the scales are entered where they belong.
    """
    problem = solution.problem
    T, B = problem.T, problem.B
    count = additions(problem.truncation, problem.row_lengths, T)
    taken = lost(count + T + B)
    found: dict[int, Floats] = {}
    terms_of: dict[int, Floats] = {}
    dx = np.zeros((T, B, problem.D))
    live = graph.active[:, :, None]
    largest = 0.0

    def give(i: int, value: Floats, size: Floats, terms: Floats) -> None:
        nonlocal largest
        largest = float(np.maximum(largest, size.max(initial=0.0)))  # NaN stays: then nothing is bounded
        found[i] = found[i] + value if i in found else value
        terms_of[i] = terms_of[i] + terms if i in terms_of else terms

    def rows(i: int) -> tuple[Floats, Floats]:
        place = graph.places[i]
        flat = (T * B, -1)
        return (place.magnitude * live).reshape(flat), (D[i] * live).reshape(flat)

    for k, place in enumerate(graph.places):
        if place.op not in ("linear", "mul") or place.constant:
            continue
        E, Z, computed = (of[k].reshape(T * B, -1) for of in (backward.error, backward.scale, sent))
        if place.op == "mul":
            for this, other in (place.inputs, place.inputs[::-1]):
                if graph.places[this].constant:
                    X, DX = rows(other)
                    bound = (X * E + DX * computed).sum(axis=0)
                    rounded, total = ((X + model.u * DX) * computed).sum(axis=0), backward.total(k, this)[0]
                    bound += model.nested((count + 1, T + B), rounded, total + model.u * bound)
                    give(this, bound + taken * (computed.sum(axis=0) > 0), rounded, (X * Z).sum(axis=0))
            continue
        for i in range(place.products):
            X_at, W_at = place.inputs[2 * i], place.inputs[2 * i + 1]
            X, DX = rows(X_at)
            rounded = X + model.u * DX
            bound = X.T @ E + DX.T @ computed
            total = backward.total(k, W_at) + model.u * bound
            sizes = rounded.T @ computed
            bound += model.nested((count, T + B), sizes, total) + taken * nonzero(rounded.T, computed)
            give(W_at, bound, sizes, X.T @ Z)
            if graph.places[X_at].name == "x":
                Wt = graph.places[W_at].magnitude.T
                width = graph.places[X_at].consumers
                error = E @ Wt
                total = backward.inputs[k].reshape(T * B, -1) + model.u * error
                dx += (error + model.nested((width, T), computed @ Wt, total)).reshape(T, B, -1)
                dx += (lost(width + T) * nonzero(computed, Wt)).reshape(T, B, -1)
                scales["dx"] = scales.get("dx", 0.0) + (Z @ Wt).reshape(T, B, -1)
                if model.flush:
                    dx += (computed @ model.read(Wt)).reshape(T, B, -1)
        for i in place.inputs[2 * place.products :]:
            if graph.places[i].constant:
                bound, rounded = E.sum(axis=0), computed.sum(axis=0)
                bound = bound + model.nested((count, T + B), rounded, backward.total(k, i)[0] + model.u * bound)
                give(i, bound + taken * (rounded > 0), rounded, Z.sum(axis=0))
    for block, source, (start, stop) in graph.prelude:
        if block in found:
            whole, terms = np.zeros((2, *graph.places[source].value.shape))
            whole[..., start:stop], terms[..., start:stop] = found[block], terms_of[block]
            give(source, whole, np.zeros(1), terms)
    out = {}
    for i, place in enumerate(graph.places):
        if place.op == "leaf" and place.constant and place.name not in ("W_hy", "b_y"):
            out[f"d{place.name}"] = found.get(i, np.zeros(place.value.shape))
            scales[f"d{place.name}"] = terms_of.get(i, np.zeros(place.value.shape))
    out["dx"] = np.where(live, dx, 0.0)
    return out, largest


__all__ = ["Budget", "Model", "budget"]
