"""unit-permutation: hidden units have no order, so that relabelling them relabels the gradients and no more.

With P a permutation matrix, h' = h P solves the network with

    W_xh' = W_xh P    W_hh' = P^T W_hh P    b_h' = b_h P    h0' = h0 P    W_hy' = P^T W_hy                (1)

since phi acts entrywise: phi(a P) = phi(a) P. A gated cell has P in every block of columns. The loss is the same, so
that the gradient of each array is relabelled as the array is. Without a readout the outputs are the units: cotangents,
targets and classes are relabelled too.
"""

from __future__ import annotations

import math

import hypothesis
import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import gradient_shapes
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, of_sums
from properties.recipe import Draw, Recipe
from properties.strategies import draw_problem, offered, replace_shape
from properties.units import Indices, relabel, relabelled


class UnitPermutation(Property):
    """Any permutation but the identity."""

    id = "unit-permutation"
    statement = "Relabelling the hidden units relabels states and gradients likewise, and changes nothing else."
    source = "Equivariance of the equations in section 2 under a permutation; (1) is ours."
    needs = "two hidden units"

    def unsupported(self, support: Support, cell: str) -> str | None:
        limits = [support.max_size.get("H", 2)]
        if support.readouts == ("none",):
            limits.append(support.max_size.get("K", 2))
        return None if min(limits) >= 2 else f"needs {self.needs}"

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(offered(support, cell), largest=(8, 3, 4, 4, 4), edges=False, calm=True)

        def build(draw: Draw) -> Case:
            problem = draw_problem(draw, shape, support, cell, dtype)
            if problem.H < 2:
                hypothesis.reject()
            return Case(problem, {"permutation": draw.integer(1, math.factorial(problem.H) - 1)})

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        order = permutation(case.parameters["permutation"], problem.H)
        back = relabelled(problem, np.argsort(order))
        return of_sums(
            bench, [Part(+1, problem), Part(-1, relabel(problem, order), places=back)], list(gradient_shapes(problem))
        )


def permutation(number: int, H: int) -> Indices:
    """The permutation of that number in the order of the dictionary, from 0, the identity.

    >>> permutation(0, 3).tolist(), permutation(1, 3).tolist(), permutation(5, 3).tolist()
    ([0, 1, 2], [0, 2, 1], [2, 1, 0])
    """
    left, out = list(range(H)), []
    for n in range(H - 1, -1, -1):
        place, number = divmod(number, math.factorial(n))
        out.append(left.pop(place % len(left)))
    return np.array(out, dtype=np.int64)


PROPERTY = UnitPermutation()
