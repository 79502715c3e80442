"""The checks as Dagster asset checks: which there are, and how a run of several dates gives each date its own result."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from iot_platform.assets.bronze import BRONZE
from iot_platform.assets.metadata import asset_key
from iot_platform.assets.platform import Platform
from iot_platform.assets.registry import REGISTRY
from iot_platform.automation.partitions import dates
from iot_platform.checks.conservation import conserves, offsets_conserve
from iot_platform.checks.contract import CONTRACT_CHECK, contract_holds
from iot_platform.checks.health import fleet_is_healthy
from iot_platform.checks.known import devices_are_declared, metrics_are_declared
from iot_platform.checks.outcome import Outcome
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import daily_transforms


@dataclass(frozen=True)
class DateCheck:
    """A check of one property of one table on one date. A blocking one stops what reads the table; the others warn."""

    table: str
    name: str
    description: str
    evaluate: Callable[[Lake, date], Outcome]
    blocking: bool = False
    also_reads: tuple[str, ...] = ()

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        return dg.AssetCheckSeverity.ERROR if self.blocking else dg.AssetCheckSeverity.WARN

    @property
    def key(self) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(asset_key(self.table), self.name)


def _contract_check(table: str) -> DateCheck:
    def evaluate(lake: Lake, day: date) -> Outcome:
        return contract_holds(lake, table, day)

    return DateCheck(
        table, CONTRACT_CHECK, "What landed holds to the table's contract: types, nulls, bounds, unique keys.", evaluate,
        blocking=True,
    )  # fmt: skip


def date_checks() -> list[DateCheck]:
    """Every check that gives a result a date."""
    return [
        *(_contract_check(table) for table in (*BRONZE, *(transform.table for transform in daily_transforms()))),
        DateCheck(
            "silver/readings", "conservation", "Bronze = Silver + rejected + pending: no row vanishes, none appears.",
            conserves, blocking=True, also_reads=("bronze/readings", "silver/rejected_readings"),
        ),
        DateCheck(
            "silver/readings", "devices_are_declared", "Every device that reported was declared.",
            devices_are_declared, also_reads=("registry/devices",),
        ),
        DateCheck(
            "silver/readings", "metrics_are_declared", "Every metric that came has declared bounds.",
            metrics_are_declared, also_reads=("registry/metrics",),
        ),
        DateCheck(
            "gold/sensor_health", "fleet_is_healthy", "The share of failing device windows is small.", fleet_is_healthy
        ),
    ]  # fmt: skip


def asset_checks(partitions: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """All checks, as Dagster runs them."""
    return [
        *(_partitioned(check, partitions) for check in date_checks()),
        *(_whole_table(table) for table in REGISTRY),
        _offsets(),
    ]


def _partitioned(check: DateCheck, partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(check.table),
        name=check.name,
        description=check.description,
        blocking=check.blocking,
        additional_deps=[asset_key(table) for table in check.also_reads],
        partitions_def=partitions,
    )
    def run(context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]) -> Any:
        # Dagster would give a range one result without a partition; each date gets its own, then the step's output.
        for day in dates(sorted({*context.partition_keys, *_reported(context, check.table)})):
            yield evaluation(context, check, day, check.evaluate(platform.lake, day))
        yield dg.Output(None)

    return run


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


def evaluation(
    context: dg.AssetCheckExecutionContext, check: DateCheck, day: date, outcome: Outcome
) -> dg.AssetCheckEvaluation:
    """The outcome as Dagster's event, tied to the materialization of the date that it looked at."""
    key = asset_key(check.table)
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day.isoformat()]), limit=1
    ).records
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check.name,
        passed=outcome.passed,
        metadata=outcome.metadata,
        severity=check.severity,
        description=outcome.description or None,
        blocking=check.blocking,
        partition=day.isoformat(),
        target_materialization_data=_target(records[0]) if records else None,
    )


def _target(record: Any) -> Any:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData,
    )

    return AssetCheckEvaluationTargetMaterializationData(
        run_id=record.event_log_entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp
    )


def _whole_table(table: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(table),
        name=CONTRACT_CHECK,
        description="What landed holds to the table's contract: types, nulls, bounds, unique keys.",
        blocking=True,
    )
    def run(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        outcome = contract_holds(platform.lake, table, None)
        return dg.AssetCheckResult(
            passed=outcome.passed, metadata=outcome.metadata, description=outcome.description or None
        )

    return run


def _offsets() -> dg.AssetChecksDefinition:
    """Offsets know no dates: one result for the whole table, at each drain."""

    @dg.asset_check(
        asset=asset_key("bronze/readings"),
        name="offsets_conservation",
        description="Every consumed Kafka record is in Bronze or in quarantine, exactly once.",
        blocking=True,
        additional_deps=[asset_key("bronze/quarantine")],
    )
    def run(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        outcome = offsets_conserve(platform.lake)
        return dg.AssetCheckResult(
            passed=outcome.passed, metadata=outcome.metadata, description=outcome.description or None
        )

    return run


def blocking_checks() -> dict[str, list[dg.AssetCheckKey]]:
    """Per table, the checks that stop what reads it."""
    found: dict[str, list[dg.AssetCheckKey]] = {}
    for check in date_checks():
        if check.blocking:
            found.setdefault(check.table, []).append(check.key)
    return found
