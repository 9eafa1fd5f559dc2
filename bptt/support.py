"""What an implementation offers: the `SUPPORTS` declaration of an adapter, read strictly. What is absent is offered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from bptt.cells import CELLS
from bptt.errors import ProblemError
from bptt.problem import DTYPES, LOSSES, READOUTS, REDUCTIONS, Problem
from bptt.truncation import KINDS

ACTIVATIONS = ("tanh", "sigmoid", "relu", "identity")
_NAMES: dict[str, tuple[str, ...]] = {
    "cells": tuple(CELLS),
    "activations": ACTIVATIONS,
    "readouts": READOUTS,
    "losses": LOSSES,
    "reductions": REDUCTIONS,
    "truncations": KINDS,
    "dtypes": tuple(DTYPES),
}
_FLAGS = ("lengths", "h0_none", "final_cotangents", "deterministic")
_DEFAULT_FLAGS = {"lengths": True, "h0_none": False, "final_cotangents": True, "deterministic": False}
SIZE_NAMES = ("T", "B", "D", "H", "K")


def _keys() -> tuple[str, ...]:
    """Every key that an answer of some cell may have."""
    cells = CELLS.values()
    states = dict.fromkeys(state for cell in cells for state in cell.states)
    parameters = dict.fromkeys(name for cell in cells for name in (*cell.shapes(1, 1), "W_hy", "b_y"))
    return ("loss", *states, "o", *(f"d{name}" for name in parameters), "dx", *(f"d{state}0" for state in states))


KEYS = _keys()


@dataclass(frozen=True)
class Support:
    """The names, flags and sizes within which a target must answer. `outputs` are the keys it claims; None: all."""

    cells: tuple[str, ...] = _NAMES["cells"]
    activations: tuple[str, ...] = ACTIVATIONS
    readouts: tuple[str, ...] = READOUTS
    losses: tuple[str, ...] = LOSSES
    reductions: tuple[str, ...] = REDUCTIONS
    truncations: tuple[str, ...] = KINDS
    dtypes: tuple[str, ...] = ("float64", "float32")
    outputs: tuple[str, ...] | None = None
    lengths: bool = True
    h0_none: bool = False
    final_cotangents: bool = True
    deterministic: bool = False
    max_size: Mapping[str, int] = field(default_factory=dict)
    accumulate: str | None = None
    elementary_ulp: float = 4.0
    subnormals: str = "keep"

    def serves(self, problem: Problem) -> bool:
        """Whether a problem lies within what is offered, so that it must be answered.

        >>> import numpy as np
        >>> from bptt.problem import Loss
        >>> one = np.ones((1, 1))
        >>> p = Problem("elman", {"W_xh": one, "W_hh": one, "b_h": one[0]}, np.ones((3, 1, 1)),
        ...             Loss("cotangent", g=np.ones((3, 1, 1))), h0=one, activation="tanh")
        >>> Support().serves(p), Support(max_size={"T": 2}).serves(p), Support(losses=("squared_error",)).serves(p)
        (True, False, False)
        """
        loss = problem.loss
        return (
            problem.cell in self.cells
            and (problem.activation is None or problem.activation in self.activations)
            and problem.readout in self.readouts
            and loss.kind in self.losses
            and (loss.kind == "cotangent" or {loss.time_reduction, loss.batch_reduction} <= set(self.reductions))
            and problem.truncation.kind in self.truncations
            and problem.dtype in self.dtypes
            and (self.lengths or problem.lengths is None)
            and (self.h0_none or problem.h0 is not None)
            and (self.final_cotangents or (loss.g_h_final is None and loss.g_c_final is None))
            and all(getattr(problem, name) <= limit for name, limit in self.max_size.items())
        )


def read_support(declared: object) -> Support:
    """Check an adapter's SUPPORTS. Raises: ProblemError, one line that names the key, its value and what was expected.

    >>> read_support({"cells": ["elman"], "lengths": False}).cells
    ('elman',)
    >>> read_support({"cell": ["elman"]})
    Traceback (most recent call last):
    bptt.errors.ProblemError: SUPPORTS: unknown key 'cell'; expected some of cells, activations, readouts, losses, \
reductions, truncations, dtypes, outputs, lengths, h0_none, final_cotangents, deterministic, max_size, accumulate, \
elementary_ulp, subnormals
    """
    if declared is None:
        return Support()
    if not isinstance(declared, Mapping):
        raise ProblemError(f"SUPPORTS: got {type(declared).__name__}, expected a dict")
    known = [f.name for f in fields(Support)]
    values: dict[str, Any] = {}
    for key, value in declared.items():
        if key not in known:
            raise ProblemError(f"SUPPORTS: unknown key {key!r}; expected some of {', '.join(known)}")
        values[key] = _value(str(key), value)
    return Support(**values)


def _value(key: str, value: Any) -> Any:
    if key in _NAMES or key == "outputs":
        listed = isinstance(value, Collection) and not isinstance(value, str | bytes)
        if not listed or not all(isinstance(name, str) for name in value):
            raise ProblemError(f"SUPPORTS[{key!r}]: got {value!r}, expected a list of names")
        known = _NAMES.get(key, KEYS)
        for name in value:
            if name not in known:
                raise ProblemError(f"SUPPORTS[{key!r}]: got {name!r}, expected some of {', '.join(known)}")
        return tuple(n for n in _NAMES[key] if n in value) if key in _NAMES else tuple(value)
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise ProblemError(f"SUPPORTS[{key!r}]: got {value!r}, expected True or False")
    elif key == "max_size":
        ok = isinstance(value, Mapping) and all(n in SIZE_NAMES and type(v) is int and v >= 1 for n, v in value.items())
        if not ok:
            raise ProblemError(
                f"SUPPORTS['max_size']: got {value!r}, expected {{'T': …, 'B': …, …}} with integers from 1"
            )
        return dict(value)
    elif key == "accumulate":
        if value is not None and value not in tuple(DTYPES):
            raise ProblemError(f"SUPPORTS['accumulate']: got {value!r}, expected one of {', '.join(DTYPES)}")
    elif key == "elementary_ulp":
        if not (isinstance(value, int | float) and not isinstance(value, bool) and 0.5 <= value <= 2.0**20):
            raise ProblemError(f"SUPPORTS['elementary_ulp']: got {value!r}, expected a number from 0.5 to 2^20")
        return float(value)
    elif value not in ("keep", "flush"):
        raise ProblemError(f"SUPPORTS['subnormals']: got {value!r}, expected 'keep' or 'flush'")
    return value
