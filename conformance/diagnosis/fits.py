"""Mistakes with a number in them: it is fitted to one wrong answer, and must then explain the others as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.match import Observation, norm
from conformance.diagnosis.mistakes.path import twisted
from conformance.diagnosis.tape import GATES, SLOPES, WIDE, Array, Arrays

Family = Callable[[Any], Callable[[Base], Arrays]]
"""c -> a prediction."""
STARTS = (1.001, 0.5, 0.1, 2.0)
ROUNDS = 12


def fitted(seen: Observation) -> Iterator[Hypothesis]:
    """Constants by which the wrong arrays, the carry or a derivative are scaled, if there are such."""
    yield from _constants(seen)
    yield from _decays(seen)
    problem = seen.base.problem
    families: list[tuple[str, str, Family]] = [
        (
            "carry-scaled",
            "the carry is {} times what it should be",
            lambda c: twisted(carry=lambda s, name, new, arrived, pulled: new + pulled * (c - 1)),
        ),
        (
            "upstream-scaled",
            "what the losses send to the states is {} times what it should be",
            lambda c: twisted(seeds=lambda tape, name, seeds: seeds * c),
        ),
    ]
    for label, gate in GATES[problem.cell].items():
        if problem.cell == "elman" and label != f"{problem.activation}0":
            continue
        of = "" if problem.cell == "elman" else f" of {gate}"
        families.append(
            (
                f"slope-{gate}-scaled",
                f"the derivative of the activation{of} is {{}} times what it should be",
                lambda c, m=label: twisted(slope={m: lambda a, z: SLOPES[m[:-1]](a, z) * c}),
            )
        )
    gradients = [key for key in seen.wrong if key.startswith("d")]
    if not gradients:
        return
    for id_, words, family in families:
        c = _fit(seen, gradients, family)
        if c is not None and abs(c - 1) > 1e-13:
            yield Hypothesis(id_, words.format(_text(c)), family(c), order=28)


def _text(c: Array) -> str:
    off = float(c - 1)
    return f"1 {'+' if off > 0 else '−'} {abs(off):.3g}" if 0 < abs(off) < 1e-4 else f"{float(c):.6g}"


def _constants(seen: Observation) -> Iterator[Hypothesis]:
    found: dict[str, Array] = {}
    single: dict[str, Array] = {}  # any wrong number is a constant times the right one
    for key in seen.wrong:
        got, want = seen.got[key], seen.want[key]
        if not np.isfinite(got).all() or not (want * want).sum() > 0:
            continue
        c = (got * want).sum() / (want * want).sum()
        if got.size == 1:
            single[key] = c
        elif norm(got - c * want) <= 1e-3 * norm(got - want):
            found[key] = c
    if not found:
        return
    found |= {
        key: c for key, c in single.items() if any(abs(c - other) <= 1e-5 * abs(c - 1) for other in found.values())
    }
    values = sorted(float(c) for c in found.values())
    same = values[-1] - values[0] <= 1e-5 * abs(values[0])
    if same:
        c = max(found.items(), key=lambda item: seen.got[item[0]].size)[1]
        found = dict.fromkeys(found, c)
        words = f"{_text(c)} times what it should be"
    else:
        words = "a constant times what it should be: " + ", ".join(f"{key} {_text(c)}" for key, c in found.items())
    yield Hypothesis(
        "scaled", words, lambda base: {key: base.exact[key] * c for key, c in found.items()}, local=True, order=20
    )


def _decays(seen: Observation) -> Iterator[Hypothesis]:
    """A multiple of the weights themselves that is added to their gradients."""
    found: dict[str, Array] = {}
    params = seen.base.problem.params
    for key in seen.wrong:
        W = params.get(key[1:])
        if W is None or W.size < 2 or not np.isfinite(seen.got[key]).all():
            continue
        weight, error = W.astype(WIDE).reshape(-1), seen.got[key] - seen.want[key]
        size = (weight * weight).sum()
        c = (error * weight).sum() / size if size > 0 else WIDE(0)
        if norm(error - c * weight) <= max(1e-3 * norm(error), seen.noise(key, seen.got[key])) and c != 0:
            found[key] = np.asarray(WIDE(float(f"{float(c):.3g}")))  # a decay is a round number
    if not found:
        return
    words = ", ".join(f"{float(c):.3g} times {key[1:]}" for key, c in found.items())
    yield Hypothesis(
        "weight-decay",
        f"a weight decay is left on: {words} is added",
        lambda base: {key: base.exact[key] + c * base.problem.params[key[1:]].astype(WIDE) for key, c in found.items()},
        local=True,
        order=15,
    )


def _fit(seen: Observation, keys: Sequence[str], family: Family) -> Any:
    """The c whose prediction is nearest, by Gauss and Newton; None where none comes near."""
    got = np.concatenate([seen.got[key] for key in keys])
    if not np.isfinite(got).all():
        return None

    def flat(c: Any) -> Array:
        predicted = family(c)(seen.base)
        return np.concatenate([seen.judged(key, predicted[key]) for key in keys if key in predicted])

    off = norm(got - np.concatenate([seen.want[key] for key in keys]))
    best: tuple[float, Any] | None = None
    for start in STARTS:
        c = WIDE(start)
        with np.errstate(all="ignore"):
            for _ in range(ROUNDS):
                here = flat(c)
                if here.shape != got.shape or not np.isfinite(here).all():
                    break
                step = WIDE(1e-7) * max(abs(c), WIDE(1e-3))
                slope = (flat(c + step) - flat(c - step)) / (2 * step)
                size = (slope * slope).sum()
                if not size > 0:
                    break
                move = (slope * (got - here)).sum() / size
                c = c + max(min(move, WIDE(1)), WIDE(-1))
                if abs(move) <= 1e-17 * max(abs(c), WIDE(1)):
                    break
            here = flat(c)
        error = norm(got - here) if here.shape == got.shape and np.isfinite(here).all() else np.inf
        if best is None or error < best[0]:
            best = (error, c)
        if error <= 1e-3 * off:
            return c
    return best[1] if best is not None and best[0] <= 1e-1 * off and best[0] < 1e-6 * norm(got) else None
