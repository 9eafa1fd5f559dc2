"""What an answer must be: a dict of real floating arrays of the right shapes, in the problem's dtype or a wider one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from bptt.problem import DTYPES, Problem, gradient_shapes
from conformance.errors import ContractBroken, describe
from properties.base import Answer

ALIASES = ("float16", "float32", "float64", "longdouble")


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """A fresh copy of an array (of at least one axis) that lies in memory in one of the LAYOUTS.

    Where it is strided, what lies between its entries is NaN: whoever ignores the strides shows it.

    >>> laid_out(np.arange(4.0), "strided").strides, laid_out(np.arange(4.0), "reversed").strides
    ((16,), (-8,))
    """
    if layout == "Fortran-ordered":
        return np.array(array, order="F")
    if layout == "strided":
        filler = np.nan if array.dtype.kind == "f" else 0
        whole = np.full((*array.shape[:-1], 2 * array.shape[-1]), filler, dtype=array.dtype)
        whole[..., ::2] = array
        return whole[..., ::2]
    if layout == "reversed":
        return np.array(array[::-1], order="C")[::-1]
    fresh = np.array(array, order="C")
    fresh.flags.writeable = layout != "read-only"
    return fresh


def as_seen(problem: Problem, layout: str = "plain") -> SimpleNamespace:
    """The problem as an adapter sees it: plain names, numbers and fresh arrays of its own."""

    def copy(array: Any) -> Any:
        return None if array is None else laid_out(array, layout)

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


def malformed(problem: Problem, fault: str) -> SimpleNamespace:
    """The problem with one of the FAULTS, of a kind that no careful target reads memory for that is not there."""
    seen = as_seen(problem)
    if fault == "an unknown cell":
        seen.cell = "no such cell"
    elif fault == "an unknown loss":
        seen.loss.kind = "no such loss"
    elif fault == "no parameters":
        seen.params = {}
    else:
        for name in ("g", "target"):
            array = getattr(seen.loss, name)
            if array is not None:
                setattr(seen.loss, name, np.concatenate([array, array[-1:]]))
    return seen


def check_held(runs: Sequence[tuple[Answer, SimpleNamespace, Any]]) -> None:
    """Look at the results of several calls, all still held: (answer as it was read, inputs, what was returned) each.

    Raises: ContractBroken where a result is no longer what it was, or shares memory with another one or an input.
    """
    arrays: list[tuple[str, np.ndarray]] = []
    for answer, seen, raw in runs:
        for key, was in answer.items():
            now = np.asarray(raw[key])
            if np.array(now, dtype=was.dtype).tobytes() != was.tobytes():
                raise ContractBroken(f"{key}: a later call changed what this one had returned; want it left alone")
            arrays.append((key, now))
        arrays += [(f"the input {name}", array) for name, array in _inputs(seen)]
    for i, (name, array) in enumerate(arrays):
        for other, second in arrays[:i]:
            if (name in runs[0][0] or other in runs[0][0]) and _shared(array, second):
                whose = "that of another call" if other == name else other
                raise ContractBroken(f"{name}: shares memory with {whose}; want an array of its own")


def _shared(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have a byte in common; where that is too hard to say, not."""
    work: Any = 1 << 16  # NumPy takes any number of candidates; its stubs know -1 and 0
    try:
        return bool(np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=work))
    except np.exceptions.TooHardError:
        return False


def _inputs(seen: SimpleNamespace) -> Iterator[tuple[str, np.ndarray]]:
    """Every array that a target was given, by its name."""
    for holder in (seen.params, vars(seen), vars(seen.loss)):
        yield from ((name, array) for name, array in holder.items() if isinstance(array, np.ndarray))


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
