"""A run that is told to end: Ctrl-C, SIGTERM and SIGHUP alike raise KeyboardInterrupt, so that it can keep what it has.

An exception out of a signal's handler is lost where the signal comes amid a callback of the garbage collector or a
destructor, and becomes another one where a library on its way out trips over what it left half done. So the handler
also takes a note, and whoever runs for long asks: before each case, and before what was found is kept.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM: a CI service that cancels a job, `timeout`, a shutdown."""

    number = int(signal.SIGTERM)


class HungUp(Terminated):
    """SIGHUP: the terminal was closed."""

    number = 1


_NOBODYS = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGIO")
NOBODYS = [getattr(signal, name) for name in _NOBODYS if hasattr(signal, name)]
"""Signals that nothing of ours sends, and that would end a process: a target may send them to its parent."""


class Stop:
    """Whether the run was told to end."""

    def __init__(self) -> None:
        self.told: type[KeyboardInterrupt] | None = None

    def handle(self, number: int, _: object) -> None:
        """A signal's handler; the same signal again ends the process as it always did."""
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
        self.told = KeyboardInterrupt if number == signal.SIGINT else Terminated
        if number not in (signal.SIGINT, signal.SIGTERM):
            self.told = HungUp
        raise self.told

    def check(self) -> None:
        """Raise what may have been lost."""
        if self.told is not None:
            raise self.told


STOP = Stop()
"""This process's: signals are the process's own."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM raises Terminated; Ctrl-C KeyboardInterrupt, unless it is ignored, as in a shell's background."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield
        return
    STOP.told = None
    numbers = [signal.SIGTERM]
    if hangs_up():
        numbers.append(signal.SIGHUP)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, STOP.handle) for number in numbers} | deaf()
    hook = sys.unraisablehook

    def quiet(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)

    sys.unraisablehook = quiet
    try:
        yield
    finally:
        STOP.told = None
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def hangs_up() -> bool:
    """Whether SIGHUP would end this process; nohup has it ignored."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def deaf() -> dict[signal.Signals, Any]:
    """Let NOBODYS signals pass, and say what was done about them before.

    By a handler, not by ignoring them: who is ignored stays so in the processes that are started.
    """
    return {number: signal.signal(number, _pass) for number in NOBODYS}


def _pass(*_: object) -> None:
    pass


def signal_of(error: BaseException | None) -> int:
    """The number of the signal behind a KeyboardInterrupt."""
    while error is not None:
        if isinstance(error, Terminated):
            return error.number
        error = error.__cause__ or error.__context__
    return signal.SIGINT


__all__ = ["STOP", "HungUp", "Stop", "Terminated", "deaf", "hangs_up", "signal_of", "stoppable"]
