"""S2: one-step training, BPTT and a growing window, on real text at equal numbers of characters read.

    one step    an update after each symbol; errors travel within that step alone, the state is carried on           (1)
    BPTT        an update every LONG symbols; errors travel through all of them                                      (2)
    growing     k symbols an update, k = 1, 2, 4, ... LONG over the first half of the training, LONG from then on    (3)

Gradient descent, clipped by the norm. The rates of (1) and (2) are chosen on seeds of their own, by the loss on the
left-out text at the end; (3) has no rate of its own but goes from the one to the other, evenly in log k. A seed draws
the first weights and where the text is cut. Along the way the oracle compares truncated gradients with the full one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Loss
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import Interval, band, interval
from conformance.studies.networks import Named, cosine, draw, exact, gradients, joined, pose, size, step, truncated
from conformance.train_text import ALPHABET, encode
from properties.real_text import DATA

LONG, ROWS, LEFT_OUT, WARM, H, CLIP = 24, 8, 60, 20, 16, 1.0
K = len(ALPHABET)
ARMS = ("one step", "BPTT", "growing")
RATES = {"one step": (0.03, 0.1, 0.3), "BPTT": (0.5, 1.0, 2.0)}
Symbols = NDArray[np.int64]


def cut_text(rng: np.random.Generator) -> tuple[Symbols, Symbols]:
    """The text from a random place on, in streams side by side: (n, ROWS) to train on, (LEFT_OUT, ROWS) left out."""
    symbols = encode((DATA / "text.txt").read_text(encoding="utf-8"))
    symbols = np.roll(symbols, -int(rng.integers(len(symbols))))
    s = symbols[: len(symbols) // ROWS * ROWS].reshape(ROWS, -1).T
    return s[:-LEFT_OUT], s[-LEFT_OUT:]


def posed(params: Named, s: Symbols, h0: Any) -> Any:
    """Predict each next symbol: s (T+1,B)."""
    loss = Loss("cross_entropy", target=s[1:].copy(), time_reduction="mean", batch_reduction="mean")
    return pose("elman", params, np.eye(K)[s[:-1]], loss, h0=h0)


def left_out_loss(params: Named, s: Symbols) -> float:
    """Nats a character on the left-out text, after WARM symbols of it."""
    zero = np.zeros((s.shape[1], H))
    h = gradients(posed(params, s[: WARM + 1], zero))["h"][-1]
    return float(gradients(posed(params, s[WARM:], h))["loss"])


def schedule(arm: str, part: float) -> int:
    """How many symbols the next update takes, `part` of the training being over."""
    if arm != "growing":
        return 1 if arm == "one step" else LONG
    ks = [1, 2, 4, 8, 16, LONG]
    return ks[min(int(2 * part * len(ks)), len(ks) - 1)]


def rate_of(k: int, rates: dict[str, float]) -> float:
    """From the rate of one step to that of BPTT, evenly in log k."""
    share = np.log(k) / np.log(LONG)
    return float(rates["one step"] ** (1 - share) * rates["BPTT"] ** share)


def train(
    arm: str, rates: dict[str, float], seed: int, total: int, looks: list[int]
) -> tuple[list[float], list[Named]]:
    """Read `total` symbols a stream: the loss on the left-out text and the weights at each of `looks`."""
    rng = np.random.default_rng(seed)
    s, left_out = cut_text(rng)
    params = draw(rng, "elman", K, H, K)
    read, start, h, losses, kept = 0, 0, np.zeros((ROWS, H)), [], []
    for look in looks:
        while read < look:
            k = min(schedule(arm, read / total), look - read)
            if start + k >= len(s):
                start, h = 0, np.zeros((ROWS, H))
            answer = gradients(posed(params, s[start : start + k + 1], h))
            params = step(params, answer, rate_of(k, rates), CLIP)
            h, start, read = answer["h"][-1], start + k, read + k
        losses.append(left_out_loss(params, left_out))
        kept.append(params)
    return losses, kept


def compare(params: Named, seed: int, windows: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """For each window k: the cosine of its exact gradient with the full one on a passage, and the ratio of norms."""
    s, _ = cut_text(np.random.default_rng(seed))
    problem = posed(params, s[: LONG + 1, :2], np.zeros((2, H)))
    keys = [f"d{name}" for name in params if name not in ("W_hy", "b_y")]
    names = [key[1:] for key in keys]
    full = joined(exact(problem, keys), names)
    out = {}
    for k in windows:
        part = joined(exact(truncated(problem, "window", k=k), keys), names)
        out[k] = (cosine(part, full), size([part]) / size([full]))
    return out


def run(run: Run) -> Found:
    """Choose the rates, train, compare."""
    seeds, tuning = list(range(run.pick(8, 2))), [1000 + i for i in range(run.pick(2, 1))]
    total = run.pick(48000, 96)
    looks = sorted({max(1, round(total * 2.0**-i / LONG)) * LONG for i in range(run.pick(11, 2))})
    windows = run.pick((1, 2, 4, 8, LONG), (1, LONG))
    run.begin(len(tuning) * sum(len(r) for r in RATES.values()) + len(seeds) * len(ARMS))
    rates: dict[str, float] = {}
    for arm, choices in RATES.items():
        ends = {}
        for rate in choices:
            tried = []
            for seed in tuning:
                tried.append(train(arm, dict.fromkeys(RATES, rate), seed, total, [looks[-1]])[0][-1])
                run.advance()
            ends[rate] = float(np.mean(tried))
        rates[arm] = min(ends, key=lambda rate: ends[rate])
    losses: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    compared: dict[str, list[Any]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm in ARMS:
            found, kept = train(arm, rates, seed, total, looks)
            losses[arm].append(found)
            compared[arm].append([compare(params, seed, windows) for params in kept])
            run.advance()
    return report(seeds, looks, rates, {arm: np.array(v) for arm, v in losses.items()}, compared, windows)


def report(seeds: list[int], looks: list[int], rates: Any, losses: Any, compared: Any, windows: Any) -> Found:
    """Words, table, picture."""
    x = [ROWS * look for look in looks]

    def curves(values: Any) -> list[Series]:
        return [Series(arm, x, *band(values(arm)), style) for style, arm in enumerate(ARMS)]

    def of(arm: str, k: int, which: int) -> Any:
        return [[look[k][which] for look in one] for one in compared[arm]]

    early = max(0, len(looks) - 7)
    level = float(max(losses[arm][:, -1].mean() for arm in ARMS)) + 0.02
    rows = []
    for arm in ARMS:
        reached = [next((x[i] for i in range(len(x)) if one[i] <= level), np.inf) for one in losses[arm]]
        half = np.median(reached)
        rows.append(
            (
                arm,
                rates.get(arm, "between"),
                interval(losses[arm][:, early]),
                interval(losses[arm][:, -1]),
                float(half),
                interval([r[-1] for r in of(arm, 1, 0)]),
            )
        )
    first = interval(losses["BPTT"][:, early] - losses["one step"][:, early])
    last = interval(losses["BPTT"][:, -1] - losses["one step"][:, -1])
    end = {arm: losses[arm][:, -1] for arm in ARMS}
    mean = {arm: losses[arm].mean(axis=1) for arm in ARMS}
    grown = [interval(end["growing"] - end[arm]) for arm in ARMS[:2]]
    speed = [interval(mean["growing"] - mean[arm]) for arm in ARMS[:2]]
    gaps: list[list[str | float | Interval]] = [
        [x[i], *(interval(losses[arm][:, i] - losses["one step"][:, i]) for arm in ARMS[1:])] for i in range(len(x))
    ]
    identical = max(abs(c - 1) for arm in ARMS for row in of(arm, LONG, 0) for c in row)
    return Found(
        answer=[
            (
                f"After {x[early]:,} characters BPTT's loss on left-out text is {sign(first)} one-step training's "
                "(difference "
                f"{first} nats a character); at the end, after {x[-1]:,}, it is {sign(last)} it ({last})."
            ),
            (
                f"The growing window ends {sign(grown[0])} one-step training ({grown[0]}) and {sign(grown[1])} "
                f"BPTT ({grown[1]}). "
                f"On the average over the looks, one each doubling, it is {sign(speed[0])} one-step training "
                f"({speed[0]}) and "
                f"{sign(speed[1])} BPTT ({speed[1]})."
            ),
            (
                "The true gradient: the cosine between the one-step and the full gradient of the same weights is "
                f"{interval([r[0] for r in of('BPTT', 1, 0)])} early and "
                f"{interval([r[-1] for r in of('BPTT', 1, 0)])} late in "
                f"BPTT's training, the norm of the one {interval([r[-1] for r in of('BPTT', 1, 1)])} of the "
                "other's late."
            ),
        ],
        parameters={"H": H, "rows": ROWS, "long": LONG, "clip": CLIP, "rates": rates, "tried": RATES, "level": level},
        seeds=seeds,
        tables=[
            Table(
                "The arms",
                (
                    "training",
                    "rate",
                    f"loss after {x[early]:,} characters",
                    "loss at the end",
                    f"characters to {level:.2f}, median",
                    "cosine of its one-step with its full gradient, end",
                ),
                rows,
            ),
            Table("Loss on left-out text less that of one-step training, same seed", ("characters", *ARMS[1:]), gaps),
        ],
        pictures=[
            Picture(
                "s2",
                "One-step training, BPTT and a growing window on English text. Left: loss on left-out text. "
                "Right: cosine between the exact one-step gradient and the exact full one, at the weights of "
                "each. Below: the "
                "ratio of their norms, and the cosine for longer windows at BPTT's weights. Bands are "
                "intervals over seeds.",
                [
                    Panel(
                        "loss on left-out text",
                        "characters read",
                        "nats a character",
                        curves(lambda arm: losses[arm]),
                        xlog=True,
                    ),
                    Panel(
                        "window(1) against full: cosine",
                        "characters read",
                        "cosine",
                        curves(lambda arm: of(arm, 1, 0)),
                        xlog=True,
                    ),
                    Panel(
                        "window(1) against full: norms",
                        "characters read",
                        "norm ÷ norm of full",
                        curves(lambda arm: of(arm, 1, 1)),
                        xlog=True,
                    ),
                    Panel(
                        "longer windows, at BPTT's weights",
                        "characters read",
                        "cosine with full",
                        [Series(f"window({k})", x, *band(of("BPTT", k, 0)), n + 3) for n, k in enumerate(windows[:-1])],
                        xlog=True,
                    ),
                ],
            )
        ],
        checks=[
            Check(
                f"window({LONG}) of {LONG} steps is the full gradient: cosine 1",
                identical <= 2.0**-48,
                f"off by at most {identical:.1g}; the dot product of about 700 float64 numbers errs by up to 2^-43",
            )
        ],
    )


def sign(difference: Any) -> str:
    """Where a difference lies, as far as its interval tells."""
    if not difference.excludes_zero:
        return "not told apart from"
    return "below" if difference.middle < 0 else "above"


STUDY = Study(
    "S2",
    "one-step training, BPTT and a growing window on text",
    "Is one-step training ahead early, does BPTT end ahead, and does a window that grows from one step "
    "converge fastest?",
    "A character-level tanh network reads the same number of characters in each arm; rates are chosen on "
    "other seeds. The "
    "loss is that on text that training leaves out. At the weights along the way, the oracle gives truncated and full "
    "gradients exactly.",
    ("C06", "C08", "C32"),
    run,
    symbols="In a window of k steps an error reaches the k latest steps and none before; one step is k = 1. "
    "Cosines are between gradients as vectors of all weights; losses are in nats a character.",
)
