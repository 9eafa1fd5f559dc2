"""Lines for a screen: in colour on a terminal unless NO_COLOR is set, plain elsewhere, in whatever encoding it has.

What `say` prints is folded on a terminal and whole in a log, where a program may read along.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    put(encodable(text, stream), stream)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a text in printable characters, at once: its lines folded on a terminal, whole elsewhere."""
    stream = sys.stdout if stream is None else stream
    lines = [visible(line) for line in text.split("\n")]
    if stream.isatty():
        columns = max(shutil.get_terminal_size((80, 24)).columns, 20)
        lines = [part for line in lines for part in folded(line, columns)]
    put(encodable("".join(line + "\n" for line in lines), stream), stream)


def tell(text: str) -> None:
    """Print a text on standard output as it is, at once."""
    put(encodable(text + "\n", sys.stdout), sys.stdout)


def put(text: str, stream: TextIO) -> None:
    """Write a text at once. Raises: OSError, as `flush`."""
    with spoken(stream):
        stream.write(text)
        stream.flush()


def flush(stream: TextIO) -> None:
    """Let go of what is still held back; a reader who has left is no error. Raises: OSError that names the stream."""
    with spoken(stream):
        stream.flush()


@contextmanager
def spoken(stream: TextIO) -> Iterator[None]:
    """Whoever read the output may have gone: then the rest goes nowhere, and the exit status is what it would be."""
    try:
        yield
    except BrokenPipeError:
        lose(stream)
    except OSError as error:
        lose(stream)
        name = "standard output" if stream is sys.stdout else "standard error" if stream is sys.stderr else None
        raise OSError(error.errno, error.strerror, name) from error


def lose(stream: TextIO) -> None:
    """Let what is still held back, and what comes, go nowhere: Python would try again at its end, and say so."""
    with contextlib.suppress(OSError, ValueError):  # a stream that is no file has nothing to lose
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


__all__ = ["coloured", "flush", "lose", "put", "say", "spoken", "tell", "write"]
