"""The claims' report: claims.json is the truth, claims.md and claims.html are rendered from it.

Everything that is set is ours, numbers aside; it is escaped all the same.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]

from conformance.claims.base import VERDICTS, Claim, Finding, Run
from conformance.render import visible
from conformance.results import suite_version

SCHEMA = Path(__file__).with_name("claims.schema.json")
SOURCES = {
    "000": "an answer on a question-and-answer site (Cross Validated 239468): BPTT on one neuron",
    "001": "the question to which that is an answer, with comments and other answers: one-step training",
    "002": "a question and answer on what BPTT must store: the U, V, W network",
    "003": "an encyclopaedia's article on backpropagation through time",
    "004": "M. M. Arat, Backpropagation Through Time for Recurrent Neural Network (2019), a blog post, with comments",
}


def as_json(found: Sequence[tuple[Claim, Finding]], run: Run, seconds: float) -> dict[str, Any]:
    """Everything, as claims.schema.json has it."""
    claims = []
    for claim, finding in found:
        lines = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(finding).items()}
        claims.append({"id": claim.id, "statement": claim.statement, "source": claim.source, **lines})
    return {
        "schema_version": 1,
        "suite_version": suite_version(),
        "seed": run.seed,
        "quick": run.quick,
        "seconds": round(seconds, 1),
        "claims": claims,
    }


def write(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """claims.json, claims.md and claims.html; checked against the schema first."""
    jsonschema.validate(results, json.loads(SCHEMA.read_text(encoding="utf-8")))
    texts = {
        "claims.json": json.dumps(results, indent=1, ensure_ascii=False) + "\n",
        "claims.md": to_markdown(results),
        "claims.html": to_html(results),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def counted(claims: int) -> str:
    """For example: 34 claims."""
    return f"{claims} claim{'' if claims == 1 else 's'}"


def tally(results: Mapping[str, Any]) -> str:
    """For example: 8 hold, 16 hold under a condition, 10 refuted."""
    counts = Counter(claim["verdict"] for claim in results["claims"])
    names = {"holds": "hold", "holds when": "hold under a condition", "refuted": "refuted", "undecided": "open"}
    return ", ".join(f"{counts[v]} {names[v]}" for v in VERDICTS if counts[v])


def basis(claim: Mapping[str, Any]) -> str:
    """By what, and over how many drawn problems."""
    what = "seeds" if claim["shown"].startswith("a study") else "problems"
    if claim["verdict"] == "holds" and claim["counterexample"]:
        what = "exhibits"
    return f"{claim['shown']} ({claim['problems']} {what})"


def to_markdown(results: Mapping[str, Any]) -> str:
    """A table, and a section for each claim."""
    claims = results["claims"]
    form = " in the quick form" if results["quick"] else ""
    lines = [
        "# Claims about BPTT",
        "",
        (
            f"Written by `bpttcheck claims{' --quick' if results['quick'] else ''}`. Of {counted(len(claims))} that "
            f"five public texts make about BPTT, {tally(results)}{form}. Each is computed: a counterexample is "
            "certified by rationals or by disjoint balls and seen a second way; what holds was tried on drawn problems."
        ),
        "",
        "| id | claim | verdict |",
        "|---|---|---|",
    ]
    lines += [
        f"| [{c['id']}](#{c['id'].lower()}) | {escaped(c['statement'])} | {escaped(verdict(c))} |" for c in claims
    ]
    lines += ["", "## Sources", "", "| source | what it is |", "|---|---|"]
    lines += [f"| {name} | {escaped(text)} |" for name, text in SOURCES.items()]
    for claim in claims:
        lines += ["", f"## {claim['id']}", "", f"*{escaped(claim['statement'])}* (source {claim['source']})", ""]
        lines += [f"**{escaped(verdict(claim))}**. Shown by {escaped(basis(claim))}."]
        for title, key in (("", "counterexample"), ("Another way", "second"), ("", "notes")):
            head = (f"{title}: " if title else "") if key != "counterexample" else example_title(claim) + ": "
            lines += [f"\n{head}{escaped(line)}" for line in claim[key]]
    return "\n".join(lines) + "\n"


def example_title(claim: Mapping[str, Any]) -> str:
    """What a claim's example is."""
    study = claim["shown"].startswith("a study")
    if claim["verdict"] == "holds" or claim["id"] == "C32":
        return "Exhibit"
    return "Measured" if study else "Counterexample"


def verdict(claim: Mapping[str, Any]) -> str:
    """The verdict with its condition, or with the reason why there is none."""
    said = claim["verdict"] == "holds when" or claim["condition"].startswith("in the quick form")
    return f"{claim['verdict']} {claim['condition']}" if said else str(claim["verdict"])


_MARKDOWN = str.maketrans({c: f"&#{ord(c)};" for c in "<>&|"} | {c: f"\\{c}" for c in "\\`*_[]#"})


def escaped(text: str) -> str:
    """A text that no character of it can leave, in Markdown."""
    return visible(text).translate(_MARKDOWN)


def to_html(results: Mapping[str, Any]) -> str:
    """One self-contained page: the table, and a section for each claim."""
    claims = results["claims"]

    def text(value: str) -> str:
        return html.escape(visible(value))

    rows = "\n".join(
        f'<tr class="{c["verdict"].replace(" ", "-")}"><td><a href="#{text(c["id"])}">{text(c["id"])}</a></td>'
        f"<td>{text(c['statement'])}</td><td>{text(verdict(c))}</td></tr>"
        for c in claims
    )
    sections = []
    for c in claims:
        parts = [
            f"<p><b class='{c['verdict'].replace(' ', '-')}'>{text(verdict(c))}</b>. Shown by {text(basis(c))}.</p>"
        ]
        parts += [f"<p>{example_title(c)}: {text(line)}</p>" for line in c["counterexample"]]
        parts += [f"<p>Another way: {text(line)}</p>" for line in c["second"]]
        parts += [f"<p>{text(line)}</p>" for line in c["notes"]]
        said = f"<p><i>{text(c['statement'])}</i> (source {text(c['source'])})</p>"
        head = f'<h2 id="{text(c["id"])}">{text(c["id"])}</h2>{said}'
        sections.append("<section>" + head + "".join(parts) + "</section>")
    sources = "".join(f"<li><b>{text(name)}</b> {text(what)}</li>" for name, what in SOURCES.items())
    return _PAGE.format(
        tally=text(f"Of {counted(len(claims))}, {tally(results)}."),
        rows=rows,
        sections="\n".join(sections),
        sources=sources,
        version=text(results["suite_version"]),
        form="quick form" if results["quick"] else "full form",
        seed=int(results["seed"]),
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Claims about BPTT</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; overflow-wrap: anywhere }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #d8dee4 }}
th:last-child, td:last-child {{ width: 38% }}
td:first-child {{ white-space: nowrap; overflow-wrap: normal }}
tr.holds td:last-child, b.holds {{ color: #116329 }}
tr.holds-when td:last-child, b.holds-when {{ color: #7d4e00 }}
tr.refuted td:last-child, b.refuted {{ color: #a40e26 }}
section {{ border-top: 1px solid #d8dee4; margin-top: 1.5rem }}
footer {{ color: #59636e; margin-top: 2rem }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e6edf3; background: #0d1117 }} a {{ color: #79b8ff }}
  th, td, section {{ border-color: #30363d }} footer {{ color: #9198a1 }}
  tr.holds td:last-child, b.holds {{ color: #56d364 }} tr.holds-when td:last-child, b.holds-when {{ color: #e3b341 }}
  tr.refuted td:last-child, b.refuted {{ color: #ff7b72 }}
}}
</style></head><body>
<h1>Claims about BPTT</h1>
<p>{tally} Each verdict is computed: a counterexample is certified by rationals or by disjoint balls and seen a second
way; what holds was tried on drawn problems.</p>
<table><thead><tr><th>id</th><th>claim</th><th>verdict</th></tr></thead><tbody>
{rows}
</tbody></table>
{sections}
<h2>Sources</h2><ul>{sources}</ul>
<footer>bpttcheck {version} · {form} · seed {seed}</footer>
</body></html>
"""
