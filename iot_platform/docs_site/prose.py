"""Markdown files of the repository as pages: headings get anchors, links lead to the pages that the files became.

A link to a file that is no page (an example, a schema) leads to a copy of it in the site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from iot_platform.docs_site.page import Page, relative

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

COPIES = "files"
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:|^//", re.IGNORECASE)


@dataclass(frozen=True)
class Prose:
    """One Markdown file as a page, and the files of the repository that it links to or shows, by where they are copied."""

    page: Page
    copies: Mapping[str, Path]


def reader() -> MarkdownIt:
    """What reads Markdown, with tables; HTML in it is shown, not taken for HTML."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


def tokens_of(text: str) -> list[Token]:
    return reader().parse(text)


def anchors(tokens: list[Token]) -> list[str]:
    """The anchors of the headings, in order, as GitHub names them."""
    found: list[str] = []
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            name = re.sub(r"[^\w\- ]", "", plain(token).lower()).strip().replace(" ", "-")
            twins = sum(other == name or re.fullmatch(rf"{re.escape(name)}-\d+", other) is not None for other in found)
            found.append(f"{name}-{twins}" if twins else name)
    return found


def plain(token: Token) -> str:
    """The text of a line without its marks."""
    return "".join(child.content for child in token.children or [] if child.type in {"text", "code_inline"})


def title_of(text: str) -> str:
    """The first heading."""
    tokens = tokens_of(text)
    lines = (after for before, after in pairwise(tokens) if before.type == "heading_open")
    return next(map(plain, lines), "")


def links(tokens: list[Token]) -> list[tuple[Token, str]]:
    """Every link and picture: its token, and the attribute that holds its target."""
    names = {"link_open": "href", "image": "src"}
    children = (child for token in tokens for child in token.children or [])
    return [(child, names[child.type]) for child in children if child.type in names]


def prose(root: Path, file: str, pages: Mapping[str, str]) -> Prose:
    """The page of a Markdown file, given from the repository's root; ``pages``: which files (or folders) became which page.

    A link to what is not in the repository is left as it is; ``links.broken`` finds it.
    """
    text = (root / file).read_text(encoding="utf-8")
    own = pages[file]
    markdown = reader()
    tokens = markdown.parse(text)
    names = iter(anchors(tokens))
    for token in tokens:
        if token.type == "heading_open":
            token.attrSet("id", next(names))
    copies: dict[str, Path] = {}
    for token, attribute in links(tokens):
        target = str(token.attrGet(attribute) or "")
        place, hash_sign, anchor = target.partition("#")
        if ELSEWHERE.match(target) or not place:
            continue
        found = _inside(PurePosixPath(file).parent / place)
        if found in pages:
            token.attrSet(attribute, relative(pages[found], own) + hash_sign + anchor)
        elif (root / found).is_file():
            copy = f"{COPIES}/{found}"
            copies[copy] = root / found
            token.attrSet(attribute, relative(copy, own))
    content = str(markdown.renderer.render(tokens, markdown.options, {}))
    content = content.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return Prose(Page(own, title_of(text) or file, content), copies)


def _inside(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1] if parts else [".."]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
