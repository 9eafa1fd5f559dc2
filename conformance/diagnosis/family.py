"""Generic problems of one configuration: the failing problem's names and flags, other sizes, normal data.

A shrunk problem is the wrong place to tell mistakes apart: with one unit and weights of one too many of them coincide.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.strategies import probabilities, to_dtype

SIZES = ((7, 3, 4, 5, 3), (7, 3, 4, 5, 3), (9, 2, 3, 4, 5), (6, 4, 5, 3, 2))
"""T, B, D, H, K. The first two are alike, for what outlives a call."""


def alike(
    like: Problem,
    sizes: tuple[int, int, int, int, int],
    seed: int,
    support: Support,
    *,
    scale: float = 1.0,
    loud: float = 1.0,
    zeros: float = 0.0,
    same_truncation: bool = False,
    dtype: str | None = None,
    keep_lengths: bool = False,
) -> Problem:
    """A problem of the same configuration and given sizes; `zeros` is the share of entries that are exactly 0.

    `loud` multiplies cotangents and targets alone.

    >>> from properties.strategies import offered
    >>> w = {"W_xh": np.ones((1, 1)), "W_hh": np.ones((1, 1)), "b_h": np.ones(1)}
    >>> p = Problem("elman", w, np.ones((1, 1, 1)), Loss("cotangent", g=np.ones((1, 1, 1))), activation="tanh")
    >>> alike(p, (7, 3, 4, 5, 3), 0, Support()).x.shape
    (7, 3, 4)
    """
    dtype = like.dtype if dtype is None else dtype
    T, B, D, H, K = (min(n, support.max_size.get(name, n)) for n, name in zip(sizes, "TBDHK", strict=True))
    K = K if like.readout == "linear" else H
    if like.readout == "none" and support.max_size.get("K", H) < H:
        H = K = support.max_size["K"]
    if like.loss.kind == "cross_entropy":
        K = max(K, 2) if like.readout == "linear" else K
    rng = np.random.default_rng([seed, T, B, D, H, K])

    def normal(*shape: int, spread: float = 1.0) -> NDArray[Any]:
        values = rng.normal(size=shape) * spread * scale
        drop = rng.random(size=shape) < zeros
        return to_dtype(np.where(drop, 0.0, values), dtype)

    params = {}
    for name, shape in like.spec.shapes(D, H).items():
        if name in ("W_hh", "W_h"):
            W = rng.normal(size=shape)
            for j in range(0, shape[1], H):
                W[:, j : j + H] *= 0.9 / max(float(np.linalg.norm(W[:, j : j + H], 2)), 1e-3)
            W *= min(scale, 2.0)
            params[name] = to_dtype(np.where(rng.random(size=shape) < zeros, 0.0, W), dtype)
        else:
            params[name] = normal(*shape, spread=D**-0.5 if len(shape) == 2 else 0.5)
    if like.readout == "linear":
        params |= {"W_hy": normal(H, K, spread=H**-0.5), "b_y": normal(K, spread=0.5)}
    given = like.h0 is not None
    h0 = normal(B, H) if given else None
    c0 = normal(B, H) if given and "c" in like.spec.states else None
    x = normal(T, B, D)
    lengths = None
    if like.lengths is not None:
        lengths = _lengths(rng, T, B, like, keep_lengths, one_short=seed % 3 == 0)
    return Problem(
        cell=like.cell,
        activation=like.activation,
        readout=like.readout,
        params=params,
        x=x,
        h0=h0,
        c0=c0,
        lengths=lengths,
        loss=_loss(rng, like, (T, B, H, K), dtype, lambda *shape: normal(*shape, spread=loud)),
        truncation=like.truncation if same_truncation else _truncation(like, T, seed),
        dtype=dtype,
    )


def _lengths(
    rng: np.random.Generator, T: int, B: int, like: Problem, keep: bool, *, one_short: bool
) -> NDArray[np.int64]:
    assert like.lengths is not None
    if keep and B == like.B and T == like.T:
        return like.lengths
    empty = bool((like.lengths == 0).any())
    choices = rng.integers(0 if empty else 1, T, B) if T > 1 else np.full(B, 0 if empty else 1)
    choices[0] = T
    if B > 1:
        choices[1] = 0 if empty else max(1, T // 2)
    elif empty:
        choices[0] = 0
    if B > 3 and empty:
        choices[3] = 0  # so that the rows with steps are not B - 1
    if B > 2 and one_short:
        choices[2] = max(T - 1, 1)  # within the last block, yet not at its end
    return np.asarray(np.minimum(choices, T), dtype=np.int64)


def _loss(rng: np.random.Generator, like: Problem, sizes: tuple[int, int, int, int], dtype: str, normal: Any) -> Loss:
    T, B, H, K = sizes
    loss = like.loss
    if loss.kind == "cotangent":
        g = normal(T, B, K)
        assert loss.g is not None
        if like.T > 1 and not loss.g[:-1].any() and loss.g[-1].any():
            g[:-1] = 0
        finals = {n: normal(B, H) for n in ("g_h_final", "g_c_final") if getattr(loss, n) is not None}
        return Loss("cotangent", g=g, **finals)
    if loss.kind == "squared_error":
        return replace(loss, target=normal(T, B, K))
    assert loss.target is not None
    labels: Any = rng.integers(0, K, (T, B))
    return replace(loss, target=labels if loss.target.ndim == 2 else probabilities(rng, (T, B, K), dtype))


def _truncation(like: Problem, T: int, seed: int) -> Truncation:
    """Parameters that are short beside T and different each time, or beyond T where the failing case has them so."""
    given = like.truncation
    if given.kind in ("window", "chunk"):
        assert given.k is not None
        beyond = given.k >= like.T + 2 and seed % 4 < 3
        return Truncation(given.kind, k=T + 2 + seed % 2 if beyond else min(2 + seed % 3, max(1, T - 1)))
    if given.kind == "periodic":
        k1 = 2 + seed % 2
        return Truncation("periodic", k1=k1, k2=k1 + 1 + (seed // 2) % 2)
    return given
