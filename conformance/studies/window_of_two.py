"""S11: a feedforward network on a window of two inputs, beside a stateful network trained one step at a time, and BPTT.

    window of two    h = tanh([x_t, x_{t-1}] W + b), o = h W_hy + b_y                                          (1)
    one step         h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h), errors stay within the step                    (2)
    BPTT             the same network, errors through LONG steps                                              (3)

(1) is an Elman network of T = 1 that starts from h_0 = 0 each time, so that W_hh does nothing and its gradient is 0.
The task: signs come in, and the sign of d steps ago is asked for; each d has an output of its own, so that one network
shows how far back it can reach. Outputs for different d share the hidden units and nothing else.
"""

from __future__ import annotations

import numpy as np

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import Interval, interval, log_band, log_interval
from conformance.studies.networks import Array, Named, draw, gradients, pose, step

H, ROWS, LONG, DEPTH, CLIP = 16, 16, 8, 6, 1.0
ARMS = ("window of two", "one step", "BPTT")
RATES = {"window of two": 0.1, "one step": 0.1, "BPTT": 0.3}


def signs(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """x (n,ROWS,1) and y (n,ROWS,DEPTH): y[t, :, d] is x[t - d], 0 before there is one."""
    x = rng.choice([-1.0, 1.0], (n, ROWS, 1))
    y = np.stack([np.concatenate([np.zeros((d, ROWS)), x[: n - d, :, 0]]) for d in range(DEPTH)], axis=-1)
    return x, y


def paired(x: Array) -> Array:
    """[x_t, x_{t-1}], with 0 before the first: (n,ROWS,2)."""
    return np.concatenate([x, np.concatenate([np.zeros_like(x[:1]), x[:-1]])], axis=-1)


def posed(params: Named, x: Array, y: Array, h0: Array) -> Problem:
    """The mean over steps and rows of the squared error summed over outputs."""
    loss = Loss("squared_error", target=y, scale=1.0, time_reduction="mean", batch_reduction="mean")
    return pose("elman", params, x, loss, h0=h0)


def train(arm: str, seed: int, n: int) -> tuple[Array, Array]:
    """Read n symbols a row; the squared error of each output on fresh symbols (DEPTH,), and W_hh's total movement."""
    rng = np.random.default_rng(seed)
    window = arm == "window of two"
    params = draw(rng, "elman", 2 if window else 1, H, DEPTH)
    first = params["W_hh"]
    x, y = signs(rng, n)
    x = paired(x) if window else x
    k, h = LONG if arm == "BPTT" else 1, np.zeros((ROWS, H))
    for t in range(0, n - k + 1, k):
        answer = gradients(posed(params, x[t : t + k], y[t : t + k], h))
        params = step(params, answer, RATES[arm] / (1 + 4 * t / n), CLIP)
        if not window:
            h = answer["h"][-1]
    x, y = signs(rng, 100)
    if window:  # every step is a row of its own
        flat = [a.reshape(1, -1, a.shape[-1]) for a in (paired(x), y)]
        o = gradients(posed(params, flat[0], flat[1], np.zeros((flat[0].shape[1], H))))["o"].reshape(y.shape)
    else:
        o = gradients(posed(params, x, y, np.zeros((ROWS, H))))["o"]
    return np.mean((o - y)[DEPTH:] ** 2, axis=(0, 1)), params["W_hh"] - first


def run(run: Run) -> Found:
    """Train each arm from each seed."""
    seeds, n = list(range(run.pick(10, 2))), run.pick(3000, 300)
    run.begin(len(seeds) * len(ARMS))
    errors: dict[str, list[Array]] = {arm: [] for arm in ARMS}
    still = True
    for seed in seeds:
        for arm in ARMS:
            found, moved = train(arm, seed, n)
            errors[arm].append(found)
            if arm == "window of two":
                still &= not moved.any()
            run.advance()
    depths = list(range(DEPTH))
    two = np.array(errors["window of two"])
    rows: list[list[str | float | Interval]] = [
        [str(d), *(log_interval([row[d] for row in errors[arm]]) for arm in ARMS)] for d in depths
    ]
    bptt = interval(np.log10([a[2] / b[2] for a, b in zip(errors["one step"], errors["BPTT"], strict=True)]))
    # Signs of two steps ago and more are independent of both inputs of the window: no predictor has an error below 1,
    # and the mean of 94 * ROWS products of independent terms strays from that by its own standard error alone.
    slack = 5 / np.sqrt((100 - DEPTH) * ROWS) * (1 + np.sqrt(two[:, 2:].max()))
    return Found(
        answer=[
            (
                f"The window of two answers for the last two inputs and knows nothing of earlier ones (error "
                f"{log_interval(two[:, 2])} two steps back, where guessing 0 has 1). The stateful network trained "
                "one step at a "
                f"time has {log_interval([row[2] for row in errors['one step']])} there. They are "
                "different models."
            ),
            (
                f"BPTT's error two steps back is a factor 10^{bptt.middle:.2g} [10^{bptt.low:.2g}, "
                f"10^{bptt.high:.2g}] below "
                "one-step training's after the same symbols."
            ),
        ],
        parameters={"H": H, "rows": ROWS, "long": LONG, "depth": DEPTH, "rates": RATES, "symbols a row": n},
        seeds=seeds,
        tables=[Table("Squared error of recalling the input of d steps ago", ("d", *ARMS), rows)],
        pictures=[
            Picture(
                "s11",
                f"Recalling the input of d steps ago after {n} symbols a row: a feedforward network on two "
                "inputs, a stateful network trained one step at a time, and the same with BPTT. Geometric "
                "means with intervals.",
                [
                    Panel(
                        "error by distance",
                        "d, steps back",
                        "squared error",
                        [Series(arm, depths, *log_band(errors[arm]), i) for i, arm in enumerate(ARMS)],
                        ylog=True,
                    )
                ],
            )
        ],
        checks=[
            Check("the window of two has no state: W_hh's gradient is 0 to the last bit", still, f"{len(seeds)} runs"),
            Check(
                "nothing before its two inputs is known to it: its error is at least 1, up to sampling",
                bool((two[:, 2:] >= 1 - slack).all()),
                f"least {two[:, 2:].min():.3f}; 5 standard errors are {slack:.3f}",
            ),
        ],
    )


STUDY = Study(
    "S11",
    "a window of two inputs against one-step training",
    "Is a feedforward network on the last two inputs the same model as a stateful network trained one step at a time?",
    "Random signs come in and those of 0 to 5 steps ago are asked for. A feedforward network sees two inputs; a tanh "
    "network of the same width is trained one step at a time, and by BPTT, on the same symbols.",
    ("C07", "C32"),
    run,
    symbols="d says how many steps ago the input was that is asked for, W_hh are the weights among the units. "
    "An error of 1 is that of answering 0 always.",
)
