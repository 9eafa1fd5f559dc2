"""A run that is told to end: Ctrl-C and SIGTERM alike raise KeyboardInterrupt, so that it can keep what it has.

An exception out of a signal's handler is lost where the signal comes amid a callback of the garbage collector or a
destructor. So the handler also takes a note, and whoever runs for long asks after each finding.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.certify import Planned, Progress


class Terminated(KeyboardInterrupt):
    """SIGTERM: a CI service that cancels a job, `timeout`, a shutdown."""


class Stop:
    """Whether the run was told to end."""

    def __init__(self) -> None:
        self.told: type[KeyboardInterrupt] | None = None

    def handle(self, number: int, _: object) -> None:
        """A signal's handler; the same signal again ends the process as it always did."""
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
        self.told = KeyboardInterrupt if number == signal.SIGINT else Terminated
        raise self.told

    def check(self) -> None:
        """Raise what was lost."""
        if self.told is not None:
            raise self.told


class Heedful:
    """A display that also asks, after each finding, whether the run was told to end."""

    def __init__(self, progress: Progress, stop: Stop) -> None:
        self.progress, self.stop = progress, stop

    def begin(self, planned: Sequence[Planned], done: int, jobs: int) -> None:
        self.progress.begin(planned, done, jobs)

    def finding(self, target: str, finding: Mapping[str, Any]) -> None:
        self.progress.finding(target, finding)
        self.stop.check()

    def end(self) -> None:
        self.progress.end()


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Within, SIGTERM raises Terminated; Ctrl-C KeyboardInterrupt, unless it is ignored, as in a shell's background."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield stop
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop.handle) for number in numbers}
    hook = sys.unraisablehook

    def quiet(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)

    sys.unraisablehook = quiet
    try:
        yield stop
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_of(error: BaseException | None) -> int:
    """The number of the signal behind a KeyboardInterrupt."""
    while error is not None:
        if isinstance(error, Terminated):
            return signal.SIGTERM
        error = error.__cause__ or error.__context__
    return signal.SIGINT


__all__ = ["Heedful", "Stop", "Terminated", "signal_of", "stoppable"]
