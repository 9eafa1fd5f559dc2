"""What a judgement rests on: the exact solution, decided to well below the budget, and the budget itself.

An array is conclusive if its budget is small beside it: only then does "within budget" say much. One whose entries are
all zero, as far as the solution tells, is measured by the products that cancel in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from bptt.problem import Problem, gradient_shapes
from oracle.budget import Budget, Model, budget
from oracle.budget.graph import Floats
from oracle.pairs import BITS, PairSolution, finite, solve_in_pairs
from oracle.solution import FIRST_PRECISION, Solution, decided

CONCLUSIVE = {"float64": 2.0**-8, "float32": 2.0**-8, "float16": 2.0**-2, "bfloat16": 2.0**-2}
DECIDED = 2.0**-10
"""A solution's radius is at most this part of the budget (or the smallest float64), so that it changes no verdict."""
LIKELY = 8
"""By so many bits is a budget seldom more than its unit roundoff times the array; it only says what is tried first."""


def norm(array: Floats) -> float:
    """The Frobenius norm, scaled so that no square overflows or underflows; infinite or NaN where an entry is.

    >>> norm(np.array([3e300, 4e300])), norm(np.array([3e-300, 4e-300]))
    (5e+300, 5e-300)
    """
    flat = np.ravel(array)
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(flat @ flat)
    if 2.0**-900 < square < 2.0**900:  # nothing overflows, and what underflows is no part of it
        return math.sqrt(square)
    largest = float(np.max(np.abs(array), initial=0.0))
    if not 0 < largest < np.inf:
        return largest
    scaled = np.ravel(array / largest)
    return largest * math.sqrt(float(scaled @ scaled))


@dataclass
class Truth:
    """A problem's exact values and the budget of each; both roads' users ask `excess` and `conclusive`."""

    problem: Problem
    solution: Solution
    budget: Budget
    _conclusive: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def allowed(self, key: str) -> Floats:
        """Budget plus radius of each entry of the array."""
        bound: Floats = self.budget.arrays[key] + self.solution.near(key)[2]
        return bound

    def error(self, key: str, got: np.ndarray) -> Floats:
        """|got - exact|, entry by entry; NaN and infinities in `got` stay NaN and infinite."""
        hi, lo, _ = self.solution.near(key)
        with np.errstate(all="ignore"):
            error: Floats = np.abs((got - hi) - lo).astype(np.float64)
        return error

    def conclusive(self, key: str) -> bool:
        """Whether an array's budget is small enough to say something: see the module's first lines."""
        if key not in self._conclusive:
            self._conclusive[key] = self._says_something(key)
        return self._conclusive[key]

    def _says_something(self, key: str) -> bool:
        bound = norm(self.budget.arrays[key])
        hi, _, rad = self.solution.near(key)
        size = norm(hi)
        if bool((np.abs(hi) <= rad).all()):
            return bound <= self.zero_scale(key)
        return bound == 0.0 or bound <= CONCLUSIVE[self.problem.dtype] * size < np.inf

    def zero_scale(self, key: str) -> float:
        """For an array that is exactly zero: the size of the products that cancel, or a normal number's root."""
        tiny = {"float64": 2.0**-511, "float16": 2.0**-7}.get(self.problem.dtype, 2.0**-63)
        return max(norm(np.asarray(self.budget.scales.get(key, 0.0))), tiny)


def _missing(solution: Solution, model: Model) -> float:
    """How many bits too wide the balls are, beside the narrowest budget that an array of their size might have."""
    near = (solution.near(key) for key in gradient_shapes(solution.problem))
    widths = ((float(rad.max(initial=0)), float(np.abs(hi).max(initial=0))) for hi, _, rad in near)
    found = (math.log2(rad) - math.log2(size) for rad, size in widths if rad > 0 and size > 0)
    return max(found, default=-math.inf) - math.log2(model.u * DECIDED)


def find_truth(problem: Problem, model: Model) -> Truth:
    """Solve and bound a problem, at a precision that decides every entry against its budget.

    Raises: PrecisionExhausted.

    >>> from bptt.problem import Loss
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="tanh")
    >>> truth = find_truth(p, Model("float64"))
    >>> got = np.tanh([[[2.0]], [[2 + 3 * np.tanh(2)]]])
    >>> truth.conclusive("h"), bool((truth.error("h", got) <= truth.allowed("h")).all())
    (True, True)
    """
    found: list[Budget] = []
    padding = (np.arange(problem.T)[:, None] >= problem.row_lengths)[:, :, None]

    def enough(solution: Solution) -> bool:
        found.clear()
        if not isinstance(solution, PairSolution) and not finite(solution):
            return False
        bounds = budget(solution, model)
        found[:] = [bounds]
        for key, bound in bounds.arrays.items():
            small = solution.near(key)[2] <= np.maximum(DECIDED * bound, 5e-324)
            if key in ("h", "c", "o"):
                small |= padding  # nothing is judged there, and no precision would make an output's ball a point
            if not small.all():
                return False
        return True

    pairs, first = solve_in_pairs(problem), FIRST_PRECISION
    missing = -math.inf if pairs is None else _missing(pairs, model)
    if missing > LIKELY:  # no budget that is worth computing would decide every array
        pairs = None
    if missing > LIKELY + FIRST_PRECISION - BITS:  # nor would it be decided at that precision
        first *= 2
    solution = pairs if pairs is not None and enough(pairs) else decided(problem, enough, first)
    if not found or found[0] is None or solution.N.name == "rational":
        found[:] = [budget(solution, model)]
    return Truth(problem, solution, found[0])
