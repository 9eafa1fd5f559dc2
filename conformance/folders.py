"""What stands where a folder should be, in the words of a message: it may be a file, or a link that leads nowhere."""

from __future__ import annotations

from pathlib import Path


def obstacle(folder: Path) -> str | None:
    """What is at a path, or above it, that is no folder; None where nothing is in the way.

    >>> obstacle(Path(__file__)), obstacle(Path(__file__).parent / "no" / "such")
    ('it is a file', None)
    """
    for place in (folder, *folder.parents):
        what = "it is" if place == folder else f"{place} is"
        try:
            if place.is_dir():
                return None
            if place.is_symlink() and not place.exists():
                return f"{what} a link to {place.readlink()}, where nothing is"
            if place.exists():
                return f"{what} a file"
        except OSError:  # what cannot be looked at says so where it is used
            return None
    return None


def no_folder(folder: Path) -> str:
    """Why a path is no folder that can be read."""
    return obstacle(folder) or "there is no such folder"


__all__ = ["no_folder", "obstacle"]
