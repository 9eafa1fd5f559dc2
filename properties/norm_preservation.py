"""norm-preservation: with the identity and a signed permutation, every Jacobian product preserves norms exactly.

    h_t = x_t W_xh + h_{t-1} W_hh + b_h,  W_hh a signed permutation        (dh_t/dh_s)^T (dh_t/dh_s) = I

A product of such matrices permutes and flips entries, which no conventional arithmetic rounds: each sum has one term
that is not zero. So every bit is judged, however long the sequence. From outside, with one cotangent v on the last
state, whatever its entries:

    dh0 = v (W_hh^T)^length         dx_s = v (W_hh^T)^(length - s) W_xh^T, where W_xh is a signed permutation too
    h_t = h_0 W_hh^t                where x and b_h are zero
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.base import Bench, Case, Comparison, Judgement, Property, active_mask
from properties.compare import exactly
from properties.exact_problems import narrowest
from properties.pieces import claims
from properties.recipe import Draw, Recipe
from properties.strategies import Array, entries, to_dtype

LARGEST = {"T": 40, "B": 3, "D": 4, "H": 6}
LONG = (500, 2, 5, 5)
"""T, B, D, H of the fixed cases."""
KINDS = (("ones", 1), ("normal", 9))
NAMES = ("W_xh", "b_h", "W_hy", "b_y", "v", "x", "h0")
TINY = 2.0**-10
"""Entries below become 1: so none is subnormal, which a target that flushes would be right to lose."""


class NormPreservation(Property):
    """got = want, entry by entry: want is the cotangent, or the initial state, permuted and flipped."""

    id = "norm-preservation"
    statement = "With the identity and a signed permutation for W_hh every Jacobian product preserves norms exactly."
    source = "Orthogonal recurrent matrices preserve the norm of the error: Arjovsky, Shah and Bengio (2016)."
    needs = "activation identity, the loss cotangent, truncation full, and final cotangents or the readout none"

    def concerns(self, cell: str) -> bool:
        return cell == "elman"

    def unsupported(self, support: Support, cell: str) -> str | None:
        possible = (
            "identity" in support.activations
            and "cotangent" in support.losses
            and "full" in support.truncations
            and (support.final_cotangents or "none" in support.readouts)
            and claims(support, ("h", "dx", "dh0"))
        )
        return None if possible else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        def build(draw: Draw) -> Case:
            limit = {name: support.max_size.get(name, most) for name, most in LARGEST.items()}
            T, B, D, H = (draw.integer(1, min(most, limit[name])) for name, most in LARGEST.items())
            kind, square, still, padded = draw.named(KINDS), draw.flag(), draw.flag(), draw.flag(4)
            H = min(H, limit["D"]) if square else H
            seed, final = draw.seed(), draw.flag()
            sizes = (T, B, H if square else D, H)
            return Case(network(support, dtype, sizes, seed, kind=kind, still=still, padded=padded, final=final))

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        T, B, D, H = (min(most, support.max_size.get(name, most)) for name, most in zip("TBDH", LONG, strict=True))
        D = H = min(D, H, support.max_size.get("K", H))
        make = functools.partial(network, support, dtype, (T, B, D, H), 1, kind="normal", padded=False)
        return [Case(make(still=True, final=True)), Case(make(still=False, final=False))]

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        if not within_theorem(problem):  # a fixed case, cut while shrinking
            return Judgement(())
        answer = bench.run(problem)
        out: list[Comparison] = []
        for key, want in expected(problem).items():
            if key in answer:
                judged = active_mask(problem, key, want.shape)
                out.append(exactly(problem, key, answer[key], want, judged))
        return Judgement(tuple(out))


def signed_permutation(rng: np.random.Generator, H: int, dtype: str) -> Array:
    """H rows and columns, in each one entry of 1 or -1."""
    return to_dtype(np.eye(H)[rng.permutation(H)] * rng.choice([-1.0, 1.0], H), dtype)


def is_signed_permutation(W: Array) -> bool:
    """Whether each row and column has one entry that is not zero, and that is 1 or -1."""
    ones = np.abs(W) == 1
    alone = [(ones.sum(axis=axis) == 1).all() for axis in (0, 1)]
    return bool(W.shape[0] == W.shape[1] and ((W == 0) | ones).all() and all(alone))


def within_theorem(problem: Problem) -> bool:
    """Whether the problem has what the theorem asks for, one cotangent a row among it."""
    loss, end = problem.loss, problem.row_lengths - 1
    if problem.activation != "identity" or loss.g is None or problem.truncation.kind != "full":
        return False
    elsewhere = loss.g.copy()
    if problem.readout == "none" and loss.g_h_final is None:
        elsewhere[end, np.arange(problem.B)] = 0
    return is_signed_permutation(problem.params["W_hh"]) and not elsewhere.any()


def network(
    support: Support,
    dtype: str,
    sizes: tuple[int, int, int, int],
    seed: int,
    *,
    kind: str,
    still: bool,
    padded: bool,
    final: bool,
) -> Problem:
    """A problem of the theorem: one cotangent, on the last state; without inputs and bias where `still`."""
    T, B, D, H = sizes
    readout = "none" if "none" in support.readouts else "linear"
    H = min(H, support.max_size.get("K", H)) if readout == "none" else H
    rng = np.random.default_rng(seed)
    narrow = narrowest(support, dtype)

    def array(name: str, *shape: int, travels: bool = False) -> Array:
        """Entries; those that travel through the products fit what a target accumulates in, and are not subnormal."""
        found = entries(kind, seed + NAMES.index(name), shape, narrow if travels else dtype)
        return to_dtype(np.where(np.abs(found) < TINY, 1, found) if travels else found, dtype)

    def moving(name: str, *shape: int) -> Array:
        return entries("zeros", 0, shape, dtype) if still else array(name, *shape)

    params = {
        "W_xh": signed_permutation(rng, H, dtype) if D == H else array("W_xh", D, H),
        "W_hh": signed_permutation(rng, H, dtype),
        "b_h": moving("b_h", H),
    }
    K = H
    if readout == "linear":
        K = min(H, support.max_size.get("K", H))
        params |= {"W_hy": array("W_hy", H, K), "b_y": array("b_y", K)}
    lengths = rng.integers(0, T + 1, B) if padded and support.lengths else None
    v, g = array("v", B, H, travels=True), entries("zeros", 0, (T, B, K), dtype)
    ends: dict[str, Any] = {}
    if support.final_cotangents and (final or readout == "linear"):
        ends["g_h_final"] = v
    else:
        g[(T if lengths is None else lengths) - 1, np.arange(B)] = v  # of a row without steps, in its padding
    x, h0 = moving("x", T, B, D), array("h0", B, H, travels=True)
    loss = Loss("cotangent", g=g, **ends)
    return Problem("elman", params, x, loss, h0, None, "identity", readout, lengths, Truncation("full"), dtype)


def expected(problem: Problem) -> dict[str, Array]:
    """What each array is to the last bit, in float64: nothing here is rounded either.

    Shapes: dh0 (B,H); dx (T,B,D) where W_xh is a signed permutation; h (T,B,H) where x and b_h are zero.
    """
    W_xh, W_hh = (problem.params[name].astype(np.float64) for name in ("W_xh", "W_hh"))
    assert problem.h0 is not None and problem.loss.g is not None
    T, lengths = problem.T, problem.row_lengths
    final = problem.loss.g_h_final
    dh = np.zeros((problem.B, problem.H)) if final is None else final.astype(np.float64)
    dx = np.zeros((T, problem.B, problem.D))
    for s in range(T, 0, -1):
        live = (s <= lengths)[:, None]
        dh = np.where(live, dh + problem.loss.g[s - 1], dh)
        dx[s - 1] = np.where(live, dh @ W_xh.T, 0)
        dh = np.where(live, dh @ W_hh.T, dh)
    out: dict[str, Array] = {"dh0": dh}
    if is_signed_permutation(W_xh):
        out["dx"] = dx
    if not problem.x.any() and not problem.params["b_h"].any():
        h = [problem.h0.astype(np.float64)]
        for t in range(1, T + 1):
            h.append(np.where((t <= lengths)[:, None], h[-1] @ W_hh, h[-1]))
        out["h"] = np.stack(h[1:])
    return out


PROPERTY = NormPreservation()
