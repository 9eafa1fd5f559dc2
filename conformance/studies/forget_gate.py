"""S9: the LSTM with forget gate: the derivative of C_t by C_{t-1}, over one step and over k.

    dC_t/dC_{t-1} = diag(f_t) + diag(o_{t-1} tanh'(C_{t-1})) (W_f diag(C_{t-1} f_t')
                    + W_i diag(g_t i_t') + W_g diag(i_t g_t'))             o_{t-1} held fixed; rows are C_{t-1}   (1)
    dC_t/dC_{t-k} = [diag(o_{t-k} tanh'(C_{t-k})), 1] J_{t-k+1} ... J_t [0, 1]^T     J of the pair (h, C)         (2)
    product of (1) over k steps, instead of (2)                                                                  (3)

(3) leaves out that o_{t-1} depends on C_{t-2} by way of h_{t-2}. Without recurrent weights in the output gate it does
not, and (3) is (2). The J are the oracle's local Jacobians, by hand; (1) is written out here, on arrays of the oracle's
balls: two values that are one have balls that overlap, and no tolerance is chosen.
"""

from __future__ import annotations

import numpy as np

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.intervals import cut, median_band, median_interval
from conformance.studies.jacobians import local_jacobians
from conformance.studies.networks import Array, draw, pose
from oracle.ball_numbers import BallNumbers
from oracle.numbers import Matrix
from oracle.solution import scope
from oracle.unrolled import unroll

D, H = 3, 5
KINDS = ((0.5, 0.0), (1.0, 2.0), (4.0, 0.0), (4.0, 3.0))
"""The gain of W_h, and the bias of the forget gate."""


def problem_of(seed: int, T: int, gain: float, bias: float, *, recurrent_output: bool = True) -> Problem:
    """Random weights and inputs; the output gate with its recurrent weights, or without them."""
    rng = np.random.default_rng([seed, T])
    params = draw(rng, "lstm", D, H, gain=gain)
    params["b"] = 0.5 * rng.standard_normal(4 * H)
    params["b"][H : 2 * H] += bias
    if not recurrent_output:
        params["W_h"][:, 3 * H :] = 0
    return pose("lstm", params, rng.standard_normal((T, 1, D)), Loss("cotangent", g=np.zeros((T, 1, H))))


def sigma(a: Array) -> Array:
    """The logistic sigmoid, of balls."""
    return np.asarray(1 / (1 + np.exp(-a)))


def balls(M: Matrix) -> Array:
    """A matrix as an array of balls, on which NumPy's functions work entry by entry."""
    return np.array(M.data, dtype=object).reshape(M.rows, M.cols)


def derivatives(problem: Problem) -> tuple[list[Array], list[Array]]:
    """(1) for t = 2 to T, and (2) from step 1 to each of them. Call it within the scope of N."""
    N = BallNumbers(256)
    u = unroll(problem, N)
    p = {name: balls(leaf.value) for name, leaf in u.leaves.items()}
    h, c = ([balls(state)[0] for state in u.states[name]] for name in "hc")
    W = [p["W_h"][:, n * H : (n + 1) * H] for n in range(4)]
    a = [balls(N.decode(problem.x[t]))[0] @ p["W_x"] + h[t] @ p["W_h"] + p["b"].ravel() for t in range(problem.T)]
    o = [sigma(a_t[3 * H :]) for a_t in a]
    steps = []
    for t in range(1, problem.T):  # C_t stands at c[t + 1]
        i, f, g = sigma(a[t][:H]), sigma(a[t][H : 2 * H]), np.tanh(a[t][2 * H : 3 * H])
        inner = W[1] * (c[t] * f * (1 - f)) + W[0] * (g * i * (1 - i)) + W[2] * (i * (1 - g * g))
        steps.append(np.diag(f) + (o[t - 1] * (1 - np.tanh(c[t]) ** 2))[:, None] * inner)
    eye = balls(N.eye(H))
    start = np.concatenate([np.diag(o[0] * (1 - np.tanh(c[1]) ** 2)), eye], axis=1)
    wanted = []
    for J in local_jacobians(problem, N)[1:]:
        start = start @ balls(J)
        wanted.append(start[:, H:])
    return steps, wanted


def floats(array: Array) -> Array:
    """The midpoints."""
    return np.array([float(value) if isinstance(value, int) else float(value.mid()) for value in array.flat]).reshape(
        array.shape
    )


def apart(a: Array, b: Array) -> bool:
    """Whether some entries are certainly not the same number."""
    return any(not x.overlaps(y) for x, y in zip(a.flat, b.flat, strict=True))


def compare(problem: Problem) -> tuple[list[bool], list[float], list[float], list[float]]:
    """For k = 1 to T-1: whether (3) and (2) are apart, by how much, the norm of (2); and the norms of (1)."""
    with scope(BallNumbers(256)):
        steps, wanted = derivatives(problem)
        product, differ, errors, norms = None, [], [], []
        for one, want in zip(steps, wanted, strict=True):
            product = one if product is None else product @ one
            differ.append(apart(product, want))
            size = float(np.linalg.norm(floats(want), 2))
            errors.append(max(float(np.linalg.norm(floats(product - want), 2)) / size, 1e-80))
            norms.append(size)
        return differ, errors, norms, [float(np.linalg.norm(floats(one), 2)) for one in steps]


def run(run: Run) -> Found:
    """Errors of (3), and norms of (2)."""
    seeds, T = list(range(run.pick(12, 2))), run.pick(31, 6)
    run.begin(len(seeds) * (1 + len(KINDS)))
    ks = list(range(1, T))
    errors: dict[bool, list[list[float]]] = {True: [], False: []}
    differ: dict[bool, list[list[bool]]] = {True: [], False: []}
    norms: dict[str, list[list[float]]] = {}
    factors: dict[str, list[float]] = {}
    for seed in seeds:
        for recurrent in (True, False):
            d, e, _, _ = compare(problem_of(seed, T, 1.0, 0.0, recurrent_output=recurrent))
            differ[recurrent].append(d)
            errors[recurrent].append(e)
        run.advance()
        for gain, bias in KINDS:
            name = f"gain {gain:g}, forget bias {bias:g}"
            _, _, n, f = compare(problem_of(seed, T, gain, bias))
            norms.setdefault(name, []).append(n)
            factors.setdefault(name, []).extend(f)
            run.advance()
    above = {name: float(np.mean(np.array(values) > 1)) for name, values in factors.items()}
    ends = {name: median_interval([row[-1] for row in rows]) for name, rows in norms.items()}
    first, *_, last = norms
    rows = [(name, min(factors[name]), max(factors[name]), 100 * above[name], ends[name]) for name in norms]
    return Found(
        answer=[
            (
                f"Over one step the four-term formula is the derivative. Multiplied {ks[-1]} times it is off by "
                f"{median_interval([row[-1] for row in errors[True]])} of the derivative's norm, and by nothing "
                "where the output "
                "gate has no recurrent weights: the pair (h, C) is the state."
            ),
            "The factor of one step lies on either side of 1: its norm is above 1 in "
            + "; ".join(f"{100 * above[name]:.0f} % of the steps ({name})" for name in norms)
            + f". Over {ks[-1]} steps the derivative's norm is {ends[first]} with {first}, and {ends[last]} "
            f"with {last}.",
        ],
        parameters={"D": D, "H": H, "T": T, "gains and biases": KINDS},
        seeds=seeds,
        tables=[
            Table(
                "Norms of the derivative of C",
                (
                    "weights",
                    "least over one step",
                    "largest over one step",
                    "% of steps above 1",
                    f"over {ks[-1]} steps, median",
                ),
                rows,
            )
        ],
        pictures=[
            Picture(
                "s9",
                "The LSTM with forget gate. Left: how far the one-step formula, multiplied k times, is from the "
                "derivative of the cell state over k steps; without recurrent weights in the output gate it "
                "is exact. Right: the "
                "norm of that derivative for four kinds of weights. Medians with intervals.",
                [
                    Panel(
                        "formula multiplied k times",
                        "k, steps",
                        "relative error",
                        [Series("output gate recurrent", ks[1:], *cut(median_band(errors[True]), slice(1, None)), 0)],
                        ylog=True,
                    ),
                    Panel(
                        "derivative over k steps",
                        "k, steps",
                        "spectral norm",
                        [Series(name, ks, *median_band(norms[name]), i) for i, name in enumerate(norms)],
                        ylog=True,
                    ),
                ],
            )
        ],
        checks=[
            Check(
                "the four-term formula is the derivative over one step",
                not any(row[0] for row in differ[True]),
                f"balls of 256 bits overlap in {len(seeds)} networks",
            ),
            Check(
                "multiplied k times it is the derivative where the output gate has no recurrent weights",
                not any(any(row) for row in differ[False]),
                f"balls overlap for k up to {ks[-1]}",
            ),
            Check(
                "with recurrent weights in the output gate it is not, from two steps on",
                all(all(row[1:]) for row in differ[True]),
                f"balls apart in {len(seeds)} networks",
            ),
        ],
    )


STUDY = Study(
    "S9",
    "the forget gate and the derivative of the cell state",
    "Is the four-term formula for the derivative of the cell state right, may it be multiplied over steps, "
    "and on which "
    "side of 1 does it lie?",
    "Random LSTMs. The formula is evaluated in ball arithmetic and compared with the product of the oracle's joint "
    "Jacobians of (h, C).",
    ("C24", "C25", "C26"),
    run,
    symbols="C is the cell state, h the output, k counts steps. The gain scales all recurrent weights; the "
    "forget bias is added before the forget gate's sigmoid.",
)
