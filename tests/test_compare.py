"""bpttcheck compare: every pair of verdicts falls into its class, and --fail-on sets the status."""

from __future__ import annotations

import copy
import json

import pytest

from conformance.cli import main
from conformance.comparison import CLASSES, LEVELS, compare, differences, met
from conformance.errors import UsageError
from tests.reports import finding, report, target

VERDICTS = ("pass", "fail", "crash", "timeout", "unsupported", "inconclusive", "error", None)
BAD = {"fail", "crash", "timeout"}


def pair(old, new):
    """A comparison of two reports that differ in one finding."""
    return compare(*(report(target(findings=[finding(verdict)] if verdict else [])) for verdict in (old, new)))


@pytest.mark.parametrize("old", VERDICTS)
@pytest.mark.parametrize("new", VERDICTS)
def test_every_pair_of_verdicts_has_the_class_that_a_reader_expects(old, new):
    (one,) = pair(old, new)
    if old is new is None:
        assert one.pairs == []
        return
    (found,) = one.pairs
    if new in BAD:
        want = "regressed" if old == "pass" else "still failing" if old in BAD else "newly failing"
    elif new == "pass":
        want = "unchanged" if old == "pass" else "fixed" if old in BAD else "newly passing"
    elif old in BAD | {"pass"}:
        want = "newly unsupported" if new == "unsupported" else "no longer judged"
    else:
        want = "unchanged"
    assert found.kind == want
    assert {kind: len(one.of(kind)) for kind in CLASSES} == {kind: int(kind == want) for kind in CLASSES}


@pytest.mark.parametrize(
    ("old", "new", "least"),
    [
        ("pass", "pass", None),
        ("fail", "fail", None),
        ("pass", "fail", "regression"),
        ("unsupported", "crash", "failure"),
        ("pass", "unsupported", "loss"),
        ("fail", "inconclusive", "loss"),
        ("timeout", "pass", "change"),
        ("error", "pass", "change"),
    ],
)
def test_fail_on_counts_what_its_level_says(old, new, least):
    levels = list(LEVELS)
    found = pair(old, new)
    assert [met(found, level) for level in levels] == [
        least is not None and levels.index(level) >= levels.index(least) for level in levels
    ]


@pytest.mark.parametrize("verdict", ["no verdict", "not conformant"])
def test_a_certificate_that_was_lost_is_a_regression(verdict):
    found = compare(report(target(findings=[])), report(target(verdict=verdict, findings=[])))
    assert met(found, "regression")
    assert not met(found, "never")
    assert not met(compare(report(target(verdict="no verdict")), report(target(verdict="not conformant"))), "loss")


def test_targets_that_one_report_lacks():
    old, new = report(target("a"), target("b")), report(target("b"), target("c"))
    found = compare(old, new)
    assert [(one.name, one.old is None, one.new is None) for one in found] == [
        ("b", False, False),
        ("c", True, False),
        ("a", False, True),
    ]
    assert [met(found, level) for level in LEVELS] == [False, False, False, True, True]
    come = compare(report(target("a"), target("b")), report(target("a"), target("b"), target("c")))
    assert [met(come, level) for level in LEVELS] == [False, False, False, False, True]


def test_two_reports_of_one_target_each_are_compared_whatever_it_is_called():
    (one,) = compare(report(target("v1.py", findings=[finding()])), report(target("v2.py", findings=[finding("fail")])))
    assert (one.old_name, one.name, one.of("regressed")[0].key) == ("v1.py", "v2.py", ("p", "elman", "float64"))


@pytest.mark.parametrize(
    ("old", "new", "growth"),
    [
        (0.5, 0.5, 0.0),
        (0.25, 0.5, 0.6931471805599453),
        (0.5, 0.25, 0.6931471805599453),
        (0.0, 0.5, float("inf")),
        ("inf", 0.5, float("inf")),
        ("nan", "nan", 0.0),
        ("nan", 0.5, float("inf")),
        (0.5, None, 0.0),
    ],
)
def test_worst_errors_are_compared_by_their_ratio(old, new, growth):
    (one,) = compare(*(report(target(findings=[finding(error=error)])) for error in (old, new)))
    assert one.pairs[0].growth == pytest.approx(growth, rel=1e-12, nan_ok=False)  # log 2, twice rounded
    assert len(one.moved()) == (growth > 0)


def test_norms_near_their_bound_are_no_errors():
    bounded = finding(error=0.9)
    bounded["worst"]["bound"] = "the largest singular value"
    (one,) = compare(report(target(findings=[finding(error=0.1)])), report(target(findings=[bounded])))
    assert one.moved() == []


def test_the_largest_change_comes_first():
    names = ["a", "b", "c"]
    old = report(target(findings=[finding(property=name, error=0.1) for name in names]))
    new = report(target(findings=[finding(property=n, error=e) for n, e in zip(names, (0.2, 0.001, 0.5), strict=True)]))
    (one,) = compare(old, new)
    assert [pair.key[0] for pair in one.moved()] == ["b", "c", "a"]


@pytest.mark.parametrize("broken", ["target", "finding"])
def test_what_stands_twice_is_refused(broken):
    twice = report(target("a"), target("a")) if broken == "target" else report(target(findings=[finding(), finding()]))
    with pytest.raises(UsageError, match=r"NEW: .* stands twice"):
        compare(report(target("a")), twice)


def test_differences_name_what_else_changed():
    old, new = report(), report()
    new |= {"suite_version": "0.2.0", "profile": "standard"}
    new["environment"] = {**old["environment"], "packages": {"numpy": "2.0", "jax": "1"}}
    assert differences(old, new) == {
        "suite version": ("0.1.0", "0.2.0"),
        "profile": ("smoke", "standard"),
        "jax": ("none", "1"),
        "numpy": ("1.26", "2.0"),
    }
    assert differences(old, old) == {}


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Write reports into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name, results):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))

    return write


def test_compare_prints_80_columns_and_sets_the_status(save, capsys):
    properties = ["shared-weight-summation", "oracle-agreement", "x" * 200]
    before = [finding(property=name, cell="gru_reset_before", dtype="bfloat16") for name in properties]
    after = [finding("unsupported", property=name, cell="gru_reset_before", dtype="bfloat16") for name in properties]
    after[1] = finding("fail", property="oracle-agreement", cell="gru_reset_before", dtype="bfloat16")
    save("old", report(target("n" * 200, findings=before)))
    save("new", {**report(target("n" * 200, verdict="not conformant", findings=after)), "profile": "thorough"})
    assert main(["compare", "old", "new/results.json", "--fail-on", "regression"]) == 1
    out = capsys.readouterr().out
    assert main(["compare", "old", "new"]) == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "profile: smoke → thorough" in out
    assert "certified → not conformant" in out
    assert "    oracle-agreement gru_reset_before bfloat16        pass → fail\n      wrong by a step\n" in out
    assert out.count("pass → unsupported") == 2
    assert out.endswith("1 regressed, 2 newly unsupported\n")


def test_compare_of_a_report_with_itself_says_so(save, capsys):
    save("old", report(target("a", findings=[finding()])))
    assert main(["compare", "old", "old", "--fail-on", "change"]) == 0
    assert "nothing changed" in capsys.readouterr().out


def test_compare_shows_the_first_lines_of_a_section_and_all_if_asked(save, capsys):
    save("old", report(target(findings=[finding(property=f"p{n:02}") for n in range(30)])))
    save("new", report(target(findings=[finding("crash", property=f"p{n:02}") for n in range(30)])))
    main(["compare", "old", "new"])
    out = capsys.readouterr().out
    assert (out.count("pass → crash"), "… 20 more: --all" in out) == (10, True)
    main(["compare", "old", "new", "--all"])
    assert capsys.readouterr().out.count("pass → crash") == 30


def test_compare_in_json_is_json_with_infinities_as_strings(save, capsys):
    save("old", report(target(findings=[finding(error=0.5)])))
    save("new", report(target(findings=[finding("fail", error="inf")])))
    main(["compare", "old", "new", "--json"])
    (one,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["targets"]
    assert one["regressed"][0]["new"] == {"verdict": "fail", "error_over_budget": "inf"}
    assert {key for key in one if isinstance(one[key], list)} == {
        *(kind.replace(" ", "_") for kind in CLASSES[:-1]),
        "worst_error_changed",
    }


def test_compare_says_which_report_is_incomplete(save, capsys):
    save("old", report(target()))
    save("new", {**report(target(verdict="no verdict")), "incomplete": {"findings": 3, "planned": 40}})
    assert main(["compare", "old", "new", "--fail-on", "regression"]) == 1
    assert "incomplete: 3 of 40 findings" in capsys.readouterr().out


def test_compare_lets_nothing_through_that_moves_a_cursor(save, capsys):
    evil = "\x1b[2J[bold]\u202e"
    bad = finding("fail", property=evil, cell=evil, message=evil)
    other = copy.deepcopy(report(target(evil, findings=[bad]))) | {"suite_version": evil}
    save("old", report(target(evil, findings=[finding(property=evil, cell=evil)])))
    save("new", other)
    assert main(["compare", "old", "new"]) == 0
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert "[bold]" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "not JSON"),
        ("{}", "is a required property"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"schema_version": 7}', "schema_version: got 7, expected 1"),
    ],
)
def test_compare_refuses_what_is_no_report_in_one_line(save, tmp_path, capsys, text, said):
    save("old", report())
    if text is not None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "results.json").write_text(text)
    assert main(["compare", "old", "new"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
