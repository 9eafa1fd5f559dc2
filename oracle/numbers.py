"""Matrices over a number system: what the equations are evaluated in.

A `Matrix` is a shape and a flat list of scalars in C order. `Numbers` is the interface of a number system; everything
that Python's own + - * do is written here once, and a system adds its exact conversions, products and functions.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.bits import decode

Scalar = Any


class Matrix:
    """rows x cols scalars in C order. `native` is a system's own form of it, filled in when first needed."""

    __slots__ = ("cols", "data", "native", "rows")

    def __init__(self, rows: int, cols: int, data: list[Scalar]) -> None:
        self.rows = rows
        self.cols = cols
        self.data = data
        self.native: Any = None

    def row(self, i: int) -> list[Scalar]:
        """The scalars of row i."""
        return self.data[i * self.cols : (i + 1) * self.cols]

    def rows_from(self, first: int, count: int) -> Matrix:
        """The matrix of `count` rows from row `first` on."""
        return Matrix(count, self.cols, self.data[first * self.cols : (first + count) * self.cols])


def stack(matrices: Sequence[Matrix]) -> Matrix:
    """Matrices of one width below one another; one alone is itself, and keeps its native form.

    >>> stack([Matrix(1, 2, [1, 2]), Matrix(1, 2, [3, 4])]).data
    [1, 2, 3, 4]
    """
    if len(matrices) == 1:
        return matrices[0]
    data = list(chain.from_iterable(m.data for m in matrices))
    return Matrix(sum(m.rows for m in matrices), matrices[0].cols, data)


class NotInThisSystem(ArithmeticError):
    """A function that this number system lacks: tanh of a rational, for one."""


class Undecided(ArithmeticError):
    """A ball that lies on both sides of a branch (the sign of a relu's argument): more precision may decide it."""


class Numbers(ABC):
    """A number system of a given precision (bits); immutable, so that nothing depends on a global setting."""

    name: str
    prec: int

    # ---- scalars: what a system must say -------------------------------------------------------------------------

    @abstractmethod
    def scalar(self, n: int, e: int = 0) -> Scalar:
        """n 2^e, exactly."""

    @abstractmethod
    def ratio(self, value: Fraction) -> Scalar:
        """A rational, rounded to the precision (or enclosed)."""

    @abstractmethod
    def is_positive(self, value: Scalar) -> bool:
        """Whether value > 0. Raises: Undecided."""

    @abstractmethod
    def exp(self, value: Scalar) -> Scalar:
        """Raises: NotInThisSystem where there is none."""

    @abstractmethod
    def log(self, value: Scalar) -> Scalar:
        """Raises: NotInThisSystem where there is none."""

    @abstractmethod
    def tanh(self, value: Scalar) -> Scalar:
        """Raises: NotInThisSystem where there is none."""

    @abstractmethod
    def large(self, value: Scalar) -> bool:
        """Whether 1 - tanh(value)^2 cancels by more bits than there are to spare, and is computed another way."""

    @abstractmethod
    def matmul(self, X: Matrix, W: Matrix) -> Matrix:
        """X W."""

    def moderate(self, values: Sequence[Scalar]) -> bool:
        """Whether every value lies within (-64, 64): the powers of such ones add up as they are."""
        return bool(values) and max(map(float, values)) < 64 and min(map(float, values)) > -64

    def sum(self, values: Sequence[Scalar]) -> Scalar:
        """The sum, 0 for none."""
        return sum(values[1:], values[0]) if values else self.scalar(0)

    def sigmoid(self, value: Scalar) -> Scalar:
        """1/(1+exp(-value)), with full relative accuracy at both ends."""
        return 1 / (1 + self.exp(-value))

    # ---- matrices ------------------------------------------------------------------------------------------------

    def decode(self, array: NDArray[Any]) -> Matrix:
        """An array of floats as a matrix, exactly: all axes but the last become rows."""
        numbers, exponents = decode(array)
        cols = array.shape[-1] if array.ndim else 1
        return Matrix(len(numbers) // cols, cols, list(map(self.scalar, numbers, exponents)))

    def zeros(self, rows: int, cols: int) -> Matrix:
        """A matrix of zeros."""
        return Matrix(rows, cols, [self.scalar(0)] * (rows * cols))

    def eye(self, n: int) -> Matrix:
        """The identity."""
        out = self.zeros(n, n)
        out.data[:: n + 1] = [self.scalar(1)] * n
        return out

    def transpose(self, X: Matrix) -> Matrix:
        """X^T."""
        return Matrix(X.cols, X.rows, [value for j in range(X.cols) for value in X.data[j :: X.cols]])

    def matmul_nt(self, X: Matrix, W: Matrix) -> Matrix:
        """X W^T."""
        return self.matmul(X, self.transpose(W))

    def matmul_tn(self, X: Matrix, Y: Matrix) -> Matrix:
        """X^T Y."""
        return self.matmul(self.transpose(X), Y)

    outer = matmul_tn

    def _zip(self, f: Callable[[Scalar, Scalar], Scalar], X: Matrix, Y: Matrix) -> Matrix:
        rows = max(X.rows, Y.rows)
        left = X.data if X.rows == rows else X.data * rows
        right = Y.data if Y.rows == rows else Y.data * rows
        return Matrix(rows, X.cols, list(map(f, left, right)))  # map, not a comprehension: this is the inner loop

    def add(self, X: Matrix, Y: Matrix) -> Matrix:
        """X + Y; a single row broadcasts."""
        return self._zip(operator.add, X, Y)

    def sub(self, X: Matrix, Y: Matrix) -> Matrix:
        """X - Y; a single row broadcasts."""
        return self._zip(operator.sub, X, Y)

    def mul(self, X: Matrix, Y: Matrix) -> Matrix:
        """The entrywise product; a single row broadcasts."""
        return self._zip(operator.mul, X, Y)

    def one_minus(self, X: Matrix) -> Matrix:
        """1 - X, entrywise."""
        return Matrix(X.rows, X.cols, list(map(operator.sub, repeat(self.scalar(1)), X.data)))

    def map(self, f: Callable[[Scalar], Scalar], X: Matrix) -> Matrix:
        """f of each entry."""
        return Matrix(X.rows, X.cols, list(map(f, X.data)))

    def columns(self, X: Matrix, start: int, stop: int) -> Matrix:
        """Columns start..stop-1."""
        return Matrix(X.rows, stop - start, [x for i in range(X.rows) for x in X.row(i)[start:stop]])

    def scale_columns(self, W: Matrix, row: Matrix) -> Matrix:
        """W diag(row)."""
        return self.mul(W, row)

    def column_sums(self, X: Matrix) -> Matrix:
        """(1,cols): the sum over rows."""
        return Matrix(1, X.cols, [self.sum(X.data[j :: X.cols]) for j in range(X.cols)])

    def diagonal(self, row: Matrix) -> Matrix:
        """diag(row), for a single row."""
        return self.mul(self.eye(row.cols), row)

    def blocks(self, grid: Sequence[Sequence[Matrix]]) -> Matrix:
        """The matrix made of blocks: those of one inner sequence stand beside one another, the sequences below."""
        rows, cols = sum(line[0].rows for line in grid), sum(block.cols for block in grid[0])
        data: list[Scalar] = [None] * (rows * cols)
        top = 0
        for line in grid:
            end, start = (top + line[0].rows) * cols, top * cols
            for block in line:
                width, entries = block.cols, block.data
                if width < block.rows:  # whichever makes fewer slices
                    for j in range(width):
                        data[start + j : end : cols] = entries[j::width]
                else:
                    for i in range(block.rows):
                        data[start + i * cols : start + i * cols + width] = entries[i * width : (i + 1) * width]
                start += width
            top += line[0].rows
        return Matrix(rows, cols, data)

    def beside(self, blocks: Sequence[Matrix]) -> Matrix:
        """Matrices of as many rows beside one another; one alone is itself, and keeps its native form."""
        return self.blocks([blocks]) if len(blocks) > 1 else blocks[0]

    def kept(self, X: Matrix, rows: Sequence[bool]) -> Matrix:
        """X with zeros in the rows that are not kept; X itself where all are."""
        if all(rows):
            return X
        zero = [self.scalar(0)] * X.cols
        return Matrix(X.rows, X.cols, [x for i, keep in enumerate(rows) for x in (X.row(i) if keep else zero)])

    # ---- activations and their derivatives -----------------------------------------------------------------------

    def activate(self, name: str, A: Matrix) -> Matrix:
        """phi(A) for tanh, sigmoid, relu or identity."""
        if name == "identity":
            return A
        if name == "relu":
            zero = self.scalar(0)
            return self.map(lambda a: a if self.is_positive(a) else zero, A)
        return self.map(self.tanh if name == "tanh" else self.sigmoid, A)

    def slope(self, name: str, A: Matrix, Z: Matrix | None = None) -> Matrix:
        """phi'(A); Z is phi(A) where it is known already. relu'(0) = 0."""
        one = self.scalar(1)
        if name == "identity":
            return Matrix(A.rows, A.cols, [one] * len(A.data))
        if name == "relu":
            zero = self.scalar(0)
            return self.map(lambda a: one if self.is_positive(a) else zero, A)
        Z = self.activate(name, A) if Z is None else Z
        squares = self.mul(Z, Z)
        slope, tail = (
            (self.one_minus(squares), self._tanh_tail) if name == "tanh" else (self.sub(Z, squares), self._sigmoid_tail)
        )
        for i in self.where_large(A, Z):
            slope.data[i] = tail(A.data[i])
        return slope

    def where_large(self, A: Matrix, Z: Matrix) -> list[int]:
        """The indices of the entries of A that are `large`; Z is phi(A)."""
        return [i for i, a in enumerate(A.data) if self.large(a)]

    def _tanh_tail(self, a: Scalar) -> Scalar:
        """1 - tanh(a)^2."""
        e = self.exp(-2 * abs(a))
        return 4 * e / ((1 + e) * (1 + e))

    def _sigmoid_tail(self, a: Scalar) -> Scalar:
        """sigma(a) (1 - sigma(a))."""
        e = self.exp(-abs(a))
        return e / ((1 + e) * (1 + e))


def exact_fraction(value: float) -> Fraction:
    """A Python float as the rational that it is, from its bits.

    >>> exact_fraction(0.5)
    Fraction(1, 2)
    """
    (n,), (e,) = decode(np.array([value], dtype=np.float64))
    return Fraction(n << e) if e >= 0 else Fraction(n, 1 << -e)
