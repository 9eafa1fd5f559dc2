"""docs/tutorial.md is followed literally, all but its installation; what it shows is what is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
CASE = re.compile(r"cases/[0-9a-f]{12}")


def installed(folder: Path) -> dict[str, str]:
    """What the first block leaves behind, without the network: two commands, and where they are found."""
    import conformance

    code = Path(conformance.__file__).parent.parent
    commands = {
        ".venv/bin/python": f'exec "{sys.executable}" "$@"',
        ".bpttcheck/bin/bpttcheck": f'PYTHONPATH="{code}" exec "{sys.executable}" -P -m conformance "$@"',
    }
    for place, line in commands.items():
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (folder / place).chmod(0o755)
    return os.environ | {"PATH": f"{folder}/.bpttcheck/bin:{os.environ['PATH']}", "COLUMNS": "80"}


def masked(text: str) -> set[str]:
    """The lines of a text, with its numbers, which may be those of another release, left out."""
    return {re.sub(r"0x[0-9a-fp.+-]+|[\d][\d.,e+-]*| +|─+", " ", line).strip() for line in text.splitlines()}


def test_tutorial_is_true(tmp_path):
    assert BLOCKS[0][0] == "sh"
    assert "pip install" in BLOCKS[0][1]
    environment = installed(tmp_path)
    said, case, statuses = "", "", []
    for kind, text in BLOCKS[1:]:
        if kind == "python":
            name = text.partition('"""')[2].partition(":")[0]
            assert (tmp_path / name).is_file()  # what `new` wrote
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif kind == "toml":
            (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
        elif kind == "text":
            shown = CASE.sub(case, text)
            assert masked(shown) <= masked(said), said
        else:
            words = CASE.sub(case, text)
            done = subprocess.run(
                ["sh", "-c", words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            want = int((re.findall(r"# exit status (\d)", text) or ["0"])[-1])
            assert done.returncode == want, (words, done.stdout, done.stderr)
            statuses.append(done.returncode)
            said = done.stdout + done.stderr
            case = (CASE.findall(said) or [case])[0]
    assert statuses == [0, 1, 0, 0, 1, 1, 0]
    assert (tmp_path / "reports" / "report.html").is_file()


def test_tutorial_begins_where_new_ends():
    """The file of the page offers what the new adapter offers."""
    from bptt.cells import CELLS
    from conformance.commands.new import adapter

    parts = [text for kind, text in BLOCKS if kind == "python"]
    assert len(parts) == 1
    spaces: list[dict] = [{}, {}]
    for text, space in zip((parts[0], adapter("my_tanh", CELLS["elman"])), spaces, strict=True):
        exec(compile(text, "my_tanh.py", "exec"), space)  # noqa: S102 - our own page, our own text
    assert spaces[0]["SUPPORTS"] == spaces[1]["SUPPORTS"]
