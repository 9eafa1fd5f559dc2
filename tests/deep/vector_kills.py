"""Which planted bugs the vectors catch on their own: no property, no search, only `vectors verify` on files of answers.

    python -m tests.deep.vector_kills [--vectors DIR] [--bugs NAME ...] [--out build/vector_kills.md]

Each bug (tests/mutants, all five tables) answers every vector of its cells in float64 and float32 once: each call in a
freshly reset copy of the bug with fresh arrays, so that nothing is kept from call to call. The answers go through
`verify` as those of a file would. A bug is caught if an array is wrong (status 1), or if it
ends its program with an exception on some vector; answers that are merely missing (status 3) do not count.

What no single call on arrays of its own can show is not asked for: UNSEEN names these bugs, each with its reason, and
the script asserts that each of them gave, to every vector, the answers of the correct code to the last bit (one rounds
otherwise: ROUNDS). Exit status 1 if less than 95 % of the others are caught.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.problem import Array, Problem, gradient_shapes
from conformance.vectors.answers import Answers, Wrong
from conformance.vectors.corpus import Corpus, read_corpus
from conformance.vectors.export import export
from conformance.vectors.selection import selection
from conformance.vectors.verify import verify
from implementations import numpy_bptt
from implementations.worker import read_answer
from properties.units import in_dtype
from tests.deep.agreement import write
from tests.loading import load

LEAST = 0.95
DTYPES = ("float64", "float32")
TABLES = ("elman", "lstm", "blind", "blind_second", "far_out")
BASES = {"elman": "elman_base", "blind": "blind_base", "blind_second": "blind_base"}
UNSEEN: dict[str, str] = {
    "elman.py:strides_of_x_ignored": "a program reads x in C order from its file; `memory` passes other layouts",
    "elman.py:initial_state_borrowed": "a caller's array is changed and put back: the answer is right",
    "elman.py:results_in_buffers_of_the_next_call": "a second call overwrites the first one's results",
    "elman.py:outputs_share_memory_with_states": "a second call overwrites the first one's results",
    "elman.py:bias_buffer_not_cleared": "a second call starts from what the first one left",
    "elman.py:state_left_over_from_last_call": "a second call starts from what the first one left",
    "elman.py:second_backward_uses_first_states": "a second call uses what the first one saved",
    "elman.py:every_tenth_call_loses_a_step": "shows at the tenth call",
    "elman.py:handle_kept_after_an_error": "shows after a call that failed",
    "elman.py:steps_of_a_longer_call": "a call uses what a longer one left",
    "blind.py:bias_gradient_never_cleared": "a second call starts from what the first one left",
    "blind.py:zero_initial_state_carries_on": "a second call starts from what the first one left",
    "blind.py:input_weights_cached_by_shape": "a second call uses what the first one saved",
    "blind.py:mask_cached_by_shape": "a second call uses what the first one saved",
    "blind.py:forward_cached_by_input": "a second call uses what the first one saved",
    "blind.py:window_stays_on": "a second call uses what the first one saved",
    "blind.py:input_gradient_buffer_shared": "a second call overwrites the first one's results",
    "blind.py:input_masked_in_place": "a caller's array is changed: the answer is right",
    "blind.py:memory_order_taken_for_c": "a program reads x in C order from its file; `memory` passes other layouts",
}
"""Bugs that no single call on arrays of its own can show, and why."""
ROUNDS = {"blind.py:input_weights_cached_by_shape"}
"""Multiplies by a copy of its weights that lies otherwise in memory, so that sums are taken in another order."""


@dataclass
class Bug:
    """A planted bug; `run` calls a fresh copy of it."""

    key: str
    sentence: str
    needs: str
    cells: tuple[str, ...]
    run: Callable[[Problem], Any]
    base: Callable[[Problem], Any]
    initial_none: bool


class Remembering(Corpus):
    """A corpus whose results are read once."""

    @functools.cache  # noqa: B019 - it lives as long as the script
    def results(self, vector_id: str) -> dict[str, Array]:
        return super().results(vector_id)


@dataclass
class Caught:
    """What became of one bug: by which vector it was caught, with what message; what was asked until then.

    missing, differs   answers that were incomplete, or other than the correct code's, without being wrong
    """

    asked: int = 0
    by: str = ""
    first: str = ""
    missing: int = 0
    differs: int = 0


def planted() -> Iterator[Bug]:
    """Every bug of every table."""
    for table in TABLES:
        module = load("mutants", table)
        base = load("mutants", BASES[table]).gradients if table in BASES else numpy_bptt.gradients
        if table == "far_out":
            for name in module.NAMES:
                yield Bug(f"{table}.py:{name}", name.replace("_", " "), "", ("elman",), _fresh(getattr(module, name)),
                          base, False)  # fmt: skip
            continue
        for name, one in module.PLANTED.items():
            supports = getattr(one.gradients, "SUPPORTS", None) or module.SUPPORTS
            cells = tuple(cell for cell in CELLS if cell in supports["cells"])
            yield Bug(f"{table}.py:{name}", one.sentence, getattr(one, "needs", ""), cells, _fresh(one.gradients),
                      base, supports.get("h0_none", False))  # fmt: skip


def _fresh(function: Callable[[Any], Any]) -> Callable[[Problem], Any]:
    """Calls a copy of a function whose class, if it has one, has lost what earlier calls left in it."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    classes = [c for c in cells if isinstance(c, type)]
    classes += [c for value in cells if isinstance(value, dict) for c in value.values() if isinstance(c, type)]
    lineage = list(dict.fromkeys(base for c in classes for base in c.__mro__ if base.__module__.startswith("tests_")
                                 or base.__module__ in ("blind", "blind_base", "elman_base")))  # fmt: skip
    before = [(owner, {k: copy.deepcopy(v) for k, v in vars(owner).items() if _kept(k, v)}) for owner in lineage]

    def run(problem: Problem) -> Any:
        for owner, values in before:
            for name in [k for k, v in vars(owner).items() if _kept(k, v) and k not in values]:
                delattr(owner, name)
            for name, value in values.items():
                setattr(owner, name, copy.deepcopy(value))
        return function(problem)

    return run


def _kept(name: str, value: Any) -> bool:
    plain = (types.FunctionType, staticmethod, classmethod, property, types.MemberDescriptorType)
    return not name.startswith("__") and not isinstance(value, (*plain, types.GetSetDescriptorType))


def judged(bug: Bug, corpus: Corpus, problems: dict[tuple[str, str], Problem]) -> Caught:
    """Ask a bug about the vectors that are its own, and verify what it answers, until one shows it."""
    caught, answers = Caught(), Answers()
    for (vector_id, dtype), problem in problems.items():
        entry = corpus.vectors[vector_id]
        if entry["cell"] not in bug.cells or not (entry["initial_state"] or bug.initial_none):
            continue
        caught.asked += 1
        try:
            told = bug.run(copy.deepcopy(problem))
            given = {key: np.asarray(value) for key, value in told.items() if value is not None}
            read, _ = read_answer(given, gradient_shapes(problem), dtype)
        except NotImplementedError:
            caught.missing += 1
            continue
        except Exception as error:  # noqa: BLE001 - a bug may raise anything, which ends its program
            # Broken: a shape or a dtype that no answer has; verify says the same of an array in a file.
            caught.by, caught.first = vector_id, f"{type(error).__name__}: {error}"
            return caught
        mine = Answers()
        for key, array in read.items():
            for book in (mine, answers):
                book.add(Path("answers"), vector_id, dtype, key, _loader(array))
        if wrong := verify(corpus, mine, [vector_id], [dtype]).wrong:
            caught.by, caught.first = vector_id, wrong[0].splitlines()[0]
            return caught
        caught.missing += len(read) < len(entry["arrays"])
        caught.differs += differs(read, bug.base(copy.deepcopy(problem)))
    chosen = list(dict.fromkeys(vector_id for vector_id, _ in answers.found))
    if wrong := verify(corpus, answers, chosen, DTYPES).wrong:  # keys that come and go
        caught.by, caught.first = wrong[0].splitlines()[1].split("·")[0].strip(), wrong[0].splitlines()[0]
    return caught


def _loader(array: Array) -> Callable[[tuple[int, ...]], Array]:
    def give(shape: tuple[int, ...]) -> Array:
        if array.shape != shape:
            raise Wrong(f"got shape {array.shape}, want {shape}")
        return array.astype(np.float64)

    return give


def differs(got: dict[str, Array], right: dict[str, Any]) -> bool:
    """Whether an answer is other than the correct code's, in any bit or key."""
    if set(got) != {key for key, value in right.items() if value is not None}:
        return True
    return any(not np.array_equal(array, np.asarray(right[key]), equal_nan=True) for key, array in got.items())


def main(words: Sequence[str] | None = None) -> int:
    """Ask every bug and write the table; the exit status."""
    parser = argparse.ArgumentParser(description="Which planted bugs the vectors catch.")
    parser.add_argument("--vectors", type=Path, help="a corpus (default: one that is made for the purpose)")
    parser.add_argument("--bugs", nargs="*", default=[], help="parts of names such as elman.py:")
    parser.add_argument("--out", type=Path, default=Path("build/vector_kills.md"))
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as made:
        folder = given.vectors or Path(made) / "vectors"
        if given.vectors is None:
            export(folder, list(selection()), 1)
        corpus = read_corpus(folder)
        return study(corpus, given)


def study(corpus: Corpus, given: argparse.Namespace) -> int:
    """The table of all bugs asked about."""
    known = Remembering(corpus.folder, corpus.index, corpus.vectors)
    problems = {
        (vector_id, dtype): in_dtype(corpus.problem(vector_id), dtype)
        for vector_id, entry in corpus.vectors.items()
        for dtype in DTYPES
        if dtype in entry["dtypes"]
    }
    lines, missed, count, caught_count, start = [], [], 0, 0, time.monotonic()
    for bug in planted():
        if given.bugs and not any(part in bug.key for part in given.bugs):
            continue
        with np.errstate(all="ignore"):
            found = judged(bug, known, problems)
        if bug.key in UNSEEN:
            assert not found.by, f"{bug.key} shows after all: {found.first}"
            assert not found.differs or bug.key in ROUNDS, f"{bug.key} answers otherwise: {found.differs} times"
            lines.append(f"| `{bug.key}` | – | not by a single call: {UNSEEN[bug.key]} |")
            continue
        count += 1
        caught_count += bool(found.by)
        if not found.by:
            counts = (
                f"{found.missing} of {found.asked} answers incomplete, {found.differs} differ from the correct code's"
            )
            missed.append(f"{bug.key}: {bug.sentence} Needs: {bug.needs or 'nothing special'}. {counts}")
        shown = found.first.replace("|", "¦")[:200] if found.by else f"missed: {found.missing} incomplete"
        lines.append(f"| `{bug.key}` | {found.by or '–'} | {shown} |")
    share = caught_count / count if count else 0.0
    unseen = sum(bug in line for line in lines for bug in UNSEEN)
    figure = f"{caught_count} of {count} planted bugs are caught by the {len(corpus.vectors)} vectors alone"
    head = [
        f"{figure} ({share:.1%}); {unseen} more cannot show in a single call.",
        "",
        "| bug | the first vector that shows it | how |",
        "|---|---|---|",
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    for line in missed:
        write(f"missed: {line}")
    write(f"{head[0]} {time.monotonic() - start:.0f} s; written: {given.out}")
    return int(not share >= LEAST)


if __name__ == "__main__":
    sys.exit(main())
