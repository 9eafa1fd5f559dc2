"""What a command says where it hardly can: to a reader who has left, on a full disk, of names that are no text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conformance.cli import main
from conformance.workers import _size

ADAPTER = """
SUPPORTS = {"cells": ["elman"]}
def gradients(problem):
    %s
"""
NAN = 'return {"loss": problem.x.sum() * float("nan"), "dx": problem.x * float("nan")}'
QUICK = ("--profile", "smoke", "--select", "norm-preservation", "--jobs", "1", "-q")


def adapter(folder: Path, line: str) -> str:
    """The path of an adapter with one line in it."""
    path = folder / "mine.py"
    path.write_text(ADAPTER % line, encoding="utf-8")
    return str(path)


def shell(line: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; $1 is Python, and what is given comes after it."""
    command = ["bash", "-c", line, "bash", sys.executable, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("target", "status"), [("numpy", 0), ("mine.py", 1)])
def test_a_reader_who_has_left_changes_no_verdict(target, status, tmp_path):
    adapter(tmp_path, NAN)
    line = '"$1" -P -m conformance certify "${@:2}" | true; exit ${PIPESTATUS[0]}'
    run = shell(line, tmp_path, target, *QUICK)
    assert (run.returncode, run.stderr) == (status, "")


def test_closed_output_is_no_fault(tmp_path):
    run = shell('"$1" -P -m conformance certify numpy "${@:2}" >&-', tmp_path, *QUICK)
    assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "reports" / "report.html").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_full_output_is_named(tmp_path):
    run = shell('"$1" -P -m conformance certify numpy "${@:2}" > /dev/full', tmp_path, *QUICK)
    assert (run.returncode, run.stderr) == (2, "bpttcheck: standard output: No space left on device\n")
    for buffered in ("PYTHONUNBUFFERED=", "PYTHONUNBUFFERED=1"):
        run = shell(f'{buffered} "$1" -P -m conformance list properties > /dev/full', tmp_path)
        assert (run.returncode, run.stderr) == (2, "bpttcheck: standard output: No space left on device\n")


def test_words_that_are_no_text_are_refused(capsys):
    assert main(["certify", "numpy", *QUICK, "--report-dir", "\udcff"]) == 2
    assert capsys.readouterr().err == "bpttcheck: \\udcff: not UTF-8; expected names in UTF-8 alone\n"


@pytest.mark.parametrize(
    ("name", "said"), [("report.html", "report.html is a folder"), ("cases", "cases: it is a file")]
)
def test_what_is_in_the_way_of_a_report_is_said_before_the_run(name, said, tmp_path, capsys):
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / name).touch() if name == "cases" else (reports / name).mkdir()
    assert main(["certify", adapter(tmp_path, NAN), *QUICK, "--report-dir", str(reports)]) == 2
    assert said in (err := capsys.readouterr().err)
    assert err.endswith("move it away\n")
    assert [path.name for path in reports.iterdir()] == [name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'[tool.bpttcheck.implementations.numpy]\ntarget = "mine.py"\n', "the name of a built-in target"),
        (b'[tool.bpttcheck.implementations.m]\ntarget = "\xff.py"\n', "not UTF-8, which TOML is"),
    ],
)
def test_tables_that_would_not_be_read_are_refused(text, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "pyproject.toml").write_bytes(text)
    monkeypatch.chdir(tmp_path)
    assert main(["certify", "numpy", *QUICK]) == 2
    assert said in capsys.readouterr().err


def test_a_command_that_only_repeats_is_told_so(tmp_path, monkeypatch, capsys):
    table = '[tool.bpttcheck.implementations.m]\ncommand = ["cat"]\n'
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["certify", "m", *QUICK]) == 2
    assert "answered start with a message of type 'start', expected 'started'" in capsys.readouterr().err


def test_the_reason_of_a_target_that_declines_everything_is_said(tmp_path, capsys):
    target = adapter(tmp_path, 'raise NotImplementedError("not on Sundays")')
    assert main(["certify", target, *QUICK, "--report-dir", str(tmp_path / "reports")]) == 3
    assert "nothing was executed: not on Sundays" in " ".join(capsys.readouterr().out.split())


def test_memory_is_told_in_units_that_fit():
    assert [_size(n) for n in (1, 300 << 20, 4 << 30)] == ["9.54e-07 MiB", "300 MiB", "4.0 GiB"]
