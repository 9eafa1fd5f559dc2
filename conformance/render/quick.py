"""The schema of results.json as functions: a report of ten thousand findings is checked in a second, not in twenty.

Each schema becomes one function value -> bool. The keywords are those that our own schema uses, as JSON Schema 2020-12
has them; any other is refused when the functions are made. Where the answer is no, jsonschema says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]

_TYPES: dict[str, Check] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
}
_SAID = {"$schema", "$id", "$defs", "title", "description", "format"}
"""Keywords that describe and restrict nothing."""
_WITH = {"properties", "additionalProperties"}
"""Keywords that are one check together."""


def compiled(schema: Mapping[str, Any]) -> Check:
    """The function that says whether a value is what a schema wants. Raises: ValueError for a keyword unknown here.

    >>> check = compiled({"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"minimum": 1}}})
    >>> check([1, 2]), check([1, 0]), check("x")
    (True, False, False)
    """
    known: dict[str, Check] = {}

    def reference(name: str) -> Check:
        """A definition, made when it is first asked: it may refer to itself."""

        def ask(value: Any) -> bool:
            if name not in known:
                known[name] = make(schema["$defs"][name])
            return known[name](value)

        if name not in schema["$defs"]:
            raise ValueError(f"$ref to {name!r}, which is not defined")
        return ask

    def make(part: Mapping[str, Any]) -> Check:
        checks = [_check(key, part[key], make, reference) for key in part if key not in _SAID | _WITH]
        if _WITH & part.keys():
            checks.append(_members(part, make))
        if len(checks) == 1:
            return checks[0]
        return lambda value: all(check(value) for check in checks)

    for definition in schema.get("$defs", {}).values():
        make(definition)  # an unknown keyword is found here, not in a report
    return make(schema)


def _check(key: str, want: Any, make: Callable[[Any], Check], reference: Callable[[str], Check]) -> Check:
    """One keyword; each holds of values of other types than its own."""
    if key == "$ref":
        return reference(want.removeprefix("#/$defs/"))
    if key == "type":
        kinds = [_TYPES[name] for name in ([want] if isinstance(want, str) else want)]
        return kinds[0] if len(kinds) == 1 else lambda v: any(kind(v) for kind in kinds)
    if key == "const":
        return lambda v: v == want and isinstance(v, bool) == isinstance(want, bool)
    if key == "enum":
        return lambda v: isinstance(v, str) and v in want
    if key == "required":
        return lambda v: not isinstance(v, dict) or all(name in v for name in want)
    if key == "items":
        one = make(want)
        return lambda v: not isinstance(v, list) or all(map(one, v))
    if key == "propertyNames":
        name = make(want)
        return lambda v: not isinstance(v, dict) or all(map(name, v))
    if key == "pattern":
        search = re.compile(want).search
        return lambda v: not isinstance(v, str) or search(v) is not None
    limits: dict[str, Check] = {
        "minimum": lambda v: not _TYPES["number"](v) or v >= want,
        "maximum": lambda v: not _TYPES["number"](v) or v <= want,
        "minItems": lambda v: not isinstance(v, list) or len(v) >= want,
        "maxItems": lambda v: not isinstance(v, list) or len(v) <= want,
    }
    if key not in limits:
        raise ValueError(f"the keyword {key!r} is not known here")
    return limits[key]


def _members(part: Mapping[str, Any], make: Callable[[Any], Check]) -> Check:
    """`properties` with `additionalProperties`, which is a schema, or false."""
    named = {name: make(inner) for name, inner in part.get("properties", {}).items()}
    others = part.get("additionalProperties", {})
    other: Check = (lambda _: False) if others is False else make(others)
    return lambda v: not isinstance(v, dict) or all(named.get(name, other)(inner) for name, inner in v.items())


__all__ = ["compiled"]
