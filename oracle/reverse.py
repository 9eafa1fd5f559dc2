"""Reverse mode over the trace: the first road to the gradients.

The rule of each operation stands here once; no cell is known here. An adjoint is dL/dvalue, of the value's shape.

    linear   z = sum X W + addends      dX = dz W^T     dV = sum_t U^T dz, U and V of oracle.trace (1)
    mul      z = a o b                  da = dz o b     db = dz o a
    mix      z = (1-z') n + z' h        dz' = dz o (h - n)   dn = dz - dz o z'   dh = dz o z'
    phi      z = phi(a)                 da = dz o phi'(a)
    hold     nothing travels back
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bptt.support import ACTIVATIONS
from bptt.truncation import Sweep, sweeps
from oracle.numbers import Matrix, stack
from oracle.trace import Node
from oracle.unrolled import Unrolled

Adjoints = dict[Node, "Terms"]


class Terms:
    """An adjoint that is not added up yet: sum of dz W^T over `products`, of `addends`, and of `parts` of its columns.

    Once it is, all products are one, of the dz beside one another with the W^T below one another.
    """

    __slots__ = ("addends", "parts", "products")

    def __init__(self) -> None:
        self.products: tuple[tuple[Matrix, Node], ...] = ()
        self.addends: tuple[Matrix, ...] = ()
        self.parts: tuple[tuple[int, int, Matrix], ...] = ()  # (start, stop, columns start..stop-1)


class Reverse:
    """The backward passes of one unrolled problem; `gradients` is all there is to call."""

    def __init__(self, unrolled: Unrolled) -> None:
        self.u = unrolled
        self.N = unrolled.N
        self.totals: list[dict[Node, Matrix]] = [{} for _ in unrolled.steps]  # each node's adjoint, over all sweeps
        self.transposed: dict[tuple[Node, ...], Matrix] = {}  # the W^T of several W below one another
        self.shared: Adjoints = {}  # those of parameters, over all steps
        self.lengths: list[int] = unrolled.problem.row_lengths.tolist()

    def gradients(self) -> dict[str, Matrix]:
        """d + name -> dL/dname for every parameter, x (T*B,D) and the initial states (B,H)."""
        u, problem = self.u, self.u.problem
        self._slopes()
        initial = {name: Terms() for name in problem.spec.states}
        for name, final in u.final_cotangents.items():
            if final is not None and 0 in self.lengths:  # a row of length 0 passes it through
                initial[name].addends += (self.N.kept(final, [length == 0 for length in self.lengths]),)
        for sweep in sweeps(problem.truncation, problem.row_lengths, problem.T):
            for name, matrix in self._sweep(sweep).items():
                initial[name].addends += (self.N.kept(matrix, (sweep.first == 1).tolist()),)
        B, H = problem.B, problem.H
        return self._parameters() | {f"d{name}0": self._sum(terms, B, H) for name, terms in initial.items()}

    def _slopes(self) -> None:
        """phi' of each activation, of all steps at once."""
        steps = self.u.steps[: max(self.lengths)]
        for k, first in enumerate(steps[0].nodes if steps else ()):
            if first.op in ACTIVATIONS:
                nodes = [step.nodes[k] for step in steps]
                arguments, values = stack([node.inputs[0].value for node in nodes]), stack([n.value for n in nodes])
                rows, slopes = first.value.rows, self.N.slope(first.op, arguments, values)
                for t, node in enumerate(nodes):
                    node.slope = slopes.rows_from(t * rows, rows)

    # ---- one step ------------------------------------------------------------------------------------------------

    def _sweep(self, sweep: Sweep) -> dict[str, Matrix]:
        """Run one backward pass; dL/dstate where it ends."""
        B, H = self.u.problem.B, self.u.problem.H
        seeds, first = sweep.seeds.tolist(), sweep.first.tolist()
        carry = {name: Terms() for name in self.u.problem.spec.states}
        for s in sweep.steps:
            self._seed(carry, s, seeds[s - 1])
            active = [start <= s for start in first]
            carry = self._step(s, {name: self.N.kept(self._sum(terms, B, H), active) for name, terms in carry.items()})
        return {name: self._sum(terms, B, H) for name, terms in carry.items()}

    def _seed(self, carry: dict[str, Terms], s: int, seeds: list[bool]) -> None:
        """Add what the losses of step s send to the state: dL/do W_hy^T, and the final cotangents of rows that end."""
        u, B = self.u, self.u.problem.B
        do = self.N.kept(u.cotangents.rows_from((s - 1) * B, B), seeds)
        if u.readout is None:
            carry["h"].addends += (do,)
        else:
            carry["h"].products += ((do, u.leaves["W_hy"]),)
        if s in self.lengths:
            ends = [seed and s == length for seed, length in zip(seeds, self.lengths, strict=True)]
            for name, final in u.final_cotangents.items():
                if final is not None:
                    carry[name].addends += (self.N.kept(final, ends),)

    def _step(self, s: int, arrived: dict[str, Matrix]) -> dict[str, Terms]:
        """Pull the adjoints of the state after step s back to the state before it."""
        step, total = self.u.steps[s - 1], self.totals[s - 1]
        known = self.u.adjoints.setdefault(s, {})
        adjoints: Adjoints = {}
        for name, node in step.outputs.items():
            self._give(adjoints, node, arrived[name])
            known[name] = self.N.add(known[name], arrived[name]) if name in known else arrived[name]
        for node in reversed(step.nodes):
            if node in adjoints:
                dz = self._sum(adjoints[node], node.value.rows, node.value.cols)
                total[node] = self.N.add(total[node], dz) if node in total else dz
                self._pull(node, dz, adjoints)
        return {name: self._at(adjoints, step.inputs[name]) for name in arrived}

    @staticmethod
    def _at(adjoints: Adjoints, node: Node) -> Terms:
        if node not in adjoints:
            adjoints[node] = Terms()
        return adjoints[node]

    def _give(self, adjoints: Adjoints, node: Node, value: Matrix) -> None:
        self._at(adjoints, node).addends += (value,)

    def _pull(self, node: Node, dz: Matrix, adjoints: Adjoints) -> None:
        N, inputs, give = self.N, node.inputs, self._give
        if node.op == "linear":
            for X, W in node.pairs:
                if X.op != "hold" and X.name != "x":
                    self._at(adjoints, X).products += ((dz, W),)
            for addend in inputs[2 * node.products :]:
                if not addend.constant:
                    give(adjoints, addend, dz)
        elif node.op == "mul":
            for this, other in (inputs, inputs[::-1]):
                if not this.constant and this.op != "hold":
                    give(adjoints, this, N.mul(dz, other.value))
        elif node.op == "add":
            for this in inputs:
                give(adjoints, this, dz)
        elif node.op == "mix":
            z, n, h = inputs
            through = N.mul(dz, z.value)
            give(adjoints, z, N.mul(dz, N.sub(h.value, n.value)))
            give(adjoints, n, N.sub(dz, through))
            give(adjoints, h, through)
        elif node.op == "columns":
            self._at(adjoints, inputs[0]).parts += ((*node.extra, dz),)
        elif node.op != "hold":
            assert node.slope is not None
            give(adjoints, inputs[0], N.mul(dz, node.slope))

    # ---- sums ----------------------------------------------------------------------------------------------------

    def _sum(self, terms: Terms, rows: int, cols: int) -> Matrix:
        """Add up an adjoint."""
        N, found = self.N, terms.addends
        if terms.products:
            dz, W = zip(*terms.products, strict=True)
            found = (*found, N.matmul(N.beside(dz), self._transposed(W)))
        if terms.parts:
            found = (*found, *self._spread(sorted(terms.parts, key=lambda part: part[:2]), rows, cols))
        if not found:
            return N.zeros(rows, cols)
        total = found[0]
        for matrix in found[1:]:
            total = N.add(total, matrix)
        return total

    def _transposed(self, weights: tuple[Node, ...]) -> Matrix:
        """Their transposes below one another; kept, since they come back at every step."""
        if weights not in self.transposed:
            self.transposed[weights] = stack([self.N.transpose(W.value) for W in weights])
        return self.transposed[weights]

    def _spread(self, parts: Sequence[tuple[int, int, Matrix]], rows: int, cols: int) -> list[Matrix]:
        """Matrices of all columns, zero beside the given parts: one of them where no two parts overlap."""
        if any(a[1] > b[0] for a, b in pairwise(parts)):
            return [matrix for part in parts for matrix in self._spread([part], rows, cols)]
        blocks, end = [], 0
        for start, stop, matrix in (*parts, (cols, cols, None)):
            if start > end:
                blocks.append(self.N.zeros(rows, start - end))
            if matrix is not None:
                blocks.append(matrix)
            end = stop
        return [self.N.beside(blocks)]

    # ---- all steps -----------------------------------------------------------------------------------------------

    def _parameters(self) -> dict[str, Matrix]:
        """The gradients of what every step shares, and dx (T*B,D): sums over time, each in one product."""
        u, N, problem = self.u, self.N, self.u.problem
        last = max(self.lengths)  # no sweep visits a later step
        dx = Terms()
        for k, node in enumerate(u.steps[0].nodes if last else ()):
            if node not in self.totals[0]:
                continue
            nodes = [step.nodes[k] for step in u.steps[:last]]
            dz = stack([total[n] for n, total in zip(nodes, self.totals[:last], strict=True)])
            if node.op == "linear":
                self._give_below(node, stack([n.left for n in nodes if n.left is not None]), dz)
                dx.products += tuple((dz, W) for X, W in node.pairs if X.name == "x")
            elif node.op == "mul":
                for i, factor in enumerate(node.inputs):
                    if factor.constant:
                        other = stack([n.inputs[1 - i].value for n in nodes])
                        self._give(self.shared, factor, N.column_sums(N.mul(dz, other)))
        if u.readout is not None and u.readout.left is not None:
            self._give_below(u.readout, u.readout.left, u.cotangents)
        for node in reversed(u.prelude):  # blocks of columns flow back into the parameter that they were cut from
            self._pull(node, self._sum(self._at(self.shared, node), node.value.rows, node.value.cols), self.shared)
        out = {
            f"d{name}": self._sum(self._at(self.shared, leaf), leaf.value.rows, leaf.value.cols)
            for name, leaf in u.leaves.items()
        }
        B, D = problem.B, problem.D
        unread = N.zeros((problem.T - last) * B, D)
        return out | {"dx": stack([self._sum(dx, last * B, D), unread])}

    def _give_below(self, linear: Node, left: Matrix, dz: Matrix) -> None:
        """dV = U^T dz, cut into the gradients of what V is made of."""
        dV, start = self.N.matmul_tn(left, dz), 0
        for node in linear.below:
            stop = start + node.value.rows * dV.cols
            part = Matrix(node.value.rows, dV.cols, dV.data[start:stop])
            self._give(self.shared, node, part)
            start = stop


def reverse_gradients(unrolled: Unrolled) -> dict[str, Matrix]:
    """Every gradient of an unrolled problem by reverse mode, with the problem's truncation.

    Shapes: as the parameters (vectors as one row), dx (T*B,D), dh0 and dc0 (B,H).

    >>> import numpy as np
    >>> from bptt.problem import Loss, Problem
    >>> from oracle.rational_numbers import RationalNumbers
    >>> from oracle.unrolled import unroll
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> reverse_gradients(unroll(p, RationalNumbers()))["dW_hh"].data  # h_1 = 2, from the loss at t = 2
    [Fraction(2, 1)]
    """
    return Reverse(unrolled).gradients()


__all__: list[Any] = ["reverse_gradients"]
