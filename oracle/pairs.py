"""A problem in balls whose middle is a pair of float64, compiled: the first, fast rung below arb's precisions.

Every value is enclosed: it is within a radius of hi + lo, whatever was rounded on the way (oracle/csrc/pairs.h). The
106 bits of a pair decide most problems against their budget; where they do not, where an argument leaves the range of
float64, a relu's sign stays open, or there is no compiler, arb does. Whoever asks for more of a solution than its
arrays, the trace for one, gets it from arb too.

The equations are those of `bptt.cells`, recorded once as a graph; the rules of its derivatives, which oracle/reverse.py
has in Python, stand a second time in oracle/csrc/pairs.c. tests/test_pairs.py holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.losses import row_weights
from bptt.problem import Problem, gradient_shapes
from bptt.truncation import sweeps
from oracle.ball_numbers import BallNumbers
from oracle.budget import compiled
from oracle.budget.compiled import OPS, Tape
from oracle.budget.graph import ACTIVATIONS, Graph, Place, Rounded, count_consumers, slope_of, spread
from oracle.errors import OracleDisagrees
from oracle.numbers import Scalar
from oracle.solution import FIRST_PRECISION, Solution, decided, scope, solve
from oracle.unrolled import Unrolled

Floats = NDArray[np.float64]
Balls = NDArray[np.float64]
"""(3, ...): the nearest float64, what it leaves, and the radius, of each entry."""
BITS = 106
"""Of a pair's middle."""
ENTRYWISE = ("add", "sub", "mul", "div", "exp", "log", "row sums")
SLOPED = ("tanh", "sigmoid", "relu")


# ---- the graph of a step ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Spot:
    """One node of the recorded step, in the terms of `oracle.budget.graph.Place`; rows is 1 but for matrices."""

    op: str
    index: int
    width: int
    name: str = ""
    inputs: tuple[Spot, ...] = ()
    products: int = 0
    extra: tuple[int, int] | None = None
    constant: bool = False
    rows: int = 1


@dataclass
class Skeleton:
    """The step of a cell: its nodes in order, where its states begin and end, and what the tape says of all of them."""

    spots: list[Spot] = field(default_factory=list)
    inputs: dict[str, Spot] = field(default_factory=dict)
    outputs: dict[str, Spot] = field(default_factory=dict)

    def tape(self) -> list[int]:
        """The steps' part of the tape but for its head; arrays are named in the order of `arrays_of`."""
        states, numbers, arrays = list(self.outputs), [len(self.spots), len(self.outputs)], 1
        for spot in self.spots:
            role = -2
            if spot.op == "leaf" and not spot.constant:
                role = -1 if spot.name == "x" else states.index(spot.name)
            numbers += [OPS.index(spot.op), spot.constant, spot.rows, spot.width, spot.products, len(spot.inputs)]
            numbers += [*(i.index for i in spot.inputs), spot.extra[0] if spot.extra else 0, role]
            count = 2 if spot.op in SLOPED else 1
            numbers += range(arrays, arrays + count)
            arrays += count
        return [*numbers, *(spot.index for spot in self.outputs.values())]


class _Recorder:
    """An `Arithmetic` of shapes alone."""

    def __init__(self) -> None:
        self.spots: list[Spot] = []

    def put(self, op: str, width: int, *inputs: Spot, **named: Any) -> Spot:
        spot = Spot(op, len(self.spots), width, inputs=inputs, **named)
        self.spots.append(spot)
        return spot

    def linear(self, products: Sequence[tuple[Spot, Spot]], addends: Sequence[Spot] = ()) -> Spot:
        flat = [spot for pair in products for spot in pair]
        return self.put("linear", products[0][1].width, *flat, *addends, products=len(products))

    def columns(self, value: Spot, start: int, stop: int) -> Spot:
        return self.put("columns", stop - start, value, extra=(start, stop), constant=value.constant, rows=value.rows)

    def mul(self, a: Spot, b: Spot) -> Spot:
        return self.put("mul", a.width, a, b)

    def add(self, a: Spot, b: Spot) -> Spot:
        return self.put("add", a.width, a, b)

    def mix(self, z: Spot, n: Spot, h: Spot) -> Spot:
        return self.put("mix", z.width, z, n, h)

    def tanh(self, a: Spot) -> Spot:
        return self.put("tanh", a.width, a)

    def sigmoid(self, a: Spot) -> Spot:
        return self.put("sigmoid", a.width, a)

    def relu(self, a: Spot) -> Spot:
        return self.put("relu", a.width, a)

    def identity(self, a: Spot) -> Spot:
        return self.put("identity", a.width, a)

    def hold(self, a: Spot) -> Spot:
        return self.put("hold", a.width, a)


@lru_cache(maxsize=256)
def _skeleton(
    cell: str, activation: str | None, cec: bool, D: int, H: int, readout: int | None
) -> tuple[Skeleton, tuple[int, ...]]:
    """The step of a cell of these sizes, `readout` columns behind it, and its tape."""
    record, spec, out = _Recorder(), CELLS[cell], Skeleton()
    out.spots = record.spots
    shapes = spec.shapes(D, H) | ({} if readout is None else {"W_hy": (H, readout), "b_y": (readout,)})
    leaves = {
        name: record.put("leaf", shape[-1], name=name, constant=True, rows=shape[0] if len(shape) == 2 else 1)
        for name, shape in shapes.items()
    }
    w = spec.prepare(record, {name: leaves[name] for name in spec.shapes(D, H)}, H)
    out.inputs = {"x": record.put("leaf", D, name="x")}
    out.inputs |= {name: record.put("leaf", H, name=name) for name in spec.states}
    states = {name: out.inputs[name] for name in spec.states}
    out.outputs = spec.step(record, w, out.inputs["x"], states, activation, cec)
    return out, tuple(out.tape())


# ---- arrays of balls -------------------------------------------------------------------------------------------------


def exact(array: NDArray[Any]) -> Balls:
    """An array of floats, as balls of radius 0.

    >>> exact(np.array([2.0])).ravel().tolist()
    [2.0, 0.0, 0.0]
    """
    out = np.zeros((3, *array.shape))
    out[0] = array
    return out


def _call(loop: str, numbers: Sequence[int], *arrays: Balls) -> None:
    tape = Tape()
    tape.write(*numbers)
    tape.array(*arrays)
    tape.run(getattr(compiled.LOOPS, loop))


def entrywise(op: str, a: Balls, b: Balls | None = None) -> Balls:
    """An operation of ENTRYWISE on arrays of one shape; `row sums` are along the last axis.

    >>> one, tiny = exact(np.array([1.0])), exact(np.array([2.0**-90]))
    >>> compiled.LOOPS is None or entrywise("add", one, tiny).ravel().tolist() == [1.0, 2.0**-90, 0.0]
    True
    """
    a, columns = np.ascontiguousarray(a), a.shape[-1]
    out = np.empty(a.shape[:-1] if op == "row sums" else a.shape)
    given = (a,) if b is None else (a, np.ascontiguousarray(b) if b.shape == a.shape else spread(b, a.shape))
    _call("entrywise", (ENTRYWISE.index(op), a[0].size // columns, columns), *given, out)
    return out


def product(X: Balls, Y: Balls, out: Balls | None = None, *, transposed: bool = False) -> Balls:
    """X Y, or X^T Y, added to what is in `out`: (3,n,m) and (3,m,k), or (3,n,k).

    >>> X, Y = exact(np.array([[2.0, 3.0]])), exact(np.array([[5.0], [7.0]]))
    >>> compiled.LOOPS is None or product(X, Y).ravel().tolist() == [31.0, 0.0, 0.0]
    True
    """
    n, m, k = X.shape[1], X.shape[2], Y.shape[2]
    out = np.zeros((3, m if transposed else n, k)) if out is None else out
    _call("product", (transposed, n, m, k), np.ascontiguousarray(X), np.ascontiguousarray(Y), out)
    return out


def _total(a: Balls) -> Balls:
    """(3,): the sum of all entries."""
    out: Balls = entrywise("row sums", a.reshape(3, 1, -1))[:, 0]
    return out


def _column_sums(a: Balls) -> Balls:
    """(3,n,k) -> (3,1,k)."""
    return product(exact(np.ones((a.shape[1], 1))), a, transposed=True)


def ratios(values: Sequence[Fraction]) -> Balls:
    """Rationals, enclosed.

    >>> ratios([Fraction(1, 4)]).ravel().tolist()
    [0.25, 0.0, 0.0]
    """
    found = {}
    for value in set(values):
        hi = float(value)
        lo = float(value - Fraction(hi))
        rest = value - Fraction(hi) - Fraction(lo)
        found[value] = hi, lo, abs(float(rest)) * (1 + 2.0**-50) + 2.0**-1060 if rest else 0.0
    return np.array([found[value] for value in values], dtype=np.float64).reshape(-1, 3).T.copy()


@cache
def sound() -> bool:
    """Whether the compiled arithmetic is what it was written to be: no product fused, no bit kept that float64 has not.

    >>> compiled.LOOPS is None or sound()
    True
    """
    a, b = np.array([1 / 3, 1e-9, 3.0, 0.1]), np.array([0.7, 1 / 7, 1e9, 0.3])
    one, other = exact(a), exact(b)
    with scope(BallNumbers(400)):
        products = [arb(p) * arb(q) for p, q in zip(a.tolist(), b.tolist(), strict=True)]
        cases = [
            (entrywise("mul", one, other), products),
            (product(one[:, None, :], other[:, :, None])[:, 0], [sum(products, arb(0))]),
            (entrywise("exp", one), [arb(p).exp() for p in a.tolist()]),
            (entrywise("log", one), [arb(p).log() for p in a.tolist()]),
        ]
        return all(
            (arb(hi) + arb(lo) + arb(0, rad)).contains(value.mid()) and rad <= 2.0**-90 * abs(hi)
            for got, values in cases
            for hi, lo, rad, value in zip(*(plane.tolist() for plane in got), values, strict=True)
        )


# ---- a problem -------------------------------------------------------------------------------------------------------


class _Steps:
    """A problem's arrays, in the order of its skeleton; `values[k]` of a state has T+1 steps, of what is computed T."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        T, B, D, H = problem.T, problem.B, problem.D, problem.H
        linear = problem.readout == "linear"
        self.skeleton, self.tape = _skeleton(
            problem.cell, problem.activation, problem.truncation.kind == "cec", D, H, problem.K if linear else None
        )
        self.values: list[Balls] = []
        self.arrays: list[Balls] = [problem.row_lengths.astype(np.float64)]
        for spot in self.skeleton.spots:
            if spot.op == "leaf" and spot.constant:
                value = exact(problem.params[spot.name].reshape(spot.rows, spot.width))
            elif spot.constant:
                assert spot.extra is not None
                value = np.ascontiguousarray(self.values[spot.inputs[0].index][..., slice(*spot.extra)])
            elif spot.name == "x":
                value = exact(problem.x)
            elif spot.op == "leaf":
                value = np.zeros((3, T + 1, B, H))
                initial = getattr(problem, f"{spot.name}0")
                if initial is not None:
                    value[0, 0] = initial
            else:
                value = np.zeros((3, T, B, spot.width))
            self.values.append(value)
            self.arrays.append(value)
            if spot.op in SLOPED:
                self.arrays.append(np.zeros((3, T, B, spot.width)))

    def call(self, loop: str, arrays: Sequence[Balls], numbers: Sequence[int], more: Sequence[Balls] = ()) -> None:
        """A loop over the steps: arrays and numbers beyond those of the steps, and arrays behind these numbers."""
        first = len(self.arrays)
        middle, last = range(first, first + len(arrays)), first + len(arrays)
        written = (self.problem.T, self.problem.B, 0, *self.tape, *middle, *numbers, *range(last, last + len(more)))
        tape = Tape()
        tape.numbers.extend(written)
        tape.arrays.extend([*self.arrays, *arrays, *more])
        tape.run(getattr(compiled.LOOPS, loop))

    def over_time(self, spot: Spot) -> Balls:
        """(3,T,B,n): the values of what is not constant."""
        value = self.values[spot.index]
        return value[:, : self.problem.T] if spot.op == "leaf" and spot.name != "x" else value

    def rows(self, spot: Spot) -> Balls:
        """(3,T*B,n): those."""
        return self.over_time(spot).reshape(3, -1, spot.width)


class PairSolution(Solution):
    """A solution whose arrays are known; the rest is arb's, at its first precision, when somebody asks for it."""

    def __init__(self, problem: Problem, arrays: dict[str, Balls], adjoints: dict[str, Balls], known: Rounded) -> None:
        self.problem = problem
        self.N = BallNumbers(FIRST_PRECISION)
        self.known = known
        self._adjoints = adjoints
        self._near = {key: (a[0], a[1], a[2]) for key, a in arrays.items()}

    @cached_property
    def values(self) -> dict[str, list[Scalar]]:  # type: ignore[override]
        """Every array as a flat list of balls."""
        with scope(self.N):
            return {
                key: [arb(h) + arb(m, r) for h, m, r in zip(*(p.reshape(-1).tolist() for p in planes), strict=True)]
                for key, planes in self._near.items()
            }

    @cached_property
    def unrolled(self) -> Unrolled:  # type: ignore[override]
        """The trace."""
        return solve(self.problem, self.N).unrolled

    def adjoint(self, name: str) -> Floats:
        """As `Solution.adjoint`."""
        found: Floats = self._adjoints[name][0]
        return found


def solve_in_pairs(problem: Problem) -> PairSolution | None:
    """A problem's solution in balls of pairs, or None where these say nothing, or are not compiled.

    Error:  enclosed, about 2^-100 of the terms that make a value up.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="tanh")
    >>> found = solve_in_pairs(p)
    >>> found is None or found.near("h")[0].ravel().tolist() == [np.tanh(2), np.tanh(2 + 3 * np.tanh(2))]
    True
    """
    if compiled.LOOPS is None or not sound():
        return None
    with np.errstate(all="ignore"):
        return _solve(problem)


def confirm(solution: Solution) -> None:
    """Hold a solution in pairs against arb's, entry by entry, before anybody is accused on its word.

    Raises: OracleDisagrees, naming the array.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="tanh")
    >>> found = solve_in_pairs(p)
    >>> found is None or confirm(found) is None
    True
    """
    if not isinstance(solution, PairSolution):
        return
    other = decided(solution.problem, lambda found: found.N.name == "rational" or finite(found))
    for key in gradient_shapes(solution.problem):
        (hi, lo, rad), (other_hi, other_lo, other_rad) = solution.near(key), other.near(key)
        apart = np.abs((hi - other_hi) + (lo - other_lo))
        slack = np.abs(lo) * 2.0**-40 + 2.0**-1000  # what is rounded here, and in lo
        if not (apart <= rad + other_rad + slack).all():
            raise OracleDisagrees(f"{key}: the oracle's two enclosures of it have no number in common")


def finite(solution: Solution) -> bool:
    """Whether every value is enclosed at all: a ball that has outgrown all bounds says nothing, nor has it a budget.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="tanh")
    >>> finite(solve(p, BallNumbers(64)))
    True
    """
    return solution.N.name != "arb" or all(v.is_finite() for values in solution.values.values() for v in values)


def _solve(problem: Problem) -> PairSolution | None:
    steps = _Steps(problem)
    T, B, H, states = problem.T, problem.B, problem.H, problem.spec.states
    inputs = steps.skeleton.inputs
    undecided = np.zeros(1)
    steps.call("pairs_forward", [undecided], ())
    if undecided[0]:
        return None
    after = {name: np.ascontiguousarray(steps.values[inputs[name].index][:, 1:]) for name in states}
    arrays = dict(after)
    h = after["h"].reshape(3, -1, H)
    o = after["h"]
    if problem.readout == "linear":
        W, b = exact(problem.params["W_hy"]), exact(problem.params["b_y"])
        o = product(h, W, np.repeat(b[:, None], T * B, axis=1)).reshape(3, T, B, -1)
    loss, do = _loss(problem, o)
    finals = {name: getattr(problem.loss, f"g_{name}_final") for name in states}
    for name, final in finals.items():
        if final is not None:
            more = _total(entrywise("mul", exact(final), after[name][:, -1]))
            loss = entrywise("add", loss[:, None], more[:, None])[:, 0]
    if not np.isfinite(loss).all() or not np.isfinite(do).all():
        return None
    flat_do = do.reshape(3, T * B, -1)
    gradients: dict[str, Balls] = {}
    seeds = {name: np.zeros((3, T, B, H)) for name in states}
    seeds["h"] = do
    if problem.readout == "linear":
        seeds["h"] = product(flat_do, W.swapaxes(1, 2)).reshape(3, T, B, H)
        gradients["dW_hy"], gradients["db_y"] = product(h, flat_do, transposed=True), _column_sums(flat_do)
    lengths = problem.row_lengths
    ends, ending = np.maximum(lengths, 1) - 1, np.flatnonzero(lengths)
    for name, final in finals.items():
        if final is not None:
            placed = np.zeros((3, T, B, H))
            placed[0, ends[ending], ending] = final[ending]
            seeds[name] = entrywise("add", seeds[name], placed)
    totals = {s.index: np.zeros((3, T, B, s.width)) for s in steps.skeleton.spots if s.op != "leaf" and not s.constant}
    known = {name: np.zeros((3, T, B, H)) for name in states}
    initial = {name: np.zeros((3, B, H)) for name in states}
    passes = sweeps(problem.truncation, lengths, T)
    each = [of[name] for name in states for of in (seeds, known, initial)]
    steps.call(
        "pairs_backward",
        [*totals.values(), *map(np.ascontiguousarray, each)],
        (len(passes),),
        [
            np.array([p.seeds for p in passes], dtype=np.float64).reshape(len(passes), T, B),
            np.array([p.first for p in passes], dtype=np.float64).reshape(len(passes), B),
        ],
    )
    gradients |= _parameters(steps, totals)
    for name, final in finals.items():
        if final is not None and not lengths.all():  # a row of length 0 passes it through
            passed = exact(np.where((lengths == 0)[:, None], final, 0))
            initial[name] = entrywise("add", initial[name], passed)
        gradients[f"d{name}0"] = initial[name]
    gradients |= {f"d{name}0": initial[name] for name in states}
    arrays |= {"loss": loss, "o": o} | gradients
    shaped = {key: np.asarray(arrays[key]).reshape(3, *shape) for key, shape in gradient_shapes(problem).items()}
    if not all(np.isfinite(array).all() for array in shaped.values()):
        return None
    finite = {name: value[0] for name, value in after.items()}
    rounded = Rounded(problem, _graph_of(steps), o[0], do[0], {name: value[-1] for name, value in finite.items()})
    return PairSolution(problem, shaped, known, rounded)


def _loss(problem: Problem, o: Balls) -> tuple[Balls, Balls]:
    """The loss (3,) but for the final cotangents, and dL/do (3,T,B,K): as `oracle.unrolled` has them."""
    loss, (T, B, K) = problem.loss, o.shape[1:]
    live = np.arange(T)[:, None] < problem.row_lengths
    if loss.kind == "cotangent":
        assert loss.g is not None
        do = exact(np.where(live[:, :, None], loss.g, 0))
        return _total(entrywise("mul", do, o)), do
    assert loss.target is not None
    w = spread(ratios(row_weights(problem))[:, None, :, None], (3, T, B, K))
    w = w * live[:, :, None]
    if loss.kind == "squared_error":
        assert loss.scale is not None
        difference = entrywise("sub", o, exact(np.where(live[:, :, None], loss.target, 0)))
        weighted = entrywise("mul", entrywise("mul", difference, w), exact(np.array([loss.scale])).reshape(3, 1, 1, 1))
        return _total(entrywise("mul", weighted, difference)), 2 * weighted
    labels = loss.target.ndim == 2
    y = exact((np.arange(K) == loss.target[:, :, None]) if labels else np.where(live[:, :, None], loss.target, 0))
    shift = exact(o[0].max(axis=-1, keepdims=True))
    shifted = entrywise("sub", o, shift)
    powers = entrywise("exp", shifted)
    totals = entrywise("row sums", powers)[..., None]
    share = entrywise("div", powers, totals)
    if not labels:
        share = entrywise("mul", share, entrywise("row sums", y)[..., None])
    do = entrywise("mul", entrywise("sub", share, y), w)
    from_log = entrywise("sub", spread(entrywise("log", totals), o.shape), shifted)
    return _total(entrywise("mul", entrywise("mul", y, w), from_log)), do


def _parameters(steps: _Steps, totals: dict[int, Balls]) -> dict[str, Balls]:
    """The gradients of what every step shares, and dx: sums over time, from each node's adjoint."""
    problem, found = steps.problem, dict[int, Balls]()
    dx, ones = np.zeros((3, problem.T * problem.B, problem.D)), exact(np.ones((problem.T * problem.B, 1)))

    def of(spot: Spot) -> Balls:
        if spot.index not in found:
            found[spot.index] = np.zeros((3, spot.rows, spot.width))
        return found[spot.index]

    spots = steps.skeleton.spots
    for spot in spots:
        if spot.op not in ("linear", "mul") or spot.constant:
            continue
        dz = totals[spot.index].reshape(3, -1, spot.width)
        if spot.op == "mul":
            for this, other in (spot.inputs, spot.inputs[::-1]):
                if this.constant:
                    product(ones, entrywise("mul", dz, steps.rows(other)), of(this), transposed=True)
            continue
        for i in range(spot.products):
            X, W = spot.inputs[2 * i : 2 * i + 2]
            product(steps.rows(X), dz, of(W), transposed=True)
            if X.name == "x":
                product(dz, steps.values[W.index].swapaxes(1, 2), dx)
        for addend in spot.inputs[2 * spot.products :]:
            if addend.constant:
                product(ones, dz, of(addend), transposed=True)
    for spot in reversed(spots):  # blocks of columns flow back into the parameter that they were cut from
        if spot.constant and spot.op == "columns" and spot.index in found:
            part = of(spot.inputs[0])[..., slice(*(spot.extra or ()))]
            part[:] = entrywise("add", part, found[spot.index])
    leaves = [spot for spot in spots if spot.constant and spot.op == "leaf" and spot.name not in ("W_hy", "b_y")]
    return {"dx": dx} | {f"d{spot.name}": of(spot) for spot in leaves}


def _graph_of(steps: _Steps) -> Graph:
    """The graph that the budget reads: `oracle.budget.graph.build_graph` of the same problem."""
    problem, places = steps.problem, list[Place]()
    for spot in steps.skeleton.spots:
        value = steps.values[spot.index][0] if spot.constant else steps.over_time(spot)[0]
        inputs = tuple(i.index for i in spot.inputs)
        extra = spot.extra if spot.op == "columns" and not spot.constant else None
        place = Place(spot.op, spot.name, inputs, spot.products, extra, spot.constant, value)
        if spot.op in ACTIVATIONS:
            place.slope = slope_of(spot.op, places[inputs[0]].value)
        places.append(place)
    graph = Graph(
        places,
        problem.spec.states,
        {name: spot.index for name, spot in steps.skeleton.outputs.items()},
        {name: spot.index for name, spot in steps.skeleton.inputs.items() if name != "x"},
        np.arange(problem.T)[:, None] < problem.row_lengths[None, :],
        [
            (s.index, s.inputs[0].index, s.extra)
            for s in steps.skeleton.spots
            if s.constant and s.op == "columns" and s.extra is not None
        ],
    )
    count_consumers(graph, problem.K if problem.readout == "linear" else 1)
    return graph


__all__ = ["PairSolution", "confirm", "solve_in_pairs"]
