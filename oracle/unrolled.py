"""The network of a problem, unrolled and evaluated in a number system: states, outputs, loss, and the trace.

s_t = step(x_t, s_{t-1}) for t <= length, s_t = s_{t-1} after it        o_t = h_t W_hy + b_y, or o_t = h_t
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from bptt.losses import row_weights
from bptt.problem import Problem
from oracle.numbers import Matrix, Numbers, exact_fraction
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
    adjoints[t][name], dL/dstate_t as the truncation has it, (B,H), once reverse mode has run.
    """

    problem: Problem
    N: Numbers
    leaves: dict[str, Node]
    prelude: list[Node]
    steps: list[Step] = field(default_factory=list)
    states: dict[str, list[Matrix]] = field(default_factory=dict)
    outputs: Matrix = field(init=False)
    loss: Any = None
    cotangents: Matrix = field(init=False)
    final_cotangents: dict[str, Matrix | None] = field(default_factory=dict)
    adjoints: dict[int, dict[str, Matrix]] = field(default_factory=dict)


def stack(matrices: list[Matrix]) -> Matrix:
    """Matrices of one width below one another.

    >>> stack([Matrix(1, 2, [1, 2]), Matrix(1, 2, [3, 4])]).data
    [1, 2, 3, 4]
    """
    return Matrix(sum(m.rows for m in matrices), matrices[0].cols, [x for m in matrices for x in m.data])


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
    T, B, H = problem.T, problem.B, problem.H
    trace = Trace(N)
    leaves = {name: Node("leaf", N.decode(problem.params[name]), name=name) for name in problem.parameter_shapes()}
    w = problem.spec.prepare(trace, {n: leaves[n] for n in problem.spec.shapes(problem.D, H)}, H)
    out = Unrolled(problem, N, leaves, trace.nodes)
    x_all = N.decode(problem.x)
    lengths = problem.row_lengths.tolist()
    for name in problem.spec.states:
        initial = getattr(problem, f"{name}0")
        out.states[name] = [N.zeros(B, H) if initial is None else N.decode(initial)]
    cec = problem.truncation.kind == "cec"
    for t in range(T):
        trace.nodes = []
        n = B * problem.D
        x_t = Node("leaf", Matrix(B, problem.D, x_all.data[t * n : (t + 1) * n]), name="x", extra=(x_all, t))
        state = {name: Node("leaf", out.states[name][-1], name=name) for name in problem.spec.states}
        new = problem.spec.step(trace, w, x_t, state, problem.activation, cec)
        out.steps.append(Step({"x": x_t, **state}, new, trace.nodes))
        for name, node in new.items():
            old = out.states[name][-1]
            if min(lengths) > t:
                out.states[name].append(node.value)
            else:
                rows = [node.value.row(b) if t < lengths[b] else old.row(b) for b in range(B)]
                out.states[name].append(Matrix(B, H, [value for row in rows for value in row]))
    h = stack(out.states["h"][1:])
    out.outputs = N.add(N.matmul(h, leaves["W_hy"].value), leaves["b_y"].value) if problem.readout == "linear" else h
    _loss(out)
    return out


def _loss(out: Unrolled) -> None:
    """The loss and dL/do: squared error 2 scale w (o - y); cross-entropy w ((sum y) softmax(o) - y); cotangent g."""
    problem, N = out.problem, out.N
    loss, K = problem.loss, problem.K
    lengths = problem.row_lengths.tolist()
    weights = [N.ratio(weight) for weight in row_weights(problem)]
    zero = N.scalar(0)
    terms: list[Any] = []
    gradient: list[Any] = []
    target = _targets(out)
    scale = N.ratio(exact_fraction(loss.scale)) if loss.scale is not None else None
    for t in range(problem.T):
        for b in range(problem.B):
            if t >= lengths[b]:
                gradient += [zero] * K
                continue
            o, y = out.outputs.row(t * problem.B + b), target.row(t * problem.B + b)
            if loss.kind == "cotangent":
                terms.append(N.sum([g * value for g, value in zip(y, o, strict=True)]))
                gradient += y
            elif loss.kind == "squared_error":
                differences = [value - goal for value, goal in zip(o, y, strict=True)]
                terms.append(weights[b] * scale * N.sum([d * d for d in differences]))
                gradient += [weights[b] * scale * 2 * d for d in differences]
            else:
                p, log_sum = softmax(N, o)
                terms.append(weights[b] * N.sum([goal * (log_sum - value) for goal, value in zip(y, o, strict=True)]))
                total = N.sum(y)
                gradient += [weights[b] * (total * p_k - y_k) for p_k, y_k in zip(p, y, strict=True)]
    for name in problem.spec.states:
        final = getattr(loss, f"g_{name}_final")
        out.final_cotangents[name] = None if final is None else N.decode(final)
        if final is not None:
            g = out.final_cotangents[name]
            assert g is not None
            last = out.states[name][-1]
            terms.append(N.sum([a * b for a, b in zip(g.data, last.data, strict=True)]))
    out.loss = N.sum(terms)
    out.cotangents = Matrix(problem.T * problem.B, K, gradient)


def softmax(N: Numbers, o: list[Any]) -> tuple[list[Any], Any]:
    """The softmax of a row and the logarithm of its sum of exponentials.

    >>> from oracle.mpmath_numbers import MpmathNumbers
    >>> N = MpmathNumbers(64)
    >>> softmax(N, [N.scalar(5), N.scalar(5)])[0]
    [mpf('0.5'), mpf('0.5')]
    """
    shift = o[0]
    for value in o[1:]:
        if not value - shift < 0:  # any shift is right; a large one keeps exp small
            shift = value
    powers = [N.exp(value - shift) for value in o]
    total = N.sum(powers)
    return [power / total for power in powers], shift + N.log(total)


def _targets(out: Unrolled) -> Matrix:
    problem, N = out.problem, out.N
    loss = problem.loss
    if loss.kind == "cotangent":
        assert loss.g is not None
        return N.decode(loss.g)
    assert loss.target is not None
    if loss.target.ndim == 3:
        return N.decode(loss.target)
    one, zero = N.ratio(Fraction(1)), N.ratio(Fraction(0))
    flat = loss.target.reshape(-1).tolist()
    return Matrix(len(flat), problem.K, [one if k == label else zero for label in flat for k in range(problem.K)])
