"""Mistakes on the way forward, and other conventions: gate orders, layouts, variants of a cell, masks, initial states.

Where the gradient follows from the wrong forward pass, no difference quotient of the target's own loss can see it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.problem import DTYPES, Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import ACTIVATE, COLUMNS, GATES, SLOPES, WIDE, Array, Arrays, Tape, sigmoid

Change = Callable[[Problem, Array], Array]


def run(back: Callable[[Problem, Arrays], Arrays] | None = None, **twist: Any) -> Callable[[Base], Arrays]:
    """A prediction: every array of a tape with a twist; hooks named `of_…` are functions of the base."""

    def predict(base: Base) -> Arrays:
        made = {
            key.removeprefix("of_"): value(base) if key.startswith("of_") else value for key, value in twist.items()
        }
        found = base.run(**made).results
        return found if back is None else back(base.problem, found)

    return predict


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Layouts and gate orders, activations, variants, masks and initial states, what is read as the outputs."""
    yield from _layouts(problem)
    yield from _gate_orders(problem)
    yield from _activations(problem)
    yield from _biases(problem)
    yield from _variants(problem)
    yield from _masks(problem)
    yield from _initial(problem)
    yield from _outputs(problem)


# ---- layouts -----------------------------------------------------------------------------------------------------


def changed(there: dict[str, Change], back: dict[str, Change] | None = None) -> Callable[[Base], Arrays]:
    """A prediction: parameters read otherwise, and their gradients returned as `back` says (None: as they come)."""

    def predict(base: Base) -> Arrays:
        problem = base.problem
        params = {name: f(problem, np.asarray(problem.params[name]).astype(WIDE)) for name, f in there.items()}
        found = base.run(params=params).results
        for name, f in (back or {}).items():
            found[f"d{name}"] = f(problem, found[f"d{name}"]).reshape(found[f"d{name}"].shape)
        return found

    return predict


def _layouts(problem: Problem) -> Iterator[Hypothesis]:
    recurrent = "W_hh" if problem.cell == "elman" else "W_h"
    entering = "W_xh" if problem.cell == "elman" else "W_x"

    def blocks(p: Problem, W: Array) -> Array:
        n = W.shape[0]
        return np.concatenate([W[:, j : j + n].T for j in range(0, W.shape[1], n)], axis=1)

    def other_layout(p: Problem, W: Array) -> Array:
        return W.reshape(W.shape[::-1]).T

    def other_back(p: Problem, W: Array) -> Array:
        return np.ascontiguousarray(W.T)

    def transposed_blocks(p: Problem, W: Array) -> Array:
        return W.reshape(W.shape[1], W.shape[0]).T

    yield Hypothesis(
        "recurrent-transposed",
        f"{recurrent} is read transposed, and its gradient returned transposed",
        changed({recurrent: blocks}, {recurrent: blocks}),
        order=8,
        hint=f"hand over params[{recurrent!r}] with each (H,H) block transposed, and transpose d{recurrent} back",
    )
    yield Hypothesis(
        "recurrent-transposed-forward",
        f"{recurrent} is read transposed; its gradient is not returned so",
        changed({recurrent: blocks}),
        order=9,
        hint=f"hand over params[{recurrent!r}] with each (H,H) block transposed",
    )
    for name in dict.fromkeys((entering, recurrent)):
        yield Hypothesis(
            f"{name}-other-layout",
            f"{name} is read column by column, as if it were laid out transposed in "
            "memory, and its gradient is returned so",
            changed({name: other_layout}, {name: other_back}),
            order=8,
            hint=f"hand over np.ascontiguousarray(params[{name!r}].T), and return d{name}.T",
        )
        yield Hypothesis(
            f"{name}-other-layout-forward",
            f"{name} is read column by column, as if it were laid out transposed in memory",
            changed({name: other_layout}),
            order=9,
            hint=f"hand over np.ascontiguousarray(params[{name!r}].T)",
        )
    yield Hypothesis(
        "inputs-batch-first",
        "x is read as if it were batch-first, (B,T,D)",
        _x_batch_first,
        order=10,
        hint="hand over x.transpose(1, 0, 2), and transpose what comes back",
    )
    yield Hypothesis(
        "inputs-reversed",
        "the sequence is run in reverse",
        lambda base: base.with_problem(replace(base.problem, x=np.ascontiguousarray(base.problem.x[::-1]))),
        order=15,
    )


def _x_batch_first(base: Base) -> Arrays:
    x = base.problem.x
    return base.with_problem(replace(base.problem, x=np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(x.shape)))


# ---- gates -------------------------------------------------------------------------------------------------------


def reorder(order: tuple[int, ...]) -> Change:
    """Blocks of columns (or of a vector) in another order."""

    def change(p: Problem, W: Array) -> Array:
        blocks = np.split(W, len(order), axis=-1)
        return np.concatenate([blocks[k] for k in order], axis=-1)

    return change


def _gate_orders(problem: Problem) -> Iterator[Hypothesis]:
    gates = COLUMNS[problem.cell]
    n = len(gates)
    if n < 2:
        return
    names = [name for name, shape in problem.spec.shapes(101, 103).items() if shape[-1] == n * 103]
    for order in itertools.permutations(range(n)):
        if order == tuple(range(n)):
            continue
        # the kernel's k-th block is the gate theirs[k]; it takes our block k for it
        theirs = ", ".join(gates[k] for k in order)
        inverse = tuple(order.index(k) for k in range(n))
        tag = "".join(gates[k] for k in order)
        yield Hypothesis(
            f"gates-{tag}",
            f"the gates are in the order {theirs}, not {', '.join(gates)}",
            changed({name: reorder(inverse) for name in names}, {name: reorder(order) for name in names}),
            order=8,
            hint=f"order = {list(order)}: hand over np.concatenate([np.split(W, {n}, axis=-1)[k] for k in order], "
            f"axis=-1) for {', '.join(names)}, and put the blocks of their gradients back by np.argsort(order)",
        )
        yield Hypothesis(
            f"gates-{tag}-returned-in-ours",
            f"the gates are read in the order {theirs}, not {', '.join(gates)}, and "
            "their gradients returned in the right one",
            changed({name: reorder(inverse) for name in names}),
            order=12,
        )
        yield Hypothesis(
            f"gate-gradients-{tag}",
            f"the blocks of the gradient stand in the order {theirs}, not {', '.join(gates)}",
            lambda base, o=order: {f"d{m}": reorder(o)(base.problem, base.exact[f"d{m}"]) for m in names},
            local=True,
            order=11,
            hint=f"put the blocks of the gradients back: order = {list(inverse)}",
        )


# ---- activations -------------------------------------------------------------------------------------------------


def _activations(problem: Problem) -> Iterator[Hypothesis]:
    labels = [label for label in GATES[problem.cell] if problem.cell != "elman" or label == f"{problem.activation}0"]
    sets = (
        [("", tuple(labels))]
        if problem.cell == "elman"
        else [
            *((f" of gate {GATES[problem.cell][label]}", (label,)) for label in labels),
            *((f" (every {op})", tuple(m for m in labels if m.startswith(op))) for op in ("sigmoid", "tanh")),
        ]
    )
    for words, group in sets:
        op = group[0][:-1]
        tag = words.replace(" of gate ", "-").replace(" (every ", "-every-").replace(")", "")
        for id_, name, f, df in _other_activations(op, problem.dtype):
            yield Hypothesis(
                f"{op}-{id_}{tag}",
                f"the {op}{words} is really {name}, with its derivative",
                run(phi=dict.fromkeys(group, f), slope=dict.fromkeys(group, df)),
                order=13,
            )
            yield Hypothesis(
                f"{op}-{id_}-forward{tag}",
                f"the {op}{words} is really {name}; its derivative does not know",
                run(phi=dict.fromkeys(group, f)),
                order=22,
            )
    if problem.cell == "elman" and problem.activation:
        for other in ("tanh", "sigmoid", "relu", "identity"):
            if other != problem.activation:
                label = f"{problem.activation}0"
                yield Hypothesis(
                    f"activation-is-{other}",
                    f"the activation is {other} where {problem.activation} was asked for",
                    run(phi={label: ACTIVATE[other]}, slope={label: SLOPES[other]}),
                    order=8,
                )


Phi = Callable[[Array], Array]


def _other_activations(op: str, dtype: str) -> Iterator[tuple[str, str, Phi, Callable[[Array, Array], Array]]]:
    one = WIDE(1)
    for limit in (1, 2, 3, 5, 10):
        yield (
            f"clipped-{limit}",
            f"clipped to [-{limit}, {limit}]",
            lambda a, c=limit: np.clip(ACTIVATE[op](a), -c, c),
            SLOPES[op],
        )
        yield (
            f"clipped-{limit}-flat",
            f"clipped to [-{limit}, {limit}], flat beyond",
            lambda a, c=limit: np.clip(ACTIVATE[op](a), -c, c),
            lambda a, z, c=limit: np.where(np.abs(ACTIVATE[op](a)) <= c, SLOPES[op](a, z), 0),
        )
    if op in ("sigmoid", "tanh"):
        for factor in (2, 0.5):
            yield (
                f"of-{factor:g}a",
                f"{op}({factor:g} a)",
                lambda a, c=factor: ACTIVATE[op](a * WIDE(c)),
                lambda a, z, c=factor: SLOPES[op](a * WIDE(c), z) * WIDE(c),
            )
    if op == "sigmoid":
        yield (
            "hard-5",
            "the hard sigmoid 0.2 a + 0.5",
            lambda a: np.clip(a / 5 + one / 2, 0, 1),
            lambda a, z: np.where(np.abs(a) < one * 5 / 2, one / 5, 0),
        )
        yield (
            "hard-6",
            "the hard sigmoid a / 6 + 0.5",
            lambda a: np.clip(a / 6 + one / 2, 0, 1),
            lambda a, z: np.where(np.abs(a) < 3, one / 6, 0),
        )
        yield "tanh", "tanh", ACTIVATE["tanh"], SLOPES["tanh"]
        yield (
            "overflow",
            "exp(a) / (1 + exp(a)), which overflows for large a",
            lambda a: _overflowing(a, dtype),
            lambda a, z: z * (1 - z),
        )
    if op == "tanh":
        yield "sigmoid", "a sigmoid", sigmoid, SLOPES["sigmoid"]
        yield ("hard", "clip(a, -1, 1)", lambda a: np.clip(a, -1, 1), lambda a, z: np.where(np.abs(a) < 1, one, 0))
        yield "softsign", "a / (1 + |a|)", lambda a: a / (1 + np.abs(a)), lambda a, z: 1 / (1 + np.abs(a)) ** 2
        yield "rational", "the rational a (27 + a²) / (27 + 9 a²), clipped at ±3", _rational, _rational_slope
        yield (
            "lecun",
            "1.7159 tanh(2a/3)",
            lambda a: one * 17159 / 10000 * np.tanh(a * 2 / 3),
            lambda a, z: one * 17159 / 10000 * 2 / 3 * SLOPES["tanh"](a * 2 / 3, z),
        )
        yield "identity", "the identity", ACTIVATE["identity"], SLOPES["identity"]
    if op == "relu":
        for slope in (0.01, 0.1, 0.2, 0.3, 0.001):
            text = f"{slope:g}"
            c = WIDE(text)
            yield (
                f"leaky-{text}",
                f"leaky, of slope {text} below 0",
                lambda a, c=c: np.where(a > 0, a, c * a),
                lambda a, z, c=c: np.where(a > 0, one, c),
            )
        yield (
            "six",
            "a relu6, clipped at 6",
            lambda a: np.clip(a, 0, 6),
            lambda a, z: np.where((a > 0) & (a < 6), one, 0),
        )
        yield (
            "elu",
            "an elu",
            lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
            lambda a, z: np.where(a > 0, one, np.exp(np.minimum(a, 0))),
        )
        yield "abs", "the absolute value", np.abs, lambda a, z: np.sign(a)
        yield ("softplus", "a softplus", lambda a: np.logaddexp(0, a), lambda a, z: sigmoid(a))


def _rational(a: Array) -> Array:
    a = np.clip(a, -3, 3)
    return np.asarray(a * (27 + a * a) / (27 + 9 * a * a))


def _rational_slope(a: Array, z: Array) -> Array:
    return np.asarray(np.where(np.abs(a) < 3, (a * a - 9) ** 2 / (9 * (a * a + 3) ** 2), 0))


def _overflowing(a: Array, dtype: str) -> Array:
    with np.errstate(all="ignore"):
        e = np.exp(a.astype(DTYPES[dtype]))
        odd = ~np.isfinite(e / (1 + e))
    return np.where(odd, WIDE(np.nan), sigmoid(a))


# ---- biases ------------------------------------------------------------------------------------------------------


def _biases(problem: Problem) -> Iterator[Hypothesis]:
    names = [name for name in problem.spec.shapes(problem.D, problem.H) if name.startswith("b")]
    for factor, words in ((2, "added twice"), (0, "left out")):
        for name in names:

            def scaled(p: Problem, b: Array, c: int = factor) -> Array:
                return b * WIDE(c)

            tag = words.replace(" ", "-")
            yield Hypothesis(
                f"{name}-{tag}",
                f"the bias {name} is {words}, in the gradient too",
                changed({name: scaled}, {name: scaled}),
                order=8,
            )
            yield Hypothesis(
                f"{name}-{tag}-forward",
                f"the bias {name} is {words} going forward, not in the gradient",
                changed({name: scaled}),
                order=10,
            )
    if "f" in COLUMNS[problem.cell]:
        for offset in (1, -1, 2):

            def shifted(p: Problem, b: Array, c: int = offset) -> Array:
                b = b.copy()
                b[p.H : 2 * p.H] += c
                return b

            yield Hypothesis(
                f"forget-bias-{offset}",
                f"a forget bias of {offset} is added",
                changed({"b": shifted}),
                order=9,
                hint=f"take {offset} off the block f of params['b']",
            )
    if problem.readout == "linear":
        for name in ("W_hy", "b_y"):
            if name == "b_y":
                yield Hypothesis(
                    "readout-bias-left-out",
                    "the readout's bias b_y is left out",
                    changed({name: lambda p, b: b * 0}),
                    order=10,
                )
    if problem.cell == "gru_reset_after":

        def inner(p: Problem, b: Array) -> Array:
            b = b.copy()
            b[2 * p.H :] = 0
            return b

        yield Hypothesis(
            "inner-bias-left-out",
            "the inner bias of n, that of b_h, is left out",
            changed({"b_h": inner}, {"b_h": inner}),
            order=8,
        )
    if problem.h0 is None:
        for name in names:
            yield Hypothesis(
                f"{name}-dropped-without-state",
                f"without an initial state the first step leaves out the bias {name} too",
                _first_bias(name),
                order=8,
            )


def _first_bias(name: str) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        spec, calls = base.problem.spec, itertools.count()

        def step(A: Any, w: dict[str, Any], x_t: Any, state: Any, activation: Any, cec: bool) -> Any:
            if next(calls) == 0:
                from conformance.diagnosis.tape import Node

                w = dict(w)
                for key, node in list(w.items()):
                    if getattr(node, "name", None) == name:
                        w[key] = Node("nothing", node.value * 0)
            return spec.step(A, w, x_t, state, activation, cec)

        return run(step=step)(base)

    return predict


# ---- variants of a cell ------------------------------------------------------------------------------------------


def _variants(problem: Problem) -> Iterator[Hypothesis]:
    if problem.cell.startswith("gru"):
        after = problem.cell == "gru_reset_after"
        other = "before" if after else "after"
        yield Hypothesis(
            "other-reset",
            f"the reset gate is applied {other} the recurrent product, as in gru_reset_{other}",
            run(step=_gru(not after, after)),
            order=7,
            hint=f'declare SUPPORTS = {{"cells": ["gru_reset_{other}"]}} and read its parameters',
        )
        yield Hypothesis(
            "z-flipped",
            "the update gate is flipped: h = z∘n + (1−z)∘h₋",
            run(step=_gru(after, after, flip=True)),
            order=7,
            hint="negate the block z of W_x, W_h and the biases, and of their gradients",
        )
        yield Hypothesis(
            "reset-missing", "the reset gate is missing: r = 1", run(step=_gru(after, after, reset=False)), order=8
        )
        yield Hypothesis(
            "z-flipped-other-reset",
            f"the update gate is flipped, h = z∘n + (1−z)∘h₋, and the reset gate is applied {other} the product",
            run(step=_gru(not after, after, flip=True)),
            order=9,
        )
    if problem.cell.startswith("lstm"):
        yield Hypothesis(
            "no-tanh-of-c",
            "h = o∘c: the tanh of the cell state is missing",
            run(phi={"tanh1": lambda a: a}, slope={"tanh1": lambda a, z: np.ones_like(a)}),
            order=9,
        )
        for limit in (1, 3, 5, 10, 50):
            yield Hypothesis(
                f"cell-clip-{limit}",
                f"the cell state is clipped to [-{limit}, {limit}]",
                run(outside=lambda t, name, v, c=limit: np.clip(v, -c, c) if name == "c" else v),
                order=20,
            )
    if problem.cell in ("lstm", "lstm_peephole"):
        coupled = {"sigmoid1": np.zeros_like}
        yield Hypothesis(
            "forget-gate-zero",
            "the old cell state is dropped: f = 0",
            run(phi=coupled, slope={"sigmoid1": lambda a, z: np.zeros_like(a)}),
            order=12,
        )
        yield Hypothesis(
            "forget-gate-one",
            "the forget gate is missing: f = 1",
            run(phi={"sigmoid1": np.ones_like}, slope={"sigmoid1": lambda a, z: np.zeros_like(a)}),
            order=9,
        )
    if problem.cell == "lstm_peephole":
        for gates in ("ifo", "i", "f", "o"):
            names = [f"p_{gate}" for gate in gates]
            nothing: dict[str, Change] = dict.fromkeys(names, lambda p, v: v * 0)
            yield Hypothesis(
                f"peepholes-missing-{gates}",
                f"the peepholes {', '.join(names)} are missing",
                changed(nothing, nothing),
                order=9,
            )
        yield Hypothesis(
            "peephole-old-cell", "the output gate's peephole sees c_{t-1}, not c_t", run(step=_peephole_old), order=9
        )


def _gru(after: bool, own_after: bool, *, flip: bool = False, reset: bool = True) -> Callable[..., Any]:
    """A GRU step over the parameters of either variant."""

    def step(A: Any, w: dict[str, Any], x_t: Any, state: Any, activation: Any, cec: bool) -> Any:
        h, H = state["h"], w["H"]
        biases = [w["b_xrz"], w["b_hrz"]] if own_after else [w["b_rz"]]
        a = A.linear([(x_t, w["W_xrz"]), (h, w["W_hrz"])], biases)
        r, z = A.sigmoid(A.columns(a, 0, H)), A.sigmoid(A.columns(a, H, 2 * H))
        b_x, b_h = (w["b_xn"], [w["b_hn"]]) if own_after else (w["b_n"], [])
        if after:
            m = A.linear([(h, w["W_hn"])], b_h)
            n = A.tanh(A.linear([(x_t, w["W_xn"])], [b_x, A.mul(r, m) if reset else m]))
        else:
            n = A.tanh(A.linear([(x_t, w["W_xn"]), (A.mul(r, h) if reset else h, w["W_hn"])], [b_x, *b_h]))
        return {"h": A.mix(z, h, n) if flip else A.mix(z, n, h)}

    return step


def _peephole_old(A: Any, w: dict[str, Any], x_t: Any, state: Any, activation: Any, cec: bool) -> Any:
    h, c_old = state["h"], state["c"]

    def total(gate: str, *more: Any) -> Any:
        return A.linear([(x_t, w[f"W_x_{gate}"]), (h, w[f"W_h_{gate}"])], [w[f"b_{gate}"], *more])

    i = A.sigmoid(total("i", A.mul(w["p_i"], c_old)))
    f = A.sigmoid(total("f", A.mul(w["p_f"], c_old)))
    g = A.tanh(total("g"))
    c = A.add(A.mul(f, c_old), A.mul(i, g))
    o = A.sigmoid(total("o", A.mul(w["p_o"], c_old)))
    return {"h": A.mul(o, A.tanh(c)), "c": c}


# ---- masks -------------------------------------------------------------------------------------------------------


def _masks(problem: Problem) -> Iterator[Hypothesis]:
    if problem.lengths is None:
        return

    def everywhere(base: Base) -> Array:
        return np.ones((base.problem.T, base.problem.B), bool)

    def last_slot(base: Base) -> Array:
        return np.full(base.problem.B, base.problem.T)

    def first_mask(base: Base) -> Array:
        return np.repeat(base.tape.own[:1], base.problem.T, axis=0)

    def first_weights(base: Base) -> Array:
        return np.where(first_mask(base), base.tape.weights.max(axis=0)[None], 0)

    yield Hypothesis(
        "masked-steps-update",
        "masked steps still update the state: the final state is the one after the padding",
        run(of_active=everywhere, of_slot=last_slot),
        order=8,
    )
    yield Hypothesis(
        "lengths-ignored",
        "the lengths are ignored: the padding is part of the sequence",
        lambda base: base.with_problem(replace(base.problem, lengths=None)),
        order=7,
    )
    yield Hypothesis(
        "first-mask-everywhere",
        "the mask of the first step is used at every step",
        run(of_active=first_mask, of_weights=first_weights),
        order=9,
    )
    yield Hypothesis(
        "first-mask-for-states",
        "the mask of the first step is used at every step for the states",
        run(of_active=first_mask),
        order=10,
    )
    yield Hypothesis(
        "mask-not-reversed",
        "going backwards, the steps are reversed and the mask is not",
        run(of_alive=lambda base: base.tape.own[::-1]),
        order=9,
    )
    yield Hypothesis(
        "mask-not-reversed-dropped",
        "going backwards, the steps are reversed and the mask is not; where it hides a step, what arrives is dropped",
        run(of_alive=lambda base: base.tape.own[::-1], carry=lambda s, name, new, arrived, pulled: pulled),
        order=10,
    )
    yield Hypothesis(
        "mask-one-late",
        "a row's state is updated one step beyond its length",
        run(of_active=lambda base: _own(base, 1)),
        order=12,
    )
    yield Hypothesis(
        "mask-one-early",
        "a row's last step does not update its state",
        run(of_active=lambda base: _own(base, -1)),
        order=12,
    )
    yield Hypothesis(
        "first-row-length",
        "every row has the length of the first row",
        lambda base: base.with_problem(
            replace(base.problem, lengths=np.full_like(base.problem.row_lengths, base.problem.row_lengths[0]))
        ),
        order=12,
    )
    yield Hypothesis(
        "gradient-ignores-mask",
        "going backwards, the mask is ignored: padded steps are credited too",
        run(of_alive=everywhere),
        order=12,
    )


def _own(base: Base, more: int) -> Array:
    p = base.problem
    return np.asarray(np.arange(1, p.T + 1)[:, None] <= p.row_lengths[None] + more)


# ---- initial states ----------------------------------------------------------------------------------------------


def _initial(problem: Problem) -> Iterator[Hypothesis]:
    if problem.h0 is not None:
        states = problem.spec.states

        def nothing(name: str, v: Array) -> Array:
            return np.zeros_like(v)

        yield Hypothesis(
            "initial-ignored", "the initial state is ignored: zeros stand in its place", run(initial=nothing), order=7
        )
        yield Hypothesis(
            "initial-ignored-no-gradient",
            "the initial state is ignored, and its gradient is zero",
            run(initial=nothing, back=lambda p, a: a | {f"d{n}0": a[f"d{n}0"] * 0 for n in states}),
            order=8,
        )
        for shift in (1, -1):
            yield Hypothesis(
                f"initial-rolled-{shift}",
                "the rows of the initial state are shifted by one",
                run(initial=lambda name, v, k=shift: np.roll(v, k, axis=0)),
                order=9,
            )
        yield Hypothesis(
            "initial-first-row",
            "the first row's initial state is taken for every row",
            run(initial=lambda name, v: np.broadcast_to(v[:1], v.shape)),
            order=10,
        )
        if "c" in states:
            for name in states:
                yield Hypothesis(
                    f"initial-{name}-ignored",
                    f"{name}0 is ignored: zeros stand in its place",
                    run(initial=lambda n, v, mine=name: np.zeros_like(v) if n == mine else v),
                    order=8,
                )
            yield Hypothesis("initial-swapped", "h0 and c0 are exchanged", _swap_initial, order=9)
    kind = problem.truncation.kind
    if kind in ("chunk", "periodic"):

        def reset(base: Base) -> Callable[[int, str, Array], Array]:
            k = base.problem.truncation.k or base.problem.truncation.k1 or 1
            return lambda t, name, v: np.zeros_like(v) if t > 1 and (t - 1) % k == 0 else v

        yield Hypothesis(
            "state-reset-at-chunks",
            "each chunk starts from a zero state, in the forward pass too",
            run(of_outside=reset),
            order=8,
        )
        yield Hypothesis(
            "state-reset-at-chunks-forward",
            "each chunk starts from a zero state, in the forward pass "
            "too; the recurrent weight's gradient is formed with the state all the same",
            _reset_forward(reset),
            order=9,
        )
    yield Hypothesis(
        "state-reset-every-step",
        "every step starts from a zero state: nothing is carried forward",
        run(outside=lambda t, name, v: np.zeros_like(v) if t > 1 else v),
        order=9,
    )


def _reset_forward(reset: Callable[[Base], Callable[[int, str, Array], Array]]) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        tape = base.run(outside=reset(base))
        W = "W_hh" if base.problem.cell == "elman" else "W_h"
        return tape.results | {f"d{W}": tape.parameter(W, left=lambda site: list(tape.hs[:-1]))}

    return predict


def _swap_initial(base: Base) -> Arrays:
    found = base.with_problem(replace(base.problem, h0=base.problem.c0, c0=base.problem.h0))
    return found | {"dh0": found["dc0"], "dc0": found["dh0"]}


# ---- outputs -----------------------------------------------------------------------------------------------------


def _outputs(problem: Problem) -> Iterator[Hypothesis]:
    yield Hypothesis(
        "outputs-alias", "the output list holds aliases of one state: every h_t is the last one", _alias, order=8
    )
    yield Hypothesis(
        "outputs-late",
        "the outputs are read from h_{t-1}, one step too late",
        run(states=lambda h: np.concatenate([h[:1], h[:-1]])),
        order=12,
    )
    yield Hypothesis(
        "states-late",
        "h holds h_{t-1}: the initial state first, the last one missing",
        lambda base: {"h": base.tape.hs[:-1]},
        order=9,
    )
    yield Hypothesis(
        "outputs-batch-first",
        "returned batch-first, (B,T,·), where (T,B,·) belongs",
        _batch_first,
        local=True,
        order=8,
        hint="return it.transpose(1, 0, 2)",
    )
    yield Hypothesis(
        "outputs-reversed",
        "returned in reverse order of time",
        lambda base: {key: base.exact[key][::-1] for key in ("h", "c", "o", "dx") if key in base.exact},
        local=True,
        order=9,
        hint="return it[::-1]",
    )
    if problem.readout == "linear":
        yield Hypothesis(
            "readout-older-state",
            "dW_hy is formed with h_{t-1} where h_t belongs",
            lambda base: {"dW_hy": base.tape.readout(states=base.tape.hs[:-1])["dW_hy"]},
            order=9,
        )
        yield Hypothesis(
            "readout-without-loss-weight",
            "dW_hy and db_y do not know how much a step weighs",
            lambda base: base.tape.readout(do=np.where(base.tape.own[..., None], base.tape.raw, 0)),
            order=15,
        )
        yield Hypothesis(
            "readout-padding",
            "losses in the padding are counted in the readout's gradients",
            lambda base: base.tape.readout(do=base.tape.weights.max() * base.tape.raw),
            order=12,
        )
        yield Hypothesis(
            "outputs-without-readout-bias",
            "o leaves out the bias b_y",
            lambda base: {"o": base.exact["o"] - base.tape.params["b_y"]},
            order=10,
        )


def _batch_first(base: Base) -> Arrays:
    return {
        key: np.ascontiguousarray(base.exact[key].transpose(1, 0, 2)).reshape(base.exact[key].shape)
        for key in ("h", "c", "o", "dx")
        if key in base.exact
    }


def _alias(base: Base) -> Arrays:
    """Everything after the forward pass reads the last state for every h_t, its derivative included."""
    last = base.tape.hs[-1]
    found = base.run(states=lambda h: np.concatenate([h[:1], np.broadcast_to(h[-1:], h[1:].shape)])).results
    if base.problem.cell != "elman":
        return found
    tape, op = base.tape, str(base.problem.activation)
    from_state = {
        "tanh": lambda a, z: 1 - last * last,
        "sigmoid": lambda a, z: last * (1 - last),
    }
    aliased = Tape_alias(base, from_state.get(op))
    name = "W_hh"
    lefts = [tape.hs[0], *[last] * (tape.T - 1)]
    found = aliased.results
    found[f"d{name}"] = aliased.parameter(name, left=lambda site: list(lefts))
    return found


def Tape_alias(base: Base, slope: Callable[[Array, Array], Array] | None) -> Tape:
    """The tape whose outputs, and whose derivatives where they are formed from h, see the last state."""
    label = f"{base.problem.activation}0"
    return base.run(
        states=lambda h: np.concatenate([h[:1], np.broadcast_to(h[-1:], h[1:].shape)]),
        slope=None if slope is None else {label: slope},
    )
