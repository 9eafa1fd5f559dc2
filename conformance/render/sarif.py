"""results.sarif: what failed, in the form that code-scanning services read (SARIF 2.1.0, OASIS 2020).

A rule is a property, a result a finding that failed, placed at the adapter's file where the target is one. Texts are
plain: no link, no markup.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from conformance.render.terminal import FAILURES, diagnosis_text, shorten, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "2.1.0"
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_MESSAGE = 4000
_PLACEHOLDER = re.compile(r"\{(\d+)\}")


def to_sarif(results: Mapping[str, Any]) -> str:
    """Render the failures; a run without any is a run with no result."""
    failed = [
        (target, finding)
        for target in results["targets"]
        for finding in target["findings"]
        if finding["verdict"] in (*FAILURES, "error")
    ]
    rules = list(dict.fromkeys([*results["properties"], *(finding["property"] for _, finding in failed)]))
    places = {name: index for index, name in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "bpttcheck",
                "version": _text(results["suite_version"]),
                "rules": [_rule(name, results["properties"].get(name)) for name in rules],
            }
        },
        "automationDetails": {"id": f"bpttcheck/{results['profile']}/seed-{results['seed']}"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(target, finding, places[finding["property"]]) for target, finding in failed],
    }
    return json.dumps({"$schema": SCHEMA, "version": VERSION, "runs": [run]}, indent=1, ensure_ascii=True) + "\n"


def _rule(name: str, statement: str | None) -> dict[str, Any]:
    text = _text(statement or name)
    return {"id": _text(name), "shortDescription": {"text": text}, "defaultConfiguration": {"level": "error"}}


def _result(target: Mapping[str, Any], finding: Mapping[str, Any], rule: int) -> dict[str, Any]:
    where = " · ".join((target["name"], finding["cell"], finding["dtype"]))
    place = hashlib.sha256("\0".join((where, finding["property"])).encode("utf-8", "backslashreplace")).hexdigest()
    result = {
        "ruleId": _text(finding["property"]),
        "ruleIndex": rule,
        "level": "warning" if finding["verdict"] == "error" or finding.get("expected") else "error",
        "message": {"text": _message(finding)},
        "partialFingerprints": {"finding/v1": place},
        "properties": {"verdict": finding["verdict"], "target": _text(target["name"]), "where": _text(where)},
    }
    uri = _uri(target)
    logical = {"name": _text(finding["property"]), "fullyQualifiedName": _text(where)}
    location: dict[str, Any] = {"logicalLocations": [logical]}
    if uri is not None:
        location["physicalLocation"] = {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}
    result["locations"] = [location]
    return result


def _message(finding: Mapping[str, Any]) -> str:
    """The message, the diagnosis and the command where it does not hold them; nothing in it is a link or a variable."""
    lines = [finding["message"].strip() or finding["verdict"]]
    found = finding["counterexample"]
    if found:
        diagnosis = diagnosis_text(found)
        lines += [text for text in (diagnosis,) if text and text not in finding["message"]]
        lines += [f"replay: {found['replay']}"] if found["replay"] not in finding["message"] else []
    text = visible(shorten("\n".join(lines), _MESSAGE), lines=True)
    return _PLACEHOLDER.sub(r"{{\1}}", text.replace("](", "] ("))


def _uri(target: Mapping[str, Any]) -> str | None:
    """The adapter's file as a relative reference, if it lies within the folder that the command was run in."""
    file = target["source"]["file"]
    if target["kind"] != "path" or not file:
        return None
    path = PurePosixPath(visible(file).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    return quote(str(path), safe="/")


def _text(text: str) -> str:
    return visible(shorten(text, 400))
