"""The asset graph as plain data: what the pages say of each table, taken from the definitions and from nowhere else."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from iot_platform.assets.marts_events import UNIQUE_ID, column_lineage
from iot_platform.contracts.tables import TABLES
from iot_platform.transforms.catalog import TRANSFORMS

GROUPS = ("ingest", "bronze", "silver", "gold", "marts", "reports", "ops")
Lineage = Mapping[str, tuple[tuple[str, str], ...]]
"""Per column the (table, column) pairs that it is made from."""


@dataclass(frozen=True)
class ColumnOf:
    """A column as the graph declares it; ``rules`` are its constraints in words."""

    name: str
    kind: str
    description: str
    unit: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckOf:
    """A check of an asset."""

    name: str
    description: str
    is_blocking: bool
    is_by_date: bool


@dataclass(frozen=True)
class Asset:
    """One asset: ``name`` is its key with slashes."""

    name: str
    group: str
    description: str
    kinds: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    partitions: str = ""
    pools: tuple[str, ...] = ()
    freshness: str = ""
    reads: tuple[str, ...] = ()
    reads_in_words: str = ""
    read_by: tuple[str, ...] = ()
    columns: tuple[ColumnOf, ...] = ()
    checks: tuple[CheckOf, ...] = ()
    lineage: Lineage = field(default_factory=dict)
    sql: str = ""

    @property
    def path(self) -> str:
        """Its page."""
        return f"tables/{self.name}.html"


def assets(definitions: dg.Definitions, manifest: Path) -> dict[str, Asset]:
    """Every asset of the definitions by its name, groups in the order of the data's way, names in order.

    ``manifest``: dbt's, with the compiled SQL of the models.
    """
    graph = definitions.resolve_asset_graph()
    models = json.loads(manifest.read_text(encoding="utf-8"))["nodes"]
    names = {"/".join(key.path) for key in graph.get_all_asset_keys()}
    found: list[Asset] = []
    for key in graph.get_all_asset_keys():
        name = "/".join(key.path)
        model = models.get(graph.get(key).metadata.get(UNIQUE_ID))
        if name in TRANSFORMS:
            found.append(_asset(graph, key, lineage_of(name, names), TRANSFORMS[name].sql))
        elif model:
            compiled = model.get("compiled_code")  # a manifest that was only parsed has none
            lineage = lineage_of_model(definitions, key, compiled) if compiled else {}
            found.append(_asset(graph, key, lineage, model["raw_code"]))
        else:
            found.append(_asset(graph, key, {}, ""))
    return {one.name: one for one in sorted(found, key=lambda one: (_rank(one.group), one.group, one.name))}


def lineage_of(table: str, shown: Collection[str]) -> Lineage:
    """Where the columns of a derived table come from, read off its SQL text, through tables that are not ``shown``."""
    from iot_platform.transforms.lineage import lineage_through

    return lineage_through(table, [name for name in TRANSFORMS if name not in shown])


def lineage_of_model(definitions: dg.Definitions, key: dg.AssetKey, sql: str) -> Lineage:
    """The same of a dbt model, as its materializations say it in Dagster."""
    told = column_lineage(definitions.resolve_assets_def(key), key, sql)
    found: dg.TableColumnLineage | None = told.get("dagster/column_lineage")
    return {
        column: tuple(("/".join(one.asset_key.path), one.column_name) for one in sources)
        for column, sources in (found.deps_by_column if found else {}).items()
    }


def _rank(group: str) -> int:
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _asset(graph: Any, key: dg.AssetKey, lineage: Lineage, sql: str) -> Asset:
    node = graph.get(key)
    name = "/".join(key.path)
    checks = [_check(graph, check) for check in graph.get_check_keys_for_assets({key})]
    return Asset(
        name=name,
        group=node.group_name,
        description=node.description or "",
        kinds=tuple(sorted(node.kinds)),
        owners=tuple(node.owners),
        tags={tag: value for tag, value in node.tags.items() if not tag.startswith("dagster/kind/")},
        partitions=partitions_in_words(node.partitions_def),
        pools=tuple(sorted(node.pools or ())),
        freshness=freshness_in_words(node.freshness_policy),
        reads=tuple(sorted("/".join(parent.path) for parent in node.parent_keys if parent != key)),
        reads_in_words=str(node.metadata.get("reads", "")),
        read_by=tuple(sorted("/".join(child.path) for child in node.child_keys if child != key)),
        columns=_columns(name, node.metadata.get("dagster/column_schema")),
        checks=tuple(sorted(checks, key=lambda check: check.name)),
        lineage=lineage,
        sql=sql,
    )


def _columns(name: str, schema: Any) -> tuple[ColumnOf, ...]:
    """The declared columns; units stand apart where the table contract knows them."""
    if isinstance(schema, dg.TableSchemaMetadataValue):
        schema = schema.schema
    contract = TABLES.get(name)
    units = {column.name: (column.unit, column.description) for column in contract.columns} if contract else {}
    columns: list[ColumnOf] = []
    for column in schema.columns if schema else ():
        unit, description = units.get(column.name, ("", column.description or ""))
        rules = [*column.constraints.other]
        rules += [] if column.constraints.nullable else ["not null"]
        rules += ["unique"] if column.constraints.unique else []
        columns.append(ColumnOf(column.name, column.type, description, unit, tuple(rules)))
    return tuple(columns)


def _check(graph: Any, key: dg.AssetCheckKey) -> CheckOf:
    node = graph.get(key)
    return CheckOf(key.name, node.description or "", bool(node.blocking), node.partitions_def is not None)


def partitions_in_words(partitions: dg.PartitionsDefinition | None) -> str:
    if isinstance(partitions, dg.DailyPartitionsDefinition):
        return f"UTC dates from {partitions.start.date().isoformat()} to tomorrow"
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return f"{partitions.cron_schedule} from {partitions.start.date().isoformat()}, {partitions.timezone}"
    return type(partitions).__name__ if partitions else ""


def freshness_in_words(policy: Any) -> str:
    """``a materialization within 6 h (a warning after 3 h)``; empty without a policy."""
    if policy is None:
        return ""
    if hasattr(policy, "deadline_cron"):
        return f"made anew by {policy.deadline_cron} ({policy.timezone})"
    within = duration(policy.fail_window.to_timedelta().total_seconds())
    warn = policy.warn_window
    return f"made within {within}" + (f", a warning after {duration(warn.to_timedelta().total_seconds())}" if warn else "")


def duration(seconds: float) -> str:
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {name}"
    return f"{seconds:g} s"
