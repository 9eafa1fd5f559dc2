"""The abstract arithmetic that a cell's equations are written in.

A cell says *what* is computed with these operations; the oracle decides *in which numbers* (mpmath, balls, rationals,
duals) and records them, so that one set of equations is evaluated, differentiated and given a rounding-error budget.
A value is a matrix of one row a batch row, (B,n), or one row, (1,n), for a parameter vector, which broadcasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

V = TypeVar("V")


class Arithmetic(Protocol[V]):
    """Operations on matrices. Each is one node of the trace; an accumulation is one node whatever its length."""

    def linear(self, products: Sequence[tuple[V, V]], addends: Sequence[V] = ()) -> V:
        """Sum of products X W, X (B,m), W (m,n), and addends (B,n) or (1,n): one sum, in whatever order."""

    def columns(self, value: V, start: int, stop: int) -> V:
        """The columns start..stop-1 of a parameter or of a value."""

    def mul(self, a: V, b: V) -> V:
        """The entrywise product; a (1,n) factor broadcasts over rows."""

    def add(self, a: V, b: V) -> V:
        """The entrywise sum."""

    def mix(self, z: V, n: V, h: V) -> V:
        """(1-z) n + z h, entrywise, in whichever of its two usual algebras."""

    def tanh(self, a: V) -> V:
        """Entrywise."""

    def sigmoid(self, a: V) -> V:
        """Entrywise, 1/(1+exp(-a))."""

    def relu(self, a: V) -> V:
        """Entrywise, with derivative 0 at 0."""

    def identity(self, a: V) -> V:
        """The value itself, as an activation."""

    def hold(self, a: V) -> V:
        """The value itself, held constant when errors travel back (truncation `cec`)."""
