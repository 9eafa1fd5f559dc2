"""Reverse mode over the trace: the first road to the gradients.

The rule of each operation stands here once; no cell is known here. An adjoint is dL/dvalue, of the value's shape.

    linear   z = sum X W + addends      dX = dz W^T     dW = sum_t X^T dz     d(1,n addend) = sum over rows of dz
    mul      z = a o b                  da = dz o b     db = dz o a
    mix      z = (1-z') n + z' h        dz' = dz o (h - n)   dn = dz - dz o z'   dh = dz o z'
    phi      z = phi(a)                 da = dz o phi'(a)
    hold     nothing travels back
"""

from __future__ import annotations

from typing import Any

from bptt.truncation import sweeps
from oracle.numbers import Matrix
from oracle.trace import Node
from oracle.unrolled import Unrolled, stack

Adjoints = dict[int, Matrix]


class Reverse:
    """The backward passes of one unrolled problem; `gradients` is all there is to call."""

    def __init__(self, unrolled: Unrolled) -> None:
        self.u = unrolled
        self.N = unrolled.N
        self.totals: list[dict[int, Matrix]] = [{} for _ in unrolled.steps]  # node id -> its adjoint, over all sweeps

    def gradients(self) -> dict[str, Matrix]:
        """d + name -> dL/dname for every parameter, x (T*B,D) and the initial states (B,H)."""
        u, N, problem = self.u, self.N, self.u.problem
        from_output = u.cotangents
        out: dict[str, Matrix] = {}
        if problem.readout == "linear":
            h = stack(u.states["h"][1:])
            out["dW_hy"] = N.matmul_tn(h, from_output)
            out["db_y"] = N.column_sums(from_output)
            from_output = N.matmul_nt(from_output, u.leaves["W_hy"].value)
        lengths = problem.row_lengths
        B, H = problem.B, problem.H
        initial = {name: N.zeros(B, H) for name in problem.spec.states}
        for name, final in u.final_cotangents.items():
            if final is not None:  # a row of length 0 passes its final cotangent through
                rows = [final.row(b) if lengths[b] == 0 else initial[name].row(b) for b in range(B)]
                initial[name] = Matrix(B, H, [value for row in rows for value in row])
        for sweep in sweeps(problem.truncation, lengths, problem.T):
            carry = {name: N.zeros(B, H) for name in problem.spec.states}
            for s in sweep.steps:
                seeds = sweep.seeds[s - 1]
                for b in range(B):
                    if not seeds[b]:
                        continue
                    self._seed(carry, b, s, from_output, s == lengths[b])
                for b in range(B):
                    if s < sweep.first[b]:
                        for matrix in carry.values():
                            matrix.data[b * H : (b + 1) * H] = [N.scalar(0)] * H
                carry = self._step(s, carry)
            for name, matrix in carry.items():
                rows = [matrix.row(b) if sweep.first[b] == 1 else [] for b in range(B)]
                for b, row in enumerate(rows):
                    for j, value in enumerate(row):
                        initial[name].data[b * H + j] = initial[name].data[b * H + j] + value
        out |= self._parameters()
        out |= {f"d{name}0": matrix for name, matrix in initial.items()}
        return out

    def _seed(self, carry: dict[str, Matrix], b: int, s: int, from_output: Matrix, last: bool) -> None:
        H = self.u.problem.H
        row = from_output.row((s - 1) * self.u.problem.B + b)
        data = carry["h"].data
        for j in range(H):
            data[b * H + j] = data[b * H + j] + row[j]
        if last:
            for name, final in self.u.final_cotangents.items():
                if final is not None:
                    data = carry[name].data
                    for j, value in enumerate(final.row(b)):
                        data[b * H + j] = data[b * H + j] + value

    def _step(self, s: int, carry: dict[str, Matrix]) -> dict[str, Matrix]:
        """Pull the adjoints of the state after step s back to the state before it."""
        step = self.u.steps[s - 1]
        adjoints: Adjoints = {}
        arrived = self.u.adjoints.setdefault(s, {})
        for name, node in step.outputs.items():
            self._give(adjoints, node, carry[name])
            arrived[name] = self.N.add(arrived[name], carry[name]) if name in arrived else self._fresh(carry[name])
        for node in reversed(step.nodes):
            adjoint = adjoints.get(id(node))
            if adjoint is None:
                continue
            total = self.totals[s - 1]
            total[id(node)] = self.N.add(total[id(node)], adjoint) if id(node) in total else adjoint
            self._pull(node, adjoint, adjoints)
        B, H = self.u.problem.B, self.u.problem.H
        before = {name: adjoints.get(id(step.inputs[name])) for name in carry}
        return {
            name: self._fresh(matrix) if matrix is not None else self.N.zeros(B, H) for name, matrix in before.items()
        }

    @staticmethod
    def _fresh(matrix: Matrix) -> Matrix:
        return Matrix(matrix.rows, matrix.cols, list(matrix.data))

    def _give(self, adjoints: Adjoints, node: Node, value: Matrix) -> None:
        known = adjoints.get(id(node))
        adjoints[id(node)] = value if known is None else self.N.add(known, value)

    def _pull(self, node: Node, dz: Matrix, adjoints: Adjoints) -> None:
        N, inputs = self.N, node.inputs
        give = self._give
        if node.op == "linear":
            for i in range(node.products):
                X, W = inputs[2 * i], inputs[2 * i + 1]
                if not (X.op == "leaf" and X.name == "x") and X.op != "hold":
                    give(adjoints, X, N.matmul_nt(dz, W.value))
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
            start, stop = node.extra
            (source,) = inputs
            zero = [N.scalar(0)]
            pad = [zero * start + dz.row(i) + zero * (source.value.cols - stop) for i in range(dz.rows)]
            give(adjoints, source, Matrix(dz.rows, source.value.cols, [value for row in pad for value in row]))
        elif node.op != "hold":
            if node.slope is None:
                node.slope = N.slope(node.op, inputs[0].value, node.value)
            give(adjoints, inputs[0], N.mul(dz, node.slope))

    def _parameters(self) -> dict[str, Matrix]:
        """Sum over time: for each parameter the products X^T dz of all steps in one, and the column sums of dz."""
        u, N, problem = self.u, self.N, self.u.problem
        left: dict[int, list[Matrix]] = {}
        right: dict[int, list[Matrix]] = {}
        shared: dict[int, list[Matrix]] = {}  # parameters that are added to or multiply every row
        zero_x = N.zeros(problem.B, problem.D)
        dx = [zero_x] * problem.T
        for t, step in enumerate(u.steps):
            for node in step.nodes:
                dz = self.totals[t].get(id(node))
                if dz is None:
                    continue
                if node.op == "linear":
                    for i in range(node.products):
                        X, W = node.inputs[2 * i], node.inputs[2 * i + 1]
                        left.setdefault(id(W), []).append(X.value)
                        right.setdefault(id(W), []).append(dz)
                        if X is step.inputs["x"]:
                            part = N.matmul_nt(dz, W.value)
                            dx[t] = part if dx[t] is zero_x else N.add(dx[t], part)
                    for addend in node.inputs[2 * node.products :]:
                        if addend.constant:
                            shared.setdefault(id(addend), []).append(dz)
                elif node.op == "mul":
                    for this, other in (node.inputs, node.inputs[::-1]):
                        if this.constant:
                            shared.setdefault(id(this), []).append(N.mul(dz, other.value))
        found: dict[int, Matrix] = {key: N.matmul_tn(stack(left[key]), stack(right[key])) for key in left}
        found |= {key: N.column_sums(stack(parts)) for key, parts in shared.items()}
        for node in reversed(u.prelude):  # blocks of columns flow back into the parameter that they were cut from
            if id(node) in found:
                self._pull(node, found[id(node)], found)
        out = {}
        for name, leaf in u.leaves.items():
            if name not in ("W_hy", "b_y"):
                out[f"d{name}"] = found.get(id(leaf)) or N.zeros(leaf.value.rows, leaf.value.cols)
        out["dx"] = stack(dx)
        return out


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
