"""Training loops that the suite drives: a target, or anything else that is asked, only supplies states and gradients.

    w' = w - rate dL/dw        computed exactly, and rounded once to the dtype                                   (1)

`descent` is (1), again and again, on one problem. The other two take one window of a sequence a_0, a_1, ... after
another: p is the output of a window's last step, y its desired value, and what is propagated back through the window
is the gradient of half the squared error,

    dL/do = p - y at the last step, 0 at the others                                                              (2)

    online        the t-th window is the first t steps, from the initial state; y = y_t            (S1, one step a t)
    truncated(k)  window t is a_t .. a_{t+k-1} from the state x_t, y = y_{t+k}; after (1), under the new weights,
                  x_{t+1} = f(x_t, a_t)                                                  (S5, truncated BPTT)    (3)

Source: S1 is the one-neuron network of docs/claims.md (C01 to C03); S5 is the well-known listing of truncated BPTT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.bits import decode
from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from oracle.rounding import to_array

Array = NDArray[Any]
Answers = Mapping[str, Array]
Ask = Callable[[Problem], Answers]


@dataclass(frozen=True)
class Window:
    """Steps start..stop-1 of a sequence (from 0), compared with y at `target`; `carries`: the state moves on by (3)."""

    start: int
    stop: int
    target: int
    carries: bool


@dataclass(frozen=True)
class Update:
    """One update: the problem that was posed for the gradients, what came back, and the parameters after (1)."""

    problem: Problem
    answer: Answers
    params: dict[str, Array]


def online(n: int) -> list[Window]:
    """The windows of S1 on n steps.

    >>> online(2)
    [Window(start=0, stop=1, target=0, carries=False), Window(start=0, stop=2, target=1, carries=False)]
    """
    return [Window(0, t, t - 1, carries=False) for t in range(1, n + 1)]


def truncated(n: int, k: int) -> list[Window]:
    """The windows of S5 on n pairs, unfolded into k steps: n - k of them.

    >>> truncated(3, 2)
    [Window(start=0, stop=2, target=2, carries=True)]
    """
    return [Window(t, t + k, t + k, carries=True) for t in range(n - k)]


def fractions(array: Array) -> list[Fraction]:
    """The entries of a float array as rationals, exactly, in C order. Raises: ValueError for infinities and NaN.

    >>> fractions(np.array([0.5, -3.0]))
    [Fraction(1, 2), Fraction(-3, 1)]
    """
    if array.dtype.itemsize > 8:  # an answer in a wider dtype is taken as it is
        try:
            return [Fraction(*value.as_integer_ratio()) for value in array.reshape(-1)]
        except OverflowError as error:
            raise ValueError("got an infinity, expected finite numbers") from error
    numbers, exponents = decode(array)
    pairs = zip(numbers, exponents, strict=True)
    return [Fraction(n << e) if e >= 0 else Fraction(n, 1 << -e) for n, e in pairs]


def updated(params: Mapping[str, Array], answer: Answers, rate: Fraction, dtype: str) -> dict[str, Array]:
    """(1) for every parameter whose gradient is there; the others stay as they are.

    Error:  one rounding to nearest an entry, half an ulp of the new weight.
    Raises: ValueError for a gradient that is not finite.

    >>> updated({"b_h": np.array([1.0])}, {"db_h": np.array([2.0])}, Fraction(1, 4), "float64")
    {'b_h': array([0.5])}
    """
    out = {}
    for name, w in params.items():
        if f"d{name}" not in answer:
            out[name] = w
            continue
        moved = zip(fractions(w), fractions(np.asarray(answer[f"d{name}"])), strict=True)
        out[name] = to_array([old - rate * g for old, g in moved], w.shape, dtype)
    return out


def rounded(array: Array, dtype: str) -> Array:
    """An answer's array in the problem's dtype: itself, or each entry rounded once."""
    return to_array(fractions(np.asarray(array)), array.shape, dtype)


def descent(problem: Problem, updates: int, rate: Fraction, ask: Ask) -> Iterator[Update]:
    """(1) on one problem: after each update what was asked, answered, and came of it.

    Raises: ValueError for a gradient that is not finite.
    """
    for _ in range(updates):
        answer = ask(problem)
        params = updated(problem.params, answer, rate, problem.dtype)
        yield Update(problem, answer, params)
        problem = replace(problem, params=params)


def windows(problem: Problem, y: Array, plan: list[Window], rate: Fraction, ask: Ask) -> Iterator[Update]:
    """(1) to (3) over windows of problem.x, from the problem's own initial state; y (n,B,K) are the desired outputs.

    For each window `ask` is called for the outputs (with the zero cotangent), for the gradients, and, where the state
    is carried, for one step under the new weights.
    Raises: ValueError for an answer that is not finite; KeyError for one without the outputs or the state.
    """
    dtype, states = problem.dtype, problem.spec.states
    for window in plan:
        posed = posed_without_loss(problem, window)
        forward = ask(posed)
        posed = with_cotangent(posed, compared(np.asarray(forward["o"]), y[window.target], dtype))
        answer = ask(posed)
        params = updated(problem.params, answer, rate, dtype)
        yield Update(posed, answer, params)
        problem = replace(problem, params=params)
        if window.carries:
            stepped = ask(one_step(problem, window))
            state: dict[str, Any] = {f"{name}0": rounded(np.asarray(stepped[name])[-1], dtype) for name in states}
            problem = replace(problem, **state)


def posed_without_loss(problem: Problem, window: Window) -> Problem:
    """The window as a problem of its own, from the problem's initial state, with the zero cotangent."""
    x = np.ascontiguousarray(problem.x[window.start : window.stop])
    g = np.zeros((len(x), problem.B, problem.K), x.dtype)
    loss = Loss("cotangent", g=g)
    return replace(problem, x=x, loss=loss, lengths=None, truncation=Truncation())


def one_step(problem: Problem, window: Window) -> Problem:
    """The window's first step alone: (3)."""
    return posed_without_loss(problem, replace(window, stop=window.start + 1))


def compared(o: Array, y: Array, dtype: str) -> Array:
    """p - y of (2), (B,K), computed exactly and rounded once; o (T,B,K)."""
    pairs = zip(fractions(o[-1]), fractions(y), strict=True)
    return to_array([p - want for p, want in pairs], y.shape, dtype)


def with_cotangent(posed: Problem, last: Array) -> Problem:
    """The window with the cotangent (2)."""
    g = np.zeros((posed.T, posed.B, posed.K), posed.x.dtype)
    g[-1] = last
    return replace(posed, loss=Loss("cotangent", g=g))


__all__ = ["Update", "Window", "descent", "fractions", "online", "truncated", "updated", "windows"]
