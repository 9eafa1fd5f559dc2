"""Every example in a docstring says what really happens, and every public function of the oracle has one."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("bptt", "oracle", "properties", "conformance")


def module_name(path: Path) -> str:
    """The name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path.name != "__main__.py")
PUBLIC = sorted(path for path in (ROOT / "oracle").glob("*.py") if path.name != "__init__.py")


def without_example(source: str) -> list[str]:
    """The public functions of a module whose docstring shows no example."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return [f.name for f in functions if not f.name.startswith("_") and ">>>" not in (ast.get_docstring(f) or "")]


@pytest.mark.parametrize("name", [module_name(path) for path in FILES])
def test_doctests_of_each_module_hold(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0, capsys.readouterr().out


def test_doctests_are_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(module_name(path)) for path in FILES]
    found = [test.name for module in modules for test in finder.find(module) if test.examples]
    assert {"bptt.bits.decode", "oracle.rounding.round_exact", "bptt.truncation.Truncation.first"} <= set(found)


@pytest.mark.parametrize("path", PUBLIC, ids=[path.stem for path in PUBLIC])
def test_doctests_show_every_public_function_of_the_oracle(path: Path) -> None:
    missing = without_example(path.read_text(encoding="utf-8"))
    assert missing == [], f"{path.relative_to(ROOT)}: no example (>>>) for {', '.join(missing)}"


def test_doctests_that_are_missing_are_noticed() -> None:
    shown = 'def shown():\n    """One.\n\n    >>> 1\n    1\n    """\n'
    source = shown + 'def bare():\n    """Two."""\ndef none(): pass\ndef _own(): pass'
    assert without_example(source) == ["bare", "none"]
