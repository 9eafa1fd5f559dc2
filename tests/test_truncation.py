"""Truncations: the mask of each kind from its formula, the identities between kinds, and the sweeps that cover it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bptt.truncation import KINDS, Truncation, sweeps

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
steps = st.integers(1, 12)
Mask = NDArray[np.bool_]


@st.composite
def truncations(draw: st.DrawFn) -> Truncation:
    """Any truncation of up to twelve steps."""
    kind = draw(st.sampled_from(KINDS))
    k, more = draw(steps), draw(st.integers(0, 6))
    if kind in ("window", "chunk"):
        return Truncation(kind, k=k)
    return Truncation(kind, k1=k, k2=k + more) if kind == "periodic" else Truncation(kind)


def formula(truncation: Truncation, t: int, s: int, length: int) -> bool:
    """m(t,s) as the mathematics has it, for 1 <= s <= t <= length."""
    k, k1, k2 = truncation.k or 1, truncation.k1 or 1, truncation.k2 or 1
    return {
        "full": True,
        "cec": True,
        "window": t - s < k,
        "chunk": ceil(s / k) == ceil(t / k),
        "periodic": s > min(length, k1 * ceil(t / k1)) - k2,
    }[truncation.kind]


def mask(truncation: Truncation, length: int, T: int | None = None) -> Mask:
    """(T,T): m(t,s), t down, s across, and False outside 1 <= s <= t <= length."""
    T = T or length
    out = np.zeros((T, T), dtype=np.bool_)
    for t, s in itertools.product(range(1, T + 1), repeat=2):
        out[t - 1, s - 1] = truncation.mask(t, s, length)
    return out


@UNHURRIED
@given(truncations(), steps)
def test_mask_is_the_formula(truncation: Truncation, length: int) -> None:
    got = mask(truncation, length, length + 2)
    for t, s in itertools.product(range(1, length + 3), repeat=2):
        assert got[t - 1, s - 1] == (s <= t <= length and formula(truncation, t, s, length))


@UNHURRIED
@given(truncations(), steps, st.data())
def test_first_is_the_smallest_step_of_the_mask(truncation: Truncation, length: int, data: st.DataObject) -> None:
    t = data.draw(st.integers(1, length))
    assert truncation.first(t, length) == min(s for s in range(1, t + 1) if formula(truncation, t, s, length))


@UNHURRIED
@given(truncations(), steps)
def test_mask_is_an_interval_that_ends_at_the_loss(truncation: Truncation, length: int) -> None:
    for row, t in zip(mask(truncation, length), range(1, length + 1), strict=True):
        assert row[t - 1], "the immediate partial at the loss's own step is always there"
        assert (np.diff(row[:t].astype(int)) >= 0).all()


@UNHURRIED
@given(steps, steps)
def test_periodic_1_k_is_window_k(k: int, length: int) -> None:
    assert (mask(Truncation("periodic", k1=1, k2=k), length) == mask(Truncation("window", k=k), length)).all()


@UNHURRIED
@given(steps, steps, st.integers(0, 3))
def test_periodic_that_reaches_the_start_is_full(k1: int, length: int, more: int) -> None:
    reaching = Truncation("periodic", k1=k1, k2=max(k1, length) + more)
    assert (mask(reaching, length) == mask(Truncation(), length)).all()


@UNHURRIED
@given(steps, st.integers(1, 5))
def test_periodic_k_k_is_chunk_k_where_k_divides_the_length(k: int, blocks: int) -> None:
    periodic, chunk = Truncation("periodic", k1=k, k2=k), Truncation("chunk", k=k)
    assert (mask(periodic, k * blocks) == mask(chunk, k * blocks)).all()


def test_periodic_k_k_is_not_chunk_k_where_the_tail_is_short() -> None:
    periodic, chunk = Truncation("periodic", k1=3, k2=3), Truncation("chunk", k=3)
    assert periodic.first(4, 4) == 2, "the tail's loss at t = 4 still reaches back k2 = 3 steps"
    assert chunk.first(4, 4) == 4


@UNHURRIED
@given(steps, steps)
def test_window_and_chunk_of_the_whole_length_are_full(length: int, more: int) -> None:
    for kind in ("window", "chunk"):
        assert (mask(Truncation(kind, k=length - 1 + more), length) == mask(Truncation(), length)).all()


@UNHURRIED
@given(steps)
def test_window_1_and_chunk_1_are_one_step(length: int) -> None:
    for truncation in (Truncation("window", k=1), Truncation("chunk", k=1), Truncation("periodic", k1=1, k2=1)):
        assert (mask(truncation, length) == np.eye(length, dtype=np.bool_)).all()


@UNHURRIED
@given(steps, st.integers(1, 11))
def test_window_grows_by_one_diagonal(length: int, k: int) -> None:
    more = mask(Truncation("window", k=k + 1), length) ^ mask(Truncation("window", k=k), length)
    assert (more == np.eye(length, k=-k, dtype=np.bool_)).all()


@UNHURRIED
@given(truncations(), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 3))
def test_sweeps_cover_the_mask_exactly(truncation: Truncation, lengths: list[int], more: int) -> None:
    T = max(1, max(lengths) + more)
    found = sweeps(truncation, np.array(lengths), T)
    seeds = np.zeros((T, len(lengths)), dtype=int)
    covered = np.zeros((len(lengths), T, T), dtype=int)
    for sweep in found:
        assert sweep.seeds.shape == (T, len(lengths))
        assert sweep.first.shape == (len(lengths),)
        seeds += sweep.seeds
        for t, b in np.argwhere(sweep.seeds).tolist():
            covered[b, t, int(sweep.first[b]) - 1 : t + 1] += 1
    for b, length in enumerate(lengths):
        assert seeds[:, b].tolist() == [int(t <= length) for t in range(1, T + 1)], "each loss in one sweep, once"
        assert (covered[b] == mask(truncation, length, T)).all()


@UNHURRIED
@given(truncations(), st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_sweeps_visit_every_step_that_they_need_from_the_last(truncation: Truncation, lengths: list[int]) -> None:
    T = max(1, *lengths)
    for sweep in sweeps(truncation, np.array(lengths), T):
        visited = list(sweep.steps)
        needed = {s for t, b in np.argwhere(sweep.seeds).tolist() for s in range(int(sweep.first[b]), t + 2)}
        assert visited == sorted(visited, reverse=True)
        assert set(visited) == set(range(min(needed), max(needed) + 1))


def test_sweeps_of_full_are_one_and_of_no_losses_none() -> None:
    assert len(sweeps(Truncation(), np.array([5, 0, 3]), 5)) == 1
    assert sweeps(Truncation("window", k=2), np.array([0, 0]), 3) == []


def test_sweep_without_seeds_visits_nothing() -> None:
    (sweep,) = sweeps(Truncation(), np.array([2]), 2)
    assert list(replace(sweep, seeds=np.zeros_like(sweep.seeds)).steps) == []


@pytest.mark.parametrize(
    ("truncation", "text"),
    [
        (Truncation(), "full"),
        (Truncation("cec"), "cec"),
        (Truncation("window", k=3), "window(3)"),
        (Truncation("chunk", k=1), "chunk(1)"),
        (Truncation("periodic", k1=2, k2=5), "periodic(2, 5)"),
    ],
)
def test_truncation_is_written_as_in_the_documentation(truncation: Truncation, text: str) -> None:
    assert str(truncation) == text
