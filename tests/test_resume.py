"""An interrupted run keeps what it has, and --resume makes of it what an uninterrupted run would have been."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance import engine, journal, targets
from conformance.bench import digest
from conformance.cli import main
from conformance.engine import PROFILES
from conformance.errors import UsageError
from conformance.items import Item, judge_item
from conformance.journal import NAME
from conformance.progress import PlainProgress
from conformance.render import validate
from conformance.stopping import STOP, Terminated, stoppable
from tests.test_again import SOURCE

GOOD = Path(__file__).parent / "adapters" / "good.py"
TARGETS = ["mine.py", "mine.py:loses_last_step"]
SEVERAL = "memory,jacobian-norm-bound,zero-initial-state,extremes"
PLANNED = 8
REPORTS, WHOLE, PART = Path("reports"), Path("whole"), Path("part")


HELD = """

import pathlib
import time

_HERE = pathlib.Path(__file__).parent


def _held(function):
    def asked(problem, **lost):
        journal = _HERE / "reports" / "unfinished.jsonl"
        while (_HERE / "hold").exists() and journal.exists() and journal.read_bytes().count(b"\\n") > 1:
            time.sleep(0.01)
        return function(problem, **lost)

    return asked


gradients = _held(gradients)
"""
"""What is added to the adapter: as long as there is a file `hold`, it waits once a finding has been made."""


class Stops(PlainProgress):
    """Ctrl-C, once so many findings were made."""

    after = 0

    def finding(self, target, finding):
        super().finding(target, finding)
        if self.done == self.after:
            raise KeyboardInterrupt


def certify(*words, stop_after=0):
    """The exit status of the run under test."""
    arguments = ["certify", *TARGETS, "--profile", "smoke", "--select", SEVERAL, "--jobs", "1", *words]
    with pytest.MonkeyPatch.context() as patch:
        if stop_after:
            patch.setattr(Stops, "after", stop_after)
            patch.setattr("conformance.commands.certify.progress_for", lambda **_: Stops(sys.stderr))
        return main(arguments)


def results(folder):
    """results.json without its times."""
    found = json.loads((folder / "results.json").read_text())
    validate(found)
    for key in ("started", "seconds"):
        del found[key]
    for target in found["targets"]:
        for finding in target["findings"]:
            del finding["seconds"]
    return found


def cases(folder):
    """The case files and scripts of a report."""
    return {path.name: path.read_bytes() for path in (folder / "cases").iterdir()}


pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A folder with the report of a run that nobody interrupted, and that of one stopped after two findings."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "mine.py").write_text(GOOD.read_text() + HELD)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert certify() == 1
        REPORTS.rename(WHOLE)
        assert certify(stop_after=2) == 130
        REPORTS.rename(PART)
    return folder


@pytest.fixture
def here(uninterrupted, monkeypatch):
    """The working directory, with the uninterrupted report in it."""
    monkeypatch.chdir(uninterrupted)
    yield
    shutil.rmtree(REPORTS, ignore_errors=True)
    Path("mine.py").write_text(GOOD.read_text() + HELD)


def whole_again():
    """Whether the report is what it would have been."""
    assert results(REPORTS) == results(WHOLE)
    assert cases(REPORTS) == cases(WHOLE)
    assert not (REPORTS / NAME).exists()
    return True


def test_interrupted_run_keeps_its_findings_and_what_has_failed(capsys):
    assert certify(stop_after=4) == 130
    said = capsys.readouterr()
    part = results(REPORTS)
    assert part["incomplete"] == {"findings": 4, "planned": PLANNED}
    for target, full in zip(part["targets"], results(WHOLE)["targets"], strict=True):
        failed = "fail" in [finding["verdict"] for finding in target["findings"]]
        assert target["verdict"] == ("not conformant" if failed else "no verdict")
        assert target["reason"] == "interrupted after 4 of 8 findings; --resume goes on"
        kept = [finding["verdict"] for finding in target["findings"]]
        assert kept == [finding["verdict"] for finding in full["findings"][:2]]
    assert (REPORTS / "report.html").is_file()
    assert "go on with: bpttcheck certify mine.py mine.py:loses_last_step --profile smoke " in said.out
    assert said.err.endswith("bpttcheck: interrupted\n")


@pytest.mark.parametrize("stops", [(2, 6), (8,)])
def test_resumed_run_is_the_uninterrupted_one(capsys, stops):
    for number, after in enumerate(stops):
        assert certify(*(["--resume"] if number else []), stop_after=after) == 130
    capsys.readouterr()
    assert certify("--resume") == 1
    assert f"[{stops[-1]}/8] taken over" in capsys.readouterr().err
    assert whole_again()


def test_resumed_run_spread_over_processes_is_the_uninterrupted_one():
    shutil.copytree(PART, REPORTS)
    assert certify("--resume", "--jobs", "2", "--quiet") == 1
    assert whole_again()


def test_interrupt_during_the_diagnosis_loses_nothing(monkeypatch):
    import conformance.diagnosis.attach as module

    write = module._write

    def interrupted(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write", interrupted)
    assert certify() == 130
    assert results(REPORTS)["incomplete"] == {"findings": PLANNED, "planned": PLANNED}
    monkeypatch.setattr(module, "_write", write)
    assert certify("--resume") == 1
    assert whole_again()


def heed_hangups():
    """As in a terminal, though the tests themselves may run under nohup, whose children ignore the signal."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def command():
    """A run in a process of its own, which waits after its first finding."""
    Path("hold").touch()
    words = ["certify", *TARGETS, "--profile", "smoke", "--select", SEVERAL, "--jobs", "1"]
    started = subprocess.Popen(
        [sys.executable, "-P", "-m", "conformance", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=None if sys.platform == "win32" else heed_hangups,  # noqa: PLW1509 - it takes no lock
    )
    kept = REPORTS / NAME
    while started.poll() is None and not (kept.exists() and kept.read_bytes().count(b"\n") > 1):
        time.sleep(0.01)
    return started


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("number", [15, 1], ids=["terminated", "hung up"])
def test_terminated_run_keeps_its_findings(number):
    run = command()
    run.send_signal(number)
    _, said = run.communicate()
    Path("hold").unlink()
    assert (run.returncode, said.decode()[-23:]) == (128 + number, "bpttcheck: interrupted\n"), said
    assert 0 < results(REPORTS)["incomplete"]["findings"] < PLANNED
    assert certify("--resume") == 1
    assert whole_again()


def test_killed_run_is_resumed_from_its_last_whole_line():
    run = command()
    run.kill()
    run.communicate()
    Path("hold").unlink()
    kept = REPORTS / NAME
    whole = kept.read_bytes().rpartition(b"\n")[0]
    kept.write_bytes(whole + b'\n{"item": ["oracle-agre')
    assert certify("--resume", stop_after=PLANNED) == 130  # what it writes must not be joined to the line cut off
    assert certify("--resume") == 1
    assert whole_again()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_signal_amid_the_garbage_collector_is_not_lost(capsys):
    def during(phase, _):
        if phase == "start":
            gc.callbacks.remove(during)
            os.kill(os.getpid(), signal.SIGTERM)
            [None for _ in range(1000)]  # the handler runs here, and what it raises is lost

    with stoppable():
        STOP.check()
        gc.callbacks.append(during)
        gc.collect()
        with pytest.raises(Terminated):
            STOP.check()
    STOP.check()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("trips", [AssertionError, UsageError])
def test_signal_that_becomes_another_exception_is_still_a_signal(capsys, monkeypatch, trips):
    """As when a library, left in the midst of its work, finds its own state wrong on the way out."""
    judge, asked = engine.judge, []

    def tripping(*arguments):
        asked.append(arguments)
        if len(asked) != 40:
            return judge(*arguments)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return [None for _ in range(1000)]
        except KeyboardInterrupt:
            raise trips("on the way out") from None

    monkeypatch.setattr(engine, "judge", tripping)
    assert certify() == 143
    assert len(asked) == 40
    assert capsys.readouterr().err.endswith("bpttcheck: interrupted\n")
    assert 0 < results(REPORTS)["incomplete"]["findings"] < PLANNED
    assert certify("--resume") == 1
    assert whole_again()


def test_journal_gives_back_the_problems_that_are_to_be_diagnosed():
    """The smallest, the worst and what comes before: of a target that returns what it first found for a shape."""
    Path("keeps.py").write_text(SOURCE)
    REPORTS.mkdir()
    targets.forget()
    item = Item("oracle-agreement", "elman", "float64", ("keeps.py",), PROFILES["smoke"], 0, REPORTS)
    (judged,) = judge_item(item)
    targets.forget()
    journal.begin(REPORTS, {}).add(item, [judged])
    ((again,),) = journal.resume(REPORTS, {}).found.values()
    assert (again.target, again.finding, again.executed) == (judged.target, judged.finding, judged.executed)
    problems = [[one.smallest, one.worst, one.companion] for one in (judged.failure, again.failure)]
    assert all(problems[0])
    assert digest(problems[0][0]) != digest(problems[0][1])
    assert list(map(digest, problems[0])) == list(map(digest, problems[1]))


CHANGES = {
    "seed": (["--seed", "1"], "the seed is 1, and was 0"),
    "profile": (["--profile", "standard"], "the profile is standard, and was smoke"),
    "properties": (["--select", "memory"], "the list of properties is memory, and was"),
    "limit": (["--timeout", "3"], "the way to run mine.py is"),
    "target": ([], "the sha256 of mine.py is"),
    "version": ([], "bpttcheck is "),
    "library": ([], "hypothesis is "),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_resume_refuses_a_run_of_another_kind_in_one_line(capsys, change):
    shutil.copytree(PART, REPORTS)
    before = (REPORTS / NAME).read_bytes()
    words, said = CHANGES[change]
    if change == "target":
        Path("mine.py").write_text(GOOD.read_text() + "\n")
    elif change in ("version", "library"):
        first, newline, rest = before.partition(b"\n")
        header = json.loads(first)
        header["run"]["bpttcheck" if change == "version" else "hypothesis"] = "0.0.1"
        before = json.dumps(header).encode() + newline + rest
        (REPORTS / NAME).write_bytes(before)
    assert certify("--resume", *words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"--resume: {said}" in err
    assert (REPORTS / NAME).read_bytes() == before  # refused, and still there to be resumed


def test_resume_refuses_a_target_whose_compiled_object_was_built_anew(capsys):
    shutil.copytree(PART, REPORTS)
    kept = REPORTS / NAME
    first, line = kept.read_text().splitlines()
    told = json.loads(line)
    told["judged"][0]["compiled"] = {"kernel.so": "0" * 64}
    told["judged"][1]["compiled"] = {"kernel.so": "1" * 64}
    kept.write_text(f"{first}\n{json.dumps(told)}\n")
    assert certify("--resume") == 2
    assert "kernel.so was built anew since the run began" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "--resume: reports holds no interrupted run"),
        ("", "it is empty"),
        ("[1, 2]\n", "line 1: $"),
        ('{"format": 2, "started": "", "run": {}}\n', "line 1: $.format: 1 was expected"),
        ('{"format": 1, "started": "", "run": {}', "it is empty"),
        ("[" * 100_000 + "\n", "not the journal of a run"),
        ('{"format": 1, "started": "", "run": {}}\n{"item": ["a", "b", "c"], "seconds": NaN, "judged": []}\n', "NaN"),
        ('{"format": 1, "started": "", "run": {}}\n{"item": ["a"], "seconds": 0, "judged": []}\n', "line 2: $.item"),
        (
            '{"format": 1, "started": "", "run": {"bpttcheck": "\\u001b[2J"}}\n',
            "and was \\x1b[2J when reports was begun",
        ),
    ],
)
def test_resume_reads_its_journal_as_a_hostile_file(capsys, text, said):
    REPORTS.mkdir()
    if text is not None:
        (REPORTS / NAME).write_text(text)
    assert certify("--resume") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert "\x1b" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("case", ["cases/../../mine.safetensors", "cases/gone.safetensors"])
def test_resume_judges_again_where_a_case_is_gone_or_lies_elsewhere(case):
    shutil.copytree(PART, REPORTS)
    kept = REPORTS / NAME
    first, line = kept.read_text().splitlines()
    told = json.loads(line)
    (wrong,) = (one for one in told["judged"] if one["wrong"])
    shutil.copy(REPORTS / wrong["finding"]["counterexample"]["case"], "mine.safetensors")  # a good one, but elsewhere
    wrong["finding"]["counterexample"]["case"] = case
    kept.write_text(f"{first}\n{json.dumps(told)}\n")
    assert certify("--resume") == 1
    assert results(REPORTS) == results(WHOLE)
