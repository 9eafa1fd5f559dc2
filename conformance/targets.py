"""Targets: from the text on the command line to something that answers problems.

name                     a built-in implementation
path/to/adapter.py[:f]   a file; f defaults to `gradients`; its folder is on sys.path while it is loaded
package.module[:f]       an importable module
a registered name        an entry point, or a table of the user's pyproject.toml (conformance/registered.py)

Each runs in a worker of its own (conformance/workers.py), but for --in-process.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bptt.errors import ProblemError
from bptt.support import Support, read_support
from conformance.errors import ContractBroken, TargetCrash, TargetUnavailable, UsageError
from conformance.registered import Expected, Registered, registered
from conformance.render.terminal import shorten
from conformance.workers import Limits, Remote, Worker
from implementations import registry, worker
from implementations.worker import Message

ROOT = Path(__file__).resolve().parent.parent
"""Where our own packages are; a built-in target's worker finds them there."""


@dataclass(frozen=True)
class Target:
    """Something that answers problems. `name` is what the user typed, and what replays it.

    place     where its function is found: its name, or what is registered under that; of a command nowhere
    call      what an adapter's function is: problem in, dict out; a Remote where it runs in a worker
    expected  failures that its author knows of
    """

    name: str
    kind: str
    support: Support
    call: Callable[[Any], Any]
    file: str | None
    sha256: str | None
    expected: tuple[Expected, ...] = ()
    place: str = ""


@dataclass(frozen=True)
class Setting:
    """How targets are run: in workers or in this process, under which Python, within which limits."""

    in_process: bool = False
    python: str | None = None
    limits: Limits = field(default_factory=Limits)


DEFAULT = Setting()


def resolve(text: str, setting: Setting = DEFAULT) -> Target:
    """Load a target.

    Raises: UsageError, naming what was wrong and what would be right; TargetUnavailable with the reason.
    """
    one = registered().get(text)  # asked for built-in names, too: a table that takes one is an error
    if text not in registry.BUILT_IN and one is not None:
        return _registered(one, setting)
    start = place_of(text)
    if setting.in_process:
        return _in_process(text, start)
    kind = start["target"]["kind"]
    interpreter = sys.executable if kind == "built-in" or setting.python is None else setting.python
    # -B: a worker leaves no compiled files in a user's folders
    process = Worker([interpreter, "-B", worker.__file__], start, setting.limits)
    reply = _first(text, process, None if interpreter == sys.executable else interpreter)
    return _started(text, kind, reply, Remote(process))


def _registered(one: Registered, setting: Setting) -> Target:
    """A registered target; what its table says comes before what the command line says of all."""
    limits = setting.limits
    if one.seconds is not None:
        limits = replace(limits, seconds=one.seconds)
    if one.memory is not None:
        limits = replace(limits, memory=one.memory)
    if one.command is None:
        assert one.target is not None
        setting = replace(setting, python=one.python or setting.python, limits=limits)
        if one.target in registered() or one.target in registry.BUILT_IN:
            raise UsageError(f"target {one.name!r}: its target {one.target!r} is a name, expected a file or a module")
        try:
            return replace(resolve(one.target, setting), name=one.name, expected=one.expected)
        except UsageError as error:
            raise UsageError(f"registered as {one.name!r}: {error}") from error
    if setting.in_process:
        raise UsageError(f"target {one.name!r} is a command, expected no --in-process with it")
    start = {"type": "start", "version": worker.PROTOCOL, "target": None}
    process = Worker(one.command, start, limits)
    target = _started(one.name, "command", _first(one.name, process), Remote(process))
    file = shutil.which(one.command[0])
    digest = None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return replace(target, file=_public(file), sha256=digest, expected=one.expected, place="")


def _first(text: str, process: Worker, interpreter: str | None = None) -> Message:
    """A worker's answer to start. Raises: UsageError with the last line that it printed, and what may be at fault."""
    try:
        return process.started()
    except (TargetCrash, ContractBroken) as error:
        said = [line for line in process.stderr.strip().splitlines() if line.strip()][-1:]
        more = f"; it printed: {said[0][:300]}" if said else ""
        if interpreter is not None:
            more += f"; it runs under {interpreter!r}, expected a Python interpreter that has NumPy"
        raise UsageError(f"target {text!r}: its worker did not start: {error}{more}") from error


_KNOWN: dict[tuple[str, Setting], Target] = {}


def known(text: str, setting: Setting = DEFAULT) -> Target:
    """The target as it was loaded before, or now: its worker stays. Raises: as `resolve`."""
    if (text, setting) not in _KNOWN:
        _KNOWN[text, setting] = resolve(text, setting)
    return _KNOWN[text, setting]


def forget() -> None:
    """End the workers of known targets; they are loaded again when they are asked for."""
    for target in _KNOWN.values():
        if isinstance(target.call, Remote):
            target.call.process.close()
    _KNOWN.clear()


def place_of(text: str) -> Message:
    """The request that starts a worker on a target. Raises: UsageError where the text names none."""
    if text in registry.BUILT_IN:
        return _start("built-in", text, "gradients", [str(ROOT)])
    place, _, function = text.rpartition(":") if _has_function(text) else (text, "", "")
    if text.endswith(":"):
        raise UsageError(f"target {text!r}: expected the name of a function after the colon")
    if place.endswith(".py"):
        return _start("path", place, function or "gradients", [])
    if "/" not in place and "." in place and all(part.isidentifier() for part in place.split(".")):
        return _start("module", place, function or "gradients", [str(Path.cwd())])
    available = registry.availability()
    mine = dict.fromkeys(registered())
    names = ", ".join(
        name if reason is None else f"{name} (unavailable)" for name, reason in sorted((available | mine).items())
    )
    raise UsageError(
        f"target {text!r} is not known; expected one of {names}, "
        "or path/to/adapter.py[:function], or package.module[:function]"
    )


def _start(kind: str, place: str, function: str, folders: list[str]) -> Message:
    target = {"kind": kind, "place": place, "function": function, "folders": folders}
    return {"type": "start", "version": worker.PROTOCOL, "target": target}


def afresh(target: Target) -> Target:
    """The same target without its memory: an adapter's file is executed again.

    Raises: UsageError, where it no longer loads.
    """
    if target.kind != "path":
        return target
    if not isinstance(target.call, Remote):
        again = _in_process(target.place, place_of(target.place))
        return replace(again, name=target.name, expected=target.expected)
    try:
        target.call.process.reload()
        reply = target.call.process.started()
    except (TargetCrash, ContractBroken) as error:
        raise UsageError(f"target {target.name!r}: its worker did not start again: {error}") from error
    again = _started(target.name, target.kind, reply, target.call)
    return replace(again, expected=target.expected, place=target.place)


def _in_process(text: str, start: Message) -> Target:
    place = start["target"]
    try:
        loaded = worker.load(place["kind"], place["place"], place["function"], place["folders"])
    except worker.NotLoaded as error:
        raise _not_loaded(text, error.kind, str(error)) from error
    return _target(text, place["kind"], loaded.supports, loaded.call, loaded.file)


def _started(text: str, kind: str, reply: Message, call: Remote) -> Target:
    if reply.get("type") == "failed":
        call.process.close()
        raise _not_loaded(text, str(reply.get("kind")), str(reply.get("reason"))[:1000])
    if reply.get("type") != "started":
        call.process.close()
        said = shorten(repr(reply.get("type")), 80)
        raise UsageError(
            f"target {text!r}: its worker answered start with a message of type {said}, expected 'started'"
        )
    if reply.get("version") != worker.PROTOCOL:
        call.process.close()
        raise UsageError(
            f"target {text!r}: its worker speaks version {shorten(repr(reply.get('version')), 80)} of the protocol, "
            f"expected {worker.PROTOCOL}"
        )
    file = reply.get("file")
    return _target(text, kind, reply.get("supports"), call, file if isinstance(file, str) else None)


def _not_loaded(text: str, kind: str, reason: str) -> Exception:
    if kind == "unavailable":
        return TargetUnavailable(reason)
    return UsageError(f"target {text!r}: {reason}")


def _target(text: str, kind: str, declared: Any, call: Callable[[Any], Any], file: str | None) -> Target:
    try:
        support = read_support(declared)
    except ProblemError as error:
        raise UsageError(f"target {text!r}: {error}") from error
    except Exception as error:  # SUPPORTS may be anything
        raise UsageError(f"target {text!r}: reading it raised {worker.describe(error)}; expected an adapter") from error
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None
    return Target(text, kind, support, call, _public(file), digest, place=text)


def _has_function(text: str) -> bool:
    head, colon, tail = text.rpartition(":")
    return bool(colon) and tail.isidentifier() and len(head) > 1


def compiled(target: Target) -> dict[str, str]:
    """The compiled objects that a target's worker has loaded so far: name and SHA-256."""
    if not isinstance(target.call, Remote) or target.kind == "command":
        return {}
    try:
        reply, _ = target.call.ask({"type": "compiled"}, {})
    except (TargetCrash, ContractBroken):
        return {}
    files = reply.get("files")
    found = {}
    for file in files if isinstance(files, list) else ():
        if isinstance(file, str) and Path(file).is_file():
            found[_public(file) or ""] = _digest(file, Path(file).stat().st_mtime_ns)
    return found


@functools.cache
def _digest(file: str, changed: int) -> str:  # noqa: ARG001 - a changed file is another one
    with Path(file).open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _public(file: str | None) -> str | None:
    """A file's path relative to here or to its package's folder: a report shows nobody's home directory."""
    if file is None:
        return None
    path = Path(file).resolve()
    for base in (Path.cwd(), Path(__file__).resolve().parent.parent):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name
