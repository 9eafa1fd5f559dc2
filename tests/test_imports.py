"""The folder table: who may import whom, read from every module's syntax tree, nothing of it run.

    bptt             nothing of ours          oracle        bptt                  implementations  bptt
    properties       bptt, oracle             conformance   all of these          bpttcheck.py     nothing, at import

An import counts wherever it stands, within functions and conditions too; in bpttcheck.py, where it runs at import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE: dict[str, set[str]] = {
    "bptt": set(),
    "oracle": {"bptt"},
    "implementations": {"bptt"},
    "properties": {"bptt", "oracle"},
    "conformance": {"bptt", "oracle", "implementations", "properties"},
    "bpttcheck": set(),
}
CALLS = {
    "import_module",
    "__import__",
    "find_spec",
    "run_module",
    "iter_modules",
    "resolve_name",
    "exec",
    "eval",
    "require",
}


def python_files(root: Path, folder: str) -> list[Path]:
    """The modules of a folder, or the one module of that name."""
    return sorted((root / folder).rglob("*.py")) if (root / folder).is_dir() else [root / f"{folder}.py"]


def relative(module: str | None, level: int, path: Path, root: Path) -> str:
    """The absolute name of what `from ..module import` means in a file."""
    package = path.relative_to(root).parts[:-1]
    kept = package[: len(package) - (level - 1)]
    return ".".join([*kept, *([module] if module else [])])


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: those in no function."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_import(child)


def imported(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of each module that a file imports, by a statement or by a string given to an importing function."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in at_import(tree) if path == root / "bpttcheck.py" else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = relative(node.module, node.level, path, root) if node.level else str(node.module)
            yield node.lineno, base
            if not base:  # from .. import oracle, at the top
                yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in CALLS:
                yield from _strings(node, path, root)


def _strings(call: ast.Call, path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """The module names in the literals among a call's arguments; `import a.b` within a text of code too."""
    for part in [*call.args, *(keyword.value for keyword in call.keywords)]:
        for literal in ast.walk(part):
            if not (isinstance(literal, ast.Constant) and isinstance(literal.value, str)):
                continue
            text = literal.value
            for word in text.replace("import", " ").replace("from", " ").replace(",", " ").split():
                dots = len(word) - len(word.lstrip("."))
                name = relative(word.lstrip("."), dots, path, root) if dots else word
                yield literal.lineno, name.partition(":")[0]


def violations(root: Path, table: dict[str, set[str]]) -> list[str]:
    """Each import that the table forbids: where it stands, what it names, and what may be named there."""
    found = []
    for folder, allowed in table.items():
        for path in python_files(root, folder):
            for line, name in imported(path, root):
                top = name.partition(".")[0]
                if top in table and top != folder and top not in allowed:
                    may = ", ".join(sorted(allowed)) or "nothing of ours"
                    found.append(f"{path.relative_to(root)}:{line}: imports {name}; {folder} may import {may}")
    return found


@pytest.mark.parametrize("folder", TABLE)
def test_imports_keep_to_the_table(folder: str) -> None:
    assert python_files(ROOT, folder), f"there is nothing in {folder}"
    assert [line for line in violations(ROOT, TABLE) if line.startswith((f"{folder}/", f"{folder}.py"))] == []


def test_imports_of_every_folder_are_in_the_table() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == set(TABLE) - {"bpttcheck"}
    assert all((ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file() for name in TABLE)


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("implementations/fast.py", "import oracle"),
        ("implementations/fast.py", "import numpy, oracle.solution as truth"),
        ("implementations/fast.py", "from oracle.reverse import reverse_gradients"),
        ("implementations/fast.py", "def f():\n    from oracle import solution"),
        ("implementations/fast.py", "if False:\n    import oracle.truth"),
        ("implementations/cells/fast.py", "from ...oracle import solution"),
        ("implementations/cells/fast.py", "from ... import oracle"),
        ("implementations/fast.py", "import importlib\nimportlib.import_module('oracle.solution')"),
        ("implementations/fast.py", "from importlib import import_module as load\nimport_module(name='oracle')"),
        ("implementations/cells/fast.py", "import importlib\nimportlib.import_module('...oracle', __package__)"),
        ("implementations/fast.py", "__import__('oracle')"),
        ("implementations/fast.py", "exec('from oracle.truth import find_truth')"),
        ("implementations/fast.py", "import importlib\nimportlib.import_module(f'oracle.{1}')"),
        ("implementations/fast.py", "import properties"),
        ("bptt/cells/new.py", "from oracle.numbers import Matrix"),
        ("bptt/new.py", "import implementations.numpy_bptt"),
        ("oracle/new.py", "from implementations import registry"),
        ("oracle/new.py", "from properties import PROPERTIES"),
        ("properties/new.py", "from conformance.engine import judge"),
        ("properties/new.py", "import implementations"),
        ("conformance/new.py", "import bpttcheck"),
        ("bpttcheck.py", "import bptt"),
        ("bpttcheck.py", "try:\n    from conformance.cli import run\nfinally:\n    pass"),
        ("bpttcheck.py", "class Plugin:\n    import bptt"),
    ],
)
def test_imports_that_break_the_table_are_found(place: str, code: str, tmp_path: Path) -> None:
    plant(tmp_path, place, code)
    (message,) = set(violations(tmp_path, TABLE))
    lines = [number for number, line in enumerate(code.split("\n"), start=1) if "import" in line or "exec" in line]
    assert message.startswith(f"{place}:{lines[-1]}: imports ")


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("implementations/fast.py", "from bptt.problem import Problem\nimport numpy as np\nfrom . import slow"),
        ("implementations/cells/fast.py", "from ..slow import gradients\nfrom implementations import slow"),
        ("conformance/new.py", "import oracle, properties.base\nfrom implementations.registry import load"),
        ("properties/new.py", "import bptt\nfrom oracle.truth import find_truth\n'the oracle'"),
        ("oracle/new.py", "from oracle.budget.model import Model\nimport oracles"),
        ("bpttcheck.py", "import subprocess\ndef main():\n    from conformance.cli import run"),
    ],
)
def test_imports_that_keep_to_the_table_are_not_found(place: str, code: str, tmp_path: Path) -> None:
    plant(tmp_path, place, code)
    assert violations(tmp_path, TABLE) == []


def plant(root: Path, place: str, code: str) -> None:
    """Make a tree that has every folder of the table, and one more file."""
    for name in TABLE:
        file = root / (f"{name}.py" if name == "bpttcheck" else f"{name}/__init__.py")
        file.parent.mkdir(exist_ok=True)
        file.write_text('"""Nothing."""\n', encoding="utf-8")
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text(code, encoding="utf-8")
