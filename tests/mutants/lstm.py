"""Planted bugs for the LSTM cells, each usable as `tests/mutants/lstm.py:name`; as tests/mutants/elman.py in all else.

A bug is a subclass of the correct NumPy cell, or of what it sees of a problem; it offers its own cell alone.
"""
# ruff: noqa: N801, D101 - the class has the name that the adapter is called by, and its sentence stands above it

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from implementations import numpy_bptt
from implementations.numpy_cells import Array, Arrays, Named, Step
from implementations.numpy_cells.lstm import Lstm
from implementations.numpy_cells.lstm_1997 import Lstm1997
from implementations.numpy_cells.lstm_peephole import LstmPeephole

Adapter = Callable[[Any], dict[str, Any]]


class Planted(NamedTuple):
    """A planted bug and what is known about it, as in the Elman table, and the cell that it is in."""

    gradients: Adapter
    sentence: str
    cell: str
    caught_by: str


PLANTED: dict[str, Planted] = {}


def planted(sentence: str, *, cell: str, caught_by: str) -> Callable[[Any], Adapter]:
    """Enter a subclass of a correct cell in `PLANTED` and make an adapter of it."""

    def register(mutant: Any) -> Adapter:
        def gradients(problem: Any) -> dict[str, Any]:
            made = mutant(problem.truncation.kind == "cec") if cell == "lstm_1997" else mutant()
            seen = mutant.seen(problem) if hasattr(mutant, "seen") else problem
            with np.errstate(all="ignore"):
                return numpy_bptt._solve(seen, made)

        gradients.SUPPORTS = numpy_bptt.SUPPORTS | {"cells": [cell]}  # type: ignore[attr-defined]
        gradients.__name__ = gradients.__qualname__ = mutant.__name__
        gradients.__doc__ = sentence
        PLANTED[mutant.__name__] = Planted(gradients, sentence, cell, caught_by)
        return gradients

    return register


@planted("The gradient of c passes by the forget gate.", cell="lstm", caught_by="cell-state-jacobian")
class cell_gradient_without_forget_gate(Lstm):
    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        dx, (dh_prev, dc_prev) = super().backward(params, step, dnow, grads)
        return dx, (dh_prev, dc_prev / step.gates[1])


@planted(
    "What h sends into c is left out: dc is handed on as it came.", cell="lstm_1997", caught_by="cell-state-jacobian"
)
class cell_gradient_without_output(Lstm1997):
    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        dx, (dh_prev, _) = super().backward(params, step, dnow, grads)
        return dx, (dh_prev, dnow[1].copy())


@planted("Under cec errors travel through h all the same.", cell="lstm_1997", caught_by="cell-state-jacobian")
class carousel_ignored(Lstm1997):
    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        return Lstm1997(cec=False).backward(params, step, dnow, grads)


@planted("Under cec the gradient of c decays by 1e-9 a step.", cell="lstm_1997", caught_by="cell-state-jacobian")
class carousel_decays(Lstm1997):
    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        dx, (dh_prev, dc_prev) = super().backward(params, step, dnow, grads)
        return dx, (dh_prev, dc_prev * dc_prev.dtype.type(1 - 1e-9 if self.cec else 1))


@planted("The peepholes send nothing back into the cell state.", cell="lstm_peephole", caught_by="cell-state-jacobian")
class peepholes_send_nothing_back(LstmPeephole):
    def backward(self, params: Named, step: Step, dnow: Arrays, grads: Named) -> tuple[Array, Arrays]:
        silent = params | {name: np.zeros_like(params[name]) for name in ("p_i", "p_f", "p_o")}
        return super().backward(silent, step, dnow, grads)


@planted("The cotangent on the final c is ignored.", cell="lstm", caught_by="final-cotangent")
class final_cell_cotangent_ignored(Lstm):
    @staticmethod
    def seen(problem: Any) -> Any:
        loss = SimpleNamespace(**vars(problem.loss) | {"g_c_final": None})
        return SimpleNamespace(**vars(problem) | {"loss": loss})
