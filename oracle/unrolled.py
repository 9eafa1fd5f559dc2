"""The network of a problem, unrolled and evaluated in a number system: states, outputs, loss, and the trace.

s_t = step(x_t, s_{t-1}) for t <= length, s_t = s_{t-1} after it        o_t = h_t W_hy + b_y, or o_t = h_t
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from math import prod
from operator import mul, sub
from typing import Any

from bptt.losses import row_weights
from bptt.problem import Problem
from oracle.numbers import Matrix, Numbers, exact_fraction, stack
from oracle.trace import Node, Trace


@dataclass
class Step:
    """One step of the trace: what went in, what came out, and the operations between, in order."""

    inputs: dict[str, Node]
    outputs: dict[str, Node]
    nodes: list[Node]


@dataclass
class Unrolled:
    """A problem evaluated in N.

    Shapes: states[name][t] is (B,H) for t = 0..T; outputs is (T*B,K), step after step; cotangents, dL/do, likewise;
    adjoints[t][name], dL/dstate_t as the truncation has it, (B,H), once reverse mode has run; readout is the node of
    the outputs, where they are not h itself.
    """

    problem: Problem
    N: Numbers
    leaves: dict[str, Node]
    prelude: list[Node]
    steps: list[Step] = field(default_factory=list)
    states: dict[str, list[Matrix]] = field(default_factory=dict)
    readout: Node | None = None
    outputs: Matrix = field(init=False)
    loss: Any = None
    cotangents: Matrix = field(init=False)
    final_cotangents: dict[str, Matrix | None] = field(default_factory=dict)
    adjoints: dict[int, dict[str, Matrix]] = field(default_factory=dict)


def unroll(problem: Problem, N: Numbers) -> Unrolled:
    """Evaluate a problem's states, outputs, loss and dL/do in N.

    Raises: Undecided where a ball straddles a branch; NotInThisSystem where N lacks a function the problem needs.

    >>> import numpy as np
    >>> from bptt.problem import Loss
    >>> from oracle.rational_numbers import RationalNumbers
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> unroll(p, RationalNumbers()).loss  # h_1 + h_2
    Fraction(10, 1)
    """
    T, B, D, H, spec = problem.T, problem.B, problem.D, problem.H, problem.spec
    trace = Trace(N)
    leaves = {name: Node("leaf", N.decode(problem.params[name]), name=name) for name in problem.parameter_shapes()}
    w = spec.prepare(trace, {n: leaves[n] for n in spec.shapes(D, H)}, H)
    out = Unrolled(problem, N, leaves, trace.nodes)
    x_all = N.decode(problem.x)
    lengths = problem.row_lengths.tolist()
    shortest = min(lengths)
    for name in spec.states:
        initial = getattr(problem, f"{name}0")
        out.states[name] = [N.zeros(B, H) if initial is None else N.decode(initial)]
    cec = problem.truncation.kind == "cec"
    for t in range(T):
        trace.nodes = []
        x_t = Node("leaf", x_all.rows_from(t * B, B), name="x")
        state = {name: Node("leaf", out.states[name][-1], name=name) for name in spec.states}
        new = spec.step(trace, w, x_t, state, problem.activation, cec)
        out.steps.append(Step({"x": x_t, **state}, new, trace.nodes))
        for name, node in new.items():
            old = out.states[name][-1]
            if t < shortest:
                out.states[name].append(node.value)
            else:
                rows = [node.value.row(b) if t < lengths[b] else old.row(b) for b in range(B)]
                out.states[name].append(Matrix(B, H, [value for row in rows for value in row]))
    trace.nodes = []
    h = Node("leaf", stack(out.states["h"][1:]), name="h")
    if problem.readout == "linear":
        out.readout = trace.linear([(h, leaves["W_hy"])], [leaves["b_y"]])
    out.outputs = out.readout.value if out.readout is not None else h.value
    _loss(out)
    return out


def _loss(out: Unrolled) -> None:
    """The loss and dL/do: squared error 2 scale w (o - y); cross-entropy w ((sum y) softmax(o) - y); cotangent g."""
    problem, N = out.problem, out.N
    T, B, K = problem.T, problem.B, problem.K
    lengths = problem.row_lengths.tolist()
    fractions = row_weights(problem)
    ratios = {weight: N.ratio(weight) for weight in fractions}
    weights = [ratios[weight] for weight in fractions]
    rows = [(t * B + b, weights[b]) for t in range(T) for b in range(B) if t < lengths[b]]
    terms, found = _row_losses(out, rows)
    gradient: list[Any] = [[N.scalar(0)] * K] * (T * B)
    for (i, _), row in zip(rows, found, strict=True):
        gradient[i] = row
    for name in problem.spec.states:
        final = getattr(problem.loss, f"g_{name}_final")
        out.final_cotangents[name] = None
        if final is not None:
            g = out.final_cotangents[name] = N.decode(final)
            terms.append(N.sum(N.mul(g, out.states[name][-1]).data))
    out.loss = N.sum(terms)
    out.cotangents = Matrix(T * B, K, list(chain.from_iterable(gradient)))


Rows = list[tuple[int, Any]]
"""Which rows of the outputs have a loss, and its weight w."""
RowLosses = tuple[list[Any], list[list[Any]]]
"""The terms of the loss, weighted, and the gradient (K,) of each of the rows."""


def _row_losses(out: Unrolled, rows: Rows) -> RowLosses:
    loss = out.problem.loss
    if loss.kind == "cotangent":
        return _cotangent(out, rows)
    if loss.kind == "squared_error":
        return _squared_error(out, rows)
    assert loss.target is not None
    return _cross_entropy_of_labels(out, rows) if loss.target.ndim == 2 else _cross_entropy(out, rows)


def _cotangent(out: Unrolled, rows: Rows) -> RowLosses:
    N = out.N
    assert out.problem.loss.g is not None
    given = N.decode(out.problem.loss.g)
    gradients = [given.row(i) for i, _ in rows]
    return [N.sum(list(map(mul, g, out.outputs.row(i)))) for (i, _), g in zip(rows, gradients, strict=True)], gradients


def _squared_error(out: Unrolled, rows: Rows) -> RowLosses:
    N, loss = out.N, out.problem.loss
    assert loss.target is not None and loss.scale is not None
    target, scale = N.decode(loss.target), N.ratio(exact_fraction(loss.scale))
    terms, gradients = [], []
    for i, w in rows:
        differences = list(map(sub, out.outputs.row(i), target.row(i)))
        twice = w * scale * 2
        terms.append(w * scale * N.sum([d * d for d in differences]))
        gradients.append([twice * d for d in differences])
    return terms, gradients


def _cross_entropy(out: Unrolled, rows: Rows) -> RowLosses:
    N = out.N
    assert out.problem.loss.target is not None
    target = N.decode(out.problem.loss.target)
    terms, gradients = [], []
    for i, w in rows:
        o, y = out.outputs.row(i), target.row(i)
        powers, total, shift = shifted_powers(N, o)
        log_sum = shift + N.log(total)
        share = N.sum(y) / total
        terms.append(w * N.sum([y_k * (log_sum - o_k) for y_k, o_k in zip(y, o, strict=True)]))
        gradients.append([w * (share * power - y_k) for power, y_k in zip(powers, y, strict=True)])
    return terms, gradients


def _cross_entropy_of_labels(out: Unrolled, rows: Rows) -> RowLosses:
    """As `_cross_entropy` with y = 1 at the label and 0 elsewhere, where nothing is multiplied by 0 or 1.

    Rows of one weight w need one logarithm: sum of w (log total - o_label) = w (log of the product of the totals -
    the sum of their o_label). Outputs of moderate size need no shift; but with it the loss of a single class is 0.
    """
    N, K = out.N, out.problem.K
    assert out.problem.loss.target is not None
    labels = out.problem.loss.target.reshape(-1).tolist()
    shifted = out.outputs.data
    if len(rows) < out.outputs.rows:
        shifted = [value for i, _ in rows for value in out.outputs.row(i)]
    if K == 1 or not N.moderate(shifted):
        shifts = [max(shifted[n : n + K]) for n in range(0, len(shifted), K)]
        shifted = list(map(sub, shifted, _each(shifts, K)))
    powers = list(map(N.exp, shifted))
    totals = [N.sum(powers[n : n + K]) for n in range(0, len(powers), K)]
    gradient = list(map(mul, powers, _each([w / total for (_, w), total in zip(rows, totals, strict=True)], K)))
    groups: dict[int, tuple[Any, list[Any], list[Any]]] = {}  # by weight: w, the o_label - shift, the totals
    for n, (i, w) in enumerate(rows):
        at = n * K + labels[i]
        gradient[at] = gradient[at] - w if K > 1 else N.scalar(0)
        if id(w) not in groups:
            groups[id(w)] = (w, [], [])
        groups[id(w)][1].append(shifted[at])
        groups[id(w)][2].append(totals[n])
    terms = [w * (N.log(prod(totals)) - N.sum(chosen)) for w, chosen, totals in groups.values()]
    return terms, [gradient[n : n + K] for n in range(0, len(gradient), K)]


def _each(values: list[Any], times: int) -> Iterator[Any]:
    """Every value so many times."""
    return chain.from_iterable(map(repeat, values, repeat(times)))


def shifted_powers(N: Numbers, o: list[Any]) -> tuple[list[Any], Any, Any]:
    """exp(o - shift), their sum, and the shift: any is right, and a large one keeps exp small.

    >>> from oracle.mpmath_numbers import MpmathNumbers
    >>> N = MpmathNumbers(64)
    >>> shifted_powers(N, [N.scalar(5), N.scalar(5)])
    ([mpf('1.0'), mpf('1.0')], mpf('2.0'), mpf('5.0'))
    """
    shift = max(o)
    powers = list(map(N.exp, map(sub, o, repeat(shift))))
    return powers, N.sum(powers), shift
