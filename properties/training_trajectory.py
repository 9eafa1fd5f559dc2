"""training-trajectory: the weights after n updates, made with a target's gradients, are those of the exact trajectory.

    w' = w - rate dL/dw        in exact arithmetic, rounded once                                                  (1)

The suite drives the loop (properties/training.py) and the target only supplies states and gradients, at weights that
its own earlier answers have led to. Three loops: plain descent on one problem; S1's online step, where the cell is one
neuron whose output is its state; S5's truncated loop over n pairs, whose state is recomputed under the new weights.
How far the weights may be from the exact trajectory's is derived in properties/trajectory.py; each answer on the way
is judged too, against the truth at the weights that were asked. The same inputs come again with other weights here,
and nowhere else: what a target keeps between calls and should not, a stale forward pass or state, shows.

`judge_loop` judges a loop that somebody else drives, by what it asks and by the weights that it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.errors import ProblemError
from bptt.problem import Problem
from bptt.support import Support
from properties.base import Answer, Bench, Case, Comparison, Judgement, Property, Term
from properties.compare import against_truth
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape
from properties.training import Ask, Update, Window, descent, online, truncated, windows
from properties.trajectory import Trajectory, followed

LOOPS = ("descent", "truncated", "online")
"""A case's parameter `loop` is an index; `k` is truncated's, `updates` descent's, 2^-`rate` the step size."""
MOST = 3
"""Updates of a case, at most: each widens the bound."""


class TrainingTrajectory(Property):
    """n updates by the suite, n + 1 weights, one bound for each."""

    id = "training-trajectory"
    statement = "After n updates made with a target's gradients, the weights are within a derived bound of the exact."
    source = "The loops are well known (properties/training.py); the bound is derived in properties/trajectory.py."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        largest = (4, 2, 2, 2, 2)
        shape = replace_shape(offered(support, cell), largest=largest, edges=False, calm=True, h0_none=False)
        longest = support.max_size.get("T", MOST + 3)
        loops = [loop for loop in loops_for(support, cell) if loop != "truncated" or longest > 1]

        def build(draw: Draw) -> Case:
            rate, updates, k = draw.integer(4, 6), draw.integer(2, MOST), draw.integer(1, 3)
            name = draw.of(loops)
            updates, k = min(updates, max(1, longest - 1)), min(k, max(1, longest - updates))
            parameters = {"loop": LOOPS.index(name), "rate": rate, "updates": updates, "k": k}
            if name == "descent":
                return Case(draw_problem(draw, shape, support, cell, dtype), parameters)
            return Case(_sequence(draw, shape, support, cell, dtype, name, updates, k), parameters)

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        plan = plan_of(case)
        rate = Fraction(1, 1 << case.parameters["rate"])
        trajectory = Trajectory(case.problem, rate, bench.truth)
        comparisons: list[Comparison] = []
        notes: list[str] = []
        asked: list[Problem] = []

        def ask(problem: Problem) -> Answer:
            answer = bench.run(problem)
            judged = against_truth(problem, answer, bench.truth(problem)).comparisons
            comparisons.extend(replace(c, terms=(*_before(asked, c), *c.terms)) for c in judged)
            asked.append(problem)
            if not all(c.holds for c in comparisons):
                raise _Wrong
            return answer

        try:
            for j, update in enumerate(_loop(case, plan, rate, ask)):
                if not _follow(trajectory, case, plan, update, j):
                    break
        except _Wrong:
            pass
        except (ProblemError, ValueError) as error:
            notes.append(f"the loop ends where the weights leave the range of numbers: {error}")
        except KeyError as key:  # a target may leave out what the loop needs; its gradients are judged all the same
            notes.append(f"the loop ends where {key} is not claimed")
        # The updates are the suite's own: that they round once is no measure of the target.
        ours = [c for c in trajectory.roundings if not c.holds]
        return Judgement((*comparisons, *ours, *trajectory.found, *_moved(trajectory)), tuple(notes))


class _Wrong(Exception):
    """An answer outside its budget: nothing that follows from it says more."""


def _before(asked: Sequence[Problem], comparison: Comparison) -> list[Term]:
    """What was asked before, as terms that count nothing: so that it is asked again where the failure is shown."""
    return [Term(0.0, problem, comparison.key, (0,) * len(comparison.where)) for problem in asked]


def loops_for(support: Support, cell: str) -> list[str]:
    """The loops that a target can be driven through: those over windows need the cotangent loss, states and outputs."""
    spec_states = {"h", "c"} if cell.startswith("lstm") else {"h"}
    claimed = support.outputs is None or spec_states | {"o"} <= set(support.outputs)
    if not ("cotangent" in support.losses and "full" in support.truncations and claimed):
        return ["descent"]
    return list(LOOPS) if cell == "elman" and "none" in support.readouts else ["descent", "truncated"]


def _sequence(
    draw: Draw, shape: Any, support: Support, cell: str, dtype: str, loop: str, updates: int, k: int
) -> Problem:
    """A sequence long enough for its updates, whose desired outputs are the cotangents that were drawn."""
    steps = updates if loop == "online" else updates + k
    narrow = {"losses": ("cotangent",), "truncations": ("full",), "lengths": False, "finals": False}
    if loop == "online":
        narrow |= {"readouts": ("none",), "largest": (1, 1, 1, 1, 1)}
    problem = draw_problem(draw, replace_shape(shape, **narrow), support, cell, dtype)
    seed = draw.seed()
    rng = np.random.default_rng(seed)

    def longer(array: Any) -> Any:
        drawn = np.round(rng.normal(size=(steps, *array.shape[1:])) * 8) / 8  # eighths: exact in every dtype
        drawn[: len(array)] = array[:steps]
        return drawn.astype(array.dtype)

    return replace(problem, x=longer(problem.x), loss=replace(problem.loss, g=longer(problem.loss.g)))


def plan_of(case: Case) -> list[Window] | None:
    """A case's windows; None for descent."""
    loop, n = LOOPS[case.parameters["loop"]], case.problem.T
    if loop == "descent":
        return None
    plan = online(n) if loop == "online" else truncated(n, case.parameters["k"])
    assert plan and case.problem.loss.g is not None
    return plan


def _loop(case: Case, plan: list[Window] | None, rate: Fraction, ask: Ask) -> Any:
    if plan is None:
        return descent(case.problem, case.parameters["updates"], rate, ask)
    assert case.problem.loss.g is not None
    return windows(case.problem, case.problem.loss.g, plan, rate, ask)


def _follow(trajectory: Trajectory, case: Case, plan: list[Window] | None, update: Update, j: int) -> bool:
    if plan is None:
        return trajectory.follow(update)
    assert case.problem.loss.g is not None
    return followed(trajectory, update, case.problem.loss.g, plan, j)


def _moved(trajectory: Trajectory) -> list[Comparison]:
    return trajectory.moved() if trajectory.updates else []


Loop = Callable[[Problem, Any, Sequence[Window], Fraction, Ask], Mapping[str, Any]]
"""A loop as `windows` has it, driven by somebody else: it asks for what it needs, and returns the last weights."""


def judge_loop(loop: Loop, problem: Problem, y: Any, plan: list[Window], rate: Fraction, bench: Bench) -> Judgement:
    """Whether a loop over windows is the exact trajectory's, whatever arithmetic it updates in; y (n,B,K).

    Judged are the problems that it poses for gradients (those whose cotangent is not zero): weights, states and
    cotangents within the bounds of properties/trajectory.py, a window each; and the weights that it returns.
    """
    asked: list[tuple[Problem, Answer]] = []

    def ask(posed: Problem) -> Answer:
        answer = bench.run(posed)
        if posed.loss.g is not None and posed.loss.g.any():
            asked.append((posed, answer))
        return answer

    last = dict(loop(problem, y, plan, rate, ask))
    trajectory = Trajectory(problem, rate, bench.truth)
    extra = abs(len(asked) - len(plan))
    count = Comparison("updates", (), float(len(asked)), float(len(plan)), float(extra), 0.0, 0.0, True)
    for j, ((posed, answer), _) in enumerate(zip(asked, plan, strict=False)):
        params = asked[j + 1][0].params if j + 1 < len(asked) else last
        if not followed(trajectory, Update(posed, answer, dict(params)), y, plan, j):
            break
    return Judgement((count, *trajectory.roundings, *trajectory.found, *_moved(trajectory)))


PROPERTY = TrainingTrajectory()
