"""The mutants: what is changed and what is not, which tests are chosen, and that a change is seen or survives."""

from __future__ import annotations

import pytest

from tests.mutation import __main__ as mutation
from tests.mutation import cover
from tests.mutation.cover import Timed
from tests.mutation.operators import Mutant, mutants_of, mutated, operators

SOURCE = '''"""Has 3 words."""
from abc import abstractmethod
import numpy as np

LIMIT = 5


class Shape:
    """A shape."""

    @abstractmethod
    def area(self, n: "int | None" = None, *rest: float) -> list[int] | None:
        """1 < 2."""


def size(x, n):
    """The size."""
    total = abs(n)
    total += np.abs(x).sum()
    if total < LIMIT:
        print(total)
    return total * 2
'''
CODE = """def twice(x):
    return 2 * x


def thrice(x):
    unused = x + 1
    return 3 * x
"""
TESTS = """import oracle.code as code


def test_twice():
    assert code.twice(3) == 6


def test_thrice():
    assert code.thrice(0) == 0
"""


def changes():
    return {line for m in mutants_of("f.py", SOURCE) for line in changed(m)}


def changed(mutant):
    code = mutated(SOURCE, mutant)
    return [] if code is None else sorted(set(code.splitlines()) - set(SOURCE.splitlines()))


def test_operators_do_what_their_examples_say():
    for operator in operators().values():
        for example in operator.examples():
            name = next(name for name, known in operators().items() if known is operator)
            mutant = Mutant("f.py", name, example.occurrence, (1, 0))
            code = mutated(example.pre_mutation_code, mutant)
            assert code is None or code.split() == example.post_mutation_code.split()


def test_mutants_change_code_and_neither_words_nor_annotations():
    found = changes()
    assert {"LIMIT = 6", "LIMIT = 4", "    if total <= LIMIT:", "    return total / 2", "    pass"} <= found
    assert {"    total += np.positive(x).sum()", "    total += np.abs(x).max()", "        pass"} <= found
    assert not any("words" in line or "area" in line or '"""' in line for line in found)
    assert all("abstractmethod" not in line for line in found)


def test_every_mutant_compiles_and_differs():
    for mutant in mutants_of("f.py", SOURCE):
        code = mutated(SOURCE, mutant)
        if code is not None:
            compile(code, "f.py", "exec")
            assert code != SOURCE


def test_statement_is_the_smallest_one_and_the_head_of_a_compound_one():
    lines = SOURCE.splitlines()
    at = {text.strip(): number for number, text in enumerate(lines, 1)}
    branch = at["if total < LIMIT:"]
    assert cover.statement(SOURCE, branch) == (branch, branch)
    assert cover.in_function(SOURCE, branch)
    assert not cover.in_function(SOURCE, at["LIMIT = 5"])


def test_chosen_tests_run_the_line_and_begin_with_one_of_each_function():
    line = SOURCE.splitlines().index("    return total * 2") + 1
    there = {"f.py": 1 << line}
    tests = [
        Timed("t.py::a[1]", 1.0, there),
        Timed("t.py::a[2]", 2.0, there),
        Timed("t.py::b[1]", 3.0, there),
        Timed("t.py::c", 0.1, {"f.py": 1 << line - 1}),
        Timed("t.py::d", 50.0, there),
    ]
    assert [t.node for t in cover.choose(tests, "f.py", SOURCE, line, 10)] == ["t.py::a[1]", "t.py::b[1]", "t.py::a[2]"]
    assert [t.node for t in cover.choose(tests[3:], "f.py", SOURCE, line, 10)] == ["t.py::d"]


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "oracle").mkdir()
    (tmp_path / "properties").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "oracle" / "__init__.py").write_text("")  # a package in the path of what is installed would win
    (tmp_path / "oracle" / "code.py").write_text(CODE)
    (tmp_path / "tests" / "test_code.py").write_text(TESTS)
    return tmp_path


def test_sample_is_the_same_for_a_seed_and_spread_over_the_files(tree):
    (tree / "properties" / "more.py").write_text(CODE * 3)
    drawn = mutation.sample(tree, cover.sources(tree), 8, 0)
    assert drawn == mutation.sample(tree, cover.sources(tree), 8, 0)
    assert drawn != mutation.sample(tree, cover.sources(tree), 8, 1)
    assert sorted(m.path for m in drawn) == ["oracle/code.py"] * 2 + ["properties/more.py"] * 6
    assert len({(m.path, m.start) for m in drawn}) == 8


def test_mutants_are_killed_where_a_test_looks_and_survive_elsewhere(tree, tmp_path):
    tests = cover.record(tree, tmp_path / "cover.json")
    lines = {t.node: t.lines for t in tests}
    assert set(lines) == {"tests/test_code.py::test_twice", "tests/test_code.py::test_thrice"}
    assert lines["tests/test_code.py::test_twice"] == {"oracle/code.py": 1 << 2}
    found = {m: mutation.judge(tree, m, tests, 10) for m in mutation.sample(tree, cover.sources(tree), 6, 0)}
    verdicts = {(m.start[0], r.verdict) for m, r in found.items()}
    assert (2, "killed") in verdicts
    assert (6, "survived") in verdicts
    assert (2, "survived") not in verdicts
    assert (tree / "oracle" / "code.py").read_text() == CODE
    assert mutation.table(found).splitlines()[-1].startswith(f"| `all` | {len(found)} |")


def test_endless_mutants_time_out(tree):
    (tree / "oracle" / "code.py").write_text("def twice(x):\n    while x != x:\n        pass\n    return 2 * x\n")
    mutant = next(
        m
        for m in mutants_of("oracle/code.py", (tree / "oracle/code.py").read_text())
        if m.operator.endswith("NotEq_Eq")
    )
    tests = [Timed("tests/test_code.py::test_twice", -2.5, {"oracle/code.py": 1 << 2})]
    assert mutation.judge(tree, mutant, tests, 10).verdict == "timed out"
