"""Pictures as SVG, drawn here: lines with bands on linear or logarithmic axes, and a legend.

Every curve differs from the others in its dashes and its marker as well as its colour, so that a picture can be read
in greyscale. The same data give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = ("#0b3c6f", "#c8442c", "#2a8a63", "#8a5aa8", "#b8860b", "#555555", "#1f9ac0", "#d06a9c")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2 1 2")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "plus", "ring", "box")
WIDTH, PLOT_W, PLOT_H, LEFT, TOP, LEGEND_ROW = 380, 290, 190, 68, 34, 17
COLUMNS = 2
_MOST_MARKS = 9


def draw(picture: Mapping[str, Any]) -> str:
    """A picture, as study.json has it, as an SVG document."""
    panels = picture["panels"]
    heights = [TOP + PLOT_H + 50 + LEGEND_ROW * len(_legend_rows(p["series"])) for p in panels]
    columns = min(COLUMNS, len(panels))
    rows = [heights[i : i + columns] for i in range(0, len(panels), columns)]
    tops = [sum(max(row) for row in rows[:i]) for i in range(len(rows))]
    width, height = WIDTH * columns, sum(max(row) for row in rows)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="11" role="img"><title>{_text(picture["caption"])}</title>'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for n, panel in enumerate(panels):
        x, y = WIDTH * (n % columns), tops[n // columns]
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, f"{picture['name']}-{n}"), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Mapping[str, Any], name: str) -> list[str]:
    series = panel["series"]
    xs = [v for s in series for v in s["x"]]
    ys = [v for s in series for part in ("y", "low", "high") for v in s[part] or ()]
    X = Axis(xs, panel["xlog"], None, LEFT, LEFT + PLOT_W)
    Y = Axis(ys, panel["ylog"], panel["ylim"], TOP + PLOT_H, TOP)
    out = [
        f'<text x="{LEFT}" y="20" font-size="12" font-weight="bold">{_text(panel["title"])}</text>',
        f'<clipPath id="{_text(name)}"><rect x="{LEFT}" y="{TOP}" width="{PLOT_W}" height="{PLOT_H}"/></clipPath>',
    ]
    for value in X.ticks():
        x = X.at(value)
        out.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{TOP + PLOT_H}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{x}" y="{TOP + PLOT_H + 15}" text-anchor="middle">{X.label(value)}</text>')
    for value in Y.ticks():
        y = Y.at(value)
        out.append(f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + PLOT_W}" y2="{y}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{LEFT - 5}" y="{_n(y + 4)}" text-anchor="end">{Y.label(value)}</text>')
    out.append(f'<rect x="{LEFT}" y="{TOP}" width="{PLOT_W}" height="{PLOT_H}" fill="none" stroke="#444"/>')
    middle = TOP + PLOT_H // 2
    out.append(
        f'<text x="{LEFT + PLOT_W // 2}" y="{TOP + PLOT_H + 32}" text-anchor="middle">{_text(panel["xlabel"])}</text>'
    )
    out.append(
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{_text(panel["ylabel"])}</text>'
    )
    out.append(f'<g clip-path="url(#{_text(name)})">')
    for s in series:
        out += _curve(s, X, Y)
    out.append("</g>")
    y = TOP + PLOT_H + 50
    for row in _legend_rows(series):
        for x, s in row:
            out += _key(s, x, y)
        y += LEGEND_ROW
    return out


def _curve(s: Mapping[str, Any], X: Axis, Y: Axis) -> list[str]:
    colour, dash = COLOURS[s["style"] % len(COLOURS)], DASHES[s["style"] % len(DASHES)]
    out = []
    if s["low"] is not None and s["high"] is not None:
        band = [(x, low, high) for x, low, high in zip(s["x"], s["low"], s["high"], strict=True) if _finite(low, high)]
        up = [f"{X.at(x)},{Y.at(high)}" for x, _, high in band]
        down = [f"{X.at(x)},{Y.at(low)}" for x, low, _ in reversed(band)]
        if band:
            out.append(f'<polygon points="{" ".join(up + down)}" fill="{colour}" fill-opacity="0.16"/>')
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(s["x"], s["y"], strict=True):
        if _finite(y) and Y.has(y):
            runs[-1].append((X.at(x), Y.at(y)))
        elif runs[-1]:
            runs.append([])
    for run in runs:
        if len(run) > 1:
            points = " ".join(f"{x},{y}" for x, y in run)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6" {_dash(dash)}/>')
    if s["marks"]:
        points_ = [point for run in runs for point in run]
        every = max(1, math.ceil(len(points_) / _MOST_MARKS))
        first = (s["style"] * every) // 4 % every
        out += [_marker(s["style"], x, y) for x, y in points_[first::every]]
    return out


def _legend_rows(series: Sequence[Mapping[str, Any]]) -> list[list[tuple[int, Mapping[str, Any]]]]:
    """The keys, as many in a row as fit."""
    rows: list[list[tuple[int, Mapping[str, Any]]]] = [[]]
    x = LEFT - 40
    for s in series:
        wide = 40 + round(6.1 * len(s["name"]))
        if rows[-1] and x + wide > WIDTH - 4:
            rows.append([])
            x = LEFT - 40
        rows[-1].append((x, s))
        x += wide
    return rows


def _key(s: Mapping[str, Any], x: int, y: int) -> list[str]:
    colour, dash = COLOURS[s["style"] % len(COLOURS)], DASHES[s["style"] % len(DASHES)]
    line = f'<line x1="{x}" y1="{y}" x2="{x + 26}" y2="{y}" stroke="{colour}" stroke-width="1.6" {_dash(dash)}/>'
    mark = [_marker(s["style"], x + 13, y)] if s["marks"] else []
    return [line, *mark, f'<text x="{x + 30}" y="{y + 4}">{_text(s["name"])}</text>']


def _marker(style: int, x: float, y: float) -> str:
    colour = COLOURS[style % len(COLOURS)]
    match MARKERS[style % len(MARKERS)]:
        case "circle":
            return f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
        case "ring":
            return f'<circle cx="{x}" cy="{y}" r="3" fill="white" stroke="{colour}"/>'
        case "cross":
            path = f"M{_n(x - 3)} {_n(y - 3)}L{_n(x + 3)} {_n(y + 3)}M{_n(x - 3)} {_n(y + 3)}L{_n(x + 3)} {_n(y - 3)}"
        case "plus":
            path = f"M{_n(x - 4)} {y}H{_n(x + 4)}M{x} {_n(y - 4)}V{_n(y + 4)}"
        case "triangle":
            path = f"M{_n(x - 3.5)} {_n(y + 3)}L{x} {_n(y - 4)}L{_n(x + 3.5)} {_n(y + 3)}Z"
        case "diamond":
            path = f"M{_n(x - 4)} {y}L{x} {_n(y - 4)}L{_n(x + 4)} {y}L{x} {_n(y + 4)}Z"
        case kind:
            fill = "white" if kind == "box" else colour
            return f'<rect x="{_n(x - 3)}" y="{_n(y - 3)}" width="6" height="6" fill="{fill}" stroke="{colour}"/>'
    return f'<path d="{path}" fill="{colour}" stroke="{colour}" stroke-width="1.4"/>'


class Axis:
    """A scale from data to the picture."""

    def __init__(
        self, values: Sequence[float], log: bool, limits: tuple[float, float] | None, start: float, end: float
    ) -> None:
        self.log, self.start, self.end = log, start, end
        usable = [v for v in values if _finite(v) and (v > 0 or not log)]
        low, high = (min(usable), max(usable)) if usable else (1.0, 1.0)
        if limits is not None:
            low, high = max(low, limits[0]), min(high, limits[1])
        a, b = self._map(low), self._map(high)
        if not b > a:
            a, b = a - 0.5, a + 0.5
        room = 0.03 * (b - a)
        self.a, self.b = a - room, b + room

    def _map(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def has(self, value: float) -> bool:
        """Whether the value has a place on this axis at all."""
        return value > 0 or not self.log

    def at(self, value: float) -> float:
        """Where a value lies; what is far out lies just outside, where it is cut off."""
        mapped = self._map(value) if self.has(value) else -math.inf
        part = min(max((mapped - self.a) / (self.b - self.a), -1.0), 2.0)
        return _n(self.start + (self.end - self.start) * part)

    def ticks(self) -> list[float]:
        """Round values within: powers of ten where several fit, else 1, 2 and 5 times them."""
        if self.log:
            low, high = math.ceil(self.a), math.floor(self.b)
            if high - low >= 2:
                every = math.ceil((high - low + 1) / 6)
                return [10.0**n for n in range(low, high + 1) if n % every == 0]
            fine = [m * 10.0**n for n in range(low - 1, high + 2) for m in (1, 2, 5)]
            return [v for v in fine if self.a <= math.log10(v) <= self.b]
        rough = (self.b - self.a) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        unit = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        return [n * unit for n in range(math.ceil(self.a / unit), math.floor(self.b / unit) + 1)]

    def label(self, value: float) -> str:
        """A tick's text."""
        if not self.log:
            return f"{value:.6g}".replace("-", "−") if abs(value) > 1e-12 else "0"
        power = round(math.log10(value))
        if -3 < power < 4 or not math.isclose(value, 10.0**power):
            return f"{value:g}"
        sign = "−" if power < 0 else ""
        return f'10<tspan dy="-4" font-size="8">{sign}{abs(power)}</tspan>'


def _dash(dash: str) -> str:
    return f'stroke-dasharray="{dash}"' if dash else ""


def _n(value: float) -> float:
    return round(value, 1)


def _finite(*values: float) -> bool:
    return all(isinstance(v, int | float) and math.isfinite(v) for v in values)


def _text(text: str) -> str:
    return escape(text)
