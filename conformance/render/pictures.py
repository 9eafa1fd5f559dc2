"""The pictures of one problem, laid out for the template: two maps of error ÷ budget and a curve of Jacobian norms.

A map's cells say how far beyond the budget they are by a shade that grows darker (lighter in the dark), and whether
they are by a mark, + or − or ×, so that nothing is told by colour alone. Every picture comes with a sentence that says
the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from conformance.render.terminal import ratio, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH = 440
_LEFT, _RIGHT = 60, 60
_ROW = 18
_TITLED = 600
_PLOT = 190
_DECADES = 40


def pictures(picture: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Lay out what a finding has to show, or None."""
    if not picture:
        return None
    return {
        "problem": picture["problem"],
        "case": picture["case"],
        "steps": step_map(picture["steps"]),
        "wrong": wrong_map(picture["wrong"]) if picture["wrong"] else None,
        "norms": norm_curve(picture["norms"]) if picture["norms"] else None,
    }


def level(value: float) -> str:
    """The shade of |error ÷ budget|: z for 0, a and b within the budget, c to e beyond it; NaN is beyond."""
    size = abs(value)
    if size <= 1:
        return "z" if size == 0 else "a" if size <= 0.1 else "b"
    return "c" if size <= 1e3 else "d" if size <= 1e9 else "e"


def step_map(steps: Mapping[str, Any]) -> dict[str, Any] | None:
    """Draw a row an array: a cell a step, or one bar for an array that belongs to no step."""
    rows = [{**row, "values": [float(r) for r in row["ratios"]]} for row in steps["rows"] if row["ratios"]]
    if not rows:
        return None
    over = [row for row in rows if row["over_steps"]]
    rows = [*over, *(row for row in rows if not row["over_steps"])]
    columns = max((len(row["values"]) for row in over), default=1)
    per = int(steps["per_column"])
    step = min((WIDTH - _LEFT - _RIGHT) / columns, 34.0)
    lines = []
    for i, row in enumerate(rows):
        width = step if row["over_steps"] else step * columns
        cells = [
            {
                "x": round(_LEFT + j * width, 1),
                "width": round(width - 1, 1),
                "level": level(value),
                "mark": "×" if level(value) in "cde" else "",
                "title": f"{row['array']}{_step(j, per) if row['over_steps'] else ''}: {ratio(value)} of the budget",
            }
            for j, value in enumerate(row["values"])
        ]
        worst = max(row["values"], key=lambda v: math.inf if math.isnan(v) else abs(v))
        lines.append({"y": 4 + i * _ROW, "name": shorten(row["array"], 8), "cells": cells, "worst": ratio(worst)})
    height = 4 + len(rows) * _ROW
    return {
        "width": WIDTH,
        "height": height + (22 if over else 4),
        "row": _ROW - 1,
        "half": round((_ROW - 1) / 2 + 4.5, 1),
        "right": round(_LEFT + step * columns + 6, 1),
        "lines": lines,
        "ticks": _ticks(columns, step, height + 14, lambda j: str(j * per + 1)) if over else [],
        "axis": {"x": round(_LEFT + step * columns + 6, 1), "y": height + 14, "text": "step t"} if over else None,
        "titled": sum(len(row["values"]) for row in rows) <= _TITLED,
        "sentence": _step_sentence(rows, per),
    }


def _step(j: int, per: int) -> str:
    return f" at t = {j + 1}" if per == 1 else f" at t = {j * per + 1} to {(j + 1) * per}"


def _ticks(count: int, step: float, y: float, text: Callable[[int], str]) -> list[dict[str, Any]]:
    """Number every so many columns that the numbers stand apart."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100) if n * step >= 24)
    return [{"x": round(_LEFT + (j + 0.5) * step, 1), "y": y, "text": text(j)} for j in range(0, count, every)]


def _step_sentence(rows: Sequence[Mapping[str, Any]], per: int) -> str:
    beyond, within = [], []
    for row in rows:
        wrong = [j for j, value in enumerate(row["values"]) if not abs(value) <= 1]
        if not wrong:
            within.append(row["array"])
        elif row["over_steps"] and len(wrong) < len(row["values"]):
            steps = ", ".join(_step(j, per).removeprefix(" at t = ") for j in wrong[:8]) + (", …" * (len(wrong) > 8))
            beyond.append(f"{row['array']} at t = {steps}")
        else:
            beyond.append(row["array"] + (" at every step" if row["over_steps"] else ""))
    said = f"Beyond the budget: {'; '.join(beyond)}. " if beyond else "All within the budget. "
    return said + (f"Within: {', '.join(within)}." if beyond and within else "")


def wrong_map(wrong: Mapping[str, Any]) -> dict[str, Any] | None:
    """Draw a gradient entry by entry: + where the target gives too much, − where too little."""
    values = [[float(r) for r in row] for row in wrong["ratios"] if row]
    columns = max(map(len, values), default=0)
    if not columns:
        return None
    side = max(9.0, min((WIDTH - _LEFT - 8) / columns, 22.0, 400 / len(values)))
    per_row, per_column = wrong["per_cell"]
    shape, gates = wrong["shape"], wrong["gates"]
    top = 34 if gates else 20
    cells = [
        {
            "x": round(_LEFT + j * side, 1),
            "y": round(top + i * side, 1),
            "level": level(value) + ("" if abs(value) <= 1 else "n" if value < 0 else "p"),
            "mark": "" if abs(value) <= 1 else "−" if value < 0 else "+" if value > 0 else "?",
            "title": f"{_index(i, j, wrong)}: {ratio(value)} of the budget",
        }
        for i, row in enumerate(values)
        for j, value in enumerate(row)
    ]
    block = shape[-1] / len(gates) / per_column * side if gates else 0.0
    every = next((n for n in (1, 2, 5, 10, 20) if n * side >= 13), 50)
    flat = [value for row in values for value in row]
    bad = sum(not abs(value) <= 1 for value in flat)
    cut = per_row > 1 or per_column > 1
    what = f"blocks of {per_row}×{per_column} entries" if cut else "entries"
    return {
        "array": wrong["array"],
        "shape": "×".join(map(str, shape)),
        "width": WIDTH,
        "height": round(top + len(values) * side + 6, 1),
        "side": round(side - 1, 1),
        "half": round((side - 1) / 2, 1),
        "font": round(min(side * 0.8, 14), 1),
        "cells": cells,
        "titled": len(cells) <= _TITLED,
        "columns": _ticks(columns, side, top - 6, lambda j: str(j * per_column)),
        "rows": [
            {"x": _LEFT - 6, "y": round(top + (i + 0.5) * side + 4, 1), "text": _row(i * per_row, shape)}
            for i in range(0, len(values), every)
        ],
        "gates": [
            {"x": round(_LEFT + n * block, 1), "middle": round(_LEFT + (n + 0.5) * block, 1), "text": shorten(gate, 6)}
            for n, gate in enumerate(gates)
        ],
        "bottom": round(top + len(values) * side, 1),
        "sentence": f"{bad} of {len(flat)} {what} are beyond the budget: "
        f"{sum(v > 1 for v in flat)} too large (+), {sum(v < -1 for v in flat)} too small (−)"
        + (f", {sum(math.isnan(v) for v in flat)} not a number (?)" if any(map(math.isnan, flat)) else "")
        + ".",
    }


def _row(i: int, shape: Sequence[int]) -> str:
    """Name a row of the matrix: an index, or two where the array has three axes; nothing where it has one."""
    if len(shape) == 3 and shape[1]:
        return f"{i // shape[1]},{i % shape[1]}"
    return str(i) if len(shape) == 2 else ""


def _index(i: int, j: int, wrong: Mapping[str, Any]) -> str:
    per_row, per_column = wrong["per_cell"]
    row = _row(i * per_row, wrong["shape"])
    name = f"{wrong['array']}[{row + ',' if row else ''}{j * per_column}]"
    return name if per_row == per_column == 1 else f"the worst of {per_row}×{per_column} entries from {name}"


def norm_curve(norms: Mapping[str, Any]) -> dict[str, Any] | None:
    """Draw the norm of the Jacobian over n steps, and the bound above it, on a logarithmic axis."""
    values = [float(value) for value in norms["values"]]
    bound = [float(value) for value in norms["bound"]] if norms["bound"] else []
    got = None if norms["got"] is None else float(norms["got"])
    drawn = [v for v in (*values, *bound, *([] if got is None else [got])) if 0 < v < math.inf]
    if len(values) < 3 or not drawn:
        return None
    high = math.ceil(math.log10(max(drawn)) - 1e-9)
    low = min(max(math.floor(math.log10(min(drawn)) + 1e-9), high - _DECADES), high - 1)
    right, bottom = WIDTH - _RIGHT, 12 + _PLOT

    def x(n: int) -> float:
        return round(_LEFT + n * (right - _LEFT) / (len(values) - 1), 1)

    def y(value: float) -> float:
        share = 0.0 if not value > 0 else 1.0 if value == math.inf else (math.log10(value) - low) / (high - low)
        return round(bottom - min(max(share, 0.0), 1.0) * _PLOT, 1)

    every = max(1, -(-(high - low) // 6))
    gap = next((n for n in (1, 2, 5, 10, 20) if n * (right - _LEFT) / (len(values) - 1) >= 24), 50)
    ends = _apart([y(values[-1]), *([y(bound[-1])] if bound else [])])
    state = norms["state"]
    symbol = f"∂{state}" if "," not in state else f"∂({state})"
    return {
        "width": WIDTH,
        "height": bottom + 36,
        "left": _LEFT,
        "right": right,
        "bottom": bottom,
        "decades": [{"y": y(10.0**d), "decade": d} for d in range(low, high + 1) if d % every == 0],
        "steps": [{"x": x(n), "text": str(n)} for n in range(0, len(values), gap)],
        "line": " ".join(f"{x(n)},{y(v)}" for n, v in enumerate(values)),
        "dots": [{"x": x(n), "y": y(v), "title": f"{n} steps: {ratio(v)}"} for n, v in enumerate(values)],
        "bound": " ".join(f"{x(n)},{y(v)}" for n, v in enumerate(bound)),
        "bounds": bool(bound),
        "label": {"x": right + 8, "y": ends[0] + 4},
        "bound_label": {"x": right + 8, "y": ends[1] + 4} if bound else None,
        "got": None
        if got is None
        else {"x": x(len(values) - 1), "y": y(got), "title": f"the target's own: {ratio(got)}"},
        "symbol": symbol,
        "sentence": _norm_sentence(values, bound, got),
    }


def _apart(places: list[float]) -> list[float]:
    """Move two labels apart that would cover each other; the bound, which comes last, is the upper one."""
    if len(places) == 2 and places[0] - places[1] < 14:
        middle = sum(places) / 2
        return [middle + 7, middle - 7]
    return places


def _norm_sentence(values: Sequence[float], bound: Sequence[float], got: float | None) -> str:
    last = len(values) - 1
    said = f"Over {last} step{'s' * (last != 1)} the norm is {ratio(values[-1])}"
    said += f", the bound {ratio(bound[-1])}" if bound else "; no bound of this form is known for the cell"
    return said + (f"; the target's own matrix has {ratio(got)}." if got is not None else ".")
