"""The tape: a problem solved in extended precision, with a place for each mistake that an implementation can make.

The cell's own equations run forward over NumPy arrays of long doubles and are written down; backward, the losses of all
steps travel side by side, one group a loss, so that every term (t, s) of the double sum is there to be kept, dropped or
weighed. A `Twist` says what is done otherwise. Nothing is proved here: the truth is the oracle's, and a test holds the
plain tape against it.

    adjoints  (G,B,n)    one group a loss: group t-1 is the loss of step t, group T the final cotangents
    mask      (T,G,B)    m(t,s): whether group g counts at step s
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.losses import row_weights
from bptt.problem import Problem, gradient_shapes
from bptt.truncation import Sweep, sweeps

Array = NDArray[Any]
Arrays = dict[str, Array]
WIDE = np.longdouble

GATES: dict[str, dict[str, str]] = {
    "elman": {"tanh0": "h", "sigmoid0": "h", "relu0": "h", "identity0": "h"},
    "lstm": {"sigmoid0": "i", "sigmoid1": "f", "tanh0": "g", "sigmoid2": "o", "tanh1": "tanh(c)"},
    "lstm_peephole": {"sigmoid0": "i", "sigmoid1": "f", "tanh0": "g", "sigmoid2": "o", "tanh1": "tanh(c)"},
    "lstm_1997": {"sigmoid0": "i", "sigmoid1": "o", "tanh0": "g", "tanh1": "tanh(c)"},
    "gru_reset_after": {"sigmoid0": "r", "sigmoid1": "z", "tanh0": "n"},
    "gru_reset_before": {"sigmoid0": "r", "sigmoid1": "z", "tanh0": "n"},
}
"""What each activation of a step is, by its label: the operation and how many of its kind came before."""
COLUMNS = {
    "elman": "h",
    "lstm": "ifgo",
    "lstm_peephole": "ifgo",
    "lstm_1997": "igo",
    "gru_reset_after": "rzn",
    "gru_reset_before": "rzn",
}
"""The gates in the order of the columns."""


def wide(array: Any) -> Array:
    """An array in extended precision: exact, whatever the dtype."""
    return np.asarray(array).astype(WIDE)


def rounded(values: Array, dtype: str) -> Array:
    """Rounded to a narrower dtype and back."""
    if dtype == "bfloat16":
        bits = values.astype(np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return np.asarray(bits.view(np.float32)).astype(WIDE)
    with np.errstate(all="ignore"):
        return values.astype(dtype).astype(WIDE)


@dataclass(frozen=True)
class Twist:
    """What is done otherwise than the definition says; each hook left None changes nothing.

    step      the equations of a step, in place of the cell's own
    params    name -> array in place of the parameter
    phi       label -> f(a), an activation in place of the right one        slope  label -> f(a, z), in place of phi'
    edges     (label, i) -> a factor on what flows back to the i-th input of an operation
    delta     f(s, dz), on what arrives at each pre-activation               reads  name -> f(W), W as read backward
    carry     f(s, name, new, arrived, pulled), what step s hands to s-1     active (T,B), which steps update the state
    initial   f(name, array), the initial state                              alive  (T,B), which steps count backward
    states    f(h), the states as read by the outputs and the weights        slot   (B,), where final cotangents enter
    weights   (T,B), the weight of each loss                                 do     f(tape, do), dL/do
    seeds     f(tape, name, seeds), (T+1,G,B,H) what losses send to states   finals name -> f(g), final cotangents
    gives     (label, i) -> f(tape, s, dz), what flows back to the i-th input of an operation
    routes    (label, i) -> the state before the step that receives what flows back there, in place of the input
    read      f(name, start, W), a parameter or its columns from `start` on, as read backward
    held      f(dz), what the recurrent product sends back although its state is held constant; None: nothing
    arrives   f(s, name, arrived), the adjoint of the state after step s
    grouped   losses that one pass of an implementation takes back share a group: for what is not linear
    """

    step: Callable[..., Any] | None = None
    prepare: Callable[..., Any] | None = None
    params: Mapping[str, Array] | None = None
    phi: Mapping[str, Callable[[Array], Array]] | None = None
    slope: Mapping[str, Callable[[Array, Array], Array]] | None = None
    edges: Mapping[tuple[str, int], float] | None = None
    delta: Callable[[int, Array], Array] | None = None
    reads: Mapping[str, Callable[[Array], Array]] | None = None
    carry: Callable[[int, str, Array, Array, Array], Array] | None = None
    active: Array | None = None
    alive: Array | None = None
    initial: Callable[[str, Array], Array] | None = None
    outside: Callable[[int, str, Array], Array] | None = None
    states: Callable[[Array], Array] | None = None
    slot: Array | None = None
    weights: Array | None = None
    do: Callable[[Tape, Array], Array] | None = None
    seeds: Callable[[Tape, str, Array], Array] | None = None
    finals: Mapping[str, Callable[[Array], Array | None]] | None = None
    gives: Mapping[tuple[str, int], Callable[[Tape, int, Array], Array]] | None = None
    routes: Mapping[tuple[str, int], str] | None = None
    read: Callable[[str, int, Array], Array] | None = None
    held: Callable[[Array], Array] | None = None
    arrives: Callable[[int, str, Array], Array] | None = None
    grouped: bool = False


PLAIN = Twist()


class Node:
    """One operation of a step: its label, value and inputs; for a parameter its name and columns."""

    __slots__ = ("constant", "extra", "inputs", "label", "name", "op", "products", "value")

    def __init__(self, op: str, value: Array, inputs: Sequence[Node] = (), name: str = "", extra: Any = None) -> None:
        self.op, self.value, self.inputs, self.name, self.extra = op, value, tuple(inputs), name, extra
        self.label, self.products = "", 0
        self.constant: bool = op == "param" or (op == "columns" and self.inputs[0].constant)


class Recorder:
    """An `Arithmetic` over long doubles that records one step."""

    def __init__(self, twist: Twist) -> None:
        self.twist = twist
        self.nodes: list[Node] = []
        self.counts: dict[str, int] = {}

    def begin(self) -> None:
        """A new step."""
        self.nodes, self.counts = [], {}

    def _record(self, op: str, value: Array, inputs: Sequence[Node], extra: Any = None) -> Node:
        node = Node(op, value, inputs, extra=extra)
        n = self.counts.get(op, 0)
        self.counts[op] = n + 1
        node.label = f"{op}{n}"
        self.nodes.append(node)
        return node

    def linear(self, products: Sequence[tuple[Node, Node]], addends: Sequence[Node] = ()) -> Node:
        """Sum of X W, and of the addends."""
        total: Any = sum(X.value @ W.value for X, W in products)
        for addend in addends:
            total = total + addend.value
        node = self._record("linear", total, [n for pair in products for n in pair] + list(addends))
        node.products = len(products)
        return node

    def columns(self, value: Node, start: int, stop: int) -> Node:
        """Columns start..stop-1."""
        node = self._record("columns", value.value[:, start:stop], [value], (start, stop))
        node.name = value.name
        return node

    def mul(self, a: Node, b: Node) -> Node:
        """a o b."""
        return self._record("mul", a.value * b.value, [a, b])

    def add(self, a: Node, b: Node) -> Node:
        """a + b."""
        return self._record("add", a.value + b.value, [a, b])

    def mix(self, z: Node, n: Node, h: Node) -> Node:
        """(1-z) o n + z o h."""
        return self._record("mix", n.value + z.value * (h.value - n.value), [z, n, h])

    def _activation(self, op: str, a: Node) -> Node:
        label = f"{op}{self.counts.get(op, 0)}"
        own = (self.twist.phi or {}).get(label)
        return self._record(op, ACTIVATE[op](a.value) if own is None else own(a.value), [a])

    def tanh(self, a: Node) -> Node:
        """Entrywise."""
        return self._activation("tanh", a)

    def sigmoid(self, a: Node) -> Node:
        """Entrywise."""
        return self._activation("sigmoid", a)

    def relu(self, a: Node) -> Node:
        """Entrywise."""
        return self._activation("relu", a)

    def identity(self, a: Node) -> Node:
        """The value itself."""
        return self._activation("identity", a)

    def hold(self, a: Node) -> Node:
        """Nothing travels back through it."""
        return self._record("hold", a.value, [a])


def sigmoid(a: Array) -> Array:
    """1/(1+exp(-a)), without overflow."""
    e = np.exp(-np.abs(a))
    return np.asarray(np.where(a >= 0, 1, e) / (1 + e))


ACTIVATE: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda a: np.maximum(a, 0),
    "identity": lambda a: a,
}


def _tanh_slope(a: Array, z: Array) -> Array:
    e = np.exp(-2 * np.abs(a))
    return np.asarray(4 * e / ((1 + e) * (1 + e)))


def _sigmoid_slope(a: Array, z: Array) -> Array:
    e = np.exp(-np.abs(a))
    return np.asarray(e / ((1 + e) * (1 + e)))


SLOPES: dict[str, Callable[[Array, Array], Array]] = {
    "tanh": _tanh_slope,
    "sigmoid": _sigmoid_slope,
    "relu": lambda a, z: (a > 0).astype(WIDE),
    "identity": lambda a, z: np.ones_like(a),
}


@dataclass
class Site:
    """One place of a step where a parameter is used: left (T,B,m), dz (T,G,B,n); left None for a bias."""

    name: str
    start: int
    stop: int
    kind: str
    left: list[Array | None] = field(default_factory=list)
    dz: list[Array | None] = field(default_factory=list)


class Tape:
    """A problem run forward and backward under a twist; `results` are all its arrays by key."""

    def __init__(self, problem: Problem, twist: Twist = PLAIN) -> None:
        self.problem, self.twist = problem, twist
        self.T, self.B, self.H, self.K = problem.T, problem.B, problem.H, problem.K
        self.lengths = problem.row_lengths
        names = problem.parameter_shapes()
        own = twist.params or {}
        self.params = {n: np.atleast_2d(wide(own.get(n, problem.params[n]))) for n in names}
        own_time = np.arange(1, self.T + 1)[:, None] <= self.lengths[None, :]
        self.own = own_time
        self.active = own_time if twist.active is None else twist.active
        self.alive = self.active if twist.alive is None else twist.alive
        with np.errstate(all="ignore"):
            self._forward()
            self._loss()
            self._backward()

    # ---- forward -------------------------------------------------------------------------------------------------

    def _forward(self) -> None:
        problem, spec, H = self.problem, self.problem.spec, self.H
        A: Any = Recorder(self.twist)
        leaves = {name: Node("param", value, name=name) for name, value in self.params.items()}
        prepare = self.twist.prepare or spec.prepare
        w = prepare(A, {n: leaves[n] for n in spec.shapes(problem.D, H)}, H)
        step = self.twist.step or spec.step
        x = wide(problem.x)
        cec = problem.truncation.kind == "cec"
        self.h: dict[str, list[Array]] = {}
        for name in spec.states:
            given = getattr(problem, f"{name}0")
            state = np.zeros((self.B, H), WIDE) if given is None else wide(given)
            self.h[name] = [self.twist.initial(name, state) if self.twist.initial else state]
        self.steps: list[tuple[dict[str, Node], dict[str, Node], list[Node]]] = []
        for t in range(self.T):
            A.begin()
            before = {name: values[-1] for name, values in self.h.items()}
            if self.twist.outside:
                before = {name: self.twist.outside(t + 1, name, value) for name, value in before.items()}
            inputs = {name: Node("state", value, name=name) for name, value in before.items()}
            x_t = Node("x", x[t], name="x")
            new = step(A, w, x_t, inputs, problem.activation, cec)
            self.steps.append((inputs | {"x": x_t}, new, A.nodes))
            live = self.active[t][:, None]
            for name, node in new.items():
                self.h[name].append(np.where(live, node.value, self.h[name][-1]))
        self.hs = np.stack(self.h["h"])
        self.seen = self.twist.states(self.hs) if self.twist.states else self.hs
        self.o = self.seen[1:]
        if problem.readout == "linear":
            self.o = self.o @ self.params["W_hy"] + self.params["b_y"]

    def _loss(self) -> None:
        problem, loss = self.problem, self.problem.loss
        if self.twist.weights is not None:
            weights = wide(self.twist.weights)
        else:
            rows = np.array([WIDE(w.numerator) / WIDE(w.denominator) for w in row_weights(problem)], WIDE)
            weights = np.where(self.own, rows[None, :], 0)
        self.weights = weights
        self.raw, each = self._step_losses()
        counted = weights != 0
        do = np.where(counted[:, :, None], weights[:, :, None] * self.raw, 0)
        self.do = self.twist.do(self, do) if self.twist.do else do
        self.finals: dict[str, Array] = {}
        total = np.where(counted, weights * each, 0).sum()
        for name in problem.spec.states:
            g = getattr(loss, f"g_{name}_final")
            g = None if g is None else wide(g)
            change = (self.twist.finals or {}).get(name)
            g = change(g) if change is not None and g is not None else g
            if g is not None:
                self.finals[name] = g
                total = total + (g * self.h[name][-1]).sum()
        self.total = total

    def target(self) -> Array:
        """y as probabilities, or as given."""
        y = self.problem.loss.target
        assert y is not None
        if y.ndim == 3:
            return wide(y)
        hot: Array = np.eye(self.K, dtype=WIDE)[np.where(self.own, y, 0)]
        return hot

    def log_softmax(self) -> Array:
        """log softmax(o)."""
        shifted = self.o - self.o.max(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))

    def _step_losses(self) -> tuple[Array, Array]:
        """(dL_t/do_t, L_t), unweighted."""
        loss = self.problem.loss
        if loss.kind == "cotangent":
            g = wide(loss.g)
            return g, (g * self.o).sum(axis=-1)
        y = self.target()
        if loss.kind == "squared_error":
            scale = WIDE(loss.scale)
            return 2 * scale * (self.o - y), scale * ((self.o - y) ** 2).sum(axis=-1)
        log_p = self.log_softmax()
        return y.sum(axis=-1, keepdims=True) * np.exp(log_p) - y, -(y * log_p).sum(axis=-1)

    # ---- backward ------------------------------------------------------------------------------------------------

    def _groups(self) -> None:
        """Which losses share a group, and where each group counts."""
        T, B, truncation = self.T, self.B, self.problem.truncation
        steps = np.arange(1, T + 1)
        if self.twist.grouped:
            found = sweeps(truncation, self.lengths, T)
            if truncation.kind in ("window", "periodic"):  # a pass for each block, those that reach to the start too
                found = [part for sweep in found for part in _by_block(sweep, truncation.k1 or 1)]
            self.G = len(found) + 1  # the last for rows without steps
            self.member = np.zeros((T + 1, self.G, B), bool)
            self.mask = np.zeros((T, self.G, B), bool)
            first = np.full((self.G, B), T + 1)
            for g, sweep in enumerate(found):
                self.member[1:, g] = sweep.seeds
                first[g] = sweep.first
            first[-1, self.lengths == 0] = 1
            self.mask = steps[:, None, None] >= first[None]
            return
        self.G = T + 1
        self.member = np.zeros((T + 1, self.G, B), bool)
        first = np.full((self.G, B), T + 1)
        for b, length in enumerate(self.lengths.tolist()):
            for t in range(1, T + 1):
                self.member[t, t - 1, b] = True
                first[t - 1, b] = truncation.first(t, max(length, t))
            first[T, b] = truncation.first(length, length) if length else 1
        self.mask = steps[:, None, None] >= first[None]
        own = np.append(steps, T + 1)[None, :, None]  # before its own step a group holds nothing, NaN neither
        self.begun = np.arange(T + 1)[:, None, None, None] <= own[..., None]

    def _seeds(self) -> dict[str, Array]:
        """name -> (T+1,G,B,H): what the losses of each step send to the state after it."""
        T, B, H = self.T, self.B, self.H
        dh = self.do
        if self.problem.readout == "linear":
            W = self.params["W_hy"]
            dh = dh @ (W if self.twist.read is None else self.twist.read("W_hy", 0, W)).T
        dh = np.concatenate([np.zeros((1, B, H), WIDE), dh])
        out = {}
        slot = self.lengths if self.twist.slot is None else self.twist.slot
        for name in self.problem.spec.states:
            seeds = np.zeros((T + 1, self.G, B, H), WIDE)
            if name == "h":
                seeds += np.where(self.member[..., None], dh[:, None], 0)
            if name in self.finals:
                for b in range(B):
                    groups = np.flatnonzero(self.member[max(1, int(self.lengths[b])), :, b])
                    g = groups[0] if self.twist.grouped and groups.size else self.G - 1
                    seeds[slot[b], g, b] += self.finals[name][b]
            out[name] = self.twist.seeds(self, name, seeds) if self.twist.seeds else seeds
        return out

    def _backward(self) -> None:
        T, B, H, states = self.T, self.B, self.H, self.problem.spec.states
        self._groups()
        seeds = self._seeds()
        self.sites: dict[tuple[str, int, str], Site] = {}
        self.dx_terms = np.zeros((T, self.G, B, self.problem.D), WIDE)
        self.arrived = {name: np.zeros((T + 1, self.G, B, H), WIDE) for name in states}
        self.whole = {name: np.zeros((T + 1, self.G, B, H), WIDE) for name in states}
        carry = {name: np.zeros((self.G, B, H), WIDE) for name in states}
        for s in range(T, 0, -1):
            inputs, outputs, nodes = self.steps[s - 1]
            live = self.alive[s - 1][None, :, None]
            adjoints: dict[Node, Array] = {}
            arrived = {name: carry[name] + seeds[name][s] for name in states}
            if self.twist.arrives:
                arrived = {name: self.twist.arrives(s, name, value) for name, value in arrived.items()}
            for name in states:
                self.arrived[name][s] = arrived[name]
                self._give(adjoints, outputs[name], np.where(live, arrived[name], 0))
            for node in reversed(nodes):
                if node in adjoints:
                    self._pull(node, adjoints[node], adjoints, s)
            for name in states:
                self.whole[name][s] = np.where(live, adjoints[outputs[name]], arrived[name])
            if inputs["x"] in adjoints:
                self.dx_terms[s - 1] = adjoints[inputs["x"]]
            for name in states:
                pulled = adjoints.get(inputs[name], np.zeros((self.G, B, H), WIDE))
                new = pulled + np.where(live, 0, arrived[name])
                if self.twist.carry:
                    new = self.twist.carry(s, name, new, arrived[name], pulled)
                carry[name] = new if self.twist.grouped else np.where(self.begun[s], new, 0)
        self.dstart = {name: carry[name] + seeds[name][0] for name in states}
        for name in states:
            self.arrived[name][0] = self.dstart[name]

    def _give(self, adjoints: dict[Node, Array], node: Node, value: Array) -> None:
        adjoints[node] = adjoints[node] + value if node in adjoints else value

    def _pull(self, node: Node, dz: Array, adjoints: dict[Node, Array], s: int) -> None:
        edges, inputs = self.twist.edges or {}, node.inputs

        def give(i: int, value: Array) -> None:
            at = (node.label, i)
            if self.twist.gives and at in self.twist.gives:
                value = self.twist.gives[at](self, s, dz)
            factor = edges.get(at)
            state = (self.twist.routes or {}).get(at)
            to = inputs[i] if state is None else self.steps[s - 1][0][state]
            self._give(adjoints, to, value if factor is None else value * WIDE(factor))

        if node.op == "linear":
            if self.twist.delta:
                dz = self.twist.delta(s, dz)
            n = 2 * node.products
            for i in range(0, n, 2):
                X, W = inputs[i], inputs[i + 1]
                read = (self.twist.reads or {}).get(W.name + (":x" if X.op == "x" else ""))
                weight = W.value if read is None else read(W.value)
                if self.twist.read is not None:
                    weight = self.twist.read(W.name, W.extra[0] if W.op == "columns" else 0, weight)
                if X.op != "hold":
                    give(i, dz @ weight.T)
                elif self.twist.held is not None:
                    self._give(adjoints, X.inputs[0], self.twist.held(dz) @ weight.T)
                self._visit(W, f"{node.label}.{i}:{X.op}", "product", X.value, dz, s)
            for i in range(n, len(inputs)):
                if inputs[i].constant:
                    self._visit(inputs[i], f"{node.label}.{i}", "bias", None, dz, s)
                else:
                    give(i, dz)
        elif node.op == "mul":
            for i in (0, 1):
                other = inputs[1 - i]
                if inputs[i].constant:
                    self._visit(inputs[i], f"{node.label}.{i}", "mul", other.value, dz, s)
                elif inputs[i].op != "hold":
                    give(i, dz * other.value)
        elif node.op == "add":
            give(0, dz)
            give(1, dz)
        elif node.op == "mix":
            z, n_, h = (part.value for part in inputs)
            give(0, dz * (h - n_))
            give(1, dz * (1 - z))
            give(2, dz * z)
        elif node.op == "columns":
            start, stop = node.extra
            spread = np.zeros((*dz.shape[:-1], inputs[0].value.shape[1]), WIDE)
            spread[..., start:stop] = dz
            give(0, spread)
        elif node.op in ACTIVATE:
            own = (self.twist.slope or {}).get(node.label)
            slope = (SLOPES[node.op] if own is None else own)(inputs[0].value, node.value)
            give(0, dz * slope)

    def _visit(self, W: Node, place: str, kind: str, left: Array | None, dz: Array, s: int) -> None:
        name = W.name
        start = W.extra[0] if W.op == "columns" else 0
        key = (name, start, place)
        if key not in self.sites:
            stop = W.extra[1] if W.op == "columns" else W.value.shape[1]
            self.sites[key] = Site(name, start, stop, kind, [None] * self.T, [None] * self.T)
        site = self.sites[key]
        site.left[s - 1], site.dz[s - 1] = left, dz

    def node(self, s: int, label: str) -> Node:
        """An operation of step s by its label."""
        return next(n for n in self.steps[s - 1][2] if n.label == label)

    # ---- sums ----------------------------------------------------------------------------------------------------

    def places(self, name: str) -> list[Site]:
        """Where a parameter is used."""
        return [site for key, site in self.sites.items() if key[0] == name]

    def parameter(
        self,
        name: str,
        weight: Array | None = None,
        left: Callable[[Site], list[Array | None]] | None = None,
        dz: Callable[[Site, Array], Array] | None = None,
        mask: Array | None = None,
        each: Callable[[Array], Array] | None = None,
    ) -> Array:
        """dL/dparameter: the sum over steps s, groups g and rows b of mask weight left^T dz; weight (T,G,B).

        `each` is done to the term of every step before it is added.
        """
        out = np.zeros(self.params[name].shape, WIDE)
        m = self.mask if mask is None else mask
        factor = (m if weight is None else m * weight)[..., None]
        for site in self.places(name):
            zero = np.zeros((self.G, self.B, site.stop - site.start), WIDE)
            dzs = np.stack([zero if d is None else d for d in site.dz])
            if dz is not None:
                dzs = dz(site, dzs)
            summed = (np.where(factor != 0, dzs * factor, 0)).sum(axis=1)  # (T,B,n)
            lefts = site.left if left is None else left(site)
            n = site.stop - site.start
            with np.errstate(all="ignore"):
                if each is not None:
                    part = self._step_by_step(site, lefts, summed, each)
                elif site.kind == "bias":
                    part = summed.reshape(-1, n).sum(axis=0)[None]
                else:
                    stacked = np.stack([np.zeros_like(self._any(lefts)) if a is None else a for a in lefts])
                    flat = stacked.reshape(-1, stacked.shape[-1])
                    if site.kind == "mul":
                        part = (flat * summed.reshape(-1, n)).sum(axis=0)[None]
                    else:
                        part = flat.T @ summed.reshape(-1, n)
            out[:, site.start : site.stop] += part
        return out.reshape(self.problem.parameter_shapes()[name])

    def _step_by_step(
        self, site: Site, lefts: Sequence[Array | None], summed: Array, each: Callable[[Array], Array]
    ) -> Array:
        total: Array = np.zeros(1, WIDE)
        for left, dz in zip(lefts, summed, strict=True):
            if site.kind == "product" and left is not None:
                total = total + each(left.T @ dz)
            elif left is not None or site.kind == "bias":
                total = total + each((dz if left is None else left * dz).sum(axis=0))[None]
        return np.atleast_2d(total)

    @staticmethod
    def _any(arrays: Sequence[Array | None]) -> Array:
        return next(a for a in arrays if a is not None)

    def dx(self, weight: Array | None = None, mask: Array | None = None) -> Array:
        """dL/dx (T,B,D)."""
        m = self.mask if mask is None else mask
        factor = (m if weight is None else m * weight)[..., None]
        return np.asarray(np.where(factor != 0, self.dx_terms * factor, 0).sum(axis=1))

    def d0(self, name: str, weight: Array | None = None, mask: Array | None = None) -> Array:
        """dL/dh0 or dL/dc0 (B,H): the mask of s = 1."""
        m = (self.mask if mask is None else mask)[0]
        factor = (m if weight is None else m * weight[0])[..., None]
        return np.asarray(np.where(factor != 0, self.dstart[name] * factor, 0).sum(axis=0))

    def readout(self, weight: Array | None = None, states: Array | None = None, do: Array | None = None) -> Arrays:
        """dW_hy and db_y, or nothing; weight (T,B), states (T,B,H)."""
        if self.problem.readout != "linear":
            return {}
        do = self.do if do is None else do
        do = do if weight is None else do * weight[..., None]
        h = self.seen[1:] if states is None else states
        flat = do.reshape(-1, self.K)
        return {"dW_hy": h.reshape(-1, self.H).T @ flat, "db_y": flat.sum(axis=0)}

    def gradients(self, weight: Array | None = None, mask: Array | None = None) -> Arrays:
        """The gradients that know the truncation: the cell's parameters, x and the initial states."""
        names = self.problem.spec.shapes(self.problem.D, self.H)
        out = {f"d{name}": self.parameter(name, weight, mask=mask) for name in names}
        out["dx"] = self.dx(weight, mask)
        return out | {f"d{name}0": self.d0(name, weight, mask) for name in self.problem.spec.states}

    @property
    def results(self) -> Arrays:
        """Every array of a full answer."""
        found = self.gradients() | self.readout() | {"loss": np.asarray(self.total), "o": self.o, "h": self.seen[1:]}
        for name in self.problem.spec.states[1:]:
            found[name] = np.stack(self.h[name][1:])
        return {key: found[key] for key in gradient_shapes(self.problem)}


def _by_block(sweep: Sweep, size: int) -> Iterator[Sweep]:
    """The passes of its losses, those of one block of steps at a time."""
    block = np.arange(len(sweep.seeds)) // size
    for one in np.unique(block[sweep.seeds.any(axis=1)]):
        seeds = sweep.seeds & (block == one)[:, None]
        yield Sweep(seeds, np.where(seeds.any(axis=0), sweep.first, len(seeds) + 1))
