"""report.html: one self-contained page without a script, from the template beside this file.

This module turns results into what the template prints: matrices, anchors, small tables and the chart. Every
string passes `visible` and then Jinja's escaping on its way out; nothing here is marked as safe.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.render.badge import chart
from conformance.render.pictures import pictures
from conformance.render.templates import Lines, environment
from conformance.render.terminal import (
    FAILURES,
    SEVERITY,
    diagnosis_text,
    duration,
    entry,
    measured,
    percent,
    ratio,
    shorten,
    tally,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Template

GLYPHS = {"pass": "✓", "fail": "✗", "crash": "C", "timeout": "T", "error": "E", "inconclusive": "?", "unsupported": "–"}
"""One sign a verdict, so that none is told by its colour alone."""

_LISTS = ("cells", "activations", "readouts", "losses", "reductions", "truncations", "dtypes", "keys")
_OPEN_FAILURES = 8
_FULL, _FULL_IN_ALL = 40, 200
_LONG = 1000
"""Findings from which on a browser leaves alone what is not in sight."""
_ROWS, _COLUMNS = 12, 8
_LINK = re.compile(r"cases/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def to_html(results: Mapping[str, Any]) -> str:
    """Render the page."""
    left = _FULL_IN_ALL
    targets = []
    for index, target in enumerate(results["targets"]):
        targets.append(_target(index, target, results["properties"], min(left, _FULL)))
        left -= sum(finding["full"] for finding in targets[-1]["failures"])
    verdicts = Counter(target["verdict"] for target in targets)
    return _template().render(
        results=results,
        command=shlex.join(results["command"]),
        targets=targets,
        verdicts=[(verdict, verdicts[verdict]) for verdict in _TARGET_CLASSES if verdicts[verdict]],
        seen=tally(finding for target in targets for finding in target["findings"]),
        long=sum(len(target["findings"]) for target in targets) > _LONG,
        comparison=_comparison(results["properties"], targets) if len(targets) > 1 else [],
    )


@functools.cache
def _template() -> Template:
    found = environment(Path(__file__).parent)
    found.filters.update(
        count=_count,
        decimal=_decimal,
        diagnosis=diagnosis_text,
        duration=duration,
        href=_href,
        lines=Lines,
        percent=percent,
        ratio=ratio,
        shorten=shorten,
    )
    found.globals.update(glyphs=GLYPHS, classes=_TARGET_CLASSES, entry=entry, tally=tally, lists=_LISTS)
    return found.get_template("report.html.j2")


_TARGET_CLASSES = {"certified": ("pass", "✓"), "not conformant": ("fail", "✗"), "no verdict": ("unsure", "○")}


def _count(number: float) -> str:
    return f"{int(number):,}"


def _href(path: str) -> str | None:
    """Make a link for a file among the cases of the report, and for nothing else."""
    return path if _LINK.fullmatch(path) else None


def _decimal(text: str) -> str:
    """Give the decimal reading of a hexadecimal float, or nothing."""
    if "0x" not in text or len(text) > 40:
        return ""
    try:
        return f"{float.fromhex(text):.6g}"
    except (ValueError, OverflowError):
        return ""


def _target(index: int, target: Mapping[str, Any], statements: Mapping[str, str], most: int) -> dict[str, Any]:
    """Gather what the template prints of one target: its findings with anchors, the matrix, the failures, the chart.

    Of at most so many failures numbers and pictures are shown, so that a page of thousands opens at once.
    """
    anchor = f"t{index + 1}"
    findings = [
        {
            **finding,
            "anchor": f"{anchor}-f{number + 1}",
            "failed": finding["verdict"] in (*FAILURES, "error"),
            "glyph": GLYPHS[finding["verdict"]],
            "statement": statements.get(finding["property"], ""),
            "measured": measured(finding),
        }
        for number, finding in enumerate(target["findings"])
    ]
    failures = [finding for finding in findings if finding["failed"]]
    for number, finding in enumerate(failures):
        finding["full"] = number < most
        finding["arrays"] = _arrays(finding["counterexample"]) if finding["full"] else []
        finding["pictures"] = pictures(finding.get("picture")) if finding["full"] else None
    by_property = _group(findings, "property", list(statements))
    return {
        **target,
        "anchor": anchor,
        "matrix": _matrix(findings),
        "properties": [
            {
                "id": name,
                "anchor": f"{anchor}-p{number + 1}",
                "statement": statements.get(name, ""),
                "findings": rows,
                "tally": tally(rows),
            }
            for number, (name, rows) in enumerate(by_property.items())
        ],
        "tally": tally(findings),
        "failures": failures,
        "open": len(failures) <= _OPEN_FAILURES,
        "shortened": max(len(failures) - most, 0),
        "closest": None if failures else _closest(findings),
        "chart": chart(findings),
    }


def _closest(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The pictured finding whose error is closest to its budget, with its pictures; one with a bound on norms first."""
    pictured = [(finding, pictures(finding.get("picture"))) for finding in findings if finding["worst"]]
    shown = [(finding, drawn) for finding, drawn in pictured if drawn]
    if not shown:
        return None

    def rank(one: tuple[Mapping[str, Any], dict[str, Any]]) -> tuple[bool, float]:
        norms = one[1]["norms"]
        return bool(norms and norms["bounds"]), float(one[0]["worst"]["error_over_budget"] or 0)

    finding, drawn = max(shown, key=rank)
    return {**finding, "pictures": drawn}


def _group(findings: Sequence[dict[str, Any]], key: str, order: Sequence[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Group the findings by the value under a key: first in the given order, then as they come."""
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in order}
    for finding in findings:
        groups.setdefault(finding[key], []).append(finding)
    return {name: group for name, group in groups.items() if group}


def _matrix(findings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lay out the columns, grouped by cell, and where a (property, cell, dtype) is found."""
    cells = {cell: list(_group(group, "dtype")) for cell, group in _group(findings, "cell").items()}
    places: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for finding in findings:
        places.setdefault((finding["property"], finding["cell"], finding["dtype"]), []).append(finding)
    columns = [(cell, dtype) for cell, dtypes in cells.items() for dtype in dtypes]
    return {"cells": cells, "columns": columns, "places": places, "wide": len(columns) > 8}


def _comparison(statements: Mapping[str, str], targets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a property: for each target the gravest verdict and how many of its findings passed."""
    by_target = [{found["id"]: found for found in target["properties"]} for target in targets]
    names = dict.fromkeys([*statements, *(name for found in by_target for name in found)])
    rows = []
    for name in names:
        cells = [_compared(found.get(name)) for found in by_target]
        if any(cells):
            rows.append({"id": name, "statement": statements.get(name, ""), "cells": cells})
    return rows


def _compared(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    gravest = next(verdict for verdict in SEVERITY if verdict in found["tally"])
    executed = sum(found["tally"].values()) - found["tally"].get("unsupported", 0)
    return {
        "verdict": gravest,
        "glyph": GLYPHS[gravest],
        "passed": found["tally"].get("pass", 0),
        "executed": executed,
        "anchor": found["anchor"],
    }


def _arrays(counterexample: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Lay out the arrays of a shrunk problem as small tables: rows are all axes but the last."""
    if not counterexample:
        return []
    return [_array(name, value) for name, value in counterexample["problem"]["arrays"].items()]


def _array(name: str, value: object) -> dict[str, Any]:
    rows, shape = list(_rows(value, ())), _shape(value)
    numbers = {_number(number) for _, row in rows for number in row}
    width = max((len(row) for _, row in rows), default=0)
    size = sum(len(row) for _, row in rows)
    return {
        "name": name.removeprefix("params."),
        "shape": "×".join(map(str, shape)) or "scalar",
        "uniform": numbers.pop() if len(numbers) == 1 and size > 4 else None,
        "single": size == 1,
        "axes": len(shape),
        "columns": range(min(width, _COLUMNS)),
        "rows": [
            (",".join(map(str, where)), [_number(number) for number in row[:_COLUMNS]], len(row) > _COLUMNS)
            for where, row in rows[:_ROWS]
        ],
        "wider": width > _COLUMNS,
        "longer": max(len(rows) - _ROWS, 0),
    }


def _rows(value: object, where: tuple[int, ...]) -> list[tuple[tuple[int, ...], list[object]]]:
    """Every innermost list with the index that leads to it; a scalar is a list of one."""
    if not isinstance(value, list):
        return [(where, [value])]
    if value and isinstance(value[0], list):
        return [row for i, item in enumerate(value) for row in _rows(item, (*where, i))]
    return [(where, value)]


def _shape(value: object) -> list[int]:
    return [len(value), *(_shape(value[0]) if value else [])] if isinstance(value, list) else []


def _number(value: object) -> str:
    """Write a number as short as it can be read back: 1, 0.5, -0, 1e-310, inf."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e+", "e")
    return str(value)
