"""The checks as Dagster asset checks: one step a table, and in a run of several dates each date gets its own results.

All checks of a table are one step, so that what they read is read once; any of them can still be run alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date
from typing import Any, TypeVar

import dagster as dg

from iot_platform.assets.bronze import BRONZE
from iot_platform.assets.metadata import asset_key
from iot_platform.assets.platform import Platform
from iot_platform.assets.registry import REGISTRY
from iot_platform.automation.partitions import dates
from iot_platform.checks.catalog import DateCheck, TableCheck, date_checks, dated_tables, table_checks
from iot_platform.checks.inspection import Inspection
from iot_platform.checks.outcome import Outcome
from iot_platform.checks.schema import VERSION
from iot_platform.checks.thresholds import load_thresholds
from iot_platform.checks.undo import made_version, undone_where_failed
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import PlatformError

AT_ONCE = 500  # storage ids in one query
C = TypeVar("C", DateCheck, TableCheck)


def asset_checks(partitions: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """All checks, as Dagster runs them: one step a table."""
    by_date, whole = date_checks(), table_checks()
    return [
        _step(table, _about(table, by_date), _about(table, whole), partitions)
        for table in (*dated_tables(), *REGISTRY)
    ]


def _step(
    table: str, by_date: Sequence[DateCheck], whole: Sequence[TableCheck], partitions: dg.PartitionsDefinition
) -> dg.AssetChecksDefinition:
    view = TABLES[table].view
    specs = {
        check.key: dg.AssetCheckSpec(
            check.name,
            asset=asset_key(table),
            description=check.description,
            blocking=check.blocking,
            additional_deps=[asset_key(other) for other in check.also_reads],
            partitions_def=partitions if isinstance(check, DateCheck) else None,
        )
        for check in (*by_date, *whole)
    }

    @dg.multi_asset_check(
        name=f"check_{view}", specs=list(specs.values()), description=f"All checks of {table}.", can_subset=True
    )
    def run(context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[Any]:
        chosen = context.selected_asset_check_keys
        chosen_by_date = [check for check in by_date if check.key in chosen]
        days: list[date] = []
        if chosen_by_date:
            own = context.partition_keys if context.has_partition_key_range or context.has_partition_key else []
            days = dates(sorted({*own, *_reported(context, table)}))
        made = newest_materializations(context.instance, table, days)
        unread: dict[str, PlatformError] = {}
        with closing(inspect(platform, days)) as inspection:
            for day in days:
                # Dagster would give a range one result without a partition; each date gets its own, then the outputs.
                outcomes: dict[DateCheck, Outcome] = {}
                for check in chosen_by_date:
                    with _kept(unread, day.isoformat()):
                        outcomes[check] = check.evaluate(inspection, day)
                record = made.get(day)
                if record and platform.settings.rollback_on_failed_check and record.run_id == context.run.run_id:
                    outcomes = undone_where_failed(platform.lake, day, outcomes, made_version(record))
                for check, outcome in outcomes.items():
                    yield evaluation(check, outcome, day, record)
            for check in whole:
                if check.key in chosen:
                    with _kept(unread, check.name):
                        seen = seen_version(context.instance, check.key)
                        yield evaluation(check, check.evaluate(inspection, seen))
        if unread:
            what = f"{table}: not checked: {', '.join(unread)}. {next(iter(unread.values()))}"
            raise dg.Failure(what, metadata={name: str(error) for name, error in unread.items()})
        for key, spec in specs.items():
            if key in chosen:
                yield dg.Output(None, spec.get_python_identifier())

    return run


@contextmanager
def _kept(unread: dict[str, PlatformError], name: str) -> Iterator[None]:
    """What cannot be read of one date is kept for the end of the step: it takes no other date's results away."""
    try:
        yield
    except PlatformError as error:
        unread.setdefault(name, error)


def _about(table: str, checks: Sequence[C]) -> list[C]:
    return [check for check in checks if check.table == table]


def inspect(platform: Platform, days: Sequence[date] = ()) -> Inspection:
    """What the checks of a step look at; a wrong thresholds file is the step's failure, in one line."""
    try:
        thresholds = load_thresholds(platform.settings)
    except PlatformError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    return Inspection(platform.lake, thresholds, platform.now(), tuple(days))


def _reported(context: dg.AssetCheckExecutionContext, table: str) -> set[str]:
    """Dates beyond the run's own that it reported for the table: a drain touches whatever came."""
    if table not in BRONZE:
        return set()
    events = context.instance.get_records_for_run(
        context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    return {
        event.partition_key for event in events if event.partition_key and event.asset_key == asset_key(table)
    }


def newest_materializations(
    instance: dg.DagsterInstance, table: str, days: Iterable[date]
) -> Mapping[date, dg.EventLogRecord]:
    """The newest materialization of each of these dates, in two questions however many they are."""
    wanted = {day.isoformat() for day in days}
    if not wanted:
        return {}
    key = asset_key(table)
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, wanted
    )
    found: dict[date, dg.EventLogRecord] = {}
    chosen = sorted(ids.values())
    for first in range(0, len(chosen), AT_ONCE):
        part = chosen[first : first + AT_ONCE]
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, storage_ids=part), limit=len(part)
        ).records
        found |= {date.fromisoformat(record.partition_key): record for record in records if record.partition_key}
    return found


def seen_version(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> int | None:
    """The table version that the last evaluation of a check looked at, as its metadata says."""
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    for one in [record] if record and record.event else []:
        assert one.event
        event = one.event.dagster_event
        if event and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            value = event.asset_check_evaluation_data.metadata.get(VERSION)
            return int(value.value) if value else None  # pyright: ignore[reportArgumentType]
    return None


def evaluation(
    check: DateCheck | TableCheck, outcome: Outcome, day: date | None = None, made: dg.EventLogRecord | None = None
) -> dg.AssetCheckEvaluation:
    """The outcome as Dagster's event, tied to the materialization of the date that it looked at."""
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(check.table),
        check_name=check.name,
        passed=outcome.passed,
        metadata=outcome.all_metadata,
        severity=outcome.severity,
        description=outcome.description or None,
        blocking=check.blocking,
        partition=day.isoformat() if day else None,
        target_materialization_data=_target(made) if made else None,
    )


def _target(record: Any) -> Any:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData,
    )

    return AssetCheckEvaluationTargetMaterializationData(
        run_id=record.event_log_entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp
    )
