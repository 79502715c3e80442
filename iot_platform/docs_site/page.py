"""What every page looks like: its frame, its style, and small pieces of HTML. Text is escaped here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath

STYLESHEET = "style.css"
SECTIONS = (
    ("index.html", "Overview"),
    ("tables/index.html", "Tables"),
    ("lineage.html", "Lineage"),
    ("contracts/index.html", "Contracts"),
    ("checks.html", "Checks"),
    ("guides/index.html", "Guides"),
    ("adr/index.html", "Decisions"),
    ("dbt/index.html", "dbt docs"),
)
STYLE = """
:root { color-scheme: light dark;
  --text: #1c2430; --quiet: #5a6675; --back: #ffffff; --panel: #f5f7fa; --line: #dde3ea; --link: #0b62c4;
  --mark: #e4efff; }
@media (prefers-color-scheme: dark) { :root {
  --text: #e3e8ef; --quiet: #9aa7b8; --back: #14181e; --panel: #1d232c; --line: #323b47; --link: #78b4ff;
  --mark: #1f3352; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header { background: var(--panel); border-bottom: 1px solid var(--line); padding: 0.6rem 1.5rem; }
header nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; align-items: baseline; }
header strong { margin-right: 0.8rem; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav a[aria-current] { color: var(--text); font-weight: 600; }
h1 { font-size: 1.7rem; margin: 1rem 0 0.4rem; } h2 { font-size: 1.25rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; }
.quiet, figcaption { color: var(--quiet); } .tag { background: var(--mark); border-radius: 0.3rem; padding: 0.05rem 0.4rem;
  font-size: 0.85rem; white-space: nowrap; }
.wide { overflow-x: auto; } .bleed { width: calc(100vw - 4rem); margin-left: calc(50% - 50vw + 2rem); }
table { border-collapse: collapse; margin: 0.6rem 0; font-size: 0.94rem; }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; vertical-align: top; }
th { color: var(--quiet); font-weight: 600; }
code, pre { font-family: ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; font-size: 0.88em; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.8rem; overflow-x: auto; }
:not(pre) > code { background: var(--panel); border-radius: 0.25rem; padding: 0.05rem 0.25rem; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 0.4rem; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
svg text { fill: var(--text); font: 12px ui-monospace, Menlo, Consolas, monospace; }
svg .box { fill: var(--panel); stroke: var(--line); } svg .own { fill: var(--mark); stroke: var(--link); }
svg .edge { fill: none; stroke: var(--quiet); stroke-opacity: 0.55; } svg a:hover .box { stroke: var(--link); }
svg .head { fill: var(--quiet); font-weight: 600; }
svg .edge:hover { stroke: var(--link); stroke-opacity: 1; stroke-width: 2; }
"""


@dataclass(frozen=True)
class Page:
    """A page of the site: its path from the site's root (``tables/index.html``), its title, and its content as HTML."""

    path: str
    title: str
    content: str

    @property
    def html(self) -> str:
        current = next((path for path, _ in SECTIONS[1:] if _belongs(self.path, path)), SECTIONS[0][0])
        links = "".join(
            f'<a href="{relative(path, self.path)}"{" aria-current=page" if path == current else ""}>{escape(name)}</a>'
            for path, name in SECTIONS
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)} · iot_platform</title>"
            f'<link rel="stylesheet" href="{relative(STYLESHEET, self.path)}"></head>\n'
            f"<body><header><nav><strong>iot_platform</strong>{links}</nav></header>\n"
            f"<main>\n{self.content}\n</main></body></html>\n"
        )


def _belongs(path: str, section: str) -> bool:
    folder = PurePosixPath(section).parent
    return path == section or (str(folder) != "." and folder in PurePosixPath(path).parents)


def relative(target: str, page: str) -> str:
    """The link from one page to another file of the site, both given from its root; an anchor stays."""
    file, hash_sign, anchor = target.partition("#")
    return os.path.relpath(file, PurePosixPath(page).parent).replace(os.sep, "/") + hash_sign + anchor


def link(text: str, target: str, page: str) -> str:
    return f'<a href="{relative(target, page)}">{escape(text)}</a>'


def code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def tags(names: Iterable[str]) -> str:
    return " ".join(f'<span class="tag">{escape(name)}</span>' for name in names)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, ids: Sequence[str] = ()) -> str:
    """A table whose cells are HTML already; ``ids`` gives each row an anchor."""
    lines = []
    for number, row in enumerate(rows):
        anchor = f' id="{escape(ids[number])}"' if ids else ""
        lines.append(f"<tr{anchor}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    if not lines:
        return '<p class="quiet">none</p>'
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "\n".join(lines)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
