"""What a problem refuses: every message names the array or field, what was got and what was expected, in one line."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bptt.cells import CELLS
from bptt.errors import ProblemError, ShapeError
from bptt.losses import row_weights
from bptt.problem import DTYPES, SIGNIFICAND, Loss, Problem, gradient_shapes
from bptt.truncation import Truncation
from oracle.rounding import to_array

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
Fields = dict[str, Any]
Change = Callable[[Fields], None]
T, B, D, H, K = 4, 3, 2, 5, 3
LOSSES = ("cotangent", "squared_error", "classes", "probabilities")


def fields(cell: str = "elman", dtype: str = "float64", loss: str = "cotangent") -> Fields:
    """The arguments of a valid problem with a linear readout; the loss's are under `loss`, ready to be changed."""
    rng = np.random.default_rng(7)

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return (rng.integers(-8, 9, shape) / 8.0).astype(DTYPES[dtype])

    spec = CELLS[cell]
    shapes = spec.shapes(D, H) | {"W_hy": (H, K), "b_y": (K,)}
    losses: dict[str, Fields] = {
        "cotangent": {"g": array(T, B, K), "g_h_final": array(B, H)},
        "squared_error": {"target": array(T, B, K), "scale": 0.5},
        "classes": {"target": rng.integers(0, K, (T, B))},
        "probabilities": {"target": np.full((T, B, K), [0.25, 0.5, 0.25], DTYPES[dtype])},
    }
    kind = loss if loss in ("cotangent", "squared_error") else "cross_entropy"
    return {
        "cell": cell,
        "activation": spec.activations[0] if spec.activations else None,
        "readout": "linear",
        "params": {name: array(*shape) for name, shape in shapes.items()},
        "x": array(T, B, D),
        "h0": array(B, H),
        "c0": array(B, H) if "c" in spec.states else None,
        "lengths": np.array([T, 0, 2]),
        "loss": {"kind": kind} | losses[loss],
        "truncation": {"kind": "full"},
        "dtype": dtype,
    }


def build(given_fields: Fields) -> Problem:
    """The problem of such arguments."""
    arguments = dict(given_fields)
    loss, truncation = Loss(**arguments["loss"]), Truncation(**arguments["truncation"])
    return Problem(**arguments | {"loss": loss, "truncation": truncation})


def put(path: str, value: Any) -> Change:
    """Set a field, by its dotted name; a number for an array sets one entry of it."""

    def change(arguments: Fields) -> None:
        *holders, name = path.split(".")
        for holder in holders:
            arguments = arguments[holder]
        arguments[name] = value

    return change


def entry(path: str, at: tuple[int, ...], value: float) -> Change:
    """Set one entry of an array."""

    def change(arguments: Fields) -> None:
        *holders, name = path.split(".")
        for holder in holders:
            arguments = arguments[holder]
        arguments[name][at] = value

    return change


def drop(path: str) -> Change:
    """Take a key away."""

    def change(arguments: Fields) -> None:
        *holders, name = path.split(".")
        for holder in holders:
            arguments = arguments[holder]
        del arguments[name]

    return change


PLAIN: tuple[str, ...] = ()
LSTM, PEEPHOLE, GRU = ("lstm",), ("lstm_peephole",), ("gru_reset_after",)
SQUARED, CLASSES = ("elman", "float64", "squared_error"), ("elman", "float64", "classes")
CHANCES, CHANCES_16 = ("elman", "float64", "probabilities"), ("elman", "float16", "probabilities")
SQUARED_16, BRAIN = ("elman", "float16", "squared_error"), ("elman", "bfloat16")
BOTH = "loss.time_reduction, loss.batch_reduction"
NAMES = "expected W_xh, W_hh, b_h, W_hy, b_y"
SIZES = "T=4 B=3 D=2 H=5 K=3"
VALID = [
    *((cell, dtype, loss) for cell in CELLS for dtype, loss in [("float64", "cotangent"), ("float32", "classes")]),
    *(("elman", dtype, loss) for dtype in DTYPES for loss in LOSSES),
]

# base arguments, what is changed in them, how the message begins
WRONG_VALUES: list[tuple[tuple[str, ...], Change, str]] = [
    (PLAIN, put("cell", "gru"), "cell: got 'gru', expected one of elman, gru_reset_after"),
    (PLAIN, put("cell", None), "cell: got None, expected one of elman"),
    (PLAIN, put("activation", "softplus"), "activation: got 'softplus', expected one of tanh, sigmoid, relu, identity"),
    (PLAIN, put("activation", None), "activation: got None, expected one of tanh"),
    (LSTM, put("activation", "tanh"), "activation: got 'tanh', expected None: lstm has none to choose"),
    (PLAIN, put("readout", "affine"), "readout: got 'affine', expected one of none, linear"),
    (PLAIN, put("dtype", "float128"), "dtype: got 'float128', expected one of float64, float32, float16, bfloat16"),
    (PLAIN, put("loss.kind", "mse"), "loss.kind: got 'mse', expected one of cotangent, squared_error, cross_entropy"),
    (PLAIN, put("loss.time_reduction", "max"), "loss.time_reduction: got 'max', expected one of sum, mean, tokens"),
    (PLAIN, put("loss.batch_reduction", ["sum"]), "loss.batch_reduction: got ['sum'], expected one of sum"),
    (CLASSES, put("loss.time_reduction", "tokens"), f"{BOTH}: got tokens, sum, expected 'tokens' in both"),
    (CLASSES, put("loss.batch_reduction", "tokens"), f"{BOTH}: got sum, tokens, expected 'tokens' in both"),
    (
        PLAIN,
        put("truncation.kind", "cec"),
        "truncation.kind: got 'cec', expected one of full, window, chunk, periodic for",
    ),
    (PLAIN, put("params.W_hx", np.ones((D, H))), f"params: got W_hh, W_hx, W_hy, W_xh, b_h, b_y, {NAMES}"),
    (PLAIN, drop("params.b_y"), f"params: got W_hh, W_hy, W_xh, b_h, {NAMES}"),
    (PLAIN, put("params", {}), f"params: got none, {NAMES}"),
    (PLAIN, put("readout", "none"), "params: got W_hh, W_hy, W_xh, b_h, b_y, expected W_xh, W_hh, b_h"),
    (
        PLAIN,
        put("params.W_hh", np.ones((H, H), np.float32)),
        "params.W_hh: dtype float32, expected float64 for a float64",
    ),
    (PLAIN, put("params.b_h", np.ones(H, int)), "params.b_h: dtype int64, expected float64 for a float64 problem"),
    (PLAIN, put("params.b_h", np.ones(H, ">f8")), "params.b_h: dtype >f8, expected float64 for a float64 problem"),
    (PLAIN, put("x", np.ones((T, B, D), np.complex128)), "x: dtype complex128, expected float64 for a float64 problem"),
    (PLAIN, put("x", np.broadcast_to(1.0, (2**20, 99, D))), "sizes: got T=1048576 B=99 D=2 H=5 K=3, expected at most"),
    (PLAIN, put("c0", np.ones((B, H))), "c0: expected None, elman has no cell state"),
    (GRU, put("c0", np.ones((B, H))), "c0: expected None, gru_reset_after has no cell state"),
    (LSTM, put("c0", None), "h0, c0: one is None and the other is not; expected both or neither"),
    (LSTM, put("h0", None), "h0, c0: one is None and the other is not; expected both or neither"),
    (PLAIN, put("lengths", np.array([T + 1, 0, 2])), "lengths: got [5, 0, 2], expected 0 to T = 4"),
    (PLAIN, put("lengths", np.array([T, -1, 2])), "lengths: got [4, -1, 2], expected 0 to T = 4"),
    (PLAIN, put("lengths", np.array([4.0, 0.0, 2.0])), "lengths: dtype float64, expected int64"),
    (PLAIN, put("lengths", np.array([4, 0, 2], np.int32)), "lengths: dtype int32, expected int64"),
    (PLAIN, entry("params.W_hh", (1, 2), np.nan), "params.W_hh[1, 2]: got nan, expected a finite number"),
    (PLAIN, entry("params.b_y", (2,), np.inf), "params.b_y[2]: got inf, expected a finite number"),
    (PLAIN, entry("x", (3, 1, 0), -np.inf), "x[3, 1, 0]: got -inf, expected a finite number"),
    (PLAIN, entry("h0", (2, 4), np.nan), "h0[2, 4]: got nan, expected a finite number"),
    (LSTM, entry("c0", (0, 1), np.inf), "c0[0, 1]: got inf, expected a finite number"),
    (PLAIN, entry("loss.g", (0, 2, 1), np.nan), "loss.g[0, 2, 1]: got nan, expected a finite number"),
    (PLAIN, entry("loss.g_h_final", (1, 1), np.inf), "loss.g_h_final[1, 1]: got inf, expected a finite number"),
    (SQUARED_16, entry("loss.target", (0, 0, 0), np.nan), "loss.target[0, 0, 0]: got nan"),
    (BRAIN, entry("x", (1, 0, 1), 1.01), "x[1, 0, 1]: got 1.0099999904632568, expected float32 that bfloat16 holds"),
    (BRAIN, entry("params.b_h", (4,), 1e-45), "params.b_h[4]: got 1.4"),
    (PLAIN, put("loss.g", None), "loss.g: got None, expected an array for a cotangent loss"),
    (PLAIN, put("loss.g_c_final", np.ones((B, H))), "loss.g_c_final: expected None, elman has no cell state"),
    (PLAIN, put("loss.time_reduction", "mean"), "loss: got reductions mean, sum, expected sum for a cotangent"),
    (PLAIN, put("loss.target", np.ones((T, B, K))), "loss.target: expected None for a cotangent loss"),
    (PLAIN, put("loss.scale", 1.0), "loss.scale: expected None for a cotangent loss"),
    (SQUARED, put("loss.scale", 2.0), "loss.scale: got 2.0, expected 1 or 0.5"),
    (SQUARED, put("loss.scale", None), "loss.scale: got None, expected 1 or 0.5"),
    (SQUARED, put("loss.scale", float("nan")), "loss.scale: got nan, expected 1 or 0.5"),
    (SQUARED, put("loss.g", np.ones((T, B, K))), "loss.g: expected None for a squared_error loss"),
    (SQUARED, put("loss.target", None), "loss.target: got None, expected an array for a squared_error loss"),
    (CLASSES, entry("loss.target", (2, 1), K), "loss.target[2, 1]: got class 3, expected 0 to K - 1 = 2"),
    (CLASSES, entry("loss.target", (0, 2), -1), "loss.target[0, 2]: got class -1, expected 0 to K - 1 = 2"),
    (CLASSES, put("loss.target", np.zeros((T, B))), "loss.target: dtype float64, expected int64"),
    (CLASSES, put("loss.scale", 1.0), "loss.scale: expected None for a cross_entropy loss"),
    (CHANCES, entry("loss.target", (1, 0, 0), 0.5), "loss.target[1, 0]: probabilities sum to 1.25, expected 1 within"),
    (CHANCES, entry("loss.target", (1, 0, 0), -0.25), "loss.target[1, 0, 0]: got -0.25, expected a probability of at"),
    (CHANCES, entry("loss.target", (0, 2, 1), 1e300), "loss.target[0, 2]: probabilities sum to 1e+300, expected 1"),
    (CHANCES_16, put("loss.target", np.full((T, B, K), 6e4, np.float16)), "loss.target[0, 0]: probabilities sum to"),
    (PLAIN, put("truncation.kind", "tbptt"), "truncation.kind: got 'tbptt', expected one of full, window, chunk"),
    (PLAIN, put("truncation", {"kind": "window"}), "truncation.k: got None, expected an integer of at least 1"),
    (PLAIN, put("truncation", {"kind": "window", "k": 0}), "truncation.k: got 0, expected an integer of at least 1"),
    (PLAIN, put("truncation", {"kind": "chunk", "k": 2.0}), "truncation.k: got 2.0, expected an integer of at least 1"),
    (PLAIN, put("truncation", {"kind": "chunk", "k": True}), "truncation.k: got True, expected an integer of at least"),
    (PLAIN, put("truncation", {"kind": "full", "k": 2}), "truncation.k: got 2, expected None for kind 'full'"),
    (PLAIN, put("truncation", {"kind": "window", "k": 2, "k2": 3}), "truncation.k2: got 3, expected None for kind"),
    (PLAIN, put("truncation", {"kind": "periodic", "k1": 3}), "truncation.k2: got None, expected an integer"),
    (PLAIN, put("truncation", {"kind": "periodic", "k1": 3, "k2": 2}), "truncation.k2: got 2, expected at least k1"),
]
WRONG_SHAPES: list[tuple[tuple[str, ...], Change, str]] = [
    (PLAIN, put("params.W_hh", np.ones(H)), "W_hh: shape (5,), expected a matrix"),
    (PLAIN, put("params.W_hh", np.ones((H, H + 1))), f"W_hh: shape (5, 6), expected (5, 5) for {SIZES}"),
    (PLAIN, put("params.W_xh", np.ones((H, D))), f"W_xh: shape (5, 2), expected (2, 5) for {SIZES}"),
    (PLAIN, put("params.b_h", np.ones((1, H))), f"b_h: shape (1, 5), expected (5,) for {SIZES}"),
    (PLAIN, put("params.b_h", np.float64(1.0)), "b_h: got float64, expected a NumPy array"),
    (PLAIN, put("params.b_h", None), "b_h: got NoneType, expected a NumPy array"),
    (PLAIN, put("params.W_hy", np.ones(K)), "W_hy: shape (3,), expected a matrix"),
    (PLAIN, put("params.b_y", np.ones(K + 1)), f"b_y: shape (4,), expected (3,) for {SIZES}"),
    (LSTM, put("params.W_x", np.ones((D, 3 * H))), f"W_x: shape (2, 15), expected (2, 20) for {SIZES}"),
    (PEEPHOLE, put("params.p_f", np.ones((H, H))), f"p_f: shape (5, 5), expected (5,) for {SIZES}"),
    (PLAIN, put("x", np.ones((T, D))), "x: shape (4, 2), expected three axes (T, B, D)"),
    (PLAIN, put("x", None), "x: got NoneType, expected a NumPy array"),
    (PLAIN, put("x", [[[1.0, 2.0]]]), "x: got list, expected a NumPy array"),
    (PLAIN, put("x", np.ones((T, 0, D))), "sizes: got T=4 B=0 D=2 H=5 K=3, expected at least 1 each"),
    (PLAIN, put("h0", np.ones((H, B))), f"h0: shape (5, 3), expected (3, 5) for {SIZES}"),
    (PLAIN, put("h0", [1.0]), "h0: got list, expected a NumPy array"),
    (LSTM, put("c0", np.ones((B, H + 1))), f"c0: shape (3, 6), expected (3, 5) for {SIZES}"),
    (PLAIN, put("lengths", np.array([T, 2])), "lengths: shape (2,), expected (3,)"),
    (PLAIN, put("lengths", np.array([[T, 0, 2]])), "lengths: shape (1, 3), expected (3,)"),
    (PLAIN, put("lengths", [4, 0, 2]), "lengths: got list, expected a NumPy array"),
    (PLAIN, put("loss.g", np.ones((T, B, H))), "loss.g: shape (4, 3, 5), expected (4, 3, 3) for T=4 B=3 K=3"),
    (PLAIN, put("loss.g_h_final", np.ones((B, K))), "loss.g_h_final: shape (3, 3), expected (3, 5) for T=4 B=3"),
    (SQUARED, put("loss.target", np.ones((B, T, K))), "loss.target: shape (3, 4, 3), expected (4, 3, 3) for T=4"),
    (CLASSES, put("loss.target", np.zeros((B, T), int)), "loss.target: shape (3, 4), expected (4, 3) for T=4"),
    (CLASSES, put("loss.target", np.zeros(T)), "loss.target: shape (4,), expected (4, 3, 3) for T=4"),
]
REFUSED = [(*line, ProblemError) for line in WRONG_VALUES] + [(*line, ShapeError) for line in WRONG_SHAPES]


@pytest.mark.parametrize(("cell", "dtype", "loss"), VALID)
def test_problem_takes_what_is_well_formed(cell: str, dtype: str, loss: str) -> None:
    problem = build(fields(cell, dtype, loss))
    assert (problem.T, problem.B, problem.D, problem.H, problem.K) == (T, B, D, H, K)
    assert problem.row_lengths.tolist() == [T, 0, 2]


@pytest.mark.parametrize(("base", "change", "message", "kind"), REFUSED, ids=[line[2][:60] for line in REFUSED])
def test_problem_refuses_and_says_why(
    base: tuple[str, ...], change: Change, message: str, kind: type[ProblemError]
) -> None:
    arguments = fields(*base)
    change(arguments)
    with pytest.raises(ProblemError) as caught:
        build(arguments)
    text = str(caught.value)
    assert text.startswith(message)
    assert type(caught.value) is kind
    assert "expected" in text
    assert text.isprintable(), "one line"


@pytest.mark.parametrize("dtype", DTYPES)
@UNHURRIED
@given(st.data())
def test_problem_judges_the_sum_of_probabilities_exactly(dtype: str, data: st.DataObject) -> None:
    p = SIGNIFICAND[dtype]
    units = data.draw(st.integers(-12, 12))  # how far from 1 the sum is, in u = 2^-p
    total = 1 + Fraction(units, 2**p)
    parts = [Fraction(1, 4), Fraction(1, 4), total - Fraction(1, 2)]
    arguments = fields("elman", dtype, "probabilities")
    arguments["lengths"] = None
    arguments["loss"]["target"][2, 1] = to_array(parts, (3,), dtype)
    if abs(units) <= K:
        build(arguments)
    else:
        with pytest.raises(ProblemError, match=r"loss\.target\[2, 1\]: probabilities sum to"):
            build(arguments)


def test_problem_ignores_probabilities_beyond_a_rows_length() -> None:
    arguments = fields("elman", "float64", "probabilities")
    arguments["loss"]["target"][2:, 2] = 0.0
    arguments["loss"]["target"][:, 1] = 0.0
    build(arguments)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("readout", ["none", "linear"])
def test_gradient_shapes_are_those_of_the_arrays(cell: str, readout: str) -> None:
    arguments = fields(cell)
    arguments["readout"] = readout
    if readout == "none":
        del arguments["params"]["W_hy"], arguments["params"]["b_y"]
        arguments["loss"] = {"kind": "cotangent", "g": np.ones((T, B, H))}
    problem = build(arguments)
    shapes = gradient_shapes(problem)
    assert shapes["o"] == (T, B, K if readout == "linear" else H)
    assert shapes["dx"] == problem.x.shape
    assert {key[1:]: shape for key, shape in shapes.items() if key[1:] in problem.params} == {
        name: array.shape for name, array in problem.params.items()
    }
    states = CELLS[cell].states
    assert [key for key in shapes if key.endswith("0")] == [f"d{state}0" for state in states]
    named = [name.removeprefix("params.") for name, _ in problem.arrays() if name.startswith("params.")]
    assert named == list(problem.parameter_shapes())


@pytest.mark.parametrize(
    ("time", "batch", "want"),
    [
        ("sum", "sum", ["1", "0", "1"]),
        ("mean", "sum", ["1/4", "0", "1/2"]),
        ("sum", "mean", ["1/3", "0", "1/3"]),
        ("mean", "mean", ["1/12", "0", "1/6"]),
        ("tokens", "tokens", ["1/6", "0", "1/6"]),
    ],
)
def test_row_weights_are_the_reductions(time: str, batch: str, want: list[str]) -> None:
    arguments = fields("elman", "float64", "classes")
    arguments["loss"] |= {"time_reduction": time, "batch_reduction": batch}
    assert row_weights(build(arguments)) == [Fraction(weight) for weight in want]
