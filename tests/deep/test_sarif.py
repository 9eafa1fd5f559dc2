"""results.sarif is SARIF 2.1.0: the types that were generated from its schema, which forbid what it does not name."""

from __future__ import annotations

import json

import pytest

from conformance.render.sarif import to_sarif
from tests.test_render import HOSTILE, failing, hostile, make_results, passing, three

model = pytest.importorskip("pydantic_sarif.model", reason="pydantic-sarif is not installed; tox -e browser has it")
Log = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema


@pytest.mark.parametrize(
    "results", [passing(), failing(), three(), make_results()], ids=["one", "bad", "three", "none"]
)
def test_sarif_follows_its_schema(results):
    for target in results["targets"]:
        target["kind"] = "path"
    Log.model_validate(json.loads(to_sarif(results)))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_sarif_follows_its_schema(text):
    Log.model_validate(json.loads(to_sarif(hostile(text))))


def test_the_schema_is_strict():
    log = json.loads(to_sarif(failing()))
    log["runs"][0]["results"][0]["surplus"] = 1
    with pytest.raises(ValueError, match="surplus"):
        Log.model_validate(log)
