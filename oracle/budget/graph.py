"""The step's graph as arrays: what the trace recorded at every step, node by node, as float64 arrays over (T,B).

All steps run the same operations, so that node k of one step corresponds to node k of every other. Values are rounded
to float64 here; what that costs is accounted for in `oracle.budget.transport`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem
from oracle.numbers import Matrix
from oracle.trace import Node
from oracle.unrolled import Unrolled

Floats = NDArray[np.float64]
Tangents = dict[int, tuple[Floats, Floats]]
ACTIVATIONS = ("tanh", "sigmoid", "relu", "identity")


def floats(matrix: Matrix) -> Floats:
    """A matrix, rounded to float64."""
    return np.array([float(value) for value in matrix.data], dtype=np.float64).reshape(matrix.rows, matrix.cols)


@dataclass
class Place:
    """One node of the step's graph: its operation, where its inputs are, and its values (T,B,n) or a parameter (m,n).

    slope     phi'(a) of an activation (T,B,n)
    consumers how many terms are added up to form the node's adjoint
    """

    op: str
    name: str
    inputs: tuple[int, ...]
    products: int
    extra: tuple[int, int] | None
    constant: bool
    value: Floats
    slope: Floats | None = None
    consumers: int = 0
    magnitude: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.magnitude = np.abs(self.value)


@dataclass
class Graph:
    """The places in order; `outputs` and `inputs` say where each state's new and old value is. S = H times states."""

    places: list[Place]
    states: tuple[str, ...]
    outputs: dict[str, int]
    inputs: dict[str, int]
    active: NDArray[np.bool_]  # (T,B): whether the row still runs
    prelude: list[tuple[int, int, tuple[int, int]]]  # (block, source, columns) of parameters cut into blocks
    tangents: dict[bool, tuple[Floats, Floats, Tangents]] = field(default_factory=dict)  # step_tangents keeps its own

    @cached_property
    def S(self) -> int:
        """The size of the whole state of one row."""
        return sum(self.places[i].value.shape[-1] for i in self.inputs.values())


@dataclass
class Rounded:
    """What a budget needs of a solution, rounded to float64: the graph, o and dL/do (T,B,K), the last states (B,H)."""

    problem: Problem
    graph: Graph
    outputs: Floats
    cotangents: Floats
    last: dict[str, Floats]


def rounded(unrolled: Unrolled) -> Rounded:
    """Of a problem's trace."""
    problem = unrolled.problem
    shape = (problem.T, problem.B, problem.K)
    last = {name: floats(values[-1]) for name, values in unrolled.states.items()}
    outputs, cotangents = floats(unrolled.outputs).reshape(shape), floats(unrolled.cotangents).reshape(shape)
    return Rounded(problem, build_graph(unrolled), outputs, cotangents, last)


def spread(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Values broadcast to a shape, in memory of their own: of small arrays that takes a fifth of numpy.broadcast_to.

    >>> spread(np.array([[1.0], [2.0]]), (2, 3)).tolist()
    [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    """
    out = np.empty(shape, dtype=values.dtype)
    out[...] = values
    return out


def slope_of(op: str, a: Floats) -> Floats:
    """phi'(a) in float64, with full relative accuracy: from exp(-|a|), never as a difference."""
    if op == "identity":
        return np.ones(a.shape)
    if op == "relu":
        return (a > 0).astype(np.float64)
    e = np.exp(-np.abs(a) * (2 if op == "tanh" else 1))
    slope: Floats = e / (1 + e) ** 2
    return 4 * slope if op == "tanh" else slope


def build_graph(unrolled: Unrolled) -> Graph:
    """Stack the trace of all steps into one graph of arrays."""
    first = unrolled.steps[0]
    T, B = unrolled.problem.T, unrolled.problem.B
    places: list[Place] = []
    where: dict[int, int] = {}

    def put(node: Node, place: Place) -> int:
        where[id(node)] = len(places)
        places.append(place)
        return len(places) - 1

    for leaf in unrolled.leaves.values():
        put(leaf, Place("leaf", leaf.name, (), 0, None, True, floats(leaf.value)))
    prelude = []
    for node in unrolled.prelude:
        source = where[id(node.inputs[0])]
        block = put(node, Place("columns", "", (source,), 0, node.extra, True, floats(node.value)))
        prelude.append((block, source, node.extra))

    def over_time(pick: list[Matrix]) -> Floats:
        return np.array([float(v) for m in pick for v in m.data], dtype=np.float64).reshape(T, B, pick[0].cols)

    for name, node in first.inputs.items():
        put(node, Place("leaf", name, (), 0, None, False, over_time([s.inputs[name].value for s in unrolled.steps])))
    for k, node in enumerate(first.nodes):
        value = over_time([step.nodes[k].value for step in unrolled.steps])
        inputs = tuple(where[id(n)] for n in node.inputs)
        extra = node.extra if node.op == "columns" else None
        i = put(node, Place(node.op, "", inputs, node.products, extra, node.constant, value))
        if node.op in ACTIVATIONS:
            places[i].slope = slope_of(node.op, places[inputs[0]].value)
    lengths = unrolled.problem.row_lengths
    graph = Graph(
        places,
        unrolled.problem.spec.states,
        {name: where[id(node)] for name, node in first.outputs.items()},
        {name: where[id(node)] for name, node in first.inputs.items() if name != "x"},
        np.arange(T)[:, None] < lengths[None, :],
        prelude,
    )
    count_consumers(graph, unrolled.problem.K if unrolled.problem.readout == "linear" else 1)
    return graph


def count_consumers(graph: Graph, readout: int) -> None:
    """How many terms make up each adjoint: W's columns for a product, one for an entrywise use, K for the readout.

    A state is one sum, of its uses in its own step, in the next one, and in the readout, in any order: a loop may add
    the readout's K products to the carry one by one. A final cotangent stands where there is no next step.
    """
    for place in graph.places:
        if place.constant:
            continue
        for i in range(place.products):
            X, W = place.inputs[2 * i], place.inputs[2 * i + 1]
            graph.places[X].consumers += graph.places[W].value.shape[-1]
        rest = place.inputs[2 * place.products :]
        for i in rest:
            graph.places[i].consumers += 2 if place.op == "mix" else 1
    for name, i in graph.outputs.items():
        after = graph.places[graph.inputs[name]]
        graph.places[i].consumers += max(after.consumers, 1) + (readout if name == "h" else 0)
        after.consumers = graph.places[i].consumers
