"""The command from end to end: verdicts, exit statuses, messages, files; and what bad input gets."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conformance import engine, items
from conformance.cli import main

HERE = Path(__file__).parent
GOOD = str(HERE / "adapters" / "good.py")
SEVERAL = "shared-weight-summation,truncation-equivalence,jacobian-norm-bound"
QUICK = ["--profile", "smoke", "--select", "oracle-agreement"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of a command line."""
    status = main(list(words))
    out = capsys.readouterr()
    return status, out.out, out.err


def results_of(folder: Path) -> dict[str, Any]:
    """results.json, checked against the published schema."""
    import conformance

    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    schema = json.loads((Path(conformance.__file__).parent / "results.schema.json").read_text())
    jsonschema.validate(results, schema)
    return results


def test_certify_takes_an_adapter_that_goes_elsewhere_and_names_what_cannot_be_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(HERE)
    words = ["certify", "adapters/goes_elsewhere.py", *QUICK, "--jobs", "1", "--report-dir", str(tmp_path)]
    status, out, err = run(capsys, *words)
    assert status == 0, out + err
    said = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert "x\\\\ud800" in said
    (tmp_path / "report.html").read_text(encoding="utf-8")


def test_certify_accepts_a_correct_adapter_and_writes_every_form(capsys, tmp_path):
    status, out, _ = run(capsys, "certify", GOOD, "--profile", "smoke", "--jobs", "1", "--report-dir", str(tmp_path))
    assert status == 0
    assert "certified" in out
    names = {path.name for path in tmp_path.iterdir()}
    assert {"results.json", "report.html", "report.md", "junit.xml", "badge.svg"} <= names
    (target,) = results_of(tmp_path)["targets"]
    assert target["verdict"] == "certified"
    assert target["certified"]["cells"] == ["elman"]
    assert target["certified"]["truncations"] == ["full"]
    assert target["certified"]["unclaimed"] == []
    verdicts = {f["property"]: f["verdict"] for f in target["findings"]}
    assert verdicts["oracle-agreement"] == verdicts["shared-weight-summation"] == "pass"
    assert verdicts["jacobian-norm-bound"] == "pass"
    assert verdicts["truncation-equivalence"] == "unsupported"
    assert all(0 <= f["worst"]["error_over_budget"] <= 1 for f in target["findings"] if f["verdict"] == "pass")


@pytest.mark.parametrize("names", [("numpy", "c"), ("torch", "torch-nn")], ids=" ".join)
def test_certify_the_built_in_targets_are_certified(capsys, tmp_path, names):
    """Two at a time, as both are asked the same problems, which are solved once.

    By every property, in all cells: tests/deep/test_properties.py.
    """
    from implementations.registry import availability

    here = [name for name in names if availability()[name] is None]
    if not here:
        pytest.skip("; ".join(str(availability()[name]) for name in names))
    targets = [f"{HERE / 'adapters' / 'elman_only.py'}:{name.replace('-', '_')}" for name in here]
    words = ["certify", *targets, "--profile", "smoke", "--jobs", "1"]
    words += ["--select", SEVERAL + ",oracle-agreement,exact-problems,memory"]
    status, _, _ = run(capsys, *words, "--report-dir", str(tmp_path))
    results = results_of(tmp_path)["targets"]
    assert [result["name"] for result in results] == targets
    for result in results:
        assert [f["message"] for f in result["findings"] if f["verdict"] not in ("pass", "unsupported")] == []
        assert result["verdict"] == "certified"
    assert status == 0


def test_certify_failure_comes_with_case_script_and_replay(capsys, tmp_path):
    target = GOOD + ":loses_last_step"
    status, out, _ = run(capsys, "certify", target, *QUICK, "--report-dir", str(tmp_path))
    assert status == 1
    finding = results_of(tmp_path)["targets"][0]["findings"][0]
    assert finding["verdict"] == "fail"
    counterexample = finding["counterexample"]
    problem = counterexample["problem"]
    assert (problem["T"], problem["B"], problem["D"], problem["H"]) == (1, 1, 1, 1)
    assert problem["arrays"]["x"] in ([[[0.0]]], [[[1.0]]])
    assert finding["message"].startswith("dW_hh[0,0]: got ")
    assert "off by" in finding["message"] and "budget" in finding["message"]
    assert shlex.split(counterexample["replay"])[-1] == target
    assert counterexample["replay"].split()[0] in finding["message"]

    status, out, _ = run(capsys, *shlex.split(counterexample["replay"])[1:])
    assert status == 1
    assert out.startswith("fail: " + finding["message"].splitlines()[0])
    status, out, _ = run(capsys, "replay", str(tmp_path / counterexample["case"]), GOOD)
    assert status == 0

    script = tmp_path / counterexample["script"]
    shown = subprocess.run([sys.executable, "-I", str(script)], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (1, "")
    fixed = subprocess.run([sys.executable, "-I", str(script), GOOD], capture_output=True, text=True, check=False)
    assert (fixed.returncode, fixed.stderr) == (0, "")


@pytest.mark.parametrize(
    ("function", "verdict", "words"),
    [
        ("returns_nan", "fail", ["db_h[0]: got nan, want "]),
        ("wrong_shape", "fail", ["db_h: got shape (1, 1), want (1,)"]),
        ("narrow_dtype", "fail", ["dW_hh: got dtype float32, want float64 or wider"]),
        ("integers", "fail", ["db_h: got dtype int64, want float64"]),
        ("drops_a_key", "fail", ["dx: ", "want the same keys for all"]),
        ("declines_the_long", "fail", ["support: ", "too long for me"]),
        ("changes_its_input", "fail", ["h0[0,0]: the target changed its input; expected it untouched"]),
        ("raises", "crash", ["raised ZeroDivisionError: division by zero in the kernel"]),
        ("exits", "crash", ["raised SystemExit: 7"]),
        ("exits_in_conversion", "fail", ["dW_hh: numpy.asarray cannot read it (SystemExit: 0)"]),
        ("raises_base_exception", "crash", ["raised _Unprintable: (its message cannot be printed)"]),
        ("returns_none", "fail", ["answer: got NoneType, want a dict of arrays"]),
    ],
)
def test_certify_names_what_is_wrong_with_an_answer(capsys, tmp_path, function, verdict, words):
    status, _, _ = run(capsys, "certify", f"{GOOD}:{function}", *QUICK, "--report-dir", str(tmp_path))
    assert status == 1
    finding = results_of(tmp_path)["targets"][0]["findings"][0]
    assert finding["verdict"] == verdict
    for word in words:
        assert word in finding["message"]
    lines = finding["message"].splitlines()
    assert f"{GOOD}:{function} · elman tanh · T=" in lines[2 if "diagnosis: " in lines[1] else 1]
    assert lines[-1].strip().startswith("replay: bpttcheck replay ")
    script = tmp_path / finding["counterexample"]["script"]
    if function != "exits_in_conversion":  # outside the suite nothing stops it from exiting with 0
        shown = subprocess.run([sys.executable, "-I", str(script)], capture_output=True, text=True, check=False)
        assert shown.returncode != 0
    capsys.readouterr()
    status, out, _ = run(capsys, *shlex.split(finding["counterexample"]["replay"])[1:])
    assert status == 1
    assert out.startswith(f"{verdict}: {lines[0].split(':')[0]}")


@pytest.mark.parametrize("function", ["declines_all", "claims_no_gradient"])
def test_certify_gives_no_verdict_where_nothing_was_claimed(capsys, tmp_path, function):
    status, _, _ = run(capsys, "certify", f"{GOOD}:{function}", *QUICK, "--report-dir", str(tmp_path))
    assert status == 3
    assert results_of(tmp_path)["targets"][0]["verdict"] == "no verdict"


def test_certify_stays_where_the_user_is(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, _ = run(capsys, "certify", f"{GOOD}:changes_directory", *QUICK)
    assert status == 0
    assert (tmp_path / "reports" / "report.html").is_file()


def test_certify_says_what_a_target_leaves_no_choice_of(capsys, tmp_path):
    status, _, _ = run(capsys, "certify", f"{GOOD}:offers_nothing", *QUICK, "--report-dir", str(tmp_path))
    assert status == 3
    (finding,) = results_of(tmp_path)["targets"][0]["findings"]
    assert (finding["verdict"], finding["message"]) == ("unsupported", "offers none of the truncations of elman")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_certify_asks_in_low_precision_without_a_fault_of_its_own(capsys, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(engine, "ROUNDS", 1)  # in bfloat16 little is conclusive: it would draw hundreds
    adapter = tmp_path / "low.py"
    offered = f'"dtypes": ["{dtype}"], "max_size": {{"T": 4, "B": 2, "D": 2, "H": 3}}'
    text = Path(GOOD).read_text().replace('"dtypes": ["float64"]', offered)
    assert offered in text
    adapter.write_text(text)
    words = ["certify", str(adapter), "--profile", "smoke", "--select", SEVERAL + ",oracle-agreement,exact-problems"]
    run(capsys, *words, "--jobs", "1", "--report-dir", str(tmp_path / "reports"))
    findings = results_of(tmp_path / "reports")["targets"][0]["findings"]
    assert findings
    assert {f["verdict"] for f in findings} <= {"pass", "inconclusive", "unsupported"}, findings


def test_certify_is_deterministic_but_for_times(capsys, tmp_path):
    def once(name: str, *targets: str) -> str:
        folder = tmp_path / name
        run(capsys, "certify", *targets, *QUICK, "--seed", "3", "--report-dir", str(folder))
        results = results_of(folder)
        for key in ("started", "seconds", "command"):
            del results[key]
        for target in results["targets"]:
            for finding in target["findings"]:
                del finding["seconds"]
        return json.dumps(results).replace(str(folder), "DIR")

    targets = (GOOD, GOOD + ":loses_last_step")
    assert once("a", *targets) == once("b", *targets)


FIVE = "jacobian-norm-bound,memory,causality,zero-initial-state,padding-invariance"
COUNTS = """

_calls = [0]


def counts_its_calls(problem):
    _calls[0] += 1
    found = gradients(problem)
    return found | {"dh0": found["dh0"] * (1 - 0.01 * (_calls[0] % 7))}
"""


def test_certify_finds_the_same_however_many_processes_share_the_work(capsys, tmp_path):
    adapter = tmp_path / "counts.py"  # it would tell if one process saw more calls than another
    adapter.write_text(Path(GOOD).read_text() + COUNTS)
    stateful = f"{adapter}:counts_its_calls"
    found = []
    for jobs in ("1", "3"):
        folder = tmp_path / jobs / "reports"
        words = ["certify", GOOD, stateful, "--profile", "smoke", "--select", FIVE, "--jobs", jobs]
        words += ["--report-dir", str(folder)]
        assert run(capsys, *words)[0] == 1
        results = json.loads((folder / "results.json").read_text().replace(str(folder), "DIR"))
        verdicts = [finding["verdict"] for finding in results["targets"][1]["findings"]]
        assert len(verdicts) == FIVE.count(",") + 1 > items.FEW  # fewer are not spread
        assert "fail" in verdicts
        for key in ("started", "seconds"):
            del results[key]
        for target in results["targets"]:
            for finding in target["findings"]:
                del finding["seconds"]
        found.append(results)
    assert found[0] == found[1]


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1e3", "9999999999"])
def test_certify_refuses_a_number_of_jobs_that_is_none(capsys, jobs):
    status, _, err = run(capsys, "certify", GOOD, f"--jobs={jobs}")
    assert status == 2
    assert f"got '{jobs}', expected a number from 1 to 64" in err


def test_certify_with_another_seed_draws_other_problems(capsys, tmp_path):
    worst = set()
    for seed in ("1", "2"):
        run(
            capsys,
            "certify",
            GOOD,
            "--profile",
            "smoke",
            "--select",
            "shared-weight-summation",
            "--seed",
            seed,
            "--report-dir",
            str(tmp_path),
        )
        worst.add(results_of(tmp_path)["targets"][0]["findings"][0]["worst"]["error_over_budget"])
    assert len(worst) == 2


def test_certify_says_which_target_is_unavailable_and_judges_the_others(capsys, tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ModuleNotFoundError('no torch', name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    status, out, _ = run(capsys, "certify", "torch", GOOD, *QUICK, "--report-dir", str(tmp_path))
    assert status == 3
    first, second = results_of(tmp_path)["targets"]
    assert (first["verdict"], second["verdict"]) == ("no verdict", "certified")
    assert "pip install 'bpttcheck[torch]'" in first["reason"]
    assert "torch is not installed" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["certify", "mine.py:"], ["'mine.py:'", "expected the name of a function after the colon"]),
        (["certify", "numpy", "--timeout", "1e300"], ["'1e300'", "seconds above 0, at most 86400"]),
        (["certify", "troch"], ["'troch' is not known", "numpy", "torch-nn"]),
        (["certify", "nowhere/adapter.py"], ["there is no file nowhere/adapter.py"]),
        (["certify", str(HERE / "adapters" / "no_adapter.py")], ["no function 'gradients'", "no adapter"]),
        (["certify", GOOD + ":gradient"], ["no function 'gradient'", "gradients"]),
        (["certify", str(HERE / "adapters" / "raises_on_import.py")], ["raised RuntimeError: no device found"]),
        (["certify", "no.such.module:f"], ["there is no module no"]),
        (["certify", "numpy", "--select", "oracle-agreemnt"], ["'oracle-agreemnt' is not known", "oracle-agreement"]),
        (["certify", "numpy", "--profile", "fast"], ["--profile", "smoke", "standard", "thorough"]),
        (["certify", "numpy", "--seed", "x"], ["--seed", "int"]),
        (["certify"], ["TARGET"]),
        (["certfy"], ["certfy"]),
        ([], ["COMMAND"]),
        (["replay", "no-such-file.safetensors"], ["no-such-file.safetensors", "No such file"]),
        (["render", "no-such-directory"], ["no-such-directory"]),
        (["list", "planets"], ["planets", "implementations"]),
    ],
)
def test_bad_usage_gets_one_line_and_status_2(capsys, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in expected:
        assert word in err


def test_bad_report_directory_gets_one_line_and_status_2(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = run(capsys, "certify", GOOD, "--report-dir", str(tmp_path / "file" / "reports"))
    assert status == 2
    assert err.count("\n") == 1
    assert "--report-dir" in err


def test_bad_case_files_get_one_line_and_status_2(capsys, tmp_path):
    from bptt.files import load_problem, to_bytes
    from properties.real_text import DATA

    good = to_bytes(load_problem(min(DATA.glob("elman-*.safetensors"))))
    cases = {
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "oversized": (1 << 40).to_bytes(8, "little") + good[8:],
        "version": good.replace(b'\\"version\\": 1', b'\\"version\\": 9'),
        "garbage": bytes(range(256)) * 4,
    }
    assert cases["version"] != good
    for name, data in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        status, out, err = run(capsys, "replay", str(path), "numpy")
        assert (status, out, err.count("\n")) == (2, "", 1), name
        assert name in err
        assert "Traceback" not in err


def test_bad_case_with_nan_gets_one_line_and_status_2(capsys, tmp_path):
    import numpy as np

    from bptt.files import load_problem, to_bytes
    from properties.real_text import DATA

    problem = load_problem(min(DATA.glob("elman-*.safetensors")))
    data = to_bytes(problem)
    stored = problem.params["b_h"].tobytes()
    path = tmp_path / "nan.safetensors"
    path.write_bytes(data.replace(stored, np.full_like(problem.params["b_h"], np.nan).tobytes()))
    status, _, err = run(capsys, "replay", str(path), "numpy")
    assert status == 2
    assert "b_h[0]: got nan, expected a finite number" in err


def test_replay_without_a_target_asks_the_built_in_ones(capsys):
    from properties.real_text import DATA

    status, out, _ = run(capsys, "replay", str(min(DATA.glob("elman-*.safetensors"))))
    assert status == 0
    assert "pass: numpy" in out


def test_command_runs_where_folders_are_named_like_ours(tmp_path):
    for name in ("properties", "oracle", "bptt", "conformance"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('shadowed')")
    command = [str(Path(sys.executable).parent / "bpttcheck")]
    done = subprocess.run([*command, "list", "properties"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "oracle-agreement" in done.stdout


@pytest.mark.parametrize("what", ["implementations", "properties", "cells"])
def test_list_prints_something_for_each(capsys, what):
    status, out, _ = run(capsys, "list", what)
    assert status == 0
    assert {"implementations": "numpy", "properties": "source:", "cells": "W_hh (H,H)"}[what] in out


def test_replay_of_a_problem_that_overflows_gives_no_verdict(capsys, tmp_path):
    import numpy as np

    from bptt import Loss, Problem, save_problem

    huge = np.full((1, 1), 1e308)
    x = np.full((3, 1, 1), 1e308)
    params = {"W_xh": huge, "W_hh": huge, "b_h": huge[0]}
    save_problem(
        Problem("elman", params, x, Loss("cotangent", g=x), h0=huge, activation="identity"), tmp_path / "p.safetensors"
    )
    status, out, _ = run(capsys, "replay", str(tmp_path / "p.safetensors"), "numpy")
    assert status == 3
    assert out.startswith("no verdict: numpy: inconclusive")
    status, out, _ = run(capsys, "oracle", str(tmp_path / "p.safetensors"), "--digits", "5")
    assert (status, out.splitlines()[0]) == (0, "loss = 2.0000e+1540")
