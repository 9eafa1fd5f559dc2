"""bpttcheck: the one module of this project that user code may import; it imports nothing of ours.

main()                      the command `bpttcheck`: starts `python -P -m conformance`, so that no folder of the user's
                            own that is named `properties` or `oracle` shadows ours
assert_conformant(target)   the command as one line of a test: raises NotConformant, NoVerdict or BadUsage
pytest_...                  the pytest plugin: `pytest --bpttcheck TARGET` adds a test for each target and property

One module of more lines than others, so that a project that tests itself with bpttcheck sees one name. Everything that
costs time to import is imported where it is used: every pytest of an environment loads the plugin, most never use it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pytest

__all__ = ["BadUsage", "NoVerdict", "NotConformant", "assert_conformant", "main"]

SHOWN = 3
"""Failures that a message shows whole; of the others it gives the names."""
FAULTS = ("fail", "crash", "timeout")
_BAD_USAGE, _NOT_CONFORMANT = 2, 1


class NotConformant(AssertionError):
    """The target is wrong: the message says where, what was got and wanted, why, and how to see it again."""


class NoVerdict(AssertionError):
    """Nothing was decided: nothing was executed, too little was conclusive, or the target is unavailable."""


class BadUsage(ValueError):
    """There is no such target, property or option: one line that names what would be right."""


def main() -> NoReturn:
    """Run the command line in a Python that looks for modules where they are installed and nowhere else."""
    command = [*_python(), *sys.argv[1:]]
    if os.name == "posix":
        os.execve(command[0], command, _environment())  # noqa: S606 - this very interpreter
    sys.exit(subprocess.call(command, env=_environment()))  # noqa: S603 - the user's own words, no shell


def assert_conformant(
    target: str | os.PathLike[str],
    *,
    profile: str = "standard",
    select: str | Sequence[str] | None = None,
    seed: int = 0,
    python: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    report_dir: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    cases: str | os.PathLike[str] | None = None,
) -> None:
    """Certify a target, or raise; the one line of a test.

        def test_gradients():
            bpttcheck.assert_conformant("adapters/mine.py", profile="standard")

    target      a file.py[:function], a module[:function], a name of pyproject.toml or a built-in one
    profile     "smoke", "standard" or "thorough": 20, 100 or 1,000 examples a property and configuration;
                smoke leaves out the largest of the fixed ones
    select      only these properties: their ids, in a list or separated by commas
    seed        any integer: another one, other problems
    python      the Python that runs the adapter; it needs NumPy and what the adapter imports
    timeout     seconds a problem
    report_dir  where the report goes; else into a temporary folder, which is kept and named if the test fails
    jobs        processes that share the work (default: one a core)
    cases       a folder with case files, of `bpttcheck explore`, that are judged too
    Raises: NotConformant and NoVerdict, which are AssertionErrors, and BadUsage, a ValueError.
    """
    __tracebackhide__ = True
    for name, value in {"target": target, "report_dir": report_dir}.items():
        if not isinstance(value, (str, os.PathLike)) and not (name == "report_dir" and value is None):
            raise BadUsage(f"{name}: got {type(value).__name__}, expected text or a path such as 'adapters/mine.py'")
    if report_dir is not None and Path(report_dir).exists() and not Path(report_dir).is_dir():
        raise BadUsage(f"report_dir: {os.fspath(report_dir)} is no directory; expected one, or a new name")
    options = {"profile": profile, "select": select, "seed": seed, "python": python, "timeout": timeout}
    options |= {"jobs": jobs, "cases": cases}
    if report_dir is not None:
        _demand(_certify([target], options, os.fspath(report_dir)))
        return
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="bpttcheck-")
    try:
        _demand(_certify([target], options, folder))
    except BadUsage:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


# ---- the command, from here ----------------------------------------------------------------------------------------


class _Run:
    """What became of one command: its exit status, what it said, and its results, if it wrote any."""

    def __init__(self, folder: str, status: int, said: str) -> None:
        self.folder, self.status, self.said = folder, status, said.strip()
        self.results: dict[str, Any] | None = None
        with contextlib.suppress(OSError, ValueError):
            self.results = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))

    def target(self, name: str) -> dict[str, Any] | None:
        """A target's part of the results."""
        targets = self.results["targets"] if self.results else ()
        return next((target for target in targets if target["name"] == name), None)

    @property
    def report(self) -> str:
        """Where people read on."""
        return f"report: {_visible(str(Path(self.folder).absolute() / 'report.html'))}"


def _python() -> list[str]:
    return [sys.executable, "-P", "-m", "conformance"]


def _environment() -> dict[str, str]:
    """The environment, with one thread a process: the oracle's matrices are small, and threads only cost."""
    return {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}


def _certify(targets: Iterable[str | os.PathLike[str]], options: Mapping[str, Any], folder: str) -> _Run:
    """Run `bpttcheck certify --quiet`."""
    (Path(folder) / "results.json").unlink(missing_ok=True)  # an older one must not be taken for this run's
    words = ["certify", "--quiet", f"--report-dir={folder}"]
    for name, value in options.items():
        if value is not None:
            text = ",".join(value) if name == "select" and not isinstance(value, str) else str(value)
            words.append(f"--{name}={text}")
    status, _, said = _call([*words, "--", *(os.fspath(target) for target in targets)])
    return _Run(folder, status, said)


def _call(words: Sequence[str]) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of the command; whoever interrupts this ends it."""
    process = subprocess.Popen(  # noqa: S603 - the user's own words, no shell
        [*_python(), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
    )
    try:
        out, said = process.communicate()
    except BaseException:
        process.terminate()
        process.communicate()
        raise
    return process.returncode, out.decode("utf-8", "replace"), said.decode("utf-8", "replace")


def _demand(run: _Run) -> None:
    """Return if every target is certified. Raises: NotConformant, NoVerdict, BadUsage."""
    __tracebackhide__ = True
    if run.status == 0:
        return
    if run.status == _BAD_USAGE or run.results is None:
        raise _refused(run)
    texts = [_verdict_text(target, run) for target in run.results["targets"] if target["verdict"] != "certified"]
    kind = NotConformant if run.status == _NOT_CONFORMANT else NoVerdict
    raise kind("\n\n".join([*texts, run.report]))


def _refused(run: _Run) -> BadUsage | NoVerdict:
    """What to raise where there are no results."""
    said = _visible(run.said.rpartition("\n")[2].removeprefix("bpttcheck: ") or f"exit status {run.status}")
    return BadUsage(said) if run.status == _BAD_USAGE else NoVerdict(f"no verdict: {said}")


def _verdict_text(target: Mapping[str, Any], run: _Run, shown: int = SHOWN) -> str:
    """Why a target is not certified: so many failures whole, the others by name."""
    assert run.results is not None
    facts = f"profile {run.results['profile']}, seed {run.results['seed']}"
    bad = [f for f in target["findings"] if _state(f) in ("wrong", "open")]
    executed = sum(f["verdict"] != "unsupported" for f in target["findings"])
    name = _visible(target["name"])
    if target["verdict"] == "not conformant":
        wrong = sum(_state(f) == "wrong" for f in bad)
        findings = "finding" if executed == 1 else "findings"
        first = f"{name} is not conformant: {wrong} of {executed} {findings} failed ({facts})"
    else:
        first = f"{name}: no verdict: {_visible(target['reason'] or 'nothing was executed')} ({facts})"
    lines = [first, *(text for f in bad[:shown] for text in ("", _finding_text(f)))]
    if len(bad) > shown:
        lines += ["", f"and {len(bad) - shown} more:"] if shown else []
        lines += [f"  {f['verdict']}  {_where(f)}" for f in bad[shown:]]
    return "\n".join(lines)


def _finding_text(finding: Mapping[str, Any]) -> str:
    """One finding: where, got, want, the diagnosis, and the command that shows it again."""
    message = _visible(finding["message"]).rstrip()
    example = finding["counterexample"]
    if example and example["replay"] not in finding["message"]:
        message += f"\n  replay: {_visible(example['replay'])}"
    return f"{finding['verdict']}  {_where(finding)}\n" + "\n".join(f"  {line}" for line in message.split("\n"))


def _where(finding: Mapping[str, Any]) -> str:
    return _visible(f"{finding['property']} · {finding['cell']} · {finding['dtype']}")


def _state(finding: Mapping[str, Any]) -> str:
    """right, wrong, expected (to be wrong), unsupported, or open."""
    if finding["verdict"] in FAULTS:
        return "expected" if finding.get("expected") else "wrong"
    return {"pass": "right", "unsupported": "unsupported"}.get(finding["verdict"], "open")


def _visible(text: str) -> str:
    """Characters that do not print, but for line ends, as escapes: names and messages are the target's."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


# ---- the pytest plugin ---------------------------------------------------------------------------------------------

_OPTIONS = {
    "profile": ("NAME", "smoke, standard (default) or thorough"),
    "select": ("ID,...", "only these properties"),
    "seed": ("N", "any integer: another one, other problems (default: 0)"),
    "python": ("PATH", "the Python that runs adapters"),
    "timeout": ("S", "seconds a problem"),
    "jobs": ("N", "processes that share the work (default: one a core)"),
    "cases": ("DIR", "judge the case files in this folder too"),
}
_FOLDER = "BPTTCHECK_PYTEST_FOLDER"
"""The environment variable by which the processes of pytest-xdist share one run."""
_VERDICT = "verdict"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --bpttcheck and its companions; nothing else happens until they are used."""
    group = parser.getgroup("bpttcheck", "conformance of BPTT gradients")
    group.addoption(
        "--bpttcheck", action="append", metavar="TARGET", help="certify this target, one test a property; repeatable"
    )
    for name, (metavar, text) in _OPTIONS.items():
        group.addoption(f"--bpttcheck-{name}", metavar=metavar, help=text)
    group.addoption("--bpttcheck-report-dir", metavar="DIR", help="keep the report here")


def pytest_configure(config: pytest.Config) -> None:
    """Where targets are named, register the plugin that asks about them."""
    if config.getoption("--bpttcheck"):
        import pytest

        pytest.hookimpl(tryfirst=True)(_Plugin.pytest_collection_modifyitems)
        pytest.hookimpl(tryfirst=True)(_Plugin.pytest_runtest_protocol)
        config.addinivalue_line("markers", "bpttcheck: a property of a target of --bpttcheck")
        config.pluginmanager.register(_Plugin(config), "bpttcheck-run")


class _Plugin:
    """The tests of --bpttcheck: one a target and property, and one a target for its verdict; one run for them all."""

    def __init__(self, config: pytest.Config) -> None:
        import tempfile

        self.targets: list[str] = list(dict.fromkeys(config.getoption("--bpttcheck")))
        self.options = {name: config.getoption(f"--bpttcheck-{name}") for name in _OPTIONS}
        self.report_dir: str | None = config.getoption("--bpttcheck-report-dir")
        self.properties: list[str] = []
        self.run: _Run | None = None
        self.status, self.told = 1, False
        self._check()
        self.mine = _FOLDER not in os.environ  # the first process; those of pytest-xdist find it set
        if self.mine:
            os.environ[_FOLDER] = tempfile.mkdtemp(prefix="bpttcheck-")
        self.folder = os.environ[_FOLDER]

    def _check(self) -> None:
        """Say what is wrong with the options before anything is run. Raises: pytest.UsageError."""
        import pytest

        for target in self.targets:
            head, dot_py, _ = target.partition(".py")
            if dot_py and not Path(head + dot_py).is_file():
                raise pytest.UsageError(f"--bpttcheck {target}: there is no file {head + dot_py}; expected an adapter")
        if self.options["select"] is not None:
            chosen, self.options["select"] = self._ids(), None
            unknown = [name for name in chosen if name not in self._ids()]
            self.options["select"], self.properties = ",".join(chosen), []
            if unknown:
                raise pytest.UsageError(
                    f"--bpttcheck-select {unknown[0]}: no such property; see bpttcheck list properties"
                )

    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add the tests, before -k and -m choose among all."""
        collector, item = _nodes()
        for target in self.targets:
            parent = collector.from_parent(session, name=f"bpttcheck {target}", nodeid=f"bpttcheck::{target}")
            items += [item.from_parent(parent, name=name, plugin=self) for name in (*self._ids(), _VERDICT)]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Only what is left is asked; a verdict that is asked for alone is about everything."""
        mine = [item.name for item in session.items if isinstance(item, _nodes()[1])]
        asked = dict.fromkeys(name for name in mine if name != _VERDICT)
        self.told, self.properties = bool(asked), list(asked) or self._ids()

    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """End the session where the command was refused: no test could say more. Raises: pytest.UsageError.

        A process of pytest-xdist cannot end the session; there the tests fail with the line that says what was wrong.
        """
        if isinstance(item, _nodes()[1]) and not hasattr(item.config, "workerinput"):
            run = self.results()
            if run.status == _BAD_USAGE:
                import pytest

                raise pytest.UsageError(f"--bpttcheck: {_refused(run)}")

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Remember whether there is something to read."""
        self.status = int(exitstatus)

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind where all is well, or where the report has a place of its own."""
        if self.mine:
            import shutil

            import pytest

            os.environ.pop(_FOLDER, None)
            nothing = self.status in (0, pytest.ExitCode.USAGE_ERROR)
            if nothing or self.report_dir is not None:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _ids(self) -> list[str]:
        """The ids of the properties that are asked for: what the command lists, or what --bpttcheck-select says."""
        chosen = self.options["select"]
        if chosen is not None:
            return [name for name in map(str.strip, chosen.split(",")) if name]
        if not self.properties:
            _, out, _ = _call(["list", "properties"])
            self.properties = [line for line in out.splitlines() if line and not line[0].isspace()]
        return self.properties

    def results(self) -> _Run:
        """The run: made by the first process that gets here, awaited by the others."""
        if self.run is None:
            self.run = self._made(self.report_dir or str(Path(self.folder) / "report"))
        return self.run

    def _made(self, folder: str) -> _Run:
        import time

        told, taken = Path(self.folder, "status.json"), Path(self.folder, "taken")
        try:
            with taken.open("x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            while not told.exists():
                time.sleep(0.1)
                if not _lives(taken.read_text(encoding="utf-8")) and not told.exists():
                    return _Run(folder, 3, "the process that made the run has ended")
            return _Run(folder, *json.loads(told.read_text(encoding="utf-8")))
        status, said = 3, "the run was interrupted"
        try:
            run = _certify(self.targets, {**self.options, "select": self.properties}, folder)
            status, said = run.status, run.said
            return run
        finally:  # whatever happens, nobody waits for ever
            new = Path(self.folder, "status.json.new")
            new.write_text(json.dumps([status, said]), encoding="utf-8")
            new.replace(told)


def _lives(pid: str) -> bool:
    """Whether a process is there, as far as that can be seen; it may not have written its number yet."""
    if os.name != "posix" or not pid:
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _nodes() -> tuple[Any, Any]:
    """The classes of pytest's nodes, made when they are needed: pytest may not even be there."""
    if "_Item" not in globals():
        _make_nodes()
    return globals()["_Target"], globals()["_Item"]


def _make_nodes() -> None:
    import pytest

    class _Target(pytest.Collector):
        """One target."""

        def collect(self) -> Iterator[pytest.Item]:
            return iter(())

    class _Item(pytest.Item):
        """One property of one target, or its verdict."""

        def __init__(self, *, plugin: _Plugin, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.plugin = plugin
            self.target = self.parent.name.removeprefix("bpttcheck ") if self.parent else ""
            self.add_marker(pytest.mark.bpttcheck)

        def runtest(self) -> None:
            """Pass, or raise what assert_conformant would; skip what is unsupported; expect what is expected."""
            run = self.plugin.results()
            target = run.target(self.target)
            if run.status == _BAD_USAGE or target is None:
                raise _refused(run)
            if self.name == _VERDICT:
                if target["verdict"] != "certified":
                    kind = NotConformant if target["verdict"] == "not conformant" else NoVerdict
                    shown = 0 if self.plugin.told else SHOWN  # the tests of the properties show them
                    raise kind(f"{_verdict_text(target, run, shown)}\n\n{run.report}")
                return
            self._judge([f for f in target["findings"] if f["property"] == self.name], target, run)

        def _judge(self, findings: list[Mapping[str, Any]], target: Mapping[str, Any], run: _Run) -> None:
            by_state: dict[str, list[Mapping[str, Any]]] = {}
            for finding in findings:
                by_state.setdefault(_state(finding), []).append(finding)
            bad = by_state.get("wrong", []) + by_state.get("open", [])
            if bad:
                kind = NotConformant if "wrong" in by_state else NoVerdict
                raise kind("\n\n".join([*map(_finding_text, bad[:SHOWN]), run.report]))
            if "expected" in by_state:
                pytest.xfail(_visible(by_state["expected"][0]["expected"]))
            if "right" not in by_state:
                why = findings[0]["message"] if findings else target["reason"] or "concerns no cell that it offers"
                pytest.skip(_visible(why))

        def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
            """The message alone: the traceback would be ours."""
            if isinstance(excinfo.value, NotConformant | NoVerdict | BadUsage):
                return str(excinfo.value)
            return super().repr_failure(excinfo, style)

        def reportinfo(self) -> tuple[Any, None, str]:
            """Where it is said to be."""
            return self.path, None, f"bpttcheck {self.target} {self.name}"

    globals().update(_Target=_Target, _Item=_Item)


if __name__ == "__main__":
    main()
