"""Makes studies.md and the pictures in studies/ from full runs: `python docs/make_studies.py DIR`, DIR/ID/study.json.

Each run is `bpttcheck study run ID --report-dir DIR/ID`. Everything on the page comes from those files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from conformance.render import visible
from conformance.studies import STUDIES
from conformance.studies.picture import draw

HERE = Path(__file__).parent
HEAD = """\
# Studies

Experiments with recurrent networks whose gradients are certified: what is trained follows the built-in target `c` (or
`numpy`), and what is called exact is the oracle's. Each is one command, needs nothing beyond bpttcheck, and writes
`study.json` with every number, seed and version, `study.html`, `study.md` and its pictures:

    bpttcheck study list
    bpttcheck study run S2 --report-dir s2
    bpttcheck study run S2 --report-dir s2 --quick

Intervals are 95 %: Student's t over seeds, of logarithms where things vary by factors, or order statistics where a
median is given. `[low, high]` beside a number is that interval. Rates are chosen on seeds that are not used afterwards.
A *check* is a theorem that the run could have refuted; where one fails, the command ends with status 1. The same seeds
give the same numbers on one machine; another machine's compiler may round otherwise, and training magnifies that. S3
measures memory and has no intervals.

S1 to S11 are the systems that discussions of BPTT describe; the others are questions about training. This page is made
from full runs by `docs/make_studies.py`.

"""


def page(runs: list[dict[str, Any]]) -> str:
    """The whole page."""
    lines = ["| study | what | processor seconds |", "|---|---|---:|"]
    total = 0.0
    for r in runs:
        if r["form"] != "full" or not all(check["holds"] for check in r["checks"]):
            sys.exit(f"{r['study']}: not a full run whose checks hold")
        total += r["seconds"]
        lines.append(f"| [{r['study']}](#{anchor(r)}) | {r['title']} | {r['seconds']:.0f} |")
    lines.append(f"| all | | {total:.0f} |")
    return HEAD + "\n".join(lines) + "\n" + "".join(section(r) for r in runs)


def anchor(r: dict[str, Any]) -> str:
    """The heading's anchor, as GitHub makes it."""
    text = f"{r['study']}: {r['title']}".lower()
    return "".join(c for c in text.replace(" ", "-") if c.isalnum() or c in "-_")


def section(r: dict[str, Any]) -> str:
    """One study."""
    parts = [f"\n## {r['study']}: {r['title']}\n", r["question"], "", r["method"], ""]
    parts += [escaped(r["symbols"]), ""] if r.get("symbols") else []
    parts += [f"- {escaped(line)}" for line in r["answer"]]
    parts.append("")
    for picture in r["pictures"]:
        parts += [f"![{picture['caption']}](studies/{picture['name']}.svg)", "", f"*{picture['caption']}*", ""]
    checks = "; ".join(f"{escaped(check['statement'])} ({escaped(check['detail'])})" for check in r["checks"])
    parts.append(f"Checked: {checks}.")
    claims = f" Bears on {', '.join(r['claims'])}." if r["claims"] else ""
    parts.append(f"{len(r['seeds'])} seeds.{claims}")
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text in which nothing but `code` is markup."""
    return "".join(f"\\{c}" if c in "\\*_<>|" else c for c in visible(text))


def main(folder: Path) -> None:
    """Read the runs, write the page and the pictures."""
    runs = [json.loads((folder / name / "study.json").read_text(encoding="utf-8")) for name in STUDIES]
    (HERE / "studies").mkdir(exist_ok=True)
    for r in runs:
        for picture in r["pictures"]:
            (HERE / "studies" / f"{picture['name']}.svg").write_text(draw(picture), encoding="utf-8")
    (HERE / "studies.md").write_text(page(runs), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
