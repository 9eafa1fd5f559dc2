"""How often the planted mistake is named: `python -m tests.deep.diagnosis [MODULE.py] [NAME ...]`.

MODULE holds a table PLANTED, name -> object with .gradients and .sentence (default: tests/mutants/elman.py). For each
planted bug the property that it names (or every one, oracle-agreement first) is searched until it fails, the failure is
diagnosed, and a line is printed: the bug, its sentence, what was found first.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bptt.cells import CELLS
from conformance.bench import TargetBench
from conformance.diagnosis import Failure, diagnose
from conformance.engine import Finding, Profile, Search
from conformance.targets import Target
from properties import PROPERTIES
from tests.loading import in_process, load

FIRST_FAILURE = Profile("standard", 100, 0)


def first_failure(target: Target, caught_by: str | None) -> Finding | None:
    """The first finding that fails by a wrong number."""
    names = [caught_by] if caught_by else sorted(PROPERTIES, key=lambda name: name != "oracle-agreement")
    for name in names:
        for cell in (c for c in CELLS if c in target.support.cells):
            for dtype in target.support.dtypes:
                bench = TargetBench(target, dtype)
                finding = Search(PROPERTIES[name], bench, cell, dtype, FIRST_FAILURE, 0).run()
                if finding.verdict in ("fail", "crash"):
                    return finding
    return None


def main(words: list[str]) -> int:
    """Print the table."""
    path = Path(words[0]) if words else Path("tests/mutants/elman.py")
    table = load(path.parent.name, path.stem).PLANTED
    for name in words[1:] or table:
        target = in_process(f"{path}:{name}")
        finding = first_failure(target, getattr(table[name], "caught_by", None))
        print(f"{name}\n    planted: {table[name].sentence}")
        if finding is None or finding.smallest is None:
            print("    not caught", flush=True)
            continue
        smallest = finding.smallest
        if smallest.judgement is None:
            print(f"    {finding.verdict}: {smallest.message}", flush=True)
            continue
        worst = (finding.worst if finding.worst is not None and finding.worst.failed else smallest).case.problem
        start = time.perf_counter()
        found = diagnose(target, Failure(smallest.case.problem, worst, smallest.companion))
        seconds = time.perf_counter() - start
        if found is None:
            print(f"    nothing wrong on generic problems ({seconds:.1f} s)", flush=True)
            continue
        print(f"    named:   {found.sentence}")
        print(
            f"    {seconds:.1f} s; {', '.join(f'{m.hypothesis.id} {m.digits:.1f}' for m in found.matches)}", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
