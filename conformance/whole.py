"""Files written whole or not at all: beside their places, then moved there, so that a crash leaves the old ones."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

LEFT_BEHIND = 3600.0
"""A half-written file of ours that is older, in seconds, belongs to a run that was killed, and is removed."""


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files: nothing is replaced before all of them are whole and on the disk. Raises: OSError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a"
    ...     write_whole({path: b"1"})
    ...     path.read_bytes(), len(list(Path(folder).iterdir()))
    (b'1', 1)
    """
    written: dict[Path, Path] = {}
    try:
        for path, data in contents.items():
            beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
            written[path] = beside
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, beside in written.items():
            beside.replace(path)
    finally:
        for beside in written.values():
            beside.unlink(missing_ok=True)
    for path in contents:
        _sweep(path)


def _sweep(path: Path) -> None:
    """Remove what killed runs left of a file."""
    for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 16}.tmp"):
        try:
            if time.time() - left.stat().st_mtime > LEFT_BEHIND:
                left.unlink()
        except OSError:  # somebody else's, or gone
            continue


__all__ = ["write_whole"]
