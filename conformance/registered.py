"""Implementations that a user registered: in [tool.bpttcheck.implementations] of a pyproject.toml, or as entry points.

    [tool.bpttcheck.implementations.my-kernel]
    target = "adapters/my_kernel.py"      # or: command = ["./build/my_worker"]
    python = ".venv/bin/python"           # the worker's Python; NumPy is all it needs
    timeout = 10                          # seconds a problem
    memory = "4 GiB"                      # resident, of all the worker's processes together
    expected-failures = [{property = "extremes", reason = "...", issue = "..."}]

The nearest pyproject.toml of the working directory and the folders above it counts; paths are relative to its folder.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.errors import UsageError
from conformance.workers import LONGEST
from implementations import registry
from properties import PROPERTIES

GROUP = "bpttcheck.implementations"
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
FIELDS = ("target", "command", "python", "timeout", "memory", "expected-failures")
LARGEST = 1 << 20
"""Bytes of a pyproject.toml."""


@dataclass(frozen=True)
class Expected:
    """A failure that is known: a property fails, in a cell and dtype or in all, for a reason."""

    property: str
    reason: str
    issue: str | None = None
    cell: str | None = None
    dtype: str | None = None

    def covers(self, finding: Mapping[str, Any]) -> bool:
        """Whether a finding is the one that is expected to fail."""
        return (
            finding["property"] == self.property
            and self.cell in (None, finding["cell"])
            and self.dtype in (None, finding["dtype"])
        )

    def __str__(self) -> str:
        where = "".join(f", {part}" for part in (self.cell, self.dtype) if part)
        return f"{self.property}{where}: {self.reason}" + (f" ({self.issue})" if self.issue else "")


@dataclass(frozen=True)
class Registered:
    """One registered implementation; what is None was not said."""

    name: str
    target: str | None = None
    command: tuple[str, ...] | None = None
    python: str | None = None
    seconds: float | None = None
    memory: int | None = None
    expected: tuple[Expected, ...] = ()


def registered() -> dict[str, Registered]:
    """All of them by name; a table comes before an entry point of its name. Raises: UsageError."""
    return _entry_points() | _tables()


def _entry_points() -> dict[str, Registered]:
    found = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        function = f":{point.attr}" if point.attr else ""
        found[point.name] = Registered(point.name, target=f"{point.module}{function}")
    return found


def project_file(folder: Path | None = None) -> Path | None:
    """The nearest pyproject.toml, from a folder (the working directory) upwards."""
    here = (folder or Path.cwd()).resolve()
    candidates = (place / "pyproject.toml" for place in (here, *here.parents))
    return next((path for path in candidates if path.is_file()), None)


def _tables() -> dict[str, Registered]:
    path = project_file()
    if path is None:
        return {}
    try:
        if path.stat().st_size > LARGEST:
            return {}
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8, which TOML is: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    ours = whole.get("tool", {})
    ours = ours.get("bpttcheck", {}) if isinstance(ours, dict) else {}
    tables = ours.get("implementations", {}) if isinstance(ours, dict) else None
    if not isinstance(tables, dict):
        raise UsageError(f"{path}: tool.bpttcheck.implementations is no table; expected one table an implementation")
    for name in tables:
        if name in registry.BUILT_IN:
            raise UsageError(f"{path}: {name}: the name of a built-in target; expected another one")
    return {name: _table(f"{path}: {name}", name, table, path.parent) for name, table in tables.items()}


def _table(where: str, name: str, table: Any, folder: Path) -> Registered:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: got {type(table).__name__}, expected a table with target or command")
    for field in table:
        if field not in FIELDS:
            raise UsageError(f"{where}: the field {field!r} is not known; expected some of {', '.join(FIELDS)}")
    target, command = table.get("target"), table.get("command")
    if (target is None) == (command is None):
        raise UsageError(f"{where}: expected a target or a command, one of them")
    if target is not None and not isinstance(target, str):
        raise UsageError(f"{where}: target: got {target!r}, expected a text such as 'adapters/mine.py'")
    if command is not None:
        if not (isinstance(command, list) and command and all(isinstance(word, str) for word in command)):
            raise UsageError(f"{where}: command: got {command!r}, expected a list of words such as ['./my_worker']")
        command = (_beside(command[0], folder), *command[1:])
    elif target is not None and target.partition(":")[0].endswith(".py"):
        target = _beside(target, folder)
    python = table.get("python")
    if python is not None and not isinstance(python, str):
        raise UsageError(f"{where}: python: got {python!r}, expected the path of an interpreter")
    return Registered(
        name,
        target,
        command,
        None if python is None else _beside(python, folder),
        _seconds(where, table.get("timeout")),
        _memory(where, table.get("memory")),
        tuple(_expected(where, one) for one in _list(where, table.get("expected-failures", []))),
    )


def _beside(text: str, folder: Path) -> str:
    """A path relative to the project's folder; a bare word is looked for on PATH."""
    return str(folder / text) if "/" in text or text.partition(":")[0].endswith(".py") else text


def _seconds(where: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST:
        raise UsageError(
            f"{where}: timeout: got {value!r}, expected a number of seconds above 0, at most {LONGEST:.0f}"
        )
    return float(value)


def _memory(where: str, value: Any) -> int | None:
    if value is None:
        return None
    parts = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) *([A-Za-z]+)", value) if isinstance(value, str) else None
    if parts is None or parts[2] not in UNITS or float(parts[1]) == 0:
        raise UsageError(f"{where}: memory: got {value!r}, expected a size such as '4 GiB'")
    return int(float(parts[1]) * UNITS[parts[2]])


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: expected-failures: got {value!r}, expected a list of tables")
    return value


def _expected(where: str, one: Any) -> Expected:
    known = ("property", "reason", "issue", "cell", "dtype")
    if not isinstance(one, dict) or not all(k in known and isinstance(v, str) for k, v in one.items()):
        raise UsageError(f"{where}: expected-failures: got {one!r}, expected texts under some of {', '.join(known)}")
    if one.get("property") not in PROPERTIES:
        raise UsageError(
            f"{where}: expected-failures: property {one.get('property')!r} is not known; "
            f"expected one of {', '.join(PROPERTIES)}"
        )
    if not one.get("reason", "").strip():
        raise UsageError(f"{where}: expected-failures: {one['property']}: a reason is missing")
    return Expected(one["property"], one["reason"], one.get("issue"), one.get("cell"), one.get("dtype"))
