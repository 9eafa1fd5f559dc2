"""Problems at the edges of kernels, in every certificate: T, H and B at and past vector, tile and window widths.

Generic on purpose: unequal odd sizes, every array random and non-zero, a loss at every step and on the final state.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.strategies import offered, probabilities, recurrent, to_dtype

SIZES = (  # T, B, D, H, K
    (1, 3, 2, 5, 3),
    (7, 3, 5, 3, 2),
    (17, 2, 3, 5, 4),
    (33, 3, 2, 4, 3),
    (65, 1, 2, 3, 2),
    (5, 2, 17, 33, 3),
    (4, 5, 3, 65, 17),
    (3, 17, 33, 4, 33),
)


def edge_problems(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """One problem a size; losses, truncations, activations, readouts and flags take turns over what is offered."""
    shape = offered(support, cell)
    turns = {
        name: itertools.cycle(getattr(shape, name)) for name in ("readouts", "losses", "truncations", "activations", "reductions")
    }
    for i, (T, B, D, H, K) in enumerate(SIZES):
        sizes = dict(zip("TBDHK", (T, B, D, H, K), strict=True))
        names = {name: next(turn) for name, turn in turns.items()}
        if names["readouts"] == "none":
            sizes["K"] = K = H
        if any(value > support.max_size.get(name, value) for name, value in sizes.items()):
            continue
        rng = np.random.default_rng(1000 + i)
        yield Problem(
            cell=cell,
            activation=names["activations"],
            readout=names["readouts"],
            params=_params(rng, cell, names["readouts"], (D, H, K), dtype),
            x=to_dtype(rng.normal(size=(T, B, D)), dtype),
            h0=to_dtype(rng.normal(size=(B, H)), dtype),
            c0=to_dtype(rng.normal(size=(B, H)), dtype) if "c" in CELLS[cell].states else None,
            lengths=rng.integers(T // 2, T + 1, B) if shape.lengths and i % 2 else None,
            loss=_loss(rng, names["losses"], names["reductions"], shape.finals, CELLS[cell].states, (T, B, H, K), dtype),
            truncation=_truncation(names["truncations"], max(1, T // 3)),
            dtype=dtype,
        )


def _truncation(kind: str, k: int) -> Truncation:
    if kind in ("window", "chunk"):
        return Truncation(kind, k=k)
    return Truncation(kind, k1=k, k2=k + 1) if kind == "periodic" else Truncation(kind)


def _params(rng: np.random.Generator, cell: str, readout: str, sizes: tuple[int, int, int], dtype: str) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    D, H, K = sizes
    out = {}
    for name, dimensions in CELLS[cell].shapes(D, H).items():
        if name in ("W_hh", "W_h"):
            out[name] = recurrent("scaled", int(rng.integers(1 << 30)), H, dimensions[1], 0.95, dtype)
        else:
            out[name] = to_dtype(rng.normal(size=dimensions) * (D**-0.5 if len(dimensions) == 2 else 0.5), dtype)
    if readout == "linear":
        out |= {"W_hy": to_dtype(rng.normal(size=(H, K)) * H**-0.5, dtype), "b_y": to_dtype(rng.normal(size=K), dtype)}
    return out


def _loss(
    rng: np.random.Generator,
    kind: str,
    reduction: str,
    finals: bool,
    states: tuple[str, ...],
    sizes: tuple[int, int, int, int],
    dtype: str,
) -> Loss:
    T, B, H, K = sizes
    if kind == "cotangent":
        ends = {f"g_{s}_final": to_dtype(rng.normal(size=(B, H)), dtype) for s in states} if finals else {}
        return Loss(kind, g=to_dtype(rng.normal(size=(T, B, K)), dtype), **ends)
    if kind == "squared_error":
        target = to_dtype(rng.normal(size=(T, B, K)), dtype)
        return Loss(kind, target=target, scale=0.5, time_reduction=reduction, batch_reduction=reduction)
    return Loss(kind, target=probabilities(rng, (T, B, K), dtype), time_reduction=reduction, batch_reduction=reduction)
