"""Which test runs which lines, and for how long: recorded once a test file, and again where it or the code changed."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coverage import CoverageData

HERE = Path(__file__).parents[2]
FOLDERS = ("oracle", "properties")
LIBRARIES = (
    "flint",
    "hypothesis.strategies",
    "jinja2",
    "jsonschema",
    "mpmath",
    "numpy",
    "pytest",
    "rich",
    "safetensors",
)
UNRECORDED = (
    "again", "c_kernel", "canary", "certify", "diagnosis", "docs", "doctor", "explore", "files", "imports", "messages",
    "planted", "readme", "render", "support",
)  # fmt: skip
"""Test files that are about neither folder, or start the command, whose lines are not seen from here."""
TOO_SLOW = ("test_correct_variant_is_not_accused",)
EACH, LONGEST = 2, 5.0
"""How many tests of a kind are recorded, and how many of the processor's seconds a test may take."""
CONFIG = "[run]\ndata_file = {data}\nsource =\n    " + "\n    ".join(FOLDERS) + "\n"


@dataclass
class Timed:
    """A test that passed: its node, its seconds, and its lines by path, as bits."""

    node: str
    seconds: float
    lines: dict[str, int] = field(default_factory=dict)

    @property
    def function(self) -> str:
        """Without the parameters."""
        return self.node.partition("[")[0]


def digest(root: Path, paths: Iterable[str]) -> str:
    """Of the contents of some files."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.encode() + b"\0" + (root / path).read_bytes() + b"\0")
    return found.hexdigest()


def sources(root: Path) -> list[str]:
    """The files that are mutated."""
    return sorted(p.relative_to(root).as_posix() for folder in FOLDERS for p in (root / folder).rglob("*.py"))


class Clock:
    """A plugin of pytest that notes the processor's seconds of every test that passed, and may thin the tests out.

    Of a test with parameters it leaves `each` with the same first word in their names; of those that run planted bugs
    as many for each property that is to catch them. Then it also skips what takes longer than LONGEST.
    """

    def __init__(self, each: int | None = None) -> None:
        self.started, self.each = 0.0, each
        self.seconds: dict[str, float] = {}
        self.passed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.each is None:
            return
        kept: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for item in items:
            function, _, words = item.nodeid.partition("[")
            if function.endswith(TOO_SLOW):
                continue
            kept[function, self._first(item, words)].append(item)
        items[:] = [item for alike in kept.values() for item in alike[:: max(1, len(alike) // self.each)][: self.each]]

    @staticmethod
    def _first(item: Any, words: str) -> str:
        planted = getattr(item.module, "PLANTED", {})
        bug = planted.get(tuple(map(str, item.callspec.params.values()))) if words else None
        return words.partition("-")[0] if bug is None else str(bug.caught_by)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.started = sum(os.times()[:4])
        if self.each is not None:
            signal.signal(signal.SIGVTALRM, self._skip)
            signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)

    @staticmethod
    def _skip(*_: object) -> None:
        raise importlib.import_module("pytest").skip.Exception("takes too long for every mutant")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call":
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)
        self.seconds[report.nodeid] = sum(os.times()[:4]) - self.started


def pytest(root: Path, *arguments: str, seconds: float | None = None, clock: Path | None = None) -> tuple[int, str]:
    """Status and output of pytest on a copy of the tree, and on nothing else; `clock` is where times are written.

    A fork: the libraries are loaded once, in this process, which must never import a folder of ours. `seconds` are the
    processor's; where the machine is shared, ten times as many may go by.
    Raises: TimeoutError.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    assert not set(sys.modules) & {*FOLDERS, "bptt", "conformance"}
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            os.setsid()
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            status = 3
            try:
                status = _run(root, arguments, seconds, clock)
            except BaseException:  # noqa: BLE001 - a child must end here, and says why
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        end, done, status = math.inf if seconds is None else time.monotonic() + 10 * seconds, 0, 0
        while not done and time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):  # what a test started may outlive it
            os.killpg(child, signal.SIGKILL)
        if not done:
            os.waitpid(child, 0)
        if not done or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            raise TimeoutError
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


def _run(root: Path, arguments: Sequence[str], seconds: float | None, clock: Path | None) -> int:
    os.chdir(root)
    os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.pop("PYTHONSAFEPATH", None)
    sys.dont_write_bytecode = True
    sys.path[:] = [str(root), *(path for path in sys.path if path not in ("", os.fspath(HERE)))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    if seconds is not None:
        used = math.ceil(time.process_time() + seconds)
        resource.setrlimit(
            resource.RLIMIT_CPU, (used, used + 5)
        )  # a signal of its own at the first, SIGKILL at the last
    plugin = Clock(None if clock is None else EACH)
    loaded_before = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # of plugins that come with the libraries
    options = ["-q", "-p", "no:cacheprovider", *loaded_before, *arguments]
    status = int(importlib.import_module("pytest").main(options, plugins=[plugin]))
    if clock is not None:
        clock.write_text(json.dumps({node: plugin.seconds[node] for node in sorted(plugin.passed)}))
    return status


def record(root: Path, file: Path) -> list[Timed]:
    """Run every test file whose record is not up to date; `file` holds the records."""
    known = json.loads(file.read_text()) if file.exists() else {}
    code = digest(root, sources(root))
    paths = sorted(p.relative_to(root).as_posix() for p in (root / "tests").glob("test_*.py"))
    for path in paths:
        if Path(path).stem.removeprefix("test_") in UNRECORDED:
            continue
        mark = digest(root, [path]) + code
        if known.get(path, {}).get("mark") == mark:
            continue
        tests = _record(root, path)
        print(f"recorded {path}: {len(tests)} tests, {sum(t.seconds for t in tests):.0f} s", flush=True)
        known[path] = {"mark": mark, "tests": [[t.node, t.seconds, t.lines] for t in tests]}
        file.write_text(json.dumps(known))
    return [Timed(*entry) for path in known if (root / path).exists() for entry in known[path]["tests"]]


def _record(root: Path, path: str) -> list[Timed]:
    data, clock, config = (root / name for name in (".mutation.data", ".mutation.json", ".mutation.cfg"))
    config.write_text(CONFIG.format(data=data))
    options = ("--cov", f"--cov-config={config}", "--cov-context=test", "--cov-report=")
    status, output = pytest(root, path, *options, clock=clock)
    if status not in (0, 5):
        raise SystemExit(f"{path} fails before anything was changed:\n{output}")
    found = {node: Timed(node, seconds) for node, seconds in json.loads(clock.read_text()).items()}
    for name, lines in lines_by_context(data, root).items():
        test = found.get(name.partition("|")[0])
        if test is not None:
            for source, bits in lines.items():
                test.lines[source] = test.lines.get(source, 0) | bits
    data.unlink(missing_ok=True)
    return list(found.values())


def lines_by_context(data: Path, root: Path) -> dict[str, dict[str, int]]:
    """By context, that is by test and phase: the lines that were run, as bits, by path."""
    coverage = CoverageData(str(data))
    coverage.read()
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for measured in coverage.measured_files():
        path = Path(measured).resolve().relative_to(root.resolve()).as_posix()
        for line, contexts in coverage.contexts_by_lineno(measured).items():
            for context in contexts:
                if context:
                    found[context][path] = found[context].get(path, 0) | 1 << line
    return found


def statement(source: str, line: int) -> tuple[int, int]:
    """First and last line of the smallest statement around a line; of a compound one its head alone."""
    best = (1, source.count("\n") + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            first = getattr(node, "lineno", line)
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else getattr(node, "end_lineno", None) or first
            last = max(first, last)
            if first <= line <= last and last - first < best[1] - best[0]:
                best = (first, last)
    return best


def in_function(source: str, line: int) -> bool:
    """Whether a line runs when a function is called, not when the module is imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            body = node.body[0] if isinstance(node, ast.FunctionDef) else node.body
            if body.lineno <= line <= (node.end_lineno or line):
                return True
    return False


def choose(tests: Iterable[Timed], path: str, source: str, line: int, seconds: float) -> list[Timed]:
    """The tests that run a line, or for what runs at import any line of its file: from quick to slow, up to `seconds`.

    One of each test function comes first, with its quickest parameters, then the second of each, and so on.
    """
    first, last = statement(source, line)
    bits = sum(1 << n for n in range(first, last + 1)) if in_function(source, line) else -1
    functions: dict[str, list[Timed]] = defaultdict(list)
    for test in sorted(tests, key=lambda t: (t.seconds, t.node)):
        if test.lines.get(path, 0) & bits:
            functions[test.function].append(test)
    ranked = [(k, test) for of_one in functions.values() for k, test in enumerate(of_one)]
    chosen, spent = [], 0.0
    for _, test in sorted(ranked, key=lambda item: (item[0], item[1].seconds, item[1].node)):
        if not chosen or spent + test.seconds <= seconds:
            chosen.append(test)
            spent += test.seconds
    return chosen
