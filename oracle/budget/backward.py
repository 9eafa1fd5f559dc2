"""Errors of the backward pass: how far any admissible adjoint, and so any gradient, may be from the exact one.

Let v(t,r) = (dL_t/ds_t) P(r<-t) be the adjoint at state r of the loss at t alone. An implementation may add these up
before it multiplies (reverse mode), after (the double sum), or carry ds_r/dtheta forwards (forward mode); a rounding at
step r of any of them costs at most n u sum_t m(t,r) |v(t,r)| times what lies below. So the bounds are built on

    M_r = sum_t m(t,r) |v(t,r)|                                                              (1)

which every one of them obeys. The error E_r >= sum_t m(t,r) |computed v - exact v| satisfies (1) of transport with
local errors: w at the states, those of the cotangent among them, and q_z at the linear nodes z of step q+1, from which
the adjoint of state q depends through the transpose of L_z = d z / d s_q,

    E_r = sum_{q >= r} (w_q |P(r->q)| + sum_z q_z |L_z P(r->q)|), transposed                  (2)

Within a step, for z = f(y), with dz the adjoint, M^ = M + E its computed size and D the forward error:

    E_y = |f'| E_z + M^_z |computed f' - f'| + rounding      q_y = |f'| q_z + the rest likewise        (3)

q is the part that is not the linear image of the incoming error; w_{r-1} is q at the state, without what the linear
nodes kept. For the last sums of a gradient, X_s^T v(t,s) over t, s and the rows b, the terms are added up with their
signs, and of these sums the absolute values are:

    max(sum_t |sum_{s,b}|, sum_s |sum_{t,b}|, sum_b |sum_{t,s}|)                              (4)

Derivation: ours; in docs/budget.md with the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bptt.truncation import Sweep
from oracle.budget.forward import ForwardErrors, conversion, underflow
from oracle.budget.graph import ACTIVATIONS, Floats, Graph, Place
from oracle.budget.model import INFLATE, Model
from oracle.budget.transport import ROUND, Tangents, Transport, step_tangents


@dataclass
class Adjoint:
    """What arrives at a node: V (B,n,w), the signed v of n losses, F (B,w), what float64 did to them, E and q, and Z.

    Z is what M would be if nothing had cancelled in the losses' own gradients, such as p - y of a softmax.
    """

    V: Floats
    F: Floats
    E: Floats
    q: Floats
    Z: Floats

    @property
    def M(self) -> Floats:
        """The sum of |v| over the losses, with what float64 did to it."""
        size: Floats = np.abs(self.V).sum(axis=1) + self.F
        return size

    def __add__(self, other: Adjoint) -> Adjoint:
        return Adjoint(self.V + other.V, self.F + other.F, self.E + other.E, self.q + other.q, self.Z + other.Z)


@dataclass
class Seeds:
    """dL_t/ds_t (T,B,S) with signs; its error, in units of u; and its size before anything cancels in it."""

    values: Floats
    errors: Floats
    scales: Floats


@dataclass
class BackwardErrors:
    """For each place size M, error E and scale Z of its adjoint, (T,B,n); `initial` is M, E and Z at state 0, (B,S).

    inputs[k]: for a linear place, the sum of |v_z(t) W^T| over the losses t, (T,B,D).
    totals[k,i]: the largest sum of absolute values in (4) of the parameter at place i, where place k is entered by it.
    """

    size: dict[int, Floats]
    error: dict[int, Floats]
    scale: dict[int, Floats]
    inputs: dict[int, Floats]
    totals: dict[tuple[int, int], Floats]
    initial: tuple[Floats, Floats, Floats]
    peak: float

    def total(self, k: int, i: int) -> Floats:
        """totals[k,i], (m,n), or 0 where no pass came by."""
        return self.totals.get((k, i), np.zeros((1, 1)))


class Groups:
    """The terms X_s^T v(t,s) of a parameter's gradient, added up for each loss t, each step s, and each row b."""

    def __init__(self, T: int, B: int) -> None:
        self.sizes = (T, B)
        self.parts: tuple[Floats, Floats, Floats, Floats] | None = None

    def add(self, s: int, losses: NDArray[np.int64], X: Floats, V: Floats, lost: Floats) -> None:
        """Terms of step s: X (B,m), V (B,n,w) of the losses given, and lost (B,w), what float64 did to V."""
        (B, m), w = X.shape, V.shape[-1]
        if self.parts is None:
            T, _ = self.sizes
            self.parts = np.zeros((T, m, w)), np.zeros((T, m, w)), np.zeros((B, m, w)), np.zeros((m, w))
        by_loss, by_step, by_row, float64 = self.parts
        by_loss[losses] += X.T @ V.swapaxes(0, 1)
        summed = V.sum(axis=1)
        by_step[s] += X.T @ summed
        by_row += X[:, :, None] * summed[:, None, :]
        float64 += np.abs(X).T @ lost

    def total(self) -> Floats | float:
        """The largest of the three sums of absolute values: (4)."""
        if self.parts is None:
            return 0.0
        *sums, float64 = self.parts
        largest: Floats = np.max([np.abs(part).sum(axis=0) for part in sums], axis=0) + float64
        return largest


def backward_errors(
    graph: Graph, model: Model, forward: ForwardErrors, seeds: Seeds, passes: Sequence[Sweep]
) -> BackwardErrors:
    """Bounds on every adjoint, added up over the truncation's passes; within one m(t,r) is 1 down to a first step."""
    engine = _Passes(graph, model, forward)
    for sweep in passes:
        steps = list(sweep.steps)
        if steps:
            engine.run(sweep, steps[0], steps[-1], seeds)
    totals = {key: np.asarray(groups.total()) for key, groups in engine.rules.groups.items()}
    return BackwardErrors(
        engine.size, engine.error, engine.scale, engine.inputs, totals, engine.initial, engine.rules.peak
    )


class _Passes:
    def __init__(self, graph: Graph, model: Model, forward: ForwardErrors) -> None:
        J, J_abs, tangents = step_tangents(graph, adjoint=True)
        self.graph, self.Jt, self.J_abs = graph, np.ascontiguousarray(J.swapaxes(-1, -2)), J_abs
        self.slack, self.tiny = conversion(graph) * ROUND, underflow(graph)
        self.cuts = {k: both for k, both in tangents.items() if graph.places[k].op == "linear"}
        self.rules = _Backward(graph, model, forward, self.cuts)
        self.size = {k: np.zeros_like(p.value) for k, p in enumerate(graph.places) if not p.constant}
        self.error = {k: np.zeros_like(p.value) for k, p in enumerate(graph.places) if not p.constant}
        self.scale = {k: np.zeros_like(p.value) for k, p in enumerate(graph.places) if not p.constant}
        width = next(p.value.shape[-1] for p in graph.places if p.name == "x")
        self.inputs = {
            k: np.zeros((*graph.active.shape, width)) for k, p in enumerate(graph.places) if p.op == "linear"
        }
        shape = (graph.active.shape[1], graph.S)
        self.initial = (np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def run(self, sweep: Sweep, last: int, first: int, seeds: Seeds) -> None:
        """One pass, from the state after step `last` to the state before step `first`."""
        B, S = self.initial[0].shape
        n = last - first + 2
        rows = S + sum(signed.shape[-1] for signed, _ in self.cuts.values())
        errors, each = Transport(n, B, S, rows), np.zeros((B, n, S))  # each[b,i]: v(t,r) of the i-th loss for this r
        # [0] local errors w of the state, and of the linear nodes after it; [1] what float64 did to the sizes; [2] the
        # seeds' sizes before anything cancels in them
        sources, pending = np.zeros((B, n, 3, rows)), np.zeros((B, 3, rows))
        images = np.zeros((B, rows, S))
        images[:, :S] = np.eye(S)
        for i, r in enumerate(range(last, first - 2, -1)):
            if i:
                errors.advance(self.Jt[r])
                signed = [np.zeros((B, S, 0)), *(both[0][r] for both in self.cuts.values())]
                images[:, S:] = np.concatenate(signed, axis=-1).swapaxes(-1, -2)
            errors.add(images)
            sources[:, i] = pending
            if r >= first:
                starts = sweep.seeds[r - 1][:, None]
                g = np.where(starts, seeds.values[r - 1], 0.0)
                each[:, i] = g
                # forward mode ends in a product with dL_t/ds_t, of S terms
                sources[:, i, 0, :S] += np.where(starts, seeds.errors[r - 1], 0.0) + S * np.abs(g)
                sources[:, i, 1, :S] += self.slack * np.abs(g)
                sources[:, i, 2, :S] += np.where(starts, seeds.scales[r - 1], 0.0)
            E, F, Z = np.moveaxis(errors.arrive(sources[:, : i + 1]), 1, 0)
            if r < first:
                break
            live = (r >= sweep.first)[:, None]
            each[~live[:, 0]] = 0.0
            F, E, Z = (np.where(live, bound, 0.0) for bound in (F, E, Z))
            at = Adjoint(each[:, : i + 1], F, E, np.zeros_like(E), Z)
            M, E = at.M, at.E
            sent = M.sum(axis=-1, keepdims=True)
            arrived = sources[:, : i + 1, 0].sum(axis=(1, 2))[:, None]
            at.F = at.F + self.slack * M  # what this step's products in float64 add
            before, cut = self.rules.step(r - 1, at, last, self.tiny * sent, self)
            each[:, : i + 1] = before.V
            pending[:, 0] = np.concatenate([before.q, *cut], axis=-1)
            pending[:, 0, :S] += self.slack * np.einsum("bj,bij->bi", E, self.J_abs[r - 1]) + self.tiny * arrived
            for q, (_, absolute) in zip(cut, self.cuts.values(), strict=True):
                pending[:, 0, :S] += self.slack * np.einsum("bj,bij->bi", q, absolute[r - 1])
            pending[:, 1, :S] = self.slack * np.einsum("bj,bij->bi", M, self.J_abs[r - 1]) + self.tiny * sent
        if first == 1:
            whole = (sweep.first == 1)[:, None]
            arrived_at_0 = (np.abs(each).sum(axis=1) + F, E, Z)
            M, E, Z = (old + np.where(whole, new, 0.0) for old, new in zip(self.initial, arrived_at_0, strict=True))
            self.initial = (M, E, Z)


class _Backward:
    def __init__(self, graph: Graph, model: Model, forward: ForwardErrors, cuts: Tangents) -> None:
        self.graph, self.model, self.forward, self.cuts = graph, model, forward, cuts
        self.groups: dict[tuple[int, int], Groups] = {}
        self.peak = 0.0

    def step(self, t: int, at: Adjoint, last: int, lost: Floats, into: _Passes) -> tuple[Adjoint, list[Floats]]:
        """The adjoint of the state before step t+1 (counting from 1), from that of the state after it, and q of cuts.

        `last` is the step of loss 0; lost (B,1) is what underflow in float64 may take from an adjoint.
        """
        graph = self.graph
        self.t, self.lost, self.losses = t, lost, last - 1 - np.arange(at.V.shape[1])
        self.bounds: dict[int, Adjoint] = {}
        cut = {k: np.zeros((at.E.shape[0], both[0].shape[-1])) for k, both in self.cuts.items()}
        offset = 0
        for i in graph.outputs.values():
            H = graph.places[i].value.shape[-1]
            part = slice(offset, offset + H)
            self.bounds[i] = Adjoint(at.V[..., part], at.F[:, part], at.E[:, part], at.q[:, part], at.Z[:, part])
            offset += H
        for k in range(len(graph.places) - 1, -1, -1):
            place = graph.places[k]
            if place.constant or k not in self.bounds:
                continue
            at = self.bounds[k]
            self.k, self.at, self.M = k, at, at.M
            into.size[k][t] += self.M
            into.error[k][t] += at.E
            into.scale[k][t] += at.Z
            if place.op in {"leaf", "hold"}:
                continue
            if k in cut:
                cut[k], at.q = at.q, np.zeros_like(at.q)
            if place.op == "linear":
                self._linear(into)
            else:
                getattr(self, "_activation" if place.op in ACTIVATIONS else f"_{place.op}")()
        B, n, _ = at.V.shape
        parts = []
        for i in graph.inputs.values():
            H = graph.places[i].value.shape[-1]
            parts.append(self.bounds.get(i, Adjoint(np.zeros((B, n, H)), *np.zeros((4, B, H)))))
        together = (np.concatenate([getattr(p, name) for p in parts], axis=-1) for name in ("V", "F", "E", "q", "Z"))
        return Adjoint(*together), list(cut.values())

    def _give(self, i: int, value: Adjoint) -> None:
        if not self.graph.places[i].constant:
            self.bounds[i] = self.bounds[i] + value if i in self.bounds else value

    def _collect(self, at: int, X: Floats, V: Floats, F: Floats) -> None:
        """The terms of a parameter's gradient: of the place that X W or the parameter enters, at input `at`."""
        live = self.graph.active[self.t][:, None]
        groups = self.groups.setdefault((self.k, at), Groups(*self.graph.active.shape))
        groups.add(self.t, self.losses, np.where(live, X, 0.0), V, F + self.lost)

    def _through(
        self, i: int, factor: Floats, slack: Floats | float, roundings: float, float64: Floats | float = 0.0
    ) -> None:
        """An entrywise use with derivative `factor`, known to within `slack` here and `float64` to us: (3)."""
        model, at = self.model, self.at
        computed = self.M + model.u * at.E
        magnitude = np.abs(factor)
        r = computed * slack + roundings * computed * (magnitude + model.u * slack)
        r = r + model.lost(roundings) * ((computed > 0) & (magnitude + slack > 0))  # a product with 0 is exact
        signed = at.V * (factor if factor.ndim == 1 else factor[:, None, :])
        self._give(
            i,
            Adjoint(
                signed,
                magnitude * at.F + float64 * self.M,
                magnitude * at.E + r,
                magnitude * at.q + r,
                magnitude * at.Z,
            ),
        )

    def _terms(self, i: int) -> float:
        """How many terms are summed into the adjoint at place i; 1 more for the product itself."""
        return self.model.terms(self.graph.places[i].consumers + 1)

    def _linear(self, into: _Passes) -> None:
        places, place, model, at = self.graph.places, self.graph.places[self.k], self.model, self.at
        computed = self.M + model.u * at.E
        for i in range(place.products):
            X, W = place.inputs[2 * i], place.inputs[2 * i + 1]
            self._collect(W, places[X].value[self.t], at.V, at.F)
            Wt = places[W].magnitude.T
            size = computed @ Wt
            self.peak = max(self.peak, float(size.max(initial=0.0)))
            if places[X].name == "x":
                into.inputs[self.k][self.t] += np.abs(at.V @ places[W].value.T).sum(axis=1) + at.F @ Wt
                continue
            n = self._terms(X)
            r = n * size + model.lost(places[X].consumers + 1) * (computed.max(axis=-1, keepdims=True) > 0)
            if model.flush:
                r = r + computed @ model.read(places[W].value).T
            self._give(X, Adjoint(at.V @ places[W].value.T, at.F @ Wt, at.E @ Wt + r, at.q @ Wt + r, at.Z @ Wt))
        addends = [i for i in place.inputs[2 * place.products :] if not places[i].constant]
        for i in place.inputs[2 * place.products :]:
            if places[i].constant:
                self._collect(i, np.ones((at.V.shape[0], 1)), at.V, at.F)
        for i in addends:  # in forward mode the sum stands on this side, with the products' tangents in it
            self._through(i, np.ones(1), 0.0, max(self._terms(i), self._tangents(place, len(addends))))

    def _tangents(self, place: Place, addends: int) -> float:
        """How many terms the tangent of a linear node has in forward mode: x has none, a parameter is one more."""
        places = self.graph.places
        pairs = [place.inputs[2 * i : 2 * i + 2] for i in range(place.products)]
        return self.model.terms(sum(places[W].value.shape[0] for X, W in pairs if places[X].name != "x") + addends + 1)

    def _activation(self) -> None:
        place, model = self.graph.places[self.k], self.model
        i = place.inputs[0]
        assert place.slope is not None
        slope, z, D = place.slope[self.t], place.value[self.t], self.forward.nodes[self.k][self.t]
        if place.op == "identity":
            self._through(i, slope, 0.0, self._terms(i) - 1)
            return
        if place.op == "relu":
            a, Da = self.graph.places[i].value[self.t], self.forward.nodes[i][self.t]
            slack = np.where(np.abs(a) <= model.u * Da * INFLATE, 1 / model.u, 0.0)  # a kink: anything in [0,1]
        elif place.op == "tanh":  # 1-h^2, (1-h)(1+h), or dh - dh h h
            slack = 2 * np.abs(z) * D + model.u * D * D + 2 + 3 * slope + model.eta
        else:  # s (1-s), s - s^2, or by way of tanh
            by_tanh = 0.25  # (1-T^2)/4 with T = tanh(a/2): the roundings of T^2 and of 1-T^2
            slack = np.abs(1 - 2 * z) * D + model.u * D * D + z * z + 3 * slope + by_tanh + model.eta
        self._through(i, slope, slack, self._terms(i))

    def _mul(self) -> None:
        a, b = self.graph.places[self.k].inputs
        for this, other in ((a, b), (b, a)):
            place = self.graph.places[other]
            value = place.value if place.constant else place.value[self.t]
            slack = self.model.read(value) if place.constant else self.forward.nodes[other][self.t]
            if self.graph.places[this].constant:
                one = np.ones((value.shape[0], 1))
                self._collect(this, one, value[:, None, :] * self.at.V, np.abs(value) * (self.at.F + self.lost))
                continue
            self._through(this, np.broadcast_to(value, self.M.shape), slack, self._terms(this))

    def _add(self) -> None:
        for i in self.graph.places[self.k].inputs:
            self._through(i, np.ones(1), 0.0, self._terms(i))

    def _mix(self) -> None:
        z, n, h = self.graph.places[self.k].inputs
        D = {i: self.forward.nodes[i][self.t] for i in (z, n, h)}
        vz, vn, vh = (self.graph.places[i].value[self.t] for i in (z, n, h))
        both = np.abs(vh) + np.abs(vn)
        self._through(z, vh - vn, D[h] + D[n] + 3 * both, self._terms(z), 2 * ROUND * both)
        self._through(n, 1 - vz, D[z] + 2, self._terms(n), 2 * ROUND)
        self._through(h, vz, D[z], self._terms(h))

    def _columns(self) -> None:
        place, at = self.graph.places[self.k], self.at
        source = place.inputs[0]
        start, stop = place.extra or (0, 0)

        def wide(part: Floats) -> Floats:
            full = np.zeros((*part.shape[:-1], self.graph.places[source].value.shape[-1]))
            full[..., start:stop] = part
            return full

        self._give(source, Adjoint(wide(at.V), wide(at.F), wide(at.E), wide(at.q), wide(at.Z)))
