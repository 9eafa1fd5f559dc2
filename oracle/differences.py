"""Central differences of the network whose weights are untied per step: the fourth road to the gradients.

With a copy theta_s of the parameters for every step s, every term of the double sum is a partial derivative,

    (dL_t/ds_t) (ds_t/ds_s) (d+s_s/dtheta) = dL_t/dtheta_s                                      (1)
                                           = (L_t(theta_s + e) - L_t(theta_s - e)) / 2e + O(e^2)    (2)

so that running the network forward yields each term, and the mask any truncation. Nothing here knows a derivative. The
same holds for x_s and, for s = 1, the initial states; W_hy and b_y are moved at step t alone. For `cec` the states that
are held are those of the network that was not moved.

At a working precision of p bits, e = 2^-p and the network runs in 3p + GUARD bits: (2) errs by the third derivative
times 2^-2p / 6, rounding by about 2^-(2p + GUARD) of the loss. Source: (1) is the chain rule, the rest is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bptt.losses import row_weights
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import Matrix, NotInThisSystem, Undecided, exact_fraction
from oracle.trace import Node, Trace
from oracle.unrolled import Unrolled, unroll

GUARD = 64
Place = tuple[str, int]
"""A gradient's key and an index into its flat entries."""
States = dict[str, Matrix]


class _Moved(Trace):
    """The trace's evaluation of row b at step t of moved networks, one a row; `still` is the network not moved."""

    def __init__(self, still: Unrolled, b: int, t: int) -> None:
        super().__init__(still.N)
        nodes = still.steps[t - 1].nodes
        self.held, self.kinks = ([node.value.row(b) for node in nodes if node.op == op] for op in ("hold", "relu"))

    def hold(self, a: Node) -> Node:
        """What the network that was not moved holds here."""
        return self._record("hold", Matrix(a.value.rows, a.value.cols, self.held.pop(0) * a.value.rows), a)

    def relu(self, a: Node) -> Node:
        """Raises: Undecided where a unit is on in one network and off in another: no derivative lies between."""
        node = super().relu(a)
        on = [value > 0 for value in self.kinks.pop(0)] * a.value.rows
        if on != [value > 0 for value in node.value.data]:
            raise Undecided("a relu's kink is within the difference")
        return node


class _Differences:
    """The moved networks of one problem; `terms` yields (1) for every place that step s moves."""

    def __init__(self, still: Unrolled, prec: int) -> None:
        self.still, self.N, self.problem = still, still.N, still.problem
        self.names = list(self.problem.spec.shapes(self.problem.D, self.problem.H))
        self.x = self.N.decode(self.problem.x)
        self.e = self.N.scalar(1, -prec)

    def _both_ways(self, matrix: Matrix) -> Iterator[tuple[int, Matrix]]:
        """(i, the matrix with entry i moved up, then down)."""
        for i, value in enumerate(matrix.data):
            for moved in (value + self.e, value - self.e):
                yield i, Matrix(matrix.rows, matrix.cols, [*matrix.data[:i], moved, *matrix.data[i + 1 :]])

    def _before(self, b: int, s: int) -> States:
        """The states that step s of row b starts from, (1,H)."""
        states = self.still.states
        return {name: Matrix(1, self.problem.H, states[name][s - 1].row(b)) for name in states}

    def _step(self, b: int, t: int, x_t: Matrix, state: States, moved: States) -> States:
        """The states after step t of row b, one moved network a row; `moved` are parameters."""
        problem, trace = self.problem, _Moved(self.still, b, t)
        leaves = {name: self.still.leaves[name].value for name in self.names} | moved
        nodes = {name: Node("leaf", value, name=name) for name, value in leaves.items()}
        before = {name: Node("leaf", value, name=name) for name, value in state.items()}
        w = problem.spec.prepare(trace, nodes, problem.H)
        cec = problem.truncation.kind == "cec"
        new = problem.spec.step(trace, w, Node("leaf", x_t, name="x"), before, problem.activation, cec)
        return {name: node.value for name, node in new.items()}

    def _after(self, b: int, s: int) -> tuple[list[Place], States]:
        """The places that step s has, and the states after it, two rows a place: moved up and moved down."""
        problem, spec = self.problem, self.problem.spec
        B, D, H = problem.B, problem.D, problem.H
        state = self._before(b, s)
        first = ((s - 1) * B + b) * D
        x_s = Matrix(1, D, self.x.data[first : first + D])
        places: list[Place] = []
        found = []
        for name in self.names:
            for i, moved in self._both_ways(self.still.leaves[name].value):
                places.append((f"d{name}", i))
                found.append(self._step(b, s, x_s, state, {name: moved}))
        for i, moved in self._both_ways(x_s):
            places.append(("dx", first + i))
            found.append(self._step(b, s, moved, state, {}))
        for name in spec.states if s == 1 else ():
            for i, moved in self._both_ways(state[name]):
                places.append((f"d{name}0", b * H + i))
                found.append(self._step(b, s, x_s, {**state, name: moved}, {}))
        rows = {name: [value for states in found for value in states[name].data] for name in spec.states}
        return places[::2], {name: Matrix(len(found), H, data) for name, data in rows.items()}

    def terms(self, b: int, s: int) -> Iterator[tuple[int, list[Place], list[Any]]]:
        """(t, places, dL_t/dplace) for t = s, s + 1, ..., the row's length, the final cotangents among the losses."""
        problem = self.problem
        length = int(problem.row_lengths[b])
        places, state = self._after(b, s)
        for t in range(s, length + 1):
            if t > s:
                x_t = Matrix(2 * len(places), problem.D, self.x.row((t - 1) * problem.B + b) * (2 * len(places)))
                state = self._step(b, t, x_t, state, {})
            o = state["h"]
            if problem.readout == "linear":
                W, bias = (self.still.leaves[name].value for name in ("W_hy", "b_y"))
                o = self.N.add(self.N.matmul(o, W), bias)
            losses = [self._loss(b, t, o.row(i)) for i in range(o.rows)]
            if t == length:
                losses = [loss + self._finals(b, state, i) for i, loss in enumerate(losses)]
            yield t, places, self._quotients(losses)

    def readout(self, b: int, t: int) -> tuple[list[Place], list[Any]]:
        """The places of W_hy and b_y, and dL_t/dplace."""
        leaves, N = self.still.leaves, self.N
        h = Matrix(1, self.problem.H, self.still.states["h"][t].row(b))
        places, losses = [], []
        for i, W in self._both_ways(leaves["W_hy"].value):
            places.append(("dW_hy", i))
            losses.append(self._loss(b, t, N.add(N.matmul(h, W), leaves["b_y"].value).data))
        for i, bias in self._both_ways(leaves["b_y"].value):
            places.append(("db_y", i))
            losses.append(self._loss(b, t, N.add(N.matmul(h, leaves["W_hy"].value), bias).data))
        return places[::2], self._quotients(losses)

    def unmoved(self, b: int) -> tuple[list[Place], list[Any]]:
        """A row of length 0: its initial states are its final ones."""
        places, losses = [], []
        state = self._before(b, 1)
        for name, value in state.items():
            for i, moved in self._both_ways(value):
                places.append((f"d{name}0", b * self.problem.H + i))
                losses.append(self._finals(b, {**state, name: moved}, 0))
        return places[::2], self._quotients(losses)

    def _quotients(self, losses: list[Any]) -> list[Any]:
        """(2)."""
        return [(up - down) / (2 * self.e) for up, down in zip(losses[::2], losses[1::2], strict=True)]

    def _loss(self, b: int, t: int, o: list[Any]) -> Any:
        """L_t of row b where the output is o, weighted by the reductions."""
        N, loss = self.N, self.problem.loss
        if loss.kind == "cotangent":
            assert loss.g is not None
            return N.sum([g * value for g, value in zip(N.decode(loss.g[t - 1, b]).data, o, strict=True)])
        assert loss.target is not None
        weight = N.ratio(row_weights(self.problem)[b])
        if loss.kind == "squared_error":
            assert loss.scale is not None
            y = N.decode(loss.target[t - 1, b]).data
            squares = N.sum([(value - goal) ** 2 for value, goal in zip(o, y, strict=True)])
            return weight * N.ratio(exact_fraction(loss.scale)) * squares
        shift = max(o)
        log_sum = shift + N.log(N.sum([N.exp(value - shift) for value in o]))
        if loss.target.ndim == 2:
            return weight * (log_sum - o[int(loss.target[t - 1, b])])
        y = N.decode(loss.target[t - 1, b]).data
        return weight * N.sum([goal * (log_sum - value) for goal, value in zip(y, o, strict=True)])

    def _finals(self, b: int, state: States, i: int) -> Any:
        """<g_h_final, h> + <g_c_final, c> of row b, for the i-th moved network."""
        N, total = self.N, self.N.scalar(0)
        for name, value in state.items():
            g = getattr(self.problem.loss, f"g_{name}_final")
            if g is not None:
                total += N.sum([a * v for a, v in zip(N.decode(g[b]).data, value.row(i), strict=True)])
        return total


def difference_gradients(unrolled: Unrolled) -> dict[str, Matrix]:
    """Every gradient by central differences. Shapes as `oracle.reverse.reverse_gradients`.

    Error:  absolute, not relative: see the module's first lines.
    Raises: NotInThisSystem for all but mpmath, because (2) is no enclosure; Undecided where a relu's kink is near.

    >>> import numpy as np
    >>> from bptt.problem import Loss, Problem
    >>> from oracle.unrolled import unroll
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> difference_gradients(unroll(p, MpmathNumbers(100)))["dx"].data  # dL_1/dx_1 + dL_2/dx_1 = 1 + 3, and 1
    [mpf('4.0'), mpf('1.0')]
    """
    N, problem = unrolled.N, unrolled.problem
    if not isinstance(N, MpmathNumbers):
        raise NotInThisSystem(f"differences are no enclosure and not exact: they have no use for {N.name}")
    of = _Differences(unroll(problem, MpmathNumbers(3 * N.prec + GUARD)), N.prec)
    shapes = {f"d{name}": (leaf.value.rows, leaf.value.cols) for name, leaf in unrolled.leaves.items()}
    shapes["dx"] = (problem.T * problem.B, problem.D)
    shapes |= {f"d{name}0": (problem.B, problem.H) for name in problem.spec.states}
    out = {key: of.N.zeros(*shape) for key, shape in shapes.items()}

    def collect(places: list[Place], values: list[Any]) -> None:
        for (key, i), value in zip(places, values, strict=True):
            out[key].data[i] += value

    for b, length in enumerate(problem.row_lengths.tolist()):
        if length == 0:
            collect(*of.unmoved(b))
        for s in range(1, length + 1):
            for t, places, values in of.terms(b, s):
                if not problem.truncation.mask(t, s, length):
                    break
                collect(places, values)
            if problem.readout == "linear":
                collect(*of.readout(b, s))
    return {key: N.map(lambda value: +N.context.make_mpf(value._mpf_), matrix) for key, matrix in out.items()}


__all__ = ["difference_gradients"]
