"""Whether a correct implementation is ever accused: every property, on every variant of tests/variants.

    python -m tests.deep.fairness --examples 100 --out fairness
    python -m tests.deep.fairness --examples 20 --dtypes float16 --out fairness_half

A finding is a property, cell and dtype; each has --examples drawn examples beside the fixed ones, and all variants of
the cell are judged on the same ones, `numpy` among them, as `certify` judges: each keeps its target and its bench
throughout. An example is judged where something was compared; declined ones do not count. Sizes are limited to LARGEST,
for some variants take time that grows with T squared. No variant declares float16, but each computes in the problem's
dtype, or in a wider one.

Results so far stay in DIR/fairness.json and are not computed again. Exit status 1 if there is an accusation.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bptt.cells import CELLS
from conformance.bench import TargetBench, Truths, digest
from conformance.engine import Outcome, Profile, judge
from conformance.messages import comparison_line
from conformance.targets import Target, afresh
from implementations import numpy_bptt
from properties import PROPERTIES
from properties.base import Case
from tests.deep.agreement import write
from tests.deep.panel import Panel, read_results, write_results
from tests.loading import in_process

VARIANTS = Path(__file__).parents[1] / "variants"
FILES = {"cells": "plain", "elman": "stacked_products"}
"""The tables of variants, and one variant of each."""
LARGEST = {"T": 64, "B": 20, "D": 40, "H": 40, "K": 40}
DTYPES = ("float64", "float32")


def variants(cell: str, dtype: str) -> dict[str, Target]:
    """Every variant of a cell, its memory empty, within LARGEST; and `numpy`, which leads the search."""
    found = {"numpy": limited(in_process("numpy"))}
    for file, one in FILES.items():
        table = afresh(in_process(f"{VARIANTS / file}.py:{one}")).call.__globals__
        for name in table["VARIANTS"]:
            known = in_process(f"{VARIANTS / file}.py:{name}")
            if cell in known.support.cells:
                found[f"{file}.py:{name}"] = limited(replace(known, call=table[name]))
    if dtype in DTYPES:
        return found
    return {name: replace(one, support=replace(one.support, dtypes=(dtype,))) for name, one in found.items()}


def limited(target: Target) -> Target:
    """The same target, offering no more than LARGEST."""
    sizes = {name: min(most, target.support.max_size.get(name, most)) for name, most in LARGEST.items()}
    return replace(target, support=replace(target.support, max_size=sizes))


def accusation(name: str, prop: str, dtype: str, outcome: Outcome) -> str:
    """Property, variant, problem and what was judged."""
    problem, worst = outcome.case.problem, outcome.worst
    what = comparison_line(worst, dtype) if worst is not None else outcome.message
    return f"{prop} · {name} · {problem.cell} {dtype} · {digest(problem)} {outcome.case.parameters}: {what}"


def finding(prop_id: str, cell: str, dtype: str, profile: Profile, seed: int) -> dict[str, Any]:
    """Judge every variant on the cases of one finding: verdicts by variant, and the accusations."""
    truths, prop = Truths(), PROPERTIES[prop_id]
    benches = {name: TargetBench(target, dtype, truths) for name, target in variants(cell, dtype).items()}
    leader = benches.pop("numpy")
    verdicts: dict[str, Counter[str]] = {name: Counter() for name in ("numpy", *benches)}
    accusations: list[str] = []

    def note(name: str, outcome: Outcome) -> None:
        verdicts[name][outcome.verdict] += 1
        if outcome.failed:
            accusations.append(accusation(name, prop_id, dtype, outcome))

    def ask(case: Case) -> None:
        for name, bench in benches.items():
            if bench.support.serves(case.problem):
                note(name, judge(prop, case, bench))

    panel = Panel(prop, leader, cell, dtype, profile, seed, ask)
    found = panel.run()
    for outcome in panel.outcomes.values():
        note("numpy", outcome)
    return {"verdict": found.verdict, "verdicts": verdicts, "accusations": accusations}


def judged(verdicts: dict[str, int]) -> int:
    """Examples in which something was compared."""
    return sum(count for verdict, count in verdicts.items() if verdict != "declined")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a finding and the sums; 1 if a correct variant was accused."""
    parser = argparse.ArgumentParser(description="Whether a correct implementation is ever accused.")
    parser.add_argument("--examples", type=int, default=100, help="drawn examples a property, cell and dtype")
    parser.add_argument("--cells", nargs="*", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--properties", nargs="*", choices=list(PROPERTIES), default=list(PROPERTIES))
    parser.add_argument("--dtypes", nargs="*", choices=(*DTYPES, "float16"), default=list(DTYPES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/fairness"), help="where results are kept")
    given = parser.parse_args(arguments)
    numpy_bptt.SUPPORTS["dtypes"] = given.dtypes  # its arithmetic is NumPy's, in any of them
    path = given.out / "fairness.json"
    results = read_results(path, {"examples": given.examples, "seed": given.seed}, {"items": {}})
    items: dict[str, Any] = results["items"]
    profile, start = Profile("fairness", given.examples, 0), time.monotonic()
    wanted = [
        (prop_id, cell, dtype)
        for cell in given.cells
        for prop_id in given.properties
        for dtype in given.dtypes
        if PROPERTIES[prop_id].concerns(cell)
    ]
    for number, (prop_id, cell, dtype) in enumerate(wanted, 1):
        key = f"{prop_id}|{cell}|{dtype}"
        if key not in items:
            items[key] = finding(prop_id, cell, dtype, profile, given.seed)
            write_results(path, results)
            count = sum(judged(v) for v in items[key]["verdicts"].values())
            write(
                f"{number}/{len(wanted)} {time.monotonic() - start:6.0f} s  {key}: {items[key]['verdict']}, "
                f"{count} judged, {len(items[key]['accusations'])} accusations"
            )
    report({key: items[key] for key in ("|".join(item) for item in wanted)})
    return int(any(items["|".join(item)]["accusations"] for item in wanted))


def report(items: dict[str, Any]) -> None:
    """Sums by cell and by variant, and every accusation."""
    by_cell: dict[str, Counter[str]] = {}
    by_variant: dict[str, Counter[str]] = {}
    for key, item in items.items():
        for name, verdicts in item["verdicts"].items():
            by_cell.setdefault(key.split("|")[1], Counter()).update(verdicts)
            by_variant.setdefault(name, Counter()).update(verdicts)
    for head, table in (("cell", by_cell), ("variant", by_variant)):
        write(f"\n| {head} | judged | conclusive | accused |\n|---|---:|---:|---:|")
        for name, verdicts in table.items():
            accused = verdicts["fail"] + verdicts["crash"]
            write(f"| `{name}` | {judged(verdicts)} | {verdicts['pass']} | {accused} |")
    total = sum((Counter(verdicts) for verdicts in by_cell.values()), Counter())
    accusations = [line for item in items.values() for line in item["accusations"]]
    write(
        f"\n{len(items)} findings, {judged(total)} examples judged, {total['pass']} of them conclusive; "
        f"{len(accusations)} accusations"
    )
    for line in accusations:
        write(f"ACCUSED: {line}")


if __name__ == "__main__":
    sys.exit(main())
