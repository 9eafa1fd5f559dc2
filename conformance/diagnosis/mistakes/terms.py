"""Terms of the double sum that are left out, counted twice or weighed otherwise; and other truncations than asked for.

dtheta = sum_t sum_{s<=t} w(t,s) m(t,s) (dL_t/dh_t) (dh_t/dh_s) (d+h_s/dtheta)          w = 1 where all is right
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from bptt.problem import Problem
from bptt.truncation import Truncation
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import WIDE, Array, Arrays, Tape

Weigh = Callable[[Tape], Array]
"""w, (T,G,B) or what broadcasts to it: step s, group t (the last: final cotangents), row."""
FAR = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 20, 24, 25, 32, 50, 64)


def ones(tape: Tape) -> Array:
    """w = 1."""
    return np.ones((tape.T, tape.G, tape.B), WIDE)


def steps(tape: Tape) -> Array:
    """s, (T,1,1)."""
    return np.arange(1, tape.T + 1)[:, None, None]


def losses(tape: Tape) -> Array:
    """t of each group, (1,G,B): the row's length for the final cotangents."""
    t = np.repeat(np.arange(1, tape.G + 1)[:, None], tape.B, axis=1)
    t[-1] = tape.lengths
    return t[None]


def weighed(weigh: Weigh, over: Callable[[Tape], Array] | None = None) -> Callable[[Base], Arrays]:
    """A prediction: the cell's gradients under w, and the readout's under its own (T,B), where it has one."""

    def predict(base: Base) -> Arrays:
        tape = base.tape
        found = tape.gradients(ones(tape) * weigh(tape))
        if over is not None:
            found |= tape.readout(np.broadcast_to(over(tape), (tape.T, tape.B)))
        return found

    return predict


def masked(mask: Callable[[Tape], Array]) -> Callable[[Base], Arrays]:
    """A prediction: the cell's gradients under another m(t,s)."""

    def predict(base: Base) -> Arrays:
        return base.tape.gradients(mask=np.broadcast_to(mask(base.tape), (base.tape.T, base.tape.G, base.tape.B)))

    return predict


def mask_of(truncation: Truncation) -> Callable[[Tape], Array]:
    """m(t,s) of a truncation."""

    def mask(tape: Tape) -> Array:
        first = np.ones((tape.G, tape.B), np.int64)
        for b, length in enumerate(tape.lengths.tolist()):
            for t in range(1, tape.T + 1):
                first[t - 1, b] = truncation.first(t, max(length, t))
            first[-1, b] = truncation.first(length, length) if length else 1
        return np.asarray(steps(tape) >= first[None])

    return mask


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Steps, losses, rows and distances that are left out, kept alone or counted twice."""

    def column(tape: Tape) -> Array:
        return np.arange(1, tape.T + 1)[:, None]

    def one(id_: str, sentence: str, weigh: Weigh, over: Weigh | None = None, order: int = 20) -> Hypothesis:
        return Hypothesis(id_, sentence, weighed(weigh, over), local=True, order=order)

    yield one(
        "first-step-left-out",
        "the term of the first step, s = 1, is left out of the sum over time",
        lambda a: steps(a) > 1,
        lambda a: column(a) > 1,
        10,
    )
    yield one(
        "last-step-left-out",
        "the term of the last step, s = T, is left out of the sum over time",
        lambda a: steps(a) < a.T,
        lambda a: column(a) < a.T,
        10,
    )
    yield one(
        "first-step-only",
        "overwritten at each step on the way back, not accumulated: only the first step's, s = 1, is left",
        lambda a: steps(a) == 1,
        lambda a: column(a) == 1,
        10,
    )
    yield one(
        "last-step-only",
        "only the last step's term, s = T, is there",
        lambda a: steps(a) == a.T,
        lambda a: column(a) == a.T,
        10,
    )
    yield one(
        "second-step-left-out",
        "the term of the second step, s = 2, is left out",
        lambda a: steps(a) != 2,
        lambda a: column(a) != 2,
    )
    yield one(
        "first-step-twice",
        "the term of the first step, s = 1, is counted twice",
        lambda a: 1 + (steps(a) == 1),
        lambda a: 1 + (column(a) == 1),
    )
    yield one(
        "last-step-twice",
        "the term of the last step, s = T, is counted twice",
        lambda a: 1 + (steps(a) == a.T),
        lambda a: 1 + (column(a) == a.T),
    )
    yield one(
        "every-other-step",
        "only every other step is there, s = 1, 3, 5, …",
        lambda a: steps(a) % 2 == 1,
        lambda a: column(a) % 2 == 1,
    )
    yield one(
        "ends-left-out",
        "the terms of the first and of the last step are left out",
        lambda a: (steps(a) > 1) & (steps(a) < a.T),
        lambda a: (column(a) > 1) & (column(a) < a.T),
    )
    yield one(
        "row-ends-left-out",
        "each row's own last step, s = length, is left out",
        lambda a: steps(a) != a.lengths[None, None],
        lambda a: column(a) != a.lengths[None],
        22,
    )
    yield one(
        "row-ends-only",
        "only each row's own last step, s = length, is there",
        lambda a: steps(a) == a.lengths[None, None],
        lambda a: column(a) == a.lengths[None],
        22,
    )
    yield one(
        "first-loss-left-out",
        "the loss of the first step, t = 1, sends no gradient",
        lambda a: losses(a) != 1,
        lambda a: column(a) != 1,
    )
    yield one(
        "last-loss-left-out",
        "the loss of the last step, t = T, sends no gradient",
        lambda a: (losses(a) != a.T) | (np.arange(a.G) == a.G - 1)[None, :, None],
    )
    yield one(
        "last-loss-only",
        "only the loss of the last step, t = T, sends a gradient",
        lambda a: losses(a) == a.T,
        lambda a: column(a) == a.T,
    )
    yield one(
        "own-last-loss-only",
        "only the loss of each row's last step sends a gradient",
        lambda a: losses(a) == a.lengths[None, None],
        lambda a: column(a) == a.lengths[None],
        22,
    )
    yield one(
        "first-loss-only",
        "only the loss of the first step, t = 1, sends a gradient",
        lambda a: losses(a) == 1,
        lambda a: column(a) == 1,
    )
    yield one(
        "diagonal-left-out",
        "the terms t = s are left out: each loss skips its own step",
        lambda a: losses(a) != steps(a),
    )
    yield one("diagonal-twice", "the terms t = s are counted twice", lambda a: 1 + (losses(a) == steps(a)))
    yield one(
        "by-distance",
        "each term is weighed by 1 + t - s: what arrives is added at every step on the way",
        lambda a: 1 + losses(a) - steps(a),
    )
    yield from _rows(problem, one, column)
    yield from _truncations(problem)
    yield from _last_sweeps(problem)


def _rows(problem: Problem, one: Callable[..., Hypothesis], column: Weigh) -> Iterator[Hypothesis]:
    def rows(a: Tape) -> Array:
        return np.arange(a.B)

    for b in range(5):

        def other(a: Tape, b: int = b) -> Array:
            return np.asarray(rows(a) != b)

        yield one(
            f"row-{b}-lost",
            f"row {b} of the batch (counted from 0) is lost",
            lambda a, f=other: f(a)[None, None],
            lambda a, f=other: f(a)[None],
            24,
        )
    yield one(
        "last-row-lost",
        "the last row of the batch is lost",
        lambda a: (rows(a) != a.B - 1)[None, None],
        lambda a: (rows(a) != a.B - 1)[None],
        23,
    )
    yield one(
        "odd-row-lost",
        "rows are handled in pairs, and the odd last row is lost",
        lambda a: (rows(a) < a.B - a.B % 2)[None, None],
        lambda a: (rows(a) < a.B - a.B % 2)[None],
        24,
    )
    yield one(
        "first-row-only",
        "only the first row of the batch is there",
        lambda a: (rows(a) == 0)[None, None],
        lambda a: (rows(a) == 0)[None],
        23,
    )
    yield one(
        "last-row-only",
        "overwritten by each row of the batch, not summed: only the last row is left",
        lambda a: (rows(a) == a.B - 1)[None, None],
        lambda a: (rows(a) == a.B - 1)[None],
        23,
    )
    yield one(
        "by-length",
        "each row is divided by its own length",
        lambda a: (1 / np.maximum(1, a.lengths).astype(WIDE))[None, None],
        lambda a: (1 / np.maximum(1, a.lengths).astype(WIDE))[None],
        24,
    )


def reaches(problem: Problem, smallest: Problem) -> Iterator[Hypothesis]:
    """The path cut after as many steps as the smallest problem that shows it has but one, if FAR has no such number."""
    k = smallest.T - 1
    if k > 0 and k not in FAR:
        yield from (replace(one, late=True) for one in _cut_at(problem.truncation, k))


def _cut_at(asked: Truncation, k: int) -> Iterator[Hypothesis]:
    """Nothing from k steps back on, and nothing across every k-th step."""
    yield Hypothesis(
        f"far-terms-{k}",
        "the recurrent path is cut: each loss is credited to its own step alone"
        if k == 1
        else f"terms {k} and more steps back are dropped, as by window({k}); asked for was {asked.kind}",
        masked(lambda a: a.mask & (losses(a) - steps(a) < k)),
        local=True,
        order=12 if k == 1 else 25,
    )
    if k > 1:
        yield Hypothesis(
            f"detached-every-{k}",
            f"detached every {k} steps, as by chunk({k}); asked for was {asked.kind}",
            masked(lambda a: a.mask & mask_of(Truncation("chunk", k=k))(a)),
            local=True,
            order=26,
        )
    if asked.kind == "chunk":
        yield Hypothesis(
            f"chunks-of-{k}-at-most",
            f"chunks have {k} steps at most: chunk(k) is taken for chunk({k}) where k is larger",
            masked(lambda a: mask_of(Truncation("chunk", k=min(a.problem.truncation.k or k, k)))(a)),
            local=True,
            order=25,
        )


def _truncations(problem: Problem) -> Iterator[Hypothesis]:
    asked = problem.truncation
    for k in FAR:
        yield from _cut_at(asked, k)
    if asked.kind in ("full", "cec"):
        return

    def instead(id_: str, sentence: str, f: Callable[[Tape, Truncation], Array], order: int = 15) -> Hypothesis:
        return Hypothesis(id_, sentence, masked(lambda a: f(a, a.problem.truncation)), local=True, order=order)

    def other(make: Callable[[Truncation], Truncation]) -> Callable[[Tape, Truncation], Array]:
        return lambda a, t: mask_of(make(t))(a)

    def other_of(make: Callable[[Tape, Truncation], Truncation]) -> Callable[[Tape, Truncation], Array]:
        return lambda a, t: mask_of(make(a, t))(a)

    def spare(k: int | None) -> int:
        return max(1, k or 1)

    kind = asked.kind
    yield instead(
        "truncation-ignored",
        f"the truncation is ignored: full where {kind} was asked for",
        other(lambda t: Truncation("full")),
        10,
    )
    yield instead(
        "truncation-last-loss-only",
        "only the last loss, t = T, is truncated; the others go all the way",
        lambda a, t: np.where(losses(a) == a.T, a.mask, True),
    )
    yield instead(
        "truncation-last-loss-untouched",
        "the last loss, t = T, is not truncated",
        lambda a, t: np.where(losses(a) == a.T, True, a.mask),
    )
    yield instead(
        "finals-not-truncated",
        "the final cotangents are not truncated",
        lambda a, t: np.where((np.arange(a.G) == a.G - 1)[None, :, None], True, a.mask),
    )
    if kind in ("window", "chunk"):
        swap = "chunk" if kind == "window" else "window"
        yield instead(
            f"{swap}-for-{kind}", f"{swap}(k) in place of {kind}(k)", other(lambda t: Truncation(swap, k=t.k))
        )
        yield instead(
            f"{kind}-too-long",
            f"{kind}(k) is taken for {kind}(k + 1)",
            other(lambda t: Truncation(kind, k=spare(t.k) + 1)),
        )
        yield instead(
            f"{kind}-too-short",
            f"{kind}(k) is taken for {kind}(k - 1)",
            other(lambda t: Truncation(kind, k=spare(spare(t.k) - 1))),
        )
        yield instead(
            f"{kind}-doubled", f"{kind}(k) is taken for {kind}(2k)", other(lambda t: Truncation(kind, k=2 * spare(t.k)))
        )
    if kind == "window":
        yield instead(
            "window-short-of-the-start",
            "window(k) reaches no more than T - 1 steps, also where k is larger",
            other_of(lambda a, t: Truncation("window", k=min(spare(t.k), max(1, a.T - 1)))),
        )
    if kind == "chunk":
        yield instead(
            "chunks-from-the-end",
            "the chunks are counted from the end of the sequence, so that the first is the short one",
            lambda a, t: _same_block(a, t.k, a.T),
        )
        yield instead(
            "chunks-from-row-end",
            "the chunks are counted from each row's own end",
            lambda a, t: _same_block(a, t.k, a.lengths[None, None]),
        )
        yield instead(
            "chunks-one-late",
            "the chunks' borders stand one step late",
            lambda a, t: (steps(a) - 2) // t.k == (losses(a) - 2) // t.k,
        )
        yield instead(
            "chunks-one-early",
            "the chunks' borders stand one step early",
            lambda a, t: steps(a) // t.k == losses(a) // t.k,
        )
    if kind == "periodic":

        def pair(d1: int, d2: int) -> Callable[[Tape, Truncation], Array]:
            return other(
                lambda t: Truncation("periodic", k1=spare(t.k1) + d1, k2=max(spare(t.k2) + d2, spare(t.k1) + d1))
            )

        yield instead(
            "periodic-as-window-k2",
            "periodic(k1, k2) reaches back k2 steps from every loss, as window(k2)",
            other(lambda t: Truncation("window", k=t.k2)),
        )
        yield instead(
            "periodic-as-window-k1",
            "periodic(k1, k2) is taken for window(k1)",
            other(lambda t: Truncation("window", k=t.k1)),
        )
        yield instead(
            "periodic-as-chunk-k1",
            "periodic(k1, k2) is taken for chunk(k1)",
            other(lambda t: Truncation("chunk", k=t.k1)),
        )
        yield instead(
            "periodic-as-chunk-k2",
            "periodic(k1, k2) is taken for chunk(k2)",
            other(lambda t: Truncation("chunk", k=t.k2)),
        )
        yield instead("periodic-k2-too-long", "periodic(k1, k2) is taken for periodic(k1, k2 + 1)", pair(0, 1))
        yield instead("periodic-k2-too-short", "periodic(k1, k2) is taken for periodic(k1, k2 - 1)", pair(0, -1))
        yield instead("periodic-k1-too-long", "periodic(k1, k2) is taken for periodic(k1 + 1, k2)", pair(1, 0))
        yield instead(
            "periodic-beyond-the-end",
            "the last period counts as if the sequence went on to its end, e(t) = k1 ceil(t / k1) beyond the length",
            lambda a, t: steps(a) > _ends(a, t) - spare(t.k2),
        )


def _ends(a: Tape, t: Truncation) -> Array:
    k1 = t.k1 or 1
    return -(-losses(a) // k1) * k1


def _same_block(a: Tape, k: int | None, end: Array | int) -> Array:
    k = k or 1
    return np.asarray((end - steps(a)) // k == (end - losses(a)) // k)


def _last_sweeps(problem: Problem) -> Iterator[Hypothesis]:
    if problem.truncation.kind not in ("full", "cec"):
        yield Hypothesis(
            "last-visited-only",
            "overwritten at each step on the way back, not accumulated: only the last "
            "visited step of the last losses is left",
            masked(_last_visited),
            local=True,
            order=13,
        )
        yield Hypothesis(
            "first-visited-only",
            "overwritten at each step on the way back, not accumulated: only the last "
            "visited step of the first losses is left",
            masked(_first_visited),
            local=True,
            order=13,
        )
    if problem.truncation.kind not in ("chunk", "periodic"):
        return

    def block(a: Tape) -> Array:
        k = a.problem.truncation.k or a.problem.truncation.k1 or 1
        return np.asarray((losses(a) - 1) // k)

    def last(a: Tape) -> Array:
        k = a.problem.truncation.k or a.problem.truncation.k1 or 1
        return np.asarray(block(a) == (a.T - 1) // k)

    yield Hypothesis(
        "last-chunk-only",
        "set to zero at each chunk, or overwritten: only the last chunk's gradient is there",
        weighed(last),
        local=True,
        order=14,
    )
    yield Hypothesis(
        "first-chunk-only",
        "overwritten at each chunk on the way back: only the first chunk's gradient is there",
        weighed(lambda a: block(a) == 0),
        local=True,
        order=16,
    )
    yield Hypothesis(
        "last-chunk-left-out",
        "the last chunk's gradient is left out",
        weighed(lambda a: ~last(a)),
        local=True,
        order=16,
    )


def _reach(a: Tape) -> Array:
    """The first step that each group reaches, (G,B)."""
    return np.asarray(a.T - a.mask.sum(axis=0) + 1)


def _last_visited(a: Tape) -> Array:
    first = _reach(a)
    last = first[a.T - 1]
    return np.asarray((first[None] == last) & (steps(a) == last[None, None]))


def _first_visited(a: Tape) -> Array:
    first = _reach(a)
    return np.asarray((first[None] == first[0]) & (steps(a) == first[0][None, None]))
