"""What a mean divides by: a count off by one or with an epsilon, the rows that count, a reciprocal that is rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import WIDE, Array, Arrays, Tape, rounded

Weigh = Callable[[Tape], Array]
"""By how much each row's weight is multiplied, (B,)."""


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Divisors of the mean over time, over the batch and over the tokens, as asked for."""
    loss = problem.loss
    choices: list[tuple[str, str, Weigh]] = []
    if loss.time_reduction == "mean":
        choices += _divided("length", "the mean over time", lambda a: np.maximum(a.lengths, 1))
        choices.append(
            (
                "length-zero",
                "the mean over time divides by 0 in a row of length 0",
                lambda a: np.where(a.lengths == 0, np.nan, 1),
            )
        )
    if loss.batch_reduction == "mean":
        choices += _divided("B", "the mean over the batch", lambda a: np.full(a.B, a.B))
        choices.append(
            (
                "B-without-empty",
                "the mean over the batch counts only the rows of length above 0",
                lambda a: np.full(a.B, WIDE(a.B) / max(int((a.lengths > 0).sum()), 1)),
            )
        )
    if loss.time_reduction == "tokens":
        total = _tokens
        choices += _divided("tokens", "the mean over the tokens", total)
        choices.append(
            (
                "tokens-empty-as-one",
                "the mean over the tokens counts an empty row as one token, Σ max(length, 1)",
                lambda a: total(a).astype(WIDE) / np.maximum(a.lengths, 1).sum(),
            )
        )
    for id_, words, weigh in choices:
        yield Hypothesis(f"divisor-{id_}", words, _weighed(weigh), order=17, late="1e" in id_ or "float" in id_)


def _tokens(a: Tape) -> Array:
    return np.full(a.B, max(int(a.lengths.sum()), 1))


def _divided(name: str, mean: str, count: Callable[[Tape], Array]) -> list[tuple[str, str, Weigh]]:
    """The count n off by one, with an epsilon added, or with its reciprocal rounded."""

    def by(other: Callable[[Array], Array]) -> Weigh:
        return lambda a: count(a).astype(WIDE) / other(count(a).astype(WIDE))

    found = [
        (f"{name}-less-one", f"{mean} divides by {name} − 1", by(lambda n: np.maximum(n - 1, 1))),
        (f"{name}-and-one", f"{mean} divides by {name} + 1", by(lambda n: n + 1)),
    ]
    found += [
        (
            f"{name}-epsilon-1e-{digits}",
            f"{mean} divides by {name} + 1e-{digits}",
            by(lambda n, e=digits: n + WIDE(10) ** -e),
        )
        for digits in range(3, 17)
    ]
    found += [
        (
            f"{name}-reciprocal-{narrow}",
            f"{mean} multiplies by 1/{name} rounded to {narrow}",
            by(lambda n, d=narrow: 1 / rounded(1 / n, d)),
        )
        for narrow in ("float16", "bfloat16", "float32")
    ]
    return found


def _weighed(weigh: Weigh) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        weights = base.tape.weights * np.asarray(weigh(base.tape))[None]
        empty = np.isnan(weights).any(axis=0)
        tape = base.run(weights=np.where(empty[None], 0, weights))
        found = tape.gradients() | tape.readout() | {"loss": np.asarray(tape.total)}
        if empty.any():
            found["loss"] = np.asarray(WIDE(np.nan))
        return found

    return predict
