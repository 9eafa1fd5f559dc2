"""Certified digits: every printed digit is right, as many as asked, whatever the cell."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st

from bptt.files import load_problem, save_problem
from bptt.problem import Loss, Problem, gradient_shapes
from bptt.support import Support
from conformance.cli import main
from oracle.digits import FAR, _bound, _rational, ball_digits, certified_digits, decimal
from oracle.mpmath_numbers import MpmathNumbers
from oracle.solution import solve
from properties.edges import edge_problems


@given(st.fractions(), st.integers(1, 30))
def test_decimal_is_within_half_a_unit_of_the_last_digit(value, digits):
    text = decimal(value, digits)
    if value == 0:
        assert text == "0"
        return
    mantissa, exponent = text.split("e")
    assert len(mantissa.replace("-", "").replace(".", "")) == digits
    unit = Fraction(10) ** (int(exponent) - digits + 1)
    assert abs(Fraction(text) - value) <= unit / 2


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru_reset_after"])
@pytest.mark.parametrize("digits", [1, 17, 60])
def test_certified_digits_agree_with_mpmath_at_far_higher_precision(cell, digits):
    problem = next(iter(edge_problems(Support(), cell, "float64")))
    found = certified_digits(problem, digits)
    reference = solve(problem, MpmathNumbers(1000), "double-sum")
    context = mpmath.MPContext()
    context.prec = 1000
    for key in gradient_shapes(problem):
        for text, value in zip(found[key], reference.values[key], strict=True):
            want = context.mpf(str(text)) if text != "0" else context.mpf(0)
            assert abs(want - value) <= abs(value) * context.mpf(10) ** (1 - digits) * 0.5000001, key


@pytest.mark.parametrize("size", [2.0**-1000, 0.003, 0.9, 1.0, 3.0, 11.0, 99.0, 1e20])
def test_bound_of_a_ball_around_zero_holds_and_is_not_far(size):
    ball = arb(size / 4, size)
    limit = Fraction(_bound(ball).removeprefix("|value| < "))
    reach = _rational(ball.mid()) + _rational(ball.rad())
    assert reach < limit <= 40 * reach  # the next power of 2 but one, and then the next of 10
    assert _bound(arb(size, size / 4)) is None
    assert _bound(arb(0)) == "0"


def test_oracle_command_prints_lines_and_json(capsys, tmp_path):
    problem = next(iter(edge_problems(Support(), "elman", "float64")))
    path = tmp_path / "p.safetensors"
    save_problem(problem, path)
    assert main(["oracle", str(path), "--digits", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("loss = ")
    assert main(["oracle", str(path), "--digits", "5", "--json"]) == 0
    nested = json.loads(capsys.readouterr().out)
    assert f"dW_hh[1,0] = {nested['dW_hh'][1][0]}" in lines
    assert set(nested) == set(gradient_shapes(load_problem(path)))


@pytest.mark.parametrize("words", [["--digits", "0"], ["--digits", "99999"], ["--digits", "x"]])
def test_oracle_command_refuses_bad_digits_in_one_line(capsys, tmp_path, words):
    assert main(["oracle", str(tmp_path / "p.safetensors"), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("e", [FAR - 300, FAR, 17_000, -FAR - 300, -17_000, -40_000])
def test_digits_far_from_1_are_those_of_the_rational(e):
    for n in (1, 3, 10**40 + 7, 2**200 - 1):
        with ctx.workprec(256):
            found = ball_digits(arb(n) * arb(2) ** e, 20)
        assert found == decimal(n * Fraction(2) ** e, 20)


def test_digits_of_what_is_saturated_come_at_once():
    one = np.ones((1, 1))
    loss = Loss("cotangent", g=np.ones((1, 1, 1)))
    params = {"W_xh": one, "W_hh": one, "b_h": one[0]}
    found = certified_digits(Problem("elman", params, np.full((1, 1, 1), 1e20), loss, activation="tanh"), 5)
    assert found["dW_hh"] == ["0"]  # h_0 is 0
    mantissa, exponent = found["db_h"][0].split("e")
    with ctx.workprec(256):  # 4 exp(-2a) / (1 + exp(-2a))^2 with a = 10^20 + 1
        log10 = (arb(4).log() - 2 * (arb(10) ** 20 + 1)) / arb(10).log()
        assert abs(float(log10 - int(exponent)) - math.log10(float(mantissa))) < 1e-4
