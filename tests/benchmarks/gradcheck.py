"""bpttcheck side by side with `torch.autograd.gradcheck`, on the planted bugs and the correct variants of tests/.

    python -m tests.benchmarks.gradcheck [--results build/gradcheck.json] [--tables] [NAME ...]

gradcheck runs with its defaults, in float64, in slow and in fast mode, on the random problems of gradcheck_draws.py,
each adapter behind a Function (behind_autograd.py); what fails, or raises, on one of them is caught. What bpttcheck
says is asked twice: on the very same problems (is anything over its budget?), and as `certify` asks it at the standard
profile, up to the first property that fails. A bug of several cells has its problems in each of them in turn.

A run that is broken off goes on where it was: the results are kept in the file after every bug.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from bptt.cells import CELLS
from bptt.problem import Problem
from conformance.bench import TargetBench, Truths
from conformance.engine import Outcome, Profile, Search, judge
from conformance.targets import Target, afresh
from properties import PROPERTIES
from properties.base import Case
from tests.benchmarks.behind_autograd import NoLoss, behind_function, passes
from tests.benchmarks.gradcheck_draws import CUTS, DRAWS, make
from tests.deep.agreement import write
from tests.loading import in_process, load

TESTS = Path(__file__).parents[1]
TABLES = ("elman", "lstm", "blind")
FIRST = "oracle-agreement"
FIRST_FAILURE = Profile("standard", 100, 0)
ROUNDS = 1


@cache
def problems(cells: tuple[str, ...], change: tuple[tuple[str, Any], ...] = ()) -> tuple[Problem, ...]:
    """The draws of a target that offers those cells, each with the same change made to its setup."""
    turns = itertools.cycle(cells)
    out = []
    for round_, (i, setup) in itertools.product(range(ROUNDS), enumerate(DRAWS)):
        changed = replace(setup, **dict(change))
        cell = next(turns)
        if changed.truncation.kind in CELLS[cell].truncations:
            out.append(make(changed, cell, 1000 * round_ + i))
    return tuple(out)


def offered_problems(target: Target, **change: Any) -> Iterator[Problem]:
    """Those of the draws that a target offers to solve."""
    for problem in problems(target.support.cells, tuple(change.items())):
        if target.support.serves(problem):
            yield problem


def caught_by_gradcheck(target: Target, *, fast: bool) -> str:
    """What became of a target behind a Function: on which draw it failed or raised, "" if it passed them all."""
    target, asked = afresh(target), 0
    for problem in offered_problems(target):
        try:
            if not passes(behind_function(target.call, problem), fast=fast):
                return f"fails: {describe(problem)}"
            asked += 1
        except NoLoss:
            return "no loss"
        except NotImplementedError:
            continue
        except Exception as error:  # noqa: BLE001 - a planted bug may raise anything
            return f"raises {type(error).__name__}: {describe(problem)}"
    return "" if asked else "declined"


def describe(problem: Problem) -> str:
    """A problem in a few words."""
    sizes = " ".join(f"{name}={getattr(problem, name)}" for name in "TBDHK")
    return " ".join(filter(None, (problem.cell, problem.activation, problem.loss.kind, sizes)))


def judged(target: Target, truths: Truths, **change: Any) -> Iterator[Outcome]:
    """bpttcheck's outcome on each of the draws."""
    target = afresh(target)
    dtype = change.get("dtype", "float64")
    bench = TargetBench(target, dtype, truths)
    for problem in offered_problems(target, **change):
        yield judge(PROPERTIES[FIRST], Case(problem), bench)


def why(target: Target, truths: Truths) -> str:
    """Where a bug shows, by bpttcheck's budgets, on the problems that gradcheck was given or on their neighbours."""
    failures = [outcome for outcome in judged(target, truths) if outcome.failed]
    if any(outcome.judgement is None for outcome in failures):
        return "contract"
    keys = {c.key for o in failures if o.judgement for c in o.judgement.comparisons if not c.holds}
    if keys:
        return "loss" if "loss" in keys else "gradients" if any(key.startswith("d") for key in keys) else "states"
    if any(outcome.failed for cut in CUTS for outcome in judged(target, truths, truncation=cut)):
        return "cut"
    if "float32" in target.support.dtypes and any(o.failed for o in judged(target, truths, dtype="float32")):
        return "float32"
    return "elsewhere"


def killed(path: Path) -> dict[str, str]:
    """What kills each bug, TABLE/NAME, by the results of tests.deep.kill_matrix, whose draws begin the profile's."""
    found: dict[str, str] = {}
    for pair, kill in json.loads(path.read_text(encoding="utf-8"))["kills"].items():
        prop, _, bug = pair.partition("|")
        name = bug.replace(".py:", "/")
        if name not in found or prop == FIRST:
            found[name] = f"{prop} {kill['cell']} {kill['dtype']}"
    return found


def caught_by_certify(target: Target) -> str:
    """The first property, cell and dtype under which a finding fails at the standard profile, or ""."""
    for prop in sorted(PROPERTIES.values(), key=lambda prop: prop.id != FIRST):
        for dtype in target.support.dtypes:
            for cell in filter(prop.concerns, target.support.cells):
                bench = TargetBench(afresh(target), dtype)
                if Search(prop, bench, cell, dtype, FIRST_FAILURE, 0).run().verdict in ("fail", "crash"):
                    return f"{prop.id} {cell} {dtype}"
    return ""


def family(table: str, name: str) -> str:
    """A planted bug's family: in the tables of Elman and LSTM bugs the heading that it stands under."""
    if table == "lstm":
        return "LSTM cells"
    planted = load("mutants", table).PLANTED[name]
    if table == "blind":
        return str(planted.family)
    above = (TESTS / "mutants" / f"{table}.py").read_text(encoding="utf-8").partition(f"class {name}(")[0]
    return str(re.findall(r"^# (\w.*)$", above, re.MULTILINE)[-1])


class Results:
    """What was found so far, in a file that is written after every finding."""

    def __init__(self, path: Path) -> None:
        self.path = path
        settings = {"torch": torch.__version__, "rounds": ROUNDS, "draws": [asdict(setup) for setup in DRAWS]}
        self.found: dict[str, Any] = {"settings": json.loads(json.dumps(settings)), "bugs": {}, "variants": {}}
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["settings"] != self.found["settings"]:
                sys.exit(f"{path} holds results of other settings; remove it, or name another file with --results")
            self.found = known

    def once(self, kind: str, name: str, what: str, find: Any) -> Any:
        """What is known, or else what `find()` returns."""
        of = self.found[kind].setdefault(name, {})
        if what not in of:
            start = time.perf_counter()
            of[what] = find()
            of[f"{what}, seconds"] = round(time.perf_counter() - start, 2)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
        return of[what]


def survey_variants(results: Results) -> None:
    """Every correct variant, by gradcheck and on the same problems."""
    truths = Truths()
    for table in ("elman", "cells"):
        for name in load("variants", table).VARIANTS:
            target = in_process(f"{TESTS / 'variants' / table}.py:{name}")
            full = f"{table}/{name}"
            same = results.once("variants", full, "why", lambda t=target: accused(t, truths))
            fast = results.once("variants", full, "fast", lambda t=target: caught_by_gradcheck(t, fast=True))
            slow = results.once("variants", full, "slow", lambda t=target: caught_by_gradcheck(t, fast=False))
            write(f"{full:52} slow {slow or 'passes'} | fast {fast or 'passes'} | bpttcheck {same or 'passes'}")


def accused(target: Target, truths: Truths) -> str:
    """The first failure of a correct variant, or ""."""
    for outcome in judged(target, truths):
        if outcome.failed:
            return f"{outcome.verdict}: {describe(outcome.case.problem)}"
    return ""


def survey_bugs(results: Results, only: Sequence[str], matrix: dict[str, str]) -> None:
    """Every planted bug by all four roads, the quick ones first."""
    truths = Truths()
    bugs = {f"{table}/{name}": (table, name) for table in TABLES for name in load("mutants", table).PLANTED}
    targets = {
        full: in_process(f"{TESTS / 'mutants' / table}.py:{name}")
        for full, (table, name) in bugs.items()
        if not only or name in only
    }

    def gradcheck(full: str, *, fast: bool) -> str:
        if results.found["bugs"][full]["why"] in OUT_OF_REACH:
            return "not put there"
        return caught_by_gradcheck(targets[full], fast=fast)

    def reason(full: str) -> int:
        return list(REASONS).index(results.found["bugs"][full]["why"])

    roads = {
        "family": lambda full: family(*bugs[full]),
        "why": lambda full: why(targets[full], truths),
        "fast": partial(gradcheck, fast=True),
        "slow": partial(gradcheck, fast=False),
        "certify": lambda full: matrix.get(full) or caught_by_certify(targets[full]),
    }
    for what, find in roads.items():
        for full in targets if what in ("family", "why") else sorted(targets, key=reason):
            found = results.once("bugs", full, what, partial(find, full))
            if what != "family":
                write(f"{full:62} {what}: {found}")


REASONS = {
    "gradients": "gradients are over budget, the loss is not",
    "loss": "the loss itself is over budget",
    "states": "the states or outputs alone are over budget",
    "contract": "the answer breaks the contract: shape, dtype, a key, an input written to, an exception",
    "cut": "only under a truncation that cuts, where a correct gradient is none of the loss either",
    "float32": "only in float32",
    "elsewhere": "on none of these problems: special sizes or values, an earlier call, a layout in memory",
}
SHOWN = ("gradients", "loss", "states", "contract")
OUT_OF_REACH = ("cut", "float32")
"""gradcheck compares an untruncated gradient in float64; there is nothing to put before it."""


def is_caught(of: dict[str, Any], mode: str) -> bool:
    """Whether gradcheck failed it, or it raised."""
    return of.get(mode, "").startswith(("fails", "raises"))


def tables(results: Results) -> Iterator[str]:
    """The tables of docs/gradcheck.md."""
    bugs = [of for of in results.found["bugs"].values() if "why" in of]

    def count(some: list[dict[str, Any]], what: str) -> str:
        within = [of for of in some if what == "certify" or of["why"] not in OUT_OF_REACH]
        if some and not within:
            return "–"
        caught = sum(bool(of.get(what)) if what == "certify" else is_caught(of, what) for of in within)
        missing = sum(what not in of for of in within)
        return f"{caught} ({missing} not asked yet)" if missing else str(caught)

    def row(name: str, some: list[dict[str, Any]]) -> str:
        same = sum(of["why"] in SHOWN for of in some)
        counts = (len(some), count(some, "slow"), count(some, "fast"), same, count(some, "certify"))
        return f"| {name} | {' | '.join(map(str, counts))} |"

    head = "bugs | gradcheck, slow | gradcheck, fast | bpttcheck, same problems | bpttcheck, `standard`"
    for title, key, names in (
        ("where the bug shows", "why", REASONS),
        ("family", "family", {of["family"]: of["family"] for of in bugs}),
    ):
        yield f"| {title} | {head} |"
        yield "|---|---:|---:|---:|---:|---:|"
        for value, name in names.items():
            yield row(name, [of for of in bugs if of[key] == value])
        yield row("all", bugs)
        yield ""
    variants = results.found["variants"]
    asked = [sum(what in of and of[what] != "no loss" for of in variants.values()) for what in ("slow", "fast", "why")]
    yield "correct variants asked: {} by slow mode, {} by fast mode, {} by bpttcheck".format(*asked)
    for mode in ("slow", "fast"):
        yield f"accused by {mode} mode: {sorted(name for name, of in variants.items() if is_caught(of, mode))}"
    yield f"accused by bpttcheck: {sorted(name for name, of in variants.items() if of.get('why'))}"
    missed = {name: of["why"] for name, of in results.found["bugs"].items() if of.get("slow", "?") in ("", "declined")}
    for reason in REASONS:
        yield f"missed by slow mode, {reason}: {', '.join(name for name, why_ in missed.items() if why_ == reason)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not known yet, and print the tables."""
    parser = argparse.ArgumentParser(description="bpttcheck side by side with torch.autograd.gradcheck.")
    parser.add_argument("--results", type=Path, default=Path("build/gradcheck.json"))
    parser.add_argument("--tables", action="store_true", help="print the tables of what is known, and run nothing")
    parser.add_argument("--matrix", type=Path, help="results of tests.deep.kill_matrix: these are not searched again")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these bugs, and no variants")
    given = parser.parse_args(arguments)
    results = Results(given.results)
    if not given.tables:
        survey_bugs(results, given.names, {} if given.matrix is None else killed(given.matrix))
    if not given.tables and not given.names:
        survey_variants(results)
    for line in tables(results):
        write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
