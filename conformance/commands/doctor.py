"""bpttcheck doctor: a few questions before the suite, and for each convention that differs the line to change."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.errors import ProblemError
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from conformance.bench import TargetBench
from conformance.commands.setting import add_setting, setting_of
from conformance.diagnosis import Failure, diagnose
from conformance.diagnosis.family import SIZES, alike
from conformance.diagnosis.forms import mended, repairs
from conformance.errors import ContractBroken, Declined, TargetCrash, UsageError, describe
from conformance.messages import quoted
from conformance.screen import say
from conformance.targets import Target, resolve
from conformance.workers import as_seen
from oracle.errors import PrecisionExhausted
from properties.strategies import nothing_offered, offered

HELP = "ask a target a few questions: shapes, dtypes, conventions, and which line to change"
EXAMPLES = """\
examples:
  bpttcheck doctor adapters/mine.py
  bpttcheck doctor adapters/mine.py:gradients --cell lstm

exit status: 0 nothing to say, 1 something found, 2 bad usage,
             3 nothing could be asked
"""
MOST = 3
"""Wrong configurations of a cell that are diagnosed; where the plainest one is wrong, it alone."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("target", metavar="TARGET", help="a built-in name, a file.py[:function] or a module[:function]")
    parser.add_argument("--cell", metavar="NAME", help="only this cell")
    add_setting(parser)


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 if there is nothing to say, 1 if something was found, 3 if nothing could be asked."""
    if arguments.cell is not None and arguments.cell not in CELLS:
        raise UsageError(f"--cell: got {arguments.cell!r}, expected one of {', '.join(CELLS)}")
    target = resolve(arguments.target, setting_of(arguments))
    cells = [cell for cell in target.support.cells if arguments.cell in (None, cell)]
    visits = [Visit(target, cell) for cell in cells]
    for visit in visits:
        visit.run()
        for line in visit.lines:
            say(line)
    if not any(visit.answered or visit.found for visit in visits):
        say(f"{target.name}: nothing could be asked")
        return 3
    found = any(visit.found for visit in visits)
    if not found:
        say(f"nothing to say: what was asked is right. The suite asks more:\n  bpttcheck certify {quoted(target.name)}")
    return int(found)


@dataclass(frozen=True)
class Question:
    """A configuration, in words, and a generic problem of it."""

    words: str
    problem: Problem


class Visit:
    """One cell of a target: `run` asks, `lines` is what there is to say."""

    def __init__(self, target: Target, cell: str) -> None:
        self.target, self.cell = target, cell
        dtypes = target.support.dtypes
        self.dtype = "float64" if "float64" in dtypes or not dtypes else dtypes[0]
        self.lines: list[str] = []
        self.found = False
        self.answered = 0

    def run(self) -> None:
        """Ask the plainest question, mend the form of its answer, and go on to the others."""
        reason = nothing_offered(self.target.support, self.cell)
        if reason is not None or not self.target.support.dtypes:
            self.lines.append(f"{self.cell}: not asked: {reason or 'offers no dtype'}")
            return
        self.lines.append(f"{self.cell} · {self.dtype}")
        questions = list(self._questions())
        target = self._form(questions[0])
        wrong = 0
        for number, question in enumerate(questions):
            right = self._ask(target, question)
            if right is False:
                wrong += 1
                self._say(target, question)
                if number == 0 or wrong == MOST:
                    return

    def _questions(self) -> Iterator[Question]:
        """The plainest configuration first, then one thing at a time is changed."""
        shape, support = offered(self.target.support, self.cell), self.target.support
        plain: dict[str, Any] = {
            "activation": shape.activations[0],
            "readout": shape.readouts[0],
            "loss": shape.losses[0],
            "truncation": shape.truncations[0],
            "time": shape.reductions[0] if shape.reductions else "sum",
            "finals": False,
            "lengths": False,
        }
        changes: list[dict[str, Any]] = [{}]
        changes += [{"activation": a} for a in shape.activations[1:]]
        changes += [{"readout": r} for r in shape.readouts[1:]]
        changes += [{"loss": kind} for kind in shape.losses[1:]]
        others = [kind for kind in shape.losses if kind != "cotangent"]
        changes += [{"loss": others[0], "time": r} for r in shape.reductions[1:] if others]
        changes += [{"truncation": kind} for kind in shape.truncations[1:]]
        changes += [{"finals": True}] if shape.finals and plain["loss"] == "cotangent" else []
        changes += [{"lengths": True}] if shape.lengths else []
        changes += [{"finals": True, "lengths": True}] if shape.lengths and shape.finals else []
        for change in changes:
            choice = plain | change
            if choice["loss"] != "cotangent":
                choice["finals"] = False
            words = ", ".join(
                ("final cotangents" if key == "finals" else "lengths") if value is True else str(value)
                for key, value in choice.items()
                if value and not (key == "time" and choice["loss"] == "cotangent")
            )
            try:
                yield Question(words, generic(self.cell, choice, support, self.dtype))
            except ProblemError:
                continue

    def _form(self, question: Question) -> Target:
        """The target with the form of its answers mended, as far as it can be; what was mended is said."""
        try:
            with np.errstate(all="ignore"):
                raw = self.target.call(as_seen(question.problem))
        except BaseException as error:  # a target may raise anything, SystemExit too
            if isinstance(error, KeyboardInterrupt):
                raise
            return self.target
        found, rest = repairs(question.problem, raw)
        for text in rest:
            self._note(text)
        for repair in found:
            self._note(repair.wrong, f"insert: {repair.line}")
        if not found:
            return self.target
        return replace(self.target, kind="built-in", call=mended(self.target.call, found))

    def _ask(self, target: Target, question: Question) -> bool | None:
        """Whether the answer is right; None where there is none to judge."""
        bench = TargetBench(target, self.dtype)
        try:
            answer = bench.run(question.problem)
            truth = bench.truth(question.problem)
        except (Declined, PrecisionExhausted) as error:
            self.lines.append(f"  declined ({question.words}): {describe(error).partition(': ')[2]}")
            return None
        except (TargetCrash, ContractBroken) as error:
            if not self.found:
                self._note(f"{error} ({question.words})")
            return None
        self.answered += 1
        if not any(key.startswith("d") for key in answer):
            if not self.found:
                names = ", ".join(f"d{name}" for name in question.problem.params)
                self._note(f"no gradient is claimed ({question.words})", f"return them too: {names}, dx, dh0")
            return None
        from properties.compare import against_truth

        return not against_truth(question.problem, answer, truth).failed

    def _say(self, target: Target, question: Question) -> None:
        diagnosis = diagnose(target, Failure(question.problem, question.problem))
        if diagnosis is None:
            self._note(f"wrong, but not again when asked afresh ({question.words})")
            return
        hint = next((m.hypothesis.hint for m in diagnosis.matches if m.hypothesis.hint), "")
        self._note(f"{diagnosis.sentence} ({question.words})", f"change: {hint}" if hint else "")

    def _note(self, text: str, more: str = "") -> None:
        self.found = True
        self.lines.append(f"  {text}")
        if more:
            self.lines.append(f"    {more}")


def generic(cell: str, choice: dict[str, Any], support: Support, dtype: str) -> Problem:
    """A generic problem of a configuration."""
    spec = CELLS[cell]
    kind, linear = choice["loss"], choice["readout"] == "linear"
    params = {name: np.ones(shape) for name, shape in spec.shapes(2, 2).items()}
    if linear:
        params |= {"W_hy": np.ones((2, 2)), "b_y": np.ones(2)}
    kinds: dict[str, dict[str, Any]] = {
        "cotangent": {"g": np.ones((2, 2, 2))},
        "squared_error": {"target": np.ones((2, 2, 2)), "scale": 0.5},
        "cross_entropy": {"target": np.zeros((2, 2), np.int64)},
    }
    data = kinds[kind]
    if kind != "cotangent":
        data |= dict.fromkeys(("time_reduction", "batch_reduction"), choice["time"])
    if choice["finals"]:
        data |= {f"g_{state}_final": np.ones((2, 2)) for state in spec.states}
    cut = choice["truncation"]
    truncation = {"window": {"k": 1}, "chunk": {"k": 1}, "periodic": {"k1": 1, "k2": 1}}.get(cut, {})
    like = Problem(
        cell,
        params,
        np.ones((2, 2, 2)),
        Loss(kind, **data),
        **{f"{state}0": np.ones((2, 2)) for state in spec.states},  # type: ignore[arg-type]
        activation=choice["activation"],
        readout=choice["readout"],
        lengths=np.array([2, 1]) if choice["lengths"] else None,
        truncation=Truncation(cut, **truncation),
    )
    return alike(like, SIZES[0], 50, support, dtype=dtype)
