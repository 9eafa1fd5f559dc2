"""What can go wrong in a run, by whose fault it is; each becomes a verdict or an exit status, never a traceback."""

from __future__ import annotations

from bptt.problem import Problem


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
    """The target raised, or took its process down."""


def describe(error: BaseException) -> str:
    """An exception in one line of at most 500 characters: its type and the first line of its message."""
    try:
        text = str(error)[:2000].encode("utf-8", "backslashreplace").decode("utf-8")
        first = text.strip().splitlines()[:1]
    except BaseException as trouble:  # what comes from a target may raise anything while it is printed
        if isinstance(trouble, KeyboardInterrupt):
            raise
        first = ["(its message cannot be printed)"]
    name = type(error).__name__
    return f"{name}: {first[0]}"[:500] if first else name
