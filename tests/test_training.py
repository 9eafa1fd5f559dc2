"""Training loops driven by the suite: exact updates, a bound that is derived, and planted bugs in targets and loops."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from conformance.again import reproducible
from conformance.bench import TargetBench, Truths
from conformance.counterexample import write_script
from conformance.engine import LEAST_SHARE, Profile, Search
from oracle.ball_numbers import BallNumbers
from oracle.tube import gradients_over, values_over, widened
from properties import PROPERTIES
from properties.base import Case
from properties.training import Update, online, truncated, updated, windows
from properties.training_trajectory import LOOPS, judge_loop
from properties.trajectory import Trajectory
from tests.loading import in_process, load

MUTANTS = Path(__file__).parent / "mutants"
NAMES = sorted(load("mutants", "training").PLANTED)
PROPERTY = PROPERTIES["training-trajectory"]
RATE = Fraction(1, 8)


def sequence(steps: int = 5, dtype: str = "float64", cell: str = "elman") -> Problem:
    """A generic sequence whose cotangents are the desired outputs."""
    rng = np.random.default_rng(5)
    shapes = CELLS[cell].shapes(2, 3) | {"W_hy": (3, 2), "b_y": (2,)}
    params = {name: (rng.normal(size=shape) / 2).astype(dtype) for name, shape in shapes.items()}
    x, y = rng.normal(size=(steps, 2, 2)).astype(dtype), rng.normal(size=(steps, 2, 2)).astype(dtype)
    start = {f"{s}0": rng.normal(size=(2, 3)).astype(dtype) for s in CELLS[cell].states}
    activation = "tanh" if cell == "elman" else None
    loss = Loss("cotangent", g=y)
    return Problem(cell, params, x, loss, readout="linear", activation=activation, dtype=dtype, **start)


def bench_of(target: str = "numpy", dtype: str = "float64") -> TargetBench:
    return TargetBench(in_process(target), dtype)


def find(target: str, dtype: str = "float64", profile: Profile | None = None, cell: str = "elman"):
    return Search(PROPERTY, bench_of(target, dtype), cell, dtype, profile or Profile("x", 60, 0), 0, alone=True).run()


@pytest.mark.parametrize("loop", range(2))
def test_rounding_of_our_own_updates_is_no_measure_of_a_target(loop):
    """It comes close to half an ulp, however exact the target is; a loop of somebody else's is measured by it."""
    judged = PROPERTY.check(Case(sequence(4), {"loop": loop, "rate": 3, "updates": 2, "k": 2}), bench_of())
    assert judged.worst is not None
    assert judged.worst.holds
    assert {"W_hh", "delta W_hh"} <= {c.key for c in judged.comparisons}
    assert not any("rounding" in c.key for c in judged.comparisons)


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_trajectory_of_numpy_is_within_its_bound_and_says_something(cell):
    finding = find("numpy", "float32", Profile("x", 12, 0), cell)  # where bounds are widest
    assert finding.smallest is None, finding.message
    assert finding.verdict in ("pass", "inconclusive"), finding.message
    assert finding.conclusive >= LEAST_SHARE * finding.examples


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_one_loss_alone_is_enough_for_a_verdict(cell, loss):
    """The simplest problems must say something: with few losses and readouts to choose among they are drawn often."""
    support = Support(cells=(cell,), losses=(loss,))
    bench = TargetBench(replace(in_process("numpy"), support=support), "float32")
    finding = Search(PROPERTY, bench, cell, "float32", Profile("x", 20, 0), 0).run()
    assert finding.verdict == "pass", finding.message
    assert finding.conclusive >= LEAST_SHARE * finding.examples


@pytest.mark.parametrize("prop", ["memory", "padding-invariance", "shared-weight-summation", "truncation-nesting"])
def test_one_loss_alone_is_enough_for_a_gated_unit(prop):
    support = Support(cells=("gru_reset_after",), losses=("squared_error",))
    bench = TargetBench(replace(in_process("numpy"), support=support), "float32")
    finding = Search(PROPERTIES[prop], bench, "gru_reset_after", "float32", Profile("x", 20, 0), 0).run()
    assert finding.verdict == "pass", finding.message


@pytest.mark.parametrize("name", NAMES)
def test_target_that_keeps_what_the_weights_have_changed_fails_in_the_script_too(name, tmp_path):
    target = in_process(f"{MUTANTS / 'training.py'}:{name}")
    finding = find(target.name, profile=Profile("x", 60, 40))
    assert finding.verdict == "fail", finding.message
    outcome = reproducible(finding.property, finding.smallest, target, [], Truths())
    path = tmp_path / "script.py"
    write_script(path, target, finding, outcome)
    run = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    correct = str(MUTANTS / "elman_base.py")
    run = subprocess.run([sys.executable, "-I", str(path), correct], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def right(problem, y, plan, rate, ask):
    """The loop as it should be, updates in floating point and all."""
    for window in plan:
        posed = _posed(problem, window)
        o = ask(posed)["o"]
        g = np.zeros_like(o)
        g[-1] = o[-1] - y[window.target]
        problem, answer = _updated(problem, posed, g, rate, ask)
        if window.carries:
            problem = replace(problem, h0=ask(_posed(problem, replace(window, stop=window.start + 1)))["h"][-1])
        del answer
    return problem.params


def updates_between(problem, y, plan, rate, ask):
    """Planted: the weights move between the forward and the backward pass, by the update of the window before."""
    pending = dict.fromkeys(problem.params, 0.0)
    for window in plan:
        o = ask(_posed(problem, window))["o"]
        problem = replace(problem, params={n: w - pending[n] for n, w in problem.params.items()})
        g = np.zeros_like(o)
        g[-1] = o[-1] - y[window.target]
        answer = ask(replace(_posed(problem, window), loss=Loss("cotangent", g=g)))
        pending = {n: float(rate) * answer[f"d{n}"] for n in problem.params}
        if window.carries:
            problem = replace(problem, h0=ask(_posed(problem, replace(window, stop=window.start + 1)))["h"][-1])
    return {n: w - pending[n] for n, w in problem.params.items()}


def carries_old_state(problem, y, plan, rate, ask):
    """Planted: the state carried on is that of the pass before the weights changed."""
    for window in plan:
        posed = _posed(problem, window)
        forward = ask(posed)
        g = np.zeros_like(forward["o"])
        g[-1] = forward["o"][-1] - y[window.target]
        problem, _ = _updated(problem, posed, g, rate, ask)
        problem = replace(problem, h0=forward["h"][0].copy())
    return problem.params


def _posed(problem, window):
    x = problem.x[window.start : window.stop]
    return replace(problem, x=x, loss=Loss("cotangent", g=np.zeros((len(x), 2, 2), problem.x.dtype)))


def _updated(problem, posed, g, rate, ask):
    answer = ask(replace(posed, loss=Loss("cotangent", g=g)))
    params = {n: (w - float(rate) * answer[f"d{n}"]).astype(w.dtype) for n, w in problem.params.items()}
    return replace(problem, params=params), answer


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("plan", [truncated(5, 2), online(3)])
def test_right_loop_is_within_the_bound(plan, dtype):
    problem = sequence(dtype=dtype)
    judged = judge_loop(right, problem, problem.loss.g, plan, RATE, bench_of(dtype=dtype))
    assert not judged.failed, judged.worst
    assert judged.conclusive


@pytest.mark.parametrize("loop", [updates_between, carries_old_state])
def test_planted_bug_of_a_loop_is_caught(loop):
    problem = sequence()
    judged = judge_loop(loop, problem, problem.loss.g, truncated(5, 2), RATE, bench_of())
    assert judged.failed
    assert {c.key for c in judged.comparisons if not c.holds} & {"W_hh", "h0", "p - y", "rounding W_hh"}


def test_loop_that_skips_an_update_is_caught():
    problem = sequence()

    def short(problem, y, plan, rate, ask):
        return right(problem, y, plan[:-1], rate, ask)

    assert judge_loop(short, problem, problem.loss.g, truncated(5, 2), RATE, bench_of()).failed


@pytest.mark.parametrize("by", [2.0**-30, np.nan])
def test_weight_that_left_the_bound_fails(by):
    problem, bench = sequence(), bench_of()
    trajectory = Trajectory(problem, RATE, bench.truth)
    plan = truncated(5, 2)
    (update, *_) = windows(problem, problem.loss.g, plan, RATE, bench.run)
    assert trajectory.follow(update, problem.loss.g[plan[0].target])
    moved = {**update.params, "b_h": update.params["b_h"] + by}
    other = Trajectory(problem, RATE, bench.truth)
    if np.isnan(by):
        with pytest.raises(ValueError, match="NaN"):
            other.follow(Update(update.problem, update.answer, moved), problem.loss.g[plan[0].target])
    else:
        assert not other.follow(Update(update.problem, update.answer, moved), problem.loss.g[plan[0].target])


def test_answer_that_is_no_number_fails():
    problem = sequence(4)

    def spoilt(asked):
        answer = dict(numpy.call(asked))
        return {**answer, "db_h": np.full_like(answer["db_h"], np.nan)}

    numpy = in_process("numpy")
    bench = TargetBench(replace(numpy, call=spoilt), "float64")
    case = Case(problem, {"loop": LOOPS.index("truncated"), "k": 2, "rate": 3, "updates": 2})
    assert PROPERTY.check(case, bench).failed


def test_update_is_exact_and_rounded_once():
    w, g = np.array([1.0, 1.0], np.float32), np.array([2.0**-22, 3 * 2.0**-23], np.float32)
    new = updated({"b": w}, {"db": g}, Fraction(1, 4), "float32")["b"]
    exact = [Fraction(1) - Fraction(1, 2**24), Fraction(1) - Fraction(3, 2**25)]
    assert [Fraction(float(v)) for v in new] == [Fraction(1) - Fraction(1, 2**24), Fraction(1) - Fraction(1, 2**23)]
    assert all(abs(Fraction(float(v)) - e) <= Fraction(1, 2**25) for v, e in zip(new, exact, strict=True))


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_tube_contains_what_lies_within(cell):
    rng, problem, N = np.random.default_rng(0), sequence(3, cell=cell), BallNumbers(128)
    radius = 2.0**-6
    with N.scope():
        names = {**problem.params, "h0": problem.h0}
        balls = {n: widened(N.decode(a).data, np.full(a.shape, radius)) for n, a in names.items()}
        wide, ends = gradients_over(problem, balls, 128), values_over(problem, balls, 128)
        for _ in range(5):
            near = {n: a + rng.uniform(-radius, radius, a.shape) for n, a in names.items()}
            h0 = near.pop("h0")
            inside = replace(problem, params=near, h0=h0)
            points = gradients_over(inside, {}, 128)
            for key, values in points.items():
                assert all(ball.contains(point) for ball, point in zip(wide[key], values, strict=True)), key
            at = values_over(inside, {}, 128)
            assert all(b.contains(p) for key in at for b, p in zip(ends[key], at[key], strict=True))
            assert not all(p.contains(b) for key in at for b, p in zip(ends[key], at[key], strict=True))
