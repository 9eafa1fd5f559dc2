"""The hostile arithmetic: it computes the right thing, its sensitivities are derivatives, and budgets hold."""

from __future__ import annotations

import numpy as np
import pytest

from bptt.cells import CELLS
from oracle.budget import Model
from oracle.truth import find_truth
from tests.deep import hostile
from tests.deep.hostile import Machine, Style, simulate

BOTH = [Style(factored=False, apart=True), Style(factored=True, apart=False)]


def drawn(cell, T=4, seed=0):
    return hostile.problem_of(cell, "float32", 0.9, T, np.random.default_rng(seed))


@pytest.mark.parametrize("style", BOTH)
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_machine_without_errors_computes_the_exact_answer(cell, style):
    for seed in range(3):
        problem = drawn(cell, seed=seed)
        truth = find_truth(problem, Model("float64"))  # the machine computes in more digits than float64 has
        for key, out in simulate(problem, Machine(2.0**-24), style).items():
            allowed = truth.allowed(key)
            assert (truth.error(key, out.value.reshape(allowed.shape).astype(np.float64)) <= allowed).all(), key


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_sensitivities_are_derivatives(cell):
    problem, style = drawn(cell), BOTH[0]
    calm = Machine(2.0**-24)
    key = "dW_hh" if cell == "elman" else "dW_h"
    out = simulate(problem, calm, style)[key]
    sensed = calm.sensitivities(out, (0, 0))
    rng, step = np.random.default_rng(3), 2.0**-24
    errors = [None if g is None else rng.choice([-1, 1], np.shape(g)) * np.sign(g) * step for g in calm.grants]
    moved = []
    for sign in (1, -1):
        signed = [None if e is None else sign * e for e in errors]
        moved.append(simulate(problem, Machine(calm.u, errors=signed, orders=calm.orders), style)[key].value[0, 0])
    sensed_errors = [(s, e) for s, e in zip(sensed, errors, strict=True) if s is not None]
    want = sum((s * e).sum() for s, e in sensed_errors)
    # Of a central difference the third order is left: at most (count step)^2 of the first order's terms, as the entry
    # is made of sums of products of 1 + error. The long floats round each operation twice, by 2^-63 relative or less.
    count = sum(np.size(e) for _, e in sensed_errors)
    first = sum(np.abs(s * e).sum() for s, e in sensed_errors)
    rounding = 2 * np.finfo(np.longdouble).eps / step * first
    assert abs((moved[0] - moved[1]) / 2 - want) <= (count * step) ** 2 * first + rounding


@pytest.mark.parametrize(("cell", "T"), [*((cell, 4) for cell in sorted(CELLS)), ("elman", 1), ("elman", 12)])
def test_no_sign_leaves_the_budget_and_some_come_near(cell, T):
    found = hostile.worst_of([one for seed in range(3) for one in hostile.search((cell, "float32", T, seed, 0))])
    assert len(found) == 2
    assert all(0.25 < one.ratio <= 1 for one in found)


def test_operations_that_err_more_than_granted_leave_the_budget(monkeypatch):
    monkeypatch.setattr(hostile, "SIGNIFICAND", {"float32": 21})
    found = hostile.worst_of([one for seed in range(4) for one in hostile.search(("elman", "float32", 3, seed, 0))])
    assert all(one.ratio > 1 for one in found)
