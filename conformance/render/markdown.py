"""report.md: the verdict and the first failures, short enough for a comment on a pull request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from conformance.render.terminal import (
    FAILURES,
    clip,
    diagnosis_text,
    duration,
    entry,
    many,
    measured,
    percent,
    ratio,
    shorten,
    tally,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MARKS = {"certified": "✓", "not conformant": "✗", "no verdict": "○"}
_PLAIN = re.compile(r"[^`|\\<>&]+")
_SPECIAL = re.compile(r"[!-/:-@\[-`{-~]")
_TARGETS = 12
_LONGEST = 65536
"""Characters that a comment on a pull request may have on GitHub."""
_ROWS = 12
_MESSAGES = 2


def to_markdown(results: Mapping[str, Any]) -> str:
    """Render a table of the targets, then for each what failed, and last where it came from."""
    for most in range(_TARGETS, 0, -1):
        text = _comment(results, most)
        if len(text) <= _LONGEST:
            break
    return text


def _more(count: int, what: str = "") -> str:
    """28 more targets are, 1 more is."""
    said = many(count, f"more {what}") if what else f"{count} more"
    return f"{said} {'is' if count == 1 else 'are'}"


def _comment(results: Mapping[str, Any], most: int) -> str:
    """All of it, of so many targets."""
    targets = results["targets"]
    blocks = [_targets(targets[:most])]
    if len(targets) > most:
        blocks.append(f"{_more(len(targets) - most, 'target')} in `report.html`.")
    for target in targets[:most]:
        blocks += _target(target)
    blocks.append(
        f"<sub>bpttcheck {code(results['suite_version'], 40)} · {results['profile']} profile · seed {results['seed']}"
        f" · {duration(results['seconds'])} · {code(results['started'], 40)}</sub>"
    )
    return "\n\n".join(blocks) + "\n"


def code(text: str, limit: int = 80) -> str:
    """Set a text as code that no character of it can leave: not a pipe, a backtick, a tag or a mention."""
    text = shorten(visible(text), limit).strip()
    if not text:
        return "–"
    if _PLAIN.fullmatch(text):
        return f"`{text}`"
    return "<code>" + _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text) + "</code>"


def fenced(text: str) -> str:
    """Set lines as a code block, its fence longer than any run of backticks within."""
    text = clip(visible(text, lines=True), 12, 160)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: int) -> str:
    """Write a table whose last `right` columns are numbers."""
    rule = ["---"] * (len(headings) - right) + ["---:"] * right
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *rows))


def _targets(targets: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for target in targets:
        certified = target["certified"]
        executed = [f for f in target["findings"] if f["verdict"] != "unsupported"]
        rows.append(
            (
                code(target["name"], 60),
                f"{_MARKS[target['verdict']]} **{target['verdict']}**",
                f"{tally(executed).get('pass', 0)} of {len(executed)}",
                f"{int(certified['examples']):,}",
                percent(certified["conclusive_share"]),
                ratio(certified["worst_error_over_budget"]),
            )
        )
    headings = ("bpttcheck", "verdict", "passed", "examples", "conclusive", "worst error ÷ budget")
    return _table(headings, rows, 4)


def _target(target: Mapping[str, Any]) -> list[str]:
    name, certified = code(target["name"], 60), target["certified"]
    blocks = []
    if target["reason"]:
        blocks.append(f"{name} has no verdict: {code(target['reason'], 300)}")
    if target["verdict"] == "certified":
        kinds = ("cells", "losses", "truncations", "dtypes")
        parts = (f"{kind} {', '.join(code(item, 40) for item in certified[kind][:12]) or '–'}" for kind in kinds)
        blocks.append(f"{name} is certified for {'; '.join(parts)}.")
    if certified["unclaimed"]:
        blocks.append(f"{name} does not claim {', '.join(code(key, 40) for key in certified['unclaimed'][:12])}.")
    failed = [finding for finding in target["findings"] if finding["verdict"] in (*FAILURES, "error")]
    if failed:
        blocks += [f"### What failed in {name}", _failures(failed[:_ROWS])]
        if len(failed) > _ROWS:
            blocks.append(f"{_more(len(failed) - _ROWS)} in `report.html`.")
        for finding in failed[:_MESSAGES]:
            blocks += _failure(finding)
    return blocks


def _failures(failed: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for finding in failed:
        worst = measured(finding)
        rows.append(
            (
                finding["verdict"],
                code(finding["property"], 60),
                f"{code(finding['cell'], 40)} {code(finding['dtype'], 40)}",
                code(entry(worst["array"], worst["where"]), 40) if worst else "–",
                ratio(worst["error_over_budget"]) if worst else "–",
            )
        )
    return _table(("verdict", "property", "configuration", "worst entry", "error ÷ budget"), rows, 1)


def _failure(finding: Mapping[str, Any]) -> list[str]:
    """Put the message under a fold; the diagnosis and the command stand in the open."""
    title = " · ".join(code(finding[key], 60) for key in ("property", "cell", "dtype"))
    blocks = [f"**{finding['verdict']}**: {title}"]
    counterexample = finding["counterexample"]
    diagnosis = diagnosis_text(counterexample) if counterexample else None
    if diagnosis:
        blocks.append(f"Diagnosis: {code(diagnosis, 400)}")
    if counterexample:
        blocks.append(f"Replay: {code(counterexample['replay'], 200)}")
    if finding["message"].strip():
        blocks.append(f"<details><summary>message</summary>\n\n{fenced(finding['message'])}\n\n</details>")
    return blocks
