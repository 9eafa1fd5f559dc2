"""JSON from outside, read strictly: UTF-8, no name twice, no NaN or Infinity, no number beyond a double."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from typing import Any, NoReturn

from conformance.render.terminal import shorten


def loads(data: bytes, encoding: str = "utf-8", digits: int = 300) -> Any:
    """The value of a JSON text; `digits` is how long an integer may be, so that 300 of them always fit a double.

    Raises: ValueError, saying what is wrong in words of its own (UnicodeDecodeError where it is not even text);
    RecursionError where it is nested too deeply.

    >>> loads(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the name 'a' stands twice in one object
    """
    return json.loads(
        data.decode(encoding),
        object_pairs_hook=_object,
        parse_constant=_constant,
        parse_float=_float,
        parse_int=functools.partial(_int, digits),
    )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {shorten(twice, 80)!r} stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; write infinities and NaN as the strings inf, -inf and nan")


def _float(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"the number {shorten(literal, 40)} is beyond a double")
    return number


def _int(digits: int, literal: str) -> int:
    if len(literal) > digits:
        raise ValueError(f"the number {shorten(literal, 40)} is beyond a double")
    return int(literal)


__all__ = ["loads"]
