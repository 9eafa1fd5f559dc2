"""What a problem refuses: every message names the array or field, what was got and what was expected, in one line."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bptt.cells import CELLS
from bptt.errors import ProblemError, ShapeError
from bptt.losses import row_weights
from bptt.problem import DTYPES, SIGNIFICAND, Loss, Problem, gradient_shapes
from bptt.truncation import Truncation
from oracle.rounding import to_array

Fields = dict[str, Any]
Change = Callable[[Fields], None]
T, B, D, H, K = 4, 3, 2, 5, 3


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
    return Problem(**arguments | {"loss": Loss(**arguments["loss"]), "truncation": Truncation(**arguments["truncation"])})


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


SIZES = "T=4 B=3 D=2 H=5 K=3"
VALID = [
    *((cell, dtype, loss) for cell in CELLS for dtype, loss in [("float64", "cotangent"), ("float32", "classes")]),
    *(("elman", dtype, loss) for dtype in DTYPES for loss in ("cotangent", "squared_error", "classes", "probabilities")),
]

# base arguments (cell, dtype, loss), what is changed, the error's class, and what its message says
MALFORMED: list[tuple[tuple[str, ...], Change, type[ProblemError], str]] = [
    # names
    ((), put("cell", "gru"), ProblemError, "cell: got 'gru', expected one of elman, gru_reset_after"),
    ((), put("cell", None), ProblemError, "cell: got None, expected one of elman"),
    ((), put("activation", "softplus"), ProblemError, "activation: got 'softplus', expected one of tanh, sigmoid, relu, identity"),
    ((), put("activation", None), ProblemError, "activation: got None, expected one of tanh"),
    (("lstm",), put("activation", "tanh"), ProblemError, "activation: got 'tanh', expected None: lstm has none to choose"),
    ((), put("readout", "affine"), ProblemError, "readout: got 'affine', expected one of none, linear"),
    ((), put("dtype", "float128"), ProblemError, "dtype: got 'float128', expected one of float64, float32, float16, bfloat16"),
    ((), put("loss.kind", "mse"), ProblemError, "loss.kind: got 'mse', expected one of cotangent, squared_error, cross_entropy"),
    ((), put("loss.time_reduction", "max"), ProblemError, "loss.time_reduction: got 'max', expected one of sum, mean, tokens"),
    ((), put("loss.batch_reduction", ["sum"]), ProblemError, "loss.batch_reduction: got ['sum'], expected one of sum"),
    (
        ("elman", "float64", "classes"),
        put("loss.time_reduction", "tokens"),
        ProblemError,
        "loss.time_reduction, loss.batch_reduction: got tokens, sum, expected 'tokens' in both or in neither",
    ),
    (
        ("elman", "float64", "classes"),
        put("loss.batch_reduction", "tokens"),
        ProblemError,
        "loss.time_reduction, loss.batch_reduction: got sum, tokens, expected 'tokens' in both",
    ),
    ((), put("truncation.kind", "cec"), ProblemError, "truncation.kind: got 'cec', expected one of full, window, chunk, periodic for elman"),
    # parameters
    ((), put("params.W_hx", np.ones((D, H))), ProblemError, "params: got W_hh, W_hx, W_hy, W_xh, b_h, b_y, expected W_xh, W_hh, b_h, W_hy, b_y"),
    ((), drop("params.b_y"), ProblemError, "params: got W_hh, W_hy, W_xh, b_h, expected W_xh, W_hh, b_h, W_hy, b_y"),
    ((), put("params", {}), ProblemError, "params: got none, expected W_xh, W_hh, b_h, W_hy, b_y"),
    ((), put("readout", "none"), ProblemError, "params: got W_hh, W_hy, W_xh, b_h, b_y, expected W_xh, W_hh, b_h"),
    ((), put("params.W_hh", np.ones(H)), ShapeError, "W_hh: shape (5,), expected a matrix"),
    ((), put("params.W_hh", np.ones((H, H + 1))), ShapeError, f"W_hh: shape (5, 6), expected (5, 5) for {SIZES}"),
    ((), put("params.W_xh", np.ones((H, D))), ShapeError, f"W_xh: shape (5, 2), expected (2, 5) for {SIZES}"),
    ((), put("params.b_h", np.ones((1, H))), ShapeError, f"b_h: shape (1, 5), expected (5,) for {SIZES}"),
    ((), put("params.b_h", np.float64(1.0)), ShapeError, "b_h: got float64, expected a NumPy array"),
    ((), put("params.b_h", None), ShapeError, "b_h: got NoneType, expected a NumPy array"),
    ((), put("params.W_hy", np.ones(K)), ShapeError, "W_hy: shape (3,), expected a matrix"),
    ((), put("params.b_y", np.ones(K + 1)), ShapeError, f"b_y: shape (4,), expected (3,) for {SIZES}"),
    (("lstm",), put("params.W_x", np.ones((D, 3 * H))), ShapeError, f"W_x: shape (2, 15), expected (2, 20) for {SIZES}"),
    (("lstm_peephole",), put("params.p_f", np.ones((H, H))), ShapeError, f"p_f: shape (5, 5), expected (5,) for {SIZES}"),
    ((), put("params.W_hh", np.ones((H, H), np.float32)), ProblemError, "params.W_hh: dtype float32, expected float64 for a float64 problem"),
    ((), put("params.b_h", np.ones(H, int)), ProblemError, "params.b_h: dtype int64, expected float64 for a float64 problem"),
    ((), put("params.b_h", np.ones(H, ">f8")), ProblemError, "params.b_h: dtype >f8, expected float64 for a float64 problem"),
    # sequences and states
    ((), put("x", np.ones((T, D))), ShapeError, "x: shape (4, 2), expected three axes (T, B, D)"),
    ((), put("x", None), ShapeError, "x: got NoneType, expected a NumPy array"),
    ((), put("x", [[[1.0, 2.0]]]), ShapeError, "x: got list, expected a NumPy array"),
    ((), put("x", np.ones((T, 0, D))), ShapeError, "sizes: got T=4 B=0 D=2 H=5 K=3, expected at least 1 each"),
    ((), put("x", np.ones((T, B, D), np.complex128)), ProblemError, "x: dtype complex128, expected float64 for a float64 problem"),
    ((), put("x", np.broadcast_to(1.0, (2**20, 2**10, D))), ProblemError, "sizes: got T=1048576 B=1024 D=2 H=5 K=3, expected at most 134217728 entries"),
    ((), put("h0", np.ones((H, B))), ShapeError, f"h0: shape (5, 3), expected (3, 5) for {SIZES}"),
    ((), put("h0", [1.0]), ShapeError, "h0: got list, expected a NumPy array"),
    ((), put("c0", np.ones((B, H))), ProblemError, "c0: expected None, elman has no cell state"),
    (("gru_reset_after",), put("c0", np.ones((B, H))), ProblemError, "c0: expected None, gru_reset_after has no cell state"),
    (("lstm",), put("c0", None), ProblemError, "h0, c0: one is None and the other is not; expected both or neither"),
    (("lstm",), put("h0", None), ProblemError, "h0, c0: one is None and the other is not; expected both or neither"),
    (("lstm",), put("c0", np.ones((B, H + 1))), ShapeError, f"c0: shape (3, 6), expected (3, 5) for {SIZES}"),
    # lengths
    ((), put("lengths", np.array([T + 1, 0, 2])), ProblemError, "lengths: got [5, 0, 2], expected 0 to T = 4"),
    ((), put("lengths", np.array([T, -1, 2])), ProblemError, "lengths: got [4, -1, 2], expected 0 to T = 4"),
    ((), put("lengths", np.array([T, 2])), ShapeError, "lengths: shape (2,), expected (3,)"),
    ((), put("lengths", np.array([[T, 0, 2]])), ShapeError, "lengths: shape (1, 3), expected (3,)"),
    ((), put("lengths", np.array([4.0, 0.0, 2.0])), ProblemError, "lengths: dtype float64, expected int64"),
    ((), put("lengths", np.array([4, 0, 2], np.int32)), ProblemError, "lengths: dtype int32, expected int64"),
    ((), put("lengths", [4, 0, 2]), ShapeError, "lengths: got list, expected a NumPy array"),
    # values
    ((), entry("params.W_hh", (1, 2), np.nan), ProblemError, "params.W_hh[1, 2]: got nan, expected a finite number"),
    ((), entry("params.b_y", (2,), np.inf), ProblemError, "params.b_y[2]: got inf, expected a finite number"),
    ((), entry("x", (3, 1, 0), -np.inf), ProblemError, "x[3, 1, 0]: got -inf, expected a finite number"),
    ((), entry("h0", (2, 4), np.nan), ProblemError, "h0[2, 4]: got nan, expected a finite number"),
    (("lstm",), entry("c0", (0, 1), np.inf), ProblemError, "c0[0, 1]: got inf, expected a finite number"),
    ((), entry("loss.g", (0, 2, 1), np.nan), ProblemError, "loss.g[0, 2, 1]: got nan, expected a finite number"),
    ((), entry("loss.g_h_final", (1, 1), np.inf), ProblemError, "loss.g_h_final[1, 1]: got inf, expected a finite number"),
    (("elman", "float16", "squared_error"), entry("loss.target", (0, 0, 0), np.nan), ProblemError, "loss.target[0, 0, 0]: got nan"),
    (("elman", "bfloat16"), entry("x", (1, 0, 1), 1.01), ProblemError, "x[1, 0, 1]: got 1.0099999904632568, expected float32 that bfloat16 holds too"),
    (("elman", "bfloat16"), entry("params.b_h", (4,), 1e-45), ProblemError, "params.b_h[4]: got 1.4"),
    # losses
    ((), put("loss.g", None), ProblemError, "loss.g: got None, expected an array for a cotangent loss"),
    ((), put("loss.g", np.ones((T, B, H))), ShapeError, "loss.g: shape (4, 3, 5), expected (4, 3, 3) for T=4 B=3 K=3"),
    ((), put("loss.g_h_final", np.ones((B, K))), ShapeError, "loss.g_h_final: shape (3, 3), expected (3, 5) for T=4 B=3 K=3 H=5"),
    ((), put("loss.g_c_final", np.ones((B, H))), ProblemError, "loss.g_c_final: expected None, elman has no cell state"),
    ((), put("loss.time_reduction", "mean"), ProblemError, "loss: got reductions mean, sum, expected sum for a cotangent"),
    ((), put("loss.target", np.ones((T, B, K))), ProblemError, "loss.target: expected None for a cotangent loss"),
    ((), put("loss.scale", 1.0), ProblemError, "loss.scale: expected None for a cotangent loss"),
    (("elman", "float64", "squared_error"), put("loss.scale", 2.0), ProblemError, "loss.scale: got 2.0, expected 1 or 0.5"),
    (("elman", "float64", "squared_error"), put("loss.scale", None), ProblemError, "loss.scale: got None, expected 1 or 0.5"),
    (("elman", "float64", "squared_error"), put("loss.scale", float("nan")), ProblemError, "loss.scale: got nan, expected 1 or 0.5"),
    (("elman", "float64", "squared_error"), put("loss.g", np.ones((T, B, K))), ProblemError, "loss.g: expected None for a squared_error loss"),
    (("elman", "float64", "squared_error"), put("loss.target", None), ProblemError, "loss.target: got None, expected an array for a squared_error loss"),
    (("elman", "float64", "squared_error"), put("loss.target", np.ones((B, T, K))), ShapeError, "loss.target: shape (3, 4, 3), expected (4, 3, 3) for T=4"),
    (("elman", "float64", "classes"), entry("loss.target", (2, 1), K), ProblemError, "loss.target[2, 1]: got class 3, expected 0 to K - 1 = 2"),
    (("elman", "float64", "classes"), entry("loss.target", (0, 2), -1), ProblemError, "loss.target[0, 2]: got class -1, expected 0 to K - 1 = 2"),
    (("elman", "float64", "classes"), put("loss.target", np.zeros((B, T), int)), ShapeError, "loss.target: shape (3, 4), expected (4, 3) for T=4"),
    (("elman", "float64", "classes"), put("loss.target", np.zeros((T, B))), ProblemError, "loss.target: dtype float64, expected int64"),
    (("elman", "float64", "classes"), put("loss.target", np.zeros(T)), ShapeError, "loss.target: shape (4,), expected (4, 3, 3) for T=4"),
    (("elman", "float64", "classes"), put("loss.scale", 1.0), ProblemError, "loss.scale: expected None for a cross_entropy loss"),
    (("elman", "float64", "probabilities"), entry("loss.target", (1, 0, 0), 0.5), ProblemError, "loss.target[1, 0]: probabilities sum to 1.25, expected 1 within K u"),
    (("elman", "float64", "probabilities"), entry("loss.target", (1, 0, 0), -0.25), ProblemError, "loss.target[1, 0, 0]: got -0.25, expected a probability of at least 0"),
    (("elman", "float64", "probabilities"), entry("loss.target", (0, 2, 1), 1e300), ProblemError, "loss.target[0, 2]: probabilities sum to 1e+300, expected 1"),
    (("elman", "float16", "probabilities"), put("loss.target", np.full((T, B, K), 6e4, np.float16)), ProblemError, "loss.target[0, 0]: probabilities sum to 180000.0"),
    # truncations
    ((), put("truncation.kind", "tbptt"), ProblemError, "truncation.kind: got 'tbptt', expected one of full, window, chunk, periodic, cec"),
    ((), put("truncation", {"kind": "window"}), ProblemError, "truncation.k: got None, expected an integer of at least 1"),
    ((), put("truncation", {"kind": "window", "k": 0}), ProblemError, "truncation.k: got 0, expected an integer of at least 1"),
    ((), put("truncation", {"kind": "chunk", "k": 2.0}), ProblemError, "truncation.k: got 2.0, expected an integer of at least 1"),
    ((), put("truncation", {"kind": "chunk", "k": True}), ProblemError, "truncation.k: got True, expected an integer of at least 1"),
    ((), put("truncation", {"kind": "full", "k": 2}), ProblemError, "truncation.k: got 2, expected None for kind 'full'"),
    ((), put("truncation", {"kind": "window", "k": 2, "k2": 3}), ProblemError, "truncation.k2: got 3, expected None for kind 'window'"),
    ((), put("truncation", {"kind": "periodic", "k1": 3}), ProblemError, "truncation.k2: got None, expected an integer of at least 1"),
    ((), put("truncation", {"kind": "periodic", "k1": 3, "k2": 2}), ProblemError, "truncation.k2: got 2, expected at least k1 = 3"),
]


@pytest.mark.parametrize(("cell", "dtype", "loss"), VALID)
def test_problem_takes_what_is_well_formed(cell: str, dtype: str, loss: str) -> None:
    problem = build(fields(cell, dtype, loss))
    assert (problem.T, problem.B, problem.D, problem.H, problem.K) == (T, B, D, H, K)
    assert problem.row_lengths.tolist() == [T, 0, 2]


@pytest.mark.parametrize(("base", "change", "kind", "message"), MALFORMED, ids=[line[3][:60] for line in MALFORMED])
def test_problem_refuses_and_says_why(base: tuple[str, ...], change: Change, kind: type[ProblemError], message: str) -> None:
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
    assert list(problem.parameter_shapes()) == [name.removeprefix("params.") for name, _ in problem.arrays() if "params." in name]


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
