"""Which files in cases/ belong to a report, and what becomes of those that belonged to the report before it.

A report directory holds one report. Once a new one is written there, a case or script of the old one goes, if

    the old results.json names it, with its digest, and the new one does not;
    it is still what was written then, and was not written anew since this run began;
    no file that stays in cases/ names it;
    and cases/ is not a collection of its own, given by --cases.

Everything else stays: whoever wants to keep a case elsewhere copies it, and `bpttcheck explore` has a folder for that.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bptt.errors import FileError
from bptt.files import load_case
from conformance.render import ReportError, load

NAME = re.compile(r"cases/[0-9a-f]{12}\.(safetensors|py)")
MOST_READ = 2**20
"""So many bytes of a file that stays are read for the names of others."""
MOST_FILES = 10_000
"""In a folder with more files nothing is removed."""

Files = dict[str, str]
"""Names relative to the report directory, and SHA-256 of the contents."""


def files_of(targets: list[dict[str, Any]], report_dir: Path) -> Files:
    """The files of all counterexamples, and the problems that have to be asked before theirs."""
    names = set()
    for target in targets:
        for finding in target["findings"]:
            found = finding["counterexample"]
            if found:
                names |= {found[key] for key in ("case", "worst_case", "script") if found[key]}
            if finding["picture"] and finding["picture"]["case"]:
                names.add(finding["picture"]["case"])
    for name in [name for name in names if name.endswith(".safetensors")]:
        with contextlib.suppress(FileError, OSError):
            after = load_case(report_dir / name)[1].get("after")
            names |= {f"cases/{after}"} if isinstance(after, str) else set()
    found = {name: _digest(report_dir / name) for name in sorted(names)}
    return {name: digest for name, digest in found.items() if digest is not None}


def former(report_dir: Path) -> Files:
    """The files of the report that is in a directory already; none where there is none, or one that cannot be read."""
    try:
        files: Files = load(report_dir).get("files", {})
    except ReportError:
        return {}
    return files


def remove_former(before: Mapping[str, str], now: Mapping[str, str], report_dir: Path, began: float) -> list[Path]:
    """Remove the files of the former report that nothing needs any more; returns them. `began` is in time.time()."""
    folder = report_dir / "cases"
    try:
        if folder.is_symlink() or not folder.is_dir():
            return []
        every = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
        if len(every) > MOST_FILES:
            return []
        doomed = {
            path
            for path in every
            if (name := f"cases/{path.name}") in before
            and NAME.fullmatch(name)
            and name not in now
            and path.stat().st_mtime < began
            and _digest(path) == before[name]
        }
        stay = [_beginning(path) for path in every if path not in doomed]
        doomed = {path for path in doomed if not any(path.stem.encode() in text for text in stay)}
        for path in doomed:
            path.unlink(missing_ok=True)
    except OSError:  # what cannot be looked at stays
        return []
    return sorted(doomed)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_READ)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


__all__ = ["files_of", "former", "remove_former"]
