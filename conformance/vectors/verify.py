"""Judges answers to vectors: each entry against the exact value and the budget that stand in the corpus.

    |(got - near) - rest| <= budget, in float64, and written so that NaN fails; an infinite budget judges nothing  (1)

Which arrays are there must not depend on values: one that is given for some vectors of a configuration and not for
others is wrong where it is missing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bptt.problem import SIGNIFICAND, Array
from conformance.errors import UsageError
from conformance.messages import number, place, units
from conformance.render.terminal import shorten
from conformance.vectors.answers import Answers, Wrong
from conformance.vectors.corpus import Corpus


@dataclass
class Verdict:
    """What verify found. `wrong` are messages.

    missing        (id, dtype) to the keys that were not answered; partial: where others were; unknown: keys ignored
    asked, whole   answers that were asked for, and those that are complete: one for each vector and dtype
    conclusive     arrays that were judged and whose budget is small enough to say something; vague: the others
    worst          the largest error/budget of an array that passed, where, and in which vector
    """

    asked: int = 0
    whole: int = 0
    conclusive: int = 0
    vague: int = 0
    wrong: list[str] = field(default_factory=list)
    missing: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    partial: set[tuple[str, str]] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    worst: tuple[float, str] = (0.0, "")

    @property
    def status(self) -> int:
        """0 all asked for is there and within budget; 1 something is wrong; 3 nothing conclusive, or not all there."""
        if self.wrong:
            return 1
        return 3 if self.missing or not self.conclusive else 0


def matching(corpus: Corpus, patterns: Sequence[str]) -> list[str]:
    """The ids that a pattern names, all if there is none. Raises: UsageError for a pattern that names nothing."""
    if not patterns:
        return list(corpus.vectors)
    kept: set[str] = set()
    for pattern in patterns:
        named = fnmatch.filter(corpus.vectors, pattern)
        if not named:
            raise UsageError(f"--select {pattern!r}: no vector of {corpus.folder} is called so; see its index.json")
        kept |= set(named)
    return [vector_id for vector_id in corpus.vectors if vector_id in kept]


def verify(
    corpus: Corpus,
    answers: Answers,
    chosen: Sequence[str],
    dtypes: Collection[str] | None = None,
    keys: Collection[str] | None = None,
) -> Verdict:
    """Judge answers to the chosen vectors, in the dtypes that are named or else in those that something answers.

    Raises: UsageError for an answer to a vector or in a dtype that the corpus does not have, and for broken files.
    """
    for vector_id, named in answers.named.items():
        if vector_id not in corpus.vectors:
            such = next(iter(corpus.vectors), "ID")
            raise UsageError(
                f"{shorten(vector_id, 120)!r} is no vector of {corpus.folder}; expected ids of its index.json, "
                f"such as {such}"
            )
        has = corpus.vectors[vector_id]["dtypes"]
        for dtype in sorted(named.difference(has)):
            raise UsageError(f"{vector_id}: has no budgets for {dtype}; expected {', '.join(has)}")
    asked_in = set(dtypes) if dtypes else {dtype for _, dtype in answers.found}
    verdict = Verdict()
    given: dict[tuple[object, ...], dict[str, str]] = {}
    for vector_id in chosen:
        entry = corpus.vectors[vector_id]
        results: dict[str, Array] = {}
        for dtype in entry["dtypes"]:
            if dtype not in asked_in:
                continue
            wanted = [key for key in entry["arrays"] if keys is None or key in keys]
            if not wanted:
                continue
            verdict.asked += 1
            found = answers.found.get((vector_id, dtype), {})
            lacking = [key for key in wanted if key not in found and key not in optional(entry)]
            verdict.unknown += [f"{vector_id}: {shorten(key, 40)}" for key in found if key not in entry["arrays"]]
            if lacking:
                verdict.missing[vector_id, dtype] = lacking
                verdict.partial |= {(vector_id, dtype)} if any(key in found for key in wanted) else set()
            else:
                verdict.whole += 1
            if not results and any(key in found for key in wanted):
                results = corpus.results(vector_id)
            for key in wanted:
                if key in found:
                    given.setdefault(configuration(entry, dtype), {}).setdefault(key, vector_id)
                    _judge(verdict, entry, dtype, key, found[key], results)
    _same_keys(verdict, corpus, answers, given)
    return verdict


def optional(entry: dict[str, Any]) -> set[str]:
    """The arrays that need not be answered: the gradients of an initial state that was not given."""
    return set() if entry["initial_state"] else {"dh0", "dc0"}


def configuration(entry: dict[str, Any], dtype: str) -> tuple[object, ...]:
    """Everything about a vector but its numbers and sizes."""
    names = tuple(entry[name] for name in ("cell", "activation", "readout", "initial_state"))
    loss = tuple(entry["loss"][name] for name in ("kind", "time_reduction", "batch_reduction"))
    return (dtype, *names, *loss, entry["truncation"]["kind"], entry["lengths"] is not None)


def _same_keys(
    verdict: Verdict, corpus: Corpus, answers: Answers, given: dict[tuple[object, ...], dict[str, str]]
) -> None:
    for (vector_id, dtype), lacking in verdict.missing.items():
        if (vector_id, dtype) not in answers.found:
            continue
        others = given.get(configuration(corpus.vectors[vector_id], dtype), {})
        for key in lacking:
            if key in others:
                verdict.wrong.append(
                    f"{key}: missing, but given for {others[key]}, which differs in numbers and sizes alone\n"
                    f"  {vector_id} · {dtype}"
                )


def _judge(
    verdict: Verdict, entry: dict[str, Any], dtype: str, key: str, loader: Any, results: dict[str, Array]
) -> None:
    shape = tuple(entry["arrays"][key])
    about = f"\n  {entry['id']} · {dtype} · {', '.join(entry['flags'])}"
    try:
        got = loader(shape)
    except Wrong as wrong:
        verdict.wrong.append(f"{key}: {wrong}{about}")
        return
    near, rest, budget = (results[f"{key}.{name}"] for name in ("near", "rest", f"budget.{dtype}"))
    judged = budget < np.inf
    with np.errstate(all="ignore"):
        error = np.abs((got - near) - rest)  # (1)
        within = error <= budget
        ratio = np.where(error == 0, 0.0, error / budget)
        ratio = np.where(judged, np.where(np.isnan(ratio), np.inf, ratio), -1.0)
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), shape)) if shape else ()
    if not bool((within | ~judged).all()):
        want, bound = float(near[where]), float(budget[where])
        off = units(float(error[where]), want, dtype) if np.isfinite(error[where]) else str(float(error[where]))
        verdict.wrong.append(
            f"{place(key, where)}: got {number(float(got[where]))}, want {number(want)}; "
            f"off by {off}, budget {units(bound, want, dtype)}{about}"
        )
        return
    if judged.any():
        if key in entry["inconclusive"][dtype]:
            verdict.vague += 1
        else:
            verdict.conclusive += 1
        worst = float(ratio[where])
        if worst > verdict.worst[0]:
            verdict.worst = worst, f"{place(key, where)} of {entry['id']} in {dtype}"


__all__ = ["SIGNIFICAND", "Verdict", "configuration", "matching", "verify"]
