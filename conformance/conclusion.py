"""What is said of a target: its verdict, the reason where there is none, and the certificate that says what was run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conformance.bench import Executed
from conformance.items import Judged
from conformance.render.terminal import many
from conformance.results import certified_json
from conformance.targets import Setting, Target

NOTHING = "nothing was executed: the target supports none of what was asked"
FAULTS = ("fail", "crash", "timeout")


def conclusion(target: Target, judged: Sequence[Judged], setting: Setting) -> dict[str, Any]:
    """A target's part of the results, from its findings."""
    executed = [one.executed for one in judged]
    findings = [one.finding for one in judged]
    certified = certified_json(executed, findings)
    surprises = _meet(target, findings)
    counted = [finding["verdict"] for finding in findings if not finding["expected"]]
    verdict, reason = conclude(counted, certified["keys"])
    whys = {finding["message"] for finding in findings if finding["verdict"] == "unsupported"}
    if reason == NOTHING and len(whys) == 1:
        reason = f"nothing was executed: {whys.pop()}"
    if verdict != "not conformant" and surprises:
        verdict, reason = "no verdict", "; ".join(surprises)
    if verdict == "certified" and setting.in_process:
        verdict, reason = "no verdict", "judged in the suite's own process: --in-process never certifies"
    return {
        "name": target.name,
        "kind": target.kind,
        "verdict": verdict,
        "reason": reason,
        "source": {
            "file": target.file,
            "sha256": target.sha256,
            "compiled": dict(sorted(file for one in judged for file in one.compiled.items())),
        },
        "certified": certified,
        "notes": _notes(executed, certified) + [f"fails as expected: {one}" for one in target.expected],
        "findings": findings,
    }


def _meet(target: Target, findings: Sequence[dict[str, Any]]) -> list[str]:
    """Mark the failures that are expected, and say which expectations were not met."""
    unmet = []
    for finding in findings:
        finding["expected"] = None
    for expected in target.expected:
        mine = [finding for finding in findings if expected.covers(finding)]
        failed = [finding for finding in mine if finding["verdict"] in FAULTS]
        for finding in failed:
            finding["expected"] = str(expected)
        if not mine:
            unmet.append(f"expected-failures: no finding is of {expected.property}")
        elif not failed:
            unmet.append(f"expected-failures: {expected.property} did not fail; remove it ({expected.reason})")
    return unmet


def conclude(verdicts: Sequence[str], keys: Sequence[str]) -> tuple[str, str | None]:
    """(verdict, reason): a fault means not conformant; nothing executed, or anything open, means no verdict."""
    if any(verdict in FAULTS for verdict in verdicts):
        return "not conformant", None
    for verdict in ("error", "inconclusive"):
        if verdict in verdicts:
            count = verdicts.count(verdict)
            said = f"{count} of {many(len(verdicts), 'finding')} {'is' if count == 1 else 'are'} {verdict}"
            return "no verdict", said
    if "pass" not in verdicts:
        return "no verdict", NOTHING
    if not any(key.startswith("d") for key in keys):
        return "no verdict", "the target claimed no gradient"
    return "certified", None


def _notes(executed: Sequence[Executed], certified: dict[str, Any]) -> list[str]:
    notes = []
    if certified["unclaimed"]:
        notes.append(f"not claimed, and so not certified, in some configuration: {', '.join(certified['unclaimed'])}")
    extra = sorted(set().union(*(one.extra for one in executed))) if executed else []
    if extra:
        notes.append(f"keys that mean nothing here were ignored: {', '.join(extra[:20])}")
    declined = sorted(set().union(*(one.declined for one in executed))) if executed else []
    notes += [f"declined as unsupported: {reason}" for reason in declined[:20]]
    return notes


__all__ = ["FAULTS", "conclude", "conclusion"]
