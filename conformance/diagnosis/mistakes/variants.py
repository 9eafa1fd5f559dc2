"""Other cells and targets than asked for: coupled gates, other squashing functions, exchanged peepholes and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.mistakes.forward import run
from conformance.diagnosis.tape import SLOPES, WIDE, Array, Arrays, sigmoid


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """By cell, and for target probabilities."""
    if problem.cell in ("lstm", "lstm_1997"):
        yield Hypothesis(
            "coupled-forget-gate",
            "the forget gate is coupled to the input gate: c = (1−i)∘c₋ + i∘g",
            run(step=_coupled(problem.cell)),
            order=9,
        )
    if problem.cell.startswith("lstm"):
        for label, which in (("tanh0", "the candidate"), ("tanh1", "the squashed cell state")):
            for factor in (1, 2):
                yield Hypothesis(
                    f"{label}-between-{factor}",
                    f"{which} is {2 * factor}σ(a)−{factor}, as in the article of 1997, and not a tanh",
                    run(
                        phi={label: lambda a, c=factor: 2 * c * sigmoid(a) - c},
                        slope={label: lambda a, z, c=factor: 2 * c * SLOPES["sigmoid"](a, z)},
                    ),
                    order=12,
                )
    if problem.cell == "lstm_peephole":
        for one, other in (("p_i", "p_f"), ("p_i", "p_o"), ("p_f", "p_o")):
            for back in (True, False):
                yield Hypothesis(
                    f"{one}-and-{other}-exchanged{'' if back else '-forward'}",
                    f"the peepholes {one} and {other} are exchanged"
                    + ("" if back else "; their gradients stand at the right names"),
                    _exchanged(one, other, back=back),
                    order=9,
                )
    if problem.loss.kind == "cross_entropy" and problem.loss.target is not None and problem.loss.target.ndim == 3:
        for id_, words, change in (
            ("classes", "replaced by their most probable class", _most_probable),
            ("normalised", "divided by their sum", lambda y: y / y.sum(axis=-1, keepdims=True)),
        ):
            yield Hypothesis(f"target-{id_}", f"target probabilities are {words}", _target(change), order=11)
    if problem.lengths is not None:
        yield Hypothesis(
            "empty-rows-as-one",
            "a row of length 0 is taken for one of length 1",
            lambda base: base.with_problem(replace(base.problem, lengths=np.maximum(base.problem.row_lengths, 1))),
            order=9,
        )
    if problem.spec.states == ("h", "c") and problem.h0 is not None:
        yield Hypothesis(
            "initial-read-swapped",
            "h0 is read as the initial c and c0 as the initial h; their gradients stand where they were read to",
            lambda base: base.with_problem(replace(base.problem, h0=base.problem.c0, c0=base.problem.h0)),
            order=10,
        )


def _coupled(cell: str) -> Callable[..., Any]:
    def step(A: Any, w: dict[str, Any], x_t: Any, state: Any, activation: Any, cec: bool) -> Any:
        H, n = w["H"], 4 if cell == "lstm" else 3
        a = A.linear([(x_t, w["W_x"]), (A.hold(state["h"]) if cec else state["h"], w["W_h"])], [w["b"]])
        i, o = A.sigmoid(A.columns(a, 0, H)), A.sigmoid(A.columns(a, (n - 1) * H, n * H))
        g = A.tanh(A.columns(a, (n - 2) * H, (n - 1) * H))
        c = A.mix(i, state["c"], g)
        return {"h": A.mul(o, A.tanh(c)), "c": c}

    return step


def _exchanged(one: str, other: str, *, back: bool) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        params = base.problem.params
        found = base.run(params={one: params[other].astype(WIDE), other: params[one].astype(WIDE)}).results
        return found | {f"d{one}": found[f"d{other}"], f"d{other}": found[f"d{one}"]} if back else found

    return predict


def _most_probable(y: Array) -> Array:
    return np.asarray(np.eye(y.shape[-1], dtype=y.dtype)[y.argmax(axis=-1)])


def _target(change: Callable[[Array], Array]) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        loss = base.problem.loss
        return base.with_problem(replace(base.problem, loss=replace(loss, target=change(np.asarray(loss.target)))))

    return predict
