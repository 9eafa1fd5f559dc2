"""JSON from outside, read strictly: bounded in bytes and brackets, UTF-8, no name twice, no NaN or Infinity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.errors import UsageError
from conformance.render.strict import loads
from conformance.render.terminal import shorten

MOST_BRACKETS = 1_000_000
"""Lists and objects in one text: each may take a hundred bytes of memory however few it has in the file."""
_MOST_DIGITS = 400
"""An integer beyond a double is a wrong answer, not a file that cannot be read."""


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
        return loads(data, "utf-8-sig", _MOST_DIGITS)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: neither safetensors nor UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise UsageError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON as it is read here: {shorten(str(error), 200)}") from error
