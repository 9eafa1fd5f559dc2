"""What is right for a vector: exact values, their roundings, and how far each dtype may be off. Nothing here is chosen.

An entry's exact value v is given as sign * mantissa * 2^exponent with

    2^127 <= mantissa < 2^128, v rounded to nearest, ties to even: off by at most 2^-128 |v|; or sign = 0         (1)

and in floating point as near + rest, near the float64 nearest to v and rest the float64 nearest to v - near. Whoever
computes |(got - near) - rest| in float64, the two differences in this order, is off by less than 2^-51 of it and what
`rest` leaves out; a stored budget has room for both (the oracle's budgets have 2^-20 to spare, docs/budget.md):

    stored = budget + radius + 2^-105 |near|, and 2^-1074 more where |near| < 2^-900, rounded up to 12 bits;
             0 where nothing is rounded                                                                           (2)
    stored = infinity where nothing is judged: beyond a row's length, or where no bound could be had              (3)

The 12 bits of (2) are there to make the bytes the same on every machine: a budget is computed in float64, whose last
bits depend on the order of a library's sums. Everything else is correctly rounded, and so has one value only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Array, Problem, gradient_shapes
from conformance.vectors.recipe import HELD_BY, Recipe
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model
from oracle.errors import PrecisionExhausted
from oracle.exact import exact_solution, why_inexact
from oracle.numbers import Undecided
from oracle.rational_numbers import RationalNumbers
from oracle.rounding import from_bits, round_exact, round_fraction
from oracle.solution import is_rational, solve
from oracle.truth import find_truth
from properties.base import active_mask
from properties.units import in_dtype

BITS = 128
PRECISIONS = (256, 512, 1024, 2048, 4096, 8192)
KEPT = 12
"""Significant bits of a stored budget."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """One exact value: (1), near and rest as the bits of a float64, and a bound of what is not known of it."""

    sign: int
    mantissa: int
    exponent: int
    near: int
    rest: int
    radius: float = 0.0


@dataclass(frozen=True)
class Results:
    """Everything that is right for a problem, by array.

    arrays        what a file holds: KEY.near, KEY.rest, KEY.sign, KEY.mantissa, KEY.exponent, KEY.budget.DTYPE
    exact         the dtypes in which nothing is rounded, so that every budget is 0
    inconclusive  dtype to the arrays whose budget is too large beside them to say much
    """

    arrays: dict[str, Array]
    exact: tuple[str, ...]
    inconclusive: dict[str, list[str]]


def mantissa(n: int, d: int, e: int) -> tuple[int, int, int]:
    """(sign, m, q) of (1) for n/d 2^e, d > 0.

    >>> mantissa(-3, 1, 0) == (-1, 3 << 126, -126), mantissa(0, 1, 5)
    (True, (0, 0, 0))
    """
    if n == 0:
        return 0, 0, 0
    size = abs(n)
    shift = BITS - (size.bit_length() - d.bit_length())  # size/d 2^shift is in (2^127, 2^129)
    m, rest = divmod(size << max(shift, 0), d << max(-shift, 0))
    scale = d << max(-shift, 0)
    if m >= 1 << BITS:
        shift -= 1
        m, rest = divmod(size << max(shift, 0), d << max(-shift, 0))
        scale = d << max(-shift, 0)
    m += 2 * rest > scale or (2 * rest == scale and m & 1)
    if m == 1 << BITS:
        m, shift = m >> 1, shift - 1
    return (1 if n > 0 else -1), m, e - shift


def dyadic(bits: int) -> tuple[int, int]:
    """A finite float64's bits as n 2^e.

    >>> dyadic(0x3FF8000000000000), dyadic(0x8000000000000001)
    ((6755399441055744, -52), (-1, -1074))
    """
    biased, fraction = bits >> 52 & 2047, bits & (1 << 52) - 1
    n = fraction | (1 << 52 if biased else 0)
    return (-n if bits >> 63 else n), max(biased, 1) - 1075


def of_fraction(value: Fraction) -> Entry:
    """An exact rational.

    >>> hex(of_fraction(Fraction(1, 3)).near), of_fraction(Fraction(1, 3)).sign
    ('0x3fd5555555555555', 1)
    """
    near = round_fraction(value, "float64")
    n, e = dyadic(near)
    rest = round_fraction(value - n * Fraction(2) ** e, "float64")
    return Entry(*mantissa(value.numerator, value.denominator, 0), near, rest)


def of_dyadic(n: int, e: int) -> Entry:
    """An exact n 2^e, by integers of moderate size however large |e| is.

    >>> of_dyadic(1, -3000).near, of_dyadic(3, 0) == of_fraction(Fraction(3))
    (0, True)
    """
    near = round_exact(n, e, "float64")
    m, q = dyadic(near)
    if m == 0:
        return Entry(*mantissa(n, 1, e), near, round_exact(n, e, "float64"))
    unit = min(e, q)
    return Entry(*mantissa(n, 1, e), near, round_exact((n << e - unit) - (m << q - unit), unit, "float64"))


def of_ball(ball: Any, last: bool) -> Entry:
    """What every number of a ball has in common. Raises: Undecided where that is not everything.

    At the `last` precision a ball that still holds 0 is taken for 0, and how far it reaches is kept.
    """
    if not ball.is_finite():
        raise Undecided(f"{ball}")
    (n, e), (r, k) = (tuple(int(part) for part in value.man_exp()) for value in (ball.mid(), ball.rad()))
    if r == 0:
        return of_dyadic(n, e)
    unit = min(e, k) if n else k
    centre, radius = (n << e - unit) if n else 0, r << k - unit
    if abs(centre) <= radius:
        if last:
            bound = round_exact(abs(centre) + radius, unit, "float64")
            return Entry(0, 0, 0, 0, 0, float(np.nextafter(from_bits([bound], (), "float64"), np.inf)))
        raise Undecided("the sign of a value")
    low, high = of_dyadic(centre - radius, unit), of_dyadic(centre + radius, unit)
    if low != high:
        raise Undecided("the last bit of a mantissa")
    return low


def exact_entries(problem: Problem) -> dict[str, list[Entry]]:
    """Every entry of every array, in C order. Raises: PrecisionExhausted."""
    if why_inexact(problem) is None:
        return {key: [of_fraction(v) for v in fixed.fractions()] for key, fixed in exact_solution(problem).items()}
    for prec in PRECISIONS:
        try:
            solution = solve(problem, BallNumbers(prec))
            last = prec == PRECISIONS[-1]
            return {key: [of_ball(value, last) for value in values] for key, values in solution.values.items()}
        except Undecided:
            if is_rational(problem) and prec >= 2 * PRECISIONS[0]:
                rational = solve(problem, RationalNumbers())
                return {key: [of_fraction(value) for value in values] for key, values in rational.values.items()}
    raise PrecisionExhausted(f"{BITS} bits are not decided at {PRECISIONS[-1]}")


def rounded_up(values: Floats) -> Floats:
    """To at most 12 significant bits, upwards; subnormal numbers as they are. Works on bits.

    >>> rounded_up(np.array([0.0, 1.0, 1.0 + 2.0**-40, 5e-324, np.inf])).tolist()
    [0.0, 1.0, 1.00048828125, 5e-324, inf]
    """
    words = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    low = np.uint64((1 << 53 - KEPT) - 1)
    up = (words + low) & ~low
    return np.where((values < 2.0**-1022) | ~np.isfinite(values), words, up).view(np.float64).reshape(values.shape)


def find_results(problem: Problem, recipe: Recipe) -> Results:
    """Solve a vector's problem, and bound it in every dtype that holds its inputs.

    In a corner where nothing is to be rounded, the dtypes in which that is so are the only ones.
    Raises: PrecisionExhausted; AssertionError for a corner that is not what it says.
    """
    shapes = gradient_shapes(problem)
    entries = exact_entries(problem)
    arrays: dict[str, Array] = {}
    for key, shape in shapes.items():
        for name, values in _columns(entries[key], shape).items():
            arrays[f"{key}.{name}"] = values
    dtypes = HELD_BY[recipe.numbers]
    exact = tuple(dtype for dtype in dtypes if why_inexact(in_dtype(problem, dtype)) is None)
    if recipe.corner in ("exact", "kinks"):
        assert "float32" in exact, f"{recipe.id}: {why_inexact(in_dtype(problem, 'float32'))}"
        dtypes = exact
    inconclusive: dict[str, list[str]] = {}
    for dtype in dtypes:
        own = in_dtype(problem, dtype)
        budgets, vague = _budgets(own, entries, arrays) if dtype not in exact else _nothing(own)
        inconclusive[dtype] = vague
        for key, budget in budgets.items():
            arrays[f"{key}.budget.{dtype}"] = budget
    return Results(arrays, exact, inconclusive)


def _columns(entries: Sequence[Entry], shape: tuple[int, ...]) -> dict[str, Array]:
    halves = [(entry.mantissa & (1 << 64) - 1, entry.mantissa >> 64) for entry in entries]
    return {
        "near": from_bits([entry.near for entry in entries], shape, "float64"),
        "rest": from_bits([entry.rest for entry in entries], shape, "float64"),
        "sign": np.array([entry.sign for entry in entries], dtype=np.int8).reshape(shape),
        "mantissa": np.array(halves, dtype=np.uint64).reshape(*shape, 2),
        "exponent": np.array([entry.exponent for entry in entries], dtype=np.int32).reshape(shape),
    }


def _nothing(problem: Problem) -> tuple[dict[str, Floats], list[str]]:
    found = {}
    for key, shape in gradient_shapes(problem).items():
        found[key] = np.where(active_mask(problem, key, shape), 0.0, np.inf)
    return found, []


def _budgets(
    problem: Problem, entries: dict[str, list[Entry]], arrays: dict[str, Array]
) -> tuple[dict[str, Floats], list[str]]:
    """(2) and (3) for every array in the problem's dtype, and which of them are inconclusive."""
    truth = find_truth(problem, Model(problem.dtype))
    found, vague = {}, []
    for key, shape in gradient_shapes(problem).items():
        near, rest = arrays[f"{key}.near"], arrays[f"{key}.rest"]
        radius = np.array([entry.radius for entry in entries[key]]).reshape(shape)
        bound = truth.allowed(key) + radius
        room = np.where((near == 0) & (rest == 0) & (arrays[f"{key}.sign"] == 0), 0.0, 2.0**-105 * np.abs(near))
        rounds = (arrays[f"{key}.sign"] != 0) & (np.abs(near) < 2.0**-900)  # elsewhere what is left out is below (2)
        bound = np.where(bound + room > 0, bound + room + np.where(rounds, 2.0**-1074, 0.0), 0.0)
        judged = active_mask(problem, key, shape)
        found[key] = np.where(judged, rounded_up(bound), np.inf)
        if not truth.conclusive(key):
            vague.append(key)
    return found, vague
