"""Balls (python-flint's arb): the proof. Every result is an interval that contains the exact value.

Contract: for each operation the output ball contains every value of the operation over the input balls. The precision
is set by `scope`, which the solver enters around a whole computation.
Source: Johansson (2017), "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic".
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

from flint import arb, arb_mat, ctx, fmpq, fmpz

from oracle.numbers import Matrix, Numbers, Undecided


class BallNumbers(Numbers):
    """Midpoint-radius intervals of `prec` bits.

    >>> N = BallNumbers(128)
    >>> with N.scope():
    ...     third = N.ratio(Fraction(1, 3))
    >>> bool((3 * third - 1).contains(0)), N.scalar(3, -1)
    (True, 1.50000000000000)
    """

    name = "arb"

    def __init__(self, prec: int) -> None:
        self.prec = prec

    def scope(self) -> AbstractContextManager[Any]:
        """flint keeps its precision in one place; inside this scope it is ours, afterwards what it was."""
        scope: AbstractContextManager[Any] = ctx.workprec(self.prec)
        return scope

    def scalar(self, n: int, e: int = 0) -> Any:
        return arb((fmpz(n), fmpz(e)))

    def ratio(self, value: Fraction) -> Any:
        return arb(fmpq(value.numerator, value.denominator))

    def is_positive(self, value: Any) -> bool:
        if value > 0:
            return True
        if value <= 0:
            return False
        raise Undecided(f"the sign of {value}")

    def large(self, value: Any) -> bool:
        return not abs(value) < 16

    def exp(self, value: Any) -> Any:
        return value.exp()

    def log(self, value: Any) -> Any:
        return value.log()

    def tanh(self, value: Any) -> Any:
        return value.tanh()

    def matmul(self, X: Matrix, W: Matrix) -> Matrix:
        product = self._native(X) * self._native(W)
        out = Matrix(X.rows, W.cols, product.entries())
        out.native = product
        return out

    def matmul_nt(self, X: Matrix, W: Matrix) -> Matrix:
        product = self._native(X) * self._native(W).transpose()
        return Matrix(X.rows, W.rows, product.entries())

    def matmul_tn(self, X: Matrix, Y: Matrix) -> Matrix:
        product = self._native(X).transpose() * self._native(Y)
        return Matrix(X.cols, Y.cols, product.entries())

    outer = matmul_tn

    @staticmethod
    def _native(X: Matrix) -> Any:
        if X.native is None:
            X.native = arb_mat(X.rows, X.cols, X.data)
        return X.native
