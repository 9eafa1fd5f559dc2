"""Workers seen from here: a process that is asked, watched, ended where it misbehaves, and started again.

Whatever comes out of a worker is hostile until checked: lengths are bounded before anything is read, and nothing is
unpickled. A worker and all it starts run in a session of their own, which ends with it.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing.util
import os
import secrets
import selectors
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil

from bptt.files import header_of
from bptt.problem import Problem, gradient_shapes
from conformance.errors import ContractBroken, TargetCrash, TargetStarved, TargetTimeout
from conformance.render.terminal import shorten
from implementations import worker
from implementations.worker import Arrays, Malformed, Message

MARK = "BPTTCHECK_WORKER"
"""The variable that marks a worker and all that it starts, so that none of it is left behind."""
TAIL = 8 << 10
"""Bytes of standard error that are kept."""
WATCH = 0.1
"""Seconds between looks at a worker's memory, while it is waited for."""
GRACE = 2.0
"""Seconds that a worker has to end after it was told to, or after it closed its output."""
LONGEST = 24 * 3600.0
"""Seconds that a problem may be given at most."""


@dataclass(frozen=True)
class Limits:
    """What a worker may take for one problem: seconds, and bytes of resident memory of all its processes together."""

    seconds: float = 60.0
    memory: int = 4 << 30
    start: float = 120.0
    """Seconds for loading a target, or those for a problem where they are more."""

    @property
    def loading(self) -> float:
        """Seconds until a target must be loaded."""
        return max(self.seconds, self.start)


class Worker:
    """One worker process, started when it is first asked and again when it was ended."""

    def __init__(self, command: Sequence[str], start: Message, limits: Limits) -> None:
        self.command, self.limits = list(command), limits
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._stderr = bytearray()
        self._seq = 0
        self._started: Message | None = None
        OPEN.append(self)

    @property
    def stderr(self) -> str:
        """The end of what the target printed, in printable characters."""
        return self._stderr.decode("utf-8", "backslashreplace")

    def started(self) -> Message:
        """What it answered to start. Raises: TargetCrash, TargetTimeout, ContractBroken."""
        if self._process is None:
            self._launch()
        assert self._started is not None
        return self._started

    def reload(self) -> None:
        """Have the adapter loaded anew, without its memory; in the same process where there is one."""
        if self._process is not None:
            self._started = self._exchange(self._start, {}, 1 << 20, self.limits.loading)

    def ask(self, message: Message, arrays: Arrays, most: int = 1 << 20) -> tuple[Message, Arrays]:
        """The answer to a request, of at most so many bytes. Raises: TargetCrash, TargetTimeout, ContractBroken."""
        if self._process is None:
            self._launch()
        reply = self._exchange(message, arrays, most, self.limits.seconds)
        return reply, self._arrays

    def close(self) -> None:
        """End the process and all it has started. What interrupts this may call it again."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()  # a worker ends when its input does
        family = _family(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0 if self._failed else 0.2)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for relative in family:
            with contextlib.suppress(psutil.Error):
                relative.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        for stray in _marked(self._mark):
            with contextlib.suppress(psutil.Error):
                stray.kill()
        self._process = None

    # ---- inside ------------------------------------------------------------------------------------------------------

    _failed, _mark = False, ""
    _arrays: Arrays = {}  # noqa: RUF012 - replaced, never changed

    def _launch(self) -> None:
        self._buffer.clear()
        self._stderr.clear()
        self._failed, self._mark = False, secrets.token_hex(8)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own words, no shell
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env=os.environ | {MARK: self._mark, "PYTHONSAFEPATH": "1"},
            )
        except (OSError, ValueError) as error:
            raise TargetCrash(f"cannot be started: {self.command[0]}: {error}") from error
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._started = self._exchange(self._start, {}, 1 << 20, self.limits.loading)

    def _exchange(self, message: Message, arrays: Arrays, most: int, seconds: float) -> Message:
        """Send a request and read its answer; whatever goes wrong ends the process."""
        self._seq += 1
        frame = worker.encode({**message, "seq": self._seq}, arrays)
        try:
            reply, self._arrays = worker.decode(self._talk(frame, most, seconds))
        except Malformed as error:
            self._end()
            raise ContractBroken(f"answer: {error}; want one frame of the protocol") from error
        except BaseException:
            self._end()
            raise
        if reply.get("seq") != self._seq:
            self._end()
            got = shorten(repr(reply.get("seq")), 80)
            raise ContractBroken(
                f"answer: got that to request {got}, want that to {self._seq}; "
                "each request has one answer, from one process: one that the target forked must not answer too"
            )
        return reply

    def _end(self) -> None:
        self._failed = True
        self.close()

    def _talk(self, frame: bytes, most: int, seconds: float) -> bytes:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        assert process.stderr is not None
        last = looked = time.monotonic()
        waited, sent, need = 0.0, 0, None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while need is None or len(self._buffer) < need:
                now = time.monotonic()
                waited += min(now - last, 2 * WATCH)  # what is longer is not waiting: this process was stopped itself
                last = now
                if waited > seconds:
                    raise TargetTimeout(f"no answer within {seconds:g} s", self.stderr)
                for key, _ in selector.select(min(WATCH, seconds)):
                    if key.fileobj is process.stdin:
                        sent = self._write(selector, frame, sent)
                    elif key.fileobj is process.stderr:
                        self._read_stderr(selector)
                    else:
                        part = process.stdout.read(1 << 20)
                        if not part:
                            raise self._ended()
                        self._buffer += part
                if need is None and len(self._buffer) >= 8:
                    (size,) = struct.unpack_from("<Q", self._buffer)
                    if size > most:
                        raise Malformed(f"its length is given as {size} bytes, expected at most {most}")
                    need = 8 + size
                if time.monotonic() - looked > WATCH:
                    looked = time.monotonic()
                    self._watch_memory()
        body = bytes(self._buffer[8:need])
        del self._buffer[:need]
        return body

    def _write(self, selector: selectors.BaseSelector, frame: bytes, sent: int) -> int:
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            sent += os.write(process.stdin.fileno(), memoryview(frame)[sent : sent + (1 << 16)])
        except BlockingIOError:
            return sent
        except OSError:  # nobody reads; what became of it shows on its output
            sent = len(frame)
        if sent == len(frame):
            selector.unregister(process.stdin)
        return sent

    def _read_stderr(self, selector: selectors.BaseSelector) -> None:
        process = self._process
        assert process is not None and process.stderr is not None
        part = process.stderr.read(1 << 16)
        if part:
            self._stderr += part
            del self._stderr[:-TAIL]
        elif part is not None:
            selector.unregister(process.stderr)

    def _ended(self) -> TargetCrash:
        """What to say of a process that closed its output."""
        process = self._process
        assert process is not None and process.stderr is not None
        try:
            status = process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return TargetCrash("closed its end of the pipe and ran on", self.stderr)
        with contextlib.suppress(OSError):
            self._stderr += process.stderr.read(TAIL) or b""
        if status >= 0:
            return TargetCrash(f"ended its process with status {status}", self.stderr)
        name = signal.Signals(-status).name if -status in signal.valid_signals() else f"signal {-status}"
        return TargetCrash(f"its process was ended by {name}", self.stderr)

    def _watch_memory(self) -> None:
        process = self._process
        assert process is not None
        used = 0
        for one in [*_family(process.pid), *_itself(process.pid)]:
            with contextlib.suppress(psutil.Error):
                used += one.memory_info().rss
        if used > self.limits.memory:
            raise TargetStarved(
                f"took {_size(used)} of memory, expected at most {_size(self.limits.memory)}", self.stderr
            )


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"


def _itself(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid)]
    except psutil.Error:
        return []


def _family(pid: int) -> list[psutil.Process]:
    """All that a process has started, and what these have."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found


def _marked(mark: str) -> list[psutil.Process]:
    """The processes whose environment has the mark: those that left their family too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


OPEN: list[Worker] = []


def close_all() -> None:
    """End every worker of this process."""
    while OPEN:
        OPEN[-1].close()
        OPEN.pop()


multiprocessing.util.Finalize(None, close_all, exitpriority=10)  # a process of a pool has no other exit


# ---- what a bench asks -----------------------------------------------------------------------------------------------


class Local:
    """An adapter's function in this very process, behind the requests that a worker answers."""

    def __init__(self, call: Any) -> None:
        self._servant = worker.Servant(worker.Loaded(call, None, None))

    def ask(self, message: Message, arrays: Arrays, most: int = 0) -> tuple[Message, Arrays]:
        """The answer to a request."""
        del most
        return self._servant.answer({**message, "seq": 0}, arrays)


class Remote:
    """An adapter's function in a worker; called, it takes and gives what the function does."""

    def __init__(self, process: Worker) -> None:
        self.process = process

    def ask(self, message: Message, arrays: Arrays, most: int = 1 << 20) -> tuple[Message, Arrays]:
        """The answer to a request. Raises: TargetCrash, TargetTimeout, ContractBroken."""
        reply, out = self.process.ask(message, arrays, most)
        return reply, worker.off_the_wire(out)

    def __call__(self, seen: SimpleNamespace) -> dict[str, np.ndarray]:
        """What the adapter returns for a problem as it sees it: every array, whatever its shape.

        Raises: NotImplementedError, TargetCrash, TargetTimeout, ContractBroken.
        """
        header, arrays = taken_apart(seen)
        reply, out = self.ask({"type": "gradients", "problem": header, "shapes": None}, arrays, worker.MOST)
        if reply.get("type") == "answer":
            return out
        reason = str(reply.get("reason"))
        if reply.get("type") == "unsupported":
            raise NotImplementedError(reason.removeprefix("NotImplementedError: "))
        raise (ContractBroken if reply.get("type") == "broken" else TargetCrash)(reason)


def request_for(problem: Problem, layout: str = "plain", *, hold: bool = False) -> tuple[Message, Arrays, int]:
    """A request for a problem's gradients, its arrays, and how many bytes an answer may have."""
    shapes = gradient_shapes(problem)
    message = {
        "type": "gradients",
        "problem": header_of(problem),
        "shapes": {key: list(shape) for key, shape in shapes.items()},
        "layout": layout,
        "hold": hold,
    }
    most = (1 << 16) + sum(16 * math.prod(shape) + 512 for shape in shapes.values())
    return message, dict(problem.arrays()), most


def taken_apart(seen: SimpleNamespace) -> tuple[Message, Arrays]:
    """The names and arrays of a problem as an adapter sees it: the reverse of `worker.as_seen`."""
    fields, loss = vars(seen), vars(seen.loss)
    arrays = {f"params.{name}": array for name, array in seen.params.items()}
    arrays |= {name: fields[name] for name in ("x", "h0", "c0", "lengths") if fields[name] is not None}
    arrays |= {f"loss.{name}": value for name, value in loss.items() if isinstance(value, np.ndarray)}
    header = {name: fields[name] for name in ("cell", "activation", "readout", "dtype")}
    header["loss"] = {name: loss[name] for name in ("kind", "scale", "time_reduction", "batch_reduction")}
    header["truncation"] = vars(seen.truncation)
    return header, arrays


def malformed(problem: Problem, fault: str) -> tuple[Message, Arrays]:
    """A request with one of the FAULTS, of a kind that no careful target reads memory for that is not there."""
    message, arrays, _ = request_for(problem)
    header: dict[str, Any] = message["problem"]
    if fault == "an unknown cell":
        header["cell"] = "no such cell"
    elif fault == "an unknown loss":
        header["loss"]["kind"] = "no such loss"
    elif fault == "no parameters":
        arrays = {name: array for name, array in arrays.items() if not name.startswith("params.")}
    else:
        arrays |= {
            name: np.concatenate([arrays[name], arrays[name][-1:]])
            for name in ("loss.g", "loss.target")
            if name in arrays
        }
    return message, arrays


def as_seen(problem: Problem, layout: str = "plain") -> SimpleNamespace:
    """The problem as an adapter sees it."""
    return worker.as_seen(header_of(problem), dict(problem.arrays()), layout)
