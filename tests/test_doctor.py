"""doctor: a kernel that is right under another convention is told which, and the line to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.cli import main

ADAPTER = """
import numpy as np
from types import SimpleNamespace as NS
from implementations.numpy_bptt import gradients as right

SUPPORTS = {supports}

def gradients(p):
{body}
"""
PLAIN = {
    "readouts": ["none"], "losses": ["cotangent"], "truncations": ["full"], "dtypes": ["float64"], "lengths": False,
    "final_cotangents": False,
}  # fmt: skip
ORDERED = """
    order = {order}
    def put(W, order):
        return np.concatenate([np.split(W, len(order), axis=-1)[k] for k in order], axis=-1)
    params = {{k: put(v, np.argsort(order)) for k, v in p.params.items()}}
    answer = dict(right(NS(**(vars(p) | {{'params': params}}))))
    for key in ("dW_x", "dW_h", "db"):
        answer[key] = put(answer[key], order)
    return answer
"""
SHAPED = """
    a = dict(right(p))
    return a | {'dW_h': a['dW_h'].T, 'h': a['h'].transpose(1, 0, 2), 'dh0': a['dh0'][None]}
"""
FLIPPED = """
    H = p.h0.shape[1]
    def flip(v):
        v = v.copy()
        v[..., H:2*H] *= -1
        return v
    a = dict(right(NS(**(vars(p) | {'params': {k: flip(v) for k, v in p.params.items()}}))))
    return {k: flip(v) if k[:2] in ('dW', 'db') else v for k, v in a.items()}
"""
CASES = {
    "gate order": (
        "lstm",
        ORDERED.format(order=[1, 2, 3, 0]),
        ["the gates are in the order f, g, o, i", "order = [1, 2, 3, 0]"],
    ),
    "shapes": ("lstm", SHAPED, ["answer['dW_h'].T", "answer['h'].transpose(1, 0, 2)", "answer['dh0'].reshape("]),
    "z flipped": ("gru_reset_after", FLIPPED, ["the update gate is flipped", "negate the block z"]),
    "half": (
        "elman",
        "    return {k: v / 2 if k.startswith('d') else v for k, v in right(p).items()}",
        ["half of what it should be"],
    ),
    "batch mean": (
        "elman",
        "    return {k: v / p.x.shape[1] if k.startswith('d') else v for k, v in right(p).items()}",
        ["divided by the number of rows B"],
    ),
}


def ask(capsys, tmp_path: Path, cell: str, body: str, **more) -> tuple[int, str]:
    path = tmp_path / "adapter.py"
    path.write_text(ADAPTER.format(supports=PLAIN | {"cells": [cell]} | more, body=body), encoding="utf-8")
    status = main(["doctor", str(path)])
    return status, capsys.readouterr().out


@pytest.mark.parametrize("name", CASES)
def test_another_convention_is_told_with_what_to_change(capsys, tmp_path, name):
    cell, body, words = CASES[name]
    status, out = ask(capsys, tmp_path, cell, body)
    assert status == 1
    for word in words:
        assert word in out, out


def test_nothing_is_said_of_what_is_right(capsys, tmp_path):
    status, out = ask(capsys, tmp_path, "lstm", "    return right(p)", losses=["cotangent", "squared_error"])
    assert status == 0
    assert "nothing to say" in out


def test_a_target_that_answers_nothing_gives_status_3(capsys, tmp_path):
    status, out = ask(capsys, tmp_path, "elman", "    raise NotImplementedError('not yet')")
    assert status == 3
    assert "nothing could be asked" in out


def test_a_target_that_raises_is_told_so(capsys, tmp_path):
    status, out = ask(capsys, tmp_path, "elman", "    raise RuntimeError('broken')")
    assert status == 1
    assert "raised RuntimeError: broken" in out


def test_an_unknown_cell_is_bad_usage(capsys):
    assert main(["doctor", "numpy", "--cell", "gru"]) == 2
    assert "--cell: got 'gru'" in capsys.readouterr().err


def test_an_adapter_that_returns_no_gradient_is_told_so(capsys, tmp_path):
    path = tmp_path / "nothing.py"
    path.write_text("SUPPORTS = {'cells': ['elman'], 'dtypes': ['float64']}\ndef gradients(problem):\n    return {}\n")
    assert main(["doctor", str(path)]) == 1
    out = capsys.readouterr().out
    assert "no gradient is claimed" in out
    assert "dW_hh" in out
