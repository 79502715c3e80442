"""``iot maintain``: what the nightly maintenance does to the tables, now; all of it, or some tables or dates."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import (
    FromOption,
    JsonOption,
    ToOption,
    emit_json,
    out,
    parse_day,
    parse_range,
    step,
    table,
)
from iot_platform.errors import InputError
from iot_platform.settings import load_settings

if TYPE_CHECKING:
    from iot_platform.lake.maintain import Chosen, MaintenanceResult


def maintain(
    *,
    tables: Annotated[
        list[str] | None, typer.Option("--table", help="only this table (bronze/readings); again for more")
    ] = None,
    day: Annotated[str | None, typer.Option("--date", help="only merge and sort this date (UTC): YYYY-MM-DD")] = None,
    first: Annotated[str | None, FromOption] = None,
    last: Annotated[str | None, ToOption] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Delete what the settings do not keep (IOT_KEEP_…_DAYS; default: nothing), merge and sort small files, write
    checkpoints, remove files that nobody reads any more.

    With --table or dates nothing is deleted by age. Safe beside running writers; Dagster does the same every night.
    Example: iot maintain --dry-run
    """
    from iot_platform.lake import Lake
    from iot_platform.lake.maintain import maintain as maintain_lake
    from iot_platform.lake.maintain import refuse_failed
    from iot_platform.lake.retention import closed_before
    from iot_platform.marts.untaken import untaken

    if day is not None and (first is not None or last is not None):
        raise InputError("--date and --from/--to say the same thing twice", "Give one of them.")
    asked = parse_range(first, last)
    if day is not None:
        asked = parse_day(day, "--date"), parse_day(day, "--date")
    settings = load_settings()
    lake = Lake(settings)
    chosen = _chosen(lake, tables or [], asked)
    with step("what maintenance would do" if dry_run else "maintenance of the tables"):
        results = maintain_lake(
            lake, datetime.now(UTC), timedelta(days=settings.versions_kept_days), chosen=chosen,
            untaken=lambda: untaken(lake), dry_run=dry_run,
        )  # fmt: skip
    if as_json:
        emit_json([as_object(result) for result in results])
    else:
        would_close = dry_run and any(result.closed_before for result in results)
        show(results, dry_run=dry_run, closed_before=closed_before(lake) if would_close else None)
    refuse_failed(results)


def _chosen(lake: Any, tables: list[str], asked: tuple[date, date] | None) -> Chosen:
    from iot_platform.lake.maintain import Chosen, appended_tables

    dated = [name for name in appended_tables() if lake.contract(name).partition]
    for name in tables:
        contract = lake.contract(name)
        if asked and (contract.partition is None or name not in dated):
            replaced = "is replaced date by date, one file each: there is nothing to merge"
            why = replaced if contract.partition else "has no dates"
            raise InputError(f"{name} {why}", f"Dates are merged in: {', '.join(dated)}")
    if asked and not tables:
        tables = dated
    return Chosen(frozenset(tables), *(asked or (date.min, date.max)))


def as_object(result: MaintenanceResult) -> dict[str, Any]:
    """The result as JSON has it: the date as text, null where there is none."""
    return asdict(result) | {"closed_before": result.closed_before.isoformat() if result.closed_before else None}


def show(results: list[MaintenanceResult], *, dry_run: bool = False, closed_before: date | None = None) -> None:
    """What was done, or would be, as a table; retention in lines of its own, where there is any. ``closed_before``: what is
    closed already when something would be."""
    deleted = "would be deleted" if dry_run else "deleted"
    for result in results:
        if result.dates_expired:
            out.print(
                f"{result.table}: {result.dates_expired:,} date(s) with {result.rows_expired:,} rows have had their time:"
                f" {deleted} ({result.bytes_expired / 1e6:,.1f} MB)",
                markup=False,
            )
        if result.closed_before:
            is_open = dry_run and (closed_before is None or result.closed_before > closed_before)
            are = "would be" if is_open else "are"
            out.print(f"{result.table}: dates before {result.closed_before} {are} closed", markup=False)
        if result.kept:
            out.print(f"{result.table}: stays {result.kept}", markup=False)
    columns = (
        "table", "dates merged", "files", "into", "MB", "into MB", "files removed", "checkpoint", "left for next time",
    )  # fmt: skip
    rows = [
        (
            # What the merged files come to is known when they are there.
            result.table, result.dates_compacted, result.files_merged, None if dry_run else result.files_written,
            result.bytes_merged / 1e6, None if dry_run else result.bytes_written / 1e6, result.files_removed,
            result.is_checkpointed, "; ".join(result.skipped) or ("✗" if result.failed else None),
        )
        for result in results
    ]  # fmt: skip
    out.print(table("What would be done" if dry_run else "Tables", columns, rows))
