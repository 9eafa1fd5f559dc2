"""The bench: runs a target on problems for a property, keeps it to its contract, and remembers truths.

Support and keys are functions of the configuration (names and flags), never of values: a target that declines, or drops
a key, on some problems of a configuration that it otherwise serves has failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from bptt.files import header_of
from bptt.problem import Problem, gradient_shapes
from conformance.errors import ContractBroken, Declined, TargetCrash, TargetStarved
from conformance.render.terminal import shorten
from conformance.targets import Target
from conformance.workers import Local, Remote, malformed, request_for
from implementations.worker import Broken, Message, read_answer
from oracle import canary
from oracle.budget import Model
from oracle.errors import EnvironmentUnsound
from oracle.truth import Truth, find_truth
from properties.base import Answer

Configuration = tuple[object, ...]
REMEMBERED = 300
_DIGESTS: WeakKeyDictionary[Problem, str] = WeakKeyDictionary()


def configuration(problem: Problem) -> Configuration:
    """Everything about a problem but its numbers and sizes."""
    loss = problem.loss
    return (
        problem.cell,
        problem.activation,
        problem.readout,
        problem.dtype,
        loss.kind,
        loss.time_reduction,
        loss.batch_reduction,
        loss.target is not None and loss.target.ndim,
        problem.truncation.kind,
        problem.lengths is not None,
        problem.h0 is None,
        loss.g_h_final is not None,
        loss.g_c_final is not None,
    )


def digest(problem: Problem) -> str:
    """A name for a problem's exact contents; a problem keeps its own, as nothing changes its arrays."""
    known = _DIGESTS.get(problem)
    if known is None:
        found = hashlib.sha256(repr(header_of(problem)).encode())
        for name, array in problem.arrays():
            found.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            found.update(array.tobytes())
        known = _DIGESTS[problem] = found.hexdigest()
    return known


@dataclass
class Executed:
    """What was really run and answered: the certificate lists just this."""

    names: dict[str, set[str]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    unclaimed: set[str] = field(default_factory=set)
    extra: set[str] = field(default_factory=set)
    declined: set[str] = field(default_factory=set)

    def note(self, problem: Problem, answer: Answer, missing: set[str]) -> None:
        """Add one answered problem."""
        loss = problem.loss
        for name, value in (
            ("cells", problem.cell),
            ("activations", problem.activation),
            ("readouts", problem.readout),
            ("losses", loss.kind),
            ("truncations", problem.truncation.kind),
            ("dtypes", problem.dtype),
        ):
            if value is not None:
                self.names.setdefault(name, set()).add(value)
        if loss.kind != "cotangent":
            self.names.setdefault("reductions", set()).update((loss.time_reduction, loss.batch_reduction))
        self.keys |= set(answer)
        self.unclaimed |= missing


def _names(reply: Message) -> set[str]:
    """The extra keys that a worker says it left out, in characters that can be written."""
    extra = reply.get("extra")
    names = [name[:80] for name in extra[:100] if isinstance(name, str)] if isinstance(extra, list) else []
    return {name.encode("utf-8", "backslashreplace").decode() for name in names}


class Truths:
    """The last few hundred truths, shared by the targets that are asked the same problems."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Model], Truth] = OrderedDict()

    def find(self, problem: Problem, model: Model) -> Truth:
        """The exact solution and budget of a problem."""
        name = (digest(problem), model)
        if name not in self._known:
            self._known[name] = find_truth(problem, model)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return self._known[name]

    def forget(self) -> None:
        """Let go of all: what holds these truths may be held in a cycle, and they are large."""
        self._known.clear()


class TargetBench:
    """One target under one property: satisfies `properties.base.Bench`."""

    def __init__(self, target: Target, dtype: str, truths: Truths | None = None) -> None:
        self.target = target
        self._truths = Truths() if truths is None else truths
        self.support = target.support
        self._channel = target.call if isinstance(target.call, Remote) else Local(target.call)
        s = target.support
        self.model = Model(dtype, accumulate=s.accumulate, ulp=s.elementary_ulp, flush=s.subnormals == "flush")
        self.executed = Executed()
        self._served: dict[Configuration, tuple[frozenset[str], Problem]] = {}
        self._declined: dict[Configuration, tuple[str, Problem]] = {}

    def truth(self, problem: Problem) -> Truth:
        """The exact solution and budget."""
        return self._truths.find(problem, self.model)

    def run(self, problem: Problem) -> Answer:
        """The target's answer, checked. Raises: Declined, ContractBroken, TargetCrash."""
        return self._run(problem, "plain", hold=False)

    def run_together(self, problems: Sequence[Problem], layout: str) -> list[Answer]:
        """The answers to several problems, and a look at what was returned while all of it is held. Raises: as run."""
        try:
            answers = [self._run(problem, layout, hold=True) for problem in problems]
        finally:
            reply, _ = self._channel.ask({"type": "release"}, {})
        if reply.get("type") == "broken":
            raise ContractBroken(str(reply.get("reason")))
        return answers

    def provoke(self, problem: Problem, fault: str) -> None:
        """Ask something malformed, and let come what may but a changed environment. Raises: ContractBroken."""
        with contextlib.suppress(TargetCrash, ContractBroken):
            self._channel.ask(*malformed(problem, fault))
        self._check_environment()

    def _check_environment(self) -> None:
        if isinstance(self._channel, Remote):
            return  # it has an environment of its own
        try:
            canary.check("after the target's call")
        except EnvironmentUnsound as error:
            raise ContractBroken(f"environment: the target changed this process's floating point: {error}") from error

    def _run(self, problem: Problem, layout: str, *, hold: bool) -> Answer:
        """The answer to one problem, its arrays laid out in memory as the layout says."""
        where = configuration(problem)
        reply, arrays = self._channel.ask(*request_for(problem, layout, hold=hold))
        kind, reason = reply.get("type"), str(reply.get("reason"))
        if kind == "unsupported":
            raise self._declines(problem, where, reason)
        if kind == "error":
            starved = re.match(r"(raised )?[\w.]*MemoryError\b", reason)
            raise (TargetStarved if starved else TargetCrash)(reason[:600])
        self._check_environment()
        if kind == "broken":
            raise ContractBroken(reason[:600])
        if kind != "answer":
            raise ContractBroken(
                f"answer: got a message of type {shorten(repr(kind), 80)}, want answer, unsupported or error"
            )
        if where in self._declined:
            raise ContractBroken(
                "support: answered this problem but declined others of the same configuration "
                f"({self._declined[where][0]}); "
                "want support that depends on names and flags alone, and on sizes where SUPPORTS['max_size'] says so",
                self._declined[where][1],
            )
        try:
            answer, extra = read_answer(arrays, gradient_shapes(problem), problem.dtype)
        except Broken as error:
            raise ContractBroken(str(error)) from error
        self._check_keys(problem, where, answer)
        self.executed.extra |= set(extra) | _names(reply)
        return answer

    def _declines(self, problem: Problem, where: Configuration, said: str) -> Declined | ContractBroken:
        if where in self._served:
            return ContractBroken(
                f"support: declined this problem ({said[:500]}) but serves others of the same configuration; "
                "want support that depends on names and flags alone, and on sizes where SUPPORTS['max_size'] says so",
                self._served[where][1],
            )
        reason = said.removeprefix("NotImplementedError: ")[:500]
        self._declined[where] = (reason, problem)
        self.executed.declined.add(reason[:200])
        return Declined(reason)

    def _check_keys(self, problem: Problem, where: Configuration, answer: Answer) -> None:
        keys = frozenset(answer)
        every = set(gradient_shapes(problem)) - ({"dh0", "dc0"} if problem.h0 is None else set())
        for key in sorted(set(self.support.outputs or ()) & every - keys):
            raise ContractBroken(f"{key}: missing from the answer, want it: the target's SUPPORTS['outputs'] claims it")
        known, companion = self._served.setdefault(where, (keys, problem))
        if known != keys:
            key = min(known ^ keys)
            how = "missing from this answer but given" if key in known else "given in this answer but missing"
            raise ContractBroken(
                f"{key}: {how} for other problems of the same configuration, want the same keys for all",
                companion,
            )
        self.executed.note(problem, answer, every - keys)
