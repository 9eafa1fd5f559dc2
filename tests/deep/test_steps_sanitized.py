"""The compiled loops of the budget under the sanitizers of addresses and undefined behaviour. A minute or two."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [str(path) for path in sorted((ROOT / "oracle" / "csrc").glob("*.c"))]
LIBRARIES = ("libasan.so", "libubsan.so")

SCRIPT = """
import importlib.util, sys
import pytest
import oracle
spec = importlib.util.spec_from_file_location("oracle._steps", sys.argv[1])
oracle._steps = sys.modules["oracle._steps"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle._steps)
from oracle.budget import compiled
assert compiled.LOOPS is oracle._steps
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning", sys.argv[2]]))
"""


def test_loops_run_clean_under_sanitizers(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "gcc")) or pytest.skip("no C compiler here")
    paths: list[str] = []
    for name in LIBRARIES:
        said = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
        paths.append(said.stdout.strip())
    if not all(map(os.path.isabs, paths)):
        pytest.skip(f"{compiler} has no sanitizers here")
    include, module = sysconfig.get_path("include"), str(tmp_path / "_steps.abi3.so")
    options = ["-shared", "-fPIC", "-std=c11", "-O1", "-g", "-DPy_LIMITED_API=0x030b0000", f"-I{include}"]
    options += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", *SOURCES, "-o", module, "-lm"]
    built = subprocess.run([compiler, *options], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(paths),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # what Python keeps to its end is not ours
    }
    command = [sys.executable, "-c", SCRIPT, module, str(ROOT / "tests" / "test_compiled_budget.py")]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    assert " passed" in ran.stdout
    assert "skipped" not in ran.stdout
