"""Correct rounding of exact numbers to a dtype, by integers alone: to nearest, ties to even, straight to the dtype.

A positive number v is rounded to a multiple m of 2^q, and its bits are counted from those of zero:

    q = max(floor(log2 v) - p + 1, lowest)            p bits of significand, 2^lowest the smallest subnormal      (1)
    m = v / 2^q to the nearest integer, ties to even                                                              (2)
    bits = (q - lowest) 2^(p-1) + m, at most those of infinity                                                    (3)

(3) is right for subnormals (q = lowest, m < 2^(p-1)), for normal numbers (the leading bit of m adds one to the exponent
field), and where (2) carries into the next binade or past the largest number: the bits of the positive floats are
consecutive integers in the order of their values. Nothing here is ever a float, so no setting of the process (rounding
mode, flush-to-zero) can touch it. Source: IEEE 754-2019, 4.3.1 (roundTiesToEven) and 3.4 (encodings).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import DTYPES, SIGNIFICAND, Problem, gradient_shapes
from oracle.ball_numbers import BallNumbers
from oracle.errors import PrecisionExhausted
from oracle.numbers import Scalar, Undecided
from oracle.rational_numbers import RationalNumbers
from oracle.solution import FIRST_PRECISION, LAST_PRECISION, Solution, is_rational, solve

Exact = int | Fraction | tuple[int, int]
"""An exact number: an integer, a rational, or (n, e), which means n 2^e."""


@dataclass(frozen=True)
class _Format:
    """p bits of significand, 2^lowest the smallest subnormal, and how many bits a number's pattern has."""

    p: int
    lowest: int
    width: int

    @property
    def infinity(self) -> int:
        """The bits of +infinity: an exponent field of ones."""
        return (1 << (self.width - 1)) - (1 << (self.p - 1))

    @property
    def top(self) -> int:
        """floor(log2) of the largest number."""
        return (self.infinity >> (self.p - 1)) - 2 + self.lowest + self.p - 1

    def exponent(self, n: int, d: int, e: int) -> int:
        """The q of (1), for |n|/d 2^e > 0."""
        return max(_floor_log2(n, d) + e - self.p + 1, self.lowest)


_FORMATS = {
    "float64": _Format(SIGNIFICAND["float64"], -1074, 64),
    "float32": _Format(SIGNIFICAND["float32"], -149, 32),
    "float16": _Format(SIGNIFICAND["float16"], -24, 16),
    "bfloat16": _Format(SIGNIFICAND["bfloat16"], -133, 16),
}


def _floor_log2(n: int, d: int) -> int:
    """floor(log2(|n|/d)), for n != 0."""
    n = abs(n)
    k = n.bit_length() - d.bit_length()  # 2^(k-1) < n/d < 2^(k+1)
    return k if n << max(-k, 0) >= d << max(k, 0) else k - 1


def _round(n: int, d: int, e: int, dtype: str) -> int:
    """The bits of n/d 2^e, rounded."""
    form = _FORMATS[dtype]
    sign = 1 << (form.width - 1) if n < 0 else 0
    if n == 0 or _floor_log2(n, d) + e < form.lowest - 1:  # below half the smallest subnormal
        return sign
    if _floor_log2(n, d) + e > form.top:
        return sign | form.infinity
    q = form.exponent(n, d, e)
    m, rest = divmod(abs(n) << max(e - q, 0), d << max(q - e, 0))
    double, whole = 2 * rest, d << max(q - e, 0)
    m += double > whole or (double == whole and m & 1 == 1)  # (2)
    return sign | ((q - form.lowest << (form.p - 1)) + m)  # (3)


def round_exact(n: int, e: int, dtype: str) -> int:
    """The bit pattern of n 2^e rounded to float64, float32, float16 or bfloat16 (16 bits).

    Overflow gives an infinity; what underflows keeps its sign, and an exact zero is +0.

    >>> hex(round_exact(3, -1, "float32")), hex(round_exact(-1, -1075, "float64")), hex(round_exact(1, 128, "bfloat16"))
    ('0x3fc00000', '0x8000000000000000', '0x7f80')
    """
    return _round(n, 1, e, dtype)


def round_fraction(value: Fraction, dtype: str) -> int:
    """The bit pattern of a rational, rounded as `round_exact` does.

    >>> hex(round_fraction(Fraction(1, 3), "float16")), hex(round_fraction(Fraction(-65520), "float16"))
    ('0x3555', '0xfc00')
    """
    return _round(value.numerator, value.denominator, 0, dtype)


def round_ball(n: int, e: int, r: int, k: int, dtype: str) -> int:
    """The bit pattern to which every number within r 2^k of n 2^e rounds (r >= 0).

    A zero's sign is that of the ball; where the ball has both signs, or holds 0 itself, it is +0.
    Raises: Undecided where two numbers of the ball round to different ones.

    >>> hex(round_ball(3, -1, 1, -60, "float32"))
    '0x3fc00000'
    >>> round_ball((1 << 24) + 1, 0, 1, -200, "float32")  # on both sides of the middle between two floats
    Traceback (most recent call last):
    oracle.numbers.Undecided: float32 of a ball about 2^24: its ends round to 0x4b800000 and 0x4b800001
    """
    form = _FORMATS[dtype]
    if r == 0:
        return round_exact(n, e, dtype)
    if n == 0:
        e = k
    elif n.bit_length() + e < r.bit_length() + k:  # |n| 2^e < r 2^k: the ball holds 0; it is widened to 2^(k+bits(r)+1)
        n, e, r = 0, k, 2 << r.bit_length()
    elif k < e - form.p - 3:
        # Widened to 2^c, c = e - p - 3. What decides lies at multiples of 2^(e-p-1) near the ball, or of 2^(lowest-1)
        # if that is more, and the middle at a multiple of 2^e: an end crosses none that the smaller radius did not.
        c = e - form.p - 3
        r, k = (r >> (c - k)) + 1, c
    unit = min(e, k)
    centre, radius = n << (e - unit), r << (k - unit)
    low, high = round_exact(centre - radius, unit, dtype), round_exact(centre + radius, unit, dtype)
    if low == high:
        return low
    if {low, high} <= {0, 1 << (form.width - 1)}:
        return 0
    raise Undecided(
        f"{dtype} of a ball about 2^{_floor_log2(centre or radius, 1) + unit}: its ends round to {low:#x} and {high:#x}"
    )


def from_bits(bits: Sequence[int], shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An array from the bit patterns of its entries, in C order; bfloat16 as the float32 array that holds it.

    >>> from_bits([0x3F80, 0xC000], (2,), "bfloat16")
    array([ 1., -2.], dtype=float32)
    """
    native = DTYPES[dtype]
    lift = 8 * native.itemsize - _FORMATS[dtype].width
    unsigned = np.dtype(f"u{native.itemsize}")
    return np.array([word << lift for word in bits], dtype=unsigned).view(native).reshape(shape)


def to_array(values: Iterable[Exact], shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Exact numbers (integers, rationals, or pairs (n, e) for n 2^e), in C order, each rounded to the dtype.

    >>> to_array([(1, -149), Fraction(1, 3), -2], (3,), "float32")
    array([ 1.4012985e-45,  3.3333334e-01, -2.0000000e+00], dtype=float32)
    """
    bits = []
    for value in values:
        n, d, e = (value[0], 1, value[1]) if isinstance(value, tuple) else (value.numerator, value.denominator, 0)
        bits.append(_round(n, d, e, dtype))
    return from_bits(bits, shape, dtype)


def round_value(value: Scalar, dtype: str) -> int:
    """The bit pattern of a scalar of the oracle: a rational (a Fraction) or a ball (an arb).

    Raises: Undecided where the ball is too wide, or not finite.

    >>> hex(round_value(BallNumbers(64).scalar(3, -1), "float16"))
    '0x3e00'
    """
    if isinstance(value, Fraction):
        return round_fraction(value, dtype)
    if not value.is_finite():
        raise Undecided(f"{dtype} of {value}")
    (n, e), (r, k) = value.mid().man_exp(), value.rad().man_exp()
    return round_ball(int(n), int(e), int(r), int(k), dtype)


def correctly_rounded(
    problem: Problem, keys: Iterable[str] | None = None, dtype: str | None = None
) -> dict[str, NDArray[Any]]:
    """A problem's exact loss, states, outputs and gradients, each entry rounded once: the best that code can return.

    `keys` are those of `bptt.problem.gradient_shapes`, None all of them; the dtype is the problem's own unless given.
    Balls of doubling precision decide every entry; where a rational problem has a tie that balls cannot decide,
    rationals do. An entry that is exactly zero is +0 here; an implementation may as well say -0.
    Raises: PrecisionExhausted past LAST_PRECISION bits; KeyError for a key that the problem does not have.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.zeros((1, 1, 1)), Loss("cotangent", g=one[None]), activation="tanh")
    >>> correctly_rounded(p, ["h", "db_h"])["h"].item().hex()  # tanh(1)
    '0x1.85efab514f394p-1'
    """
    shapes = gradient_shapes(problem)
    wanted = list(shapes) if keys is None else list(keys)
    for key in wanted:
        if key not in shapes:
            raise KeyError(f"{key}: expected some of {', '.join(shapes)}")
    dtype = problem.dtype if dtype is None else dtype

    def rounded(solution: Solution) -> dict[str, NDArray[Any]]:
        bits = {key: [round_value(value, dtype) for value in solution.values[key]] for key in wanted}
        return {key: from_bits(words, shapes[key], dtype) for key, words in bits.items()}

    why = ""
    prec = FIRST_PRECISION
    while prec <= LAST_PRECISION:
        try:
            return rounded(solve(problem, BallNumbers(prec)))
        except Undecided as undecided:
            why = str(undecided)
        if is_rational(problem) and prec >= 4 * FIRST_PRECISION:
            return rounded(solve(problem, RationalNumbers()))
        prec *= 2
    raise PrecisionExhausted(f"not decided at {LAST_PRECISION} bits: {why}")


def ulp(dtype: str, n: int, e: int = 0) -> Fraction:
    """One unit in the last place at n 2^e: the distance to the next number of the dtype away from zero.

    At zero and among the subnormals it is the smallest subnormal, beyond the largest number that number's ulp.

    >>> ulp("float32", 1), ulp("float16", 0) == Fraction(1, 2**24), ulp("bfloat16", 3, 500) == 2**120
    (Fraction(1, 8388608), True, True)
    """
    form = _FORMATS[dtype]
    q = form.lowest if n == 0 else min(form.exponent(n, 1, e), form.top - form.p + 1)
    return Fraction(2) ** q


def ulp_distance(a: NDArray[Any], b: NDArray[Any], dtype: str) -> NDArray[np.uint64]:
    """How many steps from number to number of the dtype lead from each entry of a to that of b.

    Shapes: a, b and the result alike. -0 and +0 are at distance 0, an infinity is one step beyond the largest number,
    and from or to NaN the distance is 2^64-1.
    Raises: ValueError, naming what was got, for arrays that are not of the dtype (bfloat16: float32 that holds it).

    >>> ulp_distance(np.array([1.0, -5e-324]), np.array([1.0 + 2.0**-51, 5e-324]), "float64")
    array([2, 2], dtype=uint64)
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape}: expected the same")
    (sign_a, size_a, nan_a), (sign_b, size_b, nan_b) = _ordered(a, dtype), _ordered(b, dtype)
    apart = np.where(size_a > size_b, size_a - size_b, size_b - size_a)
    distance = np.where(sign_a == sign_b, apart, size_a + size_b)  # at most twice infinity's bits, below 2^64
    distance[nan_a | nan_b] = np.iinfo(np.uint64).max
    return distance.reshape(a.shape)


def _ordered(array: NDArray[Any], dtype: str) -> tuple[NDArray[np.bool_], NDArray[np.uint64], NDArray[np.bool_]]:
    """Sign, the bits without it, and whether it is NaN, of each entry in C order."""
    form, native = _FORMATS[dtype], DTYPES[dtype]
    if array.dtype.newbyteorder("=") != native:
        raise ValueError(f"dtype {array.dtype}, expected {native} for {dtype}")
    words = np.ascontiguousarray(array, dtype=native).reshape(-1).view(f"u{native.itemsize}").astype(np.uint64)
    lift = np.uint64(8 * native.itemsize - form.width)
    bits = words >> lift
    if (bits << lift != words).any():
        raise ValueError(f"float32 values that {dtype} cannot hold, expected {dtype} values")
    half = np.uint64(1 << (form.width - 1))
    size = bits & (half - np.uint64(1))
    return bits >= half, size, size > np.uint64(form.infinity)


__all__ = [
    "correctly_rounded",
    "from_bits",
    "round_ball",
    "round_exact",
    "round_fraction",
    "round_value",
    "to_array",
    "ulp",
    "ulp_distance",
]
