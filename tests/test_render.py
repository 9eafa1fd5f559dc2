"""The rendered report: whole, readable and harmless, whatever results.json holds."""

from __future__ import annotations

import copy
import io
import itertools
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree as ET

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest

import conformance.render as rendering
from conformance.cli import main
from conformance.render import ReportError, load, print_summary, render, validate
from conformance.render.badge import badge, to_badge
from conformance.render.html import to_html
from conformance.render.junit import to_junit
from conformance.render.markdown import code, fenced, to_markdown
from conformance.render.quick import compiled
from conformance.render.sarif import to_sarif
from conformance.render.terminal import MOST_TEXT, clip, percent, ratio, shorten, to_text, visible

Results = dict[str, Any]

PROPERTIES = {
    "oracle-agreement": "States, outputs, loss and every gradient lie within budget of the oracle.",
    "exact-problems": "On exact problems every bit is right.",
    "truncation-equivalence": "Each truncation equals the masked double sum.",
    "causality": "A later input changes no earlier state and no earlier loss's gradient.",
    "zero-initial-state": "No initial state means zeros.",
}
CELLS = ("elman", "lstm", "gru_reset_after")
DTYPES = ("float64", "float32")
FORMS = {"report.html", "report.md", "junit.xml", "results.sarif", "badge.svg"}

TAG = "<script>alert(1)</script>"
HOSTILE = (
    TAG,
    "\"><img src=x onerror='alert(1)'>",
    "]]><evil/>",
    "| a | b |",
    "`tick` ``` fence",
    "</pre></details><b>",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "nul\x00end",
    "right\u202eto left\u2066mark\u200f",
    "line\u2028separator\u2029and\x85next",
    "not a character \ufffe\uffff",
    "half a pair \ud800",
    "{{ 7 * 191 }}{% raw %}",
    "[click](javascript:alert(1)) @someone",
    "[bold red]markup[/]",
    "long" * 5000,
)


def make_counterexample(**changes: object) -> Results:
    counterexample: Results = {
        "case": "cases/3f2a.safetensors",
        "worst_case": "cases/77aa.safetensors",
        "script": "cases/3f2a.py",
        "replay": "bpttcheck replay reports/cases/3f2a.safetensors broken",
        "diagnosis": "dW_hh equals the oracle's gradient without the term t = 1",
        "problem": {
            "cell": "elman",
            "activation": "tanh",
            "readout": "none",
            "loss": "cotangent",
            "truncation": "full",
            "dtype": "float64",
            "T": 2,
            "B": 1,
            "D": 1,
            "H": 2,
            "K": 2,
            "arrays": {
                "x": [[[1.0]], [[0.0]]],
                "h0": [[0.5, -0.0]],
                "params.W_xh": [[0.0, 1.0]],
                "params.W_hh": [[0.0, 1.0], [1e-310, "inf"]],
                "params.b_h": [0.0, 0.0],
                "loss.g": [[[0.0, 0.0]], [[1.0, "nan"]]],
                "lengths": [2],
                "loss.scale": 0.5,
                "wide": [[float(i * j) for j in range(20)] for i in range(30)],
                "zeros": [[0.0] * 16] * 16,
                "nothing": [],
            },
        },
        "comparison": {
            "array": "dW_hh",
            "where": [0, 1],
            "got": "0x1.8p-3",
            "want": "0x1.9p-3",
            "error": "7.8e-3",
            "budget": "2.2e-16",
        },
    }
    return {**counterexample, **changes}


def make_picture(**changes: object) -> Results:
    picture: Results = {
        "case": "cases/77aa.safetensors",
        "problem": "lstm, window(2), T=3 B=1 D=1 H=2 K=2",
        "steps": {
            "per_column": 1,
            "rows": [
                {"array": "loss", "over_steps": False, "ratios": [0.01]},
                {"array": "h", "over_steps": True, "ratios": [0.0, 0.3, 1.0]},
                {"array": "dx", "over_steps": True, "ratios": [0.2, 4e5, "inf"]},
                {"array": "dW_h", "over_steps": False, "ratios": ["nan"]},
            ],
        },
        "wrong": {
            "array": "dW_h",
            "shape": [2, 8],
            "per_cell": [1, 1],
            "gates": ["i", "f", "g", "o"],
            "ratios": [[0.0, 0.5, 1.0, -1.0, 2.0, -2e4, "inf", "-inf"], ["nan", 0.1, 0.2, 0.3, -0.4, 5e9, -7e12, 1.01]],
        },
        "norms": {"state": "h, c", "values": [1.0, 0.5, 0.0, 1e-30], "bound": [1.0, 0.9, 0.81, "inf"], "got": 0.2},
    }
    return {**picture, **changes}


def worst_of(ratio: float | str | None) -> dict[str, Any]:
    """The worst entry of a finding."""
    return {"error_over_budget": ratio, "array": "dx", "where": [], "bound": None}


def make_finding(verdict: str = "pass", **changes: object) -> Results:
    finding: Results = {
        "property": "oracle-agreement",
        "cell": "elman",
        "dtype": "float64",
        "verdict": verdict,
        "examples": 100,
        "conclusive": 99,
        "invalid": 0,
        "seconds": 1.2,
        "worst": {"error_over_budget": 0.31, "array": "dW_hh", "where": [3, 0], "bound": None},
        "message": "",
        "notes": [],
        "counterexample": None,
    }
    if verdict == "fail":
        finding["worst"] = {"error_over_budget": 3.5e13, "array": "dW_hh", "where": [0, 1], "bound": None}
        finding["message"] = (
            "dW_hh[0,1]: got 0x1.8p-3, want 0x1.9p-3; off by 2.8e14 ulp, budget 812 ulp\n"
            "  broken · elman tanh · T=2 B=1 D=1 H=2 · float64 · oracle-agreement\n"
            "  replay: bpttcheck replay reports/cases/3f2a.safetensors broken"
        )
        finding["counterexample"] = make_counterexample()
        finding["picture"] = make_picture()
    elif verdict != "pass":
        finding["worst"] = None
        finding["message"] = {
            "unsupported": "declared: no readouts",
            "inconclusive": "41 of 100 examples were conclusive, 90 are needed",
            "crash": "the worker died of signal 11 (SIGSEGV) at T=257 B=1 D=1 H=64",
            "timeout": "no answer within 10 seconds",
            "error": "PrecisionExhausted: undecided at 65536 bits",
        }[verdict]
    return {**finding, **changes}


def make_target(name: str = "numpy", verdict: str = "certified", **changes: object) -> Results:
    findings = []
    for i, property_id in enumerate(PROPERTIES):
        for j, cell in enumerate(CELLS):
            for k, dtype in enumerate(DTYPES):
                worst = {
                    "error_over_budget": (1 + i + 3 * j + 7 * k) / 61,
                    "array": "dx",
                    "where": [i, j, k],
                    "bound": None,
                }
                if property_id == "exact-problems":
                    worst["error_over_budget"] = 0.0
                findings.append(make_finding(property=property_id, cell=cell, dtype=dtype, worst=worst))
    if verdict == "not conformant":
        findings[0] = make_finding("fail")
        findings[7] = make_finding("fail", property="exact-problems", dtype="float32")
        findings[9] = make_finding("crash", property="exact-problems", cell="lstm", dtype="float32")
        findings[14] = make_finding("timeout", property="truncation-equivalence", cell="lstm")
        findings[16] = make_finding("error", property="truncation-equivalence", cell="gru_reset_after")
        findings[20] = make_finding("inconclusive", property="causality", cell="lstm")
        findings[24] = make_finding("unsupported", property="zero-initial-state")
    reason = None
    if verdict == "no verdict":
        findings, reason = [], "torch is not installed; pip install 'bpttcheck[torch]'"
    certified = {
        "cells": list(CELLS),
        "activations": ["tanh", "relu"],
        "readouts": ["none", "linear"],
        "losses": ["cotangent", "squared_error"],
        "reductions": ["sum", "mean"],
        "truncations": ["full", "window", "chunk"],
        "dtypes": list(DTYPES),
        "keys": ["loss", "h", "c", "dx", "dW_xh", "dW_hh", "db_h", "dh0"],
        "unclaimed": [],
        "examples": 3000,
        "conclusive_share": 0.9999,
        "worst_error_over_budget": 3.5e13 if verdict == "not conformant" else 0.31,
    }
    if verdict == "no verdict":
        empty: Results = {key: [] for key, value in certified.items() if isinstance(value, list)}
        certified = {**empty, "examples": 0, "conclusive_share": None, "worst_error_over_budget": None}
    target = {
        "name": name,
        "kind": "built-in",
        "verdict": verdict,
        "reason": reason,
        "source": {"file": f"implementations/{name}_bptt.py", "sha256": "0123456789abcdef" * 4},
        "certified": certified,
        "notes": [],
        "findings": findings,
    }
    return {**target, **changes}


def make_results(*targets: Results, **changes: object) -> Results:
    results = {
        "schema_version": 1,
        "suite_version": "0.1.0",
        "seed": 0,
        "profile": "standard",
        "command": ["bpttcheck", "certify", *(target["name"] for target in targets), "--report-dir", "my reports"],
        "started": "2025-03-01T12:00:00+00:00",
        "seconds": 125.3,
        "environment": {
            "python": "3.11.9",
            "implementation": "CPython",
            "platform": "Linux-6.1-x86_64-with-glibc2.36",
            "machine": "x86_64",
            "packages": {"numpy": "2.4.6", "mpmath": "1.3.0"},
        },
        "properties": PROPERTIES,
        "targets": list(targets),
    }
    return copy.deepcopy({**results, **changes})


def passing() -> Results:
    return make_results(make_target())


def failing() -> Results:
    return make_results(make_target("broken", "not conformant"))


def three() -> Results:
    return make_results(
        make_target(), make_target("broken", "not conformant"), make_target("torch", "no verdict", kind="module")
    )


def hostile(text: str) -> Results:
    """Results with the text in the place of every string that the schema leaves open."""
    results = make_results(
        make_target("broken", "not conformant", notes=["a note"]), make_target("other", "no verdict")
    )
    fixed = {"schema_version", "profile", "kind", "verdict", "sha256", "error_over_budget", "worst_error_over_budget"}

    def poison(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            open_keys = key in {"properties", "packages"}
            return {(f"{k} {text}" if open_keys else k): poison(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(item, key) for item in value]
        if not isinstance(value, str) or key in fixed or value in {"inf", "-inf", "nan"}:
            return value
        return f"{value} {text}"

    poisoned = cast("Results", poison(results))
    for finding in poisoned["targets"][0]["findings"]:
        finding["notes"] = [text]
        if finding["counterexample"]:
            finding["counterexample"]["problem"]["arrays"] = {text: [1.0]}
    return poisoned


def write(folder: Path, results: object) -> Path:
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "wbr"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def assert_prints(text: str) -> None:
    """Every character but a line end prints."""
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


# The schema.


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(rendering.SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "results", [passing(), failing(), three(), make_results()], ids=["one", "bad", "three", "none"]
)
def test_results_match_the_schema(results: Results) -> None:
    validate(results)
    jsonschema.validate(results, json.loads(rendering.SCHEMA.read_text(encoding="utf-8")))


def objects(value: object) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in objects(item))]
    return [found for item in value for found in objects(item)] if isinstance(value, list) else []


def test_schema_is_strict_everywhere() -> None:
    results = failing()
    for inner in objects(results):
        inner["surplus"] = None
        with pytest.raises(ReportError, match=r"surplus|None is not"):
            validate(results)
        del inner["surplus"]
    validate(results)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("targets", 0, "verdict"), "perfect", r"^targets\[0\].verdict: 'perfect' is not one of"),
        (("targets", 0, "findings", 0, "examples"), -1, r"^targets\[0\].findings\[0\].examples: -1 is less than"),
        (
            ("targets", 0, "findings", 0, "seconds"),
            "long",
            r"^targets\[0\].findings\[0\].seconds: 'long' does not match",
        ),
        (("targets", 0, "source", "sha256"), "0xff", r"^targets\[0\].source.sha256: '0xff' does not match"),
        (
            ("targets", 0, "certified", "conclusive_share"),
            1.5,
            r"^targets\[0\].certified.conclusive_share: 1.5 is greater",
        ),
        (("seed",), True, r"^seed: True is not of type 'integer'"),
        (("schema_version",), 2, r"^schema_version: got 2, expected 1"),
    ],
)
def test_validate_names_the_place(place: tuple[str | int, ...], value: object, message: str) -> None:
    results: Any = passing()
    inner = results
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ReportError, match=message):
        validate(results)


@pytest.mark.parametrize(
    ("array", "good"),
    [
        (1, True),
        ("-inf", True),
        ([[["nan", 0.5]]], True),
        ([], True),
        ([[[[1.0]]]], False),
        (True, False),
        (None, False),
        (["Infinity"], False),
        ([[None]], False),
        ({}, False),
    ],
)
def test_schema_knows_an_array(array: object, *, good: bool) -> None:
    results = failing()
    results["targets"][0]["findings"][0]["counterexample"]["problem"]["arrays"] = {"x": array}
    if good:
        validate(results)
        to_html(results)
    else:
        with pytest.raises(ReportError, match=r"arrays\.x"):
            validate(results)


def test_the_quick_check_agrees_with_jsonschema() -> None:
    quick, slow = compiled(rendering._schema()), rendering._validator()
    wrong = (None, True, -1, 2.0, 0.5, "", "inf", [], [[[["nan"]]]], [1] * 70, {}, {"a": {}})
    results = make_results(make_target("broken", "not conformant"))
    finding = results["targets"][0]["findings"][0]
    results["targets"][0]["findings"] = [finding]
    finding["counterexample"]["problem"]["arrays"] = {"x": [[[1.0]]]}
    finding["picture"]["wrong"]["ratios"] = [[2.0]]
    finding["counterexample"]["diagnosis"] = {
        "sentence": "s",
        "matches": [{"id": "i", "sentence": "s", "arrays": ["dx"], "digits": 3.5}],
        "where": None,
    }
    results["files"] = {"cases/0123456789ab.py": "0123456789abcdef" * 4}
    assert quick(results) and slow.is_valid(results)
    found = {True: 0, False: 0}
    for holder, key in places(results):
        kept = holder[key]
        for value in wrong:
            holder[key] = value
            good = quick(results)
            found[good] += 1
            assert good == slow.is_valid(results), (key, value)
        del holder[key]
        assert quick(results) == slow.is_valid(results), key
        holder.insert(key, kept) if isinstance(holder, list) else holder.update({key: kept})
    results["files"] = {"cases/../x.py": "0123456789abcdef" * 4}
    assert not quick(results) and not slow.is_valid(results)
    assert min(found.values()) > 100


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder and key of a value, but of each list only the first."""
    if isinstance(value, dict):
        inner = [(value, key) for key in value]
    else:
        inner = [(value, 0)] if isinstance(value, list) and value else []
    return [*inner, *(found for holder, key in inner for found in places(holder[key]))]


@pytest.mark.parametrize("schema", [{"oneOf": []}, {"$defs": {"a": {"not": {}}}}, {"items": {"$ref": "#/$defs/b"}}])
def test_the_quick_check_refuses_what_it_does_not_know(schema: Results) -> None:
    with pytest.raises((ValueError, KeyError)):
        compiled(schema)


def test_validate_shortens_what_it_quotes() -> None:
    results = passing()
    results["targets"][0]["verdict"] = "\x1b" + "x" * 10**6
    with pytest.raises(ReportError) as caught:
        validate(results)
    assert len(str(caught.value)) < 600
    assert_prints(str(caught.value))


# Reading.


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"seed": NaN}', "NaN is no JSON"),
        (b'{"seed": -Infinity}', "-Infinity is no JSON"),
        (b'{"seed": 1e999}', "the number 1e999 is beyond a double"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "is beyond a double"),
        (b'{"seed": 1, "seed": 2}', "the name 'seed' stands twice"),
        (b"[]", "got a list, expected an object"),
        (b"{}", "'schema_version' is a required property"),
    ],
    ids=["empty", "cut", "encoding", "deep", "nan", "infinity", "huge", "digits", "twice", "list", "bare"],
)
def test_load_refuses(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "results.json").write_bytes(data)
    with pytest.raises(ReportError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "results.json") + ": ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 600


def test_load_refuses_a_file_over_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "results.json").open("wb") as file:
        file.truncate(rendering.MAX_BYTES + 1)
    with pytest.raises(ReportError, match="larger than 67108864 bytes"):
        load(tmp_path)


def test_load_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"results.json: No such file"):
        render(tmp_path)


def test_load_returns_what_was_written(tmp_path: Path) -> None:
    assert load(write(tmp_path, three())) == three()


HOSTILE_FILES = {
    "markup": b'{"schema_version": "<script>alert(1)</script>"}',
    "escapes": b'{"schema_version": "\\u001b[2J\\u202e"}',
    "bytes": b"\x1b]0;title\x07",
    "nested": b'{"a":' * 100_000,
    "many": b"[" + b"0," * 1_000_000 + b"0]",
    "empty": b"",
    "nul": b"\x00" * 1000,
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_render_of_a_hostile_file_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "results.json").write_bytes(HOSTILE_FILES[name])
    assert main(["render", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert_prints(err)
    assert len(err) < len(str(tmp_path)) + 600
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


# Writing.


def test_render_writes_every_form_and_nothing_else(tmp_path: Path) -> None:
    paths = render(write(tmp_path, three()))
    assert {path.name for path in paths} == FORMS
    assert {path.name for path in tmp_path.iterdir()} == FORMS | {"results.json"}
    assert all(path.stat().st_size for path in paths)


def test_render_is_deterministic(tmp_path: Path) -> None:
    first = {path: path.read_bytes() for path in render(write(tmp_path, three()))}
    assert first == {path: path.read_bytes() for path in render(tmp_path)}


@pytest.mark.parametrize("method", ["open", "replace"])
def test_a_failure_while_writing_leaves_the_previous_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    before = {path: path.read_bytes() for path in render(write(tmp_path, passing()))}
    original = getattr(Path, method)

    def full(path: Path, *args: object, **kwargs: object) -> object:
        hit = "badge.svg" if method == "open" else "report.html"
        if path.name.startswith(f".{hit}") and path.suffix == ".tmp":
            raise OSError(28, "No space left on device", str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(Path, method, full)
    write(tmp_path, failing())
    with pytest.raises(ReportError, match="No space left on device"):
        render(tmp_path)
    assert before == {path: path.read_bytes() for path in before}
    assert {path.name for path in tmp_path.iterdir()} == FORMS | {"results.json"}


def test_a_folder_in_the_way_leaves_the_previous_report(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in render(write(tmp_path, passing()))}
    (tmp_path / "badge.svg").unlink()
    (tmp_path / "badge.svg").mkdir()
    write(tmp_path, failing())
    with pytest.raises(ReportError, match="a folder stands where the report goes"):
        render(tmp_path)
    assert all(path.read_bytes() == data for path, data in before.items() if path.name != "badge.svg")
    assert {path.name for path in tmp_path.iterdir()} == FORMS | {"results.json"}


def test_a_failure_while_rendering_leaves_the_previous_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in render(write(tmp_path, passing()))}

    def broken(_results: object) -> str:
        raise RuntimeError("a bug in a form")

    assert list(rendering.FORMS)[-1] == "badge.svg"
    monkeypatch.setitem(rendering.FORMS, "badge.svg", broken)
    write(tmp_path, failing())
    with pytest.raises(RuntimeError, match="a bug in a form"):
        render(tmp_path)
    assert before == {path: path.read_bytes() for path in before}


def test_a_large_report_renders(tmp_path: Path) -> None:
    kinds = ["pass"] * 15 + ["fail", "crash", "inconclusive", "unsupported", "error"]
    findings = [
        make_finding(
            kinds[i % 20], property=f"property-{i % 25}", cell=f"cell-{i // 25 % 20}", dtype=f"float{i // 500}"
        )
        for i in range(2000)
    ]
    target = make_target(verdict="not conformant", findings=findings)
    html, markdown, junit, *_ = render(write(tmp_path, make_results(target)))
    assert sum(tag == "td" for tag, _ in Page(html.read_text()).tags) > 4000
    assert len(ET.parse(junit).findall(".//testcase")) == 2000
    assert len(markdown.read_text()) < 65536


# The page.


@pytest.mark.parametrize(
    "results", [passing(), failing(), three(), make_results()], ids=["one", "bad", "three", "none"]
)
def test_html_is_well_formed_and_self_contained(results: Results) -> None:
    text = to_html(results)
    page = Page(text)
    assert page.stack == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(link.startswith(("#", "cases/")) for link in links)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "form", "base"}
    assert all("src" not in attributes and "style" not in attributes for _, attributes in page.tags)
    assert "url(" not in text
    assert "@import" not in text


def test_html_serves_a_screen_reader() -> None:
    page = Page(to_html(three()))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert [attributes["lang"] for tag, attributes in page.tags if tag == "html"] == ["en"]
    assert all({"aria-label", "aria-hidden"} & attributes.keys() for tag, attributes in page.tags if tag == "svg")
    tags = [tag for tag, _ in page.tags]
    assert tags.count("main") == tags.count("header") == tags.count("footer") == 1


def test_html_says_what_is_certified_and_how_tightly() -> None:
    text = Page(to_html(passing())).text
    assert "numpy is certified" in text
    for part in ("0.31", "99.9 %", "3,000", "gru_reset_after", "squared_error", "Certified for", "0123456789abcdef"):
        assert part in text
    assert "What failed" not in text


def test_html_names_what_is_not_claimed() -> None:
    results = passing()
    results["targets"][0]["certified"]["unclaimed"] = ["dh0"]
    assert "not claimed dh0" in Page(to_html(results)).text


def test_html_shows_a_failure_whole() -> None:
    page = Page(to_html(failing()))
    for part in (
        "broken is not conformant",
        "Judged on",
        "off by 2.8e14 ulp, budget 812 ulp",
        "Diagnosis dW_hh equals the oracle's gradient without the term t = 1",
        "dW_hh[0,1] 0x1.8p-3 0.1875 0x1.9p-3 0.195312 7.8e-3 2.2e-16",
        "T=2 B=1 D=1 H=2 K=2",
        "W_hh 2×2",
        "0 1 0 0 1 1 1e-310 inf",
        "zeros 16×16 all 0",
        "18 more rows are in the case file",
        "bpttcheck replay reports/cases/3f2a.safetensors broken",
        "signal 11 (SIGSEGV)",
        "no answer within 10 seconds",
        "41 of 100 examples were conclusive",
        "declared: no readouts",
        "PrecisionExhausted",
    ):
        assert part in page.text
    assert "params.W_hh" not in page.text
    assert {"cases/3f2a.py", "cases/3f2a.safetensors", "cases/77aa.safetensors"} <= {
        str(attributes.get("href")) for _, attributes in page.tags
    }


def test_html_draws_what_is_wrong() -> None:
    results = make_results(make_target(verdict="not conformant", findings=[make_finding("fail")]))
    page = Page(to_html(results))
    labels = [str(attributes["aria-label"]) for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    assert "Beyond the budget: dx at t = 2, 3; dW_h. Within: h, loss." in labels[1]
    assert "Over 3 steps the norm is 1e-30, the bound inf; the target's own matrix has 0.2." in labels[2]
    assert "8 of 16 entries are beyond the budget: 4 too large (+), 3 too small (−), 1 not a number (?)." in labels[3]
    shades = [str(attributes.get("class")) for tag, attributes in page.tags if tag == "rect"]
    assert [shades.count(shade) for shade in ("cp", "dp", "ep")] == [3, 1, 4]  # one of each in the legend; NaN is an ep
    assert [shades.count(shade) for shade in ("cn", "dn", "en")] == [0, 1, 2]
    assert page.text.count("case cases/77aa.safetensors") == 2


def test_html_pictures_the_problem_closest_to_its_budget() -> None:
    results = passing()
    for finding, ratio_, problem in zip(results["targets"][0]["findings"], (0.2, 0.4, 0.3), "abc", strict=False):
        finding["worst"]["error_over_budget"] = ratio_
        finding["picture"] = make_picture(problem=problem, wrong=None, case=None)
    assert "The problem closest to its budget float32: b" in Page(to_html(results)).text


def test_html_spares_what_a_page_cannot_hold() -> None:
    findings = [make_finding("fail")] * 100
    page = Page(to_html(make_results(make_target(verdict="not conformant", findings=findings))))
    assert sum(tag == "figure" for tag, _ in page.tags) == 3 * 40 + 1
    assert page.text.count("See it again") == 100
    assert "of the first 40 failures; those of the other 60 are in their case files" in page.text


@pytest.mark.parametrize("verdict", ["crash", "timeout", "error"])
@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12"), (98765.0, "9.9e4")])
def test_no_form_shows_a_ratio_beside_what_has_none(verdict: str, value: float, text: str) -> None:
    finding = make_finding(verdict, worst=worst_of(value))
    results = make_results(make_target(verdict="not conformant", findings=[finding]))
    results["targets"][0]["certified"]["worst_error_over_budget"] = None
    for name, form in rendering.FORMS.items():
        assert text not in re.sub(r"\d\.\d+s?(rem|em)", "", form(results)), name


def test_a_broken_contract_shows_no_ratio_of_the_examples_before_it() -> None:
    finding = make_finding("fail", worst=worst_of(0.123), counterexample=make_counterexample(comparison=None))
    assert "× budget" not in to_html(make_results(make_target(verdict="not conformant", findings=[finding])))
    finding = make_finding("fail", worst=worst_of("nan"), counterexample=make_counterexample(comparison=None))
    assert "nan × budget" in to_html(make_results(make_target(verdict="not conformant", findings=[finding])))


def test_html_links_every_matrix_entry_to_its_finding() -> None:
    results = failing()
    page = Page(to_html(results))
    linked = {attributes["href"] for tag, attributes in page.tags if tag == "a" and attributes.get("title")}
    assert len(linked) == len(results["targets"][0]["findings"])


def test_html_keeps_findings_of_one_place_apart() -> None:
    target = make_target(findings=[make_finding(), make_finding("fail")])
    page = Page(to_html(make_results(target)))
    assert sum(tag == "a" and attributes.get("title") is not None for tag, attributes in page.tags) == 2


def test_html_compares_several_targets_first() -> None:
    page = Page(to_html(three()))
    assert "3 targets: 1 certified, 1 not conformant, 1 no verdict" in page.text
    headings = [attributes.get("id") for tag, attributes in page.tags if tag == "h2"]
    assert headings == ["comparison", "t1-name", "t2-name", "t3-name", "provenance"]
    assert "pip install 'bpttcheck[torch]'" in page.text
    assert "6/6" in page.text
    assert "4/6" in page.text


def test_html_draws_what_is_zero_infinite_and_nan() -> None:
    values = [0.0, 1e-300, 0.5, 1.0, 2.0, 1e300, "inf", "nan", None]
    findings = [
        make_finding("pass" if i < 4 else "fail", worst=worst_of(value), picture=None) for i, value in enumerate(values)
    ]
    page = Page(to_html(make_results(make_target(verdict="not conformant", findings=findings))))
    assert sum(tag == "circle" for tag, _ in page.tags) == 4
    assert sum(tag == "path" for tag, _ in page.tags) == 4
    assert "4 of 8 findings lie above 1" in page.text


def test_html_draws_no_mark_on_the_wrong_side_of_the_line() -> None:
    values = [1.0, math.nextafter(1, 0), 0.99, math.nextafter(1, 2), 1.01]
    findings = [
        make_finding(
            "pass" if value <= 1 else "fail",
            worst=worst_of(value),
            picture=None,
        )
        for value in values
    ]
    page = Page(to_html(make_results(make_target(verdict="not conformant", findings=findings))))
    line = next(float(str(attributes["x1"])) for tag, attributes in page.tags if attributes.get("class") == "one")
    dots = [float(str(attributes["cx"])) for tag, attributes in page.tags if tag == "circle"]
    crosses = [float(str(attributes["d"])[1:].split()[0]) for tag, attributes in page.tags if tag == "path"]
    assert (len(dots), len(crosses)) == (3, 2)
    assert max(dots) < line <= min(crosses)


def test_html_draws_no_norm_that_is_near_its_bound() -> None:
    near, beyond = ({**worst_of(ratio_), "bound": "bound 0.5"} for ratio_ in (0.99, 3.0))
    findings = [make_finding(), make_finding(worst=near), make_finding("fail", worst=beyond, picture=None)]
    page = Page(to_html(make_results(make_target(verdict="not conformant", findings=findings))))
    assert [sum(tag == mark for tag, _ in page.tags) for mark in ("circle", "path")] == [1, 1]
    assert "1 of 2 findings lie above 1. Not drawn: 1 norms within their bounds." in page.text


def test_html_says_how_many_marks_a_stack_hides() -> None:
    page = to_html(make_results(make_target(findings=[make_finding()] * 100)))
    assert page.count("<circle") == 12
    assert "and 88 more here" in page


def test_html_without_any_measure_has_no_chart() -> None:
    assert "svg" not in {
        tag for tag, _ in Page(to_html(make_results(make_target(findings=[make_finding("crash")])))).tags
    }


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_html_escapes(text: str) -> None:
    results = hostile(text)
    validate(results)
    page = Page(to_html(results))
    harmless = Page(to_html(hostile("harmless")))
    kept = {"href", "id", "class"}
    assert [tag for tag, _ in page.tags if tag not in {"a", "wbr"}] == [
        tag for tag, _ in harmless.tags if tag not in {"a", "wbr"}
    ]
    assert {key for _, attributes in page.tags for key in attributes} <= {
        key for _, attributes in harmless.tags for key in attributes
    } | kept
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert all(link.startswith("#t") for link in links)
    assert_prints(page.text)
    assert " ".join(visible(text).split()) in page.text


@pytest.mark.parametrize("path", ["javascript:alert(1)", "//evil.example/x", "cases/../../x", "cases/a\nb", "cases/"])
def test_html_links_to_cases_only(path: str) -> None:
    results = failing()
    for finding in results["targets"][0]["findings"]:
        if finding["counterexample"]:
            finding["counterexample"].update(case=path, script=path, worst_case=path)
            finding["picture"]["case"] = path
    links = [str(attributes["href"]) for tag, attributes in Page(to_html(results)).tags if tag == "a"]
    assert all(link.startswith("#t") for link in links)


# JUnit.


def test_junit_counts_and_classifies() -> None:
    root = ET.fromstring(to_junit(three()))
    assert [suite.get("name") for suite in root] == ["numpy", "broken", "torch"]
    numpy, broken, torch = root
    counts = ("tests", "failures", "errors", "skipped")
    assert [numpy.get(key) for key in counts] == ["30", "0", "0", "0"]
    assert [broken.get(key) for key in counts] == ["30", "4", "1", "2"]
    assert [torch.get(key) for key in counts] == ["1", "0", "1", "0"]
    assert [root.get(key) for key in counts] == ["61", "4", "2", "2"]
    assert len(root.findall(".//failure")) == 4
    assert len(root.findall(".//error")) == 2
    assert len(root.findall(".//skipped")) == 2
    assert len(root.findall(".//testcase")) == 61
    first = broken.find("testcase")
    assert first is not None
    assert (first.get("classname"), first.get("name")) == ("broken.elman.float64", "oracle-agreement")
    failure = first.find("failure")
    assert failure is not None
    assert str(failure.get("message")).startswith("dW_hh[0,1]: got 0x1.8p-3")
    assert "replay: bpttcheck replay" in str(failure.text)
    assert "without the term t = 1" in str(failure.text)
    error = torch.find(".//error")
    assert error is not None
    assert "pip install 'bpttcheck[torch]'" in str(error.get("message"))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_junit_escapes(text: str) -> None:
    root = ET.fromstring(to_junit(hostile(text)).encode("utf-8"))
    assert {element.tag for element in root.iter()} == {
        *("testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped")
    }
    failure = root.find(".//failure")
    assert failure is not None
    assert visible(text) in str(failure.text)
    assert visible(text) in str(root[0].get("name"))
    assert_prints("".join(root.itertext()))


def test_junit_takes_seconds_that_are_no_number() -> None:
    results = passing()
    results["seconds"] = results["targets"][0]["findings"][0]["seconds"] = "nan"
    assert ET.fromstring(to_junit(results)).get("time") == "0.000"


# SARIF.


def test_sarif_holds_what_failed() -> None:
    results = three()
    results["targets"][1].update(kind="path", source={"file": "adapters/my broken.py", "sha256": None})
    log = json.loads(to_sarif(results))
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    run = log["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(PROPERTIES)
    assert len(run["results"]) == 5
    assert [result["level"] for result in run["results"]] == ["error"] * 4 + ["warning"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "adapters/my%20broken.py"
    first = run["results"][0]["message"]["text"]
    assert first.startswith("dW_hh[0,1]: got 0x1.8p-3")
    assert "without the term t = 1" in first
    assert first.count("replay: ") == 1
    assert len({result["partialFingerprints"]["finding/v1"] for result in run["results"]}) == 5


@pytest.mark.parametrize("file", ["/etc/passwd", "../up.py", None, "a/../../b.py"])
def test_sarif_places_nothing_outside(file: str | None) -> None:
    results = failing()
    results["targets"][0].update(kind="path", source={"file": file, "sha256": None})
    assert "physicalLocation" not in to_sarif(results)


@pytest.mark.parametrize("text", [*HOSTILE, "{0} [a](b)"], ids=range(len(HOSTILE) + 1))
def test_sarif_escapes(text: str) -> None:
    written = to_sarif(hostile(text))
    assert_prints(written)
    assert written.isascii()
    messages = [result["message"]["text"] for result in json.loads(written)["runs"][0]["results"]]
    assert not re.search(r"\]\(|(?<!\{)\{\d", "".join(messages))


# Markdown.


def test_markdown_says_it_in_short() -> None:
    text = to_markdown(three())
    assert "| `numpy` | ✓ **certified** | 30 of 30 | 3,000 | 99.9 % | 0.31 |" in text
    assert "| `broken` | ✗ **not conformant** | 23 of 29 | 3,000 | 99.9 % | 3.5e13 |" in text
    assert "| `torch` | ○ **no verdict** | 0 of 0 | 0 | – | – |" in text
    assert "| fail | `oracle-agreement` | `elman` `float64` | `dW_hh[0,1]` | 3.5e13 |" in text
    assert "`torch` has no verdict: `torch is not installed; pip install 'bpttcheck[torch]'`" in text
    assert "Replay: `bpttcheck replay reports/cases/3f2a.safetensors broken`" in text
    assert len(text) < 5000


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_markdown_escapes(text: str) -> None:
    rendered = to_markdown(hostile(text))
    assert_prints(rendered)
    assert len(rendered) < 65536
    harmless = to_markdown(hostile("harmless"))
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?\n\1$", "FENCED", rendered)
    assert outside.count("FENCED") == harmless.count("```text") == 2
    plain = re.sub(r"`[^`\n]*`|<code>[^<\n]*</code>", "CODE", outside)
    expected = re.sub(
        r"`[^`\n]*`|<code>[^<\n]*</code>", "CODE", re.sub(r"(?ms)^```text\n.*?\n```$", "FENCED", harmless)
    )
    assert plain == expected


@pytest.mark.parametrize("text", [*HOSTILE, "a\\|b", "a\\", "``", "a`", " ", "-"], ids=range(len(HOSTILE) + 6))
def test_markdown_code_stays_in_its_cell(text: str) -> None:
    inner = code(text)
    assert "|" not in inner
    assert "\n" not in inner
    assert re.fullmatch(r"`[^`\\<>&]+`|<code>[^`<>@*|\\\[\]!]*</code>|–", inner)


def test_markdown_fence_is_longer_than_any_inside() -> None:
    assert fenced("a\n`````\nb").startswith("``````text\n")
    assert fenced("a\n`````\nb").endswith("\n``````")


LEFT = f"({10**7 - MOST_TEXT} more characters)"


def test_load_cuts_texts_that_are_longer_than_any_of_ours(tmp_path: Path) -> None:
    results, long = make_results(make_target(findings=[make_finding("fail"), make_finding()])), "x" * 10**7
    finding = next(f for f in results["targets"][0]["findings"] if f["counterexample"])
    finding["message"] = finding["counterexample"]["stderr"] = long
    finding["notes"] = ["short", long]
    results["properties"][long] = "a statement"
    write(tmp_path, results)
    read = load(tmp_path)
    (found,) = (f for f in read["targets"][0]["findings"] if f["message"].startswith("xxx"))
    kept = "x" * MOST_TEXT
    for text in (found["message"], found["counterexample"]["stderr"], found["notes"][1], list(read["properties"])[-1]):
        assert text == f"{kept}… {LEFT}"
    assert found["notes"][0] == "short"
    assert all(LEFT in path.read_text("utf-8") for path in render(tmp_path) if path.name == "report.html")


def test_rendering_a_long_message_takes_no_more_memory_than_reading_it(tmp_path: Path) -> None:
    """The bytes, the text of them and the message are there at once, three times the file; forms hold a cut one."""
    results, size = make_results(make_target(findings=[make_finding("fail")])), 60 * 2**20
    results["targets"][0]["findings"][0]["message"] = "xy\n" * (size // 4)
    write(tmp_path, results)
    program = (
        "import resource, sys\n"
        "from conformance.render import render\n"
        "from pathlib import Path\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "render(Path(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 4.5 * size


def test_markdown_bounds_what_it_lists() -> None:
    targets = [make_target(f"target-{i}", "not conformant", findings=[make_finding("fail")] * 40) for i in range(40)]
    text = to_markdown(make_results(*targets))
    assert text.count("**not conformant**") == 12
    assert text.count("| fail |") == 12 * 12
    assert "28 more targets are in `report.html`" in text
    assert "28 more are in `report.html`" in text
    assert len(text) < 65536


def test_markdown_fits_a_comment_whatever_it_holds() -> None:
    bad = hostile("<" * 5000)["targets"][0]
    bad["findings"] = [bad["findings"][0]] * 40
    text = to_markdown(make_results(*[bad] * 40))
    assert len(text) <= 65536
    assert "more targets are in `report.html`" in text


# The badge.


@pytest.mark.parametrize(
    ("verdicts", "value"),
    [
        (["certified"], "certified"),
        (["certified", "certified"], "certified"),
        (["not conformant"], "not conformant"),
        (["no verdict"], "no verdict"),
        ([], "no verdict"),
        (["certified", "not conformant", "no verdict"], "1 of 3 certified"),
        (["no verdict", "not conformant"], "not conformant"),
    ],
)
def test_badge_says_the_verdict(verdicts: list[str], value: str) -> None:
    targets = [make_target(f"target-{i}", verdict) for i, verdict in enumerate(verdicts)]
    root = ET.fromstring(to_badge(make_results(*targets)))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert texts == ["bptt", value]
    assert root.get("aria-label") == f"bptt: {value}"


def test_badge_is_green_only_where_all_is_certified() -> None:
    green = to_badge(passing())
    fill = re.findall('fill="(#[0-9a-f]{6})"', green)[-1]
    assert fill not in to_badge(failing())
    assert fill not in to_badge(three())


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_badge_escapes(text: str) -> None:
    root = ET.fromstring(badge(text, text, text).encode("utf-8"))
    assert [element.tag.split("}")[1] for element in root.iter()] == [
        "svg",
        "title",
        "rect",
        "path",
        "g",
        "text",
        "text",
    ]


# The terminal.


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_terminal_table_fits_80_columns() -> None:
    text = to_text(three())
    assert re.search(r"numpy +certified +30/30 +3,000 +99.9 % +0.31", text)
    assert re.search(r"broken +not conformant +23/29 +3,000 +99.9 % +3.5e13", text)
    assert "torch: torch is not installed; pip install 'bpttcheck[torch]'" in text
    assert "fail  broken · oracle-agreement · elman · float64" in text
    assert "diagnosis: dW_hh equals the oracle's gradient without the term t = 1" in text
    assert text.count("replay: bpttcheck replay reports/cases/3f2a.safetensors broken") == 2
    rows = [line for line in text.split("\n") if "replay" not in line]
    assert max(map(len, rows)) <= 80
    assert "0.1.0 · standard · seed 0 · 2 min 5 s" in text


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_table_keeps_every_column_of_a_long_name(width: int) -> None:
    name = "tests/mutants/elman.py:" + "recurrent_weight_overwritten" * 4
    text = to_text(make_results(make_target(name, "not conformant"), make_target("numpy")), width=width)
    table = text.split("\n\n")[0].split("\n")
    assert max(map(len, table)) <= width
    assert "tests/" in text
    assert "written" in table[-2]
    for part in ("not conformant", "23/29", "3,000", "99.9 %", "3.5e13"):
        assert part in table[-2]
    for heading in ("target", "verdict", "passed", "examples", "conclusive", "error÷budget"):
        assert heading in text


def test_terminal_prints_markup_as_it_is() -> None:
    text = to_text(make_results(make_target("[red]a[/] :smile:")))
    assert text.split("\n")[2].startswith("[red]a[/] :smile:  certified")


def test_terminal_without_a_terminal_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    print_summary(three(), stream)
    assert stream.getvalue() == to_text(three())
    assert_prints(stream.getvalue())
    assert capsys.readouterr().out == ""


def test_terminal_is_coloured_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    coloured, plain = Terminal(), Terminal()
    print_summary(three(), coloured)
    assert "\x1b[1;31mnot conformant" in coloured.getvalue()
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured.getvalue()) == to_text(three())
    monkeypatch.setenv("NO_COLOR", "1")
    print_summary(three(), plain)
    assert plain.getvalue() == to_text(three())


def test_terminal_ignores_forced_colour_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    print_summary(three(), stream)
    assert_prints(stream.getvalue())


def test_terminal_takes_a_stream_that_knows_ascii_only() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_summary(three(), stream)
    stream.flush()
    assert b"error/budget" in raw.getvalue()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_terminal_escapes(text: str) -> None:
    results = hostile(text)
    plain = to_text(results)
    assert_prints(plain)
    coloured = re.sub("\x1b\\[[0-9;]*m", "", to_text(results, colour=True))
    assert_prints(coloured)
    assert coloured == plain
    if len(text) < 100:
        assert visible(text) in plain


def test_terminal_lists_ten_failures() -> None:
    target = make_target("broken", "not conformant", findings=[make_finding("fail")] * 25)
    text = to_text(make_results(target))
    assert text.count("oracle-agreement · elman · float64\n  dW_hh") == 10
    assert "and 15 more, in report.html" in text


# The rules they share.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ÷ text", "plain ÷ text"),
        ("\x1b[0m", "\\x1b[0m"),
        ("a\x00b\x7f", "a\\x00b\\x7f"),
        ("\u202e", "\\u202e"),
        ("\U000e0001", "\\U000e0001"),
        ("\ud800", "\\ud800"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
    ],
    ids=["plain", "escape", "nul", "override", "tag", "surrogate", "lines"],
)
def test_visible_shows_what_does_not_print(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_visible_keeps_lines_where_asked() -> None:
    assert visible("a\r\nb\tc\rd", lines=True) == "a\nb   c\\x0dd"


def test_shorten_and_clip_bound() -> None:
    assert shorten("abcdefgh", 8) == "abcdefgh"
    assert shorten("abcdefghi", 8) == "abcd…ghi"
    assert clip("1\n2\n3\n4", 2, 10) == "1\n2\n… 2 more lines"
    assert clip("1\n2\n3", 2, 10) == "1\n2\n3"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.314, "0.31"),
        (1, "1"),
        (1.0000001, ">1"),
        (0.9999999, "<1"),
        (1.004, "1.004"),
        (0.99, "0.99"),
        (3.5e13, "3.5e13"),
        (1.2e-9, "1.2e-9"),
        ("inf", "inf"),
        ("nan", "nan"),
        (None, "–"),
    ],
)
def test_ratio_never_hides_an_excess(value: float | str | None, text: str) -> None:
    assert ratio(value) == text


@pytest.mark.parametrize(("share", "text"), [(1, "100 %"), (0.99999, "99.9 %"), (0.9, "90 %"), (0, "0 %"), (None, "–")])
def test_percent_rounds_down(share: float | None, text: str) -> None:
    assert percent(share) == text
