"""One page of many reports: targets by cells and by properties, from every results.json below a folder.

Every string of a report passes `visible` and Jinja's escaping on its way out; nothing here is marked as safe. A file
that is no report is named on the page and left out.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Template

from bptt.cells import CELLS
from conformance.errors import UsageError
from conformance.folders import no_folder
from conformance.render import ReportError, load_file
from conformance.render.html import GLYPHS
from conformance.render.templates import environment
from conformance.render.terminal import SEVERITY, duration, percent, ratio, shorten, tally
from conformance.results import suite_version
from properties import PROPERTIES

MOST = 1000
"""Reports on one page."""
NAME = "results.json"
PILLS = {"certified": ("pass", "✓"), "not conformant": ("fail", "✗"), "no verdict": ("unsure", "○")}


@dataclass(frozen=True)
class Report:
    """One results.json: where it is, relative to the folder, and what it holds."""

    place: str
    path: Path
    results: Mapping[str, Any]


def collect(folder: Path) -> tuple[list[Report], list[str]]:
    """(every report below a folder, by its place; what is wrong with the files that are none). Raises: UsageError."""
    if not folder.is_dir():
        raise UsageError(f"DIR {folder}: {no_folder(folder)}; expected a folder with report directories in it")
    paths = list(_below(folder))
    if not paths:
        raise UsageError(f"DIR {folder}: no {NAME} below it; expected report directories of `bpttcheck certify`")
    if len(paths) > MOST:
        raise UsageError(f"DIR {folder}: more than {MOST} reports below it; expected fewer, in folders of their own")
    reports, wrong = [], []
    for path in sorted(paths):
        place = path.parent.relative_to(folder).as_posix()
        try:
            reports.append(Report(place, path, _slim(load_file(path))))
        except ReportError as error:
            wrong.append(str(error))
    if not reports:
        raise UsageError(f"DIR {folder}: none of {len(paths)} files is a report: {wrong[0]}")
    return reports, wrong


def _slim(results: dict[str, Any]) -> dict[str, Any]:
    """A report without what the page does not show, which is nearly all of it."""
    for target in results["targets"]:
        target["findings"] = [
            {key: finding[key] for key in ("property", "cell", "dtype", "verdict")} for finding in target["findings"]
        ]
    return results


def _below(folder: Path) -> Iterator[Path]:
    """Every results.json below a folder, links to folders not followed, until there are too many."""
    found = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "cases")
        if NAME in files:
            yield Path(place) / NAME
            found += 1
            if found > MOST:
                return


def to_page(reports: Sequence[Report], wrong: Sequence[str], beside: Path) -> str:
    """Render the page; links lead from the folder `beside` to each report.html that is there."""
    rows = [_row(report, target, beside) for report in reports for target in report.results["targets"]]
    rows.sort(key=lambda row: (row["name"], row["started"], row["place"]))
    return _template().render(
        rows=rows,
        reports=len(reports),
        wrong=wrong,
        tables=[_table(rows, kind, known) for kind, known in (("cell", CELLS), ("property", PROPERTIES))],
        verdicts=[(name, n) for name in PILLS if (n := sum(row["verdict"] == name for row in rows))],
        legend=tally(finding for row in rows for finding in row["findings"]),
        pills=PILLS,
        glyphs=GLYPHS,
        suite=suite_version(),
    )


@functools.cache
def _template() -> Template:
    found = environment(Path(__file__).parent)
    found.filters.update(duration=duration, percent=percent, ratio=ratio, shorten=shorten)
    return found.get_template("matrix.html.j2")


def _row(report: Report, target: Mapping[str, Any], beside: Path) -> dict[str, Any]:
    """A target of one report."""
    page = report.path.with_name("report.html")
    results = report.results
    return {
        **target,
        "place": report.place,
        "href": _href(page, beside) if page.is_file() else None,
        "suite_version": results["suite_version"],
        "profile": results["profile"],
        "seed": results["seed"],
        "started": results["started"],
        "incomplete": results.get("incomplete"),
    }


def _href(page: Path, beside: Path) -> str | None:
    """A relative link that holds as long as the folders stay together; none to another drive."""
    try:
        relative = Path(os.path.relpath(page.resolve(), beside.resolve())).as_posix()
    except ValueError:
        return None
    return "./" + quote(relative.encode("utf-8", "surrogateescape"))


def _table(rows: Sequence[Mapping[str, Any]], kind: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Rows by cells or by properties: in each place the gravest verdict and how many of the findings passed."""
    seen = dict.fromkeys(finding[kind] for row in rows for finding in row["findings"])
    columns = [name for name in known if name in seen] + sorted(name for name in seen if name not in known)
    return {"kind": kind, "columns": columns, "rows": [_places(row, kind, columns) for row in rows]}


def _places(row: Mapping[str, Any], kind: str, columns: Sequence[str]) -> list[dict[str, Any] | None]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for finding in row["findings"]:
        groups.setdefault(finding[kind], []).append(finding)
    return [_place(groups.get(name, ())) for name in columns]


def _place(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    counts = tally(findings)
    if not counts:
        return None
    verdict = next(name for name in SEVERITY if name in counts)
    executed = sum(counts.values()) - counts.get("unsupported", 0)
    return {"verdict": verdict, "glyph": GLYPHS[verdict], "passed": counts.get("pass", 0), "executed": executed}


__all__ = ["Report", "collect", "to_page"]
