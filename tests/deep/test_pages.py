"""Every page followed from its first block to its last, as a reader would (`tox -e pages`); half an hour.

A page that has a test of its own (tests.pages.own_tests: the tutorial, say) is followed there. What is not run here
is looked up by tests/test_pages.py; tests.pages.LONG says what, and why. README's first command is run by itself, in a
copy of the checkout, where the network is there: BPTTCHECK_NETWORK=1.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from tests.pages import PAGES, ROOT, Follower, blocks, name_of, own_tests

ELSEWHERE = {
    "README.md": "tests/test_readme.py certifies its adapter and breaks the line that it says; below, a command",
    "docs/reference/commands.md": "its examples name files that nobody has; tests/test_pages.py parses each",
    "CONTRIBUTING.md": "it installs the tools and runs all tests, as tox does",
}
NEEDS = {"docs/howto/pytorch.md": "torch", "docs/howto/jax.md": "jax"}
FOLLOWED = [
    page
    for page in PAGES
    if name_of(page) not in ELSEWHERE
    and not own_tests(page)
    and any(block.language in ("sh", "pycon") for block in blocks(page))
]


@pytest.mark.parametrize("page", FOLLOWED, ids=name_of)
def test_page_is_true_from_its_first_block_to_its_last(page, tmp_path):
    package = NEEDS.get(name_of(page))
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed here")
    try:
        Follower(page, tmp_path, slow=True).follow()
    except LookupError as error:
        pytest.skip(f"no {error} here")


def test_first_command_of_the_readme(tmp_path):
    if os.environ.get("BPTTCHECK_NETWORK") != "1":
        pytest.skip("it installs from the network: BPTTCHECK_NETWORK=1")
    (block, *_) = [block for block in blocks(ROOT / "README.md") if block.language == "sh"]
    assert "pip install -q . &&" in block.text
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "*.so", "*.egg-info", "site", "reports")
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored)
    words = block.text.replace("python3 -m venv", f"{sys.executable} -m venv", 1)
    subprocess.run(["sh", "-e", "-c", words], cwd=tmp_path / "checkout", check=True)
    assert (tmp_path / "checkout" / "reports" / "report.html").is_file()
