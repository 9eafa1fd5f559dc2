"""The planted bugs and the honest variants are what their tables say; one file, as all checks share their problems.

A bug must differ from the correct base, and be seen by the property that it names; a variant must agree with the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from oracle import solution
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model, budget
from tests.loading import load

Array = npt.NDArray[Any]
Results = dict[str, Any]
Adapter = Callable[[Any], Results]

HERE = Path(__file__).parent
ACTIVATIONS = ("tanh", "sigmoid", "relu", "identity")
REDUCTIONS = (("sum", "sum"), ("mean", "sum"), ("sum", "mean"), ("mean", "mean"), ("tokens", "tokens"))
PROPERTIES = ("oracle-agreement", "shared-weight-summation", "truncation-equivalence", "jacobian-norm-bound")
OTHERS = (
    "exact-problems", "truncation-nesting", "norm-preservation", "causality", "readout-locality",
    "cotangent-linearity", "final-cotangent", "batch-consistency", "padding-invariance", "unit-permutation",
    "sign-symmetry", "chunked-forward", "zero-initial-state", "loss-differences", "extremes", "memory",
    "repeatability", "shapes", "training-trajectory",
)  # fmt: skip
UNSEEN = {
    "strides_of_x_ignored", "initial_state_borrowed", "results_in_buffers_of_the_next_call",
    "outputs_share_memory_with_states", "handle_kept_after_an_error", "subnormals_flushed",
}  # fmt: skip
"""Bugs that plain calls on moderate problems do not show; the properties that they name do (tests/test_teeth.py)."""
WEIGHTS = ("dW_xh", "dW_hh", "db_h")
ROUNDING = {"float64": 1e-12, "float32": 2e-5}  # of an array's norm, on problems that neither explode nor cancel
LEFT_OUT = {"without_input_gradient": {"dx"}, "gradients_only": {"loss", "h", "o"}}
FAR_ABOVE = {"float64": 3e-11, "float32": 1e-4}


base = load("mutants", "elman_base")
mutants = load("mutants", "elman")
variants = load("variants", "elman")


def make_loss(rng: np.random.Generator, kind: str, shape: tuple[int, ...], **choices: Any) -> SimpleNamespace:
    """Return a loss with random, non-zero data."""
    T, B, H, K = shape
    time, batch = choices.get("reductions", ("sum", "sum"))
    common = {"kind": kind, "time_reduction": time, "batch_reduction": batch}
    if kind == "cotangent":
        g_h_final = rng.normal(size=(B, H)) if choices.get("final", True) else None
        return SimpleNamespace(g=rng.normal(size=(T, B, K)), g_h_final=g_h_final, g_c_final=None, **common)
    if kind == "squared_error":
        return SimpleNamespace(target=rng.normal(size=(T, B, K)), scale=choices.get("scale", 0.5), **common)
    if choices.get("classes", True):
        return SimpleNamespace(target=rng.integers(0, K, (T, B)), **common)
    y = rng.uniform(0.1, 1, size=(T, B, K))
    return SimpleNamespace(target=y / y.sum(axis=-1, keepdims=True), **common)


def make_problem(seed: int, **choices: Any) -> SimpleNamespace:
    """Return a seeded generic problem; `choices` name what must not be left to the seed."""
    rng = np.random.default_rng(seed)
    dtype = choices.get("dtype", "float64")
    T, B, D, H, K = choices.get("sizes", (7, 2, 3, 5, 4))
    readout = choices.get("readout", "linear")
    K = K if readout == "linear" else H
    W_hh = rng.normal(size=(H, H)) * choices.get("gain", 0.9) / np.sqrt(H)
    W_hh[rng.random((H, H)) < choices.get("zeros", 0)] = 0
    params = {"W_xh": rng.normal(size=(D, H)) / np.sqrt(D), "W_hh": W_hh, "b_h": rng.normal(size=H) / 2}
    if readout == "linear":
        params |= {"W_hy": rng.normal(size=(H, K)) / np.sqrt(H), "b_y": rng.normal(size=K) / 2}
    loss = make_loss(rng, choices.pop("loss", "cotangent"), (T, B, H, K), **choices)
    x = rng.normal(size=(T, B, D))
    x[-1] *= choices.get("last_input", 1)
    if "b_y" in params:
        params["b_y"][0] *= choices.get("first_logit", 1)
    lengths = choices.get("lengths")
    problem = SimpleNamespace(
        cell="elman", activation=choices.get("activation", "tanh"), readout=readout, dtype=dtype, params=params, x=x,
        h0=None if choices.get("h0_none") else rng.normal(size=(B, H)), c0=None, loss=loss,
        lengths=None if lengths is None else np.array(lengths, np.int64),
        truncation=SimpleNamespace(**choices.get("truncation", {"kind": "full"})),
    )  # fmt: skip
    for holder in (problem.params, vars(problem), vars(loss)):
        for name, value in holder.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                holder[name] = value.astype(dtype)
    return problem


def drawn_choices(seed: int) -> dict[str, Any]:
    """Draw a configuration and odd, unequal sizes."""
    rng = np.random.default_rng([7, seed])
    T, B = int(rng.integers(2, 12)), int(rng.integers(1, 6))
    D, H, K = (int(n) for n in rng.permutation([2, 3, 4, 5, 7])[:3])
    k1 = int(rng.integers(1, 5))
    kinds = ({"kind": "full"}, {"kind": "window", "k": k1}, {"kind": "chunk", "k": k1},
             {"kind": "periodic", "k1": k1, "k2": k1 + int(rng.integers(0, 4))})  # fmt: skip
    loss = str(rng.choice(["cotangent", "squared_error", "cross_entropy"]))
    return {
        "sizes": (T, B, D, H, K), "activation": str(rng.choice(ACTIVATIONS)), "loss": loss,
        "reductions": REDUCTIONS[0] if loss == "cotangent" else REDUCTIONS[int(rng.integers(5))],
        "readout": str(rng.choice(["linear", "linear", "none"])), "truncation": kinds[int(rng.integers(4))],
        "dtype": str(rng.choice(["float64", "float64", "float32"])), "h0_none": rng.random() < 0.2,
        "lengths": rng.integers(0, T + 1, B) if rng.random() < 0.5 else None, "final": rng.random() < 0.6,
        "classes": rng.random() < 0.5, "scale": float(rng.choice([0.5, 1.0])), "zeros": rng.choice([0, 0, 0.3]),
        "gain": rng.choice([0.5, 0.9, 1.3]),
    }  # fmt: skip


SPECIAL: tuple[dict[str, Any], ...] = (
    {"sizes": (1, 1, 1, 1, 1)},
    {"sizes": (1, 2, 3, 4, 5)},
    {"sizes": (37, 2, 3, 5, 4), "gain": 1.1},
    {"sizes": (40, 3, 2, 5, 4), "truncation": {"kind": "window", "k": 19}},
    {"sizes": (19, 2, 3, 5, 4), "loss": "squared_error", "dtype": "float32"},
    {"sizes": (4, 2, 3, 35, 5)},
    {"sizes": (5, 3, 2, 7, 4), "loss": "cross_entropy", "reductions": ("mean", "mean")},
    {"sizes": (3, 2, 5, 5, 4)},
    {"sizes": (3, 2, 5, 5, 4), "readout": "none"},
    {"sizes": (5, 3, 2, 4, 3), "lengths": (5, 0, 2)},
    {"sizes": (5, 3, 2, 4, 3), "lengths": (5, 3, 2), "readout": "none"},
    {"sizes": (3, 2, 4, 5, 3), "truncation": {"kind": "window", "k": 7}},
    {"sizes": (4, 2, 3, 5, 4), "h0_none": True},
    {"activation": "sigmoid", "last_input": 3000},
    {"activation": "tanh", "last_input": 3000},
    {"sizes": (3, 2, 3, 5, 17)},
    {"sizes": (9, 2, 3, 5, 4)},
    {"sizes": (3, 2, 3, 5, 4)},
    {"activation": "sigmoid", "last_input": 300, "dtype": "float32"},
    {"loss": "cross_entropy", "first_logit": 5000},
    {"sizes": (6, 2, 3, 5, 4), "activation": "sigmoid", "readout": "none", "zeros": 0.3},
    {"sizes": (6, 2, 3, 5, 4), "activation": "relu", "gain": 2.0},
    {"sizes": (7, 3, 2, 5, 4), "truncation": {"kind": "periodic", "k1": 3, "k2": 5}, "lengths": (7, 5, 2)},
    {"sizes": (7, 3, 2, 5, 4), "truncation": {"kind": "chunk", "k": 3}},
)


def problems() -> Iterator[SimpleNamespace]:
    """Yield a few dozen fresh problems, the special ones first."""
    for seed, choices in enumerate([*SPECIAL, *(drawn_choices(seed) for seed in range(40))]):
        yield make_problem(seed, **choices)


def solve(adapter: Adapter, problem: SimpleNamespace) -> Results | str:
    """Return the results, or the name of the exception."""
    try:
        with np.errstate(all="ignore"):
            return adapter(problem)
    except Exception as error:  # noqa: BLE001 - a bug may raise anything
        return type(error).__name__


def difference(name: str, got: Any, want: Any, tolerance: float, dtype: str) -> str:
    """Say how one result breaks the contract or differs by more than `tolerance` of its norm, or ""."""
    got, want = np.asarray(got), np.asarray(want)
    if got.dtype.kind != "f" or got.dtype.itemsize < np.dtype(dtype).itemsize:
        return f"{name} is {got.dtype}"
    if got.shape != want.shape:
        return f"{name} has shape {got.shape}, not {want.shape}"
    off, norm = np.linalg.norm((got - want).ravel()), np.linalg.norm(want.ravel())
    return "" if off <= tolerance * norm else f"{name} is off by {off} of {norm}"


def differences(got: Results | str, want: Results, lengths: Array | None, tolerance: float, dtype: str) -> list[str]:
    """Say in what results differ from the right ones; h and o are not judged in the padding."""
    if isinstance(got, str):
        return [got]
    missing = [f"{name} is missing" for name in want if name not in got]
    judged = {name: np.array(want[name]) for name in want if name in got}
    got = {name: np.array(got[name]) for name in judged}
    for name in ("h", "o"):
        if lengths is not None and name in got and got[name].shape == judged[name].shape:
            padding = np.arange(len(got[name]))[:, None] >= lengths
            got[name][padding] = judged[name][padding] = 0
    found = [difference(name, got[name], judged[name], tolerance, dtype) for name in judged]
    return missing + [line for line in found if line]


@pytest.fixture(scope="module")
def solved() -> list[tuple[SimpleNamespace, Results]]:
    """Return the problems with the results of the correct base."""
    return [(problem, base.gradients(problem)) for problem in problems()]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_base_is_within_the_budget_of_the_exact_solution(activation: str) -> None:
    """Every array of the base is as near to the oracle's as an admissible implementation is."""
    for seed, kind in enumerate(("cotangent", "squared_error", "cross_entropy") * 2):
        reductions = REDUCTIONS[0] if kind == "cotangent" else REDUCTIONS[1 + seed % 4]
        one = make_problem(seed, sizes=(4, 3, 2, 3, 4), activation=activation, loss=kind, reductions=reductions,
                           lengths=(4, 2, 3))  # fmt: skip
        found = base.gradients(one)
        exact = solution.solve(as_validated(one), BallNumbers(128))
        bounds = budget(exact, Model("float64")).arrays
        assert found.keys() == exact.values.keys() - {"dc0", "c"}
        for name, array in found.items():
            near, rest, radius = exact.near(name)
            judged = np.arange(4)[:, None] < one.lengths if name in ("h", "o") else ...
            assert (np.abs((array - near) - rest) + radius <= bounds[name])[judged].all(), name


def as_validated(one: SimpleNamespace) -> Problem:
    """The same problem, as the suite has it."""
    fields = vars(one) | {"loss": Loss(**vars(one.loss)), "truncation": Truncation(**vars(one.truncation))}
    return Problem(**fields)


def test_tables_are_filled() -> None:
    """There are enough bugs, seen and invented, for each property, and enough variants; each has its sentence."""
    planted = mutants.PLANTED
    assert len(planted) >= 40
    assert sum(bool(bug.seen) for bug in planted.values()) >= 15
    assert all(sum(bug.caught_by == name for bug in planted.values()) >= 3 for name in PROPERTIES)
    assert len({bug.sentence for bug in planted.values()}) == len(planted)
    assert len(variants.VARIANTS) >= 10
    assert all(sentence.endswith(".") for sentence in variants.VARIANTS.values())


@pytest.mark.parametrize("name", sorted(mutants.PLANTED))
def test_planted_bug_differs_from_the_base(name: str, solved: list[tuple[SimpleNamespace, Results]]) -> None:
    """A planted bug is an adapter with a sentence, and somewhere it is far off or breaks the contract."""
    bug = mutants.PLANTED[name]
    assert getattr(mutants, name) is bug.gradients
    assert bug.sentence.endswith(".")
    assert bug.caught_by in (*PROPERTIES, *OTHERS)
    found = []
    for problem, (_, right) in zip(problems(), solved, strict=True):
        got = solve(bug.gradients, problem)
        found += differences(got, right, problem.lengths, FAR_ABOVE[problem.dtype], problem.dtype)
    assert bool(found) != (name in UNSEEN)


@pytest.mark.parametrize("name", sorted(variants.VARIANTS))
def test_variant_agrees_with_the_base(name: str, solved: list[tuple[SimpleNamespace, Results]]) -> None:
    """A variant differs from the base by rounding alone, whatever it returns, and leaves its inputs as they were."""
    adapter = getattr(variants, name)
    answered = 0
    for problem, (untouched, right) in zip(problems(), solved, strict=True):
        got = solve(adapter, problem)
        if got == "NotImplementedError":
            assert (name, problem.loss.kind) == ("without_cross_entropy", "cross_entropy")
            continue
        assert isinstance(got, dict)
        claimed = {key: value for key, value in right.items() if got.get(key) is not None}
        assert set(right) - set(claimed) == LEFT_OUT.get(name, set()) & set(right)
        assert differences(got, claimed, problem.lengths, ROUNDING[problem.dtype], problem.dtype) == []
        assert all(np.array_equal(problem.params[key], value) for key, value in untouched.params.items())
        assert np.array_equal(problem.x, untouched.x)
        answered += 1
    assert answered >= 30


# Each property alone, from the target's own answers: enough to know that `caught_by` is no wishful thinking


def piece(problem: SimpleNamespace, steps: slice, rows: slice = slice(None), **changes: Any) -> SimpleNamespace:
    """Return some steps and rows of a cotangent problem, untruncated; `changes` replace h0, g or g_h_final."""
    loss = SimpleNamespace(**vars(problem.loss))
    loss.g = changes.get("g", problem.loss.g)[steps, rows]
    loss.g_h_final = changes.get("g_h_final")
    h0 = changes.get("h0", problem.h0)[rows]
    whole = SimpleNamespace(kind="full")
    return SimpleNamespace(**vars(problem) | {"x": problem.x[steps, rows], "h0": h0, "loss": loss, "truncation": whole})


def total(runs: list[Results], names: tuple[str, ...]) -> dict[str, Array]:
    """Return the sums of some gradients over several runs."""
    return {name: np.sum([run[name] for run in runs], axis=0) for name in names}


def breaks_shared_weight_summation(adapter: Adapter) -> bool:
    """Say whether the weight gradients differ from their sums over steps, rows or losses, run one at a time."""
    names = (*WEIGHTS, "dW_hy", "db_y")
    problem = make_problem(5, sizes=(4, 3, 2, 5, 4), final=False)
    T, B, _ = problem.x.shape
    whole = adapter(problem)
    h = np.concatenate([problem.h0[None], whole["h"]])
    dh = [adapter(piece(problem, slice(s, T), h0=h[s]))["dh0"] for s in range(1, T)] + [np.zeros_like(problem.h0)]
    steps = [adapter(piece(problem, slice(s, s + 1), h0=h[s], g_h_final=dh[s])) for s in range(T)]
    rows = [adapter(piece(problem, slice(T), slice(b, b + 1))) for b in range(B)]
    only = np.eye(T)[:, :, None, None] * problem.loss.g
    losses = [adapter(piece(problem, slice(T), g=g)) for g in only]
    return any(differences(total(runs, names), {n: whole[n] for n in names}, None, 1e-12, "float64")
               for runs in (steps, rows, losses))  # fmt: skip


def breaks_truncation_equivalence(adapter: Adapter) -> bool:
    """Say whether a truncation differs from the masked double sum of terms that one-step runs give."""
    problem = make_problem(6, sizes=(5, 2, 3, 5, 4), final=False)
    T, nothing = len(problem.x), np.zeros_like(problem.loss.g)
    h = np.concatenate([problem.h0[None], adapter(piece(problem, slice(T)))["h"]])
    terms = {}
    for t in range(1, T + 1):
        terms[t, t] = adapter(piece(problem, slice(t - 1, t), h0=h[t - 1]))
        for s in range(t - 1, 0, -1):
            dh = terms[t, s + 1]["dh0"]
            terms[t, s] = adapter(piece(problem, slice(s - 1, s), h0=h[s - 1], g=nothing, g_h_final=dh))
    for kind, k1, k2 in (("window", 2, 2), ("window", 3, 3), ("chunk", 2, 2), ("chunk", 3, 3), ("periodic", 2, 3)):
        problem.truncation = SimpleNamespace(kind=kind, k=k1, k1=k1, k2=k2)
        first = {t: {"window": t - k1, "chunk": (t - 1) // k1 * k1, "periodic": min(T, -(-t // k1) * k1) - k2}[kind]
                 for t in range(1, T + 1)}  # fmt: skip
        want = total([run for (t, s), run in terms.items() if s > first[t]], WEIGHTS)
        want["dh0"] = total([terms[t, 1] for t in first if first[t] < 1], ("dh0",))["dh0"]
        if differences(adapter(problem), want, None, 1e-12, "float64"):
            return True
    return False


def breaks_jacobian_norm_bound(adapter: Adapter) -> bool:
    """Say whether some dh_t/dh_k, read from dh0 under unit cotangents on the last state, is longer than it may be."""
    for seed, (activation, T) in enumerate((name, T) for name in ACTIVATIONS for T in (1, 2, 3)):
        H = 5
        problem = make_problem(seed, sizes=(T, H, 3, H, H), readout="none", activation=activation, gain=0.7)
        problem.x[:], problem.h0[:] = problem.x[:, :1] / 3, problem.h0[0] / 3
        one = piece(problem, slice(T), g=np.zeros_like(problem.loss.g), g_h_final=np.eye(H))
        bound = (np.linalg.norm(problem.params["W_hh"], 2) * (0.25 if activation == "sigmoid" else 1)) ** T
        if not np.linalg.norm(adapter(one)["dh0"], 2) <= bound * (1 + 1e-12):
            return True
    return False


ALONE = {"shared-weight-summation": breaks_shared_weight_summation,
         "truncation-equivalence": breaks_truncation_equivalence,
         "jacobian-norm-bound": breaks_jacobian_norm_bound}  # fmt: skip


@pytest.mark.parametrize("name", sorted(name for name, bug in mutants.PLANTED.items() if bug.caught_by in ALONE))
def test_named_property_alone_catches_the_bug(name: str) -> None:
    """The property that a bug names needs no oracle to see it."""
    bug = mutants.PLANTED[name]
    assert ALONE[bug.caught_by](bug.gradients)


@pytest.mark.parametrize("adapter", [base.gradients, variants.masked_double_sum, variants.forward_mode])
@pytest.mark.parametrize("name", sorted(ALONE))
def test_correct_code_keeps_the_property(name: str, adapter: Adapter) -> None:
    """What catches the bugs lets correct code pass."""
    assert not ALONE[name](adapter)
