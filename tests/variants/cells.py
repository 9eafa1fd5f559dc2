"""Honest implementations of every cell: the equations of bptt/cells, evaluated in NumPy and differentiated by a tape.

Each is usable as `tests/variants/cells.py:name`. They differ in the order of sums, in the algebra, in what they keep
and in the road; `VARIANTS` says in a sentence what sets each one apart. An adjoint has an axis more than its value, in
front: losses that share a row of the mask m(t,s) form a lane, and all lanes travel back together. Steps count from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import Adapter, Array, Results, lanes, losses, read_mask

from bptt.cells import CELLS

SUPPORTS: dict[str, Any] = {"dtypes": ["float64", "float32"], "h0_none": True}
VARIANTS: dict[str, str] = {}


class Value:
    """A matrix on the tape. `constant` is a parameter, or a block of one: the same at every step."""

    def __init__(self, array: Array, constant: bool = False, held: bool = False) -> None:
        self.array = array
        self.constant = constant
        self.held = held


@dataclass(frozen=True)
class Style:
    """What an implementation may choose: how it multiplies, how it sums over time, and its algebra."""

    product: Callable[[Array, Array], Array] = np.matmul
    total: Callable[[Array, Array], Array] = lambda left, right: left.T @ right
    factored: bool = False
    by_tanh: bool = False
    apart: bool = True


@dataclass
class Tape:
    """An `Arithmetic` over NumPy arrays (bptt.arithmetic) that writes down how adjoints go back."""

    style: Style
    nodes: list[tuple[Value, list[tuple[Value, Callable[[Array], Array]]]]] = field(default_factory=list)
    products: list[tuple[Value, Value, Value]] = field(default_factory=list)  # z, X, W of each product X W within z

    def record(self, array: Array, *inputs: tuple[Value, Callable[[Array], Array]], constant: bool = False) -> Value:
        """Enter a result, with the way back to each of its inputs."""
        out = Value(array, constant)
        self.nodes.append((out, list(inputs)))
        return out

    def linear(self, products: Sequence[tuple[Value, Value]], addends: Sequence[Value] = ()) -> Value:
        """Sum of X W over the products, and of the addends."""
        multiply = self.style.product
        parts = [multiply(X.array, W.array) for X, W in products] + [addend.array for addend in addends]
        total = parts[0] if self.style.apart else parts[-1]
        for part in parts[1:] if self.style.apart else reversed(parts[:-1]):
            total = total + part
        back = [(X, lambda dz, W=W: multiply(dz, W.array.T)) for X, W in products]
        out = self.record(total, *back, *((addend, lambda dz: dz) for addend in addends))
        self.products += [(out, X, W) for X, W in products]
        return out

    def columns(self, value: Value, start: int, stop: int) -> Value:
        """Columns start..stop-1."""

        def back(dz: Array) -> Array:
            out = np.zeros((*dz.shape[:-1], value.array.shape[-1]), dz.dtype)
            out[..., start:stop] = dz
            return out

        return self.record(value.array[..., start:stop], (value, back), constant=value.constant)

    def mul(self, a: Value, b: Value) -> Value:
        """a o b."""
        return self.record(a.array * b.array, (a, lambda dz: dz * b.array), (b, lambda dz: dz * a.array))

    def add(self, a: Value, b: Value) -> Value:
        """a + b."""
        return self.record(a.array + b.array, (a, lambda dz: dz), (b, lambda dz: dz))

    def mix(self, z: Value, n: Value, h: Value) -> Value:
        """(1-z) o n + z o h, or n + z o (h - n)."""
        Z, N, H = z.array, n.array, h.array
        value = (1 - Z) * N + Z * H if self.style.apart else N + Z * (H - N)
        toward_n = (lambda dz: dz * (1 - Z)) if self.style.apart else (lambda dz: dz - dz * Z)
        return self.record(value, (z, lambda dz: dz * (H - N)), (n, toward_n), (h, lambda dz: dz * Z))

    def tanh(self, a: Value) -> Value:
        """Entrywise."""
        h = np.tanh(a.array)
        return self.record(h, (a, lambda dz: dz * ((1 - h) * (1 + h) if self.style.factored else 1 - h * h)))

    def sigmoid(self, a: Value) -> Value:
        """Entrywise."""
        if self.style.by_tanh:
            s = (1 + np.tanh(a.array / 2)) / 2
        else:
            tail = np.exp(-np.abs(a.array))
            s = np.where(a.array < 0, tail, 1) / (1 + tail)
        return self.record(s, (a, lambda dz: dz * (s - s * s if self.style.factored else s * (1 - s))))

    def relu(self, a: Value) -> Value:
        """Entrywise, with derivative 0 at 0."""
        positive = a.array > 0
        return self.record(np.where(positive, a.array, 0), (a, lambda dz: np.where(positive, dz, 0)))

    def identity(self, a: Value) -> Value:
        """The value itself."""
        return self.record(a.array, (a, lambda dz: dz))

    def hold(self, a: Value) -> Value:
        """The value itself; nothing goes back."""
        out = self.record(a.array)
        out.held = True
        return out

    def pull(self, adjoints: dict[Value, Array]) -> None:
        """Take adjoints back through everything recorded, but into no parameter."""
        for out, inputs in reversed(self.nodes):
            dz = adjoints.get(out)
            if dz is None:
                continue
            for value, back in inputs:
                if not value.constant and not value.held:
                    part = back(dz)
                    adjoints[value] = adjoints[value] + part if value in adjoints else part


class Network:
    """One problem, unrolled; `step(t)` gives the tape of step t with what went in and what came out."""

    def __init__(self, problem: Any, style: Style) -> None:
        self.problem, self.style, self.cell = problem, style, CELLS[problem.cell]
        self.T, self.B, self.D = problem.x.shape
        self.H = len(problem.params["W_hh" if problem.cell == "elman" else "W_h"])
        names = self.cell.shapes(self.D, self.H)
        self.leaves = {name: Value(np.atleast_2d(problem.params[name]), constant=True) for name in names}
        self.prelude = Tape(style)
        self.w = self.cell.prepare(self.prelude, self.leaves, self.H)
        zero = np.zeros((self.B, self.H), problem.dtype)
        given = {"h": problem.h0, "c": problem.c0}
        self.states = {name: [zero if given[name] is None else given[name]] for name in self.cell.states}
        self.lengths = np.full(self.B, self.T) if problem.lengths is None else np.asarray(problem.lengths)
        whole = problem.truncation.kind == "cec"  # there the equations hold h, and no term is left out
        self.mask = read_mask(SimpleNamespace(kind="full") if whole else problem.truncation, self.T, self.lengths)

    def step(self, t: int, state: dict[str, Array]) -> tuple[Tape, dict[str, Value], dict[str, Value]]:
        """Record step t from the state before it."""
        tape = Tape(self.style)
        inputs = {"x": Value(self.problem.x[t])} | {name: Value(array) for name, array in state.items()}
        old = {name: inputs[name] for name in state}
        cec = self.problem.truncation.kind == "cec"
        return tape, inputs, self.cell.step(tape, self.w, inputs["x"], old, self.problem.activation, cec)

    def before(self, t: int) -> dict[str, Array]:
        """The state before step t."""
        return {name: arrays[t] for name, arrays in self.states.items()}

    def run(self) -> list[tuple[Tape, dict[str, Value], dict[str, Value]]]:
        """All steps; a row's state stands still after its last one."""
        steps = []
        for t in range(self.T):
            steps.append(self.step(t, self.before(t)))
            live = (t < self.lengths)[:, None]
            for name, value in steps[-1][2].items():
                self.states[name].append(np.where(live, value.array, self.states[name][-1]))
        return steps


def finals(problem: Any, names: Sequence[str]) -> dict[str, Array | None]:
    """The final cotangent of each state, where there is one."""
    return {name: getattr(problem.loss, f"g_{name}_final", None) for name in names}


class Gathered:
    """The terms X_s^T delta_s of each weight, over all steps: summed once everything is there."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.left: dict[Value, list[Array]] = {}
        self.right: dict[Value, list[Array]] = {}

    def add(self, tape: Tape, adjoints: dict[Value, Array]) -> None:
        """The terms of one step; adjoints without their axis of lanes."""
        for out, X, W in tape.products:
            if out in adjoints:
                self.put(W, X.array, adjoints[out])
        for out, inputs in tape.nodes:
            for value, back in inputs:
                if value.constant and out in adjoints:  # a bias, or a peephole: it broadcasts over the rows
                    dz = back(adjoints[out])
                    self.put(value, np.ones((len(dz), 1), dz.dtype), dz)

    def put(self, value: Value, left: Array, right: Array) -> None:
        """One term."""
        self.left.setdefault(value, []).append(left)
        self.right.setdefault(value, []).append(right)

    def gradients(self) -> Results:
        """d + name of each parameter of the cell."""
        network = self.network
        total = network.style.total
        found = {
            value: total(np.concatenate(self.left[value]), np.concatenate(self.right[value])).reshape(value.array.shape)
            for value in self.left
        }
        for out, inputs in reversed(network.prelude.nodes):  # blocks of columns flow back into their parameter
            for value, back in inputs:
                if out in found:
                    part = back(found[out])
                    found[value] = found[value] + part if value in found else part
        problem = network.problem
        return {
            f"d{name}": found[leaf].reshape(problem.params[name].shape)
            if leaf in found
            else np.zeros_like(problem.params[name])
            for name, leaf in network.leaves.items()
        }


Adjoints = dict[Value, Array]
Recorded = tuple[Tape, dict[str, Value], dict[str, Value]]
At = Callable[[int], Recorded]


def backward(network: Network, at: At, seeds: dict[str, Array]) -> tuple[Results, Array, dict[str, Array]]:
    """Reverse mode: the cell's gradients, dx (T,B,D), and the initial states' gradients (B,H)."""
    lane, reach = lanes(network.mask)
    carry = {name: np.zeros((len(reach), *seed.shape[1:]), seed.dtype) for name, seed in seeds.items()}
    gathered, dx = Gathered(network), np.zeros_like(network.problem.x)
    for s in reversed(range(network.T)):
        live = reach[:, s, :, None]
        for name, seed in seeds.items():
            carry[name][lane[s]] += seed[s]
        tape, inputs, outputs = at(s)
        adjoints: Adjoints = {}
        for name, out in outputs.items():
            part = np.where(live, carry[name], 0)
            adjoints[out] = adjoints[out] + part if out in adjoints else part
        tape.pull(adjoints)
        zero = np.zeros_like(next(iter(carry.values())))
        carry = {name: adjoints.get(inputs[name], zero).copy() for name in carry}
        summed = {value: dz.sum(axis=0) for value, dz in adjoints.items()}
        gathered.add(tape, summed)
        dx[s] = summed[inputs["x"]]
    return gathered.gradients(), dx, {name: value.sum(axis=0) for name, value in carry.items()}


def forward_mode(network: Network, at: At, seeds: dict[str, Array]) -> tuple[Results, Array, dict[str, Array]]:
    """Real-time recurrent learning: d state_s / d theta of each row is carried along, lane by lane."""
    H, B, S = network.H, network.B, network.H * len(seeds)
    kind = network.problem.x.dtype
    lane, reach = lanes(network.mask)
    sums: dict[Any, Array] = {}
    units = np.broadcast_to(np.eye(S, dtype=kind)[:, None], (S, B, S))
    steps = [at(s) for s in range(network.T)]
    for mine in range(len(reach)):
        tangents: dict[Any, Array] = {"initial": units.swapaxes(0, 1).copy()}  # (B, theta, S)
        for s in range(np.flatnonzero(lane == mine)[-1] + 1):
            tape, inputs, outputs = steps[s]
            live = reach[mine, s][:, None, None] & (s < network.lengths)[:, None, None]
            adjoints: Adjoints = {}
            for i, out in enumerate(outputs.values()):
                adjoints[out] = units[..., i * H : (i + 1) * H].copy()
            tape.pull(adjoints)
            zero = np.zeros((S, B, H), kind)
            J = np.concatenate([adjoints.get(inputs[name], zero) for name in seeds], axis=2).transpose(1, 2, 0)
            tangents = {key: value @ J for key, value in tangents.items()}
            tangents["x", s] = adjoints[inputs["x"]].transpose(1, 2, 0)
            for out, X, W in tape.products:
                immediate = np.einsum("bm,sbn->bmns", X.array, adjoints[out]) if out in adjoints else None
                _include(tangents, W, immediate)
            for out, ways in tape.nodes:
                for value, back in ways:
                    if value.constant and out in adjoints:
                        _include(tangents, value, back(adjoints[out]).transpose(1, 2, 0)[:, None])
            tangents = {key: np.where(live, value, 0) for key, value in tangents.items()}
            if lane[s] == mine:
                seed = np.concatenate([seeds[name][s] for name in seeds], axis=1)
                for key, value in tangents.items():
                    part = np.einsum("bqs,bs->bq", value, seed)
                    sums[key] = sums[key] + part if key in sums else part
    gathered, ones = Gathered(network), np.ones((B, 1), kind)
    dx = np.zeros_like(network.problem.x)
    for key, part in sums.items():
        if isinstance(key, Value):
            gathered.put(key, ones, part)
        elif key != "initial":
            dx[key[1]] = part
    gradients = gathered.gradients()
    return gradients, dx, {name: sums["initial"][:, i * H : (i + 1) * H] for i, name in enumerate(seeds)}


def _include(tangents: dict[Any, Array], value: Value, immediate: Array | None) -> None:
    if immediate is not None:
        flat = immediate.reshape(len(immediate), -1, immediate.shape[-1])
        tangents[value] = tangents[value] + flat if value in tangents else flat


Road = Callable[[Network, At, dict[str, Array]], tuple[Results, Array, dict[str, Array]]]


def solve(problem: Any, style: Style, road: Road = backward, *, recompute: int = 0) -> Results:
    """Solve one problem; with `recompute` only every so many states are kept, and steps are computed anew."""
    with np.errstate(all="ignore"):
        network = Network(problem, style)
        steps = network.run()
        multiply, total, names = style.product, style.total, network.cell.states
        h = np.stack(network.states["h"][1:])
        linear = problem.readout == "linear"
        o = h.copy()
        if linear:
            o = np.stack([multiply(h_t, problem.params["W_hy"]) for h_t in h]) + problem.params["b_y"]
        loss, do = losses(problem, network.lengths, o)
        dh = np.stack([multiply(do_t, problem.params["W_hy"].T) for do_t in do]) if linear else do.copy()
        seeds = {name: dh if name == "h" else np.zeros_like(h) for name in names}
        rows, given = np.flatnonzero(network.lengths > 0), finals(problem, names)
        for name, final in given.items():
            if final is not None:
                loss = loss + (final * network.states[name][-1]).sum()
                seeds[name][network.lengths[rows] - 1, rows] += final[rows]
        found, dx, initial = road(network, _anew(network, recompute) if recompute else steps.__getitem__, seeds)
        for name, final in given.items():
            if final is not None:
                initial[name][network.lengths == 0] = final[network.lengths == 0]
        found |= {"loss": loss, "o": o, "dx": dx} | {f"d{name}0": value for name, value in initial.items()}
        found |= {name: np.stack(network.states[name][1:]) for name in names}
        if linear:
            flat, rows_of = h.reshape(-1, network.H), do.reshape(-1, do.shape[-1])
            ones = np.ones((len(flat), 1), flat.dtype)
            found |= {"dW_hy": total(flat, rows_of), "db_y": total(ones, rows_of)[0]}
        return found


def _anew(network: Network, every: int) -> At:
    """Steps computed again from the last of the kept states."""

    def at(s: int) -> Recorded:
        state = network.before(s // every * every)
        for t in range(s // every * every, s + 1):
            recorded = network.step(t, state)
            live = (t < network.lengths)[:, None]
            state = {name: np.where(live, out.array, state[name]) for name, out in recorded[2].items()}
        return recorded

    return at


# The order of sums


def forwards(X: Array, W: Array) -> Array:
    """X W, term after term."""
    found = X[..., :1] * W[0]
    for i in range(1, len(W)):
        found = found + X[..., i, None] * W[i]
    return found


def backwards(X: Array, W: Array) -> Array:
    """X W, from the last term to the first."""
    return forwards(X[..., ::-1], W[::-1])


def by_halves(X: Array, W: Array) -> Array:
    """X W, terms added in pairs, pairs in pairs, and so on."""
    terms = X[..., :, None] * W
    while terms.shape[-2] > 1:
        half = terms.shape[-2] // 2
        odd = terms[..., 2 * half :, :]
        terms = np.concatenate([terms[..., :half, :] + terms[..., half : 2 * half, :], odd], axis=-2)
    return np.asarray(terms[..., 0, :])


def shuffled(X: Array, W: Array) -> Array:
    """X W in an order that depends on nothing but the number of terms."""
    order = np.random.default_rng(len(W)).permutation(len(W))
    return forwards(X[..., order], W[order])


def largest_first(X: Array, W: Array) -> Array:
    """X W; an entry's positive terms are added first, then the negative ones: no order has larger partial sums."""
    terms = np.sort(X[..., :, None] * W, axis=-2)[..., ::-1, :]
    found = terms[..., 0, :]
    for i in range(1, len(W)):
        found = found + terms[..., i, :]
    return np.asarray(found)


def wider(X: Array, W: Array) -> Array:
    """X W in the machine's longest float, rounded once."""
    kind = np.result_type(X, W)
    return (X.astype(np.longdouble) @ W.astype(np.longdouble)).astype(kind)


def transposed(product: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """The same order for sums over time: left^T right."""
    return lambda left, right: product(left.T, right)


def variant(sentence: str, style: Style, road: Road = backward, recompute: int = 0, **limits: int) -> Adapter:
    """An adapter of a style, for problems up to the limits."""

    def adapter(problem: Any) -> Results:
        return solve(problem, style, road, recompute=recompute)

    adapter.__doc__ = sentence
    adapter.SUPPORTS = SUPPORTS | {"max_size": limits}  # type: ignore[attr-defined]
    return adapter


plain = variant("Products by BLAS; the terms of a weight's gradient are stacked and multiplied at once.", Style())
in_order = variant(
    "Every sum runs from its first term to its last.", Style(product=forwards, total=transposed(forwards))
)
against_the_order = variant(
    "Every sum runs from its last term to its first, biases first, and tanh' is (1-h)(1+h).",
    Style(product=backwards, total=transposed(backwards), factored=True, apart=False),
)
halving = variant("Every sum is taken by halves.", Style(product=by_halves, total=transposed(by_halves)))
in_disorder = variant(
    "Sums run in a shuffled order, sigma is (1+tanh(a/2))/2, and the GRU's mixture n + z(h-n).",
    Style(product=shuffled, total=transposed(shuffled), by_tanh=True, apart=False),
)
positive_terms_first = variant(
    "All positive terms of a sum come before the negative ones, so that the partial sums are large.",
    Style(product=largest_first, total=transposed(largest_first), factored=True),
)
wide_sums = variant(
    "Sums are taken in the machine's longest float and rounded once.", Style(product=wider, total=transposed(wider))
)
checkpoints = variant(
    "Every third state is kept; the others are computed anew on the way back.",
    Style(product=forwards, by_tanh=True, apart=False),
    recompute=3,
)
real_time = variant(
    "Forward mode (real-time recurrent learning): d state / d theta is carried along, and nothing goes back in time.",
    Style(),
    forward_mode,
    T=10,
    B=3,
    D=4,
    H=4,
)
VARIANTS |= {
    name: str(value.__doc__) for name, value in list(globals().items()) if getattr(value, "__name__", "") == "adapter"
}
