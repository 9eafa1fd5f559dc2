"""What people see while they wait and when they ask: progress, logs, --help, completion."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conformance.cli import COMMANDS, build_parser, main
from conformance.commands.replay import _passed
from conformance.conclusion import conclude
from conformance.engine import Finding, Outcome, Search
from conformance.estimate import LEAST, Estimate, spoken
from conformance.progress import EVERY, LiveProgress, PlainProgress, Silent, finding_line, progress_for
from conformance.render.markdown import _comment
from properties import PROPERTIES
from properties.base import Case
from tests.reports import finding, report, target

PLAN = [("mine.py", prop, cell, "float64") for cell in ("elman", "lstm") for prop in "abcdef"]


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def play(progress, verdicts=(), *, done=0, tick=lambda: None):
    """Tell a display of findings, one by one."""
    progress.begin(PLAN, done, 1)
    for (name, prop, cell, _), verdict in zip(PLAN, verdicts, strict=False):
        tick()
        progress.finding(name, finding(verdict, property=prop, cell=cell))
    progress.end()


def test_log_tells_of_failures_alone():
    out = io.StringIO()
    play(PlainProgress(out, clock=lambda: 0.0), ["pass", "fail", "unsupported", "error", "crash", *["pass"] * 7])
    lines = out.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == [
        "[2/12] fail         mine.py",
        "[4/12] error        mine.py",
        "[5/12] crash        mine.py",
    ]


def test_log_has_a_sign_of_life_with_an_estimate():
    out, now = io.StringIO(), [0.0]

    def tick():
        now[0] += EVERY / 4

    play(PlainProgress(out, clock=lambda: now[0]), ["pass"] * 12, tick=tick)
    assert out.getvalue().splitlines() == ["[4/12] 0 failed", "[8/12] 0 failed, a few seconds left"]


def test_log_says_what_was_taken_over():
    out = io.StringIO()
    play(PlainProgress(out), done=7)
    assert out.getvalue() == "[7/12] taken over from the run that was interrupted\n"


def test_verbose_log_has_a_line_a_finding_and_quiet_none(capsys):
    out = io.StringIO()
    play(PlainProgress(out, verbose=True), ["pass"] * 12)
    assert len(out.getvalue().splitlines()) == 12
    quiet = progress_for(Terminal(), quiet=True)
    play(quiet, ["fail"] * 12)
    assert isinstance(quiet, Silent)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_a_bar_is_for_terminals_that_somebody_watches(monkeypatch, name, value):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    assert isinstance(progress_for(Terminal()), LiveProgress)
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    monkeypatch.setenv(name, value)
    assert isinstance(progress_for(Terminal()), PlainProgress)


@pytest.mark.parametrize("no_color", [True, False])
def test_bar_fits_80_columns_and_heeds_no_color(monkeypatch, no_color):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    bar = LiveProgress(out)
    bar.begin([("t", "shared-weight-summation", "gru_reset_before", "float64")] * 800, 0, 1)
    for _ in range(50):
        bar.finding("t", finding("fail", property="shared-weight-summation", cell="gru_reset_before"))
        bar.bars.refresh()
    bar.end()
    text = out.getvalue()
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame) for frame in re.split(r"[\r\n]", text)]
    assert max(map(len, frames)) <= 80
    (shown,) = {frame.strip()[1:] for frame in frames if "50/800" in frame}  # the spinner turns
    assert re.fullmatch(r" ━*[╸╺]?━* +50/800 50 failed about 6 min left shared-weight-summation *", shown)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", text)) is not no_color


WRONG = """
from types import SimpleNamespace as NS
from implementations.numpy_bptt import gradients as right
SUPPORTS = {"cells": ["elman"], "activations": ["tanh"], "readouts": ["none"], "losses": ["cotangent"],
            "truncations": ["full"], "dtypes": ["float64"], "lengths": False}

def gradients(problem):
    answer = dict(right(problem))
    return answer | {"dW_hh": answer["dW_hh"] * 1.25 + 1}
"""


@pytest.fixture
def spoken_to(monkeypatch, tmp_path):
    """Run a command with both of its streams on a terminal of 80 columns, or none: (status, the lines)."""
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words, terminal):
        stream = Terminal() if terminal else io.StringIO()
        with monkeypatch.context() as streams:
            streams.setattr(sys, "stdout", stream)
            streams.setattr(sys, "stderr", stream)
            status = main(list(map(str, words)))
        return status, stream.getvalue().splitlines()

    return run


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Two vectors, and an answer of zeros to one of them."""
    folder = tmp_path_factory.mktemp("few")
    names = ["elman-tanh-finals-full-t7b3d5h3-single", "elman-tanh-finals-full-t6b2d3h5k4-double"]
    assert main(["vectors", "export", "--out", str(folder / "v"), "--select", ",".join(names), "--jobs", "1"]) == 0
    (entry,) = (e for e in json.loads((folder / "v/index.json").read_text())["vectors"] if e["id"] == names[0])
    keys = {key: [0.5] * math.prod(shape) for key, shape in entry["arrays"].items()}
    told = {"format": "bpttcheck-answers", "version": 1, "answers": {names[0]: {"float32": keys}}}
    (folder / "answers.json").write_text(json.dumps(told))
    return folder


def test_lines_are_folded_on_a_terminal_and_whole_in_a_log(spoken_to, few, tmp_path):
    """The same words either way; none beyond the 80th column but in a command to be copied."""
    commands = {
        ("certify", "numpy", "--select", "nope"): 2,
        ("doctor", "wrong.py", "--in-process"): 1,
        ("explore", "wrong.py", "--in-process", "--select", "oracle-agreement", "--minutes", "0.2"): 1,
        ("replay", "CASE", "wrong.py", "--in-process"): 1,
        ("replay", "CASE", "numpy", "--in-process"): 0,
        ("vectors", "verify", few / "answers.json", "--vectors", few / "v"): 1,
        ("list", "implementations"): 0,
        ("list", "properties"): 0,
    }
    for words, want in commands.items():
        case = next(iter(sorted(tmp_path.glob("cases/*.safetensors"))), None)
        told = [case.relative_to(tmp_path) if word == "CASE" else word for word in words]
        (status, folded), (again, whole) = spoken_to(*told, terminal=True), spoken_to(*told, terminal=False)
        assert (status, again) == (want, want), (words, folded)
        beyond = [line for line in folded if len(line) > 80]
        assert not [line for line in beyond if not line.lstrip().startswith("replay: ")], words
        if words != ("list", "implementations"):  # how long its reasons are depends on what is installed
            assert max(map(len, whole)) > 80, words
        if words[0] != "explore":  # its counts depend on the time
            assert " ".join(folded).split() == " ".join(whole).split(), words


def test_one_is_said_in_the_singular():
    assert conclude(["inconclusive"], ["dx"]) == ("no verdict", "1 of 1 finding is inconclusive")
    assert conclude(["error", "pass", "error"], ["dx"]) == ("no verdict", "2 of 3 findings are error")
    search = Search.__new__(Search)
    for examples, said in ((1, "0 of 1 example was conclusive,"), (2, "0 of 2 examples were conclusive,")):
        search.finding = Finding(PROPERTIES["memory"], "elman", "float64", examples=examples)
        search._conclude()
        assert search.finding.message.startswith(said)
    one, two = report(target(name="a")), report(target(name="a"), target(name="b"), target(name="c"))
    assert "more target" not in _comment(one, 1)
    assert "2 more targets are in `report.html`." in _comment(two, 1)
    assert "1 more target is in `report.html`." in _comment(two, 2)
    assert finding_line("a", finding("pass", examples=1)).partition(": ")[2].startswith("1 example, ")


def test_an_outcome_without_a_message_is_said_without_one(capsys):
    case = Case(None, {})
    assert _passed(Outcome(case, "inconclusive"), "mine.py", "float64") == 3
    assert capsys.readouterr().out == "no verdict: mine.py: inconclusive\n"
    assert _passed(Outcome(case, "declined", message="too large"), "mine.py", "float64") == 3
    assert capsys.readouterr().out == "no verdict: mine.py: declined: too large\n"


def test_findings_told_above_a_bar_fit_80_columns(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    bar = LiveProgress(out, verbose=True)
    bar.begin(PLAN, 0, 1)
    bar.finding("adapters/a_longer_name.py", finding("pass", property="shared-weight-summation", cell="elman"))
    bar.end()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "shared-weight-summation" in text
    assert max(map(len, re.split(r"[\r\n]", text))) <= 80


def test_estimate_weighs_each_property_by_itself():
    """Eight quick ones and one slow one are left: their own means, 1 and 60, divided by two processes."""
    estimate = Estimate(["quick"] * 12 + ["slow"] * 2, jobs=2)
    for _ in range(4):
        estimate.finding("quick", 1.0, executed=True)
    estimate.finding("slow", 60.0, executed=True)
    assert estimate.seconds() == (8 * 1.0 + 60.0) / 2


def test_estimate_says_nothing_before_it_knows_something():
    estimate = Estimate(["a"] * 20, jobs=1)
    for _ in range(LEAST):
        estimate.finding("a", 0.0, executed=False)  # unsupported ones teach nothing
        assert estimate.seconds() is None
    for _ in range(LEAST):
        estimate.finding("a", 1.0, executed=True)
    assert estimate.seconds() == 10 * 0.5


def test_estimate_ends_at_nothing():
    estimate = Estimate(["a"] * 8, jobs=4)
    for _ in range(8):
        estimate.finding("a", 1.0, executed=True)
    assert estimate.seconds() == 0.0
    assert spoken(0.0) == "a few seconds left"


def helps():
    """Every command's own parser."""
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_has_examples(monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as done:
        build_parser().parse_args([*filter(None, [command]), "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "example" in text
    assert f"bpttcheck {command}".strip() in text


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_help_are_commands_that_parse(command):
    found = re.findall(r'^  (?:eval "\$\()?bpttcheck (.*)$', helps()[command].epilog, re.MULTILINE)
    assert found
    for line in found:
        words = shlex.split(re.split(r"\s{3,}|\)\"| > ", line)[0])
        assert build_parser().parse_args(words).command == words[0]


def test_options_are_not_abbreviated(capsys):
    """A report records its command, and --jobs and --resume are left out of it by their names."""
    assert main(["certify", "numpy", "--res"]) == 2
    assert "unrecognized arguments: --res" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The completion scripts of all shells."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        with (folder / shell).open("w") as file:
            command = [sys.executable, "-P", "-m", "conformance", "completion", shell]
            subprocess.run(command, stdout=file, check=True)
    (folder / "mine.py").touch()
    (folder / "case.safetensors").touch()
    (folder / "cases").mkdir()
    (folder / "more").mkdir()
    (folder / "more" / "yours.py").touch()
    return folder


BASH = """
. ./bash
line=$1
read -ra COMP_WORDS <<< "$line"
[[ $line == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line}
_shtab_bpttcheck bpttcheck "${COMP_WORDS[COMP_CWORD]}"
echo "${COMPREPLY[@]}"
"""
FISH = r'source fish; echo (complete -C $argv[1] | string replace -r "\t.*" "" | string join " ")'
COMPLETED = {
    "bpttcheck cer": "certify",
    "bpttcheck certify --prof": "--profile",
    "bpttcheck certify --profile ": "smoke standard thorough",
    "bpttcheck certify --select oracle": "oracle-agreement",
    "bpttcheck certify --select oracle-agreement,ca": "oracle-agreement,causality",
    "bpttcheck certify mi": "mine.py",
    "bpttcheck certify num": "numpy",
    "bpttcheck certify ": "c jax numpy torch torch-compile torch-nn cases/ more/ mine.py",
    "bpttcheck certify numpy torch-": "torch-nn torch-compile",
    "bpttcheck certify numpy --seed 1 torch-c": "torch-compile",
    "bpttcheck certify more/": "more/yours.py",
    "bpttcheck explore --select mem": "memory",
    "bpttcheck explore --profile": "",
    "bpttcheck doctor nu": "numpy",
    "bpttcheck replay ": "case.safetensors cases/ more/",
    "bpttcheck replay case.safetensors torch-n": "torch-nn",
    "bpttcheck oracle cas": "case.safetensors cases/",
    "bpttcheck new mine --cell elm": "elman",
    "bpttcheck study run S1": "S1 S10 S11",
    "bpttcheck study run cli": "clipping",
    "bpttcheck claims C3": "C30 C31 C32 C33 C34",
    "bpttcheck claims C01 C31": "C31",
    "bpttcheck vectors verify --dtypes float32,bf": "float32,bfloat16",
    "bpttcheck vectors export --select ora": "",
    "bpttcheck list c": "cells",
    "bpttcheck doctor mine.py --cell lstm_": "lstm_1997 lstm_peephole",
}


@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("fish", FISH)])
def test_completion_completes(scripts, shell, script):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    for line, want in COMPLETED.items():
        words = [program, "-c", script, *(["bash"] if shell == "bash" else []), line]
        done = subprocess.run(words, cwd=scripts, capture_output=True, text=True, check=True)
        got = {word.rstrip("/") for word in done.stdout.split()}  # bash's own reader adds the slash of a folder
        assert got == {word.rstrip("/") for word in want.split()}, line


ZSH = """
PS1=; fpath=($PWD/functions $fpath)
autoload -Uz compinit; compinit -u -D
bpttcheck() { print -r -- "$*" >> said }
"""


def test_completion_completes_in_zsh(scripts):
    """Typed on a terminal, since its completion knows no other way; a word that is unique is completed."""
    program = shutil.which("zsh")
    if program is None:
        pytest.skip("zsh is not installed")
    (scripts / "functions").mkdir()
    shutil.copy(scripts / "zsh", scripts / "functions" / "_bpttcheck")
    (scripts / "rc").write_text(ZSH, encoding="utf-8")
    wanted = {line.removeprefix("bpttcheck "): want for line, want in COMPLETED.items() if len(want.split()) == 1}
    wanted |= {"certify numpy mi": "mine.py"}
    terminal, inner = pty.openpty()
    child = subprocess.Popen(
        [program, "-f", "-i"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=scripts,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(inner)
    try:
        os.write(terminal, b". ./rc\n")
        for line in wanted:
            os.write(terminal, f"bpttcheck {line}\t\n".encode())
        os.write(terminal, b"exit\n")
        with contextlib.suppress(OSError):
            while os.read(terminal, 1 << 16):
                pass
    finally:
        os.close(terminal)
        child.wait()
    said = (scripts / "said").read_text(encoding="utf-8").splitlines()
    assert [line.rstrip() for line in said] == [
        " ".join([*line.split(" ")[:-1], want]) for line, want in wanted.items()
    ]


def test_completion_for_zsh_is_a_script_of_zsh(scripts):
    program = shutil.which("zsh")
    if program is None:
        pytest.skip("zsh is not installed")
    subprocess.run([program, "-n", scripts / "zsh"], check=True)


def test_examples_are_indented_by_two():
    """So that the tests above see each of them."""
    for name, parser in helps().items():
        assert textwrap.dedent(parser.epilog).count("bpttcheck ") >= 1, name
        assert not re.search(r"^ ?bpttcheck", parser.epilog, re.MULTILINE), name


def test_interrupt_hint_can_be_pasted(monkeypatch, capsys):
    """The words of the command come back quoted: they may hold spaces."""
    from conformance.commands import certify

    results = {"incomplete": {"findings": 1, "planned": 2}}
    monkeypatch.setattr(certify, "render", lambda _: None)
    monkeypatch.setattr(certify, "print_summary", lambda *_: None)
    words = ["certify", "my file.py", "--seed=1", "--cases", "a b", "--resume"]
    certify._tell_interrupted(certify.Interrupted(results), argparse.Namespace(report_dir=Path("r"), words=words))
    line = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(line.removeprefix("go on with: ")) == ["bpttcheck", *words]
    assert os.linesep not in line
