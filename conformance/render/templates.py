"""The Jinja environment of every page: what is printed is escaped, and what does not print is made visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from conformance.render.terminal import visible

if TYPE_CHECKING:
    from pathlib import Path


class Lines(str):
    """A text whose line ends are kept."""

    __slots__ = ()


def environment(folder: Path) -> Environment:
    """An environment for the HTML templates of a folder."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: object) -> object:
    """Make what does not print visible, in every string that a template prints."""
    if isinstance(value, Lines):
        return visible(str(value), lines=True)
    return visible(value) if type(value) is str else value


__all__ = ["Lines", "environment"]
