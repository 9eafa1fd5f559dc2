"""Intervals over repetitions with different seeds: Student's t, at 95 %.

    mean +- t s / sqrt(n)        s^2 = sum (v - mean)^2 / (n - 1),  P(|T| <= t) = 0.95 with n - 1 degrees of freedom (1)
    P(|T| > t) = I_z(nu/2, 1/2), z = nu / (nu + t^2)                the regularised incomplete beta function         (2)

(1) is exact where the repetitions are normal and independent, and the usual approximation where they are not.
(2) is the definition of the distribution function, by a change of variable.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpmath import mp
from numpy.typing import NDArray

LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval; they coincide where there is one repetition."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.3g} [{self.low:.3g}, {self.high:.3g}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether all of it lies on one side of 0."""
        return self.low > 0 or self.high < 0


@functools.cache
def t_quantile(n: int) -> float:
    """The t of (1) for n repetitions.

    >>> round(t_quantile(10), 4), round(t_quantile(2), 3)
    (2.2622, 12.706)
    """
    nu = n - 1
    half = mp.mpf(nu) / 2
    low, high = mp.mpf(0), mp.mpf(1000)
    for _ in range(60):  # P(|T| > t) falls with t
        t = (low + high) / 2
        beyond = mp.betainc(half, 0.5, 0, nu / (nu + t * t), regularized=True)
        low, high = (t, high) if beyond > 1 - LEVEL else (low, t)
    return float((low + high) / 2)


def band(runs: Any) -> tuple[Floats, Floats, Floats]:
    """Mean, low and high by (1): runs (n, ...) -> three arrays (...,)."""
    values = np.asarray(runs, dtype=np.float64)
    mean: Floats = np.asarray(values.mean(axis=0))
    n = len(values)
    if n < 2:
        return mean, mean, mean
    reach = t_quantile(n) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - reach, mean + reach


def interval(values: Sequence[float] | Floats) -> Interval:
    """(1) of some numbers.

    >>> str(interval([1.0, 2.0, 3.0]))
    '2 [-0.484, 4.48]'
    """
    mean, low, high = band(values)
    return Interval(float(mean), float(low), float(high))


def median_band(runs: Any) -> tuple[Floats, Floats, Floats]:
    """The median and an interval for it that assumes nothing: two order statistics, of coverage LEVEL at least.

        P(v_(j) <= median <= v_(n+1-j)) >= 1 - 2 P(Bin(n, 1/2) < j)                                              (3)

    j is the largest that (3) allows; below 6 repetitions none does, and the ends are the extremes.

    >>> [float(v) for v in median_band([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])]
    [4.5, 1.0, 8.0]
    """
    values = np.sort(np.asarray(runs, dtype=np.float64), axis=0)
    n, j = len(values), 1
    while 2 * sum(math.comb(n, i) for i in range(j + 1)) / 2**n <= 1 - LEVEL:
        j += 1
    return np.asarray(np.median(values, axis=0)), values[j - 1], values[n - j]


def cut(band: tuple[Floats, Floats, Floats], where: Any) -> tuple[Floats, Floats, Floats]:
    """Some of the points of a band."""
    mean, low, high = band
    return mean[where], low[where], high[where]


def median_interval(values: Sequence[float] | Floats) -> Interval:
    """(3) of some numbers."""
    return Interval(*(float(part) for part in median_band(values)))


def log_band(runs: Any) -> tuple[Floats, Floats, Floats]:
    """(1) of the logarithms: a geometric mean and its interval, for what varies by factors; runs > 0."""
    mean, low, high = band(np.log(np.asarray(runs, dtype=np.float64)))
    return np.exp(mean), np.exp(low), np.exp(high)


def log_interval(values: Sequence[float] | Floats) -> Interval:
    """log_band of some numbers."""
    return Interval(*(float(part) for part in log_band(values)))
