"""Correct rounding against a reference that finds a number's neighbours in the format and compares the distances.

Outside witnesses: Python's true division of integers and NumPy's casts, both of which round correctly.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bptt.problem import DTYPES, Loss, Problem, gradient_shapes
from oracle import rounding
from oracle.errors import PrecisionExhausted
from oracle.numbers import Undecided
from oracle.rounding import (
    correctly_rounded,
    from_bits,
    round_ball,
    round_exact,
    round_fraction,
    round_value,
    to_array,
    ulp,
    ulp_distance,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
LAYOUT = {"float64": (11, 52), "float32": (8, 23), "float16": (5, 10), "bfloat16": (8, 7)}  # exponent, fraction bits
FAR = 10**30  # an exponent that no shift survives
each_dtype = pytest.mark.parametrize("dtype", LAYOUT)
dtypes = st.sampled_from(sorted(LAYOUT))


# ---- the reference ---------------------------------------------------------------------------------------------------


def value(bits: int, dtype: str) -> Fraction:
    """The value of a positive bit pattern; infinity counts as the power of two that would come next."""
    exponent_bits, fraction_bits = LAYOUT[dtype]
    bias = 2 ** (exponent_bits - 1) - 1
    field, fraction = divmod(bits, 2**fraction_bits)
    if field == 0:
        return Fraction(fraction, 2**fraction_bits) * Fraction(2) ** (1 - bias)
    return (1 + Fraction(fraction, 2**fraction_bits)) * Fraction(2) ** (field - bias)


def infinity(dtype: str) -> int:
    """The bits of +infinity."""
    exponent_bits, fraction_bits = LAYOUT[dtype]
    return (2**exponent_bits - 1) << fraction_bits


def sign_bit(dtype: str) -> int:
    """The bits of -0."""
    return 1 << sum(LAYOUT[dtype])


def nearest(exact: Fraction, dtype: str) -> int:
    """The bits of the nearest number, found by bisection; of two equally near the one with an even last bit."""
    size = abs(exact)
    low, high = 0, infinity(dtype)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if value(middle, dtype) <= size else (low, middle)
    below, above = size - value(low, dtype), value(high, dtype) - size
    best = low if below < above or (below == above and low % 2 == 0) else high
    return best | (sign_bit(dtype) if exact < 0 else 0)


@st.composite
def formats_and_numbers(draw: st.DrawFn) -> tuple[str, Fraction]:
    """A dtype and a rational: at, between and next to its numbers, and anywhere within and beyond its range."""
    dtype = draw(dtypes)
    inf = infinity(dtype)
    normal = 1 << LAYOUT[dtype][1]
    edges = st.sampled_from([0, 1, 2, 3, normal - 2, normal - 1, normal, normal + 1, inf - 2, inf - 1])
    bits = draw(edges | st.integers(0, inf - 1))
    place = draw(st.sampled_from(["number", "middle", "quarter", "anywhere", "beyond"]))
    low, high = value(bits, dtype), value(bits + 1, dtype)
    if place == "anywhere":
        exact = low + (high - low) * draw(st.fractions(0, 1))
    elif place == "beyond":
        exact = draw(st.integers(1, 2**80)) * Fraction(2) ** draw(st.integers(-1400, 1200))
    else:
        exact = low + (high - low) * {"number": 0, "middle": Fraction(1, 2), "quarter": Fraction(1, 4)}[place]
        exact += draw(st.sampled_from([-1, 0, 1])) * (high - low) / 2 ** draw(st.integers(1, 400))
    return dtype, draw(st.sampled_from([1, -1])) * exact


def as_pair(exact: Fraction) -> tuple[int, int]:
    """(n, e) with n 2^e the number; its denominator must be a power of two."""
    e = exact.denominator.bit_length() - 1
    assert exact.denominator == 1 << e
    return exact.numerator, -e


def bits_of(array: NDArray[Any], dtype: str) -> list[int]:
    """The bit patterns of an array of the dtype."""
    words = array.reshape(-1).view(f"u{array.dtype.itemsize}").tolist()
    return [word >> 16 for word in words] if dtype == "bfloat16" else words


# ---- rounding one number ---------------------------------------------------------------------------------------------


@settings(UNHURRIED, max_examples=600)
@given(formats_and_numbers())
def test_round_fraction_finds_the_nearest_number(case: tuple[str, Fraction]) -> None:
    dtype, exact = case
    assert round_fraction(exact, dtype) == nearest(exact, dtype)


@settings(UNHURRIED, max_examples=300)
@given(formats_and_numbers(), st.integers(-5, 5))
def test_round_exact_agrees_whatever_the_exponent_is_written_as(case: tuple[str, Fraction], shift: int) -> None:
    dtype, exact = case
    n, e = exact.numerator, -(exact.denominator.bit_length() - 1)  # a neighbouring dyadic where it is no dyadic itself
    dyadic = n * Fraction(2) ** e
    n, e = (n << shift, e - shift) if shift >= 0 else (n, e)
    assert round_exact(n, e, dtype) == nearest(dyadic, dtype)


@settings(UNHURRIED, max_examples=300)
@given(st.integers(-(2**1100), 2**1100), st.integers(1, 2**1100), st.integers(-1100, 1100))
@example(1, 2**1075, 0)
@example(1, 2**1075 - 1, 0)
@example(3, 2**1075, 0)
@example(2**1024 - 2**970, 1, 0)
@example(2**1024 - 2**970 - 1, 1, 0)
def test_round_fraction_to_float64_is_true_division(n: int, d: int, e: int) -> None:
    n, d = n << max(e, 0), d << max(-e, 0)
    try:
        witness = n / d
    except OverflowError:
        witness = float("inf") if n > 0 else float("-inf")
    (want,) = struct.unpack("<Q", struct.pack("<d", witness))
    assert round_fraction(Fraction(n, d), "float64") == (0 if n == 0 else want)


@settings(UNHURRIED, max_examples=300)
@given(st.integers(0, 2**64 - 1) | st.integers(0x36800000, 0x47F00000).map(lambda high: high << 32))
def test_round_fraction_is_numpys_cast(word: int) -> None:
    wide = np.array([word], dtype=np.uint64).view(np.float64)
    if not np.isfinite(wide[0]) or wide[0] == 0:
        return
    exact = Fraction(wide[0].item())
    for dtype in ("float32", "float16"):
        with np.errstate(all="ignore"):
            witness = wide.astype(DTYPES[dtype])
        assert round_fraction(exact, dtype) == bits_of(witness, dtype)[0]


@each_dtype
def test_round_exact_at_the_ends_of_the_range(dtype: str) -> None:
    inf, smallest, negative = infinity(dtype), value(1, dtype), sign_bit(dtype)
    half_ulp = (value(inf, dtype) - value(inf - 1, dtype)) / 2
    threshold = value(inf - 1, dtype) + half_ulp
    hair = half_ulp / 2**300

    def rounded(exact: Fraction) -> int:
        pair = as_pair(exact)
        assert round_exact(*pair, dtype) == round_fraction(exact, dtype)
        return round_exact(*pair, dtype)

    assert rounded(threshold - hair) == inf - 1
    assert rounded(threshold) == inf, "the largest number is odd, so that the tie goes to infinity"
    assert rounded(-threshold) == inf | negative
    assert rounded(smallest) == 1
    assert rounded(smallest / 2) == 0, "a tie between 0 and the smallest subnormal goes to 0"
    assert rounded(-smallest / 2) == negative, "what underflows keeps its sign"
    assert rounded(smallest / 2 + hair * Fraction(1, 2**2200)) == 1
    assert rounded(smallest * 3 / 2) == 2
    assert rounded(Fraction(0)) == 0
    normal = 1 << LAYOUT[dtype][1]
    assert rounded(value(normal, dtype) - smallest / 2) == normal, "a subnormal carries into the normal numbers"
    assert rounded(value(normal - 1, dtype)) == normal - 1


@each_dtype
def test_round_exact_takes_any_exponent(dtype: str) -> None:
    assert round_exact(1, FAR, dtype) == infinity(dtype)
    assert round_exact(-3, -FAR, dtype) == sign_bit(dtype)
    assert round_exact(0, FAR, dtype) == 0


@pytest.mark.parametrize(("through", "dtype", "p"), [("float64", "float32", 24), ("float32", "bfloat16", 8)])
def test_rounding_goes_straight_to_the_dtype(through: str, dtype: str, p: int) -> None:
    exact = 1 + Fraction(1, 2**p) + Fraction(1, 2**100)  # a hair above the middle between 1 and the next number
    between = value(round_fraction(exact, through), through)
    assert value(round_fraction(between, dtype), dtype) == 1, (
        "the first rounding makes it a tie, the second takes it down"
    )
    assert value(round_fraction(exact, dtype), dtype) == 1 + Fraction(2, 2**p)


def test_numpy_double_rounds_by_way_of_float64() -> None:
    exact = 1 + Fraction(1, 2**24) + Fraction(1, 2**100)
    by_way_of_float64 = np.float32(float(exact))
    assert by_way_of_float64 == 1
    assert to_array([exact], (), "float32") == np.float32(1) + np.float32(2**-23)


# ---- balls -----------------------------------------------------------------------------------------------------------


@settings(UNHURRIED, max_examples=500)
@given(formats_and_numbers(), st.integers(0, 2**40), st.integers(-1500, 1100))
def test_round_ball_is_the_rounding_of_both_ends(case: tuple[str, Fraction], r: int, k: int) -> None:
    dtype, exact = case
    n, e = exact.numerator, -(exact.denominator.bit_length() - 1)
    middle, radius = n * Fraction(2) ** e, r * Fraction(2) ** k
    ends = {nearest(middle - radius, dtype), nearest(middle + radius, dtype)}
    try:
        got = round_ball(n, e, r, k, dtype)
    except Undecided:
        assert len(ends) == 2 or radius > abs(middle)
    else:
        assert ends == {got} or (got == 0 and ends <= {0, sign_bit(dtype)})


@settings(UNHURRIED, max_examples=300)
@given(formats_and_numbers(), st.integers(1, 3), st.integers(-200, 60))
def test_round_ball_decides_whatever_can_be_decided(case: tuple[str, Fraction], r: int, k: int) -> None:
    dtype, exact = case
    n, e = exact.numerator, -(exact.denominator.bit_length() - 1)
    k += e
    middle, radius = n * Fraction(2) ** e, r * Fraction(2) ** k
    low, high = nearest(middle - radius, dtype), nearest(middle + radius, dtype)
    if low == high and radius <= abs(middle):
        assert round_ball(n, e, r, k, dtype) == low
    elif low != high and {low, high} != {0, sign_bit(dtype)}:
        with pytest.raises(Undecided):
            round_ball(n, e, r, k, dtype)


@each_dtype
def test_round_ball_takes_any_exponent(dtype: str) -> None:
    one = round_exact(1, 0, dtype)
    assert round_ball(1, 0, 1, -FAR, dtype) == one
    assert round_ball(1, FAR, 1, 0, dtype) == infinity(dtype)
    assert round_ball(-1, -FAR, 1, -FAR - 9, dtype) == sign_bit(dtype)
    assert round_ball(0, 0, 5, -FAR, dtype) == 0
    assert round_ball(1, -2 * FAR, 5, -FAR, dtype) == 0
    for ball in [(1, -FAR, 1, 10), (1, -FAR, 1, FAR), (0, 0, 1, FAR), (1, FAR, 1, FAR)]:
        with pytest.raises(Undecided):
            round_ball(*ball, dtype)
    p = LAYOUT[dtype][1] + 1
    with pytest.raises(Undecided):
        round_ball((1 << p) + 1, 0, 1, -FAR, dtype)
    assert round_ball((1 << p + 90) + (1 << 90) + 1, -90 - p, 1, -FAR, dtype) == one + 1


def test_round_ball_of_an_exact_tie_goes_to_even() -> None:
    assert round_ball((1 << 24) + 1, 0, 0, 0, "float32") == round_exact(1, 24, "float32")


def test_round_value_reads_balls_and_rationals() -> None:
    assert round_value(Fraction(1, 3), "float32") == nearest(Fraction(1, 3), "float32")
    assert round_value(arb((3, -1)), "float32") == 0x3FC00000
    assert round_value(arb(0), "float32") == 0
    for ball in (arb("nan"), arb("inf"), arb(1, "inf")):
        with pytest.raises(Undecided):
            round_value(ball, "float32")


# ---- arrays ----------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(st.lists(formats_and_numbers().map(lambda case: case[1]), min_size=6, max_size=6), dtypes)
def test_to_array_holds_each_number_rounded(exact: list[Fraction], dtype: str) -> None:
    array = to_array(exact, (2, 1, 3), dtype)
    assert array.shape == (2, 1, 3)
    assert array.dtype == DTYPES[dtype]
    assert bits_of(array, dtype) == [nearest(number, dtype) for number in exact]
    if dtype == "bfloat16":
        assert not (array.view(np.uint32) & 0xFFFF).any()


def test_to_array_takes_integers_and_pairs() -> None:
    assert to_array([3, (5, -1), Fraction(-1, 4)], (3,), "float16").tolist() == [3.0, 2.5, -0.25]
    assert to_array([], (0, 2), "float32").shape == (0, 2)
    assert to_array([7], (), "bfloat16").shape == ()


@each_dtype
def test_from_bits_keeps_every_bit(dtype: str) -> None:
    words = [0, 1, sign_bit(dtype), sign_bit(dtype) | 1, infinity(dtype) - 1, infinity(dtype), infinity(dtype) + 1]
    assert bits_of(from_bits(words, (7,), dtype), dtype) == words


# ---- whole problems --------------------------------------------------------------------------------------------------


def one_unit(activation: str, dtype: str) -> Problem:
    """h = phi(x w + h_0 u + b) over three steps, one unit, dL/dh_3 = g."""

    def numbers(*entries: float) -> NDArray[Any]:
        return to_array([Fraction(entry) for entry in entries], (len(entries),), dtype)

    params = {"W_xh": numbers(0.7)[:, None], "W_hh": numbers(-1.3)[:, None], "b_h": numbers(0.1)}
    x, g = numbers(0.3, -0.9, 1.7).reshape(3, 1, 1), numbers(0.0, 0.0, 0.6).reshape(3, 1, 1)
    return Problem(
        "elman", params, x, Loss("cotangent", g=g), h0=numbers(0.4)[:, None], activation=activation, dtype=dtype
    )


@each_dtype
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_correctly_rounded_is_the_nearest_to_600_bits_of_the_chain_rule(activation: str, dtype: str) -> None:
    problem = one_unit(activation, dtype)
    context = mpmath.MPContext()
    context.prec = 600
    w, u, b = (context.mpf(problem.params[name].item()) for name in ("W_xh", "W_hh", "b_h"))
    h = [context.mpf(problem.h0.item())]
    slopes = []
    for x_t in problem.x.reshape(-1).tolist():
        a = context.mpf(x_t) * w + h[-1] * u + b
        h.append(context.tanh(a) if activation == "tanh" else 1 / (1 + context.exp(-a)))
        slopes.append(1 - h[-1] ** 2 if activation == "tanh" else h[-1] * (1 - h[-1]))
    delta = [context.mpf(problem.loss.g[-1].item()) * slopes[2]]
    for slope in reversed(slopes[:2]):
        delta.insert(0, delta[0] * u * slope)
    want = {
        "loss": [context.mpf(problem.loss.g[-1].item()) * h[3]],
        "h": h[1:],
        "dW_hh": [sum(d * before for d, before in zip(delta, h, strict=False))],
        "db_h": [sum(delta)],
        "dx": [d * w for d in delta],
        "dh0": [delta[0] * u],
    }
    got = correctly_rounded(problem)
    assert list(got) == list(gradient_shapes(problem))
    for key, numbers in want.items():
        exact = [Fraction(*mpmath.libmp.to_rational(number._mpf_)) for number in numbers]
        assert got[key].shape == gradient_shapes(problem)[key]
        assert bits_of(got[key], dtype) == [nearest(number, dtype) for number in exact], key


def test_correctly_rounded_takes_keys_and_a_dtype() -> None:
    problem = one_unit("tanh", "float64")
    got = correctly_rounded(problem, ["dh0", "loss"], "bfloat16")
    assert list(got) == ["dh0", "loss"]
    assert got["loss"].dtype == np.float32
    assert ulp_distance(got["loss"], correctly_rounded(problem, ["loss"], "float32")["loss"], "float32") <= 2**15
    with pytest.raises(KeyError, match="dW_x: expected some of loss, h, o, dW_xh"):
        correctly_rounded(problem, ["dW_x"])


def rational(rows: int, goal: float, dtype: str = "float64") -> Problem:
    """h = goal in each row, and the loss is the mean over rows of h^2: a rational that balls do not hold exactly."""
    zeros = np.zeros((1, 1), DTYPES[dtype])
    params = {"W_xh": zeros, "W_hh": zeros, "b_h": np.array([goal], DTYPES[dtype])}
    inputs = np.zeros((1, rows, 1), DTYPES[dtype])
    loss = Loss("squared_error", target=inputs, scale=1.0, batch_reduction="mean")
    return Problem("elman", params, inputs, loss, activation="identity", dtype=dtype)


def test_correctly_rounded_settles_a_tie_in_rationals() -> None:
    tie = 1 + 2.0**-12  # its square 1 + 2^-11 + 2^-24 is half way between two float32 numbers
    got = correctly_rounded(rational(3, tie), ["loss"], "float32")["loss"]
    assert got == np.float32(1 + 2.0**-11)
    odd = 1 + 2.0**-12 + 2.0**-23
    got = correctly_rounded(rational(3, odd), ["loss"], "float32")["loss"]
    assert bits_of(got, "float32") == [nearest(Fraction(odd) ** 2, "float32")]


def cancelling(offset: float) -> Problem:
    """o = tanh(1) - tanh(1) + offset: a number that balls enclose more and more closely but never hold exactly."""
    params = {
        "W_xh": np.ones((1, 2)),
        "W_hh": np.zeros((2, 2)),
        "b_h": np.zeros(2),
        "W_hy": np.array([[1.0], [-1.0]]),
        "b_y": np.array([offset]),
    }
    loss = Loss("cotangent", g=np.ones((1, 1, 1)))
    return Problem("elman", params, np.ones((1, 1, 1)), loss, activation="tanh", readout="linear")


def test_correctly_rounded_never_guesses_a_tie() -> None:
    with pytest.raises(PrecisionExhausted, match="not decided at 8192 bits: float16 of a ball about 2"):
        correctly_rounded(cancelling(1 + 2.0**-11), ["o"], "float16")


def test_correctly_rounded_decides_a_zero_that_balls_only_enclose() -> None:
    (bits,) = bits_of(correctly_rounded(cancelling(0.0), ["o"])["o"], "float64")
    assert bits == 0


def test_correctly_rounded_decides_a_kink_that_needs_many_bits() -> None:
    x = np.array([2.0**300, 2.0**-300, -(2.0**300), -(2.0**-300)]).reshape(1, 1, 4)
    params = {"W_xh": np.ones((4, 1)), "W_hh": np.zeros((1, 1)), "b_h": np.zeros(1)}
    problem = Problem("elman", params, x, Loss("cotangent", g=np.ones((1, 1, 1))), activation="relu")
    got = correctly_rounded(problem)
    assert not got["h"].any()
    assert not got["dW_xh"].any(), "relu'(0) is 0"


def test_correctly_rounded_stops_at_the_last_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "LAST_PRECISION", 256)
    with pytest.raises(PrecisionExhausted, match="256 bits"):
        correctly_rounded(cancelling(0.0), ["o"])


# ---- units in the last place -----------------------------------------------------------------------------------------


@UNHURRIED
@given(formats_and_numbers())
def test_ulp_is_the_distance_to_the_next_number(case: tuple[str, Fraction]) -> None:
    dtype, exact = case
    n, e = exact.numerator, -(exact.denominator.bit_length() - 1)
    size = abs(n * Fraction(2) ** e)
    low = 0
    for bit in reversed(range(sum(LAYOUT[dtype]))):  # the largest number that is at most the size
        if (low | 1 << bit) < infinity(dtype) and value(low | 1 << bit, dtype) <= size:
            low |= 1 << bit
    assert ulp(dtype, n, e) == value(low + 1, dtype) - value(low, dtype)


@each_dtype
def test_ulp_at_zero_is_the_smallest_subnormal(dtype: str) -> None:
    assert ulp(dtype, 0) == ulp(dtype, 1, -FAR) == value(1, dtype)
    assert ulp(dtype, 1, FAR) == ulp(dtype, *as_pair(value(infinity(dtype) - 1, dtype)))


@UNHURRIED
@given(dtypes, st.data())
def test_ulp_distance_counts_the_numbers_between(dtype: str, data: st.DataObject) -> None:
    def draw() -> tuple[int, int]:
        size = data.draw(st.integers(0, infinity(dtype)))
        sign = data.draw(st.sampled_from([1, -1]))
        return sign * size, size | (sign_bit(dtype) if sign < 0 else 0)

    left, right = [draw() for _ in range(4)], [draw() for _ in range(4)]
    a, b = (from_bits([word for _, word in side], (2, 2), dtype) for side in (left, right))
    want = [abs(x - y) for (x, _), (y, _) in zip(left, right, strict=True)]
    assert ulp_distance(a, b, dtype).reshape(-1).tolist() == want
    assert ulp_distance(b, a, dtype).reshape(-1).tolist() == want
    assert ulp_distance(a.astype(a.dtype.newbyteorder(">")), b, dtype).shape == (2, 2)


def test_ulp_distance_between_neighbours_zeros_and_nan() -> None:
    a = np.array([0.0, 5e-324, 1.0, np.inf, np.inf, np.nan, np.nan])
    b = np.array([-0.0, -5e-324, np.nextafter(1.0, 2.0), np.finfo(float).max, -np.inf, 1.0, np.nan])
    beyond_all = 2**64 - 1
    assert ulp_distance(a, b, "float64").tolist() == [0, 2, 1, 1, 2 * 0x7FF << 52, beyond_all, beyond_all]
    assert ulp_distance(np.float32(1.0).reshape(()), np.float32(1.0).reshape(()), "float32").shape == ()


def test_ulp_distance_says_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\): expected the same"):
        ulp_distance(np.ones(2), np.ones(3), "float64")
    with pytest.raises(ValueError, match="dtype float64, expected float32 for float32"):
        ulp_distance(np.ones(2), np.ones(2), "float32")
    with pytest.raises(ValueError, match="float32 values that bfloat16 cannot hold"):
        ulp_distance(np.float32([1.1]), np.float32([1.0]), "bfloat16")
