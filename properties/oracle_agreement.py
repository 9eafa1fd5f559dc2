"""oracle-agreement: every value that a target returns is within budget of the exact one.

Beside what is drawn, fixed problems, the same in every certificate, but that smoke leaves out the largest, and those
that are marked with a star:

sizes      each axis at every size up to 33; each, and several at once, at and past the widths of vectors, tiles and
           blocks, up to T = 515, H = 257, B = 260, D and K = 300; every loss with every readout where all axes are
           wide, and where T is 34; products of which rows and columns are both past a multiple of 64
reach      networks in which the first of 270 steps still matters at the last, with every activation, and one of 1,100
           steps; truncations that reach 70 of 150 steps, and losses of 70 steps that wait for one pass; 200 rows,
           32,800 of them and steps, 131 units (520 where few weights are), 1030 inputs, 1030 and 33,000 classes
rows       of length 0, none but such, in the order of their lengths, ending inside a block
values     each array in turn all zero, or with one entry far beyond the rest; states that are exactly 0; arguments past
           exp's overflow, next to 0, and of every size between; a class that is all but impossible, and the right one
           nevertheless; probabilities that are labels; outputs near their targets and far from 0
losses     every loss with every reduction, with lengths and without
pairs      any two of: a loss, a readout, a truncation, a reduction, lengths, no initial state, an activation, an axis
           that is 1 or past 16
all*       combinations of a loss, a truncation, a reduction and lengths, their sizes in turn
wide*      one axis past 128 or 256 beside every loss, truncation, reduction, initial state and activation, and rows of
           all lengths; two axes past 32, 64 or 128, and all of them past 8 and past 16
text       a network of characters at several points of its training on a real text
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis.strategies import SearchStrategy

from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import against_truth
from properties.edges import edge_problems
from properties.pairwise import combined_problems, pairwise_problems
from properties.real_text import text_problems
from properties.strategies import problems
from properties.wide import wide_problems


class OracleAgreement(Property):
    """|got - exact| <= budget for loss, states, outputs and each gradient."""

    id = "oracle-agreement"
    statement = "States, outputs, loss and every gradient lie within budget of the oracle's exact solution."
    source = "The definition of the problem; the budget is derived in docs/budget.md."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        return problems(support, cell, dtype).map(Case)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        where = (support, cell, dtype)
        quick, deep = (edge_problems, pairwise_problems, text_problems), (combined_problems, wide_problems)
        found = [Case(problem) for problems_of in quick for problem in problems_of(*where)]
        return found + [Case(problem, deep=True) for problems_of in deep for problem in problems_of(*where)]

    def check(self, case: Case, bench: Bench) -> Judgement:
        return against_truth(case.problem, bench.run(case.problem), bench.truth(case.problem))


PROPERTY = OracleAgreement()
