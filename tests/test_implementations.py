"""The built-in NumPy and PyTorch implementations against each other, and their truncation against its definition.

A cross-check, not a verdict: implementations that agree can be wrong together, and 1e-10 of an array's norm is
a smoke test's tolerance, far above what rounding costs on these sizes. The verdict is the oracle's.
"""

import importlib
import itertools
import types
import warnings
from typing import Any

import numpy as np
import pytest

from implementations import numpy_bptt, registry
from implementations.losses import divisors, evaluate
from implementations.truncation import mask, row_lengths, sweeps

SMOKE = 1e-10
ELMAN = [("elman", activation) for activation in ("tanh", "sigmoid", "relu", "identity")]
CELLS = [*ELMAN, *((cell, None) for cell in numpy_bptt.SUPPORTS["cells"][1:])]
NN_CELLS = [("elman", "tanh"), ("elman", "relu"), ("lstm", None), ("gru_reset_after", None)]
REDUCTIONS = [*itertools.product(("sum", "mean"), repeat=2), ("tokens", "tokens")]
LOSSES = [
    ("cotangent", ("sum", "sum")),
    ("final cotangents", ("sum", "sum")),
    *itertools.product(("squared_error", "class indices", "probabilities"), REDUCTIONS),
]


def truncation(kind: str = "full", **k: int) -> types.SimpleNamespace:
    """Return a truncation as a problem has it."""
    return types.SimpleNamespace(kind=kind, **k)


TRUNCATIONS = [
    truncation("full"),
    truncation("window", k=1),
    truncation("window", k=3),
    truncation("chunk", k=3),
    truncation("periodic", k1=2, k2=3),
    truncation("periodic", k1=3, k2=4),
    truncation("periodic", k1=2, k2=9),
]


def parameter_shapes(cell: str, D: int, H: int) -> dict[str, tuple[int, ...]]:
    """Name to shape of a cell's parameters."""
    if cell == "elman":
        return {"W_xh": (D, H), "W_hh": (H, H), "b_h": (H,)}
    n = 4 if cell in ("lstm", "lstm_peephole") else 3
    shapes: dict[str, tuple[int, ...]] = {"W_x": (D, n * H), "W_h": (H, n * H)}
    if cell == "gru_reset_after":
        return shapes | {"b_x": (3 * H,), "b_h": (3 * H,)}
    peepholes = dict.fromkeys(("p_i", "p_f", "p_o"), (H,)) if cell == "lstm_peephole" else {}
    return shapes | {"b": (n * H,)} | peepholes


def make_loss(rng: np.random.Generator, name: str, reductions: tuple[str, ...], shape: tuple[int, ...], H: int) -> Any:
    """Draw a loss over outputs of a shape (T,B,K)."""
    T, B, K = shape
    loss = types.SimpleNamespace(
        kind=name, g=None, g_h_final=None, g_c_final=None, target=None, scale=None,
        time_reduction=reductions[0], batch_reduction=reductions[1],
    )  # fmt: skip
    match name:
        case "cotangent" | "final cotangents":
            loss.kind, loss.g = "cotangent", rng.normal(size=shape)
            if name == "final cotangents":
                loss.g_h_final, loss.g_c_final = rng.normal(size=(B, H)), rng.normal(size=(B, H))
        case "squared_error":
            loss.target, loss.scale = rng.normal(size=shape), float(rng.choice([0.5, 1.0]))
        case "class indices":
            loss.kind, loss.target = "cross_entropy", rng.integers(K, size=(T, B))
        case "probabilities":
            loss.kind, loss.target = "cross_entropy", rng.dirichlet(np.ones(K), size=(T, B))
    return loss


def make_problem(
    seed: int,
    cell: str = "elman",
    activation: str | None = "tanh",
    *,
    sizes: tuple[int, int, int, int, int] = (7, 4, 2, 3, 5),
    readout: str = "linear",
    loss: tuple[str, tuple[str, ...]] = ("squared_error", ("sum", "sum")),
    lengths: list[int] | None = None,
    cut: Any = None,
    h0: bool = True,
) -> types.SimpleNamespace:
    """Draw a float64 problem of sizes T, B, D, H, K; every array is random and nothing is zero."""
    rng = np.random.default_rng(seed)
    T, B, D, H, K = sizes
    shapes = parameter_shapes(cell, D, H)
    if readout == "linear":
        shapes |= {"W_hy": (H, K), "b_y": (K,)}
    has_c = cell.startswith("lstm")
    return types.SimpleNamespace(
        cell=cell, activation=activation if cell == "elman" else None, readout=readout, dtype="float64",
        params={name: rng.normal(size=shape) * 0.7 for name, shape in shapes.items()},
        x=rng.normal(size=(T, B, D)),
        h0=rng.normal(size=(B, H)) if h0 else None,
        c0=rng.normal(size=(B, H)) if h0 and has_c else None,
        lengths=None if lengths is None else np.array(lengths, dtype=np.int64),
        loss=make_loss(rng, *loss, (T, B, K if readout == "linear" else H), H),
        truncation=cut or truncation(),
    )  # fmt: skip


def cast(problem: types.SimpleNamespace, dtype: str) -> types.SimpleNamespace:
    """Copy a problem with all floating arrays in a dtype."""

    def one(value: Any) -> Any:
        return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value

    fields = {name: one(value) for name, value in vars(problem).items()}
    fields["params"] = {name: one(value) for name, value in problem.params.items()}
    fields["loss"] = types.SimpleNamespace(**{name: one(value) for name, value in vars(problem.loss).items()})
    return types.SimpleNamespace(**(fields | {"dtype": dtype}))


def assert_agree(got: dict[str, Any], want: dict[str, Any], problem: Any, tolerance: float = SMOKE) -> None:
    """Compare all arrays of two answers relative to their norms, states and outputs within the lengths."""
    T, B, _ = problem.x.shape
    live = np.arange(1, T + 1)[:, None] <= row_lengths(problem.lengths, T, B)
    for name in want:
        inside = (live,) if name in ("h", "c", "o") else ()
        a, b = np.asarray(got[name])[inside], np.asarray(want[name])[inside]
        assert a.shape == b.shape, name
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b), name


def problems(cell: str, activation: str | None, cuts: list[Any], count: int) -> list[types.SimpleNamespace]:
    """Draw problems that together cover every loss, reduction and truncation, with and without lengths and h0."""
    cuts = [*cuts, truncation("cec")] if cell == "lstm_1997" and len(cuts) > 2 else cuts
    drawn = []
    for n, (loss, cut) in zip(range(count), itertools.cycle(itertools.product(LOSSES, cuts))):
        rng = np.random.default_rng([n, len(cell)])
        lengths = rng.integers(0, 8, size=4).tolist() if rng.random() < 0.6 else None
        readout = str(rng.choice(["none", "linear"]))
        options: dict[str, Any] = {
            "loss": loss,
            "cut": cut,
            "lengths": lengths,
            "readout": readout,
            "h0": bool(rng.random() < 0.8),
        }
        drawn.append(make_problem(n, cell, activation, **options))
    return drawn


@pytest.fixture
def torch() -> Any:
    """PyTorch on one thread; skips where it is not installed."""
    module = pytest.importorskip("torch", reason="torch is not installed")
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)


# Across implementations


@pytest.mark.parametrize(("cell", "activation"), CELLS)
@pytest.mark.usefixtures("torch")
def test_numpy_agrees_with_torch_autograd(cell: str, activation: str | None) -> None:
    target = registry.load("torch")
    for problem in problems(cell, activation, TRUNCATIONS, len(LOSSES) * (len(TRUNCATIONS) + 1)):
        got, want = numpy_bptt.gradients(problem), target.gradients(problem)
        assert got.keys() == want.keys()
        assert_agree(got, want, problem)


@pytest.mark.parametrize(("cell", "activation"), NN_CELLS)
@pytest.mark.usefixtures("torch")
def test_numpy_agrees_with_torch_nn(cell: str, activation: str | None) -> None:
    target = registry.load("torch-nn")
    for problem in problems(cell, activation, [truncation(), truncation("chunk", k=3)], 3 * len(LOSSES)):
        got, want = numpy_bptt.gradients(problem), target.gradients(problem)
        missing = set() if problem.h0 is not None else {"dh0", "dc0"} & got.keys()
        assert got.keys() == want.keys() | missing
        assert_agree(got, want, problem)


@pytest.mark.parametrize("name", ["torch", "torch-nn"])
@pytest.mark.usefixtures("torch")
def test_batch_of_empty_rows_passes_its_final_cotangents_through(name: str) -> None:
    target = registry.load(name)
    for cell, loss in itertools.product(("elman", "lstm"), LOSSES):
        problem = make_problem(5, cell, loss=loss, lengths=[0, 0, 0, 0])
        want = numpy_bptt.gradients(problem)
        assert_agree(target.gradients(problem), want, problem)
        if loss[0] == "final cotangents":
            assert np.array_equal(want["dh0"], problem.loss.g_h_final)
        else:
            assert want["loss"] == 0
            assert not want["dh0"].any()


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", ["numpy", "torch", "torch-nn"])
def test_float32_answers_are_float32_and_near_float64(name: str) -> None:
    target = registry.load(name)
    for cell in target.SUPPORTS["cells"]:
        for loss in LOSSES:
            problem = make_problem(3, cell, loss=loss, lengths=[7, 0, 3, 5])
            single = target.gradients(cast(problem, "float32"))
            assert {np.asarray(value).dtype for value in single.values()} == {np.dtype("float32")}
            assert_agree(single, target.gradients(problem), problem, tolerance=1e-4)


# Truncation


@pytest.mark.parametrize("length", range(9))
def test_mask_identities(length: int) -> None:
    T = 8
    for t, s, k in itertools.product(range(1, T + 1), range(1, T + 1), range(1, T + 2)):
        window, chunk = truncation("window", k=k), truncation("chunk", k=k)
        inside = s <= t <= length
        assert mask(truncation("full"), t, s, length) == mask(truncation("cec"), t, s, length) == inside
        assert mask(truncation("periodic", k1=1, k2=k), t, s, length) == mask(window, t, s, length)
        assert mask(truncation("periodic", k1=k, k2=max(T, k)), t, s, length) == inside
        if length % k == 0:
            assert mask(truncation("periodic", k1=k, k2=k), t, s, length) == mask(chunk, t, s, length)
        assert mask(window, t, s, length) == (inside and s in range(t, t - k, -1))
        blocks = [set(range(first, first + k)) for first in range(1, T + 1, k)]
        assert mask(chunk, t, s, length) == (inside and any({s, t} <= block for block in blocks))


def test_sweeps_cover_the_mask_exactly_once() -> None:
    T, length = 7, np.arange(8)
    cuts = [truncation("periodic", k1=k1, k2=k2) for k1 in range(1, 9) for k2 in range(k1, 10)]
    for cut in [*TRUNCATIONS, *cuts]:
        count = np.zeros((8, T + 1, T + 1), dtype=int)  # (row, t, s)
        ends = np.zeros(8, dtype=int)
        for sweep in sweeps(cut, T, length):
            ends += sweep.ends
            for t, s in itertools.product(range(sweep.first + 1, sweep.last + 1), range(1, T + 1)):
                assert s > sweep.bottom or not sweep.active(s).any()
                count[:, t, s] += sweep.active(s) & (s <= t) & (t <= length)
        for b, t, s in itertools.product(range(8), range(1, T + 1), range(1, T + 1)):
            assert count[b, t, s] == mask(cut, t, s, int(length[b])), (cut, b, t, s)
        assert (ends == 1).all()


@pytest.mark.parametrize("cut", [truncation("periodic", k1=3, k2=2), truncation("window", k=0)])
def test_truncation_out_of_order_is_refused(cut: Any) -> None:
    with pytest.raises(ValueError, match="k2 >= k1 >= 1"):
        numpy_bptt.gradients(make_problem(0, cut=cut))


def row_loss(torch: Any, problem: Any, o: Any, t: int, b: int) -> Any:
    """L_t of row b, unreduced: o (K,) -> scalar; squared error or cotangent."""
    if problem.loss.kind == "squared_error":
        return problem.loss.scale * ((o - torch.from_numpy(problem.loss.target[t - 1, b])) ** 2).sum()
    return (torch.from_numpy(problem.loss.g[t - 1, b]) * o).sum()


def double_sum(torch: Any, problem: Any) -> dict[str, Any]:
    """Evaluate the definition literally: every (t,s) term by autograd through steps with weights of their own.

    The cell's own step comes from the `torch` target, whose forward pass is compared elsewhere.
    """
    target = importlib.import_module("implementations.torch_autograd")
    step = target.step_of(problem.cell, problem.activation, problem.truncation.kind)
    length = row_lengths(problem.lengths, *problem.x.shape[:2])
    own = [name for name in problem.params if name not in ("W_hy", "b_y")]
    readout = {name: torch.from_numpy(problem.params[name]) for name in problem.params if name not in own}
    starts = {name: getattr(problem, name) for name in ("h0", "c0") if getattr(problem, name) is not None}
    inputs = {**{name: problem.params[name] for name in own}, "x": problem.x, **starts}
    total = {name: np.zeros_like(value) for name, value in inputs.items()}

    for b, n in enumerate(length.tolist()):
        # terms[s]: the leaves of step s, each with the part of the total that its gradient belongs to
        terms = {s: {name: (untied(torch, problem.params[name]), total[name]) for name in own} for s in range(1, n + 1)}
        for s, own_leaves in terms.items():
            own_leaves["x"] = (untied(torch, problem.x[s - 1, b : b + 1]), total["x"][s - 1, b : b + 1])
        start = {name: (untied(torch, s0[b : b + 1]), total[name][b : b + 1]) for name, s0 in starts.items()}
        losses = []  # (t, L_t)
        state = tuple(leaf for leaf, _ in start.values())
        for t in range(1, n + 1):
            leaves = {name: leaf for name, (leaf, _) in terms[t].items()}
            state = step(leaves, leaves["x"], state)
            o = state[0][0] @ readout["W_hy"] + readout["b_y"] if readout else state[0][0]
            losses.append((t, row_loss(torch, problem, o, t, b)))
        for g, final in zip((problem.loss.g_h_final, problem.loss.g_c_final), state, strict=False):
            if g is not None:  # a loss at t = n
                losses.append((n, (torch.from_numpy(g[b]) * final[0]).sum()))
        for t, L in losses:
            for s in range(1, t + 1):
                if mask(problem.truncation, t, s, n):
                    add_gradients(torch, L, [*terms[s].values(), *(start.values() if s == 1 else ())])
            if t == 0:
                add_gradients(torch, L, list(start.values()))
    return {f"d{name}": value for name, value in total.items()}


def untied(torch: Any, value: Any) -> Any:
    """Copy an array into a tensor of its own that takes a gradient."""
    return torch.tensor(value, requires_grad=True)


def add_gradients(torch: Any, L: Any, pairs: list[tuple[Any, Any]]) -> None:
    """Add dL/dleaf to the array that each leaf is paired with."""
    found = torch.autograd.grad(L, [leaf for leaf, _ in pairs], retain_graph=True, allow_unused=True)
    for grad, (_, into) in zip(found, pairs, strict=True):
        if grad is not None:
            np.add(into, grad.numpy(), out=into)


@pytest.mark.parametrize(("cell", "activation"), [("elman", "tanh"), *CELLS[4:]])
def test_truncated_gradients_are_the_masked_double_sum(torch: Any, cell: str, activation: str | None) -> None:
    cuts = [*TRUNCATIONS, truncation("cec")] if cell == "lstm_1997" else TRUNCATIONS
    choices = itertools.product(cuts, ([5, 3], [4, 0], None), (LOSSES[1], LOSSES[2]))
    for seed, (cut, lengths, loss) in enumerate(choices):
        options: dict[str, Any] = {
            "cut": cut,
            "lengths": lengths,
            "loss": loss,
            "readout": ("none", "linear")[seed % 2],
        }
        problem = make_problem(seed, cell, activation, sizes=(5, 2, 1, 2, 3), **options)
        want = double_sum(torch, problem)
        assert_agree(numpy_bptt.gradients(problem), want, problem)
        assert_agree(registry.load("torch").gradients(problem), want, problem)


def test_cec_keeps_the_error_in_the_cell_state() -> None:
    cut = truncation("cec")
    answer = numpy_bptt.gradients(make_problem(1, "lstm_1997", loss=LOSSES[1], lengths=[7, 4, 1, 0], cut=cut))
    assert not answer["dh0"][:3].any()
    assert answer["dc0"].all()
    with pytest.raises(NotImplementedError, match="lstm_1997"):
        numpy_bptt.gradients(make_problem(1, "lstm", None, cut=cut))


# Losses, values and memory


@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_full_gradients_match_differences_of_the_loss(cell: str, activation: str | None) -> None:
    for seed, loss in enumerate(LOSSES):
        problem = make_problem(seed, cell, activation, loss=loss, lengths=[7, 2, 0, 4])
        answer = numpy_bptt.gradients(problem)
        rng = np.random.default_rng(seed)
        arrays = {**problem.params, "x": problem.x, "h0": problem.h0}
        if problem.c0 is not None:
            arrays["c0"] = problem.c0
        for name, values in arrays.items():
            direction, original, eps = rng.normal(size=values.shape), values.copy(), 1e-6
            losses = []
            for sign in (1, -1):
                values[...] = original + sign * eps * direction
                losses.append(float(numpy_bptt.gradients(problem)["loss"]))
            values[...] = original
            difference, want = (losses[0] - losses[1]) / (2 * eps), float((answer[f"d{name}"] * direction).sum())
            # The difference errs by about eps^2 (L''') and u |L| / eps, both below 1e-7 at these sizes.
            assert abs(difference - want) <= 1e-6 * (1 + abs(want)), (loss, name)


def test_reductions_divide_by_the_design() -> None:
    length = np.array([3, 0, 5])
    table = {
        ("sum", "sum"): [1, 1, 1],
        ("sum", "mean"): [3, 3, 3],
        ("mean", "sum"): [3, 1, 5],
        ("mean", "mean"): [9, 3, 15],
        ("tokens", "tokens"): [8, 8, 8],
    }
    for (over_time, over_batch), want in table.items():
        loss = types.SimpleNamespace(time_reduction=over_time, batch_reduction=over_batch)
        assert divisors(loss, length).tolist() == want
    assert divisors(loss, np.zeros(3, dtype=np.int64)).tolist() == [1, 1, 1]
    with pytest.raises(NotImplementedError, match="tokens in both"):
        divisors(types.SimpleNamespace(time_reduction="tokens", batch_reduction="sum"), length)


def test_cross_entropy_gradient_keeps_the_sum_of_the_target() -> None:
    target = np.array([[[0.25, 0.5, 0.5]]])  # sums to 1.25
    o = np.array([[[0.5, -1.0, 2.0]]])
    loss = types.SimpleNamespace(kind="cross_entropy", target=target, time_reduction="sum", batch_reduction="sum")
    do = evaluate(types.SimpleNamespace(loss=loss, lengths=None), o, np.zeros((1, 1))).do
    p = np.exp(o) / np.exp(o).sum()
    assert np.allclose(do, 1.25 * p - target, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_padding_is_worth_nothing(cell: str, activation: str | None) -> None:
    lengths = [7, 4, 0, 1]
    padding = np.arange(1, 8)[:, None] > np.array(lengths)
    for loss, cut in itertools.product(LOSSES, TRUNCATIONS):
        problem = make_problem(2, cell, activation, loss=loss, lengths=lengths, cut=cut)
        before = numpy_bptt.gradients(problem)
        problem.x[padding] = 1e6
        for array in (problem.loss.g, problem.loss.target):
            if array is not None:
                array[padding] = 0 if array.dtype.kind == "i" else -1e6
        after = numpy_bptt.gradients(problem)
        assert not after["dx"][padding].any()
        assert np.array_equal(after["h"][-1, 1], after["h"][3, 1])
        assert np.array_equal(after["h"][:, 2], np.broadcast_to(problem.h0[2], (7, 3)))
        for name, value in before.items():
            assert np.array_equal(value, after[name]), (loss, cut, name)


@pytest.mark.parametrize(("cell", "activation"), CELLS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_extreme_arguments_do_not_warn(cell: str, activation: str | None, dtype: str) -> None:
    before = np.geterr()
    for loss in LOSSES:
        problem = make_problem(4, cell, activation, loss=loss, lengths=[7, 0, 3, 5])
        problem.x[...] *= 1e30
        problem.params["W_h" if cell != "elman" else "W_hh"][...] *= 1e-30
        with warnings.catch_warnings(), np.errstate(all="raise"):
            warnings.simplefilter("error")
            answer = numpy_bptt.gradients(cast(problem, dtype))
        if activation in (None, "tanh", "sigmoid"):
            assert all(np.isfinite(value).all() for value in answer.values())
    assert np.geterr() == before


def awkward(value: Any) -> Any:
    """Return an equal array that is read-only and neither C- nor Fortran-contiguous."""
    if not isinstance(value, np.ndarray):
        return value
    spread = np.zeros(tuple(2 * n for n in value.shape), value.dtype)
    every_second = (slice(None, None, 2),) * value.ndim
    spread[every_second] = value[(slice(None, None, -1),) * value.ndim]
    view = spread[every_second][(slice(None, None, -1),) * value.ndim]
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("name", ["numpy", "torch", "torch-nn"])
def test_inputs_may_be_read_only_and_strided_and_outputs_share_nothing(request: Any, name: str) -> None:
    if name != "numpy":
        request.getfixturevalue("torch")
    target = registry.load(name)
    for cell, loss, readout in itertools.product(target.SUPPORTS["cells"], LOSSES[1::5], ("none", "linear")):
        problem = make_problem(6, cell, loss=loss, readout=readout, lengths=[7, 0, 3, 5])
        strided = types.SimpleNamespace(**{field: awkward(value) for field, value in vars(problem).items()})
        strided.params = {field: awkward(value) for field, value in problem.params.items()}
        strided.loss = types.SimpleNamespace(**{field: awkward(value) for field, value in vars(problem.loss).items()})
        inputs = [
            value
            for holder in (vars(strided), strided.params, vars(strided.loss))
            for value in holder.values()
            if isinstance(value, np.ndarray)
        ]
        copies = [value.copy() for value in inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = target.gradients(strided)
        assert_agree(answer, target.gradients(problem), problem, tolerance=1e-12)
        assert all(np.array_equal(value, copy) for value, copy in zip(inputs, copies, strict=True))
        outputs = [value for value in answer.values() if np.ndim(value)]
        for i, output in enumerate(outputs):
            assert output.flags.writeable
            assert not any(np.shares_memory(output, other) for other in [*outputs[:i], *inputs])


@pytest.mark.parametrize("name", ["torch", "torch-nn"])
def test_torch_targets_change_no_global_state(torch: Any, name: str) -> None:
    target = registry.load(name)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch.no_grad():
        answer = target.gradients(make_problem(7, "elman", "tanh"))
        assert not torch.is_grad_enabled()
    assert answer["dW_hh"].any()
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == 1


def test_no_initial_state_means_zeros() -> None:
    for cell, activation in CELLS:
        problem = make_problem(8, cell, activation, h0=False)
        without = numpy_bptt.gradients(problem)
        problem.h0 = np.zeros((4, 3))
        problem.c0 = np.zeros((4, 3)) if cell.startswith("lstm") else None
        for name, value in numpy_bptt.gradients(problem).items():
            assert np.array_equal(value, without[name]), name


def test_relu_has_slope_zero_at_zero() -> None:
    problem = make_problem(9, "elman", "relu")
    problem.params["b_h"][...] = 0
    problem.params["W_xh"][...] = 0
    problem.h0[...] = 0
    answer = numpy_bptt.gradients(problem)
    assert not answer["h"].any()
    assert not answer["db_h"].any()
    assert answer["db_y"].any()


# The registry


def test_registry_names_what_is_there_or_why_not() -> None:
    found = registry.availability()
    assert list(found) == ["numpy", "c", "torch", "torch-nn", "torch-compile", "jax"] == list(registry.BUILT_IN)
    assert found["numpy"] is None
    keys = {"cells", "activations", "readouts", "losses", "reductions", "truncations", "dtypes"}
    for name in (name for name, reason in found.items() if reason is None):
        module = registry.load(name)
        assert callable(module.gradients)
        assert keys | {"lengths", "h0_none", "final_cotangents"} <= module.SUPPORTS.keys()
        assert all(isinstance(module.SUPPORTS[key], list) for key in keys)


def test_registry_asks_unnamed_only_what_compiles_nothing() -> None:
    there = {name for name, reason in registry.availability().items() if reason is None}
    assert set(registry.prompt()) == there - {"torch-compile", "jax"}


def test_registry_refuses_an_unknown_name() -> None:
    names = "c, jax, numpy, torch, torch-compile, torch-nn"
    with pytest.raises(LookupError, match=f"'troch' is not known; built in: {names}"):
        registry.load("troch")


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("torch", ModuleNotFoundError("No module named 'torch'", name="torch"), r"pip install 'bpttcheck\[torch\]'"),
        ("torch-nn", ImportError("libgomp.so.1 is missing"), "libgomp"),
        ("torch-compile", ImportError("torch.compile finds no C++ compiler"), r"no C\+\+ compiler"),
        ("jax", ModuleNotFoundError("No module named 'jax'", name="jax"), r"pip install 'bpttcheck\[jax\]'"),
        ("c", ImportError("no _bptt_c"), "needs a C compiler when bpttcheck is installed"),
    ],
)
def test_registry_says_how_to_get_a_missing_target(
    monkeypatch: pytest.MonkeyPatch, name: str, error: ImportError, reason: str
) -> None:
    def fail(_: str) -> types.ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(registry.Unavailable, match=reason) as caught:
        registry.load(name)
    assert caught.value.name == name
    assert registry.availability()[name] == caught.value.reason
