"""S10: the remedies named against vanishing gradients: initialisation, regularisation, ReLU, GRU and LSTM.

The task: a sign is shown at the first of T steps, noise from then on, and the sign is asked for at the last step.

    tanh, small           recurrent weights of gain 0.5                                                        (1)
    tanh, orthogonal      W_hh orthogonal: every singular value is 1                                           (2)
    tanh, decay           (2) with an L2 penalty on all weights                                                 (3)
    relu, identity        W_hh = 1, and no bias                                                                 (4)
    gru, lstm             gain 0.5; the forget gate's bias is 1                                                 (5)

Source: (2) Saxe, McClelland and Ganguli (2014), for linear networks; (4) Le, Jaitly and Hinton (2015); the forget
gate's bias: Jozefowicz, Zaremba and Sutskever (2015). Clipping has a study of its own.
"""

from __future__ import annotations

import numpy as np

from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import log_band, median_band, median_interval
from conformance.studies.networks import Array, Named, draw, exact, excess, last_step, size, step
from oracle.budget import Model
from oracle.truth import find_truth

H, ROWS, CLIP, DECAY = 12, 16, 1.0, 1e-3
ARMS: dict[str, tuple[str, str | None]] = {
    "tanh, small": ("elman", "tanh"),
    "tanh, orthogonal": ("elman", "tanh"),
    "tanh, decay": ("elman", "tanh"),
    "relu, identity": ("elman", "relu"),
    "gru": ("gru_reset_after", None),
    "lstm": ("lstm", None),
}
RATES = (0.03, 0.1, 0.3)


def initial(arm: str, rng: np.random.Generator) -> Named:
    """(1) to (5)."""
    params = draw(rng, ARMS[arm][0], 2, H, 1, gain=0.5)
    if arm in ("tanh, orthogonal", "tanh, decay"):
        Q, R = np.linalg.qr(rng.standard_normal((H, H)))
        params["W_hh"] = Q * np.sign(np.diag(R))
    elif arm == "relu, identity":
        params["W_hh"] = np.eye(H)
    elif arm == "lstm":
        params["b"][H : 2 * H] = 1.0
    return params


def recall(rng: np.random.Generator, T: int, rows: int) -> tuple[Array, Array]:
    """x (T,rows,2): the sign in channel 0 at the first step, noise in channel 1; y (rows,1): the sign."""
    y = rng.choice([-1.0, 1.0], (rows, 1))
    x = np.zeros((T, rows, 2))
    x[0, :, 0] = y[:, 0]
    x[:, :, 1] = 0.3 * rng.standard_normal((T, rows))
    return x, y


def train(arm: str, seed: int, T: int, updates: int, rate: float, every: int) -> list[float]:
    """The cost on fresh rows, averaged over `every` updates."""
    cell, activation = ARMS[arm]
    rng = np.random.default_rng(seed)
    params, costs = initial(arm, rng), []
    for _ in range(updates):
        x, y = recall(rng, T, ROWS)
        _, answer, cost = last_step(cell, params, x, y, activation=activation)
        costs.append(min(cost, 1e6))  # a relu network may run away; what it costs then says nothing
        if arm == "tanh, decay":
            answer = answer | {f"d{name}": answer[f"d{name}"] + DECAY * array for name, array in params.items()}
        params = step(params, answer, rate, CLIP)
    return [float(v) for v in np.array(costs).reshape(-1, every).mean(axis=1)]


def reach(arm: str, seed: int, T: int) -> list[float]:
    """|dL/dx_t| by its distance from the last step, exact, relative to that of the last step itself."""
    cell, activation = ARMS[arm]
    rng = np.random.default_rng(seed)
    params = initial(arm, rng)
    problem, _, _ = last_step(cell, params, *recall(rng, T, 1), activation=activation)
    dx = exact(problem, ["dx"])["dx"]
    norms = [size([dx[t]]) for t in range(T)]
    return [norms[T - 1 - n] / norms[-1] if norms[-1] > 0 else 0.0 for n in range(T)]


def run(run: Run) -> Found:
    """Choose a rate for each arm, train, look back."""
    seeds, tuning = list(range(run.pick(8, 2))), [1000 + i for i in range(run.pick(2, 1))]
    T, updates, every = run.pick(25, 8), run.pick(400, 40), run.pick(40, 20)
    rates = run.pick(RATES, RATES[1:2])
    run.begin(len(ARMS) * (len(seeds) + len(tuning) * len(rates)))
    chosen: dict[str, float] = {}
    costs: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    back: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    worst = 0.0
    for arm, (cell, activation) in ARMS.items():
        ends = {}
        for rate in rates:
            found = []
            for seed in tuning:
                found.append(train(arm, seed, T, updates, rate, every)[-1])
                run.advance()
            ends[rate] = float(np.mean(found))
        chosen[arm] = min(ends, key=lambda rate: ends[rate])
        for seed in seeds:
            costs[arm].append(train(arm, seed, T, updates, chosen[arm], every))
            back[arm].append(reach(arm, seed, T))
            run.advance()
        rng = np.random.default_rng(0)
        problem, answer, _ = last_step(cell, initial(arm, rng), *recall(rng, 6, 1), activation=activation)
        truth = find_truth(problem, Model("float64"))
        worst = max(worst, *(excess(truth, f"d{name}", answer[f"d{name}"]) for name in problem.params))
    at = [every * (i + 1) for i in range(updates // every)]
    end = {arm: median_interval([row[-1] for row in costs[arm]]) for arm in ARMS}
    far = {arm: median_interval([row[-1] for row in back[arm]]) for arm in ARMS}
    learned = [arm for arm in ARMS if end[arm].high < 0.1]
    failed = [arm for arm in ARMS if end[arm].low > 0.5]
    return Found(
        answer=[
            (
                f"Before training, the gradient at the first input is {far['tanh, small']} of that at the last for "
                "small tanh "
                f"weights, {far['tanh, orthogonal']} for orthogonal ones, {far['relu, identity']} for relu with "
                "the identity, "
                f"{far['lstm']} for the LSTM."
            ),
            (
                f"After {updates} updates, cost below 0.1 in most runs (the interval of the median lies below): "
                f"{'; '.join(learned) or 'none'}. Above 0.5: {'; '.join(failed) or 'none'}. Guessing costs 1."
            ),
            (
                f"Regularisation by decay ends at {end['tanh, decay']}, the same network without it at "
                f"{end['tanh, orthogonal']}."
            ),
        ],
        parameters={"T": T, "H": H, "rows": ROWS, "clip": CLIP, "decay": DECAY, "updates": updates, "rates": chosen},
        seeds=seeds,
        tables=[
            Table(
                "Recalling a sign",
                (
                    "network",
                    "rate",
                    f"gradient at the first input ÷ last, over {T - 1} steps",
                    "cost at the end, median",
                ),
                [(arm, chosen[arm], far[arm], end[arm]) for arm in ARMS],
            )
        ],
        pictures=[
            Picture(
                "s10",
                "Remedies against vanishing gradients. Left: norm of the exact gradient at an input by its "
                "distance from the cost, before training, medians. Right: cost of recalling a sign during "
                "training, geometric "
                "means. Bands are intervals over seeds.",
                [
                    Panel(
                        "gradient at the inputs, at the start",
                        "steps before the cost",
                        "norm ÷ that at the last step",
                        [Series(arm, list(range(T)), *median_band(back[arm]), i) for i, arm in enumerate(ARMS)],
                        ylog=True,
                        ylim=(1e-12, 1e6),
                    ),
                    Panel(
                        f"recalling a sign over {T} steps",
                        "updates",
                        "squared error",
                        [Series(arm, at, *log_band(np.maximum(costs[arm], 1e-12)), i) for i, arm in enumerate(ARMS)],
                        ylog=True,
                        ylim=(1e-6, 10.0),
                    ),
                ],
            )
        ],
        checks=[
            Check(
                "every arm's gradient is that of the oracle, within the budget of rounding",
                worst <= 1.0,
                f"worst error ÷ budget {worst:.2g}",
            )
        ],
    )


STUDY = Study(
    "S10",
    "remedies against vanishing gradients",
    "Which of the remedies named, initialisation, regularisation, ReLU, GRU and LSTM, keep a gradient over "
    "many steps, and "
    "do the networks then learn?",
    "A sign shown at the first step is asked for at the last. The oracle gives the gradient at every input before "
    "training; each network is then trained with a rate chosen for it on other seeds, gradients clipped by the norm.",
    ("C22", "C26"),
    run,
    symbols="T − 1 is the number of steps between the sign and the answer; a ratio of 1 is a gradient that "
    "neither vanishes nor explodes on the way. Decay shrinks all weights a little at each update.",
)
