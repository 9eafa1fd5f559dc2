"""Where an error sits: which arrays and entries are wrong, by how much, and from which sizes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bptt.errors import ProblemError
from bptt.truncation import Truncation
from conformance.diagnosis.family import alike
from conformance.diagnosis.match import Observation
from conformance.diagnosis.tape import COLUMNS, Array, wide
from properties.base import active_mask

if TYPE_CHECKING:
    from conformance.diagnosis.diagnose import Asked

VALUES = {
    "T": (1, 2, 3, 5, 8, 16, 17, 24, 33),
    "B": (1, 2, 3, 4, 5, 7, 9, 16, 17, 33),
    "H": (1, 2, 4, 5, 8, 16, 33),
    "D": (1, 2, 4, 5),
    "K": (2, 3, 5),
}
LARGE = 12_000
CUTS = {
    "window": tuple(Truncation("window", k=k) for k in (1, 2, 3, 5)),
    "chunk": tuple(Truncation("chunk", k=k) for k in (1, 2, 3, 5)),
    "periodic": tuple(Truncation("periodic", k1=a, k2=b) for a, b in ((1, 1), (1, 2), (1, 3), (2, 2), (3, 4), (2, 6))),
}
"""Parameters under which explanations of a wrong truncation part: short and long ones, and k2 beyond 2 k1."""


def describe(wrong: Sequence[Observation], when: str | None) -> str:
    """The wrong arrays of the first wrong answer, with the entries concerned."""
    seen = wrong[0]
    parts = [_array(seen, key) for key in seen.wrong]
    p = seen.base.problem
    right = [key for key in seen.answer if key not in seen.wrong]
    text = f"at T={p.T} B={p.B} D={p.D} H={p.H} K={p.K}: " + "; ".join(parts)
    if right:
        text += f"; right: {', '.join(right)}"
    if seen.call > 1:
        text += f"; at call {seen.call}, not before"
    return text + (f"; {when}" if when else "")


def _array(seen: Observation, key: str) -> str:
    answer = np.asarray(seen.answer[key])
    error, allowed = seen.base.truth.error(key, answer), seen.base.truth.allowed(key)
    bad = ~(error <= allowed) & active_mask(seen.base.problem, key, answer.shape)
    off, size = _norm(wide(answer) - seen.base.exact[key]), _norm(seen.base.exact[key])
    how = "not finite" if not np.isfinite(answer).all() else f"off by {off / size:.1e} of its norm" if size else "not 0"
    if bad.all() or not answer.ndim:
        return f"{key} {how}"
    places = []
    for axis, name in enumerate(_axes(seen, key, answer.ndim)):
        at = np.flatnonzero(bad.any(axis=tuple(i for i in range(bad.ndim) if i != axis)))
        if len(at) < bad.shape[axis]:
            shown = ", ".join(map(str, at[:6])) + (", …" if len(at) > 6 else "")
            places.append(f"{name} {_gates(seen, key, at) or shown}")
    share = f"{int(bad.sum())} of {bad.size} entries"
    return f"{key} {how}, {share}" + (f" ({'; '.join(places)}; counted from 0)" if places else "")


def _axes(seen: Observation, key: str, ndim: int) -> tuple[str, ...]:
    if ndim == 3:
        return ("steps", "batch rows", "units")
    if key in ("dh0", "dc0"):
        return ("batch rows", "units")
    return ("rows", "columns")[-ndim:]


def _gates(seen: Observation, key: str, at: Array) -> str:
    """The gates whose blocks are concerned, where whole blocks are."""
    p = seen.base.problem
    gates, n = COLUMNS[p.cell], np.asarray(seen.answer[key]).shape[-1]
    if len(gates) < 2 or n != len(gates) * p.H:
        return ""
    hit = sorted({int(i) // p.H for i in at})
    return "of gate " + ", ".join(gates[k] for k in hit) if len(at) == len(hit) * p.H else ""


def _norm(v: Array) -> float:
    return float(np.sqrt((v * v).sum()))


def triggers(asked: Asked, seen: Observation) -> tuple[str | None, list[Observation]]:
    """From which sizes on it is wrong: one size at a time is changed in a problem that is answered wrongly.

    Beside the words, all that was observed.
    """
    all_seen: list[Observation] = []
    like = seen.base.problem
    sizes = {name: getattr(like, name) for name in "TBDHK"}

    def is_wrong(**change: int) -> bool | None:
        T, B, D, H, K = (change.get(name, sizes[name]) for name in "TBDHK")
        if T * B * H * H > LARGE:
            return None
        try:
            problem = alike(like, (T, B, D, H, K), 40, asked.bench.support, same_truncation=True)
        except ProblemError:
            return None
        if any(getattr(problem, name) != value for name, value in change.items()):
            return None
        found = asked.ask(problem)
        if found is not None:
            all_seen.append(found)
        return None if found is None else bool(found.wrong)

    if not is_wrong():
        return None, all_seen
    facts: list[str] = []
    for name, values in VALUES.items():
        if name == "K" and like.readout == "none":
            continue
        if name in "DHK" and sizes["D"] == sizes["H"] and len(facts) > 2:
            continue
        answers = [(value, is_wrong(**{name: value})) for value in values]
        fact = _fact(name, sizes[name], [(v, a) for v, a in answers if a is not None])
        if fact:
            facts.append(fact)
    return "wrong " + " and ".join(facts) if facts else None, all_seen


def other_truncations(asked: Asked, seen: Observation) -> list[Observation]:
    """What is answered under other parameters of the same truncation; nothing where it has none."""
    p, found = seen.base.problem, []
    for cut in CUTS.get(p.truncation.kind, ()):
        problem = alike(p, (p.T, p.B, p.D, p.H, p.K), 41, asked.bench.support, same_truncation=True)
        found.append(asked.ask(replace(problem, truncation=cut)))
    return [one for one in found if one is not None]


def _fact(name: str, own: int, answers: Sequence[tuple[int, bool]]) -> str | None:
    """What the answers at several values of a size say; None where all are wrong alike."""
    known = dict(answers) | {own: True}
    wrong = sorted(v for v, bad in known.items() if bad)
    right = sorted(v for v, bad in known.items() if not bad)
    if not right:
        return None
    if max(right) < min(wrong):
        return f"from {name} = {min(wrong)} on (right at {max(right)})"
    if max(wrong) < min(right):
        return f"up to {name} = {max(wrong)} (right at {min(right)})"
    return f"at {name} = {', '.join(map(str, wrong[:5]))} (right at {', '.join(map(str, right[:5]))})"
