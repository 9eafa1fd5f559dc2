"""Over the whole corpus: the same bytes twice, linted, small, right in NumPy and C, and teeth of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Problem, gradient_shapes
from conformance.cli import main
from conformance.vectors.answers import Answers
from conformance.vectors.corpus import Corpus, read_corpus
from conformance.vectors.lint import MOST_BYTES
from conformance.vectors.verify import verify
from implementations import registry
from implementations.worker import read_answer
from properties.units import in_dtype
from tests.deep import vector_kills
from tests.loading import in_process, load
from tests.test_vectors import consumer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """Two exports, in processes with other hash seeds and numbers of threads."""
    folders = []
    for seed, threads, jobs in (("1", "1", "1"), ("2", "2", "2")):
        folder = tmp_path_factory.mktemp("vectors") / "vectors"
        env = {**os.environ, "PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads}
        words = [sys.executable, "-m", "conformance", "vectors", "export", "--out", str(folder), "--jobs", jobs]
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr  # which says too that lint has no complaint
        folders.append(folder)
    return folders


def test_whole_corpus_has_the_same_bytes_twice_and_is_small(twice):
    one, two = ({p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()} for root in twice)
    assert one == two
    assert sum(map(len, one.values())) < MOST_BYTES


def answered(
    corpus: Corpus, call: Callable[[Any], Any], serves: Callable[[Problem], bool], dtypes: set[str]
) -> Answers:
    """What a function answers to the vectors that it serves."""
    answers = Answers()
    for vector_id, entry in corpus.vectors.items():
        for dtype in dtypes.intersection(entry["dtypes"]):
            problem = in_dtype(corpus.problem(vector_id), dtype)
            if not serves(problem):
                continue
            try:
                with np.errstate(all="ignore"):
                    told = call(problem)
            except NotImplementedError:
                continue
            given = {key: np.asarray(value) for key, value in told.items() if value is not None}
            for key, array in read_answer(given, gradient_shapes(problem), dtype)[0].items():
                answers.add(Path("answers"), vector_id, dtype, key, vector_kills._loader(array))
    return answers


@pytest.fixture(scope="module")
def corpus(twice):
    return vector_kills.Remembering(*vars(read_corpus(twice[0])).values())


@pytest.mark.parametrize("name", ["numpy", "c"])
def test_built_in_implementations_are_within_budget(name, corpus):
    reason = registry.availability()[name]
    if reason is not None:
        pytest.skip(reason)
    answers = answered(corpus, registry.load(name).gradients, lambda _: True, {"float64", "float32"})
    verdict = verify(corpus, answers, list(corpus.vectors))
    assert verdict.status == 0, verdict.wrong[:3]


def test_plain_numpy_is_within_budget_in_float16(corpus):
    narrow = [vector_id for vector_id, entry in corpus.vectors.items() if "float16" in entry["dtypes"]]
    answers = answered(corpus, load("mutants", "blind_base").gradients, lambda _: True, {"float16"})
    verdict = verify(corpus, answers, narrow)
    assert len(narrow) >= len(CELLS)
    assert verdict.status == 0, verdict.wrong[:3]


@pytest.mark.parametrize("table", ["elman", "cells"])
def test_correct_variants_are_not_accused(table, corpus):
    for name in load("variants", table).VARIANTS:
        target = in_process(f"{ROOT / 'tests' / 'variants' / table}.py:{name}")
        answers = answered(corpus, target.call, target.support.serves, {"float64", "float32"})
        assert len(answers.found) > 300, name
        assert verify(corpus, answers, list(corpus.vectors)).wrong == [], name


@pytest.mark.parametrize("language", ["c", "javascript", "rust"])
def test_examples_are_within_budget_on_the_whole_corpus(language, twice, tmp_path, capsys):
    words = [*consumer(language, tmp_path), str(twice[0]), str(tmp_path / "answers.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = ["--select", "elman-*-cotangent-*,elman-*-final*,elman-*squared-*"]
    status = main(["vectors", "verify", str(tmp_path / "answers.json"), "--vectors", str(twice[0]), *asked])
    assert status == 0, capsys.readouterr().out


def test_vectors_alone_catch_nearly_every_planted_bug(twice, tmp_path):
    assert vector_kills.main(["--vectors", str(twice[0]), "--out", str(tmp_path / "kills.md")]) == 0
