"""Numbers not quite right: an epsilon, a clip, an approximation, one thing in a narrower dtype, small ones lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.mistakes.forward import run
from conformance.diagnosis.mistakes.losses import gradient_of
from conformance.diagnosis.mistakes.path import twisted
from conformance.diagnosis.tape import ACTIVATE, GATES, WIDE, Array, Arrays, Tape, rounded, sigmoid

Function = Callable[[Array], Array]


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Activations, the initial state, states as saved, softmax and logarithm, what is too small or too large."""
    yield from _activations(problem)
    yield from _narrow(problem)
    yield from _saved(problem)
    yield from _small(problem)
    yield from _clipped()
    yield from _losses(problem)


def by_value(op: str) -> Callable[[Array, Array], Array]:
    """The derivative as it is formed from the value."""
    if op == "tanh":
        return lambda a, z: 1 - z * z
    return lambda a, z: z * (1 - z)


def _activations(problem: Problem) -> Iterator[Hypothesis]:
    for op in ("sigmoid", "tanh"):
        labels = [
            label
            for label in GATES[problem.cell]
            if label.startswith(op) and (problem.cell != "elman" or problem.activation == op)
        ]
        if not labels:
            continue
        every = "the" if len(labels) == 1 else "every"
        for id_, words, f in _other(op):
            yield Hypothesis(
                f"{op}-{id_}",
                f"{every} {op} {words}",
                run(phi=dict.fromkeys(labels, f), slope=dict.fromkeys(labels, by_value(op))),
                order=21,
                late=True,
            )


def _other(op: str) -> Iterator[tuple[str, str, Function]]:
    right = ACTIVATE[op]
    for limit in (5, 6, 8, 10, 15, 20, 30, 50):
        yield f"argument-clipped-{limit}", f"clips its argument to [-{limit}, {limit}]", _clip(right, limit)
    if op == "sigmoid":
        for digits in range(4, 17):
            yield (
                f"epsilon-1e-{digits}",
                f"has 1e-{digits} added to its denominator",
                lambda a, e=digits: sigmoid(a) / (1 + sigmoid(a) * WIDE(10) ** -e),
            )
            yield (
                f"clipped-1e-{digits}",
                f"is clipped to [1e-{digits}, 1 − 1e-{digits}]",
                lambda a, e=digits: np.clip(sigmoid(a), WIDE(10) ** -e, 1 - WIDE(10) ** -e),
            )
    else:
        for n in range(2, 11):
            yield (
                f"convergent-{n}",
                f"is the convergent number {n} of its continued fraction, clipped to [-1, 1]",
                lambda a, n=n: np.clip(_convergent(a, n), -1, 1),
            )
        for n in (3, 5, 7, 9):
            yield f"taylor-{n}", f"is its Taylor polynomial of degree {n}", lambda a, n=n: _taylor(a, n)
    for narrow in ("float32", "float16", "bfloat16"):
        yield (
            f"in-{narrow}",
            f"is computed in {narrow}",
            lambda a, d=narrow: rounded(right(rounded(a, d)), d),
        )


def _clip(f: Function, limit: int) -> Function:
    return lambda a: f(np.clip(a, -limit, limit))


def _convergent(a: Array, n: int) -> Array:
    """a/(1 + a²/(3 + a²/(5 + …))), n partial denominators (Lambert's)."""
    below = np.full_like(a, 2 * n - 1)
    for k in range(n - 1, 0, -1):
        below = (2 * k - 1) + a * a / below
    return np.asarray(a / below)


def _taylor(a: Array, n: int) -> Array:
    terms = (WIDE(1), -WIDE(1) / 3, WIDE(2) / 15, -WIDE(17) / 315, WIDE(62) / 2835)
    return np.asarray(sum(c * a ** (2 * i + 1) for i, c in enumerate(terms[: (n + 1) // 2])))


def _narrow(problem: Problem) -> Iterator[Hypothesis]:
    for narrow in ("float32", "float16", "bfloat16"):
        for names in [problem.spec.states, *[(n,) for n in problem.spec.states if len(problem.spec.states) > 1]]:
            if problem.h0 is not None:
                yield Hypothesis(
                    f"initial-{''.join(names)}-{narrow}",
                    f"the initial {' and '.join(names)} is read as {narrow}",
                    run(initial=lambda name, v, d=narrow, ns=names: rounded(v, d) if name in ns else v),
                    order=20,
                    late=True,
                )
        for name in (*problem.params, "x"):

            def cast(base: Base, name: str = name, d: str = narrow) -> Arrays:
                from dataclasses import replace

                p = base.problem
                if name == "x":
                    return base.with_problem(replace(p, x=rounded(p.x, d).astype(p.x.dtype)))
                params = dict(p.params) | {name: rounded(p.params[name], d).astype(p.x.dtype)}
                return base.with_problem(replace(p, params=params))

            yield Hypothesis(f"{name}-read-{narrow}", f"{name} is read as {narrow}", cast, order=20, late=True)


def _saved(problem: Problem) -> Iterator[Hypothesis]:
    """The recurrent weights' gradient is formed with states that were saved in a narrower dtype."""
    W = "W_hh" if problem.cell == "elman" else "W_h"
    for narrow in ("float32", "float16", "bfloat16"):
        for name in (W, "W_hy", "W_xh" if problem.cell == "elman" else "W_x"):
            if name in problem.params:
                yield Hypothesis(
                    f"d{name}-saved-{narrow}",
                    f"d{name} is formed with {'inputs' if name in ('W_xh', 'W_x') else 'states'} rounded to {narrow}",
                    _saved_as(name, narrow),
                    order=21,
                )


def _saved_as(name: str, narrow: str) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        if name == "W_hy":
            return {"dW_hy": base.tape.readout(states=rounded(base.tape.hs[1:], narrow))["dW_hy"]}
        left = base.tape.parameter(
            name, left=lambda site: [None if v is None else rounded(v, narrow) for v in site.left]
        )
        return {f"d{name}": left}

    return predict


def _small(problem: Problem) -> Iterator[Hypothesis]:
    names = list(problem.spec.shapes(problem.D, problem.H))

    def terms(base: Base, limit: float) -> Arrays:
        tape = base.run(grouped=True)
        return {f"d{name}": tape.parameter(name, each=lambda v: np.where(np.abs(v) < limit, 0, v)) for name in names}

    yield Hypothesis(
        "skipped-where-sum-is-zero",
        "a step is skipped where the sum of its state's gradient is zero, though not every entry is",
        _skipped,
        order=18,
    )
    for digits in range(5, 17):
        limit = 10.0**-digits
        yield Hypothesis(
            f"terms-flushed-1e-{digits}",
            f"entries below 1e-{digits} that a step adds to a parameter's gradient are taken for zero",
            lambda base, c=limit: terms(base, c),
            local=True,
            order=29,
            late=True,
        )
        for which, words in (("largest", "no entry exceeds"), ("row", "no entry of the row exceeds")):
            yield Hypothesis(
                f"stops-below-1e-{digits}-{which}",
                f"the way back stops once {words} 1e-{digits}",
                _stops(limit, row=which == "row"),
                local=True,
                order=29,
                late=True,
            )


def _skipped(base: Base) -> Arrays:
    def arrives(s: int, name: str, arrived: Array) -> Array:
        return np.where(arrived.sum(axis=(1, 2), keepdims=True) == 0, 0, arrived)

    return twisted(grouped=True, arrives=arrives)(base)


def _stops(limit: float, *, row: bool) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        over: dict[str, Any] = {}

        def arrives(s: int, name: str, arrived: Array) -> Array:
            if name == "h":
                axes = -1 if row else (1, 2)
                over["small"] = np.abs(arrived).max(axis=axes, keepdims=True) <= limit
            return np.where(over["small"], 0, arrived) if len(base.problem.spec.states) == 1 else arrived

        return twisted(grouped=True, arrives=arrives)(base)

    return predict


def _clipped() -> Iterator[Hypothesis]:
    for limit in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0):
        for names, of in ((("h",), "h"), (("c",), "c"), (("h", "c"), "the state")):
            yield Hypothesis(
                f"arrived-{''.join(names)}-clipped-{limit:g}",
                f"at every step the gradient of {of} is clipped to [-{limit:g}, {limit:g}], that step's loss included",
                twisted(
                    grouped=True,
                    arrives=lambda s, name, v, c=limit, ns=names: np.clip(v, -c, c) if name in ns else v,
                ),
                order=27 if len(names) == 1 else 28,
                late=True,
            )


def _losses(problem: Problem) -> Iterator[Hypothesis]:
    if problem.loss.kind != "cross_entropy":
        return
    for digits in (3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16):
        least = np.log(WIDE(10)) * -digits

        def log_p(a: Tape, least: Array = least) -> Array:
            return np.maximum(a.log_softmax(), least)

        def clipped(a: Tape, d: Array, log_p: Callable[[Tape], Array] = log_p) -> Array:
            y = a.target()
            raw = y.sum(axis=-1, keepdims=True) * np.exp(log_p(a)) - y
            return np.where(a.weights[..., None] != 0, a.weights[..., None] * raw, 0)

        def flat(a: Tape, d: Array, least: Array = least) -> Array:
            free = a.log_softmax() > least
            y = a.target() * free
            raw = y.sum(axis=-1, keepdims=True) * np.exp(a.log_softmax()) - y
            return np.where(a.weights[..., None] != 0, a.weights[..., None] * raw, 0)

        for id_, words, do in (
            ("", "in p − y too", clipped),
            ("-flat", "and nothing flows back where it is", flat),
            ("-loss", "in the loss alone", None),
        ):
            yield Hypothesis(
                f"softmax-clipped-1e-{digits}{id_}",
                f"the probabilities of the cross-entropy are clipped to at least 1e-{digits}, {words}",
                _with_loss(log_p, do),
                order=21,
                late=True,
            )


def _with_loss(log_p: Callable[[Tape], Array], do: Callable[[Tape, Array], Array] | None) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        a = base.tape
        each = -(a.target() * log_p(a)).sum(axis=-1)
        found: Arrays = {} if do is None else dict(gradient_of(do)(base))
        return found | {"loss": np.asarray(np.where(a.weights != 0, a.weights * each, 0).sum())}

    return predict
