"""Prints the ratios within one benchmark run, from the file that `pytest --benchmark-json=FILE` wrote.

    python tests/benchmarks/ratios.py FILE

A time is the median over the rounds, a ratio the median of a_i / b_j over all pairs of rounds; in brackets are the
quartiles. Where a benchmark ran b's rounds in turns with rounds of a, the ratio is the median of a_i / b_i: what slows
the machine for a while slows both. Times of different runs or machines are not comparable; ratios within one run are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# (a, b): a / b is printed wherever a group has both subjects.
PAIRS = (
    ("gradient, mpmath", "gradient, arb"),
    ("gradient, arb", "floor"),
    ("budget", "gradient, arb"),
    ("numpy", "c"),
    ("torch", "c"),
    ("torch-nn", "c"),
)
GRID = np.linspace(0.0, 1.0, 201)
"""A sample is represented by these quantiles, so that the pairs of two long samples stay few."""

Times = list[float]
Groups = dict[str, dict[str, Times]]
TURNS = " in turns with "
"""A subject "b in turns with a" is a's rounds, each before one of b's."""


def quartiles(values: Times) -> tuple[float, float, float]:
    """The median, then the lower and the upper quartile.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
    (3.0, 2.0, 4.0)
    """
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return middle, low, high


def ratio(a: Times, b: Times) -> tuple[float, float, float]:
    """The quartiles of a_i / b_j over all pairs.

    >>> ratio([4.0, 4.0], [2.0])
    (2.0, 2.0, 2.0)
    """
    pairs = np.quantile(a, GRID)[:, None] / np.quantile(b, GRID)[None, :]
    return quartiles(pairs.reshape(-1).tolist())


def read(path: Path) -> Groups:
    """Every round's seconds, by group and subject, in the order in which they were run."""
    groups: Groups = {}
    for run in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]:
        info, group = run["extra_info"], groups.setdefault(run["group"], {})
        group[info["subject"]] = run["stats"]["data"]
        for other, seconds in info.get("in turns with", {}).items():
            group[info["subject"] + TURNS + other] = seconds
    return groups


def lines(groups: Groups) -> Iterator[str]:
    """Say each group's times, then its ratios."""
    for name, subjects in groups.items():
        yield ""
        yield name
        for subject, times in subjects.items():
            if TURNS in subject:
                continue
            middle, low, high = (1e3 * seconds for seconds in quartiles(times))
            yield f"  {subject:34} {middle:10.3f} ms  [{low:.3f}, {high:.3f}]  {len(times)} rounds"
        for a, b in PAIRS:
            if a in subjects and b in subjects:
                turns = subjects.get(b + TURNS + a)
                if turns is None:
                    middle, low, high = ratio(subjects[a], subjects[b])
                else:
                    middle, low, high = quartiles([x / y for x, y in zip(turns, subjects[b], strict=True)])
                yield f"  {f'{a} ÷ {b}':34} {middle:10.2f}     [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Read the file that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/benchmarks/ratios.py FILE, a file of pytest --benchmark-json=FILE")
    for line in lines(read(Path(sys.argv[1]))):
        print(line)


if __name__ == "__main__":
    main()
