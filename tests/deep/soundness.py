"""Whether the budgets hold for honest implementations: every array of every answer, none over its budget.

    python -m tests.deep.soundness --arrays 200000

Judged are the built-in implementations that are available, every cell's variants (tests/variants/cells.py) and those of
the Elman cell (tests/variants/elman.py). Problems are drawn on a grid of cell, dtype, spectral norm of the recurrent
weights and T, with cuts, losses, readouts, lengths and initial states of all kinds, until there are enough arrays.
An array without a finite bound (an overflow or a kink that is admissible) is counted apart: nothing was judged there.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from conformance.bench import TargetBench, Truths
from conformance.targets import Target
from implementations.registry import prompt
from oracle.errors import PrecisionExhausted
from properties.compare import against_truth
from tests.deep.agreement import write
from tests.loading import in_process

VARIANTS = Path(__file__).parents[1] / "variants"
PARTIAL = {"without_cross_entropy", "without_input_gradient", "gradients_only"}
DTYPES = ("float64", "float32")
NORMS = (0.1, 0.3, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0)
STEPS = (1, 3, 10, 30, 100)
Key = tuple[str, str, float, int]
"""Cell, dtype, norm, T."""


@dataclass
class Tally:
    """What became of the arrays of one place of the grid. `worst` is (error / budget, key, implementation)."""

    judged: int = 0
    unbounded: int = 0
    undecided: int = 0
    worst: tuple[float, str, str] = (0.0, "", "")
    over: list[str] = field(default_factory=list)
    by_target: dict[str, float] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)


def problem_of(cell: str, dtype: str, norm: float, T: int, seed: int) -> Problem:
    """A random problem: the spectral norm of its recurrent weights is `norm`, up to their rounding to `dtype`."""
    rng = np.random.default_rng([seed, list(CELLS).index(cell), DTYPES.index(dtype), NORMS.index(norm), T])
    spec = CELLS[cell]
    B, D, H, K = (int(rng.choice(sizes)) for sizes in ((1, 2, 3), (1, 2, 4), (1, 2, 4, 8), (1, 2, 5)))
    readout = str(rng.choice(["linear", "none"]))
    K = K if readout == "linear" else H
    params = {name: rng.normal(size=shape) * 0.7 for name, shape in spec.shapes(D, H).items()}
    recurrent = "W_hh" if cell == "elman" else "W_h"
    params[recurrent] *= norm / np.linalg.norm(params[recurrent], 2)
    if readout == "linear":
        params |= {"W_hy": rng.normal(size=(H, K)), "b_y": rng.normal(size=K)}
    lengths = rng.integers(0, T + 1, B) if rng.random() < 0.3 else None
    initial = {f"{name}0": rng.normal(size=(B, H)).astype(dtype) for name in spec.states}
    return Problem(
        cell,
        {name: array.astype(dtype) for name, array in params.items()},
        rng.normal(size=(T, B, D)).astype(dtype),
        _loss(rng, spec.states, dtype, T, B, H, K),
        dtype=dtype,
        readout=readout,
        activation=str(rng.choice(spec.activations)) if spec.activations else None,
        lengths=lengths,
        truncation=_truncation(rng, spec.truncations, T),
        **initial,
    )


def _loss(rng: np.random.Generator, states: Sequence[str], dtype: str, T: int, B: int, H: int, K: int) -> Loss:
    kind = str(rng.choice(["cotangent", "squared_error", "cross_entropy"]))
    if kind == "cotangent":
        final = {f"g_{name}_final": rng.normal(size=(B, H)).astype(dtype) for name in states if rng.random() < 0.5}
        return Loss(kind, g=rng.normal(size=(T, B, K)).astype(dtype), **final)
    over = str(rng.choice(["sum", "mean", "tokens"]))
    reductions = {
        "time_reduction": over,
        "batch_reduction": over if over == "tokens" else str(rng.choice(["sum", "mean"])),
    }
    if kind == "squared_error":
        goal = rng.normal(size=(T, B, K)).astype(dtype)
        return Loss(kind, target=goal, scale=float(rng.choice([0.5, 1.0])), **reductions)
    return Loss(kind, target=rng.integers(0, K, (T, B)), **reductions)


def _truncation(rng: np.random.Generator, kinds: Sequence[str], T: int) -> Truncation:
    kind = str(rng.choice(kinds))
    if kind in ("window", "chunk"):
        return Truncation(kind, k=int(rng.integers(1, T + 1)))
    if kind == "periodic":
        k1 = int(rng.integers(1, T + 1))
        return Truncation(kind, k1=k1, k2=int(rng.integers(k1, T + 1)))
    return Truncation(kind)


def variants(file: str) -> list[str]:
    """The names of the complete variants in a file of tests/variants."""
    some = in_process(f"{VARIANTS / file}.py:{'plain' if file == 'cells' else 'stacked_products'}")
    return [name for name in sys.modules[some.call.__module__].VARIANTS if name not in PARTIAL]


def targets() -> list[Target]:
    """Every honest implementation there is."""
    names = prompt()
    names += [f"{VARIANTS / file}.py:{name}" for file in ("cells", "elman") for name in variants(file)]
    return [in_process(name) for name in names]


def study(work: tuple[Key, Sequence[int]]) -> tuple[Key, Tally]:
    """Judge every implementation on the problems of one place of the grid, a seed each."""
    key, seeds = work
    tally = Tally()
    for seed in seeds:
        problem = problem_of(*key, seed)
        truths = Truths()
        for target in targets():
            if not target.support.serves(problem):
                continue
            name = target.name.rpartition(":")[2]
            bench = TargetBench(target, problem.dtype, truths)
            try:
                judgement = against_truth(problem, bench.run(problem), bench.truth(problem))
            except PrecisionExhausted:
                tally.undecided += 1
                break
            tally.answers[name] += 1
            for c in judgement.comparisons:
                bounded = c.allowed > 0 or c.error > 0 or bool((bench.truth(problem).allowed(c.key) < np.inf).any())
                tally.judged += bounded
                tally.unbounded += not bounded
                if not c.holds:
                    tally.over.append(f"{name} {c.key} seed {seed}: error/budget {c.ratio:.4g}")
                tally.worst = max(tally.worst, (c.ratio, c.key, name))
                tally.by_target[name] = max(tally.by_target.get(name, 0.0), c.ratio)
    return key, tally


def grid(cells: Sequence[str], rounds: Iterator[Sequence[int]]) -> Iterator[tuple[Key, Sequence[int]]]:
    """Every place of the grid, over and over with new seeds."""
    for seeds in rounds:
        for T, cell, dtype, norm in itertools.product(reversed(STEPS), cells, DTYPES, NORMS):
            yield (cell, dtype, norm, T), seeds


def table(found: dict[Key, Tally], axis: int, head: str, values: Sequence[Any]) -> Iterator[str]:
    """The largest error / budget by cell and dtype, and one more axis of the grid: Markdown, line by line."""
    yield f"| largest error ÷ budget, by {head} | " + " | ".join(f"{value:g}" for value in values) + " |"
    yield "|---|" + "---:|" * len(values)
    for cell, dtype in itertools.product(CELLS, DTYPES):
        mine = {key: tally for key, tally in found.items() if key[:2] == (cell, dtype)}
        if mine:
            ratios = [max((t.worst[0] for k, t in mine.items() if k[axis] == v), default=0.0) for v in values]
            yield f"| `{cell}` {dtype} | " + " | ".join(f"{ratio:.3f}" for ratio in ratios) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if any array is over its budget, or there were too few."""
    parser = argparse.ArgumentParser(description="Whether the budgets hold for honest implementations.")
    parser.add_argument("--arrays", type=int, default=200_000, help="judged arrays, at least")
    parser.add_argument("--cell", choices=["all", *CELLS], default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args(arguments)
    start = time.monotonic()
    cells = list(CELLS) if given.cell == "all" else [given.cell]
    found: dict[Key, Tally] = defaultdict(Tally)
    rounds = ([given.seed * 1000 + i] for i in itertools.count())
    places = len(STEPS) * len(cells) * len(DTYPES) * len(NORMS)
    work = grid(cells, rounds)
    with ProcessPoolExecutor(given.jobs) as pool:
        while sum(tally.judged for tally in found.values()) < given.arrays:
            for key, tally in pool.map(study, list(itertools.islice(work, places)), chunksize=4):
                include(found[key], tally)
            total = sum(tally.judged for tally in found.values())
            write(f"<!-- {total} arrays after {time.monotonic() - start:.0f} s -->")
    report(found)
    return exit_status(found)


def exit_status(found: Mapping[Key, Tally]) -> int:
    """1 if any array is over its budget."""
    return int(any(tally.over for tally in found.values()))


def include(into: Tally, more: Tally) -> None:
    """Add one tally to another."""
    into.judged += more.judged
    into.unbounded += more.unbounded
    into.undecided += more.undecided
    into.over += more.over
    into.worst = max(into.worst, more.worst)
    into.answers += more.answers
    for name, ratio in more.by_target.items():
        into.by_target[name] = max(into.by_target.get(name, 0.0), ratio)


def report(found: Mapping[Key, Tally]) -> None:
    """The tables, and the sums below them."""
    total = Tally()
    for tally in found.values():
        include(total, tally)
    for axis, head, values in ((2, "spectral norm", NORMS), (3, "T", STEPS)):
        write("\n".join(table(found, axis, head, values)) + "\n")
    write("| implementation | answers | largest error ÷ budget |\n|---|---:|---:|")
    for name, count in sorted(total.answers.items()):
        write(f"| {name} | {count} | {total.by_target.get(name, 0.0):.3f} |")
    write(
        f"\n{total.judged} arrays judged, {len(total.over)} over budget; {total.unbounded} more had no finite bound; "
        f"{total.undecided} problems undecided; worst: {total.worst[0]:.3f} ({total.worst[1]}, {total.worst[2]})"
    )
    for line in total.over[:40]:
        write(f"OVER: {line}")


if __name__ == "__main__":
    sys.exit(main())
