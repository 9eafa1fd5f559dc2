"""Where the problems come from: arrays are what their kind says, and drawn sizes, norms and losses keep in limits."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import SIGNIFICAND, Loss, Problem
from bptt.support import Support
from oracle.exact import Exact
from properties import PROPERTIES, exact_problems, extremes, readout_locality, shapes, strategies
from properties.batch_consistency import reordered
from properties.causality import with_losses_until
from properties.corners import FAR
from properties.edges import BLOCKS, ORDERS, SEVERAL, SIZES, edge_problems
from properties.exact_problems import _lengths, _power_of_two, data, draw_exact, recurrent_weights
from properties.generic import MANY, REDUCTIONS, generic
from properties.long_range import long_range_problems
from properties.norm_preservation import is_signed_permutation, within_theorem
from properties.padding_invariance import extended
from properties.pieces import claims
from properties.recipe import Draw
from properties.reductions import reduce_problem
from properties.repeatability import another, bitwise
from properties.shapes import FIXED, FIXED_ONE_CLASS, FIXED_WIDE_OUTPUT
from properties.sign_symmetry import signs_for
from properties.strategies import draw_problem, entries, offered, probabilities, recurrent, replace_shape
from properties.unit_permutation import permutation


class Dice:
    """In place of Hypothesis's choice sequence: independent integers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a seeded sample

    def draw_integer(self, low: int, high: int, **_: Any) -> int:
        return self._random.randint(low, high)


def drawn(cell: str, number: int, support: Support | None = None, **shape: Any) -> list[Problem]:
    support = support or Support()
    wanted = replace_shape(offered(support, cell), **shape)
    return [draw_problem(Draw(Dice(seed)), wanted, support, cell, "float64") for seed in range(number)]


def norms(problem: Problem) -> list[float]:
    """The spectral norm of each block of the recurrent weights."""
    W = problem.params["W_hh" if problem.cell == "elman" else "W_h"]
    return [float(np.linalg.norm(W[:, j : j + len(W)], 2)) for j in range(0, W.shape[1], len(W))]


def test_entries_are_of_their_kind():
    assert (entries("ones", 0, (3,), "float64") == 1).all()
    assert (entries("zeros", 0, (3,), "float64") == 0).all()
    assert set(entries("bits", 0, (99,), "float64")) == {0.0, 1.0}
    assert set(4 * entries("quarters", 0, (999,), "float64")) == set(range(-8, 9))
    assert set(data("signs", 0, (99,), "float64")) == {-1.0, 1.0}
    thin = Counter(data("thin", 0, (4000,), "float64").tolist())
    assert set(thin) == {-1.0, 0.0, 1.0}
    assert 0.7 <= thin[0.0] / 4000 <= 0.8  # five standard deviations of a share of 3/4 are 0.034
    corners = entries("corners", 0, (999,), "float32")
    assert {8.0, -30.0, float(np.finfo("float32").tiny)} <= set(corners.tolist())
    assert np.signbit(corners[corners == 0]).any()


@pytest.mark.parametrize("kind", ["scaled", "orthogonal", "non-normal", "ones", "bits", "quarters"])
@pytest.mark.parametrize("norm", [0.3, 0.95, 1.1])
def test_recurrent_weights_have_the_norm_asked_for(kind, norm):
    W = recurrent(kind, 3, 4, 12, norm, "float64")
    assert W.shape == (4, 12)
    sizes = [np.linalg.norm(W[:, j : j + 4], 2) for j in (0, 4, 8)]
    if kind == "orthogonal":
        assert np.allclose(sizes, 1)
        return
    if kind in ("scaled", "non-normal"):  # every block by itself
        assert np.allclose(sizes, norm)
    else:  # all by one power of two, the largest that will do
        assert norm / 2 < max(sizes) <= norm
        original = entries(kind, 3, (4, 12), "float64")
        factor = W[original != 0] / original[original != 0]
        assert (factor == factor[0]).all()
        assert np.frexp(factor[0])[0] == 0.5
    if kind == "non-normal":
        assert all((np.tril(W[:, j : j + 4], -1) == 0).all() for j in (0, 4, 8))
    wide = recurrent(kind, 3, 4, 12, 100.0, "float64")
    assert kind in ("scaled", "non-normal") or (wide == entries(kind, 3, (4, 12), "float64")).all()


def test_probabilities_are_multiples_of_a_64th_and_add_up_to_1():
    for K in (1, 2, 5):
        y = probabilities(np.random.default_rng(0), (7, 3, K), "float16")
        assert y.shape == (7, 3, K)
        assert (y >= 0).all()
        assert (y.sum(axis=-1) == 1).all()
        assert (64 * y == np.round(64 * y)).all()
    assert (probabilities(np.random.default_rng(0), (50, 3), "float64") > 0).sum() > 100


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_drawn_problems_keep_to_their_limits(cell):
    found = drawn(cell, 400, Support(h0_none=True))
    edges = 0
    for problem in found:
        sizes = problem.T, problem.B, problem.D, problem.H, problem.K
        assert problem.T * problem.B * problem.H**2 <= strategies.MAX_WORK or max(problem.T, problem.B, problem.H) <= 8
        edges += any(n > most for n, most in zip(sizes, (24, 4, 5, 6, 6), strict=True))
        assert problem.loss.kind != "cross_entropy" or problem.K >= 2
        if problem.T > strategies.SHORT:
            assert max(norms(problem)) <= 1.1 * (1 + 1e-12) or problem.H == 1
    assert 40 <= edges <= 160  # at least one of five sizes, one in sixteen each
    losses = Counter(problem.loss.kind for problem in found)
    assert min(losses[kind] for kind in ("cotangent", "squared_error", "cross_entropy")) >= 60
    assert max(max(norms(p)) for p in found if p.T <= strategies.SHORT and p.H > 1) > 1.9
    assert any(p.lengths is not None and (p.lengths == 0).any() for p in found)
    assert any(p.h0 is None for p in found)


def test_large_problems_are_cut_little_by_little():
    """Where T B H^2 is too much a third of the larger of T and H goes, and a row; nothing becomes 0 or 1 at once."""
    found = [p for p in drawn("elman", 300, largest=(200, 6, 2, 60, 2)) if p.readout == "linear"]
    work = [p.T * p.B * p.H**2 for p in found]
    assert max(work) <= strategies.MAX_WORK
    assert sum(w > strategies.MAX_WORK / 8 for w in work) > 100
    assert min(p.H for p in found if p.T > 100) <= 20
    assert max(p.H for p in found) > 40


def test_calm_problems_contract_and_have_no_zeros():
    for problem in drawn("elman", 200, calm=True):
        assert 0.05 <= max(norms(problem)) <= 1.1 * (1 + 1e-12) or problem.H == 1
        assert problem.x.any()


def test_one_class_is_never_asked_for_where_two_are_offered():
    narrow = Support(losses=("cross_entropy",), readouts=("none",))
    assert all(p.K >= 2 for p in drawn("elman", 100, narrow))
    one = Support(losses=("cross_entropy", "squared_error"), max_size={"K": 1})
    assert {p.loss.kind for p in drawn("elman", 50, one)} == {"squared_error"}
    forced = Support(losses=("cross_entropy",), max_size={"K": 1})
    assert {p.loss.kind for p in drawn("elman", 10, forced)} == {"cross_entropy"}


def test_recurrent_weights_of_exact_problems():
    for H in (1, 2, 3, 5, 16):
        W = recurrent_weights("permutation", 4, H, "float64")
        assert set(np.abs(W).ravel()) <= {0.0, 1.0}
        assert np.array_equal(W @ W.T, np.eye(H))
    assert (recurrent_weights("permutation", 0, 8, "float64") < 0).any()
    for H in (4, 16, 64):
        W = recurrent_weights("hadamard", 4, H, "float64")
        assert W.shape == (H, H)
        assert set(np.abs(W).ravel()) == {H**-0.5}
        assert np.array_equal(W @ W.T, np.eye(H))
    whole = recurrent_weights("integers", 1, 40, "float64")
    assert set(whole.ravel()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert 0 < (whole != 0).mean() < 0.06
    assert (recurrent_weights("hadamard", 1, 6, "float64") != 0).sum() == 6


def test_power_of_two():
    assert [_power_of_two(n) for n in (0, 1, 2, 3, 4, 7, 8, 1000)] == [0, 1, 2, 2, 4, 4, 8, 512]


def test_lengths_make_means_exact():
    for seed in range(60):
        mean = _lengths(seed, 24, 4, "mean")
        assert all(n == _power_of_two(n) for n in mean.tolist())
        tokens = _lengths(seed, 24, 4, "tokens")
        assert tokens.sum() == _power_of_two(int(tokens.sum()))
        drawn_lengths = _lengths(seed, 24, 4, "sum")
        assert 0 <= drawn_lengths.min() <= drawn_lengths.max() <= 24
        assert 2 * tokens.sum() > drawn_lengths.sum()


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_drawn_exact_problems_are_exact_and_of_every_kind(dtype):
    found = [p for seed in range(200) if (p := draw_exact(Draw(Dice(seed)), Support(), dtype)) is not None]
    assert len(found) >= 180
    assert all(Exact(p).reason(dtype) is None for p in found[:40])
    for p in found:
        assert p.T * p.B * p.H**2 <= exact_problems.MAX_WORK or max(p.T, p.B) <= 4
    assert {p.activation for p in found} == {"identity", "relu"}
    assert {p.loss.kind for p in found} == {"cotangent", "squared_error"}
    fractions = [np.abs(p.params["W_hh"]).min() in (0.5, 0.25, 0.125) for p in found]
    hadamard = [p.H for p, there in zip(found, fractions, strict=True) if there]
    assert len(hadamard) >= 12  # in the share of such weights, H is brought to a power of 4; in all others it is not
    assert set(hadamard) <= {4, 16, 64}
    assert sum(p.H in (5, 6) for p in found) >= 25
    far = [p.truncation for p in found if p.truncation.kind == "periodic"]
    assert all(cut.k2 >= cut.k1 >= 1 for cut in far)
    assert len(far) >= 20
    assert SIGNIFICAND[dtype] in (53, 11)


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_shapes_of_drawn_parameters(cell):
    (problem,) = drawn(cell, 1)
    assert {n: a.shape for n, a in problem.params.items() if n not in ("W_hy", "b_y")} == CELLS[cell].shapes(
        problem.D, problem.H
    )


def test_exact_problems_of_many_rows_and_steps_are_cut(monkeypatch):
    monkeypatch.setattr(exact_problems, "_sizes", lambda *_: [65, 64, 1, 65, 2])
    for seed in range(3):
        problem = draw_exact(Draw(Dice(seed)), Support(readouts=("linear",)), "float64")
        assert problem is not None
        assert problem.T * problem.B * problem.H**2 <= exact_problems.MAX_WORK
        assert problem.H > 60
        assert min(problem.T, problem.B) > 1
    monkeypatch.setattr(exact_problems, "_sizes", lambda *_: [65, 1, 1, 65, 2])  # as large as may be
    longest = [draw_exact(Draw(Dice(seed)), Support(losses=("cotangent",)), "float64") for seed in range(8)]
    assert max(problem.T for problem in longest if problem is not None) == 65


def cut_of(whole: Any, part: Any, H: int, smaller: int) -> bool:
    """Whether an array is the beginning of each axis of another, of all gates alike; or ones or zeros."""
    if (part == 0).all() or (part == 1).all():
        return True
    blocks = whole.shape[-1] // H if whole.shape[-1] % H == 0 and part.shape[-1] != smaller else 1
    width = part.shape[-1] // blocks
    kept = [block * H + j for block in range(blocks) for j in range(width)]
    first = tuple(slice(n) for n in part.shape[:-1])
    return np.array_equal(whole[first][..., kept], part)


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("readout", ["linear", "none"])
def test_reductions_keep_the_beginning_of_every_axis(cell, readout):
    names = {"readouts": readout, "losses": "cotangent", "truncations": "window", "reductions": "sum"}
    activation = CELLS[cell].activations[0] if CELLS[cell].activations else None
    problem = generic(1, Support(), cell, "float64", (7, 3, 4, 5, 6), {**names, "activations": activation})
    assert problem is not None
    smaller = set()
    for seed in range(150):
        made = reduce_problem(Draw(Dice(seed)), problem)
        for name, value in made.params.items():
            assert cut_of(problem.params[name], value, 5 if name not in ("W_hy", "b_y") else 999, made.H), name
        assert cut_of(problem.x, made.x, 999, 0)
        assert cut_of(problem.h0, made.h0, 999, 0)
        assert cut_of(problem.loss.g, made.loss.g, 999, 0)
        assert (made.readout, made.truncation.kind, made.loss.kind) == (readout, "window", "cotangent")
        assert made.lengths is None or made.lengths.max() <= made.T
        smaller |= {name for name in "TBDHK" if getattr(made, name) < getattr(problem, name)}
    assert smaller == set("TBDHK")


def test_reductions_of_probabilities_still_add_up():
    names = {"readouts": "linear", "losses": "cross_entropy", "truncations": "full", "activations": "tanh"}
    problem = generic(2, Support(), "elman", "float64", (3, 2, 2, 3, 5), {**names, "reductions": "sum"})
    assert problem is not None
    classes = set()
    for seed in range(60):
        made = reduce_problem(Draw(Dice(seed)), problem)
        assert (made.loss.target.sum(axis=2) == 1).all()
        classes.add(made.K)
    assert min(classes) == 2


def cut_off(problem: Problem) -> bool:
    """Whether some row's last loss does not reach its first step."""
    return any(problem.truncation.first(n, n) > 1 for n in problem.row_lengths.tolist() if n)


def test_edge_problems_are_at_the_edges_and_truncated_ones_are_cut():
    support = Support(h0_none=True)
    found = list(edge_problems(support, "elman", "float64"))
    assert [(p.T, p.B, p.D, p.H) for p in found[: len(SIZES)]] == [sizes[:4] for sizes in SIZES]
    beyond = [p for p in found if p.truncation.kind == "window" and p.truncation.k > p.T]
    assert len(beyond) == 3  # one a loss: a window over T is none
    assert all(p.truncation.k == p.T + 2 for p in beyond)
    long = list(long_range_problems(support, "elman", "float64", offered(support, "elman")))
    found = found[: -len(long)]
    cut = [p for p in found if p.truncation.kind != "full" and p not in beyond and p.T >= 9]
    assert len(cut) >= 3
    assert all(cut_off(p) for p in cut)
    assert all(
        (p.truncation.k or p.truncation.k1) <= max(1, min(p.T // 3, 20)) for p in cut if p.truncation not in BLOCKS
    )
    assert {p.truncation for p in cut} >= set(BLOCKS)
    empty = [p for p in found if p.lengths is not None and (p.lengths == 0).any()]
    assert {p.truncation.kind for p in empty} >= {"full", "window", "chunk", "periodic"}
    several = [p for p in found if (p.T, p.B, p.D, p.H) in {sizes[:4] for sizes in SEVERAL}]
    assert len(several) == len(SEVERAL)
    assert all(p.truncation.kind == "full" for p in several)
    labels = [p.loss.target for p in several if p.loss.kind == "cross_entropy"]
    assert labels
    assert all(target.dtype.kind == "i" and (target == target.max()).any() for target in labels)
    ordered = [p.lengths.tolist() for p in found if p.lengths is not None and p.truncation.k2 == 4]
    assert all(lengths in ordered for lengths in ORDERS.values())
    assert any(p.h0 is None for p in found)
    assert any(np.abs(p.x).max() > 700 for p in found)
    assert all(p.loss.scale == 0.5 for p in found if p.loss.kind == "squared_error")
    spiked = {name: p for p in found for name, a in p.arrays() if p.T == 3 and np.abs(a).max() == 1024}
    assert set(spiked) >= {"x", "h0", "params.W_hh", "params.W_xh", "params.b_h", "params.W_hy", "params.b_y", "loss.g"}
    plain = [p for p in found if p not in spiked.values() and max(norms(p), default=0.0) > 0]
    usual = [p for p in plain if p.H > 1 and 2**-5 < max(norms(p)) < 2]
    halved = [p for p in usual if p.T * p.H > MANY and max(norms(p)) < 0.9]
    assert all(0.45 <= max(norms(p)) <= 0.5 for p in halved)
    assert 0 < len(halved) < 4
    assert all(0.9 <= max(norms(p)) <= 1 for p in usual if p not in halved)
    assert sum(not 2**-5 < max(norms(p)) < 2 for p in plain) <= 2
    ways = {(loss, readout) for loss in Support().losses for readout in Support().readouts}
    for wide in ("H", "B", "D"):
        assert {(p.loss.kind, p.readout) for p in found if getattr(p, wide) > 16} == ways, wide
    assert {(p.loss.kind, p.readout) for p in found if p.T > 32} == ways
    means = [p for p in found if p.loss.kind != "cotangent"]
    reduced = {
        (p.loss.kind, p.loss.target.ndim, p.loss.time_reduction, p.loss.batch_reduction, p.lengths is None)
        for p in means
    }
    assert len(reduced) == 3 * len(REDUCTIONS) * 2
    assert any(
        abs(p.params["b_y"]).max() == 1024 for p in means if p.loss.kind == "cross_entropy" and "b_y" in p.params
    )
    zeros = {
        name for p in found for name, array in p.arrays() if p.T == 3 and array.any() == 0 and array.dtype.kind == "f"
    }
    assert zeros >= {"x", "h0", "params.W_hh", "params.W_xh", "params.b_h", "params.W_hy", "params.b_y", "loss.g"}
    assert any(p.lengths is not None and p.lengths.max() == 0 and p.loss.g_h_final is not None for p in found)
    assert any(0 < np.abs(p.h0).max() < 1e-10 for p in found if p.h0 is not None)
    for p in found:
        if p.truncation.kind != "full" and p not in beyond and p.loss.kind == "cotangent" and p.lengths is None:
            assert p.loss.g_h_final is not None


@pytest.mark.parametrize(("name", "most"), [("T", 6), ("B", 2), ("D", 4), ("H", 4), ("K", 3)])
def test_edge_problems_keep_to_what_a_target_takes(name, most):
    found = list(edge_problems(Support(max_size={name: most}), "elman", "float64"))
    assert all(getattr(problem, name) <= most for problem in found)
    assert found


def test_fixed_shapes_are_all_there():
    found = [case.problem for case in shapes.PROPERTY.fixed(Support(), "elman", "float64")]
    wanted = (*FIXED, FIXED_WIDE_OUTPUT, FIXED_ONE_CLASS)
    assert [(p.T, p.B, p.D, p.H) for p in found] == [sizes[:4] for sizes in wanted]
    assert {p.readout for p in found} == {"linear", "none"}
    assert (found[-2].readout, found[-2].K) == ("linear", 65)
    assert (found[-1].loss.kind, found[-1].K) == ("cross_entropy", 1)
    kept = {"readouts": ("none",)}
    plain = [case.problem for case in shapes.PROPERTY.fixed(Support(**kept), "elman", "float64")]
    assert len(plain) == len(FIXED)
    assert all(p.readout == "none" for p in plain)


@pytest.mark.parametrize("kind", ["window", "periodic"])
def test_drawn_shapes_reach_back_little_where_they_are_long(kind):
    support = Support(truncations=(kind,))
    sizes = set()
    for seed in range(200):
        problem = shapes.PROPERTY.cases(support, "elman", "float64").build(Draw(Dice(seed))).problem
        if problem.T > shapes.LONG:
            assert (problem.truncation.k or problem.truncation.k2) <= 4
        sizes |= {problem.B, problem.D, problem.H, problem.K}
    assert {1, 16, 17, 33, 64, 65} <= sizes
    limited = Support(truncations=(kind,), max_size={"H": 2})
    for seed in range(50):
        assert shapes.PROPERTY.cases(limited, "elman", "float64").build(Draw(Dice(seed))).problem.H <= 2


def test_padding_is_filled_with_numbers_of_its_own():
    (problem,) = drawn("elman", 1, losses=("cotangent",), calm=True)
    longer = extended(problem, 3, 5)
    assert longer.T == problem.T + 3
    assert (longer.row_lengths == problem.row_lengths).all()
    for old, new in ((problem.x, longer.x), (problem.loss.g, longer.loss.g)):
        assert np.array_equal(new[: problem.T], old)
        assert not np.isin(new[problem.T :], old).any()
        assert np.isfinite(new).all()
        assert len(np.unique(new[problem.T :])) == new[problem.T :].size
    classes = drawn("elman", 60, losses=("cross_entropy",))
    for one in classes:
        target = extended(one, 2, 5).loss.target
        assert target.min() >= 0
        assert target.ndim == 3 or target.max() < one.K


class Again(Exception):
    """What a property draws again."""


@pytest.fixture
def cases(monkeypatch):
    def again() -> None:
        raise Again

    def drawn_by(name: str, number: int = 80, **support: Any) -> list[Any]:
        """What a property draws, without what it draws again."""
        cell = "elman" if PROPERTIES[name].concerns("elman") else "lstm"
        strategy: Any = PROPERTIES[name].cases(Support(**support), cell, "float64")
        out = []
        for seed in range(number):
            with contextlib.suppress(Again):
                out.append(strategy.build(Draw(Dice(seed))))
        return out

    monkeypatch.setattr(hypothesis, "reject", again)
    return drawn_by


def test_drawn_permutations_and_splits_are_none_that_change_nothing(cases):
    found = cases("unit-permutation")
    assert len(found) >= 40
    assert all(c.problem.H >= 2 for c in found)
    for c in found:
        order = permutation(c.parameters["permutation"], c.problem.H)
        assert sorted(order) == list(range(c.problem.H)) != list(order)
    batches = cases("batch-consistency", 300)
    assert all(c.problem.B >= 2 for c in batches)
    orders = [(c.problem.B, c.parameters["order"]) for c in batches if "order" in c.parameters]
    assert all(reordered(B, n) != list(range(B)) for B, n in orders)
    assert {n for B, n in orders if B == 3} == {1, 2, 3, 4}  # the last two reversed
    assert {c.parameters["at"] for c in batches if "at" in c.parameters} >= {0, 1, 2}


def test_drawn_handovers_and_changes_of_truncation(cases):
    handed = [c for c in cases("final-cotangent") if c.parameters["form"] == 2]
    assert len(handed) >= 15
    for c in handed:
        assert c.problem.truncation.kind == "full"
        assert c.problem.lengths is None
        assert 1 <= c.parameters["t"] < c.problem.T
    assert {c.parameters["form"] for c in cases("final-cotangent", truncations=("window",))} == {0, 1}
    changed = [c for c in cases("readout-locality") if c.parameters["form"] == 2]
    kinds = {readout_locality.KINDS[c.parameters["to"]] for c in changed}
    assert {"window", "chunk", "periodic", "full"} <= kinds
    assert all(readout_locality.KINDS[c.parameters["to"]] != c.problem.truncation.kind for c in changed)
    assert {c.parameters["form"] for c in cases("readout-locality")} == {0, 1, 2}


def test_drawn_problems_of_symmetries_and_norms(cases):
    for c in cases("sign-symmetry"):
        assert any((signs < 0).any() for signs in signs_for(c.problem, c.parameters).values())
    flips = [(c.parameters["units"], (1 << c.problem.H) - 1) for c in cases("sign-symmetry", 200) if c.problem.H > 2]
    assert sum(bits == every for bits, every in flips) >= len(flips) / 5  # once in four all signs, else any
    assert sum(0 < bits < every for bits, every in flips) >= len(flips) / 2
    lengths = [c.problem for c in cases("padding-invariance") if c.parameters["form"] != 0]
    assert all((p.row_lengths < p.T).any() for p in lengths)
    later = cases("causality")
    assert all(1 <= c.parameters["t"] < c.problem.T for c in later)
    for c in cases("shared-weight-summation"):
        if c.parameters["form"] == 0:
            assert (c.problem.truncation.kind, c.problem.lengths) == ("full", None)
    for c in cases("norm-preservation"):
        assert within_theorem(c.problem)


@pytest.mark.parametrize("name", sorted(set(PROPERTIES) - {"oracle-agreement"}))  # that takes any problem drawn
def test_drawn_cases_keep_to_what_a_target_takes(name, cases):
    """Whatever else a target offers: no size is beyond its largest."""
    most = {"T": 5, "B": 6, "D": 2, "H": 3, "K": 3}
    for c in cases(name, 25, max_size=most):
        assert all(getattr(c.problem, axis) <= limit for axis, limit in most.items())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_extreme_changes_what_it_says_and_nothing_else(dtype):
    names = {"readouts": "linear", "truncations": "full", "activations": None, "reductions": "sum"}
    sizes = (4, 2, 2, 3, 3)
    steps, below = set(), set()
    for seed in range(12):
        made = {}
        for kind in extremes.KINDS:
            loss = "cross_entropy" if kind == "logits" else "cotangent"
            made[kind] = extremes.made(kind, seed, Support(), "lstm", dtype, sizes, {**names, "losses": loss})
        plain = generic(seed, Support(), "lstm", dtype, sizes, {**names, "losses": "cotangent"})
        logits = generic(seed, Support(), "lstm", dtype, sizes, {**names, "losses": "cross_entropy"})
        for kind, scale in (("far", FAR[dtype]), ("saturated", extremes.FLAT[dtype])):
            factor = made[kind].x / plain.x
            (at,) = {int(t) for t in np.argwhere(np.abs(factor - 1) > 0.5)[:, 0]}
            assert 1 <= at < 4  # never the first step
            assert np.allclose(factor[at], scale)
            assert np.allclose(np.delete(factor, at, 0), 1)
            steps.add(at)
        W = made["vanishing"].params["W_h"] / plain.params["W_h"]
        assert np.allclose(np.log2(W), -(extremes.VANISH[dtype] // 4))
        assert not made["vanishing"].loss.g[:-1].any()
        sides = np.sign(made["logits"].params["b_y"])
        assert (sides == sides[0]).all()
        assert np.allclose(np.abs(made["logits"].params["b_y"] - logits.params["b_y"]), FAR[dtype], rtol=1e-6)
        below.add(bool(sides[0] < 0))
        kept = made["zeros"]
        shares = [(array != 0).mean() for _, array in kept.arrays() if array.dtype.kind == "f"]
        assert min(shares) > 0
        assert 0.35 <= np.mean(shares) <= 0.75
        whole = dict(plain.arrays())
        assert all(((array == whole[name]) | (array == 0)).all() for name, array in kept.arrays())
    assert steps == {1, 2, 3}
    assert below == {True, False}


def test_differences_need_a_loss_and_a_gradient():
    prop = PROPERTIES["loss-differences"]
    assert prop.unsupported(Support(outputs=("loss", "dx")), "elman") is None
    assert prop.unsupported(Support(outputs=("loss", "h")), "elman") == f"needs {prop.needs}"
    assert prop.unsupported(Support(outputs=("dx", "dh0")), "elman") == f"needs {prop.needs}"
    assert prop.unsupported(Support(truncations=("chunk",)), "elman") == f"needs {prop.needs}"


def test_signed_permutations_and_nothing_else():
    wide = np.zeros((2, 3))
    wide[0, 0] = wide[1, 1] = 1
    assert is_signed_permutation(np.array([[0.0, -1.0], [1.0, 0.0]]))
    for other in (np.ones((2, 2)), 2 * np.eye(2), np.eye(2) + 1e-300, wide, wide.T, np.diag([1.0, 0.0])):
        assert not is_signed_permutation(other)


def test_drawn_jacobians_and_scalings(cases):
    for c in cases("cell-state-jacobian"):
        assert c.problem.lengths is None or c.parameters["form"] == 1
        assert c.problem.x.any()
    scaled = [c.parameters["n"] for c in cases("cotangent-linearity", 200) if c.parameters["form"] == 1]
    assert set(scaled) == {1, 2, 3, 4, 5, 6}


def test_losses_until_a_step_keep_a_last_loss():
    (problem,) = drawn("elman", 1, losses=("cotangent",), lengths=False, largest=(5, 2, 2, 2, 2))
    g = np.zeros((5, problem.B, problem.K))
    g[-1] = 3.0
    problem = replace(problem, x=np.ones((5, problem.B, problem.D)), loss=Loss("cotangent", g=g))
    found = with_losses_until(problem, 2).loss.g
    assert (found[1] == 3).all()
    assert not found[[0, 2, 3, 4]].any()


def test_other_problems_of_a_repetition_differ_by_one_step():
    for seed in range(20):
        problem = draw_problem(Draw(Dice(seed)), offered(Support(), "lstm"), Support(), "lstm", "float64")
        for more in (-1, 0, 1):
            if problem.T + more > 0:
                other = another(problem, more)
                assert len(other.x) == problem.T + more
                assert np.array_equal(other.x[: problem.T + more][: problem.T], -problem.x[: problem.T + more])


def test_bitwise_comparison_sees_a_sign_of_zero_and_finds_the_entry():
    (problem,) = drawn("elman", 1)
    one = {"dW_hh": np.array([[1.0, 0.0], [3.0, 4.0]])}
    assert bitwise(problem, one, {"dW_hh": one["dW_hh"].copy()})[0].holds
    for changed, error in ((-0.0, 5e-324), (0.5, 0.5), (np.nan, 5e-324)):
        two = one["dW_hh"].copy()
        two[0, 1] = changed
        (found,) = bitwise(problem, one, {"dW_hh": two})
        assert (found.where, found.error, found.holds) == ((0, 1), error, False)


def test_one_claimed_key_of_several_is_enough():
    assert claims(Support(), ("h", "c"))
    assert claims(Support(outputs=("loss", "h")), ("h", "c"))
    assert not claims(Support(outputs=("loss", "dx")), ("h", "c"))


def test_what_travels_through_permutations_fits_a_narrow_accumulator(cases):
    """The state as it is multiplied step by step, and the cotangent on its way back; no subnormal number in either."""
    found = cases("norm-preservation", 60, accumulate="float32", subnormals="flush")
    for c in found:
        end = c.problem.loss.g_h_final if c.problem.loss.g_h_final is not None else c.problem.loss.g
        for array in (c.problem.h0, end):
            assert (array.astype(np.float32) == array).all()
            assert (np.abs(array[array != 0]) >= 2.0**-10).all()
    assert any(c.problem.h0.any() for c in found)
