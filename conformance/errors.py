"""What can go wrong in a run, by whose fault it is; each becomes a verdict or an exit status, never a traceback."""

from __future__ import annotations

from bptt.problem import Problem
from implementations.worker import describe


class UsageError(Exception):
    """Bad usage or bad input: one line that says what was wrong and what would be right. Exit status 2."""


class TargetUnavailable(Exception):
    """A known target that cannot run here, with the reason. Exit status 3."""


class Declined(Exception):
    """The target raised NotImplementedError: it does not support this configuration, and says why."""


class ContractBroken(Exception):
    """The target's answer is not what an answer must be; the message is in the grammar of all failures.

    `companion` is the earlier problem that the answer contradicts, where it takes two to show it.
    """

    def __init__(self, message: str, companion: Problem | None = None) -> None:
        super().__init__(message)
        self.companion = companion


class TargetCrash(Exception):
    """The target raised, or took its process down; `stderr` is the end of what it had printed."""

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class TargetStarved(TargetCrash):
    """The target took more memory than it was given, or wanted more than there is."""


class TargetTimeout(TargetCrash):
    """The target did not answer in time."""


__all__ = [
    "ContractBroken",
    "Declined",
    "TargetCrash",
    "TargetStarved",
    "TargetTimeout",
    "TargetUnavailable",
    "UsageError",
    "describe",
]
