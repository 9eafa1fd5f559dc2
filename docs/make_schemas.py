"""Writes docs/reference/schemas.md: every field of every published JSON schema, read from the schemas.

    python docs/make_schemas.py

A schema that is new has its section by its name, NAME.schema.json, wherever it lies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).parent / "reference" / "schemas.md"
FOLDERS = ("bptt", "oracle", "implementations", "properties", "conformance", "docs", "examples")
HEAD = """\
# The schemas

Every JSON file that bpttcheck writes or reads has a schema (JSON Schema, draft 2020-12), against which it is checked
before it is written. A float that JSON cannot write is the text `inf`, `-inf` or `nan`. A field marked * is required.
This page is made from the schemas by `python docs/make_schemas.py`; what a worker says is in
[protocol.md](../protocol.md).
"""

Schema = dict[str, Any]


def page() -> str:
    """The whole page."""
    return HEAD + "".join(section(path) for path in schemas())


def schemas() -> list[Path]:
    """Every schema of the repository."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.schema.json"))


def section(path: Path) -> str:
    """A schema: what it is of, and a row a field."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    place = path.relative_to(ROOT).as_posix()
    rows = [f"| `{name}`{'*' if needed else ''} | {cell(kind)} | {cell(words)} |" for name, needed, kind, words in
            fields(schema, schema, "", ())]  # fmt: skip
    return "\n".join([
        f"\n## {path.name}\n",
        f"{cell(schema.get('title', ''))}. {cell(schema.get('description', ''))} File: [{place}](../../{place})\n",
        "| field | type | |",
        "|---|---|---|",
        *rows,
    ]) + "\n"  # fmt: skip


def fields(root: Schema, schema: Schema, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, bool, str, str]]:
    """(path, required, type, words) of a schema's fields and of those within them; one that is within itself, once."""
    for name, given in schema.get("properties", {}).items():
        yield from one(root, given, prefix + name, name in schema.get("required", ()), above)
    if isinstance(more := schema.get("additionalProperties"), dict):
        yield from one(root, more, f"{prefix}NAME", False, above)


def one(root: Schema, given: Schema, path: str, needed: bool, above: tuple[str, ...]) -> Iterator[Any]:
    """A field and what is within it."""
    reference = given.get("$ref", "")
    schema = resolved(root, given)
    yield path, needed, kind(root, schema), given.get("description") or schema.get("description", "")
    if reference and reference in above:
        return
    below = (*above, reference) if reference else above
    if is_structure(schema):
        yield from fields(root, schema, f"{path}.", below)
    item = resolved(root, schema.get("items", {}))
    if is_structure(item):
        yield from fields(root, item, f"{path}[].", (*below, schema["items"].get("$ref", "")))


def is_structure(schema: Schema) -> bool:
    """Whether fields are within."""
    return "properties" in schema or isinstance(schema.get("additionalProperties"), dict)


def resolved(root: Schema, schema: Schema) -> Schema:
    """A schema with its reference followed. Raises: KeyError where it leads nowhere."""
    while "$ref" in schema:
        found = root
        for word in schema["$ref"].removeprefix("#/").split("/"):
            found = found[word.replace("~1", "/").replace("~0", "~")]
        schema = found
    return schema


def kind(root: Schema, schema: Schema) -> str:
    """What a value may be, in words.

    >>> kind({}, {"type": ["string", "null"]}), kind({}, {"enum": ["a", None]})
    ('string or null', '`"a"`, `null`')
    >>> kind({}, {"type": "integer", "minimum": 1})
    'integer, from 1'
    """
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(kind(root, resolved(root, part)) for part in schema[word]))
    types = schema.get("type", "any")
    words = " or ".join(types) if isinstance(types, list) else str(types)
    items = resolved(root, schema.get("items", {}))
    if types == "array" and items:
        words += f" of {kind(root, items)}"
    if "minimum" in schema:
        words += f", from {schema['minimum']}"
    if "maximum" in schema:
        words += f" to {schema['maximum']}"
    return words


def cell(text: str) -> str:
    """Text within a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
