"""Exact problems: the integer road against rationals, the proof against roads that watch every bit, and the property.

The proof says of a problem that every conventional order and algebra gives the same bits. Here that is held against
rationals that note each result a format has no room for, and against implementations that share no order of summation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

from bptt.problem import SIGNIFICAND, Loss, Problem
from bptt.support import Support, read_support
from bptt.truncation import Truncation
from conformance.bench import TargetBench
from conformance.engine import Profile, Search
from conformance.targets import Target
from implementations import registry
from oracle.exact import exact_solution, is_exact, why_inexact
from oracle.numbers import Matrix, NotInThisSystem
from oracle.rational_numbers import RationalNumbers
from oracle.solution import solve
from properties.base import Case
from properties.exact_problems import CROWDED, LONG, PROPERTY, draw_exact, fixed_problems, recurrent_weights
from properties.recipe import Draw
from properties.strategies import to_dtype
from tests.loading import in_process, load

HERE = Path(__file__).parent
Array = NDArray[Any]
TRUNCATIONS = (
    Truncation(),
    *(Truncation(kind, k=k) for kind in ("window", "chunk") for k in (1, 2, 3, 4, 9)),
    *(Truncation("periodic", k1=a, k2=b) for a, b in ((1, 2), (2, 2), (2, 3), (3, 3), (3, 5), (2, 9), (4, 4))),
)
REDUCTIONS = (("sum", "sum"), ("mean", "sum"), ("sum", "mean"), ("mean", "mean"), ("tokens", "tokens"))
EVERYTHING = Support(dtypes=("float64", "float32", "float16", "bfloat16"), h0_none=True)
FIRST_FAILURE = Profile("x", 30, 0)


VARIANTS = load("variants", "elman").VARIANTS
Elman = load("mutants", "elman_base").Elman


class Seeded(Draw):
    """The integers of a recipe from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


def drawn(seeds: range, dtype: str, support: Support = EVERYTHING) -> Iterator[Problem]:
    """Problems of the property's strategy."""
    found = (draw_exact(Seeded(seed), support, dtype) for seed in seeds)
    return (problem for problem in found if problem is not None)


def quarters(seed: int, truncation: Truncation, activation: str, readout: str, kind: str) -> Problem:
    """A small problem in multiples of 1/4; every reduction, lengths of 0, no h0, and final cotangents in turn."""
    rng = np.random.default_rng(seed)
    T, B, D, H, K = (int(rng.choice(sizes)) for sizes in ((1, 2, 4, 8), (1, 2, 4), (1, 2, 3), (1, 2, 3), (1, 2, 3)))
    K = K if readout == "linear" else H

    def array(*shape: int) -> Array:
        return rng.integers(-8, 9, shape) / 4

    params = {"W_xh": array(D, H), "W_hh": array(H, H), "b_h": array(H)}
    params |= {"W_hy": array(H, K), "b_y": array(K)} if readout == "linear" else {}
    time, batch = REDUCTIONS[seed % 5]
    lengths = None
    if kind == "cotangent":
        loss = Loss(kind, g=array(T, B, K), g_h_final=array(B, H) if seed % 2 else None)
        lengths = rng.integers(0, T + 1, B) if seed % 3 else None
    else:
        scale = float(rng.choice([1.0, 0.5]))
        loss = Loss(kind, target=array(T, B, K), scale=scale, time_reduction=time, batch_reduction=batch)
        if time != "tokens" and seed % 3:
            lengths = np.minimum(T, rng.choice([0, 1, 2, 4], B))
    h0 = array(B, H) if seed % 7 else None
    return Problem("elman", params, array(T, B, D), loss, h0, None, activation, readout, lengths, truncation)


def fractions(problem: Problem) -> dict[str, list[Fraction]]:
    """The integer road's solution as rationals."""
    return {
        key: [Fraction(int(n)) * Fraction(2) ** value.e for n in value.n.reshape(-1).tolist()]
        for key, value in exact_solution(problem).items()
    }


# ---- the integer road ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
def test_solution_in_integers_is_that_in_rationals(truncation):
    names = itertools.product(("relu", "identity"), ("linear", "none"), ("cotangent", "squared_error"))
    for i, (activation, readout, kind) in enumerate(names):
        for seed in (i, 100 + 3 * i, 200 + 7 * i):
            problem = quarters(seed, truncation, activation, readout, kind)
            assert fractions(problem) == solve(problem, RationalNumbers()).values, seed


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_solution_in_integers_outgrows_64_bits(activation):
    rng = np.random.default_rng(5)
    base = quarters(1, Truncation("window", k=3), activation, "none", "cotangent")
    H = base.H
    x, g = rng.integers(-9, 10, (40, 2, 3)) * 2.0**30, rng.integers(-9, 10, (40, 2, H)) / 2.0**40
    params = {"W_xh": rng.integers(-9, 10, (3, H)) / 8, "W_hh": base.params["W_hh"] * 7, "b_h": base.params["b_h"]}
    problem = replace(base, params=params, x=x, loss=Loss("cotangent", g=g), h0=None, lengths=None)
    assert max(value.top for value in exact_solution(problem).values()) > 1 << 70
    assert fractions(problem) == solve(problem, RationalNumbers()).values


def test_solution_in_integers_follows_the_powers_of_a_hadamard_matrix():
    W = recurrent_weights("hadamard", 3, 16, "float64")
    assert np.array_equal(W @ W.T, np.eye(16))
    g = np.zeros((200, 1, 16))
    g[-1] = np.arange(16)
    params = {"W_xh": np.ones((1, 16)), "W_hh": W, "b_h": np.zeros(16)}
    problem = Problem("elman", params, np.zeros((200, 1, 1)), Loss("cotangent", g=g), activation="identity")
    solution = exact_solution(problem)
    assert is_exact(problem)
    dh = np.asarray(g[-1])
    for s in range(199, -1, -1):
        assert np.array_equal(solution["dx"].floats()[s, 0], dh.sum(axis=1))
        dh = dh @ W.T
    assert np.array_equal(solution["dh0"].floats(), dh)
    assert np.square(dh).sum() == np.square(g[-1]).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "tanh"}, "elman tanh: expected elman with identity or relu"),
        ({"x": np.ones((3, 1, 1))}, "a mean over 3 numbers: expected a power of two"),
    ],
)
def test_solution_in_integers_is_refused_elsewhere(change, message):
    one = np.ones((1, 1))
    T = len(change.get("x", np.ones((4, 1, 1))))
    loss = Loss("squared_error", target=np.ones((T, 1, 1)), scale=0.5, time_reduction="mean")
    params = {"W_xh": one, "W_hh": one, "b_h": one[0]}
    problem = Problem("elman", params, np.ones((T, 1, 1)), loss, activation=change.get("activation", "relu"))
    assert why_inexact(problem) == message
    with pytest.raises(NotInThisSystem, match=message):
        exact_solution(problem)


# ---- the proof -------------------------------------------------------------------------------------------------------


class Watched(Fraction):
    """A rational that notes every sum and product for which a format has no room."""

    bits: ClassVar[int]
    lost: ClassVar[int]

    @classmethod
    def noted(cls, value: Fraction) -> Watched:
        """The value, noted if it needs more than `bits` bits or no power of two is its denominator."""
        n, d = abs(value.numerator), value.denominator
        if d & (d - 1) or (n // (n & -n) if n else 0).bit_length() > cls.bits:
            Watched.lost += 1
        return cls(value)

    def __add__(self, other: Any) -> Watched:
        return self.noted(Fraction.__add__(self, other))

    def __radd__(self, other: Any) -> Watched:
        return self.noted(Fraction.__radd__(self, other))

    def __sub__(self, other: Any) -> Watched:
        return self.noted(Fraction.__sub__(self, other))

    def __mul__(self, other: Any) -> Watched:
        return self.noted(Fraction.__mul__(self, other))

    def __rmul__(self, other: Any) -> Watched:
        return self.noted(Fraction.__rmul__(self, other))


class WatchedNumbers(RationalNumbers):
    """Rationals that are watched; inner products and sums are formed in a random order."""

    def __init__(self, seed: int, bits: int) -> None:
        self.rng = np.random.default_rng(seed)
        Watched.bits, Watched.lost = bits, 0

    def scalar(self, n: int, e: int = 0) -> Any:
        return Watched(super().scalar(n, e))

    def ratio(self, value: Fraction) -> Any:
        return Watched(value)

    def sum(self, values: Any) -> Any:
        return super().sum([values[i] for i in self.rng.permutation(len(values))])

    def matmul(self, X: Matrix, W: Matrix) -> Matrix:
        order = self.rng.permutation(X.cols).tolist()
        rows = [[X.data[i * X.cols + k] for k in order] for i in range(X.rows)]
        return super().matmul(
            Matrix(X.rows, X.cols, [value for row in rows for value in row]),
            Matrix(W.rows, W.cols, [value for k in order for value in W.row(k)]),
        )


def bits_lost(problem: Problem, seed: int) -> int:
    """How many results of the reverse mode and of the double sum the problem's dtype has no room for."""
    total = 0
    for road in ("reverse", "double-sum"):
        solve(problem, WatchedNumbers(seed, SIGNIFICAND[problem.dtype]), road)
        total += Watched.lost
    return total


def heaviest(problem: Problem) -> Problem:
    """The problem with its cotangents (or its inputs) times the largest 2^j - 1 with which it is still exact."""

    def times(array: Array | None, factor: int) -> Array | None:
        return None if array is None else to_dtype(array.astype(np.float64) * factor, problem.dtype)

    def heavier(j: int) -> Problem:
        loss, factor = problem.loss, 2**j - 1
        if loss.kind != "cotangent":
            return replace(problem, x=times(problem.x, factor))
        return replace(problem, loss=replace(loss, g=times(loss.g, factor), g_h_final=times(loss.g_h_final, factor)))

    low, high = 1, SIGNIFICAND[problem.dtype] + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_exact(heavier(middle)) else (low, middle)
    return heavier(low)


def test_roads_over_exact_problems_lose_no_bit():
    small = replace(EVERYTHING, max_size={"T": 7, "B": 2, "D": 3, "H": 4, "K": 3})
    for dtype, seeds in (("bfloat16", range(60)), ("float32", range(60, 80))):
        for problem in drawn(seeds, dtype, small):
            assert bits_lost(heaviest(problem), 1) == 0


def test_roads_over_refused_problems_lose_bits():
    refused = [quarters(seed, Truncation(), "identity", "linear", "squared_error") for seed in range(0, 120, 5)]
    refused = [to_bfloat16(problem) for problem in refused if problem.T > 2]
    refused = [problem for problem in refused if not is_exact(problem)]
    assert len(refused) > 8
    assert all(bits_lost(problem, 1) > 0 for problem in refused)


def to_bfloat16(problem: Problem) -> Problem:
    """The same numbers, which are quarters below 8, in bfloat16."""
    params = {name: value.astype(np.float32) for name, value in problem.params.items()}
    fields = {name: getattr(problem.loss, name) for name in ("g", "g_h_final", "target")}
    loss = replace(problem.loss, **{n: None if v is None else v.astype(np.float32) for n, v in fields.items()})
    h0 = None if problem.h0 is None else problem.h0.astype(np.float32)
    return replace(problem, params=params, x=problem.x.astype(np.float32), h0=h0, loss=loss, dtype="bfloat16")


def network(**arrays: Any) -> Problem:
    """A float32 identity network from nested lists; of one step, two rows, one input, one unit if nothing is said."""
    given = {"x": [[[0], [0]]], "W_xh": [[1]], "W_hh": [[1]], "g": None, "target": None, "end": None, "h0": None}
    given |= arrays
    array = {name: None if value is None else np.array(value, np.float32) for name, value in given.items()}
    H = len(given["W_hh"])
    params = {"W_xh": array["W_xh"], "W_hh": array["W_hh"], "b_h": np.zeros(H, np.float32)}
    linear = "W_hy" in given
    if linear:
        params |= {"W_hy": array["W_hy"], "b_y": array["b_y"]}
    g = array["g"]
    if g is None:
        g = np.zeros((*array["x"].shape[:2], params["b_y"].size if linear else H), np.float32)
    loss = Loss("cotangent", g=g, g_h_final=array["end"])
    if array["target"] is not None:
        loss = Loss("squared_error", target=array["target"], scale=1.0)
    readout = "linear" if linear else "none"
    return Problem("elman", params, array["x"], loss, array["h0"], None, "identity", readout, dtype="float32")


HALF = 2**23
EXCESSES = [  # what is beyond 24 bits, and the network, to which 0 or 1 is added at one place
    ("a", lambda n: network(x=[[[1], [1]]], W_xh=[[2 * HALF - 1 + n]], h0=[[1], [1]])),
    ("o", lambda n: network(h0=[[1], [0]], W_hy=[[2 * HALF - 1]], b_y=[1 + n], g=[[[1], [0]]])),
    ("o - target", lambda n: network(h0=[[1], [0]], target=[[[-2 * HALF * n], [0]]])),
    ("loss", lambda n: network(x=[[[HALF]], [[n]]], g=[[[1]], [[1]]])),
    ("loss", lambda n: network(h0=[[HALF], [HALF]], end=[[1], [1]], W_hh=[[1]], x=[[[n], [0]]])),
    ("loss", lambda n: network(target=[[[4096], [n]]])),
    ("dh_t/dW_hh", lambda n: network(x=[[[HALF + n]], [[0]]])),
    ("dh_t/dx_s", lambda n: network(W_xh=[[HALF + n]], W_hh=[[2]])),
    ("dW_xh", lambda n: network(x=[[[HALF], [HALF + n]]], W_xh=[[0]], g=[[[1], [1]]])),
    ("dW_hh", lambda n: network(h0=[[HALF], [HALF + n]], W_hh=[[0]], g=[[[1], [1]]])),
    ("db_h", lambda n: network(g=[[[HALF], [HALF + n]]])),
    ("db_h", lambda n: network(g=[[[HALF], [0]]], end=[[0], [HALF + n]])),
    ("db_h", lambda n: network(x=[[[0]], [[0]]], g=[[[2 - n]], [[HALF - 1 + n]]])),
    ("dx", lambda n: network(W_xh=[[1, 1]], W_hh=[[0, 0], [0, 0]], g=[[[HALF, HALF + n], [0, 0]]])),
    ("dh0", lambda n: network(W_xh=[[0, 0]], W_hh=[[1, 1], [0, 0]], g=[[[HALF, HALF + n], [0, 0]]])),
    ("dW_hy", lambda n: network(h0=[[HALF], [HALF + n]], W_hy=[[0]], b_y=[0], g=[[[1], [1]]])),
    ("db_y", lambda n: network(W_hy=[[0]], b_y=[0], g=[[[HALF], [HALF + n]]])),
]


@pytest.mark.parametrize(("name", "made"), EXCESSES, ids=[f"{i}-{name}" for i, (name, _) in enumerate(EXCESSES)])
def test_proof_ends_where_a_sum_of_absolute_terms_leaves_the_significand(name, made):
    assert why_inexact(made(0)) is None
    assert str(why_inexact(made(1))).startswith(f"{name}: its absolute terms sum to ")
    assert is_exact(made(1), "float64")


def test_proof_ends_at_the_ends_of_the_exponents():
    for e in (-65, 65):
        assert is_exact(network(g=[[[2.0 ** (e // 2)], [0]]], W_xh=[[2.0**e]]))
        why = why_inexact(network(g=[[[2.0**e], [0]]], W_xh=[[2.0**e]]))
        assert why == f"dx: terms of 2^{2 * e} to 1 times that are outside the normal numbers of float32"


def test_proof_knows_formats_other_than_the_dtype():
    formats = ("float64", "float32", "float16", "bfloat16")
    for n, exact in ((99, [True] * 4), (999, [True, True, True, False]), (1999, [True, True, False, False])):
        assert [is_exact(network(g=[[[n], [n]]]), name) for name in formats] == exact


def test_proof_takes_powers_where_paths_are_too_many():
    W = recurrent_weights("hadamard", 5, 4, "float64")
    for activation, exact in (("identity", True), ("relu", False)):
        loss = Loss("cotangent", g=np.ones((60, 1, 4)))
        params = {"W_xh": np.zeros((1, 4)), "W_hh": W, "b_h": np.zeros(4)}
        problem = Problem("elman", params, np.zeros((60, 1, 1)), loss, activation=activation)
        assert is_exact(problem) == exact
    loss = Loss("cotangent", g=np.full((60, 1, 4), 2.0**46 + 1))
    wide = replace(problem, activation="identity", loss=loss)
    assert str(why_inexact(wide)).startswith("dh_t/dW_hh: ")


# ---- the bits of implementations -------------------------------------------------------------------------------------


def failures(target: Target, problems: Iterator[Problem], dtype: str) -> tuple[int, list[str]]:
    """(arrays compared, what differs from the exact bits)."""
    bench, compared, wrong = TargetBench(target, dtype), 0, []
    for problem in problems:
        for comparison in PROPERTY.check(Case(problem), bench).comparisons:
            compared += 1
            if not comparison.holds:
                wrong.append(f"{comparison} {problem.truncation} {problem.activation} {problem.loss.kind}")
    return compared, wrong


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(name for name, one in registry.BUILT_IN.items() if not one.compiles))
def test_bits_of_built_in_implementations_are_the_exact_ones(name, dtype):
    reason = registry.availability()[name]
    if reason is not None:
        pytest.skip(reason)
    target = in_process(name)
    small = replace(target.support, max_size={"T": 17, "B": 4, "H": 17})
    problems = map(heaviest, drawn(range(16), dtype, small))
    compared, wrong = failures(target, problems, dtype)
    assert compared > 120
    assert wrong == []


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_bits_of_correct_variants_are_the_exact_ones(name):
    target = in_process(f"{HERE / 'variants' / 'elman.py'}:{name}")
    for dtype, seeds in (("float64", range(100, 103)), ("float32", range(103, 109))):
        compared, wrong = failures(target, map(heaviest, drawn(seeds, dtype, target.support)), dtype)
        assert compared > 8
        assert wrong == []


def test_bits_of_variants_differ_where_problems_are_not_exact():
    rng = np.random.default_rng(0)
    problem = next(p for p in drawn(range(99), "float32") if p.T > 10 and p.H > 3 and p.loss.kind == "cotangent")
    noisy = replace(problem, x=rng.normal(size=problem.x.shape).astype(np.float32))
    names = ("stacked_products", "forward_mode", "masked_double_sum", "summed_forward_in_time", "recurrent_part_first")
    answers = [in_process(f"{HERE / 'variants' / 'elman.py'}:{name}").call(noisy) for name in names]
    assert len({answer["dW_hh"].tobytes() for answer in answers}) > 1


# ---- the property ----------------------------------------------------------------------------------------------------

SOME = [
    {"activations": ["relu"], "losses": ["squared_error"], "reductions": ["mean"], "lengths": False},
    {
        "dtypes": ["float32"],
        "readouts": ["linear"],
        "truncations": ["window"],
        "reductions": ["tokens"],
        "final_cotangents": False,
    },
    {"readouts": ["none"], "truncations": ["periodic"], "losses": ["cotangent"], "max_size": {"K": 3, "T": 5, "B": 1}},
    {"activations": ["identity", "tanh"], "max_size": {"T": 1, "B": 1, "D": 1, "H": 1, "K": 1}},
    {"losses": ["cross_entropy", "squared_error"], "reductions": ["sum"], "dtypes": ["float64"]},
    {"dtypes": ["float32"], "accumulate": "bfloat16"},
    {"dtypes": ["float16", "bfloat16"], "h0_none": True},
]


def offers(support: Support, problem: Problem) -> bool:
    """Whether a target has said that it takes a problem."""
    loss = problem.loss
    named = (
        (problem.activation, support.activations),
        (problem.readout, support.readouts),
        (loss.kind, support.losses),
        (problem.truncation.kind, support.truncations),
    )
    reductions = {loss.time_reduction, loss.batch_reduction} if loss.kind != "cotangent" else set()
    return (
        all(name in offered for name, offered in named)
        and reductions <= set(support.reductions)
        and all(getattr(problem, size) <= most for size, most in support.max_size.items())
        and (problem.lengths is None or support.lengths)
        and (problem.h0 is not None or support.h0_none)
        and (loss.g_h_final is None or support.final_cotangents)
    )


@pytest.mark.parametrize("declared", SOME, ids=[str(i) for i in range(len(SOME))])
def test_problems_are_those_that_a_target_offers(declared):
    support = read_support(declared)
    assert PROPERTY.unsupported(support, "elman") is None
    for dtype in support.dtypes:
        problems = list(drawn(range(16), dtype, support))
        assert len(problems) > 12
        assert all(is_exact(problem, support.accumulate) for problem in problems)
        fixed = [case.problem for case in PROPERTY.fixed(support, "elman", dtype)]
        assert bool(fixed) == ("cotangent" in support.losses or "sum" in support.reductions)
        assert all(offers(support, problem) for problem in problems + fixed)
        assert support.accumulate is None or all(is_exact(problem, support.accumulate) for problem in fixed)


def test_problems_are_not_asked_of_targets_without_them():
    assert not PROPERTY.concerns("lstm")
    for declared in ({"activations": ["tanh"]}, {"losses": ["cross_entropy"]}, {"truncations": ["cec"]}):
        assert PROPERTY.unsupported(read_support(declared), "elman") == f"needs {PROPERTY.needs}"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_problems_in_every_certificate_are_all_exact(dtype):
    problems = list(fixed_problems(EVERYTHING, dtype))
    assert [case.problem.T for case in PROPERTY.fixed(EVERYTHING, "elman", dtype)] == [p.T for p in problems]
    assert [p.T for p in problems] == [LONG, 1000, 1000, 300, 300, 300, *(T for T, _, _, _ in CROWDED)]
    assert {p.truncation.kind for p in problems} == {"full", "window", "chunk", "periodic"}
    for problem in problems:
        solution = solution_of(problem)
        rows = [solution[key][at] for key in ("dW_xh", "dW_hh", "dh0", "dx", "dW_hy") for at in (0, -1)]
        columns = [
            solution[key][..., at] for key in ("dW_xh", "dW_hh", "db_h", "dh0", "dW_hy", "db_y") for at in (0, -1)
        ]
        assert all(part.any() for part in rows + columns) or problem.T >= 300  # those have few losses
        assert solution["dW_hh"].any()


def test_problems_reach_the_edges_and_every_name():
    problems = list(drawn(range(400), "float64"))
    for size in ("T", "B", "H"):
        assert {16, 17, 32, 33, 64, 65} <= {getattr(p, size) for p in problems}
    assert sum(bool(solution_of(p)["dW_hh"].any()) for p in problems) > 200
    assert {(p.loss.time_reduction, p.loss.batch_reduction) for p in problems} == set(REDUCTIONS)
    assert {(p.activation, p.readout, p.loss.kind, p.truncation.kind) for p in problems} >= set(
        itertools.product(
            ("relu", "identity"),
            ("none", "linear"),
            ("cotangent", "squared_error"),
            ("full", "window", "chunk", "periodic"),
        )
    )
    assert sum(p.activation == "relu" and (solution_of(p)["h"] == 0).any() for p in problems) > 80
    assert sum((p.params["W_hh"] % 1 != 0).any() for p in problems) > 20  # Hadamard matrices


def solution_of(problem: Problem) -> dict[str, Array]:
    """The exact solution as floats."""
    return {key: value.floats() for key, value in exact_solution(problem).items()}


def test_problems_shrink_to_one_unit_of_weight_one():
    found: list[Problem] = []

    @hypothesis.seed(0)
    @hypothesis.settings(database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(PROPERTY.cases(EVERYTHING, "elman", "float64"))
    def search(case: Case) -> None:
        if case.problem.T > 2 and solution_of(case.problem)["dW_hh"].any():
            found.append(case.problem)
            raise LookupError

    with pytest.raises(LookupError):
        search()
    problem = found[-1]
    assert (problem.T, problem.B, problem.D, problem.H, problem.K) == (3, 1, 1, 1, 1)
    assert all((value == 1).all() for value in (problem.params["W_hh"], problem.x, problem.h0, problem.loss.g))


class Stub:
    """A bench whose target gives one answer."""

    support = EVERYTHING

    def __init__(self, answer: dict[str, Array] | None) -> None:
        self.answer = answer

    def run(self, problem: Problem) -> dict[str, Array]:
        assert self.answer is not None
        return self.answer


def test_check_wants_every_bit_but_the_sign_of_zero():
    problem = network(g=[[[3], [0]]])
    right = {key: value.astype(np.float32) for key, value in solution_of(problem).items()}
    assert not PROPERTY.check(Case(problem), Stub(right)).failed
    assert not PROPERTY.check(Case(problem), Stub(right | {"h": -right["h"]})).failed
    for wrong in (np.nextafter(np.float32(3), np.float32(4)), np.nan, np.inf):
        judgement = PROPERTY.check(Case(problem), Stub(right | {"db_h": np.array([wrong], np.float32)}))
        assert judgement.failed
        assert judgement.worst.key == "db_h"
        assert judgement.worst.ratio == np.inf
        assert judgement.worst.terms[0].where == (0,)
    assert PROPERTY.check(Case(problem), Stub(right)).conclusive


def test_check_says_nothing_of_what_is_not_exact():
    judgement = PROPERTY.check(Case(network(g=[[[2 * HALF], [1]]])), Stub(None))  # the target is not even asked
    assert judgement.comparisons == ()


# ---- planted bugs ----------------------------------------------------------------------------------------------------


class WindowOneTooLong(Elman):
    """From 300 steps on the window is one step too long."""

    def first(self, t: int) -> Array:
        cut = self.truncation
        return super().first(t if cut.kind != "window" or self.T < 300 else max(1, t - 1))


class ChunkOneTooLong(Elman):
    """From 300 steps on, errors pass from the second chunk into the first one's last step."""

    def first(self, t: int) -> Array:
        first = super().first(t)
        return first - 1 if self.truncation.kind == "chunk" and self.T >= 300 and 7 < t <= 14 else first


class LastStepLost(Elman):
    """From 10,000 steps on the last step is missing from dW_hh."""

    def add_recurrent_weight(self, s: int, delta: Array) -> None:
        if not s == self.T >= 10_000:
            super().add_recurrent_weight(s, delta)


class FarTermsLost(Elman):
    """Errors are dropped 500 steps from the end."""

    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return super().carry(s, dh, delta) * (self.T - s != 500)


class NormDrifts(Elman):
    """The carry grows by a few units of its last place at each step."""

    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return super().carry(s, dh, delta) * (1 + 4 * np.finfo(self.dtype).eps)


class SlopeAtZero(Elman):
    """relu'(0) is 1."""

    def dphi(self, a: Array, h: Array) -> Array:
        return (a >= 0).astype(self.dtype) if self.activation == "relu" else super().dphi(a, h)


class Transposed(Elman):
    """The carry is delta W_hh, the transpose forgotten."""

    def carry(self, s: int, dh: Array, delta: Array) -> Array:
        return delta @ self.W_hh


class LastUnitOfTile(Elman):
    """Unit 64 is left out of the bias gradient: a tile ends there."""

    def add_bias(self, s: int, delta: Array) -> None:
        super().add_bias(s, delta * (np.arange(self.H) != 64))


BUGS = [  # the bug, and the number of steps of the first problem that shows it, which is as long as the target takes
    (WindowOneTooLong, 300),
    (ChunkOneTooLong, 300),
    (LastStepLost, 10_000),
    (FarTermsLost, 1_000),
    (NormDrifts, 400),
    (SlopeAtZero, 16),
    (Transposed, 400),
    (LastUnitOfTile, 32),
]


def planted(bug: type[Any], steps: int) -> Target:
    """A target with the bug, for problems of up to so many steps."""
    support = read_support(load("mutants", "elman_base").SUPPORTS | {"max_size": {"T": steps}})
    return Target(bug.__name__, "path", support, lambda problem: bug(problem).solve(), None, None)


@pytest.mark.parametrize(("bug", "steps"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_planted_bug_is_caught(bug, steps):
    bench = TargetBench(planted(bug, steps), "float32")
    finding = Search(PROPERTY, bench, "elman", "float32", FIRST_FAILURE, 0).run()
    assert finding.verdict == "fail"
    caught = finding.smallest.case.problem.T
    assert caught == steps


def test_planted_bug_shrinks_to_one_unit_at_its_kink():
    bench = TargetBench(planted(SlopeAtZero, 65), "float64")
    finding = Search(PROPERTY, bench, "elman", "float64", Profile("x", 30, 300), 0).run()
    problem = finding.smallest.case.problem
    assert (problem.B, problem.D, problem.H, problem.K) == (1, 1, 1, 1)
    assert problem.T <= 2  # at one step the smallest numbers are not at a kink
    assert 0 in exact_solution(problem)["h"].n


def test_no_bug_is_seen_where_none_is_planted():
    finding = Search(PROPERTY, TargetBench(planted(Elman, 400), "float32"), "elman", "float32", FIRST_FAILURE, 0).run()
    assert (finding.verdict, finding.conclusive) == ("pass", finding.examples)
    assert finding.examples >= 40
