"""The arithmetic that an implementation is granted: unit roundoff, underflow, elementary functions.

Each operation errs by at most u |z| + eta; an inner product of n terms, in any order and with or without fused
multiply-add, by at most n u sum |x_i y_i| + n eta; an elementary function by `ulp` units in the last place.
Source: Jeannerod and Rump (2013), "Improved error bounds for inner products in floating-point arithmetic", for n u in
any order and for any n; the rest is IEEE 754 round to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

from bptt.problem import SIGNIFICAND

_SMALLEST_NORMAL = {"float64": -1022, "float32": -126, "float16": -14, "bfloat16": -126}
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

    @property
    def u(self) -> float:
        """Unit roundoff of the storage dtype: 2^-53 for float64."""
        return 2.0 ** -SIGNIFICAND[self.dtype]

    @property
    def sum_unit(self) -> float:
        """The accumulator's unit roundoff in units of u: 1 where they are the same dtype."""
        return 2.0 ** (SIGNIFICAND[self.dtype] - SIGNIFICAND[self.accumulate or self.dtype])

    @property
    def stores(self) -> int:
        """Roundings to storage within one sum, beside those of the accumulator: partial results that are stored."""
        return 0 if self.accumulate in (None, self.dtype) else 4

    @property
    def eta(self) -> float:
        """What underflow may add to one operation, in units of u: half the smallest subnormal, or the smallest normal."""
        p, emin = SIGNIFICAND[self.dtype], _SMALLEST_NORMAL[self.dtype]
        return 2.0 ** (emin + p) if self.flush else 2.0 ** emin

    @property
    def overflow(self) -> float:
        """Half of the power of two below which every sum of absolute terms must stay for a budget to hold."""
        return _LARGEST[self.dtype]

    def terms(self, n: float) -> float:
        """The factor of sum |x_i y_i| in the error of an inner product of n terms, in units of u.

        >>> Model("float32").terms(10), Model("float32", accumulate="float64").terms(2**29)
        (10.0, 5.0)
        """
        return n * self.sum_unit + self.stores
