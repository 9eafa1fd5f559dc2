"""Over the whole corpus: the same bytes twice, linted, small, right in NumPy and C, and teeth of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from conformance.cli import main
from conformance.vectors.corpus import read_corpus
from conformance.vectors.lint import MOST_BYTES
from conformance.vectors.results import in_dtype
from implementations import registry
from tests.deep import vector_kills

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


@pytest.mark.parametrize("name", ["numpy", "c"])
def test_built_in_implementations_are_within_budget(name, twice, tmp_path, capsys):
    reason = registry.availability()[name]
    if reason is not None:
        pytest.skip(reason)
    corpus, gradients = read_corpus(twice[0]), registry.load(name).gradients
    arrays = {}
    for vector_id, entry in corpus.vectors.items():
        for dtype in set(entry["dtypes"]) & {"float64", "float32"}:
            told = gradients(in_dtype(corpus.problem(vector_id), dtype))
            for key, value in told.items():
                arrays[f"{vector_id}/{dtype}/{key}"] = np.array(value, order="C")
    (tmp_path / "a.safetensors").write_bytes(save(arrays))
    status = main(["vectors", "verify", str(tmp_path / "a.safetensors"), "--vectors", str(twice[0])])
    assert status == 0, capsys.readouterr().out


def test_vectors_alone_catch_nearly_every_planted_bug(twice, tmp_path):
    assert vector_kills.main(["--vectors", str(twice[0]), "--out", str(tmp_path / "kills.md")]) == 0
