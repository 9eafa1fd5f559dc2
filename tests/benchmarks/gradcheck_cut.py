"""The case that gradcheck misses and nobody notices: a gradient cut off after 20 steps of a sequence of 50.

    python -m tests.benchmarks.gradcheck_cut [--networks 20]

Random tanh networks (T = 50, B = 1, D = 4, H = 8), loss at the last step alone, spectral norm of W_hh 0.9: a scaled
normal matrix, whose powers vanish soon, or 0.9 times an orthogonal one. The target goes back 20 steps and stops.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bptt.problem import Loss, Problem
from bptt.support import read_support
from conformance.bench import TargetBench, Truths
from conformance.engine import Outcome, judge
from conformance.targets import Target
from oracle.truth import norm
from properties import PROPERTIES
from properties.base import Case
from properties.strategies import recurrent
from tests.benchmarks.behind_autograd import behind_function, passes
from tests.deep.agreement import write

T, B, D, H = 50, 1, 4, 8
KEPT = 20
SPECTRAL_NORM = 0.9
KINDS = ("scaled normal", "orthogonal")


def network(kind: str, seed: int) -> Problem:
    """One random network."""
    rng = np.random.default_rng(seed)
    W_hh = recurrent("orthogonal" if kind == "orthogonal" else "scaled", seed, H, H, SPECTRAL_NORM, "float64")
    g = np.zeros((T, B, H))
    g[-1] = rng.standard_normal((B, H))
    return Problem(
        cell="elman",
        activation="tanh",
        params={
            "W_xh": rng.standard_normal((D, H)) * D**-0.5,
            "W_hh": SPECTRAL_NORM * W_hh if kind == "orthogonal" else W_hh,
            "b_h": 0.1 * rng.standard_normal(H),
        },
        x=rng.standard_normal((T, B, D)),
        h0=0.5 * rng.standard_normal((B, H)),
        loss=Loss("cotangent", g=g),
    )


def cut(problem: Any, kept: int = KEPT) -> dict[str, Any]:
    """The loss, and the part of its gradient that the last `kept` steps contribute."""
    W_xh, W_hh, b_h = (problem.params[name] for name in ("W_xh", "W_hh", "b_h"))
    h = [problem.h0]
    for x_t in problem.x:
        h.append(np.tanh(x_t @ W_xh + h[-1] @ W_hh + b_h))
    found = {"dx": np.zeros_like(problem.x), "dh0": np.zeros_like(problem.h0)}
    found |= {f"d{name}": np.zeros_like(value) for name, value in problem.params.items()}
    dh = np.zeros_like(problem.h0)
    for s in range(T, max(0, T - kept), -1):
        delta = (problem.loss.g[s - 1] + dh) * (1 - h[s] ** 2)
        found["dW_xh"] += problem.x[s - 1].T @ delta
        found["dW_hh"] += h[s - 1].T @ delta
        found["db_h"] += delta.sum(axis=0)
        found["dx"][s - 1] = delta @ W_xh.T
        dh = delta @ W_hh.T
    if kept >= T:
        found["dh0"] = dh
    states = np.stack(h[1:])
    return found | {"loss": (problem.loss.g * states).sum(), "h": states, "o": states.copy()}


@dataclass(frozen=True)
class Seen:
    """What became of one network: `lost` is the part of dW_hh's norm that is missing, `ratio` the worst error ÷ budget.

    whole  what bpttcheck says of the same code when it goes back all the way
    """

    slow: bool
    fast: bool
    verdict: str
    whole: str
    lost: float
    ratio: float


def examine(problem: Problem) -> Seen:
    """The cut gradient of one network before gradcheck and before bpttcheck."""
    truths = Truths()

    def judged(call: Any) -> tuple[TargetBench, Outcome]:
        bench = TargetBench(Target("cut", "built-in", read_support(None), call, None, None), "float64", truths)
        return bench, judge(PROPERTIES["oracle-agreement"], Case(problem), bench)

    bench, outcome = judged(cut)
    error = bench.truth(problem).error("dW_hh", bench.run(problem)["dW_hh"])
    behind = behind_function(cut, problem)
    return Seen(
        slow=passes(behind, fast=False),
        fast=passes(behind, fast=True),
        verdict=outcome.verdict,
        whole=judged(partial(cut, kept=T))[1].verdict,
        lost=norm(error) / norm(bench.truth(problem).solution.near("dW_hh")[0]),
        ratio=outcome.worst.ratio if outcome.worst else 0.0,
    )


def survey(networks: int) -> dict[str, list[Seen]]:
    """So many networks of each kind."""
    return {kind: [examine(network(kind, seed)) for seed in range(networks)] for kind in KINDS}


def rows(found: dict[str, list[Seen]]) -> list[str]:
    """A table, a line a kind of W_hh."""
    heads = (
        "W_hh",
        "networks",
        "gradcheck slow passes",
        "gradcheck fast passes",
        "bpttcheck fails",
        "bpttcheck passes the whole gradient",
        "part of dW_hh that is lost: median, range",
        "worst error ÷ budget: median, least",
    )
    out = [f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for kind, seen in found.items():
        lost, ratios = [one.lost for one in seen], [one.ratio for one in seen]
        out.append(
            f"| {kind} | {len(seen)} | {sum(one.slow for one in seen)} | {sum(one.fast for one in seen)} "
            f"| {sum(one.verdict == 'fail' for one in seen)} | {sum(one.whole == 'pass' for one in seen)} "
            f"| {np.median(lost):.1e}, {min(lost):.1e} to {max(lost):.1e} "
            f"| {np.median(ratios):.1e}, {min(ratios):.1e} |"
        )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="A gradient cut off after 20 steps, before gradcheck and bpttcheck.")
    parser.add_argument("--networks", type=int, default=20, help="of each kind")
    for line in rows(survey(parser.parse_args(arguments).networks)):
        write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
