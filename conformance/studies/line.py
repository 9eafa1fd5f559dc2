"""line: the loss along a line in weight space, as the number of steps T grows.

    L(s) = loss of theta + s v,  |v| = 1, s in [-REACH, REACH]                                                (1)

A minimum of (1) lies where the slope <dL/dtheta, v>, by the certified gradient, turns from negative to positive between
neighbouring points: what lies closer together than two points is not counted. T = 1 has no recurrence: it is the
feedforward network of the same weights. The loss is the distance from a random teacher's outputs, averaged over steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bptt.problem import Loss
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import band, interval, log_band
from conformance.studies.networks import Array, Named, draw, excess, gradients, joined, pose, size
from oracle.budget import Model
from oracle.truth import find_truth

D, H, K, ROWS, REACH = 2, 12, 1, 4, 4.0
GAINS = {"contracting, gain 0.5": 0.5, "chaotic, gain 3": 3.0}


def setting(seed: int, gain: float, T: int) -> tuple[Named, Named, Array, Array]:
    """The weights in the middle, the direction, and x (T,ROWS,D), y (T,ROWS,K) of a teacher of the same kind."""
    rng = np.random.default_rng(seed)
    teacher, theta = (draw(rng, "elman", D, H, K, gain=gain) for _ in range(2))
    v = {name: rng.standard_normal(array.shape) for name, array in theta.items()}
    length = size(v.values())
    x = np.random.default_rng([seed, 1]).standard_normal((200, ROWS, D))[:T]
    y = gradients(posed(teacher, x, np.zeros((T, ROWS, K))))["o"]
    return theta, {name: array / length for name, array in v.items()}, x, y


def posed(params: Named, x: Array, y: Array) -> Any:
    """The mean over steps and rows of the squared error."""
    loss = Loss("squared_error", target=y, scale=1.0, time_reduction="mean", batch_reduction="mean")
    return pose("elman", params, x, loss)


def along(seed: int, gain: float, T: int, s: Array) -> tuple[Array, Array]:
    """L and its slope at each s: (n,) twice."""
    theta, v, x, y = setting(seed, gain, T)
    direction = joined({f"d{name}": array for name, array in v.items()}, v)
    losses, slopes = [], []
    for at in s:
        answer = gradients(posed({name: theta[name] + at * v[name] for name in theta}, x, y))
        losses.append(float(answer["loss"]))
        slopes.append(float(joined(answer, v) @ direction))
    return np.array(losses), np.array(slopes)


def minima(slopes: Array) -> int:
    """How often the slope turns from negative to positive."""
    return int(np.sum((slopes[:-1] < 0) & (slopes[1:] > 0)))


def run(run: Run) -> Found:
    """Every T on every line."""
    seeds, Ts, points = list(range(run.pick(10, 2))), run.pick((1, 3, 10, 30, 100), (1, 4, 16)), run.pick(401, 41)
    s = np.linspace(-REACH, REACH, points)
    run.begin(len(seeds) * len(GAINS) * len(Ts))
    counts: dict[str, list[list[int]]] = {name: [] for name in GAINS}
    steep: dict[str, list[list[float]]] = {name: [] for name in GAINS}
    shown: dict[str, list[Series]] = {name: [] for name in GAINS}
    for seed in seeds:
        for name, gain in GAINS.items():
            counts[name].append([])
            steep[name].append([])
            for i, T in enumerate(Ts):
                losses, slopes = along(seed, gain, T, s)
                counts[name][-1].append(minima(slopes))
                steep[name][-1].append(float(np.abs(slopes).max()))
                if seed == seeds[0] and i % 2 == 0:
                    shown[name].append(Series(f"T = {T}", s, losses, style=i, marks=False))
                run.advance()
    worst = 0.0
    for gain in GAINS.values():
        theta, _, x, y = setting(seeds[0], gain, 5)
        problem = posed(theta, x, y)
        truth, answer = find_truth(problem, Model("float64")), gradients(problem)
        worst = max(worst, *(excess(truth, f"d{name}", answer[f"d{name}"]) for name in theta))
    calm, wild = GAINS
    rows = [
        (
            T,
            *(interval([row[i] for row in counts[name]]) for name in GAINS),
            *(interval(np.log10([row[i] for row in steep[name]])) for name in GAINS),
        )
        for i, T in enumerate(Ts)
    ]
    more = interval([row[-1] - row[0] for row in counts[wild]])
    fewer = interval([row[-1] - row[0] for row in counts[calm]])
    verdict = (
        "So it is not recurrence as such that makes the surface rough, but recurrence whose Jacobian products grow."
        if more.low > max(fewer.high, 0)
        else "The intervals do not tell the two kinds of networks apart."
    )
    return Found(
        answer=[
            (
                f"In chaotic networks the line has {interval([row[0] for row in counts[wild]])} minima at T = "
                f"{Ts[0]} and "
                f"{interval([row[-1] for row in counts[wild]])} at T = {Ts[-1]} (difference {more}); in "
                "contracting ones "
                f"{interval([row[0] for row in counts[calm]])} and {interval([row[-1] for row in counts[calm]])} "
                f"(difference {fewer})."
            ),
            (f"{verdict} Points are {2 * REACH / (points - 1):.2g} apart: closer minima are not counted."),
        ],
        parameters={"D": D, "H": H, "rows": ROWS, "T": Ts, "gains": GAINS, "reach": REACH, "points": points},
        seeds=seeds,
        tables=[
            Table(
                "Along the line",
                ("T", *(f"minima, {n}" for n in GAINS), *(f"log10 of the steepest slope, {n}" for n in GAINS)),
                rows,
            )
        ],
        pictures=[
            Picture(
                "line",
                "The loss along a line in weight space as T grows. Above: one line through a contracting and "
                "a chaotic network. Below: minima on the line and its steepest slope, means over lines with intervals.",
                [
                    *(Panel(name, "s, distance along the line", "loss", shown[name]) for name in GAINS),
                    Panel(
                        "minima on the line",
                        "T, steps",
                        "number",
                        [Series(name, Ts, *band(counts[name]), i) for i, name in enumerate(GAINS)],
                        xlog=True,
                    ),
                    Panel(
                        "steepest slope",
                        "T, steps",
                        "loss per unit length",
                        [Series(name, Ts, *log_band(steep[name]), i) for i, name in enumerate(GAINS)],
                        xlog=True,
                        ylog=True,
                    ),
                ],
            )
        ],
        checks=[
            Check(
                "the slopes' gradients are the oracle's, within the budget of rounding",
                worst <= 1.0,
                f"worst error ÷ budget {worst:.2g}, at T = 5",
            )
        ],
    )


STUDY = Study(
    "line",
    "the loss along a line in weight space",
    "Does recurrent feedback make the error surface chaotic, with many local minima?",
    "The loss and its slope, by certified gradients, are taken at many points of a random line through random "
    "weights, for "
    "networks that contract and networks that do not, as T grows. Minima are changes of the slope's sign.",
    ("C13",),
    run,
    symbols="T is the number of steps; T = 1 has no recurrence. Points are said by their distance along the line, "
    "of whose direction all weights together have length 1.",
)
