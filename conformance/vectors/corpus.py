"""Reads a corpus that an export wrote, as hostile input: its index against the schema, each file against its digest."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from jsonschema.exceptions import best_match  # type: ignore[import-untyped, unused-ignore]
from safetensors import SafetensorError
from safetensors.numpy import load

from bptt.errors import FileError
from bptt.files import load_problem
from bptt.problem import Array, Problem
from conformance.errors import UsageError
from conformance.folders import obstacle
from conformance.render.terminal import shorten
from conformance.vectors.export import SCHEMA
from conformance.vectors.strict import parse, read_bytes

MOST_INDEX = 16 << 20
MOST_FILE = 16 << 20
KINDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "near": ("float64", ()),
    "rest": ("float64", ()),
    "sign": ("int8", ()),
    "mantissa": ("uint64", (2,)),
    "exponent": ("int32", ()),
}
"""What a results file has of each array beside its budgets: dtype, and the axes beyond the array's own."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A folder with an index that is what its schema says; `vectors` are its entries by id."""

    folder: Path
    index: dict[str, Any]
    vectors: dict[str, dict[str, Any]]

    def results(self, vector_id: str) -> dict[str, Array]:
        """Every array of a vector's results, checked. Raises: UsageError."""
        entry = self.vectors[vector_id]
        path, data = self._bytes(entry, "result")
        try:
            arrays: dict[str, Array] = load(data)
        except (SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise UsageError(f"{path}: no safetensors file ({shorten(str(error), 200)})") from error
        wanted = {
            f"{key}.{name}": (dtype, (*shape, *more))
            for key, shape in entry["arrays"].items()
            for name, (dtype, more) in KINDS.items()
        }
        for key, shape in entry["arrays"].items():
            wanted |= {f"{key}.budget.{dtype}": ("float64", tuple(shape)) for dtype in entry["dtypes"]}
        for name in sorted(set(wanted) ^ set(arrays)):
            raise UsageError(f"{path}: {'lacks' if name in wanted else 'has the unknown'} {shorten(name, 80)}")
        for name, (dtype, shape) in wanted.items():
            if (arrays[name].dtype, arrays[name].shape) != (np.dtype(dtype), shape):
                got = f"{arrays[name].dtype} {arrays[name].shape}"
                raise UsageError(f"{path}: {name} is {got}, expected {dtype} {shape}")
        return arrays

    def problem(self, vector_id: str) -> Problem:
        """A vector's problem. Raises: UsageError."""
        path, _ = self._bytes(self.vectors[vector_id], "problem")
        try:
            return load_problem(path)
        except FileError as error:
            raise UsageError(str(error)) from error

    def _bytes(self, entry: dict[str, Any], name: str) -> tuple[Path, bytes]:
        path = self.folder / f"{name}s" / f"{entry['id']}.safetensors"
        data = read_bytes(path, MOST_FILE)
        if hashlib.sha256(data).hexdigest() != entry[name]["sha256"]:
            raise UsageError(f"{path}: not the file that the index was written with; export the vectors again")
        return path, data


def read_corpus(folder: Path) -> Corpus:
    """The corpus in a folder. Raises: UsageError, one line that names the file, the place and what was expected."""
    path = folder / "index.json"
    if not path.is_file():
        if (what := obstacle(folder)) is not None:
            raise UsageError(f"--vectors {folder}: {what}; expected a folder that `bpttcheck vectors export` wrote")
        raise UsageError(f"{path}: there is no such file; `bpttcheck vectors export --out {folder}` writes a corpus")
    index = parse(path, read_bytes(path, MOST_INDEX))
    wrong = next(_validator().iter_errors(index), None)
    if wrong is not None:
        error = best_match(iter([wrong]))
        place = shorten(error.json_path.removeprefix("$").removeprefix("."), 80)
        raise UsageError(f"{path}: {place}{': ' if place else ''}{shorten(error.message, 200)}")
    vectors = {entry["id"]: entry for entry in index["vectors"]}
    if len(vectors) != len(index["vectors"]):
        raise UsageError(f"{path}: an id stands twice")
    for entry in vectors.values():
        for name in sorted(set(entry["flags"]) - set(index["flags"])):
            raise UsageError(f"{path}: {entry['id']}: the flag {name} is not explained")
        if set(entry["inconclusive"]) != set(entry["dtypes"]) or not set(entry["exact"]) <= set(entry["dtypes"]):
            raise UsageError(f"{path}: {entry['id']}: exact or inconclusive names other dtypes than its own")
    return Corpus(folder, index, vectors)


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
