"""Mistakes on the way back: a derivative that is wrong, an edge that is cut, a carry that is not what it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bptt.problem import DTYPES, Problem
from conformance.diagnosis.hypothesis import Base, Hypothesis
from conformance.diagnosis.tape import COLUMNS, GATES, SLOPES, WIDE, Array, Arrays, Site, Tape, rounded

Slope = Callable[[Array, Array], Array]


def twisted(**twist: Any) -> Callable[[Base], Arrays]:
    """A prediction: the gradients of a tape with a twist."""

    def predict(base: Base) -> Arrays:
        tape = base.run(**twist)
        return tape.gradients() | tape.readout()

    return predict


def propose(problem: Problem) -> Iterator[Hypothesis]:
    """Slopes, edges, carries, weights as read backward, and what the parameters' gradients are formed with."""
    yield from _slopes(problem)
    yield from _edges(problem)
    yield from _carries(problem)
    yield from _reads(problem)
    yield from _partials(problem)
    yield from _starts(problem)


# ---- activations' derivatives ------------------------------------------------------------------------------------


def _slopes(problem: Problem) -> Iterator[Hypothesis]:
    labels = {
        label: gate
        for label, gate in GATES[problem.cell].items()
        if problem.cell != "elman" or label == f"{problem.activation}0"
    }
    for label, gate in labels.items():
        op = label[:-1]
        name = {"tanh": "tanh'", "sigmoid": "σ'", "relu": "relu'", "identity": "φ'"}[op]
        of = "" if problem.cell == "elman" else (" of tanh(c)" if gate == "tanh(c)" else f" of gate {gate}")
        for id_, words, f in _wrong_slopes(op, problem.dtype):
            yield Hypothesis(
                f"slope-{gate}-{id_}",
                f"the derivative {name}{of} is {words}",
                twisted(slope={label: f}),
                order=18,
                rough=1e6 if "differences" in id_ else 0.0,
            )
    sigmoids = {label for label in labels if label.startswith("sigmoid")}
    tanhs = {label for label in labels if label.startswith("tanh")}
    for group, name in ((sigmoids, "sigmoid"), (tanhs, "tanh")):
        if len(group) > 1:
            for id_, words, f in _wrong_slopes(name, problem.dtype):
                yield Hypothesis(
                    f"slope-every-{name}-{id_}",
                    f"the derivative of every {name} is {words}",
                    twisted(slope=dict.fromkeys(group, f)),
                    order=19,
                )
    for label, gate in labels.items():
        if problem.cell != "elman":
            continue
        for shift, words in ((-1, "of the step before"), (1, "of the step after")):
            yield Hypothesis(
                f"slope-{gate}-{'before' if shift < 0 else 'after'}",
                f"the derivative is taken at the state {words}",
                _stale_slope(label, shift),
                order=21,
            )


def _wrong_slopes(op: str, dtype: str) -> Iterator[tuple[str, str, Slope]]:
    right = SLOPES[op]
    if op != "identity":
        yield "missing", "missing: 1 stands in its place", lambda a, z: np.ones_like(a)
        yield "zero", "zero: nothing goes through", lambda a, z: np.zeros_like(a)
        yield "twice", "applied twice", lambda a, z: right(a, z) ** 2
        yield "negated", "of the wrong sign", lambda a, z: -right(a, z)
    if op in ("tanh", "sigmoid"):
        yield "at-value", "taken at the activated value, φ'(h) where φ'(a) belongs", lambda a, z: right(z, z)
        yield "differences-4", "a central difference of step 1e-4", lambda a, z: _difference(op, a, 1e-4)
        yield "differences-3", "a central difference of step 1e-3", lambda a, z: _difference(op, a, 1e-3)
        yield "forward-differences", "a forward difference of step 1e-6", lambda a, z: _forward(op, a, 1e-6)
    if op == "tanh":
        yield "plus", "1 + h², not 1 − h²", lambda a, z: 1 + z * z
        yield "unsquared", "1 − h, not 1 − h²", lambda a, z: 1 - z
        yield "argument", "1 − a², of the argument, not of its tanh", lambda a, z: 1 - a * a
        yield "as-sigmoid", "h (1 − h), that of a sigmoid", lambda a, z: z * (1 - z)
        yield "reversed", "h² − 1, of the wrong sign", lambda a, z: z * z - 1
    if op == "sigmoid":
        yield "factor", "s, the factor (1 − s) missing", lambda a, z: z
        yield "other-factor", "1 − s, the factor s missing", lambda a, z: 1 - z
        yield "as-tanh", "1 − s², that of a tanh", lambda a, z: 1 - z * z
        yield "argument", "a (1 − a), of the argument, not of its sigmoid", lambda a, z: a * (1 - a)
        yield "plus", "s (1 + s)", lambda a, z: z * (1 + z)
        yield "half", "2 s (1 − s), that of σ(2a) or of a tanh", lambda a, z: 2 * z * (1 - z)
        yield (
            "overflow",
            "exp(−a) / (1 + exp(−a))², which overflows for large |a|",
            lambda a, z: _overflowing_slope(a, dtype),
        )
    if op == "relu":
        yield "at-zero", "1 at 0, where 0 is meant", lambda a, z: (a >= 0).astype(WIDE)
        yield "half-at-zero", "½ at 0, where 0 is meant", lambda a, z: np.where(a == 0, WIDE(0.5), (a > 0).astype(WIDE))
        yield "leak", "0.01 below 0, where 0 is meant", lambda a, z: np.where(a > 0, 1, WIDE(1) / 100)
        yield "inverted", "1 below 0 and 0 above", lambda a, z: (a < 0).astype(WIDE)
        yield "value", "the value itself", lambda a, z: z


def _difference(op: str, a: Array, step: float) -> Array:
    from conformance.diagnosis.tape import ACTIVATE

    e = WIDE(step)
    return np.asarray((ACTIVATE[op](a + e) - ACTIVATE[op](a - e)) / (2 * e))


def _forward(op: str, a: Array, step: float) -> Array:
    from conformance.diagnosis.tape import ACTIVATE

    e = WIDE(step)
    return np.asarray((ACTIVATE[op](a + e) - ACTIVATE[op](a)) / e)


def _overflowing_slope(a: Array, dtype: str) -> Array:
    with np.errstate(all="ignore"):
        e = np.exp(-a.astype(DTYPES[dtype]))
        odd = ~np.isfinite(e / (1 + e) ** 2)
    return np.where(odd, WIDE(np.nan), SLOPES["sigmoid"](a, a))


def _stale_slope(label: str, shift: int) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        tape, T = base.tape, base.problem.T
        op = label[:-1]
        values = {}
        for s in range(1, T + 1):
            node = next(n for n in tape.steps[s - 1][2] if n.label == label)
            values[s] = (node.inputs[0].value, node.value)
        if shift < 0:  # only the state is known of step 0
            values[0] = (wide_inverse(op, tape.hs[0]), tape.hs[0])
        values[T + 1] = (np.zeros_like(values[T][0]), np.zeros_like(values[T][1]))
        order = iter(range(T, 0, -1))
        return twisted(slope={label: lambda a, z: SLOPES[op](*values[next(order) + shift])})(base)

    return predict


def wide_inverse(op: str, h: Array) -> Array:
    """Some a with φ'(a) as an implementation would have it from h alone."""
    if op == "tanh":
        return np.asarray(np.arctanh(np.clip(h, -1, 1)))
    return np.asarray(np.log(h / (1 - h))) if op == "sigmoid" else h


# ---- edges -------------------------------------------------------------------------------------------------------


GRU_EDGES = {
    ("mix0", 0): "from h_t to the update gate",
    ("mix0", 1): "from h_t to n",
    ("mix0", 2): "from h_t straight to h_{t-1}, z∘dh",
    ("mul0", 0): "from n to the reset gate",
    ("mul0", 1): "from n to h_{t-1}, through the reset product",
    ("linear0", 2): "from the gates r and z to h_{t-1}",
}
EDGES: dict[str, dict[tuple[str, int], str]] = {
    "lstm": {
        ("mul0", 0): "from c_t to the forget gate",
        ("mul0", 1): "from c_t to c_{t-1}",
        ("mul1", 0): "from c_t to the input gate",
        ("mul1", 1): "from c_t to g",
        ("mul2", 0): "from h_t to the output gate",
        ("mul2", 1): "from h_t to c_t",
        ("linear0", 2): "from the gates to h_{t-1}",
    },
    "lstm_1997": {
        ("mul0", 0): "from c_t to the input gate",
        ("mul0", 1): "from c_t to g",
        ("add0", 0): "from c_t to c_{t-1}",
        ("mul1", 0): "from h_t to the output gate",
        ("mul1", 1): "from h_t to c_t",
        ("linear0", 2): "from the gates to h_{t-1}",
    },
    "lstm_peephole": {
        ("mul0", 1): "through the peephole of the input gate to c_{t-1}",
        ("mul1", 1): "through the peephole of the forget gate to c_{t-1}",
        ("mul2", 0): "from c_t to the forget gate",
        ("mul2", 1): "from c_t to c_{t-1}",
        ("mul3", 0): "from c_t to the input gate",
        ("mul3", 1): "from c_t to g",
        ("mul4", 1): "through the peephole of the output gate to c_t",
        ("mul5", 0): "from h_t to the output gate",
        ("mul5", 1): "from h_t to c_t",
        ("linear0", 2): "from the input gate to h_{t-1}",
        ("linear1", 2): "from the forget gate to h_{t-1}",
        ("linear2", 2): "from g to h_{t-1}",
        ("linear3", 2): "from the output gate to h_{t-1}",
    },
    **dict.fromkeys(("gru_reset_after", "gru_reset_before"), GRU_EDGES),
    "elman": {},
}
"""What flows back from an operation to its i-th input, in words."""


def _edges(problem: Problem) -> Iterator[Hypothesis]:
    for (label, i), words in EDGES[problem.cell].items():
        name = words.replace(" ", "-").replace("_", "").replace(",", "").replace("{", "").replace("}", "")
        yield Hypothesis(f"edge-cut-{name}", f"nothing flows back {words}", twisted(edges={(label, i): 0.0}), order=17)
        for factor, how in ((-1.0, "with the wrong sign"), (2.0, "twice")):
            yield Hypothesis(
                f"edge-{factor:g}-{name}",
                f"what flows back {words} is counted {how}",
                twisted(edges={(label, i): factor}),
                order=28,
            )
    if problem.cell.startswith("gru"):
        yield Hypothesis(
            "mix-z-for-one-minus-z",
            "dn takes the factor z where 1 − z belongs",
            _mixed(lambda z: z / (1 - z), None),
            order=24,
        )
        yield Hypothesis(
            "mix-without-one-minus-z", "dn misses the factor 1 − z", _mixed(lambda z: 1 / (1 - z), None), order=24
        )
        yield Hypothesis(
            "mix-carry-one-minus-z",
            "the carry takes the factor 1 − z where z belongs",
            _mixed(None, lambda z: (1 - z) / z),
            order=24,
        )
        yield Hypothesis(
            "mix-carry-without-z",
            "the carry takes all of dh where z∘dh belongs",
            _mixed(None, lambda z: 1 / z),
            order=24,
        )


def _mixed(to_n: Callable[[Array], Array] | None, to_h: Callable[[Array], Array] | None) -> Callable[[Base], Arrays]:
    """A prediction with other factors on what the mix of a GRU sends to n and to h_{t-1}."""

    def predict(base: Base) -> Arrays:
        tape = base.tape
        gates = [next(n for n in nodes if n.op == "mix").inputs[0].value for _, _, nodes in tape.steps]
        found: dict[str, Any] = {}
        if to_n is not None:
            order = iter(range(base.problem.T, 0, -1))
            found["slope"] = {"tanh0": lambda a, z: SLOPES["tanh"](a, z) * to_n(gates[next(order) - 1])}
        if to_h is not None:

            def carry(s: int, name: str, new: Array, arrived: Array, pulled: Array) -> Array:
                z, live = gates[s - 1], tape.alive[s - 1][None, :, None]
                return np.asarray(new + np.where(live, arrived * z * (to_h(z) - 1), 0))

            found["carry"] = carry
        return twisted(**found)(base)

    return predict


# ---- the carry ---------------------------------------------------------------------------------------------------


def _carries(problem: Problem) -> Iterator[Hypothesis]:
    states = problem.spec.states

    def cut(names: tuple[str, ...], last: int = 1) -> Callable[..., Array]:
        return lambda s, name, new, arrived, pulled: new - pulled if name in names and s > last else new

    yield Hypothesis(
        "carry-cut",
        "the recurrent path is cut: nothing flows from step t+1 to step t",
        twisted(carry=cut(states)),
        order=5,
    )
    yield Hypothesis(
        "carry-cut-to-start",
        "the recurrent path is cut, and that to the initial state too",
        twisted(carry=cut(states, 0)),
        order=6,
    )
    if "c" in states:
        for name in states:
            other = "c" if name == "h" else "h"
            yield Hypothesis(
                f"carry-cut-{name}",
                f"the path through {name} is cut: errors travel from step to step along {other} alone",
                twisted(carry=cut((name,))),
                order=7,
            )
            yield Hypothesis(
                f"carry-cut-{name}-to-start",
                f"the path through {name} is cut, and that to {name}0 too",
                twisted(carry=cut((name,), 0)),
                order=8,
            )
    yield Hypothesis(
        "carry-first-order", "the Jacobians of several steps are multiplied in forward order", _forward_order, order=20
    )
    yield Hypothesis(
        "carry-not-updated",
        "the carry is worked out at the last step and never updated",
        _remembered(lambda old, new: new if old is None else old),
        order=20,
    )
    yield Hypothesis(
        "carry-accumulates",
        "the carry is added to the one of the step before, not put in its place",
        _remembered(lambda old, new: new if old is None else old + new),
        order=20,
    )
    if problem.cell == "elman" and problem.D == problem.H:
        yield Hypothesis(
            "dx-overwrites-upstream",
            "dx is written into the buffer of the upstream gradient of the step before, which is read afterwards",
            _overwritten,
            order=20,
        )
    yield Hypothesis(
        "carry-skip", "dh_t is handed on beside the carry, as if there were a skip connection", _skip, order=20
    )
    for digits in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8):
        yield Hypothesis(
            f"carry-flushed-{digits:g}",
            f"a carry below {digits:g} is flushed to zero",
            twisted(
                grouped=True, carry=lambda s, name, new, arrived, pulled, d=digits: np.where(np.abs(new) < d, 0, new)
            ),
            order=30,
        )
    for narrow in ("float16", "float32", "bfloat16"):
        yield Hypothesis(
            f"carry-{narrow}",
            f"the carry is kept in {narrow}",
            twisted(grouped=True, carry=lambda s, name, new, arrived, pulled, d=narrow: rounded(new, d)),
            order=30,
        )
        yield Hypothesis(
            f"delta-{narrow}",
            f"each delta_t is rounded to {narrow}",
            twisted(grouped=True, delta=lambda s, dz, d=narrow: rounded(dz, d)),
            order=31,
        )
    for limit in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0):
        yield Hypothesis(
            f"delta-clipped-{limit:g}",
            f"each delta_t is clipped to [-{limit:g}, {limit:g}]",
            twisted(grouped=True, delta=lambda s, dz, c=limit: np.clip(dz, -c, c)),
            order=25,
        )
        yield Hypothesis(
            f"carry-clipped-{limit:g}",
            f"the carry is clipped to [-{limit:g}, {limit:g}]",
            twisted(grouped=True, carry=lambda s, name, new, arrived, pulled, c=limit: np.clip(new, -c, c)),
            order=26,
        )
    yield Hypothesis(
        "arrived-doubled",
        "what a loss sends to its own step is counted twice",
        twisted(seeds=lambda tape, name, seeds: 2 * seeds),
        order=35,
    )


def _overwritten(base: Base) -> Arrays:
    """With D = H: what the loss of step s-1 sends is lost, and dx_s stands in its place; a sweep's last loss stays."""
    W = base.tape.params["W_xh"]
    found: list[Array] = []
    member: list[Array] = []

    def delta(s: int, dz: Array) -> Array:
        found.append(dz @ W.T)
        return dz

    def carry(s: int, name: str, new: Array, arrived: Array, pulled: Array) -> Array:
        return np.asarray(new + np.where(member[0][s - 1][..., None], found[-1], 0))

    def seeds(tape: Tape, name: str, values: Array) -> Array:
        some = np.asarray(
            tape.member.any(axis=-1, keepdims=True)
        )  # a row that has ended is written over too, with zeros
        member.append(some)
        later = np.cumsum(some[::-1], axis=0)[::-1]  # how many losses of the sweep there are from here on
        return np.where((later <= 1)[..., None], values, 0)

    return twisted(grouped=True, delta=delta, carry=carry, seeds=seeds)(base)


def _skip(base: Base) -> Arrays:
    alive = base.tape.alive
    return twisted(carry=lambda s, name, new, arrived, pulled: new + np.where(alive[s - 1][None, :, None], arrived, 0))(
        base
    )


def _remembered(combine: Callable[[Array | None, Array], Array]) -> Callable[[Base], Arrays]:
    def predict(base: Base) -> Arrays:
        kept: dict[str, Array] = {}

        def carry(s: int, name: str, new: Array, arrived: Array, pulled: Array) -> Array:
            kept[name] = combine(kept.get(name), new)
            return kept[name]

        return twisted(grouped=True, carry=carry)(base)

    return predict


def _forward_order(base: Base) -> Arrays | None:
    """Elman: dh_s = g_t D_s W^T … D_t W^T, the factors in the order of time."""
    if base.problem.cell != "elman":
        return None
    plain = base.tape
    slopes = []
    for _, _, nodes in plain.steps:
        node = nodes[-1]
        slopes.append(SLOPES[node.op](node.inputs[0].value, node.value))
    WT = plain.params["W_hh"].T
    H = plain.H
    state: dict[str, Array] = {}

    def carry(s: int, name: str, new: Array, arrived: Array, pulled: Array) -> Array:
        live = plain.alive[s - 1]
        if not state:
            state["P"] = np.broadcast_to(np.eye(H, dtype=WIDE), (plain.G, plain.B, H, H))
            state["g"] = np.zeros_like(arrived)
        fresh = arrived if s == plain.T else arrived - state["last"]
        state["g"] = state["g"] + fresh
        begun = np.abs(state["g"]).sum(axis=-1)[..., None, None] > 0
        step = (slopes[s - 1][:, :, None] * WT)[None]
        state["P"] = np.where(begun & live[None, :, None, None], step @ state["P"], state["P"])
        out = np.where(live[None, :, None], (state["g"][..., None, :] @ state["P"])[..., 0, :], new)
        state["last"] = out
        return np.asarray(out)

    return twisted(carry=carry)(base)


# ---- weights as read backward ------------------------------------------------------------------------------------


def blockwise(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """f of each (H,H) block of columns."""

    def change(W: Array) -> Array:
        n = W.shape[0]
        return np.concatenate([f(W[:, j : j + n]) for j in range(0, W.shape[1], n)], axis=1)

    return change


def _reads(problem: Problem) -> Iterator[Hypothesis]:
    W = "W_hh" if problem.cell == "elman" else "W_h"
    yield Hypothesis(
        "carry-without-transpose",
        f"going back, {W} is read without its transpose",
        twisted(reads={W: blockwise(lambda A: A.T)}),
        order=9,
    )
    yield Hypothesis(
        "carry-absolute", f"going back, the absolute values of {W} are used", twisted(reads={W: np.abs}), order=40
    )
    yield Hypothesis("carry-negated", f"going back, {W} has the wrong sign", twisted(reads={W: lambda A: -A}), order=30)
    gates = COLUMNS[problem.cell]
    if len(gates) > 1:
        for k, gate in enumerate(gates):

            def without(A: Array, k: int = k) -> Array:
                A = A.copy()
                n = A.shape[0]
                if A.shape[1] > k * n:
                    A[:, k * n : (k + 1) * n] = 0
                return A

            if problem.cell in ("lstm", "lstm_1997"):
                yield Hypothesis(
                    f"carry-without-gate-{gate}",
                    f"the carry leaves out the gate {gate}",
                    twisted(reads={W: without}),
                    order=20,
                )


# ---- what the parameters' gradients are formed with --------------------------------------------------------------


def _partials(problem: Problem) -> Iterator[Hypothesis]:
    names = list(problem.spec.shapes(problem.D, problem.H))

    def formed(
        left: Callable[[Tape, Site], Any] | None = None,
        dz: Callable[[Tape, Site, Array], Array] | None = None,
        only: Callable[[Site], bool] = lambda site: True,
    ) -> Callable[[Base], Arrays]:
        def predict(base: Base) -> Arrays:
            tape = base.tape
            return {
                f"d{name}": tape.parameter(
                    name,
                    left=None if left is None else lambda site: left(tape, site) if only(site) else site.left,
                    dz=None if dz is None else lambda site, d: dz(tape, site, d) if only(site) else d,
                )
                for name in names
            }

        return predict

    W = "W_hh" if problem.cell == "elman" else "W_h"

    def recurrent(site: Site) -> bool:
        return site.name == W

    yield Hypothesis(
        "recurrent-weight-current-state",
        f"d{W} is formed with h_t where h_{{t-1}} belongs",
        formed(left=lambda tape, site: list(tape.hs[1:]), only=recurrent),
        order=9,
    )
    yield Hypothesis(
        "recurrent-weight-older-state",
        f"d{W} is formed with h_{{t-2}} where h_{{t-1}} belongs",
        formed(left=lambda tape, site: [np.zeros_like(tape.hs[0]), *tape.hs[:-2]], only=recurrent),
        order=20,
    )
    yield Hypothesis(
        "recurrent-weight-later-delta",
        f"d{W} is formed with the delta of the next step",
        formed(dz=lambda tape, site, d: np.concatenate([d[1:], np.zeros_like(d[:1])]), only=recurrent),
        order=20,
    )
    yield Hypothesis(
        "input-weight-later-input",
        "the input weight's gradient is formed with x_{t+1}",
        formed(
            left=lambda tape, site: [*site.left[1:], np.zeros_like(site.left[0])],
            only=lambda site: site.name in ("W_xh", "W_x"),
        ),
        order=20,
    )
    yield Hypothesis(
        "input-weight-earlier-input",
        "the input weight's gradient is formed with x_{t-1}",
        formed(
            left=lambda tape, site: [np.zeros_like(site.left[0]), *site.left[:-1]],
            only=lambda site: site.name in ("W_xh", "W_x"),
        ),
        order=20,
    )
    yield Hypothesis(
        "input-reversed",
        "the input weight's gradient is formed with the inputs in reverse order",
        formed(left=lambda tape, site: site.left[::-1], only=lambda site: site.name in ("W_xh", "W_x")),
        order=22,
    )
    yield Hypothesis(
        "initial-term-left-out",
        f"d{W} leaves out the term of the initial state, h0ᵀ delta_1",
        formed(left=lambda tape, site: [np.zeros_like(tape.hs[0]), *site.left[1:]], only=recurrent),
        order=11,
    )
    yield Hypothesis(
        "batch-mean",
        "divided by the number of rows B, once too often",
        _scaled_by(lambda p: WIDE(1) / p.B),
        local=True,
        order=12,
    )
    yield Hypothesis(
        "time-mean", "divided by the number of steps T", _scaled_by(lambda p: WIDE(1) / p.T), local=True, order=12
    )
    yield Hypothesis("token-mean", "divided by T B", _scaled_by(lambda p: WIDE(1) / (p.T * p.B)), local=True, order=12)
    yield Hypothesis(
        "batch-sum", "multiplied by the number of rows B", _scaled_by(lambda p: WIDE(p.B)), local=True, order=13
    )
    yield Hypothesis(
        "time-sum", "multiplied by the number of steps T", _scaled_by(lambda p: WIDE(p.T)), local=True, order=13
    )
    yield Hypothesis("token-sum", "multiplied by T B", _scaled_by(lambda p: WIDE(p.T * p.B)), local=True, order=13)
    for unit in ("D", "H", "K"):
        yield Hypothesis(
            f"divided-by-{unit}",
            f"divided by {unit}",
            _scaled_by(lambda p, u=unit: WIDE(1) / getattr(p, u)),
            local=True,
            order=27,
        )
    if problem.cell == "elman":
        yield Hypothesis(
            "before-activation",
            "formed with dh_t where delta_t = dh_t φ'(a_t) belongs",
            _before_activation,
            local=True,
            order=9,
        )


def _scaled_by(factor: Callable[[Problem], Any]) -> Callable[[Base], Arrays]:
    return lambda base: {
        key: value * factor(base.problem) for key, value in base.exact.items() if key == "loss" or key.startswith("d")
    }


def _before_activation(base: Base) -> Arrays:
    tape = base.tape
    dh = tape.arrived["h"][1:] * tape.alive[:, None, :, None]
    names = base.problem.spec.shapes(base.problem.D, base.problem.H)
    out = {f"d{name}": tape.parameter(name, dz=lambda site, d: dh) for name in names}
    masked = np.where(tape.mask[..., None], dh, 0).sum(axis=1)
    out["dx"] = masked @ tape.params["W_xh"].T
    return out


# ---- initial states and dx ---------------------------------------------------------------------------------------


def _starts(problem: Problem) -> Iterator[Hypothesis]:
    states = problem.spec.states

    def d0(f: Callable[[Tape, str], Array]) -> Callable[[Base], Arrays]:
        return lambda base: {f"d{name}0": f(base.tape, name) for name in states}

    def at_one(tape: Tape, name: str) -> Array:
        return np.asarray(np.where(tape.mask[0][..., None], tape.arrived[name][1], 0).sum(axis=0))

    yield Hypothesis("start-is-arrived", "dL/dh_1: one step too few", d0(at_one), local=True, order=12)
    yield Hypothesis(
        "start-full",
        "not truncated",
        d0(lambda tape, name: tape.dstart[name].sum(axis=0)),
        local=True,
        order=16,
    )
    if problem.cell == "elman":

        def delta_one(tape: Tape, name: str) -> Array:
            dz = tape.places("W_hh")[0].dz[0]
            own = np.zeros((tape.G, tape.B, tape.H), WIDE) if dz is None else dz
            rest = np.where(tape.alive[0][None, :, None], 0, tape.dstart[name])
            return np.asarray(np.where(tape.mask[0][..., None], own + rest, 0).sum(axis=0))

        yield Hypothesis(
            "start-is-delta",
            "delta_1: the last product with the recurrent weight is missing",
            d0(delta_one),
            local=True,
            order=11,
        )
        yield Hypothesis(
            "start-without-transpose",
            "formed with W_hh where its transpose belongs",
            d0(lambda tape, name: delta_one(tape, name) @ tape.params["W_hh"]),
            local=True,
            order=13,
        )
    if problem.truncation.kind == "window":
        yield Hypothesis(
            "start-lost",
            "lost where the window is longer than the sequence",
            d0(lambda tape, name: tape.d0(name) * ((tape.problem.truncation.k or 0) <= tape.T + 1)),
            local=True,
            order=5,
        )
    yield Hypothesis(
        "start-without-empty",
        "the final cotangent of an empty row (length 0) is lost",
        d0(lambda tape, name: np.where(tape.lengths[:, None] == 0, 0, tape.d0(name))),
        local=True,
        order=12,
    )
    for shift, words in (
        (1, "one step too late: the gradient of x_t is returned as that of x_{t+1}"),
        (-1, "one step too early: the gradient of x_t is returned as that of x_{t-1}"),
    ):
        yield Hypothesis(
            f"dx-rolled-{shift}",
            f"dx stands {words}, and wraps around",
            lambda base, k=shift: {"dx": np.roll(base.exact["dx"], k, axis=0)},
            order=10,
        )
        yield Hypothesis(
            f"dx-shifted-{shift}", f"dx stands {words}", lambda base, k=shift: {"dx": _shift(base, k)}, order=11
        )


def _shift(base: Base, k: int) -> Array:
    out = np.roll(base.exact["dx"], k, axis=0)
    out[0 if k > 0 else -1] = 0
    return out
