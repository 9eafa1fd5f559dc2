"""The README's adapter and its claims: it certifies as it stands, and fails once the line it names is broken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.cli import main

README = Path(__file__).parent.parent / "README.md"


def adapter() -> str:
    """The one Python block of the README."""
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(block)


def certify(folder: Path, source: str) -> tuple[int, dict]:
    """(exit status, results) of the README's command on an adapter."""
    (folder / "mine.py").write_text(source, encoding="utf-8")
    command = [str(Path(sys.executable).parent / "bpttcheck"), "certify", "mine.py", "--profile", "smoke"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, json.loads((folder / "reports" / "results.json").read_text())


def test_readme_adapter_is_certified(tmp_path):
    status, results = certify(tmp_path, adapter())
    assert status == 0
    assert results["targets"][0]["verdict"] == "certified"
    assert (tmp_path / "reports" / "report.html").is_file()


def test_readme_adapter_with_the_broken_line_fails_on_the_smallest_problem(tmp_path):
    source = adapter()
    broken = source.replace("dW_hh += h[t].T @ delta", "dW_hh += h[t + 1].T @ delta")
    assert broken != source
    status, results = certify(tmp_path, broken)
    assert status == 1
    failed = [f for f in results["targets"][0]["findings"] if f["verdict"] == "fail"]
    assert "oracle-agreement" in {f["property"] for f in failed}
    for finding in failed:
        problem = finding["counterexample"]["problem"]
        assert problem["T"] <= 2
        assert [problem[name] for name in "BDH"] == [1, 1, 1]


@pytest.mark.parametrize("command", re.findall(r"`bpttcheck (list \w+)`", README.read_text(encoding="utf-8")))
def test_readme_commands_run(capsys, command):
    assert main(command.split()) == 0
    assert capsys.readouterr().out
