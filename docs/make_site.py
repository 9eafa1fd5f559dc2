"""Gathers the pages of the site in a folder, with their navigation: `tox -e docs` builds them.

    python docs/make_site.py FOLDER && mkdocs build --strict -f FOLDER/mkdocs.yml -d SITE

Pages stay where a reader of the repository finds them, and link to each other and to files as they lie there. On the
site README.md is the first page, and what is linked to outside docs/ becomes a page too: Markdown as it stands, any
other text in a code block. The navigation is found: a page that is new has its place by its folder, one that is
missing is not missed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
RENAMED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
SECTIONS = (
    ("Start", ("index.md", "tutorial.md", "report.md")),
    ("How to", ("howto/*.md", "ci.md")),
    (
        "Explanations",
        ("explanations/tolerance.md", "explanations/truncation.md", "explanations/gradcheck.md", "explanations/*.md"),
    ),
    ("Reference", ("reference/*.md", "cells.md", "bugs.md", "protocol.md", "vectors.md", "budget.md", "diagnosis.md")),
    ("Evidence", ("evidence.md", "gradcheck.md", "kill_matrix.md", "mutation.md", "c_kernel.md")),
    (
        "Claims and studies",
        ("claims/*.md", "claims/**/*.md", "studies/*.md", "studies/**/*.md", "claims*.md", "stud*.md"),
    ),
    ("Contributing", ("contributing.md", "contributing/*.md")),
    ("Changes", ("changelog.md",)),
    ("More", ("*.md", "[!f]*/**/*.md")),
    ("Files", ("files/**/*.md",)),
)
"""The navigation: a page stands in the first section with a pattern that it matches."""
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".c": "c", ".h": "c", ".rs": "rust", ".mjs": "js"}


class PageError(Exception):
    """A page that cannot be gathered: its name, and why."""


def place(path: str) -> str:
    """Where a file of the repository stands among the site's pages.

    >>> place("README.md"), place("docs/cells.md"), place("bptt/arithmetic.py"), place("examples/README.md")
    ('index.md', 'cells.md', 'files/bptt/arithmetic.py.md', 'files/examples/README.md')
    """
    if path in RENAMED:
        return RENAMED[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"files/{path}" if path.endswith(".md") else f"files/{path}.md"


def outside_code(text: str) -> Iterator[tuple[str, bool]]:
    """Each line of a page, and whether it is prose: not in a fenced block."""
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = re.match(r"\s*(```+|~~~+)", line)
        yield line, not fence and mark is None
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""


def links(text: str) -> Iterator[str]:
    """What a page's prose links to, but for other hosts."""
    for line, prose in outside_code(text):
        for match in LINK.finditer(line) if prose else ():
            if "://" not in match[2]:
                yield match[2]


def target_of(page: str, link: str) -> str:
    """The repository's path behind a link of a page. Raises: PageError where there is nothing, or it is outside."""
    found = (ROOT / page).parent / link
    path = Path(os.path.normpath(found))
    if not path.is_relative_to(ROOT) or not path.exists():
        raise PageError(f"{page}: links to {link}, where nothing is")
    return path.relative_to(ROOT).as_posix()


def gathered() -> dict[str, str]:
    """Every page's path in the repository to its text, what is linked to among them."""
    waiting = [name for name in RENAMED if (ROOT / name).is_file()]
    waiting += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    pages: dict[str, str] = {}
    while waiting:
        path = waiting.pop()
        if path in pages or is_picture(path):
            continue
        pages[path] = text = shown(path)
        if path.endswith(".md"):
            waiting += [target_of(path, link) for link in links(text)]
    return pages


def is_picture(path: str) -> bool:
    """What is copied and not shown as text."""
    return PurePosixPath(path).suffix in {".png", ".svg"}


def shown(path: str) -> str:
    """A file as a page."""
    here = ROOT / path
    if here.is_dir():
        names = sorted(child.name for child in here.iterdir() if not child.name.startswith((".", "__")))
        return f"# {path}\n\n" + "".join(f"- `{name}`\n" for name in names)
    text = here.read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"# {path}\n\n{fence}{LANGUAGES.get(here.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def moved(path: str, text: str) -> str:
    """A page's text with its links as they are on the site."""
    folder = str(PurePosixPath(place(path)).parent)

    def relink(match: re.Match[str]) -> str:
        if "://" in match[2]:
            return match[0]
        goal = target_of(path, match[2])
        there = goal.removeprefix("docs/") if is_picture(goal) else place(goal)
        return match[1] + os.path.relpath(there, folder).replace(os.sep, "/") + match[3]

    return "".join(LINK.sub(relink, line) if prose else line for line, prose in outside_code(text))


def navigation(pages: list[str]) -> list[dict[str, list[str]]]:
    """The sections that have pages, in order, and their pages; every page is in one of them."""
    left, found = sorted(pages), []
    for title, patterns in SECTIONS:
        mine: list[str] = []
        for pattern in patterns:
            mine += [page for page in left if page not in mine and matches(page, pattern)]
        left = [page for page in left if page not in mine]
        if mine:
            found.append({title: mine})
    if left:
        raise PageError(f"no section for {', '.join(left)}")
    return found


def matches(page: str, pattern: str) -> bool:
    """Whether a path matches a pattern, in which ** is any number of folders.

    >>> matches("studies/a/b.md", "studies/**/*.md"), matches("studies/a/b.md", "studies/*.md")
    (True, False)
    """
    words = re.escape(pattern).replace(r"\*\*/", "(?:[^/]+/)*").replace(r"\*", "[^/]*").replace(r"\[!f\]", "(?!files/)")
    return re.fullmatch(words, page) is not None


def gather(folder: Path) -> None:
    """Write pages, pictures and mkdocs.yml into a folder, which is emptied first."""
    docs = folder / "docs"
    if docs.exists():
        shutil.rmtree(docs)
    pages = gathered()
    for path, text in pages.items():
        page = docs / place(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(moved(path, text), encoding="utf-8")
    for picture in (ROOT / "docs").rglob("*"):
        if is_picture(picture.name) or picture.suffix == ".css":
            copy = docs / picture.relative_to(ROOT / "docs")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, copy)
    nav = json.dumps(navigation([place(path) for path in pages]), indent=1)
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (folder / "mkdocs.yml").write_text(f"{text}docs_dir: docs\nnav: {nav}\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_site.py FOLDER")
    try:
        gather(Path(sys.argv[1]))
    except PageError as error:
        sys.exit(f"make_site: {error}")
