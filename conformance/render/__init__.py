"""Reports: results.json read as hostile input, and every other form rendered from it.

`load` trusts nothing: not the size of the file, its encoding, its nesting, its numbers, nor its shape. It cuts texts
that are longer than any of ours, since each form of the report holds them several times over.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped, unused-ignore]

from conformance.render import strict
from conformance.render.badge import to_badge
from conformance.render.html import to_html
from conformance.render.junit import to_junit
from conformance.render.markdown import to_markdown
from conformance.render.quick import Check, compiled
from conformance.render.sarif import to_sarif
from conformance.render.terminal import bounded, print_summary, shorten, visible
from conformance.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FORMS",
    "MAX_BYTES",
    "SCHEMA",
    "ReportError",
    "load",
    "load_file",
    "print_summary",
    "render",
    "validate",
    "visible",
]

MAX_BYTES = 64 * 2**20
"""The largest results.json that is read."""
SCHEMA = Path(__file__).parent.parent / "results.schema.json"
"""The published schema of results.json."""
FORMS = {
    "report.html": to_html,
    "report.md": to_markdown,
    "junit.xml": to_junit,
    "results.sarif": to_sarif,
    "badge.svg": to_badge,
}
"""Every form of the report: the name of its file, and what renders it."""

_VERSION = 1
_KINDS = {
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class ReportError(ValueError):
    """A results.json that cannot be rendered, or a report that cannot be written: the message says which and why."""


def render(report_dir: Path) -> list[Path]:
    """Read results.json and write every form of the report; either all are written or the old ones stay.

    Raises: ReportError, naming the file and what is wrong with it.
    """
    results = load(report_dir)
    texts = {report_dir / name: form(results) for name, form in FORMS.items()}
    _write(texts)
    return list(texts)


def load(report_dir: Path) -> dict[str, Any]:
    """Read results.json from a report directory and check it against the schema.

    Raises: ReportError, naming the file, the place within, what was found and what was expected.
    """
    return load_file(report_dir / "results.json")


def load_file(path: Path) -> dict[str, Any]:
    """Read a results file of any name, as `load` does. Raises: ReportError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{visible(str(path))}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise ReportError(f"{visible(str(path))}: larger than {MAX_BYTES} bytes, the most that is read")
    try:
        results = _parse(data)
        validate(results)
    except ReportError as error:
        raise ReportError(f"{visible(str(path))}: {error}") from None
    assert isinstance(results, dict)
    return results


def validate(results: object) -> None:
    """Check results against the schema.

    Raises: ReportError, naming the first place that is wrong, what was found and what was expected.
    """
    if not isinstance(results, dict):
        raise ReportError(f"got {_KINDS[type(results)]}, expected an object with the results of `bpttcheck certify`")
    version = results.get("schema_version", _VERSION)
    if version != _VERSION:
        raise ReportError(f"schema_version: got {_short(version)}, expected {_VERSION}: render it with its own version")
    if _quick()(results):
        return
    first = next(_validator().iter_errors(results), None)
    if first is not None:
        error = best_match(iter([first]))
        place = error.json_path.removeprefix("$").removeprefix(".")
        raise ReportError(": ".join(part for part in (_short(place), _short(error.message)) if part))


@functools.cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_schema())


@functools.cache
def _quick() -> Check:
    return compiled(_schema())


def _short(value: object) -> str:
    return visible(shorten(value if isinstance(value, str) else repr(value), 240))


def _parse(data: bytes) -> object:
    """Parse JSON, strictly."""
    try:
        return _bounded(strict.loads(data))
    except UnicodeDecodeError as error:
        raise ReportError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ReportError(f"not JSON: {error}") from None
    except ValueError as error:
        raise ReportError(_short(str(error))) from None
    except RecursionError:
        raise ReportError("not a report: nested too deeply") from None


def _bounded(value: object) -> object:
    """A value without the ends of texts that no report of ours has."""
    if type(value) is str:
        return bounded(value)
    if type(value) is list:
        return [_bounded(part) for part in value]
    if type(value) is dict:
        found = {bounded(name): _bounded(part) for name, part in value.items()}
        if len(found) != len(value):
            raise ReportError("two names in one object are the same but for their ends")
        return found
    return value


def _write(texts: Mapping[Path, str]) -> None:
    """Write all texts or none: nothing is replaced before all are whole."""
    for path in texts:
        if path.is_dir():
            raise ReportError(f"{visible(str(path))}: a folder stands where the report goes; move it away")
    try:
        write_whole({path: text.encode("utf-8") for path, text in texts.items()})
    except OSError as error:
        raise ReportError(f"{visible(str(error.filename or ''))}: {error.strerror or error}") from error
