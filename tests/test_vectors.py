"""The test vectors: the same bytes whenever they are made, right to the last bit, linted; and the judge of answers."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from flint import arb
from safetensors.numpy import load, save

from bptt.bits import decode
from bptt.problem import SIGNIFICAND, gradient_shapes
from conformance.cli import main
from conformance.errors import UsageError
from conformance.vectors import lint, results
from conformance.vectors.answers import MOST_HEADER, MOST_JSON, read_answers
from conformance.vectors.corpus import read_corpus
from conformance.vectors.export import export
from conformance.vectors.flags import FLAGS
from conformance.vectors.recipe import HELD_BY
from conformance.vectors.results import find_results, mantissa, of_ball, of_fraction, rounded_up
from conformance.vectors.selection import selection
from conformance.vectors.verify import matching, verify
from implementations.numpy_bptt import gradients as numpy_gradients
from oracle.ball_numbers import BallNumbers
from oracle.mpmath_numbers import MpmathNumbers
from oracle.numbers import Undecided
from oracle.solution import solve
from properties.units import in_dtype
from tests.deep import vector_kills
from tests.deep.vector_ids import listed

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "vectors"
IDS = HERE / "data" / "vector_ids.txt"
FEW = (
    "elman-tanh-finals-full-t7b3d5h3-single",
    "elman-tanh-half-squared-mean-full-t6b3d2h4k3-rows6.3.5-single",
    "elman-relu-final-h-full-t5b3d2h4k3-kinks-narrow",
    "elman-identity-cotangent-periodic3.7-t24b2d2h4k2-exact-narrow",
    "elman-sigmoid-finals-full-t3b2d2h3k2-narrow",
    "elman-sigmoid-finals-full-t5b3d2h3k2-rows5.0.3-single",
    "elman-tanh-finals-full-t4b2d2h3k2-subnormal-double",
    "lstm-finals-full-t6b2d3h5k4-double",
    "lstm-1997-finals-cec-t7b3d2h4k3-single",
    "lstm-peephole-finals-full-t5b2d2h3k2-saturated8-single",
    "gru-reset-after-classes-window2-t5b2d3h4-single",
    "gru-reset-before-probabilities-full-t4b2d2h3k3-logits-single",
)
"""A dozen vectors with something of everything."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of FEW."""
    path = tmp_path_factory.mktemp("corpus") / "vectors"
    export(path, FEW, 1)
    return path


@pytest.fixture(scope="module")
def corpus(folder):
    return read_corpus(folder)


@pytest.fixture(scope="module")
def right(corpus):
    """ID/DTYPE/KEY to what the NumPy implementation answers."""
    found = {}
    for vector_id, entry in corpus.vectors.items():
        for dtype in set(entry["dtypes"]) & {"float64", "float32"}:
            told = numpy_gradients(in_dtype(corpus.problem(vector_id), dtype))
            found |= {f"{vector_id}/{dtype}/{key}": np.array(value, order="C") for key, value in told.items()}
    return found


@pytest.fixture
def judge(folder, tmp_path, capsys):
    """Verify a file with some bytes or arrays: (exit status, what was said)."""

    def run(content, *options: str, suffix: str = ".safetensors") -> tuple[int, str]:
        path = tmp_path / f"answers{suffix}"
        if isinstance(content, dict) and suffix == ".safetensors":
            content = save(content)
        path.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)
        status = main(["vectors", "verify", str(path), "--vectors", str(folder), *options])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def as_json(arrays) -> dict:
    """The JSON form of a file of answers."""
    told: dict = {}
    for name, array in arrays.items():
        vector_id, dtype, key = name.split("/")
        told.setdefault(vector_id, {}).setdefault(dtype, {})[key] = array.astype(np.float64).reshape(-1).tolist()
    return {"format": "bpttcheck-answers", "version": 1, "answers": told}


# ---- what is exported ------------------------------------------------------------------------------------------------


def test_export_has_the_same_bytes_whatever_the_hash_seed_and_the_number_of_processes(folder, tmp_path):
    command = str(Path(sys.executable).parent / "bpttcheck")
    words = [command, "vectors", "export", "--out", "again", "--select", ",".join(FEW), "--jobs", "2"]
    env = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo"}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 vectors" in done.stdout
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (folder, tmp_path / "again")
    )
    assert len(one) == 2 + 2 * len(FEW)
    assert one == two


def test_ids_and_problems_are_those_of_the_list():
    """A vector may be added; one of the list may not change under its id, nor vanish. tests/deep/vector_ids.py."""
    kept = dict(line.split() for line in IDS.read_text(encoding="utf-8").splitlines())
    now = listed(kept)
    assert [i for i in kept if i not in now] == []
    assert [i for i in kept if kept[i] != now[i]] == []
    assert sorted(set(selection()) - set(kept)) == [], "add what is new: python -m tests.deep.vector_ids"


def test_exported_corpus_passes_lint(corpus):
    assert lint.complaints(corpus, whole=False) == []


def test_selection_covers_every_cell_loss_truncation_and_corner():
    entries = []
    for vector in selection().values():
        loss, problem = vector.problem.loss, vector.problem
        cut = {"kind": problem.truncation.kind}
        sizes = {name: getattr(problem, name) for name in "TBDHK"}
        names = {"kind": loss.kind, "time_reduction": loss.time_reduction, "batch_reduction": loss.batch_reduction}
        entries.append({
            "id": vector.id, "cell": problem.cell, "activation": problem.activation, "readout": problem.readout,
            "loss": names, "truncation": cut, "sizes": sizes, "dtypes": list(HELD_BY[vector.recipe.numbers]),
            "corner": vector.recipe.corner or "generic", "initial_state": problem.h0 is not None,
            "lengths": vector.recipe.lengths, "problem": {"bytes": 1}, "result": {"bytes": 1}, "arrays": {"h": []},
            "inconclusive": {dtype: [] for dtype in SIGNIFICAND},
        })  # fmt: skip
        assert list(lint.of_problem({"dtypes": [], "corner": vector.recipe.corner}, vector.problem)) == []

    class Fake:
        vectors = {entry["id"]: entry for entry in entries}  # noqa: RUF012 - made once, read once

    assert list(lint.of_whole(Fake)) == []
    Fake.vectors = {k: v for k, v in Fake.vectors.items() if v["truncation"]["kind"] != "cec"}
    assert list(lint.of_whole(Fake)) == ["lstm_1997: no vector with the truncation cec"]


def test_every_flag_is_met_and_its_bugs_are_planted():
    recipes = [vector.recipe for vector in selection().values()]
    tables = {path.name: path.read_text(encoding="utf-8") for path in (HERE / "mutants").glob("*.py")}
    for name, flag in FLAGS.items():
        assert any(flag.meets(recipe) for recipe in recipes), name
        if match := re.fullmatch(r"tests/mutants/(\w+\.py): (.+)", flag.reference):
            for bug in match[2].split(", "):
                assert re.search(rf"^class {bug}\(", tables[match[1]], re.MULTILINE), f"{name}: {bug}"
        elif not flag.reference.startswith(("IEEE", "docs/")):
            for source in flag.reference.split("; "):
                first = source.split(", ")[0]
                assert any(first in text for text in tables.values()) or "(19" in first, f"{name}: {first}"


def test_mantissas_are_those_of_another_road(corpus):
    """Forward mode in mpmath at 400 bits has nothing in common with the balls' reverse mode but the equations."""
    for vector_id in ("elman-tanh-finals-full-t7b3d5h3-single", "lstm-1997-finals-cec-t7b3d2h4k3-single"):
        arrays = corpus.results(vector_id)
        other = solve(corpus.problem(vector_id), MpmathNumbers(400), "forward")
        for key, values in other.values.items():
            mantissas = arrays[f"{key}.mantissa"].reshape(-1, 2).tolist()
            signs, powers = (arrays[f"{key}.{name}"].reshape(-1).tolist() for name in ("sign", "exponent"))
            for value, s, (low, high), e in zip(values, signs, mantissas, powers, strict=True):
                m = s * (low | high << 64)
                want = Fraction(int(value.man) * (-1 if value < 0 else 1)) * Fraction(2) ** int(value.exp)
                half = Fraction(2) ** (e - 1)  # of a last bit; the other road is off by some 2^-390 of the value
                assert abs(m * Fraction(2) ** e - want) <= half * (1 + Fraction(1, 2**200))
                assert (m == 0) == (want == 0)


def test_a_ball_that_does_not_decide_every_bit_is_refused():
    with BallNumbers(100).scope():
        rough = arb(1) / 3
    with BallNumbers(256).scope():
        third, nothing = arb(1) / 3, arb(1) / 3 * 3 - 1
    assert of_ball(third, last=False) == of_fraction(Fraction(1, 3))
    for ball in (rough, nothing):
        with pytest.raises(Undecided):
            of_ball(ball, last=False)
    zero = of_ball(nothing, last=True)
    assert (zero.sign, zero.near) == (0, 0)
    assert 0 < zero.radius < 2.0**-250
    assert abs(nothing) <= zero.radius


def test_values_that_are_halfway_go_to_the_even_neighbour():
    odd = (1 << 127) + 1
    for n, want in ((2 * odd + 1, odd + 1), (2 * odd - 1, odd - 1), ((1 << 129) - 1, 1 << 127), (odd, odd)):
        for sign in (1, -1):
            s, m, e = mantissa(sign * n, 1, -900)
            assert (s, m) == (sign, want)
            assert abs(m * Fraction(2) ** (e + 900) - n) <= Fraction(2) ** (e + 899)


def test_near_and_rest_are_the_nearest_floats(corpus):
    arrays = corpus.results("gru-reset-after-classes-window2-t5b2d3h4-single")
    for key in ("loss", "dW_x", "dh0"):
        parts = [arrays[f"{key}.{name}"].reshape(-1) for name in ("sign", "exponent", "near", "rest")]
        for (low, high), s, e, near, rest in zip(
            arrays[f"{key}.mantissa"].reshape(-1, 2).tolist(), *parts, strict=True
        ):
            exact = int(s) * (low | high << 64) * Fraction(2) ** int(e)
            assert near == float(exact)  # Python divides integers with correct rounding
            assert rest == float(exact - Fraction(float(near)))


def test_stored_budget_is_never_below_the_oracles():
    vector = selection()["lstm-peephole-finals-full-t5b2d2h3k2-saturated8-single"]
    found = find_results(vector.problem, vector.recipe)
    for dtype in ("float64", "float32"):
        truth = results.find_truth(in_dtype(vector.problem, dtype), results.Model(dtype))
        for key in gradient_shapes(vector.problem):
            stored, bound = found.arrays[f"{key}.budget.{dtype}"], truth.allowed(key)
            assert ((stored >= bound) & (stored <= bound * (1 + 2.0**-11) + 2.0**-1000)).all(), key


def test_budgets_are_rounded_up_and_never_down():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.random(500) * 2.0 ** rng.integers(-1021, 900, 500), [0.0, 5e-324, 2.0**-1030, np.inf]])
    up = rounded_up(values)
    assert (up >= values).all()
    assert (up[:500] <= values[:500] * (1 + 2.0**-11)).all()
    n, _ = decode(up[:500])
    assert all(v % (1 << 41) == 0 for v in n)
    assert (up[500:] == values[500:]).all()


def test_exact_vectors_have_no_budget_and_right_integers(corpus):
    vector_id = "elman-identity-cotangent-periodic3.7-t24b2d2h4k2-exact-narrow"
    entry, arrays = corpus.vectors[vector_id], corpus.results(vector_id)
    assert {"float64", "float32"} <= set(entry["exact"])
    assert entry["dtypes"] == entry["exact"]
    told = numpy_gradients(in_dtype(corpus.problem(vector_id), "float32"))
    for key, value in told.items():
        assert not arrays[f"{key}.budget.float32"].any()
        assert not arrays[f"{key}.rest"].any()
        assert (arrays[f"{key}.near"] == value).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda arrays: arrays["h.near"].__setitem__((0, 0, 0), 0.5), "not the roundings"),
        (lambda arrays: arrays["h.mantissa"].__setitem__((0, 0, 0, 1), 1), "a mantissa of"),
        (lambda arrays: arrays["h.exponent"].__setitem__((0, 0, 0), 3), "not the roundings"),
        (lambda arrays: arrays["dx.budget.float32"].__setitem__((0, 0, 0), np.nan), "negative or NaN"),
        (lambda arrays: arrays["dx.budget.float64"].__setitem__((0, 0, 0), np.inf), "without a budget"),
    ],
)
def test_lint_sees_a_result_that_is_not_right(corpus, change, complaint):
    vector_id = FEW[0]
    arrays = {name: array.copy() for name, array in corpus.results(vector_id).items()}
    entry, problem = corpus.vectors[vector_id], corpus.problem(vector_id)
    assert list(lint.of_results(entry, problem, arrays)) == []
    change(arrays)
    assert complaint in "; ".join(lint.of_results(entry, problem, arrays))


def test_lint_sees_problems_that_teach_nothing(corpus):
    problem, entry = corpus.problem(FEW[0]), corpus.vectors[FEW[0]]
    for name in ("x", "h0"):
        getattr(problem, name)[...] = 0
    problem.params["W_hh"][...] = 0.5
    problem.loss.g[...] = 0
    said = "; ".join(lint.of_problem(entry, problem))
    assert said == "all entries of W_hh are 0.5; h0 is zero; x is zero; its cotangent is zero"
    assert "is single in the index" not in said
    assert list(lint.of_entry({**entry, "lengths": [1, 2, 3]}, problem)) == [
        "lengths is [1, 2, 3] in the index and None in the problem"
    ]


def test_export_refuses_a_folder_that_is_not_its_own(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    assert main(["vectors", "export", "--out", str(tmp_path), "--select", FEW[0]]) == 2
    assert "thesis.tex" in capsys.readouterr().err
    assert main(["vectors", "export", "--out", str(tmp_path / "v"), "--select", "gnu-*"]) == 2
    assert "'gnu-*'" in capsys.readouterr().err


# ---- verify ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [".safetensors", ".json"])
def test_right_answers_are_within_budget(right, judge, form):
    content = right if form == ".safetensors" else as_json(right)
    status, said = judge(content, suffix=form)
    assert status == 0, said
    assert re.search(r"all within budget: (\d+) of \1 answers complete .*\narrays: \d+ judged, 0 wrong", said)


def test_a_wrong_entry_is_said_with_where_got_want_and_how_far(right, judge):
    name = f"{FEW[0]}/float32/dW_hh"
    wrong = right[name].copy()
    wrong[2, 1] *= 1 + 2.0**-8
    status, said = judge(right | {name: wrong})
    assert status == 1
    assert re.search(r"dW_hh\[2,1\]: got -?0x1\.\w+p[+-]\d+ \(\S+\), want .+; off by \S+ ulp, budget \S+ ulp", said)
    assert f"{FEW[0]} · float32 · ManySteps" in said
    assert "1 wrong" in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_wrong(right, judge, value):
    name = f"{FEW[1]}/float64/dx"
    wrong = right[name].copy()
    wrong[0, 0, 0] = value
    assert judge(right | {name: wrong})[0] == 1
    told = as_json(right)
    told["answers"][FEW[1]]["float64"]["dx"][0] = None if np.isnan(value) else str(value)
    assert judge(told, suffix=".json")[0] == 1


def test_an_entry_one_step_beyond_its_budget_is_wrong_and_one_at_it_is_not(right, judge, corpus):
    vector_id = FEW[0]
    arrays = corpus.results(vector_id)
    near, rest, budget = (arrays[f"db_h.{part}"] for part in ("near", "rest", "budget.float64"))
    for factor, status in ((1 - 2.0**-8, 0), (1 + 2.0**-8, 1)):  # far enough from 1 for float64's own steps
        moved = near + (rest + factor * budget)
        error = np.array([Fraction(float(m)) - Fraction(float(n)) - Fraction(float(r))
                          for m, n, r in zip(moved, near, rest, strict=True)])  # fmt: skip
        assert all((e <= Fraction(float(b))) == (status == 0) for e, b in zip(error, budget, strict=True))
        assert judge(right | {f"{vector_id}/float64/db_h": moved})[0] == status


def test_what_near_leaves_out_decides_where_it_must(right, judge, corpus):
    """Beside a budget of n steps of float64, the n-th step may be beyond it and the next within: `rest` tells."""
    vector_id = FEW[0]
    arrays = corpus.results(vector_id)
    near, rest, budget = (arrays[f"dx.{part}"] for part in ("near", "rest", "budget.float64"))
    step = np.spacing(np.abs(near))
    steps = np.floor(budget / step) * step
    for moved, status in ((near + np.sign(rest) * (steps + step), 0), (near - np.sign(rest) * steps, 1)):
        error = np.abs([
            Fraction(g) - Fraction(n) - Fraction(r)
            for g, n, r in zip(*(a.ravel().tolist() for a in (moved, near, rest)), strict=True)
        ])  # fmt: skip
        within = np.array([e <= Fraction(b) for e, b in zip(error, budget.ravel().tolist(), strict=True)])
        chosen = (within == (status == 0)).reshape(near.shape) & ((np.abs(moved - near) <= budget) == (status == 1))
        assert chosen.any()
        assert judge(right | {f"{vector_id}/float64/dx": np.where(chosen, moved, near)})[0] == status


def test_padding_is_not_judged(right, judge):
    name = f"{FEW[5]}/float64/h"
    padded = right[name].copy()
    padded[4, 1:] = np.nan  # lengths 5, 0, 3
    assert judge(right | {name: padded})[0] == 0
    padded[0, 0, 0] = np.nan
    assert judge(right | {name: padded})[0] == 1


def test_missing_answers_give_no_verdict_and_are_named(right, judge):
    status, said = judge({name: array for name, array in right.items() if not name.startswith("lstm")})
    assert status == 3
    assert "missing: lstm-finals-full-t6b2d3h5k4-double in float64" in said
    status, said = judge({n: a for n, a in right.items() if n.startswith("elman")}, "--select", "elman-*")
    assert status == 0, said
    status, said = judge({n: a for n, a in right.items() if n.endswith(("/dx", "/dh0"))}, "--keys", "dx,dh0")
    assert status == 0, said
    assert judge({n: a for n, a in right.items() if "/float32/" in n})[0] == 0  # float64 is not asked for
    assert judge({n: a for n, a in right.items() if "/float32/" in n}, "--dtypes", "float64")[0] == 3
    assert judge(b'{"format": "bpttcheck-answers", "version": 1, "answers": {}}', suffix=".json")[0] == 3


def test_a_key_that_comes_and_goes_is_wrong(tmp_path, capsys):
    """Two vectors of one configuration, and dh0 for one of them."""
    one = [i for i in selection() if i.startswith("elman-tanh-finals-full") and "k2-" in i and "rows" not in i][:2]
    assert len(one) == 2
    export(tmp_path / "v", one, 1)
    corpus = read_corpus(tmp_path / "v")
    arrays = {}
    for i in one:
        told = numpy_gradients(in_dtype(corpus.problem(i), "float64"))
        arrays |= {f"{i}/float64/{key}": np.array(value, order="C") for key, value in told.items()}
    del arrays[f"{one[1]}/float64/dh0"]
    (tmp_path / "a.safetensors").write_bytes(save(arrays))
    assert main(["vectors", "verify", str(tmp_path / "a.safetensors"), "--vectors", str(tmp_path / "v")]) == 1
    assert f"dh0: missing, but given for {one[0]}" in capsys.readouterr().out


def test_wrong_shapes_and_dtypes_are_wrong_answers(right, judge):
    name = f"{FEW[0]}/float64/dh0"
    for other, said in (
        (right[name].T, "got shape (3, 3)"),
        (right[name][:2], "got shape (2, 3), want (3, 3)"),
        (right[name].astype(np.float32), "got F32, want F64"),
        (right[name].astype(np.int64), "got I64, want F64"),
    ):
        if other.shape == right[name].shape and other.dtype == right[name].dtype:
            continue
        status, text = judge(right | {name: np.ascontiguousarray(other)})
        assert (status, said in text) == (1, True), text
    for bad in ([[1, 2], [3]], "abc", {"a": 1}, [1, True], [10**350] * 9, [["0x1p0"] * 3] * 2):
        told = as_json(right)
        told["answers"][FEW[0]]["float64"]["dh0"] = bad
        assert judge(told, suffix=".json")[0] == 1


def test_json_takes_nested_lists_and_hexadecimal_texts(right, judge):
    told = as_json(right)
    keys = told["answers"][FEW[0]]["float64"]
    keys["dh0"] = [[v.hex() for v in row] for row in right[f"{FEW[0]}/float64/dh0"].tolist()]
    keys["loss"] = float(right[f"{FEW[0]}/float64/loss"])
    assert judge(told, suffix=".json")[0] == 0


LONG = b'{"format": "bpttcheck-answers", "version": 1, "answers": '
HOSTILE = {
    "nothing": b"",
    "no json": b"answers",
    "a list": b"[]",
    "another format": b'{"format": "x"}',
    "another version": b'{"format": "bpttcheck-answers", "version": 2, "answers": {}}',
    "no vectors": LONG + b"3}",
    "an unknown id": LONG + b'{"no\\u001b[31msuch": {"float32": {}, "float64": {"dx": [1]}}}}',
    "an unknown id with nothing in it": LONG + b'{"nope": {}}}',
    "an unknown id with an empty dtype": LONG + b'{"nope": {"float32": {}}}}',
    "an unknown dtype": LONG + b'{"x": {"float128": {"dx": [1]}}}}',
    "an unknown dtype with nothing in it": LONG + b'{"' + FEW[0].encode() + b'": {"float99": {}}}}',
    "dtypes that are none": LONG + b'{"x": 3}}',
    "a name twice": LONG + b'{"x": {}, "x": {}}}',
    "brackets": b"[" * 900_000,
    "more brackets": b"[]," * 1_100_000,
    "NaN": LONG + b'{"x": {"float64": {"dx": [NaN]}}}}',
    "a number beyond": LONG + b'{"x": {"float64": {"dx": [1e999]}}}}',
    "an integer beyond": LONG + b'{"x": {"float64": {"dx": [' + b"9" * 5000 + b"]}}}}",
    "bytes": b"\xff\xfe\x00\x01" * 10,
    "a header longer than the file": (1 << 60).to_bytes(8, "little") + b"{}",
    "a large header": (MOST_HEADER + 1).to_bytes(8, "little") + b"{}" + b" " * (MOST_HEADER - 1),
    "a header of nothing": (2).to_bytes(8, "little") + b"{]",
    "a name without a slash": save({"dx": np.zeros(3)}),
    "a name of another vector": save({"a/float64/dx": np.zeros(3)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_refused_in_one_line(judge, name):
    status, said = judge(HOSTILE[name], suffix="")
    assert (status, said.count("\n")) == (2, 1), said
    assert said.startswith("bpttcheck: ")
    assert "\x1b" not in said and len(said) < 600


def test_names_that_there_are_not_are_said_with_those_that_there_are(judge):
    assert "expected ids of its index.json, such as elman-" in judge(HOSTILE["an unknown id"], suffix="")[1]
    for name in ("an unknown dtype", "an unknown dtype with nothing in it"):
        assert "expected one of float64, float32, float16, bfloat16" in judge(HOSTILE[name], suffix="")[1]


@pytest.mark.parametrize("content", [{}, {FEW[0]: {}}, {FEW[0]: {"float32": {}}}])
def test_a_file_that_answers_nothing_says_so(judge, content):
    told = {"format": "bpttcheck-answers", "version": 1, "answers": content}
    status, said = judge(told, suffix=".json")
    assert (status, said.splitlines()[0]) == (3, "no verdict: the file answers nothing of what was asked")


def test_lists_without_number_are_refused_before_they_are_made(judge):
    lists = LONG + b'{"x": {"float64": {"dx": [' + b"[]," * 1_000_001 + b"1]}}}}"
    status, said = judge(lists, suffix=".json")
    assert (status, "more than 1000000 lists" in said) == (2, True)


def test_an_array_that_lies_about_its_size_allocates_nothing(judge):
    header = json.dumps({f"{FEW[0]}/float64/dx": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}})
    status, said = judge(len(header).to_bytes(8, "little") + header.encode() + bytes(64))
    assert status == 2
    assert "safetensors" in said


def test_files_that_are_too_large_or_no_files_are_refused(folder, tmp_path, capsys):
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(MOST_JSON + 1)  # zeros, which no disk holds
    assert main(["vectors", "verify", str(path), "--vectors", str(folder)]) == 2
    assert "larger than" in capsys.readouterr().err
    for what in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        assert main(["vectors", "verify", str(what), "--vectors", str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_random_damage_to_answers_never_ends_in_a_traceback(right, judge):
    rng = np.random.default_rng(5)
    whole = {".safetensors": save(right), ".json": json.dumps(as_json(right)).encode()}
    for suffix, data in whole.items():
        for _ in range(30):
            spoilt = bytearray(data)
            for at in rng.integers(0, min(len(spoilt), 6000), 3).tolist():
                spoilt[at] = int(rng.integers(0, 256))
            cut = int(rng.integers(1, len(spoilt))) if rng.random() < 0.3 else len(spoilt)
            status, said = judge(bytes(spoilt[:cut]), suffix=suffix)
            assert status in (0, 1, 2, 3)
            assert "internal error" not in said, said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index.update(schema_version=2), "schema_version"),
        (lambda index: index["vectors"][0].update(id="../../etc/passwd"), "vectors[0].id"),
        (lambda index: index["vectors"].append(index["vectors"][0]), "stands twice"),
        (lambda index: index["flags"].pop("ManySteps"), "is not explained"),
        (lambda index: index["vectors"][0]["result"].update(sha256="0" * 64), "not the file"),
        (lambda index: index["vectors"][0].update(exact=["bfloat16"]), "other dtypes"),
        (lambda index: index["vectors"][0]["arrays"].update(dW_hh=[3, 4]), "expected float64 (3, 4)"),
        (lambda index: index["vectors"][0]["arrays"].update(dW_no=[3, 4]), "lacks dW_no"),
    ],
)
def test_corpus_that_is_not_what_it_says_is_refused(folder, right, tmp_path, capsys, change, said):
    shutil.copytree(folder, tmp_path / "v")
    index = json.loads((tmp_path / "v" / "index.json").read_text(encoding="utf-8"))
    index["vectors"].sort(key=lambda entry: entry["id"] != FEW[0])
    change(index)
    (tmp_path / "v" / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (tmp_path / "a.safetensors").write_bytes(save(right))
    assert main(["vectors", "verify", str(tmp_path / "a.safetensors"), "--vectors", str(tmp_path / "v")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_patterns_name_vectors(corpus, folder):
    assert matching(corpus, ["lstm-*", FEW[0]]) == [i for i in corpus.vectors if i == FEW[0] or i.startswith("lstm")]
    with pytest.raises(UsageError, match="no vector"):
        matching(corpus, ["rnn-*"])
    assert main(["vectors", "verify", "x", "--vectors", str(folder), "--keys", "dW_no"]) == 2
    assert main(["vectors", "verify", "x", "--vectors", str(folder / "no")]) == 2


def test_a_wrong_answer_is_wrong_in_an_inconclusive_array_too(corpus, right, tmp_path):
    vague = [(i, e) for i, e in corpus.vectors.items() if e["inconclusive"].get("float32")]
    assert vague, "no vector of FEW has an inconclusive array"
    vector_id, key = vague[0][0], vague[0][1]["inconclusive"]["float32"][0]
    arrays = {f"{vector_id}/float32/{key}": right[f"{vector_id}/float32/{key}"] + np.float32(1e6)}
    for content, wrong, status in ((arrays, 1, 1), ({n: right[n] for n in arrays}, 0, 3)):
        (tmp_path / "a.safetensors").write_bytes(save(content))
        with read_answers(tmp_path / "a.safetensors") as answers:
            verdict = verify(corpus, answers, [vector_id], keys=[key])
        assert (len(verdict.wrong), verdict.conclusive, verdict.status) == (wrong, 0, status)


# ---- readers in other languages --------------------------------------------------------------------------------------


def consumer(language: str, folder: Path, source: str | None = None) -> list[str]:
    """The command of an example in a folder of its own; the test is skipped where its language is not there."""
    name = {"c": "consume.c", "javascript": "consume.mjs", "rust": "consume.rs"}[language]
    text = (EXAMPLES / name).read_text(encoding="utf-8") if source is None else source
    (folder / name).write_text(text, encoding="utf-8")
    if language == "javascript":
        return [shutil.which("node") or pytest.skip("no node here"), str(folder / name)]
    program = folder / "consume"
    if language == "c":
        cc = shutil.which("cc") or shutil.which("gcc") or pytest.skip("no C compiler here")
        words = [cc, "-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", str(program)]
        words += [str(folder / name), "-lm"]
    else:
        rustc = shutil.which("rustc") or pytest.skip("no rustc here")
        words = [rustc, "--edition", "2021", "-D", "warnings", "-o", str(program), str(folder / name)]
    built = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return [str(program)]


SPOILS = {
    "c": ("dW_hh[i * H + j] += h_prev[i] * delta[j];", "dW_hh[i * H + j] -= h_prev[i] * delta[j];"),
    "javascript": ("d.dW_hh[i * H + j] += h_prev[i] * delta[j]", "d.dW_hh[i * H + j] -= h_prev[i] * delta[j]"),
    "rust": ("d_w_hh[i * hidden + j] += h_prev[i] * delta[j];", "d_w_hh[i * hidden + j] -= h_prev[i] * delta[j];"),
}
ASKED = ("--select", "elman-*")


@pytest.mark.parametrize("language", SPOILS)
def test_example_judges_itself_right_and_verify_agrees(language, folder, tmp_path, capsys):
    command = consumer(language, tmp_path)
    done = subprocess.run([*command, str(folder), "answers.json"], cwd=tmp_path, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"7 vectors, \d{3} arrays, 0 wrong", done.stdout)
    assert main(["vectors", "verify", str(tmp_path / "answers.json"), "--vectors", str(folder), *ASKED]) == 0
    assert "all within budget: 13 of 13 answers complete" in capsys.readouterr().out


@pytest.mark.parametrize("language", SPOILS)
def test_example_with_a_bug_sees_it_and_verify_agrees(language, folder, tmp_path, capsys):
    name = {"c": "consume.c", "javascript": "consume.mjs", "rust": "consume.rs"}[language]
    text, (before, after) = (EXAMPLES / name).read_text(encoding="utf-8"), SPOILS[language]
    assert text.count(before) == 1
    command = consumer(language, tmp_path, text.replace(before, after))
    done = subprocess.run([*command, str(folder), "answers.json"], cwd=tmp_path, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    assert f"wrong: {FEW[0]} float64 dW_hh[" in done.stdout
    assert main(["vectors", "verify", str(tmp_path / "answers.json"), "--vectors", str(folder), *ASKED]) == 1
    capsys.readouterr()
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_last_files_are_safetensors_that_anyone_reads(folder):
    arrays = load((folder / "results" / f"{FEW[0]}.safetensors").read_bytes())
    assert {array.dtype.name for array in arrays.values()} == {"float64", "int8", "uint64", "int32"}


# ---- what the page says, and what catches bugs -----------------------------------------------------------------------


def test_page_says_how_many_vectors_there_are_and_what_the_examples_answer():
    text = (HERE.parent / "docs" / "vectors.md").read_text(encoding="utf-8")
    assert f"{len(selection())} vectors" in text
    (patterns,) = re.findall(r"--select '([^']+)'\n```", text)
    named = [i for i in selection() if any(fnmatch.fnmatchcase(i, pattern) for pattern in patterns.split(","))]
    kinds = {i: vector.problem for i, vector in selection().items() if vector.recipe.cell == "elman"}
    assert named == [i for i, problem in kinds.items() if problem.loss.kind != "cross_entropy"]


def test_planted_bugs_are_caught_by_the_vectors_and_correct_code_is_not(corpus):
    """The whole table takes minutes: python -m tests.deep.vector_kills, and tests/deep/test_vectors.py."""
    problems = {(i, "float64"): in_dtype(corpus.problem(i), "float64") for i in corpus.vectors}
    bugs = {bug.key: bug for bug in vector_kills.planted()}
    assert set(vector_kills.UNSEEN) <= set(bugs)
    assert len(bugs) == 331
    for key in ("elman.py:recurrent_path_cut", "lstm.py:carousel_ignored", "blind.py:loss_returned_as_vector",
                "blind_second.py:bias_from_the_first_row"):  # fmt: skip
        assert vector_kills.judged(bugs[key], corpus, problems).by, key
    for key in ("elman.py:every_tenth_call_loses_a_step", "blind.py:mask_cached_by_shape"):
        found = vector_kills.judged(bugs[key], corpus, problems)
        assert (found.by, found.differs) == ("", 0), key
