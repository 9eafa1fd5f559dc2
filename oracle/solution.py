"""A problem's exact solution: every value that an implementation may return, as a midpoint and a radius.

`solve` asks one road at one precision. `decided` asks for more precision until a caller's question is answered.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem, gradient_shapes
from oracle.ball_numbers import BallNumbers
from oracle.differences import difference_gradients
from oracle.double_sum import double_sum_gradients
from oracle.errors import PrecisionExhausted
from oracle.forward_mode import forward_gradients
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import Matrix, Numbers, Scalar, Undecided, stack
from oracle.rational_numbers import RationalNumbers
from oracle.reverse import reverse_gradients
from oracle.unrolled import Unrolled, unroll

Floats = NDArray[np.float64]
FIRST_PRECISION = 128
LAST_PRECISION = 8192
ROADS: dict[str, Callable[[Unrolled], dict[str, Matrix]]] = {
    "reverse": reverse_gradients,
    "double-sum": double_sum_gradients,
    "forward": forward_gradients,
    "differences": difference_gradients,
}


@dataclass
class Solution:
    """The exact values of a problem's loss, states, outputs and gradients in N; `values[key]` is flat, in C order.

    known: what the budget needs of it, where that is at hand already: a `Rounded` of oracle.budget.graph.
    """

    problem: Problem
    N: Numbers
    values: dict[str, list[Scalar]]
    unrolled: Unrolled
    _near: dict[str, tuple[Floats, Floats, Floats]] = field(default_factory=dict)
    known: Any = None

    def near(self, key: str) -> tuple[Floats, Floats, Floats]:
        """(hi, lo, rad), each of the array's shape: the exact value is within rad of hi + lo.

        hi is the nearest float64 (or next to it), lo what it leaves; rad is a bound for balls, and for mpmath an
        estimate: 2^8 units of its last bit.
        """
        if key not in self._near:
            shape = gradient_shapes(self.problem)[key]
            with scope(self.N):
                rows = [_split(self.N, value) for value in self.values[key]]
            columns = np.array(rows, dtype=np.float64).reshape(len(rows), 3).T
            self._near[key] = (columns[0].reshape(shape), columns[1].reshape(shape), columns[2].reshape(shape))
        return self._near[key]

    def state(self, name: str, t: int) -> Floats:
        """The state after step t = 0..T, (B,H), rounded to float64."""
        if t > 0:
            after: Floats = self.near(name)[0][t - 1]
            return after
        before: NDArray[Any] | None = getattr(self.problem, f"{name}0")
        return np.zeros((self.problem.B, self.problem.H)) if before is None else before.astype(np.float64)

    def adjoint(self, name: str) -> Floats:
        """(T,B,H): dL/dstate after each step, as the truncation has it, rounded to float64."""
        problem = self.problem
        out = np.zeros((problem.T, problem.B, problem.H))
        with scope(self.N):
            for t, adjoints in self.unrolled.adjoints.items():  # of the steps that some error reaches
                out[t - 1] = np.array([float(value) for value in adjoints[name].data]).reshape(out.shape[1:])
        return out


def scope(N: Numbers) -> AbstractContextManager[Any]:
    """The precision scope of a number system, if it has one.

    >>> N = numbers("arb", 200)
    >>> with scope(N):
    ...     third = N.scalar(1) / 3
    >>> third.rel_accuracy_bits() > 190
    True
    """
    return N.scope() if isinstance(N, BallNumbers) else nullcontext()


@contextmanager
def _no_collection() -> Iterator[None]:
    """No pass of the garbage collector within: it would walk lists of millions of numbers, in which nothing is free."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _split(N: Numbers, value: Scalar) -> tuple[float, float, float]:
    if isinstance(N, BallNumbers):
        hi = float(value)  # of the middle; so is lo
        if hi - hi != 0:
            return hi, 0.0, 0.0
        rad = float(value.rad())
        return hi, float(value - hi), rad * (1 + 2.0**-50) + (5e-324 if rad == 0 and not value.is_exact() else 0.0)
    hi = float(value)
    if hi - hi != 0:
        return hi, 0.0, 0.0
    lo = value - type(value)(hi) if isinstance(N, RationalNumbers) else value - N.context.mpf(hi)  # type: ignore[attr-defined]
    return hi, float(lo), 0.0 if isinstance(N, RationalNumbers) else abs(hi) * 2.0 ** (8 - N.prec)


def numbers(name: str, prec: int) -> Numbers:
    """The number system `arb`, `mpmath` or `rational`, of `prec` bits.

    >>> numbers("mpmath", 200).scalar(1, -2)
    mpf('0.25')
    """
    if name == "rational":
        return RationalNumbers()
    return BallNumbers(prec) if name == "arb" else MpmathNumbers(prec)


def solve(problem: Problem, N: Numbers, road: str = "reverse") -> Solution:
    """Solve a problem in N by a road, one of ROADS; `differences` is for mpmath only.

    Error:  exact for rationals; enclosed for balls; for mpmath, rounded at each operation to N.prec bits.
    Raises: Undecided where a ball straddles a relu's kink; NotInThisSystem where rationals cannot go.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> solve(p, RationalNumbers(), road="double-sum").values["h"]  # 1 + 1, and 1 + 3 * 2 + 1
    [Fraction(2, 1), Fraction(8, 1)]
    """
    with scope(N), _no_collection():
        unrolled = unroll(problem, N)
        gradients = ROADS[road](unrolled)
        values: dict[str, list[Scalar]] = {"loss": [unrolled.loss]}
        for state in problem.spec.states:
            values[state] = stack(unrolled.states[state][1:]).data
        values["o"] = unrolled.outputs.data
        values |= {key: matrix.data for key, matrix in gradients.items()}
    return Solution(problem, N, values, unrolled)


def is_rational(problem: Problem) -> bool:
    """Whether the problem needs no transcendental function, so that rationals solve it exactly.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> is_rational(p)
    True
    """
    return problem.activation in ("relu", "identity") and problem.loss.kind != "cross_entropy"


def decided(problem: Problem, enough: Callable[[Solution], bool], first: int = FIRST_PRECISION) -> Solution:
    """The first solution in balls of doubling precision that is `enough`; a kink that stays open goes to rationals.

    Raises: PrecisionExhausted past LAST_PRECISION bits.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="sigmoid")
    >>> decided(p, lambda solution: solution.near("dW_hh")[2].max() < 1e-100).N.prec
    512
    """
    prec = first
    while prec <= LAST_PRECISION:
        try:
            solution = solve(problem, BallNumbers(prec))
            if enough(solution):
                return solution
        except Undecided:
            if is_rational(problem) and prec >= 4 * first:
                return solve(problem, RationalNumbers())
        prec *= 2
    raise PrecisionExhausted(f"not decided at {LAST_PRECISION} bits")
