"""The known mistakes, one family a file; each has `propose(problem)`, the hypotheses that fit its configuration.

A new family is a file here with that function.
"""

from __future__ import annotations

import importlib
import pkgutil

from bptt.problem import Problem
from conformance.diagnosis.hypothesis import Hypothesis, Propose

FAMILIES: dict[str, Propose] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").propose
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
}


def hypotheses(problem: Problem) -> list[Hypothesis]:
    """All that fit a configuration, the simplest first."""
    found = [one for propose in FAMILIES.values() for one in propose(problem)]
    return sorted(found, key=lambda one: one.order)
