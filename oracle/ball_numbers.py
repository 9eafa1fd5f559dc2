"""Balls (python-flint's arb): the proof. Every result is an interval that contains the exact value.

Contract: for each operation the output ball contains every value of the operation over the input balls. The precision
is set by `scope`, which the solver enters around a whole computation.
Source: Johansson (2017), "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic".
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from flint import arb, arb_mat, ctx, fmpq
from numpy.typing import NDArray

from bptt.bits import all_normal
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
        return arb((n, e)) if e else arb(n)

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

    # flint's own functions, with no Python between: they are called once an entry.
    exp = staticmethod(arb.exp)  # type: ignore[assignment]
    log = staticmethod(arb.log)  # type: ignore[assignment]
    tanh = staticmethod(arb.tanh)  # type: ignore[assignment]

    def decode(self, array: NDArray[Any]) -> Matrix:
        """As everywhere, but normal numbers, which no flush-to-zero touches, as floats: that takes a tenth."""
        if not all_normal(array):
            return super().decode(array)
        cols = array.shape[-1] if array.ndim else 1
        values = array.astype(np.float64).reshape(-1).tolist()
        return Matrix(len(values) // cols, cols, list(map(arb, values)))

    def where_large(self, A: Matrix, Z: Matrix) -> list[int]:
        """Seldom any, which Z tells: only near 1 does 1 - phi(a) cancel. A midpoint will do: both forms enclose."""
        middles = np.abs(np.fromiter(map(float, Z.data), np.float64, len(Z.data)))
        return [] if middles.max(initial=0) < 1 - 2.0**-23 else super().where_large(A, Z)

    def matmul(self, X: Matrix, W: Matrix) -> Matrix:
        return _matrix(_native(X, keep=X.rows > X.cols) * _native(W))

    def matmul_nt(self, X: Matrix, W: Matrix) -> Matrix:
        return _matrix(_native(X) * _native(W).transpose())

    def matmul_tn(self, X: Matrix, Y: Matrix) -> Matrix:
        return _matrix(_transposed(X) * _native(Y))

    outer = matmul_tn


def _native(X: Matrix, keep: bool = True) -> Any:
    """X as flint has it; made once."""
    if X.native is not None:
        return X.native
    native = _filled(X.rows, X.cols, _places(X.rows, X.cols), X.data)
    if keep:
        X.native = native
    return native


def _transposed(X: Matrix) -> Any:
    """X^T as flint has it."""
    if X.native is not None:
        return X.native.transpose()
    return _filled(X.cols, X.rows, _places_in_transpose(X.rows, X.cols), X.data)


def _filled(rows: int, cols: int, places: list[tuple[int, int]], data: list[Any]) -> Any:
    """Entry by entry, since flint's constructor copies each of a list's entries twice."""
    native = arb_mat(rows, cols)
    for place, value in zip(places, data, strict=True):
        native[place] = value
    return native


def _matrix(native: Any) -> Matrix:
    rows, cols = native.nrows(), native.ncols()
    return Matrix(rows, cols, [native[place] for place in _places(rows, cols)])


@lru_cache(maxsize=32)
def _places(rows: int, cols: int) -> list[tuple[int, int]]:
    """The indices of a matrix in C order."""
    return list(product(range(rows), range(cols)))


@lru_cache(maxsize=32)
def _places_in_transpose(rows: int, cols: int) -> list[tuple[int, int]]:
    """Where the entries of a matrix, in C order, stand in its transpose."""
    return [(j, i) for i, j in _places(rows, cols)]
