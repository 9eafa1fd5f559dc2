"""mpmath: the definition. Any precision, readable, slow; the other number systems are held against it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath

from oracle.numbers import Matrix, Numbers


class MpmathNumbers(Numbers):
    """Floating point of `prec` bits in a context of its own, so that no global precision exists.

    >>> N = MpmathNumbers(100)
    >>> N.scalar(3, -1)
    mpf('1.5')
    """

    name = "mpmath"

    def __init__(self, prec: int) -> None:
        self.prec = prec
        self.context = mpmath.MPContext()
        self.context.prec = prec

    def scalar(self, n: int, e: int = 0) -> Any:
        return (
            self.context.ldexp(self.context.mpf(n), e)
            if n.bit_length() <= self.prec
            else self.context.make_mpf(mpmath.libmp.from_man_exp(n, e))
        )

    def ratio(self, value: Fraction) -> Any:
        return self.context.mpf(value.numerator) / value.denominator

    def is_positive(self, value: Any) -> bool:
        return bool(value > 0)

    def large(self, value: Any) -> bool:
        return bool(abs(value) > 2)  # there 1 - tanh^2 has lost four bits

    def exp(self, value: Any) -> Any:
        return self.context.exp(value)

    def log(self, value: Any) -> Any:
        return self.context.log(value)

    def tanh(self, value: Any) -> Any:
        return self.context.tanh(value)

    def matmul(self, X: Matrix, W: Matrix) -> Matrix:
        """X W; every entry is one exactly accumulated inner product, rounded once (mpmath's fdot)."""
        columns = [W.data[j :: W.cols] for j in range(W.cols)]
        fdot = self.context.fdot
        return Matrix(X.rows, W.cols, [fdot(X.row(i), column) for i in range(X.rows) for column in columns])
