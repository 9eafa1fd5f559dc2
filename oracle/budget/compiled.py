"""The step loops of the budget, compiled: the same bounds as those in NumPy, but for roundings.

On a small problem NumPy's calls take far longer than what they compute. `oracle/csrc` has the two loops that make most
of them, those over the steps of the forward errors and of the backward passes; all else is in NumPy, and on large
problems its matrix products are faster. Without a compiler, and for arithmetics that few targets declare, the loops in
NumPy do all of it. tests/test_compiled_budget.py holds the two against each other.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from oracle.budget.graph import ACTIVATIONS, Floats, Graph, spread
from oracle.budget.model import Model

if TYPE_CHECKING:
    from bptt.truncation import Sweep
    from oracle.budget.backward import Seeds, _Passes
    from oracle.budget.forward import _Steps

LOOPS: Any = None
"""The compiled module, or None without one."""
with contextlib.suppress(ImportError):
    from oracle import _steps  # type: ignore[attr-defined]  # compiled

    LOOPS = _steps

OPS = ("leaf", "linear", "mul", "add", "mix", "columns", "hold", *("tanh", "sigmoid", "relu", "identity"))
MOST_INPUTS = 16
FEW_STATES = 16
"""Products of so few states are no work for a BLAS: the compiled loops are the faster ones, however many steps."""
PAYS = 1e7
"""With more states they are up to so many multiplications, of products of Jacobians with (S, width)."""


def pays(graph: Graph, model: Model, lengths: Sequence[int], width: int) -> bool:
    """Whether to take the compiled loops, for passes of these lengths: a step meets S rows of each earlier one."""
    if LOOPS is None or model.flush or model.accumulate not in (None, model.dtype):
        return False
    if any(place.op not in OPS or len(place.inputs) > MOST_INPUTS for place in graph.places):
        return False
    products = graph.active.shape[1] * sum(n * n for n in lengths) / 2
    return graph.S <= FEW_STATES or products * graph.S**2 * width < PAYS


class Tape:
    """Integers, reals and arrays in the order in which oracle/csrc reads them; an array is on it by its index."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.reals: list[float] = []
        self.arrays: list[Floats] = []

    def write(self, *numbers: int) -> None:
        """Integers."""
        self.numbers.extend(numbers)

    def real(self, *reals: float) -> None:
        """Reals, by their indices."""
        for value in reals:
            self.numbers.append(len(self.reals))
            self.reals.append(value)

    def array(self, *arrays: Floats | None) -> None:
        """Arrays that are read or written, by their indices; None is none."""
        for values in arrays:
            self.numbers.append(-1 if values is None else len(self.arrays))
            if values is not None:
                self.arrays.append(values)

    def copy(self, values: Any, shape: tuple[int, ...] | None = None) -> None:
        """An array that is read, of whatever layout and type, broadcast to a shape; None is none."""
        if values is None:
            self.array(None)
            return
        if shape is not None and values.shape != shape:
            values = spread(values, shape)
        self.array(np.ascontiguousarray(values, dtype=np.float64))

    def run(self, loop: Any) -> None:
        """Hand it over."""
        loop(array("q", self.numbers).tobytes(), array("d", self.reals).tobytes(), self.arrays)


def forward(steps: _Steps) -> None:
    """All steps of the forward errors, row by row, into what `steps` keeps."""
    graph, model, rules = steps.graph, steps.model, steps.rules
    (T, B), kinks, tape = graph.active.shape, np.zeros(1), Tape()
    tape.write(T, B, graph.S, steps.signed.shape[-1])
    tape.real(model.u, model.eta, model.eta_function, model.ulp, model.overflow, steps.kappa, steps.tiny)
    for values in (graph.active, steps.J, steps.J_abs, steps.signed, steps.absolute):
        tape.copy(values)
    tape.array(steps.states, kinks)
    tape.write(len(graph.places))
    at = 0
    for k, place in enumerate(graph.places):
        state, lane = -1, steps.columns[k].start if k in steps.columns else -1
        if k in graph.inputs.values():
            state, at = at, at + place.value.shape[-1]
        rows = place.value.shape[0] if place.constant else 0
        tape.write(OPS.index(place.op), place.constant, rows, place.value.shape[-1], place.products)
        tape.write(len(place.inputs), *place.inputs, place.extra[0] if place.extra else 0, lane, state)
        tape.array(place.value)
        if not place.constant:
            tape.array(steps.nodes[k])
            if place.op in ACTIVATIONS:
                tape.copy(place.slope)
            if place.op == "linear":
                tape.copy(rules.fixed[k])
                tape.copy(rules.terms[k])
    tape.write(len(graph.outputs), *graph.outputs.values())
    tape.write(len(steps.probes))
    for name, probe in steps.probes.items():
        tape.write(probe.signed.shape[-1])
        tape.real(probe.roundings)
        tape.copy(probe.signed)
        tape.copy(probe.absolute)
        tape.array(steps.probed[name])
    tape.run(LOOPS.forward)
    rules.kinks = int(kinks[0])


def backward(engine: _Passes, seeds: Seeds, passes: Sequence[Sweep]) -> None:
    """All passes of a truncation, each row of each on its own, into what the engine keeps."""
    graph, rules = engine.graph, engine.rules
    (T, B), tape, peak = graph.active.shape, Tape(), np.array([rules.peak])
    tape.write(T, B, graph.S, next(p.value.shape[-1] for p in graph.places if p.name == "x"), engine.cut.shape[-2])
    tape.write(len(passes))
    tape.real(rules.model.u, engine.slack, engine.tiny)
    tape.copy(np.array([sweep.seeds for sweep in passes]))
    tape.copy(np.array([sweep.first for sweep in passes]))
    for values in (engine.Jt, engine.J_abs, engine.cut, seeds.values, seeds.errors, seeds.scales):
        tape.copy(values)
    tape.array(*engine.initial, peak)
    tape.write(len(graph.places))
    cut = 0
    for k, place in enumerate(graph.places):
        tape.write(OPS.index(place.op), place.constant)
        if place.constant:
            continue
        tape.write(place.value.shape[-1])
        tape.array(engine.kept[k])
        tape.write(cut if k in engine.cuts else -1)
        if k in engine.cuts:
            tape.copy(engine.cuts[k][1])
            cut += place.value.shape[-1]
        _groups(tape, engine, k)
        if place.op == "columns":
            tape.write(place.inputs[0], place.extra[0] if place.extra else 0)
        if place.op == "linear":
            _linear(tape, engine, k)
        edges = rules.edges.get(k, ())
        tape.write(len(edges))
        for edge in edges:
            tape.write(edge.into)
            for part in (edge.factor, edge.size, edge.gain, edge.there):
                tape.copy(part, place.value.shape)
            tape.real(edge.lost)
            tape.copy(edge.float64, place.value.shape)
    for states in (graph.outputs, graph.inputs):
        tape.write(len(states), *states.values())
    tape.run(LOOPS.backward)
    rules.peak = float(peak[0])


def _groups(tape: Tape, engine: _Passes, k: int) -> None:
    """What the terms of the gradients at a place are added up in."""
    groups = engine.rules.groups.get(k)
    if groups is None:
        tape.write(0)
        return
    tape.write(groups.X.shape[-1])
    tape.copy(groups.X)
    tape.copy(groups.factor)
    tape.array(groups.by_loss, groups.summed, groups.lost)


def _linear(tape: Tape, engine: _Passes, k: int) -> None:
    """The products of a linear, and the columns of x among them."""
    products = engine.rules.products[k]
    tape.write(products.W.shape[-1])
    tape.copy(products.W)
    tape.copy(products.size)
    tape.array(engine.inputs[k])
    tape.write(len(products.into))
    for into, columns, terms, underflown, _ in products.into:
        tape.write(into, columns.start)
        tape.real(terms, underflown)
    tape.write(len(products.x), *(columns.start for columns in products.x))


__all__ = ["backward", "forward", "pays"]
