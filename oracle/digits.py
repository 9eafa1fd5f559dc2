"""Certified decimal digits of exact solutions: a digit is printed only if every number of the ball has it.

A number is rounded to N significant digits, half to even, from exact rationals. A ball yields digits if both of its
ends round to the same; if not, the precision doubles. A sum that cancels exactly is decided in rationals where the
problem is rational, and is otherwise given as a proved bound, `|value| < 1e-k`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from bptt.problem import Problem, gradient_shapes
from oracle.ball_numbers import BallNumbers
from oracle.errors import PrecisionExhausted
from oracle.numbers import Undecided
from oracle.rational_numbers import RationalNumbers
from oracle.solution import LAST_PRECISION, is_rational, scope, solve

MAX_DIGITS = 2000


def decimal(value: Fraction, digits: int) -> str:
    """A rational to so many significant digits, half to even.

    >>> decimal(Fraction(1, 3), 5), decimal(Fraction(-25, 2), 2), decimal(Fraction(99999, 10), 2)
    ('3.3333e-1', '-1.2e+1', '1.0e+4')
    """
    if value == 0:
        return "0"
    size = abs(value)
    bits = size.numerator.bit_length() - size.denominator.bit_length()
    exponent = math.floor(bits * math.log10(2)) - 1  # at most two below
    while size >= Fraction(10) ** (exponent + 1):
        exponent += 1
    scaled = round(size / Fraction(10) ** (exponent - digits + 1))  # half to even
    if scaled == 10**digits:
        scaled, exponent = scaled // 10, exponent + 1
    text = str(scaled)
    mantissa = text[0] + ("." + text[1:] if digits > 1 else "")
    return f"{'-' if value < 0 else ''}{mantissa}e{exponent:+d}"


LOG_2 = (Fraction(301029995663981195, 10**18), Fraction(301029995663981196, 10**18))
"""log10(2) lies between."""
FAR = 1 << 14
"""A ball whose exponent is beyond this many bits is scaled by a power of ten before it becomes a rational."""


def _rational(part: Any) -> Fraction:
    n, e = (int(x) for x in part.man_exp())
    return Fraction(n << e) if e >= 0 else Fraction(n, 1 << -e)


def ball_digits(ball: Any, digits: int) -> str | None:
    """The digits that all of a ball shares, or None if there are fewer.

    >>> from flint import arb
    >>> ball_digits(arb(1) / 3, 10), ball_digits(arb(1) / 3, 40)
    ('3.333333333e-1', None)
    >>> from flint import ctx
    >>> with ctx.workprec(256):
    ...     ball_digits(arb(7) * arb(10) ** (-(10**20)), 3)  # as a rational it would have 10^20 digits
    '7.00e-100000000000000000000'
    """
    if not ball.is_finite():
        return None
    if ball.is_zero() or not abs(_top(ball)) > FAR:
        return _near_digits(ball, digits)
    if ball.contains(0):
        return None
    power = (abs(ball).log() / type(ball)(10).log()).floor().unique_fmpz()  # the exponent of its first digit, or next
    if power is None:
        return None
    scaled = ball / type(ball)(10) ** power
    text = _near_digits(scaled, digits) if scaled.is_finite() and abs(_top(scaled)) < FAR else None
    if text is None:
        return None
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent) + int(power):+d}"


def _top(ball: Any) -> int:
    """An e so that 2^e is above a ball's size."""
    n, e = (int(x) for x in ball.abs_upper().man_exp())
    return abs(n).bit_length() + e


def _near_digits(ball: Any, digits: int) -> str | None:
    if ball.is_zero():
        return "0"
    if ball.contains(0):
        return None
    tiny = not ball.is_exact() and _top(ball.rad()) < -8 * FAR  # then a larger radius does
    middle, radius = _rational(ball.mid()), Fraction(1, 1 << 8 * FAR) if tiny else _rational(ball.rad())
    low, high = decimal(middle - radius, digits), decimal(middle + radius, digits)
    return low if low == high else None


def certified_digits(problem: Problem, digits: int) -> dict[str, list[str]]:
    """Every array of a problem's solution, flat in C order, each entry to so many certified digits.

    >>> import numpy as np
    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((1, 1, 1)), Loss("cotangent", g=np.ones((1, 1, 1))), activation="tanh")
    >>> certified_digits(p, 25)["dW_xh"]  # 1 - tanh(2)^2
    ['7.065082485316446568624766e-2']

    Raises: ValueError unless 1 <= digits <= MAX_DIGITS; PrecisionExhausted where digits are never decided.
    """
    if not 1 <= digits <= MAX_DIGITS:
        raise ValueError(f"digits: got {digits}, expected 1 to {MAX_DIGITS}")
    if is_rational(problem):
        exact = solve(problem, RationalNumbers())
        return {key: [decimal(value, digits) for value in exact.values[key]] for key in gradient_shapes(problem)}
    prec = 64 + int(digits * 3.33)
    while prec <= LAST_PRECISION:
        try:
            solution = solve(problem, BallNumbers(prec))
        except Undecided:
            prec *= 2
            continue
        with scope(solution.N):
            last = prec * 2 > LAST_PRECISION
            found = {key: _entries(solution.values[key], digits, last) for key in gradient_shapes(problem)}
        if all(text is not None for texts in found.values() for text in texts):
            return {key: [str(text) for text in texts] for key, texts in found.items()}
        prec *= 2
    raise PrecisionExhausted(f"{digits} digits are not decided at {LAST_PRECISION} bits")


def _entries(balls: Sequence[Any], digits: int, last: bool) -> list[str | None]:
    return [ball_digits(ball, digits) or (_bound(ball) if last or ball.is_zero() else None) for ball in balls]


def _bound(ball: Any) -> str | None:
    """A ball around zero at the last precision: how small the value is, proved."""
    if ball.is_zero():
        return "0"
    if not ball.contains(0):
        return None
    bits = _top(ball)  # size < 2^bits
    return f"|value| < 1e{math.ceil(bits * (LOG_2[1] if bits > 0 else LOG_2[0])):+d}"
