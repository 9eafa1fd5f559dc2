"""Whether a target answers anything at all of a cell and dtype: one problem of every configuration that it offers.

Support is a function of names and flags: a target that declines one problem of each configuration serves none, and
there is nothing to be learned by asking on. One that answers a single one of them is searched as long as any other.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.errors import ProblemError
from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from conformance.bench import TargetBench
from conformance.diagnosis.family import alike
from conformance.errors import ContractBroken, Declined, TargetCrash
from conformance.stopping import STOP
from conformance.targets import Target
from properties.strategies import Shape, offered

SIZES = ((7, 3, 4, 5, 3), (16, 8, 16, 16, 16), (4, 2, 2, 4, 4), (5, 32, 32, 32, 32), (1, 1, 1, 2, 2), (12, 4, 8, 24, 8))
"""T, B, D, H, K, in turn: a kernel may take multiples of its tile alone, which is a fault to be found, no support."""
_CUTS = {"window": {"k": 2}, "chunk": {"k": 2}, "periodic": {"k1": 2, "k2": 3}}
_UNWILLING: weakref.WeakKeyDictionary[Callable[[Any], Any], set[tuple[str, str]]] = weakref.WeakKeyDictionary()


def willing(target: Target, cell: str, dtype: str) -> bool:
    """Whether there is a configuration that the target does anything with but decline it.

    A no is remembered, since no search follows it; a yes is found anew, so that what follows depends on nothing before.
    """
    known: set[tuple[str, str]] = set()
    with contextlib.suppress(TypeError):  # a callable may be of a kind that cannot be remembered
        known = _UNWILLING.setdefault(target.call, known)
    if (cell, dtype) in known:
        return False
    bench = TargetBench(target, dtype)
    for problem in every_configuration(target.support, cell, dtype):
        STOP.check()
        try:
            bench.run(problem)
        except Declined:
            continue
        except (ContractBroken, TargetCrash):
            return True
        return True
    known.add((cell, dtype))
    return False


def every_configuration(support: Support, cell: str, dtype: str) -> Iterator[Problem]:
    """A generic problem of each configuration that a target offers, of sizes in turn."""
    shape, states = offered(support, cell), CELLS[cell].states
    one = np.ones((2, 2, 2))
    params = {name: np.ones(dimensions) for name, dimensions in CELLS[cell].shapes(2, 2).items()}
    choices = itertools.product(
        shape.activations,
        shape.readouts,
        _losses(shape, states),
        shape.truncations,
        (False, True) if shape.lengths else (False,),
        (False, True) if shape.h0_none else (False,),
    )
    for number, (activation, readout, loss, cut, lengths, none) in enumerate(choices):
        linear = {"W_hy": one[0], "b_y": one[0, 0]} if readout == "linear" else {}
        initial: dict[str, Any] = {f"{state}0": None if none else one[0] for state in states}
        try:
            like = Problem(
                cell,
                params | linear,
                one,
                loss,
                **initial,
                activation=activation,
                readout=readout,
                lengths=np.array([2, 1]) if lengths else None,
                truncation=Truncation(cut, **_CUTS.get(cut, {})),
            )
            yield alike(like, SIZES[number % len(SIZES)], number, support, dtype=dtype)
        except ProblemError:
            continue


def _losses(shape: Shape, states: tuple[str, ...]) -> list[Loss]:
    one = np.ones((2, 2, 2))
    losses: list[Loss] = []
    if "cotangent" in shape.losses:
        ends = [f"g_{state}_final" for state in states] if shape.finals else []
        parts = itertools.chain.from_iterable(itertools.combinations(ends, n) for n in range(len(ends) + 1))
        losses += [Loss("cotangent", g=one, **dict.fromkeys(part, one[0])) for part in parts]
    batches = [r for r in shape.reductions if r != "tokens"] or ["sum"]
    for time in shape.reductions:
        for batch in ["tokens"] if time == "tokens" else batches:
            squared = Loss("squared_error", target=one, scale=0.5, time_reduction=time, batch_reduction=batch)
            entropy = replace(squared, kind="cross_entropy", target=one / 2, scale=None)
            losses += [squared] if "squared_error" in shape.losses else []
            if "cross_entropy" in shape.losses:
                losses += [entropy, replace(entropy, target=np.zeros((2, 2), np.int64))]
    return losses


__all__ = ["every_configuration", "willing"]
