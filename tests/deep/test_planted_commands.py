"""The whole command on every planted bug: exit status 1, shrunk case, script and replay (`tox -e teeth`)."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.cli import main

MUTANTS = Path(__file__).parent.parent / "mutants"


def planted(table: str) -> dict[str, object]:
    """A table of planted bugs."""
    sys.path.append(str(MUTANTS))
    spec = importlib.util.spec_from_file_location(f"planted_{table}", MUTANTS / f"{table}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return dict(module.PLANTED)


PLANTED = {(table, name): bug for table in ("elman", "lstm") for name, bug in planted(table).items()}


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
