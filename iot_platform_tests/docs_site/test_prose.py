"""Markdown as pages: anchors as a code host names them, links to where the files went."""

from pathlib import Path

import pytest

from iot_platform.docs_site.links import broken_in_markdown, broken_in_site
from iot_platform.docs_site.page import relative
from iot_platform.docs_site.prose import anchors, prose, title_of, tokens_of
from iot_platform.settings import PROJECT_ROOT


def test_headings_are_named_as_on_a_code_host() -> None:
    text = "# What was run, and what not\n## `iot check`\n## Again\n## Again\n## Add a metric / table\n"
    assert anchors(tokens_of(text)) == ["what-was-run-and-what-not", "iot-check", "again", "again-1", "add-a-metric--table"]
    assert title_of("text\n\n# One `two`") == "One two" and title_of("nothing") == ""


def test_links_lead_to_pages_to_copies_or_are_left(tmp_path: Path) -> None:
    (tmp_path / "docs" / "adr").mkdir(parents=True)
    (tmp_path / "docs" / "adr" / "1.md").write_text(
        "# First\n[guide](../guide.md#there) [readme](../../README.md) [all](../adr/) [own](#first) [other](https://x.org/a.md)\n"
        "![picture](../p.png) [gone](../gone.md) <b>no tag</b>"
    )
    (tmp_path / "docs" / "p.png").write_bytes(b"png")
    pages = {"docs/adr/1.md": "adr/1.html", "docs/guide.md": "guides/guide.html", "README.md": "guides/readme.html"}
    made = prose(tmp_path, "docs/adr/1.md", pages | {"docs/adr": "adr/index.html"})
    others = ("index.html", "#first", "https://x.org/a.md", "../gone.md")
    for target in ("../guides/guide.html#there", "../guides/readme.html", *others):
        assert f'href="{target}"' in made.page.content, target
    assert made.copies == {"files/docs/p.png": tmp_path / "docs" / "p.png"}
    assert 'src="../files/docs/p.png"' in made.page.content and '<h1 id="first">' in made.page.content
    assert "&lt;b&gt;" in made.page.content


@pytest.mark.parametrize(
    ("target", "page", "expected"),
    [
        ("index.html", "index.html", "index.html"),
        ("tables/a/b.html#c", "tables/a/d.html", "b.html#c"),
        ("style.css", "a/b/c.html", "../../style.css"),
    ],
)
def test_a_link_is_as_short_as_from_a_file(target: str, page: str, expected: str) -> None:
    assert relative(target, page) == expected


def test_a_link_to_nowhere_is_found_in_markdown(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# Here\n")
    (tmp_path / "a.md").write_text("# A\n[x](b.md#here) [y](b.md#there) [z](c.md) [own](#a) [not own](#b) [e](http://e/f)\n")
    assert broken_in_markdown(tmp_path, ["a.md"]) == [
        "a.md: b.md#there (no such heading)", "a.md: c.md", "a.md: #b (no such heading)",
    ]  # fmt: skip


def test_a_link_to_nowhere_and_a_foreign_resource_are_found_in_a_site(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "built.html").write_text('<a href="gone.html">')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here"><a href="b.html#there"><a href="c.html"><a href="built.html#!/x"><a href="https://x.org">'
        '<script src="https://x.org/y.js"></script>'
    )
    assert broken_in_site(tmp_path, skip=["built.html"]) == [
        "a.html: https://x.org/y.js is fetched from elsewhere", "a.html: b.html#there", "a.html: c.html",
    ]  # fmt: skip


def test_every_link_of_the_repositorys_own_pages_leads_somewhere() -> None:
    own = [*PROJECT_ROOT.glob("*.md"), *(PROJECT_ROOT / "docs").rglob("*.md"), PROJECT_ROOT / "dbt_project" / "README.md"]
    assert len(own) > 5
    assert broken_in_markdown(PROJECT_ROOT, [path.relative_to(PROJECT_ROOT).as_posix() for path in own]) == []
