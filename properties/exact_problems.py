"""exact-problems: where no rounding can occur, every bit is right; the budget is 0 and the truth integer arithmetic.

The problems are Elman networks with identity or relu on small dyadic numbers. Their W_hh is a signed permutation, a
Hadamard matrix scaled to be orthogonal, or sparse and integer, so that sums of absolute terms fit the significand:
every conventional order and algebra then gives the same bits. `oracle.exact` proves that of each problem before the
target sees it. So there is something to say where budgets are silent: at kinks (relu'(0) = 0), on terms from 10,000
steps away, on one step too many or too few.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import SIGNIFICAND, Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from oracle.exact import Exact
from properties.base import Bench, Case, Comparison, Judgement, Property, Term, active_mask
from properties.compare import worst_entry
from properties.recipe import Draw, Recipe
from properties.strategies import EDGES, Array, Shape, entries, offered, replace_shape, to_dtype

LOSSES = ("cotangent", "squared_error")
KINDS = (("ones", 4), ("zeros", 3), ("bits", 18), ("signs", 25), ("thin", 25), ("quarters", 25))
WEIGHTS = (("eye", 5), ("permutation", 50), ("hadamard", 20), ("integers", 25))
LARGEST = (24, 4, 4, 6, 4)  # T, B, D, H, K where no edge is drawn
MAX_WORK = 1_000_000
"""T B H^2 of a drawn problem."""
TAMED = ((1 << 20, False), (1 << 20, True), (12, True), (5, True), (2, True))
"""(largest T, whether all data are thin) of a recipe's problems: the first that is exact is taken."""
LONG, FAR, DIAGONALS = 10_000, 1_000, 300
CROWDED = ((16, 65, 2, 33), (17, 64, 3, 32), (32, 33, 1, 65), (33, 32, 2, 64), (64, 17, 2, 16), (65, 16, 1, 17))
"""T, B, D, H of the fixed problems at the edges of vectors and tiles."""


class ExactProblems(Property):
    """got = exact, entry by entry; -0 equals 0."""

    id = "exact-problems"
    statement = "On exact problems every bit is right."
    source = "Sums whose absolute terms fit the significand are exact in any order; the proof is in oracle/exact.py."
    needs = "activation identity or relu, loss cotangent or squared_error"

    def concerns(self, cell: str) -> bool:
        return cell == "elman"

    def unsupported(self, support: Support, cell: str) -> str | None:
        shape = exact_shape(support)
        return None if shape.activations and shape.losses and shape.truncations else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        return Recipe(lambda draw: Case(draw_exact(draw, support, dtype) or hypothesis.reject()))

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        made, arithmetic = fixed_problems(support, dtype), narrowest(support, dtype)
        return [Case(problem) for problem in made if refused(problem, arithmetic) is None]

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        if refused(problem, narrowest(bench.support, problem.dtype)) is not None:  # a fixed case, cut while shrinking
            return Judgement(())
        answer, solution = bench.run(problem), integers(problem).solution()
        out: list[Comparison] = []
        for key, got in answer.items():
            want = solution[key].floats()
            with np.errstate(all="ignore"):
                error = np.abs(got - want).astype(np.float64)
            judged = active_mask(problem, key, got.shape)
            worst, where = worst_entry(key, got, want, error, np.zeros_like(want), True, judged)
            out.append(replace(worst, terms=(Term(1.0, problem, key, where),)))
        return Judgement(tuple(out))


def exact_shape(support: Support) -> Shape:
    """What a target offers of these problems."""
    shape = offered(support, "elman")
    return replace_shape(
        shape,
        activations=tuple(name for name in shape.activations if name in ("identity", "relu")),
        losses=tuple(name for name in shape.losses if name in LOSSES),
    )


def narrowest(support: Support, dtype: str) -> str:
    """The format in which nothing may be rounded: the problem's or the one a target accumulates in."""
    return min(dtype, support.accumulate or dtype, key=lambda name: SIGNIFICAND[name])


@functools.lru_cache(maxsize=64)
def integers(problem: Problem) -> Exact:
    """A problem in integers, remembered from its draw to its check."""
    return Exact(problem)


@functools.lru_cache(maxsize=64)
def refused(problem: Problem, arithmetic: str) -> str | None:
    """Why a problem is not exact in a format, or None; remembered likewise."""
    return integers(problem).reason(arithmetic)


def data(kind: str, seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Small dyadic numbers; `thin` ones are -1, 0 and 1, of many about three quarters 0."""
    rng = np.random.default_rng(seed)
    if kind == "signs":
        return to_dtype(2.0 * rng.integers(0, 2, shape) - 1, dtype)
    if kind == "thin":
        share = max(0.25, 2.0 / math.prod(shape))
        return to_dtype(rng.choice([-1.0, 1.0], shape) * (rng.random(shape) < share), dtype)
    return entries(kind, seed, shape, dtype)


def recurrent_weights(kind: str, seed: int, H: int, dtype: str) -> Array:
    """W_hh (H,H) of a kind; a Hadamard matrix needs a power of 4 (elsewhere it is a signed permutation).

    Products of Hadamard matrices of order 4 by signed permutations form a finite group, hence so do the powers of
    their Kronecker products: no power of W_hh needs more bits than the first few.
    """
    rng = np.random.default_rng(seed)

    def signed(n: int) -> Array:
        return np.asarray(np.eye(n)[rng.permutation(n)] * rng.choice([-1.0, 1.0], n))

    W: Array = np.eye(H)
    if kind == "eye":
        pass
    elif kind == "integers":
        W = rng.integers(-2, 3, (H, H)) * (rng.random((H, H)) < 1.5 / H)
    elif kind == "hadamard" and H in (4, 16, 64):
        half = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
        W = np.ones((1, 1))
        while len(W) < H:
            W = np.kron(W, signed(4) @ half @ signed(4))
    else:
        W = signed(H)
    return to_dtype(W, dtype)


def _sizes(draw: Draw, support: Support) -> list[int]:
    """T, B, D, H, K within a target's largest, each once in eight an edge."""
    out = []
    for name, most in zip("TBDHK", LARGEST, strict=True):
        limit = support.max_size.get(name, 1 << 20)
        small, at_edge, edge = draw.integer(1, min(most, limit)), draw.flag(8), draw.of(EDGES)
        out.append(edge if at_edge and edge <= limit else small)
    return out


def draw_exact(draw: Draw, support: Support, dtype: str) -> Problem | None:
    """One exact problem: as drawn, or tamed until it is exact; None if it never is."""
    shape = exact_shape(support)
    T, B, D, H, K = _sizes(draw, support)
    while MAX_WORK < T * B * H * H and max(T, B) > 4:
        T, B = (T * 2 // 3, B) if T >= B else (T, B * 2 // 3)
    activation, readout, kind = draw.of(shape.activations), draw.of(shape.readouts), draw.of(shape.losses)
    reductions = shape.reductions or ("sum",)
    time, scale = draw.of(reductions), draw.of([1.0, 0.5])
    batch = draw.of([name for name in reductions if name != "tokens"] or ["tokens"])
    batch = "tokens" if time == "tokens" else batch
    time, batch = (time, batch) if kind == "squared_error" else ("sum", "sum")
    cut = _truncation(draw, shape, T)
    weights = draw.named(WEIGHTS), draw.seed()
    kinds = {name: (draw.named(KINDS), draw.seed()) for name in ("W_xh", "b_h", "W_hy", "b_y", "x", "h0", "g", "end")}
    none, end, padded, rows = draw.flag(4), draw.flag(), draw.flag(3), draw.seed()
    H = H if readout == "linear" else min(H, support.max_size.get("K", H))
    if weights[0] == "hadamard" and H >= 4:
        H = 4 ** ((H.bit_length() - 1) // 2)
    K = K if readout == "linear" else H
    if batch == "mean" or (batch == "tokens" and not (shape.lengths and padded)):
        B = _power_of_two(B)

    def build(T: int, *, thin: bool) -> Problem:
        def array(name: str, *dimensions: int) -> Array:
            drawn, seed = kinds[name]
            return data("thin" if thin and drawn != "zeros" else drawn, seed, dimensions, dtype)

        if time == "mean" or (time == "tokens" and not (shape.lengths and padded)):
            T = _power_of_two(T)
        params = {"W_xh": array("W_xh", D, H), "W_hh": recurrent_weights(*weights, H, dtype), "b_h": array("b_h", H)}
        if readout == "linear":
            params |= {"W_hy": array("W_hy", H, K), "b_y": array("b_y", K)}
        if kind == "cotangent":
            loss = Loss(kind, g=array("g", T, B, K), g_h_final=array("end", B, H) if shape.finals and end else None)
        else:
            loss = Loss(kind, None, None, None, array("g", T, B, K), scale, time, batch)
        lengths = _lengths(rows, T, B, time) if shape.lengths and padded else None
        h0 = None if shape.h0_none and none else array("h0", B, H)
        x = array("x", T, B, D)
        return Problem("elman", params, x, loss, h0, None, activation, readout, lengths, cut, dtype)

    for longest, thin in TAMED:
        problem = build(min(T, longest), thin=thin)
        if refused(problem, narrowest(support, dtype)) is None:
            return problem
    return None


def _truncation(draw: Draw, shape: Shape, T: int) -> Truncation:
    """Any offered, of a few steps or of about T."""
    kind, few, more, far = draw.of(shape.truncations), draw.integer(1, 8), draw.integer(0, 4), draw.flag(6)
    k = max(1, T - 1 + more % 3) if far else few
    if kind in ("window", "chunk"):
        return Truncation(kind, k=k)
    return Truncation(kind, k1=k, k2=k + more) if kind == "periodic" else Truncation(kind)


def _power_of_two(n: int) -> int:
    """The largest that is at most n; 0 for 0."""
    return 1 << (n.bit_length() - 1) if n else 0


def _lengths(seed: int, T: int, B: int, time: str) -> Array:
    """Row lengths, 0 among them; powers of two, or of such a sum, where the loss is a mean over them."""
    lengths = np.random.default_rng(seed).integers(0, T + 1, B)
    if time == "mean":
        lengths = np.array([_power_of_two(n) for n in lengths.tolist()])
    excess = int(lengths.sum()) - _power_of_two(int(lengths.sum())) if time == "tokens" else 0
    for b in range(B):
        cut = min(excess, int(lengths[b]))
        lengths[b], excess = lengths[b] - cut, excess - cut
    return lengths


def fixed_problems(support: Support, dtype: str) -> Iterator[Problem]:
    """The problems of every certificate, as far as a target offers them: long, far, diagonal, crowded."""
    shape, bits = exact_shape(support), SIGNIFICAND[narrowest(support, dtype)]
    limit = {name: support.max_size.get(name, LONG) for name in "TBDHK"}
    rng = np.random.default_rng(0)

    T, B, H = min(LONG, limit["T"]), min(2, limit["B"]), min(4, limit["H"], limit["K"])
    x, g = np.zeros((T, B, 1)), np.zeros((T, B, H))
    x[::97], g[[0, T // 2, max(0, T - 2)]] = 1, rng.integers(-1, 2, (3, B, H))
    x[-1], g[-1] = 1, 1
    turn = recurrent_weights("permutation", 1, H, dtype)
    yield from _network(support, dtype, shape.activations[-1], turn, x, g, _whole(shape, T))

    T, H = min(FAR, limit["T"]), min(16, limit["H"], limit["K"])
    for activation in shape.activations:  # a loss at the last step, an input at the first: norms are preserved
        W = recurrent_weights("hadamard" if activation == "identity" else "permutation", 2, H, dtype)
        W = W if activation == "identity" else abs(W)  # so that every unit of a relu stays active
        x, g = np.zeros((T, 1, 1)), np.zeros((T, 1, H))
        x[0], g[-1] = 1, rng.choice([-1.0, 1.0], (1, H))
        yield from _network(support, dtype, activation, W, x, g, _whole(shape, T))

    T, H = min(DIAGONALS if bits >= 24 else 12, limit["T"]), len(turn)
    spread = bits - 11 if bits >= 24 else bits // 3
    x, g = np.zeros((T, 1, 1)), np.zeros((T, 1, H))
    x[0], g[:, 0, 0] = 1, 2.0 ** (np.arange(T) % spread)  # each loss has a bit of its own in dx
    for cut in (Truncation("window", k=5), Truncation("chunk", k=7), Truncation("periodic", k1=3, k2=7)):
        if cut.kind in shape.truncations:
            yield from _network(support, dtype, shape.activations[-1], abs(turn), x, g, cut)

    names = zip(*(itertools.cycle(n) for n in (shape.activations, shape.truncations)), strict=True)
    for seed, ((T, B, D, H), (activation, kind)) in enumerate(zip(CROWDED, names, strict=False)):
        blocks = {"k1": 15, "k2": 17} if kind == "periodic" else {"k": 16}
        cut = Truncation(kind, **blocks) if kind != "full" else Truncation(kind)
        W = recurrent_weights("permutation", seed, H, dtype)
        x, g = data("thin", seed, (T, B, D), dtype), abs(data("thin", seed + 100, (T, B, H), dtype))
        yield from _network(support, dtype, activation, abs(W) if activation == "relu" else W, x, g, cut)


def _whole(shape: Shape, T: int) -> Truncation | None:
    """A truncation that is none over T steps, and that costs no more."""
    whole = (Truncation("full"), Truncation("chunk", k=T), Truncation("periodic", k1=T, k2=T))
    return next((cut for cut in whole if cut.kind in shape.truncations), None)


def _network(
    support: Support, dtype: str, activation: str | None, W_hh: Array, x: Array, g: Array, cut: Truncation | None
) -> Iterator[Problem]:
    """The problem with dL/do = g and weights of 1 and -1, if a target takes it. g is (T,B,H)."""
    shape, (T, B, D), H = exact_shape(support), x.shape, len(W_hh)
    sizes = {"T": T, "B": B, "D": D, "H": H, "K": H}
    if cut is None or any(size > support.max_size.get(name, size) for name, size in sizes.items()):
        return
    params = {"W_xh": data("ones", 0, (D, H), dtype), "W_hh": W_hh, "b_h": data("zeros", 0, (H,), dtype)}
    if shape.readouts[-1] == "linear":
        params |= {"W_hy": recurrent_weights("permutation", 3, H, dtype), "b_y": data("ones", 0, (H,), dtype)}
    h0, upstream = data("ones", 0, (B, H), dtype), to_dtype(g, dtype)
    readout = shape.readouts[-1]
    loss = Loss("cotangent", g=upstream)
    problem = Problem("elman", params, to_dtype(x, dtype), loss, h0, None, activation, readout, None, cut, dtype)
    if "cotangent" in shape.losses:
        yield problem
    elif "sum" in shape.reductions:
        target = to_dtype(integers(problem).o.floats() - g, dtype)
        yield replace(problem, loss=Loss("squared_error", target=target, scale=0.5))


PROPERTY = ExactProblems()
