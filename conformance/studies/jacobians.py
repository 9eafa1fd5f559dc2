"""S7: vanishing and exploding: norms of Jacobian products, with a bound drawn over them.

    elman    |dh_t/dh_k| <= (gamma_W gamma_h)^(t-k)      gamma_W = |W_hh|_2, gamma_h = sup |phi'|              (1)
    gru (reset before), |h_0| <= 1:
             |dh_t/dh_k| <= (1 + |W_z|/2 + (1 + |W_r|/4) |W_n|)^(t-k)                                          (2)
    lstm     |d(h,c)_t/d(h,c)_k| <= |M_{k+1} ... M_t|_2, M_s = [[b_s + |W_o|/4, b_s], [1, 1]],                 (3)
             b_s = |W_i|/4 + max|c_{s-1}| |W_f|/4 + |W_g|

Norms are spectral. (1): Pascanu, Mikolov and Bengio (2013), with the largest singular value. (2) and (3) are ours: in
(2) |h| <= 1 stays, so that |h - n| <= 2, and the slopes of sigma and tanh are at most 1/4 and 1; (3) bounds the blocks
(h to h, h to c; c to h, c to c) of one step, and a product of blocks by the product of their norms; it uses the
largest |c| that is met, not the weights alone. What is measured are products of the oracle's local Jacobians, in balls.
"""

from __future__ import annotations

import numpy as np

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import median_band, median_interval
from conformance.studies.networks import Array, draw, pose
from oracle.ball_numbers import BallNumbers
from oracle.jacobian import matrix_norm_bounds, spectral_norm_bounds
from oracle.numbers import Matrix
from oracle.solution import scope
from oracle.unrolled import unroll

D, H = 3, 8
GAMMA_H = {"tanh": 1.0, "sigmoid": 0.25, "relu": 1.0, "identity": 1.0}
NORMS = (0.9, 2.0)
UPWARDS = 1 + 2.0**-40
"""Covers the roundings of the bounds' own products in float64: fewer than 2^10 of them, of 2^-53 each."""

NEARLY = 2.0**-40
"""How near to 2^T sqrt(2) the norm is where a = (0, 20): the slope at 20 is 4 exp(-40) < 2^-55, so that every step is
within 2^-54 of twice the last; and a norm of two by two numbers in float64 costs a few roundings of 2^-53."""


def problem_of(cell: str, activation: str | None, gamma: float, T: int, seed: int) -> Problem:
    """Random inputs; every recurrent matrix of H columns has the spectral norm gamma."""
    rng = np.random.default_rng([seed, T])
    params = draw(rng, cell, D, H)
    name = "W_hh" if cell == "elman" else "W_h"
    blocks = np.split(params[name], params[name].shape[1] // H, axis=1)
    params[name] = np.concatenate([gamma * W / np.linalg.norm(W, 2) for W in blocks], axis=1)
    x = rng.standard_normal((T, 1, D))
    return pose(cell, params, x, Loss("cotangent", g=np.zeros((T, 1, H))), activation=activation)


def local_jacobians(problem: Problem, N: BallNumbers) -> list[Matrix]:
    """ds_t/ds_{t-1} of the one row, for t = 1 to T, as the cells derive them by hand. Call it within the scope of N."""
    u = unroll(problem, N)
    params = {name: leaf.value for name, leaf in u.leaves.items()}
    out = []
    for s in range(1, problem.T + 1):
        before = {name: Matrix(1, problem.H, u.states[name][s - 1].row(0)) for name in problem.spec.states}
        x_s, cec = N.decode(problem.x[s - 1, 0][None]), problem.truncation.kind == "cec"
        out.append(problem.spec.local(N, params, x_s, before, problem.activation, cec)[0])
    return out


def products(problem: Problem, proved: set[int], state: slice = slice(None)) -> tuple[list[float], dict[int, float]]:
    """|ds_T/ds_{T-n}| for n = 1 to T, in float64, and proved lower bounds for some n; `state` cuts a block out."""
    N = BallNumbers(256)
    norms, lower = [], {}
    with scope(N):
        product = N.eye(problem.H * len(problem.spec.states))
        for n, J in enumerate(reversed(local_jacobians(problem, N)), 1):
            product = N.matmul(J, product)
            norms.append(float(np.linalg.norm(middle(product)[state, state], 2)))
            if n in proved:
                lower[n] = matrix_norm_bounds(N, product)[0]
    return norms, lower


def log10(values: list[float]) -> Array:
    """The logarithms; that of 0, the norm where every relu is dead, is minus infinity."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log10(values))


def middle(M: Matrix) -> Array:
    """The midpoints of a matrix of balls."""
    return np.array([float(value.mid()) for value in M.data]).reshape(M.rows, M.cols)


def bounds(problem: Problem) -> list[float]:
    """(1), (2) or (3) for n = 1 to T, rounded up."""
    T = problem.T
    if problem.cell == "elman":
        assert problem.activation is not None
        gamma = spectral_norm_bounds(problem.params["W_hh"])[1] * GAMMA_H[problem.activation]
        return [gamma**n * UPWARDS for n in range(1, T + 1)]
    blocks = np.split(problem.params["W_h"], problem.params["W_h"].shape[1] // H, axis=1)
    norms = [spectral_norm_bounds(block)[1] for block in blocks]
    if problem.cell == "gru_reset_before":
        r, z, n_ = norms
        return [(1 + z / 2 + (1 + r / 4) * n_) ** n * UPWARDS for n in range(1, T + 1)]
    i, f, g, o = norms
    from implementations.registry import load

    c = np.concatenate([np.zeros((1, 1, H)), load("numpy").gradients(problem)["c"]])  # (T+1,1,H)
    product, out = np.eye(2), []
    for s in range(T, 0, -1):
        b = i / 4 + float(np.abs(c[s - 1]).max()) * (1 + 2.0**-40) * f / 4 + g
        product = np.array([[b + o / 4, b], [1, 1]]) @ product
        out.append(float(np.linalg.norm(product, 2)) * UPWARDS)
    return out


def counterexamples(T: int) -> dict[str, tuple[list[float], float]]:
    """Norms, and the spectral radius of W_hh: of one that explodes though it is 0, one that vanishes though it is 3."""
    g = Loss("cotangent", g=np.zeros((T, 1, 2)))
    nilpotent = {"W_xh": np.eye(2), "W_hh": np.array([[2.0, -2.0], [2.0, -2.0]]), "b_h": np.zeros(2)}
    x = np.tile([-2.0, 22.0], (T, 1, 1))  # with h = (0, 1) it holds a = (0, 20)
    explodes = pose("elman", nilpotent, x, g, h0=np.array([[0.0, 1.0]]))
    large = {"W_xh": np.eye(2), "W_hh": 3 * np.eye(2), "b_h": np.zeros(2)}
    vanishes = pose("elman", large, np.zeros((T, 1, 2)), g, h0=np.ones((1, 2)))
    named = {"spectral radius 0": explodes, "spectral radius 3": vanishes}
    return {name: (products(p, set())[0], radius(p.params["W_hh"])) for name, p in named.items()}


def radius(W: Array) -> float:
    """The largest absolute value of an eigenvalue, by trace and determinant of a 2 by 2 matrix, exact here."""
    half, det = (W[0, 0] + W[1, 1]) / 2, W[0, 0] * W[1, 1] - W[0, 1] * W[1, 0]
    root = np.sqrt(complex(half * half - det))
    return float(max(abs(half + root), abs(half - root)))


def run(run: Run) -> Found:
    """Measure every kind at both norms."""
    T, seeds = run.pick(40, 6), list(range(run.pick(10, 2)))
    proved = run.pick({1, 2, 3, 5, 10, 20, 40}, {1, T})
    kinds: list[tuple[str, str, str | None]] = [(f"elman, {a}", "elman", a) for a in GAMMA_H]
    kinds += [("LSTM", "lstm", None), ("GRU", "gru_reset_before", None)]
    run.begin(len(kinds) * len(seeds))
    panels, rows, worst = [], [], 0.0
    x = list(range(1, T + 1))
    for title, cell, activation in kinds:
        found: dict[float, list[list[float]]] = {gamma: [] for gamma in NORMS}
        over: dict[float, list[list[float]]] = {gamma: [] for gamma in NORMS}
        for seed in seeds:
            for gamma in NORMS:
                problem = problem_of(cell, activation, gamma, T, seed)
                norms, lower = products(problem, proved)
                bound = bounds(problem)
                worst = float(np.max([worst, *(lower[n] / bound[n - 1] for n in proved)]))  # NaN, if any is NaN
                found[gamma].append(norms)
                over[gamma].append(bound)
            run.advance()
        panels.append(
            Panel(
                title,
                "steps back, t − k",
                "spectral norm",
                [
                    s
                    for i, gamma in enumerate(NORMS)
                    for s in (
                        Series(f"measured, {gamma:g}", x, *median_band(found[gamma]), 2 * i),
                        Series(f"bound, {gamma:g}", x, median_band(over[gamma])[0], style=2 * i + 1, marks=False),
                    )
                ],
                ylog=True,
                ylim=(1e-20, 1e20),
            )
        )
        rows += [
            (
                title,
                gamma,
                median_interval(log10([n[-1] for n in found[gamma]])),
                median_interval(log10([b[-1] for b in over[gamma]])),
            )
            for gamma in NORMS
        ]
    odd = counterexamples(T)
    panels.append(
        Panel(
            "no verdict by the spectral radius",
            "steps back, t − k",
            "spectral norm",
            [Series(name, x, norms, style=5 + i) for i, (name, (norms, _)) in enumerate(odd.items())],
            ylog=True,
        )
    )
    up, down = odd["spectral radius 0"], odd["spectral radius 3"]
    relu, sigmoid = (next(r for r in rows if r[0] == f"elman, {a}" and r[1] == NORMS[1]) for a in ("relu", "sigmoid"))
    return Found(
        answer=[
            (
                f"No measured norm exceeds its bound; the one that comes nearest is {worst:.3g} times its bound. With "
                f"|W_hh| = {NORMS[1]:g} the norm over {T} steps has the decimal logarithm {relu[2]} for relu, and "
                f"{sigmoid[2]} for the sigmoid, whose bound vanishes although |W_hh| > 1: its slope is 1/4 at most."
            ),
            (
                f"The spectral radius decides nothing: a tanh network whose W_hh has the radius {up[1]:g} reaches "
                "the norm "
                f"{up[0][-1]:.2g} after {T} steps, and one with the radius {down[1]:g}, saturated, {down[0][-1]:.2g}."
            ),
        ],
        parameters={"D": D, "H": H, "T": T, "spectral norms": NORMS},
        seeds=seeds,
        tables=[
            Table(
                f"log10 of the norm {T} steps back",
                ("cell", "norm of each recurrent matrix", "measured", "bound"),
                rows,
            )
        ],
        pictures=[
            Picture(
                "s7",
                "Spectral norms of the Jacobian of the whole state over t − k steps, medians with "
                "intervals over random networks whose recurrent matrices have the norm 0.9 or 2, and the "
                "bound over each. "
                "Last: two networks that the spectral radius misjudges. Axes end at 1e±20.",
                panels,
            )
        ],
        checks=[
            Check(
                "every measured norm, as a proved lower bound, is at most its bound",
                worst <= 1.0,
                f"largest ratio {worst:.3g}, at {len(proved)} distances",
            ),
            Check(
                "with spectral radius 0 the norm doubles at every step",
                abs(up[0][-1] / (2.0**T * 2**0.5) - 1) < NEARLY,
                f"log2 of it {np.log2(up[0][-1]):.6f} after {T} steps, 1/2 more than {T}",
            ),
        ],
    )


STUDY = Study(
    "S7",
    "vanishing and exploding Jacobian products",
    "How do the norms of Jacobian products grow with the distance, and do the bounds hold?",
    "Products of the oracle's local Jacobians, in ball arithmetic, for random networks whose recurrent "
    "matrices are scaled "
    "to a given spectral norm. At some distances the norm is bounded from below by proof and set against the bound.",
    ("C17", "C19", "C20", "C21", "C22"),
    run,
    symbols="t − k is the distance in steps. |W_hh| is the spectral norm of the weights among the units, their "
    "largest singular value; the spectral radius is the largest absolute eigenvalue. A bound follows "
    "from the norms of the weights and the largest slopes.",
)
