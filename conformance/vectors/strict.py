"""JSON from outside, read strictly: bounded in bytes and brackets, UTF-8, no name twice, no NaN or Infinity."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from conformance.errors import UsageError
from conformance.render.terminal import shorten

MOST_BRACKETS = 1_000_000
"""Lists and objects in one text: each may take a hundred bytes of memory however few it has in the file."""
_MOST_DIGITS = 400


def read_bytes(path: Path, most: int) -> bytes:
    """A file of at most so many bytes. Raises: UsageError; OSError, which the command line says in one line."""
    if path.is_dir():
        raise UsageError(f"{path}: a folder, expected a file")
    if not path.is_file():
        path.stat()  # says why, where there is nothing
        raise UsageError(f"{path}: not a regular file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UsageError(f"{path}: larger than {most} bytes, the most that is read")
    return data


def parse(path: Path, data: bytes) -> Any:
    """The value of a JSON text. Raises: UsageError, naming the file and what is wrong."""
    if data.count(b"[") + data.count(b"{") > MOST_BRACKETS:
        raise UsageError(f"{path}: more than {MOST_BRACKETS} lists and objects; expected flat lists of numbers")
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: neither safetensors nor UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise UsageError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON as it is read here: {shorten(str(error), 200)}") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {shorten(twice, 80)!r} stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; write it as a string or null")


def _float(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"the number {shorten(literal, 40)} is beyond a double")
    return number


def _int(literal: str) -> int:
    if len(literal) > _MOST_DIGITS:
        raise ValueError(f"the number {shorten(literal, 40)} is beyond a double")
    return int(literal)
