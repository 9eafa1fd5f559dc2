"""Files are written whole or not at all, also where the process is killed on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.render import render
from conformance.whole import LEFT_BEHIND, write_whole
from tests.test_render import failing, passing, write

FILES = {"results.json", "report.html", "report.md", "junit.xml", "results.sarif", "badge.svg"}

KILLED = """
import io, os, pathlib, sys
from conformance.render import load, render
from conformance.results import write_results

folder, moment = pathlib.Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def count(original):
    def counted(*args, **kwargs):
        global calls
        calls += 1
        if calls == moment:
            os._exit(9)
        return original(*args, **kwargs)
    return counted

os.fsync, pathlib.Path.replace = count(os.fsync), count(pathlib.Path.replace)
results = load(folder / "new")
write_results(results, folder)
render(folder)
print(calls)
"""


def test_a_killed_run_leaves_every_file_whole(tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    after = {path.name: path.read_bytes() for path in render(write(new, failing()))}
    before = {path.name: path.read_bytes() for path in render(write(tmp_path, passing()))}
    old_results = (tmp_path / "results.json").read_bytes()
    moments = 2 * len(FILES)  # each file is flushed to the disk, and moved to its place

    def run(moment):
        words = [sys.executable, "-c", KILLED, str(tmp_path), str(moment)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    for moment in (2, 3 + len(after)):
        done = run(moment)
        assert done.returncode == 9, done.stderr
        if moment == 2:  # results.json has not been moved yet
            assert (tmp_path / "results.json").read_bytes() == old_results
        for name, old in before.items():
            data = (tmp_path / name).read_bytes()
            assert data in (old, after[name])
            assert moment > 2 + len(after) or data == old
    assert run(0).stdout.split() == [str(moments)]
    assert {name: (tmp_path / name).read_bytes() for name in after} == after


def test_what_a_killed_run_left_goes_later(tmp_path):
    path = tmp_path / "results.json"
    old, new, foreign = (tmp_path / f".results.json.{name}.tmp" for name in ("0" * 16, "1" * 16, "mine"))
    for left in (old, new, foreign):
        left.write_bytes(b"half")
    past = old.stat().st_mtime - 2 * LEFT_BEHIND
    for left in (old, foreign):
        os.utime(left, (past, past))
    write_whole({path: b"{}"})
    assert {left.name for left in tmp_path.iterdir()} == {path.name, new.name, foreign.name}


def test_nothing_is_replaced_before_all_is_written(tmp_path):
    first = tmp_path / "a"
    first.write_bytes(b"old")
    with pytest.raises(OSError, match="No such file"):
        write_whole({first: b"new", tmp_path / "missing" / "b": b"new"})
    assert first.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_to_move_leaves_nothing_beside(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write_whole({tmp_path / "a": b"new"})
    assert list(tmp_path.iterdir()) == []
