"""What outlives a call: sums that are not cleared, results or states of an earlier problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import Array, Arrays, Tape, wide

STALE = ("not-cleared", "stale", "first-states", "last-states", "state-left-over", "state-carried-over", "cached-")
"""How their ids begin: what they say depends on the calls before, not on sizes."""


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Each looks at the problems that were asked before, the latest first."""
    yield Hypothesis(
        "not-cleared",
        "not cleared before the call: what the last call returned is still in the sum",
        _added,
        local=True,
        order=8,
    )
    yield Hypothesis(
        "stale",
        "what the last call returned, not the answer to this one",
        _previous(lambda now, before: before),
        local=True,
        order=8,
    )
    yield Hypothesis(
        "first-states",
        "formed with the states of the first problem of these sizes",
        _saved(first=True),
        local=True,
        order=9,
    )
    yield Hypothesis(
        "last-states", "formed with the states of the problem asked before", _saved(first=False), local=True, order=10
    )
    yield from _cached(problem)
    if problem.h0 is None:
        yield Hypothesis(
            "state-left-over",
            "where no initial state is given, the last call's final state is used",
            _left_over,
            order=8,
        )
    else:
        yield Hypothesis(
            "state-carried-over", "the last call's final state is used in place of the initial one", _left_over, order=9
        )


def _cached(problem: Problem) -> Iterator[Hypothesis]:
    """What was made of a part of the first problem of these sizes, or of the last one, is used again."""
    names = list(problem.params)
    for which, words in ((0, "first"), (-1, "last")):
        for name in names:
            yield Hypothesis(
                f"cached-{words}-{name}",
                f"{name} is that of the {words} problem of these sizes",
                _with_parameter(name, which),
                order=26,
            )
            if len(problem.parameter_shapes()[name]) == 2:
                yield Hypothesis(
                    f"cached-{words}-{name}-back",
                    f"going back, {name} is that of the {words} problem of these sizes",
                    _reading(name, which),
                    order=25,
                )
        for name in ("x", "h0", "c0"):
            if getattr(problem, name) is not None:
                yield Hypothesis(
                    f"cached-{words}-{name}",
                    f"{name} is that of the {words} problem of these sizes",
                    _with(name, which),
                    order=26,
                )
        if problem.lengths is not None:
            yield Hypothesis(
                f"cached-{words}-lengths",
                f"the lengths are those of the {words} problem of these sizes",
                _with("lengths", which),
                order=24,
            )
            yield Hypothesis(
                f"cached-{words}-mask",
                f"the mask of the steps is that of the {words} problem of these sizes; the lengths are right",
                _with_mask(which),
                order=25,
            )


def _other(base: Base, which: int) -> Problem | None:
    """The first or the last problem of the same sizes that was asked before."""
    p = base.problem
    same = [q for q, _ in base.earlier if (q.T, q.B, q.D, q.H, q.K) == (p.T, p.B, p.D, p.H, p.K)]
    return same[which] if same else None


def _with(name: str, which: int) -> Callable[[Base], Arrays | None]:
    def predict(base: Base) -> Arrays | None:
        other = _other(base, which)
        if other is None or getattr(other, name) is None:
            return None
        return base.with_problem(replace(base.problem, **{name: getattr(other, name)}))

    return predict


def _with_parameter(name: str, which: int) -> Callable[[Base], Arrays | None]:
    def predict(base: Base) -> Arrays | None:
        other = _other(base, which)
        return None if other is None else base.run(params={name: wide(other.params[name])}).results

    return predict


def _reading(name: str, which: int) -> Callable[[Base], Arrays | None]:
    def predict(base: Base) -> Arrays | None:
        other = _other(base, which)
        if other is None:
            return None
        cached = wide(other.params[name])
        tape = base.run(
            read=lambda n, start, W: cached[:, start : start + W.shape[1]] if n == name else W,
        )
        return tape.gradients() | tape.readout()

    return predict


def _with_mask(which: int) -> Callable[[Base], Arrays | None]:
    def predict(base: Base) -> Arrays | None:
        other = _other(base, which)
        if other is None or other.lengths is None:
            return None
        active = np.arange(1, base.problem.T + 1)[:, None] <= other.row_lengths[None]
        rows = base.tape.weights.max(axis=0)
        return base.run(active=active, weights=np.where(active, rows[None], 0)).results

    return predict


def _added(base: Base) -> Arrays | None:
    return _previous(lambda now, before: now + before)(base)


def _previous(combine: Callable[[Array, Array], Array]) -> Callable[[Base], Arrays | None]:
    def predict(base: Base) -> Arrays | None:
        found = {}
        for key, value in base.exact.items():
            for _, answer in reversed(base.earlier):
                if key in answer and answer[key].shape == value.shape:
                    found[key] = combine(value, wide(answer[key]))
                    break
        return found or None

    return predict


def _saved(*, first: bool) -> Callable[[Base], Arrays | None]:
    def predict(base: Base) -> Arrays | None:
        alike = [p for p, _ in base.earlier if (p.T, p.B, p.H) == (base.problem.T, base.problem.B, base.problem.H)]
        if not alike:
            return None
        other = Tape(alike[0] if first else alike[-1])
        W = "W_hh" if base.problem.cell == "elman" else "W_h"
        found = {f"d{W}": base.tape.parameter(W, left=lambda site: list(other.hs[:-1]))}
        if base.problem.readout == "linear":
            found["dW_hy"] = base.tape.readout(states=other.hs[1:])["dW_hy"]
        return found

    return predict


def _left_over(base: Base) -> Arrays | None:
    for p, answer in reversed(base.earlier):
        if (p.B, p.H) == (base.problem.B, base.problem.H) and "h" in answer:
            h0 = np.asarray(answer["h"][-1], dtype=base.problem.x.dtype)
            if not np.isfinite(h0).all():
                return None
            c0 = answer["c"][-1] if "c" in answer else None
            problem = replace(base.problem, h0=h0, c0=None if c0 is None else np.asarray(c0, dtype=h0.dtype))
            return base.with_problem(problem)
    return None
