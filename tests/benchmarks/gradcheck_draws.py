"""The random problems of the comparison with gradcheck: what a user would write as a test, in every configuration.

Entries are normal; weights have a usual scale, recurrent ones the spectral norm 0.9 (a gate).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from properties.strategies import probabilities, recurrent

SPECTRAL_NORM = 0.9


@dataclass(frozen=True)
class Setup:
    """What a user might choose for a random test; sizes are T, B, D, H, K."""

    sizes: tuple[int, int, int, int, int] = (5, 2, 3, 4, 2)
    activation: str = "tanh"
    readout: str = "none"
    loss: str = "cotangent"
    reductions: tuple[str, str] = ("sum", "sum")
    scale: float = 1.0
    only_last: bool = False
    finals: bool = False
    lengths: bool = False
    h0_none: bool = False
    truncation: Truncation = field(default_factory=Truncation)
    dtype: str = "float64"


LARGE = (5, 3, 4, 5, 2)
LONG = (24, 1, 2, 3, 3)
EQUAL = (4, 2, 3, 3, 3)
WIDE = (3, 2, 6, 3, 9)
SMALL = (1, 1, 2, 3, 3)
DRAWS = (
    Setup(LARGE),
    Setup(activation="sigmoid", readout="linear", loss="squared_error", scale=0.5),
    Setup(activation="relu", readout="linear", loss="cross_entropy", reductions=("mean", "mean")),
    Setup(activation="identity", finals=True),
    Setup((6, 3, 2, 4, 3), readout="linear", loss="classes", reductions=("tokens", "tokens"), lengths=True),
    Setup((6, 3, 2, 4, 3), finals=True, lengths=True),
    Setup((6, 3, 2, 4, 3), "sigmoid", "linear", "squared_error", ("mean", "sum"), lengths=True),
    Setup(LONG),
    Setup(LONG, only_last=True),
    Setup(LONG, "relu", "linear", "squared_error", ("sum", "mean")),
    Setup(h0_none=True),
    Setup(truncation=Truncation("window", k=7)),
    Setup(EQUAL, readout="linear", finals=True),
    Setup(WIDE, readout="linear", loss="cross_entropy"),
    Setup(SMALL),
)
CUTS = (
    Truncation("window", k=2),
    Truncation("window", k=3),
    Truncation("chunk", k=3),
    Truncation("chunk", k=4),
    Truncation("periodic", k1=2, k2=3),
    Truncation("periodic", k1=3, k2=4),
    Truncation("cec"),
)
"""Truncations that cut: a correct gradient under them is not the gradient of the loss, and gradcheck fails it."""


def make(setup: Setup, cell: str, seed: int) -> Problem:
    """The problem of a setup and a seed."""
    T, B, D, H, K = setup.sizes
    rng = np.random.default_rng(seed)
    K = K if setup.readout == "linear" else H
    kind = np.float32 if setup.dtype == "float32" else np.float64

    def normal(*shape: int, scale: float = 1.0) -> Any:
        return (scale * rng.standard_normal(shape)).astype(kind)

    params = {}
    for name, shape in CELLS[cell].shapes(D, H).items():
        if name in ("W_hh", "W_h"):
            entropy = int(rng.integers(2**24))
            params[name] = recurrent("scaled", entropy, H, shape[1], SPECTRAL_NORM, setup.dtype)
        else:
            params[name] = normal(*shape, scale=D**-0.5 if len(shape) == 2 else 0.5)
    if setup.readout == "linear":
        params |= {"W_hy": normal(H, K, scale=H**-0.5), "b_y": normal(K, scale=0.5)}
    states = CELLS[cell].states
    initial = {s: None if setup.h0_none else normal(B, H, scale=0.5) for s in states}
    lengths = rng.permutation([T, *rng.integers(1, T, B - 1)]) if setup.lengths else None
    if setup.loss == "cotangent":
        g = normal(T, B, K)
        g[: T - 1 if setup.only_last else 0] = 0
        finals = {f"g_{s}_final": normal(B, H) for s in states} if setup.finals else {}
        loss = Loss("cotangent", g=g, **finals)
    else:
        over = dict(zip(("time_reduction", "batch_reduction"), setup.reductions, strict=True))
        if setup.loss == "squared_error":
            loss = Loss("squared_error", target=normal(T, B, K), scale=setup.scale, **over)
        else:
            classes = setup.loss == "classes"
            target = rng.integers(0, K, (T, B)) if classes else probabilities(rng, (T, B, K), setup.dtype)
            loss = Loss("cross_entropy", target=target, **over)
    return Problem(
        cell=cell,
        activation=setup.activation if CELLS[cell].activations else None,
        readout=setup.readout,
        params=params,
        x=normal(T, B, D),
        h0=initial["h"],
        c0=initial.get("c"),
        lengths=lengths,
        loss=loss,
        truncation=setup.truncation,
        dtype=setup.dtype,
    )
