"""Where a training loop's weights may be: the oracle's own trajectory, and a derived bound around it at every update.

W_j, X_j are the exact weights and carried states: (1) to (3) of properties/training.py in balls of 256 bits. w_j, x_j
are those of the loop that is judged, which stores its weights in the dtype: r_j, the one rounding of each of its
updates, is a known rational, is at most half an ulp, and is part of the exact trajectory. P(w,x), G(w,x,e), F(w,x) are
the outputs of a window, its gradients and the next state; E_j and S_j bound |w_j - W_j| and |x_j - X_j|, entrywise:

    E_0 = S_0 = 0        W_{j+1} = W_j - rate G(W_j,X_j,P-y) + r_j                                                (1)
    |e_j - (P - y)| <= sup |P(w,x) - P(W_j,X_j)| + b_o + half an ulp = C_j                                        (2)
    E_{j+1} = E_j + rate (sup |G(w,x,e) - G(W_j,X_j,P-y)| + b_G)                                                  (3)
    S_{j+1} = sup |F(w,x) - F(W_{j+1},X_j)| + b_F                                                                 (4)

The suprema are over |w - W_j| <= E_j, |x - X_j| <= S_j, |e - (P-y)| <= C_j, and are enclosed by the oracle's equations
begun with balls of these radii. b are the budgets of the problems that were posed, which are theorems for any
admissible target at w_j, x_j, e_j. Proof: with g the target's gradient, the loop's update less the exact one is
w_{j+1} - W_{j+1} = (w_j - W_j) - rate (g - G(w_j,x_j,e_j)) - rate (G(w_j,x_j,e_j) - G(W_j,X_j,P-y)), and (2) to (4)
follow; that w_j, x_j, e_j lie within the suprema's ranges is checked at each j, and so needs no assumption.
Derivation: ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem
from oracle.ball_numbers import BallNumbers
from oracle.budget import Model
from oracle.numbers import Undecided
from oracle.truth import CONCLUSIVE, Truth, norm
from oracle.tube import Balls, distance, gradients_over, values_over, widened
from properties.base import Comparison, Term
from properties.compare import worst_entry
from properties.training import Array, Update, Window, fractions, one_step

Floats = NDArray[np.float64]
PREC = 256


class Trajectory:
    """The exact trajectory beside a loop's: `follow` each update, then `moved` compares what all of them did.

    `found` holds the comparisons so far: of what was posed, and of the weights, with (2) to (4); `roundings` those of
    the updates themselves, r_j.
    """

    def __init__(self, problem: Problem, rate: Fraction, truth: Callable[[Problem], Truth]) -> None:
        self.start, self.rate, self.truth = problem, rate, truth
        self.N = BallNumbers(PREC)
        self.model = Model(problem.dtype)
        self.states = [f"{name}0" for name in problem.spec.states if getattr(problem, f"{name}0") is not None]
        with self.N.scope():
            self.exact: dict[str, Balls] = {name: self._points(array) for name, array in problem.params.items()}
            self.exact |= {name: self._points(getattr(problem, name)) for name in self.states}
        self.first = dict(self.exact)
        self.radii = {name: np.zeros(self._shape(name)) for name in self.exact}
        with self.N.scope():
            self.rounded = {n: [self.N.scalar(0)] * len(values) for n, values in self.exact.items()}  # the sum of r_j
        self.found: list[Comparison] = []
        self.roundings: list[Comparison] = []
        self.updates: list[Update] = []

    def _points(self, array: Array) -> Balls:
        return [self.N.ratio(value) for value in fractions(array)]

    def _shape(self, name: str) -> tuple[int, ...]:
        array = self.start.params[name] if name in self.start.params else getattr(self.start, name)
        return tuple(array.shape)

    def _tube(self) -> dict[str, Balls]:
        return {name: widened(values, self.radii[name]) for name, values in self.exact.items()}

    def follow(self, update: Update, y: Array | None = None) -> bool:
        """One update of a loop; y is the desired output of its window, None for `descent`. Whether all holds so far."""
        posed = update.problem
        self.updates.append(update)
        with self.N.scope():
            for name, values in self.exact.items():
                self._compare(name, self._posed(posed, name), values, self.radii[name])
            try:
                self._move(update, y)
            except Undecided:  # a kink within the tube: any branch may be right, and nothing more can be said
                self.radii = {name: np.full(r.shape, np.inf) for name, r in self.radii.items()}
        return all(c.holds for c in (*self.found, *self.roundings))

    def _posed(self, posed: Problem, name: str) -> Array:
        array: Array = posed.params[name] if name in posed.params else getattr(posed, name)
        return array

    def _move(self, update: Update, y: Array | None) -> None:
        posed, u, tiny = update.problem, self.model.u, self.model.eta * self.model.u
        exact, tube = dict(self.exact), self._tube()
        truth = self.truth(posed)
        if y is not None:
            o, around = values_over(posed, exact, PREC)["o"], values_over(posed, tube, PREC)["o"]
            error = [p - want for p, want in zip(o, self._points(y), strict=True)]  # (2) of training.py
            last = np.array([float(value) for value in error]).reshape(y.shape)
            bound = distance(around, o, y.shape) + truth.allowed("o")[-1]
            bound = bound * (1 + u) + u * np.abs(last) * (1 + 2.0**-50) + tiny  # (2)
            assert posed.loss.g is not None
            self._compare("p - y", posed.loss.g[-1], error, bound)
            zeros = [self.N.scalar(0)] * (posed.loss.g.size - y.size)
            exact["g"], tube["g"] = zeros + error, zeros + widened(error, bound)
        points, wide = gradients_over(posed, exact, PREC), gradients_over(posed, tube, PREC)
        rate, top = self.N.ratio(self.rate), float(self.rate) * (1 + 2.0**-50)
        for name, w in update.params.items():
            if f"d{name}" not in update.answer:
                continue
            key, shape = f"d{name}", w.shape
            rounding = self._rounding(name, update)
            self.rounded[name] = [old + r for old, r in zip(self.rounded[name], rounding, strict=True)]
            moved = zip(self.exact[name], points[key], rounding, strict=True)
            self.exact[name] = [old - rate * g + r for old, g, r in moved]  # (1)
            spread = distance(wide[key], points[key], shape) + truth.allowed(key)
            self.radii[name] = _upwards(self.radii[name], top * spread, spread)  # (3)
        for name in update.params:
            self._compare(name, update.params[name], self.exact[name], self.radii[name])

    def _rounding(self, name: str, update: Update) -> Balls:
        """r_j, judged: what the update has left over from w - rate g, at most half an ulp."""
        old, new = fractions(update.problem.params[name]), fractions(update.params[name])
        g = fractions(np.asarray(update.answer[f"d{name}"]))
        exact = [w - self.rate * d for w, d in zip(old, g, strict=True)]
        left = [after - want for after, want in zip(new, exact, strict=True)]
        array = update.params[name]
        u, tiny = self.model.u, self.model.eta * self.model.u
        bound = u * np.abs(array.astype(np.float64)) * (1 + 2 * u) + tiny
        points = [self.N.ratio(value) for value in exact]
        self.roundings.append(self._comparison(f"rounding {name}", array, points, bound, conclusive=True))
        return [self.N.ratio(value) for value in left]

    def carry(self, problem: Problem, window: Window) -> None:
        """(4): the state moves on by a window's first step; `problem` has the loop's own new weights and old state."""
        posed = one_step(problem, window)
        with self.N.scope():
            try:
                points, wide = values_over(posed, self.exact, PREC), values_over(posed, self._tube(), PREC)
            except Undecided:
                self.radii = {name: np.full(r.shape, np.inf) for name, r in self.radii.items()}
                return
            truth = self.truth(posed)
            for name in self.states:
                state = name.removesuffix("0")
                self.exact[name] = points[state]
                spread = distance(wide[state], points[state], self._shape(name))
                self.radii[name] = _upwards(spread, truth.allowed(state)[-1], spread)  # (4)

    def _compare(self, name: str, got: Array, exact: Balls, allowed: Floats) -> None:
        self.found.append(self._comparison(name, got, exact, allowed, conclusive=True))

    def _comparison(self, key: str, got: Array, exact: Balls, allowed: Floats, *, conclusive: bool) -> Comparison:
        """|got - exact| <= allowed, entry by entry, the difference taken in balls."""
        with self.N.scope():
            error = distance(self._points(got), exact, got.shape)
            want = np.array([float(value) for value in exact]).reshape(got.shape)
            radius = np.array([float(value.rad()) for value in exact]).reshape(got.shape) * (1 + 2.0**-50)
        bound = allowed + 4 * radius
        found, _ = worst_entry(key, got, want, error, bound, conclusive, np.ones(got.shape, dtype=np.bool_))
        return found

    def moved(self) -> list[Comparison]:
        """What all updates together did to each weight, `delta W`, against the exact trajectory.

        Conclusive where the bound is small beside what the exact updates moved, or the exact ones move nothing.
        """
        out = []
        last = self.updates[-1]
        for name, w in last.params.items():
            if f"d{name}" not in last.answer:
                continue
            with self.N.scope():
                way = [b - a for a, b in zip(self.first[name], self.exact[name], strict=True)]
                size = norm(np.array([float(value) for value in way]))
            bound = norm(self.radii[name])
            small = bound <= CONCLUSIVE[self.start.dtype] * size < np.inf
            stays = size == 0 and all(self.truth(u.problem).conclusive(f"d{name}") for u in self.updates)
            found = self._comparison(f"delta {name}", w, self.exact[name], self.radii[name], conclusive=small or stays)
            terms = tuple(Term(-float(self.rate), u.problem, f"d{name}", found.where) for u in self.updates)
            out.append(self._of_updates(found, name, terms))
        return out

    def _of_updates(self, found: Comparison, name: str, terms: tuple[Term, ...]) -> Comparison:
        """The comparison of -rate times the sum of the gradients instead of w: the same error, as r_j is in both."""
        place = int(np.ravel_multi_index(found.where, self._shape(name))) if self._shape(name) else 0
        got = -self.rate * sum(fractions(np.asarray(u.answer[f"d{name}"]))[place] for u in self.updates)
        with self.N.scope():
            want = self.exact[name][place] - self.first[name][place] - self.rounded[name][place]
        values: dict[str, Any] = {"got": float(got), "want": float(want), "terms": terms}
        return Comparison(**{**vars(found), **values})


def _upwards(one: Floats, other: Floats, unless: Floats) -> Floats:
    """one + other >= 0 with what float64 may have lost in them and in their sum: a relative part, and underflow.

    >>> _upwards(np.array([0.0, 0.0]), np.array([0.0, 2.0**-1074 / 4]), np.array([0.0, 2.0**-1074]))
    array([0.e+000, 1.e-323])
    """
    total = one + other
    raised: Floats = np.where((total > 0) | (unless > 0), total * (1 + 2.0**-40) + 2.0**-1073, 0.0)
    return np.where(np.isnan(total), np.inf, raised)


def followed(trajectory: Trajectory, update: Update, y: Array, plan: list[Window], j: int) -> bool:
    """Follow the j-th update of a loop over windows and carry the state on; y (n,B,K). Whether all holds so far."""
    window = plan[j]
    holds = trajectory.follow(update, y[window.target])
    if holds and window.carries:
        old = {name: getattr(update.problem, name) for name in trajectory.states}
        trajectory.carry(replace(trajectory.start, params=update.params, **old), window)
    return holds
