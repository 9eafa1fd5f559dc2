"""Lines for a screen: in colour on a terminal unless NO_COLOR is set, plain elsewhere, in whatever encoding it has.

What `say` prints is folded on a terminal and whole in a log, where a program may read along.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from conformance.render.terminal import coloured, encodable, folded, visible


def write(lines: Sequence[Text], stream: TextIO) -> None:
    """Write lines as they are, none of them wrapped."""
    buffer = io.StringIO()
    colour = coloured(stream)
    console = Console(
        file=buffer,
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
        _environ={},
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    text = "".join(line.rstrip() + "\n" for line in buffer.getvalue().splitlines())
    stream.write(encodable(text, stream))


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a text in printable characters, at once: its lines folded on a terminal, whole elsewhere."""
    stream = sys.stdout if stream is None else stream
    lines = [visible(line) for line in text.split("\n")]
    if stream.isatty():
        columns = max(shutil.get_terminal_size((80, 24)).columns, 20)
        lines = [part for line in lines for part in folded(line, columns)]
    stream.write(encodable("".join(line + "\n" for line in lines), stream))
    stream.flush()


__all__ = ["coloured", "say", "write"]
