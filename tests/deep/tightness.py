"""How tight the budgets are: budget / |gradient| of the recurrent weights, and the share of conclusive examples.

    python -m tests.deep.tightness --seeds 3 --examples 200

Problems of the first tables are random networks without a readout under a cotangent loss. The entries of W_xh or W_x
are normal with variance 1/D, each block of H columns of W_hh or W_h is normal and scaled to the spectral norm, biases,
peephole weights and initial states are normal with variance 1/4, inputs and the cotangents of all steps standard
normal. Elman cells have tanh. The quantiles are taken over the entries of the gradient, then the median over the seeds.

The examples of the last table are drawn as `oracle-agreement` draws them, edges, truncations and all, from uniform
integers. One is conclusive if every array of gradients is (oracle/truth.py). Buckets are by the spectral norm found in
the recurrent weights, the largest of their blocks.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from oracle.budget import Model
from oracle.errors import PrecisionExhausted
from oracle.truth import find_truth
from properties.recipe import Draw
from properties.strategies import draw_problem, offered
from tests.deep.agreement import Dice, write

NORMS = (0.5, 0.9, 1.0, 1.5, 2.0, 3.0)
STEPS = (10, 30, 100)
DTYPES = ("float64", "float32")
SIZES = (2, 3, 8)
"""B, D, H of the tables."""
GOALS = ((10, 8, 1e-12), (100, 32, 5e-11))
"""T, H and what the median of an Elman cell of norm 0.9 must stay below in float64, with B = D = 4."""
BUCKETS = (1.0, 2.0, 3.0, np.inf)
LEAST_SHARE = 0.99
"""Of the examples in the first bucket, those that must be conclusive."""
ROUNDED = 1 + 2.0**-16
"""A matrix scaled to a norm has it up to the rounding of its entries to the dtype."""


def recurrent_name(cell: str) -> str:
    """The recurrent weights' name."""
    return "W_hh" if cell == "elman" else "W_h"


def network(cell: str, dtype: str, norm: float, sizes: tuple[int, int, int, int], seed: int) -> Problem:
    """A random problem as the module's first lines say; sizes are T, B, D, H."""
    T, B, D, H = sizes
    rng = np.random.default_rng([seed, list(CELLS).index(cell), T, H])
    spec = CELLS[cell]
    params = {}
    for name, shape in spec.shapes(D, H).items():
        values = rng.standard_normal(shape)
        if name == recurrent_name(cell):
            blocks = [values[:, j : j + H] for j in range(0, shape[1], H)]
            values = np.concatenate([block * (norm / np.linalg.norm(block, 2)) for block in blocks], axis=1)
        else:
            values *= D**-0.5 if len(shape) == 2 else 0.5
        params[name] = values.astype(dtype)
    states: dict[str, Any] = {f"{s}0": (0.5 * rng.standard_normal((B, H))).astype(dtype) for s in spec.states}
    return Problem(
        cell,
        params,
        rng.standard_normal((T, B, D)).astype(dtype),
        Loss("cotangent", g=rng.standard_normal((T, B, H)).astype(dtype)),
        activation="tanh" if spec.activations else None,
        dtype=dtype,
        **states,
    )


def quantiles(problem: Problem) -> tuple[float, float]:
    """The median and the 95th percentile of budget / |gradient| over the recurrent weights; infinite without bounds."""
    truth = find_truth(problem, Model(problem.dtype))
    key = f"d{recurrent_name(problem.cell)}"
    with np.errstate(divide="ignore"):
        ratios = truth.budget.arrays[key] / np.abs(truth.solution.near(key)[0])
    finite = np.sort(ratios, axis=None)  # by rank, since between infinities nothing can be interpolated
    return float(finite[len(finite) // 2]), float(finite[len(finite) * 95 // 100])


def table(dtype: str, cells: Sequence[str], seeds: int) -> Iterator[str]:
    """Median and 95th percentile by cell, norm and T: Markdown, line by line."""
    B, D, H = SIZES
    heads = " | ".join(f"T = {T}: median | 95 %" for T in STEPS)
    yield f"| {dtype}, B = {B}, D = {D}, H = {H} | norm | {heads} |"
    yield "|---|---:|" + "---:|" * (2 * len(STEPS))
    for cell in cells:
        for norm in NORMS:
            row = []
            for T in STEPS:
                found = [quantiles(network(cell, dtype, norm, (T, *SIZES), seed)) for seed in range(seeds)]
                row += [f"{np.sort(column)[len(column) // 2]:.1e}" for column in zip(*found, strict=True)]
            yield f"| `{cell}` | {norm:g} | " + " | ".join(row) + " |"


def goals(seeds: int) -> Iterator[tuple[str, bool]]:
    """(a table's line, whether the goal it holds is met)."""
    yield (
        "| elman, tanh, float64, norm 0.9, B = D = 4 | goal | " + " | ".join(f"seed {n}" for n in range(seeds)) + " |",
        True,
    )
    yield "|---|---:|" + "---:|" * seeds, True
    for T, H, below in GOALS:
        medians = [quantiles(network("elman", "float64", 0.9, (T, 4, 4, H), seed))[0] for seed in range(seeds)]
        yield (
            f"| T = {T}, H = {H} | {below:.0e} | " + " | ".join(f"{m:.2e}" for m in medians) + " |",
            max(medians) < below,
        )


def spectral_norm(problem: Problem) -> float:
    """The largest of the spectral norms of the recurrent weights' blocks."""
    W, H = problem.params[recurrent_name(problem.cell)].astype(np.float64), problem.H
    return max(float(np.linalg.norm(W[:, j : j + H], 2)) for j in range(0, W.shape[1], H))


def inconclusive(problem: Problem) -> list[str]:
    """The gradients whose budgets are too large to say much."""
    try:
        truth = find_truth(problem, Model(problem.dtype))
    except PrecisionExhausted:
        return ["all of them: precision exhausted"]
    return [key for key in truth.budget.arrays if key.startswith("d") and not truth.conclusive(key)]


def survey(cell: str, dtype: str, examples: int, seed: int) -> tuple[Counter[float], Counter[float], list[str]]:
    """Drawn and conclusive examples by bucket, and a line about each that is not conclusive."""
    support = Support()
    drawn: Counter[float] = Counter()
    conclusive: Counter[float] = Counter()
    lines = []
    for index in range(examples):
        draw = Draw(Dice(seed, list(CELLS).index(cell), DTYPES.index(dtype), index))
        problem = draw_problem(draw, offered(support, cell), support, cell, dtype)
        bucket = next(b for b in BUCKETS if spectral_norm(problem) <= b * ROUNDED)
        keys = inconclusive(problem)
        drawn[bucket] += 1
        conclusive[bucket] += not keys
        if keys:
            sizes = f"T={problem.T} B={problem.B} D={problem.D} H={problem.H} K={problem.K}"
            what = f"{problem.activation or ''} {problem.readout} {problem.loss.kind} {problem.truncation}"
            lines.append(f"{cell} {dtype} #{index}: {', '.join(keys)}; {what.strip()}, {sizes}")
    return drawn, conclusive, lines


def shares(cells: Sequence[str], examples: int, seed: int) -> Iterator[tuple[str, float]]:
    """(a table's line or a remark below it, the share of the first bucket as far as it is known)."""
    yield "| conclusive of drawn, by norm | up to 1 | to 2 | to 3 | beyond |\n|---|---:|---:|---:|---:|", 1.0
    every: dict[str, tuple[Counter[float], Counter[float]]] = {
        what: (Counter(), Counter()) for what in (*DTYPES, "all")
    }
    remarks: list[str] = []
    for cell in cells:
        for dtype in DTYPES:
            *counts, lines = survey(cell, dtype, examples, seed)
            remarks += lines
            for what in (dtype, "all"):
                for total, count in zip(every[what], counts, strict=True):
                    total.update(count)
            yield f"| `{cell}` {dtype} | " + " | ".join(ratio(*counts, bucket) for bucket in BUCKETS) + " |", 1.0
    first = every["all"][1][BUCKETS[0]] / max(1, every["all"][0][BUCKETS[0]])
    for what, counts_of in every.items():
        yield f"| {what} | " + " | ".join(ratio(*counts_of, bucket) for bucket in BUCKETS) + " |", first
    yield "", first
    for line in remarks:
        yield f"inconclusive: {line}", first


def ratio(drawn: Counter[float], conclusive: Counter[float], bucket: float) -> str:
    """A table's cell.

    >>> ratio(Counter({1.0: 8}), Counter({1.0: 7}), 1.0), ratio(Counter(), Counter(), 1.0)
    ('7/8, 87.5 %', '–')
    """
    n = drawn[bucket]
    return f"{conclusive[bucket]}/{n}, {conclusive[bucket] / n:.1%}".replace("%", " %") if n else "–"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="How tight the budgets are.")
    parser.add_argument("--seeds", type=int, default=3, help="networks at each place of the tables")
    parser.add_argument("--goal-seeds", type=int, default=8, help="networks for each of the goals")
    parser.add_argument("--examples", type=int, default=200, help="drawn examples a cell and dtype")
    parser.add_argument("--cell", choices=["all", *CELLS], default="all")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn examples")
    given = parser.parse_args(arguments)
    cells = list(CELLS) if given.cell == "all" else [given.cell]
    failed = False
    for line, met in goals(given.goal_seeds):
        write(line)
        failed |= not met
    for dtype in DTYPES:
        write("")
        for line in table(dtype, cells, given.seeds):
            write(line)
    write("")  # the goal is for both dtypes together
    for line, share in shares(cells, given.examples, given.seed):
        write(line)
        failed |= not share >= LEAST_SHARE
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
