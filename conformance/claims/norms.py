"""C17, C19 to C22, C28 to C30: Jacobians, their norms and eigenvalues, vanishing and exploding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from bptt.problem import Problem
from conformance.claims.base import Claim, Finding, N, Run, at_most, ball, listed, number, quarters, same, search
from conformance.claims.networks import elman, jacobian, square_sum
from conformance.claims.shared import flat, product, rational
from oracle.jacobian import spectral_norm_bounds

GAMMA = {"tanh": Fraction(1), "sigmoid": Fraction(1, 4), "identity": Fraction(1), "relu": Fraction(1)}


def two_norm(J: list[list[Any]]) -> Any:
    """||J||_2 of a 1 by 1 or 2 by 2 matrix in closed form, in balls: the root of the larger eigenvalue of J J^T."""
    with N.scope():
        rows = [[ball(v) for v in row] for row in J]
        if len(rows) == 1:
            return abs(rows[0][0])
        size = sum(v * v for row in rows for v in row)
        det = rows[0][0] * rows[1][1] - rows[0][1] * rows[1][0]
        left = size * size - 4 * det * det
        root = left.sqrt() if left > 0 else ball(0).union(left).abs_upper().sqrt() * ball(0)
        return ((size + root) / 2).sqrt()


@dataclass(frozen=True)
class Product:
    """dh_t/dh_0 of a network of one or two units, and the power of gamma_W gamma_h that is said to bound its norm."""

    problem: Problem
    exponent: int
    eigenvalue: bool = False

    def norm(self) -> Any:
        """||dh_T/dh_0||_2."""
        return two_norm(jacobian(self.problem, 0, self.problem.T))

    def gamma(self) -> Any:
        """gamma_W gamma_h, gamma_W being the norm of W_hh, or its spectral radius."""
        W = rational(self.problem.params["W_hh"])
        with N.scope():
            top = ball(GAMMA[str(self.problem.activation)])
            return top * (radius(W) if self.eigenvalue else two_norm(W))

    def bound(self) -> Any:
        """The power."""
        with N.scope():
            return self.gamma() ** self.exponent


def radius(W: list[list[Fraction]]) -> Any:
    """The spectral radius of a 1 by 1 or 2 by 2 matrix, from its characteristic polynomial."""
    with N.scope():
        if len(W) == 1:
            return ball(abs(W[0][0]))
        trace, det = W[0][0] + W[1][1], W[0][0] * W[1][1] - W[0][1] * W[1][0]
        left = trace * trace - 4 * det
        if left < 0:
            return ball(det).sqrt()  # a complex pair, whose product is det
        return (ball(abs(trace)) + ball(left).sqrt()) / 2


def draw_network(rng: np.random.Generator, f: str, most: float | None = None, T: int | None = None) -> Problem:
    """One or two units in sixteenths, ||W_hh||_F at most `most`."""
    H, T = int(rng.integers(1, 3)), T or int(rng.integers(1, 7))
    W = quarters(rng, H, H)
    if most is not None:
        while float(np.linalg.norm(W)) > most * (1 - 2.0**-20):  # the Frobenius norm is above the 2-norm
            W = W / 2
    return elman(W, quarters(rng, T, H), h0=quarters(rng, H), f=f)


def _within(p: Product) -> bool | None:
    """norm <= bound. A bound that is met leaves balls undecided: it holds if both are equal to 128 bits."""
    verdict = at_most(p.norm(), p.bound())
    if verdict is None and same([p.norm()], [p.bound()]):
        return True
    return verdict


def c17(run: Run) -> Finding:
    """The norm of the Jacobian is at most 1."""

    def draw(rng: np.random.Generator) -> Product:
        f = ("tanh", "sigmoid")[int(rng.integers(2))]
        return Product(draw_network(rng, f, 1.0 if f == "tanh" else 4.0, T=1), 0)

    return search(
        "C17",
        run,
        holds=_within,
        small=[Product(elman([[2.0]], [[0.0]], f="tanh"), 0), Product(elman([[5.0]], [[0.0]], f="sigmoid"), 0)],
        draw=draw,
        show=lambda p: [f"{p.problem.activation}, one unit, w = 2, a = 0: ∂h_1/∂h_0 = {number(p.norm())} > 1"],
        second=lambda p: (["in closed form: tanh'(0) = 1, so the Jacobian is w = 2"], same([p.norm()], [2]) is True),
        condition="‖W_hh‖₂ ≤ 1 for tanh, or ≤ 4 for the sigmoid",
        shown="enclosures of the oracle's Jacobians; property jacobian-norm-bound",
    )


def c19(run: Run) -> Finding:
    """gamma_W as the largest eigenvalue."""

    def draw(rng: np.random.Generator) -> Product:
        p, q, r = (float(v) for v in quarters(rng, 3))
        W = [[p, q], [q, r]] if rng.integers(2) else [[p, q], [-q, p]]
        f = ("identity", "tanh", "sigmoid")[int(rng.integers(3))]
        return Product(elman(W, quarters(rng, 1, 2), h0=quarters(rng, 2), f=f), 1, eigenvalue=True)

    nilpotent = Product(elman([[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0]]), 1, eigenvalue=True)
    return search(
        "C19",
        run,
        holds=_within,
        small=[nilpotent],
        draw=draw,
        show=lambda p: [
            f"identity, W_hh = (0 1; 0 0): eigenvalues {number(p.bound())}, the Jacobian's norm is {number(p.norm())}"
        ],
        second=lambda p: (
            [
                (
                    "in rationals: W Wᵀ = (1 0; 0 0), whose larger eigenvalue is 1; "
                    f"certified bounds of ‖W‖₂: {spectral_norm_bounds(p.problem.params['W_hh'])}"
                )
            ],
            flat(product(W := rational(p.problem.params["W_hh"]), [list(c) for c in zip(*W, strict=True)]))
            == [1, 0, 0, 0],
        ),
        condition="W_hh is normal (W Wᵀ = Wᵀ W); in general the largest singular value is needed",
        shown="enclosures of norms and spectral radii; drawn are symmetric matrices and scaled rotations",
    )


def c20(run: Run) -> Finding:
    """The bound with the exponent t - k for dh_{t+1}/dh_k, a product of t - k + 1 Jacobians."""

    def draw(rng: np.random.Generator) -> Product:
        f = ("identity", "tanh", "relu", "sigmoid")[int(rng.integers(4))]
        problem = draw_network(rng, f, 1.0 / float(GAMMA[f]))
        return Product(problem, problem.T - 1)

    return search(
        "C20",
        run,
        holds=_within,
        small=[Product(elman([[2.0]], [[0.0]], f="tanh"), 0)],
        draw=draw,
        show=lambda p: [
            f"tanh, one unit, w = 2, a = 0, t = k: ‖∂h_{{t+1}}/∂h_t‖ = {number(p.norm())} > 2⁰ = {number(p.bound())}"
        ],
        second=lambda p: (
            ["in closed form: tanh'(0)·2 = 2, one factor, and the exponent says none"],
            same([p.norm()], [2]) is True and same([replace(p, exponent=1).bound()], [2]) is True,
        ),
        condition="γ_W γ_h ≤ 1; in general the exponent is t − k + 1",
        shown="enclosures of Jacobian products; property jacobian-norm-bound has the exponent t − k for ∂h_t/∂h_k",
    )


@dataclass(frozen=True)
class Argument:
    """A point at which a slope is looked at, and whether the strict bound is asked."""

    f: str
    a: Fraction
    strict: bool

    def slope(self) -> Any:
        """phi'(a) by the oracle."""
        return flat(jacobian(elman([[1.0]], [[float(self.a)]], f=self.f), 0, 1))[0]


def _bounded(p: Argument) -> bool | None:
    with N.scope():
        d = ball(p.slope()) - ball(GAMMA[p.f])
        if p.strict:
            return True if d < 0 else (False if d >= 0 else None)
        return True if d < 0 or d == 0 else (False if d > 0 else None)


def _argument(rng: np.random.Generator, f: str, strict: bool) -> Argument:
    value = Fraction(int(rng.integers(1, 256)), 64) * (1 if rng.integers(2) else -1)
    return Argument(f, value, strict)


def c21(run: Run) -> Finding:
    """The suprema of phi'."""
    ends = [Argument("tanh", Fraction(0), strict=False), Argument("sigmoid", Fraction(0), strict=False)]
    attained = [same([p.slope()], [GAMMA[p.f]]) is True for p in ends]
    found = search(
        "C21",
        run,
        holds=_bounded,
        small=[p for p, met in zip(ends, attained, strict=True) if not met],
        draw=lambda rng: _argument(rng, ("tanh", "sigmoid")[int(rng.integers(2))], strict=False),
        show=lambda p: [f"{p.f}'({p.a}) = {number(p.slope())}"],
        second=lambda _p: ([], False),
        shown="the derivation, and the oracle's slopes at 0 and at drawn arguments",
        notes=(
            (
                "tanh' = 1 − tanh² ≤ 1 with equality at 0; σ' = σ(1 − σ) = 1/4 − (σ − 1/2)² ≤ 1/4 with equality at 0. "
                f"The oracle at 0: {listed([p.slope() for p in ends])}."
            ),
        ),
    )
    return found if all(attained) else replace(found, verdict="undecided")


def c30(run: Run) -> Finding:
    """phi' is always less than 1."""
    return search(
        "C30",
        run,
        holds=_bounded,
        small=[Argument("tanh", Fraction(0), strict=True)],
        draw=lambda rng: _argument(rng, "tanh", strict=True),
        show=lambda p: [f"{p.f}'({p.a}) = {number(p.slope())}, which is not less than 1"],
        second=lambda p: (
            ["in closed form: tanh'(0) = 1 − tanh(0)² = 1 − 0"],
            same([p.slope()], [1]) is True,
        ),
        shown="enclosures of the oracle's slopes",
        notes=(
            "At every other argument tanh' is below 1, as at all that were drawn; the identity's and relu's is 1 too.",
        ),
    )


SINGULAR = [[2.0, -2.0], [2.0, -2.0]]
HELD = [[-3.0, 3.0]]


@dataclass(frozen=True)
class Growth:
    """A network over T steps, and what its spectral radius is said to make of ||dh_T/dh_0||: explode or vanish."""

    problem: Problem
    says: str

    def size(self) -> Any:
        """||dh_T/dh_0||_F^2."""
        return square_sum(jacobian(self.problem, 0, self.problem.T))

    def told(self) -> bool | None:
        """Whether the norm is beyond (below) that of the first step, as exploding (vanishing) has it."""
        first = square_sum(jacobian(self.problem, 0, 1))
        return at_most(first, self.size()) if self.says == "explodes" else at_most(self.size(), first)


def held(T: int) -> Problem:
    """The relu network W = (2 -2; 2 -2) with inputs that hold a_t = (-1, 1) at every step."""
    return elman(SINGULAR, [[-1.0, 1.0], *(HELD * (T - 1))], f="relu")


def c22(run: Run) -> Finding:
    """Vanishing and exploding by the dominant eigenvalue."""
    off = elman([[2.0]], [[-1.0], [-1.0]], f="relu")
    dead = Growth(off, "explodes")

    def holds(g: Growth) -> bool | None:
        if g.says == "explodes":
            size = g.size()
            return False if same([size], [0]) else at_most(1, size)
        return g.told()

    def draw(rng: np.random.Generator) -> Growth:
        f = ("identity", "tanh", "sigmoid")[int(rng.integers(3))]
        return Growth(draw_network(rng, f, 0.5 / float(GAMMA[f]), T=8), "vanishes")

    def second(_g: Growth) -> tuple[list[str], bool]:
        J = [[Fraction(0), Fraction(-2)], [Fraction(0), Fraction(-2)]]
        gone = flat(jacobian(off, 0, 2))[0]
        square = product(J, J)
        long = [square_sum(jacobian(held(t), 0, t)) for t in (1, 2, 10)]
        hand = [8 * Fraction(4) ** (t - 1) for t in (1, 2, 10)]
        lines = [
            (
                "by hand, a small one that explodes: J = W·diag(0, 1) = (0 −2; 0 −2) and "
                f"J² = {listed(flat(square))} = −2 J, "
                "so ‖J^t‖ = 2^(t−1)·√8 without end, at spectral radius 0"
            ),
            f"and a large one that vanishes: relu, w = 2, a = −1 at every step, φ' = 0: ∂h_2/∂h_0 = {gone}",
        ]
        agree = square == [[-2 * v for v in row] for row in J] and same(long, hand) is True
        return lines, agree and flat(jacobian(off, 0, 2))[0] == 0

    return search(
        "C22",
        run,
        holds=holds,
        small=[Growth(held(2), "vanishes"), dead],
        draw=draw,
        show=lambda _g: [
            (
                "relu, W_hh = (2 −2; 2 −2), whose eigenvalues are both 0, inputs that hold a_t = (−1, 1): "
                f"‖∂h_1/∂h_0‖² = {number(square_sum(jacobian(held(1), 0, 1)))}, "
                f"‖∂h_2/∂h_0‖² = {number(square_sum(jacobian(held(2), 0, 2)))}, "
                f"‖∂h_40/∂h_0‖² = {number(square_sum(jacobian(held(40), 0, 40)))}"
            ),
            f"with tanh and inputs that hold a_t ≈ (0, 20) as nearly as float64 can: {_smooth()}",
        ],
        second=second,
        shown="Jacobian products in rationals",
        notes=(
            (
                "What holds: γ_W γ_h < 1, with the largest singular value, makes every product vanish; "
                "no counterexample among the drawn ones with γ_W γ_h ≤ 1/2."
            ),
            "A dominant eigenvalue above 1 is no promise either: where units saturate or are off, it vanishes.",
        ),
    )


def _smooth() -> str:
    """The tanh twin: float64 inputs that hold a_t near (0, 20); the norm is that of these very inputs."""
    W, h, xs = np.array(SINGULAR), np.zeros(2), []
    for _ in range(40):
        x = np.array([0.0, 20.0]) - h @ W
        xs.append(x)
        h = np.tanh(x + h @ W)
    J = jacobian(elman(SINGULAR, np.array(xs), f="tanh"), 0, 40)
    with N.scope():
        return f"‖∂h_40/∂h_0‖_F = {number(square_sum(J).sqrt())}"


@dataclass(frozen=True)
class Factors:
    """The factors dh_t/dh_{t-1} of one unit."""

    problem: Problem

    def list(self) -> list[Any]:
        """All of them."""
        return [flat(jacobian(self.problem, t, t + 1))[0] for t in range(self.problem.T)]


def c28(run: Run) -> Finding:
    """Factors always above 1, or always in [0, 1]."""

    def holds(f: Factors) -> bool | None:
        late = f.list()[f.problem.T // 2 :]
        with N.scope():
            above = all(ball(v) > 1 for v in late)
            inside = all(ball(v) >= 0 and ball(v) <= 1 for v in late)
            outside = any(ball(v) < 0 or ball(v) > 1 for v in late) and any(ball(v) < 1 for v in late)
        return True if above or inside else (False if outside else None)

    def draw(rng: np.random.Generator) -> Factors:
        w, h0 = float(rng.integers(0, 5)) / 4, quarters(rng, 1)
        return Factors(elman([[w]], np.repeat(quarters(rng, 1, 1), 8, axis=0), h0=h0, f="tanh"))

    alternating = Factors(elman([[-2.0]], [[1.0]] * 6, f="relu"))

    def second(f: Factors) -> tuple[list[str], bool]:
        h, slopes = Fraction(0), []
        for _ in range(6):
            a = 1 - 2 * h
            h, s = max(a, Fraction(0)), int(a > 0)
            slopes.append(-2 * s)
        lines = [
            f"by hand: h goes 1, 0, 1, 0, … for ever, and the factors are {listed(slopes)}",
            f"with tanh, w = −4 and input 3, the last four factors of 200 are {_late()}: above and below 1 in size",
        ]
        return lines, slopes == f.list()

    def _late() -> str:
        values = Factors(elman([[-4.0]], [[3.0]] * 200, f="tanh")).list()[-4:]
        return listed(values)

    return search(
        "C28",
        run,
        holds=holds,
        small=[alternating],
        draw=draw,
        show=lambda f: [f"relu, one unit, w = −2, input 1, h_0 = 0: the factors ∂h_t/∂h_(t−1) are {listed(f.list())}"],
        second=second,
        shown="Jacobians in rationals, and enclosures for tanh",
        notes=(
            "Where one tanh unit has 0 ≤ w ≤ 1, as in the drawn problems, every factor does lie in [0, 1].",
            "The factors alternate for ever, in size and, with w < 0, in sign; a claim about sizes fails likewise.",
        ),
    )


@dataclass(frozen=True)
class Eigen:
    """A network, and a row vector v with v J_1 = lambda v."""

    problem: Problem
    v: tuple[Fraction, ...]
    value: Fraction

    def moved(self) -> list[Any]:
        """v dh_T/dh_0."""
        J = jacobian(self.problem, 0, self.problem.T)
        return product([list(self.v)], J)[0]

    def said(self) -> list[Any]:
        """lambda^T v."""
        return [self.value**self.problem.T * x for x in self.v]


def c29(run: Run) -> Finding:
    """A change along an eigenvector."""
    swap = elman([[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, -2.0]], f="relu")

    def draw(rng: np.random.Generator) -> Eigen:
        p, q = (int(v) for v in rng.integers(-2, 3, 2))
        lam = [float(v) for v in quarters(rng, 2)]
        V = np.array([[1.0, p], [q, 1.0 + p * q]])  # of determinant 1: v_1 and v_2 are its rows
        W = np.array([[1.0 + p * q, -p], [-q, 1.0]]) @ np.diag(lam) @ V
        T = int(rng.integers(2, 6))
        return Eigen(elman(W, quarters(rng, T, 2)), (Fraction(1), Fraction(p)), Fraction(lam[0]))

    def second(e: Eigen) -> tuple[list[str], bool]:
        W = rational(e.problem.params["W_hh"])
        one = product([list(e.v)], W)[0]
        two = [v * s for v, s in zip(product([one], W)[0], (1, 0), strict=True)]
        return [f"by hand: (1, 1) W = {listed(one)}; then the second unit is off: {listed(two)}"], two == e.moved()

    return search(
        "C29",
        run,
        holds=lambda e: same(e.moved(), e.said()),
        small=[Eigen(swap, (Fraction(1), Fraction(1)), Fraction(1))],
        draw=draw,
        show=lambda e: [
            (
                "relu, W_hh = (0 1; 1 0), inputs (1, 1) and (1, −2), h_0 = 0: v = (1, 1) has λ = 1 at the first step; "
                f"after two steps it has become {listed(e.moved())}, not {listed(e.said())}"
            )
        ],
        second=second,
        condition="the Jacobians of all steps share the eigenvector",
        shown="Jacobian products in rationals; drawn are identity networks with rational eigenvectors",
    )


CLAIMS = (
    Claim("C17", "The 2-norm of a Jacobian ∂h_{j+1}/∂h_j is at most 1 for tanh and the sigmoid.", "004", c17),
    Claim("C19", "In the bound on the Jacobian γ_W may be the largest eigenvalue of W_hh.", "004", c19),
    Claim("C20", "‖∂h_{t+1}/∂h_k‖ ≤ (γ_W γ_h)^(t−k).", "004", c20),
    Claim("C21", "γ_h is 1 for tanh and 1/4 for the sigmoid.", "004", c21),
    Claim(
        "C22", "A dominant eigenvalue of W_hh above 1 explodes the gradient, one below 1 makes it vanish.", "004", c22
    ),
    Claim("C28", "A plain network's factors end up always above 1, or always within [0, 1].", "004", c28),
    Claim("C29", "A change along an eigenvector of a Jacobian is scaled by λ^t over t steps.", "004", c29),
    Claim("C30", "φ' is always less than 1.", "004", c30),
)
