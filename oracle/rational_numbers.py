"""Exact rationals: for the cells that need no transcendental function (relu, identity) with a rational loss."""

from __future__ import annotations

from fractions import Fraction
from operator import mul
from typing import Any, NoReturn

from oracle.numbers import Matrix, NotInThisSystem, Numbers


class RationalNumbers(Numbers):
    """Python fractions; nothing is ever rounded, so `prec` means nothing and is 0."""

    name = "rational"
    prec = 0

    def scalar(self, n: int, e: int = 0) -> Any:
        return Fraction(n << e) if e >= 0 else Fraction(n, 1 << -e)

    def ratio(self, value: Fraction) -> Any:
        return value

    def is_positive(self, value: Any) -> bool:
        return bool(value > 0)

    def large(self, value: Any) -> bool:
        return False

    def _none(self, value: Any) -> NoReturn:
        raise NotInThisSystem("rationals have no exp, log or tanh")

    exp = log = tanh = sigmoid = _none

    def matmul(self, X: Matrix, W: Matrix) -> Matrix:
        columns = [W.data[j :: W.cols] for j in range(W.cols)]
        rows = [X.row(i) for i in range(X.rows)]
        return Matrix(X.rows, W.cols, [self.sum(list(map(mul, row, column))) for row in rows for column in columns])
