"""The arithmetic that an implementation is granted: unit roundoff, underflow, elementary functions.

Each operation errs by at most u |z| + eta; an inner product of n terms, in any order and with or without fused
multiply-add, by at most n u sum |x_i y_i| + n eta (1 + n u); an elementary function by `ulp` units in the last place.
Source: Jeannerod and Rump (2013), "Improved error bounds for inner products in floating-point arithmetic", for n u in
any order and for any n; docs/budget.md proves it with fused multiply-add and plain addends; the rest is IEEE 754 round
to nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bptt.problem import SIGNIFICAND

Floats = NDArray[np.float64]
INFLATE = 1 + 2.0**-20
"""The bounds themselves are computed in float64 from terms that are all >= 0: at most 2^26 roundings of 2^-53 each."""

_SMALLEST_NORMAL = {"float64": -1022, "float32": -126, "float16": -14, "bfloat16": -126}
_STORES = 6  # the longest chain of stored partial sums: four gates' products, the readout's and a final cotangent
_LARGEST = {"float64": 2.0**1023, "float32": 2.0**127, "float16": 2.0**15, "bfloat16": 2.0**127}


@dataclass(frozen=True)
class Model:
    """What a target declares of its arithmetic. All budgets are computed in units of `u`, so that none underflows.

    dtype       storage
    accumulate  dtype of sums (None: the storage dtype)
    ulp         declared error of tanh, exp, log and the sigmoid, in units in the last place
    flush       whether subnormal results and inputs become 0
    """

    dtype: str = "float64"
    accumulate: str | None = None
    ulp: float = 4.0
    flush: bool = False

    @cached_property
    def u(self) -> float:
        """Unit roundoff of the storage dtype: 2^-53 for float64."""
        return 2.0 ** -SIGNIFICAND[self.dtype]

    @cached_property
    def sum_unit(self) -> float:
        """The accumulator's unit roundoff in units of u: 1 where they are the same dtype."""
        return 2.0 ** (SIGNIFICAND[self.dtype] - SIGNIFICAND[self.accumulate or self.dtype])

    @cached_property
    def eta(self) -> float:
        """What underflow may add to one operation, in units of u: half the smallest number, or the smallest normal."""
        p, emin = SIGNIFICAND[self.dtype], _SMALLEST_NORMAL[self.dtype]
        return 2.0 ** (emin + p) if self.flush else 2.0**emin

    @cached_property
    def eta_function(self) -> float:
        """Likewise for an elementary function, whose `ulp` among subnormals is the smallest of them."""
        return self.eta if self.flush else self.eta * max(1.0, 2 * self.ulp)

    @cached_property
    def overflow(self) -> float:
        """Half of the power of two below which every sum of absolute terms must stay for a budget to hold."""
        return _LARGEST[self.dtype]

    def terms(self, *counts: float) -> float:
        """The factor of sum |x_i y_i| in the error of an inner product of n terms, in units of u.

        Several counts are sums within sums. Where the accumulator is another dtype, a partial sum may be stored on the
        way: each term is rounded to storage at most min(n, 6) times.

        >>> Model("float32").terms(10), round(Model("float32", accumulate="float64").terms(2**29), 3)
        (10.0, 7.0)
        >>> Model("float16").terms(64, 32)  # (1 + 64 u) (1 + 32 u) = 1 + 97 u
        97.0
        """
        total = 0.0
        for n in counts:
            total += n * self.sum_unit * (1 + self.u * total)
        if self.accumulate in (None, self.dtype):
            return total
        stored = math.expm1(min(sum(counts), _STORES) * math.log1p(self.u)) / self.u
        return total * (1 + self.u * stored) + stored

    def flat(self, n: Floats, size: Floats, total: Floats) -> Floats:
        """The error of one sum of n terms whose absolute values add up to `size` and they themselves to +-`total`.

        Whatever the order, no partial sum is larger than (size + total) / 2: it and the sum of all other terms add up
        to the total, their absolute values to at most the size. Never more than n size, the factor of `terms`.

        >>> Model("float64").flat(np.array(11.0), np.array(2.0), np.array([0.0, 1.0, 2.0]))
        array([12., 17., 22.])
        """
        if self.accumulate not in (None, self.dtype):
            factor = np.vectorize(self.terms, otypes=[np.float64])(n)
            return np.asarray(factor * size)
        return np.minimum(n * size, size + (n - 1) * (size + total) / 2 + self.u * n * n * size)

    def nested(self, counts: tuple[int, int], size: Floats, total: Floats) -> Floats:
        """The error of sums within sums whose lengths add up to both counts; see docs/budget.md, Lemma 3.

        Of these, sums that are taken for each pair of two indices have lengths that add up to counts[1] at most. Those
        taken for each value of one index have absolute values that add up to `total`.
        """
        n, few = self.terms(*counts), counts[1] + 4
        if self.accumulate not in (None, self.dtype):
            return np.asarray(n * size)
        return np.minimum(n * size, few * size + counts[0] * (size + total) / 2 + self.u * n * n * size)

    def lost(self, n: float) -> float:
        """What underflow may add to an inner product of n terms: each term's part goes through the n roundings."""
        return n * self.eta * (1 + n * self.u)

    def read(self, values: Floats) -> Floats:
        """What reading an input may lose: all of it, where it is subnormal and subnormals are flushed."""
        size = np.abs(values)
        lost: Floats = np.where(size < self.u * self.eta, size / self.u, 0.0) if self.flush else np.zeros(size.shape)
        return lost
