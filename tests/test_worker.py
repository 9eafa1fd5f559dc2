"""Targets that harm the process they run in: each misdeed is the right finding, and nothing is left of it."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bptt.problem import Loss, Problem
from bptt.support import Support
from conformance import workers
from conformance.bench import TargetBench
from conformance.cli import main
from conformance.engine import Finding, Outcome, Profile, Search
from conformance.errors import ContractBroken, TargetCrash, TargetTimeout, UsageError
from conformance.render.terminal import MOST_TEXT
from conformance.results import finding_json
from conformance.targets import Setting, Target, afresh, resolve
from conformance.workers import Limits, Worker
from implementations import worker
from properties import PROPERTIES
from properties.base import Case

FUZZ = int(os.environ.get("BPTTCHECK_FUZZ", "3000"))
"""How many random streams an adapter's worker is asked to serve here; a tenth as many that are nearly right."""
ADAPTERS = Path(__file__).parent / "adapters"
QUICK = Setting(limits=Limits(seconds=4, memory=400 << 20, start=60))


def problem(T: int = 3) -> Problem:
    one = np.ones((1, 1))
    params = {"W_xh": one, "W_hh": 2 * one, "b_h": one[0]}
    return Problem("elman", params, np.ones((T, 1, 1)), Loss("cotangent", g=np.ones((T, 1, 1))), activation="identity")


MISDEEDS = {
    "segfault": (TargetCrash, "its process was ended by SIGSEGV"),
    "aborts": (TargetCrash, "its process was ended by SIGABRT"),
    "leaves": (TargetCrash, "ended its process with status 3"),
    "leaves_rightly": (TargetCrash, "ended its process with status 0"),
    "raises_exit": (TargetCrash, "raised SystemExit: 7"),
    "hangs": (TargetTimeout, "no answer within 4 s"),
    "grows": (TargetCrash, "MiB of memory, expected at most 400 MiB"),
    "babbles": (ContractBroken, "expected at most"),
    "promises": (ContractBroken, "1073741824 bytes, expected at most"),
    "breaks_off": (TargetCrash, "ended its process with status 0"),
}


@pytest.mark.parametrize("name", sorted(MISDEEDS))
def test_misdeed_is_told_and_the_next_question_is_answered(name):
    kind, said = MISDEEDS[name]
    setting = Setting(limits=Limits(60, 400 << 20)) if name == "grows" else QUICK
    target = resolve(f"{ADAPTERS / 'misbehaving.py'}:{name}", setting)
    bench = TargetBench(target, "float64")
    with pytest.raises(kind) as caught:
        bench.run(problem(3))
    assert said in str(caught.value)
    assert kind is not TargetTimeout or isinstance(caught.value, TargetTimeout)
    if isinstance(caught.value, TargetCrash) and name != "raises_exit":
        assert f"about to do harm: {name}" in caught.value.stderr
    np.testing.assert_array_equal(bench.run(problem(2))["h"].ravel(), [2, 6])
    target.call.process.close()


def test_crash_is_shrunk_and_the_search_goes_on():
    target = resolve(f"{ADAPTERS / 'misbehaving.py'}:segfault", QUICK)
    finding = Search(
        PROPERTIES["oracle-agreement"], TargetBench(target, "float64"), "elman", "float64", Profile("x", 20, 60), 0
    ).run()
    assert finding.verdict == "crash"
    assert finding.smallest.case.problem.T == 3
    assert "about to do harm" in finding.smallest.stderr
    target.call.process.close()


def test_hang_is_waited_for_a_few_times_only():
    target = resolve(f"{ADAPTERS / 'misbehaving.py'}:hangs", Setting(limits=Limits(0.3)))
    bench = TargetBench(target, "float64")
    finding = Search(PROPERTIES["shapes"], bench, "elman", "float64", Profile("x", 20, 200), 0).run()
    assert finding.verdict == "timeout"
    target.call.process.close()


def left(command: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if command in " ".join(p.info["cmdline"] or ())]


def gone(command: str) -> bool:
    """Whether no such process is left; what was ended may take a moment to disappear."""
    end = time.monotonic() + 10
    while left(command) and time.monotonic() < end:
        time.sleep(0.05)
    return not left(command)


def test_nothing_is_left_of_a_family(monkeypatch):
    slept = str(100_000 + os.getpid())  # so that no other process sleeps as long
    monkeypatch.setenv("SLEEP", slept)
    target = resolve(f"{ADAPTERS / 'misbehaving.py'}:forks", QUICK)
    with pytest.raises(TargetTimeout):
        TargetBench(target, "float64").run(problem())
    assert gone(f"sleep {slept}")
    target.call.process.close()


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    slept = str(200_000 + os.getpid())
    monkeypatch.setenv("SLEEP", slept)
    command = [sys.executable, "-m", "conformance", "certify", f"{ADAPTERS / 'misbehaving.py'}:forks", "--jobs", "2"]
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background have it ignored
    run = subprocess.Popen([*command, "--report-dir", tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, ours)
    end = time.monotonic() + 60
    while not left(f"sleep {slept}") and time.monotonic() < end:
        time.sleep(0.1)
    assert left(f"sleep {slept}")
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert b"Traceback" not in said
    assert gone(f"sleep {slept}")
    assert gone("misbehaving.py:forks")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_killed_run_leaves_nothing(tmp_path, monkeypatch):
    slept = str(300_000 + os.getpid())
    monkeypatch.setenv("SLEEP", slept)
    command = [sys.executable, "-m", "conformance", "certify", f"{ADAPTERS / 'misbehaving.py'}:forks", "--jobs", "2"]
    with subprocess.Popen([*command, "--report-dir", tmp_path], stdout=subprocess.DEVNULL) as run:
        end = time.monotonic() + 60
        while not left(f"sleep {slept}") and time.monotonic() < end:
            time.sleep(0.1)
        started = psutil.Process(run.pid).children(recursive=True)
        run.kill()
    assert len(started) >= 4  # two that judge and a worker each
    assert gone(f"sleep {slept}")
    assert gone("misbehaving.py:forks")
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive


@pytest.mark.parametrize("name", ["reads_input", "moves"])
def test_input_output_and_folder_are_the_suites_own(name):
    folder = Path.cwd()
    target = resolve(f"{ADAPTERS / 'misbehaving.py'}:{name}", QUICK)
    bench = TargetBench(target, "float64")
    for _ in range(3):
        np.testing.assert_array_equal(bench.run(problem(2))["h"].ravel(), [2, 6])
    assert Path.cwd() == folder
    target.call.process.close()


def test_time_in_which_the_suite_itself_was_stopped_is_not_the_workers(monkeypatch):
    """Ctrl-Z, or a machine that sleeps: the clock goes on, and nobody was waiting."""
    target = resolve(f"{ADAPTERS / 'misbehaving.py'}:moves", QUICK)
    bench = TargetBench(target, "float64")
    bench.run(problem(2))
    passed = itertools.count(start=time.monotonic(), step=1000.0)
    monkeypatch.setattr(workers.time, "monotonic", lambda: next(passed))
    np.testing.assert_array_equal(bench.run(problem(3))["h"].ravel(), [2, 6, 14])
    monkeypatch.undo()
    target.call.process.close()


def rogue(how: str, seconds: float = 1, start: float = 2) -> Worker:
    command = [sys.executable, str(ADAPTERS / "rogue_worker.py"), how, worker.__file__]
    first = {"type": "start", "version": 1, "target": None}
    return Worker(command, first, Limits(seconds=seconds, start=start))


ROGUES = {
    "never-starts": (TargetTimeout, "no answer within 2 s"),
    "dies-at-once": (TargetCrash, "ended its process with status 1"),
    "closes": (TargetCrash, "closed its end of the pipe and ran on"),
    "late": (ContractBroken, "got that to request 1, want that to 2; each request has one answer"),
    "no-message": (ContractBroken, "no safetensors file with a message"),
}


def test_loading_may_take_as_long_as_a_problem():
    with pytest.raises(TargetTimeout, match=r"no answer within 2\.5 s"):
        rogue("never-starts", 2.5, 0.5).started()


@pytest.mark.parametrize("how", sorted(ROGUES))
def test_worker_that_breaks_the_protocol(how):
    kind, said = ROGUES[how]
    process = rogue(how)
    message, arrays, most = workers.request_for(problem())
    with pytest.raises(kind, match=said):
        process.ask(message, arrays, most)
    assert process._process is None
    process.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("strange", "got a message of type 'greetings'"),
        ("integers", "loss: got dtype int64, want float64"),
        ("other-version", "speaks version 99 of the protocol, expected 1"),
        ("dies-at-once", "it printed: no such device"),
        ("talkative", "got a message of type 'x+…x+', want"),
        ("late-and-talkative", "got that to request 'x+…x+', want"),
        ("long-version", "speaks version '9+…9+' of the protocol"),
    ],
)
def test_command_that_breaks_its_contract(how, said, tmp_path, monkeypatch):
    words = json.dumps([sys.executable, str(ADAPTERS / "rogue_worker.py"), how, worker.__file__])
    (tmp_path / "pyproject.toml").write_text(f"[tool.bpttcheck.implementations.rogue]\ncommand = {words}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ContractBroken, UsageError), match=said) as caught:
        TargetBench(resolve("rogue", QUICK), "float64").run(problem())
    assert len(str(caught.value)) < 400
    workers.close_all()


def test_findings_cut_what_a_target_says(tmp_path):
    bench = TargetBench(Target("mine.py", "path", Support(), dict, None, None), "float64")
    long = "é" * 10**7
    outcome = Outcome(Case(problem(), {}), "crash", message=long, stderr=long)
    finding = Finding(
        PROPERTIES["memory"], "elman", "float64", "crash", long, notes=[long], smallest=outcome, bench=bench
    )
    told = finding_json(finding, bench.target, tmp_path)
    rest = f"… ({10**7 - MOST_TEXT} more characters)"
    assert told["notes"][0] == told["counterexample"]["stderr"] == "é" * MOST_TEXT + rest
    assert told["message"].startswith("é" * MOST_TEXT + "… (") and len(told["message"]) < MOST_TEXT + 100


def test_line_that_says_what_was_wrong_is_bounded(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("SUPPORTS = {'cells': ['x' * 100_000]}\ndef gradients(p): ...\n")
    assert main(["doctor", str(tmp_path / "mine.py")]) == 2
    said = capsys.readouterr().err
    assert 3000 < len(said) < 4100 and said.endswith("gru_reset_before, lstm, lstm_1997, lstm_peephole\n")


def test_report_shows_what_a_crash_had_printed(tmp_path, capsys):
    path = f"{ADAPTERS / 'misbehaving.py'}:aborts"
    words = ["certify", path, "--profile", "smoke", "--select", "memory", "--report-dir", str(tmp_path)]
    assert main(words) == 1
    assert "the last it printed: about to do harm: aborts" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "What it had printed" in page
    assert "standard output of aborts" in page


# ---- the wire --------------------------------------------------------------------------------------------------------

FRAME = worker.encode(
    {"type": "answer", "seq": 4, "extra": ["a"]},
    {"loss": np.array(1.5), "h": np.arange(6.0).reshape(1, 2, 3), "n": np.arange(3), "s": np.ones(2, np.float32)},
)[8:]


def test_frames_are_read_as_they_were_written():
    message, arrays = worker.decode(FRAME)
    assert message == {"type": "answer", "seq": 4, "extra": ["a"]}
    assert arrays["h"].shape == (1, 2, 3)
    assert arrays["loss"] == 1.5
    assert arrays["s"].dtype == np.float32
    from safetensors.numpy import load

    assert sorted(load(FRAME)) == ["h", "loss", "n", "s"]  # others read it too


def test_long_doubles_and_empty_arrays_travel():
    wide = np.array([1, 3], np.longdouble) / 3
    arrays = worker.on_the_wire({"loss": wide, "h": np.zeros((0, 2)), "c": np.array([np.inf, np.nan], np.longdouble)})
    back = worker.off_the_wire(worker.decode(worker.encode({}, arrays)[8:])[1])
    assert back["loss"].dtype == np.longdouble
    assert (back["loss"] == wide).all()
    assert back["h"].shape == (0, 2)
    assert np.isinf(back["c"][0])
    assert np.isnan(back["c"][1])


def test_random_bytes_are_refused():
    rng = np.random.default_rng(0)
    for size in rng.integers(0, 200, 10_000):
        with pytest.raises(worker.Malformed):
            worker.decode(rng.bytes(int(size)))


def mutated(rng: np.random.Generator, frame: bytes) -> bytes:
    body = bytearray(frame)
    for _ in range(rng.integers(1, 4)):
        kind, at = rng.integers(4), int(rng.integers(len(body)))
        if kind == 0:
            body[at] = rng.integers(256)
        elif kind == 1:
            del body[at : at + int(rng.integers(1, 9))]
        elif kind == 2:
            body[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            body[at : at + 1] = str(rng.integers(1 << 62)).encode()
        if not body:
            break
    return bytes(body)


def test_mutated_answers_are_refused_or_read():
    rng = np.random.default_rng(1)
    read = 0
    for _ in range(10_000):
        try:
            _, arrays = worker.decode(mutated(rng, FRAME))
        except worker.Malformed:
            continue
        read += 1
        assert sum(array.nbytes for array in arrays.values()) <= len(FRAME) + 100
    assert 100 < read < 9000


def test_mutated_requests_end_a_worker_or_are_answered(capsys):
    rng = np.random.default_rng(2)
    adapter = str(ADAPTERS / "misbehaving.py")
    target = {"kind": "path", "place": adapter, "function": "right", "folders": []}
    start = worker.encode({"type": "start", "seq": 1, "version": 1, "target": target}, {})
    message, arrays, _ = workers.request_for(problem(2))
    request = worker.encode({**message, "seq": 2}, arrays)[8:]
    for _ in range(FUZZ // 10):
        body = mutated(rng, request)
        answers = io.BytesIO()
        stream = io.BytesIO(start + struct.pack("<Q", len(body)) + body)
        assert worker.serve(stream, answers) in (0, 2)
    for _ in range(FUZZ):
        assert worker.serve(io.BytesIO(rng.bytes(int(rng.integers(0, 60)))), io.BytesIO()) in (0, 2)
    assert "a frame that cannot be read" in capsys.readouterr().err


# ---- what the command makes of it ------------------------------------------------------------------------------------


def test_in_process_never_certifies(tmp_path):
    words = ["certify", f"{ADAPTERS / 'misbehaving.py'}:right", "--profile", "smoke", "--select", "memory"]
    assert main([*words, "--report-dir", str(tmp_path)]) == 0
    assert main([*words, "--report-dir", str(tmp_path), "--in-process"]) == 3
    reason = json.loads((tmp_path / "results.json").read_text())["targets"][0]["reason"]
    assert "--in-process" in reason


def test_registered_name_in_process_is_judged_afresh_like_any_other(tmp_path, monkeypatch):
    table = f"[tool.bpttcheck.implementations.mine]\ntarget = '{ADAPTERS / 'misbehaving.py'}:right'\n"
    (tmp_path / "pyproject.toml").write_text(table)
    monkeypatch.chdir(tmp_path)
    target = resolve("mine", Setting(in_process=True))
    again = afresh(target)
    assert again.name == "mine"
    assert again.call is not target.call
    assert main(["certify", "mine", "--in-process", "--profile", "smoke", "--select", "memory"]) == 3


def test_other_python_and_its_absence(tmp_path, capsys):
    words = ["certify", f"{ADAPTERS / 'misbehaving.py'}:right", "--profile", "smoke", "--select", "memory"]
    words += ["--report-dir", str(tmp_path)]
    assert main([*words, "--python", sys.executable]) == 0
    assert main([*words, "--python", "/no/such/python"]) == 2
    assert "expected the path of a Python interpreter" in capsys.readouterr().err
    assert main([*words, "--timeout", "0"]) == 2


def test_compiled_objects_are_recorded(tmp_path):
    path = tmp_path / "adapter.py"
    supports = {"cells": ["elman"], "lengths": False}  # so that nothing is drawn for the one property that is selected
    path.write_text(f"import _decimal\nSUPPORTS = {supports}\ndef gradients(problem): return {{}}\n")
    words = ["certify", str(path), "--profile", "smoke", "--select", "padding-invariance"]
    assert main([*words, "--report-dir", str(tmp_path / "r")]) == 3
    source = json.loads((tmp_path / "r" / "results.json").read_text())["targets"][0]["source"]
    assert any("decimal" in name for name in source["compiled"]) or "_decimal" in sys.builtin_module_names
    assert os.environ.get("HOME", "?") not in json.dumps(source["compiled"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these signals")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_signals_to_the_parent_end_nothing(tmp_path, jobs):
    text = (ADAPTERS / "good.py").read_text()
    calls = "for name in ('SIGUSR1', 'SIGUSR2', 'SIGALRM'):\n        os.kill(os.getppid(), getattr(signal, name))\n    "
    text = "import os\nimport signal\n" + text.replace(
        "def gradients(problem, lost=0):\n", "def gradients(problem, lost=0):\n    " + calls, 1
    )
    (tmp_path / "mine.py").write_text(text)
    words = ["certify", "mine.py", "--profile", "smoke", "--jobs", jobs, "--quiet"]
    words += ["--select", "memory,causality,zero-initial-state,jacobian-norm-bound,shapes"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "conformance", *words], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stdout


def test_report_directory_that_goes_during_the_run_is_said_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ADAPTERS / "good.py").read_text()
    gone = f"import shutil\nshutil.rmtree({str(tmp_path / 'reports')!r}, ignore_errors=True)\n"
    Path("mine.py").write_text(text + "\n\n" + gone)
    words = ["certify", "mine.py", "--profile", "smoke", "--select", "memory", "--quiet"]
    assert main(words) == 2
    assert "--report-dir reports was removed or replaced during the run; expected" in capsys.readouterr().err
