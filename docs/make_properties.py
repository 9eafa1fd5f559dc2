"""Writes docs/reference/properties.md and docs/bugs.md: what holds, what was planted, and which kills which.

    python docs/make_properties.py

Statements and sources are read from properties/, sentences and sightings from tests/mutants/, and who kills whom from
the tables of docs/kill_matrix.md, which a run of every property on every bug has written.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # tests/ is installed nowhere

from bptt.cells import CELLS  # noqa: E402
from properties import PROPERTIES  # noqa: E402
from properties.base import Property  # noqa: E402
from tests.deep.bugs import Bug, bugs  # noqa: E402
from tests.loading import load  # noqa: E402

sys.path.pop()

DOCS = Path(__file__).parent
KILLED = "●"
PROPERTIES_HEAD = """\
# The properties

Each is a theorem of BPTT, a sentence that can be false, in a file of its own; `bpttcheck list properties` prints the
sentences. How many planted bugs a property kills with all others switched off is from the
[kill matrix](../kill_matrix.md): of all {bugs}, and of those that no other property kills; the bugs themselves are in
the [catalogue](../bugs.md). This page is made from the code by `python docs/make_properties.py`.

| property | kills | only it kills |
|---|---:|---:|
"""
BUGS_HEAD = """\
# The bug catalogue

Mistakes that were planted in correct implementations (`tests/mutants/`), so that a property which lets one pass is seen
to. {seen} of the {bugs} were met in public code: the issue or pull request is named. Each can be put to the suite as it
stands, `bpttcheck certify tests/mutants/elman.py:truncation_ignored` say, and is refused. Which property kills which,
each on its own, is from the [kill matrix](kill_matrix.md). This page is made from the tables by
`python docs/make_properties.py`.

## Seen in public code

| bug | where | killed by |
|---|---|---:|
"""


@dataclass(frozen=True)
class Known:
    """The bugs, where each was seen ("" where nowhere), the properties that kill each, and those that were tried."""

    bugs: dict[str, Bug]
    seen: dict[str, str]
    killers: dict[str, list[str]]
    tried: frozenset[str]

    @classmethod
    def read(cls) -> Known:
        """From the tables and the page of the kill matrix."""
        every = bugs()
        seen = {key: getattr(load("mutants", bug.table).PLANTED[bug.name], "seen", "") for key, bug in every.items()}
        page = (DOCS / "kill_matrix.md").read_text(encoding="utf-8")
        return cls(every, seen, killers(page, every), frozenset(columns(page).values()))

    def killed_by(self, prop_id: str) -> list[str]:
        """The keys of the bugs that a property kills."""
        return [key for key in self.bugs if prop_id in self.killers[key]]


def columns(page: str) -> dict[str, str]:
    """The letters of the kill matrix's columns, and the properties that they stand for."""
    return dict(re.findall(r"^\| (\w) \| `([a-z0-9-]+)` \|", page, re.MULTILINE))


def killers(page: str, every: Iterable[str]) -> dict[str, list[str]]:
    """Each bug's key to the properties with a mark in its row of the kill matrix. Raises: ValueError, bugs without."""
    letters = columns(page)
    found: dict[str, list[str]] = {}
    table, order = "", []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if heading := re.match(r"(\w+\.py): ", cells[0] if cells else ""):
            table, order = heading[1], [letters[letter] for letter in cells[1:-1]]
        elif cells and order and (name := re.fullmatch(r"`(\w+)`", cells[0])):
            found[f"{table}:{name[1]}"] = [p for p, mark in zip(order, cells[1:-1], strict=True) if mark == KILLED]
    if missing := sorted(set(every) - set(found)):
        raise ValueError(f"kill_matrix.md has no row for {', '.join(missing)}")
    return found


def anchor(key: str) -> str:
    """A bug's place on its page.

    >>> anchor("elman.py:truncation_ignored")
    'elman-truncation_ignored'
    """
    return key.replace(".py:", "-")


def plain(text: str) -> str:
    r"""A sentence of the code within Markdown: names with underscores, products and less-than are no markup.

    >>> plain("dW_hh meets x_t; T < 2")
    'dW\\_hh meets x\\_t; T &lt; 2'
    """
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(p if p.startswith("`") else re.sub(r"([_*|\[\]])", r"\\\1", p.replace("<", "&lt;")) for p in parts)


# ---- the properties --------------------------------------------------------------------------------------------------


def properties_page(known: Known) -> str:
    """The whole page of the properties."""
    rows = []
    for prop_id in PROPERTIES:
        if prop_id not in known.tried:
            rows.append(f"| [`{prop_id}`](#{prop_id}) | not tried | |\n")
            continue
        mine = known.killed_by(prop_id)
        alone = [key for key in mine if known.killers[key] == [prop_id]]
        rows.append(f"| [`{prop_id}`](#{prop_id}) | {len(mine)} | {len(alone)} |\n")
    parts = ["\n".join(property_section(prop, known)) for prop in PROPERTIES.values()]
    return PROPERTIES_HEAD.format(bugs=len(known.bugs)) + "".join(rows) + "\n" + "\n".join(parts)


def property_section(prop: Property, known: Known) -> Iterator[str]:
    """A property: statement, source, what it needs, what its file says of it, and the bugs that it kills."""
    module = inspect.getmodule(type(prop))
    assert module is not None and module.__file__ is not None
    path = f"properties/{Path(module.__file__).name}"
    concerned = [cell for cell in CELLS if prop.concerns(cell)]
    yield f"## {prop.id}\n"
    yield f"**{plain(prop.statement)}**\n"
    facts = [("source", plain(prop.source)), ("needs", plain(prop.needs or "nothing"))]
    facts.append(("cells", "all" if len(concerned) == len(CELLS) else ", ".join(f"`{cell}`" for cell in concerned)))
    facts.append(("file", f"[{path}](../../{path})"))
    yield "".join(f"- {name}: {text}\n" for name, text in facts)
    further = (inspect.getdoc(module) or "").partition("\n\n")[2]
    if further:
        yield f"```text\n{further}\n```\n"
    if prop.id in known.tried:
        yield from kills(known, known.killed_by(prop.id))
    else:
        yield "Not in the kill matrix: it was not tried on the planted bugs.\n"


def kills(known: Known, mine: list[str]) -> Iterator[str]:
    """The bugs that a property kills: those seen in public code, and all by their tables."""
    met = [key for key in mine if known.seen[key]]
    yield f"It kills {len(mine)} of {len(known.bugs)} planted bugs" + (", among them:\n" if met else ".\n")
    if met:
        yield "".join(
            f"- [`{known.bugs[key].name}`](../bugs.md#{anchor(key)}), {plain(known.seen[key])}\n" for key in met
        )
    yield '<details markdown="1">\n<summary>All that it kills</summary>\n'
    tables: dict[str, list[str]] = {}
    for key in mine:
        tables.setdefault(known.bugs[key].table, []).append(f"`{known.bugs[key].name}`")
    yield "".join(f"- tests/mutants/{table}.py: {', '.join(names)}\n" for table, names in tables.items())
    yield "</details>\n"


# ---- the bugs --------------------------------------------------------------------------------------------------------


def bugs_page(known: Known) -> str:
    """The whole page of the bugs."""
    met = [key for key in known.bugs if known.seen[key]]
    rows = [
        f"| [`{known.bugs[key].name}`](#{anchor(key)}) | {plain(known.seen[key])} | {len(known.killers[key])} |\n"
        for key in met
    ]
    parts = [BUGS_HEAD.format(seen=len(met), bugs=len(known.bugs)), *rows]
    for title, keys in groups(known.bugs).items():
        parts += [f"\n## {title}\n\n", *(bug_line(known, key) for key in keys)]
    return "".join([*parts, "\n", *others()])


def groups(every: dict[str, Bug]) -> dict[str, list[str]]:
    """Bugs by their table and family."""
    found: dict[str, list[str]] = {}
    for key, bug in every.items():
        found.setdefault(f"{bug.group[:1].upper() + bug.group[1:]} ({bug.table}.py)", []).append(key)
    return found


def bug_line(known: Known, key: str) -> str:
    """A bug: what is wrong, what a problem must have for it to show, where it was seen, who kills it."""
    bug, names = known.bugs[key], known.killers[key]
    needs = f" Needs {plain(bug.needs)}." if bug.needs else ""
    seen = f" Seen: {plain(known.seen[key])}." if known.seen[key] else ""
    cells = f" Cells: {', '.join(bug.cells)}." if bug.table != "elman" and len(bug.cells) < len(CELLS) else ""
    who = ", ".join(f"`{prop_id}`" for prop_id in names) if len(names) < len(PROPERTIES) else "all"
    return (
        f'- <a id="{anchor(key)}"></a>**`{bug.name}`** {plain(bug.sentence)}{needs}{plain(cells)}{seen}'
        f"<br>Killed by {len(names)}: {who}.\n"
    )


def others() -> Iterator[str]:
    """The tables that the kill matrix leaves out, and why."""
    second, far = load("mutants", "blind_second"), load("mutants", "far_out")
    yield "## Not in the kill matrix\n\n"
    yield (
        "Those of blind_second.py were written to measure the diagnosis. Most of far_out.py spoil one entry of a "
        "right answer, each on a condition of its own that its name says.\n\n"
    )
    yield "".join(f"- **`{name}`** {plain(bug.sentence)} (blind_second.py)\n" for name, bug in second.PLANTED.items())
    for name, bug in vars(far).items():
        if inspect.isfunction(bug) and not name.startswith("_"):
            yield f"- **`{name}`** {plain(bug.__doc__) + ' ' if bug.__doc__ else ''}(far_out.py)\n"


def write() -> None:
    """Both pages."""
    known = Known.read()
    (DOCS / "reference" / "properties.md").write_text(properties_page(known), encoding="utf-8")
    (DOCS / "bugs.md").write_text(bugs_page(known), encoding="utf-8")


if __name__ == "__main__":
    write()
