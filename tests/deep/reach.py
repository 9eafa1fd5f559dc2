"""What a certificate asks: which pairs of a problem's features meet in no problem, and how far its numbers reach.

    python -m tests.deep.reach --profile standard --cell lstm

A kernel may be wrong where two features meet and nowhere else: labels and a mean over rows of several lengths, a
cotangent without a readout and a wide state. Every property is run on `numpy`, in this process, and each problem that
is asked, by whatever property, is noted with its features: the loss, readout, truncation, reductions, lengths, initial
state, activation, and how large each axis is. Two features that have both been seen, each with others, are a pair;
those that the notation itself excludes are left out. Numbers are said as the largest power of ten that some entry of
an array is beyond.

Nothing is judged here: the list is for whoever adds fixed problems.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bptt.cells import CELLS
from bptt.support import read_support
from conformance.bench import TargetBench, Truths
from conformance.engine import PROFILES, Profile, Search
from conformance.targets import Target
from implementations import numpy_bptt
from properties import PROPERTIES
from tests.deep.agreement import write

DTYPES = ("float64", "float32")
WIDTHS = (1, 4, 16, 32, 128)
"""An axis is said by the largest of these that it is beyond, or as 1."""
Feature = tuple[str, str]


def features(problem: Any) -> dict[str, str]:
    """What is to be told apart of a problem, as an adapter sees it, by name.

    >>> from types import SimpleNamespace as S
    >>> x, h0, params = np.ones((3, 1, 40)), np.ones((1, 2)), {"W_hh": np.ones((2, 2))}
    >>> loss, cut = S(kind="cotangent", g=np.ones((3, 1, 2)), g_h_final=None), S(kind="full")
    >>> p = S(x=x, h0=h0, params=params, loss=loss, truncation=cut, lengths=None, activation="tanh", readout="none")
    >>> sorted(features(p).items())  # doctest: +NORMALIZE_WHITESPACE
    [('B', '1'), ('D', '> 32'), ('H', '> 1'), ('K', '> 1'), ('T', '> 1'), ('activation', 'tanh'), ('h0', 'given'),
     ('lengths', 'none'), ('loss', 'cotangent'), ('readout', 'none'), ('reduction', 'sum, sum'), ('truncation', 'full')]
    """
    loss, lengths = problem.loss, problem.lengths
    T, B, D = problem.x.shape
    H = problem.params["W_hh" if "W_hh" in problem.params else "W_h"].shape[0]
    K = problem.params["W_hy"].shape[1] if problem.readout == "linear" else H
    kind = loss.kind
    if kind == "cross_entropy":
        kind = "labels" if loss.target.ndim == 2 else "probabilities"
    elif kind == "cotangent" and loss.g_h_final is not None:
        kind = "cotangent, final too"
    found = {
        "loss": kind,
        "readout": problem.readout,
        "truncation": problem.truncation.kind,
        "activation": problem.activation or "",
        "h0": "none" if problem.h0 is None else "given",
        "lengths": "none" if lengths is None else ("some 0" if (lengths == 0).any() else "given"),
        "reduction": "sum, sum" if loss.kind == "cotangent" else f"{loss.time_reduction}, {loss.batch_reduction}",
    }
    for name, size in zip("TBDHK", (T, B, D, H, K), strict=True):
        beyond = [width for width in WIDTHS if size > width]
        found[name] = f"> {beyond[-1]}" if beyond else "1"
    return found


def possible(one: Feature, other: Feature) -> bool:
    """Whether two features may meet: not a cotangent and a mean, which the notation does not have."""
    both = dict((one, other))
    cotangent = both.get("loss", "").startswith("cotangent")
    return not (cotangent and both.get("reduction", "sum, sum") != "sum, sum")


class Reach:
    """What was asked: how often each pair of features met, and the largest entry of each array."""

    def __init__(self) -> None:
        self.pairs: Counter[tuple[Feature, Feature]] = Counter()
        self.largest: dict[str, float] = {}

    def note(self, problem: Any, answer: Mapping[str, Any]) -> None:
        """Add one problem and its answer."""
        self.pairs.update(itertools.combinations(sorted(features(problem).items()), 2))
        arrays = {"x": problem.x, "h0": problem.h0, **problem.params}
        arrays |= {name: answer[name] for name in ("h", "c", "o") if name in answer}
        for name, array in arrays.items():
            finite = np.abs(array[np.isfinite(array)]) if array is not None else np.zeros(0)
            self.largest[name] = max(self.largest.get(name, 0.0), float(finite.max(initial=0.0)))

    def unmet(self) -> list[tuple[Feature, Feature]]:
        """The pairs of features that never met, though each was seen."""
        seen = sorted({feature for pair in self.pairs for feature in pair})
        return [(a, b) for a, b in itertools.combinations(seen, 2)
                if a[0] != b[0] and possible(a, b) and not self.pairs[a, b]]  # fmt: skip


def reach(cell: str, dtype: str, profile: Profile, properties: Sequence[str]) -> Reach:
    """Run properties on `numpy` and note every problem that it answers."""
    found = Reach()

    def noted(problem: Any) -> dict[str, Any]:
        answer = numpy_bptt.gradients(problem)
        if problem.cell == cell:
            found.note(problem, answer)
        return answer

    target = Target("numpy", "built-in", read_support(numpy_bptt.SUPPORTS), noted, None, None)
    for name in properties:
        if PROPERTIES[name].concerns(cell):
            verdict = Search(PROPERTIES[name], TargetBench(target, dtype, Truths()), cell, dtype, profile, 0).run()
            assert verdict.verdict in ("pass", "inconclusive", "unsupported"), verdict
    return found


def lines(found: Reach) -> Iterator[str]:
    """The pairs that never met, a line a feature; and the arrays' largest entries."""
    unmet = found.unmet()
    yield f"  {len(found.pairs)} pairs met, {len(unmet)} did not"
    for (field, value), group in itertools.groupby(unmet, key=lambda pair: pair[0]):
        yield f"  {field} {value}: never with " + "; ".join(f"{other} {name}" for _, (other, name) in group)
    reached = {name: f"1e{math.floor(math.log10(size))}" for name, size in sorted(found.largest.items()) if size > 0}
    yield "  beyond: " + ", ".join(f"{name} {size}" for name, size in reached.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked of each cell and dtype."""
    parser = argparse.ArgumentParser(description="What a certificate asks.")
    parser.add_argument("--profile", choices=list(PROFILES), default="standard")
    parser.add_argument("--cell", nargs="*", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--dtype", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--properties", nargs="*", choices=list(PROPERTIES), default=list(PROPERTIES))
    given = parser.parse_args(arguments)
    for cell, dtype in itertools.product(given.cell, given.dtype):
        write(f"{cell}, {dtype}, {given.profile}")
        for line in lines(reach(cell, dtype, PROFILES[given.profile], given.properties)):
            write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
