"""What a build of the marts says to Dagster: a materialization and a check result for each date, with what there is to see.

A dbt test looks at its whole table; its failure names the dates of the rows that it found, all others pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from iot_platform.assets.derived import LEVEL_TAG
from iot_platform.assets.metadata import markdown_table, table_of
from iot_platform.assets.preview import cut
from iot_platform.contracts.tables import TABLES

if TYPE_CHECKING:
    from iot_platform.marts.build import BuildResult
    from iot_platform.marts.facts import NodeResult, Offending, Row, Table

UNIQUE_ID = "dagster_dbt/unique_id"
ENGINE = "duckdb"  # that dbt builds by
# Of dates that nobody asked for, the newest that a passing test reports: an event costs 10 ms, and a table may have years.
EVALUATED_DATES = 62


@dataclass(frozen=True)
class DateCheck:
    """How a test ended for one date; ``day`` None: for the table as a whole."""

    day: date | None
    passed: bool
    rows: int = 0
    shown: Sequence[Row] = ()


def date_checks(
    node: NodeResult, offending: Offending | None, days: Iterable[date] | None,
    broken_before: Iterable[date] = (), made: Iterable[date] = (),
) -> list[DateCheck]:
    """A test's end as one of each date. ``days``: what was asked for, None of a table that is not by date; ``made``: what
    was made besides.

    Dates whose rows break the test fail, wherever they lie; those of ``days``, those broken before and the newest of
    ``made`` pass. A test that could not be run passes none. Rows without a date fail the newest.
    """
    found = node.failures if node.status in {"fail", "warn"} else 0
    if days is None:
        return [DateCheck(None, node.status == "pass", found, offending.rows if offending else ())]
    by_date = dict(offending.by_date) if offending else {}
    passing = sorted({*days, *broken_before, *sorted(made)[-EVALUATED_DATES:]} - by_date.keys())
    if not passing and not by_date:
        return []
    could_run = node.status in {"pass", "fail", "warn"}
    undated = found - sum(by_date.values())
    if found and undated > 0:
        last = max([*passing, *by_date])
        by_date[last] = by_date.get(last, 0) + undated
    checks = [DateCheck(day, could_run) for day in passing if day not in by_date]
    checks += [DateCheck(day, False, rows, offending.of(day) if offending else ()) for day, rows in by_date.items()]
    return sorted(checks, key=lambda check: check.day or date.min)


def evaluation(spec: dg.AssetCheckSpec, node: NodeResult, check: DateCheck) -> dg.AssetCheckEvaluation:
    """One of them as Dagster's event; the rows that break the test stand in it as a table."""
    metadata: dict[str, Any] = {
        "status": "pass" if check.passed else node.status, "seconds": node.seconds, "unit": "rows",
        "warn_at" if node.status == "warn" else "fail_at": 1.0,
    }  # fmt: skip
    if check.passed or check.rows:  # a test that could not be run measured nothing
        metadata["figure"] = float(check.rows)
    if check.shown:
        metadata["offending"] = dg.MetadataValue.md(markdown_table(check.shown))
    description = None
    if not check.passed:
        description = f"{check.rows} rows break it" if check.rows else node.message or node.status
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key, check_name=spec.name, passed=check.passed, metadata=metadata, description=description,
        severity=dg.AssetCheckSeverity.WARN if node.status == "warn" else dg.AssetCheckSeverity.ERROR,
        blocking=spec.blocking, partition=check.day.isoformat() if check.day else None,
    )  # fmt: skip


def table_metadata(table: Table, node: NodeResult, is_published: bool) -> dict[str, Any]:
    """What is said of a whole table."""
    shown = list(table.previews.values())[-1] if table.previews else None  # of a table by weeks the newest
    weeks = {"made": ", ".join(day.isoformat() for day in sorted(table.made)) or "none"} if table.by_date else {}
    whole = {"dagster/row_count": table.rows, "seconds": node.seconds, "is_published": is_published}
    whole |= {"bytes": table.size, "engine": ENGINE}
    return {**whole, **weeks, **_preview(shown)}


def date_metadata(table: Table, node: NodeResult, day: date, is_published: bool) -> dict[str, Any]:
    """What is said of one date of a table. ``seconds`` are those of all dates that the build made together."""
    return {
        "dagster/row_count": table.rows,
        "dagster/partition_row_count": table.by_date.get(day, 0),
        "bytes": table.size,
        "partition_bytes": table.size_of(day),
        "engine": ENGINE,
        "seconds": node.seconds,
        "is_published": is_published,
        "is_up_to_date_already": day not in table.made,
        **_preview(table.previews.get(day)),
    }


def _preview(rows: Sequence[Row] | None) -> dict[str, Any]:
    shown = [{name: cut(value, None) for name, value in row.items()} for row in rows or ()]
    return {"preview": dg.MetadataValue.md(markdown_table(shown))} if shown else {}


def input_versions(definition: dg.AssetsDefinition, key: dg.AssetKey, versions: Mapping[str, int]) -> dict[str, Any]:
    """The versions of the lake's tables that a model is made from, through whatever models are in between."""
    sources: set[str] = set()
    waiting, seen = [key], {key}
    while waiting:
        for dep in definition.specs_by_key[waiting.pop()].deps:
            if dep.asset_key not in definition.specs_by_key:
                sources.add(table_of(dep.asset_key))
            elif dep.asset_key not in seen:
                seen.add(dep.asset_key)
                waiting.append(dep.asset_key)
    found = {name: version for name, version in versions.items() if name in sources}
    return {"input_versions": dg.MetadataValue.json(found)}


def column_lineage(definition: dg.AssetsDefinition, key: dg.AssetKey, sql: str) -> dict[str, Any]:
    """Which columns of its inputs each column of a model is made from, read off the SQL that dbt ran."""
    from iot_platform.transforms.lineage import lineage_of_sql

    inputs = {dep.asset_key.path[-1]: dep.asset_key for dep in definition.specs_by_key[key].deps}
    schemas = {name: _columns(definition, source) for name, source in inputs.items()}
    keys = {name: TABLES[table_of(source)].keys for name, source in inputs.items() if table_of(source) in TABLES}
    try:
        found = lineage_of_sql(sql, schemas, keys)
    except ValueError:  # SQL that the parser does not know: the model is made all the same
        return {}
    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(inputs[table], name) for table, name in sources if table in inputs]
                for column, sources in found.items()
            }
        )
    }


def _columns(definition: dg.AssetsDefinition, key: dg.AssetKey) -> list[str]:
    if contract := TABLES.get(table_of(key)):
        return list(contract.column_names)
    schema: dg.TableSchema = definition.specs_by_key[key].metadata["dagster/column_schema"]
    return [column.name for column in schema.columns]


def events(
    context: dg.AssetExecutionContext, built: BuildResult, asked: Sequence[date] | None
) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Everything that the run made and checked. ``asked``: the dates it is of, None of a run of no dates.

    What failed is not published, so nothing was made for anybody: then there are results of checks only.
    """
    definition = context.assets_def
    specs = {spec.metadata[UNIQUE_ID]: spec for spec in definition.specs if spec.key in context.selected_asset_keys}
    made: dict[dg.AssetKey, frozenset[date]] = {}
    for unique_id, table in built.facts.tables.items():  # in dbt's order, which Dagster asks for too: inputs first
        if spec := specs.get(unique_id):
            made[spec.key] = table.made
            if built.error is None:
                yield from _materializations(context, spec, built, asked or ())
    checks = {spec.key: spec for spec in definition.check_specs if spec.key in context.selected_asset_check_keys}
    broken = broken_dates(context.instance, [key for key, spec in checks.items() if spec.partitions_def])
    for key, spec in checks.items():
        unique_id = (spec.metadata or {})[UNIQUE_ID]
        if node := built.nodes.get(unique_id):
            offending = built.facts.offending.get(unique_id)
            also = made.get(key.asset_key, frozenset())
            # What a sensor asks for is what moved, as far as it knew; what a person asks for, each date of it is told.
            by_hand = LEVEL_TAG not in context.run.tags
            days, also = (asked or (), also) if by_hand else ((), also | frozenset(asked or ()))
            if spec.partitions_def is None:
                days = None
            for check in date_checks(node, offending, days, broken.get(key, ()), also):
                yield evaluation(spec, node, check)


def _materializations(
    context: dg.AssetExecutionContext, spec: dg.AssetSpec, built: BuildResult, asked: Sequence[date]
) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization]:
    """Of a table by date: one of each date asked for, and of each other that was made. The lineage stands on the newest,
    where Dagster looks for it."""
    table, node = built.facts.tables[spec.metadata[UNIQUE_ID]], built.nodes[spec.metadata[UNIQUE_ID]]
    lineage = column_lineage(context.assets_def, spec.key, node.sql)
    inputs = input_versions(context.assets_def, spec.key, built.facts.versions)
    if spec.partitions_def is None:
        told = table_metadata(table, node, built.is_published) | inputs
        yield dg.MaterializeResult(asset_key=spec.key, metadata=told | lineage)
        return
    days = sorted({*asked, *table.made})
    for day in days:
        told = date_metadata(table, node, day, built.is_published) | inputs
        metadata = told | (lineage if day == days[-1] else {})
        if asked and asked[0] <= day <= asked[-1]:
            context.add_asset_metadata(metadata, spec.key, day.isoformat())
        else:
            yield dg.AssetMaterialization(spec.key, partition=day.isoformat(), metadata=metadata)
    if asked:
        yield dg.MaterializeResult(asset_key=spec.key)


def broken_dates(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, set[date]]:
    """The dates on which these checks failed when they looked last."""
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

    found: dict[dg.AssetCheckKey, set[date]] = {}
    for info in instance.event_log_storage.get_asset_check_partition_info(sorted(checks, key=str)):
        if info.partition_key and info.latest_execution_status == AssetCheckExecutionRecordStatus.FAILED:
            found.setdefault(info.check_key, set()).add(date.fromisoformat(info.partition_key))
    return found
