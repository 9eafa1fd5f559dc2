"""One run a report directory: a second one would lose the first one's results.

The lock is the system's, on the directory itself: it leaves no file, and ends with the process that holds it, however
that ends. Where a system or a file system has none, nothing is locked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from conformance.errors import UsageError


@contextlib.contextmanager
def alone(report_dir: Path) -> Iterator[None]:
    """Within, no other run writes to the directory. Raises: UsageError where one does already."""
    try:
        import fcntl

        held = os.open(report_dir, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"--report-dir {report_dir}: another run is writing there; wait for its end, or name another directory"
            ) from None
        except OSError:  # no locks here
            pass
        yield
    finally:
        os.close(held)
