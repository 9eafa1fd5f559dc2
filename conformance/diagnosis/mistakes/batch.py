"""Rows, saved states, final cotangents: sums over the batch, sorted rows, tiles of rows, rings, padding read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.mistakes.forward import run
from conformance.diagnosis.mistakes.path import twisted
from conformance.diagnosis.mistakes.terms import weighed
from conformance.diagnosis.tape import WIDE, Array, Arrays, Site, Tape

BATCH_AXIS = {"dh0": 0, "dc0": 0, "dx": 1, "h": 1, "c": 1, "o": 1}


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """What concerns the batch's rows, the states saved for the way back, and where the final cotangents go."""
    yield from _rows(problem)
    yield from _tiles()
    yield from _rings(problem)
    yield from _starts(problem)
    yield from _finals(problem)
    yield from _reset_bias(problem)


def by_row(f: Callable[[Base, Array, int], Array | None]) -> Callable[[Base], Arrays]:
    """A prediction: each array that has a batch axis, changed by itself."""

    def predict(base: Base) -> Arrays:
        found = {key: f(base, base.exact[key].copy(), axis) for key, axis in BATCH_AXIS.items() if key in base.exact}
        return {key: value for key, value in found.items() if value is not None}

    return predict


def _rows(problem: Problem) -> Iterator[Hypothesis]:
    def one(id_: str, words: str, f: Callable[[Base, Array, int], Array | None], order: int = 17) -> Hypothesis:
        return Hypothesis(id_, words, by_row(f), local=True, order=order)

    yield one(
        "batch-summed",
        "summed over the batch: every row holds the sum",
        lambda b, v, axis: np.broadcast_to(v.sum(axis=axis, keepdims=True), v.shape),
    )
    yield one(
        "batch-averaged",
        "averaged over the batch: every row holds the mean",
        lambda b, v, axis: np.broadcast_to(v.mean(axis=axis, keepdims=True), v.shape),
    )
    yield one(
        "batch-first-row",
        "that of the first row in every row",
        lambda b, v, axis: np.broadcast_to(np.take(v, [0], axis=axis), v.shape),
    )
    if problem.lengths is None:
        return
    for id_, words, order in (
        ("descending", "in the order of rows sorted by length, the longest first", lambda b: _sorted(b, -1)),
        ("ascending", "in the order of rows sorted by length, the shortest first", lambda b: _sorted(b, 1)),
        ("unsorted-twice", "put back by the wrong permutation of rows sorted by length", lambda b: _back(b, -1)),
    ):
        yield one(f"rows-{id_}", words, lambda b, v, axis, o=order: np.take(v, o(b), axis=axis), 18)
    yield Hypothesis(
        "dx-copied-into-padding",
        "in the padding dx repeats that of the row's last step, where it is zero",
        _dx_padding,
        local=True,
        order=13,
    )


def _sorted(base: Base, sign: int) -> Array:
    return np.argsort(sign * base.problem.row_lengths, kind="stable")


def _back(base: Base, sign: int) -> Array:
    return np.argsort(_sorted(base, sign), kind="stable")


def _dx_padding(base: Base) -> Arrays:
    dx = base.exact["dx"].copy()
    for b, length in enumerate(base.problem.row_lengths.tolist()):
        if length > 0:
            dx[length:, b] = dx[length - 1, b]
    return {"dx": dx}


# ---- tiles of rows -----------------------------------------------------------------------------------------------


def _tiles() -> Iterator[Hypothesis]:
    for rows in (2, 3, 4, 5):
        yield Hypothesis(
            f"last-of-{rows}-rows-lost",
            f"of {rows} rows, and of no other number of them, the last is lost",
            _kept(lambda B, n=rows: B - (n == B)),
            local=True,
            order=25,
        )
    for tile in (4, 8, 16, 32):
        yield Hypothesis(
            f"rows-in-tiles-of-{tile}",
            f"rows are handled in tiles of {tile}, and a remainder beyond them is lost",
            _kept(lambda B, n=tile: B // n * n if n < B else B),
            local=True,
            order=23,
        )
        yield Hypothesis(
            f"rows-in-whole-tiles-of-{tile}",
            f"rows are handled in tiles of {tile}, and what is no whole tile is lost",
            _kept(lambda B, n=tile: B // n * n),
            local=True,
            order=24,
            late=True,  # of fewer rows it says that all is zero, which is simpler
        )
        yield Hypothesis(
            f"rows-beyond-{tile}",
            f"only the first {tile} rows are there",
            _kept(lambda B, n=tile: min(B, n)),
            local=True,
            order=15,
        )
        for rest in range(1, tile if tile < 8 else 1):
            yield Hypothesis(
                f"rows-in-tiles-of-{tile}-rest-{rest}",
                f"rows are handled in tiles of {tile}, and of a remainder of {rest} the last is lost",
                _kept(lambda B, n=tile, r=rest: B - (B % n == r)),
                local=True,
                order=22,
            )


def _kept(count: Callable[[int], int]) -> Callable[[Base], Arrays]:
    """Only the first rows count; where they have an axis of their own, the others are zero."""

    def predict(base: Base) -> Arrays:
        n = count(base.problem.B)
        found = weighed(lambda a: (np.arange(a.B) < n)[None, None], lambda a: (np.arange(a.B) < n)[None].astype(WIDE))(
            base
        )
        for key, axis in BATCH_AXIS.items():
            if key in found:
                found[key] = base.exact[key].copy()
                found[key][(slice(None),) * axis + (slice(n, None),)] = 0
        return found

    return predict


# ---- saved states ------------------------------------------------------------------------------------------------


def _rings(problem: Problem) -> Iterator[Hypothesis]:
    W = "W_hh" if problem.cell == "elman" else "W_h"
    for size in (8, 16, 32, 64):

        def ring(base: Base, size: int = size) -> Arrays | None:
            tape, T = base.tape, base.problem.T
            if size >= T:
                return None
            last = [s + (T - 1 - s) // size * size for s in range(T)]  # what stands in the place of h_s at the end

            def left(site: Site) -> list[Array | None]:
                if problem.cell == "gru_reset_before" and site.start:
                    return [tape.node(s + 1, "sigmoid0").value * tape.hs[last[s]] for s in range(T)]
                return [tape.hs[last[s]] for s in range(T)]

            return {f"d{W}": tape.parameter(W, left=left)}

        yield Hypothesis(
            f"ring-{size}",
            f"the states are saved in a ring of {size}: in a longer run they are overwritten before they are used",
            ring,
            order=19,
        )


# ---- initial states ----------------------------------------------------------------------------------------------


def _starts(problem: Problem) -> Iterator[Hypothesis]:
    for name in problem.spec.states:

        def before_factor(base: Base, name: str = name) -> Arrays:
            a = base.tape
            first = np.where(a.mask[0][..., None], a.whole[name][1], 0).sum(axis=0)
            return {f"d{name}0": np.where(a.lengths[:, None] == 0, base.exact[f"d{name}0"], first)}

        yield Hypothesis(
            f"d{name}0-before-last-factor",
            f"d{name}0 is the gradient of {name}_1: the last factor is missing",
            before_factor,
            order=14,
        )


# ---- final cotangents --------------------------------------------------------------------------------------------


def _finals(problem: Problem) -> Iterator[Hypothesis]:
    loss = problem.loss
    given = [name for name in problem.spec.states if getattr(loss, f"g_{name}_final") is not None]
    if not given:
        return
    both = problem.spec.states == ("h", "c")
    if both:
        for name in given:
            other = "h" if name == "c" else "c"
            for empty in (True, False):
                yield Hypothesis(
                    f"final-{name}-added-to-{other}{'' if empty else '-but-empty'}",
                    f"the gradient of the final {name} is added to that of {other}",
                    _moved(name, other, empty=empty),
                    order=13,
                )
        yield Hypothesis(
            "finals-swapped-in-empty-rows",
            "a row of length 0 passes the gradients of the final h and c to dc0 and dh0, exchanged",
            _swapped_empty,
            order=13,
        )
    if "h" in given:
        yield Hypothesis(
            "final-replaces-loss",
            "the gradient of the final h replaces that of the row's last loss and is not added to it",
            twisted(seeds=_replaced),
            order=12,
        )
    yield Hypothesis(
        "final-lost-in-short-rows",
        "the gradient of the final state is lost in rows shorter than T",
        _lost_in_short,
        order=12,
    )
    if problem.lengths is not None:
        yield Hypothesis(
            "loss-final-of-padding",
            "the loss takes the final state that the cell computes at step T, from padding in the shorter rows",
            lambda base: _loss_with(base, lambda a, n: a.steps[-1][1][n].value),
            order=12,
        )
        yield Hypothesis(
            "loss-final-zero",
            "the loss takes a final state of zero in the rows shorter than T",
            lambda base: _loss_with(base, lambda a, n: np.where((a.lengths < a.T)[:, None], 0, a.h[n][-1])),
            order=12,
        )


def _moved(name: str, to: str, *, empty: bool) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        loss, zero = base.problem.loss, np.zeros((base.problem.B, base.problem.H), base.problem.x.dtype)
        full = (base.problem.row_lengths > 0)[:, None]
        own, other = (
            np.asarray(getattr(loss, f"g_{n}_final") if getattr(loss, f"g_{n}_final") is not None else zero)
            for n in (name, to)
        )
        moves = np.where(full | empty, own, 0)
        finals: dict[str, Any] = {f"g_{name}_final": own - moves, f"g_{to}_final": other + moves}
        found = Tape(replace(base.problem, loss=replace(loss, **finals))).results
        found.pop("loss")
        return found

    return predict


def _swapped_empty(base: Base) -> Arrays:
    empty = (base.problem.row_lengths == 0)[:, None]
    zero = np.zeros((base.problem.B, base.problem.H), WIDE)
    finals = {n: base.tape.finals.get(n, zero) for n in ("h", "c")}
    return {f"d{n}0": np.where(empty, finals["c" if n == "h" else "h"], base.exact[f"d{n}0"]) for n in ("h", "c")}


def _replaced(tape: Tape, name: str, seeds: Array) -> Array:
    if name == "h" and "h" in tape.finals:
        for b, length in enumerate(tape.lengths.tolist()):
            if length:
                seeds[length, length - 1, b] = 0
    return seeds


def _lost_in_short(base: Base) -> Arrays:
    kept = ((base.problem.row_lengths == base.problem.T) | (base.problem.row_lengths == 0))[:, None]
    tape = base.run(finals={name: lambda g: np.where(kept, g, 0) for name in base.tape.finals})
    return tape.gradients() | tape.readout()


def _loss_with(base: Base, final: Callable[[Tape, str], Array]) -> Arrays:
    a = base.tape
    return {"loss": base.exact["loss"] + sum((g * (final(a, n) - a.h[n][-1])).sum() for n, g in a.finals.items())}


# ---- a variant of the GRU ----------------------------------------------------------------------------------------


def _reset_bias(problem: Problem) -> Iterator[Hypothesis]:
    if problem.cell != "gru_reset_after":
        return

    def step(A: Any, w: dict[str, Any], x_t: Any, state: Any, activation: Any, cec: bool) -> Any:
        h, H = state["h"], w["H"]
        a = A.linear([(x_t, w["W_xrz"]), (h, w["W_hrz"])], [w["b_xrz"], w["b_hrz"]])
        r, z = A.sigmoid(A.columns(a, 0, H)), A.sigmoid(A.columns(a, H, 2 * H))
        m = A.linear([(h, w["W_hn"])])
        n = A.tanh(A.linear([(x_t, w["W_xn"])], [w["b_xn"], w["b_hn"], A.mul(r, m)]))
        return {"h": A.mix(z, n, h)}

    yield Hypothesis(
        "inner-bias-outside-reset",
        "the bias b_hn stands outside the reset: n = tanh(x W_xn + b_xn + b_hn + r∘(h₋ W_hn))",
        run(step=step),
        order=8,
    )
