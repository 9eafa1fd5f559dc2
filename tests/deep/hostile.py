"""How near a hostile arithmetic comes to the budget: every operation errs by ±u, its sign chosen against one entry.

    python -m tests.deep.hostile --problems 200

An implementation in reverse mode is run in simulated arithmetic. Run once without errors, it is differentiated as a
whole (its own backward pass included): that gives the sensitivity of one entry E of the answer to the relative error of
each single operation. Then it runs again with every operation as far off as the model grants, in the direction in which
E grows, twice more with the sensitivities found there, and likewise downwards:

    operation                  error                     what is hostile besides the sign
    product of two numbers     ±u of its value
    sum                        ±u of each partial sum    larger terms come first; positive ones before negative ones
    tanh, sigmoid              ±4 ulp

The simulation itself computes in the machine's longest float, and in float64 where there is no longer one. Whether the
error stays below the budget shows that no budget is too small, and how near it comes, that none is idle. From each
problem the search goes on to changed ones, so long as the ratio grows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bptt.cells import CELLS
from bptt.problem import SIGNIFICAND, Loss, Problem
from bptt.truncation import Truncation, sweeps
from oracle.budget import Model
from oracle.errors import PrecisionExhausted
from oracle.truth import Truth, find_truth
from tests.deep.agreement import write

Array = npt.NDArray[Any]
Back = Callable[[Array], Array]
STEPS = (1, 3, 10, 30, 100)
NORMS = (0.1, 0.5, 0.9, 1.0, 1.5, 2.0)
ULP = 4
ENTRIES = 4
"""Entries of each array that are looked at; attacked are the two with the largest first-order ratio."""
APART = 10
"""The longest problems in which each loss travels back on its own."""


class Sim:
    """A matrix of the simulated machine: its value, and how an adjoint goes back to what it was computed from."""

    __slots__ = ("at", "back", "value")

    def __init__(self, at: int, value: Array, back: tuple[tuple[Sim, Back], ...] = ()) -> None:
        self.at = at
        self.value = value
        self.back = back


@dataclass
class Machine:
    """Runs operations and remembers them. `errors[k]` are the relative errors of operation k, where there are any.

    grants[k]   the largest relative errors of operation k
    effect[k]   adjoint of the operation's result -> sensitivity to each of its relative errors
    orders[k]   the order of the terms of a sum, from the run without errors
    """

    u: float
    errors: list[Any] | None = None
    orders: dict[int, Array] = field(default_factory=dict)
    tape: list[Sim] = field(default_factory=list)
    grants: list[Any] = field(default_factory=list)
    effect: list[Callable[[Array], Array] | None] = field(default_factory=list)

    def exact(self, value: Array, *back: tuple[Sim, Back]) -> Sim:
        """An operation that does not round."""
        return self._enter(np.asarray(value, np.longdouble), back, None, None)

    def rounded(self, value: Array, *back: tuple[Sim, Back], grant: Any = None) -> Sim:
        """An operation that rounds its value once; errors are relative."""
        k = len(self.tape)
        value = np.asarray(value, np.longdouble)
        off = value if self.errors is None else value * (1 + self.errors[k])
        return self._enter(off, back, self.u if grant is None else grant, lambda adjoint: adjoint * value)

    def _enter(self, value: Array, back: Any, grant: Any, effect: Any) -> Sim:
        out = Sim(len(self.tape), value, tuple(back))
        self.tape.append(out)
        self.grants.append(grant)
        self.effect.append(effect)
        return out

    # ---- operations ----------------------------------------------------------------------------------------------

    def add(self, a: Sim, b: Sim) -> Sim:
        """a + b; a single row broadcasts."""
        return self.rounded(a.value + b.value, (a, like(a)), (b, like(b)))

    def sub(self, a: Sim, b: Sim) -> Sim:
        """a - b."""
        return self.rounded(a.value - b.value, (a, like(a)), (b, lambda v: like(b)(-v)))

    def mul(self, a: Sim, b: Sim) -> Sim:
        """a o b; a single row broadcasts."""
        A, B = a.value, b.value
        return self.rounded(A * B, (a, lambda v: like(a)(v * B)), (b, lambda v: like(b)(v * A)))

    def one_minus(self, a: Sim, plus: bool = False) -> Sim:
        """1 - a, or 1 + a."""
        sign = 1 if plus else -1
        return self.rounded(1 + sign * a.value, (a, lambda v: sign * v))

    def tanh(self, a: Sim) -> Sim:
        """Within ULP units in the last place."""
        h = np.tanh(a.value)
        return self.rounded(h, (a, lambda v: v * (1 - h * h)), grant=self.ulps(h))

    def sigmoid(self, a: Sim) -> Sim:
        """Within ULP units in the last place."""
        s = 1 / (1 + np.exp(-a.value))
        return self.rounded(s, (a, lambda v: v * s * (1 - s)), grant=self.ulps(s))

    def ulps(self, value: Array) -> Array:
        """ULP units in the last place, relative to the value."""
        fraction, _ = np.frexp(value)
        with np.errstate(all="ignore"):
            return np.where(value == 0, 0, ULP * self.u / np.abs(fraction))

    def columns(self, a: Sim, start: int, stop: int) -> Sim:
        """Columns start..stop-1."""

        def back(v: Array) -> Array:
            out = np.zeros_like(a.value)
            out[:, start:stop] = v
            return out

        return self.exact(a.value[:, start:stop], (a, back))

    def padded(self, a: Sim, start: int, cols: int) -> Sim:
        """The columns of a, from `start` on, among `cols` columns that are 0 otherwise."""
        out = np.zeros((len(a.value), cols), a.value.dtype)
        stop = start + a.value.shape[1]
        out[:, start:stop] = a.value
        return self.exact(out, (a, lambda v: v[:, start:stop]))

    def transpose(self, a: Sim) -> Sim:
        """The transpose."""
        return self.exact(a.value.T, (a, lambda v: v.T))

    def stack(self, parts: Sequence[Sim]) -> Sim:
        """Parts one below the other."""
        ends = np.cumsum([0, *(len(p.value) for p in parts)])
        backs = [(p, lambda v, i=i: v[ends[i] : ends[i + 1]]) for i, p in enumerate(parts)]
        return self.exact(np.concatenate([p.value for p in parts]), *backs)

    def dot(self, products: Sequence[tuple[Sim, Sim]], addends: Sequence[Sim] = ()) -> Sim:
        """The sum of X W over the products and of the addends: each product rounds, each partial sum but the first."""
        rows = products[0][0].value.shape[0]
        terms = [np.einsum("bi,ij->ibj", X.value, W.value) for X, W in products]
        count = sum(len(term) for term in terms)
        terms += [np.broadcast_to(a.value, (rows, a.value.shape[1]))[None] for a in addends]
        P = np.concatenate(terms)
        factors = self._factors(P)
        backs: list[tuple[Sim, Back]] = []
        at = 0
        for X, W in products:
            F = factors[at : at + len(W.value)]
            backs.append((X, lambda v, W=W, F=F: np.einsum("bj,ij,ibj->bi", v, W.value, F)))
            backs.append((W, lambda v, X=X, F=F: np.einsum("bi,bj,ibj->ij", X.value, v, F)))
            at += len(W.value)
        for a in addends:
            backs.append((a, lambda v, a=a, F=factors[at]: like(a)(v * F)))
            at += 1
        return self._sum(P, factors, count, backs)

    def total(self, parts: Sequence[Sim]) -> Sim:
        """The sum of matrices of one shape."""
        P = np.stack([part.value for part in parts])
        factors = self._factors(P)
        return self._sum(P, factors, 0, [(part, lambda v, F=F: v * F) for part, F in zip(parts, factors, strict=True)])

    def column_sums(self, a: Sim) -> Sim:
        """(1,n): the sum over rows."""
        P = a.value[:, None, :]
        factors = self._factors(P)
        return self._sum(P, factors, 0, [(a, lambda v: v * factors[:, 0, :])])

    def _factors(self, P: Array) -> Array:
        """What the errors make of each term of a sum (terms, rows, columns): its own, and those of the later sums."""
        k = len(self.tape)
        if k not in self.orders:
            self.orders[k] = hostile_order(P)
        factors = np.ones_like(P)
        if self.errors is not None:
            of_terms, of_sums = self.errors[k]
            tail = np.cumprod((1 + of_sums)[::-1], axis=0)[::-1]
            through = (1 + np.take_along_axis(of_terms, self.orders[k], axis=0)) * tail
            np.put_along_axis(factors, self.orders[k], through, axis=0)
        return factors

    def _sum(self, P: Array, factors: Array, products: int, backs: Sequence[tuple[Sim, Back]]) -> Sim:
        """A sum of terms, of which the first ones are products; errors are those of the terms, then of the sums."""
        partial = np.cumsum(np.take_along_axis(P, self.orders[len(self.tape)], axis=0), axis=0)
        grant = np.zeros((2, *P.shape), P.dtype)
        grant[0, :products] = grant[1, 1:] = self.u
        return self._enter((P * factors).sum(axis=0), tuple(backs), grant, lambda v: np.stack([v * P, v * partial]))

    def sensitivities(self, out: Sim, where: tuple[int, int]) -> list[Array | None]:
        """d out[where] / d error, for every operation's relative errors."""
        adjoints: dict[int, Array] = {out.at: np.zeros_like(out.value)}
        adjoints[out.at][where] = 1
        found: list[Array | None] = [None] * len(self.tape)
        for node in reversed(self.tape[: out.at + 1]):
            v = adjoints.pop(node.at, None)
            if v is None:
                continue
            effect = self.effect[node.at]
            found[node.at] = None if effect is None else effect(v)
            for source, back in node.back:
                part = back(v)
                adjoints[source.at] = adjoints[source.at] + part if source.at in adjoints else part
        return found


def like(a: Sim) -> Back:
    """Sums an adjoint over the rows to which a single row was broadcast."""
    return lambda v: v.sum(axis=0, keepdims=True) if len(a.value) < len(v) else v


def hostile_order(P: Array) -> Array:
    """For each entry the order of its terms (first axis) whose partial sums are larger, of two orders."""
    by_size = np.argsort(-np.abs(P), axis=0, kind="stable")
    by_value = np.argsort(-P * np.sign(P.sum(axis=0)), axis=0, kind="stable")
    partial = [np.cumsum(np.take_along_axis(P, order, axis=0), axis=0) for order in (by_size, by_value)]
    sizes = [np.abs(sums).sum(axis=0) for sums in partial]
    return np.asarray(np.where(sizes[0] >= sizes[1], by_size, by_value))


# ---- an implementation in reverse mode, on the machine --------------------------------------------------------------


class Step:
    """A cell's step on the machine: an `Arithmetic` (bptt.arithmetic) that keeps what the way back needs."""

    def __init__(self, machine: Machine, factored: bool) -> None:
        self.m = machine
        self.factored = factored
        self.nodes: list[tuple[str, Sim, tuple[Sim, ...], Any]] = []

    def _record(self, op: str, out: Sim, inputs: tuple[Sim, ...], extra: Any = None) -> Sim:
        self.nodes.append((op, out, inputs, extra))
        return out

    def linear(self, products: Sequence[tuple[Sim, Sim]], addends: Sequence[Sim] = ()) -> Sim:
        """Sum of X W over the products, and of the addends."""
        return self._record("linear", self.m.dot(products, addends), tuple(addends), tuple(products))

    def columns(self, value: Sim, start: int, stop: int) -> Sim:
        """Columns start..stop-1."""
        return self._record("columns", self.m.columns(value, start, stop), (value,), (start, value.value.shape[1]))

    def mul(self, a: Sim, b: Sim) -> Sim:
        """a o b."""
        return self._record("mul", self.m.mul(a, b), (a, b))

    def add(self, a: Sim, b: Sim) -> Sim:
        """a + b."""
        return self._record("add", self.m.add(a, b), (a, b))

    def mix(self, z: Sim, n: Sim, h: Sim) -> Sim:
        """(1-z) n + z h, or n + z (h - n)."""
        m = self.m
        if self.factored:
            return self._record("mix", m.add(n, m.mul(z, m.sub(h, n))), (z, n, h))
        return self._record("mix", m.add(m.mul(m.one_minus(z), n), m.mul(z, h)), (z, n, h))

    def tanh(self, a: Sim) -> Sim:
        """Entrywise."""
        return self._record("tanh", self.m.tanh(a), (a,))

    def sigmoid(self, a: Sim) -> Sim:
        """Entrywise."""
        return self._record("sigmoid", self.m.sigmoid(a), (a,))

    def relu(self, a: Sim) -> Sim:
        """Entrywise."""
        on = a.value > 0
        return self._record("relu", self.m.exact(np.where(on, a.value, 0), (a, lambda v: np.where(on, v, 0))), (a,))

    def identity(self, a: Sim) -> Sim:
        """The value itself."""
        return self._record("identity", self.m.exact(a.value, (a, lambda v: v)), (a,))

    def hold(self, a: Sim) -> Sim:
        """The value itself; nothing goes back through it."""
        return self._record("hold", self.m.exact(a.value, (a, lambda v: v)), ())

    def slope(self, op: str, z: Sim) -> Sim | None:
        """phi'(a) from z = phi(a); None where it is 1."""
        m = self.m
        if op == "relu":
            return m.exact((z.value > 0).astype(np.longdouble))
        if op == "identity":
            return None
        if op == "tanh":
            return m.mul(m.one_minus(z), m.one_minus(z, plus=True)) if self.factored else m.one_minus(m.mul(z, z))
        return m.sub(z, m.mul(z, z)) if self.factored else m.mul(z, m.one_minus(z))

    def pull(self, adjoints: dict[int, Sim], constants: set[int]) -> None:
        """Take the adjoints back through the step, into no parameter."""
        m = self.m

        def give(to: Sim, part: Sim) -> None:
            if to.at not in constants:
                adjoints[to.at] = m.add(adjoints[to.at], part) if to.at in adjoints else part

        for op, out, inputs, extra in reversed(self.nodes):
            dz = adjoints.get(out.at)
            if dz is None:
                continue
            if op == "linear":
                for X, W in extra:
                    give(X, m.dot([(dz, m.transpose(W))]))
                for a in inputs:
                    give(a, dz)
            elif op == "columns":
                give(inputs[0], m.padded(dz, *extra))
            elif op == "mul":
                a, b = inputs
                give(a, m.mul(dz, b))
                give(b, m.mul(dz, a))
            elif op == "add":
                for a in inputs:
                    give(a, dz)
            elif op == "mix":
                z, n, h = inputs
                give(z, m.mul(dz, m.sub(h, n)))
                give(n, m.sub(dz, m.mul(dz, z)) if self.factored else m.mul(dz, m.one_minus(z)))
                give(h, m.mul(dz, z))
            elif inputs:
                slope = self.slope(op, out)
                give(inputs[0], dz if slope is None else m.mul(dz, slope))


@dataclass(frozen=True)
class Style:
    """What the implementation chooses: its algebra, and whether each loss travels back on its own.

    With `apart` the terms of a gradient are summed for each loss and then over the losses, else all in one sum.
    """

    factored: bool
    apart: bool

    def passes(self, problem: Problem) -> list[tuple[int, list[int]]]:
        """(first step, losses) of each backward pass, counted from 0."""
        whole = problem.truncation.kind == "cec"
        cut = sweeps(Truncation() if whole else problem.truncation, problem.row_lengths, problem.T)
        found = [(int(sweep.first[0]) - 1, np.flatnonzero(sweep.seeds[:, 0]).tolist()) for sweep in cut]
        return [(first, [t]) for first, losses in found for t in losses] if self.apart else found


class Forward:
    """The states, outputs and cotangents of a problem of the machine."""

    def __init__(self, problem: Problem, m: Machine, style: Style) -> None:
        spec, H = problem.spec, problem.H
        self.problem, self.m, self.style = problem, m, style
        self.leaves = {name: m.exact(np.atleast_2d(array)) for name, array in problem.params.items()}
        self.prelude = Step(m, style.factored)
        w = spec.prepare(self.prelude, {name: self.leaves[name] for name in spec.shapes(problem.D, H)}, H)
        blocks = [out.at for _, out, _, _ in self.prelude.nodes]
        self.constants = {leaf.at for leaf in self.leaves.values()} | set(blocks)
        self.states = [{name: m.exact(getattr(problem, f"{name}0")) for name in spec.states}]
        self.steps: list[tuple[Step, Sim]] = []
        for x_t in problem.x:
            step, x = Step(m, style.factored), m.exact(x_t)
            cec = problem.truncation.kind == "cec"
            self.states.append(spec.step(step, w, x, self.states[-1], problem.activation, cec))
            self.steps.append((step, x))
        h = [state["h"] for state in self.states[1:]]
        if problem.readout == "linear":
            h = [m.dot([(h_t, self.leaves["W_hy"])], [self.leaves["b_y"]]) for h_t in h]
        self.outputs = h
        self.cotangents = [_cotangent(problem, m, t, o) for t, o in enumerate(h)]


class Pass:
    """One way back: from some losses to a first step. `terms[W]` are the left and right factors of dL/dW."""

    def __init__(self, forward: Forward, first: int, losses: Sequence[int]) -> None:
        self.terms: dict[int, tuple[list[Sim], list[Sim]]] = {}
        self.biases: dict[int, list[Sim]] = {}
        self.dx: dict[int, Sim] = {}
        self.initial: dict[str, Sim] = {}
        m, carry = forward.m, dict[str, Sim]()
        for s in range(max(losses), first - 1, -1):
            step, x = forward.steps[s]
            adjoints = {forward.states[s + 1][name].at: value for name, value in carry.items()}
            if s in losses:
                self._seed(forward, s, adjoints)
            step.pull(adjoints, forward.constants)
            before = forward.states[s]
            carry = {name: adjoints[node.at] for name, node in before.items() if node.at in adjoints}
            if x.at in adjoints:
                self.dx[s] = adjoints[x.at]
            self._collect(forward, m, step, adjoints)
        if first == 0:
            self.initial = carry

    @staticmethod
    def _seed(forward: Forward, s: int, adjoints: dict[int, Sim]) -> None:
        m, at = forward.m, forward.states[s + 1]["h"].at
        do, there = forward.cotangents[s], [adjoints[at]] if at in adjoints else []
        if forward.problem.readout == "linear":
            adjoints[at] = m.dot([(do, m.transpose(forward.leaves["W_hy"]))], there)
        else:
            adjoints[at] = m.add(do, there[0]) if there else do

    def _collect(self, forward: Forward, m: Machine, step: Step, adjoints: dict[int, Sim]) -> None:
        for op, z, inputs, extra in step.nodes:
            if z.at not in adjoints:
                continue
            dz = adjoints[z.at]
            for X, W in extra if op == "linear" else ():
                left, right = self.terms.setdefault(W.at, ([], []))
                left.append(X)
                right.append(dz)
            for i, a in enumerate(inputs):
                if a.at in forward.constants:
                    part = dz if op == "linear" else m.mul(dz, inputs[1 - i])
                    self.biases.setdefault(a.at, []).append(part)


def simulate(problem: Problem, m: Machine, style: Style) -> dict[str, Sim]:
    """The answer of an implementation in reverse mode, in matrices of the machine: (T B,n), (B,H) and (m,n)."""
    forward = Forward(problem, m, style)
    back = [Pass(forward, first, losses) for first, losses in style.passes(problem)]
    groups = [[one] for one in back] if style.apart else [back]
    sums: dict[int, list[Sim]] = {}
    for group in groups:
        for at in {at: None for one in group for at in one.terms}:
            both = [one.terms[at] for one in group if at in one.terms]
            X, dz = (m.stack([part for pair in both for part in pair[i]]) for i in (0, 1))
            sums.setdefault(at, []).append(m.dot([(m.transpose(X), dz)]))
        for at in {at: None for one in group for at in one.biases}:
            parts = [part for one in group for part in one.biases.get(at, [])]
            sums.setdefault(at, []).append(m.column_sums(m.stack(parts)))
    found = {at: m.total(parts) if len(parts) > 1 else parts[0] for at, parts in sums.items()}
    forward.prelude.pull(found, set())
    answer = {f"d{name}": found[leaf.at] for name, leaf in forward.leaves.items() if leaf.at in found}
    zero = m.exact(np.zeros((problem.B, problem.D)))
    of_x = [[one.dx[t] for one in back if t in one.dx] for t in range(problem.T)]
    answer["dx"] = m.stack([m.total(parts) if parts else zero for parts in of_x])
    for name in problem.spec.states:
        initial = [one.initial[name] for one in back if name in one.initial]
        answer |= {f"d{name}0": m.total(initial)} if initial else {}
        answer[name] = m.stack([state[name] for state in forward.states[1:]])
    answer["o"] = m.stack(forward.outputs)
    if problem.readout == "linear":
        flat = m.stack(forward.cotangents)
        answer["dW_hy"] = m.dot([(m.transpose(answer["h"]), flat)])
        answer["db_y"] = m.column_sums(flat)
    return answer


def _cotangent(problem: Problem, m: Machine, t: int, o: Sim) -> Sim:
    if problem.loss.g is not None:
        return m.exact(problem.loss.g[t])
    assert problem.loss.target is not None
    difference = m.sub(o, m.exact(problem.loss.target[t]))
    return m.add(difference, difference) if problem.loss.scale == 1 else difference


# ---- the attack ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """error / budget of one entry, and what first-order theory says is within reach of the signs."""

    ratio: float
    reach: float
    key: str
    norm: float
    T: int


@dataclass(frozen=True)
class Aim:
    """An entry that may be attacked, and the sensitivities of it."""

    reach: float
    key: str
    at: tuple[int, int]
    budget: float
    sensed: list[Array | None]


def attack(problem: Problem, truth: Truth, norm: float, style: Style) -> list[Attack]:
    """The worst that the signs can do to a problem's gradients, and to its states and outputs, one attack each."""
    calm = Machine(2.0 ** -SIGNIFICAND[problem.dtype])
    answer = simulate(problem, calm, style)
    aims: list[Aim] = []
    rng = np.random.default_rng(len(calm.tape))
    for key, out in answer.items():
        budget = truth.allowed(key).reshape(out.value.shape)
        usable = np.argwhere((budget > 0) & (budget < np.inf))
        for where in rng.permutation(usable)[:ENTRIES]:
            at = (int(where[0]), int(where[1]))
            sensed = calm.sensitivities(out, at)
            both = zip(sensed, calm.grants, strict=True)
            reach = sum(float((np.abs(s) * grant).sum()) for s, grant in both if s is not None)
            aims.append(Aim(reach / float(budget[at]), key, at, float(budget[at]), sensed))
    found = []
    for gradients in (True, False):
        mine = sorted((aim for aim in aims if aim.key.startswith("d") == gradients), key=lambda aim: -aim.reach)[:2]
        driven = [
            Attack(_driven(problem, calm, style, aim, direction), aim.reach, aim.key, norm, problem.T)
            for aim in mine
            for direction in (1, -1)
        ]
        found += [max(driven, key=severity)] if driven else []
    return found


def severity(one: Attack) -> float:
    """The ratio, NaN counted as infinite."""
    return one.ratio if one.ratio >= 0 else np.inf


def _driven(problem: Problem, calm: Machine, style: Style, aim: Aim, direction: int) -> float:
    """The error of one entry over its budget, errors and sensitivities taken in turn."""
    exact = simulate(problem, Machine(calm.u, orders=calm.orders), style)[aim.key].value[aim.at]
    worst, sensed = 0.0, aim.sensed
    for _ in range(3):
        errors = [
            None if grant is None else np.asarray(grant * 0 if s is None else direction * np.sign(s) * grant)
            for s, grant in zip(sensed, calm.grants, strict=True)
        ]
        machine = Machine(calm.u, errors=errors, orders=calm.orders)
        out = simulate(problem, machine, style)[aim.key]
        ratio = float(abs(out.value[aim.at] - exact)) / aim.budget
        worst = ratio if not ratio <= worst else worst
        sensed = machine.sensitivities(out, aim.at)
    return worst


def problem_of(cell: str, dtype: str, norm: float, T: int, rng: np.random.Generator) -> Problem:
    """A random problem for the attack: no lengths, all in moderate numbers, now and then all positive."""
    spec = CELLS[cell]
    B, D, H, K = (int(rng.choice(sizes)) for sizes in ((1, 2), (1, 2), (1, 1, 2, 4), (1, 2)))
    linear = bool(rng.random() < 0.3)
    size = float(rng.choice([0.1, 0.5, 1.0]))
    positive = bool(rng.random() < 0.4)

    def numbers(*shape: int) -> Array:
        values = rng.normal(size=shape) * size
        return as_dtype(np.abs(values) if positive else values, dtype)

    params = {name: numbers(*shape) for name, shape in spec.shapes(D, H).items()}
    recurrent = "W_hh" if cell == "elman" else "W_h"
    scale = norm / np.linalg.norm(params[recurrent].astype(np.float64), 2)
    params[recurrent] = as_dtype(params[recurrent] * scale, dtype)
    if linear:
        params |= {"W_hy": numbers(H, K), "b_y": numbers(K)}
    n = K if linear else H
    squared = bool(rng.random() < 0.3)
    loss = (
        Loss("squared_error", target=numbers(T, B, n), scale=float(rng.choice([0.5, 1.0])))
        if squared
        else Loss("cotangent", g=numbers(T, B, n) * (rng.random((T, B, n)) < 0.5))
    )
    return Problem(
        cell, params, numbers(T, B, D), loss, dtype=dtype,
        activation=str(rng.choice(spec.activations)) if spec.activations else None,
        readout="linear" if linear else "none",
        truncation=_truncation(rng, spec.truncations, T),
        **{f"{name}0": numbers(B, H) for name in spec.states},
    )  # fmt: skip


def _truncation(rng: np.random.Generator, kinds: Sequence[str], T: int) -> Truncation:
    kind = str(rng.choice(kinds))
    k = int(rng.integers(1, min(T, 12) + 1))
    if rng.random() < 0.5 or kind in ("full", "cec"):
        return Truncation("cec" if kind == "cec" else "full")
    return Truncation(kind, k1=k, k2=int(rng.integers(k, T + 1))) if kind == "periodic" else Truncation(kind, k=k)


def as_dtype(values: Array, dtype: str) -> Array:
    """Values that the dtype holds, as the array type that stands for it."""
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = values.astype(np.float32).view(np.uint32)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def changed(problem: Problem, rng: np.random.Generator) -> Problem:
    """A problem with every number changed a little; zeros stay."""

    def near(array: Array) -> Array:
        return as_dtype(array * (1 + 0.3 * rng.normal(size=array.shape)), problem.dtype)

    loss = problem.loss
    loss = replace(
        loss,
        g=None if loss.g is None else near(loss.g),
        target=None if loss.target is None else near(loss.target),
    )
    initial = {f"{name}0": near(getattr(problem, f"{name}0")) for name in problem.spec.states}
    return replace(
        problem, params={name: near(array) for name, array in problem.params.items()}, x=near(problem.x), loss=loss,
        **initial,
    )  # fmt: skip


def search(work: tuple[str, str, int, int, int]) -> list[Attack]:
    """The worst attacks on one random problem, and on changed ones: a change that brings gradients nearer is kept."""
    cell, dtype, T, seed, climbs = work
    rng = np.random.default_rng([seed, list(CELLS).index(cell), T])
    norm = float(rng.choice(NORMS))
    problem = problem_of(cell, dtype, norm, T, rng)
    style = Style(factored=bool(seed % 2), apart=T <= APART and seed % 3 == 0)
    best: list[Attack] = []
    for _ in range(1 + climbs):
        trial = changed(problem, rng) if best else problem
        try:
            truth = find_truth(trial, Model(dtype))
        except PrecisionExhausted:
            continue
        found = attack(trial, truth, norm, style)
        if not best or (found and not severity(found[0]) <= severity(best[0])):
            problem = trial
        best = worst_of(best + found)
    return best


def worst_of(attacks: Sequence[Attack]) -> list[Attack]:
    """The worst on gradients, then the worst on states and outputs, as far as there are any."""
    groups = [[a for a in attacks if a.key.startswith("d") == gradients] for gradients in (True, False)]
    return [max(group, key=severity) for group in groups if group]


def table(found: dict[tuple[str, int], list[Attack]], what: str, gradients: bool) -> Iterator[str]:
    """The largest ratio by cell and T, Markdown, line by line."""
    yield f"| error ÷ budget, driven: {what} | " + " | ".join(f"T = {T}" for T in STEPS) + " | at |"
    yield "|---|" + "---:|" * len(STEPS) + "---|"
    for cell in CELLS:
        tops = [
            max((a for a in found.get((cell, T), []) if a.key.startswith("d") == gradients), key=severity, default=None)
            for T in STEPS
        ]
        worst = max((top for top in tops if top is not None), key=severity, default=None)
        if worst is not None:
            ratios = ["-" if top is None else f"{top.ratio:.3f}" for top in tops]
            yield f"| `{cell}` | " + " | ".join(ratios) + f" | {worst.key}, norm {worst.norm:g} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if any error is beyond its budget."""
    parser = argparse.ArgumentParser(description="How near a hostile arithmetic comes to the budget.")
    parser.add_argument("--problems", type=int, default=100, help="problems a cell and T")
    parser.add_argument("--climbs", type=int, default=5, help="changes tried of each")
    parser.add_argument("--cell", choices=["all", *CELLS], default="all")
    parser.add_argument("--steps", type=int, choices=STEPS, nargs="*", default=STEPS, metavar="T")
    parser.add_argument("--dtype", choices=list(SIGNIFICAND), default="float32")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args(arguments)
    found: dict[tuple[str, int], list[Attack]] = {}
    places = [(cell, T) for cell in CELLS if given.cell in ("all", cell) for T in given.steps]
    with ProcessPoolExecutor(given.jobs) as pool:
        for cell, T in places:
            few = max(1, given.problems * 10 // max(10, T))  # long ones cost more, and are all alike
            seeds = range(given.seed * 100_000, given.seed * 100_000 + few)
            work = [(cell, given.dtype, T, seed, given.climbs) for seed in seeds]
            found[cell, T] = [a for attacks in pool.map(search, work, chunksize=2) for a in attacks]
            write(f"<!-- {cell} T={T}: {few} problems, {worst_of(found[cell, T])} -->")
    for what, gradients in (("gradients", True), ("states and outputs", False)):
        write("\n".join(table(found, what, gradients)) + "\n")
    attacks = [a for some in found.values() for a in some]
    beyond = [a for a in attacks if not a.ratio <= 1]
    write(
        f"{given.dtype}: {len(attacks)} attacks (gradients, states, of each problem), {len(beyond)} beyond the budget"
    )
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main())
