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

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bptt.truncation import Sweep
from oracle.budget import compiled
from oracle.budget.forward import ForwardErrors
from oracle.budget.graph import ACTIVATIONS, Floats, Graph, Place, Tangents, spread
from oracle.budget.model import INFLATE, Model
from oracle.budget.passes import Alike, Moment, alike
from oracle.budget.transport import ROUND, Transport, step_tangents


@dataclass
class Adjoint:
    """What arrives at a node: V (B,n,w), the signed v of n losses, and bounds (4,B,w).

    bounds  what float64 did to V; q; E; and Z, what M would be if nothing had cancelled in the losses' own gradients,
            such as p - y of a softmax
    """

    V: Floats
    bounds: Floats

    @property
    def M(self) -> Floats:
        """The sum of |v| over the losses, with what float64 did to it."""
        size: Floats = np.abs(self.V).sum(axis=1) + self.bounds[0]
        return size

    def __add__(self, other: Adjoint) -> Adjoint:
        return Adjoint(self.V + other.V, self.bounds + other.bounds)


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
    """The terms X_s^T v(t,s) of a parameter's gradient, added up for each loss t, each step s, and each row b.

    X (T,B,m) is what v, (B,w) at each step, is multiplied with; before that, entry by entry, with `factor` (T,B,w).
    """

    def __init__(self, X: Floats, w: int, factor: Floats | None = None) -> None:
        T, B, m = X.shape
        self.X, self.factor, self.by_loss = X, factor, np.zeros((T, m, w))
        self.summed, self.lost = np.zeros((2, T, B, w))

    def add(self, at: Moment, V: Floats, lost: Floats) -> None:
        """Terms of a moment's steps: V (P B,n,w) of its losses, and lost (P B,w), what float64 did to V."""
        if self.factor is not None:
            factor = at.of(self.factor)
            V, lost = V * factor[:, None, :], lost * np.abs(factor)
        by_pass = V.reshape(at.P, -1, *V.shape[1:]).swapaxes(1, 2)  # (P,n,B,w)
        terms = self.X[at.steps].swapaxes(1, 2)[:, None] @ by_pass
        self.by_loss[at.losses] += terms
        at.into(self.summed, V.sum(axis=1))
        at.into(self.lost, lost)

    def total(self) -> Floats:
        """The largest of the three sums of absolute values: (4)."""
        m, w = self.by_loss.shape[1:]
        by_step = self.X.swapaxes(-1, -2) @ self.summed
        by_row = self.X.transpose(1, 2, 0) @ self.summed.swapaxes(0, 1)
        largest = np.max([np.abs(part).sum(axis=0) for part in (self.by_loss, by_step, by_row)], axis=0)
        float64: Floats = np.abs(self.X.reshape(-1, m)).T @ self.lost.reshape(-1, w)
        return np.asarray(largest + float64)


def backward_errors(
    graph: Graph, model: Model, forward: ForwardErrors, seeds: Seeds, passes: Sequence[Sweep]
) -> BackwardErrors:
    """Bounds on every adjoint, added up over the truncation's passes; within one m(t,r) is 1 down to a first step."""
    engine = _Passes(graph, model, forward)
    if passes and compiled.pays(graph, model, [len(sweep.steps) for sweep in passes], engine.rows):
        compiled.backward(engine, seeds, passes)
    else:
        for group in alike(passes, engine.room):
            engine.run(group, seeds)
    size, error, scale = ({k: kept[i] for k, kept in engine.kept.items()} for i in range(3))
    return BackwardErrors(size, error, scale, engine.inputs, engine.rules.totals(), engine.initial, engine.rules.peak)


ROOM = 1_000_000
"""How many numbers the products of Jacobians of passes side by side may be: a cache's worth."""


class _Passes:
    def __init__(self, graph: Graph, model: Model, forward: ForwardErrors) -> None:
        J, J_abs, tangents = step_tangents(graph, adjoint=True)
        self.graph, self.Jt, self.J_abs = graph, np.ascontiguousarray(J.swapaxes(-1, -2)), J_abs
        self.slack, self.tiny = forward.kappa * ROUND, forward.tiny
        self.cuts = {k: both for k, both in tangents.items() if graph.places[k].op == "linear"}
        self.cut = np.concatenate([np.zeros((*J.shape[:3], 0)), *(both[0] for both in self.cuts.values())], axis=-1)
        self.cut = np.ascontiguousarray(self.cut.swapaxes(-1, -2))
        self.rules = _Backward(graph, model, forward, self.cuts)
        self.kept = {k: np.zeros((3, *p.value.shape)) for k, p in enumerate(graph.places) if not p.constant}  # M, E, Z
        width = next(p.value.shape[-1] for p in graph.places if p.name == "x")
        self.inputs = {
            k: np.zeros((*graph.active.shape, width)) for k, p in enumerate(graph.places) if p.op == "linear"
        }
        shape = (graph.active.shape[1], graph.S)
        self.initial = (np.zeros(shape), np.zeros(shape), np.zeros(shape))
        self.rows = graph.S + self.cut.shape[-2]
        self.room = ROOM / (shape[0] * self.rows * graph.S)

    def run(self, passes: Alike, seeds: Seeds) -> None:
        """Passes side by side, each from the state after its last step to the state before its first one."""
        B, S = self.initial[0].shape
        P, n, rows = len(passes.last), passes.steps + 1, self.rows
        losses = (passes.last - 1)[:, None] - passes.offsets
        first = passes.first.reshape(-1)
        errors = Transport(n, P * B, S, rows)
        each = np.zeros((P * B, passes.offsets.size, S))  # each[pb,i]: v(t,r) of the i-th loss for this r
        begun = 0  # so many losses have come by
        # [0] local errors w of the state, and of the linear nodes after it; [1] what float64 did to the sizes; [2] the
        # seeds' sizes before anything cancels in them
        sources, pending = np.zeros((P * B, n, 3, rows)), np.zeros((P * B, 3, rows))
        images = np.zeros((P * B, rows, S))
        images[:, :S] = np.eye(S)
        for i in range(n):
            at = Moment(passes.last - 1 - i, losses[:, :begun])
            if i == passes.steps and not (passes.last == i).any():
                return
            if i:
                after = Moment(at.steps + 1, at.losses)
                errors.advance(after.of(self.Jt))
                images[:, S:] = after.of(self.cut)
            errors.add(images)
            sources[:, i] = pending
            if begun < passes.offsets.size and passes.offsets[begun] == i:
                starts = passes.seeds[:, begun].reshape(-1)[:, None]
                g = np.where(starts, at.of(seeds.values), 0.0)
                each[:, begun] = g
                begun += 1
                at.losses = losses[:, :begun]
                # forward mode ends in a product with dL_t/ds_t, of S terms
                sources[:, i, 0, :S] += np.where(starts, at.of(seeds.errors), 0.0) + S * np.abs(g)
                sources[:, i, 1, :S] += self.slack * np.abs(g)
                sources[:, i, 2, :S] += np.where(starts, at.of(seeds.scales), 0.0)
            E, F, Z = np.moveaxis(errors.arrive(sources[:, : i + 1]), 1, 0)
            if i == passes.steps:
                break
            live = (np.repeat(at.steps + 1, B) >= first)[:, None]
            if not live.all():
                each[~live[:, 0]] = 0.0
                F, E, Z = (np.where(live, bound, 0.0) for bound in (F, E, Z))
            here = Adjoint(each[:, :begun], np.stack([F, np.zeros_like(E), E, Z]))
            M = here.M
            sent = M.sum(axis=-1, keepdims=True)
            arrived = sources[:, : i + 1, 0].sum(axis=(1, 2))[:, None]
            here.bounds[0] += self.slack * M  # what this step's products in float64 add
            before, cut = self.rules.step(at, here, self.tiny * sent, self)
            each[:, :begun] = before.V
            J_abs = at.of(self.J_abs)
            pending[:, 0] = np.concatenate([before.bounds[1], *cut], axis=-1)
            pending[:, 0, :S] += self.slack * np.einsum("bj,bij->bi", E, J_abs) + self.tiny * arrived
            for q, (_, absolute) in zip(cut, self.cuts.values(), strict=True):
                pending[:, 0, :S] += self.slack * np.einsum("bj,bij->bi", q, at.of(absolute))
            pending[:, 1, :S] = self.slack * np.einsum("bj,bij->bi", M, J_abs) + self.tiny * sent
        whole = (passes.first == 1)[:, :, None]
        for kept, new in zip(self.initial, (np.abs(each).sum(axis=1) + F, E, Z), strict=True):
            kept[:] += np.where(whole, new.reshape(P, B, S), 0.0).sum(axis=0)


@dataclass
class Edge:
    """An entrywise use of place `into`, for all steps: v goes back times `factor` (none: 1), E times its `size`.

    The rounding is computed M times `gain`, and `lost` where the computed M and `there` are not zero; `float64` M is
    what is unknown to us of a factor rounded to float64.
    """

    into: int
    factor: Floats | None
    size: Floats | None
    gain: Floats
    there: NDArray[np.bool_]
    lost: float
    float64: Floats | None


@dataclass
class Products:
    """A linear node's products: their weights side by side, and where each product's columns are.

    into    (place, columns, terms, what underflow loses, what is read as 0 or none) for each X but x
    x       the columns of x, where it is among them
    """

    W: Floats
    size: Floats
    into: list[tuple[int, slice, float, float, Floats | None]]
    x: list[slice]


class _Backward:
    def __init__(self, graph: Graph, model: Model, forward: ForwardErrors, cuts: Tangents) -> None:
        self.graph, self.model, self.forward, self.cuts = graph, model, forward, cuts
        self.groups: dict[int, Groups] = {}
        self.entries: dict[int, list[tuple[int, slice]]] = {}  # the parameters that enter a place, and their rows of X
        self.edges: dict[int, list[Edge]] = {}
        self.products: dict[int, Products] = {}
        self.peak = 0.0
        for k, place in enumerate(graph.places):
            if place.constant or place.op in {"leaf", "hold", "columns"}:
                continue
            self.edges[k] = []
            if place.op == "linear":
                self._linear(k)
            else:
                getattr(self, "_activation" if place.op in ACTIVATIONS else f"_{place.op}")(k)

    def totals(self) -> dict[tuple[int, int], Floats]:
        """The largest sums in (4), for each place k and parameter i that enters it."""
        found: dict[tuple[int, int], Floats] = {}
        for k, groups in self.groups.items():
            total = groups.total()
            found |= {(k, i): total[rows] for i, rows in self.entries[k]}
        return found

    def step(self, t: Moment, at: Adjoint, lost: Floats, into: _Passes) -> tuple[Adjoint, list[Floats]]:
        """The adjoint of the states before a moment's steps, from that of the states after them, and q of cuts.

        lost (P B,1) is what underflow in float64 may take from an adjoint.
        """
        graph, model = self.graph, self.model
        B, n, _ = at.V.shape
        known: dict[int, Adjoint] = {}
        cut = {k: np.zeros((B, both[0].shape[-1])) for k, both in self.cuts.items()}
        offset = 0
        for i in graph.outputs.values():
            end = offset + graph.places[i].value.shape[-1]
            known[i] = Adjoint(at.V[..., offset:end], at.bounds[..., offset:end])
            offset = end
        for k in range(len(graph.places) - 1, -1, -1):
            if k not in known or graph.places[k].constant:
                continue
            at, op = known[k], graph.places[k].op
            M = at.M
            kept = into.kept[k]
            t.into(kept[0], M)
            t.into(kept[1], at.bounds[2])
            t.into(kept[2], at.bounds[3])
            if op in {"leaf", "hold"}:
                continue
            if k in cut:
                cut[k] = at.bounds[1]
                at.bounds = at.bounds.copy()
                at.bounds[1] = 0.0
            if k in self.groups:
                self.groups[k].add(t, at.V, at.bounds[0] + lost)
            if op == "columns":
                self._columns(k, at, known)
                continue
            computed = M + model.u * at.bounds[2]
            if op == "linear":
                self._back(k, t, at, computed, known, into)
            for edge in self.edges[k]:
                self._through(edge, t, at, M, computed, known)
        parts = []
        for i in graph.inputs.values():
            H = graph.places[i].value.shape[-1]
            parts.append(known.get(i, Adjoint(np.zeros((B, n, H)), np.zeros((4, B, H)))))
        if len(parts) == 1:
            return parts[0], list(cut.values())
        V, bounds = (np.concatenate([getattr(p, name) for p in parts], axis=-1) for name in ("V", "bounds"))
        return Adjoint(V, bounds), list(cut.values())

    @staticmethod
    def _give(known: dict[int, Adjoint], i: int, value: Adjoint) -> None:
        known[i] = known[i] + value if i in known else value

    def _through(
        self, edge: Edge, t: Moment, at: Adjoint, M: Floats, computed: Floats, known: dict[int, Adjoint]
    ) -> None:
        """What an entrywise use gives back: (3)."""
        r = computed * t.of(edge.gain) + edge.lost * ((computed > 0) & t.of(edge.there))  # a product with 0 is exact
        if edge.factor is None or edge.size is None:
            V, bounds = at.V, at.bounds.copy()
        else:
            V, bounds = at.V * t.of(edge.factor)[:, None, :], at.bounds * t.of(edge.size)
        if edge.float64 is not None:
            bounds[0] += t.of(edge.float64) * M
        bounds[1:3] += r
        self._give(known, edge.into, Adjoint(V, bounds))

    def _back(self, k: int, t: Moment, at: Adjoint, computed: Floats, known: dict[int, Adjoint], into: _Passes) -> None:
        """What the products of a linear node give back."""
        products = self.products[k]
        V = at.V @ products.W
        bounds, sizes = at.bounds @ products.size, computed @ products.size
        self.peak = float(np.maximum(self.peak, sizes.max(initial=0.0)))  # NaN stays: then nothing is bounded
        for columns in products.x:
            t.into(into.inputs[k], np.abs(V[..., columns]).sum(axis=1) + bounds[0, :, columns])
        lost = computed.max(axis=-1, keepdims=True) > 0
        for i, columns, n, underflown, flushed in products.into:
            r = n * sizes[:, columns] + underflown * lost
            if flushed is not None:
                r = r + computed @ flushed
            part = bounds[..., columns].copy()
            part[1:3] += r
            self._give(known, i, Adjoint(V[..., columns], part))

    def _columns(self, k: int, at: Adjoint, known: dict[int, Adjoint]) -> None:
        place = self.graph.places[k]
        source = place.inputs[0]
        start, stop = place.extra or (0, 0)

        def wide(part: Floats) -> Floats:
            full = np.zeros((*part.shape[:-1], self.graph.places[source].value.shape[-1]))
            full[..., start:stop] = part
            return full

        self._give(known, source, Adjoint(wide(at.V), wide(at.bounds)))

    # What each operation's derivative is, and how well an implementation knows it: for all steps, before the pass.

    def _edge(
        self,
        k: int,
        i: int,
        factor: Floats | None,
        slack: Floats | float,
        roundings: float,
        float64: Floats | None = None,
    ) -> None:
        """Place k uses place i with derivative `factor`, known to within `slack` here and `float64` to us."""
        if self.graph.places[i].constant:
            return
        model = self.model
        size = None if factor is None else np.abs(factor)
        magnitude = np.ones(1) if size is None else size
        shape = self.graph.places[k].value.shape
        gain, there = slack + roundings * (magnitude + model.u * slack), magnitude + slack > 0
        if gain.shape != shape:
            gain, there = spread(gain, shape), spread(there, shape)
        self.edges[k].append(Edge(i, factor, size, gain, there, model.lost(roundings), float64))

    def _enter(self, k: int, entries: list[tuple[int, Floats]], factor: Floats | None = None) -> None:
        """Parameters, by place, whose gradients are sums of X (T,B,m) times v of place k, or times `factor` v."""
        if not entries:
            return
        X = np.where(self.graph.active[:, :, None], np.concatenate([part for _, part in entries], axis=-1), 0.0)
        self.groups[k] = Groups(X, self.graph.places[k].value.shape[-1], factor)
        ends = [0, *itertools.accumulate(part.shape[-1] for _, part in entries)]
        self.entries[k] = [(i, slice(*ends[j : j + 2])) for j, (i, _) in enumerate(entries)]

    def _terms(self, i: int) -> float:
        """How many terms are summed into the adjoint at place i; 1 more for the product itself."""
        return self.model.terms(self.graph.places[i].consumers + 1)

    def _linear(self, k: int) -> None:
        places, place, model = self.graph.places, self.graph.places[k], self.model
        ones = np.ones((*self.graph.active.shape, 1))
        pairs = [place.inputs[2 * i : 2 * i + 2] for i in range(place.products)]
        rest = place.inputs[2 * place.products :]
        entries = [(W, places[X].value) for X, W in pairs] + [(i, ones) for i in rest if places[i].constant]
        self._enter(k, entries)
        into, x, end = [], [], 0
        for X, W in pairs:
            start, end = end, end + places[W].value.shape[0]
            if places[X].name == "x":
                x.append(slice(start, end))
                continue
            flushed = model.read(places[W].value).T if model.flush else None
            into.append((X, slice(start, end), self._terms(X), model.lost(places[X].consumers + 1), flushed))
        together = np.concatenate([np.zeros((0, place.value.shape[-1])), *(places[W].value for _, W in pairs)]).T
        self.products[k] = Products(np.ascontiguousarray(together), np.abs(together), into, x)
        addends = [i for i in rest if not places[i].constant]
        for i in addends:  # in forward mode the sum stands on this side, with the products' tangents in it
            self._edge(k, i, None, 0.0, max(self._terms(i), self._tangents(place, len(addends))))

    def _tangents(self, place: Place, addends: int) -> float:
        """How many terms the tangent of a linear node has in forward mode: x has none, a parameter is one more."""
        places = self.graph.places
        pairs = [place.inputs[2 * i : 2 * i + 2] for i in range(place.products)]
        return self.model.terms(sum(places[W].value.shape[0] for X, W in pairs if places[X].name != "x") + addends + 1)

    def _activation(self, k: int) -> None:
        place, model = self.graph.places[k], self.model
        i = place.inputs[0]
        assert place.slope is not None
        slope, z, D = place.slope, place.value, self.forward.nodes[k]
        if place.op == "identity":
            self._edge(k, i, None, 0.0, self._terms(i) - 1)
            return
        if place.op == "relu":
            a, Da = self.graph.places[i].value, self.forward.nodes[i]
            slack = np.where(np.abs(a) <= model.u * Da * INFLATE, 1 / model.u, 0.0)  # a kink: anything in [0,1]
        elif place.op == "tanh":  # 1-h^2, (1-h)(1+h), or dh - dh h h
            slack = 2 * np.abs(z) * D + model.u * D * D + 2 + 3 * slope + model.eta
        else:  # s (1-s), s - s^2, or by way of tanh
            by_tanh = 0.25  # (1-T^2)/4 with T = tanh(a/2): the roundings of T^2 and of 1-T^2
            slack = np.abs(1 - 2 * z) * D + model.u * D * D + z * z + 3 * slope + by_tanh + model.eta
        self._edge(k, i, slope, slack, self._terms(i))

    def _mul(self, k: int) -> None:
        a, b = self.graph.places[k].inputs
        shape = self.graph.places[k].value.shape
        for this, other in ((a, b), (b, a)):
            place = self.graph.places[other]
            value = spread(place.value, shape) if place.constant else place.value
            if self.graph.places[this].constant:
                self._enter(k, [(this, np.ones((*self.graph.active.shape, 1)))], value)
                continue
            slack = self.model.read(value) if place.constant else self.forward.nodes[other]
            self._edge(k, this, value, slack, self._terms(this))

    def _add(self, k: int) -> None:
        for i in self.graph.places[k].inputs:
            self._edge(k, i, None, 0.0, self._terms(i))

    def _mix(self, k: int) -> None:
        z, n, h = self.graph.places[k].inputs
        D = self.forward.nodes
        vz, vn, vh = (self.graph.places[i].value for i in (z, n, h))
        both = np.abs(vh) + np.abs(vn)
        self._edge(k, z, vh - vn, D[h] + D[n] + 3 * both, self._terms(z), 2 * ROUND * both)
        self._edge(k, n, 1 - vz, D[z] + 2, self._terms(n), np.full(vz.shape, 2 * ROUND))
        self._edge(k, h, vz, D[z], self._terms(h))
