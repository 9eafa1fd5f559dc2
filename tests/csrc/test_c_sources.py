"""The C sources: one signature in three places, no warnings, nothing for the sanitizers, optional in the build."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "implementations" / "csrc"
CELLS = ["elman", "lstm", "lstm_peephole", "lstm_1997", "gru_reset_after", "gru_reset_before"]


def parameters(source: str, function: str) -> list[tuple[str, ...]]:
    """(name, role, type, shape) of each array of a C function, from its definition."""
    definition = re.search(rf"static int FN\({function}\)\((.*?)const bptt_setting \*s\)", source, re.DOTALL)
    assert definition is not None, function
    pattern = r"(const )?(REAL|int64_t|unsigned char) \*(?:restrict )?(\w+), +/\* (out |work )?\(([^)]*)\)"
    kinds = {"REAL": "BPTT_REAL", "int64_t": "BPTT_INT64", "unsigned char": "BPTT_BYTE"}
    roles = {"out ": "BPTT_OUT", "work ": "BPTT_WORK", "": "BPTT_IN"}
    found = re.findall(pattern, definition[1])
    assert len(found) == definition[1].count("/*"), f"{function}: a pointer without a shape comment"
    assert all(bool(const) == (role == "") for const, _, _, role, _ in found), f"{function}: const is for inputs"
    return [
        ("do" if name == "d_o" else name, roles[role], kinds[kind], shape.replace(",", ""))  # do is a word of C
        for _, kind, name, role, shape in found
    ]


def test_signatures_are_those_of_the_definitions() -> None:
    table = (CSRC / "signatures.c").read_text(encoding="utf-8")
    calls = (CSRC / "kernel.h").read_text(encoding="utf-8")
    for cell in ["readout", *CELLS]:
        for direction in ("forward", "backward"):
            function = f"{cell}_{direction}"
            want = parameters((CSRC / f"{cell}.h").read_text(encoding="utf-8"), function)
            listed = re.search(rf"bptt_array {function}\[\] = {{(.*?)\n}};", table, re.DOTALL)
            assert listed is not None, function
            assert re.findall(r'{"(\w+)", (\w+), (\w+), "(\w+)"}', listed[1]) == want
            call = re.search(rf"FN\({function}\)\((.*?), s\);", calls, re.DOTALL)
            assert call is not None, function
            assert re.findall(r"p\[(\d+)\]", call[1]) == [str(i) for i in range(len(want))]


@pytest.fixture
def compiler() -> str:
    """Find a C compiler; skip where there is none."""
    found = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler here")
    return found


WARNINGS = ["-std=c11", "-pthread", "-Werror", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion"]
KERNEL = [str(path) for path in sorted(CSRC.glob("*.c")) if path.name != "module.c"]  # module.c needs Python


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository and return what it said."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.parametrize(("kinds", "words"), [("address,undefined", []), ("thread", ["threads"])])
def test_c_sources_run_clean_under_sanitizers(compiler: str, tmp_path: Path, kinds: str, words: list[str]) -> None:
    sanitize = [f"-fsanitize={kinds}", "-fno-sanitize-recover=all"]
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    built = run(compiler, *sanitize, str(empty), "-o", str(tmp_path / "empty"))
    if built.returncode or run(str(tmp_path / "empty")).returncode:
        pytest.skip(f"{compiler} has no sanitizers of {kinds} here")
    driver, program = str(ROOT / "tests" / "csrc" / "test_kernel.c"), str(tmp_path / "test_kernel")
    built = run(compiler, *WARNINGS, "-O0", "-g", *sanitize, driver, *KERNEL, "-o", program, "-lm")
    assert built.returncode == 0, built.stderr
    ran = run(program, *words)
    assert (ran.returncode, ran.stdout) == (0, "0 failures\n"), ran.stdout + ran.stderr


def test_bindings_compile_without_warnings(compiler: str, tmp_path: Path) -> None:
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        pytest.skip("the headers of Python are not installed here")
    options = ["-DPy_LIMITED_API=0x030b0000", "-isystem", str(include), "-fPIC", "-O2", "-ffp-contract=fast", "-c"]
    budget = [str(path) for path in sorted((ROOT / "oracle" / "csrc").glob("*.c"))]
    for source in [*KERNEL, str(CSRC / "module.c"), *budget]:
        built = run(compiler, *WARNINGS, *options, source, "-o", str(tmp_path / "object.o"))
        assert built.returncode == 0, built.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="CC names no compiler there")
def test_build_without_a_compiler_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    places = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    built = run(sys.executable, "setup.py", "-q", "build_ext", *places)
    assert built.returncode == 0, built.stderr
    assert not [*tmp_path.rglob("*_bptt_c*"), *tmp_path.rglob("*_steps*")]
