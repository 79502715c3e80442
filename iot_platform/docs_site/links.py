"""Links that lead nowhere: in the built site, and in the repository's Markdown files as they are read on a code host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from iot_platform.docs_site.prose import ELSEWHERE, anchors, links, tokens_of


@dataclass
class _Html(HTMLParser):
    """The targets and the anchors of one HTML file; ``foreign`` are resources that a browser would fetch from elsewhere."""

    targets: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in {"href", "src"} and value is not None:
                is_elsewhere = ELSEWHERE.match(value) is not None
                if not is_elsewhere:
                    self.targets.append(value)
                elif tag != "a":
                    self.foreign.append(value)


def broken_in_site(folder: Path, skip: Iterable[str] = ()) -> list[str]:
    """Each link of the site that leads nowhere, or fetches a resource from elsewhere, as ``page: target``.

    ``skip``: files that are not looked into (dbt's own page builds its links by a program), though they may be linked to.
    """
    left_out = set(skip)
    parsed: dict[Path, _Html] = {}
    for path in sorted(folder.rglob("*.html")):
        parsed[path] = _Html()
        if path.relative_to(folder).as_posix() not in left_out:
            parsed[path].feed(path.read_text(encoding="utf-8"))
    wrong: list[str] = []
    for path, found in parsed.items():
        name = path.relative_to(folder).as_posix()
        wrong += [f"{name}: {target} is fetched from elsewhere" for target in found.foreign]
        for target in found.targets:
            place, _, anchor = target.partition("#")
            file = (path.parent / unquote(place)).resolve() if place else path
            is_known = file in parsed and (name_of(file, folder) in left_out or unquote(anchor) in parsed[file].anchors)
            if not file.is_file() or (anchor and not is_known):
                wrong.append(f"{name}: {target}")
    return wrong


def name_of(file: Path, folder: Path) -> str:
    return file.relative_to(folder.resolve()).as_posix() if file.is_relative_to(folder.resolve()) else str(file)


def broken_in_markdown(root: Path, files: Iterable[str]) -> list[str]:
    """Each relative link of these Markdown files (from the root) whose file, folder or heading is not there."""
    wrong: list[str] = []
    for name in files:
        path = root / name
        for token, attribute in links(tokens_of(path.read_text(encoding="utf-8"))):
            target = str(token.attrGet(attribute) or "")
            if ELSEWHERE.match(target):
                continue
            place, _, anchor = target.partition("#")
            file = path.parent / unquote(place) if place else path
            if not file.exists():
                wrong.append(f"{name}: {target}")
            elif anchor and file.suffix == ".md" and anchor not in anchors(tokens_of(file.read_text(encoding="utf-8"))):
                wrong.append(f"{name}: {target} (no such heading)")
    return wrong
