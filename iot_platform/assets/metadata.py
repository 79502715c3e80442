"""What an asset says about its table in Dagster: columns and place, and per materialization rows, version, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from iot_platform.contracts.tables import TABLES, TableContract

if TYPE_CHECKING:
    from iot_platform.engines.materialize import DateResult
    from iot_platform.lake.snapshot import Snapshot
    from iot_platform.settings import Settings

OWNERS = ["team:data-platform"]
BETWEEN = ("registry/first_readings",)  # a table between two assets that is no asset itself


def asset_key(table: str) -> dg.AssetKey:
    """``silver/readings`` as an asset key: its layer, then its name."""
    return dg.AssetKey(table.split("/"))


def table_of(key: dg.AssetKey) -> str:
    return "/".join(key.path)


def column_schema(contract: TableContract) -> dg.TableSchema:
    """The contract's columns as Dagster shows them: type, meaning, unit, null or not, bounds."""
    keys = set(contract.keys) if len(contract.keys) == 1 else set[str]()
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.kind),
                description=f"{column.description} [{column.unit}]" if column.unit else column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable,
                    unique=column.name in keys,
                    other=[
                        *([f">= {column.minimum:g}"] if column.minimum is not None else []),
                        *([f"<= {column.maximum:g}"] if column.maximum is not None else []),
                        *([f"one of {', '.join(column.allowed)}"] if column.allowed else []),
                    ],
                ),
            )
            for column in contract.columns
        ]
    )


def table_metadata(table: str, settings: Settings) -> dict[str, Any]:
    """Static metadata of a Delta table's asset."""
    contract = TABLES[table]
    return {
        "dagster/column_schema": column_schema(contract),
        "dagster/table_name": contract.view,
        "dagster/storage_kind": "delta",
        "path": dg.MetadataValue.path(f"{settings.lake_root}/{table}"),
        "keys": ", ".join(contract.keys),
    }


def snapshot_metadata(snapshot: Snapshot, day: date | None = None) -> dict[str, Any]:
    """Rows, bytes and version of a table as it is, and of one of its dates."""
    metadata: dict[str, Any] = {
        "dagster/row_count": snapshot.rows,
        "table_version": snapshot.version,
        "bytes": snapshot.size,
    }
    if day is not None:
        metadata["dagster/partition_row_count"] = snapshot.rows_by_date.get(day, 0)
        metadata["partition_bytes"] = sum(file.size for file in snapshot.active if file.day == day)
    return metadata


def date_metadata(result: DateResult, snapshot: Snapshot) -> dict[str, Any]:
    """What one made date reports: counts, versions in and out, level, engine and its time."""
    return {
        **snapshot_metadata(snapshot, result.day),
        "dagster/partition_row_count": result.rows,
        "table_version": result.version,
        "input_versions": dg.MetadataValue.json(dict(result.inputs)),
        "level": result.level,
        "engine": result.engine,
        "seconds": round(result.seconds, 3),
        "is_up_to_date_already": result.skipped and not result.held,
        **({"held": result.held} if result.held else {}),
    }


def markdown_table(rows: Sequence[Mapping[str, Any]], limit: int = 10) -> str:
    """Rows as a Markdown table, the first ``limit`` of them; what is left out is said."""
    if not rows:
        return "none"
    names = list(rows[0])
    lines = [
        "| " + " | ".join(names) + " |",
        "|" + " --- |" * len(names),
        *("| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows[:limit]),
    ]
    if len(rows) > limit:
        lines.append(f"\n… and {len(rows) - limit} more")
    return "\n".join(lines)


def lineage_metadata(table: str) -> dict[str, Any]:
    """Which columns of other assets each column of a derived table is made from, read off its SQL text."""
    from iot_platform.transforms.lineage import lineage_through

    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(asset_key(source), name) for source, name in sources]
                for column, sources in lineage_through(table, BETWEEN).items()
            }
        )
    }


def _cell(value: Any) -> str:
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text.replace("|", "\\|").replace("\n", " ")[:120]
