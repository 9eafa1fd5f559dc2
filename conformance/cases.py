"""Saved cases: problem files that also say which property they are for, with which parameters, and what comes first."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bptt.errors import FileError
from bptt.files import load_case, load_problem
from bptt.problem import Problem
from conformance.errors import UsageError
from conformance.folders import no_folder
from properties import PROPERTIES
from properties.base import Case

MOST_FILES = 10_000


@dataclass(frozen=True)
class Saved:
    """A case of a file, the property that it is for, and the problem to be asked first, if any."""

    path: Path
    property: str
    case: Case
    companion: Problem | None = None


def read_case(path: Path) -> Saved:
    """Read a case file, or any problem file as a case of oracle-agreement. Raises: UsageError."""
    try:
        problem, extra = load_case(path)
    except FileError as error:
        raise UsageError(str(error)) from error
    property_id = extra.get("property", "oracle-agreement")
    parameters = extra.get("parameters", {})
    if property_id not in PROPERTIES:
        raise UsageError(
            f"{path}: property {str(property_id)[:80]!r} is not known; expected one of {', '.join(PROPERTIES)}"
        )
    valid = isinstance(parameters, dict) and all(
        isinstance(k, str) and isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 31
        for k, v in parameters.items()
    )
    if not valid:
        raise UsageError(f"{path}: its parameters are {str(parameters)[:80]!r}; expected names with integers from 0")
    return Saved(path, property_id, Case(problem, parameters), _companion(path, extra))


def _companion(path: Path, extra: dict[str, Any]) -> Problem | None:
    """The problem to be asked first, from the file beside the case that it names. Raises: UsageError."""
    after = extra.get("after")
    if after is None:
        return None
    if not (isinstance(after, str) and re.fullmatch(r"[0-9a-f]{12}\.safetensors", after)):
        raise UsageError(f"{path}: its companion is {str(after)[:80]!r}; expected the name of a case file beside it")
    try:
        return load_problem(path.parent / after)
    except FileError as error:
        raise UsageError(str(error)) from error


@functools.lru_cache(maxsize=4)
def read_folder(folder: Path) -> Sequence[Saved]:
    """All cases of a folder, in the order of their names. Raises: UsageError, for the first file that is none."""
    if not folder.is_dir():
        raise UsageError(f"--cases {folder}: {no_folder(folder)}; expected a folder with case files (.safetensors)")
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise UsageError(f"--cases {folder}: no case file in it; expected files that `bpttcheck explore` wrote")
    if len(paths) > MOST_FILES:
        raise UsageError(f"--cases {folder}: {len(paths)} case files, expected at most {MOST_FILES}")
    return [read_case(path) for path in paths]


__all__ = ["Saved", "read_case", "read_folder"]
