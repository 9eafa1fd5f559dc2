"""How errors travel from step to step: products of the exact Jacobians, not products of absolute values.

With P(s->t) = J_{s+1} ... J_t the exact Jacobian from state s to state t, local errors l_s (bounds, >= 0) arrive as

    |e_t| <= sum_{s<=t} l_s |P(s->t)|                                                        (1)

The products are formed in float64. Each product of two adds E_q with |E_q| <= kappa 2^-53 |P(s->q-1)| |J_q|_abs, where
kappa counts the roundings of one entry and |J|_abs is the sum of absolute paths. Since

    P = P_fl - sum_q E_q P(q->t),   sum_s l_s |E_{s,q}| <= kappa 2^-53 e_{q-1} |J_q|_abs      (2)

the float64 error of the transport is itself a local error, and (1) with l_q enlarged by (2) is rigorous. Derivation:
ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from oracle.budget.graph import ACTIVATIONS, Floats, Graph, Tangents

ROUND = 2.0**-53


def step_jacobians(graph: Graph, adjoint: bool) -> tuple[Floats, Floats]:
    """(J, J_abs), each (T,B,S,S): J[t,b,i,j] = d s_t,j / d s_{t-1},i, and the sum of the absolute values of its paths.

    `adjoint` leaves out what errors do not travel back through (`hold`). Where a row has ended, J is the identity.
    """
    return step_tangents(graph, adjoint)[:2]


def step_tangents(graph: Graph, adjoint: bool) -> tuple[Floats, Floats, Tangents]:
    """J and J_abs, and the same for each node z that depends on the state: L_z[t,b,i,j] = d z_j / d s_{t-1},i.

    The graph keeps them: forward and backward errors ask for the same, but where something is held.
    """
    without = adjoint and any(place.op == "hold" for place in graph.places)
    if without not in graph.tangents:
        graph.tangents[without] = _step_tangents(graph, without)
    return graph.tangents[without]


def _step_tangents(graph: Graph, adjoint: bool) -> tuple[Floats, Floats, Tangents]:
    T, B = graph.active.shape
    S = graph.S
    tangents: Tangents = {}
    offset = 0
    for i in graph.inputs.values():
        H = graph.places[i].value.shape[-1]
        seed = np.zeros((T, B, S, H))
        seed[:, :, np.arange(offset, offset + H), np.arange(H)] = 1.0
        tangents[i] = (seed, seed)
        offset += H
    for k, place in enumerate(graph.places):
        if place.op == "leaf" or place.constant or (adjoint and place.op == "hold"):
            continue
        signed, absolute = _tangent(graph, k, tangents)
        if signed is not None and absolute is not None:
            tangents[k] = (signed, absolute)
    zero = np.zeros((T, B, S, 0))
    J = np.concatenate([zero] + [tangents[i][0] for i in graph.outputs.values()], axis=-1)
    J_abs = np.concatenate([zero] + [tangents[i][1] for i in graph.outputs.values()], axis=-1)
    ended = ~graph.active
    J[ended] = np.eye(S)
    J_abs[ended] = np.eye(S)
    return J, J_abs, tangents


def _tangent(graph: Graph, k: int, known: Tangents) -> tuple[Floats | None, Floats | None]:
    """Forward differentiation of node k, for all steps and all state components at once."""
    places = graph.places
    place = places[k]
    parts: list[tuple[Floats, Floats]] = []

    def through(i: int, factor: Floats | float, size: Floats | float | None = None) -> None:
        if i in known:
            parts.append((known[i][0] * factor, known[i][1] * (np.abs(factor) if size is None else size)))

    def rows(i: int) -> Floats:
        value = places[i].value
        return value if places[i].constant else value[:, :, None, :]

    inputs = place.inputs
    if place.op == "linear":
        for i in range(place.products):
            X, W = inputs[2 * i], inputs[2 * i + 1]
            if X in known:
                parts.append((known[X][0] @ places[W].value, known[X][1] @ places[W].magnitude))
        for i in inputs[2 * place.products :]:
            through(i, 1.0)
    elif place.op in ACTIVATIONS:
        assert place.slope is not None
        through(inputs[0], place.slope[:, :, None, :])
    elif place.op == "mul":
        through(inputs[0], rows(inputs[1]))
        through(inputs[1], rows(inputs[0]))
    elif place.op == "mix":
        z, n, h = inputs
        through(z, rows(h) - rows(n), np.abs(rows(h)) + np.abs(rows(n)))  # float64 loses a part of the terms' size,
        through(n, 1 - rows(z), 1 + np.abs(rows(z)))  # not of their difference's
        through(h, rows(z))
    elif place.op == "columns":
        start, stop = place.extra or (0, 0)
        if inputs[0] in known:
            return known[inputs[0]][0][..., start:stop], known[inputs[0]][1][..., start:stop]
    else:  # add, hold
        for i in inputs:
            through(i, 1.0)
    if not parts:
        return None, None
    return sum(p[0] for p in parts), sum(p[1] for p in parts)  # type: ignore[return-value]


class Transport:
    """The sums (1) for growing t (or, with transposed Jacobians, for falling t), over rows b at once.

    Sources are appended with `add`; `advance` multiplies every product by one more Jacobian; `arrive` forms (1).
    The products are kept for each row as one tall matrix, so that a step is one matrix product a row. A source is
    `rows` local errors: those of the state, or of nodes from which the state depends through a given matrix.
    """

    def __init__(self, T: int, B: int, S: int, rows: int | None = None) -> None:
        self.S, self.rows, self.count = S, rows or S, 0
        self.products = np.zeros((B, (T + 1) * self.rows, S))
        self.spare = np.empty_like(self.products)
        # so many rows at a time stay in the cache, and are too few for BLAS to divide among threads: on a busy machine
        # these wait for each other far longer than the product takes
        self.block = max(64, min(8192 // S, 200_000 // S**2))

    def add(self, product: Floats | None = None) -> None:
        """A new source whose product is the identity, or (B,rows,S)."""
        n = self.count * self.rows
        self.products[:, n : n + self.rows] = np.eye(self.S) if product is None else product
        self.count += 1

    def advance(self, J: Floats) -> None:
        """P <- P J for every source; J (B,S,S)."""
        for rows in self._blocks(self.count):
            np.matmul(self.products[:, rows], J, out=self.spare[:, rows])
        self.products, self.spare = self.spare, self.products

    def arrive(self, sources: Floats, through: Floats | None = None) -> Floats:
        """(1): sources (B,count,R,rows), R bounds each -> (B,R,S), or with |P L| for `through` L (B,S,n) -> (B,R,n)."""
        B, count, R, _ = sources.shape
        flat = np.ascontiguousarray(sources.transpose(0, 2, 1, 3)).reshape(B, R, -1)
        arrived = np.zeros((B, R, self.S if through is None else through.shape[-1]))
        for rows in self._blocks(count):
            products = self.products[:, rows]
            arrived += flat[:, :, rows] @ np.abs(products if through is None else products @ through)
        return np.where(np.isnan(arrived), np.inf, arrived)  # 0 times infinity: there is no bound

    def _blocks(self, count: int) -> Iterator[slice]:
        n = count * self.rows
        return (slice(i, min(i + self.block, n)) for i in range(0, n, self.block))
