"""The pages that are made from the code are up to date, and links between pages lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from bptt.cells import CELLS
from tests.pages import PAGES, name_of

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(ROOT / "docs" / "make_cells.py"))


def test_page_of_the_cells_is_what_the_cells_say(made):
    assert (ROOT / "docs" / "cells.md").read_text() == made["page"]()


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_equation_of_a_cell_stands_beside_its_code(made, cell):
    section = made["section"](CELLS[cell])
    blocks = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    equations = {n for block in blocks for n in re.findall(r"\((\d+)\)$", block, re.MULTILINE)}
    beside = set(re.findall(r"# \((\d+)\)", section))
    assert equations == {str(n + 1) for n in range(len(equations))}
    assert equations == beside
    assert all(f"`{name}` (" in section for name in CELLS[cell].shapes(2, 3))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link
