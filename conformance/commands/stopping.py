"""A run that is told to end: Ctrl-C and SIGTERM alike raise KeyboardInterrupt, so that it can keep what it has."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM: a CI service that cancels a job, `timeout`, a shutdown."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM raises Terminated; a second one ends the process as it always did."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield
        return

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def signal_of(error: BaseException | None) -> int:
    """The number of the signal behind a KeyboardInterrupt."""
    while error is not None:
        if isinstance(error, Terminated):
            return signal.SIGTERM
        error = error.__cause__ or error.__context__
    return signal.SIGINT


__all__ = ["Terminated", "signal_of", "stoppable"]
