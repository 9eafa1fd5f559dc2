"""Reads a file of answers that somebody else's program wrote, as hostile input; docs/vectors.md has its two forms.

safetensors   arrays named ID/DTYPE/KEY, in the dtype or a wider one
JSON          {"format": "bpttcheck-answers", "version": 1, "answers": {ID: {DTYPE: {KEY: entries}}}}, where entries
              are a number, a flat list in C order or nested lists; a text is a float as C's %a or strtod has it, and
              null is NaN

Nothing is allocated by what a file says of itself: its size is bounded first, and an array is read once its shape is
known to be the wanted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from bptt.problem import SIGNIFICAND, Array
from conformance.errors import UsageError
from conformance.render.terminal import shorten
from conformance.vectors.strict import parse, read_bytes

FORMAT, VERSION = "bpttcheck-answers", 1
MOST_JSON = 32 << 20
MOST_BYTES = 256 << 20
MOST_HEADER = 8 << 20
MOST_ARRAYS = 200_000
BITS = {"F64": 53, "F32": 24, "F16": 11}
"""Dtypes that an answer may have, and their significands; bfloat16 values come in F32 or F64."""
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


class Wrong(Exception):
    """An array that is no answer to what was asked: of another shape or dtype, or with entries that are no numbers."""


Loader = Callable[[tuple[int, ...]], Array]
"""Shape to the array; raises Wrong."""


@dataclass
class Answers:
    """What a file answers.

    found  (id, dtype) to the arrays by key, each to be read when its shape is known
    named  every id to the dtypes under it, those without an array too
    """

    found: dict[tuple[str, str], dict[str, Loader]] = field(default_factory=dict)
    named: dict[str, set[str]] = field(default_factory=dict)

    def name(self, path: Path, vector_id: str, dtypes: Iterable[str]) -> None:
        """A vector, and dtypes in which it is answered. Raises: UsageError for a dtype that there is not."""
        known = self.named.setdefault(vector_id, set())
        for dtype in dtypes:
            if dtype in SIGNIFICAND:
                known.add(dtype)
                continue
            raise UsageError(
                f"{path}: {shorten(vector_id, 80)}: dtype {shorten(dtype, 40)!r}, expected one of "
                f"{', '.join(SIGNIFICAND)}"
            )

    def add(self, path: Path, vector_id: str, dtype: str, key: str, loader: Loader) -> None:
        """One array. Raises: UsageError for a dtype that there is not."""
        self.name(path, vector_id, [dtype])
        self.found.setdefault((vector_id, dtype), {})[key] = loader


@contextmanager
def read_answers(path: Path) -> Iterator[Answers]:
    """The answers in a file, which stays open meanwhile. Raises: UsageError, in one line."""
    if not path.is_file():
        read_bytes(path, 0)  # says what is wrong
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise UsageError(f"{path}: {size} bytes, expected at most {MOST_BYTES}")
    with path.open("rb") as file:
        head = file.read(9)
    header = int.from_bytes(head[:8], "little")
    if len(head) == 9 and head[8:] == b"{" and header <= size - 8:
        if header > MOST_HEADER:
            raise UsageError(f"{path}: a header of {header} bytes, expected at most {MOST_HEADER}")
        try:
            with safe_open(str(path), framework="np") as opened:
                yield _of_safetensors(path, opened)
        except SafetensorError as error:
            raise UsageError(f"{path}: truncated or no safetensors file ({shorten(str(error), 200)})") from error
    else:
        yield _of_json(path, parse(path, read_bytes(path, MOST_JSON)))


def _of_safetensors(path: Path, opened: Any) -> Answers:
    answers = Answers()
    names = list(opened.keys())
    if len(names) > MOST_ARRAYS:
        raise UsageError(f"{path}: {len(names)} arrays, expected at most {MOST_ARRAYS}")
    for name in names:
        parts = name.split("/")
        if len(parts) != 3:
            raise UsageError(f"{path}: an array {shorten(name, 120)!r}, expected names like ID/float32/dW_hh")
        answers.add(path, parts[0], parts[1], parts[2], _slice(opened, name, parts[1]))
    return answers


def _slice(opened: Any, name: str, dtype: str) -> Loader:
    def load(shape: tuple[int, ...]) -> Array:
        part = opened.get_slice(name)
        kind, got = part.get_dtype(), tuple(part.get_shape())
        if kind not in BITS or BITS[kind] < SIGNIFICAND[dtype]:
            wanted = [k for k, bits in BITS.items() if bits >= SIGNIFICAND[dtype]]
            raise Wrong(f"got {shorten(str(kind), 20)}, want {' or '.join(wanted)}")
        if got != shape:
            raise Wrong(f"got shape {shorten(str(got), 60)}, want {shape}")
        array: Array = np.asarray(opened.get_tensor(name), dtype=NUMPY[kind])
        return array.astype(np.float64)

    return load


def _of_json(path: Path, told: Any) -> Answers:
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise UsageError(f"{path}: no file of answers: expected a JSON object with format {FORMAT!r}, or safetensors")
    if told.get("version") != VERSION:
        raise UsageError(f"{path}: version {shorten(repr(told.get('version')), 40)}, expected {VERSION}")
    vectors = told.get("answers")
    if not isinstance(vectors, dict):
        raise UsageError(f"{path}: answers: expected an object of ids")
    answers = Answers()
    for vector_id, dtypes in vectors.items():
        if not isinstance(dtypes, dict) or not all(isinstance(keys, dict) for keys in dtypes.values()):
            raise UsageError(f"{path}: {shorten(vector_id, 120)}: expected {{DTYPE: {{KEY: entries}}}}")
        answers.name(path, vector_id, dtypes)
        for dtype, keys in dtypes.items():
            for key, value in keys.items():
                answers.add(path, vector_id, dtype, key, _value(value))
    return answers


def _value(value: Any) -> Loader:
    def load(shape: tuple[int, ...]) -> Array:
        entries = value if isinstance(value, list) else [value]
        count = math.prod(shape)
        if len(shape) > 1 and any(isinstance(entry, list) for entry in entries):
            entries = _flat(entries, shape)
        if len(entries) != count:
            raise Wrong(f"got {len(entries)} entries, want {count}: shape {shape}, flat in C order or nested")
        return np.array([_number(entry) for entry in entries], dtype=np.float64).reshape(shape)

    return load


def _flat(entries: Any, shape: tuple[int, ...]) -> list[Any]:
    """Nested lists as a flat one. Raises: Wrong."""
    if not isinstance(entries, list) or len(entries) != shape[0]:
        raise Wrong(f"got lists that are not nested as shape {shape} is")
    return list(entries) if len(shape) == 1 else [e for part in entries for e in _flat(part, shape[1:])]


def _number(entry: Any) -> float:
    if entry is None:
        return math.nan
    try:
        if isinstance(entry, str):
            text = entry.strip()
            if len(text) > 100:
                raise Wrong(f"got the entry {shorten(text, 40)!r}, want a number")
            return float.fromhex(text) if "0x" in text.lower() else float(text)
        if isinstance(entry, int | float) and not isinstance(entry, bool):
            return float(entry)
    except (ValueError, OverflowError) as error:
        raise Wrong(f"got the entry {shorten(str(entry), 40)!r}, want a number") from error
    raise Wrong(f"got an entry of type {type(entry).__name__}, want a number")
