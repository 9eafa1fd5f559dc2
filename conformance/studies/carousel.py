"""S8: the LSTM without forget gate: its error carousel under the truncated gradient, and the growth of its cell state.

    c_t = c_{t-1} + i_t o g_t                                                                                   (1)
    cec:   dc_t/dc_{t-1} = 1, what goes into gates and candidate being held constant                            (2)
    full:  dc_t/dc_k with every path, through h and the gates too                                                (3)

(2) is read from outside: with the cotangent v on the final c alone, a target's dc0 is v. Source: Hochreiter and
Schmidhuber (1997), the cell (here with sigma and tanh) and its truncated gradient; Gers, Schmidhuber and Cummins
(2000), that its state may grow without bound, and the forget gate.
"""

from __future__ import annotations

import numpy as np

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import cut, interval, median_band, median_interval
from conformance.studies.jacobians import products
from conformance.studies.networks import Array, Named, draw, pose, truncated
from implementations.registry import load

D, H = 3, 6
C = slice(H, None)
"""The cell state in the pair (h, c)."""
DRIFTS = (0.0, 1.0)
"""The bias of the candidate g: 0 lets it point either way, 1 mostly upwards."""


def problem_of(cell: str, T: int, seed: int, drift: float = 0.0) -> Problem:
    """Random weights of gain 0.5 and inputs; the cotangent on the final c is a normal v."""
    rng = np.random.default_rng([seed, T])
    params = draw(rng, cell, D, H, gain=0.5)
    columns = slice(H, 2 * H) if cell == "lstm_1997" else slice(2 * H, 3 * H)
    params["b"][columns] = drift
    zero = np.zeros((1, H))
    loss = Loss("cotangent", g=np.zeros((T, 1, H)), g_h_final=zero, g_c_final=rng.standard_normal((1, H)))
    return pose(cell, params, rng.standard_normal((T, 1, D)), loss)


def carried(problem: Problem, target: str) -> Named:
    """What arrives at the initial state under `cec`."""
    answer = load(target).gradients(truncated(problem, "cec"))
    return {key: answer[key] for key in ("dh0", "dc0")}


def growth(cell: str, T: int, seeds: list[int], drift: float) -> Array:
    """The largest |c_t| over the units, by t: (seeds, T)."""
    found = [load("numpy").gradients(problem_of(cell, T, seed, drift))["c"] for seed in seeds]
    return np.array([np.abs(c[:, 0]).max(axis=-1) for c in found])


def run(run: Run) -> Found:
    """Errors carried back, norms, and states."""
    seeds, T, long = list(range(run.pick(10, 2))), run.pick(60, 10), run.pick(1000, 60)
    run.begin(2 * len(seeds))
    exactly, full, back = True, [], []
    names = ["numpy", "c"] if load_c() else ["numpy"]
    for seed in seeds:
        problem = problem_of("lstm_1997", long, seed)
        sent = problem.loss.g_c_final
        assert sent is not None
        for name in names:
            got = carried(problem, name)
            exactly &= bool(np.array_equal(got["dc0"], sent)) and not got["dh0"].any()
        run.advance()
        short = problem_of("lstm_1997", T, seed)
        full.append(products(short, set(), C)[0])
        back.append(products(truncated(short, "cec"), set(), C)[0])
        run.advance()
    steps = np.unique(np.geomspace(1, long, 40).astype(int))
    states = {
        f"{title}, drift {drift:g}": growth(cell, long, seeds, drift)
        for title, cell in (("without forget gate", "lstm_1997"), ("with forget gate", "lstm"))
        for drift in DRIFTS
    }
    ends = {name: median_interval(c[:, -1]) for name, c in states.items()}
    slopes = {name: interval(np.log(c[:, -1] / c[:, long // 10 - 1]) / np.log(10)) for name, c in states.items()}
    x = list(range(1, T + 1))
    cec_norm = sorted({float(n) for row in back for n in row})
    up, down = ("without forget gate, drift 1", "with forget gate, drift 1")
    # c_t = f c + i g <= F |c| + 1 with F < 1 the largest forget gate that these weights allow: |c| < 1 / (1 - F)
    limit = max(forget_limit(problem_of("lstm", long, seed, drift)) for seed in seeds for drift in DRIFTS)
    reached = max(float(c.max()) for name, c in states.items() if name.startswith("with f"))
    return Found(
        answer=[
            (
                "Under the truncated gradient an error on c_T arrives at c_0 unchanged to the last bit after "
                f"{long} steps, in "
                f"every run, and nothing of it at h_0. The full derivative of c over {T} steps has the norm "
                f"{median_interval([row[-1] for row in full])}."
            ),
            (
                f"The price: after {long} steps the largest |c| is {ends[up]} where the candidate leans upwards "
                "(it grows as "
                f"t^{slopes[up].middle:.2f} over the last decade), against {ends[down]} with a forget gate (t^"
                f"{slopes[down].middle:.2g})."
            ),
        ],
        parameters={"D": D, "H": H, "gain": 0.5, "T": T, "long": long, "drifts": DRIFTS, "targets": names},
        seeds=seeds,
        tables=[
            Table(
                f"The largest |c| after {long} steps",
                ("network, bias of the candidate", "largest |c|, median", "growth exponent over the last decade"),
                [(name, ends[name], slopes[name]) for name in states],
            )
        ],
        pictures=[
            Picture(
                "s8",
                "The LSTM without forget gate. Left: norm of the derivative of c_t by c_k, "
                "truncated (exactly 1) and full. Right: the largest cell state as it runs, with and without "
                "forget gate. Medians "
                "with intervals.",
                [
                    Panel(
                        "errors carried back",
                        "steps back, t − k",
                        "spectral norm",
                        [Series("truncated (cec)", x, *median_band(back), 0), Series("full", x, *median_band(full), 1)],
                    ),
                    Panel(
                        "cell state",
                        "t, steps",
                        "largest |c_t|",
                        [
                            Series(name, steps.tolist(), *cut(median_band(c), steps - 1), i)
                            for i, (name, c) in enumerate(states.items())
                        ],
                        xlog=True,
                        ylog=True,
                    ),
                ],
            )
        ],
        checks=[
            Check(
                "under cec the error on c arrives unchanged to the last bit, and none at h_0",
                exactly,
                f"{', '.join(names)}; {long} steps, {len(seeds)} networks",
            ),
            Check(
                "under cec the oracle's derivative of c over any number of steps has the norm 1, exactly",
                cec_norm == [1.0],
                f"norms met: {', '.join(f'{n:g}' for n in cec_norm[:3])}",
            ),
            Check(
                "with forget gate the cell state stays below 1 / (1 - largest forget gate)",
                reached <= limit,
                f"largest {reached:.3g}, bound {limit:.3g}",
            ),
        ],
    )


def forget_limit(problem: Problem) -> float:
    """1 / (1 - F), F = sigma of the largest pre-activation of a forget gate: |h| < 1 and x is what it is."""
    columns = slice(H, 2 * H)
    reach = np.abs(problem.x[:, 0]) @ np.abs(problem.params["W_x"][:, columns]) + np.abs(
        problem.params["W_h"][:, columns]
    ).sum(axis=0)
    return float(1 + np.exp(np.max(reach)))  # 1 / (1 - sigma(a)) = 1 + exp(a)


def load_c() -> bool:
    """Whether the target `c` is there."""
    from conformance.studies.networks import trainer

    return trainer()[0] == "c"


STUDY = Study(
    "S8",
    "the constant error carousel",
    "Does the truncated gradient of the LSTM without forget gate carry errors unchanged, and does its cell state grow "
    "without bound?",
    "Cotangents on the final cell state are followed back by the built-in targets, bit by bit, and Jacobians "
    "by the oracle. "
    "The cell state is recorded over a long run, with and without forget gate, with a candidate that leans "
    "upwards or not.",
    ("C23", "C27"),
    run,
    symbols="c_t is the cell state after step t, T the last step, h the output. The drift is the bias of the "
    "candidate, what is written into the cell; a growth exponent p says that |c| grows as t^p.",
)
