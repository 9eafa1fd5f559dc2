"""What a corpus must be, whoever wrote it: complete, exact, never degenerate. One sentence a complaint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.files import header_of
from bptt.problem import LOSSES, READOUTS, SIGNIFICAND, Array, Problem, gradient_shapes
from bptt.support import ACTIVATIONS
from bptt.truncation import KINDS
from conformance.vectors.corners import CORNERS
from conformance.vectors.corpus import Corpus
from conformance.vectors.flags import FLAGS
from conformance.vectors.recipe import REDUCTIONS
from conformance.vectors.results import dyadic
from oracle.rounding import round_fraction

MOST_BYTES = 48 << 20
LEAST_CONCLUSIVE = 0.9
"""The share of arrays in float64 and in float32 that must be conclusive."""


def complaints(corpus: Corpus, *, whole: bool) -> list[str]:
    """Everything that is wrong with a corpus; `whole` where it should cover everything."""
    found = []
    for vector_id, entry in corpus.vectors.items():
        problem, results = corpus.problem(vector_id), corpus.results(vector_id)
        rules = (*of_entry(entry, problem), *of_problem(entry, problem), *of_results(entry, problem, results))
        found += [f"{vector_id}: {line}" for line in rules]
    found += list(of_flags(corpus))
    if whole:
        found += list(of_whole(corpus))
    return found


def of_entry(entry: dict[str, Any], problem: Problem) -> Iterator[str]:
    """What the index says of a problem is what the problem is."""
    told = {**header_of(problem), "stored": problem.dtype}
    told.pop("dtype")
    told["sizes"] = {name: getattr(problem, name) for name in "TBDHK"}
    told["lengths"] = None if problem.lengths is None else problem.lengths.tolist()
    told["initial_state"] = problem.h0 is not None
    told["arrays"] = {key: list(shape) for key, shape in gradient_shapes(problem).items()}
    for name, value in told.items():
        if entry[name] != value:
            yield f"{name} is {entry[name]} in the index and {value} in the problem"
    for name in ("problem", "result"):
        if entry[name]["file"] != f"{name}s/{entry['id']}.safetensors":
            yield f"its {name} is in {entry[name]['file']}"


def of_problem(entry: dict[str, Any], problem: Problem) -> Iterator[str]:
    """Weights are never constant, states and cotangents never zero; the corner `silent` is zero on purpose."""
    for name, array in problem.params.items():
        if array.ndim == 2 and array.size > 1 and bool((array == array.flat[0]).all()):
            yield f"all entries of {name} are {array.flat[0]}"
    for state in problem.spec.states:
        initial = getattr(problem, f"{state}0")
        if initial is not None and not initial.any():
            yield f"{state}0 is zero"
    if not problem.x.any():
        yield "x is zero"
    if problem.loss.g is not None and not problem.loss.g.any() and entry["corner"] != "silent":
        yield "its cotangent is zero"
    for dtype in entry["dtypes"]:
        for name, array in problem.arrays():
            if array.dtype.kind == "f" and not _held(array, dtype):
                yield f"{name} has an entry that {dtype} does not hold"


def _held(array: Array, dtype: str) -> bool:
    if dtype == "bfloat16":
        with np.errstate(all="ignore"):
            narrow = array.astype(np.float32)
        return bool((narrow == array).all() and not (np.ascontiguousarray(narrow).view(np.uint32) & 0xFFFF).any())
    with np.errstate(all="ignore"):
        return bool((array.astype(dtype) == array).all())


def of_results(entry: dict[str, Any], problem: Problem, results: dict[str, Array]) -> Iterator[str]:
    """near and rest are the roundings of mantissa and exponent, by integers; budgets are numbers from 0."""
    for key in entry["arrays"]:
        near, rest, sign, mantissa, exponent = (
            results[f"{key}.{name}"].reshape(-1) for name in ("near", "rest", "sign", "mantissa", "exponent")
        )
        if not (np.isfinite(near).all() and np.isfinite(rest).all()):
            yield f"{key}: a value beyond float64"
            continue
        words = near.view(np.uint64).tolist(), rest.view(np.uint64).tolist()
        pairs = mantissa.reshape(-1, 2).tolist()
        values = zip(sign.tolist(), pairs, exponent.tolist(), *words, strict=True)
        for i, (s, (low, high), e, near_bits, rest_bits) in enumerate(values):
            m = high << 64 | low
            if (s == 0) != (m == 0) or (m and m >> 127 != 1):
                yield f"{key}, entry {i}: a mantissa of {m:#x} with sign {s}"
            elif not _rounds(s * m, e, near_bits, rest_bits):
                yield f"{key}, entry {i}: near and rest are not the roundings of its mantissa and exponent"
        for dtype in entry["dtypes"]:
            budget = results[f"{key}.budget.{dtype}"]
            if not (budget >= 0).all():
                yield f"{key}: a budget in {dtype} that is negative or NaN"
            if dtype in entry["exact"] and not ((budget == 0) | np.isinf(budget)).all():
                yield f"{key}: exact in {dtype}, and a budget above 0"
        live = results[f"{key}.budget.{entry['dtypes'][0]}"]
        padded = int((problem.T - problem.row_lengths).sum()) if key in ("h", "c", "o") else 0
        if np.isinf(live).sum() != padded * (live.shape[-1] if live.ndim else 1):
            yield f"{key}: entries without a budget other than those beyond a row's length"


def _rounds(n: int, e: int, near: int, rest: int) -> bool:
    """Whether near + rest is n 2^e to within what both leave out; the mantissa is itself rounded at 2^-128."""
    m, q = dyadic(near)
    k, r = dyadic(rest)
    unit = min(e, q, r, -1200)
    off = abs((n << e - unit) - (m << q - unit) - (k << r - unit))
    allowed = (abs(n) << e - unit) >> 105  # rest's rounding at 2^-106, the mantissa's at 2^-128
    smallest = 1 << -1074 - unit
    nearest = _nearest(n, e) if e > -1300 else None
    return off <= max(allowed, smallest) and (nearest is None or abs(nearest - near) <= 1)


def _nearest(n: int, e: int) -> int:
    return round_fraction(n * Fraction(2) ** e, "float64")


def of_flags(corpus: Corpus) -> Iterator[str]:
    """Every flag is used, and says what this suite says of it."""
    used = Counter(name for entry in corpus.vectors.values() for name in entry["flags"])
    for name, told in corpus.index["flags"].items():
        if not used[name]:
            yield f"the flag {name} is explained and never used"
        ours = FLAGS.get(name)
        if ours is not None and told != {"bug": ours.bug, "effect": ours.effect, "reference": ours.reference}:
            yield f"the flag {name} is explained in other words than here"


def of_whole(corpus: Corpus) -> Iterator[str]:
    """Every cell meets every loss, truncation, corner, readout, reduction and dtype, with T above 1."""
    entries = list(corpus.vectors.values())
    for cell, spec in CELLS.items():
        own = [entry for entry in entries if entry["cell"] == cell and entry["sizes"]["T"] > 1]
        seen: dict[str, set[Any]] = {
            "activation": {entry["activation"] for entry in own},
            "readout": {entry["readout"] for entry in own},
            "loss": {entry["loss"]["kind"] for entry in own},
            "reduction": {(entry["loss"]["time_reduction"], entry["loss"]["batch_reduction"]) for entry in own},
            "truncation": {entry["truncation"]["kind"] for entry in own},
            "dtype": {dtype for entry in own for dtype in entry["dtypes"]},
            "corner": {entry["corner"] for entry in own},
            "initial state": {entry["initial_state"] for entry in own},
            "lengths": {entry["lengths"] is not None for entry in own},
        }
        corners = set(CORNERS) - ({"exact", "kinks"} if cell != "elman" else set())
        wanted: dict[str, set[Any]] = {
            "activation": set(spec.activations) or {None},
            "readout": set(READOUTS),
            "loss": set(LOSSES),
            "reduction": set(REDUCTIONS.values()),
            "truncation": {kind for kind in KINDS if kind in spec.truncations},
            "dtype": set(SIGNIFICAND),
            "corner": (corners - {"vanishing"} if cell == "lstm_1997" else corners) | {"generic"},
            "initial state": {True, False},
            "lengths": {True, False},
        }
        for name, choices in wanted.items():
            for choice in sorted(choices - seen[name], key=str):
                yield f"{cell}: no vector with the {name} {choice}"
    assert set(ACTIVATIONS) == set(CELLS["elman"].activations)
    size = sum(entry[name]["bytes"] for entry in entries for name in ("problem", "result"))
    if size > MOST_BYTES:
        yield f"{size} bytes, more than {MOST_BYTES}: too large to ship"
    for dtype in ("float64", "float32"):
        own = [entry for entry in entries if dtype in entry["dtypes"]]
        arrays = sum(len(entry["arrays"]) for entry in own)
        vague = sum(len(entry["inconclusive"][dtype]) for entry in own)
        if not arrays - vague >= LEAST_CONCLUSIVE * arrays:
            yield f"{vague} of {arrays} arrays in {dtype} are inconclusive"
