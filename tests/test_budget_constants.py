"""The budget's constants: every factor of docs/budget.md, by hand, on networks of one unit and one step.

The arithmetic is bfloat16's, u = 1/256, so that terms of the second order are seen; numbers in parentheses are the
document's equations. A bound that is larger than its equation loses power, one that is smaller is none.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem
from oracle.ball_numbers import BallNumbers
from oracle.budget import Budget, Model, budget
from oracle.budget.forward import conversion, underflow
from oracle.budget.graph import build_graph, rounded
from oracle.budget.loss import _cross_entropy, _final, loss_probes
from oracle.budget.model import INFLATE
from oracle.solution import solve

U = 2.0**-8
ULP = 4.0
CLOSE = 1e-9  # our own float64, whose errors the budget counts, too: some 100 times 2^-53
SUP2 = {"tanh": 4 / (3 * math.sqrt(3)), "sigmoid": 1 / (6 * math.sqrt(3))}


class Coarse(Model):
    """Arithmetic in which an underflow costs as much as a rounding, so that its terms are seen."""

    @property
    def eta(self) -> float:
        return 0.5


MODEL, COARSE = Model("bfloat16"), Coarse("bfloat16")


def one(value: float, *shape: int) -> Any:
    return np.full(shape or (1, 1), value)


def neuron(activation: str = "identity", g: float = 3.0, sign: float = 1.0, **fields: Any) -> Problem:
    """One unit and one step: a = 2 - 1 + 1/2, or its negative."""
    params = {"W_xh": one(sign), "W_hh": one(-sign), "b_h": one(sign / 2, 1)}
    loss = Loss("cotangent", g=one(g, 1, 1, 1))
    return replace(Problem("elman", params, one(2.0, 1, 1, 1), loss, activation=activation, h0=one(1.0)), **fields)


def bounds_of(problem: Problem, model: Model = MODEL) -> dict[str, Any]:
    """The budget in units of u."""
    found: Budget = budget(solve(problem, BallNumbers(200)), model)
    return {key: bound / (model.u * INFLATE) for key, bound in found.arrays.items()}


def near(got: Any, want: Any) -> bool:
    return bool((np.abs(np.asarray(got) - want) <= CLOSE * np.abs(want)).all())


def flat(n: float, size: float, total: float) -> float:
    """(3) or (3a), the smaller."""
    return min(n * size, size + (n - 1) * (size + total) / 2 + U * n * n * size)


def function(activation: str, a: float, Da: float, eta: float = 0.0) -> tuple[float, float, float]:
    """(9): value, slope, and D of a function of a, which may be off by its ulps of `eta` at the least."""
    if activation == "tanh":
        z = math.tanh(a)
        slope = 1 - z * z
    else:
        z = 1 / (1 + math.exp(-a))
        slope = z * (1 - z)
    bend = min(SUP2[activation], 2 * (slope + SUP2[activation] * U * Da))
    remainder = bend / 2 * U * Da**2
    moved = slope * Da + remainder
    r = 2 * ULP * (abs(z) + U * moved) + 2 * ULP * eta
    if activation == "sigmoid":
        r = max(r, ULP * (abs(1 - 2 * z) + 2 * U * moved)) + 4 * z
    return z, slope, moved + r


def through(M: float, E: float, factor: float, slack: float, n: float) -> tuple[float, float]:
    """(15): M and E before an entrywise use of n terms."""
    computed = M + U * E
    return abs(factor) * M, abs(factor) * E + computed * slack + n * computed * (abs(factor) + U * slack)


D_A = flat(3, 3.5, 1.5)
"""(7): the input, the state and the bias; their sizes add up to 3.5, they themselves to 1.5."""
LAST = 3 + 2 * U
"""(21): one term within sums of T + B = 2, (1 + u) (1 + 2 u) = 1 + 3 u + 2 u^2."""


def gradients(M: float, E: float, W: float = 1.0) -> dict[str, float]:
    """(16), (21), (22): from the adjoint of a, where x = 2, h0 = 1 and both weights are W or -W."""
    computed = M + U * E
    found = {name: size * (E + LAST * computed) for name, size in (("dW_xh", 2), ("dW_hh", 1), ("db_h", 1))}
    found["dx"] = W * (E + (2 + U) * computed)  # a sum of one term, and one over the losses
    M, E = W * M, W * (E + 3 * computed)  # the state is a sum of two uses, and the product is one more
    found["dh0"] = E + (M + U * E)
    return found


@pytest.mark.parametrize("g", [3.0, -3.0])
def test_linear_unit(g):
    found = bounds_of(neuron(g=g))
    assert near(found["h"], D_A)
    assert near(found["loss"], 3 * D_A + 19 * 3 * (1.5 + U * D_A))  # (28): T B K + T + B + 16 = 19
    M, E = 3.0, (4 + 1) * 3.0  # (19): n = c_h + 2 with c_h = 1 + 1, and S = 1
    M, E = through(M, E, 1.0, 0.0, 1)
    for key, want in gradients(M, E).items():
        assert near(found[key], want), key


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_smooth_unit(activation, sign):
    found = bounds_of(neuron(activation, sign=sign))
    z, slope, D = function(activation, 1.5 * sign, D_A)
    assert near(found["h"], D)
    if activation == "tanh":  # (17)
        slack = 2 * abs(z) * D + U * D * D + 2 + 3 * slope
    else:
        slack = abs(1 - 2 * z) * D + U * D * D + z * z + 3 * slope + 0.25
    M, E = through(3.0, 15.0, slope, slack, 2)
    for key, want in gradients(M, E).items():
        assert near(found[key], want), key


def test_relu_unit():
    found = bounds_of(neuron("relu"))
    assert near(found["h"], D_A)
    M, E = through(3.0, 15.0, 1.0, 0.0, 2)
    for key, want in gradients(M, E).items():
        assert near(found[key], want), key


def test_relu_unit_at_a_kink():
    """a = 3.5 - 3.5 within its error: the derivative is anything in [0,1]."""
    problem = neuron("relu")
    problem = replace(problem, params=problem.params | {"b_h": one(-1.0, 1)})
    found = bounds_of(problem)
    D = flat(3, 4.0, 0.0)
    assert near(found["h"], D)
    computed = 3.0 + U * 15.0
    E = computed / U + 2 * computed  # slack 1/u, and the rounding of a derivative that may be 1
    assert near(found["db_h"], E + LAST * U * E)


@pytest.mark.parametrize("g", [3.0, -3.0])
def test_readout(g):
    params = neuron().params | {"W_hy": one(3.0), "b_y": one(-1.0, 1)}
    found = bounds_of(neuron(g=g, params=params, readout="linear"))
    o, image = 3.5, 3 * D_A
    D_o = image + flat(2, 5.5 + U * image, o + U * image)  # (23)
    assert near(found["o"], D_o)
    assert near(found["loss"], 3 * D_o + 19 * 3 * (o + U * D_o))
    assert near(found["dW_hy"], 3 * D_A + 3 * (1.5 + U * D_A) * 3)  # terms(T + T + B) = 3
    assert near(found["db_y"], 3 * 3)
    M, E = through(9.0, (4 + 1) * 9.0, 1.0, 0.0, 1)
    for key, want in gradients(M, E).items():
        assert near(found[key], want), key


def test_padding_adds_nothing():
    """A second step beyond the row's length: only T has grown, and with it the sums over time."""
    params = neuron().params | {"W_hy": one(3.0), "b_y": one(-1.0, 1)}
    target = Loss("squared_error", target=one(2.5, 2, 1, 1), scale=0.5)
    padded = neuron(params=params, readout="linear", x=one(2.0, 2, 1, 1), loss=target, lengths=np.array([1]))
    found = bounds_of(padded)
    image = 3 * D_A
    R = flat(2, 5.5 + U * image, 3.5 + U * image)
    error = R + 8 * (1 + U * (image + R)) + image
    assert near(found["dW_hy"], 1.5 * error + D_A * (1 + U * error) + 4 * (1.5 + U * D_A) * (1 + U * error))
    assert near(found["db_y"], error + 4 * (1 + U * error))  # terms(1 + T + B)
    assert near(found["o"][0], image + R)
    assert (found["dx"][1] == 0).all()
    assert near(found["loss"], 0.5 * (2 * (image + R) + U * (image + R) ** 2 + 21 * (1 + U * (image + R)) ** 2))


def test_final_state_of_a_short_row_is_that_of_its_last_step():
    loss = Loss("cotangent", g=one(0.0, 2, 1, 1), g_h_final=one(-3.0))
    found = bounds_of(neuron(x=one(2.0, 2, 1, 1), loss=loss, lengths=np.array([1])))
    assert near(found["h"][0], D_A)
    assert near(found["loss"], 3 * D_A + (2 + 2 + 1 + 16 + 1) * 3 * (1.5 + U * D_A))
    M, E = through(3.0, (4 + 1) * 3.0, 1.0, 0.0, 1)
    assert near(found["db_h"], E + (1 + (1 + U) * 3) * (M + U * E))  # (21) with N = 1 and T + B = 3


def test_underflow_costs_every_operation():
    """lost(n) = n eta (1 + n u) wherever a sum of n terms is not zero."""

    def lost(n: float) -> float:
        return n * 0.5 * (1 + n * U)

    found = bounds_of(neuron(), COARSE)
    D = D_A + lost(3)
    assert near(found["h"], D)
    assert near(found["loss"], 3 * D + 19 * 3 * (1.5 + U * D) + lost(19))
    M, E = 3.0, 15.0
    carried = M + U * E  # by the adjoints of all nodes: what a tangent has lost meets them
    E = E + (M + U * E) + lost(1)
    computed = M + U * E
    before = E + 3 * computed + lost(3)
    carried += computed + M + U * before
    tangent = 2 + 16  # S = 1
    assert near(found["db_h"], E + LAST * computed + lost(1 + 2 + tangent) * carried)
    assert near(found["dW_xh"], 2 * (E + LAST * computed) + lost(1 + 2 + tangent) * carried)
    assert near(found["dx"], E + (2 + U) * computed + lost(1 + 1 + tangent) * carried)
    assert near(found["dh0"], before + (M + U * before) + lost(1 + tangent) * carried)


@pytest.mark.parametrize("target", [0.5, 2.5])
def test_squared_error(target):
    """(24) with o - y = +-1 and 2 scale w = 1."""
    found = bounds_of(neuron(loss=Loss("squared_error", target=one(target, 1, 1, 1), scale=0.5)))
    size = 1 + U * D_A
    assert near(found["loss"], 0.5 * (2 * D_A + U * D_A**2 + 19 * size**2))
    error = D_A + 8 * size
    M, E = through(1.0, error + 4 * (1 + U * error) + 1, 1.0, 0.0, 1)
    for key, want in gradients(M, E).items():
        assert near(found[key], want), key


def test_squared_error_behind_a_readout():
    """Beside the readout's products there is the image of the state's error, e W_hy C W_hy^T, C = 2 scale w = 2."""
    params = neuron().params | {"W_hy": one(3.0), "b_y": one(-1.0, 1)}
    loss = Loss("squared_error", target=one(2.5, 1, 1, 1), scale=1.0)
    found = bounds_of(neuron(params=params, readout="linear", loss=loss))
    image = 3 * D_A
    R = flat(2, 5.5 + U * image, 3.5 + U * image)
    local = 2 * (R + 8 * (1 + U * (image + R)))
    computed = 2 + U * (local + 2 * image)
    E = 3 * 2 * image + 3 * local + 4 * 3 * computed + 6  # (19)
    M, E = through(6.0, E, 1.0, 0.0, 1)
    for key, want in gradients(M, E).items():
        assert near(found[key], want), key
    error = local + 2 * image
    assert near(found["dW_hy"], 1.5 * error + D_A * computed + 3 * (1.5 + U * D_A) * computed)
    assert near(found["db_y"], error + 3 * computed)


def two_classes(y: Any) -> Problem:
    """Outputs log 3 and 0, hence probabilities 3/4 and 1/4; two units without a readout."""
    x = np.array([[[math.log(3), 0.0]]])
    params = {"W_xh": np.eye(2), "W_hh": np.zeros((2, 2)), "b_h": np.zeros(2)}
    return Problem("elman", params, x, Loss("cross_entropy", target=y), activation="identity", h0=np.zeros((1, 2)))


@pytest.mark.parametrize("model", [MODEL, COARSE])
@pytest.mark.parametrize("y", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_cross_entropy(y, model):
    """(25) to (28), from given errors of the outputs."""
    target = np.array([[int(y[1])]]) if 0.5 not in y else np.array([[y]])
    solution = solve(two_classes(target), BallNumbers(200))
    o, D, R, w, terms = (math.log(3), 0.0), (3.0, 5.0), (1.0, 2.0), 0.5, 7.0
    wide = [np.array([[part]]) for part in (o, D, R)]
    active = np.ones((1, 1, 1), bool)
    found = _cross_entropy(
        rounded(solution.unrolled), model, wide[0], (wide[1], wide[2]), np.full((1, 1, 1), w), active, terms
    )
    p = (0.75, 0.25)
    c = 2 + 6 * ULP + 4 + (2 * ULP + 3) * (math.log(3) + U * 3 + math.log(2))
    spread = math.exp(2 * U * 5)
    second = 2.5 * U * 5**2 * spread + c * spread * math.exp(U * c)
    mean_D, mean_R = 0.75 * 3 + 0.25 * 5, 0.75 * 1 + 0.25 * 2
    loss = peak = 0.0
    for k in range(2):
        size = p[k] + U * (p[k] * (D[k] + mean_D + second) + 2 * model.eta)
        local = p[k] * (R[k] + mean_R + second) + 2 * model.eta
        assert near(found[0][0, 0, k], w * (local + (2 + 8) * size + 8 * y[k]) + 3 * model.eta)
        assert near(found[1][0, 0, k], w * (p[k] + y[k]))
        log_p = -math.log(p[k])
        off = D[k] + spread * mean_D + c + 2 * ULP * log_p
        loss += w * (y[k] * off + terms * y[k] * (log_p + U * off))
        peak += y[k] * (log_p + U * off)
    assert near(found[2], loss)
    assert near(found[3], peak)


def test_probes_of_a_softmax():
    """(26): the image of the state's error in p, diag p - p^T p, and the roundings of it in float64."""
    solution = solve(two_classes(np.array([[0]])), BallNumbers(200))
    (probe,) = loss_probes(rounded(solution.unrolled), 2).values()
    assert near(probe.signed[0, 0], np.array([[3, -3], [-3, 3]]) / 16)
    assert near(probe.absolute[0, 0], np.array([[21, 3], [3, 5]]) / 16)
    assert near(probe.roundings, 4 * 2 + 4 * math.log(3) + 64)


def test_final_cotangents_in_the_loss():
    """(28): <g, h> with g = (-3, 1) and h = (-1/2, 2), known to within 5 and 7."""
    params = {"W_xh": np.array([[-0.25, 1.0]]), "W_hh": np.zeros((2, 2)), "b_h": np.zeros(2)}
    loss = Loss("cotangent", g=one(0.0, 1, 1, 2), g_h_final=np.array([[-3.0, 1.0]]))
    problem = Problem("elman", params, one(2.0, 1, 1, 1), loss, activation="identity", h0=np.zeros((1, 2)))
    unrolled = solve(problem, BallNumbers(200)).unrolled
    error, size = _final(rounded(unrolled), MODEL, "h", np.array([[5.0, 7.0]]), 11.0)
    sizes = 3 * (0.5 + U * 5), 1 * (2 + U * 7)
    assert near(error, 3 * 5 + 1 * 7 + 11 * sum(sizes))
    assert near(size, sum(sizes))
    found = bounds_of(problem)
    D = [flat(4, size, size) for size in (0.5, 2.0)]  # x, two states, a bias
    terms = 2 + 1 + 1 + 16 + 2
    want = 3 * D[0] + D[1] + terms * (3 * (0.5 + U * D[0]) + (2 + U * D[1]))
    assert near(found["loss"], want)


GATED = {"i": 1.0, "f": -0.5, "g": 0.75, "o": 2.0}


def lstm() -> Problem:
    """One unit whose gates are read off x = 1; the recurrent weights are 0, the cell state was 1/2."""
    params = {"W_x": np.array([list(GATED.values())]), "W_h": np.zeros((1, 4)), "b": np.zeros(4)}
    loss = Loss("cotangent", g=one(3.0, 1, 1, 1))
    return Problem("lstm", params, one(1.0, 1, 1, 1), loss, h0=one(0.25), c0=one(0.5))


@pytest.mark.parametrize("model", [MODEL, COARSE])
def test_lstm_forward(model):
    found = bounds_of(lstm(), model)
    eta = model.eta
    lost = 3 * eta * (1 + 3 * U)
    gate = {
        name: function("tanh" if name == "g" else "sigmoid", a, flat(3, abs(a), abs(a)) + lost, eta)
        for name, a in GATED.items()
    }

    def times(x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float]:  # (8)
        (x_, Dx), (y_, Dy) = x, y
        r = (abs(x_) + U * Dx) * (abs(y_) + U * Dy) + eta
        return x_ * y_, abs(x_) * Dy + abs(y_) * Dx + U * Dx * Dy + r

    i, f, g, o = ((gate[name][0], gate[name][2]) for name in "ifgo")
    (left, D_left), (right, D_right) = times(f, (0.5, 0.0)), times(i, g)
    c, D_c = left + right, D_left + D_right + left + right + U * (D_left + D_right) + eta
    assert near(found["c"], D_c)
    z, _, D_z = function("tanh", c, D_c, eta)
    assert near(found["h"], times(o, (z, D_z))[1])


def test_peephole_is_a_weight_of_products():
    """dp_i = c_0 delta_i: (15) from the state down to the product p_i c_0, and (21) with one term more."""
    flatter = lstm()
    params = flatter.params | {"p_i": one(0.25, 1), "p_f": one(0.0, 1), "p_o": one(0.0, 1)}
    found = bounds_of(replace(flatter, cell="lstm_peephole", params=params))
    D_p = 0.25 * 0.5
    a = GATED | {"i": GATED["i"] + D_p}
    D_a = {name: flat(4, abs(a[name]), abs(a[name])) for name in "fgo"}  # the product is a term, though p is 0
    total = D_p  # of the product's own rounding, D = |p c_0|
    D_a["i"] = total + flat(4, a["i"] + U * total, a["i"] + U * total)
    (i, slope_i, D_i), (f, _, D_f), (o, _, D_o) = (function("sigmoid", a[n], D_a[n]) for n in "ifo")
    g, _, D_g = function("tanh", a["g"], flat(3, 0.75, 0.75))

    def times(x: float, Dx: float, y: float, Dy: float) -> float:
        return abs(x) * Dy + abs(y) * Dx + U * Dx * Dy + (abs(x) + U * Dx) * (abs(y) + U * Dy)

    c = f * 0.5 + i * g
    D_left, D_right = times(f, D_f, 0.5, 0.0), times(i, D_i, g, D_g)
    D_c = D_left + D_right + c + U * (D_left + D_right)
    assert near(found["c"], D_c)
    z, slope_z, D_z = function("tanh", c, D_c)
    M, E = 3.0, (7 + 2) * 3.0  # (19): h goes into four columns, and there is the loss; S = 2
    M, E = through(M, E, o, D_o, 2)
    n = 1 + 2 + 3  # c is read by tanh and p_o, and by f and two peepholes of the next step; and the product
    M, E = through(M, E, slope_z, 2 * z * D_z + U * D_z**2 + 2 + 3 * slope_z, n)
    M, E = through(M, E, 1.0, 0.0, 2)
    M, E = through(M, E, g, D_g, 2)
    M, E = through(M, E, slope_i, abs(1 - 2 * i) * D_i + U * D_i**2 + i * i + 3 * slope_i + 0.25, 2)
    M, E = through(M, E, 1.0, 0.0, 3)  # in forward mode: the state's product, an addend, and a parameter
    computed = M + U * E
    assert near(found["dp_i"], 0.5 * (E + (2 + 2 * (1 + 2 * U)) * computed))


@pytest.mark.parametrize("model", [MODEL, COARSE])
def test_gru_mix_forward(model):
    params = {"W_x": np.array([[0.0, 1.0, -0.5]]), "W_h": np.zeros((1, 3)), "b_x": np.zeros(3), "b_h": np.zeros(3)}
    loss, eta = Loss("cotangent", g=one(3.0, 1, 1, 1)), model.eta
    found = bounds_of(Problem("gru_reset_after", params, one(1.0, 1, 1, 1), loss, h0=one(0.25)), model)
    z, _, D_z = function("sigmoid", 1.0, flat(4, 1.0, 1.0) + 4 * eta * (1 + 4 * U), eta)
    D_reset = eta  # of a product with an exact 0, which is not known to be one
    size = 0.5 + U * D_reset
    n, _, D_n = function("tanh", -0.5, D_reset + flat(3, size, size) + 3 * eta * (1 + 3 * U), eta)
    sizes = abs(n) + 0.25
    D = abs(0.25 - n) * D_z + (1 - z) * D_n + U * D_z * D_n + 4 * (sizes + U * D_n) * (1 + U * D_z) + 4 * eta
    assert near(found["h"], D)


def test_gru_mix():
    """(10), (15), (17): the candidate and the update gate read off x = 1; the reset gate meets nothing."""
    params = {"W_x": np.array([[0.0, 1.0, -0.5]]), "W_h": np.zeros((1, 3)), "b_x": np.zeros(3), "b_h": np.zeros(3)}
    loss = Loss("cotangent", g=one(3.0, 1, 1, 1))
    found = bounds_of(Problem("gru_reset_after", params, one(1.0, 1, 1, 1), loss, h0=one(0.25)))
    D_az, D_an = flat(4, 1.0, 1.0), flat(3, 0.5, 0.5)  # two biases each, of which one is within the reset product
    z, slope_z, D_z = function("sigmoid", 1.0, D_az)
    n, slope_n, D_n = function("tanh", -0.5, D_an)
    h, sizes = 0.25, abs(n) + 0.25
    D = abs(h - n) * D_z + (1 - z) * D_n + U * D_z * D_n + 4 * (sizes + U * D_n) * (1 + U * D_z)
    assert near(found["h"], D)
    M, E = 3.0, (8 + 1) * 3.0  # (19): the state goes into three columns and, twice, into the mix; and there is the loss
    M_z, E_z = through(M, E, h - n, D_n + 3 * sizes, 3)
    M_n, E_n = through(M, E, 1 - z, D_z + 2, 3)
    slack = abs(1 - 2 * z) * D_z + U * D_z**2 + z * z + 3 * slope_z + 0.25
    M_z, E_z = through(M_z, E_z, slope_z, slack, 2)
    M_n, E_n = through(M_n, E_n, slope_n, 2 * abs(n) * D_n + U * D_n**2 + 2 + 3 * slope_n, 2)
    for k, (size, error) in ((1, (M_z, E_z)), (2, (M_n, E_n))):
        assert near(found["db_x"][k], error + LAST * (size + U * error))
        assert near(found["dW_x"][0, k], error + LAST * (size + U * error))
    # the reset product, 1/2 of a zero, is an addend: two terms in reverse mode and in forward mode
    _, _, D_r = function("sigmoid", 0.0, 0.0)
    M, E = through(*through(M_n, E_n, 1.0, 0.0, 2), 0.5, D_r, 2)
    assert near(found["db_h"][2], E + LAST * (M + U * E))


@pytest.mark.parametrize(("cell", "uses"), [("elman", 3), ("lstm", 12), ("lstm_1997", 9), ("gru_reset_after", 11),
                                            ("gru_reset_before", 9), ("lstm_peephole", 12)])  # fmt: skip
def test_terms_of_a_state(cell, uses):
    """H = 3: the columns of all products that h enters, 2 for a mix, 1 for the reset product; K = 2 of the readout."""
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape) for name, shape in CELLS[cell].shapes(2, 3).items()}
    params |= {"W_hy": rng.normal(size=(3, 2)), "b_y": np.zeros(2)}
    states = {f"{state}0": np.zeros((1, 3)) for state in CELLS[cell].states}
    loss = Loss("cotangent", g=np.ones((2, 1, 2)))
    activation = "tanh" if CELLS[cell].activations else None
    problem = Problem(cell, params, np.ones((2, 1, 2)), loss, readout="linear", activation=activation, **states)
    graph = build_graph(solve(problem, BallNumbers(100)).unrolled)
    assert graph.places[graph.inputs["h"]].consumers == graph.places[graph.outputs["h"]].consumers == uses + 2


def test_roundings_of_the_transport():
    """(11) and (12): S = 1, the largest argument 3/2 of two, weights up to 1; S = 2, factors up to 1 of the cell."""
    deep = neuron("tanh", x=np.array([[[0.5]], [[2.0]]]), loss=Loss("cotangent", g=one(3.0, 2, 1, 1)))
    graph = build_graph(solve(deep, BallNumbers(200)).unrolled)
    largest = 2.5 - math.tanh(0.0)
    assert near(conversion(graph), 2 + 4 * largest + 64)
    assert underflow(graph) == 2.0**-1022 * (1 + 1) ** 2
    far = build_graph(solve(neuron("tanh", x=one(1e4, 1, 1, 1)), BallNumbers(200)).unrolled)
    assert conversion(far) == 2 + 4 * 800 + 64
    gated = lstm()
    graph = build_graph(solve(replace(gated, c0=one(3.0)), BallNumbers(200)).unrolled)
    assert near(conversion(graph), 2 * 2 + 4 * max(2.0, graph.places[graph.outputs["c"]].magnitude.max()) + 64)
    assert underflow(graph) == 2.0**-1022 * 2 * (1 + 2) ** 2 * (1 + 3) ** 2


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_scales_are_sums_of_absolute_terms(cell):
    """At least the gradient's size; where nothing cancels, in one step of one unit, just that."""
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape) for name, shape in CELLS[cell].shapes(2, 3).items()}
    states = {f"{state}0": rng.normal(size=(2, 3)) for state in CELLS[cell].states}
    activation = "tanh" if CELLS[cell].activations else None
    loss = Loss("cotangent", g=rng.normal(size=(5, 2, 3)))
    problem = Problem(cell, params, rng.normal(size=(5, 2, 2)), loss, activation=activation, **states)
    solution = solve(problem, BallNumbers(200))
    found = budget(solution, MODEL).scales
    for key, scale in found.items():
        assert (scale.reshape(-1) >= np.abs(solution.near(key)[0]).reshape(-1) * (1 - CLOSE)).all(), key
    slope = 1 - math.tanh(1.5) ** 2
    scales = budget(solve(neuron("tanh", g=-3.0), BallNumbers(200)), MODEL).scales
    for key, want in {"dW_xh": 2, "dW_hh": 1, "db_h": 1, "dx": 1, "dh0": 1}.items():
        assert near(scales[key], 3 * slope * want), key


def test_positive_terms_have_their_sum_for_a_scale():
    """Peepholes and cotangents of one sign, small gates: every term of every gradient is positive."""
    params = {name: np.full(shape, 0.1) for name, shape in CELLS["lstm_peephole"].shapes(1, 2).items()}
    loss = Loss("cotangent", g=np.ones((4, 2, 2)))
    states = {"h0": np.full((2, 2), 0.1), "c0": np.full((2, 2), 0.1)}
    solution = solve(Problem("lstm_peephole", params, np.ones((4, 2, 1)), loss, **states), BallNumbers(200))
    found = budget(solution, MODEL).scales
    for key in ("dp_i", "dp_f", "dp_o", "db", "dW_x", "dh0", "dc0"):
        exact = solution.near(key)[0]
        assert (exact > 0).all(), key
        assert near(found[key].reshape(exact.shape), exact), key


def test_model():
    assert (Model("float64").eta, Model("float32").eta) == (2.0**-1022, 2.0**-126)  # half the smallest number, over u
    assert Model("float32", flush=True).eta == 2.0 ** (-126 + 24)
    assert Model("float32").eta_function == 8 * 2.0**-126
    assert Model("float32", ulp=0.5).eta_function == 2.0**-126
    assert Model("float32", accumulate="float64").sum_unit == 2.0**-29
    assert MODEL.lost(3) == 3 * MODEL.eta * (1 + 3 * U)
    mixed, stored = Model("float16", accumulate="float32"), ((1 + 2.0**-11) ** 6 - 1) * 2.0**11
    summed = 100 * 2.0**-13
    assert near(mixed.terms(100), summed + stored + 2.0**-11 * summed * stored)  # (4)
    assert near(mixed.terms(3), 3 * 2.0**-13 * (1 + 2.0**-11) ** 3 + ((1 + 2.0**-11) ** 3 - 1) * 2.0**11)
    size, total = np.array(10.0), np.array(2.0)
    assert MODEL.flat(np.array(5.0), size, total) == 10 + 4 * 12 / 2 + U * 25 * 10  # (3a)
    whole = 20 + 1 * (1 + U * 20)
    assert near(MODEL.nested((20, 1), size, total / 4), 5 * 10 + 20 * 10.5 / 2 + U * whole**2 * 10)  # (3b)
    assert near(MODEL.nested((2, 3), size, total), (2 + 3 * (1 + 2 * U)) * 10)


def test_inputs_that_may_be_read_as_zero():
    """All of a subnormal input, in units of u, and none of the smallest normal number."""
    tiny, smallest = 2.0**-130, 2.0**-126
    read = Model("bfloat16", flush=True).read(np.array([-tiny, smallest, 1.0]))
    assert read.tolist() == [tiny / U, 0.0, 0.0]
    assert MODEL.read(np.array([tiny])) == 0
    weight = neuron().params | {"W_xh": one(tiny)}
    g = 2.0**20
    found = bounds_of(neuron(g=g, params=weight), Model("bfloat16", flush=True))
    tangents = Model("bfloat16", flush=True).lost(1 + 1 + 2 + 16) * 4 * g
    assert g * tiny / U <= found["dx"] <= 2 * g * tiny / U + tangents  # a product with that weight may be missing


def three_rows(**fields: Any) -> Problem:
    """Two steps of three rows in front of a readout of one output, whose cotangents are all 1."""
    params = neuron().params | {"W_hy": one(1.0), "b_y": one(0.0, 1)}
    loss = Loss("cotangent", g=one(1.0, 2, 3, 1))
    return neuron(readout="linear", params=params, x=one(2.0, 2, 3, 1), h0=one(1.0, 3, 1), **{"loss": loss, **fields})


def test_gradients_of_a_readout_count_every_row():
    """Six terms, and sums of two steps and three rows that may be stored on the way: factor 11."""
    assert near(bounds_of(three_rows())["db_y"], 6 * 11 + MODEL.lost(11))


def test_scales_of_a_readout_and_of_a_final_cotangent():
    found = budget(solve(three_rows(), BallNumbers(200)), MODEL).scales
    h = [2 - 1 + 0.5, 2 - 1.5 + 0.5]
    assert near(found["dW_hy"], 3 * sum(h))
    assert near(found["db_y"], 6)
    ends = Loss("cotangent", g=one(3.0, 1, 1, 1), g_h_final=one(-3.0))
    assert near(budget(solve(neuron(loss=ends), BallNumbers(200)), MODEL).scales["dh0"], 6)


def test_a_readout_whose_gradient_may_overflow_has_no_bound():
    """h g = 2^128 in float32, though neither is large, nor what goes back."""
    params = {"W_xh": one(1.0), "W_hh": one(0.0), "b_h": one(0.0, 1), "W_hy": one(2.0**-70), "b_y": one(0.0, 1)}
    for power, bounded in ((65, False), (40, True)):
        loss = Loss("cotangent", g=one(2.0**63, 1, 1, 1))
        large = neuron(params=params, x=one(2.0**power, 1, 1, 1), readout="linear", loss=loss)
        found = budget(solve(large, BallNumbers(200)), Model("float32"))
        assert np.isfinite(found.arrays["dW_hy"]).all() == bounded
