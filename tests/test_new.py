"""new: the adapter that it writes loads, says what is missing, and is certified once it is filled in."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem, gradient_shapes
from conformance import workers
from conformance.bench import TargetBench
from conformance.cli import main
from conformance.targets import Setting, resolve

IN_PROCESS = Setting(in_process=True)


def written(tmp_path, capsys, cell: str) -> str:
    """The path of a new adapter."""
    assert main(["new", f"my_{cell}", "--cell", cell, "--dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    path = str(tmp_path / f"my_{cell}.py")
    assert f"wrote {path}" in out
    assert f"bpttcheck certify {path}" in out
    return path


def problem(cell: str) -> Problem:
    """A problem whose sizes differ: T = 4, B = 3, D = 2, H = 5."""
    rng = np.random.default_rng(0)
    spec = CELLS[cell]
    return Problem(
        cell,
        {name: rng.standard_normal(shape) for name, shape in spec.shapes(2, 5).items()},
        rng.standard_normal((4, 3, 2)),
        Loss("cotangent", g=rng.standard_normal((4, 3, 5))),
        **{f"{state}0": rng.standard_normal((3, 5)) for state in spec.states},
        activation="tanh" if spec.activations else None,
    )


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_new_adapter_answers_every_array_in_its_shape(tmp_path, capsys, cell):
    target = resolve(written(tmp_path, capsys, cell), IN_PROCESS)
    assert target.support.cells == (cell,)
    one = problem(cell)
    answer = TargetBench(target, "float64").run(one)
    assert {key: array.shape for key, array in answer.items()} == gradient_shapes(one)
    assert not any(array.any() for array in answer.values())


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_new_adapter_names_every_array_that_it_is_given(tmp_path, capsys, cell):
    path = tmp_path / f"my_{cell}.py"
    written(tmp_path, capsys, cell)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert imports == ["numpy"]
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    said = ast.get_docstring(function) or ""
    sizes = {"T": 4, "B": 3, "D": 2, "H": 5}
    for name, array in problem(cell).arrays():
        field = f'problem.params["{name[7:]}"]' if name.startswith("params.") else f"problem.{name}"
        (line,) = (text for text in said.splitlines() if text.startswith(f"    {field} "))
        letters = line[line.index("(") + 1 : line.index(")")].replace(" ", "").strip(",").split(",")
        assert tuple(int(part[:-1] or 1) * sizes[part[-1]] for part in letters) == array.shape


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_new_adapter_is_told_what_is_missing(tmp_path, capsys, cell):
    path = written(tmp_path, capsys, cell)
    words = ["certify", path, "--profile", "smoke", "--select", "oracle-agreement", "--jobs", "1"]
    assert main([*words, "--report-dir", str(tmp_path / "reports")]) == 1
    out = capsys.readouterr().out
    workers.close_all()
    (wrong,) = (line for line in out.splitlines() if "wrong: " in line)
    keys = wrong.partition("wrong: ")[2].partition(";")[0].split(", ")
    assert set(keys) == set(gradient_shapes(problem(cell)))
    assert "got 0, want" in out
    assert "diagnosis: loss, h, " in out
    assert "all zero" in out


def test_new_adapter_that_is_filled_in_halfway_is_told_the_rest(tmp_path, capsys):
    path = tmp_path / "my_elman.py"
    written(tmp_path, capsys, "elman")
    source = path.read_text(encoding="utf-8")
    forward = (
        "h = np.zeros((T, B, H))\n    for t in range(T):\n"
        "        h[t] = np.tanh(x[t] @ W_xh + (h[t - 1] if t else h0) @ W_hh + b_h)"
    )
    path.write_text(source.replace("h = np.zeros((T, B, H))", forward), encoding="utf-8")
    assert main(["doctor", str(path)]) == 1
    out = capsys.readouterr().out
    workers.close_all()
    assert "dW_xh, dW_hh, db_h, dx, dh0: all zero" in out
    assert "loss" not in out


def test_new_overwrites_nothing(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("kept = 1\n")
    assert main(["new", "mine", "--dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"bpttcheck: {path} exists, and is left as it is; expected a new name\n"
    assert path.read_text() == "kept = 1\n"
    (tmp_path / "link.py").symlink_to(tmp_path / "nowhere.py")
    assert main(["new", "link", "--dir", str(tmp_path)]) == 2
    assert not (tmp_path / "nowhere.py").exists()


@pytest.mark.parametrize("name", ["", "a b", "../up", "/x", "my-kernel", "1st", "class", "numpy", "random", "é", "a\n"])
def test_new_refuses_what_is_no_name(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert main(["new", name]) == 2
    err = capsys.readouterr().err
    assert "NAME: " in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_new_refuses_unknown_cells_and_folders(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--cell", "gru"]) == 2
    assert "--cell: got 'gru', expected one of elman, " in capsys.readouterr().err
    assert main(["new", "mine", "--dir", "nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_new_takes_the_name_of_the_file_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine.py"]) == 0
    assert "bpttcheck doctor mine.py" in capsys.readouterr().out
    assert (tmp_path / "mine.py").is_file()
