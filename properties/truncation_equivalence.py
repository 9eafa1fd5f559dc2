"""truncation-equivalence: each truncation is the masked double sum, and the truncations are related as the mask says.

double-sum   every gradient equals the literal masked double sum, by local Jacobians derived by hand
identity     truncations with the same mask give the same gradient: periodic(1,k) = window(k), k >= T is full,
             periodic(k1, k2 >= T) is full, periodic(k,k) = chunk(k) where k divides every length
chunks       chunk(k) is the sum over its chunks run on their own, each from the state that the one before left
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Loss, Problem
from bptt.support import Support
from bptt.truncation import Truncation
from oracle.ball_numbers import BallNumbers
from oracle.solution import solve
from oracle.truth import Truth
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, against_truth, of_sums
from properties.generic import generic
from properties.recipe import Draw, Recipe
from properties.strategies import Array, draw_problem, offered, replace_shape, to_dtype

FORMS = ("double-sum", "identity", "chunks")
CUTS = (
    *(Truncation("window", k=3), Truncation("chunk", k=3)),
    *(Truncation("periodic", k1=2, k2=3), Truncation("periodic", k1=3, k2=4)),
)
"""Truncations of six or seven steps that leave some of them out, and of which no two have the same mask."""


class TruncationEquivalence(Property):
    """Three forms, drawn in turn, as far as the target offers the truncations."""

    id = "truncation-equivalence"
    statement = (
        "Each truncation equals the masked double sum; equal masks give equal gradients; "
        "chunk(k) is the sum over its chunks."
    )
    source = "The definition of the masks; Williams and Peng (1990) for periodic truncation."
    needs = "a truncation other than full"

    def unsupported(self, support: Support, cell: str) -> str | None:
        return None if self._truncated(support) else f"needs {self.needs}"

    @staticmethod
    def _truncated(support: Support) -> tuple[str, ...]:
        return tuple(t for t in support.truncations if t in ("window", "chunk", "periodic"))

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        base = replace_shape(offered(support, cell), largest=(12, 3, 4, 4, 4), truncations=self._truncated(support))
        forms = list(FORMS if "chunk" in support.truncations and "cotangent" in support.losses else FORMS[:2])

        def build(draw: Draw) -> Case:
            form = draw.of(forms)
            shape = base
            if form == "chunks":
                shape = replace_shape(shape, truncations=("chunk",), losses=("cotangent",))
            elif form == "double-sum":
                shape = replace_shape(shape, edges=False)
            problem = draw_problem(draw, shape, support, cell, dtype)
            pairs = twins(problem, support) if form == "identity" else []
            if form == "identity" and not pairs:
                form = "double-sum"
            turn = draw.integer(0, max(0, len(pairs) - 1))
            if form == "identity":
                problem = replace(problem, truncation=pairs[turn][0])
                return Case(problem, {"form": 1, **_encode(pairs[turn][1])})
            return Case(problem, {"form": FORMS.index(form)})

        return Recipe(build)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        shape, out = offered(support, cell), []
        losses, readouts = itertools.cycle(shape.losses), itertools.cycle(shape.readouts)
        names: dict[str, Any] = {"truncations": "full", "activations": shape.activations[0]}
        names |= {"reductions": (shape.reductions or ("sum",))[0]}

        def problem(seed: int, T: int, truncation: Truncation, loss: str) -> Problem | None:
            chosen = names | {"losses": loss, "readouts": next(readouts)}
            made = generic(seed, support, cell, dtype, (T, 2, 2, 2, 2), chosen)
            return None if made is None else replace(made, truncation=truncation)

        for i, truncation in enumerate(CUTS):
            made = problem(9000 + i, 7, truncation, next(losses))
            if made is not None and truncation.kind in support.truncations:
                out.append(Case(made, {"form": FORMS.index("double-sum")}))
        made = problem(9010, 6, CUTS[0], next(losses))
        if made is not None:
            for one, other in twins(made, support):
                parameters = {"form": FORMS.index("identity"), **_encode(other)}
                out.append(Case(replace(made, truncation=one), parameters))
        if "chunk" in support.truncations and "cotangent" in support.losses:
            made = problem(9020, 7, CUTS[1], "cotangent")
            out += [] if made is None else [Case(made, {"form": FORMS.index("chunks")})]
        return out

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem, form = case.problem, FORMS[case.parameters["form"]]
        if form == "double-sum":
            truth = bench.truth(problem)
            road = solve(problem, BallNumbers(max(256, truth.solution.N.prec)), "double-sum")
            answer = {key: got for key, got in bench.run(problem).items() if key.startswith("d")}
            return against_truth(problem, answer, Truth(problem, road, truth.budget))
        keys = [f"d{name}" for name in problem.parameter_shapes()]
        if form == "identity":
            other = replace(problem, truncation=_decode(case.parameters))
            return of_sums(bench, [Part(+1, problem), Part(-1, other)], [*keys, "dx", "dh0", "dc0"])
        return of_sums(bench, [Part(+1, problem), *(Part(-1, chunk) for chunk in _chunks(problem, bench))], keys)


def twins(problem: Problem, support: Support) -> list[tuple[Truncation, Truncation]]:
    """Pairs of offered truncations that have the same mask on this problem, the drawn one's family first."""
    T, k = problem.T, problem.truncation.k or problem.truncation.k1 or 1
    lengths = problem.row_lengths
    full, window, chunk = Truncation("full"), Truncation("window", k=k), Truncation("chunk", k=k)
    pairs = [
        (window, Truncation("periodic", k1=1, k2=k)),
        (Truncation("window", k=T), full),
        (Truncation("chunk", k=T), full),
        (Truncation("periodic", k1=k, k2=max(k, T)), full),
        (Truncation("window", k=1), Truncation("chunk", k=1)),
    ]
    if not (lengths % k).any():
        pairs.append((chunk, Truncation("periodic", k1=k, k2=k)))
    return [(a, b) for a, b in pairs if a.kind in support.truncations and b.kind in support.truncations]


_KINDS = ("full", "window", "chunk", "periodic")


def _encode(truncation: Truncation) -> dict[str, int]:
    numbers = {name: getattr(truncation, name) for name in ("k", "k1", "k2")}
    return {
        "kind": _KINDS.index(truncation.kind),
        **{name: value for name, value in numbers.items() if value is not None},
    }


def _decode(parameters: dict[str, int]) -> Truncation:
    numbers = {name: parameters[name] for name in ("k", "k1", "k2") if name in parameters}
    return Truncation(_KINDS[parameters["kind"]], **numbers)


def _chunks(problem: Problem, bench: Bench) -> list[Problem]:
    """Each chunk as a problem of its own, in full, from the exact state before it rounded to the dtype."""
    k, loss, lengths = problem.truncation.k, problem.loss, problem.row_lengths
    assert k is not None and loss.g is not None
    solution = bench.truth(problem).solution
    pieces = []
    for start in range(0, problem.T, k):
        stop = min(problem.T, start + k)
        initial: dict[str, Array | None] = {}
        for name in problem.spec.states:
            rounded = to_dtype(solution.state(name, start), problem.dtype)
            initial[name] = getattr(problem, f"{name}0") if start == 0 else rounded
        ends_here = (lengths > start) & (lengths <= stop)
        finals: dict[str, Any] = {}
        for name in problem.spec.states:
            final = getattr(loss, f"g_{name}_final")
            finals[f"g_{name}_final"] = None if final is None else final * ends_here[:, None].astype(final.dtype)
        pieces.append(
            replace(
                problem,
                x=np.ascontiguousarray(problem.x[start:stop]),
                h0=initial["h"],
                c0=initial.get("c"),
                lengths=None if problem.lengths is None else np.clip(lengths - start, 0, stop - start),
                loss=Loss("cotangent", g=np.ascontiguousarray(loss.g[start:stop]), **finals),
                truncation=Truncation("full") if "full" in bench.support.truncations else problem.truncation,
            )
        )
    return pieces


PROPERTY = TruncationEquivalence()
