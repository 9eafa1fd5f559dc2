"""Floating-point numbers as exact integers, read from their bits.

Never through floating point: a library that sets flush-to-zero in the process would turn a subnormal into 0 on the way.
A finite float is n 2^e with integers n and e; a signed zero is n = 0 (its sign means nothing to real arithmetic).
Source: IEEE 754-2019, the binary interchange formats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FORMATS: dict[int, tuple[type[np.unsignedinteger[Any]], int, int]] = {  # bytes: (unsigned type, fraction bits, bias)
    8: (np.uint64, 52, 1023),
    4: (np.uint32, 23, 127),
    2: (np.uint16, 10, 15),
}


def decode(array: NDArray[Any]) -> tuple[list[int], list[int]]:
    """The entries of a float16, float32 or float64 array, in C order, as integers n and exponents e: n 2^e each.

    Raises: ValueError for infinities and NaN, and for dtypes that are none of the three.

    >>> decode(np.array([1.5, -0.0, 5e-324]))
    ([6755399441055744, 0, 1], [-52, -1074, -1074])
    """
    if array.dtype.kind != "f" or array.dtype.itemsize not in _FORMATS:
        raise ValueError(f"dtype {array.dtype}: expected float16, float32 or float64")
    unsigned, fraction_bits, bias = _FORMATS[array.dtype.itemsize]
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(-1)
    words = native.view(unsigned).astype(np.uint64)  # integers from here on
    width = 8 * array.dtype.itemsize
    top = (1 << (width - 1 - fraction_bits)) - 1
    biased = ((words >> fraction_bits) & top).astype(np.int64)
    if (biased == top).any():
        raise ValueError("got an infinity or a NaN, expected finite numbers")
    fraction = (words & ((1 << fraction_bits) - 1)).astype(np.int64)
    n = np.where(biased > 0, fraction | (1 << fraction_bits), fraction)
    signed = np.where(words >> (width - 1) > 0, -n, n)
    exponents = np.maximum(biased, 1) - (bias + fraction_bits)
    return signed.tolist(), exponents.tolist()


def all_normal(array: NDArray[Any]) -> bool:
    """Whether every entry is zero or a normal number, which flush-to-zero leaves alone; read from the bits.

    >>> all_normal(np.array([1.5, -0.0])), all_normal(np.array([5e-324])), all_normal(np.array([np.inf]))
    (True, False, False)
    """
    if array.dtype.kind != "f" or array.dtype.itemsize not in _FORMATS:
        return False
    unsigned, fraction_bits, _ = _FORMATS[array.dtype.itemsize]
    words = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(-1).view(unsigned)
    magnitudes = words & ((1 << (8 * array.dtype.itemsize - 1)) - 1)
    top = ((1 << (8 * array.dtype.itemsize - 1 - fraction_bits)) - 1) << fraction_bits
    return bool(((magnitudes == 0) | (magnitudes >> fraction_bits > 0) & (magnitudes < top)).all())


def exact_sum(values: NDArray[Any]) -> tuple[int, int]:
    """The exact sum of floats as (n, e), meaning n 2^e.

    >>> exact_sum(np.array([0.5, 0.25]))
    (13510798882111488, -54)
    """
    numbers, exponents = decode(values)
    low = min(exponents, default=0)
    return sum(n << (e - low) for n, e in zip(numbers, exponents, strict=True)), low
