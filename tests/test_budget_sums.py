"""What sums may cost: no order of one sum, and no nesting of three, is worse than the budget's lemmas say.

The worst rounding of an addition is u times the sum it forms, so that an order costs the sum of all partial sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation, sweeps
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model
from oracle.budget.backward import Groups, Seeds, backward_errors
from oracle.budget.forward import forward_errors
from oracle.budget.graph import Graph, build_graph
from oracle.budget.passes import Moment
from oracle.budget.transport import step_tangents
from oracle.solution import solve

Array = NDArray[Any]
MODEL = Model("float64")


def make(cell: str, truncation: Truncation, lengths: Sequence[int]) -> Problem:
    """A random problem with a loss on every state, without a readout."""
    T, B, D, H = max(lengths), len(lengths), 2, 3
    rng = np.random.default_rng(11)
    params = {name: rng.normal(size=shape) * 0.7 for name, shape in CELLS[cell].shapes(D, H).items()}
    loss = Loss("cotangent", g=rng.normal(size=(T, B, H)))
    states: dict[str, Any] = {f"{state}0": rng.normal(size=(B, H)) for state in CELLS[cell].states}
    activation = "tanh" if CELLS[cell].activations else None
    x = rng.normal(size=(T, B, D))
    return Problem(
        cell, params, x, loss, activation=activation, lengths=np.array(lengths), truncation=truncation, **states
    )


def costs(terms: Sequence[float]) -> Iterator[tuple[float, float]]:
    """(sum, cost) of every tree of additions over the terms, up to the symmetry of addition."""
    if len(terms) == 1:
        yield terms[0], 0.0
        return
    first, rest = terms[0], range(1, len(terms))
    for size in range(len(terms) - 1):
        for mates in itertools.combinations(rest, size):
            others = [terms[i] for i in rest if i not in mates]
            for (a, cost_a), (b, cost_b) in itertools.product(
                costs([first, *(terms[i] for i in mates)]), costs(others)
            ):
                yield a + b, cost_a + cost_b + abs(a + b)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_no_tree_of_additions_costs_more_than_flat(shift: float) -> None:
    rng = np.random.default_rng(3)
    used = []
    for _ in range(4):
        terms = rng.normal(size=6) + shift
        size, total = float(np.abs(terms).sum()), abs(float(terms.sum()))
        worst = max(cost for _, cost in costs(terms.tolist())) + size  # and the products' own roundings
        bound = float(MODEL.flat(np.array(6.0), np.array(size), np.array(total)))
        assert bound <= 6 * size
        used.append(worst / bound)
    assert 0.6 <= max(used) <= 1


def nested_cost(terms: Array, levels: Sequence[tuple[int, ...]]) -> float:
    """What sums over axes, level by level, cost where each adds its largest terms of one sign first."""
    cost = float(np.abs(terms).sum())
    for axes in levels:
        flat = np.moveaxis(terms, axes, range(-len(axes), 0)).reshape(*_rest(terms, axes), -1)
        worst = 0.0
        for sign in (1, -1):
            ordered = np.cumsum(-np.sort(-sign * flat, axis=-1), axis=-1)
            worst = np.maximum(worst, np.abs(ordered[..., 1:]).sum(axis=-1))
        cost += float(np.sum(worst))
        terms = terms.sum(axis=axes, keepdims=True)
    return cost


def _rest(terms: Array, axes: Sequence[int]) -> list[int]:
    return [n for axis, n in enumerate(terms.shape) if axis not in axes]


@pytest.mark.parametrize("sizes", [(6, 6, 3), (5, 5, 1), (1, 1, 4), (4, 4, 9)])
def test_no_nesting_costs_more_than_nested(sizes: tuple[int, int, int]) -> None:
    """Terms for t, s, b; those with s > t are 0. Groups whose sums do not cancel are among them."""
    T, _, B = sizes
    rng = np.random.default_rng(5)
    orders = [
        ((0,), (1, 2)),
        ((1, 2), (0,)),
        ((0, 2), (1,)),
        ((1,), (0,), (2,)),
        ((2,), (0,), (1,)),
        ((0,), (1,), (2,)),
    ]
    mask = np.tril(np.ones((T, T)))[:, :, None]
    for kind in range(4):
        terms = rng.normal(size=sizes) * mask
        if kind:  # all of one sign for each t, s, or b
            signs = [1 if axis == kind - 1 else 0 for axis in range(3)]
            shape = [n if use else 1 for n, use in zip(sizes, signs, strict=True)]
            terms = np.abs(terms) * rng.choice([-1.0, 1.0], shape)
        groups = Groups(np.ones((T, B, 1)), 1)
        for s in range(T):
            V = terms[:, s].T[:, :, None]
            groups.add(Moment(np.array([s]), np.arange(T)[None]), V, np.zeros((B, 1)))
        bound = MODEL.nested((T * B, T + B), np.abs(terms).sum(), np.asarray(groups.total()))
        for order in orders:
            assert nested_cost(terms, order) <= float(np.max(bound)), (kind, order)


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize(
    "truncation", [Truncation(), Truncation("window", k=2), Truncation("periodic", k1=2, k2=3)], ids=str
)
def test_totals_are_those_of_the_double_sum(cell: str, truncation: Truncation) -> None:
    """Of every loss on its own, by running the backward pass with all other cotangents 0."""
    problem = make(cell, truncation, (5, 3))
    T, lengths = problem.T, problem.row_lengths
    solution = solve(problem, BallNumbers(128))
    graph = build_graph(solution.unrolled)
    forward = forward_errors(graph, MODEL)
    g = np.zeros((T, problem.B, graph.S))
    g[:, :, : problem.H] = np.where(np.arange(T)[:, None, None] < lengths[:, None], np.asarray(problem.loss.g), 0.0)
    passes = sweeps(problem.truncation, lengths, T)
    found = backward_errors(graph, MODEL, forward, Seeds(g, np.zeros_like(g), np.abs(g)), passes)
    gradients = []
    for t in range(T):
        alone = np.array(problem.loss.g)
        alone[np.arange(T) != t] = 0
        one = solve(replace(problem, loss=Loss("cotangent", g=alone)), BallNumbers(128))
        gradients.append({name: one.near(f"d{name}")[0] for name in problem.params})
    blocks = {block: source for block, source, _ in graph.prelude}
    columns = {block: slice(*cut) for block, _, cut in graph.prelude}
    sources: dict[int, int] = {}
    for _, i in found.totals:
        sources[i] = sources.get(i, 0) + 1
    for (_, i), total in found.totals.items():
        name = graph.places[blocks.get(i, i)].name
        parts = [np.abs(gradient[name].reshape(-1, gradient[name].shape[-1])) for gradient in gradients]
        by_loss = np.sum(parts, axis=0)
        by_loss = by_loss[:, columns.get(i, slice(None))]
        assert sources[i] == 1
        assert (total >= by_loss * (1 - 1e-12)).all()
        assert (total <= 8 * problem.T * np.abs(by_loss).max()).all()


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_images_are_the_derivatives_of_linear_nodes(cell: str) -> None:
    """L_z of one step against differences of its own nodes, by shifting the initial state.

    A difference quotient Q(s) = f' + s f''/2 + ... is off by Q(2s) - Q(s), but for higher powers of s: twice that is
    granted. Each value is a float within a unit of its last place, so that Q(s) is off by 2.5 units / s with the
    rounding of the difference, Q(2s) by half of it, and what is granted by 3.75 units / s: 8 are more than both.
    """
    problem = make(cell, Truncation(), (1, 1))
    shift = 2.0**-24
    base = build_graph(solve(problem, BallNumbers(128)).unrolled)
    _, _, tangents = step_tangents(base, adjoint=False)
    H = problem.H
    for i, state in enumerate(problem.spec.states):
        for j in range(H):
            near, far = (moved_graph(problem, state, j, times * shift) for times in (1, 2))
            for k, (signed, absolute) in tangents.items():
                at, once, twice = (graph.places[k].value[0] for graph in (base, near, far))
                quotient, wider = (once - at) / shift, (twice - at) / (2 * shift)
                slack = 2 * np.abs(wider - quotient) + 8 * np.spacing(np.abs(at) + np.abs(once)) / shift
                assert (np.abs(signed[0, :, i * H + j] - quotient) <= slack).all()
                assert (slack <= 2.0**-18 * (1 + np.abs(quotient))).all()  # the comparison says something
                assert (absolute[0, :, i * H + j] >= np.abs(signed[0, :, i * H + j]) * (1 - 1e-12)).all()


def moved_graph(problem: Problem, state: str, j: int, shift: float) -> Graph:
    """The graph of the problem with unit j of an initial state shifted, in every row."""
    moved = np.array(getattr(problem, f"{state}0"))
    moved[:, j] += shift
    fields: dict[str, Any] = {f"{state}0": moved}
    return build_graph(solve(replace(problem, **fields), BallNumbers(128)).unrolled)
