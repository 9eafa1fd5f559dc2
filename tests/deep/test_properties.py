"""Every property on correct code, on as many problems as `certify` draws: tests/ takes a few (`tox -e teeth`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bptt.cells import CELLS
from conformance import engine
from conformance.cli import main
from conformance.engine import LEAST_SHARE, PROFILES, Profile
from properties import PROPERTIES
from tests.deep import hostile
from tests.test_certify import GOOD, SEVERAL, results_of
from tests.test_properties_a import IDS, NARROW, Strict, search
from tests.test_properties_b import SYMMETRIES

PAIRS = [(name, cell) for name in PROPERTIES for cell in CELLS if PROPERTIES[name].concerns(cell)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "cell"), PAIRS)
def test_property_passes_for_numpy_and_says_something(name, cell, dtype):
    finding = search("numpy", name, cell, dtype, PROFILES["smoke"])
    assert finding.smallest is None, finding.smallest
    assert finding.verdict in ("pass", "inconclusive"), finding.message
    assert finding.conclusive >= LEAST_SHARE * finding.examples


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("name", SYMMETRIES)
def test_symmetry_holds_of_the_exact_solutions(name, cell, monkeypatch):
    judge, seen = engine.judge, []
    monkeypatch.setattr(engine, "judge", lambda *what: seen.append(judge(*what)) or seen[-1])
    search("numpy", name, cell, "float64", Profile("x", 40, 0))
    comparisons = [c for outcome in seen if outcome.judgement for c in outcome.judgement.comparisons]
    assert len(comparisons) > 150
    assert all(abs(c.want) <= 2.0**-30 * c.allowed for c in comparisons)


@pytest.mark.parametrize("narrow", NARROW, ids=range(len(NARROW)))
@pytest.mark.parametrize("name", IDS)
def test_cases_lie_within_what_a_target_offers(name, narrow, monkeypatch):
    judge = engine.judge
    monkeypatch.setattr(engine, "judge", lambda prop, case, bench, alone: judge(prop, case, Strict(bench), alone))
    for cell in CELLS:
        if PROPERTIES[name].concerns(cell):
            finding = search("numpy", name, cell, "float64", Profile("x", 20, 0), **narrow)
            assert finding.verdict in ("pass", "inconclusive", "unsupported"), (cell, finding.message, finding.smallest)


@pytest.mark.parametrize("T", [1, 4, 12])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_no_sign_leaves_the_budget_and_some_come_near(cell, T):
    found = hostile.worst_of([one for seed in range(6) for one in hostile.search((cell, "float32", T, seed, 0))])
    assert len(found) == 2
    assert all(0.25 < one.ratio <= 1 for one in found)


def test_built_in_targets_are_certified_by_the_whole_command(tmp_path):
    assert main(["certify", "numpy", "c", "--profile", "smoke", "--report-dir", str(tmp_path)]) == 0
    assert [target["verdict"] for target in results_of(tmp_path)["targets"]] == ["certified"] * 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_has_no_fault_of_its_own(tmp_path, dtype):
    """As tests/test_certify.py, where problems are small: here in every size."""
    adapter = tmp_path / "low.py"
    adapter.write_text(Path(GOOD).read_text().replace('"dtypes": ["float64"]', f'"dtypes": ["{dtype}"]'))
    words = ["certify", str(adapter), "--profile", "smoke", "--select", SEVERAL + ",oracle-agreement,exact-problems"]
    main([*words, "--report-dir", str(tmp_path / "reports")])
    findings = results_of(tmp_path / "reports")["targets"][0]["findings"]
    assert {f["dtype"] for f in findings} == {dtype}
    assert {f["verdict"] for f in findings} <= {"pass", "inconclusive", "unsupported"}, findings
