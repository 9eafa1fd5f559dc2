"""Errors of the backward pass: how far any admissible adjoint, and so any gradient, may be from the exact one.

Let v(t,r) = (dL_t/ds_t) P(r<-t) be the adjoint at state r of the loss at t alone. An implementation may add these up
before it multiplies (reverse mode), after (the double sum), or carry ds_r/dtheta forwards (forward mode); a rounding at
step r of any of them costs at most n u sum_t m(t,r) |v(t,r)| times what lies below. So the bounds are built on

    M_r = sum_t m(t,r) |v(t,r)|                                                              (1)

which every one of them obeys. The error E_r >= sum_t m(t,r) |computed v - exact v| satisfies (1) of transport with
local errors w: those of the cotangent at r, and those that step r+1 leaves at its state,

    E_r = sum_{q >= r} w_q |P(r->q)|                                                          (2)

Within a step, for z = f(y), with dz the adjoint, M^ = M + E its computed size and D the forward error (4):

    E_y = |f'| E_z + M^_z |computed f' - f'| + rounding      q_y = |f'| q_z + the rest likewise        (3)

q is the part that is not the linear image of the incoming error; w_{r-1} is q at the state. Derivation: ours; in
docs/budget.md with the constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bptt.truncation import Truncation
from oracle.budget.forward import ForwardErrors, conversion
from oracle.budget.graph import ACTIVATIONS, Floats, Graph
from oracle.budget.model import Model
from oracle.budget.transport import ROUND, Transport, step_jacobians

Bound = tuple[Floats, Floats, Floats]  # M, E, q


@dataclass
class BackwardErrors:
    """For each place the size M and the error E of its adjoint, (T,B,n); `initial` is M and E at state 0, (B,S)."""

    size: dict[int, Floats]
    error: dict[int, Floats]
    initial: tuple[Floats, Floats]
    peak: float


def reach(truncation: Truncation, lengths: NDArray[np.int64], T: int) -> NDArray[np.bool_]:
    """m(t,r) as (T+1,T,B): entry [r,t-1,b]; row r = 0 is that of s = 1."""
    out = np.zeros((T + 1, T, len(lengths)), dtype=np.bool_)
    for b, length in enumerate(lengths.tolist()):
        for t in range(1, length + 1):
            first = truncation.first(t, length)
            out[first : t + 1, t - 1, b] = True
            out[0, t - 1, b] = first == 1
    return out


def backward_errors(
    graph: Graph, model: Model, forward: ForwardErrors, seeds: Floats, seed_errors: Floats, mask: NDArray[np.bool_]
) -> BackwardErrors:
    """Bounds on every adjoint. Shapes: seeds (T,B,S) signed dL_t/ds_t; seed_errors (T,B,S), in units of u; mask as `reach`."""
    T, B = graph.active.shape
    S = graph.S
    J, J_abs = step_jacobians(graph, adjoint=True)
    Jt = np.ascontiguousarray(J.swapaxes(-1, -2))
    kappa = conversion(graph)
    pass_ = _Backward(graph, model, forward)
    errors, each = Transport(T, B, S), np.zeros((B, T, S))  # each[b,t]: v(t,r) for the r at hand
    sources = np.zeros((B, T + 1, 2, S))  # [0] local errors w; [1] what float64 did to the sizes
    farthest = np.array([[max((t + 1 for t in range(T) if mask[r, t, b]), default=0) for b in range(B)] for r in range(T + 1)])
    size = {k: np.zeros_like(p.value) for k, p in enumerate(graph.places) if not p.constant}
    error = {k: np.zeros_like(p.value) for k, p in enumerate(graph.places) if not p.constant}
    # sources are filled from the last step on: source i is state T - i
    steps_of_source = np.arange(T, -1, -1)
    pending = np.zeros((B, S))
    pending_size = np.zeros((B, S))
    M = E = np.zeros((B, S))
    for r in range(T, -1, -1):
        if r < T:
            errors.advance(Jt[r])
            each = each @ Jt[r]
        errors.add()
        local = pending
        if r:
            each[:, r - 1] = seeds[r - 1]
            local = local + seed_errors[r - 1] + S * np.abs(seeds[r - 1])  # forward mode ends in a product with dL_t/ds_t
        sources[:, T - r, 0] = local
        sources[:, T - r, 1] = pending_size + kappa * ROUND * (np.abs(seeds[r - 1]) if r else 0.0)
        keep = (steps_of_source[None, : T - r + 1] <= farthest[r][:, None]) & (farthest[r][:, None] > 0)
        E, slack = np.moveaxis(errors.arrive(sources[:, : T - r + 1], keep), 1, 0)
        M = np.where(mask[r].T[:, :, None], np.abs(each), 0.0).sum(axis=1) + slack
        if r == 0:
            break
        q, M_state = pass_.step(r - 1, M, E, size, error)
        behind = np.einsum("bj,bij->bi", E, J_abs[r - 1])
        pending = np.where(graph.active[r - 1][:, None], q + kappa * ROUND * behind, 0.0)
        pending_size = kappa * ROUND * np.einsum("bj,bij->bi", M, J_abs[r - 1])
    return BackwardErrors(size, error, (M, E), pass_.peak)


class _Backward:
    def __init__(self, graph: Graph, model: Model, forward: ForwardErrors) -> None:
        self.graph, self.model, self.forward = graph, model, forward
        self.peak = 0.0

    def step(
        self, t: int, M: Floats, E: Floats, size: dict[int, Floats], error: dict[int, Floats]
    ) -> tuple[Floats, Floats]:
        """(q, M) at the state before step t+1 (counting from 1), from M and E at the state after it."""
        graph = self.graph
        bounds: dict[int, Bound] = {}
        offset = 0
        for i in graph.outputs.values():
            H = graph.places[i].value.shape[-1]
            part = slice(offset, offset + H)
            bounds[i] = (M[:, part], E[:, part], np.zeros_like(E[:, part]))
            offset += H
        for k in range(len(graph.places) - 1, -1, -1):
            place = graph.places[k]
            if place.constant or k not in bounds:
                continue
            size[k][t], error[k][t] = bounds[k][0], bounds[k][1]
            if place.op == "leaf" or place.op == "hold":
                continue
            self.t, self.k, self.bounds = t, k, bounds
            rule = "_activation" if place.op in ACTIVATIONS else f"_{place.op}"
            getattr(self, rule)(*bounds[k])
        zero = [np.zeros((M.shape[0], graph.places[i].value.shape[-1])) for i in graph.inputs.values()]
        inputs = [bounds.get(i, (z, z, z)) for i, z in zip(graph.inputs.values(), zero, strict=True)]
        return np.concatenate([b[2] for b in inputs], axis=-1), np.concatenate([b[0] for b in inputs], axis=-1)

    def _give(self, i: int, M: Floats, E: Floats, q: Floats) -> None:
        if self.graph.places[i].constant:
            return
        if i in self.bounds:
            known = self.bounds[i]
            M, E, q = M + known[0], E + known[1], q + known[2]
        self.bounds[i] = (M, E, q)

    def _through(self, i: int, factor: Floats, slack: Floats | float, roundings: float, M: Floats, E: Floats, q: Floats) -> None:
        """An entrywise use with derivative `factor`, known to within `slack`: (3)."""
        model = self.model
        computed = M + model.u * E
        magnitude = np.abs(factor)
        r = computed * slack + roundings * computed * (magnitude + model.u * slack) + roundings * model.eta
        self._give(i, magnitude * M, magnitude * E + r, magnitude * q + r)

    def _terms(self, i: int) -> float:
        """How many terms are summed into the adjoint at place i; 1 more for the product itself."""
        return self.model.terms(self.graph.places[i].consumers + 1)

    def _linear(self, M: Floats, E: Floats, q: Floats) -> None:
        places, place, model = self.graph.places, self.graph.places[self.k], self.model
        computed = M + model.u * E
        for i in range(place.products):
            X, W = place.inputs[2 * i], place.inputs[2 * i + 1]
            Wt = places[W].magnitude.T
            size = computed @ Wt
            self.peak = max(self.peak, float(size.max(initial=0.0)))
            n = self._terms(X)
            r = n * size + n * model.eta
            if model.flush:
                r = r + model.eta * computed.sum(axis=-1, keepdims=True)
            self._give(X, M @ Wt, E @ Wt + r, q @ Wt + r)
        for i in place.inputs[2 * place.products :]:
            if not places[i].constant:
                self._through(i, np.ones(1), 0.0, self._terms(i), M, E, q)

    def _activation(self, M: Floats, E: Floats, q: Floats) -> None:
        place, model = self.graph.places[self.k], self.model
        i = place.inputs[0]
        assert place.slope is not None
        slope, z, D = place.slope[self.t], place.value[self.t], self.forward.nodes[self.k][self.t]
        if place.op == "identity":
            self._through(i, slope, 0.0, self._terms(i) - 1, M, E, q)
            return
        if place.op == "relu":
            a, Da = self.graph.places[i].value[self.t], self.forward.nodes[i][self.t]
            slack = np.where(np.abs(a) <= model.u * Da, 1 / model.u, 0.0)  # a kink: the derivative is anything in [0,1]
        elif place.op == "tanh":  # 1-h^2, (1-h)(1+h), or dh - dh h h
            slack = 2 * np.abs(z) * D + model.u * D * D + 2 + 3 * slope + model.eta
        else:  # s (1-s), s - s^2
            slack = np.abs(1 - 2 * z) * D + model.u * D * D + z * z + 3 * slope + model.eta
        self._through(i, slope, slack, self._terms(i), M, E, q)

    def _mul(self, M: Floats, E: Floats, q: Floats) -> None:
        a, b = self.graph.places[self.k].inputs
        for this, other in ((a, b), (b, a)):
            place = self.graph.places[other]
            value = place.value if place.constant else place.value[self.t]
            slack = 0.0 if place.constant else self.forward.nodes[other][self.t]
            self._through(this, np.broadcast_to(value, M.shape), slack, self._terms(this), M, E, q)

    def _add(self, M: Floats, E: Floats, q: Floats) -> None:
        for i in self.graph.places[self.k].inputs:
            self._through(i, np.ones(1), 0.0, self._terms(i), M, E, q)

    def _mix(self, M: Floats, E: Floats, q: Floats) -> None:
        z, n, h = self.graph.places[self.k].inputs
        D = {i: self.forward.nodes[i][self.t] for i in (z, n, h)}
        vz, vn, vh = (self.graph.places[i].value[self.t] for i in (z, n, h))
        both = np.abs(vh) + np.abs(vn)
        self._through(z, vh - vn, D[h] + D[n] + 3 * both, self._terms(z), M, E, q)
        self._through(n, 1 - vz, D[z] + 2, self._terms(n), M, E, q)
        self._through(h, vz, D[z], self._terms(h), M, E, q)

    def _columns(self, M: Floats, E: Floats, q: Floats) -> None:
        place = self.graph.places[self.k]
        source = place.inputs[0]
        start, stop = place.extra or (0, 0)
        shape = (M.shape[0], self.graph.places[source].value.shape[-1])
        wide = [np.zeros(shape) for _ in range(3)]
        for full, part in zip(wide, (M, E, q), strict=True):
            full[:, start:stop] = part
        self._give(source, *wide)
