"""What is said between the suite and a worker, held against the protocol's schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

import implementations
from conformance.workers import Worker

SCHEMA = json.loads((Path(implementations.__file__).parent / "protocol.schema.json").read_text(encoding="utf-8"))
Said = list[tuple[dict[str, Any], dict[str, Any]]]
"""Requests, each with its answer."""


def fits(message: dict[str, Any], side: str) -> bool:
    """Whether a message is a `request` or an `answer` of the schema."""
    return jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{side}"}]}).is_valid(message)


def record(monkeypatch: Any) -> Said:
    """All that is asked and answered from now on."""
    pairs: Said = []
    exchange = Worker._exchange

    def recorded(self: Worker, message: Any, *rest: Any) -> Any:
        reply = exchange(self, message, *rest)
        pairs.append(({**message, "seq": self._seq}, reply))
        return reply

    monkeypatch.setattr(Worker, "_exchange", recorded)
    return pairs
