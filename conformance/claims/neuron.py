"""C01 to C07, and C32: the neuron whose output is its state, and training with truncation length 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from bptt.problem import Loss
from bptt.truncation import Truncation
from conformance.claims.base import (
    Claim,
    Finding,
    N,
    Run,
    at_most,
    ball,
    derivative,
    exhibit,
    number,
    same,
    search,
)
from conformance.claims.networks import Neuron, draw_neuron, gradients, slopes

ONE = Neuron(0, 0, 0, (0.0,), 0)
TWO = Neuron(0, 0, 1, (0.0, 0.0), 0)


def printed(n: Neuron, immediate: dict[str, bool] | None = None) -> dict[str, Any]:
    """The recursions by hand, f' (immediate + c nabla y) for a, b and c, begun with 0, and the last output.

    immediate["a"] says whether a's has its 1: the formula of C01 has none.
    """
    has = immediate or {"a": True}
    rational = n.f in ("identity", "relu")
    with N.scope():
        value = Fraction if rational else ball
        a, b, c, y = (value(v) for v in (n.a, n.b, n.c, n.start))
        grad = dict.fromkeys("abc", value(0))
        for x in map(value, n.x):
            z = a + b * x + c * y
            new = N.activate(n.f, _one(z)).data[0] if not rational else (max(z, Fraction(0)) if n.f == "relu" else z)
            slope = slopes(n.f)(z, new)
            terms = {"a": value(1) if has["a"] else value(0), "b": x, "c": y}
            grad = {name: slope * (terms[name] + c * grad[name]) for name in "abc"}
            y = new
    return grad | {"y": y}


def _one(z: Any) -> Any:
    from oracle.numbers import Matrix

    return Matrix(1, 1, [z])


KEYS = {"a": "db_h", "b": "dW_xh", "c": "dW_hh"}


def c01(run: Run, formula: Any = printed) -> Finding:
    """The recursion for a, as printed."""

    def holds(n: Neuron) -> bool | None:
        return same([formula(n, {"a": False})["a"]], gradients(n.problem())["db_h"])

    def second(n: Neuron) -> tuple[list[str], bool]:
        exact = derivative(lambda a: n.outputs(a=a)[-1], Fraction(n.a))
        lines = [f"the output is a polynomial in a; its derivative from five of its values is {exact}"]
        return lines, exact == gradients(n.problem())["db_h"][0] != formula(n, {"a": False})["a"]

    return search(
        "C01",
        run,
        holds=holds,
        small=[ONE],
        draw=draw_neuron,
        show=lambda n: [
            (
                f"{n.text()}: ∂ŷ_{len(n.x)}/∂a = {number(gradients(n.problem())['db_h'][0])}, "
                f"the formula gives {number(formula(n, {'a': False})['a'])}"
            )
        ],
        second=second,
        shown="the oracle's db_h against the recursion",
        notes=(
            "a enters the sum by itself, so that the recursion needs the immediate term: f'·(1 + c ∂ŷ/∂a).",
            "Without it a gradient that begins at 0 stays exactly 0, and a never learns.",
        ),
    )


def c02(run: Run, formula: Any = printed) -> Finding:
    """The recursions for b and c."""

    def holds(n: Neuron) -> bool | None:
        values, hand = gradients(n.problem()), formula(n)
        return same([hand["b"], hand["c"]], values["dW_xh"] + values["dW_hh"])

    def second(n: Neuron) -> tuple[list[str], bool]:
        if n.f != "identity" or len(n.x) > 4:
            return ["not a polynomial of degree 4 at most"], False
        b, c = (_by_hand(n, k) for k in "bc")
        hand = formula(n)
        return [f"from five values of polynomials: {b} for b, {c} for c"], [b, c] != [hand["b"], hand["c"]]

    return search(
        "C02",
        run,
        holds=holds,
        small=[ONE, replace(TWO, x=(1.0, 0.0), start=1)],
        draw=draw_neuron,
        show=lambda n: [f"{n.text()}: the oracle has ∂ŷ/∂b = {number(gradients(n.problem())['dW_xh'][0])}"],
        second=second,
        shown="the oracle's dW_xh and dW_hh are the recursions' values; property oracle-agreement",
    )


@dataclass(frozen=True)
class Step:
    """One training step of size delta on the error (y - y')^2 of the last output."""

    n: Neuron
    y: float
    delta: float
    true: bool = True  # whether nabla y' is the true one, or the one of C01

    def errors(self) -> tuple[Any, Any, Any]:
        """The error before, the error after, and (y - y')^2 |nabla y'|^2 of the true gradient."""
        grad, exact = printed(self.n, {"a": self.true}), printed(self.n)
        with N.scope():
            left = ball(self.y) - ball(exact["y"])
            moved = {k: ball(getattr(self.n, k)) + ball(self.delta) * left * ball(grad[k]) for k in "abc"}
            size = left * left * sum(ball(exact[k]) * ball(exact[k]) for k in "abc")
            y = ball(self.n.start)
            for x in self.n.x:
                z = moved["a"] + moved["b"] * ball(x) + moved["c"] * y
                y = N.activate(self.n.f, _one(z)).data[0]
            return left * left, (ball(self.y) - y) * (ball(self.y) - y), size


def _descends(step: Step) -> bool | None:
    """Whether the error falls, where there is anything to fall; for a drawn step (delta 0) some small delta does it."""
    tried = [step] if step.delta else [replace(step, delta=2.0**-k) for k in range(4, 60, 8)]
    for one in tried:
        before, after, size = one.errors()
        with N.scope():
            if (size == 0) or after < before:
                return True
            if step.delta and after >= before:
                return False
    return None


def c03(run: Run) -> Finding:
    """The gradient of the error, and the step that descends."""

    def draw(rng: np.random.Generator) -> Step:
        return Step(draw_neuron(rng, f=("identity", "tanh", "sigmoid")[int(rng.integers(3))]), float(rng.normal()), 0)

    def holds(step: Step) -> bool | None:
        n, T = step.n, len(step.n.x)
        if not step.delta:  # the formula of the gradient, over the sum of all errors
            problem = n.problem()
            target = np.full((T, 1, 1), step.y)
            loss = Loss("squared_error", target=target, scale=1.0)
            values = gradients(replace(problem, loss=loss))
            parts = [printed(replace(n, x=n.x[:t])) for t in range(1, T + 1)]
            with N.scope():
                sums = [sum(-2 * (ball(step.y) - ball(p["y"])) * ball(p[k]) for p in parts) for k in "abc"]
            equal = same(sums, [values[KEYS[k]][0] for k in "abc"])
            if not equal:
                return equal
        return _descends(step)

    def second(step: Step) -> tuple[list[str], bool]:
        n, y = step.n, Fraction(step.y)
        left = y - n.outputs()[-1]
        grad = {k: _by_hand(n, k) for k in "abc"}
        moved = {k: Fraction(getattr(n, k)) + Fraction(step.delta) * left * grad[k] for k in "abc"}
        after = (y - n.outputs(**moved)[-1]) ** 2
        return [f"in rationals: the error is {left**2} before the step and {after} after it"], after >= left**2

    wide = Step(replace(ONE, x=(1.0,)), 1.0, 2.0)
    return search(
        "C03",
        run,
        holds=holds,
        small=[wide],
        draw=draw,
        show=lambda s: [f"{s.n.text()}, y = {Fraction(s.y)}, δ = {Fraction(s.delta)}: the error does not fall"],
        second=second,
        condition="∇ŷ is the true one and δ is small enough",
        shown="enclosures of the error before and after the step; the oracle's gradient of the squared error",
        notes=(
            "The error's derivative along the step is −2 (y − ŷ)² |∇ŷ|², below 0 unless the gradient is 0.",
            "With C01's ∇ŷ the step can stand still where there is something to learn: "
            + _still(Step(ONE, 1.0, 0.25, true=False)),
        ),
    )


def _still(step: Step) -> str:
    before, after, _ = step.errors()
    return f"{step.n.text()}, y = 1: the error is {number(before)} before such a step and {number(after)} after it."


@dataclass(frozen=True)
class Dropped:
    """A neuron, and how the recursive part is dropped: altogether, or after computing it once."""

    n: Neuron
    once: bool

    def gradient(self) -> list[Any]:
        """d(last output) for a, b, c by hand, keeping one step or two."""
        kept = 2 if self.once else 1
        before = self.n.x[: len(self.n.x) - kept]
        start = printed(replace(self.n, x=before))["y"] if before else Fraction(self.n.start)
        if not isinstance(start, Fraction):
            return []
        found = printed(replace(self.n, x=self.n.x[len(before) :], start=start))  # type: ignore[arg-type]
        return [found[k] for k in "abc"]


def _window(n: Neuron, k: int) -> list[Any]:
    values = gradients(n.problem(Truncation("window", k=k)))
    return [values[KEYS[name]][0] for name in "abc"]


def c04(run: Run) -> Finding:
    """Dropping the recursive part."""

    def draw(rng: np.random.Generator) -> Dropped:
        return Dropped(draw_neuron(rng, shortest=2, f=("identity", "relu")[int(rng.integers(2))]), once=False)

    def holds(d: Dropped) -> bool | None:
        if not d.once and not same(replace(d, once=True).gradient(), _window(d.n, 2)):
            return False  # the other reading is window(2), on the same draws
        return same(d.gradient(), _window(d.n, 1))

    def second(d: Dropped) -> tuple[list[str], bool]:
        exact = derivative(lambda a: d.n.outputs(a=a)[-1], Fraction(d.n.a))
        return [f"both steps at once: ∂ŷ_2/∂a = {exact}, from five values of a polynomial"], exact == d.gradient()[0]

    return search(
        "C04",
        run,
        holds=holds,
        small=[Dropped(TWO, once=True)],
        draw=draw,
        show=lambda d: [
            (
                f"{d.n.text()}: with the part computed once ∂ŷ_2/∂a = {number(d.gradient()[0])}, "
                f"window(1) has {number(_window(d.n, 1)[0])} and window(2) {number(_window(d.n, 2)[0])}"
            )
        ],
        second=second,
        condition="the recursive part is left out altogether; computed once and not further, it is window(2)",
        shown="the oracle's window(1) and window(2); property truncation-equivalence",
    )


@dataclass(frozen=True)
class Check:
    """A numerical check of window(1)'s derivative in a: of the step alone, or of everything that a changes."""

    n: Neuron
    fixed: bool

    def numerical(self) -> Fraction:
        """The central difference with step 2^-20, in rationals."""
        e = Fraction(1, 1 << 20)
        at = Fraction(self.n.a)
        if not self.fixed:
            return (self.n.outputs(a=at + e)[-1] - self.n.outputs(a=at - e)[-1]) / (2 * e)
        before = self.n.outputs()[-2] if len(self.n.x) > 1 else Fraction(self.n.start)
        last = replace(self.n, x=self.n.x[-1:], start=before)  # type: ignore[arg-type]
        return (last.outputs(a=at + e)[-1] - last.outputs(a=at - e)[-1]) / (2 * e)


def c05(run: Run) -> Finding:
    """A truncated gradient against a numerical one."""
    tenth = Fraction(1, 10**10)

    def holds(check: Check) -> bool | None:
        got = Fraction(_window(check.n, 1)[0])
        return at_most(abs(got - check.numerical()), tenth * max(Fraction(1), abs(got)))

    def draw(rng: np.random.Generator) -> Check:
        return Check(draw_neuron(rng, shortest=2, f="identity"), fixed=True)

    def second(check: Check) -> tuple[list[str], bool]:
        full = gradients(check.n.problem())["db_h"][0]
        return [f"the oracle's full gradient is {full}, as the check finds"], full == check.numerical()

    return search(
        "C05",
        run,
        holds=holds,
        small=[Check(TWO, fixed=False)],
        draw=draw,
        show=lambda c: [
            (
                f"{c.n.text()}: window(1) has {number(_window(c.n, 1)[0])}, "
                f"the difference quotient of the whole is {number(c.numerical())}"
            )
        ],
        second=second,
        condition="the numerical check holds the previous state fixed, as the truncation does",
        shown="central differences in rationals against the oracle's window(1)",
        notes=("Such a check says that one step is differentiated rightly, and nothing about what was cut off.",),
    )


def _by_hand(n: Neuron, name: str) -> Fraction:
    """The last output's derivative for a, b or c, from five values of a polynomial."""
    return derivative(lambda v: n.outputs(**{name: v})[-1], Fraction(getattr(n, name)))


def _first_input(n: Neuron, truncation: Truncation | None = None) -> Any:
    return gradients(n.problem(truncation))["dx"][0]


def c06(run: Run) -> Finding:
    """Whether truncation length 1 keeps the gradient of a far input from vanishing."""
    n = Neuron(0, 1, 1, (1.0, 0.0), 0)

    def holds(n: Neuron) -> bool | None:
        kept, full = _first_input(n, Truncation("window", k=1)), _first_input(n)
        with N.scope():
            return at_most(abs(full), abs(kept))

    def second(n: Neuron) -> tuple[list[str], bool]:
        moved = replace(n, x=(n.x[0] + 1, *n.x[1:])).outputs()[-1] - n.outputs()[-1]
        return [f"raising x_1 by 1 raises ŷ_2 by {moved}: there is something to credit"], moved != 0

    return search(
        "C06",
        run,
        holds=holds,
        small=[n],
        draw=lambda rng: draw_neuron(rng, shortest=2),
        show=lambda n: [
            (
                f"{n.text()}: ∂ŷ_2/∂x_1 = {number(_first_input(n))} in full and "
                f"{number(_first_input(n, Truncation('window', k=1)))} under window(1)"
            )
        ],
        second=second,
        shown="the oracle's dx_1 of the last output under window(1), against the full one",
        notes=(
            (
                "What is left of the claim: no product of Jacobians occurs, so no term is small for being far. "
                "The far terms are not small, they are exactly 0: nothing vanishes because nothing is propagated."
            ),
        ),
    )


def c07(run: Run) -> Finding:
    """A window of two inputs is another model than a network with a state."""

    def holds(n: Neuron) -> bool | None:
        d = _first_input(n)  # a function of (x_3, x_2) alone has 0 here
        with N.scope():
            d = ball(d)
            return True if d > 0 or d < 0 else (False if d == 0 else None)

    def draw(rng: np.random.Generator) -> Neuron:
        n = draw_neuron(rng, shortest=3, f=("identity", "tanh", "sigmoid")[int(rng.integers(3))])
        return replace(n, b=n.b or 1.0, c=n.c or 1.0)

    return search(
        "C07",
        run,
        holds=holds,
        small=[Neuron(0, 1, 1, (1.0, 0.0, 0.0), 0)],
        draw=draw,
        show=lambda n: [n.text()],
        second=lambda n: ([f"ŷ by hand: {n.outputs()}"], True),
        shown="the oracle's ∂ŷ_t/∂x_1 for t ≥ 3 with b, c ≠ 0 is certainly not 0, as a window of two would have it",
        notes=(
            (
                "How the network was trained does not enter: its outputs depend on x_1 through the state. "
                "By hand, f the identity, b = c = 1 and x = (1, 0, 0): ŷ_3 = 1, and 0 with x_1 = 0."
            ),
        ),
    )


def c32(_run: Run) -> Finding:
    """Whether one-step training can use a dependency longer than a step."""

    def trained(first: float) -> tuple[Any, Any]:
        """(dL/dV under window(1) at V = 0, the error after one step of size 1): remember x_1 for two steps."""
        n = Neuron(0, 1, 1, (first, 0.0, 0.0), 0)
        target = np.zeros((3, 1, 1))
        target[-1] = first
        problem = n.problem(Truncation("window", k=1))
        loss = Loss("squared_error", target=target, scale=0.5)
        params = problem.params | {"W_hy": np.zeros((1, 1)), "b_y": np.zeros(1)}
        values = gradients(replace(problem, params=params, readout="linear", loss=loss))
        d = values["dW_hy"][0]
        return d, (-d * n.outputs()[-1] - Fraction(first)) ** 2

    def shows(first: float) -> bool | None:
        d, after = trained(first)
        return bool(d != 0 and after == 0)

    found = exhibit(
        wanted=[(1.0, shows), (-1.0, shows)],
        show=lambda first: [
            (
                f"identity, W_xh = W_hh = 1, biases 0, V = 0, x = ({Fraction(first)}, 0, 0), y_3 = {Fraction(first)}: "
                f"dL/dV = {trained(first)[0]} under window(1); one step of size 1 leaves the error {trained(first)[1]}"
            )
        ],
        second=lambda first: (
            [f"by hand: h_3 = {Fraction(first)}, so V = {Fraction(first) ** 2} makes o_3 = {Fraction(first) ** 3}"],
            Fraction(first) ** 3 == Fraction(first),
        ),
        shown="one update in rationals that uses an input two steps back",
        notes=(
            "The state carries what was read forward, and what reads the state can learn from it in one step.",
            (
                "What does not flow back is credit: under window(1) no earlier step's weights are told (C06). "
                "So the claim is true of learning what to keep, and false of using what is kept."
            ),
        ),
    )
    # The exhibit shows that it can: the claim says that it cannot.
    verdict = {"holds": "refuted", "refuted": "holds"}.get(found.verdict, found.verdict)
    return replace(found, verdict=verdict)


CLAIMS = (
    Claim("C01", "The gradient of ŷ in the bias a obeys ∂ŷ' = f'·c·∂ŷ, with no term of its own.", "000", c01),
    Claim("C02", "The gradients of ŷ in b and c obey f'·(x + c ∂ŷ) and f'·(ŷ + c ∂ŷ).", "000", c02),
    Claim("C03", "The error's gradient is −2 (y − ŷ) ∇ŷ, and a step along (y − ŷ) ∇ŷ descends.", "000", c03),
    Claim("C04", "Dropping the recursive part of the gradient is training with truncation length 1.", "000", c04),
    Claim("C05", "A truncated gradient can agree with a numerical one to ten decimals.", "001", c05),
    Claim("C06", "Truncation length 1 does away with the vanishing gradient.", "001", c06),
    Claim("C07", "A window of two inputs is not the model of one-step training with a state.", "001", c07),
    Claim("C32", "Training one step at a time cannot use dependencies longer than one step.", "001", c32),
)
