"""Registered implementations: tables of a pyproject.toml and entry points; failures that are expected, strictly."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from conformance.cli import main
from conformance.errors import UsageError
from conformance.registered import GROUP, Expected, registered
from conformance.targets import forget, resolve

ADAPTERS = Path(__file__).parent / "adapters"
RIGHT = f"{ADAPTERS / 'misbehaving.py'}:right"
WRONG = f"{ADAPTERS / 'misbehaving.py'}:raises_exit"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes tables into a folder's pyproject.toml and goes to a folder below it."""

    def write(text: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(text)
        return tmp_path

    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    yield write
    forget()


def table(**fields: object) -> str:
    lines = [f"{name.replace('_', '-')} = {json.dumps(value)}" for name, value in fields.items()]
    return "[tool.bpttcheck.implementations.mine]\n" + "\n".join(lines) + "\n"


def test_table_is_read_with_paths_beside_it(project):
    folder = project(
        table(target="adapters/mine.py:f", python=".venv/bin/python", timeout=3, memory="1.5 GiB")
        + "[[tool.bpttcheck.implementations.mine.expected-failures]]\nproperty = 'extremes'\nreason = 'flushes'\n"
    )
    mine = registered()["mine"]
    assert mine.target == str(folder / "adapters" / "mine.py:f")
    assert mine.python == str(folder / ".venv/bin/python")
    assert (mine.seconds, mine.memory) == (3.0, 3 << 29)
    assert mine.expected == (Expected("extremes", "flushes"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (table(), "expected a target or a command"),
        (table(target="a.py", command=["b"]), "expected a target or a command"),
        (table(target=3), "target: got 3"),
        (table(command=[]), "command: got"),
        (table(command="./worker"), "command: got"),
        (table(target="a.py", timeout=-1), "timeout: got -1"),
        (
            table(target="a.py", timeout=1e300),
            "timeout: got 1e+300, expected a number of seconds above 0, at most 86400",
        ),
        (table(target="a.py", memory="4 gigs"), "expected a size such as '4 GiB'"),
        (table(target="a.py", memory="0 GiB"), "expected a size"),
        (table(target="a.py", colour="red"), "the field 'colour' is not known"),
        (table(target="a.py", expected_failures="all"), "expected-failures: got 'all'"),
        (table(target="a.py", expected_failures=[]).replace("[]", "[{property = 'memroy', reason = 'x'}]"), "'memroy'"),
        (table(target="a.py", expected_failures=[]).replace("[]", "[{property = 'memory'}]"), "a reason is missing"),
        ("[tool.bpttcheck.implementations]\nmine = 3\n", "got int, expected a table"),
        ("[tool.bpttcheck]\nimplementations = 3\n", "expected one table an implementation"),
        ("[tool", "not TOML"),
    ],
)
def test_wrong_tables_get_one_line(project, text, said, capsys):
    project(text)
    assert main(["certify", "mine"]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert "pyproject.toml" in line


def test_other_tables_are_none_of_our_business(project):
    project("[tool.other]\nx = 1\n")
    assert "mine" not in registered()
    project("[project]\nname = 'x'\n")
    assert "mine" not in registered()


def test_entry_point_is_a_target(project, monkeypatch):
    point = importlib.metadata.EntryPoint("theirs", "misbehaving:right", GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == GROUP else [])
    monkeypatch.setenv("PYTHONPATH", str(ADAPTERS))
    project("")
    assert registered()["theirs"].target == "misbehaving:right"
    with pytest.raises(UsageError, match="theirs"):
        resolve("somebody")  # the names that exist are said
    target = registered()["theirs"]
    assert target.command is None


def certify(folder: Path, *words: str) -> dict[str, object]:
    main(["certify", "mine", "--profile", "smoke", "--report-dir", str(folder / "reports"), *words])
    return json.loads((folder / "reports" / "results.json").read_text())["targets"][0]


def expecting(target: str, *properties: str) -> str:
    some = ", ".join(f"{{property = '{name}', reason = 'known', issue = '#1'}}" for name in properties)
    return table(target=target, expected_failures=[]).replace("[]", f"[{some}]")


def test_expected_failure_does_not_count_and_is_said(project):
    folder = project(expecting(WRONG, "shapes"))
    result = certify(folder, "--select", "shapes,causality")
    assert result["verdict"] == "not conformant"  # causality fails too, and nobody expected that
    folder = project(expecting(WRONG, "shapes", "causality"))
    result = certify(folder, "--select", "shapes,causality,jacobian-norm-bound")
    assert {finding["expected"] for finding in result["findings"]} >= {"shapes: known (#1)", "causality: known (#1)"}
    assert "fails as expected: shapes: known (#1)" in result["notes"]


def test_expectation_that_is_not_met_is_no_verdict(project):
    folder = project(expecting(RIGHT, "memory"))
    result = certify(folder, "--select", "memory")
    assert (result["verdict"], result["reason"]) == (
        "no verdict",
        "expected-failures: memory did not fail; remove it (known)",
    )
    folder = project(expecting(RIGHT, "shapes"))
    assert "no finding is of shapes" in str(certify(folder, "--select", "memory")["reason"])


def test_command_in_process_is_refused(project, capsys):
    project(table(command=[sys.executable, "x.py"]))
    assert main(["certify", "mine", "--in-process"]) == 2
    assert "is a command" in capsys.readouterr().err
