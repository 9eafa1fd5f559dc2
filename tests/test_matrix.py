"""bpttcheck matrix: every report below a folder on one page, whatever the reports hold."""

from __future__ import annotations

import json
import urllib.parse
from html.parser import HTMLParser

import pytest

from conformance import matrix
from conformance.cli import main
from tests.reports import finding, report, target

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 191 }}",
    "\x1b[31m\u202e",
    "\ud800",
)


class Page(HTMLParser):
    """Tags, links and rows of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.attributes, self.rows, self.within = set(), [], set(), [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.within = True

    def handle_endtag(self, tag):
        self.within = self.within and tag not in ("td", "th")

    def handle_data(self, data):
        if self.within:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Write a report below the working directory, with a page or without."""
    monkeypatch.chdir(tmp_path)

    def write(place, results, *, page=True):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(results))
        if page:
            (folder / "report.html").write_text("")

    return write


def page(tmp_path):
    text = (tmp_path / "all" / "matrix.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_matrix_has_a_row_for_each_target_of_each_report(save, tmp_path, capsys):
    mine = [finding(cell="elman"), finding("fail", property="q", cell="elman"), finding("unsupported", cell="lstm")]
    save("all/b", report(target("mine.py", verdict="not conformant", findings=mine), target("c", findings=[finding()])))
    save("all/a/deep", {**report(target("mine.py", verdict="no verdict")), "incomplete": {"findings": 0, "planned": 9}})
    assert main(["matrix", "all"]) == 0
    assert capsys.readouterr().out == "all/matrix.html\n"
    _, found = page(tmp_path)
    verdicts, cells, properties = found.rows[1:4], found.rows[5:8], found.rows[9:12]
    assert [row[:3] for row in verdicts] == [
        ["c b", "✓ certified", "20"],
        ["mine.py a/deep", "○ no verdict 0 of 9 findings", "20"],
        ["mine.py b", "✗ not conformant", "20"],
    ]
    assert found.rows[4] == ["target", "elman", "lstm"]
    assert [row[1:] for row in cells] == [
        ["✓ pass 1/1", "not asked"],
        ["not asked"] * 2,
        ["✗ fail 1/2", "– unsupported"],
    ]
    assert found.rows[8] == ["target", "p", "q"]
    assert [row[1:] for row in properties] == [["✓ pass", "not asked"], ["not asked"] * 2, ["✓ pass", "✗ fail"]]


def test_matrix_links_lead_from_the_page_to_the_reports(save, tmp_path):
    names = ["plain", "a b#c?d", "100%", "javascript:alert(1)", "ö"]
    for name in names:
        save(f"all/{name}", report(target(name)))
    save("all/pageless", report(target("pageless")), page=False)
    (tmp_path / "site").mkdir()
    assert main(["matrix", "all", "--output", "site/index.html"]) == 0
    links = set(Page((tmp_path / "site" / "index.html").read_text()).links)
    assert all(link.startswith("./../all/") for link in links)
    parts = [urllib.parse.urlsplit(link) for link in links]
    assert not any(part.scheme or part.netloc or part.query or part.fragment for part in parts)
    reached = {(tmp_path / "site" / urllib.parse.unquote(part.path)).resolve() for part in parts}
    assert reached == {tmp_path / "all" / name / "report.html" for name in names}


@pytest.mark.parametrize("evil", HOSTILE)
def test_matrix_escapes_whatever_a_report_holds(save, tmp_path, evil):
    bad = target(evil, findings=[finding("fail", property=evil, cell=evil, dtype=evil)])
    save("all/r", {**report(bad), "suite_version": evil, "started": evil})
    assert main(["matrix", "all"]) == 0
    text, found = page(tmp_path)
    assert text.replace("\n", "").isprintable()
    assert not found.tags & {"script", "img"}
    assert not found.attributes & {"onerror", "src"}
    assert "1337" not in text
    assert "http:" not in text and "https:" not in text and "url(" not in text


def test_matrix_names_what_is_no_report_and_leaves_it_out(save, tmp_path, capsys):
    save("all/good", report(target()))
    save("all/bad", {"schema_version": 1})
    assert main(["matrix", "all"]) == 0
    assert capsys.readouterr().err.startswith("left out: all/bad/results.json: ")
    assert "all/bad/results.json: " in page(tmp_path)[0]


def test_matrix_follows_no_link_out_of_the_folder(save, tmp_path):
    save("elsewhere/secret", report(target("secret")))
    save("all/mine", report(target("mine")))
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
    assert main(["matrix", "all"]) == 0
    assert "secret" not in page(tmp_path)[0]


def test_matrix_refuses_in_one_line(save, tmp_path, capsys, monkeypatch):
    save("bad/r", {})
    save("many/a", report())
    save("many/b", report())
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(matrix, "MOST", 1)
    for words, said in (
        (["nowhere"], "no such folder"),
        (["empty"], "no results.json below it"),
        (["bad"], "none of 1 files is a report"),
        (["many"], "more than 1 reports"),
        (["many/a", "--output", "empty"], "cannot be written there"),
        (["many/a", "--output", "no/such/page.html"], "cannot be written there"),
    ):
        assert main(["matrix", *words]) == 2
        err = capsys.readouterr().err
        assert said in err.splitlines()[-1]
        assert "Traceback" not in err
    assert list((tmp_path / "empty").iterdir()) == []
