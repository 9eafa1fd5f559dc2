"""Truncations whose borders stand elsewhere: blocks shifted, tails joined, blocks that overlap, states half detached.

Each is another m(t,s), or a weight w(t,s) in its place; e(t) = min(length, k1 ceil(t/k1)) where `periodic` is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.mistakes.terms import losses, masked, ones, steps
from conformance.diagnosis.tape import WIDE, Array, Arrays, Tape

First = Callable[[Tape, Array], Array]
"""The step before the first that the losses t (1,G,B) reach."""


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """For chunk, window and periodic; and readout gradients that are truncated too."""
    kind = problem.truncation.kind
    if kind == "chunk":
        yield from _chunks(problem)
    if kind == "window":
        yield from _windows()
    if kind == "periodic":
        yield from _periods()
    if kind in ("window", "chunk", "periodic") and problem.readout == "linear":
        yield from _readout()


def _k(a: Tape) -> int:
    t = a.problem.truncation
    return t.k or t.k2 or 1


def reaching(cut: First) -> Callable[[Base], Arrays]:
    """A prediction: the terms s > cut(t) are kept."""
    return masked(lambda a: steps(a) > cut(a, losses(a)))


def weighing(weigh: Callable[[Tape], Array]) -> Callable[[Base], Arrays]:
    """A prediction: the terms are weighed, whatever m(t,s) says."""

    def predict(base: Base) -> Arrays:
        tape = base.tape
        weight = np.broadcast_to(weigh(tape), (tape.T, tape.G, tape.B)).astype(WIDE)
        return tape.gradients(weight, mask=np.ones((tape.T, tape.G, tape.B), bool))

    return predict


def _block(a: Tape, t: Array) -> Array:
    return np.asarray((t - 1) // _k(a))


def _joined(a: Tape, t: Array, length: Array | int) -> Array:
    """Blocks from 0 on, a short tail joined to the one before it."""
    return np.asarray(np.minimum(_block(a, t), np.maximum(np.asarray(length) // _k(a), 1) - 1))


def _chunks(problem: Problem) -> Iterator[Hypothesis]:
    def one(id_: str, words: str, predict: Callable[[Base], Arrays]) -> Hypothesis:
        return Hypothesis(f"chunks-{id_}", words, predict, local=True, order=16)

    yield one(
        "tail-joined",
        "a short tail is joined to the chunk before it",
        reaching(lambda a, t: _joined(a, t, a.T) * _k(a)),
    )
    yield one(
        "tail-joined-in-rows",
        "each row's short tail is joined to the chunk before it",
        reaching(lambda a, t: _joined(a, t, a.lengths[None, None]) * _k(a)),
    )
    for by, words in ((1, "further"), (-1, "less")):
        yield one(
            f"reach-{words}",
            f"each chunk reaches one step {words} back than its own first step",
            reaching(lambda a, t, by=by: _block(a, t) * _k(a) - by),
        )

    def both(a: Tape) -> Array:
        """Chunks of one step more, at their beginning: the loss that two of them hold goes back in both."""
        t, s, k = losses(a), steps(a), _k(a)
        own = s > _block(a, t) * k - 1
        twice = (t % k == 0) & (t < a.T) & (s >= t)  # the last loss of a chunk, again in the next one
        return np.asarray(own.astype(WIDE) + twice)

    yield one(
        "overlapping",
        "chunks overlap by one step, whose loss goes back in both",
        weighing(both),
    )
    yield one(
        "overlapping-without-finals",
        "chunks overlap by one step, whose loss goes back in both, the final cotangents in one",
        weighing(lambda a: np.where(_final(a), steps(a) > _block(a, losses(a)) * _k(a) - 1, both(a))),
    )
    yield one(
        "first-loss-in-both",
        "the first loss of a chunk goes back in the chunk before as well",
        weighing(
            lambda a: (
                (steps(a) > _block(a, losses(a)) * _k(a)).astype(WIDE)
                + ((losses(a) % _k(a) == 1 % _k(a)) & (losses(a) > 1) & (steps(a) > losses(a) - 1 - _k(a)))
            )
        ),
    )
    yield Hypothesis(
        "finals-in-last-chunk-only",
        "the final cotangents enter with the last chunk alone: rows that end before it lose theirs",
        weighing(
            lambda a: np.where(
                _final(a) & (a.lengths > 0)[None, None] & (a.lengths - 1 < (a.T - 1) // _k(a) * _k(a))[None, None],
                0,
                a.mask,
            )
        ),
        order=11,
    )
    yield Hypothesis(
        "chunk-starts-in-initial-state",
        "the gradient of the initial state sums what arrives at the start of every chunk",
        _chunk_starts,
        order=14,
    )
    states = problem.spec.states
    if len(states) > 1:
        for name in states:
            yield one(
                f"{name}-detached-alone",
                f"between chunks {name} is detached and {'c' if name == 'h' else 'h'} is not",
                _half(name),
            )


def _chunk_starts(base: Base) -> Arrays:
    """What each loss hands on from the first step of its chunk, for every chunk."""
    k, names = base.problem.truncation.k or 1, base.problem.spec.states
    found = {f"d{name}0": base.exact[f"d{name}0"].copy() for name in names}

    def carry(s: int, name: str, new: Array, arrived: Array, pulled: Array) -> Array:
        if s > 1 and (s - 1) % k == 0:
            found[f"d{name}0"] += np.where(base.tape.mask[s - 1][..., None], new, 0).sum(axis=0)
            return np.zeros_like(new)
        return new

    base.run(carry=carry)
    return found


def _final(a: Tape) -> Array:
    return np.asarray((np.arange(a.G) == a.G - 1)[None, :, None])


def _half(detached: str) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        k, alive = base.problem.truncation.k or 1, base.tape.alive

        def carry(s: int, name: str, new: Array, arrived: Array, pulled: Array) -> Array:
            border = name == detached and s > 1 and (s - 1) % k == 0
            return np.where(alive[s - 1][None, :, None], 0, new) if border else new

        tape = base.run(carry=carry)
        return tape.gradients(mask=np.ones_like(tape.mask))

    return predict


def _windows() -> Iterator[Hypothesis]:
    yield Hypothesis(
        "finals-window-from-T",
        "the window of the final cotangents is that of step T, not that of the row's own end",
        masked(lambda a: np.where(_final(a) & (a.lengths > 0)[None, None], steps(a) > a.T - _k(a), a.mask)),
        order=8,
    )

    for id_, words, end in (
        ("rows", "each row's own end", lambda a: a.lengths[None, None]),
        ("sequence", "step T", lambda a: np.asarray(a.T)),
    ):
        yield Hypothesis(
            f"window-at-end-of-{id_}",
            f"the window is the last k steps before {words}, whatever the loss's own step",
            reaching(lambda a, t, end=end: np.where(t == 0, 0, end(a) - _k(a))),
            local=True,
            order=16,
        )


def _periods() -> Iterator[Hypothesis]:
    def one(id_: str, words: str, end: Callable[[Tape, Array, int], Array]) -> Hypothesis:
        def cut(a: Tape, t: Array) -> Array:
            k1 = a.problem.truncation.k1 or 1
            return np.asarray(np.where(t == 0, 0, end(a, t, k1) - (a.problem.truncation.k2 or 1)))

        return Hypothesis(f"periodic-end-{id_}", f"e(t) is {words}", reaching(cut), local=True, order=16)

    def own(a: Tape) -> Array:
        return np.maximum(a.lengths, 1)[None, None]

    yield one(
        "of-T",
        "cut at T and not at the row's own length",
        lambda a, t, k1: np.minimum(a.T, k1 * -(-t // k1)),
    )
    yield one(
        "late",
        "k1 (floor(t/k1) + 1), a whole period late where t is a multiple of k1",
        lambda a, t, k1: np.minimum(own(a), k1 * (t // k1 + 1)),
    )
    yield one(
        "late-of-T",
        "k1 (floor(t/k1) + 1), a whole period late where t is a multiple of k1, and cut at T",
        lambda a, t, k1: np.minimum(a.T, k1 * (t // k1 + 1)),
    )
    yield one(
        "one-later", "one step late: k1 ceil(t/k1) + 1", lambda a, t, k1: np.minimum(own(a), k1 * -(-t // k1) + 1)
    )
    yield one(
        "one-earlier", "one step early: k1 ceil(t/k1) − 1", lambda a, t, k1: np.minimum(own(a), k1 * -(-t // k1) - 1)
    )
    yield one(
        "from-the-end",
        "counted from each row's end, so that the first period is the short one",
        lambda a, t, k1: own(a) - (own(a) - t) // k1 * k1,
    )
    yield one(
        "exchanged",
        "counted in periods of k2, and k1 steps reach back: k1 and k2 are exchanged",
        lambda a, t, k1: np.minimum(own(a), _k2(a) * -(-t // _k2(a))) - k1 + _k2(a),
    )
    yield one("of-the-row", "the row's length for every t", lambda a, t, k1: own(a) + 0 * t)


def _k2(a: Tape) -> int:
    return a.problem.truncation.k2 or 1


def _readout() -> Iterator[Hypothesis]:
    def time(a: Tape) -> Array:
        return np.arange(1, a.T + 1)[:, None]

    choices: list[tuple[str, str, Callable[[Tape], Array]]] = [
        ("last-steps", "sum over the last k steps alone", lambda a: time(a) > a.T - _k(a)),
        ("row-last-steps", "sum over each row's last k steps alone", lambda a: time(a) > a.lengths[None] - _k(a)),
        ("last-block", "sum over the last block of k steps alone", lambda a: time(a) > (a.T - 1) // _k(a) * _k(a)),
        ("first-steps", "sum over the first k steps alone", lambda a: time(a) <= _k(a)),
    ]
    for id_, words, weigh in choices:

        def predict(base: Base, weigh: Callable[[Tape], Array] = weigh) -> Arrays:
            a = base.tape
            return a.readout(np.broadcast_to(weigh(a), (a.T, a.B)).astype(WIDE) * ones(a)[:, 0])

        yield Hypothesis(
            f"readout-{id_}", f"the readout's gradients are truncated too: they {words}", predict, order=12
        )
