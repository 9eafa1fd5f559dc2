"""What outlives a call: sums that are not cleared, results or states of an earlier problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import Array, Arrays, Tape, wide

STALE = ("not-cleared", "stale", "first-states", "last-states", "state-left-over", "state-carried-over")
"""Their ids: what they say depends on the calls before, not on sizes."""


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
