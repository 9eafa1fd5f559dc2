"""Which property kills which planted bug: every bug, every property, every cell that the bug is in, both dtypes.

    python -m tests.deep.kill_matrix --examples 100 --out build/kill_matrix

For each property, cell and dtype one search runs on the correct implementation that a table of bugs overrides, with
the bugs' support, without shrinking; every bug is asked the same cases in the same order, in one target each (see
tests/deep/playback.py), up to its first failure. One kill anywhere is a kill, after which the property is not asked
about this bug again. A kill may be a wrong number, a breach of the contract or a crash.

Results so far stay in DIR/kill_matrix.json. A run with more examples goes on from there: what was killed is killed.
With --cover a property is asked about the bugs that nothing has killed yet and, until it has killed one, about those
that name it: enough to see that every bug is killed and every property kills.
When nothing is left open, or with --docs, the page and the picture are written into docs, otherwise into DIR. Exit
status 1 if some bug is not killed, or some property kills nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bptt.cells import CELLS
from conformance.bench import TargetBench, Truths
from conformance.engine import Outcome, Profile, judge
from properties import PROPERTIES
from properties.base import Case
from tests.deep.agreement import write
from tests.deep.bugs import CORRECT, Bug, bugs, correct, digests, fresh
from tests.deep.kill_matrix_page import FURTHEST, Matrix, page, picture
from tests.deep.panel import Halt, Panel, read_results, write_results
from tests.deep.playback import Playback, RecordingBench, replay, silent

DOCS = Path(__file__).parents[2] / "docs"
DTYPES = ("float64", "float32")
SEED = 0
Kill = dict[str, Any]


def kills(
    prop_id: str, table: str, cell: str, dtype: str, examples: int, asked: dict[str, Bug]
) -> tuple[dict[str, Kill], dict[str, Any]]:
    """What a property kills of some bugs of a table, in one cell and dtype; and what the search came to.

    Raises: AssertionError where the correct implementation fails.
    """
    prop, truths = PROPERTIES[prop_id], Truths()
    targets = fresh(asked)
    alive = {key: TargetBench(target, dtype, truths) for key, target in targets.items()}
    right = RecordingBench(correct(table, next(iter(targets.values()))), dtype, truths)
    found: dict[str, Kill] = {}
    number = 0

    def ask(case: Case) -> None:
        nonlocal number
        number += 1
        calls, right.calls = right.calls, []
        for key, bench in list(alive.items()):
            made = replay(calls, bench)
            if silent(calls, made):
                continue
            outcome = judge(prop, case, Playback(bench, made), alone=True)
            if outcome.failed:
                found[key] = {"cell": cell, "dtype": dtype, "case": number, "how": how(outcome)}
                del alive[key]
        if not alive:
            raise Halt

    panel = Panel(prop, right, cell, dtype, Profile("standard", examples, 0), SEED, ask)
    finding = panel.run()
    assert finding.smallest is None, (prop_id, table, cell, dtype, finding.smallest)
    verdict = finding.verdict if alive else "all killed"
    return found, {"examples": examples, "cases": number, "verdict": verdict, "unsupported": verdict == "unsupported"}


def how(outcome: Outcome) -> str:
    """The array that was wrong first of all, or the breach of the contract, or the crash."""
    if outcome.worst is not None:
        return outcome.worst.key
    return f"{outcome.verdict}: {outcome.message[:60]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the matrix as far as it is asked for, and write the page; 1 if the catalogue falls short."""
    parser = argparse.ArgumentParser(description="Which property kills which planted bug.")
    parser.add_argument("--properties", nargs="*", choices=list(PROPERTIES), default=list(PROPERTIES))
    parser.add_argument("--bugs", nargs="*", help="such as elman.py:truncation_ignored; what is tried is not kept")
    parser.add_argument("--cells", nargs="*", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--examples", type=int, default=100, help="drawn examples a property, cell and dtype")
    parser.add_argument("--out", type=Path, default=Path("build/kill_matrix"), help="where results are kept")
    parser.add_argument("--docs", action="store_true", help="write docs/kill_matrix.md though pairs are open")
    parser.add_argument("--cover", action="store_true", help="until every bug is killed and every property kills")
    given = parser.parse_args(arguments)
    every = bugs()
    unknown = set(given.bugs or ()) - set(every)
    if unknown:
        parser.error(f"no planted bug is called {', '.join(sorted(unknown))}")
    path = given.out / "kill_matrix.json"
    results = read_results(path, {"seed": SEED, "tables": digests()}, {"items": {}, "kills": {}})
    wanted = {key: bug for key, bug in every.items() if not given.bugs or key in given.bugs}
    fill(results, wanted, given, path)
    matrix = Matrix.of(results, every)
    folder = DOCS if matrix.complete() or given.docs else given.out
    (folder / "kill_matrix.svg").write_text(picture(matrix), encoding="utf-8")
    (folder / "kill_matrix.md").write_text(page(matrix), encoding="utf-8")
    for line in matrix.shortfalls():
        write(line)
    write(f"written: {folder / 'kill_matrix.md'}")
    return int(bool(matrix.shortfalls()))


def fill(results: dict[str, Any], wanted: dict[str, Bug], given: argparse.Namespace, path: Path) -> None:
    """Ask what is still open, item by item, and keep what comes out."""
    start = time.monotonic()
    items, known = results["items"], results["kills"]
    order = [
        (prop_id, table, cell, dtype)
        for dtype in DTYPES
        for table in CORRECT
        for cell in given.cells
        for prop_id in sorted(given.properties, key=lambda name: name != FURTHEST)
        if PROPERTIES[prop_id].concerns(cell)
    ]
    for number, (prop_id, table, cell, dtype) in enumerate(order, 1):
        item = f"{prop_id}|{table}|{cell}|{dtype}"
        if items.get(item, {}).get("examples", 0) >= given.examples:
            continue
        asked = {
            key: bug
            for key, bug in wanted.items()
            if bug.table == table and cell in bug.cells and f"{prop_id}|{key}" not in known
        }
        if given.cover:
            dead = {name.partition("|")[2] for name in known}
            kills_some = any(name.startswith(f"{prop_id}|") for name in known)
            asked = {k: b for k, b in asked.items() if k not in dead or (b.caught_by == prop_id and not kills_some)}
        if not asked:
            continue
        found, seen = kills(prop_id, table, cell, dtype, given.examples, asked)
        known.update({f"{prop_id}|{key}": kill for key, kill in found.items()})
        if not (given.bugs or given.cover):
            items[item] = seen
        write_results(path, results)
        took = time.monotonic() - start
        write(f"{number}/{len(order)} {took:6.0f} s  {item}: {len(found)} of {len(asked)} killed; {seen['verdict']}")


if __name__ == "__main__":
    sys.exit(main())
