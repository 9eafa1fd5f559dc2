"""The page in a browser: what a reader clicks opens, the console is silent, and axe-core finds nothing serious.

Skipped where there is no Chromium; `tox -e browser` brings axe-core. Nothing here needs a network.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.cli import main
from conformance.render import load, render
from tests.chromium import Chromium, find
from tests.test_render import HOSTILE, hostile, make_finding, make_results, make_target, passing, three, write

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium: install one, or name it in $CHROMIUM")

MUTANT = Path(__file__).parent.parent / "mutants" / "elman.py"
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
SEEN = """(element => {
    const box = element.getBoundingClientRect();
    return element.checkVisibility({contentVisibilityAuto: true}) && box.height > 0
        && box.top < innerHeight && box.bottom > 0;
})(document.querySelector(%r))"""


def axe() -> str | None:
    """The source of axe-core: from $AXE, or from the package that brings it."""
    named = os.environ.get("AXE")
    if named:
        return Path(named).read_text(encoding="utf-8")
    package = importlib.util.find_spec("axe_playwright_python")
    folders = package.submodule_search_locations if package else None
    return (Path(folders[0]) / "axe.min.js").read_text(encoding="utf-8") if folders else None


def many() -> dict[str, Any]:
    """More failures than are shown open."""
    findings = [
        make_finding("fail" if i % 3 else "pass", property=f"property-{i % 5}", cell=f"cell-{i // 5}")
        for i in range(30)
    ]
    return make_results(make_target("broken", "not conformant", findings=findings))


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports by name: one of a planted bug, which `certify` wrote, the others made up."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("passing", "failing", "three", "many", "hostile")}
    words = ["certify", f"{MUTANT}:dx_one_step_late", "--profile", "smoke", "--jobs", "1"]
    select = ["--select", "oracle-agreement,jacobian-norm-bound", "--report-dir", str(folders["failing"])]
    assert main([*words, *select]) == 1
    pictured = load(folders["failing"])["targets"][0]["findings"][0]["picture"]
    whole = passing()
    whole["targets"][0]["findings"][0]["picture"] = {**pictured, "wrong": None, "case": None}
    bad = hostile(" ".join(HOSTILE[:-1]))
    bad["targets"][0]["findings"][0]["picture"] = pictured
    for name, results in (("passing", whole), ("three", three()), ("many", many()), ("hostile", bad)):
        render(write(folders[name], results))
    return {name: folder / "report.html" for name, folder in folders.items()}


@pytest.mark.parametrize("name", ["failing", "many"])
def test_the_matrix_leads_to_the_replay_command(browser, reports, name):
    with browser.page(reports[name].as_uri()) as page:
        assert page.evaluate("document.querySelectorAll('.matrix a.sign.fail').length") > 0
        cell = ".matrix a.sign.fail"
        if name == "many":  # the last of them, which is far below and closed
            cell = ".matrix tbody tr:last-child td:last-child a.sign.fail"
        anchor = page.evaluate(f"document.querySelector({cell!r}).getAttribute('href')")
        if name == "many":
            assert not page.evaluate(f"document.querySelector('{anchor}').closest('details').open")
        page.click(cell)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("location.hash") == anchor
        assert page.evaluate(f"document.querySelector('{anchor}').closest('details').open")
        assert page.evaluate(SEEN % anchor)
        heading = f"document.querySelector('details:has({anchor}) > summary').getBoundingClientRect().top"
        assert page.evaluate(heading) >= 0, "its heading is cut off"
        command = f"{anchor} .command"
        page.evaluate(f"document.querySelector('{command}').scrollIntoView()")
        assert page.evaluate(SEEN % command)
        text = page.evaluate(f"document.querySelector('{command}').innerText")
        assert text.startswith("bpttcheck replay ")
        assert page.complaints == []


def test_the_replay_command_of_the_page_is_that_of_the_results(browser, reports):
    findings = load(reports["failing"].parent)["targets"][0]["findings"]
    commands = [f["counterexample"]["replay"] for f in findings if f["counterexample"]]
    with browser.page(reports["failing"].as_uri()) as page:
        shown = "Array.from(document.querySelectorAll('.command'), command => command.textContent)"
        assert page.evaluate(shown) == commands


@pytest.mark.parametrize("name", ["passing", "failing", "three", "many", "hostile"])
def test_the_page_is_silent_and_asks_for_nothing(browser, reports, name):
    with browser.page(reports[name].as_uri()) as page:
        assert page.complaints == []
        assert page.requests == [reports[name].as_uri()]
        assert page.evaluate("document.querySelectorAll('script, iframe, img, object, embed').length") == 0


@pytest.mark.parametrize("name", ["passing", "failing", "three", "many", "hostile"])
def test_the_page_is_no_wider_than_a_phone(browser, reports, name):
    with browser.page(reports[name].as_uri(), width=390, height=844) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("name", ["passing", "failing", "three"])
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_axe_finds_nothing_serious(browser, reports, name, width, scheme):
    source = axe()
    if source is None:
        pytest.skip("no axe-core: install axe-playwright-python, or name axe.min.js in $AXE")
    with browser.page(reports[name].as_uri(), width=width, scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        page.evaluate(source + "; 0")
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert len(found["violations"]) + found["testEngine"]["version"].count(".") > 0
        serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        said = [(v["id"], v["help"], [node["html"][:200] for node in v["nodes"][:3]]) for v in serious]
        assert said == [], json.dumps(said, indent=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pictures_are_there_and_say_what_they_show(browser, reports, scheme):
    with browser.page(reports["failing"].as_uri(), scheme=scheme) as page:
        labels = page.evaluate(
            "Array.from(document.querySelectorAll('.failure .picture > svg'), p => p.getAttribute('aria-label'))"
        )
        assert len(labels) == 6
        assert sum("dx at every step" in label for label in labels) == 2
        assert sum("too large (+)" in label for label in labels) == 2
        assert sum("the bound" in label for label in labels) == 2
        # Each shade differs from the next in lightness alone, so that a grey page tells them apart.
        shades = page.evaluate("""(() => {
            const root = getComputedStyle(document.documentElement);
            return ['z', 'a', 'b', 'c', 'd', 'e'].map(name => root.getPropertyValue('--' + name).trim());
        })()""")
        light = [luminance(shade) for shade in shades]
        assert light == sorted(light, reverse=scheme == "light")
        assert len(set(light)) == 6


def luminance(colour: str) -> float:
    """The relative luminance of #rrggbb, after WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_print_opens_what_is_closed(browser, reports):
    with browser.page(reports["many"].as_uri(), media="print", scheme="dark") as page:
        paper = "getComputedStyle(document.documentElement).getPropertyValue('--text').trim()"
        assert page.evaluate(paper) == "#1d2024", "on paper the text is dark, whatever the screen is"
        hidden = """Array.from(document.querySelectorAll('details .body')).filter(
            body => !body.checkVisibility({contentVisibilityAuto: true}) || body.getBoundingClientRect().height == 0
        ).length"""
        assert page.evaluate("document.querySelectorAll('details:not([open])').length") > 0
        assert page.evaluate(hidden) == 0
