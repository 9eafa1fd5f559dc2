"""The kernel in C under valgrind: no uninitialised memory is read, and none is lost. A minute or so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNEL = [str(path) for path in sorted((ROOT / "implementations" / "csrc").glob("*.c")) if path.name != "module.c"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository and return what it said."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_kernel_runs_clean_under_valgrind(tmp_path: Path) -> None:
    valgrind = shutil.which("valgrind") or pytest.skip("no valgrind here")
    compiler = shutil.which(os.environ.get("CC", "cc")) or pytest.skip("no C compiler here")
    driver, program = str(ROOT / "tests" / "csrc" / "test_kernel.c"), str(tmp_path / "test_kernel")
    built = run(compiler, "-std=c11", "-pthread", "-O1", "-g", driver, *KERNEL, "-o", program, "-lm")
    assert built.returncode == 0, built.stderr
    ran = run(valgrind, "-q", "--leak-check=full", "--error-exitcode=9", program)
    assert (ran.returncode, ran.stdout) == (0, "0 failures\n"), ran.stdout + ran.stderr
