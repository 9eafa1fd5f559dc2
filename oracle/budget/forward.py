"""Errors of the forward pass: how far any admissible computed state may be from the exact one.

With e_t the error of the computed state, Taylor's theorem about the exact trajectory gives, with nothing left out,

    e_t = e_{t-1} J_t + q_t,     |q_t| <= rounding of step t + second-order remainder over the tube        (1)

so that (1) of `oracle.budget.transport` applies with l_t = q_t. For each node z of a step two bounds are carried,
D_z >= |computed - exact| and q_z >= the part of it that is not the linear image of e_{t-1}:

    linear   D = D_X |W| + r,              q = q_X |W| + r,           r = n ((|X| + D_X) |W| + |addends|)  (2)
    mul      D = |x| D_y + |y| D_x + D_x D_y + r,  q likewise with q_x, q_y in the linear terms            (3)
    phi      D = |phi'| D_a + rem + r,     q = |phi'| q_a + rem + r,  rem = sup |phi''| D_a^2 / 2          (4)

At a linear node D_X |W| is bounded by the image of e_{t-1} too, and so is D at the new states by (1) itself:

    D_z <= sum_s q_s |P(s->t-1) L_z| + q_z,     L_z = d z / d s_{t-1}                                      (5)

All bounds are in units of u; a product of two of them carries a factor u. The radii of a tube are known when a step
begins, so that sup |phi''| is taken over the tube and no fixed point is needed. Derivation: ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from oracle.budget import compiled
from oracle.budget.graph import ACTIVATIONS, Floats, Graph
from oracle.budget.model import INFLATE, Model
from oracle.budget.transport import ROUND, Transport, step_tangents

SMALLEST = 2.0**-1022
SUP2 = {"tanh": 0.7698003589195011, "sigmoid": 0.09622504486493765}
"""sup |phi''|: 4/(3 sqrt 3) and 1/(6 sqrt 3), rounded up."""


@dataclass
class ForwardErrors:
    """Bounds in units of u: nodes[k] (T,B,n) for every place, states (T+1,B,S) for the whole state.

    probes: for each probe L, (T,B,n), a bound of |e_t L|.
    kappa, tiny: `conversion` and `underflow` of the graph.
    """

    nodes: dict[int, Floats]
    states: Floats
    probes: dict[str, Floats]
    kinks: int
    kappa: float
    tiny: float


@dataclass
class Probe:
    """A linear map L (T,B,S,n) of the new state, sums of absolute values of its paths, and their roundings in 2^-53."""

    signed: Floats
    absolute: Floats
    roundings: float = 0.0


def accumulate(graph: Graph, k: int) -> Floats:
    """(T,B,1): the number of terms of the sum that a `linear` node is; inputs that are exactly 0 add no term."""
    place = graph.places[k]
    T, B = graph.active.shape
    count = np.full((T, B, 1), float(len(place.inputs) - 2 * place.products))
    for i in range(place.products):
        X, W = graph.places[place.inputs[2 * i]], graph.places[place.inputs[2 * i + 1]]
        if X.name == "x":
            count += (X.value != 0).sum(axis=-1, keepdims=True)
        else:
            count += W.value.shape[0]
    return count


def forward_errors(graph: Graph, model: Model, probes: Mapping[str, Probe] | None = None) -> ForwardErrors:
    """The tube: bounds on the error of every node and state of an admissible forward pass."""
    steps = _Steps(graph, model, dict(probes or {}))
    if compiled.pays(graph, model, [graph.active.shape[0]], steps.width):
        compiled.forward(steps)
    else:
        steps.run()
    return ForwardErrors(steps.nodes, steps.states, steps.probed, steps.rules.kinks, steps.kappa, steps.tiny)


class _Steps:
    """The steps of the forward errors, (1): what they read, and the bounds that they leave."""

    def __init__(self, graph: Graph, model: Model, probes: dict[str, Probe]) -> None:
        self.graph, self.model, self.probes = graph, model, probes
        T, B = graph.active.shape
        self.J, self.J_abs, tangents = step_tangents(graph, adjoint=False)
        self.kappa, self.tiny = conversion(graph), underflow(graph)
        lanes = [k for k in tangents if graph.places[k].op == "linear"]  # the nodes whose images are formed: (5)
        ends = [0, *itertools.accumulate(tangents[k][0].shape[-1] for k in lanes)]
        self.columns = {k: slice(*ends[i : i + 2]) for i, k in enumerate(lanes)}
        self.signed, self.absolute = (
            np.concatenate([self.J[..., :0], *(tangents[k][i] for k in lanes)], axis=-1) for i in (0, 1)
        )
        self.rules = _Forward(graph, model)
        self.nodes: dict[int, Floats] = {
            k: np.zeros(p.value.shape) for k, p in enumerate(graph.places) if not p.constant
        }
        self.states = np.zeros((T + 1, B, graph.S))
        self.probed = {name: np.zeros((T, B, probe.signed.shape[-1])) for name, probe in probes.items()}
        self.width = graph.S + sum(array.shape[-1] for array in (self.signed, *self.probed.values()))

    def run(self) -> None:
        """All of them, for all rows at once."""
        graph, model, kappa, tiny, states, nodes = (
            self.graph, self.model, self.kappa, self.tiny, self.states, self.nodes
        )  # fmt: skip
        T, B = graph.active.shape
        S = graph.S
        arrived = np.zeros(B)  # the sum of all local errors so far
        transport = Transport(T, B, S)
        sources = np.zeros((B, T + 1, 1, S))
        if model.flush:
            states[0] += model.eta
            sources[:, 0, 0] = states[0]
        transport.add()
        for t in range(T):
            image = transport.arrive(sources[:, : t + 1], self.signed[t])[:, 0]
            image += kappa * ROUND * np.einsum("bi,bij->bj", states[t], self.absolute[t]) + tiny * arrived[:, None]
            both = self.rules.step(t, states[t], {k: image[:, part] for k, part in self.columns.items()})
            for k, bound in both.items():
                nodes[k][t] = bound[0]
            local = np.concatenate([both[i][1] for i in graph.outputs.values()], axis=-1)
            local += kappa * ROUND * np.einsum("bi,bij->bj", states[t], self.J_abs[t])  # (2) of transport
            local += tiny * arrived[:, None]
            local[~graph.active[t]] = 0.0
            arrived += local.sum(axis=-1)
            transport.advance(self.J[t])
            transport.add()
            sources[:, t + 1, 0] = local
            states[t + 1] = transport.arrive(sources[:, : t + 2])[:, 0]
            offset = 0
            for k in graph.outputs.values():
                end = offset + nodes[k].shape[-1]
                nodes[k][t] = np.minimum(nodes[k][t], states[t + 1][:, offset:end])
                offset = end
            for name, probe in self.probes.items():
                into = self.probed[name]
                largest = 1 + S * probe.absolute[t].max(axis=(1, 2), initial=0.0)[:, None]
                into[t] = transport.arrive(sources[:, : t + 2], probe.signed[t])[:, 0]
                into[t] += tiny * arrived[:, None] * largest
                slack = (kappa + probe.roundings) * ROUND
                into[t] += slack * np.einsum("bi,bij->bj", states[t + 1], probe.absolute[t])


def conversion(graph: Graph) -> float:
    """kappa of transport: roundings behind one entry of a product of Jacobians, in units of 2^-53.

    Two sums of up to S terms each, and the slopes: with its argument a rounded to float64, one is off by a relative
    2^-53 |a| (sigmoid) or 2^-52 |a| (tanh), and a path meets at most two.
    """
    largest = max((float(graph.places[p.inputs[0]].magnitude.max()) for p in graph.places if p.op in SUP2), default=0.0)
    return 2 * graph.S + 4 * min(largest, 800.0) + 64


def underflow(graph: Graph) -> float:
    """What underflow in float64 may take from one entry of a product of Jacobians, for the parameters at hand.

    Slopes, and products of them, below the smallest normal number lose up to that number each; past |a| = 800 a slope
    is nothing else, which is why kappa stops there. A path meets at most two weights and two entrywise factors.
    """
    largest = max((float(p.magnitude.max()) for p in graph.places if p.constant), default=0.0)
    factors = [graph.places[i] for p in graph.places if p.op in ("mul", "mix") for i in p.inputs]
    factor = max((float(p.magnitude.max()) for p in factors if not p.constant), default=0.0)
    return float(SMALLEST * graph.S * np.float64(1 + largest) ** 2 * np.float64(1 + factor) ** 2)


class _Forward:
    def __init__(self, graph: Graph, model: Model) -> None:
        self.graph, self.model = graph, model
        self.kinks = 0
        self.fixed: dict[int, Floats] = {}  # of each linear node: sum |X||W| + |addends| over the exact values
        self.terms: dict[int, Floats] = {}
        for k, place in enumerate(graph.places):
            if place.op == "linear":
                self.fixed[k] = self._absolute_sum(k)
                self.terms[k] = accumulate(graph, k)

    def _absolute_sum(self, k: int) -> Floats:
        places, place = self.graph.places, self.graph.places[k]
        total: Floats = np.zeros(place.value.shape)
        for i in range(place.products):
            total = total + places[place.inputs[2 * i]].magnitude @ places[place.inputs[2 * i + 1]].magnitude
        for i in place.inputs[2 * place.products :]:
            total = total + places[i].magnitude
        return total

    def step(self, t: int, before: Floats, images: dict[int, Floats]) -> dict[int, Floats]:
        """D and q, (2,B,n), of every node of step t, from the state's bound (B,S) and its images at linear nodes."""
        self.images = images
        e: dict[int, Floats] = {}
        offset = 0
        for k, place in enumerate(self.graph.places):
            if place.constant:
                continue
            if place.op != "leaf":
                e[k] = getattr(self, f"_{place.op}" if place.op not in ACTIVATIONS else "_activation")(t, k, e)
                continue
            shape = place.value.shape[1:]
            e[k] = np.full((2, *shape), self.model.eta if self.model.flush else 0.0)
            if k in self.graph.inputs.values():
                e[k][0] += before[:, offset : offset + shape[-1]]
                offset += shape[-1]
        return e

    def _linear(self, t: int, k: int, e: dict[int, Floats]) -> Floats:
        graph, model = self.graph, self.model
        places, place = graph.places, graph.places[k]
        both = np.zeros((2, *place.value.shape[1:]))
        n = self.terms[k][t]
        flushed: Floats | float = 0.0  # parameters that are read as 0
        for i in range(place.products):
            X, W = place.inputs[2 * i], place.inputs[2 * i + 1]
            both += e[X] @ places[W].magnitude
            if model.flush:
                flushed = flushed + (places[X].magnitude[t] + model.u * e[X][0]) @ model.read(places[W].value)
        for i in place.inputs[2 * place.products :]:
            if not places[i].constant:
                both += e[i]
            elif model.flush:
                flushed = flushed + model.read(places[i].value)
        size = self.fixed[k][t] + model.u * both[0]
        if k in self.images:
            both[0] = np.minimum(both[0], self.images[k] + both[1])  # (5)
        value = place.magnitude[t] + model.u * (both[0] + flushed)
        r = model.flat(n, size, value) + model.lost(n) * (size > 0) + flushed  # (2); sums of zeros are exact
        both += np.where((size < model.overflow) | ~graph.active[t][:, None], r, np.inf)
        return both

    def _activation(self, t: int, k: int, e: dict[int, Floats]) -> Floats:
        model, place = self.model, self.graph.places[k]
        i = place.inputs[0]
        assert place.slope is not None
        slope, z, Da = place.slope[t], place.magnitude[t], e[i][0]
        if place.op == "identity":
            return e[i]
        if place.op == "relu":
            kink = np.abs(self.graph.places[i].value[t]) <= model.u * Da * INFLATE
            self.kinks += int((kink & self.graph.active[t][:, None]).sum())
            return np.asarray(slope * e[i] + np.where(kink, Da, 0.0))  # |relu(a + d) - relu(a) - relu'(a) d| <= |d|
        steepest = slope + SUP2[place.op] * model.u * Da  # |phi'| over the tube
        bend = np.minimum(SUP2[place.op], 2 * steepest)  # |phi''| <= 2 |phi'|
        remainder = 0.5 * bend * model.u * Da * Da  # (4)
        moved = model.u * (slope * Da + remainder)
        r = 2 * model.ulp * (z + moved) + model.eta_function * (z + Da > 0)
        if place.op == "sigmoid":  # by way of tanh(a/2) = 2z - 1: half of its error; and a few roundings
            r = np.maximum(r, model.ulp * (np.abs(1 - 2 * z) + 2 * moved)) + 4 * z
        return np.asarray(slope * e[i] + (remainder + r))

    def _mul(self, t: int, k: int, e: dict[int, Floats]) -> Floats:
        a, b = self.graph.places[k].inputs
        (x, ex), (y, ey) = self._operand(t, a, e), self._operand(t, b, e)
        Dx, Dy, u = ex[0], ey[0], self.model.u
        r = (x + u * Dx) * (y + u * Dy) + self.model.eta
        return np.asarray(x * ey + y * ex + (u * Dx * Dy + r))  # (3)

    def _operand(self, t: int, i: int, e: dict[int, Floats]) -> tuple[Floats, Floats]:
        place = self.graph.places[i]
        if place.constant:
            return place.magnitude, self.model.read(place.value)[None]
        return place.magnitude[t], e[i]

    def _add(self, t: int, k: int, e: dict[int, Floats]) -> Floats:
        a, b = self.graph.places[k].inputs
        places, both = self.graph.places, e[a] + e[b]
        r = places[a].magnitude[t] + places[b].magnitude[t] + self.model.u * both[0] + self.model.eta
        return np.asarray(both + r)

    def _mix(self, t: int, k: int, e: dict[int, Floats]) -> Floats:
        """z h + (1-z) n: both algebras, n + z (h - n) too, stay within four roundings of |n| + |h|."""
        z, n, h = self.graph.places[k].inputs
        places, u = self.graph.places, self.model.u
        vz, vn, vh = places[z].value[t], places[n].value[t], places[h].value[t]
        Dz, both = e[z][0], e[n][0] + e[h][0]
        r = 4 * (np.abs(vn) + np.abs(vh) + u * both) * (1 + u * Dz) + 4 * self.model.eta
        image = np.abs(vh - vn) * e[z] + np.abs(1 - vz) * e[n] + np.abs(vz) * e[h]
        return np.asarray(image + (u * Dz * both + r))

    def _columns(self, t: int, k: int, e: dict[int, Floats]) -> Floats:
        place = self.graph.places[k]
        start, stop = place.extra or (0, 0)
        return e[place.inputs[0]][..., start:stop]

    def _hold(self, t: int, k: int, e: dict[int, Floats]) -> Floats:
        return e[self.graph.places[k].inputs[0]]
