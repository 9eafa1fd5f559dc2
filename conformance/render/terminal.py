r"""The summary on a terminal, and the rules of plain text that every form of the report shares.

Names, messages and notes come from whoever wrote the target: nothing of them reaches a terminal, a page or a
comment but printable characters. What does not print is shown as an escape (`\x1b`, `\u202e`).
"""

from __future__ import annotations

import io
import math
import os
import shutil
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

FAILURES = ("fail", "crash", "timeout")
"""The verdicts of a finding that are the target's fault."""
SEVERITY = ("fail", "crash", "timeout", "error", "inconclusive", "pass", "unsupported")
"""The verdicts of a finding, the gravest first."""

_COLOURS = {"certified": "green", "not conformant": "red", "no verdict": "yellow"}
_ASCII = str.maketrans({"→": "->", "÷": "/", "·": "-", "…": "~", "✓": "+", "✗": "x", "○": "o", "–": "-", "─": "-"})
WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False}
COMMANDS = ("replay:", "go on with:", "insert:", "bpttcheck certify")
"""What begins a line that is to be copied."""
MOST_TEXT = 40_000
"""Characters of a text that a report keeps; the longest of ours is what a target printed, 8 KiB in escapes."""
_SHOWN = 10
_MESSAGE_LINES = 12
_NUMBERS = ("passed", "examples", "conclusive", "error÷budget")


def coloured(stream: TextIO) -> bool:
    """Whether a stream wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def encodable(text: str, stream: TextIO) -> str:
    """A text in what the stream's encoding has: plain signs for ours, escapes for all else."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def visible(text: str, *, lines: bool = False) -> str:
    """Show every character that does not print as an escape; `lines` keeps line ends and widens tabs."""
    if text.isprintable():
        return text
    if lines:
        text = text.replace("\r\n", "\n").expandtabs(4)
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of a text that is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail] + "…" + text[len(text) - tail :]


def bounded(text: str, most: int = MOST_TEXT) -> str:
    """Cut off the end of a text that is longer than any of ours, and say how much of it is left out.

    >>> bounded("a long message", 6)
    'a long… (8 more characters)'
    """
    return text if len(text) <= most else f"{text[:most]}… ({many(len(text) - most, 'more character')})"


def clip(text: str, lines: int, width: int) -> str:
    """Keep the first lines of a text, each no longer than `width` characters, and say how many are left out."""
    rows = [shorten(row, width) for row in text.rstrip().split("\n")]
    more = len(rows) - lines
    return "\n".join([*rows[:lines], f"… {more} more lines"] if more > 1 else rows)


def ratio(value: float | str | None) -> str:
    """Write error ÷ budget with two digits; what is not 1 is never written as 1."""
    if value is None:
        return "–"
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    near_one = number != 1 and 0.9 < number < 1.1
    text = f"{number:.4g}" if near_one else f"{number:.2g}"
    if near_one and float(text) == 1:
        return "<1" if number < 1 else ">1"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text


def percent(share: float | None) -> str:
    """Write a share as a percentage, rounded down: only all is 100 %."""
    return "–" if share is None else f"{math.floor(share * 1000) / 10:g} %"


def duration(seconds: float | str) -> str:
    """Write seconds as a person would: 12.3 s, 2 min 5 s."""
    number = float(seconds)
    if not math.isfinite(number) or number >= 1e9:
        return f"{number:.2g} s"
    if number < 100:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest} s"


def many(count: int, what: str) -> str:
    """Write a count and what is counted, in the plural but for 1.

    >>> many(1, "example"), many(0, "failure")
    ('1 example', '0 failures')
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def entry(array: str, where: Sequence[int]) -> str:
    """Name an entry as a message does: dW_hh[3,0]."""
    return f"{array}[{','.join(str(int(i)) for i in where)}]" if where else array


def measured(finding: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The worst entry of a finding, where it is what the verdict is about.

    What a crash, a timeout or a broken contract left behind are the examples before it, and those were in order.
    """
    worst: Mapping[str, Any] | None = finding["worst"]
    if worst is None or finding["verdict"] in ("pass", "inconclusive"):
        return worst
    if finding["verdict"] != "fail":
        return None
    found, value = finding["counterexample"], worst["error_over_budget"]
    beyond = value is not None and not float(value) <= 1
    return worst if beyond or (found and found["comparison"]) else None


def tally(findings: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count the findings by verdict, the gravest first."""
    counts = Counter(finding["verdict"] for finding in findings)
    return {verdict: counts[verdict] for verdict in SEVERITY if counts[verdict]}


def to_text(results: Mapping[str, Any], *, width: int = 80, colour: bool = False, fold: bool = False) -> str:
    """Render the summary: one row a target, then what failed and how to see it again."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=max(width, 74),
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
        _environ={},
    )
    console.print(_table(results["targets"], console.width))
    console.print()
    for target in results["targets"]:
        _print_target(console, target, fold=fold)
    facts = (
        f"bpttcheck {results['suite_version']}",
        results["profile"],
        f"seed {results['seed']}",
        duration(results["seconds"]),
    )
    console.print(Text(visible(shorten(" · ".join(facts), 200)), style="dim"), soft_wrap=True)
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().rstrip().split("\n"))


def _table(targets: Sequence[Mapping[str, Any]], width: int) -> Table:
    """One row a target; a long name loses its middle, so that no other column gives way."""
    rows = [_row(target) for target in targets]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("target")
    table.add_column("verdict", no_wrap=True)
    for heading in _NUMBERS:
        table.add_column(heading, justify="right", no_wrap=True)
    columns = zip(("verdict", *_NUMBERS), *rows, strict=True)
    room = max(width - sum(2 + max(map(len, column)) for column in columns), 8)
    for target, (verdict, *numbers) in zip(targets, rows, strict=True):
        name = shorten(visible(shorten(target["name"], 200)), room)
        table.add_row(Text(name), Text(verdict, style=f"bold {_COLOURS[verdict]}"), *numbers)
    return table


def _row(target: Mapping[str, Any]) -> tuple[str, ...]:
    executed = [finding for finding in target["findings"] if finding["verdict"] != "unsupported"]
    certified = target["certified"]
    return (
        target["verdict"],
        f"{tally(executed).get('pass', 0)}/{len(executed)}",
        f"{int(certified['examples']):,}",
        percent(certified["conclusive_share"]),
        ratio(certified["worst_error_over_budget"]),
    )


def _print_target(console: Console, target: Mapping[str, Any], *, fold: bool) -> None:
    """Say why there is no verdict, what was not claimed, and what failed."""
    name = visible(shorten(target["name"], 60))
    unclaimed = target["certified"]["unclaimed"]
    if target["reason"]:
        console.print(Text(f"{name}: {visible(shorten(target['reason'], 400))}"))
    if unclaimed:
        console.print(Text(f"{name}: not claimed: {visible(shorten(', '.join(unclaimed), 400))}"))
    failed = [f for f in target["findings"] if f["verdict"] in (*FAILURES, "error")]
    for finding in failed[:_SHOWN]:
        console.print(_heading(name, finding), soft_wrap=True)
        for line in _body(finding):
            for part in folded(line, console.width - 2) if fold else [line]:
                console.print(Text(f"  {part}"), soft_wrap=True)
        console.print()
    if len(failed) > _SHOWN:
        console.print(Padding(Text(f"and {len(failed) - _SHOWN} more, in report.html"), (0, 0, 1, 0)))
    elif not failed and (target["reason"] or unclaimed):
        console.print()


def folded(line: str, width: int) -> list[str]:
    """A line folded at spaces, what follows indented by two more; one that is to be copied stays whole.

    >>> folded("  lstm · T=1 B=1 · float64", 16)
    ['  lstm · T=1 B=1', '    · float64']
    """
    if line.lstrip().startswith(COMMANDS):
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    after = f"{indent}  "
    parts = textwrap.wrap(line.strip(), width, initial_indent=indent, subsequent_indent=after, **WHOLE)
    return parts or [line]


def _heading(name: str, finding: Mapping[str, Any]) -> Text:
    where = " · ".join(visible(shorten(finding[key], 60)) for key in ("property", "cell", "dtype"))
    colour = "yellow" if finding["verdict"] == "error" else "red"
    return Text.assemble((finding["verdict"], f"bold {colour}"), f"  {name} · {where}")


def diagnosis_text(counterexample: Mapping[str, Any]) -> str | None:
    """Read the sentence of a diagnosis, which may be all there is of it."""
    found = counterexample["diagnosis"]
    sentence: str | None = found["sentence"] if isinstance(found, dict) else found
    return sentence


def _body(finding: Mapping[str, Any]) -> list[str]:
    """List the message, the diagnosis, and the command to replay it where the message does not hold it already."""
    lines = clip(visible(finding["message"], lines=True), _MESSAGE_LINES, 400).split("\n")
    counterexample = finding["counterexample"]
    if counterexample:
        diagnosis = diagnosis_text(counterexample)
        if diagnosis and diagnosis not in finding["message"]:
            lines.append(f"diagnosis: {visible(shorten(diagnosis, 400))}")
        if counterexample["replay"] not in finding["message"]:
            lines.append(f"replay: {visible(shorten(counterexample['replay'], 400))}")
    return lines


def print_summary(results: Mapping[str, Any], stream: TextIO) -> None:
    """Print the summary: in colour on a terminal unless NO_COLOR is set, else plain text for 80 columns."""
    terminal = stream.isatty()
    width = shutil.get_terminal_size((80, 24)).columns if terminal else 80
    text = to_text(results, width=width, colour=coloured(stream), fold=terminal)  # a log keeps its lines whole
    stream.write(encodable(text, stream))
