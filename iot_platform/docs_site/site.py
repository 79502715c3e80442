"""The whole site: which file becomes which page, everything gathered, checked and put in place at once.

What is built is only kept when every link in it leads somewhere.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from iot_platform.contracts.wire import CONTRACTS
from iot_platform.docs_site.contract_pages import contract_list, contract_page, schema_files
from iot_platform.docs_site.graph import Asset, assets
from iot_platform.docs_site.links import broken_in_site
from iot_platform.docs_site.page import SECTIONS, STYLE, STYLESHEET, Page, link
from iot_platform.docs_site.prose import Prose, prose
from iot_platform.docs_site.table_pages import checks_page, lineage_page, table_list, table_page
from iot_platform.errors import InputError, PlatformError
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform.topics import load_topics

DBT_PAGE = "dbt/index.html"
GRAPH_PICTURE = "docs/images/asset-graph.png"
ADR, GUIDES = "docs/adr", "docs"
MARK = ".built-by-iot-platform"
"""Lies in every folder that a build wrote, and tells it from a folder of the user's."""


@dataclass(frozen=True)
class Built:
    """Where the site lies, and how many pages of ours it has (dbt's own is one more)."""

    folder: Path
    pages: int


def build_site(out: Path, work: Path, root: Path = PROJECT_ROOT) -> Built:
    """Build the site into ``out``, replacing what an earlier build wrote there; ``work`` is for dbt's own files.

    Needs no lake: dbt's docs are made from the project alone. Raises ``PlatformError`` when dbt fails or a link leads
    nowhere, ``InputError`` when ``out`` holds something else than a site; what stood there stays then.
    """
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise InputError(f"{out} holds files that are no site of this program", "Choose another folder by --out")
    settings = Settings(home=work, _env_file=None)  # pyright: ignore[reportCallIssue]
    target = dbt_docs(settings)
    graph = _graph(settings, target / "manifest.json")
    written = prose_pages(root)
    topics = load_topics(settings)
    pages = [
        *(one.page for one in written),
        index(graph, written),
        guide_list(written),
        table_list(graph),
        lineage_page(graph),
        checks_page(graph),
        *(table_page(one, graph) for one in graph.values()),
        contract_list(topics),
        *(contract_page(one, topics) for one in CONTRACTS.values()),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as part:
        folder = Path(part) / "site"
        _write(folder, pages, written)
        (folder / DBT_PAGE).parent.mkdir()
        shutil.copyfile(target / "static_index.html", folder / DBT_PAGE)
        if wrong := broken_in_site(folder, skip=[DBT_PAGE]):
            raise PlatformError(f"{len(wrong)} link(s) lead nowhere: {', '.join(wrong[:5])}", "Correct them in their text")
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)
    return Built(out, len(pages))


def dbt_docs(settings: Settings) -> Path:
    """The folder with dbt's docs as one file (``static_index.html``) and its manifest; no table has to exist."""
    from iot_platform.marts.build import last_error, run_dbt, target_folder

    finished = run_dbt(settings, ["docs", "generate", "--static", "--empty-catalog"])
    if finished.returncode:
        raise PlatformError(f"dbt cannot make its docs: {last_error(finished.stdout)}", "Correct it in dbt_project")
    return target_folder(settings)


def _graph(settings: Settings, manifest: Path) -> dict[str, Asset]:
    from iot_platform.definitions import build_defs

    return assets(build_defs(settings, manifest=manifest), manifest)


def prose_pages(root: Path) -> list[Prose]:
    """The Markdown files of the repository that are pages: README, CONTRIBUTING, docs/ and its decisions."""
    names = {"README.md": "guides/readme.html", "CONTRIBUTING.md": "guides/contributing.html"}
    names |= {f"{GUIDES}/{path.name}": f"guides/{path.stem}.html" for path in sorted((root / GUIDES).glob("*.md"))}
    decisions = {f"{ADR}/{path.name}": f"adr/{path.stem}.html" for path in sorted((root / ADR).glob("*.md"))}
    folders = {ADR: "adr/index.html", "docs/contracts": "contracts/index.html", GUIDES: "guides/index.html"}
    pages = {**names, **decisions, **folders}
    written = [prose(root, file, pages) for file in (*names, *decisions)]
    text = f"<h1>Decisions</h1><p>What was chosen, why, and what was measured.</p>{_listed(written, 'adr')}"
    return [*written, Prose(Page("adr/index.html", "Decisions", text), {})]


def _listed(written: Iterable[Prose], section: str) -> str:
    """Links to the pages of a section, from its own list."""
    own = [one.page for one in written if one.page.path.startswith(f"{section}/")]
    lines = [f"<li>{link(page.title, page.path, f'{section}/index.html')}</li>" for page in own]
    return f"<ul>{''.join(lines)}</ul>"


def guide_list(written: Iterable[Prose]) -> Page:
    """The guides, in the order in which one reads them."""
    return Page("guides/index.html", "Guides", f"<h1>Guides</h1>{_listed(written, 'guides')}")


def index(graph: dict[str, Asset], written: Iterable[Prose]) -> Page:
    """Where one begins: what this is, the graph, and the sections."""
    page = "index.html"
    about = {
        "tables/index.html": f"{len(graph)} tables: grain, columns with units, keys, inputs, checks, freshness, SQL",
        "lineage.html": "the graph of the tables, and where each derived column comes from",
        "contracts/index.html": "what devices send, with JSON Schemas",
        "checks.html": f"{sum(len(one.checks) for one in graph.values())} checks and what each holds",
        "guides/index.html": ", ".join(one.page.title for one in written if one.page.path.startswith("guides/")),
        "adr/index.html": "what was chosen, why, and what was measured",
        DBT_PAGE: "dbt's own documentation of the marts",
    }
    names = dict(SECTIONS)
    rows = "".join(f"<li>{link(names[path], path, page)}: {escape(text)}</li>" for path, text in about.items())
    content = (
        "<h1>iot_platform</h1><p>Sensor readings from Kafka through Spark into checked, date-partitioned Delta tables "
        f"and dbt marts, as one Dagster asset graph.</p><ul>{rows}</ul>"
        f'<figure><a href="lineage.html"><img src="files/{GRAPH_PICTURE}" alt="The asset graph, from Kafka topics to marts">'
        "</a><figcaption>The asset graph in Dagster's UI, from Kafka topics to marts</figcaption></figure>"
    )
    return Page(page, "Documentation", content)


def _write(folder: Path, pages: Iterable[Page], written: Iterable[Prose]) -> None:
    files = {page.path: page.html for page in pages} | schema_files() | {STYLESHEET: STYLE.lstrip(), MARK: ""}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    copies = {f"files/{GRAPH_PICTURE}": PROJECT_ROOT / GRAPH_PICTURE}
    for one in written:
        copies |= one.copies
    for path, source in copies.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / path)
