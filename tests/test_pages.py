"""README and docs are true: blocks have a language and are what they say, commands exist, and quick ones are run.

What takes long is run by tests/deep/test_pages.py (`tox -e pages`): every page from its first block to its last.
tests/test_tutorial.py follows the tutorial, tests/test_readme.py README's adapter.
"""

from __future__ import annotations

import json
import runpy
import tomllib
from itertools import pairwise

import pytest

from conformance.registered import registered
from tests.pages import PAGES, ROOT, Follower, blocks, commands_in, name_of, own_tests, shows, wrong_with

LANGUAGES = ("sh", "python", "pycon", "toml", "text", "json", "rust", "cuda", "yaml", "c", "xml", "html")
EXCERPTS = {"docs/cells.md": sorted((ROOT / "bptt" / "cells").glob("*.py")), "rust": [ROOT / "examples" / "worker.rs"]}
"""Where blocks of a page, or of a language, are quoted from."""
QUICK = [
    "docs/contributing/cell.md", "docs/contributing/implementation.md", "docs/contributing/property.md",
    "docs/explanations/gradcheck.md", "docs/explanations/tolerance.md", "docs/explanations/truncation.md",
    "docs/howto/cuda.md",
]  # fmt: skip
MADE = {
    "make_cells.py": {"cells.md": lambda made: made["page"]()},
    "make_commands.py": {"reference/commands.md": lambda made: made["page"]()},
    "make_schemas.py": {"reference/schemas.md": lambda made: made["page"]()},
    "make_properties.py": {
        "reference/properties.md": lambda made: made["properties_page"](made["Known"].read()),
        "bugs.md": lambda made: made["bugs_page"](made["Known"].read()),
    },
}


def begins_as_json(text):
    """Whether a value of JSON is what a text, or a line, begins with; words may stand behind it."""
    try:
        json.JSONDecoder().raw_decode(text)
    except ValueError:
        return False
    return True


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@every_page
def test_every_block_of_a_page_has_a_language(page):
    assert [(block.line, block.language) for block in blocks(page) if block.language not in LANGUAGES] == []


@every_page
def test_blocks_are_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        at = f"{name_of(page)}:{block.line}"
        sources = EXCERPTS.get(name_of(page)) if block.language == "python" else EXCERPTS.get(block.language)
        if sources is not None:
            texts = [source.read_text(encoding="utf-8") for source in sources]
            lines = [line.strip() for line in block.text.splitlines()]
            assert any(all(line in text for line in lines) for text in texts), f"{at}: is quoted from nowhere"
        elif block.language == "python":
            assert block.name is not None or own_tests(page), f"{at}: a file has its name first; a session is pycon"
            compile(block.text, at, "exec")
        elif block.language == "toml":
            tables = tomllib.loads(block.text).get("tool", {}).get("bpttcheck", {})
            (tmp_path / "pyproject.toml").write_text(block.text, encoding="utf-8")
            assert set(tables.get("implementations", {})) <= set(registered()), at
        elif block.language == "json":
            assert begins_as_json(block.text) or all(map(begins_as_json, block.text.splitlines())), at
        elif block.language == "pycon":
            assert ">>> " in block.text, at
        elif block.language == "cuda":
            assert block.name is not None, at


@every_page
def test_every_command_of_a_page_exists(page):
    assert [(c, wrong) for c in commands_in(page) if (wrong := wrong_with(c, page)) is not None] == []


def test_commands_behind_variables_and_of_other_programs_are_met_too():
    assert any(
        command.startswith("OPENBLAS_NUM_THREADS=1 ") and command.endswith("tests/benchmarks/kernels.py")
        for command in commands_in(ROOT / "docs" / "c_kernel.md")
    )
    assert {"ruff check", "ruff format --check"} <= set(commands_in(ROOT / "CONTRIBUTING.md"))


@pytest.mark.parametrize("name", QUICK)
def test_page_is_followed_as_far_as_it_is_quick(name, tmp_path):
    try:
        ran = Follower(ROOT / name, tmp_path, slow=False).follow()
    except LookupError as error:
        pytest.skip(f"no {error} here")
    assert ran or any(block.language == "pycon" for block in blocks(ROOT / name))


@pytest.mark.parametrize(("script", "page"), [(script, page) for script, pages in MADE.items() for page in pages])
def test_page_that_is_made_from_the_code_is_up_to_date(script, page):
    made = runpy.run_path(str(ROOT / "docs" / script))
    text = MADE[script][page](made)
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == text, "run: python docs/make.py"


def test_what_make_runs_is_compared_with_its_pages():
    scripts = runpy.run_path(str(ROOT / "docs" / "make.py"))["SCRIPTS"]
    assert sorted(scripts) == sorted(MADE)


def test_measured_tables_of_the_explanation_are_those_that_were_measured():
    measured = (ROOT / "docs" / "gradcheck.md").read_text(encoding="utf-8").splitlines()
    rows = [
        line
        for line in (ROOT / "docs" / "explanations" / "gradcheck.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 5
    assert [row for row in rows if row not in measured] == []


def test_bug_catalogue_names_every_bug_and_who_kills_it():
    made = runpy.run_path(str(ROOT / "docs" / "make_properties.py"))
    known = made["Known"].read()
    text = (ROOT / "docs" / "bugs.md").read_text(encoding="utf-8")
    assert all(f"**`{bug.name}`**" in text for bug in known.bugs.values())
    with pytest.raises(ValueError, match=r"no row for elman\.py:unheard_of"):
        made["killers"]((ROOT / "docs" / "kill_matrix.md").read_text(encoding="utf-8"), ["elman.py:unheard_of"])


# ---- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """(the script's names, the folder that it gathered pages in)."""
    made, folder = runpy.run_path(str(ROOT / "docs" / "make_site.py")), tmp_path_factory.mktemp("site")
    made["gather"](folder)
    return made, folder


def test_site_has_every_page_once_in_its_navigation(site):
    _, folder = site
    text = (folder / "mkdocs.yml").read_text(encoding="utf-8")
    sections = json.loads(text.rpartition("nav: ")[2])
    pages = [page for section in sections for pages in section.values() for page in pages]
    assert sorted(pages) == sorted(path.relative_to(folder / "docs").as_posix() for path in folder.rglob("*.md"))
    assert pages[0] == "index.md"
    assert len(pages) == len(set(pages)) >= len(PAGES)


def test_links_of_the_site_lead_to_its_pages(site):
    made, folder = site
    for page in folder.rglob("*.md"):
        for link in made["links"](page.read_text(encoding="utf-8")):
            assert (page.parent / link).is_file(), (page.name, link)


def test_site_refuses_a_link_that_leads_nowhere(site):
    made, _ = site
    for link in ("nowhere.md", "../../../../etc/hostname"):
        with pytest.raises(made["PageError"], match="where nothing is"):
            made["target_of"]("docs/tutorial.md", link)


def test_site_takes_pages_that_are_new_into_its_navigation(site):
    made, _ = site
    (found,) = made["navigation"](["studies/run/a.md"])
    assert found == {"Claims and studies": ["studies/run/a.md"]}
    assert made["navigation"](["index.md", "unheard_of.md"])[-1] == {"More": ["unheard_of.md"]}


def test_nothing_of_the_site_is_fetched_from_elsewhere():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text
    assert "extra_javascript" not in text
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert "![" not in line or "](http" not in line, page
            assert "<script" not in line.lower(), page


# ---- the tests of pages can fail -------------------------------------------------------------------------------------


def test_what_a_page_shows_must_have_been_printed():
    said = "target      verdict    passed\nadapter.py  certified   28/28\n"
    assert shows("target verdict\nadapter.py  certified   30/30\n", said) is None
    assert shows("adapter.py  not conformant\n", said) == "adapter.py not conformant"


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("bpttcheck certify mine.py --profle smoke", "profle"),
        ("bpttcheck certfy mine.py", "certfy"),
        ("python -m tests.deep.nothing", "no such file"),
        ("python -m tests.deep.fairness --exmaples 3", "exmaples"),
        ("pytest tests/nothing.py", "no such file"),
        ("tox -e nothing", "no environment"),
        ("python3 -m venv .venv && frobnicate", "frobnicate"),
        ("ruff lint", "tox -e lint does not run: ruff lint"),
        ("OMP_NUM_THREADS=1 python tests/benchmarks/kernel.py", "no such file"),
    ],
)
def test_command_that_does_not_exist_is_noticed(command, wrong):
    assert wrong in str(wrong_with(command, ROOT / "README.md"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nbpttcheck list cells\n```\n\n```text\nno such cell\n```\n", "not printed: 'no such cell'"),
        ("```sh\nbpttcheck list nothing\n```\n", "invalid choice"),
        ("```sh\nbpttcheck list cells  # exit status 1\n```\n", "page.md:1: 0"),
        ("```pycon\n>>> 1 + 1\n3\n\n```\n", "failed=1"),
    ],
)
def test_page_that_is_not_true_is_noticed(text, message, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr("tests.pages.ROOT", tmp_path)
    with pytest.raises(AssertionError) as error:
        Follower(page, tmp_path / "folder", slow=False).follow()
    assert message in str(error.value)


def test_blocks_that_print_stand_right_behind_their_commands():
    """A text block that follows another kind of block is not compared: where a page shows a run, it comes next."""
    for page in PAGES:
        for first, second in pairwise(blocks(page)):
            if second.language == "text" and second.text.startswith(("target ", "fail ")):
                assert first.language == "sh", f"{name_of(page)}:{second.line}"
