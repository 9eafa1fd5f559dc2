"""Floats as exact integers, against Python's own conversion, and in a process where the floating-point unit lies."""

from __future__ import annotations

import platform
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bptt.bits import decode, exact_sum
from oracle import exact
from oracle.ball_numbers import BallNumbers
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import exact_fraction
from oracle.rational_numbers import RationalNumbers
from oracle.solution import scope

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
FORMATS = {"float64": (np.float64, np.uint64), "float32": (np.float32, np.uint32), "float16": (np.float16, np.uint16)}
each_dtype = pytest.mark.parametrize("dtype", FORMATS)

FLUSH = """
import ctypes
import numpy as np
libm = ctypes.CDLL("libm.so.6")
environment = (ctypes.c_uint32 * 8)()           # fenv_t of the GNU C library on x86-64; its last word is MXCSR
assert libm.fegetenv(environment) == 0
environment[7] |= 0x8040                        # flush to zero, denormals are zero
assert libm.fesetenv(environment) == 0
"""


def values(numbers: list[int], exponents: list[int]) -> list[Fraction]:
    """The rationals n 2^e."""
    return [n * Fraction(2) ** e for n, e in zip(numbers, exponents, strict=True)]


def from_words(words: list[int], dtype: str) -> NDArray[Any]:
    """An array of these bit patterns."""
    floating, unsigned = FORMATS[dtype]
    return np.array(words, dtype=unsigned).view(floating)


@each_dtype
@UNHURRIED
@given(st.data())
def test_decode_is_the_exact_value(dtype: str, data: st.DataObject) -> None:
    width = 8 * np.dtype(FORMATS[dtype][0]).itemsize
    words = data.draw(st.lists(st.integers(0, 2**width - 1), min_size=1, max_size=20))
    array = from_words(words, dtype)
    array = array[np.isfinite(array)]
    assert values(*decode(array)) == [Fraction(float(entry)) for entry in array]


def test_decode_of_every_float16() -> None:
    array = from_words(list(range(2**16)), "float16")
    array = array[np.isfinite(array)]
    assert values(*decode(array)) == [Fraction(entry) for entry in array.astype(np.float64).tolist()]


@each_dtype
def test_decode_at_the_ends_of_the_range(dtype: str) -> None:
    info = np.finfo(FORMATS[dtype][0])
    array = np.array(
        [info.smallest_subnormal, -info.smallest_subnormal, info.tiny, info.max, info.min, -0.0], info.dtype
    )
    smallest, tiny, largest = (Fraction(float(x)) for x in (info.smallest_subnormal, info.tiny, info.max))
    assert values(*decode(array)) == [smallest, -smallest, tiny, largest, -largest, 0]
    assert decode(array)[0][0] == 1


@each_dtype
def test_decode_reads_c_order_whatever_the_layout(dtype: str) -> None:
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4) / 8
    want = decode(array.copy())
    assert decode(np.asfortranarray(array)) == want
    assert decode(array[::-1][::-1]) == want
    assert decode(array.astype(array.dtype.newbyteorder(">"))) == want
    assert decode(array[:, ::2, 1::2]) == decode(array[:, ::2, 1::2].copy())
    frozen = array.copy()
    frozen.flags.writeable = False
    assert decode(frozen) == want


def test_decode_of_nothing_and_of_a_number() -> None:
    assert decode(np.zeros((0, 3))) == ([], [])
    assert values(*decode(np.float32(2.5).reshape(()))) == [Fraction(5, 2)]


@each_dtype
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_decode_refuses_what_is_no_number(dtype: str, bad: float) -> None:
    with pytest.raises(ValueError, match="got an infinity or a NaN, expected finite numbers"):
        decode(np.array([1.0, bad], dtype=dtype))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.complex64, np.complex128, np.bool_, object, np.longdouble])
def test_decode_refuses_other_dtypes(dtype: Any) -> None:
    if dtype is np.longdouble and np.dtype(dtype).itemsize == 8:
        pytest.skip("long double is float64 here")
    with pytest.raises(ValueError, match="expected float16, float32 or float64"):
        decode(np.ones(2, dtype=dtype))


@UNHURRIED
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8))
def test_exact_sum_rounds_nothing(entries: list[float]) -> None:
    n, e = exact_sum(np.array(entries, dtype=np.float64))
    assert n * Fraction(2) ** e == sum((Fraction(entry) for entry in entries), Fraction(0))


def flushed(code: str) -> str:
    """What a process prints that flushes subnormals to zero, or a skip where no such process can be had."""
    run = subprocess.run([sys.executable, "-c", FLUSH + code], capture_output=True, text=True, check=False)
    if run.returncode != 0 and "libm.so.6" in run.stderr:
        pytest.skip("flush-to-zero is set through the GNU C library")
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flush-to-zero is set in x86-64's MXCSR register")
@pytest.mark.skipif(sys.platform != "linux", reason="flush-to-zero is set through the GNU C library")
def test_decode_sees_subnormals_where_the_processor_flushes_them() -> None:
    printed = flushed("""
from bptt.bits import decode, exact_sum
from oracle import exact
from oracle.ball_numbers import BallNumbers
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import exact_fraction
from oracle.rational_numbers import RationalNumbers
from oracle.solution import scope
from oracle.numbers import exact_fraction
from oracle.rounding import round_exact, to_array
tiny = np.array([5, 2**51, 2**52], dtype=np.uint64).view(np.float64)
print((tiny * 1.0).view(np.uint64).tolist())    # what arithmetic makes of them
print(decode(tiny))
print(decode(np.array([3], dtype=np.uint32).view(np.float32)))
print(exact_sum(tiny) == (5 + 2**51 + 2**52, -1074))
print(exact_fraction(tiny.tolist()[0]) == exact_fraction(1.0) * 5 / 2**1074)
print(to_array([(5, -1074)], (1,), "float64").view(np.uint64).tolist(), round_exact(3, -149, "float32"))
""").splitlines()
    assert printed[0] == f"[0, 0, {2**52}]", "the process does flush"
    assert printed[1] == f"([5, {2**51}, {2**52}], [-1074, -1074, -1074])"
    assert printed[2] == "([3], [-149])"
    assert printed[3:5] == ["True", "True"]
    assert printed[5] == "[5] 3"


def test_formats_are_those_of_ieee_754():
    found = {name: np.finfo(name) for name in ("float64", "float32", "float16")}
    assert {name: (f.nmant + 1, f.minexp, f.maxexp) for name, f in found.items()} == {
        name: numbers for name, numbers in exact.FORMATS.items() if name != "bfloat16"
    }
    assert exact.FORMATS["bfloat16"] == (8, *exact.FORMATS["float32"][1:])


@pytest.mark.parametrize("value", [0.0, -0.1, 5e-324, 1.0, 2.0**53 + 2, -(2.0**1000), 1.5 * 2.0**60])
def test_floats_are_decoded_exactly(value):
    assert exact_fraction(value) == Fraction(value)
    for N in (RationalNumbers(), MpmathNumbers(53), BallNumbers(53)):
        with scope(N):
            for array in (np.array(value), np.array([value])):
                matrix = N.decode(array)
                assert (matrix.rows, matrix.cols) == (1, 1)
                assert matrix.data[0] == N.ratio(Fraction(value))
