"""What a finding's pictures are drawn from: error ÷ budget by step and array, the wrong gradient, Jacobian norms.

The target is asked the problem once more and its answer held against the oracle's, entry by entry:

    ratio = (got - exact) / budget          0/0 counts as 0; where the budget is 0 a wrong entry is infinite     (1)
    || ds_t/ds_(t-n) ||_2, n = 0, 1, ...    beside (||W_hh||_2 sup|phi'|)^n, for the Elman cell                  (2)

A failure is pictured at a problem of some length and width on which it fails too, met on the way to the shrunk one and
kept as a case of its own; of what passed, the worst problem of `oracle-agreement`. Large arrays are drawn in blocks,
each showing its worst entry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Problem
from conformance.bench import TargetBench, Truths
from conformance.counterexample import write_case
from conformance.diagnosis.tape import COLUMNS
from conformance.engine import Finding, Outcome, Search
from conformance.targets import Target, afresh
from oracle.ball_numbers import BallNumbers
from oracle.jacobian import jacobian_norms, spectral_norm_bounds
from oracle.truth import Truth
from properties.base import Answer, active_mask
from properties.jacobian_norm_bound import GAMMA_H

Floats = NDArray[np.float64]
GATED = ("dW_x", "dW_h", "db", "db_x", "db_h")
"""Gradients whose columns belong to gates, where a cell has any."""
STEPS, BLOCKS = 48, 32
"""Columns of a picture over time, and rows and columns of one of a gradient, at most."""
LARGEST = 20_000
"""Entries of x, h and o in a problem that is asked again; a larger one is not pictured."""
LONG, WIDE = 16, 6
"""Steps and units beyond which a problem tells no more."""
LARGEST_JACOBIAN = 200_000
"""Steps times the cube of the state's size, for (2)."""


def picture_of(search: Search, target: Target, truths: Truths, report_dir: Path) -> dict[str, Any] | None:
    """The data of one finding's pictures, or None: no picture rather than no report."""
    finding = search.finding
    try:
        outcome = telling(finding, search.outcomes.values())
        if outcome is None or finding.bench is None:
            return None
        bench = TargetBench(afresh(target), finding.dtype, truths) if outcome.failed else finding.bench
        problem, answer, truth = _worst_run(outcome, bench)
        ratios = {key: ratios_to_budget(key, got, truth) for key, got in answer.items()}
        case = write_case(report_dir / "cases", finding, outcome, bench.model) if outcome.failed else None
        return {
            "case": case and case.relative_to(report_dir).as_posix(),
            "problem": _described(problem),
            "steps": by_step(ratios, problem),
            "wrong": _wrong(ratios, outcome, problem) if outcome.failed else None,
            "norms": _norms(problem, outcome),
        }
    except Exception:
        if os.environ.get("BPTTCHECK_TRACEBACK"):
            raise
        return None


def telling(finding: Finding, outcomes: Iterable[Outcome]) -> Outcome | None:
    """What is pictured of a finding: of those on which it fails, a problem with several steps and units.

    Of a pass, and of oracle-agreement alone, the worst that is not too large.
    """
    fit = [one for one in outcomes if one.worst is not None and _entries(one.case.problem) <= LARGEST]
    if (finding.verdict, finding.property.id) == ("pass", "oracle-agreement"):
        return max(fit, key=lambda one: one.worst.ratio if one.worst else 0.0, default=None)
    fit = [one for one in fit if finding.verdict == one.verdict == "fail"]
    return max(fit, key=lambda one: min(one.case.problem.T, LONG) * min(one.case.problem.H, WIDE), default=None)


def _entries(problem: Problem) -> int:
    return problem.T * problem.B * (problem.D + problem.H + problem.K)


def _worst_run(outcome: Outcome, bench: TargetBench) -> tuple[Problem, Answer, Truth]:
    """The run that is beyond its budget; where a theorem about several runs fails, it may be any of them, or none."""
    problems = [outcome.case.problem]
    for term in outcome.worst.terms if outcome.worst and outcome.failed else ():
        if not any(term.problem is known for known in problems) and len(problems) < 5:
            problems.append(term.problem)
    runs = []
    for problem in problems:
        answer, truth = bench.run(problem), bench.truth(problem)
        runs.append((problem, answer, truth))
        if not all((np.abs(ratios_to_budget(key, got, truth)) <= 1).all() for key, got in answer.items()):
            return runs[-1]
    return runs[0]


def ratios_to_budget(key: str, got: NDArray[Any], truth: Truth) -> Floats:
    """(1) for every entry of an array, with its sign; 0 where nothing is judged, NaN where the target gave NaN."""
    hi, lo, _ = truth.solution.near(key)
    allowed = truth.allowed(key)
    with np.errstate(all="ignore"):
        error = (got - hi) - lo
        ratio = np.where(error == 0, 0.0, error / allowed)
    judged = active_mask(truth.problem, key, got.shape) & (allowed < np.inf)
    out: Floats = np.where(judged, ratio, 0.0).astype(np.float64)
    return out


def by_step(ratios: dict[str, Floats], problem: Problem) -> dict[str, Any]:
    """The largest |ratio| of each array: of every step where it has a time axis, else of the whole."""
    per = -(-problem.T // STEPS)
    rows = []
    for key, array in ratios.items():
        over = key in ("h", "c", "o", "dx")
        sizes = np.abs(array).reshape(problem.T if over else 1, -1).max(axis=1, initial=0.0)
        blocks = [sizes[i : i + per].max() for i in range(0, len(sizes), per)]
        rows.append({"array": key, "over_steps": over, "ratios": [_short(float(value)) for value in blocks]})
    return {"per_column": per, "rows": rows}


def _wrong(ratios: dict[str, Floats], outcome: Outcome, problem: Problem) -> dict[str, Any] | None:
    """The gradient that is most wrong, as a matrix: the one that the finding names, where that is one of them."""
    beyond = {key: array for key, array in ratios.items() if array.ndim and not (np.abs(array) <= 1).all()}
    if not beyond:
        return None
    named = outcome.worst.key if outcome.worst else ""
    gradients = [key for key in beyond if key.startswith("d")] or list(beyond)
    size = {key: float(np.nan_to_num(np.abs(beyond[key]), nan=np.inf).max()) for key in gradients}
    key = named if named in gradients else max(gradients, key=lambda one: size[one])
    array = beyond[key]
    matrix = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array[None]
    rows, columns = (-(-n // BLOCKS) for n in matrix.shape)
    gates = COLUMNS.get(problem.cell, "")
    gated = len(gates) > 1 and key in GATED
    return {
        "array": key,
        "shape": list(array.shape),
        "per_cell": [rows, columns],
        "gates": list(gates) if gated else [],
        "ratios": [[_short(_worst(block)) for block in line] for line in _blocks(matrix, rows, columns)],
    }


def _blocks(matrix: Floats, rows: int, columns: int) -> Iterator[list[Floats]]:
    for i in range(0, matrix.shape[0], rows):
        yield [matrix[i : i + rows, j : j + columns] for j in range(0, matrix.shape[1], columns)]


def _worst(block: Floats) -> float:
    """The entry furthest from 0, with its sign; NaN before all."""
    flat = block.reshape(-1)
    return float(flat[np.argmax(np.nan_to_num(np.abs(flat), nan=np.inf, posinf=np.finfo(np.float64).max))])


def _norms(problem: Problem, outcome: Outcome) -> dict[str, Any] | None:
    """(2): the exact norms, the bound where there is one, and the norm that the target itself was found to have."""
    T, size = int(problem.row_lengths.max()), problem.H * len(problem.spec.states)
    if not 0 < T <= 4 * STEPS or T * size**3 > LARGEST_JACOBIAN:
        return None
    norms = jacobian_norms(problem, BallNumbers(192), STEPS)
    bound = None
    if problem.cell == "elman" and problem.activation is not None:
        gamma = spectral_norm_bounds(problem.params["W_hh"])[1] * GAMMA_H[problem.activation]
        with np.errstate(all="ignore"):
            bound = [_short(float(np.float64(gamma) ** n)) for n in range(len(norms))]
    worst = outcome.worst
    got = worst is not None and worst.note and worst.key == "dh0" and len(norms) == problem.T + 1
    return {
        "state": ", ".join(problem.spec.states),
        "values": [_short(norm) for norm in norms],
        "bound": bound,
        "got": _short(worst.got) if got and worst is not None else None,
    }


def _described(problem: Problem) -> str:
    cell = problem.cell + (f" {problem.activation}" if problem.activation else "")
    return f"{cell}, {problem.truncation}, " + " ".join(f"{name}={getattr(problem, name)}" for name in "TBDHK")


def _short(value: float) -> float | str:
    """Three digits, as JSON has it."""
    if np.isfinite(value):
        return float(f"{value:.3g}")
    return "nan" if np.isnan(value) else ("inf" if value > 0 else "-inf")
