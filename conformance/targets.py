"""Targets: from the text on the command line to something that answers problems.

name                     a built-in implementation
path/to/adapter.py[:f]   a file; f defaults to `gradients`; its folder is on sys.path while it is loaded
package.module[:f]       an importable module
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bptt.errors import ProblemError
from bptt.support import Support, read_support
from conformance.errors import TargetUnavailable, UsageError, describe
from implementations import registry


@dataclass(frozen=True)
class Target:
    """Something that answers problems. `name` is what the user typed, and what replays it."""

    name: str
    kind: str
    support: Support
    call: Callable[[Any], Any]
    file: str | None
    sha256: str | None


def resolve(text: str) -> Target:
    """Load a target.

    Raises: UsageError, naming what was wrong and what would be right; TargetUnavailable with the reason.
    """
    if text in registry.BUILT_IN:
        try:
            module = registry.load(text)
        except registry.Unavailable as error:
            raise TargetUnavailable(str(error)) from error
        return _target(text, "built-in", module, "gradients")
    place, _, function = text.rpartition(":") if _has_function(text) else (text, "", "")
    if place.endswith(".py"):
        return _target(text, "path", _from_file(text, Path(place)), function or "gradients")
    if "/" not in place and "." in place and all(part.isidentifier() for part in place.split(".")):
        return _target(text, "module", _from_module(text, place), function or "gradients")
    available = registry.availability()
    names = ", ".join(name if reason is None else f"{name} (unavailable)" for name, reason in sorted(available.items()))
    raise UsageError(
        f"target {text!r} is not known; expected one of {names}, "
        "or path/to/adapter.py[:function], or package.module[:function]"
    )


def afresh(target: Target) -> Target:
    """The same target without its memory: an adapter's file is executed again, under a module of its own.

    Raises: UsageError, where it no longer loads.
    """
    if target.kind != "path":
        return target
    place = Path(target.name.rpartition(":")[0] if _has_function(target.name) else target.name)
    name = _module_name(place)
    known = sys.modules.pop(name, None)
    try:
        return resolve(target.name)
    finally:
        if known is not None:
            sys.modules[name] = known


def _module_name(path: Path) -> str:
    return "bpttcheck_target_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]


def _has_function(text: str) -> bool:
    head, colon, tail = text.rpartition(":")
    return bool(colon) and tail.isidentifier() and len(head) > 1


def _from_file(text: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(
            f"target {text!r}: there is no file {path}; expected an adapter, path/to/adapter.py[:function]"
        )
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"target {text!r}: {path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _on_path(path.resolve().parent):
        try:
            spec.loader.exec_module(module)
        except BaseException as error:  # an adapter may raise anything, SystemExit too
            del sys.modules[name]
            if isinstance(error, KeyboardInterrupt):
                raise
            raise UsageError(
                f"target {text!r}: loading {path} raised {describe(error)}; expected it to import"
            ) from error
    return module


def _from_module(text: str, name: str) -> ModuleType:
    try:
        with _on_path(Path.cwd()):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(
                f"target {text!r}: there is no module {error.name}; expected package.module[:function]"
            ) from error
        raise UsageError(
            f"target {text!r}: importing {name} raised {describe(error)}; expected it to import"
        ) from error
    except BaseException as error:  # an adapter may raise anything, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UsageError(
            f"target {text!r}: importing {name} raised {describe(error)}; expected it to import"
        ) from error


@contextmanager
def _on_path(folder: Path) -> Any:
    """A folder last on sys.path, so that it shadows nothing, for as long as an adapter is loaded."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _target(text: str, kind: str, module: ModuleType, function: str) -> Target:
    try:
        call = getattr(module, function, None)
        declared = getattr(call, "SUPPORTS", getattr(module, "SUPPORTS", None))
        support = read_support(declared)
    except ProblemError as error:
        raise UsageError(f"target {text!r}: {error}") from error
    except Exception as error:  # a module or its SUPPORTS may be anything
        raise UsageError(f"target {text!r}: reading it raised {describe(error)}; expected an adapter") from error
    if not callable(call):
        offered = [
            n for n, v in vars(module).items() if callable(v) and not n.startswith("_") and not isinstance(v, type)
        ]
        there = f"; it has {', '.join(sorted(offered)[:8])}" if offered else ""
        raise UsageError(
            f"target {text!r}: no function {function!r} in it, so it is no adapter; expected gradients(problem){there}"
        )
    file = getattr(module, "__file__", None)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return Target(text, kind, support, call, _public(file), digest)


def _public(file: str | None) -> str | None:
    """A file's path relative to here or to its package's folder: a report shows nobody's home directory."""
    if file is None:
        return None
    path = Path(file).resolve()
    for base in (Path.cwd(), Path(__file__).resolve().parent.parent):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name
