"""The files in examples/ci and the page about them: they parse, and the commands in them do what they say."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.cli import build_parser

ROOT = Path(__file__).parent.parent
CI = ROOT / "examples" / "ci"
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
yaml = pytest.importorskip("yaml", reason="the examples for GitHub Actions and pre-commit are YAML: pip install pyyaml")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's project: adapters/mine.py, and the command on PATH."""
    (tmp_path / "adapters").mkdir()
    shutil.copy(ROOT / "tests" / "adapters" / "good.py", tmp_path / "adapters" / "mine.py")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "bpttcheck"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m conformance "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name in ("SUMMARY", "OUTPUT"):
        monkeypatch.setenv(f"GITHUB_{'STEP_' if name == 'SUMMARY' else ''}{name}", str(tmp_path / name))
    monkeypatch.setenv("GITHUB_RUN_NUMBER", "7")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def workflow():
    return yaml.safe_load((CI / "github-actions.yml").read_text())


def step(job, name):
    """The script of a step."""
    (found,) = (one for one in workflow()["jobs"][job]["steps"] if one.get("name") == name)
    return found["run"]


def shell(script, **variables):
    """The exit status of a script, run as GitHub runs it, on properties that are quick."""
    environment = os.environ | workflow()["env"] | {"PROFILE": "smoke"} | variables
    quick = script.replace('"$TARGET"', '"$TARGET" --select memory,repeatability')
    done = subprocess.run(["bash", "-e", "-c", quick], check=False, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode


def test_workflow_is_a_workflow():
    told = workflow()
    assert set(told) == {"name", True, "permissions", "env", "jobs"}  # YAML reads `on` as true
    for name, job in told["jobs"].items():
        assert {"if", "runs-on", "timeout-minutes", "steps"} == set(job), name
        for one in job["steps"]:
            assert ("uses" in one) != ("run" in one), one
            assert re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v\d+", one.get("uses", "actions/checkout@v4"))
    steps = [one for job in told["jobs"].values() for one in job["steps"] if "uses" in one]
    saved, read = ([s["with"] for s in steps if f"cache/{what}@" in s["uses"]] for what in ("save", "restore"))
    assert saved
    for cache in saved:  # what is saved is found again: by the key, or by what it starts with
        assert any(r["path"] == cache["path"] and cache["key"].startswith(r["restore-keys"]) for r in read)


def test_workflow_certifies_compares_and_keeps(project):
    assert shell(step("certify", "week")) == 0
    assert re.fullmatch(r"number=\d{4}-\d\d\n", (project / "OUTPUT").read_text())
    assert shell(step("certify", "certify")) == 0
    assert shell(step("certify", "summary")) == 0
    assert "certified" in (project / "SUMMARY").read_text()
    assert shell(step("certify", "compare")) == 0  # there is no baseline yet
    assert shell(step("certify", "baseline")) == 0
    wrong = "adapters/mine.py:loses_last_step"
    assert shell(step("certify", "certify"), TARGET=wrong) == 1
    assert shell(step("certify", "compare")) == 1
    (project / "cases").mkdir()
    case = next((project / "reports" / "cases").glob("*.safetensors"))
    case.rename(project / "cases" / case.name)
    assert shell(step("certify", "certify")) == 0  # with the case that was committed
    assert '"--cases=found"' in (project / "reports" / "results.json").read_text()


def test_workflow_explores(project):
    script = step("explore", "explore").replace("--minutes 30", "--minutes 0.02")
    assert shell(script) == 0
    assert shell(script, TARGET="adapters/mine.py:loses_last_step") == 1
    assert list((project / "found").glob("*.safetensors"))


def test_hook_runs(project):
    ((hook,),) = (repo["hooks"] for repo in yaml.safe_load((CI / "pre-commit-config.yaml").read_text())["repos"])
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    assert re.match(hook["files"], "adapters/mine.py")
    words = [*shlex.split(hook["entry"]), "--select", "memory"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (project / ".bpttcheck" / "report.html").is_file()


def test_tox_environment_runs(project):
    told = configparser.ConfigParser()
    told.read(CI / "tox.ini")
    (name,) = told.sections()
    assert name == "testenv:gradients{,-smoke}"
    lines = [line for line in told[name]["commands"].splitlines() if line]
    factors = dict(line.split(": ", 1) for line in lines)
    assert set(factors) == {"!smoke", "smoke"}
    text = factors["smoke"].replace("{env_tmp_dir}", "tmp").replace("{posargs}", "--select memory")
    assert subprocess.run(shlex.split(text), check=False, capture_output=True).returncode == 0
    assert (project / "tmp" / "reports" / "report.html").is_file()
    build_parser().parse_args(shlex.split(factors["!smoke"].replace("{posargs}", ""))[1:])


def test_test_of_the_page_is_the_example_and_passes(project):
    (page,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert re.findall(r"import \w+|def .*|bpttcheck\.assert_conformant\(\"[^\"]*\"", page) == re.findall(
        r"import \w+|def .*|bpttcheck\.assert_conformant\(\"[^\"]*\"", (CI / "test_gradients.py").read_text()
    )
    shutil.copy(CI / "test_gradients.py", project)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_gradients.py"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("line", re.findall(r"`(bpttcheck [a-z]+[^`\n]*)`|^(bpttcheck .*)$", PAGE, re.MULTILINE))
def test_commands_of_the_page_parse(line):
    words = shlex.split("".join(line))[1:]
    if words[-1:] == ["--help"] or len(words) == 1:
        words = [words[0], "--help"]
    if words[-1] == "--help":
        with pytest.raises(SystemExit, match=r"^0$"):
            build_parser().parse_args(words)
    else:
        build_parser().parse_args(words)


def test_no_database_of_hypothesis_is_left_behind(project):
    subprocess.run(["bpttcheck", "certify", "adapters/mine.py", "--profile", "smoke", "--select", "memory"], check=True)
    assert {path.name for path in project.iterdir()} == {"adapters", "bin", "reports"}
