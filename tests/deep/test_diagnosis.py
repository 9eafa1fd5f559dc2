"""Every bug of the table in tests/test_diagnosis.py, which takes one in four, is named (`tox -e teeth`)."""

from __future__ import annotations

import pytest

from conformance.diagnosis import Failure, diagnose
from tests.test_diagnosis import BLIND, planted, problem


@pytest.mark.parametrize(("name", "cell", "configuration", "named"), BLIND, ids=[case[0] for case in BLIND])
def test_a_bug_of_the_blind_table_is_named(name, cell, configuration, named):
    p = problem(cell, **configuration)
    found = diagnose(planted(name, "blind"), Failure(p, p))
    assert found is not None
    assert found.matches[0].hypothesis.id == named, found.sentence
