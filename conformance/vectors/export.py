"""Writes the corpus: index.json, its schema, and for each vector problems/ID.safetensors and results/ID.safetensors.

The bytes are a function of the suite's version alone: no time, no path, no machine is in them, arrays stand in the
order that safetensors gives them, and JSON is written with sorted names.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from bptt.files import header_of, to_bytes
from bptt.problem import SIGNIFICAND, gradient_shapes
from conformance.errors import UsageError
from conformance.results import suite_version
from conformance.vectors.flags import explained, flags_of
from conformance.vectors.results import BITS, find_results
from conformance.vectors.selection import selection
from oracle import canary

FORMAT = "bpttcheck-vectors"
SCHEMA_VERSION = 1
SCHEMA = Path(__file__).parent / "index.schema.json"
CONVENTIONS = {
    "value": "sign * mantissa * 2^exponent, mantissa = low + 2^64 high of the last axis of KEY.mantissa; "
    f"rounded to nearest at {BITS} bits, sign 0 for zero",
    "near": "the float64 nearest to the value; rest: the float64 nearest to value - near",
    "judge": "an entry is right if |(got - near) - rest| <= budget, computed in float64; NaN is wrong; "
    "where the budget is infinite nothing is judged",
    "steps": "row vectors, C order, x (T,B,D), h (T,B,H), o (T,B,K); docs/cells.md has the equations",
    "answers": "KEY is loss, h, c, o, or d + the name of what has a gradient",
}
Made = tuple[str, bytes, bytes, dict[str, Any]]


def make(vector_id: str) -> Made:
    """(id, problem file, results file, the index's entry) of one vector."""
    vector = selection()[vector_id]
    problem, recipe = vector.problem, vector.recipe
    results = find_results(problem, recipe)
    problem_bytes = to_bytes(problem, {"vector": vector_id})
    result_bytes = save(results.arrays, metadata={"bpttcheck": json.dumps({"format": FORMAT, "results": vector_id})})
    header = header_of(problem)
    stored = header.pop("dtype")
    dtypes = sorted(results.inconclusive, key=lambda dtype: -SIGNIFICAND[dtype])
    files = {
        name: {
            "file": f"{name}s/{vector_id}.safetensors",
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in (("problem", problem_bytes), ("result", result_bytes))
    }
    entry = {
        "id": vector_id,
        "flags": flags_of(recipe),
        "corner": recipe.corner or "generic",
        **header,
        "sizes": {name: getattr(problem, name) for name in "TBDHK"},
        "lengths": None if recipe.lengths is None else list(recipe.lengths),
        "initial_state": recipe.initial,
        "stored": stored,
        "dtypes": dtypes,
        "exact": [dtype for dtype in dtypes if dtype in results.exact],
        "inconclusive": results.inconclusive,
        "arrays": {key: list(shape) for key, shape in gradient_shapes(problem).items()},
        **files,
    }
    return vector_id, problem_bytes, result_bytes, entry


def export(out: Path, chosen: Sequence[str], jobs: int, report: Callable[[int], None] = lambda _: None) -> int:
    """Write the chosen vectors, in the order of the selection: how many bytes.

    Raises: UsageError, where the folder is in use.
    """
    canary.check("before the vectors are made")
    _prepare(out)
    entries, total = [], 0
    ordered = [vector_id for vector_id in selection() if vector_id in set(chosen)]
    for number, (vector_id, problem, result, entry) in enumerate(_made(ordered, jobs), 1):
        (out / "problems" / f"{vector_id}.safetensors").write_bytes(problem)
        (out / "results" / f"{vector_id}.safetensors").write_bytes(result)
        entries.append(entry)
        total += len(problem) + len(result)
        report(number)
    schema = SCHEMA.read_bytes()
    index = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "suite_version": suite_version(),
        "conventions": CONVENTIONS,
        "flags": explained(name for entry in entries for name in entry["flags"]),
        "vectors": entries,
    }
    text = (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
    (out / "index.schema.json").write_bytes(schema)
    (out / "index.json").write_bytes(text)
    canary.check("after the vectors were made")
    return total + len(text) + len(schema)


def _made(chosen: Sequence[str], jobs: int) -> Iterator[Made]:
    if jobs == 1:
        yield from map(make, chosen)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(make, chosen, chunksize=4)


def _prepare(out: Path) -> None:
    """An empty corpus in a folder that is new, empty, or holds an older corpus. Raises: UsageError."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; expected a folder, new or of an earlier export")
    known = {"index.json", "index.schema.json", "problems", "results"}
    others = sorted(path.name for path in out.iterdir() if path.name not in known) if out.is_dir() else []
    if others:
        raise UsageError(f"--out {out}: holds {others[0]!r}, which no export wrote; expected a new folder")
    (out / "index.json").unlink(missing_ok=True)  # last to come, first to go: what has none is no corpus
    for name in ("problems", "results"):
        (out / name).mkdir(parents=True, exist_ok=True)
        for path in (out / name).glob("*.safetensors"):
            path.unlink()


def counter(count: int) -> Callable[[int], None]:
    """Says on a terminal how far an export is."""

    def report(number: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if number == count else ""
            print(f"\r{number} of {count} vectors", end=end, file=sys.stderr, flush=True)

    return report
