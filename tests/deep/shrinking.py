"""How small the counterexamples are: one finding a planted bug, shrunk as `certify --profile standard` shrinks.

    python -m tests.deep.shrinking --matrix build/kill_matrix/kill_matrix.json --out build/shrinking

The property is the one that the bug names, otherwise the first that kills it according to the matrix
(tests/deep/kill_matrix.py); cell and dtype are those of the matrix's kill where it has one, and are tried in turn where
it has none. A case is small if T <= 3 and B, D, H <= 2, or as large as the bug's own condition makes it (NEEDED).

Results so far stay in DIR/shrinking.json. Exit status 1 if fewer than GOAL of the cases are small.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conformance.bench import TargetBench, Truths
from conformance.engine import PROFILES, Finding, Search
from conformance.items import run_search
from conformance.targets import afresh
from properties import PROPERTIES
from tests.deep.agreement import write
from tests.deep.bugs import Bug, bugs, digests
from tests.deep.panel import read_results, write_results
from tests.loading import in_process

GOAL = 0.9
SMALL = {"T": 3, "B": 2, "D": 2, "H": 2}
NEEDED: dict[str, tuple[dict[str, int], str]] = {
    "elman.py:third_row_lost": ({"B": 3}, "a batch of three"),
    "elman.py:history_of_sixteen_steps": ({"T": 17}, "a term more than 16 steps back"),
    "elman.py:bias_of_hidden_tail_lost": ({"H": 33}, "a unit beyond the first tile of 32"),
    "elman.py:slack_rows_leak_nan": ({"T": 17}, "more than 16 steps"),
    "elman.py:odd_unit_lost": ({"H": 3}, "an odd unit after a pair"),
    "elman.py:periodic_taken_for_window": ({"T": 4}, "k1 = k2 = 2, and t = 3 with e = 4"),
    "blind.py:periodic_taken_for_window": ({"T": 4}, "k1 = k2 = 2, and t = 3 with e = 4"),
    "blind.py:periodic_end_ignores_row_length": ({"T": 4}, "k1 = k2 = 2, a length of 3, and T beyond it"),
    "blind.py:full_stops_after_20_steps": ({"T": 21}, "a term more than 20 steps back"),
    "blind.py:third_row_of_a_remainder_lost": ({"B": 3}, "a remainder of three rows"),
    "blind.py:sixteen_saved_states": ({"T": 17}, "more than 16 steps"),
    "blind.py:units_beyond_the_tile_lost": ({"H": 33}, "a unit beyond the first tile of 32"),
    "blind.py:input_columns_beyond_the_vector_lost": ({"D": 5}, "an input beyond the first vector of 4"),
    "blind.py:rows_beyond_sixteen_without_initial_gradient": ({"B": 17}, "a row beyond the first block of 16"),
}
"""What a bug's condition asks of the sizes beyond SMALL, and why."""


def allowed(bug: Bug) -> dict[str, int]:
    """The sizes up to which a bug's counterexample is small."""
    needed = NEEDED.get(bug.key, ({}, ""))[0]
    return {name: max(most, needed.get(name, 0)) for name, most in SMALL.items()}


def places(bug: Bug, matrix: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Property, cell and dtype, the likeliest first."""
    kills = matrix.get("kills", {})
    names = [bug.caught_by] if bug.caught_by else [p for p in PROPERTIES if f"{p}|{bug.key}" in kills]
    for name in names[:1] or ["oracle-agreement"]:
        known = kills.get(f"{name}|{bug.key}")
        if known:
            yield name, known["cell"], known["dtype"]
        for dtype in ("float64", "float32"):
            for cell in filter(PROPERTIES[name].concerns, bug.cells):
                if known is None or (cell, dtype) != (known["cell"], known["dtype"]):
                    yield name, cell, dtype


def find(bug: Bug, matrix: dict[str, Any]) -> Finding | None:
    """The first finding that fails, shrunk."""
    target = in_process(bug.path)
    for name, cell, dtype in places(bug, matrix):
        truths = Truths()
        bench = TargetBench(afresh(target), dtype, truths)
        search = Search(PROPERTIES[name], bench, cell, dtype, PROFILES["standard"], 0)
        finding = run_search(search, target, truths)
        if finding.smallest is not None and finding.smallest.failed:
            return finding
    return None


def measured(bug: Bug, matrix: dict[str, Any]) -> dict[str, Any]:
    """The sizes of the smallest case, where it was found, and whether a fresh target fails on it again."""
    start = time.process_time()
    finding = find(bug, matrix)
    seconds = round(time.process_time() - start, 1)
    if finding is None or finding.smallest is None:
        return {"sizes": None, "seconds": seconds}
    problem = finding.smallest.case.problem
    return {
        "property": finding.property.id,
        "cell": finding.cell,
        "dtype": finding.dtype,
        "verdict": finding.verdict,
        "sizes": {name: getattr(problem, name) for name in SMALL},
        "repeats": finding.smallest.repeats,
        "companion": finding.smallest.companion is not None,
        "seconds": seconds,
    }


def small(bug: Bug, found: dict[str, Any]) -> bool:
    """Whether a bug's counterexample is small."""
    sizes = found["sizes"]
    return sizes is not None and all(sizes[name] <= most for name, most in allowed(bug).items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row a bug, the share of small cases and the bugs that miss."""
    parser = argparse.ArgumentParser(description="How small the counterexamples of planted bugs are.")
    parser.add_argument("--bugs", nargs="*", help="such as elman.py:truncation_ignored")
    parser.add_argument("--matrix", type=Path, default=Path("build/kill_matrix/kill_matrix.json"))
    parser.add_argument("--out", type=Path, default=Path("build/shrinking"), help="where results are kept")
    given = parser.parse_args(arguments)
    every = bugs()
    unknown = set(given.bugs or ()) - set(every)
    if unknown:
        parser.error(f"no planted bug is called {', '.join(sorted(unknown))}")
    matrix = json.loads(given.matrix.read_text(encoding="utf-8")) if given.matrix.is_file() else {}
    path = given.out / "shrinking.json"
    results = read_results(path, {"tables": digests()}, {"bugs": {}})
    wanted = {key: bug for key, bug in every.items() if not given.bugs or key in given.bugs}
    write("| bug | property | cell | T | B | D | H | small | s |\n|---|---|---|---:|---:|---:|---:|---|---:|")
    for key, bug in wanted.items():
        if key not in results["bugs"]:
            results["bugs"][key] = measured(bug, matrix)
            write_results(path, results)
        write(row(bug, results["bugs"][key]))
    return report({bug.key: (bug, results["bugs"][bug.key]) for bug in wanted.values()})


def row(bug: Bug, found: dict[str, Any]) -> str:
    """One bug's row of the table."""
    if found["sizes"] is None:
        return f"| `{bug.key}` | not found | | | | | | no | {found['seconds']} |"
    sizes = " | ".join(str(size) for size in found["sizes"].values())
    answer = ("yes: " + NEEDED[bug.key][1] if bug.key in NEEDED else "yes") if small(bug, found) else "no"
    alone = "" if found["repeats"] else ", not seen again"
    where = f"`{found['property']}` | {found['cell']} {found['dtype']}{alone}"
    return f"| `{bug.key}` | {where} | {sizes} | {answer} | {found['seconds']} |"


def report(found: dict[str, tuple[Bug, dict[str, Any]]]) -> int:
    """The share, and what misses; 1 if the share is below GOAL."""
    missed = [key for key, (bug, sizes) in found.items() if not small(bug, sizes)]
    share = 1 - len(missed) / len(found)
    exempt = sum(key in NEEDED for key in found)
    again = sum(not sizes.get("repeats", True) for _, sizes in found.values())
    write(
        f"\n{len(found) - len(missed)} of {len(found)} counterexamples are small ({share:.1%}); "
        f"{exempt} bugs need a larger size; {again} failures were not seen again by a fresh target"
    )
    for key in missed:
        write(f"not small: {key} {found[key][1]['sizes']}; wanted {allowed(found[key][0])}")
    return int(not share >= GOAL)


if __name__ == "__main__":
    sys.exit(main())
