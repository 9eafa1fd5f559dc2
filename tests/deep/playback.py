"""What a check asks a correct target, asked of another one; and the check on those answers, if there is a difference.

Most planted bugs are silent on most problems: there the answers are those of the correct target to the last bit, and so
is the judgement. Only where an answer differs is the property's check run, on the answers that were given: the target
is asked each question once, in the order in which `certify` would ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bptt.problem import Problem
from conformance.bench import TargetBench, digest
from conformance.errors import ContractBroken, Declined, TargetCrash
from oracle.truth import Truth
from properties.base import Answer

RAISED = (ContractBroken, Declined, TargetCrash)
"""What a target may do instead of answering."""


@dataclass(frozen=True)
class Call:
    """A bench's method, its arguments, and what came back: an answer, several, None, or what was raised."""

    method: str
    arguments: tuple[Any, ...]
    result: Any

    def give(self) -> Any:
        """The result once more."""
        if isinstance(self.result, RAISED):
            raise self.result
        return self.result


class RecordingBench(TargetBench):
    """A bench that writes down what it is asked; `calls` may be emptied between cases."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls: list[Call] = []

    def run(self, problem: Problem) -> Answer:
        return self._note("run", (problem,), super().run)

    def run_together(self, problems: Sequence[Problem], layout: str) -> list[Answer]:
        return self._note("run_together", (list(problems), layout), super().run_together)

    def provoke(self, problem: Problem, fault: str) -> None:
        return self._note("provoke", (problem, fault), super().provoke)

    def _note(self, method: str, arguments: tuple[Any, ...], ask: Any) -> Any:
        self.calls.append(asked(method, arguments, ask))
        return self.calls[-1].give()


def asked(method: str, arguments: tuple[Any, ...], ask: Any) -> Call:
    """Ask, and keep what comes back."""
    try:
        return Call(method, arguments, ask(*arguments))
    except RAISED as error:
        return Call(method, arguments, error)


def replay(calls: Sequence[Call], bench: TargetBench) -> list[Call]:
    """The same calls to another target, up to one that it does not answer."""
    made: list[Call] = []
    for call in calls:
        made.append(asked(call.method, call.arguments, getattr(bench, call.method)))
        if isinstance(made[-1].result, RAISED):
            break
    return made


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal in every key, shape, dtype and bit; nothing raised equals anything."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if one is None or other is None:
        return one is other
    if isinstance(one, RAISED) or isinstance(other, RAISED):
        return False
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def silent(calls: Sequence[Call], made: Sequence[Call]) -> bool:
    """Whether every call came to the same."""
    return len(calls) == len(made) and all(same(a.result, b.result) for a, b in zip(calls, made, strict=True))


class Playback:
    """A bench that gives the answers of calls already made, as long as it is asked the same; then it asks anew."""

    def __init__(self, bench: TargetBench, made: Sequence[Call]) -> None:
        self.bench, self.support = bench, bench.support
        self.left = list(made)

    def truth(self, problem: Problem) -> Truth:
        return self.bench.truth(problem)

    def run(self, problem: Problem) -> Answer:
        return self._next("run", (problem,))

    def run_together(self, problems: Sequence[Problem], layout: str) -> list[Answer]:
        return self._next("run_together", (list(problems), layout))

    def provoke(self, problem: Problem, fault: str) -> None:
        return self._next("provoke", (problem, fault))

    def _next(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if self.left and self.left[0].method == method and named(self.left[0].arguments) == named(arguments):
            return self.left.pop(0).give()
        self.left = []  # the check went another way
        return getattr(self.bench, method)(*arguments)


def named(arguments: Any) -> Any:
    """The arguments with each problem replaced by its digest."""
    if isinstance(arguments, Problem):
        return digest(arguments)
    return [named(one) for one in arguments] if isinstance(arguments, list | tuple) else arguments
