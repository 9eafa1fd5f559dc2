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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bptt.truncation import Sweep
from oracle.budget.forward import ForwardErrors, conversion, underflow
from oracle.budget.graph import ACTIVATIONS, Floats, Graph, Place
from oracle.budget.model import INFLATE, Model
from oracle.budget.transport import ROUND, Transport, step_jacobians

Bound = tuple[Floats, Floats, Floats]  # M, E, q


@dataclass
class BackwardErrors:
    """For each place the size M and the error E of its adjoint, (T,B,n); `initial` is M and E at state 0, (B,S)."""

    size: dict[int, Floats]
    error: dict[int, Floats]
    initial: tuple[Floats, Floats]
    peak: float


def backward_errors(
    graph: Graph, model: Model, forward: ForwardErrors, seeds: Floats, seed_errors: Floats, passes: Sequence[Sweep]
) -> BackwardErrors:
    """Bounds on every adjoint, added up over the truncation's passes; within a pass m(t,r) is 1 down to a first step.

    Shapes: seeds (T,B,S), the signed dL_t/ds_t; seed_errors (T,B,S), in units of u.
    """
    B, S = graph.active.shape[1], graph.S
    J, J_abs = step_jacobians(graph, adjoint=True)
    engine = _Passes(graph, model, forward, np.ascontiguousarray(J.swapaxes(-1, -2)), J_abs)
    for sweep in passes:
        steps = list(sweep.steps)
        if steps:
            engine.run(sweep, steps[0], steps[-1], seeds, seed_errors)
    M, E = engine.initial
    assert M.shape == (B, S)
    return BackwardErrors(engine.size, engine.error, (M, E), engine.rules.peak)


class _Passes:
    def __init__(self, graph: Graph, model: Model, forward: ForwardErrors, Jt: Floats, J_abs: Floats) -> None:
        self.graph, self.Jt, self.J_abs = graph, Jt, J_abs
        self.slack, self.tiny = conversion(graph) * ROUND, underflow(graph)
        self.rules = _Backward(graph, model, forward)
        self.size = {k: np.zeros_like(p.value) for k, p in enumerate(graph.places) if not p.constant}
        self.error = {k: np.zeros_like(p.value) for k, p in enumerate(graph.places) if not p.constant}
        shape = (graph.active.shape[1], graph.S)
        self.initial = (np.zeros(shape), np.zeros(shape))

    def run(self, sweep: Sweep, last: int, first: int, seeds: Floats, seed_errors: Floats) -> None:
        """One pass, from the state after step `last` to the state before step `first`."""
        B, S = self.initial[0].shape
        n = last - first + 2
        errors, each = Transport(n, B, S), np.zeros((B, n, S))  # each[b,i]: v(t,r) of the i-th loss for the r at hand
        sources = np.zeros((B, n, 2, S))  # [0] local errors w; [1] what float64 did to the sizes
        pending = np.zeros((2, B, S))
        for i, r in enumerate(range(last, first - 2, -1)):
            if i:
                errors.advance(self.Jt[r])
                each = each @ self.Jt[r]
            errors.add()
            sources[:, i, 0], sources[:, i, 1] = pending
            if r >= first:
                starts = sweep.seeds[r - 1][:, None]
                g = np.where(starts, seeds[r - 1], 0.0)
                each[:, i] = g
                # forward mode ends in a product with dL_t/ds_t, of S terms
                sources[:, i, 0] += np.where(starts, seed_errors[r - 1], 0.0) + S * np.abs(g)
                sources[:, i, 1] += self.slack * np.abs(g)
            E, slack = np.moveaxis(errors.arrive(sources[:, : i + 1]), 1, 0)
            M = np.abs(each).sum(axis=1) + slack
            if r < first:
                break
            live = (r >= sweep.first)[:, None]
            M, E = np.where(live, M, 0.0), np.where(live, E, 0.0)
            q = self.rules.step(r - 1, M, E, self.size, self.error)
            arrived = sources[:, : i + 1].sum(axis=(1, 3))  # (B,2)
            pending[0] = q + self.slack * np.einsum("bj,bij->bi", E, self.J_abs[r - 1]) + self.tiny * arrived[:, :1]
            sent = arrived[:, 1:] + np.abs(each).sum(axis=(1, 2))[:, None]
            pending[1] = self.slack * np.einsum("bj,bij->bi", M, self.J_abs[r - 1]) + self.tiny * sent
        if first == 1:
            whole = (sweep.first == 1)[:, None]
            self.initial = (self.initial[0] + np.where(whole, M, 0.0), self.initial[1] + np.where(whole, E, 0.0))


class _Backward:
    def __init__(self, graph: Graph, model: Model, forward: ForwardErrors) -> None:
        self.graph, self.model, self.forward = graph, model, forward
        self.peak = 0.0

    def step(self, t: int, M: Floats, E: Floats, size: dict[int, Floats], error: dict[int, Floats]) -> Floats:
        """q at the state before step t+1 (counting from 1), from M and E at the state after it."""
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
            size[k][t] += bounds[k][0]
            error[k][t] += bounds[k][1]
            if place.op in {"leaf", "hold"}:
                continue
            self.t, self.k, self.bounds = t, k, bounds
            rule = "_activation" if place.op in ACTIVATIONS else f"_{place.op}"
            getattr(self, rule)(*bounds[k])
        parts = []
        for i in graph.inputs.values():
            zero = np.zeros((M.shape[0], graph.places[i].value.shape[-1]))
            parts.append(bounds[i][2] if i in bounds else zero)
        return np.concatenate(parts, axis=-1)

    def _give(self, i: int, M: Floats, E: Floats, q: Floats) -> None:
        if self.graph.places[i].constant:
            return
        if i in self.bounds:
            known = self.bounds[i]
            M, E, q = M + known[0], E + known[1], q + known[2]
        self.bounds[i] = (M, E, q)

    def _through(
        self, i: int, factor: Floats, slack: Floats | float, roundings: float, M: Floats, E: Floats, q: Floats
    ) -> None:
        """An entrywise use with derivative `factor`, known to within `slack`: (3)."""
        model = self.model
        computed = M + model.u * E
        magnitude = np.abs(factor)
        r = computed * slack + roundings * computed * (magnitude + model.u * slack)
        r = r + model.lost(roundings) * ((computed > 0) & (magnitude + slack > 0))  # a product with 0 is exact
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
            r = n * size + model.lost(places[X].consumers + 1) * (computed.max(axis=-1, keepdims=True) > 0)
            if model.flush:
                r = r + computed @ model.read(places[W].value).T
            self._give(X, M @ Wt, E @ Wt + r, q @ Wt + r)  # sums of zeros are exact
        addends = [i for i in place.inputs[2 * place.products :] if not places[i].constant]
        for i in addends:  # in forward mode the sum stands on this side, with the products' tangents in it
            self._through(i, np.ones(1), 0.0, max(self._terms(i), self._tangents(place, len(addends))), M, E, q)

    def _tangents(self, place: Place, addends: int) -> float:
        """How many terms the tangent of a linear node has in forward mode: x has none, a parameter is one more."""
        places = self.graph.places
        pairs = [place.inputs[2 * i : 2 * i + 2] for i in range(place.products)]
        return self.model.terms(sum(places[W].value.shape[0] for X, W in pairs if places[X].name != "x") + addends + 1)

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
            slack = np.where(np.abs(a) <= model.u * Da * INFLATE, 1 / model.u, 0.0)  # a kink: anything in [0,1]
        elif place.op == "tanh":  # 1-h^2, (1-h)(1+h), or dh - dh h h
            slack = 2 * np.abs(z) * D + model.u * D * D + 2 + 3 * slope + model.eta
        else:  # s (1-s), s - s^2, or by way of tanh
            by_tanh = 0.25  # (1-T^2)/4 with T = tanh(a/2): the roundings of T^2 and of 1-T^2
            slack = np.abs(1 - 2 * z) * D + model.u * D * D + z * z + 3 * slope + by_tanh + model.eta
        self._through(i, slope, slack, self._terms(i), M, E, q)

    def _mul(self, M: Floats, E: Floats, q: Floats) -> None:
        a, b = self.graph.places[self.k].inputs
        for this, other in ((a, b), (b, a)):
            place = self.graph.places[other]
            value = place.value if place.constant else place.value[self.t]
            slack = self.model.read(value) if place.constant else self.forward.nodes[other][self.t]
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
