"""S5: the truncated training loop over n pairs (a_t, y_t), with the network unfolded for k steps.

    for t = 0 .. n - k - 1:   unfold k instances of f from the context x over a_t .. a_{t+k-1}, and g at the end  (1)
                              compare with y_{t+k}, propagate back through all k, sum, update f and g              (2)
                              x := f(x, a_t), with the new f                                                       (3)

The task is an echo of the last input fed but `lag`: y_s = a_{s-1-lag}. The input that an error belongs to is one of the
k fed where k > lag; where k = lag it is the last one that the context x holds, which the first instance's
dW_hh = x^T delta still sees. With k < lag no update can tell how W_hh should carry it.
Source: the well-known loop of truncated BPTT; Williams and Peng (1990) call it BPTT(h).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bptt.problem import Loss
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import log_band, log_interval
from conformance.studies.networks import Array, Named, draw, excess, gradients, last_step, pose, step
from oracle.budget import Model
from oracle.truth import find_truth
from properties.training import truncated

H, ROWS, RATE, CLIP = 12, 8, 0.1, 1.0
LAGS = (2, 4)


def echo(rng: np.random.Generator, n: int, lag: int) -> tuple[Array, Array]:
    """Signs a, and y_s = a_{s-1-lag}: (n,ROWS,1) twice; before there is one to echo, 0."""
    a = rng.choice([-1.0, 1.0], (n, ROWS, 1))
    return a, np.concatenate([np.zeros((lag + 1, ROWS, 1)), a[: n - lag - 1]])


def train(seed: int, lag: int, k: int, n: int, looks: list[int]) -> list[float]:
    """Run the loop on n pairs; the mean squared error of the network on fresh pairs, at each of `looks`."""
    rng = np.random.default_rng([seed, lag])
    params = draw(rng, "elman", 1, H, 1)
    test, (a, y) = echo(rng, 200, lag), echo(rng, n, lag)
    x, errors = np.zeros((ROWS, H)), []
    for window in truncated(n, k):
        if window.start in looks:
            errors.append(error_on(params, *test, lag))
        _, answer, _ = last_step("elman", params, a[window.start : window.stop], y[window.target], h0=x)  # (1)
        params = step(params, answer, RATE, CLIP)  # (2)
        x = answered(params, a[window.start : window.start + 1], h0=x)["h"][0]  # (3)
    return [*errors, error_on(params, *test, lag)]


def error_on(params: Named, a: Array, y: Array, lag: int) -> float:
    """The mean squared error where there is something to echo; answering 0 has error 1."""
    o = answered(params, a)["o"][:-1]  # o_s is compared with y_{s+1}
    return float(np.mean((o[lag:] - y[lag + 1 :]) ** 2))


def answered(params: Named, a: Array, **start: Any) -> Named:
    """The trainer's states and outputs over a (T,ROWS,1), without a loss."""
    return gradients(pose("elman", params, a, Loss("cotangent", g=np.zeros((len(a), ROWS, 1))), **start))


def run(run: Run) -> Found:
    """Every k on every lag."""
    seeds, ks, n = list(range(run.pick(8, 2))), run.pick((1, 2, 3, 4, 5, 8), (1, 3, 5)), run.pick(1500, 150)
    looks = [n * i // 6 for i in range(6)]
    run.begin(len(seeds) * len(ks) * len(LAGS))
    ends: dict[int, dict[int, list[list[float]]]] = {lag: {k: [] for k in ks} for lag in LAGS}
    for lag in LAGS:
        for k in ks:
            for seed in seeds:
                ends[lag][k].append(train(seed, lag, k, n, looks))
                run.advance()
    worst = judged(seeds)
    final = {lag: {k: [path[-1] for path in ends[lag][k]] for k in ks} for lag in LAGS}
    curves = [
        Series(f"lag {lag}", list(ks), *log_band(np.array([final[lag][k] for k in ks]).T), i)
        for i, lag in enumerate(LAGS)
    ]
    lag = LAGS[-1]
    paths = [Series(f"k = {k}", [*looks, n], *log_band(ends[lag][k]), i) for i, k in enumerate(ks)]
    said = [
        f"lag {lag}: error {log_interval(final[lag][short])} at k = {short}, {log_interval(final[lag][long])} "
        f"at k = {long}"
        for lag in LAGS
        for short, long in [(max(k for k in ks if k < lag), min(k for k in ks if k >= lag))]
    ]
    return Found(
        answer=[
            f"After {n} pairs, k just too short and k long enough: " + "; ".join(said) + ". Answering 0 has error 1.",
            "One step (k = 1): error "
            + ", ".join(f"{log_interval(final[lag][1])} at lag {lag}" for lag in LAGS)
            + ". The random context carries the input on, and g and f learn to use what is there, but no "
            "error flows back "
            "to shape it.",
        ],
        parameters={"H": H, "rows": ROWS, "rate": RATE, "clip": CLIP, "pairs": n, "k": ks, "lags": LAGS},
        seeds=seeds,
        tables=[
            Table(
                "Mean squared error at the end",
                ("k", *(f"lag {lag}" for lag in LAGS)),
                [(k, *(log_interval(final[lag][k]) for lag in LAGS)) for k in ks],
            )
        ],
        pictures=[
            Picture(
                "s5",
                f"The truncated loop on an echo. Left: error after {n} pairs against the number k of unfolded "
                f"steps. Right: error during training at lag {lag}. An update tells W_hh how to carry the "
                "input that is asked for where k is at least the lag.",
                [
                    Panel("error at the end", "k, steps unfolded", "mean squared error", curves, ylog=True),
                    Panel(f"during training, lag {lag}", "pairs", "mean squared error", paths, ylog=True),
                ],
            )
        ],
        checks=[
            Check(
                "the gradient of an update is that of the oracle, within the budget of rounding",
                worst <= 1.0,
                f"worst error ÷ budget {worst:.2g}",
            )
        ],
    )


def judged(seeds: list[int]) -> float:
    """The worst error ÷ budget of the loop's gradient, on one update a seed."""
    worst = 0.0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        a, y = echo(rng, 5, 2)
        params = draw(rng, "elman", 1, H, 1)
        problem, answer, _ = last_step("elman", params, a, y[-1], h0=rng.standard_normal((ROWS, H)) / 2)
        truth = find_truth(problem, Model("float64"))
        for name in params:
            worst = max(worst, excess(truth, f"d{name}", answer[f"d{name}"]))
    return worst


STUDY = Study(
    "S5",
    "the truncated training loop",
    "How far must the loop unfold the network to learn a dependency of a given length?",
    "The loop trains a tanh network to echo its input after a lag. Each k sees the same pairs and makes an "
    "update a pair; "
    "the error is that on fresh pairs.",
    ("C06", "C32"),
    run,
    symbols="k is the number of instances of f, one step of the network, that are unfolded for an update; g is "
    "its output. W_hh are the weights among the units, and the lag says how many steps ago the input "
    "was that is asked for.",
)
