"""What studies train and ask: networks drawn from a seed, gradients by a certified target, exact ones by the oracle."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from implementations.registry import Unavailable, load
from oracle.solution import Solution, decided
from oracle.truth import Truth, norm

Array = NDArray[Any]
Named = dict[str, Array]
ENOUGH = 2.0**-60
"""The radius of an exact array, relative to its norm: nothing beside the rounding to float64."""


@functools.cache
def trainer() -> tuple[str, Callable[[Problem], Named]]:
    """The built-in target that gradients for training come from: `c`, or `numpy` where it was not built."""
    for name in ("c", "numpy"):
        try:
            return name, load(name).gradients
        except Unavailable:
            continue
    raise AssertionError("numpy is always there")


def gradients(problem: Problem) -> Named:
    """What the trainer answers."""
    return trainer()[1](problem)


def exact(problem: Problem, keys: Iterable[str]) -> Named:
    """The oracle's values of some arrays, enclosed to ENOUGH of their norms and rounded to float64."""
    wanted = list(keys)

    def enough(solution: Solution) -> bool:
        near = (solution.near(key) for key in wanted)
        return all(norm(radius) <= ENOUGH * norm(value) or norm(radius) == 0 for value, _, radius in near)

    solution = decided(problem, enough)
    return {key: solution.near(key)[0] for key in wanted}


def draw(rng: np.random.Generator, cell: str, D: int, H: int, K: int | None = None, *, gain: float = 1.0) -> Named:
    """Normal weights of variance gain^2 / fan-in, so that W_hh has a spectral radius of about `gain`; biases 0."""
    shapes = CELLS[cell].shapes(D, H) | ({} if K is None else {"W_hy": (H, K), "b_y": (K,)})
    out = {}
    for name, shape in shapes.items():
        scale = gain if name in ("W_hh", "W_h") else 1.0
        out[name] = scale * rng.standard_normal(shape) / np.sqrt(shape[0]) if len(shape) == 2 else np.zeros(shape)
    return out


def pose(cell: str, params: Named, x: Array, loss: Loss, *, activation: str | None = "tanh", **more: Any) -> Problem:
    """A problem in float64; zero initial states unless given, the linear readout where W_hy is among the parameters."""
    B, H = x.shape[1], params["W_hh" if cell == "elman" else "W_h"].shape[0]
    states: dict[str, Any] = {f"{name}0": np.zeros((B, H)) for name in CELLS[cell].states}
    states |= {"readout": "linear" if "W_hy" in params else "none"} | more
    return Problem(cell, params, x, loss, activation=activation if cell == "elman" else None, **states)


def step(params: Named, answer: Mapping[str, Array], rate: float, clip: float | None = None) -> Named:
    """theta - rate g min(1, clip / |g|), with |g| over all parameters: gradient descent, clipped by the norm."""
    g = {name: answer[f"d{name}"] for name in params}
    factor = 1.0 if clip is None else min(1.0, clip / max(size(g.values()), 1e-300))
    return {name: array - rate * factor * g[name] for name, array in params.items()}


def size(arrays: Iterable[Array]) -> float:
    """The Euclidean norm of all entries of all arrays."""
    return norm(np.array([norm(array) for array in arrays]))


def joined(answer: Mapping[str, Array], params: Iterable[str]) -> Array:
    """The gradients of some parameters as one vector."""
    return np.concatenate([np.ravel(answer[f"d{name}"]) for name in params])


def cosine(a: Array, b: Array) -> float:
    """Of two vectors, neither of them zero; they are scaled first, so that no square underflows."""
    a, b = a / norm(a), b / norm(b)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def truncated(problem: Problem, kind: str = "full", **k: int) -> Problem:
    """The problem with another truncation."""
    return replace(problem, truncation=Truncation(kind, **k))


def state_of(problem: Problem, answer: Mapping[str, Array]) -> Named:
    """The states after the last step, as the initial states of what follows."""
    return {f"{name}0": answer[name][-1] for name in CELLS[problem.cell].states}


def excess(truth: Truth, key: str, got: Array) -> float:
    """The worst error ÷ budget of an array: 0/0 counts as 0, and a NaN is infinitely far off."""
    error, allowed = truth.error(key, np.asarray(got)), truth.allowed(key)
    with np.errstate(all="ignore"):
        ratio = np.where(error == 0, 0.0, error / allowed)
    return float(np.max(np.nan_to_num(ratio, nan=np.inf, posinf=np.inf), initial=0.0))


def last_step(
    cell: str, params: Named, x: Array, y: Array, *, activation: str | None = "tanh", **start: Array
) -> tuple[Problem, Named, float]:
    """The mean over the batch of |o_T - y|^2, at the last step only, as a cotangent: x (T,B,D), y (B,K).

    Returns the problem, the trainer's answer to it, and the value of that cost: the answer's `loss` is the cotangent's.
    """
    B, K = y.shape
    g = np.zeros((len(x), B, K))
    problem = pose(cell, params, x, Loss("cotangent", g=g), activation=activation, **start)
    off = gradients(problem)["o"][-1] - y
    g[-1] = 2 * off / B
    problem = replace(problem, loss=Loss("cotangent", g=g))
    return problem, gradients(problem), float(np.sum(off**2) / B)
