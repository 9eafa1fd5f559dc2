"""Planted bugs of training loops, in targets that only supply gradients: `tests/mutants/training.py:name`.

Each is right on every problem that it meets for the first time; what it keeps from call to call is keyed by the inputs
and not by the weights, so that it shows where the same inputs come back under other weights, as in training.
"""
# ruff: noqa: N801 - the class has the name that the adapter is called by

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from elman_base import SUPPORTS, Adapter, Array, Elman

__all__ = ["PLANTED", "SUPPORTS", "Planted"]


class Planted(NamedTuple):
    """A planted bug and what is known about it, as in the Elman table."""

    gradients: Adapter
    sentence: str
    caught_by: str
    needs: str


PLANTED: dict[str, Planted] = {}


def planted(sentence: str, *, caught_by: str, needs: str) -> Callable[[type[Elman]], Adapter]:
    """Enter a subclass of the correct BPTT in `PLANTED` and make an adapter of it."""

    def register(mutant: type[Elman]) -> Adapter:
        def gradients(problem: Any) -> dict[str, Any]:
            return mutant(problem).solve()

        gradients.__name__ = gradients.__qualname__ = mutant.__name__
        gradients.__doc__ = sentence
        PLANTED[mutant.__name__] = Planted(gradients, sentence, caught_by, needs)
        return gradients

    return register


def inputs_of(problem: Any, steps: int) -> bytes:
    """The initial state and the first steps of the inputs, which name a sequence whatever the weights."""
    h0 = b"" if problem.h0 is None else np.asarray(problem.h0).tobytes()
    return bytes(problem.activation, "ascii") + h0 + np.ascontiguousarray(problem.x[:steps]).tobytes()


@planted(
    "The weights are updated between the forward and the backward pass: the states are those of before the update.",
    caught_by="training-trajectory",
    needs="the same sequence twice in a row, under other weights",
)
class updated_between_forward_and_backward(Elman):
    kept: ClassVar[dict[str, Any]] = {}

    def forward(self) -> None:
        name = (self.x.shape, self.H, inputs_of(self.problem, self.T))
        if self.kept.get("name") != name:
            super().forward()
            self.kept.update(name=name, a=self.a.copy(), h=self.h.copy())
            return
        self.a, self.h = self.kept["a"].copy(), self.kept["h"].copy()
        self.o = self.readout()


@planted(
    "The state carried on is the one that the unfolded pass had left behind, from before the weights changed.",
    caught_by="training-trajectory",
    needs="one step from the state where a call before it began, under other weights",
)
class state_carried_from_before_the_update(Elman):
    begun: ClassVar[dict[str, Any]] = {}

    def forward(self) -> None:
        super().forward()
        name = (self.x.shape[1:], self.H, inputs_of(self.problem, 1))
        if self.T == 1 and self.begun.get("name") == name:
            self.h[1] = self.begun["state"]
            self.o = self.readout()
        else:
            state: Array = self.h[1].copy()
            self.begun.update(name=name, state=state)
