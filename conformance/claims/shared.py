"""C09 to C11, C14 to C16, C18, C31, C34: what a backward pass needs, shared weights, and printed sums and products."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from conformance.claims.base import Claim, Finding, N, Run, ball, derivative, listed, number, quarters, same, search
from conformance.claims.networks import Neuron, draw_neuron, elman, gradients, jacobian, numbers_for
from oracle.solution import solve

Matrix = list[list[Any]]


def product(X: Matrix, Y: Matrix) -> Matrix:
    """X Y, by hand."""
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*Y, strict=True)] for row in X]


def transposed(X: Matrix) -> Matrix:
    """X^T."""
    return [list(row) for row in zip(*X, strict=True)]


def flat(X: Matrix) -> list[Any]:
    """In C order."""
    return [v for row in X for v in row]


def rational(array: Any) -> Matrix:
    """A matrix of floats as rationals."""
    return [[Fraction(v) for v in row] for row in np.atleast_2d(array).tolist()]


# ---- C09 to C11: what is stored, what depends on what, and shared weights ------------------------------------------


def _from_inputs(n: Neuron, weights: int = 1) -> list[Fraction]:
    """Gradients of the sum of all outputs, storing one copy of the weights and no layer: each state is recomputed.

    `weights` copies are stored; a backward pass with none would have nothing to multiply with.
    """
    c = Fraction(n.c) * weights
    T, carry, out = len(n.x), Fraction(0), dict.fromkeys("abc", Fraction(0))
    for t in range(T, 0, -1):
        states = [Fraction(n.start), *replace(n, x=n.x[:t]).outputs()]  # from the inputs, again for every step
        a = Fraction(n.a) + Fraction(n.b) * Fraction(n.x[t - 1]) + Fraction(n.c) * states[t - 1]
        delta = (1 + carry) * (1 if n.f == "identity" or a > 0 else 0)
        out = {
            "a": out["a"] + delta,
            "b": out["b"] + delta * Fraction(n.x[t - 1]),
            "c": out["c"] + delta * states[t - 1],
        }
        carry = delta * c
    return [out[k] for k in "abc"]


def _whole(n: Neuron) -> list[Any]:
    values = gradients(n.problem(every=True))
    return [values["db_h"][0], values["dW_xh"][0], values["dW_hh"][0]]


def summed(n: Neuron, name: str) -> Fraction:
    """The derivative of the sum of all outputs for a, b or c, from five values of a polynomial."""
    return derivative(lambda v: sum(n.outputs(**{name: v}), Fraction(0)), Fraction(getattr(n, name)))


def c09(run: Run) -> Finding:
    """Whether old weights and layers must be stored: a backward pass that stores neither, against the oracle."""

    def holds(n: Neuron) -> bool | None:  # the claim: such a pass cannot be right
        return not same(_from_inputs(n), _whole(n))

    def draw(rng: np.random.Generator) -> Neuron:
        return draw_neuron(rng, f=("identity", "relu")[int(rng.integers(2))])

    def second(n: Neuron) -> tuple[list[str], bool]:
        exact = [summed(n, k) for k in "abc"]
        return [f"from five values of polynomials: {listed(exact)}"], exact == _from_inputs(n)

    return search(
        "C09",
        run,
        holds=holds,
        small=[Neuron(0, 1, 1, (1.0, 0.0), 0)],
        draw=draw,
        show=lambda n: [
            (
                f"{n.text()}, L = ŷ_1 + ŷ_2: a pass that keeps the inputs, ŷ_0 and one copy of the weights has "
                f"dL/d(a, b, c) = {listed(_from_inputs(n))}; the oracle has {listed(_whole(n))}"
            )
        ],
        second=second,
        shown="a backward pass in rationals that stores one copy of the weights and recomputes every layer",
        notes=(
            (
                "Weights: one copy will do, as they are constant within a sequence; old ones are needed where they "
                "change from step to step."
            ),
            "Layers: they are stored or computed again from what is (checkpointing); either is exact.",
            "Outputs: they need not be stored once their error has been sent back; this part is true.",
        ),
    )


@dataclass(frozen=True)
class Readout:
    """A network with a linear readout and a loss on one step."""

    problem: Problem
    t: int


def draw_readout(rng: np.random.Generator) -> Readout:
    """Of up to five steps, in quarters, tanh or relu, squared error through a cotangent on step t."""
    T, B, D, H, K = (int(v) for v in rng.integers(1, (6, 3, 3, 4, 3)))
    T = max(T, 2)
    t = int(rng.integers(2, T + 1))
    g = np.zeros((T, B, K))
    g[t - 1] = quarters(rng, B, K) + 2.125  # nowhere 0
    params = {"W_xh": quarters(rng, D, H) / 8, "b_h": quarters(rng, H) / 8}
    params["W_hh"] = (quarters(rng, H, H) + 2.125) / 8  # above 0, and so is all that flows back: nothing cancels
    params |= {"W_hy": quarters(rng, H, K) + 2.125, "b_y": quarters(rng, K)}
    x, h0 = quarters(rng, T, B, D), quarters(rng, B, H) + 2.125
    loss = Loss("cotangent", g=g)
    return Readout(Problem("elman", params, x, loss, h0=h0, activation="tanh", readout="linear"), t)


def c10(run: Run) -> Finding:
    """What dL_t/dV, dL_t/dU and dL_t/dW depend on."""

    def holds(r: Readout) -> bool | None:
        values, p, t = gradients(r.problem), r.problem, r.t
        h, g = values["h"], p.loss.g
        assert g is not None
        with N.scope():
            outer = [
                sum(ball(h[((t - 1) * p.B + b) * p.H + i]) * ball(float(g[t - 1, b, k])) for b in range(p.B))
                for i in range(p.H)
                for k in range(p.K)
            ]
        one = gradients(replace(p, truncation=Truncation("window", k=t - 1)))  # without the term s = 1
        reaches = [same(values[key], one[key]) is False for key in ("dW_xh", "dW_hh")]
        zero_x, zero_h = not p.x[0].any(), not p.h0.any()  # type: ignore[union-attr]
        return same(outer, values["dW_hy"]) and all(
            found or zero for found, zero in zip(reaches, (zero_x, zero_h), strict=True)
        )

    return search(
        "C10",
        run,
        holds=holds,
        small=[],
        draw=draw_readout,
        show=lambda r: [f"T = {r.problem.T}, loss at t = {r.t}"],
        second=lambda _r: ([], False),
        shown="dL_t/dV is h_t ⊗ dL_t/do_t; without its first step's term dL_t/dU or dL_t/dW is another; property "
        "readout-locality",
    )


def _copies(n: Neuron) -> list[Any]:
    """The sum over instances of the last output's derivative for that instance's own a, b, c, by hand."""
    out: list[Any] = [0, 0, 0]
    states = [Fraction(n.start), *n.outputs()]
    back = Fraction(1)
    for s in range(len(n.x), 0, -1):
        a = Fraction(n.a) + Fraction(n.b) * Fraction(n.x[s - 1]) + Fraction(n.c) * states[s - 1]
        back *= 1 if n.f == "identity" or a > 0 else 0
        own = (Fraction(1), Fraction(n.x[s - 1]), states[s - 1])
        out = [total + back * v for total, v in zip(out, own, strict=True)]
        back *= Fraction(n.c)
    return out


def c11(run: Run) -> Finding:
    """Sums of per-instance updates."""

    def holds(n: Neuron) -> bool | None:
        values = gradients(n.problem())
        return same(_copies(n), [values["db_h"][0], values["dW_xh"][0], values["dW_hh"][0]])

    return search(
        "C11",
        run,
        holds=holds,
        small=[Neuron(0, 1, 1, (1.0, 1.0), 0)],
        draw=lambda rng: draw_neuron(rng, f=("identity", "relu")[int(rng.integers(2))]),
        show=lambda n: [n.text()],
        second=lambda _n: ([], False),
        shown="derivatives by each instance's own copy, in rationals, add up to the oracle's; property "
        "shared-weight-summation",
    )


# ---- C14 to C16, C31: printed formulas ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Stacked:
    """[X h] times a stack of two matrices."""

    X: Any
    h: Any
    U: Any
    W: Any
    below: Any  # what stands below U in the stack

    def both(self) -> tuple[list[Any], list[Any]]:
        """[X h] [U; below] by hand, and the oracle's pre-activation X U + h W."""
        left = [a + b for a, b in zip(rational(self.X), rational(self.h), strict=True)]
        x = np.array(self.X, dtype=np.float64)[:1]
        problem = elman(self.W, x, h0=np.array(self.h)[:1], U=self.U)
        return product(left[:1], rational(self.U) + rational(self.below))[0], gradients(problem)["h"]


def c14(run: Run) -> Finding:
    """The stacked product."""
    one = Stacked([[0.0]], [[1.0]], [[0.0]], [[1.0]], [[0.0]])

    def draw(rng: np.random.Generator) -> Stacked:
        D, H = (int(v) for v in rng.integers(1, 4, 2))
        W = quarters(rng, H, H)
        return Stacked(quarters(rng, 1, D), quarters(rng, 1, H), quarters(rng, D, H), W, W)

    return search(
        "C14",
        run,
        holds=lambda s: same(*s.both()),
        small=[one],
        draw=draw,
        show=lambda s: [
            f"X = 0, h = 1, W_xh = 0, W_hh = 1, W_yh = 0: the stack gives {s.both()[0][0]}, the step {s.both()[1][0]}"
        ],
        second=lambda s: (["by hand: 0·0 + 1·0 = 0, and 0·0 + 1·1 = 1"], s.both() == ([0], [1])),
        condition="the lower block is W_hh",
        shown="products in rationals against the oracle's step",
        notes=(
            "With W_yh, the block that the readout uses, even the shapes fit only where there are as many outputs.",
        ),
    )


@dataclass(frozen=True)
class Softmax:
    """Logits and a target of one step, whose entries sum to `total`."""

    o: tuple[float, ...]
    y: tuple[float, ...]

    def printed(self) -> list[Any]:
        """p - y."""
        with N.scope():
            powers = [N.exp(ball(v)) for v in self.o]
            total = sum(powers)
            return [e / total - ball(y) for e, y in zip(powers, self.y, strict=True)]

    def secants(self) -> tuple[Any, Any]:
        """The slopes of L = −Σ y log softmax(o) in o_1, over ±1/8: L is convex, so its derivative is between them."""
        e = Fraction(1, 8)

        def L(shift: Fraction) -> Any:
            o = [ball(Fraction(v) + (shift if i == 0 else 0)) for i, v in enumerate(self.o)]
            log = N.log(N.sum([N.exp(v) for v in o]))
            return sum(ball(y) * (log - v) for y, v in zip(self.y, o, strict=True))

        with N.scope():
            here = L(Fraction(0))
            return (here - L(-e)) / ball(e), (L(e) - here) / ball(e)


def c15(run: Run) -> Finding:
    """The readout's gradient for softmax and cross-entropy."""

    def within(s: Softmax) -> bool | None:
        below, above = s.secants()
        with N.scope():
            d = s.printed()[0]
            return False if d < below or d > above else (True if below <= d <= above else None)

    def oracle(p: Problem) -> bool | None:
        values = gradients(p)
        h, o = values["h"], values["o"]
        dW: list[Any] = []
        db: list[Any] = []
        with N.scope():
            rows = []
            for t in range(p.T):
                target = p.loss.target[t, 0]  # type: ignore[index]
                powers = [N.exp(ball(v)) for v in o[t * p.K : (t + 1) * p.K]]
                rows.append([e / sum(powers) - ball(float(y)) for e, y in zip(powers, target, strict=True)])
            for i in range(p.H):
                dW += [sum(ball(h[t * p.H + i]) * rows[t][k] for t in range(p.T)) for k in range(p.K)]
            db = [sum(row[k] for row in rows) for k in range(p.K)]
        return same(dW + db, values["dW_hy"] + values["db_y"])

    def draw(rng: np.random.Generator) -> Problem:
        T, H, K = (int(v) for v in rng.integers((1, 1, 2), (5, 4, 5)))
        target = rng.dirichlet(np.ones(K), (T, 1))
        target = np.round(target * 64) / 64
        target[..., -1] = 1 - target[..., :-1].sum(axis=-1)  # exact: sixty-fourths
        target = np.abs(target)
        params = {"W_xh": quarters(rng, 2, H), "W_hh": quarters(rng, H, H), "b_h": quarters(rng, H)}
        params |= {"W_hy": quarters(rng, H, K), "b_y": quarters(rng, K)}
        if not (np.abs(target.sum(axis=-1) - 1) == 0).all():
            target[...] = np.eye(K)[0]
        loss = Loss("cross_entropy", target=target)
        x = quarters(rng, T, 1, 2)
        return Problem("elman", params, x, loss, h0=quarters(rng, 1, H), activation="tanh", readout="linear")

    return search(
        "C15",
        run,
        holds=lambda c: within(c) if isinstance(c, Softmax) else oracle(c),
        small=[Softmax((0.0, 0.0), (1.0, 1.0))],
        draw=draw,
        show=lambda s: [
            (
                f"o = (0, 0), y = (1, 1): p − y = {listed(s.printed())}, while the derivative in o_1 is between "
                f"{number(s.secants()[0])} and {number(s.secants()[1])}"
            )
        ],
        second=lambda s: (
            ["in closed form: L = 2 log(e^o_1 + e^o_2) − o_1 − o_2 is even in o_1 − o_2: slope 0 at (0, 0)"],
            bool(s.secants()[0] < 0 < s.secants()[1]) and same(s.printed(), [Fraction(-1, 2)] * 2) is True,
        ),
        condition="Σ y = 1 and the outer product is h ⊗ (ŷ − y) in that text's own layout (o = h W_hy)",
        shown="the sums by hand against the oracle's dW_hy and db_y",
        notes=("In general dL/do = (Σ y) ŷ − y.", "As printed, (ŷ − y) ⊗ h has the shape (K, H), and W_hy (H, K)."),
    )


@dataclass(frozen=True)
class DoubleSum:
    """The double sum for W_hh on a neuron with the identity: how ∂h_k/∂W is read, and at which loss it begins."""

    n: Neuron
    total: bool
    first: int = 1

    def value(self) -> Fraction:
        """Σ_{t ≥ first} Σ_{k ≤ t} c^(t-k) ∂h_k/∂c, with the immediate partial h_{k-1} or the total derivative."""
        n, states = self.n, [Fraction(self.n.start), *self.n.outputs()]

        def partial(k: int) -> Fraction:
            if not self.total:
                return states[k - 1]
            return derivative(lambda c: n.outputs(c=c)[k - 1], Fraction(n.c))

        c, T = Fraction(n.c), len(n.x)
        return sum((c ** (t - k) * partial(k) for t in range(self.first, T + 1) for k in range(1, t + 1)), Fraction(0))


def c16(run: Run) -> Finding:
    """The double sums."""
    n = Neuron(0, 0, 1, (0.0, 0.0), 1)

    def oracle(d: DoubleSum) -> Fraction:
        return Fraction(gradients(d.n.problem(every=True))["dW_hh"][0])

    def second(d: DoubleSum) -> tuple[list[str], bool]:
        exact = derivative(lambda c: sum(d.n.outputs(c=c), Fraction(0)), Fraction(d.n.c))
        late = replace(d, total=False, first=2).value()
        lines = [
            f"L = c + c² at c = 1, so dL/dc = {exact}",
            f"begun at L_2, as the index t + 1 has it, the sum with immediate partials is {late}",
        ]
        return lines, exact == oracle(d) != d.value() and late != exact

    return search(
        "C16",
        run,
        holds=lambda d: same([d.value()], [oracle(d)]),
        small=[DoubleSum(n, total=True)],
        draw=lambda rng: DoubleSum(draw_neuron(rng, longest=4, f="identity"), total=False),
        show=lambda d: [
            (
                f"{d.n.text()}, L = ŷ_1 + ŷ_2: with total derivatives of h_k the double sum is {d.value()}, "
                f"the gradient is {oracle(d)}"
            )
        ],
        second=second,
        condition="∂h_k/∂W is the immediate partial (h_{k−1} held fixed) and the losses run over 1..T",
        shown="the sums in rationals against the oracle; its road double-sum is this formula for every cell",
    )


def c18(run: Run, transpose: bool = False) -> Finding:
    """The Jacobian diag(phi') W_hh, in either layout."""
    W, a = [[0.0, 1.0], [0.0, 0.0]], [[1.0, -1.0]]

    def printed(p: Problem) -> list[Any]:
        J = rational(p.params["W_hh"])
        J = transposed(J) if transpose else J
        on = [int(v > 0) for v in numbers_of(p)]
        return flat([[s * v for v in row] for s, row in zip(on, J, strict=True)])

    def numbers_of(p: Problem) -> list[Any]:
        return [v or Fraction(-1) for v in solve(p, numbers_for(p)).values["h"]]

    def holds(p: Problem) -> bool | None:
        J = [[Fraction(v) for v in row] for row in jacobian(p, 0, 1)]
        rows, columns = same(printed(p), flat(J)), same(printed(p), flat(transposed(J)))
        return columns if transpose else bool(rows or columns)

    def draw(rng: np.random.Generator) -> Problem:
        H = int(rng.integers(2, 4))
        return elman(quarters(rng, H, H), quarters(rng, 1, H), h0=quarters(rng, H), f="relu")

    def second(p: Problem) -> tuple[list[str], bool]:
        def h(i: int) -> list[Fraction]:
            moved = [Fraction(int(i == 0)), Fraction(int(i == 1))]
            z = [
                Fraction(v) / 2 + m
                for v, m in zip(a[0], product([[m / 4 for m in moved]], rational(W))[0], strict=True)
            ]
            return [max(v, Fraction(0)) for v in z]

        base = [max(Fraction(v) / 2, Fraction(0)) for v in a[0]]
        slopes = [[4 * (v - w) for v, w in zip(h(i), base, strict=True)] for i in range(2)]
        return [f"by secants of the step that cross no kink, row by row: {listed(flat(slopes))}"], flat(slopes) == flat(
            [[Fraction(v) for v in row] for row in jacobian(p, 0, 1)]
        )

    return search(
        "C18",
        run,
        holds=holds,
        small=[elman(W, a, f="relu")],
        draw=draw,
        show=lambda p: [
            (
                f"relu, W_hh = (0 1; 0 0), x_1 = (1, −1), h_0 = 0: diag(φ')·W_hh = {listed(printed(p))} row by row; "
                f"the Jacobian is {listed(flat(jacobian(p, 0, 1)))}, and so is its transpose"
            )
        ],
        second=second,
        shown="the oracle's Jacobian in rationals against the formula, in the layouts of rows and of columns",
        notes=("That text uses both layouts: with columns it is diag(φ')·W_hhᵀ, with rows W_hh·diag(φ').",),
    )


def c31(run: Run) -> Finding:
    """The step formula for W_hh, replaced by its chained term."""

    def parts(n: Neuron) -> tuple[Fraction, Fraction]:
        """The immediate term at t = 2 and the chained one, by hand."""
        states = [Fraction(n.start), *n.outputs()]
        return states[-2], Fraction(n.c) * derivative(lambda c: n.outputs(c=c)[-2], Fraction(n.c))

    def oracle(n: Neuron) -> Fraction:
        return Fraction(gradients(n.problem())["dW_hh"][0])

    def second(n: Neuron) -> tuple[list[str], bool]:
        exact = derivative(lambda c: n.outputs(c=c)[-1], Fraction(n.c))
        return [f"ŷ_2 = c², whose derivative at 1 is {exact}: the two terms add"], exact == oracle(n) == sum(parts(n))

    return search(
        "C31",
        run,
        holds=lambda n: same([parts(n)[1]], [oracle(n)]),
        small=[Neuron(0, 0, 1, (0.0, 0.0), 1)],
        draw=lambda rng: draw_neuron(rng, longest=4, shortest=2, f="identity"),
        show=lambda n: [
            f"{n.text()}: the immediate term is {parts(n)[0]}, the chained one {parts(n)[1]}, dŷ_2/dc is {oracle(n)}"
        ],
        second=second,
        shown="both terms in rationals against the oracle's dW_hh",
    )


def c34(run: Run) -> Finding:
    """The aggregated cost as an average."""

    def draw(rng: np.random.Generator) -> Problem:
        return posed(rng, "mean")

    def posed(rng: np.random.Generator, reduction: str) -> Problem:
        n = draw_neuron(rng, longest=4, f="identity")
        T = len(n.x)
        loss = Loss("squared_error", target=quarters(rng, T, 1, 1), scale=1.0, time_reduction=reduction)
        return replace(n.problem(), loss=loss)

    def average(p: Problem) -> Fraction:
        target = [Fraction(v) for v in p.loss.target.reshape(-1).tolist()]  # type: ignore[union-attr]
        errors = [(o - y) ** 2 for o, y in zip(gradients(p)["o"], target, strict=True)]
        return sum(errors, Fraction(0)) / len(errors)

    two = Neuron(0, 0, 0, (0.0, 0.0), 0).problem()
    summed = replace(two, loss=Loss("squared_error", target=np.ones((2, 1, 1)), scale=1.0))
    return search(
        "C34",
        run,
        holds=lambda p: same(gradients(p)["loss"], [average(p)]),
        small=[summed],
        draw=draw,
        show=lambda p: [
            (
                f"outputs 0, 0 and targets 1, 1: the sum of the steps' costs is {gradients(p)['loss'][0]}, "
                f"their average {average(p)}"
            )
        ],
        second=lambda p: (["by hand: 1 + 1 = 2, and 2/2 = 1"], gradients(p)["loss"] == [2] and average(p) == 1),
        condition="the average is chosen: a convention, whose gradient is 1/T of the sum's",
        shown="the oracle's loss with both reductions; both are offered as time_reduction",
    )


CLAIMS = (
    Claim(
        "C09",
        "Old values of layers and weights must both be stored for the backward pass; outputs need not.",
        "002",
        c09,
    ),
    Claim("C10", "dL_t/dV depends on step t alone, dL_t/dU and dL_t/dW on all steps up to t.", "002", c10),
    Claim("C11", "The updates of all instances of shared weights, summed, are the gradient.", "003", c11),
    Claim("C14", "[X h]·W, with W_xh and W_yh stacked to W, is X·W_xh + h·W_hh.", "004", c14),
    Claim("C15", "For softmax and cross-entropy dL/dW_hy = Σ (ŷ − y) ⊗ h and dL/db_y = Σ (ŷ − y).", "004", c15),
    Claim("C16", "dL/dW_hh and dL/dW_xh are the double sums over t and k ≤ t + 1.", "004", c16),
    Claim("C18", "∂h_{j+1}/∂h_j = diag(φ')·W_hh.", "004", c18),
    Claim("C31", "A step's gradient in W_hh is its chained term from t − 1 to t.", "004", c31),
    Claim("C34", "The aggregated cost is always the average of the steps' costs.", "003", c34),
)
