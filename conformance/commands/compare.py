"""bpttcheck compare: two reports side by side, in 80 columns or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from conformance.comparison import CLASSES, LEVELS, Compared, Pair, as_json, compare, differences, met, verdict
from conformance.errors import UsageError
from conformance.render import ReportError, load, load_file, visible
from conformance.render.terminal import diagnosis_text, many, ratio, shorten
from conformance.screen import tell, write

HELP = "hold two reports side by side: what was fixed, what regressed, what else changed"
EXAMPLES = """\
examples:
  bpttcheck compare reports-main reports
  bpttcheck compare old/results.json new/results.json --fail-on regression
  bpttcheck compare reports-main reports --json

--fail-on sets exit status 1, each level counting what the one before counts:
  regression  something passed and fails now, or a certificate was lost
  failure     something fails that did not fail
  loss        something was judged and is not any more
  change      anything is different, a worst error too
"""
WIDTH = 80
SHOWN = 10
"""Lines of a section, unless --all is given."""
COLOURS = {"regressed": "red", "newly failing": "red", "fixed": "green", "newly passing": "green"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("old", type=Path, metavar="OLD", help="a report directory, or a results.json")
    parser.add_argument("new", type=Path, metavar="NEW", help="the one to be held against it")
    parser.add_argument("--fail-on", choices=list(LEVELS), default="never", help="what ends with status 1 (see below)")
    parser.add_argument("--all", action="store_true", help=f"every line of a section, not the first {SHOWN}")
    parser.add_argument("--json", action="store_true", help="JSON instead of lines")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 if --fail-on is met, else 0."""
    old, new = read(arguments.old), read(arguments.new)
    compared = compare(old, new)
    if arguments.json:
        tell(json.dumps(as_json(compared, old, new), indent=1))
    else:
        write(list(lines(arguments, old, new, compared)), sys.stdout)
    return int(met(compared, arguments.fail_on))


def read(path: Path) -> dict[str, Any]:
    """A report, from its directory or its results.json. Raises: UsageError."""
    try:
        return load(path) if path.is_dir() else load_file(path)
    except ReportError as error:
        raise UsageError(f"{error}; expected a report directory or its results.json") from error


def lines(
    arguments: argparse.Namespace, old: Mapping[str, Any], new: Mapping[str, Any], compared: Sequence[Compared]
) -> Iterator[Text]:
    """Everything that is printed."""
    for word, place, results in (("old", arguments.old, old), ("new", arguments.new, new)):
        facts = f"bpttcheck {results['suite_version']} · {results['profile']} · seed {results['seed']}"
        yield Text(f"{word}  {_fit(str(place), 30)}  {_fit(facts, 43)}")
        if "incomplete" in results:
            made = results["incomplete"]
            yield Text(f"     incomplete: {made['findings']} of {many(made['planned'], 'finding')}", style="yellow")
    told = differences(old, new)
    if told:
        yield Text("The runs differ, and what changed may come from that:", style="yellow")
        for name, (a, b) in told.items():
            yield Text(f"  {_fit(name, 24)}: {_fit(a, 24)} → {_fit(b, 24)}")
    for one in compared:
        yield Text("")
        yield from _target(one, everything=arguments.all)
    totals = {kind: sum(len(one.of(kind)) for one in compared) for kind in CLASSES}
    yield Text("")
    yield Text(_fit(", ".join(f"{n} {kind}" for kind, n in totals.items() if n) or "nothing to compare", WIDTH))


def _target(one: Compared, *, everything: bool) -> Iterator[Text]:
    name = one.name if one.name == one.old_name else f"{one.old_name} → {one.name}"
    yield Text(_fit(name, WIDTH), style="bold")
    if one.old is None or one.new is None:
        which, said = ("new", one.verdicts[1]) if one.old is None else ("old", one.verdicts[0])
        yield Text(f"  only in the {which} report: {said}")
        return
    before, after = one.verdicts
    same = {"same": "the same code", "changed": "the code has changed", "unknown": "code of unknown digest"}[one.source]
    said = str(after) if before == after else f"{before} → {after}"
    yield Text(f"  {said} ({same})", style="red" if one.lost else "")
    for kind in CLASSES[:-1]:
        pairs = one.of(kind)
        if pairs:
            yield Text(f"  {kind} ({len(pairs)})", style=COLOURS.get(kind, ""))
            yield from _section(pairs, everything=everything, reasons=kind in ("regressed", "newly failing"))
    moved = one.moved()
    if moved:
        yield Text(f"  worst error ÷ budget changed ({len(moved)})")
        yield from _section(moved, everything=everything, reasons=False, errors=True)
    if not moved and not any(one.of(kind) for kind in CLASSES[:-1]):
        yield Text("  nothing changed")


def _section(pairs: Sequence[Pair], *, everything: bool, reasons: bool, errors: bool = False) -> Iterator[Text]:
    shown = pairs if everything or len(pairs) <= SHOWN + 1 else pairs[:SHOWN]
    for pair in shown:
        said = _errors(pair) if errors else f"{verdict(pair.old)} → {verdict(pair.new)}"
        yield Text(f"    {_fit(' '.join(pair.key), WIDTH - 6 - len(said)).ljust(48)}  {said}"[:WIDTH])
        if reasons and pair.new is not None:
            yield from _why(pair.new)
    if len(shown) < len(pairs):
        yield Text(f"    … {len(pairs) - len(shown)} more: --all")


def _errors(pair: Pair) -> str:
    assert pair.errors is not None
    return " → ".join(map(ratio, pair.errors))


def _why(finding: Mapping[str, Any]) -> Iterator[Text]:
    """The diagnosis of a failure, or the first line of its message, and the command that shows it."""
    counterexample = finding["counterexample"]
    said = (diagnosis_text(counterexample) if counterexample else None) or finding["message"].split("\n")[0]
    for row in textwrap.wrap(_fit(said, 2 * WIDTH), WIDTH - 6)[:3]:
        yield Text(f"      {row}")
    if counterexample:
        yield Text(f"      {visible(shorten(counterexample['replay'], 400))}")  # whole, so that it can be copied


def _fit(text: str, width: int) -> str:
    return shorten(visible(text), width)


__all__ = ["configure", "lines", "main", "read"]
