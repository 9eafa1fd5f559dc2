"""The whole command on every planted bug: exit status 1, shrunk case, script and replay (`tox -e teeth`)."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.cli import main
from tests.loading import load

MUTANTS = Path(__file__).parent.parent / "mutants"


PLANTED = {(table, name): bug for table in ("elman", "lstm") for name, bug in load("mutants", table).PLANTED.items()}


@pytest.mark.parametrize(("table", "name"), sorted(PLANTED))
def test_planted_bug_fails_certify_and_its_replay(table, name, tmp_path, capsys):
    target = f"{MUTANTS / table}.py:{name}"
    caught_by = PLANTED[table, name].caught_by
    status = main(["certify", target, "--profile", "standard", "--select", caught_by, "--report-dir", str(tmp_path)])
    assert status == 1
    results = json.loads((tmp_path / "results.json").read_text())
    findings = [f for f in results["targets"][0]["findings"] if f["verdict"] in ("fail", "crash")]
    assert findings
    counterexample = findings[0]["counterexample"]
    assert (tmp_path / counterexample["case"]).is_file()
    capsys.readouterr()
    words = shlex.split(counterexample["replay"])
    replayed = subprocess.run(
        [str(Path(sys.executable).parent / "bpttcheck"), *words[1:]], capture_output=True, text=True, check=False
    )
    assert replayed.returncode == 1, replayed.stdout + replayed.stderr
    script = subprocess.run(
        [sys.executable, "-I", str(tmp_path / counterexample["script"])], capture_output=True, text=True, check=False
    )
    assert script.returncode == 1, script.stdout + script.stderr
