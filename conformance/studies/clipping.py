"""clipping: what gradient clipping preserves, and what it does for training.

    by norm      g min(1, c / |g|)                      |g| over all parameters                                (1)
    by value     each entry cut to [-v, v]                                                                     (2)

The task makes gradients explode: a relu network that starts from the identity recalls the sign of the first step at the
last (S10 has the task), and its Jacobian products know no bound. (1) keeps
the direction of a gradient. Neither keeps a mean: clipping the gradients of rows and averaging them is not clipping
their average. Source: Pascanu, Mikolov and Bengio (2013), clipping by the norm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bptt.problem import Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import interval, median_band, median_interval
from conformance.studies.networks import Array, Named, cosine, gradients, joined, last_step, size
from conformance.studies.remedies import ROWS, H, initial, recall

ARM = "relu, identity"
NORM, VALUE = 1.0, 0.1
ARMS = ("none", "by norm", "by value")
RATE = 0.1
FAR = 1e6
"""A cost above this counts as this: the run is lost."""


def clipped(g: Array, arm: str) -> Array:
    """(1) or (2) of a gradient as one vector, or nothing."""
    if arm == "by value":
        return np.clip(g, -VALUE, VALUE)
    return g * min(1.0, NORM / max(size([g]), 1e-300)) if arm == "by norm" else g


def pieces(params: Named, g: Array) -> Named:
    """A vector back into the shapes of the parameters."""
    out, start = {}, 0
    for name, array in params.items():
        out[name] = g[start : start + array.size].reshape(array.shape)
        start += array.size
    return out


def train(arm: str, seed: int, T: int, updates: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """By update: costs, gradient norms, cosines of clipped with whole, of the mean of clipped rows with the mean."""
    rng = np.random.default_rng(seed)
    params = initial(ARM, rng)
    costs: list[float] = []
    norms: list[float] = []
    kept: list[float] = []
    means: list[float] = []
    for n in range(updates):
        problem, answer, cost = last_step("elman", params, *recall(rng, T, ROWS), activation="relu")
        g = joined(answer, params)
        if not (cost < FAR and np.isfinite(g).all()):  # lost: what follows is not asked
            rest = updates - n
            return costs + [FAR] * rest, norms + [np.inf] * rest, kept, means
        cut = clipped(g, arm)
        costs.append(cost)
        norms.append(size([g]))
        if arm != "none" and size([g]) > 0:
            kept.append(cosine(cut, g))
            if n % 20 == 0:
                means.append(mean_of_clipped(problem, params, arm, g))
        params = {
            name: array - RATE * step
            for (name, array), step in zip(params.items(), pieces(params, cut).values(), strict=True)
        }
    return costs, norms, kept, means


def mean_of_clipped(problem: Problem, params: Named, arm: str, g: Array) -> float:
    """The cosine of the mean of the rows' clipped gradients with the gradient of the mean."""
    total = np.zeros_like(g)
    for b in range(ROWS):
        assert problem.h0 is not None and problem.loss.g is not None
        rows = slice(b, b + 1)  # the cotangent holds 1 / ROWS
        loss = replace(problem.loss, g=ROWS * problem.loss.g[:, rows])
        row = replace(problem, x=problem.x[:, rows], h0=problem.h0[rows], loss=loss)
        total += clipped(joined(gradients(row), params), arm) / ROWS
    return cosine(total, g)


def run(run: Run) -> Found:
    """Train with each kind of clipping."""
    seeds, T, updates = list(range(run.pick(10, 2))), run.pick(40, 12), run.pick(400, 40)
    run.begin(len(seeds) * len(ARMS))
    costs: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    norms: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    kept: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    means: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm in ARMS:
            for store, found in zip((costs, norms, kept, means), train(arm, seed, T, updates), strict=True):
                store[arm].append(found)
            run.advance()
    block = max(1, updates // 20)
    at = [block * (i + 1) for i in range(updates // block)]
    smooth = {
        arm: np.array(costs[arm])[:, : len(at) * block].reshape(len(seeds), -1, block).mean(axis=2) for arm in ARMS
    }
    largest = {
        arm: np.array(norms[arm])[:, : len(at) * block].reshape(len(seeds), -1, block).max(axis=2) for arm in ARMS
    }
    end = {arm: median_interval(smooth[arm][:, -1]) for arm in ARMS}
    lost = {arm: int(np.sum(np.array(costs[arm])[:, -1] >= FAR)) for arm in ARMS}
    lowest = {arm: min(min(row) for row in kept[arm]) for arm in ARMS[1:]}
    typical = {arm: interval([float(np.mean(row)) for row in means[arm]]) for arm in ARMS[1:]}
    versus = interval(np.log10(smooth["none"][:, -1] / smooth["by norm"][:, -1]))
    # n entries are scaled by one rounded factor, each rounded again: a relative 2^-52 of the vector; dot product and
    # the norms of the cosine sum n terms, at most n 2^-53 each.
    entries = sum(array.size for array in initial(ARM, np.random.default_rng(0)).values())
    slack = (3 * entries + 10) * 2.0**-53
    off = 1 - lowest["by norm"]
    rows = [
        (arm, end[arm], float(max(n for row in norms[arm] for n in row)), lowest.get(arm, 1.0), typical.get(arm, "–"))
        for arm in ARMS
    ]
    return Found(
        answer=[
            (
                f"Without clipping {lost['none']} of {len(seeds)} runs are lost (their cost counts as {FAR:g}), "
                "clipped by the norm "
                f"{lost['by norm']}, by value {lost['by value']}. The cost at the end is {end['none']} without "
                f"clipping, {end['by norm']} clipped by the norm, "
                f"{end['by value']} by value; without it is a factor 10^{versus.middle:.2g} [10^{versus.low:.2g}, "
                f"10^{versus.high:.2g}] of that by norm."
            ),
            (
                f"By the norm the direction stays: cosine 1. By value it falls to {lowest['by value']:.2g} at "
                "worst. Neither keeps "
                f"means: averaging the clipped gradients of {ROWS} rows has the cosine {typical['by norm']} (norm) and "
                f"{typical['by value']} (value) with the gradient of the average."
            ),
        ],
        parameters={
            "H": H,
            "rows": ROWS,
            "T": T,
            "rate": RATE,
            "norm": NORM,
            "value": VALUE,
            "updates": updates,
        },
        seeds=seeds,
        tables=[
            Table(
                "Training a relu network from the identity",
                (
                    "clipping",
                    "cost at the end, median",
                    "largest gradient norm met",
                    "least cosine with the whole gradient",
                    "cosine of mean of clipped rows, mean",
                ),
                rows,
            )
        ],
        pictures=[
            Picture(
                "clipping",
                "A relu network that starts from the identity recalls a sign. Left: cost. Right: the largest "
                "gradient norm (before clipping) among successive updates; a run that is lost has none. Medians over "
                "seeds with intervals.",
                [
                    Panel(
                        "cost in training",
                        "updates",
                        "squared error",
                        [Series(arm, at, *median_band(smooth[arm]), i) for i, arm in enumerate(ARMS)],
                        ylog=True,
                    ),
                    Panel(
                        "largest gradient norm",
                        "updates",
                        "norm over all parameters",
                        [Series(arm, at, *median_band(largest[arm]), i) for i, arm in enumerate(ARMS)],
                        ylog=True,
                    ),
                ],
            )
        ],
        checks=[
            Check(
                "clipping by the norm keeps the direction: cosine 1",
                off <= slack,
                f"off by {max(off, 0):.2g} at most, rounding may cost {slack:.2g}",
            ),
            Check(
                "clipping by value does not", lowest["by value"] < 1 - slack, f"cosine down to {lowest['by value']:.3g}"
            ),
        ],
    )


STUDY = Study(
    "clipping",
    "gradient clipping and what it preserves",
    "What does clipping do for training where gradients explode, and what of the gradient does it keep?",
    "Relu networks from the identity are trained without clipping, clipped by the norm and by value, on the "
    "same data. Every clipped "
    "gradient is compared with the whole one, and the mean of the rows' clipped gradients with the gradient "
    "of the mean.",
    ("C26",),
    run,
    symbols="By the norm, a gradient longer than the limit is shortened to it; by value, each entry beyond the "
    "limit is set to it. A cosine of 1 is an unchanged direction.",
)
