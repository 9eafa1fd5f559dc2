"""C23 to C27: the cell state of the LSTM, with and without a forget gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from conformance.claims.base import Claim, Finding, N, Run, ball, exhibit, number, quarters, same, search
from conformance.claims.networks import gradients, jacobian

GATES = {"lstm": 4, "lstm_1997": 3}


def network(
    cell: str, W_h: Any, b: Any, *, T: int = 1, h0: Any = None, c0: Any = None, truncation: Truncation | None = None
) -> Problem:
    """An LSTM without inputs to speak of (x = 0), one row, the loss the sum of the last state h."""
    W_h, b = np.array(W_h, dtype=np.float64), np.array(b, dtype=np.float64)
    H = len(W_h)
    g = np.zeros((T, 1, H))
    g[-1] = 1.0
    zero = np.zeros((1, H))
    return Problem(
        cell,
        {"W_x": np.zeros((1, GATES[cell] * H)), "W_h": W_h, "b": b},
        np.zeros((T, 1, 1)),
        Loss("cotangent", g=g),
        h0=zero if h0 is None else np.array(h0, dtype=np.float64).reshape(1, H),
        c0=zero if c0 is None else np.array(c0, dtype=np.float64).reshape(1, H),
        truncation=truncation or Truncation(),
    )


def blocks(J: list[list[Any]], H: int) -> tuple[Any, Any, Any, Any]:
    """dh/dh, dc/dh, dh/dc, dc/dc of a Jacobian of (h, c), row i for the old state's entry i."""
    return (
        [row[:H] for row in J[:H]],
        [row[H:] for row in J[:H]],
        [row[:H] for row in J[H:]],
        [row[H:] for row in J[H:]],
    )


def c23(run: Run) -> Finding:
    """The constant error carousel."""

    def holds(p: Problem) -> bool | None:
        for t in range(1, p.T + 1):
            cc = blocks(jacobian(p, 0, t), p.H)[3]
            if not (
                verdict := same([v for row in cc for v in row], [int(i == j) for i in range(p.H) for j in range(p.H)])
            ):
                return verdict
        return True

    def draw(rng: np.random.Generator) -> Problem:
        H, T = int(rng.integers(1, 4)), int(rng.integers(1, 6))
        W, b = quarters(rng, H, 3 * H), quarters(rng, 3 * H)
        h0, c0 = quarters(rng, H), quarters(rng, H)
        return network("lstm_1997", W, b, T=T, h0=h0, c0=c0, truncation=Truncation("cec"))

    return search(
        "C23",
        run,
        holds=holds,
        small=[network("lstm_1997", [[1.0, 1.0, 1.0]], [0.0, 0.0, 0.0], truncation=Truncation("cec"))],
        draw=draw,
        show=lambda p: [f"H = {p.H}, T = {p.T}"],
        second=lambda _p: ([], False),
        shown="∂c_t/∂c_0 of the oracle under `cec` is the identity, for t = 1 to T; property cell-state-jacobian",
    )


@dataclass(frozen=True)
class Step:
    """C24's formula at one step: o_{t-1} is given, h_{t-1} = o_{t-1} tanh(C_{t-1})."""

    W_h: Any
    b: Any
    o: Any
    c: Any
    transposed: bool

    def problem(self) -> Problem:
        """The step, from h = o tanh(c) in float64: a point like any other."""
        h = np.array(self.o) * np.tanh(np.array(self.c))
        return network("lstm", self.W_h, self.b, h0=h, c0=self.c)

    def both(self) -> tuple[list[Any], list[Any]]:
        """The formula by hand and the oracle's chain, entry (j, i) = dC_t,j / dC_{t-1},i."""
        p = self.problem()
        H = p.H
        J = jacobian(p, 0, 1)
        _, c_by_h, _, c_by_c = blocks(J, H)
        with N.scope():
            c = [ball(float(v)) for v in np.atleast_1d(self.c)]
            h = [ball(float(v)) for v in p.h0[0]]  # type: ignore[index]
            q = [ball(float(o)) * (1 - N.tanh(v) * N.tanh(v)) for o, v in zip(np.atleast_1d(self.o), c, strict=True)]
            chain = [q[i] * c_by_h[i][j] + c_by_c[i][j] for j in range(H) for i in range(H)]
            W = [[ball(float(v)) for v in row] for row in p.params["W_h"]]
            a = [sum(h[i] * W[i][k] for i in range(H)) + ball(float(p.params["b"][k])) for k in range(4 * H)]
            i_, f, g = (
                [act(a[k * H + j]) for j in range(H)] for k, act in ((0, N.sigmoid), (1, N.sigmoid), (2, N.tanh))
            )
            terms = []
            for j in range(H):
                s = (g[j] * i_[j] * (1 - i_[j]), c[j] * f[j] * (1 - f[j]), i_[j] * (1 - g[j] * g[j]))
                for i in range(H):
                    w = [W[i][k * H + j] if self.transposed else W[j][k * H + i] for k in range(3)]
                    terms.append(sum(x * y for x, y in zip(s, w, strict=True)) * q[i] + (f[j] if i == j else 0))
        return terms, chain


def _two_units() -> Step:
    """W_hg = (0 1; 0 0), all else 0, h_{t-1} = 0."""
    W = np.zeros((2, 8))
    W[0, 5] = 1.0
    return Step(W, np.zeros(8), np.array([0.5, 0.5]), np.zeros(2), transposed=False)


def c24(run: Run) -> Finding:
    """The four terms."""

    def draw(rng: np.random.Generator) -> Step:
        H = int(rng.integers(1, 4))
        o = rng.integers(1, 16, H) / 16.0
        return Step(quarters(rng, H, 4 * H), quarters(rng, 4 * H), o, quarters(rng, H), transposed=True)

    def second(step: Step) -> tuple[list[str], bool]:
        terms, chain = step.both()
        lines = [
            (
                "by hand: C_t,2 = ½ tanh(½ tanh(C_{t−1,1})) + ½ C_{t−1,2}, whose derivative in C_{t−1,1} at 0 is ¼; "
                "C_t,1 does not depend on C_{t−1,2}"
            )
        ]
        quarter, half = Fraction(1, 4), Fraction(1, 2)
        return lines, same(chain, [half, 0, quarter, half]) is True and same(terms, chain) is False

    return search(
        "C24",
        run,
        holds=lambda step: same(*step.both()),
        small=[_two_units()],
        draw=draw,
        show=lambda step: [
            (
                "two units, C_{t−1} = 0, o_{t−1} = ½, W_hg = (0 1; 0 0) and all else 0: ∂C_t,2/∂C_{t−1},1 = "
                f"{number(step.both()[1][2])}, the formula has {number(step.both()[0][2])} with untransposed weights"
            )
        ],
        second=second,
        condition="h_{t−2} is held fixed (so o_{t−1} is), and for H > 1 the weights are transposed",
        shown="the four terms in balls against the oracle's Jacobian of (h, c), chained through h_{t−1}",
        notes=("With peepholes (p_i, p_f) the gates see the cell itself, and there are more terms.",),
    )


@dataclass(frozen=True)
class Steps:
    """One unit over T steps, from h_0 = o tanh(C_0) with o fixed."""

    W_h: tuple[float, float, float, float]
    b: tuple[float, float, float, float]
    o: float
    c: float
    T: int = 2

    def both(self) -> tuple[Any, Any]:
        """(the product of C24's formulas, dC_T/dC_0)."""
        with N.scope():
            h, c = ball(self.o) * N.tanh(ball(self.c)), ball(self.c)
            o, dh, dc, product = ball(self.o), ball(0), ball(1), ball(1)
            first = True
            for _ in range(self.T):
                t = N.tanh(c)
                q = o * (1 - t * t)
                dh = q if first else dh
                first = False
                a = [ball(w) * h + ball(b) for w, b in zip(self.W_h, self.b, strict=True)]
                i, f, g, new_o = N.sigmoid(a[0]), N.sigmoid(a[1]), N.tanh(a[2]), N.sigmoid(a[3])
                wi, wf, wg, wo = map(ball, self.W_h)
                by_h = g * i * (1 - i) * wi + c * f * (1 - f) * wf + i * (1 - g * g) * wg
                product = product * (by_h * q + f)
                dc = by_h * dh + f * dc
                c, o = f * c + i * g, new_o
                s = N.tanh(c)
                dh = s * new_o * (1 - new_o) * wo * dh + o * (1 - s * s) * dc
                h = o * s
        return product, dc

    def oracle(self) -> Any:
        """dC_T/dC_0 at the float64 h_0 nearest to o tanh(C_0), from the joint Jacobian; for C_0 = 0 exactly there."""
        h0 = self.o * float(np.tanh(self.c))
        p = network("lstm", [list(self.W_h)], list(self.b), T=self.T, h0=[h0], c0=[self.c])
        J = jacobian(p, 0, self.T)
        with N.scope():
            t = N.tanh(ball(self.c))
            return ball(self.o) * (1 - t * t) * J[0][1] + J[1][1]


def c25(run: Run) -> Finding:
    """C24's formula multiplied over k steps."""
    one = Steps((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.0), 0.5, 0.0)

    def draw(rng: np.random.Generator) -> Steps:
        w, b = quarters(rng, 4).tolist(), quarters(rng, 4).tolist()
        return Steps((w[0], w[1], w[2], 0.0), tuple(b), float(rng.integers(1, 16)) / 16, 0.0, int(rng.integers(2, 5)))

    def holds(s: Steps) -> bool | None:
        product, exact = s.both()
        return same([product], [s.oracle()]) if s.c == 0 else same([product], [exact])

    def second(s: Steps) -> tuple[list[str], bool]:
        with mpmath.workdps(40):
            mpf, tanh = mpmath.mpf, mpmath.tanh

            def sigma(a: Any) -> Any:
                return 1 / (1 + mpmath.exp(-a))

            def last(c: Any) -> Any:
                h = mpf(s.o) * tanh(c)
                for _ in range(s.T):
                    a = [mpf(w) * h + mpf(b) for w, b in zip(s.W_h, s.b, strict=True)]
                    c = sigma(a[1]) * c + sigma(a[0]) * tanh(a[2])
                    h = sigma(a[3]) * tanh(c)
                return c

            slope = mpmath.diff(last, mpf(s.c))
            text = mpmath.nstr(slope, 10)
            near = abs(slope - mpf(str(s.both()[1].mid().str(30, radius=False)))) < mpf(10) ** -15
        return [f"the derivative of C_2 as a function of C_0, by differences at 40 digits: {text}"], bool(near)

    return search(
        "C25",
        run,
        holds=holds,
        small=[one],
        draw=draw,
        show=lambda s: [
            (
                f"one unit, W_hg = W_ho = 1, b_g = 1, all else 0, o_0 = ½, C_0 = 0: ∂C_2/∂C_0 = {number(s.oracle())}, "
                f"the product of two formulas is {number(s.both()[0])}"
            )
        ],
        second=second,
        condition="the output gate has no recurrent weights",
        shown="products in balls against the oracle's joint Jacobian of (h, c)",
        notes=("o_{t−1} carries C_{t−2} past C_{t−1}: the state is the pair (h, C), and its Jacobians multiply.",),
    )


def c26(_run: Run) -> Finding:
    """Factors on either side of 1."""
    above, below = Steps((0.0, 0.0, 8.0, 0.0), (0.0,) * 4, 0.5, 0.0, 1), Steps((0.0,) * 4, (0.0,) * 4, 0.5, 0.0, 1)

    def grown(s: Steps) -> Any:
        with N.scope():
            return replace(s, T=4).both()[1]

    def is_above(s: Steps) -> bool | None:
        with N.scope():
            return bool(s.oracle() > 1) and bool(grown(s) > s.oracle())

    def is_below(s: Steps) -> bool | None:
        with N.scope():
            return bool(s.oracle() < 1) and bool(grown(s) < s.oracle())

    return exhibit(
        wanted=[(below, is_below), (above, is_above)],
        show=lambda s: [
            (
                f"one unit, W_hg = {Fraction(s.W_h[2])}, else 0, o_0 = ½, C_0 = 0: ∂C_1/∂C_0 = {number(s.oracle())}, "
                f"and over four steps {number(grown(s))}"
            )
        ],
        second=lambda s: (
            [f"in closed form, σ(0) = ½ and tanh'(0) = 1: ½·W_hg·½ + ½ = {Fraction(s.W_h[2]) / 4 + Fraction(1, 2)}"],
            same([s.oracle()], [Fraction(s.W_h[2]) / 4 + Fraction(1, 2)]) is True,
        ),
        shown="two exhibits, enclosed",
        notes=("At C = 0 and h = 0 nothing moves, so the factors are the same at every step: 5/2 to the k explodes.",),
    )


def c27(run: Run) -> Finding:
    """Growth of the cell state without a forget gate."""

    def state(T: int) -> Any:
        return gradients(network("lstm_1997", [[0.0, 0.0, 0.0]], [0.0, 1.0, 0.0], T=T))["c"][-1]

    def closed(T: int) -> Any:
        with N.scope():
            return T * N.tanh(ball(1)) / 2

    def grows(T: int) -> bool | None:
        with N.scope():
            return bool(state(T) > ball(Fraction(3 * T, 8)))

    lengths = (10, 100) if run.quick else (10, 100, 1000)
    return exhibit(
        wanted=[(T, grows) for T in lengths],
        show=lambda T: [f"one unit, b_g = 1, all else 0: C_{T} = {number(state(T))} > 3·{T}/8"],
        second=lambda T: (
            [f"by hand T·σ(0)·tanh(1) = {number(closed(T))}"],
            same([state(T)], [closed(T)]) is True,
        ),
        shown="the oracle's states, enclosed; C_T = T·i·g for constant gates is beyond every bound",
    )


CLAIMS = (
    Claim("C23", "Without forget gate and with the truncated gradient ∂C_t/∂C_{t−1} = 1.", "004", c23),
    Claim("C24", "With forget gate ∂C_t/∂C_{t−1} is the printed sum of four terms.", "004", c24),
    Claim("C25", "Over k steps that formula is multiplied k times.", "004", c25),
    Claim("C26", "The LSTM's factor can lie on either side of 1; gradients can still explode.", "004", c26),
    Claim("C27", "Without forget gate the cell state can grow without bound.", "004", c27),
)
