"""The pages made from the asset graph: one a table, the list of them, the lineage, the checks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from iot_platform.contracts.tables import TABLES
from iot_platform.docs_site.drawing import column_graph, table_graph
from iot_platform.docs_site.graph import Asset, CheckOf
from iot_platform.docs_site.page import Page, code, link, relative, table, tags

Assets = Mapping[str, Asset]


def table_page(asset: Asset, assets: Assets) -> Page:
    """What a table is, how it is kept, its columns with types, units and origin, its checks."""
    page = asset.path
    contract = TABLES.get(asset.name)
    facts = [
        ("group", escape(asset.group)),
        ("kept as", tags(asset.kinds)),
        ("grain", escape(contract.grain) if contract else ""),
        ("keys", code(", ".join(contract.keys)) + (" within a date" if contract.partition else "") if contract else ""),
        ("partitions", escape(asset.partitions)),
        ("reads", _names(asset.reads, assets, page)),
        ("dates read", escape(asset.reads_in_words)),
        ("read by", _names(asset.read_by, assets, page)),
        ("freshness", escape(asset.freshness)),
        ("one run at a time in", ", ".join(map(code, asset.pools))),
        ("owners", escape(", ".join(asset.owners))),
        ("tags", tags(f"{name}: {value}" if value else name for name, value in sorted(asset.tags.items()))),
    ]
    parts = [
        f"<h1>{escape(asset.name)}</h1>",
        f"<p>{escape(asset.description)}</p>",
        table(("", ""), [(f'<span class="quiet">{name}</span>', value) for name, value in facts if value]),
    ]
    if asset.columns:
        parts += ["<h2>Columns</h2>", _columns(asset, assets)]
    if asset.checks:
        rows = [(code(one.name), escape(one.description), *when(one)) for one in asset.checks]
        parts += ["<h2>Checks</h2>", table(("check", "what it holds", ""), rows)]
    if drawn := column_graph(asset.name, asset.lineage):
        parts += ["<h2>Where its columns come from</h2>", drawn]
    if asset.sql:
        parts += ["<h2>The SQL that makes it</h2>", f"<pre><code>{escape(asset.sql)}</code></pre>"]
    return Page(page, asset.name, "\n".join(parts))


def _columns(asset: Asset, assets: Assets) -> str:
    has_units = any(column.unit for column in asset.columns)
    head = ["column", "type", *(["unit"] if has_units else []), "meaning", "rules"]
    head += ["made from"] if asset.lineage else []
    rows = [
        [
            code(column.name),
            escape(column.kind),
            *([escape(column.unit)] if has_units else []),
            escape(column.description),
            escape(", ".join(column.rules)),
            *([_sources(asset, column.name, assets, asset.path)] if asset.lineage else []),
        ]
        for column in asset.columns
    ]
    return table(head, rows, ids=[column.name for column in asset.columns])


def _sources(asset: Asset, column: str, assets: Assets, page: str) -> str:
    return "<br>".join(
        link(f"{name}.{source}", f"{assets[name].path}#{source}", page) if name in assets else escape(f"{name}.{source}")
        for name, source in asset.lineage.get(column, ())
    )


def _names(names: tuple[str, ...], assets: Assets, page: str) -> str:
    return ", ".join(link(name, assets[name].path, page) if name in assets else escape(name) for name in names)


def when(check: CheckOf) -> tuple[str]:
    """The cell that says what a check stops, and whether each date has its own result."""
    return (tags([*(["blocking"] if check.is_blocking else []), *(["by date"] if check.is_by_date else [])]),)


def table_list(assets: Assets) -> Page:
    """All tables by group."""
    page = "tables/index.html"
    parts = ["<h1>Tables</h1>", "<p>Everything that the graph knows, from Kafka topics to marts.</p>"]
    for group in dict.fromkeys(one.group for one in assets.values()):
        chosen = [one for one in assets.values() if one.group == group]
        rows = [
            (link(one.name, one.path, page), escape(first_sentence(one.description)), tags(one.kinds), str(len(one.checks)))
            for one in chosen
        ]
        parts += [f'<h2 id="{escape(group)}">{escape(group)}</h2>', table(("table", "one row per …", "", "checks"), rows)]
    return Page(page, "Tables", "\n".join(parts))


def lineage_page(assets: Assets) -> Page:
    """The whole graph, and each derived column with its sources."""
    page = "lineage.html"
    reads = {name: one.reads for name, one in assets.items()}
    parts = [
        "<h1>Lineage</h1>",
        "<p>Each box leads to its table. Column lineage is read off the SQL text of each table.</p>",
        f'<div class="bleed">{table_graph(reads, lambda name: relative(assets[name].path, page))}</div>',
    ]
    for one in assets.values():
        if not one.lineage:
            continue
        rows = [(code(column), _sources(one, column, assets, page)) for column in one.lineage]
        parts += [f"<h2>{link(one.name, one.path, page)}</h2>", table(("column", "made from"), rows)]
    return Page(page, "Lineage", "\n".join(parts))


def checks_page(assets: Assets) -> Page:
    """Every check of every table."""
    page = "checks.html"
    rows = [
        (link(one.name, one.path, page), code(check.name), escape(check.description), *when(check))
        for one in assets.values()
        for check in one.checks
    ]
    text = (
        "<h1>Checks</h1><p>A blocking check stops what reads the table; the others warn. A check by date gives each "
        f"date of a run its own result. {len(rows)} checks.</p>"
    )
    return Page(page, "Checks", text + table(("table", "check", "what it holds", ""), rows))


def first_sentence(text: str) -> str:
    return text.split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0].rstrip(".")
