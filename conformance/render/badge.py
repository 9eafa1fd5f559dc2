"""The drawings: badge.svg, which says whether the gradients are certified, and the chart of report.html.

The chart shows error ÷ budget of each finding on a logarithmic axis, one row a dtype; left of the axis stands what
is exactly 0, right of it what is infinite or NaN. Marks that would cover each other are stacked.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from conformance.render.terminal import FAILURES, entry, measured, ratio, shorten, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLOURS = {"certified": "#1b6e3c", "not conformant": "#a8201a", "no verdict": "#6b5200"}
_WORST_FIRST = ("not conformant", "no verdict", "certified")
_WIDTH, _LEFT, _RIGHT = 440, 104, 400
_ZERO, _INFINITE = 80, 422
_BIN, _STACK, _STEP = 6, 12, 6
_DECADES = (-8, 16)
_NARROW = frozenset("fijlrt .,:;|!'()-1I")


def to_badge(results: Mapping[str, Any]) -> str:
    """Render the verdict of the run: the common one, or how many of its targets are certified."""
    verdicts = [target["verdict"] for target in results["targets"]] or ["no verdict"]
    worst = min(verdicts, key=_WORST_FIRST.index)
    certified = verdicts.count("certified")
    value = worst if len(set(verdicts)) == 1 or not certified else f"{certified} of {len(verdicts)} certified"
    return badge("bptt", value, _COLOURS[worst])


def badge(label: str, value: str, colour: str) -> str:
    """Draw `label | value` as an SVG of its own; the text widths are fixed, so that every font fits."""
    label, value = visible(shorten(label, 40)), visible(shorten(value, 40))
    left, right = _width(label), _width(value)
    width = left + right + 32
    name = quoteattr(f"{label}: {value}")
    size = f'width="{width}" height="20" viewBox="0 0 {width} 20"'
    end = f"h{right + 12}a4 4 0 0 1 4 4v12a4 4 0 0 1 -4 4h-{right + 12}z"
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={name}>
  <title>{escape(f"{label}: {value}")}</title>
  <rect width="{width}" height="20" rx="4" fill="#3a3f45"/>
  <path d="M{left + 16} 0{end}" fill={quoteattr(visible(colour))}/>
  <g fill="#fff" font-family="Verdana,'DejaVu Sans',Geneva,sans-serif" font-size="11">
    <text x="8" y="14" textLength="{left}" lengthAdjust="spacingAndGlyphs">{escape(label)}</text>
    <text x="{left + 24}" y="14" textLength="{right}" lengthAdjust="spacingAndGlyphs">{escape(value)}</text>
  </g>
</svg>
"""


def _width(text: str) -> int:
    """Estimate the width of a text in pixels, set in Verdana at 11 pixels."""
    return max(1, round(sum(4.4 if c in _NARROW else 7.1 for c in text)))


def chart(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Lay the chart out for the template: marks, ticks, rows and a sentence that says the same; None if it is empty."""
    found = [(f, float(worst)) for f in findings if (worst := _worst(f)) is not None]
    shown = [(f, value) for f, value in found if not (f["worst"]["bound"] and value <= 1)]  # meant to be near its bound
    if not shown:
        return None
    values = [value for _, value in shown]
    axis = _axis(values)
    rows: dict[str, dict[float, list[Mapping[str, Any]]]] = {}
    for finding, value in shown:
        rows.setdefault(finding["dtype"], {}).setdefault(axis.column(value), []).append(finding)
    top, marks, labels = 10, [], []
    for dtype, columns in rows.items():
        base = top + _STEP * min(max(map(len, columns.values())), _STACK) + 4
        marks += [mark for x, stack in columns.items() for mark in _stack(stack, x, base)]
        labels.append({"text": shorten(dtype, 9), "y": base})
        top = base + 10
    return {
        "width": _WIDTH,
        "height": top + 28,
        "bottom": top,
        "left": _LEFT,
        "right": _RIGHT,
        "one": round(axis.place(1), 1),
        "zero": _ZERO if any(value <= 0 for value in values) else None,
        "infinite": _INFINITE if any(not value < math.inf for value in values) else None,
        "marks": marks,
        "rows": labels,
        "ticks": axis.ticks(),
        "summary": f"{sum(not value <= 1 for value in values)} of {len(values)} findings lie above 1."
        + (f" Not drawn: {len(found) - len(shown)} norms within their bounds." if len(found) > len(shown) else ""),
    }


class _Axis(NamedTuple):
    """A logarithmic axis from 10^low to 10^high, with places of their own for 0 and for what is not finite."""

    low: int
    high: int

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return _LEFT + min(max(share, 0), 1) * (_RIGHT - _LEFT)

    def column(self, value: float) -> float:
        """Find the middle of a column of marks; what is at most 1 stands left of the line, the rest right of it."""
        if not value < math.inf:
            return _INFINITE
        if value <= 0:
            return _ZERO
        one = self.place(1)
        steps = math.ceil((self.place(value) - one) / _BIN)
        return one + ((max(steps, 1) if value > 1 else min(steps, 0)) - 0.5) * _BIN

    def ticks(self) -> list[dict[str, float]]:
        step = math.ceil((self.high - self.low) / 7)
        decades = (d for d in range(self.low, self.high + 1) if d % step == 0)
        return [{"x": round(self.place(10.0**d), 1), "decade": d} for d in decades]


def _axis(values: Sequence[float]) -> _Axis:
    """Choose whole decades that hold the values, but for outliers, and always the line at 1."""
    decades = [math.log10(value) for value in values if 0 < value < math.inf] or [0.0]
    low = max(math.floor(min(decades)), _DECADES[0])
    high = min(math.ceil(max(decades)), _DECADES[1])
    return _Axis(min(low, -2), max(high, 1))


def _worst(finding: Mapping[str, Any]) -> float | str | None:
    worst = measured(finding)
    value: float | str | None = worst["error_over_budget"] if worst else None
    return value


def _stack(stack: Sequence[Mapping[str, Any]], x: float, base: int) -> list[dict[str, Any]]:
    """Stack the marks of one column, the failures lowest; the last that fits says how many do not."""
    lowest_first = sorted(stack, key=lambda finding: finding["verdict"] not in FAILURES)[:_STACK]
    more = len(stack) - len(lowest_first)
    last = len(lowest_first) - 1
    return [
        {"x": round(x, 1), "y": base - level * _STEP, **_mark(finding, more if level == last else 0)}
        for level, finding in enumerate(lowest_first)
    ]


def _mark(finding: Mapping[str, Any], more: int) -> dict[str, Any]:
    """Draw a cross for a failure, a dot for a pass, a ring for anything else, each with its name."""
    worst, verdict = finding["worst"], finding["verdict"]
    kind = "fail" if verdict in FAILURES else "pass" if verdict == "pass" else "unsure"
    name = f"{finding['property']}, {finding['cell']} {finding['dtype']}"
    outcome = f"{verdict}, {ratio(_worst(finding))} at {entry(worst['array'], worst['where'])}"
    title = f"{name}: {outcome}" + (f"; and {more} more here" if more else "")
    return {"kind": kind, "title": title}
