"""Mutation testing: a seeded sample of small changes of oracle/ and properties/, and whether a test sees each of them.

    python -m tests.mutation --sample 300 --seed 0 --folder reports/mutation

Everything runs on a copy of the tree. The folder keeps what was recorded and found: the same command goes on where it
was stopped. `--again survived` runs the survivors once more, after tests were added; `--list` prints what is known.
The sample is spread over the files in proportion to the places that can be changed; of a place's changes one is drawn.
A mutant is killed if a test fails, timed out if the tests take far longer than they did, and else survives.
"""

from __future__ import annotations

import argparse
import compileall
import difflib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

from tests.mutation.cover import Timed, choose, digest, pytest, record, sources
from tests.mutation.operators import Mutant, mutants_of, mutated, read

HERE = Path(__file__).parents[2]
VERDICTS = ("killed", "timed out", "survived", "not run")


@dataclass
class Result:
    """What became of a mutant. `by` is the test that saw it."""

    verdict: str
    seconds: float
    tests: int
    by: str = ""


def sample(root: Path, paths: Sequence[str], number: int, seed: int) -> list[Mutant]:
    """`number` mutants, in an order of which every beginning is a sample, too."""
    chance = random.Random(seed)  # noqa: S311 - a seeded sample
    places: dict[str, list[list[Mutant]]] = {}
    for path in paths:
        at: dict[tuple[int, int], list[Mutant]] = defaultdict(list)
        for mutant in mutants_of(path, read(root, path)):
            at[mutant.start].append(mutant)
        places[path] = [at[start] for start in sorted(at)]
    whole = sum(map(len, places.values()))
    shares = {path: number * len(of_file) / whole for path, of_file in places.items()}
    counts = {path: int(share) for path, share in shares.items()}
    for path in sorted(shares, key=lambda p: (counts[p] - shares[p], p))[: number - sum(counts.values())]:
        counts[path] += 1
    drawn = []
    for path, of_file in places.items():
        chance.shuffle(of_file)
        source, good = read(root, path), iter(of_file)
        while counts[path] and (mutants := next(good, None)) is not None:
            chance.shuffle(mutants)
            found = next((m for m in mutants if mutated(source, m) is not None), None)
            drawn += [found] if found else []
            counts[path] -= found is not None
    chance.shuffle(drawn)
    return drawn


def copy_tree(to: Path) -> None:
    """What git tracks or would, and what is compiled."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=HERE, capture_output=True, check=True, text=True
    )
    for name in listed.stdout.split("\0"):
        if name and (HERE / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, to / name)
    for folder, name in (("implementations", "_bptt_c"), ("oracle", "_steps")):
        modules = [module for path in sys.path for module in Path(path, folder).glob(f"{name}.*")]
        if modules:
            shutil.copy2(modules[0], to / folder)
        else:
            print(f"no compiled {folder}.{name}: its tests are skipped")
    # by contents, not by time: a mutant is written within the second, and may be as long as what it replaces
    compileall.compile_dir(str(to), quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


def judge(root: Path, mutant: Mutant, tests: Sequence[Timed], limit: float) -> Result:
    """Run the tests that concern a mutant until one fails; the file is as it was afterwards."""
    original = read(root, mutant.path)
    code = mutated(original, mutant)
    assert code is not None
    chosen = choose(tests, mutant.path, original, mutant.start[0], limit)
    if not chosen:
        return Result("not run", 0.0, 0)
    start, file = time.monotonic(), root / mutant.path
    allowed = 3 * sum(test.seconds for test in chosen) + 10
    try:
        file.write_text(code, encoding="utf-8", newline="")
        status, output = pytest(root, "-x", "--tb=no", *(test.node for test in chosen), seconds=allowed)
    except TimeoutError:
        return Result("timed out", time.monotonic() - start, len(chosen))
    finally:
        file.write_text(original, encoding="utf-8", newline="")
        shutil.rmtree(root / ".hypothesis", ignore_errors=True)
    seconds = time.monotonic() - start
    if status == 0:
        return Result("survived", seconds, len(chosen))
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return Result("killed", seconds, len(chosen), lines[0][:200] if lines else f"status {status}")


def diff(root: Path, mutant: Mutant) -> str:
    """What a mutant changes, with one line around."""
    old = read(root, mutant.path)
    new = mutated(old, mutant) or old
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), mutant.path, mutant.name, "", "", 1, "")
    return "\n".join(lines)


def table(found: dict[Mutant, Result]) -> str:
    """Verdicts by module."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, result in found.items():
        for name in (mutant.path, "all"):
            counts[name][result.verdict] += 1
    rows = ["| module | mutants | " + " | ".join(VERDICTS) + " |", "|---|" + "---:|" * (len(VERDICTS) + 1)]
    for name in [*sorted(set(counts) - {"all"}), *(["all"] if counts else [])]:
        cells = [sum(counts[name].values()), *(counts[name][verdict] for verdict in VERDICTS)]
        rows.append(f"| `{name}` | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


class Session:
    """The sample and the results so far, in a file; `key` says of what."""

    def __init__(self, file: Path, key: list[object], draw: Callable[[], list[Mutant]]) -> None:
        self.file, self.key = file, key
        self.found: dict[Mutant, Result] = {}
        if not file.exists():
            self.drawn = draw()
            return
        state = json.loads(file.read_text())
        if state["key"] != key:
            raise SystemExit(f"{file} is of another sample or code; give another --folder, or remove it")
        self.drawn = [Mutant(path, name, k, tuple(at)) for path, name, k, at in state["drawn"]]
        for mutant, result in zip(self.drawn, state["found"], strict=True):
            if result is not None:
                self.found[mutant] = Result(**result)

    def put(self, mutant: Mutant, result: Result) -> None:
        """Enter a result, and save all."""
        self.found[mutant] = result
        found = [vars(self.found[m]) if m in self.found else None for m in self.drawn]
        drawn = [[m.path, m.operator, m.occurrence, m.start] for m in self.drawn]
        self.file.write_text(json.dumps({"key": self.key, "drawn": drawn, "found": found}, indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, run, print. The status is 0 whatever survived: a survivor is to be read, not counted."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=HERE / "reports" / "mutation")
    parser.add_argument("--limit", type=float, default=40.0, metavar="S", help="seconds of tests a mutant, as recorded")
    parser.add_argument("--under", default="", metavar="PATH", help="run only mutants of files under it, for now")
    parser.add_argument("--again", choices=VERDICTS, help="run those with this verdict once more")
    parser.add_argument("--list", action="store_true", help="print what is known, and run nothing")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    paths = sources(HERE)
    key = [options.sample, options.seed, digest(HERE, paths)]
    session = Session(options.folder / "results.json", key, lambda: sample(HERE, paths, options.sample, options.seed))
    if not options.list:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            copy_tree(root)
            tests = record(root, options.folder / "cover.json")
            for k, mutant in enumerate(session.drawn, 1):
                known = session.found.get(mutant)
                due = known is None or known.verdict == options.again
                if due and mutant.path.startswith(options.under):
                    result = judge(root, mutant, tests, options.limit)
                    session.put(mutant, result)
                    print(f"{k:4d} {result.verdict:9s} {result.seconds:5.0f} s  {mutant.name}  {result.by}", flush=True)
    print("\n" + table(session.found) + "\n")
    for mutant, result in session.found.items():
        if result.verdict in ("survived", "not run"):
            print(f"{result.verdict} {result.tests} tests\n{diff(HERE, mutant)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
