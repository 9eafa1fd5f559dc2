"""Two reports held side by side: what was fixed, what regressed, what is no longer judged, what worst errors became.

Findings are matched by target, property, cell and dtype. Each pair of verdicts falls into one class:

    regressed          passed, and fails now (fail, crash, timeout)
    newly failing      was not judged (unsupported, inconclusive, error, or not there), and fails now
    fixed              failed, and passes now
    newly passing      was not judged, and passes now
    newly unsupported  was judged, and is unsupported now
    no longer judged   was judged, and is inconclusive, an error, or not there now
    still failing      fails in both; the verdict may be another one
    unchanged          passes in both, or is judged in neither

A failure that its author expects is a failure here: what is expected may change, what happens is compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.errors import UsageError
from conformance.render import visible

FAILURES = ("fail", "crash", "timeout")
CLASSES = (
    "regressed",
    "newly failing",
    "newly unsupported",
    "no longer judged",
    "fixed",
    "newly passing",
    "still failing",
    "unchanged",
)
LEVELS: dict[str, tuple[str, ...]] = {
    "never": (),
    "regression": ("regressed",),
    "failure": ("regressed", "newly failing"),
    "loss": ("regressed", "newly failing", "newly unsupported", "no longer judged"),
    "change": CLASSES[:-2],
}
"""What --fail-on counts, in classes; `regression` and all after it count a certificate that was lost too."""

Key = tuple[str, str, str]
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """One property, cell and dtype in both reports; None where a report lacks it."""

    key: Key
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        """Its class."""
        old, new = _state(self.old), _state(self.new)
        if new == "failed":
            return {"passed": "regressed", "failed": "still failing"}.get(old, "newly failing")
        if new == "passed":
            return {"passed": "unchanged", "failed": "fixed"}.get(old, "newly passing")
        if old not in ("passed", "failed"):
            return "unchanged"
        return "newly unsupported" if verdict(self.new) == "unsupported" else "no longer judged"

    @property
    def errors(self) -> tuple[float, float] | None:
        """Worst error ÷ budget in both, where both have one of the same kind: a norm near its bound is no error."""
        old, new = (one["worst"] if one else None for one in (self.old, self.new))
        if not old or not new or (old["bound"] is None) != (new["bound"] is None):
            return None
        ratios = old["error_over_budget"], new["error_over_budget"]
        return None if None in ratios else (float(ratios[0]), float(ratios[1]))

    @property
    def growth(self) -> float:
        """|log(new ÷ old)| of the worst errors: 0 where nothing changed, inf where one is 0, inf or NaN."""
        if self.errors is None:
            return 0.0
        old, new = self.errors
        if old == new or (math.isnan(old) and math.isnan(new)):
            return 0.0
        if not (0 < old < math.inf and 0 < new < math.inf):
            return math.inf
        return abs(math.log(new) - math.log(old))


@dataclass(frozen=True)
class Compared:
    """One target in both reports. Verdicts are None where a report lacks the target."""

    name: str
    old_name: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    pairs: list[Pair] = field(default_factory=list)

    @property
    def verdicts(self) -> tuple[str | None, str | None]:
        return (self.old["verdict"] if self.old else None, self.new["verdict"] if self.new else None)

    @property
    def lost(self) -> bool:
        """Whether a certificate was lost."""
        return self.verdicts[0] == "certified" and self.verdicts[1] in ("not conformant", "no verdict")

    @property
    def source(self) -> str:
        """Whether it is the same target: `same`, `changed`, or `unknown` where a digest is missing."""
        digests = [(t["source"]["sha256"], t["source"].get("compiled", {})) if t else (None, {}) for t in self._both]
        if None in (digests[0][0], digests[1][0]):
            return "unknown"
        return "same" if digests[0] == digests[1] else "changed"

    @property
    def _both(self) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
        return self.old, self.new

    def of(self, kind: str) -> list[Pair]:
        """The pairs of a class."""
        return [pair for pair in self.pairs if pair.kind == kind]

    def moved(self) -> list[Pair]:
        """The pairs that are judged in both and whose worst error is another, the largest change first."""
        both = [pair for pair in self.pairs if pair.kind in ("unchanged", "still failing") and pair.growth > 0]
        return sorted(both, key=lambda pair: (-pair.growth, pair.key))


def compare(old: Results, new: Results) -> list[Compared]:
    """Each target of two reports, in the order of the new one; those that only the old one has come last.

    Where each report has one target only, the two are compared whatever they are called.
    Raises: UsageError where a target or a finding stands twice in a report.
    """
    before, after = _targets(old, "OLD"), _targets(new, "NEW")
    if len(before) == len(after) == 1:
        ((old_name, one),), ((name, other),) = before.items(), after.items()
        return [_compared(name, old_name, one, other)]
    return [_compared(name, name, before.get(name), after.get(name)) for name in dict.fromkeys((*after, *before))]


def differences(old: Results, new: Results) -> dict[str, tuple[str, str]]:
    """What else differs between two runs, so that a change may be due to that."""
    told = {
        "suite version": [results["suite_version"] for results in (old, new)],
        "profile": [results["profile"] for results in (old, new)],
        "seed": [str(results["seed"]) for results in (old, new)],
        "Python": [results["environment"]["python"] for results in (old, new)],
    }
    packages = [results["environment"]["packages"] for results in (old, new)]
    for name in sorted(dict.fromkeys((*packages[0], *packages[1]))):
        told[name] = [one.get(name, "none") for one in packages]
    return {name: (a, b) for name, (a, b) in told.items() if a != b}


def met(compared: list[Compared], level: str) -> bool:
    """Whether --fail-on LEVEL is met."""
    if level == "never":
        return False
    gone = level in ("loss", "change") and any(one.new is None for one in compared)
    come = level == "change" and any(one.old is None or one.moved() for one in compared)
    verdicts = level == "change" and any(one.verdicts[0] != one.verdicts[1] for one in compared)
    kinds = {pair.kind for one in compared if one.old is not None and one.new is not None for pair in one.pairs}
    return gone or come or verdicts or any(one.lost for one in compared) or bool(kinds & set(LEVELS[level]))


def as_json(compared: list[Compared], old: Results, new: Results) -> dict[str, Any]:
    """The comparison as plain JSON; infinities and NaN are strings, as in results.json."""
    return {
        "schema_version": 1,
        "differences": {name: {"old": a, "new": b} for name, (a, b) in differences(old, new).items()},
        "incomplete": {"old": "incomplete" in old, "new": "incomplete" in new},
        "targets": [
            {
                "name": one.name,
                "old_name": one.old_name,
                "verdict": dict(zip(("old", "new"), one.verdicts, strict=True)),
                "source": one.source,
                "certificate_lost": one.lost,
                **{kind.replace(" ", "_"): [_pair_json(pair) for pair in one.of(kind)] for kind in CLASSES[:-1]},
                "worst_error_changed": [_pair_json(pair) for pair in one.moved()],
                "unchanged": len(one.of("unchanged")),
            }
            for one in compared
        ],
    }


def verdict(finding: Mapping[str, Any] | None) -> str:
    """A finding's verdict, or that there is none."""
    return "not there" if finding is None else str(finding["verdict"])


def _pair_json(pair: Pair) -> dict[str, Any]:
    out: dict[str, Any] = dict(zip(("property", "cell", "dtype"), pair.key, strict=True))
    for name, one in (("old", pair.old), ("new", pair.new)):
        worst = one["worst"] if one else None
        out[name] = {"verdict": verdict(one), "error_over_budget": worst and worst["error_over_budget"]}
    return out


def _state(finding: Mapping[str, Any] | None) -> str:
    said = verdict(finding)
    return "failed" if said in FAILURES else "passed" if said == "pass" else "not judged"


def _targets(results: Results, which: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for target in results["targets"]:
        if target["name"] in found:
            raise UsageError(f"{which}: target {visible(target['name'][:80])} stands twice; expected each once")
        found[target["name"]] = target
    return found


def _compared(name: str, old_name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Compared:
    before, after = _findings(old, "OLD"), _findings(new, "NEW")
    pairs = [Pair(key, before.get(key), after.get(key)) for key in dict.fromkeys((*after, *before))]
    return Compared(name, old_name, old, new, pairs)


def _findings(target: Mapping[str, Any] | None, which: str) -> dict[Key, Mapping[str, Any]]:
    found: dict[Key, Mapping[str, Any]] = {}
    for finding in target["findings"] if target else ():
        key = (finding["property"], finding["cell"], finding["dtype"])
        if key in found:
            raise UsageError(f"{which}: the finding {visible(' '.join(key)[:120])} stands twice; expected each once")
        found[key] = finding
    return found


__all__ = ["CLASSES", "LEVELS", "Compared", "Pair", "as_json", "compare", "differences", "met", "verdict"]
