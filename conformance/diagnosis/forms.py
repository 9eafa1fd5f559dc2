"""Answers of the wrong form that hold the right numbers: transposed, batch-first, an axis too many; and the repair.

A repair is a line of Python for the adapter and the function that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bptt.problem import DTYPES, Problem, gradient_shapes
from conformance.diagnosis.tape import Array

Fix = Callable[[Array], Array]


@dataclass(frozen=True)
class Repair:
    """What is wrong with the form of an array, the line that mends it, and the line as a function."""

    key: str
    wrong: str
    line: str
    fix: Fix


def repairs(problem: Problem, raw: Any) -> tuple[list[Repair], list[str]]:
    """The repairs that make an answer what an answer must be, and what no known repair mends.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> p = Problem("elman", {"W_xh": np.ones((2, 1)), "W_hh": one, "b_h": one[0]}, np.ones((3, 1, 2)),
    ...             Loss("cotangent", g=np.ones((3, 1, 1))), activation="tanh")
    >>> [r.line for r in repairs(p, {"dW_xh": np.ones((1, 2)), "db_h": one})[0]]
    ["answer['dW_xh'] = answer['dW_xh'].T", "answer['db_h'] = answer['db_h'].reshape((1,))"]
    """
    if not isinstance(raw, Mapping):
        return [], [f"the answer is a {type(raw).__name__}; expected a dict of arrays (loss, h, dW_hh, ...)"]
    found, rest = [], []
    for key, shape in gradient_shapes(problem).items():
        value = raw.get(key)
        if value is None:
            continue
        try:
            array = np.asarray(value)
        except Exception as error:  # noqa: BLE001 - what comes from a target may raise anything
            rest.append(f"{key}: numpy.asarray cannot read it ({type(error).__name__})")
            continue
        if array.dtype.kind != "f" or array.dtype.itemsize < DTYPES[problem.dtype].itemsize:
            rest.append(f"{key}: its dtype is {array.dtype}; expected {DTYPES[problem.dtype]} or a wider float")
        if array.shape == shape:
            continue
        found_one = _shape(key, array.shape, shape)
        if found_one is None:
            rest.append(f"{key}: its shape is {array.shape}; expected {shape}")
        else:
            found.append(found_one)
    return found, rest


def _shape(key: str, got: tuple[int, ...], want: tuple[int, ...]) -> Repair | None:
    here = f"answer[{key!r}]"
    wrong = f"{key}: its shape is {got}; expected {want}"
    if len(got) == 2 and got[::-1] == want:
        return Repair(key, f"{wrong}: transposed", f"{here} = {here}.T", lambda v: v.T)
    if len(got) == 3 and (got[1], got[0], got[2]) == want:
        return Repair(
            key, f"{wrong}: batch-first", f"{here} = {here}.transpose(1, 0, 2)", lambda v: v.transpose(1, 0, 2)
        )
    if len(want) == 3 and got == (want[0] + 1, *want[1:]):
        return Repair(key, f"{wrong}: the initial state stands first", f"{here} = {here}[1:]", lambda v: v[1:])
    if tuple(n for n in got if n != 1) == tuple(n for n in want if n != 1):
        return Repair(key, f"{wrong}: axes of length 1", f"{here} = {here}.reshape({want})", lambda v: v.reshape(want))
    if want == () and len(got) in (1, 2):
        return Repair(key, f"{wrong}: it is not summed", f"{here} = {here}.sum()", lambda v: np.asarray(v.sum()))
    return None


def mended(call: Callable[[Any], Any], found: list[Repair]) -> Callable[[Any], Any]:
    """A target's function with the repairs made."""

    def gradients(problem: Any) -> Any:
        answer = call(problem)
        if not isinstance(answer, Mapping):
            return answer
        out = dict(answer)
        for repair in found:
            if out.get(repair.key) is not None:
                out[repair.key] = np.ascontiguousarray(repair.fix(np.asarray(out[repair.key])))
        return out

    return gradients
