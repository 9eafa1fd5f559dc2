"""The kill matrix as a page and as a picture, from the results of tests/deep/kill_matrix.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from properties import PROPERTIES
from tests.deep.bugs import Bug

LETTERS = dict(zip(PROPERTIES, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", strict=False))
"""A property's column in the tables."""
KILLED, ALIVE, NOT_ASKED, OPEN = "●", "·", " ", "?"
FURTHEST = "oracle-agreement"
HEAD = """\
# The kill matrix

Which property catches which planted bug, each property on its own, by
`python -m tests.deep.kill_matrix --examples {examples}`: {bugs} planted bugs (tests/mutants) × {properties} properties,
every cell that a bug is in, float64 and float32, {examples} drawn examples a property, cell and dtype beside the fixed
ones, no shrinking. A kill in one cell and dtype is a kill. Those of `blind.py` were written without sight of the suite.

{summary}

![Share of the bugs of each group that each property kills](kill_matrix.svg)

{killed} the property kills the bug; {alive} it does not; blank: it does not concern the bug's cells, or needs what the
bug's table does not offer.{open}
"""


@dataclass(frozen=True)
class Matrix:
    """What is known of each pair of property and bug: KILLED, ALIVE, NOT_ASKED or OPEN; examples is the least tried."""

    bugs: dict[str, Bug]
    marks: dict[tuple[str, str], str]
    examples: int

    @classmethod
    def of(cls, results: dict[str, Any], bugs: dict[str, Bug]) -> Matrix:
        """Read what a run left."""
        items, kills = results["items"], results["kills"]
        marks, least = {}, []
        for key, bug in bugs.items():
            for prop_id, prop in PROPERTIES.items():
                if f"{prop_id}|{key}" in kills:
                    marks[prop_id, key] = KILLED
                    continue
                names = [
                    f"{prop_id}|{bug.table}|{cell}|{dtype}"
                    for cell in bug.cells
                    if prop.concerns(cell)
                    for dtype in ("float64", "float32")
                ]
                tried = [items[name] for name in names if name in items]
                least += [item["examples"] for item in tried]
                if len(tried) < len(names):
                    marks[prop_id, key] = OPEN
                else:
                    marks[prop_id, key] = NOT_ASKED if all(i["unsupported"] for i in tried) else ALIVE
        return cls(bugs, marks, min(least, default=0))

    def complete(self) -> bool:
        """Whether every pair is decided."""
        return OPEN not in self.marks.values()

    def killers(self, key: str, without: str | None = None) -> list[str]:
        """The properties that kill a bug."""
        return [p for p in PROPERTIES if p != without and self.marks[p, key] == KILLED]

    def killed(self, prop_id: str) -> list[str]:
        """The bugs that a property kills."""
        return [key for key in self.bugs if self.marks[prop_id, key] == KILLED]

    def alone(self, prop_id: str, without: str | None = None) -> list[str]:
        """The bugs that only this property kills."""
        return [key for key in self.killed(prop_id) if self.killers(key, without) == [prop_id]]

    def shortfalls(self) -> list[str]:
        """What is not as it should be, line by line, and how much is open."""
        lines = [f"no property kills {key}: {bug.sentence}" for key, bug in self.bugs.items() if not self.killers(key)]
        lines += [f"{prop_id} kills nothing" for prop_id in PROPERTIES if not self.killed(prop_id)]
        lines += [
            f"{bug.caught_by} does not kill {key}, which names it"
            for key, bug in self.bugs.items()
            if bug.caught_by is not None and self.marks[bug.caught_by, key] in (ALIVE, NOT_ASKED)
        ]
        unknown = sum(mark == OPEN for mark in self.marks.values())
        return lines + ([f"{unknown} of {len(self.marks)} pairs are not tried out"] if unknown else [])

    def groups(self) -> dict[str, list[str]]:
        """The bugs by file and family."""
        found: dict[str, list[str]] = {}
        for key, bug in self.bugs.items():
            found.setdefault(f"{bug.table}.py: {bug.group[:1].lower() + bug.group[1:]}", []).append(key)
        return {title.replace("lSTM", "LSTM"): keys for title, keys in found.items()}


def page(matrix: Matrix) -> str:
    """The whole page, in Markdown."""
    some = [key for key in matrix.bugs if matrix.killers(key)]
    others = [key for key in matrix.bugs if matrix.killers(key, FURTHEST)]
    idle = [prop_id for prop_id in PROPERTIES if not matrix.killed(prop_id)]
    missed = [key for key in matrix.bugs if not matrix.killers(key)]
    summary = (
        f"{len(some)} of {len(matrix.bugs)} bugs are killed by some property, {len(matrix.killed(FURTHEST))} by "
        f"`{FURTHEST}`,\n{len(others)} with it switched off. "
        + (f"Not killed: {', '.join(f'`{key}`' for key in missed)}. " if missed else "")
        + (f"These properties kill nothing: {', '.join(idle)}." if idle else "Every property kills at least one.")
    )
    pairs = sum(mark == OPEN for mark in matrix.marks.values())
    unknown = (
        f"\n{OPEN}: not killed so far, and not tried in every cell and dtype yet ({pairs} pairs)." if pairs else ""
    )
    head = HEAD.format(
        examples=matrix.examples, bugs=len(matrix.bugs), properties=len(PROPERTIES), summary=summary,
        killed=KILLED, alive=ALIVE, open=unknown,
    )  # fmt: skip
    return "\n".join([head, *totals(matrix), *(line for group in groups(matrix) for line in group)]) + "\n"


def totals(matrix: Matrix) -> Iterator[str]:
    """A row a property: its column below, and how many bugs it kills."""
    yield "| column | property | kills | only it kills | kills that `oracle-agreement` misses | only it, without that |"
    yield "|---|---|---:|---:|---:|---:|"
    for prop_id, letter in LETTERS.items():
        killed = matrix.killed(prop_id)
        beyond = [key for key in killed if matrix.marks[FURTHEST, key] != KILLED]
        last = ("–", "–") if prop_id == FURTHEST else (len(beyond), len(matrix.alone(prop_id, FURTHEST)))
        counts = " | ".join(str(n) for n in (len(killed), len(matrix.alone(prop_id)), *last))
        yield f"| {letter} | `{prop_id}` | {counts} |"
    yield ""


def groups(matrix: Matrix) -> Iterator[list[str]]:
    """A table a group: a row a bug, a column a property, and the number of properties that kill the bug."""
    columns = list(LETTERS.values())
    for title, keys in matrix.groups().items():
        rows = [f"| {title} | " + " | ".join(columns) + " | killed by |", "|---" + "|:-:" * len(columns) + "|---:|"]
        for key in keys:
            marks = " | ".join(matrix.marks[prop_id, key] for prop_id in LETTERS)
            rows.append(f"| `{matrix.bugs[key].name}` | {marks} | {len(matrix.killers(key))} |")
        sums = " | ".join(str(sum(matrix.marks[p, key] == KILLED for key in keys)) for p in LETTERS)
        yield [*rows, f"| **of {len(keys)}** | {sums} | |", ""]


SIDE, LEFT, TOP = 22, 360, 170
"""Pixels: a square, the names of the groups, the names of the properties."""
FONT = 'font-family="sans-serif" font-size="11"'


def picture(matrix: Matrix) -> str:
    """Groups of bugs over properties; a square's grey is the share of the group that is killed, its number how many."""
    rows = matrix.groups()
    width, height = LEFT + SIDE * (len(PROPERTIES) + 1) + 60, TOP + SIDE * len(rows) + 80
    marks = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for j, prop_id in enumerate(PROPERTIES):
        x = LEFT + SIDE * j + SIDE / 2 + 4
        marks.append(f'<text transform="translate({x} {TOP - 8}) rotate(-60)">{prop_id}</text>')
    for i, (title, keys) in enumerate(rows.items()):
        y = TOP + SIDE * i
        marks.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(title)} ({len(keys)})</text>')
        for j, prop_id in enumerate(PROPERTIES):
            killed = sum(matrix.marks[prop_id, key] == KILLED for key in keys)
            asked = sum(matrix.marks[prop_id, key] != NOT_ASKED for key in keys)
            marks += square(LEFT + SIDE * j, y, killed / len(keys), str(killed or "") if asked else "–")
    y = TOP + SIDE * len(rows)
    marks.append(f'<text x="{LEFT + SIDE * len(PROPERTIES) / 2}" y="14" text-anchor="middle">properties</text>')
    marks.append(
        f'<text transform="translate(12 {TOP + SIDE * len(rows) / 2}) rotate(-90)" text-anchor="middle">'
        "planted bugs by file and family (number of them)</text>"
    )
    marks += legend(LEFT, y + 24)
    return "\n".join([*marks, "</svg>"]) + "\n"


def square(x: float, y: float, share: float, words: str) -> list[str]:
    """A square as grey as the share is large, with words on it that can be read."""
    grey = round(255 - 215 * share)
    ink = "white" if share > 0.65 else "black"
    return [
        f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" fill="rgb({grey},{grey},{grey})" stroke="#999"/>',
        *([f'<text x="{x + SIDE / 2}" y="{y + 15}" text-anchor="middle" fill="{ink}">{words}</text>'] if words else []),
    ]


def legend(x: float, y: float) -> list[str]:
    """What grey and numbers mean."""
    marks = [f'<text x="{x - 8}" y="{y + 15}" text-anchor="end">share of the group that is killed</text>']
    for i, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        marks += square(x + 60 * i, y, share, "")
        marks.append(f'<text x="{x + 60 * i + SIDE + 4}" y="{y + 15}">{share:.0%}</text>')
    words = "a number: how many are killed; –: the property is not about them"
    return [*marks, f'<text x="{x}" y="{y + 40}">{words}</text>']
