"""C08, C12, C13 and C33: claims about training, decided by small studies with seeds, and one by rationals.

A comparison of two trainings is a sign test over seeds: of n seeds, the side that is ahead in all but m of them has
won if P(at most m of n by a fair coin) <= 1/20; otherwise the comparison is open. Nothing is fitted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from conformance.claims.base import Claim, Finding, N, Run, search
from conformance.claims.networks import Neuron, gradients
from conformance.train_text import ALPHABET, ROWS, streams
from implementations.registry import load
from oracle.solution import solve
from properties.real_text import DATA
from properties.training import descent

Array = NDArray[Any]
Params = dict[str, Array]


def sign_test(ahead: int, n: int) -> str:
    """`won`, `lost` or `open`, for so many of n.

    >>> sign_test(6, 6), sign_test(4, 6), sign_test(0, 6)
    ('won', 'open', 'lost')
    """

    def tail(m: int) -> Fraction:
        return Fraction(sum(comb(n, i) for i in range(m + 1)), 2**n)

    if tail(n - ahead) <= Fraction(1, 20):
        return "won"
    return "lost" if tail(ahead) <= Fraction(1, 20) else "open"


def gradient(problem: Problem) -> dict[str, Array]:
    """What the target `numpy` answers."""
    answer: dict[str, Array] = load("numpy").gradients(problem)
    return answer


def start(rng: np.random.Generator, D: int, H: int, K: int) -> Params:
    """Weights drawn evenly from within 1/sqrt(H) of zero."""
    shapes = {"W_xh": (D, H), "W_hh": (H, H), "b_h": (H,), "W_hy": (H, K), "b_y": (K,)}
    return {name: rng.uniform(-1, 1, shape) / np.sqrt(H) for name, shape in shapes.items()}


# ---- C08 -------------------------------------------------------------------------------------------------------


def _text_loss(params: Params, s: Array, h: Array, k: int) -> tuple[dict[str, Array], Array]:
    """One window of text: the answer, and the state after it."""
    x = np.eye(len(ALPHABET))[s[:-1]]
    loss = Loss("cross_entropy", target=s[1:].copy(), time_reduction="mean", batch_reduction="mean")
    answer = gradient(Problem("elman", params, x, loss, h0=h, activation="tanh", readout="linear"))
    assert len(x) == k
    return answer, answer["h"][-1]


RATES = (0.1, 0.4, 1.6)
SLOW = 0.05
TUNING = 1000
"""The seed on which each method's step size is chosen, which no comparison sees again."""


def train_text(seed: int, method: str, symbols: int, rate: float) -> list[float]:
    """The loss on every 24 symbols read (each a row of 8), before training on them; windows of 1, 24, or growing."""
    rng = np.random.default_rng([8, seed])
    s = streams((DATA / "text.txt").read_text(encoding="ascii"))
    D, H = len(ALPHABET), 12
    params, h = start(rng, D, H, D), np.zeros((ROWS, H))
    at, losses, sums, seen = int(rng.integers(0, 200)), [], 0.0, 0
    while seen < symbols:
        grown = (1, 2, 4, 8, 24)[min(4, 5 * seen // symbols)]
        k = {"one step": 1, "BPTT": 24, "growing": grown}[method]
        k = min(k, 24 - seen % 24)
        if at + k >= len(s):
            at, h = 0, np.zeros((ROWS, H))
        answer, h = _text_loss(params, s[at : at + k + 1], h, k)
        params = {name: w - rate * np.clip(answer[f"d{name}"], -1, 1) for name, w in params.items()}
        at, seen, sums = at + k, seen + k, sums + k * float(answer["loss"])
        if seen % 24 == 0:
            losses.append(sums / 24)
            sums = 0.0
    return losses


def _tuned(method: str, symbols: int) -> float:
    """The step size with the lowest loss over the last third, on the seed set apart."""
    return min(RATES, key=lambda rate: sum(train_text(TUNING, method, symbols, rate)[-(symbols // 72) :]))


def c08(run: Run) -> Finding:
    """One-step training, BPTT, and a growing window, at equal numbers of symbols."""
    seeds, symbols = (5, 24 * 20) if run.quick else (6, 24 * 1000)
    n = symbols // 24
    methods = ("one step", "BPTT", "growing")
    rates = {m: _tuned(m, symbols) for m in methods}
    runs = {m: [train_text(seed, m, symbols, rates[m]) for seed in range(seeds)] for m in methods}

    def mean(method: str, seed: int, first: int, last: int) -> float:
        return float(np.mean(runs[method][seed][first:last]))

    def ahead(one: str, other: str, first: int, last: int) -> int:
        return sum(mean(one, seed, first, last) < mean(other, seed, first, last) for seed in range(seeds))

    tests = (
        ("one-step training is ahead of BPTT over the first tenth", ahead("one step", "BPTT", 0, n // 10)),
        ("BPTT is ahead of one-step training over the last tenth", ahead("BPTT", "one step", n - n // 10, n)),
        ("the growing window is ahead of one step over the last tenth", ahead("growing", "one step", n - n // 10, n)),
        ("the growing window is ahead of BPTT over the last tenth", ahead("growing", "BPTT", n - n // 10, n)),
    )
    asked = list(tests)[:1] if run.quick else list(tests)  # a short run has no end to speak of
    lines = [f"{what}: in {count} of {seeds} seeds ({sign_test(count, seeds)})" for what, count in asked]
    results = [sign_test(count, seeds) for _, count in asked]
    slow = [float(np.mean(train_text(seed, "one step", symbols // 10, SLOW))) for seed in range(seeds)]
    early = sum(one < mean("BPTT", seed, 0, n // 10) for seed, one in enumerate(slow))
    found = _studied(
        results,
        lines,
        f"a study: Elman network, 12 tanh units, real text, {symbols} symbols, 8 rows, {seeds} seeds, each "
        f"method with the best step size of three on a seed apart ({', '.join(f'{m} {r}' for m, r in rates.items())}), "
        "gradients clipped to ±1; measured here, not proved",
        seeds,
        f"asked of a tanh network of 12 units, over {symbols} symbols of text",
    )
    more = (
        f"the early lead depends on the step: with {SLOW} one step is ahead over the first tenth in {early} of {seeds}"
    )
    if run.quick:  # one part of four is no verdict on the claim
        short = "in the quick form, which asks its first part alone: a short run has no end to speak of"
        found = replace(found, verdict="undecided", condition=short, counterexample=())
    longer = (
        "the study S2 asks the same over sixteen times as many symbols and of text left out of training: "
        "there the ends of one-step training and BPTT were not told apart"
    )
    return replace(found, notes=(*found.notes, more, longer))


def _studied(results: Sequence[str], lines: Sequence[str], shown: str, seeds: int, asked: str) -> Finding:
    """All parts won: holds of what was asked; one lost: refuted by it; else it holds for the parts that were won."""
    won = [line.split(":")[0] for line, result in zip(lines, results, strict=True) if result == "won"]
    if all(result == "won" for result in results):
        verdict, condition = "holds when", asked
    elif "lost" in results:
        verdict, condition = "refuted", ""
    else:
        verdict = "holds when" if won else "undecided"
        condition = "read as: " + "; ".join(won) if won else ""
    counterexample = [line for line, result in zip(lines, results, strict=True) if result == "lost"]
    again = ["the counts are those of paired runs from the same weights and text, over independent seeds"]
    return Finding(
        verdict, shown, seeds, condition, tuple(counterexample), tuple(again if counterexample else ()), tuple(lines)
    )


# ---- C12 -------------------------------------------------------------------------------------------------------


def sequence_task(rng: np.random.Generator) -> tuple[Problem, Params]:
    """Running sums of a random sequence, squashed: 4 rows of 12 steps, 6 units."""
    x = rng.choice([-1.0, 1.0], (12, 4, 1))
    target = np.tanh(np.cumsum(x, axis=0) / 4)
    loss = Loss("squared_error", target=target, scale=0.5, time_reduction="mean", batch_reduction="mean")
    params = start(rng, 1, 6, 1)
    problem = Problem("elman", params, x, loss, h0=np.zeros((4, 6)), activation="tanh", readout="linear")
    return problem, params


def _loss(problem: Problem, vector: Array) -> float:
    return float(_forward(replace(problem, params=_unflattened(problem, vector))))


def _unflattened(problem: Problem, vector: Array) -> Params:
    out, at = {}, 0
    for name, w in problem.params.items():
        out[name] = vector[at : at + w.size].reshape(w.shape)
        at += w.size
    return out


def _forward(problem: Problem) -> float:
    p, h, total = problem.params, problem.h0, 0.0
    assert h is not None and problem.loss.target is not None
    for x, y in zip(problem.x, problem.loss.target, strict=True):
        h = np.tanh(x @ p["W_xh"] + h @ p["W_hh"] + p["b_h"])
        total += 0.5 * float(np.sum((h @ p["W_hy"] + p["b_y"] - y) ** 2))
    return total / (problem.T * problem.B)


def evolve(problem: Problem, evaluations: int, seed: int, sigma: float, rate: float) -> float:
    """An evolution strategy with mirrored sampling, 8 pairs a generation: the best loss within the evaluations."""
    rng = np.random.default_rng([12, seed])
    w = np.concatenate([v.reshape(-1) for v in problem.params.values()])
    best = _loss(problem, w)
    for _ in range(evaluations // 16):
        noise = rng.normal(size=(8, w.size))
        up, down = ([_loss(problem, w + sign * sigma * e) for e in noise] for sign in (1, -1))
        w = w - rate * (np.array(up) - np.array(down)) @ noise / (16 * sigma)
        best = min(best, *up, *down)
    return best


def train(problem: Problem, evaluations: int, rate: float) -> float:
    """Gradient descent by BPTT: the best loss within the budget, a gradient counting as three evaluations."""
    best = np.inf
    for _ in range(evaluations // 3):
        answer = gradient(problem)
        best = min(best, float(answer["loss"]))
        params = {name: w - rate * answer[f"d{name}"] for name, w in problem.params.items()}
        problem = replace(problem, params=params)
    return best


def c12(run: Run) -> Finding:
    """BPTT against evolution at equal budgets."""
    seeds, evaluations = (5, 240) if run.quick else (12, 4800)
    lines, results = [], []
    pairs = []
    for seed in range(seeds):
        problem, _ = sequence_task(np.random.default_rng([1, seed]))
        bptt = min(train(problem, evaluations, rate) for rate in (0.1, 0.5))
        evolved = min(evolve(problem, evaluations, seed, sigma, rate) for sigma in (0.05, 0.2) for rate in (0.1, 0.5))
        pairs.append((bptt, evolved))
    count = sum(bptt < evolved for bptt, evolved in pairs)
    results.append(sign_test(count, seeds))
    middle = [float(np.median([pair[i] for pair in pairs])) for i in range(2)]
    lines.append(
        f"BPTT has the lower loss after {evaluations} evaluations: in {count} of {seeds} seeds ({results[0]}); "
        f"medians {middle[0]:.3g} and {middle[1]:.3g}"
    )
    return _studied(
        results,
        lines,
        f"a study: running sums, 6 tanh units, {seeds} seeds; a gradient counts as three forward passes; an evolution "
        "strategy with mirrored sampling, the best of four settings, against the better of two step sizes; measured "
        "here, not proved",
        seeds,
        f"asked of running sums in 6 tanh units, at {evaluations} evaluations each",
    )


# ---- C13 -------------------------------------------------------------------------------------------------------


def certified_minima(problem: Problem, direction: Params, points: Sequence[float]) -> int:
    """A lower bound of the number of local minima of the loss along w + s direction, s over the points.

    The directional derivative at each point is enclosed; where it is certainly negative at one point and certainly
    positive at the next that is decided, a minimum lies between: the loss is smooth (tanh).
    """
    signs = []
    for s in points:
        params = {name: w + s * direction[name] for name, w in problem.params.items()}
        values = solve(replace(problem, params=params), N).values
        with N.scope():
            slope = sum(
                float(d) * g
                for name, w in direction.items()
                for d, g in zip(w.reshape(-1).tolist(), values[f"d{name}"], strict=True)
            )
            signs.append(1 if slope > 0 else (-1 if slope < 0 else 0))
    decided = [sign for sign in signs if sign]
    return sum(a < 0 < b for a, b in itertools.pairwise(decided))


def c13(run: Run) -> Finding:
    """Local minima along a line in weight space, with more and more recurrent steps."""
    seeds, points = (5, 65) if run.quick else (8, 257)
    lengths = (1, 4, 16) if run.quick else (1, 4, 16, 48)
    counts: dict[int, list[int]] = {T: [] for T in lengths}
    for seed in range(seeds):
        rng = np.random.default_rng([13, seed])
        W, h0 = rng.normal(size=(3, 3)), rng.normal(size=(1, 3))
        for T in lengths:
            x = np.zeros((T, 1, 1))
            params = {"W_xh": np.ones((1, 3)), "W_hh": np.zeros((3, 3)), "b_h": np.full(3, 0.1)}
            g = np.zeros((T, 1, 3))
            g[-1] = 1.0
            problem = Problem("elman", params, x, Loss("cotangent", g=g), h0=h0, activation="tanh")
            counts[T].append(certified_minima(problem, {"W_hh": W, **_zeros(params)}, _grid(points)))
    longest, shortest = lengths[-1], lengths[0]
    more = sum(a > b for a, b in zip(counts[longest], counts[shortest], strict=True))
    result = sign_test(more, seeds)
    lines = [
        (
            f"there are more minima with T = {longest} than with T = {shortest}, one pass without feedback: "
            f"in {more} of {seeds} seeds ({result})"
        ),
        *(f"T = {T}: certified minima along the line, seed by seed: {counts[T]}" for T in lengths),
    ]
    found = _studied(
        [result],
        lines[:1],
        f"a study: 3 tanh units, the last state's sum along W_hh = s W for s in [−6, 6] at {points} points, {seeds} "
        "seeds; every minimum counted lies between two enclosed slopes; how poor they are is not decided",
        seeds,
        "asked how many minima lie on lines through the weights of 3 tanh units; how poor they are is left open",
    )
    return replace(found, notes=tuple(lines))


def _grid(points: int) -> list[float]:
    return [float(v) for v in np.linspace(-6, 6, points)]


def _zeros(params: Params) -> Params:
    return {name: np.zeros_like(w) for name, w in params.items() if name != "W_hh"}


# ---- C33 -------------------------------------------------------------------------------------------------------


def batch(size: int, rate: Fraction, updates: int = 4) -> tuple[Problem, list[Fraction]]:
    """A batch of equal rows for one weight, o = w x: the problem, and the exact losses along gradient descent."""
    one = Neuron(0, 0, 0, (1.0,), 0).problem()
    params = {name: np.zeros_like(w) for name, w in one.params.items()}
    loss = Loss("squared_error", target=np.ones((1, size, 1)), scale=1.0, batch_reduction="mean")
    problem = replace(one, params=params, x=np.ones((1, size, 1)), h0=np.zeros((size, 1)), loss=loss)
    losses = []

    def ask(p: Problem) -> dict[str, Array]:
        losses.append(Fraction(gradients(p)["loss"][0]))
        return {"dW_xh": np.array([[float(v)] for v in gradients(p)["dW_xh"]])}

    list(descent(problem, updates, rate, ask))
    return problem, losses


def c33(run: Run) -> Finding:
    """Convergence at any batch size."""

    def holds(pair: tuple[int, Fraction]) -> bool | None:
        losses = batch(*pair)[1]
        return losses[-1] < losses[0]

    def second(pair: tuple[int, Fraction]) -> tuple[list[str], bool]:
        hand = [(1 - 2 * pair[1]) ** (2 * j) for j in range(4)]
        return [f"in closed form: the error is multiplied by 1 − 2δ = {1 - 2 * pair[1]} at each update"], hand == batch(
            *pair
        )[1]

    dead = gradients(replace(batch(1, Fraction(2), 1)[0], truncation=Truncation()))
    return search(
        "C33",
        run,
        holds=holds,
        small=[(size, Fraction(2)) for size in (1, 2, 8)],
        draw=lambda rng: (int(rng.integers(1, 9)), Fraction(int(rng.integers(1, 8)), 8)),
        show=lambda pair: [
            (
                f"one weight, o = w x, x = y = 1 in a batch of {pair[0]}, step δ = {pair[1]}, from w = 0: "
                f"the losses are {', '.join(map(str, batch(*pair)[1]))}; with 2 and 8 rows: "
                f"{', '.join(map(str, batch(2, pair[1])[1]))} and {', '.join(map(str, batch(8, pair[1])[1]))}"
            )
        ],
        second=second,
        shown="gradient descent in rationals on the oracle's gradients",
        notes=(
            (
                "It is no statement about BPTT: what decides is the step size, at every batch size alike. "
                "With δ < 1 this very problem does converge, as all that were drawn show."
            ),
            (
                f"Nor does a small step make it true: where W_hh is 0 and h_0 = 0 its gradient is {dead['dW_hh'][0]}, "
                "whatever the loss."
            ),
        ),
    )


CLAIMS = (
    Claim(
        "C08", "One-step training is ahead early, BPTT ends ahead, and a growing window converges fastest.", "001", c08
    ),
    Claim("C12", "BPTT is much faster than evolutionary optimisation.", "003", c12),
    Claim("C13", "Recurrent feedback makes the error surface chaotic, with many poor local optima.", "003", c13),
    Claim("C33", "Convergence is guaranteed at any batch size.", "001", c33),
)
