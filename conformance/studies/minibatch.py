"""S6: the mini-batch network with softmax cross-entropy, its gradients as double sums over time.

    dL/dW_hy = sum_t h_t^T (p_t - y_t),   dL/db_y = sum_t (p_t - y_t)                                          (1)
    dL/dW = sum_t sum_{k<=t} (dL_t/dh_t) (dh_t/dh_k) (d+h_k/dW)             W one of W_hh, W_xh, b_h            (2)

d+ is the immediate partial, h_{k-1} held fixed. Read with the whole derivative dh_k/dW in its place, (2) counts the
term of step s in the loss of step t once for each k from s to t:

    sum_t sum_s (t - s + 1) (term t,s)                                                                          (3)

which is taken from differences of windows. The oracle adds (2) up literally, from local Jacobians derived by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import interval, log_band
from conformance.studies.networks import draw, exact, excess, joined, pose, size, truncated
from implementations.registry import load
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model
from oracle.solution import solve
from oracle.truth import find_truth

B, D, H, K = 4, 3, 6, 5
NAMES = ("W_xh", "W_hh", "b_h")


def posed(seed: int, T: int, dtype: str = "float64") -> Problem:
    """A mini-batch: the weights are float32 values in either dtype."""
    rng = np.random.default_rng(seed)
    params = {name: array.astype("float32").astype(dtype) for name, array in draw(rng, "elman", D, H, K).items()}
    x = rng.standard_normal((T, B, D)).astype("float32").astype(dtype)
    loss = Loss("cross_entropy", target=rng.integers(0, K, (T, B)))
    return pose("elman", params, x, loss, h0=np.zeros((B, H), dtype), dtype=dtype)


def overcounted(problem: Problem) -> float:
    """How far (3) is from the gradient, relative to it."""
    keys = [f"d{name}" for name in NAMES]
    sums = [joined(exact(truncated(problem, "window", k=n), keys), NAMES) for n in range(1, problem.T + 1)]
    parts = np.diff(np.array([np.zeros_like(sums[0]), *sums]), axis=0)
    counted = np.arange(1, problem.T + 1) @ parts
    return size([counted - sums[-1]]) / size([sums[-1]])


def readout_sums(problem: Problem, answer: Any) -> dict[str, Any]:
    """(1) from the answer's own o and h."""
    e = np.exp(answer["o"] - answer["o"].max(axis=-1, keepdims=True))
    error = e / e.sum(axis=-1, keepdims=True) - np.eye(K)[problem.loss.target]
    return {"dW_hy": np.einsum("tbh,tbk->hk", answer["h"], error), "db_y": error.sum(axis=(0, 1))}


def run(run: Run) -> Found:
    """Errors and budgets over T."""
    Ts, seeds = run.pick((1, 2, 4, 8, 16, 32), (1, 2, 4)), list(range(run.pick(8, 2)))
    subjects = [(name, dtype) for dtype in ("float64", "float32") for name in targets()]
    run.begin(len(Ts) * len(seeds))
    errors: dict[str, list[list[float]]] = {f"{n}, {d}": [] for n, d in subjects}
    errors |= {f"budget, {d}": [] for d in ("float64", "float32")}
    twice: list[list[float]] = []
    worst, apart, formula = 0.0, 0, 0.0
    for seed in seeds:
        rows: dict[str, list[float]] = {name: [] for name in errors}
        for T in Ts:
            for dtype in ("float64", "float32"):
                problem = posed(seed, T, dtype)
                truth = find_truth(problem, Model(dtype))
                whole = size(truth.solution.near(f"d{name}")[0] for name in NAMES)
                rows[f"budget, {dtype}"].append(size(truth.allowed(f"d{name}") for name in NAMES) / whole)
                for name in targets():
                    answer = load(name).gradients(problem)
                    found = {key: answer[key] for key in (*(f"d{n}" for n in NAMES), "dW_hy", "db_y")}
                    rows[f"{name}, {dtype}"].append(
                        max(size(truth.error(f"d{n}", found[f"d{n}"]) for n in NAMES) / whole, 1e-18)
                    )
                    worst = max(worst, *(excess(truth, key, got) for key, got in found.items()))
                    if name == "numpy":
                        sums = readout_sums(problem, answer)
                        formula = max(formula, *(excess(truth, key, got) for key, got in sums.items()))
            apart += disagreements(posed(seed, T))
            run.advance()
        for name, row in rows.items():
            errors[name].append(row)
        twice.append([overcounted(posed(seed, T)) for T in Ts])
    curves = [Series(name, Ts, *log_band(values), style) for style, (name, values) in enumerate(errors.items())]
    return Found(
        answer=[
            (
                f"The double sums, added up literally, and the backward pass agree up to T = {Ts[-1]}; `numpy` "
                "and `c` lie "
                f"within their budgets ({worst:.2g} of it at worst), in float64 and float32."
            ),
            (
                f"Read with the whole derivative of h_k in place of the immediate partial, the sum is off by "
                f"{interval([row[-1] for row in twice])} of the gradient's norm at T = {Ts[-1]} and by "
                f"{interval([row[0] for row in twice])} at T = 1, where the two readings are one."
            ),
        ],
        parameters={"B": B, "D": D, "H": H, "K": K, "T": Ts},
        seeds=seeds,
        tables=[
            Table(
                "The double sum with the whole derivative of h_k",
                ("T", "relative error"),
                [(T, interval([row[i] for row in twice])) for i, T in enumerate(Ts)],
            )
        ],
        pictures=[
            Picture(
                "s6",
                "Error of the cell's gradients against the oracle's, relative to their norm, as T grows, with "
                "the budget that rounding may cost a correct implementation: geometric means with intervals.",
                [Panel("errors and budgets", "T, steps", "relative error", curves, xlog=True, ylog=True)],
            )
        ],
        checks=[
            Check(
                "the literal double sum and the reverse pass enclose the same gradient",
                apart == 0,
                f"{apart} entries apart, balls of 128 bits",
            ),
            Check(
                "every target is within its budget of the double sum", worst <= 1.0, f"worst error ÷ budget {worst:.2g}"
            ),
            Check(
                "the gradients of the readout are the sums of h_t (p - y) and of p - y",
                formula <= 1.0,
                f"worst error ÷ budget {formula:.2g}",
            ),
        ],
    )


def targets() -> list[str]:
    """numpy, and c where it was built."""
    from conformance.studies.networks import trainer

    return ["numpy", "c"] if trainer()[0] == "c" else ["numpy"]


def disagreements(problem: Problem) -> int:
    """How many entries the double sum and the reverse pass enclose in balls that do not overlap."""
    roads = [solve(problem, BallNumbers(128), road).values for road in ("reverse", "double-sum")]
    keys = [f"d{name}" for name in problem.params]
    return sum(not a.overlaps(b) for key in keys for a, b in zip(roads[0][key], roads[1][key], strict=True))


STUDY = Study(
    "S6",
    "the mini-batch network with softmax cross-entropy",
    "Are the gradients of the mini-batch network the double sums over time, and how close to them are implementations?",
    "The oracle adds the double sums up from local Jacobians derived by hand, and separately by reverse mode; "
    "the built-in "
    "targets are measured against both as T grows.",
    ("C15", "C16"),
    run,
    symbols="T is the number of steps, h_k the state after step k. A double sum runs over the steps t of the "
    "losses and the steps k ≤ t at which a weight acts; its immediate partial holds h_(k−1) fixed.",
)
