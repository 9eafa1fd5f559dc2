"""The canary: whether this process's floating point is still IEEE round-to-nearest with subnormals.

Libraries switch on flush-to-zero, or change the rounding mode, for the whole thread; every float64 that the judge then
computes is suspect. The checks are arithmetic on values that the interpreter cannot fold in advance.
"""

from __future__ import annotations

import numpy as np

from oracle.errors import EnvironmentUnsound

_TINY = np.array([2.0**-1022])
_HALF = np.array([0.5])
_ONE = np.array([1.0])
_EPS = np.array([2.0**-53, -(2.0**-54), 2.0**-53 + 2.0**-60])


def problems_found() -> list[str]:
    """What is wrong with the environment, in words; empty when it is sound.

    >>> problems_found()
    []
    """
    found = []
    product = _TINY * _HALF
    if not (product[0] != 0.0 and (product + product)[0] == _TINY[0]):
        found.append("subnormal numbers are flushed to zero")
    if (product[:1].view(np.uint64) != np.uint64(1 << 51)).any():
        found.append("a subnormal product has the wrong bits")
    to_even, down, up = (_ONE + _EPS).tolist()
    if not (to_even == 1.0 and down == 1.0 and up == 1.0 + 2.0**-52):
        found.append("rounding is not to nearest, ties to even")
    return list(dict.fromkeys(found))


def check(who: str = "this process") -> None:
    """Raises: EnvironmentUnsound, saying what is wrong and whose doing it was.

    >>> check("the target")
    """
    found = problems_found()
    if found:
        raise EnvironmentUnsound(f"{who}: {'; '.join(found)}")
