"""README and docs as things to do: their blocks in order, their commands, and a folder to follow them in.

A `python` block is a file, whose name is the first thing in it (`# mine.py`, or a docstring that begins with the name);
`pycon` is a session; a `text` block right behind an `sh` block is what that prints, numbers aside. `# exit status 1` at
the end of a command says that it ends so. A page about the repository itself is followed in a copy of it.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
PACKAGES = ("bptt", "oracle", "implementations", "properties", "conformance")
COMPILERS = ("cc", "c++", "nvcc", "rustc", "node")
LONG = {
    r"\bpip install\b": "needs the network",
    r"\btox\b|\bpytest\b|\bmkdocs\b": "a suite or a build of its own",
    r"python3? -m (tests\.|venv)|python tests/": "minutes to hours, or the network",
}
"""Commands that are looked up and not run, and why."""
SLOW = r"bpttcheck (certify|explore)|rustc|nvcc"
"""Commands that are left to tests/deep/test_pages.py."""
NAMED = re.compile(r'\A(?:"""|# |// )([\w./-]+\.\w+)(?::|\n)')


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line that it begins in."""

    language: str
    text: str
    line: int

    @property
    def name(self) -> str | None:
        """The file that it is, None where it is none."""
        found = NAMED.match(self.text)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, those that end in a backslash joined."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def own_tests(page: Path) -> list[str]:
    """The tests that are about a page alone, by their files: they name it. Those follow it as they see fit."""
    names = (f'"docs" / "{page.name}"', f"docs/{page.name}") if page.parent.name == "docs" else (name_of(page),)
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")}
    return sorted(
        path.name for path, text in texts.items() if path.name != "test_pages.py" and any(n in text for n in names)
    )


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    fence, language, start, lines = "", "", 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r"(```+)(.*)", line)
        if not fence and mark:
            fence, language, start, lines = mark[1], mark[2].strip(), number, []
        elif fence and line.strip() == fence:
            found.append(Block(language, "\n".join(lines) + "\n", start))
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"{page}: the block of line {start} does not end"
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^(```+).*?^\1\n", "\n", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands_in(page: Path) -> Iterator[str]:
    """Every command of a page: of its shell blocks, of indented blocks and workflows, and within sentences."""
    for block in blocks(page):
        if block.language == "sh":
            yield from block.commands
        elif block.language == "yaml":
            yield from re.findall(r"(?:run: |^ +)((?:bpttcheck|python3? -m|tox) .*)", block.text, re.MULTILINE)
    text = prose(page)
    yield from re.findall(r"^    ((?:bpttcheck|python3?|tox|pytest|pip) .*)", text, re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", re.sub(r"\s*\n\s*", " ", text)):
        if re.match(r"(?:[A-Z_]+=\S+ )*(bpttcheck|python3?|tox|pytest|pip|ruff) \S", span):
            yield span


# ---- following -------------------------------------------------------------------------------------------------------


def masked(text: str) -> list[str]:
    """The lines of a text without their numbers, which may be those of another release, and their columns."""
    lines = (re.sub(r"0x[0-9a-fp.+-]+|\d[\d.,e+/÷-]*|[0-9a-f]{12}|─+", " ", line) for line in text.splitlines())
    return [joined for line in lines if (joined := " ".join(line.split()))]


def shows(shown: str, said: str) -> str | None:
    """The first line of what a page shows that no line of what was said begins with; None where there is none."""
    lines = masked(said)
    return next((line for line in masked(shown) if not any(other.startswith(line) for other in lines)), None)


class Follower:
    """A folder in which a page is followed. `slow`: with the commands that take long."""

    def __init__(self, page: Path, folder: Path, *, slow: bool) -> None:
        import conformance

        self.page, self.folder, self.slow = page, folder, slow
        self.code = Path(conformance.__file__).parent.parent
        self.ran: list[str] = []
        if name_of(page).startswith("docs/contributing/"):
            self._checkout()
        elif "examples/worker.rs" in page.read_text(encoding="utf-8") or page.parent.name == "examples":
            shutil.copytree(ROOT / "examples", folder, dirs_exist_ok=True)
        python = f'PYTHONPATH="{self.code}" exec "{sys.executable}"'
        for place, line in {
            ".venv/bin/python": f'exec "{sys.executable}" "$@"',
            ".bin/bpttcheck": f'{python} -P -m conformance "$@"',
            ".bin/python": f'{python} "$@"',
        }.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
            (folder / place).chmod(0o755)
        self.environment = os.environ | {"PATH": f"{folder}/.bin:{os.environ['PATH']}", "COLUMNS": "120"}

    def _checkout(self) -> None:
        """A copy of what a change of the repository changes."""
        for package in PACKAGES:
            shutil.copytree(
                self.code / package,
                self.folder / package,
                ignore=shutil.ignore_patterns("__pycache__"),
                dirs_exist_ok=True,
            )
        shutil.copytree(ROOT / "tests" / "mutants", self.folder / "tests" / "mutants")
        self.code = self.folder

    def follow(self) -> list[str]:
        """Do what the page says; the commands that were run. Raises: AssertionError; LookupError, no compiler."""
        sessions, said = [], None
        for block in blocks(self.page):
            if block.language == "sh":
                said = self._run(block)
                continue
            if block.language == "text":
                missing = None if said is None else shows(block.text, said)
                assert missing is None, f"{self._at(block)}: not printed: {missing!r}; printed was:\n{said}"
            elif block.language == "toml":
                (self.folder / "pyproject.toml").write_text(block.text, encoding="utf-8")
            elif block.language == "pycon":
                sessions.append(block.text)
            elif block.name is not None:
                path = self.folder / block.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            said = None
        if sessions:
            examples = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, name_of(self.page), None, 0)
            outcome = doctest.DocTestRunner().run(examples)
            assert outcome.failed == 0, f"{name_of(self.page)}: {outcome}"
        return self.ran

    def _run(self, block: Block) -> str | None:
        """What a block prints; None where it is not run."""
        if any(re.search(pattern, block.text) for pattern in LONG):
            return None
        if not self.slow and re.search(SLOW, block.text):
            return None
        for program in COMPILERS:
            if re.search(rf"^{re.escape(program)} ", block.text, re.MULTILINE) and shutil.which(program) is None:
                if program == "nvcc":  # the page goes on without
                    return None
                raise LookupError(program)
        words = ["sh", "-e", "-c", block.text]
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        want = int((re.findall(r"# exit status (\d)", block.text) or ["0"])[-1])
        assert done.returncode == want, f"{self._at(block)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.ran += block.commands
        return done.stdout + done.stderr

    def _at(self, block: Block) -> str:
        return f"{name_of(self.page)}:{block.line}"


# ---- looking up ------------------------------------------------------------------------------------------------------


def wrong_with(command: str, page: Path) -> str | None:
    """What is wrong with a command, as far as can be told without running it; None where nothing is."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        return str(error)
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    parts = [part[: part.index(">")] if ">" in part else part for part in parts]  # where the output goes
    return next((wrong for part in parts if (wrong := _wrong(part, page)) is not None), None)


def _wrong(words: list[str], page: Path) -> str | None:
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words:
        return None
    program, rest = Path(words[0]).name, words[1:]
    if words[0].startswith("./"):  # what the page has built
        return None
    if program == "bpttcheck":
        return wrong_arguments(rest)
    if program in ("python", "python3"):
        return _wrong_python(rest, page)
    if program == "tox":
        return _wrong_tox(rest)
    if program == "pytest":
        missing = [word for word in rest if word.startswith("tests/") and not (ROOT / word.partition("::")[0]).exists()]
        return f"no such file: {missing[0]}" if missing else None
    if program == "ruff":  # as the style is checked, and no other way
        lint = (ROOT / "tox.ini").read_text(encoding="utf-8")
        return None if f"    {' '.join(words)}\n" in lint else f"tox -e lint does not run: {' '.join(words)}"
    known = (*COMPILERS, "pip", "tox", "mkdocs", "sed", "mv", "cp", "export", "cd", "mypy", "git", "ls")
    return None if program in known else f"a program that is not known here: {program}"


def wrong_arguments(words: list[str]) -> str | None:
    """What our own parser says of a command line; a command that stands alone is a name."""
    from conformance.cli import COMMANDS, build_parser
    from conformance.errors import UsageError

    if words[:1] == ["COMMAND"] or (len(words) == 1 and words[0] in COMMANDS):
        return None
    try:
        build_parser().parse_args(words)
    except UsageError as error:
        return str(error)
    except SystemExit:  # --help
        return None
    return None


def _wrong_python(words: list[str], page: Path) -> str | None:
    words = [word for word in words if word != "-P"]
    if words[:1] == ["-m"]:
        module = words[1]
        if module in ("venv", "pip", "pytest", "http.server"):
            return None
        file = ROOT / (module.replace(".", "/") + ".py")
        file = file if file.is_file() else ROOT / module.replace(".", "/") / "__main__.py"
        arguments = words[2:]
    else:
        file, arguments = ROOT / words[0], words[1:]
        made = {block.name for block in blocks(page)} | {"setup.py"}
        if words[0] in made or words[0].startswith("reports/"):
            return None
    if not file.is_file():
        return f"no such file: {file.relative_to(ROOT)}"
    text = file.read_text(encoding="utf-8")
    unknown = [word for word in arguments if word.startswith("--") and f'"{word.partition("=")[0]}"' not in text]
    return f"{file.name} knows no {unknown[0]}" if unknown else None


def _wrong_tox(words: list[str]) -> str | None:
    text = (ROOT / "tox.ini").read_text(encoding="utf-8")
    if words[:1] == ["-e"]:
        name = words[1]
        if f"[testenv:{name}]" not in text and not re.fullmatch(r"py(3\d+)?(-torch|-jax)?", name):
            return f"tox has no environment {name}"
    return None
