"""The shipped problems from real text: what they hold, that they say something in float32, and how they were made."""

from __future__ import annotations

import fnmatch
import itertools
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.files import load_case, load_problem, save_problem
from bptt.problem import Problem
from bptt.support import Support
from conformance import train_text
from conformance.train_text import ALPHABET, LEFT_OUT, PLANS, SHOWN, Plan, streams
from implementations import numpy_bptt
from oracle.budget import Model
from oracle.truth import find_truth
from properties.compare import against_truth
from properties.real_text import DATA, text_problems

TEXT = (DATA / "text.txt").read_text(encoding="ascii")
FILES = sorted(DATA.glob("*.safetensors"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_plan = pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.cell}-{plan.activation}")


def loss_of(problem: Problem, steps: int) -> float:
    """The loss of a problem's first steps, by the target `numpy`."""
    assert problem.loss.target is not None
    loss = replace(problem.loss, target=problem.loss.target[:steps])
    return float(numpy_bptt.gradients(replace(problem, x=problem.x[:steps], loss=loss))["loss"])


def test_files_are_those_of_the_plans() -> None:
    assert {path.name for path in FILES} == {plan.file(updates) for plan in PLANS for updates in plan.shown}
    assert {plan.cell for plan in PLANS} == set(CELLS)


@every_plan
def test_file_holds_the_planned_network(plan: Plan) -> None:
    for updates, steps in plan.shown.items():
        problem, extra = load_case(DATA / plan.file(updates))
        assert (problem.cell, problem.activation, problem.dtype) == (plan.cell, plan.activation, "float32")
        assert (problem.readout, problem.loss.kind) == ("linear", "cross_entropy")
        assert (steps, 2, plan.H) == (problem.T, problem.B, problem.H)
        assert problem.D == problem.K == len(ALPHABET)
        assert extra == {"updates": updates, "alphabet": ALPHABET}


@every_file
def test_file_shows_text_that_training_leaves_out(path: Path) -> None:
    problem = load_problem(path)
    s = streams(TEXT)[-LEFT_OUT:, SHOWN]
    np.testing.assert_array_equal(problem.x, np.eye(len(ALPHABET), dtype=np.float32)[s[: problem.T]])
    np.testing.assert_array_equal(problem.loss.target, s[1 : problem.T + 1])


@every_file
def test_file_starts_from_a_state_that_was_carried(path: Path) -> None:
    problem = load_problem(path)
    for state in problem.spec.states:
        initial = getattr(problem, f"{state}0")
        assert (np.abs(initial).max(axis=1) > 0.1).all()
        assert not np.array_equal(initial[0], initial[1])


@every_file
def test_numpy_lies_within_a_budget_that_is_conclusive_in_float32(path: Path) -> None:
    problem = load_problem(path)
    judgement = against_truth(problem, numpy_bptt.gradients(problem), find_truth(problem, Model("float32")))
    assert not judgement.failed, judgement.worst
    assert judgement.conclusive, [c.key for c in judgement.comparisons if not c.conclusive]


@every_plan
def test_loss_falls_from_file_to_file(plan: Plan) -> None:
    problems = [load_problem(DATA / plan.file(updates)) for updates in sorted(plan.shown)]
    steps = min(problem.T for problem in problems)
    losses = [loss_of(problem, steps) for problem in problems]
    assert losses[-1] < 0.8 * np.log(len(ALPHABET))
    assert all(late < early for early, late in itertools.pairwise(losses)), losses
    if len(losses) > 1:
        assert losses[-1] < 0.9 * losses[0], losses


@pytest.mark.parametrize("cell", CELLS)
def test_problems_keep_to_what_a_target_offers(cell: str) -> None:
    every = list(text_problems(Support(), cell, "float64"))
    assert {problem.truncation.kind for problem in every} == {"full", "window"}
    assert all(problem.cell == cell and problem.dtype == "float64" for problem in every)
    assert {p.truncation.kind for p in text_problems(Support(truncations=("full",)), cell, "float32")} == {"full"}
    assert {p.truncation.kind for p in text_problems(Support(truncations=("chunk",)), cell, "float32")} == {"chunk"}
    assert all(problem.T <= 7 for problem in text_problems(Support(max_size={"T": 7}), cell, "float32"))
    for support in (Support(readouts=("none",)), Support(losses=("cotangent",)), Support(max_size={"H": 2})):
        assert not list(text_problems(support, cell, "float32"))
    assert not list(text_problems(Support(), cell, "bfloat16"))


def test_problems_have_the_values_of_their_files() -> None:
    for path, problem in zip(
        sorted(DATA.glob("lstm-*")), text_problems(Support(truncations=("full",)), "lstm", "float64"), strict=True
    ):
        stored = dict(load_problem(path).arrays())
        for name, array in problem.arrays():
            np.testing.assert_array_equal(array, stored[name])


def test_short_run_is_deterministic_and_reduces_the_loss() -> None:
    first, second = (list(itertools.islice(train_text.train(PLANS[0], TEXT), 51)) for _ in range(2))
    losses = [loss for _, loss in first]
    assert losses == [loss for _, loss in second]
    for name, array in first[-1][0].items():
        np.testing.assert_array_equal(array, second[-1][0][name])
    assert np.mean(losses[-10:]) < 0.9 * losses[0]


def test_run_makes_the_first_files_again(tmp_path: Path) -> None:
    plan = replace(PLANS[0], shown={updates: steps for updates, steps in PLANS[0].shown.items() if updates <= 100})
    shipped, fresh = tmp_path / "shipped", tmp_path / "fresh"
    for folder in (shipped, fresh):
        folder.mkdir()
    for updates in plan.shown:
        shutil.copy(DATA / plan.file(updates), shipped)
    train_text.make(fresh, TEXT, [plan])
    assert list(train_text.differences(shipped, fresh)) == []


def test_check_sees_what_differs(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    shutil.copytree(DATA, fresh)
    missing, shifted, moved = fresh / FILES[0].name, fresh / FILES[1].name, fresh / FILES[2].name
    missing.unlink()
    problem, extra = load_case(shifted)
    save_problem(replace(problem, x=np.roll(problem.x, 1, axis=0)), shifted, extra)
    problem, extra = load_case(moved)
    params = problem.params | {"b_y": problem.params["b_y"] * np.float32(1.6)}
    save_problem(replace(problem, params=params), moved, extra)
    found = list(train_text.differences(DATA, fresh))
    assert [line.split(":")[0] for line in found] == [missing.name, shifted.name, moved.name]
    assert "not made by this run" in found[0]
    assert "passage" in found[1]
    assert "params.b_y is off by 0.6 of its norm" in found[2]


def test_every_data_file_ships_and_is_small() -> None:
    with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["properties"]
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {path.name for path in FILES} | {"README.md", "text.txt"}
    for path in files:
        name = path.relative_to(DATA.parent).as_posix()
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns), name
    assert sum(path.stat().st_size for path in files) < 300_000
