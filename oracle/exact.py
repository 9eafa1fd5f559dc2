"""Exact problems: truth by integer arithmetic, and the proof that nothing is rounded; long, as the two share code.

A problem is exact in a format of p bits if every number that a conventional implementation may meet is one of the
format. Then each of its operations is exact, whatever their order, and the budget is 0. What it may meet are partial
sums, over any of their terms in any order, of

    a_t = x_t W_xh + h_{t-1} W_hh + b_h      o_t = h_t W_hy + b_y      o_t - y_t      L                        (1)
    v(t,t) = dL_t/dh_t      delta(t,s) = v(t,s) o phi'(a_s)      v(t,s-1) = delta(t,s) W_hh^T                  (2)
    dW_hh = sum_{t,s,b} m(t,s) h_{s-1}^T delta(t,s),  and likewise dW_xh, db_h, dx, dh0; dW_hy and db_y        (3)
    dh_t/dtheta = sum_s (d+h_s/dtheta) (dh_t/dh_s), which forward mode carries, theta = W_hh, W_xh, b_h, x, h0 (4)

Reverse mode sums (2) over the losses t that share a sweep, the double sum keeps them apart, forward mode sums over s
first: all are partial sums of the same terms. If the terms are multiples of 2^e and their absolute values sum to at
most 2^(p+e), so do, and are, all partial sums, and the format holds them. The terms of (2) to (4) contain Jacobians
dh_t/dh_s; two majorants of their absolute values are tried, n = t - s being at most the truncation's reach:

    paths     |dh_t/dh_s| <= the same product with |W_hh| in place of W_hh: tight for permutations            (5)
    powers    |dh_t/dh_s| <= max_n |W_hh^n|, identity only: tight for Hadamard matrices, whose powers recur    (6)

Means divide by powers of two, which changes exponents alone. Derivation: ours.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bptt.bits import decode
from bptt.losses import row_weights
from bptt.problem import Problem
from oracle.numbers import NotInThisSystem, exact_fraction

Ints = NDArray[Any]
LIMIT = 1 << 62
FORMATS = {  # significand bits p, exponent of the smallest normal number, exponent of the first overflow
    "float64": (53, -1022, 1024),
    "float32": (24, -126, 128),
    "float16": (11, -14, 16),
    "bfloat16": (8, -126, 128),
}


class Fixed:
    """An array of integers n times 2^e. `top` bounds |n|: below LIMIT n is int64, else it holds Python's integers.

    Sums and products keep e as it comes from the terms, so that 2^e divides each term; only `strip` looks at values.
    """

    __slots__ = ("e", "n", "top")

    def __init__(self, n: Ints, e: int, top: int) -> None:
        self.n, self.e, self.top = n, e, top

    def tight(self) -> Fixed:
        """The same with the least `top`."""
        flat = self.n.reshape(-1)
        top = max(int(flat.max()), -int(flat.min()))
        return Fixed(self.n.astype(np.int64) if top < LIMIT else self.n, self.e, top)

    def wide(self) -> Fixed:
        """The same in Python's integers."""
        return Fixed(self.n.astype(object), self.e, self.top)

    def strip(self) -> Fixed:
        """The same value with the largest e."""
        bits = int(np.bitwise_or.reduce(self.n.reshape(-1)))
        k = (bits & -bits).bit_length() - 1
        return Fixed(self.n >> k, self.e + k, self.top >> k) if bits else Fixed(self.n, self.e, 0)

    def lifted(self, e: int) -> Fixed:
        """The same value with an exponent e that is not above its own (or any, for zeros)."""
        k = self.e - e
        if k <= 0 or not self.top:
            return Fixed(self.n, e, self.top) if k else self
        out = self if self.top << k < LIMIT else self.tight()
        if out.top << k >= LIMIT:
            out = out.wide()
        return Fixed(out.n << k, e, out.top << k)

    def __add__(self, other: Fixed) -> Fixed:
        e = min((part.e for part in (self, other) if part.top), default=self.e)
        a, b, top = _room(self.lifted(e), other.lifted(e), operator.add)
        return Fixed(a.n + b.n, e, top)

    def __mul__(self, other: Fixed) -> Fixed:
        a, b, top = _room(self, other, operator.mul)
        return Fixed(a.n * b.n, a.e + b.e, top)

    def __matmul__(self, other: Fixed) -> Fixed:
        inner = self.n.shape[-1]
        a, b, top = _room(self, other, lambda p, q: inner * p * q)
        return Fixed(a.n @ b.n, a.e + b.e, top)

    def __neg__(self) -> Fixed:
        return Fixed(-self.n, self.e, self.top)

    def __abs__(self) -> Fixed:
        return Fixed(abs(self.n), self.e, self.top)

    def sum(self, axes: tuple[int, ...]) -> Fixed:
        """The sum over some axes."""
        one = Fixed(np.ones((), dtype=np.int64), 0, int(np.prod([self.n.shape[axis] for axis in axes])))
        a, _, top = _room(self, one, operator.mul)
        return Fixed(np.array(a.n.sum(axis=axes), dtype=a.n.dtype), self.e, top)

    def kept(self, mask: NDArray[np.bool_]) -> Fixed:
        """The same where the mask holds, 0 elsewhere."""
        return Fixed(np.where(mask, self.n, 0), self.e, self.top)

    @property
    def T(self) -> Fixed:
        """The transpose of a matrix."""
        return Fixed(self.n.T, self.e, self.top)

    def __getitem__(self, at: Any) -> Fixed:
        return Fixed(self.n[at], self.e, self.top)

    def flat(self) -> Fixed:
        """(..., n) as a matrix of n columns."""
        return Fixed(self.n.reshape(-1, self.n.shape[-1]), self.e, self.top)

    def floats(self) -> NDArray[np.float64]:
        """The values as float64: exact for integers of up to 53 bits in the range of normal numbers."""
        return np.ldexp(self.n.astype(np.float64), self.e)

    def fractions(self) -> list[Fraction]:
        """The values in C order."""
        unit = Fraction(2) ** self.e
        return [int(n) * unit for n in self.n.reshape(-1).tolist()]


def _room(a: Fixed, b: Fixed, bound: Callable[[int, int], int]) -> tuple[Fixed, Fixed, int]:
    """Both operands in integers that hold a result of the given bound, and the bound."""
    top = bound(a.top, b.top)
    if top >= LIMIT:
        a, b = a.tight(), b.tight()
        top = bound(a.top, b.top)
        if top >= LIMIT:
            a, b = a.wide(), b.wide()
    return a, b, top


def _fixed(array: NDArray[Any]) -> Fixed:
    """A floating array, exactly, with the largest exponent that divides all its entries."""
    numbers, exponents = decode(array)
    low = min((e for n, e in zip(numbers, exponents, strict=True) if n), default=0)
    lifted = [n << (e - low) if n else 0 for n, e in zip(numbers, exponents, strict=True)]
    return Fixed(np.array(lifted, dtype=object).reshape(array.shape), low, LIMIT).strip().tight()


def _stack(parts: list[Fixed]) -> Fixed:
    """Arrays of one shape along a new first axis, with one exponent."""
    e = min((part.e for part in parts if part.top), default=0)
    lifted = [part.lifted(e) for part in parts]
    return Fixed(np.stack([part.n for part in lifted]), e, max(part.top for part in lifted)).tight()


class Lanes(NamedTuple):
    """How the losses travel back: those that reach back to one step share a lane, and a lane serves again later.

    Shapes: slot (T,B), the lane of each loss; carried (T,L,B), whether step s takes what a lane hands on from step s+1.
    """

    slot: NDArray[np.int64]
    carried: NDArray[np.bool_]
    reach: int  # the largest t - s + 1


def _lanes(problem: Problem) -> Lanes:
    T, lengths = problem.T, problem.row_lengths.tolist()
    spans: dict[int, list[list[int]]] = {}  # of a row of a length: [first step, first loss, last loss]
    for length in set(lengths):
        found: list[list[int]] = []
        for t in range(1, length + 1):
            first = problem.truncation.first(t, length)
            if found and found[-1][0] == first:
                found[-1][2] = t
            else:
                found.append([first, t, t])
        spans[length] = found
    count, reach = 1, 0
    for found in spans.values():
        steps = np.zeros(T + 2, dtype=np.int64)
        for first, _, last in found:
            steps[first] += 1
            steps[last + 1] -= 1
            reach = max(reach, last - first + 1)
        count = max(count, int(np.cumsum(steps).max()))
    slot = np.zeros((T, problem.B), dtype=np.int64)
    carried = np.zeros((T, count, problem.B), dtype=np.bool_)
    for b, length in enumerate(lengths):
        for j, (first, start, last) in enumerate(spans[length]):
            slot[start - 1 : last, b] = j % count
            carried[first - 1 : last - 1, j % count, b] = True
    return Lanes(slot, carried, reach)


class Exact:
    """A problem in integers: `solution` is its exact solution, `reason` says why it is not exact in a format.

    Shapes: x (T,B,D), h (T+1,B,H) with h_0 first, positive (T,B,H), o and do and terms (T,B,K).
    Raises: NotInThisSystem for what needs more than integers and powers of two.
    """

    def __init__(self, problem: Problem) -> None:
        why = _foreign(problem)
        if why is not None:
            raise NotInThisSystem(why)
        self.problem = problem
        self.live = np.arange(problem.T)[:, None] < problem.row_lengths  # (T,B)
        self.lanes = _lanes(problem)
        self.params = {name: _fixed(value) for name, value in problem.params.items()}
        self.x = _fixed(problem.x)
        zeros = np.zeros((problem.B, problem.H), dtype=np.int64)
        self._forward(Fixed(zeros, 0, 0) if problem.h0 is None else _fixed(problem.h0))
        self._loss()

    def _forward(self, h0: Fixed) -> None:
        """States by a_t = x_t W_xh + h_{t-1} W_hh + b_h, and the outputs."""
        p, relu = self.params, self.problem.activation == "relu"
        driven = self.x @ p["W_xh"] + p["b_h"]
        h = [h0]
        positive: list[NDArray[np.bool_]] = []
        shortest = int(self.problem.row_lengths.min())
        for t in range(self.problem.T):
            new = h[-1] @ p["W_hh"] + driven[t]
            if relu:
                positive.append(new.n > 0)
                new = new.kept(positive[-1])
            if t >= shortest:
                mask = self.live[t, :, None]
                new = new.kept(mask) + h[-1].kept(~mask)
            h.append(new.strip() if new.e < driven.e else new)
        self.positive = np.stack(positive) if relu else None
        self.h = _stack(h).strip()
        self.o = self.h[1:] @ p["W_hy"] + p["b_y"] if "W_hy" in p else self.h[1:]

    def _loss(self) -> None:
        """do = dL/do and the terms of the loss; the final cotangent, which is (B,H), or None."""
        loss, live = self.problem.loss, self.live[:, :, None]
        self.final = None if loss.g_h_final is None else _fixed(loss.g_h_final)
        if loss.kind == "cotangent":
            assert loss.g is not None
            self.do = _fixed(loss.g).kept(live)
            self.terms = self.do * self.o
            return
        assert loss.target is not None and loss.scale is not None
        self.target = _fixed(loss.target)
        weights = [weight * exact_fraction(loss.scale) for weight in row_weights(self.problem)]
        low = -max(weight.denominator for weight in weights).bit_length()
        scaled = [int(weight * 2**-low) for weight in weights]
        factor = Fixed(np.array(scaled, dtype=object)[:, None], low, LIMIT).strip().tight()  # (B,1)
        error = (self.o + -self.target).kept(live)
        self.do = error * Fixed(factor.n, factor.e + 1, factor.top)
        self.terms = error * error * factor

    def solution(self) -> dict[str, Fixed]:
        """Loss, h, o and every gradient."""
        loss = self.terms.sum((0, 1, 2))
        if self.final is not None:
            loss = loss + (self.final * self.h[-1]).sum((0, 1))
        values = self._gradients(lambda part: part, self.params["W_hh"], shorten=True)
        del values["delta"]
        return {"loss": loss, "h": self.h[1:], "o": self.o, **values}

    def _gradients(
        self, size: Callable[[Fixed], Fixed], through: Fixed, last: Fixed | None = None, *, shorten: bool = False
    ) -> dict[str, Fixed]:
        """(3) of the parts, each as `size` has it, with errors carried back by `through` and at last by `last`."""
        W = {name: size(value) for name, value in self.params.items()}
        x, h, do = size(self.x), size(self.h), size(self.do)
        out: dict[str, Fixed] = {}
        dh = do
        if "W_hy" in W:
            out["dW_hy"], out["db_y"] = h[1:].flat().T @ do.flat(), do.sum((0, 1))
            dh = do @ W["W_hy"].T
        empty = Fixed(np.zeros_like(self.h.n[0]), 0, 0)
        if self.final is not None:
            final, lengths = size(self.final), self.problem.row_lengths
            placed = np.zeros(dh.n.shape, dtype=final.n.dtype)
            rows = np.flatnonzero(lengths)
            placed[lengths[rows] - 1, rows] = final.n[rows]
            dh = dh + Fixed(placed, final.e, final.top)
            empty = final.kept((lengths == 0)[:, None])  # a row of length 0 passes its final cotangent through
        delta, carry = self._backward(dh, through, shorten)
        if last is not None:
            delta, carry = delta @ last.T, carry @ last.T
        out["dW_xh"], out["dW_hh"] = x.flat().T @ delta.flat(), h[:-1].flat().T @ delta.flat()
        out |= {"db_h": delta.sum((0, 1)), "dx": delta @ W["W_xh"].T, "dh0": carry + empty}
        return out | {"delta": delta}

    def _backward(self, dh: Fixed, through: Fixed, shorten: bool) -> tuple[Fixed, Fixed]:
        """(2), all lanes at once: dh (T,B,H) -> delta, summed over the lanes, (T,B,H), and what reaches h_0, (B,H)."""
        slot, carried, _ = self.lanes
        T, count, B = carried.shape
        closed = set(np.flatnonzero((~carried).reshape(T, -1).any(axis=1)).tolist())
        rows, back = np.arange(B), through.T
        carry = Fixed(np.zeros((count, *dh.n.shape[1:]), dtype=np.int64), dh.e, 0)
        deltas: list[Fixed] = [carry] * T
        for s in range(T - 1, -1, -1):
            seeds = np.zeros(carry.n.shape, dtype=dh.n.dtype)
            seeds[slot[s], rows] = dh.n[s]
            if s in closed:
                carry = carry.kept(carried[s, :, :, None])
            delta = carry + Fixed(seeds, dh.e, dh.top)
            if self.positive is not None:
                delta = delta.kept(self.positive[s])
            deltas[s] = delta.sum((0,)) if count > 1 else delta[0]
            carry = delta @ back
            if shorten and carry.e < dh.e:
                carry = carry.strip()
        return _stack(deltas), carry.sum((0,))

    def reason(self, arithmetic: str | None = None) -> str | None:
        """Why rounding might occur in a format (the problem's own, if None); None if the problem is exact."""
        arithmetic = arithmetic or self.problem.dtype
        why = _excess(self._forward_bounds(), arithmetic)
        if why is not None:
            return why
        why = _excess(self._path_bounds(), arithmetic)
        if why is not None and self.positive is None and _excess(self._power_bounds(), arithmetic) is None:
            return None
        return why

    def _forward_bounds(self) -> Iterator[tuple[str, Fixed]]:
        """The sums of absolute terms of (1)."""
        p = {name: abs(value) for name, value in self.params.items()}
        h = abs(self.h)
        yield "a", abs(self.x) @ p["W_xh"] + h[:-1] @ p["W_hh"] + p["b_h"]
        o = h[1:] @ p["W_hy"] + p["b_y"] if "W_hy" in p else h[1:]
        yield "o", o
        if self.problem.loss.kind == "squared_error":
            yield "o - target", o + abs(self.target)
        loss = abs(self.terms).sum((0, 1, 2))
        yield "loss", loss if self.final is None else loss + (abs(self.final) * h[-1]).sum((0, 1))

    def _path_bounds(self) -> Iterator[tuple[str, Fixed]]:
        """The sums of absolute terms of (2) to (4) by (5); those of (4) first, which are cheap."""
        W = abs(self.params["W_hh"])
        power = total = largest = _eye(self.problem.H)
        for n in range(1, self.lanes.reach + 1):
            power = power @ W
            largest = _larger(largest, power)
            if object in (largest.n.dtype, total.n.dtype):
                break
            total = total + power if n < self.lanes.reach else total
        yield from self._tangent_bounds(total, largest)
        bounds = self._gradients(abs, W)
        del bounds["delta"]  # db_h is its sum
        yield from bounds.items()

    def _power_bounds(self) -> Iterator[tuple[str, Fixed]]:
        """The sums of absolute terms of (2) to (4) by (6), with products by W_hh and of any two Jacobians."""
        W, eye = self.params["W_hh"], _eye(self.problem.H)
        power, largest = eye, eye
        for _ in range(self.lanes.reach):
            power = (power @ W).strip().tight()
            largest = _larger(largest, abs(power))
            if largest.n.dtype == object or (power.e == 0 and np.array_equal(power.n, eye.n)):
                break
        yield "dh_t/dh_s", largest @ largest
        steps = Fixed(np.array(self.lanes.reach), 0, self.lanes.reach)
        for name, bound in self._tangent_bounds(largest * steps, largest):
            yield name, bound
            yield name, bound @ abs(W)
        bounds = self._gradients(abs, eye, largest)
        yield "dL/dh", bounds.pop("delta") @ abs(W).T
        yield from bounds.items()

    def _tangent_bounds(self, total: Fixed, largest: Fixed) -> Iterator[tuple[str, Fixed]]:
        """The sums of absolute terms of (4), from bounds of sum_s |dh_t/dh_s| and of each |dh_t/dh_s|."""
        one = Fixed(np.ones(1, dtype=np.int64), 0, 1)
        parts = [part.tight() for part in (self.h[:-1], self.x, one)]
        e = min(part.e for part in parts if part.top)
        top = max(part.lifted(e).top for part in parts)
        yield "dh_t/dW_hh", total * Fixed(np.array(top, dtype=object), e, top).tight()
        yield "dh_t/dx_s", abs(self.params["W_xh"]) @ largest


def _eye(n: int) -> Fixed:
    return Fixed(np.eye(n, dtype=np.int64), 0, 1)


def _larger(a: Fixed, b: Fixed) -> Fixed:
    """The larger of two arrays, entry by entry."""
    e = min(part.e for part in (a, b) if part.top)
    a, b = a.lifted(e), b.tight().lifted(e)
    return Fixed(np.maximum(a.n, b.n), e, max(a.top, b.top))


def _foreign(problem: Problem) -> str | None:
    """Why a problem needs more than integers and powers of two."""
    if problem.cell != "elman" or problem.activation not in ("identity", "relu"):
        return f"{problem.cell} {problem.activation}: expected elman with identity or relu"
    if problem.loss.kind not in ("cotangent", "squared_error"):
        return f"loss {problem.loss.kind}: expected cotangent or squared_error"
    for weight in row_weights(problem):
        if weight.denominator & (weight.denominator - 1):
            return f"a mean over {weight.denominator} numbers: expected a power of two"
    return None


def _excess(bounds: Iterator[tuple[str, Fixed]], arithmetic: str) -> str | None:
    """What does not fit a format first, or None."""
    p, smallest, overflow = FORMATS[arithmetic]
    for name, bound in bounds:
        top = bound.tight().top
        if top > 1 << p:
            return f"{name}: its absolute terms sum to {top} units of 2^{bound.e}; {arithmetic} holds {p} bits"
        if top and not smallest <= bound.e <= overflow - top.bit_length():
            return f"{name}: terms of 2^{bound.e} to {top} times that are outside the normal numbers of {arithmetic}"
    return None


def exact_solution(problem: Problem) -> dict[str, Fixed]:
    """The exact loss, h, o and gradients of a problem, by integer arithmetic alone.

    Error:  none, whether the problem is exact in its dtype or not.
    Raises: NotInThisSystem unless it is an Elman network with identity or relu, a cotangent or squared error, and
            means over powers of two.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> {key: value.floats().ravel().tolist() for key, value in exact_solution(p).items() if key in ("h", "dx")}
    {'h': [2.0, 8.0], 'dx': [4.0, 1.0]}
    """
    return Exact(problem).solution()


def why_inexact(problem: Problem, arithmetic: str | None = None) -> str | None:
    """Why a problem is not known to be exact in a format (its dtype, if None), or None if it is.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="tanh")
    >>> why_inexact(p)
    'elman tanh: expected elman with identity or relu'
    """
    return _foreign(problem) or Exact(problem).reason(arithmetic)


def is_exact(problem: Problem, arithmetic: str | None = None) -> bool:
    """Whether every conventional implementation must get every bit right, in a format (the problem's dtype, if None).

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> short, long = (
    ...     Problem("elman", params, np.ones((T, 1, 1)), Loss("cotangent", g=np.ones((T, 1, 1))), activation="identity")
    ...     for T in (9, 99)
    ... )
    >>> is_exact(short), is_exact(long)
    (True, False)
    """
    return why_inexact(problem, arithmetic) is None
