"""What a check compares and allows: a sum of entries, and the sum of their budgets, no more and no less.

The bench here knows the exact answer, is off by as much as it is told, and has the budgets that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from bptt.problem import Loss, Problem, gradient_shapes
from bptt.support import Support
from bptt.truncation import Truncation
from conformance import engine
from conformance.bench import TargetBench
from conformance.engine import Profile, Search
from conformance.targets import resolve
from oracle.ball_numbers import BallNumbers
from oracle.budget import Budget, Model
from oracle.digits import _rational
from oracle.pairs import PairSolution, solve_in_pairs
from oracle.rational_numbers import RationalNumbers
from oracle.solution import scope, solve
from oracle.truth import Truth, norm
from properties import PROPERTIES, extremes
from properties.base import Case, Comparison, Term
from properties.compare import (
    Part,
    against_truth,
    exact_combination,
    exact_terms,
    exactly,
    of_sums,
    of_terms,
    within,
)
from properties.jacobian_norm_bound import probe
from properties.readout_locality import of_own_states
from properties.truncation_equivalence import twins
from properties.truncation_nesting import diagonal, tail, tails

UP = 1 + 2.0**-40  # what the checks add for their own float64


class Given:
    """A bench: `off` says by how much the answer to a problem is off, `budget` is that of every entry."""

    def __init__(self, budget: float, off: Callable[[Problem, str], Any] = lambda *_: 0.0) -> None:
        self.support, self.budget, self.off = Support(), budget, off

    def run(self, problem: Problem) -> dict[str, Any]:
        solution = solve(problem, RationalNumbers())
        return {key: solution.near(key)[0] + self.off(problem, key) for key in gradient_shapes(problem)}

    def truth(self, problem: Problem) -> Truth:
        arrays = {key: np.full(shape, self.budget) for key, shape in gradient_shapes(problem).items()}
        model = Model("float64")
        return Truth(problem, solve(problem, RationalNumbers()), Budget(arrays, {}, 0, model))

    def run_together(self, *_: Any) -> Any:
        raise NotImplementedError

    def provoke(self, *_: Any) -> None:
        raise NotImplementedError


def linear(**fields: Any) -> Problem:
    """A linear network of small integers, which rationals solve exactly."""
    rng = np.random.default_rng(3)

    def array(*shape: int) -> Any:
        return rng.integers(1, 4, shape).astype(np.float64)

    params = {"W_xh": array(2, 3), "W_hh": array(3, 3), "b_h": array(3)}
    loss = Loss("cotangent", g=array(4, 2, 3), g_h_final=array(2, 3))
    return replace(Problem("elman", params, array(4, 2, 2), loss, h0=array(2, 3), activation="identity"), **fields)


def scaled(problem: Problem, factor: int) -> Problem:
    loss = replace(problem.loss, g=factor * problem.loss.g, g_h_final=factor * problem.loss.g_h_final)
    return replace(problem, loss=loss)


def at_one_entry(key: str, by: float, kind: str = "window") -> Callable[[Problem, str], Any]:
    """Off in the last entry of one array, where the truncation is of a kind."""

    def off(problem: Problem, name: str) -> Any:
        error = np.zeros(gradient_shapes(problem)[name])
        if name == key and problem.truncation.kind == kind:
            error.reshape(-1)[-1] = by
        return error

    return off


def by_key(judgement: Any) -> dict[str, Comparison]:
    return {c.key: c for c in judgement.comparisons}


def test_sum_of_runs_is_allowed_the_sum_of_their_budgets():
    problem = linear()
    parts = [Part(+1, scaled(problem, 2)), Part(-2, problem)]
    off = lambda p, key: 0.25 if key == "dW_hh" and p is problem else 0.0  # noqa: E731
    found = by_key(of_sums(Given(0.125, off), parts, ["dW_hh", "db_h"]))
    assert found["dW_hh"].error == 0.5
    assert found["dW_hh"].allowed == 3 * 0.125
    assert not found["dW_hh"].holds
    assert found["db_h"].error == 0
    assert found["db_h"].holds


@pytest.mark.parametrize(("part", "conclusive"), [(0.99, True), (1.01, False)])
def test_sum_of_runs_is_conclusive_up_to_its_share_of_the_whole(part, conclusive):
    """What is allowed, two budgets an entry, beside 2^-8 of the first run's array; the second's is zero."""
    problem = linear()
    size = norm(solve(problem, RationalNumbers()).near("dW_hh")[0])
    budget = part * 2.0**-8 * size / (2 * 3)  # nine entries
    parts = [Part(+1, problem), Part(-1, scaled(problem, 0))]
    assert by_key(of_sums(Given(budget), parts, ["dW_hh"]))["dW_hh"].conclusive is conclusive


def test_sum_of_entries_is_allowed_the_sum_of_their_budgets():
    problem = linear()
    terms = [Term(4.0, problem, "dW_hh", (0, 1)), Term(-2.0, problem, "db_h", (2,))]
    exact = {key: solve(problem, RationalNumbers()).near(key)[0] for key in ("dW_hh", "db_h")}
    want = 4 * exact["dW_hh"][0, 1] - 2 * exact["db_h"][2]
    assert want != 0
    for off in (0.125, 0.25):
        bench = Given(0.125, lambda _, key, off=off: off if key == "db_h" else 0.0)
        (found,) = of_terms(bench, "sum", terms, 1.0).comparisons
        assert (found.got, found.want, found.error) == (want - 2 * off, want, 2 * off)
        assert found.allowed == pytest.approx(6 * 0.125 * UP + abs(want) * 2.0**-52, rel=2.0**-45)
        assert found.holds
        (found,) = of_terms(Given(0.03, bench.off), "sum", terms, 1.0).comparisons
        assert found.holds is (2 * off <= 6 * 0.03)


def test_sum_of_entries_is_conclusive_up_to_its_share_of_the_size():
    problem = linear()
    terms = [Term(1.0, problem, "db_h", (2,))]
    for size, conclusive in ((257.0, True), (255.0, False)):
        (found,) = of_terms(Given(1.0), "sum", terms, size).comparisons
        assert found.conclusive is conclusive


def test_exact_entries_are_allowed_nothing():
    problem = linear()
    got = np.array([1.0, 2.0])
    assert exactly(problem, "db_h", got, got).holds
    off = exactly(problem, "db_h", got, got + np.array([0.0, 2.0**-51]))
    assert (off.where, off.allowed, off.holds) == ((1,), 0.0, False)
    assert exactly(problem, "db_h", got, got + np.array([0.0, 1.0]), np.array([True, False])).holds


@pytest.mark.parametrize("k", [1, 2])
def test_diagonal_is_allowed_both_budgets_at_every_entry(k):
    problem = linear(truncation=Truncation("window", k=k))
    wider = replace(problem, truncation=Truncation("window", k=k + 1))
    right = by_key(diagonal(problem, wider, k, Given(0.0)))
    assert all(c.error == 0 for c in right.values())
    off = lambda p, key: at_one_entry("dW_hh", 0.5)(p, key) if p is wider else 0.0  # noqa: E731
    wrong = by_key(diagonal(problem, wider, k, Given(0.125, off)))["dW_hh"]
    assert (wrong.where, wrong.error) == ((2, 2), 0.5)
    assert wrong.allowed == pytest.approx(2 * 0.125 + abs(wrong.got) * 2.0**-52, rel=2.0**-50)
    size = norm(solve(wider, RationalNumbers()).near("dW_hh")[0])
    for part, conclusive in ((0.99, True), (1.01, False)):  # the narrower one alone is not conclusive in either case
        bench = Given(0.0)
        share = part * 2.0**-8 * size / 3  # nine entries
        bench.truth = lambda p, share=share: Given(0.0 if p is wider else share).truth(p)
        assert by_key(diagonal(problem, wider, k, bench))["dW_hh"].conclusive is conclusive


def test_tail_is_allowed_its_bound_and_the_norms_of_both_budgets():
    full = linear()
    problem = replace(full, truncation=Truncation("window", k=2))
    bounds = tails(solve(full, RationalNumbers()), 2)
    bench = Given(0.0)
    bench.truth = lambda p: Given(0.25 if p is full else 0.5).truth(p)
    found = by_key(tail(problem, full, 2, bench))
    runs = [Given(0.0).run(p) for p in (full, problem)]
    assert set(found) == set(bounds)
    for key, bound in bounds.items():
        size = norm(runs[0][key] - runs[1][key])
        n = math.sqrt(runs[0][key].size)
        allowed = bound + (0.25 + 0.5) * n * UP + norm(runs[0][key]) * 2.0**-50
        assert found[key].allowed == pytest.approx(allowed, rel=2.0**-50), key
        assert found[key].error == size
        assert found[key].ratio == pytest.approx(size / allowed, rel=2.0**-50)


def test_readout_of_own_states_is_allowed_its_budget_and_theirs():
    """dW_hy less h^T g: the budget of dW_hy, and |g| times that of h, summed over steps and rows that run."""
    params = linear().params | {"W_hy": np.ones((3, 3)), "b_y": np.ones(3)}
    problem = linear(params=params, readout="linear", lengths=np.array([4, 1]))
    off = lambda _, key: 0.5 if key == "dW_hy" else 0.0  # noqa: E731
    (found,) = of_own_states(problem, Given(0.25, off)).comparisons
    assert (found.error, found.want) == (0.5, 0)
    live = np.arange(4)[:, None] < np.array([4, 1])
    i, k = found.where
    sent = np.where(live, np.abs(problem.loss.g[:, :, k]), 0.0)
    truth = Given(0.25).truth(problem)
    h = np.abs(truth.solution.near("h")[0][:, :, i])
    size = abs(truth.solution.near("dW_hy")[0][i, k]) + 0.25 + (sent * (h + 0.25)).sum()
    want = 0.25 + 0.25 * sent.sum() * UP + 2 * (5 + 1) * 2.0**-53 * size
    assert found.allowed == pytest.approx(want, rel=2.0**-45)


def test_own_states_that_are_no_numbers_are_what_is_wrong():
    """Not dW_hy, which may be right; h in the padding is nobody's business."""
    params = linear().params | {"W_hy": np.ones((3, 3)), "b_y": np.ones(3)}
    problem = linear(params=params, readout="linear", lengths=np.array([4, 1]))
    for t, b, named in ((1, 0, "h"), (2, 1, "dW_hy")):
        given = Given(0.25)
        answer = given.run(problem)
        answer["h"] = np.array(answer["h"])
        answer["h"][t, b] = np.nan
        given.run = lambda _, answer=answer: answer
        (found,) = of_own_states(problem, given).comparisons
        assert (found.key, found.holds) == (named, named == "dW_hy")


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_jacobian_is_allowed_the_power_of_the_largest_singular_value(factor):
    """W_hh = 3 I over four steps: the Jacobian's norm is 81, which the bound is, to its own roundings."""
    problem = probe(linear(params=linear().params | {"W_hh": 3 * np.eye(3)}))
    off = lambda _, key: (factor - 1) * 81 * np.eye(3) if key == "dh0" else 0.0  # noqa: E731
    (found,) = PROPERTIES["jacobian-norm-bound"].check(Case(problem), Given(0.25, off)).comparisons
    assert found.got == pytest.approx(81 * factor, rel=2.0**-39)
    assert found.got <= 81 * factor
    assert found.allowed == pytest.approx(81 + 0.25 * 3, rel=1e-6)  # nine entries
    assert found.allowed >= 81 + 0.25 * 3
    assert found.holds is (factor == 1.0)


@pytest.mark.parametrize("cell", ["elman", "lstm_1997"])
@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_terms_of_a_comparison_add_up_to_what_was_compared(name, cell, monkeypatch):
    """The script of a counterexample forms this very sum. It has n products and n sums, each rounded once."""
    if not PROPERTIES[name].concerns(cell):
        pytest.skip("the theorem is not about this cell")
    judge, seen = engine.judge, []

    def kept(prop: Any, case: Case, bench: Any, alone: bool) -> Any:
        outcome = judge(prop, case, bench, alone)
        seen.append((outcome, bench))
        return outcome

    monkeypatch.setattr(engine, "judge", kept)
    monkeypatch.setattr(type(PROPERTIES[name]), "fixed", lambda *_: ())
    bench = TargetBench(resolve("numpy"), "float64")
    finding = Search(PROPERTIES[name], bench, cell, "float64", Profile("x", 3, 0), 0).run()
    assert finding.verdict != "error", finding.message
    compared = 0
    for outcome, bench in seen:
        answers: dict[int, Any] = {}
        for c in outcome.judgement.comparisons if outcome.judgement else ():
            parts = []
            for term in c.terms:
                if id(term.problem) not in answers:
                    answers[id(term.problem)] = bench.run(term.problem)
                parts.append(term.coefficient * float(answers[id(term.problem)][term.key][term.where]))
            if parts and (c.got, c.error, c.allowed) != (0, 0, 0):  # else nothing of the array is judged
                rounding = 2 * len(parts) * 2.0**-53 * sum(map(abs, parts)) + 2.0**-39 * abs(c.got)
                assert abs(math.fsum(parts) - c.got) <= rounding, c
                compared += 1
    assert compared or name == "causality"  # an entry that is exactly 0


SUMS = ("shared-weight-summation", "truncation-equivalence", "chunked-forward")


@pytest.mark.parametrize("cell", ["elman", "lstm"])
@pytest.mark.parametrize("name", SUMS)
def test_theorem_holds_of_the_exact_solutions(name, cell):
    """What the runs differ by exactly is what rounding the values between pieces makes: no more than the budgets allow.

    A piece too few or too many would pass unseen, as the exact difference makes up for it.
    """
    search = Search(PROPERTIES[name], TargetBench(resolve("numpy"), "float64"), cell, "float64", Profile("x", 20, 0), 0)
    finding = search.run()
    assert finding.verdict == "pass", finding.message
    seen: dict[int, int] = {}
    for outcome in search.outcomes.values():
        form = outcome.case.parameters.get("form", 0)
        for c in outcome.judgement.comparisons if outcome.judgement else ():
            if name == "truncation-equivalence" and form == 0:  # the double sum is compared with the truth itself
                continue
            assert abs(c.want) <= c.allowed, (form, c)
            seen[form] = seen.get(form, 0) + c.conclusive
    assert min(seen.values()) >= 3, seen
    assert len(seen) == {"shared-weight-summation": 3, "truncation-equivalence": 2, "chunked-forward": 1}[name]


def test_twins_are_all_the_identities():
    """Each pair has one mask; the chunks of k that divide every length are among them."""
    problem = linear(truncation=Truncation("chunk", k=2))
    found = twins(problem, Support())
    named = {(a.kind, a.k or a.k1, b.kind, b.k or b.k2) for a, b in found}
    assert named == {
        ("window", 2, "periodic", 2), ("window", 4, "full", None), ("chunk", 4, "full", None),
        ("periodic", 2, "full", None), ("window", 1, "chunk", 1), ("chunk", 2, "periodic", 2),
    }  # fmt: skip
    for a, b in found:
        for length in problem.row_lengths:
            firsts = [max(1, cut.first(t, int(length))) for cut in (a, b) for t in range(1, int(length) + 1)]
            assert firsts[: len(firsts) // 2] == firsts[len(firsts) // 2 :]
    odd = replace(problem, lengths=np.array([4, 3]))
    assert len(twins(odd, Support())) == 5
    assert twins(problem, Support(truncations=("full", "chunk"))) == [(Truncation("chunk", k=4), Truncation("full"))]


def test_extremes_ask_for_no_softmax_of_one_class():
    def made(H: int, K: int, readout: str) -> Problem | None:
        names = {"readouts": readout, "losses": "cross_entropy", "truncations": "full", "activations": "tanh"}
        return extremes.made("huge", 0, Support(), "elman", "float64", (2, 1, 1, H, K), {**names, "reductions": "sum"})

    assert made(3, 1, "linear") is None
    assert made(1, 3, "none") is None
    assert made(1, 3, "linear") is not None
    assert made(3, 1, "none") is not None


@pytest.mark.parametrize("solved", [lambda p: solve(p, BallNumbers(40)), solve_in_pairs], ids=["balls", "pairs"])
def test_radius_of_a_combination_is_that_of_the_balls(solved):
    """A difference whose middle is 0: nothing but the balls' own radii, rounded upwards."""
    problem = replace(linear(), activation="tanh")
    solution = solved(problem)
    if solution is None:
        pytest.skip("pairs are not compiled here")
    truth = replace(Given(0.0).truth(linear()), solution=solution)
    ones = np.ones(9, dtype=np.int64)
    value, radius = exact_combination([(ones, Part(+1, problem), truth), (-ones, Part(-1, problem), truth)], ["dW_hh"])
    assert (value == 0).all()
    terms = [Term(1.0, problem, "dW_hh", (0, 0)), Term(-1.0, problem, "dW_hh", (0, 0))]
    middle, of_terms = exact_terms([(term, truth) for term in terms])
    assert middle == 0
    with scope(solution.N):
        rads = [_rational((1 * ball + -1 * ball).rad()) for ball in solution.values["dW_hh"]]
    if isinstance(solution, PairSolution):
        assert Fraction(of_terms) >= rads[0] > 0
        rads = [2 * Fraction(rad) for rad in solution.near("dW_hh")[2].ravel().tolist()]
    else:
        assert rads[0] <= Fraction(of_terms) <= rads[0] * (1 + Fraction(1, 2**39))
    for bound, exact in zip(radius.tolist(), rads, strict=True):
        assert 0 < exact <= Fraction(bound) <= exact * (1 + Fraction(1, 2**39))


def test_a_run_stands_as_zero_where_it_adds_nothing():
    part = Part(+1, linear(), {"h": np.array([[1, -1], [-1, 0]])})
    assert part.at("h", np.array([[3.0], [5.0]])).tolist() == [[5.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize("where", [(0, 0, 0), (3, 1, 2)])
@pytest.mark.parametrize("off", [0.0, 0.5, -0.5, 0.625, -0.75, np.inf, np.nan])
def test_an_answer_is_within_where_no_comparison_fails(off, where):
    """The second row ends after three steps: what stands at its fourth is not judged."""
    problem = linear(lengths=np.array([4, 3]))

    def moved(_: Problem, key: str) -> Any:
        shift = np.zeros(gradient_shapes(problem)[key])
        if key == "h":
            shift[where] = off
        return shift

    bench = Given(0.5, moved)
    answer, truth = bench.run(problem), bench.truth(problem)
    judgement = against_truth(problem, answer, truth)
    assert within(problem, answer, truth) is not judgement.failed
    assert judgement.failed == (where == (0, 0, 0) and not abs(off) <= 0.5)
    truth.budget.arrays["h"][where] = np.inf
    assert within(problem, answer, truth)


def test_differences_of_a_loss_that_does_not_move_say_something():
    problem = linear(loss=Loss("cotangent", g=np.zeros((4, 2, 3))))
    case = Case(problem, {"array": 0, "sizes": 0})
    (found,) = PROPERTIES["loss-differences"].check(case, Given(0.0)).comparisons
    assert (found.got, found.want, found.conclusive) == (0, 0, True)
