"""Targets: from the text on the command line to something that answers problems.

name                     a built-in implementation
path/to/adapter.py[:f]   a file; f defaults to `gradients`; its folder is on sys.path while it is loaded
package.module[:f]       an importable module

Each runs in a worker of its own (conformance/workers.py), but for --in-process.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bptt.errors import ProblemError
from bptt.support import Support, read_support
from conformance.errors import ContractBroken, TargetCrash, TargetUnavailable, UsageError
from conformance.workers import Limits, Remote, Worker
from implementations import registry, worker
from implementations.worker import Message

ROOT = Path(__file__).resolve().parent.parent
"""Where our own packages are; a built-in target's worker finds them there."""


@dataclass(frozen=True)
class Target:
    """Something that answers problems. `name` is what the user typed, and what replays it.

    call  what an adapter's function is: problem in, dict out; a Remote where it runs in a worker
    """

    name: str
    kind: str
    support: Support
    call: Callable[[Any], Any]
    file: str | None
    sha256: str | None


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
    start = place_of(text)
    if setting.in_process:
        return _in_process(text, start)
    kind = start["target"]["kind"]
    interpreter = sys.executable if kind == "built-in" or setting.python is None else setting.python
    # -B: a worker leaves no compiled files in a user's folders
    process = Worker([interpreter, "-B", worker.__file__], start, setting.limits, text)
    try:
        reply = process.started()
    except (TargetCrash, ContractBroken) as error:
        said = [line for line in process.stderr.strip().splitlines() if line.strip()][-1:]
        more = f"; it printed: {said[0][:300]}" if said else ""
        raise UsageError(f"target {text!r}: its worker {error}{more}") from error
    return _started(text, kind, reply, Remote(process))


_KNOWN: dict[tuple[str, Setting], Target] = {}


def known(text: str, setting: Setting = DEFAULT) -> Target:
    """The target as it was loaded before, or now: its worker stays. Raises: as `resolve`."""
    if (text, setting) not in _KNOWN:
        _KNOWN[text, setting] = resolve(text, setting)
    return _KNOWN[text, setting]


def place_of(text: str) -> Message:
    """The request that starts a worker on a target. Raises: UsageError where the text names none."""
    if text in registry.BUILT_IN:
        return _start("built-in", text, "gradients", [str(ROOT)])
    place, _, function = text.rpartition(":") if _has_function(text) else (text, "", "")
    if place.endswith(".py"):
        return _start("path", place, function or "gradients", [])
    if "/" not in place and "." in place and all(part.isidentifier() for part in place.split(".")):
        return _start("module", place, function or "gradients", [str(Path.cwd())])
    available = registry.availability()
    names = ", ".join(name if reason is None else f"{name} (unavailable)" for name, reason in sorted(available.items()))
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
        return _in_process(target.name, place_of(target.name))
    try:
        target.call.process.reload()
        reply = target.call.process.started()
    except (TargetCrash, ContractBroken) as error:
        raise UsageError(f"target {target.name!r}: its worker {error}") from error
    return _started(target.name, target.kind, reply, target.call)


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
    if reply.get("type") != "started" or reply.get("version") != worker.PROTOCOL:
        call.process.close()
        raise UsageError(
            f"target {text!r}: its worker speaks version {reply.get('version')!r} of the protocol, "
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
    return Target(text, kind, support, call, _public(file), digest)


def _has_function(text: str) -> bool:
    head, colon, tail = text.rpartition(":")
    return bool(colon) and tail.isidentifier() and len(head) > 1


def _public(file: str | None) -> str | None:
    """A file's path relative to here or to its package's folder: a report shows nobody's home directory."""
    if file is None:
        return None
    path = Path(file).resolve()
    for base in (Path.cwd(), Path(__file__).resolve().parent.parent):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name
