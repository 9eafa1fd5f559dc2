"""The target `c`: against plain NumPy, on exact problems, in the padding, and towards its caller's memory.

The comparison with NumPy is a cross-check at a loose relative bound, orders of magnitude above what rounding costs
at these sizes; the verdict is the oracle's. The binding and the C sources have tests of their own in `tests/csrc`.
"""

import concurrent.futures
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import implementations
from implementations import numpy_bptt, registry

LOOSE = {"float64": 1e-9, "float32": 2e-3}
CELLS = ["elman", "lstm", "lstm_peephole", "lstm_1997", "gru_reset_after", "gru_reset_before"]
ACTIVATIONS = ["tanh", "sigmoid", "relu", "identity"]
REDUCTIONS = [("sum", "sum"), ("mean", "sum"), ("sum", "mean"), ("mean", "mean"), ("tokens", "tokens")]


@pytest.fixture
def c_kernel() -> Any:
    """Import the adapter; skip where the binding was not built."""
    pytest.importorskip("implementations._bptt_c", reason="the C kernel is not built")
    return importlib.import_module("implementations.c_kernel")


def shapes_of(cell: str, D: int, H: int) -> dict[str, tuple[int, ...]]:
    """Name to shape of a cell's parameters."""
    if cell == "elman":
        return {"W_xh": (D, H), "W_hh": (H, H), "b_h": (H,)}
    G = 4 * H if cell in ("lstm", "lstm_peephole") else 3 * H
    biases = ("b_x", "b_h") if cell == "gru_reset_after" else ("b",)
    peepholes = ("p_i", "p_f", "p_o") if cell == "lstm_peephole" else ()
    return {"W_x": (D, G), "W_h": (H, G), **dict.fromkeys(biases, (G,)), **dict.fromkeys(peepholes, (H,))}


def make_loss(rng: np.random.Generator, draw: Callable[..., Any], cell: str, H: int, o: tuple[int, ...]) -> Any:
    """Draw any loss that a cell can have, over outputs of the shape o (T,B,K)."""
    fields: dict[str, Any] = dict.fromkeys(("g", "g_h_final", "g_c_final", "target", "scale"))
    kind = str(rng.choice(["cotangent", "squared_error", "cross_entropy"]))
    over_time, over_batch = REDUCTIONS[0 if kind == "cotangent" else rng.integers(len(REDUCTIONS))]
    if kind == "cotangent":
        fields["g"] = draw(*o)
        fields["g_h_final"] = draw(o[1], H) if rng.random() < 0.7 else None
        fields["g_c_final"] = draw(o[1], H) if cell.startswith("lstm") and rng.random() < 0.7 else None
    elif kind == "squared_error":
        fields |= {"target": draw(*o), "scale": float(rng.choice([0.5, 1.0]))}
    elif rng.random() < 0.5:
        fields["target"] = rng.integers(0, o[2], o[:2])
    else:
        fields["target"] = rng.dirichlet(np.ones(o[2]), o[:2]).astype(draw(1).dtype)
    return types.SimpleNamespace(kind=kind, time_reduction=over_time, batch_reduction=over_batch, **fields)


def make_problem(cell: str, seed: int, dtype: str = "float64", activation: str = "tanh") -> types.SimpleNamespace:
    """Draw a problem: sizes 1 to 7, any readout, loss, reduction, lengths, initial state and truncation."""
    rng = np.random.default_rng([seed, CELLS.index(cell)])
    T, B, D, H, K = (int(n) for n in rng.integers(1, 8, size=5))

    def draw(*shape: int) -> Any:
        return (0.7 * rng.standard_normal(shape)).astype(dtype)

    readout = str(rng.choice(["none", "linear"]))
    params = {name: draw(*shape) for name, shape in shapes_of(cell, D, H).items()}
    if readout == "linear":
        params |= {"W_hy": draw(H, K), "b_y": draw(K)}
    has_c = cell.startswith("lstm")
    loss = make_loss(rng, draw, cell, H, (T, B, K if readout == "linear" else H))
    k1, more = int(rng.integers(1, T + 2)), int(rng.integers(0, T + 1))
    cut = str(rng.choice(["full", "window", "chunk", "periodic", *(["cec"] if cell == "lstm_1997" else [])]))
    zeros = rng.random() < 0.2
    return types.SimpleNamespace(
        cell=cell, activation=activation if cell == "elman" else None, readout=readout, dtype=dtype, params=params,
        x=draw(T, B, D), h0=None if zeros else draw(B, H), c0=draw(B, H) if has_c and not zeros else None,
        lengths=rng.integers(0, T + 1, B) if rng.random() < 0.7 else None, loss=loss,
        truncation=types.SimpleNamespace(kind=cut, k=k1, k1=k1, k2=k1 + more),
    )  # fmt: skip


def arrays_of(problem: types.SimpleNamespace) -> dict[str, Any]:
    """Every array of a problem, by a name."""
    named = {**vars(problem), **vars(problem.loss), **problem.params}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


def change_arrays(problem: types.SimpleNamespace, change: Callable[[Any], Any]) -> types.SimpleNamespace:
    """Copy a problem with each array changed."""

    def one(value: Any) -> Any:
        return change(value) if isinstance(value, np.ndarray) else value

    fields = {name: one(value) for name, value in vars(problem).items()}
    fields["params"] = {name: change(value) for name, value in problem.params.items()}
    fields["loss"] = types.SimpleNamespace(**{name: one(value) for name, value in vars(problem.loss).items()})
    return types.SimpleNamespace(**fields)


def inside(problem: types.SimpleNamespace) -> Any:
    """(T,B): the steps within their row's length."""
    T, B, _ = problem.x.shape
    return np.arange(T)[:, None] < (np.full(B, T) if problem.lengths is None else problem.lengths)


def bits(answer: dict[str, Any]) -> dict[str, bytes]:
    """Each value of an answer as bytes."""
    return {name: np.asarray(value).tobytes() for name, value in answer.items()}


# Against NumPy


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", CELLS)
def test_c_agrees_with_numpy(c_kernel: Any, cell: str, dtype: str) -> None:
    for seed in range(240 if cell == "elman" else 120):
        problem = make_problem(cell, seed, dtype, ACTIVATIONS[seed % 4])
        got, want = c_kernel.gradients(problem), numpy_bptt.gradients(problem)
        assert got.keys() == want.keys()
        for name, value in want.items():
            live = (inside(problem),) if name in ("h", "c", "o") else ()
            a, b = np.asarray(got[name]), np.asarray(value)
            assert (a.dtype, a.shape) == (np.dtype(dtype), b.shape), name
            off = np.linalg.norm(a[live] - b[live])
            assert off <= LOOSE[dtype] * (1e-3 + np.linalg.norm(b[live])), (name, seed)
        assert not got["dx"][~inside(problem)].any()


def make_large(cell: str, dtype: str, sizes: tuple[int, int, int, int]) -> types.SimpleNamespace:
    """Draw a problem of the sizes T, B, D, H whose rows have different lengths; the padding of x is NaN."""
    rng = np.random.default_rng([*sizes, CELLS.index(cell)])
    T, B, D, H = sizes

    def draw(*shape: int) -> Any:
        return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(dtype)

    lengths = rng.integers(0, T + 1, B)
    x = draw(T, B, D)
    x[np.arange(T)[:, None] >= lengths] = np.nan
    params = {name: draw(*shape) for name, shape in shapes_of(cell, D, H).items()}
    fields = {
        "g": draw(T, B, 33),
        "g_h_final": draw(B, H),
        "g_c_final": draw(B, H) if cell.startswith("lstm") else None,
    }
    return types.SimpleNamespace(
        cell=cell, activation="tanh" if cell == "elman" else None, readout="linear", dtype=dtype,
        params=params | {"W_hy": draw(H, 33), "b_y": draw(33)}, x=x,
        h0=draw(B, H), c0=draw(B, H) if cell.startswith("lstm") else None, lengths=lengths,
        loss=types.SimpleNamespace(kind="cotangent", time_reduction="sum", batch_reduction="sum", **fields),
        truncation=types.SimpleNamespace(kind="full"),
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [(3, 150, 259, 70), (40, 7, 5, 67), (5, 1, 70, 300)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_instruction_set_agrees_with_numpy_past_its_blocks(
    c_kernel: Any, cell: str, dtype: str, sizes: tuple[int, int, int, int]
) -> None:
    problem = make_large(cell, dtype, sizes)
    finite = change_arrays(problem, lambda a: np.nan_to_num(a) if a.ndim == 3 else a)
    want = numpy_bptt.gradients(finite)  # NumPy multiplies the padding by 0
    for instructions in c_kernel._bptt_c.instructions():
        got = c_kernel._solve(problem, instructions)
        for name, value in want.items():
            live = (inside(problem),) if name in ("h", "c", "o") else ()
            a, b = np.asarray(got[name])[live], np.asarray(value)[live]
            assert np.linalg.norm(a - b) <= LOOSE[dtype] * (1e-3 + np.linalg.norm(b)), (name, instructions)


@pytest.mark.parametrize("activation", ["identity", "relu"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_c_is_exact_on_small_integers(c_kernel: Any, dtype: str, activation: str) -> None:
    for seed in range(40):
        drawn = make_problem("elman", seed, dtype, activation)
        problem = change_arrays(drawn, lambda a: np.round(2 * a).astype(a.dtype))
        H = problem.params["W_hh"].shape[0]
        problem.params["W_hh"] = (-np.eye(H)[::-1]).astype(dtype)  # a signed permutation keeps every sum small
        problem.lengths = None
        T, B, _ = problem.x.shape
        K = problem.params["W_hy"].shape[1] if problem.readout == "linear" else H
        g = np.ones((T, B, K), dtype)
        problem.loss = types.SimpleNamespace(
            kind="cotangent", g=g, g_h_final=None, g_c_final=None, time_reduction="sum", batch_reduction="sum"
        )
        got, want = c_kernel.gradients(problem), numpy_bptt.gradients(problem)
        assert all(np.array_equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("cell", CELLS)
def test_padded_row_is_its_twin_to_the_bit(c_kernel: Any, cell: str) -> None:
    for seed in range(40):
        problem = change_arrays(make_problem(cell, seed), lambda a: a[:, :1] if a.ndim == 3 else a)
        problem.loss.target = None if problem.loss.target is None else problem.loss.target[:, :1]
        for owner, name in ((problem, "h0"), (problem, "c0"), (problem.loss, "g_h_final"), (problem.loss, "g_c_final")):
            value = getattr(owner, name)
            setattr(owner, name, None if value is None else value[:1])
        T = problem.x.shape[0]
        length = 1 + seed % T
        problem.lengths = np.array([length])
        problem.x[length:] = np.nan
        padded = c_kernel.gradients(problem)
        twin = change_arrays(problem, lambda a: a)
        twin.lengths, twin.x = None, problem.x[:length]
        for name in ("g", "target"):
            value = getattr(twin.loss, name)
            setattr(twin.loss, name, None if value is None else value[:length])
        unpadded = c_kernel.gradients(twin)
        for name in ("h", "c", "o", "dx"):
            if name in padded:
                padded[name] = padded[name][:length]
        padded.pop("loss")  # NumPy sums it, in an order that depends on T
        unpadded.pop("loss")
        if problem.loss.kind != "cross_entropy":  # NumPy's exp may depend on where an entry stands
            assert bits(padded) == bits(unpadded)


# Memory and names


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_may_be_read_only_and_strided_and_stay_as_they_are(c_kernel: Any, cell: str) -> None:
    def strided(value: Any) -> Any:
        wide = np.repeat(value[..., None], 2, axis=-1)[..., 0]
        wide.flags.writeable = False
        return wide

    for seed in range(20):
        problem = make_problem(cell, seed)
        odd = change_arrays(problem, strided)
        before = bits(arrays_of(odd))
        answer = c_kernel.gradients(odd)
        assert bits(arrays_of(odd)) == before
        assert bits(answer) == bits(c_kernel.gradients(problem))
        outputs = [np.asarray(value) for value in answer.values()]
        others = [*arrays_of(odd).values(), *outputs]
        assert all(value.flags.writeable for value in outputs if value.ndim)
        assert not any(np.shares_memory(a, b) for a in outputs for b in others if a is not b)


def test_threads_get_the_same_bits(c_kernel: Any) -> None:
    problems = [make_problem(cell, seed) for cell in CELLS for seed in range(10)]
    want = [bits(c_kernel.gradients(problem)) for problem in problems]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [bits(answer) for answer in pool.map(c_kernel.gradients, problems)] == want


@pytest.mark.parametrize(
    ("field", "value"),
    [("cell", "rwkv"), ("activation", "gelu"), ("readout", "mlp"), ("dtype", "float16"), ("truncation.kind", "cec")],
)
def test_what_is_not_supported_says_so(c_kernel: Any, field: str, value: str) -> None:
    problem = make_problem("elman", 0)
    owner, _, name = field.rpartition(".")
    setattr(getattr(problem, owner) if owner else problem, name, value)
    with pytest.raises(NotImplementedError, match=value):
        c_kernel.gradients(problem)


def test_without_the_binding_the_target_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implementations._bptt_c", None)
    monkeypatch.delitem(sys.modules, "implementations.c_kernel", raising=False)
    monkeypatch.delattr(implementations, "_bptt_c", raising=False)
    with pytest.raises(registry.Unavailable, match="C compiler"):
        registry.load("c")


@pytest.mark.parametrize("cell", CELLS)
def test_two_threads_give_the_bits_of_one(c_kernel: Any, cell: str) -> None:
    """At sizes where every product is cut in two: rows of all steps at once, and columns of one step's."""
    for seed, dtype in enumerate(("float64", "float32")):
        rng = np.random.default_rng(seed)
        T, B, D, H, K = 9, 70, 33, 65, 40

        def draw(*shape: int, rng: np.random.Generator = rng, dtype: str = dtype) -> Any:
            return (0.3 * rng.standard_normal(shape)).astype(dtype)

        has_c = cell.startswith("lstm")
        params = {name: draw(*shape) for name, shape in shapes_of(cell, D, H).items()}
        loss = types.SimpleNamespace(kind="cotangent", g=draw(T, B, K), g_h_final=None, g_c_final=None,
                                     time_reduction="sum", batch_reduction="sum")  # fmt: skip
        problem = types.SimpleNamespace(
            cell=cell, activation="tanh" if cell == "elman" else None, readout="linear", dtype=dtype, loss=loss,
            params=params | {"W_hy": draw(H, K), "b_y": draw(K)}, x=draw(T, B, D), h0=draw(B, H),
            c0=draw(B, H) if has_c else None, lengths=rng.integers(0, T + 1, B),
            truncation=types.SimpleNamespace(kind="window", k=3),
        )  # fmt: skip
        one, two = (c_kernel._solve(problem, threads=threads) for threads in (1, 2))
        assert all(np.array_equal(one[key], two[key]) for key in one)
        assert np.isfinite(one["dx"]).all()


@pytest.mark.parametrize(("said", "want"), [("1", 1), ("2", 2), ("16", 2)])
def test_threads_are_as_many_as_the_environment_says(
    c_kernel: Any, monkeypatch: pytest.MonkeyPatch, said: str, want: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert c_kernel._threads() == want
