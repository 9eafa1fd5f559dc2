"""oracle-agreement: every value that a target returns is within budget of the exact one."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis.strategies import SearchStrategy

from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import against_truth
from properties.edges import edge_problems
from properties.real_text import text_problems
from properties.strategies import problems


class OracleAgreement(Property):
    """|got - exact| <= budget for loss, states, outputs and each gradient."""

    id = "oracle-agreement"
    statement = "States, outputs, loss and every gradient lie within budget of the oracle's exact solution."
    source = "The definition of the problem; the budget is derived in docs/budget.md."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        return problems(support, cell, dtype).map(Case)

    def fixed(self, support: Support, cell: str, dtype: str) -> Sequence[Case]:
        return [Case(p) for p in [*edge_problems(support, cell, dtype), *text_problems(support, cell, dtype)]]

    def check(self, case: Case, bench: Bench) -> Judgement:
        return against_truth(case.problem, bench.run(case.problem), bench.truth(case.problem))


PROPERTY = OracleAgreement()
