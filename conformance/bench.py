"""The bench: runs a target on problems for a property, keeps it to its contract, and remembers truths.

Support and keys are functions of the configuration (names and flags), never of values: a target that declines, or drops
a key, on some problems of a configuration that it otherwise serves has failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bptt.files import to_bytes
from bptt.problem import Problem
from conformance.contract import as_seen, check_held, check_untouched, malformed, read_answer
from conformance.errors import ContractBroken, Declined, TargetCrash, describe
from conformance.targets import Target
from oracle import canary
from oracle.budget import Model
from oracle.errors import EnvironmentUnsound
from oracle.truth import Truth, find_truth
from properties.base import Answer

Configuration = tuple[object, ...]
REMEMBERED = 300


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
    """A name for a problem's exact contents."""
    return hashlib.sha256(to_bytes(problem)).hexdigest()


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


class TargetBench:
    """One target under one property: satisfies `properties.base.Bench`."""

    def __init__(self, target: Target, dtype: str, truths: Truths | None = None) -> None:
        self.target = target
        self._truths = Truths() if truths is None else truths
        self.support = target.support
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
        return self._run(problem, "plain")[0]

    def run_together(self, problems: Sequence[Problem], layout: str) -> list[Answer]:
        """The answers to several problems, and a look at what was returned while all of it is held. Raises: as run."""
        runs = [self._run(problem, layout) for problem in problems]
        check_held(runs)
        for problem, (_, seen, _) in zip(problems, runs, strict=True):
            check_untouched(problem, seen)
        return [answer for answer, _, _ in runs]

    def provoke(self, problem: Problem, fault: str) -> None:
        """Ask something malformed, and let come what may but a changed environment. Raises: ContractBroken."""
        with contextlib.suppress(Exception, SystemExit):
            self._call(malformed(problem, fault))
        self._check_environment()

    def _call(self, seen: SimpleNamespace) -> Any:
        folder = Path.cwd()
        try:
            with np.errstate(all="ignore"):
                return self.target.call(seen)
        finally:
            os.chdir(folder)  # a report belongs where the user is, wherever a target goes

    @staticmethod
    def _check_environment() -> None:
        try:
            canary.check("after the target's call")
        except EnvironmentUnsound as error:
            raise ContractBroken(f"environment: the target changed this process's floating point: {error}") from error

    def _run(self, problem: Problem, layout: str) -> tuple[Answer, SimpleNamespace, Any]:
        """The answer, the inputs as they were given, and what was returned."""
        where = configuration(problem)
        seen = as_seen(problem, layout)
        try:
            raw = self._call(seen)
        except NotImplementedError as error:
            if where in self._served:
                raise ContractBroken(
                    f"support: declined this problem ({describe(error)}) but serves others of the same configuration; "
                    "want support that depends on names, flags and declared sizes alone",
                    self._served[where][1],
                ) from error
            reason = describe(error).removeprefix("NotImplementedError: ")
            self._declined[where] = (reason, problem)
            self.executed.declined.add(reason[:200])
            raise Declined(reason) from error
        except BaseException as error:  # a target may raise anything, SystemExit too
            if isinstance(error, KeyboardInterrupt):
                raise
            given = "" if layout == "plain" else f" when its inputs were {layout}; want them taken as they lie"
            raise TargetCrash(f"raised {describe(error)}{given}") from error
        self._check_environment()
        if where in self._declined:
            raise ContractBroken(
                "support: answered this problem but declined others of the same configuration "
                f"({self._declined[where][0]}); "
                "want support that depends on names, flags and declared sizes alone",
                self._declined[where][1],
            )
        check_untouched(problem, seen)
        answer, extra = read_answer(problem, raw)
        self._check_keys(problem, where, answer)
        self.executed.extra |= set(extra)
        return answer, seen, raw

    def _check_keys(self, problem: Problem, where: Configuration, answer: Answer) -> None:
        from bptt.problem import gradient_shapes

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
