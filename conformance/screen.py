"""Lines for a screen: in colour on a terminal unless NO_COLOR is set, plain elsewhere, in whatever encoding it has."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

ASCII = str.maketrans({"→": "->", "÷": "/", "·": "-", "…": "~", "✓": "+", "✗": "x", "○": "o", "–": "-", "─": "-"})


def coloured(stream: TextIO) -> bool:
    """Whether a stream wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def encodable(text: str, stream: TextIO) -> str:
    """A text in what the stream's encoding has: plain signs for ours, escapes for all else."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


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


__all__ = ["coloured", "encodable", "write"]
