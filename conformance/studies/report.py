"""What a study run leaves behind: study.json, and rendered from it pictures, study.html and study.md."""

from __future__ import annotations

import base64
import functools
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from conformance.render.terminal import visible
from conformance.results import environment, plain, suite_version
from conformance.studies.base import SCHEMA_VERSION, Found, Study
from conformance.studies.intervals import Interval
from conformance.studies.picture import draw

SCHEMA = Path(__file__).parent / "study.schema.json"
"""The published schema of study.json."""
DIGITS = 12
"""Significant digits that are written: what is left of the last bits of a float64."""


def as_json(study: Study, found: Found, *, quick: bool, trainer: str, seconds: float) -> dict[str, Any]:
    """study.json of a run; everything but `seconds`, of processor time, and `environment` follows from the seeds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "suite_version": suite_version(),
        "study": study.id,
        "title": study.title,
        "question": study.question,
        "method": study.method,
        "symbols": study.symbols,
        "claims": list(study.claims),
        "form": "quick" if quick else "full",
        "measures": study.measures,
        "trainer": trainer,
        "seeds": [int(seed) for seed in found.seeds],
        "parameters": _data(found.parameters),
        "answer": found.answer,
        "tables": [_data(table) for table in found.tables],
        "pictures": [_data(picture) for picture in found.pictures],
        "checks": [_data(check) for check in found.checks],
        "environment": environment(),
        "seconds": round(seconds, 1),
    }


def _data(value: Any) -> Any:
    """Plain JSON: arrays as lists, infinities and NaN as strings, floats in DIGITS digits."""
    if isinstance(value, np.ndarray):
        return [_data(v) for v in value.tolist()]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else plain(number)
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _data(part) for key, part in _fields(value).items()}
    if isinstance(value, Mapping):
        return {str(key): _data(part) for key, part in value.items()}
    if isinstance(value, list | tuple | range):
        return [_data(part) for part in value]
    return value


def _fields(value: Any) -> dict[str, Any]:
    return asdict(value) if isinstance(value, Interval) else {name: getattr(value, name) for name in vars(value)}


def write(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write every form, each file whole or not at all; results are checked against the schema first."""
    _validator().validate(results)
    svgs = {f"{picture['name']}.svg": draw(picture) for picture in results["pictures"]}
    texts = {
        "study.json": json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        **svgs,
        "study.md": _render("study.md.j2", results, svgs),
        "study.html": _render("study.html.j2", results, svgs),
    }
    paths = []
    for name, text in texts.items():
        temporary = folder / f".{name}-{secrets.token_hex(6)}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)
        paths.append(folder / name)
    return paths


def of_the_quick_form(results: Mapping[str, Any]) -> str:
    """What is to be known of a quick run: its numbers are no result, and what its intervals are."""
    said = "It shows that the study works and no more: the runs are small."
    seeds = len(results["seeds"])
    if results["measures"] or not seeds:
        return said
    over = "one seed there is no interval" if seeds == 1 else f"{seeds} seeds an interval says next to nothing"
    return f"{said} Over {over}; that of a median is its least and its largest value."


def cell_text(value: Any) -> str:
    """An entry of a table as people read it.

    >>> cell_text({"middle": 2.0, "low": 1.5, "high": 2.5}), cell_text(12345.678), cell_text(0.001234)
    ('2 [1.5, 2.5]', '12,346', '0.00123')
    """
    if isinstance(value, dict):
        return f"{_number(value['middle'])} [{_number(value['low'])}, {_number(value['high'])}]"
    return value if isinstance(value, str) else _number(value)


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) or 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def _render(template: str, results: Mapping[str, Any], svgs: Mapping[str, str]) -> str:
    images = {
        name: "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")
        for name, svg in svgs.items()
    }
    return (
        _environment(html=template.endswith("html.j2"))
        .get_template(template)
        .render(r=results, images=images, quick=of_the_quick_form(results))
    )


@functools.cache
def _environment(*, html: bool) -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=html,  # noqa: S701  Markdown has escapes of its own, see _markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(cell=cell_text, visible=visible, markdown=_markdown)
    return found


def _markdown(text: str) -> str:
    """Text in which nothing is markup: what has a meaning within a line is escaped."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|" else c for c in visible(text))


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
