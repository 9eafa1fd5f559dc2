"""Mistakes in the loss: how much a step weighs, its gradient with respect to the outputs, the final cotangents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import WIDE, Array, Arrays, Tape

Do = Callable[[Tape, Array], Array]


def gradient_of(do: Do, order: int = 20) -> Callable[[Base], Arrays]:
    """A prediction with another dL/do."""

    def predict(base: Base) -> Arrays:
        tape = base.run(do=do)
        return tape.gradients() | tape.readout()

    return predict


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Weights and reductions, gradients of each loss, final cotangents."""
    yield from _weights(problem)
    yield from _gradients(problem)
    yield from _finals(problem)


def _weights(problem: Problem) -> Iterator[Hypothesis]:
    def weighed(f: Callable[[Tape], Array]) -> Callable[[Base], Arrays]:
        def predict(base: Base) -> Arrays:
            weights = np.broadcast_to(f(base.tape).astype(WIDE), (base.problem.T, base.problem.B))
            tape = base.run(weights=weights)
            found = tape.gradients() | tape.readout()
            if base.problem.loss.kind != "cotangent" or base.problem.loss.g is not None:
                found["loss"] = np.asarray(tape.total)
            return found

        return predict

    def own(a: Tape) -> Array:
        return a.own.astype(WIDE)

    def per_row(a: Tape) -> Array:
        return np.maximum(1, a.lengths).astype(WIDE)[None]

    def tokens(a: Tape) -> Any:
        return WIDE(max(1, int(a.lengths.sum())))

    def full(a: Tape) -> Array:
        return np.ones((a.T, a.B), WIDE)

    choices: list[tuple[str, str, Callable[[Tape], Array]]] = [
        ("loss-sum", "the loss is summed over time and over the batch", own),
        ("loss-batch-mean", "the loss is averaged over the batch and summed over time", lambda a: own(a) / a.B),
        (
            "loss-time-mean",
            "the loss is averaged over time, by each row's length, and summed over the batch",
            lambda a: own(a) / per_row(a),
        ),
        (
            "loss-time-batch-mean",
            "the loss is averaged over time, by each row's length, and over the batch",
            lambda a: own(a) / per_row(a) / a.B,
        ),
        ("loss-token-mean", "the loss is averaged over the tokens, Σ lengths", lambda a: own(a) / tokens(a)),
        (
            "loss-steps-mean",
            "the loss is divided by the padded length T and summed over the batch",
            lambda a: own(a) / a.T,
        ),
        (
            "loss-steps-batch-mean",
            "the loss is divided by the padded length T and averaged over the batch",
            lambda a: own(a) / (a.T * a.B),
        ),
        (
            "loss-outputs-mean",
            "the loss is averaged over the outputs too: divided by K as well",
            lambda a: a.weights / a.K,
        ),
        ("loss-time-batch-outputs-mean", "the loss is divided by T B K", lambda a: own(a) / (a.T * a.B * a.K)),
        ("loss-longest-mean", "the loss is divided by the longest length", lambda a: own(a) / max(1, a.lengths.max())),
    ]
    if problem.loss.time_reduction == "tokens":
        choices.insert(
            0,
            (
                "tokens-of-padding",
                "the mean over tokens counts those of the padding: it divides by T B",
                lambda a: own(a) / (a.T * a.B),
            ),
        )
    if problem.lengths is not None:
        choices += [
            ("padding-counted", "losses in the padding are counted", lambda a: full(a) * a.weights.max(axis=0)[None]),
            (
                "padding-counted-one-weight",
                "losses in the padding are counted, all of one weight",
                lambda a: full(a) * a.weights.max(),
            ),
            ("padding-counted-mean", "losses in the padding are counted, and averaged over T", lambda a: full(a) / a.T),
            (
                "lengths-of-first-row",
                "every row has the first row's length for the loss",
                lambda a: (np.arange(1, a.T + 1)[:, None] <= a.lengths[0]) * a.weights.max(axis=0)[None],
            ),
            (
                "loss-one-step-short",
                "each row's last loss is left out",
                lambda a: a.weights * (np.arange(1, a.T + 1)[:, None] < a.lengths[None]),
            ),
            (
                "loss-one-step-long",
                "a loss is counted one step beyond each row's length",
                lambda a: a.weights.max(axis=0)[None] * (np.arange(1, a.T + 1)[:, None] <= a.lengths[None] + 1),
            ),
        ]
    for id_, words, f in choices:
        yield Hypothesis(id_, words, weighed(f), order=14)


def _gradients(problem: Problem) -> Iterator[Hypothesis]:
    kind = problem.loss.kind

    def do(id_: str, words: str, f: Do, order: int = 15) -> Hypothesis:
        return Hypothesis(id_, words, gradient_of(f), order=order)

    for factor, id_, words in (
        (-1, "negated", "has the wrong sign"),
        (2, "doubled", "is twice what it should be"),
        (0.5, "halved", "is half of what it should be"),
    ):
        yield do(
            f"do-{id_}", f"the gradient of the loss by the outputs {words}", lambda a, d, c=factor: d * WIDE(c), 16
        )
    yield do(
        "do-batch-first",
        "the upstream gradient is a batch-first buffer (B,T,K), read as if it were (T,B,K)",
        lambda a, d: np.ascontiguousarray(d.transpose(1, 0, 2)).reshape(d.shape),
    )
    yield do("do-reversed", "the upstream gradient is read in reverse order of time", lambda a, d: d[::-1])
    yield do(
        "do-late",
        "the upstream gradient of step t is taken at step t + 1",
        lambda a, d: np.concatenate([np.zeros_like(d[:1]), d[:-1]]),
    )
    yield do(
        "do-early",
        "the upstream gradient of step t + 1 is taken at step t",
        lambda a, d: np.concatenate([d[1:], np.zeros_like(d[:1])]),
    )
    yield do(
        "do-row-0",
        "the upstream gradient of row 0 is taken for every row",
        lambda a, d: np.broadcast_to(d[:, :1], d.shape),
    )
    for limit in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0):
        yield do(
            f"do-clipped-{limit:g}",
            f"the gradient by the outputs is clipped to [-{limit:g}, {limit:g}]",
            lambda a, d, c=limit: np.clip(d, -c, c),
            25,
        )
    time, batch = problem.loss.time_reduction == "mean", problem.loss.batch_reduction == "mean"
    if problem.loss.time_reduction == "tokens":
        yield Hypothesis(
            "gradient-not-averaged-tokens",
            "the loss is averaged over the tokens, its gradient is not",
            _unreduced(time=True, batch=True),
            order=9,
        )
    if batch:
        yield Hypothesis(
            "gradient-not-averaged-batch",
            "the loss is averaged over the batch, its gradient is not",
            _unreduced(time=False, batch=True),
            order=9,
        )
    if time:
        yield Hypothesis(
            "gradient-not-averaged-time",
            "the loss is averaged over time, its gradient is not",
            _unreduced(time=True, batch=False),
            order=9,
        )
    if time and batch:
        yield Hypothesis(
            "gradient-not-averaged",
            "the loss is averaged over time and the batch, its gradient is not",
            _unreduced(time=True, batch=True),
            order=9,
        )
    if kind == "squared_error":
        yield do(
            "scale-ignored", "the gradient of the squared error ignores the scale", lambda a, d: d / WIDE(_scale(a)), 9
        )
        yield do("no-factor-two", "the gradient of the squared error misses the factor 2", lambda a, d: d / 2, 10)
        yield do("error-sign", "the gradient is that of y − o in place of o − y", lambda a, d: -d, 9)
        yield do(
            "error-of-sign",
            "the gradient is that of an absolute error: the sign of o − y",
            lambda a, d: np.sign(d) * np.where(a.weights[..., None] != 0, a.weights[..., None], 0),
        )
        yield Hypothesis(
            "loss-scale-ignored",
            "the loss ignores the scale",
            lambda base: {"loss": base.exact["loss"] / WIDE(base.problem.loss.scale)},
            order=9,
        )
        yield Hypothesis(
            "loss-other-scale",
            "the loss and its gradient have a scale of 1 where ½ was asked for, or ½ where 1 was",
            _other_scale,
            order=11,
        )
    if kind == "cross_entropy":
        yield do(
            "softmax-without-target",
            "the gradient of the cross-entropy is p where p − y belongs",
            lambda a, d: _weighed(a, a.target().sum(axis=-1, keepdims=True) * np.exp(a.log_softmax())),
            9,
        )
        yield do(
            "softmax-target-only",
            "the gradient of the cross-entropy is −y where p − y belongs",
            lambda a, d: _weighed(a, -a.target()),
            12,
        )
        yield do("softmax-sign", "the gradient of the cross-entropy is y − p where p − y belongs", lambda a, d: -d, 9)
        yield do(
            "softmax-without-sum",
            "the gradient of the cross-entropy misses the factor Σy: p − y",
            lambda a, d: _weighed(a, np.exp(a.log_softmax()) - a.target()),
            9,
        )
        yield do(
            "softmax-logits",
            "the gradient of the cross-entropy is o − y, without the softmax",
            lambda a, d: _weighed(a, a.o - a.target()),
            12,
        )
        yield do(
            "softmax-sigmoid",
            "the gradient of the cross-entropy is σ(o) − y, that of a sigmoid",
            lambda a, d: _weighed(a, 1 / (1 + np.exp(-a.o)) - a.target()),
            14,
        )
        yield do(
            "softmax-twice",
            "the softmax is applied twice",
            lambda a, d: _weighed(a, _softmax(np.exp(a.log_softmax())) - a.target()),
            14,
        )
        yield do(
            "softmax-over-batch",
            "the softmax is taken over the wrong axis",
            lambda a, d: _weighed(a, _softmax(a.o, 1) - a.target()),
            15,
        )
        yield do(
            "softmax-smoothed",
            "the target is smoothed by 0.1",
            lambda a, d: _weighed(a, np.exp(a.log_softmax()) - (0.9 * a.target() + WIDE(1) / 10 / a.K)),
            20,
        )
        yield do("softmax-overflow", "the softmax is not shifted by its maximum, and overflows", _overflow, 20)
        for digits in range(6, 17):
            yield Hypothesis(
                f"log-epsilon-{digits}",
                f"the logarithm of the cross-entropy is taken of p + 1e-{digits}",
                _epsilon(digits),
                order=20,
            )
        yield Hypothesis(
            "log-base-2",
            "the logarithm of the cross-entropy is that of base 2",
            lambda base: {"loss": base.exact["loss"] / np.log(WIDE(2))},
            order=20,
        )
        yield Hypothesis(
            "loss-sign", "the loss has the wrong sign", lambda base: {"loss": -base.exact["loss"]}, order=15
        )


def _scale(a: Tape) -> float:
    return a.problem.loss.scale or 1.0


def _weighed(a: Tape, raw: Array) -> Array:
    return np.asarray(np.where(a.weights[..., None] != 0, a.weights[..., None] * raw, 0))


def _softmax(o: Array, axis: int = -1) -> Array:
    e = np.exp(o - o.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def _overflow(a: Tape, d: Array) -> Array:
    kind = np.float64 if a.problem.dtype == "float64" else np.float32
    with np.errstate(all="ignore"):
        e = np.exp(a.o.astype(kind))
        p = e / e.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(np.isfinite(p), d, WIDE(np.nan)))


def _epsilon(digits: int) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        tape = base.tape
        each = -(tape.target() * np.log(np.exp(tape.log_softmax()) + WIDE(10) ** -digits)).sum(axis=-1)
        return {"loss": np.asarray(np.where(tape.weights != 0, tape.weights * each, 0).sum())}

    return predict


def _unreduced(*, time: bool, batch: bool) -> Callable[[Base], Arrays | None]:
    """A prediction: the gradients without the division by the lengths (time), the rows (batch), or both."""

    def predict(base: Base) -> Arrays | None:
        loss, a = base.problem.loss, base.tape
        weights = a.own.astype(WIDE)
        if loss.time_reduction == "mean" and not time:
            weights = weights / np.maximum(1, a.lengths).astype(WIDE)[None]
        if loss.batch_reduction == "mean" and not batch:
            weights = weights / a.B
        tape = base.run(weights=weights)
        return tape.gradients() | tape.readout()

    return predict


def _other_scale(base: Base) -> Arrays:
    loss = base.problem.loss
    other = 0.5 if loss.scale == 1.0 else 1.0
    return base.with_problem(replace(base.problem, loss=replace(loss, scale=other)))


def _finals(problem: Problem) -> Iterator[Hypothesis]:
    loss = problem.loss
    given = [name for name in problem.spec.states if getattr(loss, f"g_{name}_final") is not None]
    if not given:
        return

    def ended(**twist: object) -> Callable[[Base], Arrays]:
        def predict(base: Base) -> Arrays:
            made = {key: value(base) if callable(value) and key == "slot" else value for key, value in twist.items()}
            tape = base.run(**made)
            return tape.gradients() | tape.readout()

        return predict

    for names in [tuple(given)] if len(given) == 1 else [tuple(given), *((name,) for name in given)]:
        of = " and ".join(f"{name}_T" for name in names)
        tag = "".join(names)
        for factor, words in ((0, "ignored"), (2, "counted twice"), (-1, "subtracted")):
            yield Hypothesis(
                f"final-{words.replace(' ', '-')}-{tag}",
                f"the gradient of the final state {of} is {words}",
                ended(finals={name: lambda g, c=factor: g * WIDE(c) for name in names}),
                order=9,
            )
    yield Hypothesis(
        "final-at-padded-slot",
        "the gradient of the final state enters at the padded last slot, t = T, "
        "where a row that ended earlier never sees it",
        _final_lost,
        order=9,
    )
    yield Hypothesis(
        "final-clamped",
        "an index clamped to T − 1 lets the gradient of the final state in one step early",
        ended(slot=lambda base: np.minimum(base.problem.row_lengths, base.problem.T - 1)),
        order=10,
    )
    yield Hypothesis(
        "final-one-early",
        "the gradient of the final state enters one step too early",
        ended(slot=lambda base: np.maximum(base.problem.row_lengths - 1, 0)),
        order=11,
    )
    yield Hypothesis(
        "final-empty-lost",
        "the final cotangent of an empty row (length 0) is lost",
        lambda base: {
            f"d{n}0": np.where(base.problem.row_lengths[:, None] == 0, 0, base.exact[f"d{n}0"])
            for n in base.problem.spec.states
        },
        order=11,
    )
    if len(given) == 2:
        yield Hypothesis("finals-swapped", "the gradients of h_T and c_T are exchanged", _swapped, order=10)
    yield Hypothesis(
        "loss-without-finals",
        "the loss leaves out the final states",
        lambda base: {
            "loss": base.exact["loss"] - sum((base.tape.finals[n] * base.tape.h[n][-1]).sum() for n in base.tape.finals)
        },
        order=10,
    )


def _final_lost(base: Base) -> Arrays:
    full = (base.problem.row_lengths == base.problem.T)[:, None]
    tape = base.run(finals={name: lambda g: np.where(full, g, 0) for name in base.tape.finals})
    return tape.gradients() | tape.readout()


def _swapped(base: Base) -> Arrays:
    loss = base.problem.loss
    return base.with_problem(
        replace(base.problem, loss=replace(loss, g_h_final=loss.g_c_final, g_c_final=loss.g_h_final))
    )
