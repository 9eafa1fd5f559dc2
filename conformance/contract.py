"""What an answer must be: a dict of real floating arrays of the right shapes, in the problem's dtype or a wider one."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from bptt.problem import DTYPES, Problem, gradient_shapes
from conformance.errors import ContractBroken, describe
from properties.base import Answer

ALIASES = ("float16", "float32", "float64", "longdouble")


def as_seen(problem: Problem) -> SimpleNamespace:
    """The problem as an adapter sees it: plain names, numbers and fresh arrays of its own."""

    def copy(array: Any) -> Any:
        return None if array is None else np.array(array)

    loss, truncation = problem.loss, problem.truncation
    return SimpleNamespace(
        cell=problem.cell,
        activation=problem.activation,
        readout=problem.readout,
        params={name: copy(array) for name, array in problem.params.items()},
        x=copy(problem.x),
        h0=copy(problem.h0),
        c0=copy(problem.c0),
        lengths=copy(problem.lengths),
        loss=SimpleNamespace(
            kind=loss.kind,
            g=copy(loss.g),
            g_h_final=copy(loss.g_h_final),
            g_c_final=copy(loss.g_c_final),
            target=copy(loss.target),
            scale=loss.scale,
            time_reduction=loss.time_reduction,
            batch_reduction=loss.batch_reduction,
        ),
        truncation=SimpleNamespace(kind=truncation.kind, k=truncation.k, k1=truncation.k1, k2=truncation.k2),
        dtype=problem.dtype,
    )


def check_untouched(problem: Problem, seen: SimpleNamespace) -> None:
    """Raises: ContractBroken if the target changed an array that it was given."""
    for name, array in problem.arrays():
        holder: Any = seen
        *path, last = name.split(".")
        for part in path:
            holder = getattr(holder, part)
        now = holder.get(last) if isinstance(holder, dict) else getattr(holder, last, None)
        if not isinstance(now, np.ndarray) or now.shape != array.shape or now.dtype != array.dtype:
            raise ContractBroken(f"{name}: the target replaced its input; expected it untouched")
        if now.tobytes() != array.tobytes():
            at = np.argwhere(np.atleast_1d(now != array))
            where = f"[{','.join(str(int(i)) for i in at[0])}]" if len(at) else ""
            raise ContractBroken(f"{name}{where}: the target changed its input; expected it untouched")


def read_answer(problem: Problem, answer: Any) -> tuple[Answer, list[str]]:
    """The claimed arrays and the names of extra keys.

    Raises: ContractBroken, naming the key, what was got and what was wanted.
    """
    if not isinstance(answer, Mapping):
        raise ContractBroken(f"answer: got {type(answer).__name__}, want a dict of arrays (loss, h, dW_hh, ...)")
    shapes = gradient_shapes(problem)
    claimed: Answer = {}
    extra = []
    for key, value in answer.items():
        if key not in shapes:
            extra.append(str(key)[:80])
        elif value is not None:
            claimed[key] = _array(key, value, shapes[key], problem.dtype)
    return {key: claimed[key] for key in shapes if key in claimed}, sorted(extra)


def _array(key: str, value: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        raise ContractBroken(f"{key}: got a masked array, want a plain one")
    try:
        array = np.asarray(value)
    except BaseException as error:  # a foreign array type may raise anything, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ContractBroken(f"{key}: numpy.asarray cannot read it ({describe(error)})") from error
    if array.dtype.kind != "f":
        raise ContractBroken(f"{key}: got dtype {array.dtype}, want {DTYPES[dtype]} or a wider real floating dtype")
    if array.dtype.itemsize < DTYPES[dtype].itemsize:
        raise ContractBroken(f"{key}: got dtype {array.dtype}, want {DTYPES[dtype]} or wider for a {dtype} problem")
    if array.shape != shape:
        raise ContractBroken(f"{key}: got shape {array.shape}, want {shape}")
    return np.array(array, dtype=array.dtype.newbyteorder("="))
