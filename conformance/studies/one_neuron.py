"""S1: one neuron whose output is its state, trained online by the forward recursion of its gradient.

    yhat_t = f(a + b x_t + c yhat_{t-1})                                                    f = tanh      (1)
    grad_t = f'(.) ([1, x_t, yhat_{t-1}] + c grad_{t-1}),   grad_0 = 0                                    (2)
    (a, b, c) <- (a, b, c) + rate (y_t - yhat_t) grad_t                                                   (3)

Two variants of (2) beside it: with 0 for the 1, which leaves out that a enters directly; and without c grad_{t-1},
which is truncation length 1. Source: (2) is Williams and Zipser's (1989) real-time recurrent learning for one unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import interval, log_band
from conformance.studies.networks import excess
from oracle.budget import Model
from oracle.truth import find_truth

Floats = NDArray[np.float64]
VARIANTS = {"complete": (1.0, 1.0), "0 for the 1": (0.0, 1.0), "no recursion": (1.0, 0.0)}
"""The first entry of the immediate part in (2), and the factor before c grad_{t-1}."""
RATE = 0.1


def teacher(rng: np.random.Generator, steps: int) -> tuple[Floats, Floats]:
    """Inputs and what a neuron with random a, b, c answers to them: (steps,) twice."""
    a, b, c = rng.uniform(0.2, 0.6), rng.uniform(0.5, 1.5), rng.uniform(0.4, 0.9)
    x, y = rng.uniform(-1, 1, steps), np.zeros(steps + 1)
    for t in range(steps):
        y[t + 1] = np.tanh(a + b * x[t] + c * y[t])
    return x, y[1:]


def online(x: Floats, y: Floats, first: float, back: float, rate: float) -> tuple[Floats, Floats, Floats]:
    """Run (1) to (3): x and y (steps,) -> errors (steps,), theta (steps,3), and the sum of -2 (y - yhat) grad (3,)."""
    theta, out, grad = np.array([0.0, 0.1, 0.1]), 0.0, np.zeros(3)
    errors, path, total = np.zeros(len(x)), np.zeros((len(x), 3)), np.zeros(3)
    for t in range(len(x)):
        now = np.tanh(theta[0] + theta[1] * x[t] + theta[2] * out)
        grad = (1 - now * now) * (np.array([first, x[t], out]) + back * theta[2] * grad)  # (2)
        total += -2 * (y[t] - now) * grad
        errors[t], out = y[t] - now, now
        theta = theta + rate * errors[t] * grad  # (3)
        path[t] = theta
    return errors, path, total


def posed(x: Floats, y: Floats) -> Problem:
    """The same neuron with the same first weights, as a problem: L = sum over t of (y_t - yhat_t)^2."""
    one = np.ones((1, 1))
    params = {"W_xh": 0.1 * one, "W_hh": 0.1 * one, "b_h": np.zeros(1)}
    loss = Loss("squared_error", target=y[:, None, None], scale=1.0)
    return Problem("elman", params, x[:, None, None], loss, h0=np.zeros((1, 1)), activation="tanh")


def run(run: Run) -> Found:
    """Train each variant on each teacher; compare (2) with the oracle while the weights stand still."""
    seeds, steps, block = range(run.pick(20, 3)), run.pick(1500, 300), run.pick(100, 50)
    run.begin(len(seeds))
    mean: dict[str, list[Floats]] = {name: [] for name in VARIANTS}
    a_path: dict[str, list[Floats]] = {name: [] for name in VARIANTS}
    wrong: dict[str, list[float]] = {name: [] for name in VARIANTS}
    worst = 0.0
    for seed in seeds:
        x, y = teacher(np.random.default_rng(seed), steps)
        truth = find_truth(posed(x[:30], y[:30]), Model("float64"))
        keys = ("db_h", "dW_xh", "dW_hh")
        want = np.array([truth.solution.near(key)[0].item() for key in keys])
        for name, (first, back) in VARIANTS.items():
            errors, path, _ = online(x, y, first, back, RATE)
            mean[name].append((errors**2).reshape(-1, block).mean(axis=1))
            a_path[name].append(path[:, 0])
            total = online(x[:30], y[:30], first, back, 0.0)[2]
            wrong[name].append(float(np.linalg.norm(total - want) / np.linalg.norm(want)))
            if name == "complete":
                for key, got in zip(keys, total, strict=True):
                    worst = max(worst, excess(truth, key, got))
        run.advance()
    return report(list(seeds), steps, block, mean, a_path, wrong, worst)


def report(seeds: list[int], steps: int, block: int, mean: Any, a_path: Any, wrong: Any, worst: float) -> Found:
    """Words, table, picture."""
    at = [block * (i + 1) for i in range(steps // block)]
    curves, moves = [], []
    for style, name in enumerate(VARIANTS):
        y, low, high = log_band(np.maximum(mean[name], 1e-300))
        curves.append(Series(name, at, y, low, high, style))
        moves.append(Series(name, at, np.mean(a_path[name], axis=0)[block - 1 :: block], style=style))
    last = {name: np.array(mean[name])[:, -1] for name in VARIANTS}
    stuck = all(not path.any() for path in a_path["0 for the 1"])
    rows = [(name, interval(np.log10(np.maximum(last[name], 1e-300))), interval(wrong[name])) for name in VARIANTS]
    worse = interval(np.log10(np.maximum(last["0 for the 1"], 1e-300) / np.maximum(last["complete"], 1e-300)))
    cut = interval(np.log10(np.maximum(last["no recursion"], 1e-300) / np.maximum(last["complete"], 1e-300)))
    cut_first = np.array(mean["no recursion"])[:, 0]
    gain = interval(np.log10(cut_first / np.maximum(last["no recursion"], 1e-300)))
    return Found(
        answer=[
            (
                "With 0 where the 1 belongs, the derivative for a starts at 0 and stays there: a never moves, and "
                "the squared "
                f"error of the last {block} steps ends a factor 10^{worse.middle:.2g} [10^{worse.low:.2g}, "
                f"10^{worse.high:.2g}] above that of the complete recursion."
            ),
            (
                f"Without the recursive part it ends a factor 10^{cut.middle:.2g} [10^{cut.low:.2g}, "
                f"10^{cut.high:.2g}] "
                f"above; it lowers the error of the first {block} steps by a factor 10^{gain.middle:.2g} "
                f"[10^{gain.low:.2g}, "
                f"10^{gain.high:.2g}] nevertheless. A teacher of the same form, without noise, sets an easy task."
            ),
        ],
        parameters={"steps": steps, "rate": RATE, "start": [0.0, 0.1, 0.1]},
        seeds=seeds,
        tables=[
            Table(
                "At the end of training, and the gradient before it",
                (
                    "recursion",
                    f"log10 of the squared error, last {block} steps",
                    "gradient's relative error at the start",
                ),
                rows,
            )
        ],
        pictures=[
            Picture(
                "s1",
                "One neuron trained online. Left: squared error, geometric mean over teachers with its "
                "interval. Right: the weight a, mean over teachers; with 0 for the 1 it stays at its start.",
                [
                    Panel("squared error", "steps", "squared error", curves, ylog=True),
                    Panel("the weight a", "steps", "a", moves),
                ],
            )
        ],
        checks=[
            Check(
                "the forward recursion gives the gradient of the summed loss, within the budget of rounding",
                worst <= 1.0,
                f"worst error ÷ budget {worst:.2g}",
            ),
            Check("with 0 for the 1 the weight a stays at its start to the last bit", stuck, f"{len(seeds)} runs"),
        ],
    )


STUDY = Study(
    "S1",
    "one neuron trained online",
    "Does a neuron whose output is its state learn online by the forward recursion of its gradient, and what do the "
    "parts of that recursion do?",
    "A teacher of the same form sets the task. The recursion runs complete, with 0 in place of the immediate "
    "derivative "
    "for a, and without its recursive part; before training its gradient is compared with the oracle's.",
    ("C01", "C02", "C03", "C04"),
    run,
    symbols="The neuron answers y_t = tanh(a + b x_t + c y_(t−1)) to the input x_t: a is its bias, b and c its "
    "weights. The 1 is the derivative of a + b x + c y by a, y held fixed.",
)
