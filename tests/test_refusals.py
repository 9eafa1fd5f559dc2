"""Bad usage: status 2 and one line that blames the right option, says what is there, and what would be right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conformance.claims import CLAIMS
from conformance.cli import main
from conformance.commands.setting import seed
from conformance.folders import obstacle
from conformance.render.terminal import many
from conformance.studies import STUDIES

ADAPTERS = Path(__file__).parent / "adapters"

GOOD = f"{ADAPTERS}/good.py"


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """The line with which a command is refused."""
    monkeypatch.chdir(tmp_path)

    def run(*words) -> str:
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        assert (status, said.out, said.err.count("\n")) == (2, "", 1), said
        assert said.err.startswith("bpttcheck: ")
        return said.err.removeprefix("bpttcheck: ").rstrip("\n")

    return run


@pytest.fixture
def places(tmp_path):
    """A file, a link that leads nowhere, and one that leads to the file."""
    (tmp_path / "afile").write_text("[]", encoding="utf-8")
    (tmp_path / "nowhere").symlink_to("no/such")
    (tmp_path / "there").symlink_to("afile")
    return tmp_path


STANDS = {
    "afile": "it is a file",
    "there": "it is a file",
    "nowhere": "it is a link to no/such, where nothing is",
    "afile/x": "afile is a file",
    "nowhere/x/y": "nowhere is a link to no/such, where nothing is",
}


@pytest.mark.parametrize("place", STANDS)
def test_what_stands_where_a_directory_is_to_be_made_is_said(refused, places, place):
    assert (places / place.partition("/")[0]).is_symlink() == place.startswith(("there", "nowhere"))
    right = "expected a directory, or a name that is free"
    for words in (["certify", GOOD], ["claims", "C01"], ["study", "run", "S2"]):
        line = refused(*words, "--report-dir", place)
        assert line == f"--report-dir {place}: {STANDS[place]}; {right}"
    assert refused("explore", GOOD, "--cases", place) == f"--cases {place}: {STANDS[place]}; {right}"


@pytest.mark.parametrize("place", [*STANDS, "missing"])
def test_what_stands_where_a_directory_is_to_be_read_is_said(refused, places, place):
    says = STANDS.get(place, "there is no such folder")
    assert refused("matrix", place) == f"DIR {place}: {says}; expected a folder with report directories in it"
    assert refused("render", place) == f"DIR {place}: {says}; expected a directory with a results.json in it"
    line = refused("certify", GOOD, "--cases", place)
    assert line == f"--cases {place}: {says}; expected a folder with case files (.safetensors)"
    (places / "answers.json").touch()
    line = refused("vectors", "verify", "answers.json", "--vectors", place)
    assert ("vectors export" in line, says in line or place == "missing") == (True, True)


def test_options_with_nothing_in_them_are_blamed_by_name(refused):
    assert refused("explore", GOOD, "--cases", "") == (
        "--cases: got nothing; expected the name of a directory, such as cases"
    )
    assert refused("certify", GOOD, "--report-dir", "").startswith("--report-dir: got nothing")


def test_nothing_is_in_the_way_of_a_directory_that_can_be_made(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for place in ("real", "link", "link/new", "new", "new/er"):
        assert obstacle(tmp_path / place) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[]", "a list"), ("3", "a number"), ("null", "null"), ('"x"', "a string"), ("true", "a boolean")],
)
def test_results_that_are_no_object_are_told_what_would_be_right(refused, tmp_path, text, kind):
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    want = f"results.json: got {kind}, expected an object with the results of `bpttcheck certify`"
    assert refused("render", ".") == want


def test_an_unknown_study_is_said_before_a_missing_option(refused):
    line = refused("study", "run", "nope")
    assert line.startswith("argument ID: study 'nope' is not known; there are S1, ")
    assert all(name in line for name in STUDIES)
    assert "required: --report-dir" in refused("study", "run", next(iter(STUDIES)).lower())


@pytest.mark.parametrize(
    "words",
    [
        ["certify", "-dash.py"],
        ["certify", "numpy", "-dash.py:gradients"],
        ["doctor", "-q.py"],
        ["certify", "-v.py"],
        ["explore", "--dash.py"],
        ["replay", "-case.safetensors"],
    ],
)
def test_a_file_named_like_an_option_is_told_how_to_be_written(refused, tmp_path, words):
    (tmp_path / "-case.safetensors").touch()
    assert refused(*words) == f"{words[-1]} reads as an option; expected ./{words[-1]} for the file of that name"


def test_a_file_named_like_an_option_is_taken_as_it_was_told_to_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(GOOD, tmp_path / "-dash.py")
    assert main(["doctor", "./-dash.py", "--cell", "elman"]) == 0, capsys.readouterr()


def test_other_words_that_read_as_options_are_said_as_ever(refused):
    assert "unrecognized arguments: --nope" in refused("certify", "numpy", "--nope")
    assert "unrecognized arguments: --nope=a.py" in refused("certify", "numpy", "--nope=a.py")


@pytest.mark.parametrize("program", ["true", "false", "cat"])
def test_a_program_that_is_no_python_is_named(refused, program):
    path = shutil.which(program)
    line = refused("doctor", GOOD, "--python", path)
    assert line.endswith(f"it runs under {path!r}, expected a Python interpreter that has NumPy")


def test_a_worker_under_our_own_python_is_not_blamed_on_it(refused, tmp_path):
    (tmp_path / "mine.py").write_text("import os\nos._exit(3)\n", encoding="utf-8")
    assert refused("doctor", "mine.py") == "target 'mine.py': its worker did not start: ended its process with status 3"


@pytest.mark.parametrize("text", ["x", "1.5", "", "0x10", str(1 << 63), "9" * 400, "9" * 5000, "-" + "9" * 400])
@pytest.mark.parametrize("command", ["certify", "explore", "claims"])
def test_a_seed_that_no_report_holds_is_refused(refused, command, text):
    words = [command, *([] if command == "claims" else [GOOD]), f"--seed={text}"]
    assert "expected an integer between -2**63 and 2**63" in refused(*words)


def test_a_negative_seed_is_a_seed(tmp_path, capsys):
    """It is hashed in its decimal digits, as any other is; the studies of `claims` seed NumPy, which has none such."""
    words = ["certify", GOOD, "--profile", "smoke", "--select", "unit-permutation", "-q", "--jobs", "1"]
    worst = []
    for number in ("-1", "1", "-1"):
        assert main([*words, "--seed", number, "--report-dir", str(tmp_path / number)]) == 0
        results = json.loads((tmp_path / number / "results.json").read_text(encoding="utf-8"))
        assert results["seed"] == seed(number)
        worst.append([finding["worst"] for finding in results["targets"][0]["findings"]])
    assert worst[0] == worst[2] != worst[1]
    capsys.readouterr()
    assert main(["claims", next(iter(CLAIMS)), "--seed", "-1"]) == 2
    assert "--seed: got -1, expected an integer of at least 0" in capsys.readouterr().err


def test_one_is_singular():
    assert [many(n, "more array") for n in (0, 1, 2)] == ["0 more arrays", "1 more array", "2 more arrays"]
