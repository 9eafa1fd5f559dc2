"""Where problems come from: a recipe of some thirty small integers, drawn by Hypothesis, from which a problem is built.

Sizes, names and for each array a kind and a seed are drawn; the entries come from the seed. So a draw costs the same
at one unit and at sixty-five, and a smaller T, B, D, H or a simpler kind leaves the rest of the recipe alone: shrinking
goes straight towards T = B = D = H = 1 and arrays of zeros and ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replace_shape
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.problem import DTYPES, NARROW, Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from properties.recipe import Draw, Recipe

Array = NDArray[Any]

# Kinds of entries, simplest first, each with its share of the draws in percent. Readouts have few extremes: a softmax
# that is saturated leaves nothing to judge.
KINDS = (("ones", 3), ("zeros", 3), ("bits", 7), ("quarters", 14), ("normal", 58), ("corners", 9), ("spread", 6))
CLASS_KINDS = (("bits", 5), ("quarters", 15), ("normal", 80))
"""A readout in front of a softmax: with equal columns nothing flows back."""
READOUT_KINDS = (("ones", 3), ("zeros", 3), ("bits", 7), ("quarters", 14), ("normal", 73))
TARGET_KINDS = (KINDS[1], KINDS[0], *KINDS[2:])
"""Targets of a squared error: ones are where a gated unit of ones already is, and then next to nothing flows back."""
WEIGHT_KINDS = (
    ("ones", 1),
    ("zeros", 2),
    ("bits", 5),
    ("quarters", 12),
    ("scaled", 62),
    ("orthogonal", 8),
    ("non-normal", 10),
)
CALM_CLASS_KINDS = (("quarters", 8), ("normal", 92))
CALM_TARGET_KINDS = (("zeros", 2), ("bits", 3), ("quarters", 15), ("normal", 80))
CALM_WEIGHT_KINDS = (("ones", 1), ("quarters", 12), ("scaled", 70), ("orthogonal", 9), ("non-normal", 8))
SPECTRAL_NORMS = (1.0, 0.9, 0.5, 0.7, 0.95, 0.1, 0.3, 1.1, 1.5, 2.0, 3.0)
CALM_KINDS = (("ones", 2), ("bits", 3), ("quarters", 15), ("normal", 80))
CALM_STATE_KINDS = (("quarters", 8), ("scaled", 75), ("orthogonal", 9), ("non-normal", 8))
"""Recurrent weights of states that go into a softmax themselves: there, too, equal columns cancel what flows back."""
CALM_NORMS = (1.0, 0.9, 0.5, 0.7, 0.95, 0.3, 1.1)
SHORT = 10
"""Steps up to which weights may expand (norms above 1.1): beyond, float32 often has no tube."""
EDGES = (16, 17, 32, 33, 64, 65)
NARROW_LARGEST = (6, 3, 3, 4, 4)
"""T, B, D, H, K in float16 and bfloat16, where no edge is drawn: larger problems' budgets seldom say much there."""
MAX_WORK = 120_000
"""T B H^2 of a drawn problem: what one judgement may cost."""


@dataclass(frozen=True)
class Shape:
    """What a property lets the strategy vary; a property narrows it with `dataclasses.replace`."""

    readouts: tuple[str, ...]
    losses: tuple[str, ...]
    reductions: tuple[str, ...]
    truncations: tuple[str, ...]
    activations: tuple[str | None, ...]
    lengths: bool
    finals: bool
    h0_none: bool
    largest: tuple[int, int, int, int, int] = (24, 4, 5, 6, 5)  # T, B, D, H, K where no edge is drawn
    edges: bool = True
    work: int = MAX_WORK
    calm: bool = False  # no zeros, extremes or expanding weights: where a budget is small beside its array


def offered(support: Support, cell: str) -> Shape:
    """Everything that a target offers for a cell."""
    spec = CELLS[cell]
    truncations = tuple(t for t in support.truncations if t in spec.truncations)
    activations: tuple[str | None, ...] = tuple(a for a in spec.activations if a in support.activations) or (None,)
    return Shape(
        readouts=support.readouts,
        losses=support.losses,
        reductions=support.reductions,
        truncations=truncations,
        activations=activations,
        lengths=support.lengths,
        finals=support.final_cotangents,
        h0_none=support.h0_none,
    )


def nothing_offered(support: Support, cell: str) -> str | None:
    """What a target leaves no choice of, in words, or None if there is at least one problem that it offers to solve."""
    shape = offered(support, cell)
    lists = {"readouts": shape.readouts, "losses": shape.losses, "truncations": shape.truncations}
    if set(shape.losses) - {"cotangent"}:
        lists["reductions"] = shape.reductions
    empty = [name for name, choices in lists.items() if not choices]
    if CELLS[cell].activations and shape.activations == (None,):
        empty.append("activations")
    return f"offers none of the {', '.join(empty)} of {cell}" if empty else None


def entries(kind: str, seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    """An array of a kind, in the dtype (bfloat16: float32 that holds bfloat16 values)."""
    rng = np.random.default_rng(seed)
    if kind == "ones":
        out = np.ones(shape)
    elif kind == "zeros":
        out = np.zeros(shape)
    elif kind == "bits":
        out = rng.integers(0, 2, shape).astype(np.float64)
    elif kind == "quarters":
        out = rng.integers(-8, 9, shape) / 4.0
    elif kind == "spread":
        out = rng.normal(size=shape) * 2.0 ** rng.integers(-40 if dtype == "float64" else -12, 4, shape)
    else:
        out = rng.normal(size=shape)
        if kind == "corners":
            info = np.finfo(DTYPES[dtype])
            specials = np.array(
                [0.0, -0.0, 1.0, -1.0, float(info.smallest_subnormal), float(info.tiny), 8.0, -30.0, 1e-3]
            )
            at = rng.random(shape) < 0.3
            out = np.where(at, rng.choice(specials, shape), out)
    return to_dtype(out, dtype)


def to_dtype(values: Array, dtype: str) -> Array:
    """Round to a dtype; for bfloat16 to float32 with the lower half of the bits cleared."""
    out = np.asarray(values, dtype=np.float64).astype(DTYPES[dtype])
    if dtype == "bfloat16":
        out = (out.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return out


def recurrent(kind: str, seed: int, H: int, columns: int, norm: float, dtype: str) -> Array:
    """A recurrent weight matrix (H, columns); `scaled` has about the given spectral norm a block of H columns."""
    if kind in ("ones", "zeros", "bits", "quarters"):
        W = entries(kind, seed, (H, columns), dtype)
        size = max(float(np.linalg.norm(W[:, j : j + H].astype(np.float64), 2)) for j in range(0, columns, H))
        return W if size <= norm or H == 1 else W * DTYPES[dtype].type(2.0 ** np.floor(np.log2(norm / size)))
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(columns // H):
        W = rng.normal(size=(H, H))
        if kind == "orthogonal":
            W = np.linalg.qr(W)[0]
        elif kind == "non-normal":
            W = np.triu(W)
        size = float(np.linalg.norm(W, 2))
        blocks.append(W if kind == "orthogonal" or size == 0 else W * (norm / size))
    return to_dtype(np.concatenate(blocks, axis=1), dtype)


def _size(draw: Draw, low_max: int, edges: bool, limit: int) -> int:
    """A size, or once in sixteen an edge. All three integers are always drawn: a shrink leaves the others in place."""
    reachable = tuple(e for e in EDGES if e <= limit) or (1,)
    small, at_edge, edge = draw.integer(1, min(low_max, limit)), draw.flag(16), draw.of(reachable)
    return edge if edges and at_edge else small


def _narrowed(draw: Draw, shape: Shape) -> Shape:
    """A shape for a format of few bits: smaller, and three times in four without edges and extremes."""
    T, B, D, H, K = map(min, shape.largest, NARROW_LARGEST)
    wild = draw.flag(4)
    return replace_shape(shape, largest=(T, B, D, H, K), edges=shape.edges and wild, calm=shape.calm or not wild)


def draw_problem(draw: Draw, shape: Shape, support: Support, cell: str, dtype: str) -> Problem:
    """One problem within a shape and a target's largest sizes."""
    if dtype in NARROW:
        shape = _narrowed(draw, shape)
    limit = {name: support.max_size.get(name, 1 << 20) for name in "TBDHK"}
    T, B, D, H, K = (
        _size(draw, most, shape.edges, limit[name]) for name, most in zip("TBDHK", shape.largest, strict=True)
    )
    while shape.work < T * B * H * H and max(T, B, H) > 8:
        T, B, H = (max(1, T * 2 // 3), max(1, B - 1), H) if T >= H else (T, B, max(1, H * 2 // 3))
    activation = draw.of(shape.activations)
    readout = draw.of(shape.readouts)
    classes = limit["K"] if readout == "linear" else min(limit["H"], limit["K"])
    losses = [kind for kind in shape.losses if kind != "cross_entropy" or classes > 1]
    loss_kind = draw.of(losses or shape.losses)
    if loss_kind == "cross_entropy" and classes > 1:  # with one class every gradient is zero
        K, H = max(K, 2), H if readout == "linear" else max(H, 2)
    K = K if readout == "linear" else H
    if readout == "none" and limit["K"] < H:
        H = K = limit["K"]

    def array(*dimensions: int, scale: float = 1.0, kinds: tuple[tuple[str, int], ...] = KINDS) -> Array:
        if shape.calm:
            kinds = {CLASS_KINDS: CALM_CLASS_KINDS, TARGET_KINDS: CALM_TARGET_KINDS}.get(kinds, CALM_KINDS)
        kind, seed = draw.named(kinds), draw.seed()
        values = entries(kind, seed, dimensions, dtype)
        return to_dtype(values * DTYPES[dtype].type(scale), dtype) if scale != 1.0 and kind == "normal" else values

    to_softmax = loss_kind == "cross_entropy" and readout == "none"
    recurrent_kinds = (CALM_STATE_KINDS if to_softmax else CALM_WEIGHT_KINDS) if shape.calm else WEIGHT_KINDS
    norm = draw.of(CALM_NORMS if shape.calm else SPECTRAL_NORMS)
    norm = norm if T <= SHORT else min(norm, 1.1)
    params = {}
    for name, dimensions in CELLS[cell].shapes(D, H).items():
        if name in ("W_hh", "W_h"):
            kind, seed = draw.named(recurrent_kinds), draw.seed()
            params[name] = recurrent(kind, seed, H, dimensions[1], norm, dtype)
        else:
            kinds = CLASS_KINDS if shape.calm and to_softmax else KINDS
            params[name] = array(*dimensions, scale=D**-0.5 if len(dimensions) == 2 else 0.5, kinds=kinds)
    if readout == "linear":
        params |= {
            "W_hy": array(H, K, scale=H**-0.5, kinds=CLASS_KINDS if loss_kind == "cross_entropy" else READOUT_KINDS),
            "b_y": array(K, scale=0.5, kinds=READOUT_KINDS),
        }
    initial: dict[str, Array | None] = {f"{state}0": array(B, H) for state in CELLS[cell].states}
    if shape.h0_none and draw.flag(4):
        initial = dict.fromkeys(initial)
    x = array(T, B, D)
    lengths = None
    if shape.lengths:
        unequal, seed, positive = draw.flag(4), draw.seed(), draw.flag()
        if unequal:
            lengths = np.maximum(np.random.default_rng(seed).integers(0, T + 1, B), int(positive))
    return Problem(
        cell=cell,
        activation=activation,
        readout=readout,
        params=params,
        x=x,
        h0=initial["h0"],
        c0=initial.get("c0"),
        lengths=lengths,
        loss=_loss(draw, loss_kind, shape, array, (T, B, H, K), CELLS[cell].states, dtype),
        truncation=_truncation(draw, shape, T),
        dtype=dtype,
    )


def _loss(
    draw: Draw,
    kind: str,
    shape: Shape,
    array: Callable[..., Array],
    sizes: tuple[int, int, int, int],
    states: tuple[str, ...],
    dtype: str,
) -> Loss:
    T, B, H, K = sizes
    if kind == "cotangent":
        g = array(T, B, K)
        only_last = draw.flag(5)
        if only_last:  # a loss on the last step alone: what truncation hides from
            g[:-1] = 0
        ends = {f"g_{s}_final": array(B, H) for s in states} if shape.finals else {}
        finals = {name: end for name, end in ends.items() if draw.flag()}  # each alone, too
        return Loss("cotangent", g=g, **finals)  # type: ignore[arg-type]
    time = draw.of(shape.reductions)
    batch = "tokens" if time == "tokens" else draw.of([r for r in shape.reductions if r != "tokens"] or ["sum"])
    if kind == "squared_error":
        scale = draw.of([1.0, 0.5])
        return Loss(
            kind, target=array(T, B, K, kinds=TARGET_KINDS), scale=scale, time_reduction=time, batch_reduction=batch
        )
    seed = draw.seed()
    rng = np.random.default_rng(seed)
    target: Array = rng.integers(0, K, (T, B))
    if draw.flag():
        target = probabilities(rng, (T, B, K), dtype)
    return Loss(kind, target=target, time_reduction=time, batch_reduction=batch)


def probabilities(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Rows of probabilities that are exact in every dtype: multiples of 1/64 that sum to 1."""
    cuts = np.sort(rng.integers(0, 65, (*shape[:-1], shape[-1] - 1)), axis=-1)
    full = np.concatenate([np.zeros((*shape[:-1], 1)), cuts, np.full((*shape[:-1], 1), 64)], axis=-1)
    return to_dtype(np.diff(full, axis=-1) / 64.0, dtype)


def _truncation(draw: Draw, shape: Shape, T: int) -> Truncation:
    kind = draw.of(shape.truncations)
    k, more = draw.integer(1, max(1, min(T, 8))), draw.integer(0, 4)
    if kind in ("window", "chunk"):
        return Truncation(kind, k=k)
    return Truncation(kind, k1=k, k2=k + more) if kind == "periodic" else Truncation(kind)


def problems(support: Support, cell: str, dtype: str, narrow: Shape | None = None) -> SearchStrategy[Problem]:
    """Problems that a target offers to solve, over everything it offers unless narrowed."""
    shape = narrow or offered(support, cell)

    return Recipe(lambda draw: draw_problem(draw, shape, support, cell, dtype))


__all__ = [
    "Shape",
    "draw_problem",
    "entries",
    "nothing_offered",
    "offered",
    "probabilities",
    "problems",
    "recurrent",
    "replace_shape",
    "to_dtype",
]
