"""S4: unfolding into k instances of f and one g: shared parameters, updates summed, a cost at one step or many.

    L_k = |g(f(... f(0, a_1) ..., a_k)) - y|^2        k instances of f, x_0 = 0                            (1)
    dL_k/dtheta = sum over instances s of the immediate part of f_s                                          (2)
    share_n = window(n) - window(n-1)                 what the instance n - 1 steps before the cost adds     (3)

With the cost at the last step only, (3) takes the instances apart one by one. Source: the unfolded network of Werbos
(1990); (3) is ours, from the definition of window.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import interval, log_band
from conformance.studies.networks import cosine, draw, excess, joined, pose, size, truncated
from implementations.registry import load
from oracle.budget import Model
from oracle.rational_numbers import RationalNumbers
from oracle.solution import solve
from oracle.truth import find_truth

D, H, K = 3, 8, 2
GAINS = (0.6, 1.0, 1.4)


def posed(rng: np.random.Generator, k: int, gain: float) -> Problem:
    """(1), as a cotangent on the last output: 2 (o_k - y) of a random y."""
    params = draw(rng, "elman", D, H, K, gain=gain)
    x = rng.standard_normal((k, 1, D))
    g = np.zeros((k, 1, K))
    problem = pose("elman", params, x, Loss("cotangent", g=g))
    g[-1] = 2 * (load("numpy").gradients(problem)["o"][-1] - rng.standard_normal(K))
    return replace(problem, loss=Loss("cotangent", g=g))


def shares(problem: Problem) -> np.ndarray:
    """(3) for n = 1 to T by the target `numpy`: (T, parameters of the cell)."""
    names = ("W_xh", "W_hh", "b_h")
    solver = load("numpy").gradients
    sums = [joined(solver(truncated(problem, "window", k=n)), names) for n in range(1, problem.T + 1)]
    return np.diff(np.array([np.zeros_like(sums[0]), *sums]), axis=0)


def instances(problem: Problem) -> dict[str, Any]:
    """The gradient as (2): each instance of f alone, by one step of the target, its error carried back by hand.

    Instance s is a problem of one step from h_{s-1}, with the cotangent that the instance after it sent into h_s.
    """
    solver = load("numpy").gradients
    h = solver(problem)["h"]
    total = {f"d{name}": np.zeros_like(array) for name, array in problem.params.items()}
    final = np.zeros((1, H))
    for s in range(problem.T, 0, -1):
        assert problem.loss.g is not None
        loss = Loss("cotangent", g=problem.loss.g[s - 1 : s], g_h_final=final)
        h0 = h[s - 2] if s > 1 else np.zeros((1, H))
        answer = solver(replace(problem, x=problem.x[s - 1 : s], h0=h0, loss=loss))
        for key in total:
            total[key] += answer[key]
        final = answer["dh0"]
    return total


def run(run: Run) -> Found:
    """Take random networks apart."""
    seeds, k = list(range(run.pick(12, 3))), run.pick(16, 6)
    run.begin(len(seeds) * len(GAINS))
    norms: dict[float, list[Any]] = {gain: [] for gain in GAINS}
    last: dict[float, list[float]] = {gain: [] for gain in GAINS}
    worst, ratios = 0.0, set[Fraction]()
    for seed in seeds:
        for gain in GAINS:
            problem = posed(np.random.default_rng(seed), k, gain)
            parts = shares(problem)
            whole = parts.sum(axis=0)
            norms[gain].append([size([part]) / size([whole]) for part in parts])
            last[gain].append(cosine(parts[0], whole))
            truth = find_truth(problem, Model("float64"))
            for key, got in instances(problem).items():
                # one order of summation among others, so that the budget is a theorem for it too
                worst = max(worst, excess(truth, key, got))
            run.advance()
        ratios |= mean_and_sum(np.random.default_rng(seed), k)
    x = list(range(1, k + 1))
    curves = [
        Series(f"gain {gain:g}", [n - 1 for n in x], *log_band(np.maximum(norms[gain], 1e-300)), style)
        for style, gain in enumerate(GAINS)
    ]
    far = {gain: interval([row[-1] for row in norms[gain]]) for gain in GAINS}
    return Found(
        answer=[
            f"The gradients of {k} instances with weights of their own add up to the gradient of the shared weights. "
            "The farthest instance's share has "
            + ", ".join(f"{far[gain]} of the norm of the sum at gain {gain:g}" for gain in GAINS)
            + ".",
            (
                f"A cost averaged over the steps has the gradient of the summed cost divided by k = {k}, exactly: "
                "which of the two "
                "is meant is a convention."
            ),
        ],
        parameters={"k": k, "D": D, "H": H, "K": K, "gains": GAINS},
        seeds=seeds,
        tables=[
            Table(
                "Shares of the instances",
                (
                    "gain of W_hh",
                    "farthest instance's norm ÷ sum's",
                    "cosine of the nearest instance alone with the sum",
                ),
                [(f"{g:g}", far[g], interval(last[g])) for g in GAINS],
            )
        ],
        pictures=[
            Picture(
                "s4",
                "What each unfolded instance of f adds to the gradient of the shared weights, by its "
                "distance from the cost; norms relative to that of the sum, geometric means with intervals.",
                [
                    Panel(
                        "shares of unfolded instances",
                        "steps before the cost",
                        "norm ÷ norm of the sum",
                        curves,
                        ylog=True,
                    )
                ],
            )
        ],
        checks=[
            Check(
                "the instances' gradients add up to that of the shared weights, within the budget of rounding",
                worst <= 1.0,
                f"worst error ÷ budget {worst:.2g}",
            ),
            Check(
                "loss and gradient of the summed cost are k times those of the mean, in rationals",
                ratios == {Fraction(k)},
                f"ratios found: {', '.join(str(r) for r in sorted(ratios))}",
            ),
        ],
    )


def mean_and_sum(rng: np.random.Generator, k: int) -> set[Fraction]:
    """The ratios of loss and gradients of one network with the identity, the cost summed and averaged, all exact."""
    params = {name: np.round(4 * array) / 4 for name, array in draw(rng, "elman", 1, 2, 1).items()}
    x, y = np.round(rng.standard_normal((k, 1, 1)) * 2), np.ones((k, 1, 1))
    found = []
    for reduction in ("sum", "mean"):
        loss = Loss("squared_error", target=y, scale=1.0, time_reduction=reduction)
        values = solve(pose("elman", params, x, loss, activation="identity"), RationalNumbers()).values
        found.append([value for key in ("loss", "dW_hh", "dW_xh", "db_h", "dW_hy") for value in values[key]])
    return {Fraction(a) / Fraction(b) for a, b in zip(*found, strict=True) if b}


STUDY = Study(
    "S4",
    "unfolding with shared parameters",
    "Is the sum of what the unfolded instances of f call for the gradient of the shared weights, and how is it "
    "divided among them?",
    "Random tanh networks start from zero, with one cost at the last of k steps. Each instance is run on its "
    "own by the "
    "certified target, the sums are judged by the oracle, and the shares are differences of successive windows.",
    ("C11", "C34"),
    run,
    symbols="f is one step of the network, g its output; k counts the instances of f. The gain scales W_hh, the"
    " weights among the units: it is about the spectral radius. A cosine is that of the angle between "
    "two gradients.",
)
