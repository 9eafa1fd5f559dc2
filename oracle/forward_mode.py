"""Forward mode by dual numbers, which is real-time recurrent learning: the third road to the gradients.

A dual is a value and its tangents, the derivatives along P directions. For one batch row a state is (1,n) and its
tangents are (P,n), one direction a row; a weight (m,n) has such a matrix for each of its m rows. The cell's own `step`
runs over duals:

    linear   z = sum X W + addends    dz = sum (dX W + sum_i x_i dW_i) + sum of d addends    (1)
    mul      z = a o b                dz = da o b + a o db                                   (2)
    mix      z = (1-z') n + z' h      dz = dz' o (h - n) + (1-z') o dn + z' o dh             (3)
    tanh     dz = 4 sigma(2a) sigma(-2a) da, because tanh(a) = 2 sigma(2a) - 1               (4)
    sigmoid  dz = sigma(a) sigma(-a) da    relu  dz = [a > 0] da                             (5)
    exp      dz = z da    log  dz = da / a    hold  dz = 0                                   (6)

A pass gives the copy of the parameters at step s, x_s, and for s = 1 the initial states, one direction an entry, and
carries the tangents forward to every t with m(t,s) = 1, where those of the loss, computed in duals too, are read. Where
m is 1 throughout, one pass gives all copies of a parameter the same directions: the recursion of the source.

Source: Williams and Zipser (1989), real-time recurrent learning; (1) to (6) are the chain rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from bptt.losses import row_weights
from bptt.problem import Problem
from oracle.numbers import Matrix, Numbers, Scalar, exact_fraction
from oracle.unrolled import Unrolled

Places = list[tuple[str, int, int]]
"""What the directions of a pass are, in order: a gradient's key, its first entry, and how many."""


@dataclass(frozen=True)
class Dual:
    """A value (m,n) and for each of its rows the tangents (P,n); None where nothing has a direction."""

    value: Matrix
    tangents: list[Matrix] | None = None


class Duals:
    """An `Arithmetic` over duals of one batch row, with `exp` and `log` for the losses."""

    def __init__(self, numbers: Numbers) -> None:
        self.N = numbers

    def _dual(self, value: Matrix, *terms: Matrix | None) -> Dual:
        there = [term for term in terms if term is not None]
        return Dual(value, [reduce(self.N.add, there)] if there else None)

    def _times(self, a: Dual, factor: Matrix) -> Matrix | None:
        """Da o factor (1,n)."""
        return None if a.tangents is None else self.N.mul(a.tangents[0], factor)

    def linear(self, products: Sequence[tuple[Dual, Dual]], addends: Sequence[Dual] = ()) -> Dual:
        """(1)."""
        N = self.N
        values = [N.matmul(X.value, W.value) for X, W in products] + [addend.value for addend in addends]
        terms = [addend.tangents[0] for addend in addends if addend.tangents is not None]
        for X, W in products:
            if X.tangents is not None:
                terms.append(N.matmul(X.tangents[0], W.value))
            for x_i, dW_i in zip(X.value.data, W.tangents or [], strict=W.tangents is not None):
                terms.append(Matrix(dW_i.rows, dW_i.cols, [x_i * value for value in dW_i.data]))
        return self._dual(reduce(N.add, values), *terms)

    def columns(self, value: Dual, start: int, stop: int) -> Dual:
        """The same columns of the value and of the tangents."""
        cut = self.N.columns
        tangents = None if value.tangents is None else [cut(M, start, stop) for M in value.tangents]
        return Dual(cut(value.value, start, stop), tangents)

    def mul(self, a: Dual, b: Dual) -> Dual:
        """(2)."""
        return self._dual(self.N.mul(a.value, b.value), self._times(a, b.value), self._times(b, a.value))

    def add(self, a: Dual, b: Dual) -> Dual:
        """A sum's tangents are the sum of tangents."""
        return self._dual(self.N.add(a.value, b.value), *(a.tangents or []), *(b.tangents or []))

    def mix(self, z: Dual, n: Dual, h: Dual) -> Dual:
        """(3)."""
        N = self.N
        rest, difference = N.one_minus(z.value), N.sub(h.value, n.value)
        value = N.add(N.mul(rest, n.value), N.mul(z.value, h.value))
        return self._dual(value, self._times(z, difference), self._times(n, rest), self._times(h, z.value))

    def tanh(self, a: Dual) -> Dual:
        """(4)."""
        N = self.N
        slope = N.map(lambda v: 4 * N.sigmoid(2 * v) * N.sigmoid(-2 * v), a.value)
        return self._dual(N.map(N.tanh, a.value), self._times(a, slope))

    def sigmoid(self, a: Dual) -> Dual:
        """(5)."""
        N = self.N
        slope = N.map(lambda v: N.sigmoid(v) * N.sigmoid(-v), a.value)
        return self._dual(N.map(N.sigmoid, a.value), self._times(a, slope))

    def relu(self, a: Dual) -> Dual:
        """(5)."""
        one, zero = self.N.scalar(1), self.N.scalar(0)
        on = self.N.map(lambda v: one if self.N.is_positive(v) else zero, a.value)
        return self._dual(self.N.mul(on, a.value), self._times(a, on))

    def identity(self, a: Dual) -> Dual:
        """The dual itself."""
        return a

    def exp(self, a: Dual) -> Dual:
        """(6)."""
        value = self.N.map(self.N.exp, a.value)
        return self._dual(value, self._times(a, value))

    def log(self, a: Dual) -> Dual:
        """(6)."""
        return self._dual(self.N.map(self.N.log, a.value), self._times(a, self.N.map(lambda v: 1 / v, a.value)))

    def hold(self, a: Dual) -> Dual:
        """The value without its tangents."""
        return Dual(a.value)

    def seeded(self, value: Matrix, P: int, first: int) -> Dual:
        """The value with a direction for each entry: the k-th, in C order, is direction first + k of P."""
        n, tangents = value.cols, []
        for i in range(value.rows):
            M = self.N.zeros(P, n)
            start = (first + i * n) * n
            M.data[start : start + n * n : n + 1] = [self.N.scalar(1)] * n
            tangents.append(M)
        return Dual(value, tangents)


def _loss(A: Duals, problem: Problem, b: int, t: int, o: Dual) -> Dual:
    """L_t of row b, (1,1), from o_t (1,K), weighted by the reductions; final cotangents are not in it."""
    N, loss, K = A.N, problem.loss, problem.K

    def column(factors: list[Scalar]) -> Dual:
        return Dual(Matrix(K, 1, factors))

    if loss.kind == "cotangent":
        assert loss.g is not None
        return A.linear([(o, column(N.decode(loss.g[t - 1, b]).data))])
    assert loss.target is not None
    weight = N.ratio(row_weights(problem)[b])
    if loss.target.ndim == 3:
        y = N.decode(loss.target[t - 1, b]).data
    else:
        y = [N.scalar(int(k == loss.target[t - 1, b])) for k in range(K)]
    if loss.kind == "squared_error":
        assert loss.scale is not None
        difference = A.add(o, Dual(Matrix(1, K, [-goal for goal in y])))
        return A.linear([(A.mul(difference, difference), column([weight * N.ratio(exact_fraction(loss.scale))] * K))])
    shift = max(o.value.data)  # any shift is right; a large one keeps exp small
    powers = A.exp(A.add(o, Dual(Matrix(1, K, [-shift] * K))))
    log_sum = A.add(A.log(A.linear([(powers, column([N.scalar(1)] * K))])), Dual(Matrix(1, 1, [shift])))
    total = Dual(Matrix(1, 1, [weight * N.sum(y)]))
    return A.linear([(log_sum, total), (o, column([-weight * goal for goal in y]))])


class _Forward:
    """The passes over one unrolled problem, row by row; `out` collects the gradients."""

    def __init__(self, unrolled: Unrolled) -> None:
        self.u, self.N, self.problem = unrolled, unrolled.N, unrolled.problem
        self.A = Duals(unrolled.N)
        problem, N = self.problem, self.N
        self.still = {name: Dual(leaf.value) for name, leaf in unrolled.leaves.items()}
        self.x = N.decode(problem.x)
        self.out = {f"d{name}": N.zeros(dual.value.rows, dual.value.cols) for name, dual in self.still.items()}
        self.out["dx"] = N.zeros(problem.T * problem.B, problem.D)
        self.out |= {f"d{name}0": N.zeros(problem.B, problem.H) for name in problem.spec.states}

    def row(self, b: int) -> None:
        """Every term of row b."""
        length = int(self.problem.row_lengths[b])
        whole = range(1, length + 1)
        at_once = self.problem.truncation.kind in ("full", "cec") or length == 0
        for steps in [whole] if at_once else [range(s, s + 1) for s in whole]:
            self._carry(b, steps, length)
        for t in whole if self.problem.readout == "linear" else ():  # the readout knows no mask: h_t is a constant
            places = self._parameters(["W_hy", "b_y"])
            w = self._seeded(places, {name: self.still[name].value for name in ("W_hy", "b_y")})
            h = Dual(Matrix(1, self.problem.H, self.u.states["h"][t].row(b)))
            self._collect(self._losses(b, t, {"h": h}, w), places)

    def _parameters(self, names: Iterable[str]) -> Places:
        return [(f"d{name}", 0, len(self.still[name].value.data)) for name in names]

    def _seeded(self, places: Places, values: dict[str, Matrix], first: int = 0) -> dict[str, Dual]:
        """The values with directions in a row, from the first on."""
        P, out = sum(count for _, _, count in places), {}
        for name, value in values.items():
            out[name] = self.A.seeded(value, P, first)
            first += len(value.data)
        return out

    def _carry(self, b: int, steps: range, length: int) -> None:
        """One pass: directions at `steps` for the parameters, together, for each x_s, and for s_0 if 1 is a step."""
        u, A, problem = self.u, self.A, self.problem
        spec, D, H = problem.spec, problem.D, problem.H
        names = list(spec.shapes(D, H))
        places = self._parameters(names)
        of_x = sum(count for _, _, count in places)
        places += [("dx", ((s - 1) * problem.B + b) * D, D) for s in steps]
        places += [(f"d{name}0", b * H, H) for name in spec.states if steps.start == 1]
        moving = spec.prepare(A, self._seeded(places, {name: self.still[name].value for name in names}), H)
        still = spec.prepare(A, {name: self.still[name] for name in names}, H)
        before = {name: Matrix(1, H, u.states[name][steps.start - 1].row(b)) for name in spec.states}
        state = {name: Dual(value) for name, value in before.items()}
        if steps.start == 1:
            state = self._seeded(places, before, of_x + D * len(steps))
        if length == 0:  # a final cotangent goes straight to the initial state
            self._collect(self._finals(b, state), places)
        for t in range(steps.start, length + 1):
            if not problem.truncation.mask(t, steps.start, length):
                break
            x_t = Matrix(1, D, self.x.row((t - 1) * problem.B + b))
            x = self._seeded(places, {"x": x_t}, of_x + D * (t - steps.start))["x"] if t in steps else Dual(x_t)
            w = moving if t in steps else still
            state = spec.step(A, w, x, state, problem.activation, problem.truncation.kind == "cec")
            self._collect(self._losses(b, t, state, self.still), places)
            if t == length:
                self._collect(self._finals(b, state), places)

    def _losses(self, b: int, t: int, state: dict[str, Dual], w: dict[str, Dual]) -> list[Dual]:
        linear = self.problem.readout == "linear"
        o = self.A.linear([(state["h"], w["W_hy"])], [w["b_y"]]) if linear else state["h"]
        return [_loss(self.A, self.problem, b, t, o)]

    def _finals(self, b: int, state: dict[str, Dual]) -> list[Dual]:
        given = {name: getattr(self.problem.loss, f"g_{name}_final") for name in state}
        columns = {name: Dual(self.N.transpose(self.N.decode(g[b]))) for name, g in given.items() if g is not None}
        return [self.A.linear([(state[name], g)]) for name, g in columns.items()]

    def _collect(self, losses: Iterable[Dual], places: Places) -> None:
        for loss in losses:
            if loss.tangents is None:
                continue
            tangents = iter(loss.tangents[0].data)
            for key, start, count in places:
                data = self.out[key].data
                for i in range(start, start + count):
                    data[i] = data[i] + next(tangents)


def forward_gradients(unrolled: Unrolled) -> dict[str, Matrix]:
    """Every gradient by forward mode, with the problem's truncation. Shapes as `oracle.reverse.reverse_gradients`.

    >>> import numpy as np
    >>> from bptt.problem import Loss
    >>> from oracle.rational_numbers import RationalNumbers
    >>> from oracle.unrolled import unroll
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> forward_gradients(unroll(p, RationalNumbers()))["dx"].data  # dL_1/dx_1 + dL_2/dx_1 = 1 + 3, and 1
    [Fraction(4, 1), Fraction(1, 1)]
    """
    forward = _Forward(unrolled)
    for b in range(unrolled.problem.B):
        forward.row(b)
    return forward.out


__all__ = ["Dual", "Duals", "forward_gradients"]
