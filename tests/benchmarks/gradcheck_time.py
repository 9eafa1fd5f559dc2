"""One judgement against one gradcheck of the same target at the same problem, in turn within one run.

    python -m tests.benchmarks.gradcheck_time [--repetitions 5] [--targets numpy]

A judgement is what `certify` does with one example: draw the problem, solve it exactly, bound every entry, run the
target, compare. gradcheck is handed the problem. T = 20, B = 4, D = 8, H = 16, float64, `full`, a cotangent on every
step. Three targets, named apart:

    numpy       the built-in implementation, behind a Function: each evaluation of the loss computes the gradients too
    torch       likewise, the built-in implementation by PyTorch's autograd
    torch loop  the forward loop of `torch`, differentiated by autograd itself: an evaluation computes the loss alone

A ratio is gradcheck's time by bpttcheck's in the same repetition.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bptt.problem import Problem
from conformance.bench import TargetBench
from conformance.engine import judge
from conformance.targets import Target
from properties import PROPERTIES
from properties.base import Case
from properties.recipe import Draw
from properties.strategies import draw_problem, offered, replace_shape
from tests.benchmarks.behind_autograd import Behind, behind_function, passes, unrolled_loop
from tests.deep.agreement import write
from tests.loading import in_process

SIZES = (20, 4, 8, 16, 16)  # T, B, D, H, K
TARGETS = ("numpy", "torch", "torch loop")
CELLS = ("elman", "lstm")


class Largest:
    """A choice sequence of uniform integers, but that T, B, D, H and K are as large as they may be."""

    def __init__(self, seed: int) -> None:
        self.rng, self.drawn = np.random.default_rng(seed), 0

    def draw_integer(self, low: int, high: int, *, shrink_towards: int) -> int:
        """As Hypothesis's choice sequence has it; a size takes three integers, of which the first is the size."""
        del shrink_towards
        self.drawn += 1
        is_size = self.drawn <= 3 * len(SIZES) and self.drawn % 3 == 1
        return high if is_size else int(self.rng.integers(low, high, endpoint=True))


def drawn(target: Target, cell: str, seed: int) -> Problem:
    """A problem of the sizes above, by the strategy that `certify` draws from."""
    shape = replace_shape(
        offered(target.support, cell),
        largest=SIZES,
        edges=False,
        work=1 << 40,
        readouts=("none",),
        losses=("cotangent",),
        truncations=("full",),
        activations=("tanh",) if cell == "elman" else (None,),
        lengths=False,
        h0_none=False,
        calm=True,
    )
    problem = draw_problem(Draw(Largest(seed)), shape, target.support, cell, "float64")
    assert (problem.T, problem.B, problem.D, problem.H, problem.K) == SIZES
    return problem


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes, in seconds of this process: a busy machine is in no ratio."""
    start = time.process_time()
    work()
    return time.process_time() - start


def works(name: str, cell: str, seed: int) -> tuple[Callable[[], None], ...]:
    """A judgement, gradcheck in slow and in fast mode; all three must pass."""
    target = in_process(name.removesuffix(" loop"))
    problem = drawn(target, cell, seed)

    def behind() -> Behind:
        return unrolled_loop(problem) if name == "torch loop" else behind_function(target.call, problem)

    def judgement() -> None:
        bench = TargetBench(target, "float64")
        outcome = judge(PROPERTIES["oracle-agreement"], Case(drawn(target, cell, seed)), bench)
        assert outcome.verdict == "pass", outcome

    def slow() -> None:
        assert passes(behind(), fast=False)

    def fast() -> None:
        assert passes(behind(), fast=True)

    return judgement, slow, fast


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range."""
    return f"{np.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a cell and target."""
    parser = argparse.ArgumentParser(description="One judgement against one gradcheck.")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    heads = ("cell", "target", "bpttcheck, ms", "gradcheck slow, s", "gradcheck fast, ms", "slow ÷ ours", "fast ÷ ours")
    write(f"| {' | '.join(heads)} |")
    write("|---|---|---:|---:|---:|---:|---:|")
    for cell in CELLS:
        for name in given.targets:
            judgement, _, fast_mode = works(name, cell, given.repetitions)
            judgement(), fast_mode()  # first calls are slower
            runs = [[seconds(work) for work in works(name, cell, seed)] for seed in range(given.repetitions)]
            ours, slow, fast = zip(*runs, strict=True)
            ratios = [[theirs / judged for theirs, judged in zip(of, ours, strict=True)] for of in (slow, fast)]
            cells = (
                spread([1e3 * s for s in ours], 0),
                spread(slow, 1),
                spread([1e3 * s for s in fast], 1),
                spread(ratios[0], 1),
                spread(ratios[1], 3),
            )
            write(f"| {cell} | {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
