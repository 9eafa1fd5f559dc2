"""A report directory holds one report: what the former one left goes, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from conformance.belongings import former, remove_former
from conformance.cli import main
from tests.test_render import passing, write

ELMAN = Path(__file__).parent / "mutants" / "elman.py"


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def report(tmp_path):
    """A report directory with two cases and a script, all named in its results, and a file of somebody else's."""
    folder = tmp_path / "cases"
    folder.mkdir()
    files = {}
    for name in ("aaaaaaaaaaaa.safetensors", "aaaaaaaaaaaa.py", "bbbbbbbbbbbb.safetensors", "cccccccccccc.safetensors"):
        data = name.replace("a", "z").encode()
        (folder / name).write_bytes(data)
        os.utime(folder / name, (1e9, 1e9))
        if not name.startswith("c"):
            files[f"cases/{name}"] = digest(data)
    write(tmp_path, {**passing(), "files": files})
    return tmp_path


def names(report):
    return {path.name for path in (report / "cases").iterdir()}


def test_the_former_files_go_and_the_new_and_strange_ones_stay(report):
    before = former(report)
    assert len(before) == 3
    gone = remove_former(before, {"cases/bbbbbbbbbbbb.safetensors": "whatever"}, report, time.time())
    assert [path.name for path in gone] == ["aaaaaaaaaaaa.py", "aaaaaaaaaaaa.safetensors"]
    assert names(report) == {"bbbbbbbbbbbb.safetensors", "cccccccccccc.safetensors"}


@pytest.mark.parametrize("case", ["changed", "young", "named", "link", "folder", "elsewhere", "unreadable"])
def test_what_somebody_may_need_stays(report, case):
    before, now, began = former(report), {}, time.time()
    mine = report / "cases" / "aaaaaaaaaaaa.py"
    if case == "changed":
        mine.write_text("edited")
        os.utime(mine, (1e9, 1e9))
    elif case == "young":
        os.utime(mine, (began + 1, began + 1))
    elif case == "named":
        (report / "cases" / "notes.txt").write_text("see aaaaaaaaaaaa.py")
    elif case == "link":
        mine.rename(report / "kept.py")
        mine.symlink_to(report / "kept.py")
    elif case == "folder":
        (report / "cases").rename(report / "elsewhere")
        (report / "cases").symlink_to(report / "elsewhere")
    elif case == "elsewhere":
        (report / "report.py").write_bytes(b"mine")
        before |= {"cases/../report.py": digest(b"mine"), "report.py": digest(b"mine")}
        mine = report / "report.py"
    else:
        (report / "results.json").write_text("{")
        before = former(report)
        assert before == {}
    remove_former(before, now, report, began)
    assert mine.exists()


def test_a_run_replaces_the_report_before_it(tmp_path, capsys):
    words = ["--select", "oracle-agreement", "--profile", "smoke", "--jobs", "1", "--report-dir", str(tmp_path)]
    kept = tmp_path / "cases" / "collected.safetensors"

    def files():
        named = json.loads((tmp_path / "results.json").read_text())["files"]
        for name, sha256 in named.items():
            assert digest((tmp_path / name).read_bytes()) == sha256
        return {tmp_path / name for name in named}

    assert main(["certify", f"{ELMAN}:third_row_lost", *words]) == 1
    first = files()
    kept.write_bytes(b"somebody else's")
    assert main(["certify", f"{ELMAN}:recurrent_weight_overwritten", *words]) == 1
    second = files()
    assert first - second
    assert second - first
    assert set((tmp_path / "cases").iterdir()) == second | {kept}
    page = (tmp_path / "report.html").read_text()
    assert not any(path.name in page for path in first - second)
    capsys.readouterr()


def test_a_collection_given_as_cases_stays(tmp_path, capsys):
    words = ["--select", "oracle-agreement", "--profile", "smoke", "--jobs", "1", "--report-dir", str(tmp_path)]
    assert main(["certify", f"{ELMAN}:third_row_lost", *words]) == 1
    before = set((tmp_path / "cases").iterdir())
    assert main(["certify", f"{ELMAN}:recurrent_weight_overwritten", *words, "--cases", str(tmp_path / "cases")]) == 1
    assert before <= set((tmp_path / "cases").iterdir())
    capsys.readouterr()
