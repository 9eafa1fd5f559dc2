"""evolution: BPTT against an evolution strategy, CMA-ES, at equal budgets.

    budget    passes over the data: a cost counts 1, a gradient with its cost COST_OF_GRADIENT = 3              (1)

A backward pass takes about twice the products of a forward pass, for dL/dh and for dL/dW: hence 3. Both start from the
same weights and see the same sequences at every evaluation, so that the cost is one function of the weights. BPTT is
gradient descent clipped by the norm, with its rate chosen on other seeds; CMA-ES is pycma's with its defaults and first
step size 0.3, about the size of the weights. Source: Hansen and Ostermeier (2001), the strategy.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from bptt.problem import Loss
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import log_band, log_interval
from conformance.studies.networks import Array, Named, draw, excess, gradients, last_step, pose, step
from oracle.budget import Model
from oracle.truth import find_truth

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that its plots need matplotlib
    import cma

COST_OF_GRADIENT, CLIP, SIGMA = 3, 1.0, 0.3
T, ROWS, LAG = 8, 32, 3
RATES = (0.03, 0.1, 0.3, 1.0)
GOAL = 0.1


def data(seed: int) -> tuple[Array, Array]:
    """Signs x (T,ROWS,1), and the sign LAG steps before the end, y (ROWS,1)."""
    x = np.random.default_rng([seed, 7]).choice([-1.0, 1.0], (T, ROWS, 1))
    return x, x[T - 1 - LAG].copy()


def packed(params: Named) -> Array:
    """All weights as one vector."""
    return np.concatenate([array.ravel() for array in params.values()])


def unpacked(vector: Array, like: Named) -> Named:
    """A vector as weights."""
    out, start = {}, 0
    for name, array in like.items():
        out[name] = np.asarray(vector[start : start + array.size]).reshape(array.shape)
        start += array.size
    return out


def cost(params: Named, x: Array, y: Array) -> float:
    """The mean squared error at the last step."""
    problem = pose("elman", params, x, Loss("cotangent", g=np.zeros((T, ROWS, 1))))
    return float(np.mean((gradients(problem)["o"][-1] - y) ** 2))


def by_gradient(seed: int, H: int, budget: int, rate: float) -> list[tuple[int, float]]:
    """(passes so far, least cost so far) of gradient descent."""
    x, y = data(seed)
    params, spent, best, path = draw(np.random.default_rng(seed), "elman", 1, H, 1), 0, np.inf, []
    while spent + COST_OF_GRADIENT <= budget:
        _, answer, value = last_step("elman", params, x, y)
        spent, best = spent + COST_OF_GRADIENT, min(best, value)
        path.append((spent, best))
        params = step(params, answer, rate, CLIP)
    return path


def by_evolution(seed: int, H: int, budget: int) -> list[tuple[int, float]]:
    """The same of CMA-ES."""
    x, y = data(seed)
    first = draw(np.random.default_rng(seed), "elman", 1, H, 1)
    options = {"seed": seed + 1, "verbose": -9, "maxfevals": budget, "tolfun": 0, "tolx": 0, "tolfunhist": 0}
    search: Any = cma.CMAEvolutionStrategy(packed(first), SIGMA, options)
    spent, best, path = 0, np.inf, []
    while spent + search.popsize <= budget:
        asked = search.ask()
        values = [cost(unpacked(vector, first), x, y) for vector in asked]
        search.tell(asked, values)
        spent, best = spent + len(values), min(best, *values)
        path.append((spent, best))
    return path


def at(path: list[tuple[int, float]], budgets: Array) -> list[float]:
    """The least cost within each budget; that of answering 0, which is 1, before there is one."""
    return [next((c for s, c in reversed(path) if s <= b), 1.0) for b in budgets]


def reached(path: list[tuple[int, float]], budget: int) -> int:
    """The passes until GOAL; the whole budget where it is not reached, which understates."""
    return next((s for s, c in path if c <= GOAL), budget)


def run(run: Run) -> Found:
    """Both on every size."""
    seeds, tuning = list(range(run.pick(8, 2))), [1000 + i for i in range(run.pick(3, 1))]
    sizes, budget = run.pick((4, 8, 16), (3, 6)), run.pick(4000, 120)
    rates = run.pick(RATES, RATES[1:3])
    run.begin(len(sizes) * 2 * len(seeds))
    budgets = np.unique(np.geomspace(12, budget, 24).astype(int))
    curves, rows, ratios = [], [], {}
    for H in sizes:
        n = packed(draw(np.random.default_rng(0), "elman", 1, H, 1)).size
        ends = {rate: np.mean([by_gradient(seed, H, budget, rate)[-1][1] for seed in tuning]) for rate in rates}
        rate = min(ends, key=lambda r: ends[r])
        paths: dict[str, list[list[tuple[int, float]]]] = {"BPTT": [], "CMA-ES": []}
        for seed in seeds:
            paths["BPTT"].append(by_gradient(seed, H, budget, rate))
            run.advance()
            paths["CMA-ES"].append(by_evolution(seed, H, budget))
            run.advance()
        goal = {name: [reached(path, budget) for path in found] for name, found in paths.items()}
        missed = {name: sum(path[-1][1] > GOAL for path in found) for name, found in paths.items()}
        ratios[n] = log_interval([e / b for b, e in zip(goal["BPTT"], goal["CMA-ES"], strict=True)])
        for name, found in paths.items():
            style = 2 * sizes.index(H) + (name == "CMA-ES")
            curves.append(Series(f"{name}, {n} weights", budgets, *log_band([at(p, budgets) for p in found]), style))
            rows.append(
                (
                    f"{name}, {n} weights",
                    rate if name == "BPTT" else "–",
                    log_interval(goal[name]),
                    missed[name],
                    log_interval([max(path[-1][1], 1e-300) for path in found]),
                )
            )
    x, y = data(0)
    problem, answer, _ = last_step("elman", draw(np.random.default_rng(0), "elman", 1, 4, 1), x[:, :4], y[:4])
    truth = find_truth(problem, Model("float64"))
    worst = max(excess(truth, f"d{name}", answer[f"d{name}"]) for name in problem.params)
    falls = all(a >= b for s in curves for a, b in zip(s.y[:-1], s.y[1:], strict=True))
    return Found(
        answer=[
            "CMA-ES needs "
            + ", ".join(f"{ratio} times the passes of BPTT with {n} weights" for n, ratio in ratios.items())
            + f" to bring the cost to {GOAL:g} (a run that does not get there counts with its whole budget of "
            f"{budget:,}, "
            "which understates).",
        ],
        parameters={
            "T": T,
            "rows": ROWS,
            "lag": LAG,
            "budget": budget,
            "hidden": sizes,
            "cost of a gradient": COST_OF_GRADIENT,
            "first step size": SIGMA,
            "clip": CLIP,
            "cma": cma.__version__,
        },
        seeds=seeds,
        tables=[
            Table(
                "Both at equal budgets",
                ("method", "rate", f"passes to a cost of {GOAL:g}", "runs that miss it", "cost at the end"),
                rows,
            )
        ],
        pictures=[
            Picture(
                "evolution",
                f"Recalling a sign of {LAG} steps ago: least cost found against the budget, in passes "
                "over the data (a gradient counts 3), for BPTT and CMA-ES with networks of three sizes. "
                "Geometric means with "
                "intervals.",
                [
                    Panel(
                        "cost at equal budgets",
                        "passes over the data",
                        "least squared error",
                        curves,
                        xlog=True,
                        ylog=True,
                    )
                ],
            )
        ],
        checks=[
            Check(
                "the gradient is the oracle's, within the budget of rounding",
                worst <= 1.0,
                f"worst error ÷ budget {worst:.2g}",
            ),
            Check("the least cost so far never rises with the budget", falls, f"{len(curves)} curves"),
        ],
    )


STUDY = Study(
    "evolution",
    "BPTT against an evolution strategy",
    "How much faster does BPTT train a recurrent network than evolutionary optimisation, at equal budgets?",
    "Small tanh networks of three sizes learn to recall a sign. A budget counts passes over the data. Both "
    "methods start "
    "from the same weights; BPTT's rate is chosen on other seeds.",
    ("C12",),
    run,
)
