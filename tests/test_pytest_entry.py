"""bpttcheck from a user's own pytest: assert_conformant, the plugin's option, and what both cost unused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bpttcheck

GOOD = Path(__file__).parent / "adapters" / "good.py"
QUICK = {"profile": "smoke", "select": ["memory", "zero-initial-state"], "jobs": 1}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A user's folder with an adapter; temporary folders go beside it."""
    shutil.copy(GOOD, tmp_path / "mine.py")
    (tmp_path / "temporary").mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)


def kept():
    """The temporary folders that are there."""
    return [path for path in Path("temporary").iterdir() if path.name.startswith("bpttcheck-")]


def run_pytest(*words, **variables):
    """(exit status, output) of a pytest of the user's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | variables
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_assert_conformant_passes_and_leaves_nothing():
    bpttcheck.assert_conformant("mine.py", **QUICK)
    assert kept() == []


def test_assert_conformant_says_where_why_and_how_to_see_it_again():
    with pytest.raises(bpttcheck.NotConformant) as caught:
        bpttcheck.assert_conformant(Path("mine.py:loses_last_step"), **QUICK)
    text = str(caught.value)
    assert text.startswith("mine.py:loses_last_step is not conformant: 1 of 1 finding failed (profile smoke, seed 0)")
    assert re.search(r"  dW_hh\[0,0\]: got \S+, want \S+ .*; off by .* ulp, budget .* ulp\n", text)
    assert "diagnosis: dW_hh: the term of the last step" in text
    (report,) = re.findall(r"^report: (.*)$", text, re.MULTILINE)
    assert Path(report).is_file()
    (replay,) = re.findall(r"replay: bpttcheck (.*)", text)
    command = f'"{sys.executable}" -P -m conformance {replay}'
    assert subprocess.run(command, shell=True, check=False, stdout=subprocess.DEVNULL).returncode == 1  # noqa: S602


def test_assert_conformant_tells_no_verdict_and_bad_usage_apart():
    with pytest.raises(bpttcheck.NoVerdict, match=r"mine.py: no verdict: nothing was executed: .* \(profile smoke"):
        bpttcheck.assert_conformant("mine.py", profile="smoke", select="zero-initial-state")
    for options, said in (
        ({"target": "nowhere.py"}, "there is no file nowhere.py"),
        ({"target": "mine.py", "select": "memoy"}, "property 'memoy' is not known"),
        ({"target": "--help"}, "target '--help' is not known"),
        ({"target": "mine.py", "python": "no/such/python"}, "no such program"),
    ):
        before = len(kept())
        with pytest.raises(bpttcheck.BadUsage, match=re.escape(said)) as caught:
            bpttcheck.assert_conformant(**options)
        assert "\n" not in str(caught.value)
        assert len(kept()) == before
    assert not issubclass(bpttcheck.BadUsage, AssertionError)


def test_assert_conformant_passes_every_option_on(monkeypatch):
    said = []
    monkeypatch.setattr(bpttcheck, "_call", lambda words: said.append(list(words)) or (0, "", ""))
    options = {"profile": "thorough", "select": ("a", "b"), "seed": 7, "python": Path("py"), "timeout": 2.5}
    bpttcheck.assert_conformant("mine.py", **options, report_dir="out", jobs=3, cases=Path("cases"))
    (words,) = said
    assert words == [
        "certify",
        "--quiet",
        "--report-dir=out",
        "--profile=thorough",
        "--select=a,b",
        "--seed=7",
        "--python=py",
        "--timeout=2.5",
        "--jobs=3",
        "--cases=cases",
        "--",
        "mine.py",
    ]


def test_assert_conformant_takes_no_older_report_for_its_own(monkeypatch):
    Path("out").mkdir()
    Path("out/results.json").write_text('{"targets": []}')
    monkeypatch.setattr(bpttcheck, "_call", lambda words: (3, "", f"bpttcheck: {words[0]} broke"))
    with pytest.raises(bpttcheck.NoVerdict, match="no verdict: certify broke"):
        bpttcheck.assert_conformant("mine.py", report_dir="out")


def test_messages_show_nothing_that_moves_a_cursor():
    evil = "\x1b[2J\u202e"
    run = bpttcheck._Run("out", 1, "")
    run.results = {"profile": "smoke", "seed": 0}
    finding = {"property": evil, "cell": evil, "dtype": evil, "verdict": "fail", "message": evil}
    finding["counterexample"] = {"replay": evil + "x"}
    text = bpttcheck._verdict_text({"name": evil, "verdict": "not conformant", "findings": [finding] * 5}, run)
    assert text.replace("\n", "").isprintable()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_interrupted_assertion_ends_the_run():
    code = "import bpttcheck; bpttcheck.assert_conformant('mine.py', profile='thorough', report_dir='out')"
    environment = os.environ | {"PYTHONFAULTHANDLER": ""}
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background have it ignored
    test = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=environment)
    signal.signal(signal.SIGINT, ours)
    while not Path("out/unfinished.jsonl").exists():
        time.sleep(0.05)
        assert test.poll() is None
    test.send_signal(signal.SIGINT)
    assert test.wait() != 0
    assert '"incomplete"' in Path("out/results.json").read_text()  # it was told, and had time to write


def test_plugin_makes_a_test_of_each_property_and_of_the_verdict():
    Path("test_mine.py").write_text("def test_of_my_own():\n    pass\n")
    words = ["--bpttcheck", "mine.py", "--bpttcheck", "mine.py:loses_last_step", "--bpttcheck-profile", "smoke"]
    words += ["--bpttcheck-select", "memory,jacobian-norm-bound,zero-initial-state", "--bpttcheck-jobs", "1"]
    status, out = run_pytest(*words)
    assert status == 1
    told = re.findall(r"^(PASSED|FAILED|SKIPPED)\s(?:\[1\] )?(\S+(?: mine\S+ \S+)?)", out, re.MULTILINE)
    mine, wrong = "bpttcheck::mine.py::", "bpttcheck::mine.py:loses_last_step::"
    assert {("PASSED", "test_mine.py::test_of_my_own"), ("PASSED", f"{mine}memory"), ("PASSED", f"{mine}verdict")} <= {
        *told
    }
    assert {("FAILED", f"{wrong}memory"), ("FAILED", f"{wrong}verdict"), ("PASSED", f"{wrong}jacobian-norm-bound")} <= {
        *told
    }
    assert "needs h0_none" in out
    assert "2 failed, 5 passed, 2 skipped" in out
    assert out.count("diagnosis: dW_hh: the term of the last step") == 1  # the verdict names what its properties show
    assert "Traceback" not in out
    (folder,) = kept()
    assert f"report: {folder.absolute()}/report/report.html" in out
    assert (folder / "report" / "report.html").is_file()


def test_plugin_asks_only_what_is_chosen_and_cleans_up():
    words = ["--bpttcheck", "mine.py", "--bpttcheck-profile", "smoke", "-k", "memory or jacobian", "-m", "bpttcheck"]
    status, out = run_pytest(*words, "-W", "error", "--strict-markers")
    assert (status, "2 passed, " in out) == (0, True), out
    assert kept() == []


def test_plugin_asks_once_for_all_processes_of_xdist():
    pytest.importorskip("xdist")
    words = ["--bpttcheck", "mine.py", "--bpttcheck-profile", "smoke", "--bpttcheck-jobs", "1", "-n", "2"]
    log = Path("asked").absolute()
    Path("mine.py").write_text(GOOD.read_text() + f"\nopen({str(log)!r}, 'a').write('asked ')\n")
    status, out = run_pytest(*words, "--bpttcheck-select", "memory,jacobian-norm-bound")
    assert (status, "3 passed" in out) == (0, True), out
    assert log.read_text().count("asked") == 3  # once when it is named, once for each property: by one run
    assert kept() == []


def test_plugin_expects_what_is_expected():
    Path("pyproject.toml").write_text(
        '[tool.bpttcheck.implementations.known]\ntarget = "mine.py:loses_last_step"\n'
        'expected-failures = [{property = "memory", reason = "the last step is lost", issue = "#1"}]\n'
    )
    words = ["--bpttcheck", "known", "--bpttcheck-profile", "smoke", "--bpttcheck-select", "memory,jacobian-norm-bound"]
    status, out = run_pytest(*words)
    assert (status, "2 passed, 1 xfailed" in out) == (0, True), out
    assert "the last step is lost (#1)" in out


def test_plugin_can_be_left_out():
    Path("test_mine.py").write_text("def test_of_my_own():\n    pass\n")
    status, out = run_pytest("-p", "no:bpttcheck")
    assert (status, "1 passed" in out) == (0, True), out
    status, out = run_pytest("-p", "no:bpttcheck", "--bpttcheck", "mine.py")
    assert status == 4
    assert "unrecognized arguments" in out


IMPORTS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pytest", "_pytest", "pluggy"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import bpttcheck
print(*sorted(sys.modules))
"""


def test_module_imports_without_pytest_and_without_anything_of_ours():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"bptt", "oracle", "implementations", "properties", "conformance"}
    heavy = {
        "numpy",
        "hypothesis",
        "mpmath",
        "flint",
        "rich",
        "jsonschema",
        "jinja2",
        "importlib",
        "tempfile",
        "shutil",
    }
    code = "import sys; print(*sys.modules)"
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (loaded - {name.partition(".")[0] for name in plain.stdout.split()}) & heavy


def test_unused_plugin_loads_nothing_of_ours():
    Path("test_mine.py").write_text(
        "import sys\n\ndef test_what_is_loaded():\n"
        "    assert 'bpttcheck' in sys.modules\n"
        "    assert not {'bptt', 'oracle', 'properties', 'conformance', 'numpy', 'hypothesis'} & set(sys.modules)\n"
    )
    status, out = run_pytest("-p", "no:hypothesispytest", "-p", "no:xdist")
    assert status == 0, out


def test_assert_conformant_refuses_what_is_no_path_and_no_directory(tmp_path):
    with pytest.raises(bpttcheck.BadUsage, match="target: got type"):
        bpttcheck.assert_conformant(dict)
    (tmp_path / "file").touch()
    with pytest.raises(bpttcheck.BadUsage, match="is no directory"):
        bpttcheck.assert_conformant("mine.py", report_dir=tmp_path / "file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bpttcheck", "missing.py"], "--bpttcheck missing.py: there is no file missing.py; expected an adapter"),
        (["--bpttcheck", "numpy", "--bpttcheck-select", "nope"], "--bpttcheck-select nope: no such property"),
    ],
)
def test_plugin_refuses_bad_options_before_anything_runs(tmp_path, words, said):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.count(said)) == (4, 1), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "target 'nope' is not known; expected one of"),
        (["mine.py:nope"], "no function 'nope' in it"),
        (["numpy", "--bpttcheck-profile", "quick"], "argument --profile: invalid choice: 'quick'"),
        (["numpy", "--bpttcheck-seed", "x"], "argument --seed: got 'x'"),
    ],
)
def test_what_the_command_refuses_is_a_usage_error_and_no_failing_test(tmp_path, words, said):
    """Ours come last, so that the user's own tests have run; nothing is left in the folder for temporary files."""
    (tmp_path / "mine.py").write_text("def gradients(problem): ...\n", encoding="utf-8")
    (tmp_path / "test_own.py").write_text("def test_own(): ...\n", encoding="utf-8")
    (tmp_path / "temporary").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--bpttcheck", *words]
    env = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.count(said)) == (4, 1), ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout and "failed" not in ran.stdout
    assert list((tmp_path / "temporary").glob("bpttcheck-*")) == []
