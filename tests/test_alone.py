"""One run a report directory at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conformance.alone import alone
from conformance.cli import main
from conformance.errors import UsageError

pytest.importorskip("fcntl", reason="there are no such locks here")


def test_second_run_in_a_directory_is_refused_and_a_later_one_is_not(tmp_path):
    with alone(tmp_path), pytest.raises(UsageError, match="another run is writing there"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_certify_says_so_in_one_line_and_leaves_the_report(capsys, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with alone(tmp_path):
        status = main(["certify", "numpy", "--select", "memory", "--profile", "smoke", "--report-dir", str(tmp_path)])
    said = capsys.readouterr().err
    assert (status, said.count("\n")) == (2, 1)
    assert "another run is writing there; wait for its end, or name another directory" in said
    assert (tmp_path / "results.json").read_text() == "{}"


def test_interrupt_while_modules_are_loaded_is_one_line(tmp_path):
    (tmp_path / "conformance").mkdir()
    source = Path(sys.modules["conformance"].__file__).with_name("__main__.py").read_text()
    (tmp_path / "conformance" / "__init__.py").touch()
    (tmp_path / "conformance" / "__main__.py").write_text(source)
    (tmp_path / "conformance" / "cli.py").write_text("raise KeyboardInterrupt")
    command = [sys.executable, "-c", "import runpy, sys; sys.path.insert(0, '.'); runpy.run_module('conformance')"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "bpttcheck: interrupted\n")
