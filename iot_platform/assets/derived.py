"""Silver and Gold: one asset for every daily table of ``transforms/catalog.py``, all made in the same way.

A new derived table is a contract, a SQL text and a catalog entry; no code is added here. In a range, each date is made,
held against its contract and committed by itself: one that fails is left as it was and is named when the step fails at
its end; what did commit is reported, and what reads it is made on by its level.
"""

from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from iot_platform.assets.metadata import (
    OWNERS,
    asset_key,
    date_metadata,
    lineage_metadata,
    table_metadata,
)
from iot_platform.assets.platform import Platform
from iot_platform.assets.preview import previews
from iot_platform.assets.versions import provenance_tags
from iot_platform.automation.partitions import dates
from iot_platform.checks.contract import CONTRACT_CHECK, broken_before_commit, held_before_commit
from iot_platform.checks.outcome import Outcome
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import DataError
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS, Transform, code_version

if TYPE_CHECKING:
    from iot_platform.engines.ranges import RangeResult

LEVEL_TAG = "iot/level"
RETRY = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def derived_asset(transform: Transform, settings: Settings, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """The asset of one derived table."""
    table = transform.table

    @dg.asset(
        key=asset_key(table),
        # A look-back is told (`reads`), not mapped: with a mapped one Dagster would widen every backfill by the dates
        # behind it and part it into several runs. Dates behind are asked for by their levels instead.
        deps=[asset_key(source.table) for source in transform.inputs],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=code_version(transform),
        kinds={settings.engine, "delta"},
        owners=OWNERS,
        description=TABLES[table].sentences,
        metadata={**table_metadata(table, settings), "reads": reads(transform)},
        retry_policy=RETRY,
        pool=TABLES[table].view,
    )
    def make(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        # A run that the level sensor asks for makes what is stale; one that a person launches makes its dates again.
        force = LEVEL_TAG not in context.run.tags
        days = dates(context.partition_keys)
        made = made_before(context, table) if context.retry_number else set()
        result = platform.compute.make(context, transform, days, force=force, now=platform.now(), made=made)
        for held in [one.held for one in result.made if one.held]:
            context.log.warning(held)
        if result.failed:
            report_partial(context, table, platform, result)
            raise failure(table, result)
        for day, metadata in described(platform, table, result).items():
            context.add_asset_metadata(metadata, partition_key=day.isoformat())
        return dg.MaterializeResult()

    return make


def made_before(context: dg.AssetExecutionContext, table: str) -> set[date]:
    """The dates that earlier attempts of this step committed and reported: forced no more, a retry is for the others."""
    logs = context.instance.all_logs(context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    events = (entry.dagster_event for entry in logs if entry.dagster_event)
    return set(dates(event.partition for event in events if event.asset_key == asset_key(table) and event.partition))


def described(platform: Platform, table: str, result: "RangeResult") -> dict[date, dict[str, Any]]:
    """The metadata of each date that was made, what it looks like first. Lineage, the same for all, stands on the newest."""
    snapshot = platform.lake.snapshot(table)
    looks = previews(platform.lake, snapshot, [made.day for made in result.made])
    metadata = {made.day: {**looks.get(made.day, {}), **date_metadata(made, snapshot)} for made in result.made}
    if metadata:
        metadata[max(metadata)] |= lineage_metadata(table)
    return metadata


def reads(transform: Transform) -> str:
    """Which dates of its inputs a date is made from, in words."""
    return ", ".join(
        f"{source.table} of D-{source.look_back} … D" if source.look_back and TABLES[source.table].partition
        else (f"{source.table} of D" if TABLES[source.table].partition else source.table)
        for source in transform.inputs
    )  # fmt: skip


def report_partial(context: dg.AssetExecutionContext, table: str, platform: Platform, result: "RangeResult") -> None:
    """Before the step fails: report the dates that were committed, and each date's contract check.

    A failed step emits no materializations of its own, and the check steps after it do not run.
    """
    transform = TRANSFORMS[table]
    inputs = [asset_key(source.table) for source in transform.inputs]
    tags = provenance_tags(context.instance, inputs, code_version(transform))
    for day, metadata in described(platform, table, result).items():
        context.log_event(
            dg.AssetMaterialization(asset_key(table), partition=day.isoformat(), metadata=metadata, tags=tags)
        )
    for made in result.made:
        if not made.held:
            _report_check(context, table, made.day, held_before_commit(made.rows))
    for day, error in result.failed.items():
        if isinstance(error, DataError):
            _report_check(context, table, day, broken_before_commit(error))


def _report_check(context: dg.AssetExecutionContext, table: str, day: date, outcome: Outcome) -> None:
    event = dg.AssetCheckEvaluation(
        asset_key=asset_key(table), check_name=CONTRACT_CHECK, passed=outcome.passed, blocking=True,
        partition=day.isoformat(), metadata=outcome.all_metadata, description=outcome.description or None,
    )  # fmt: skip
    context.log_event(event)  # pyright: ignore[reportArgumentType]  # it takes these too, its annotation is older


def failure(table: str, result: "RangeResult") -> dg.Failure:
    """The step's failure: names the dates. Broken data fails the same way again, so only other errors are retried."""
    named = ", ".join(day.isoformat() for day in result.failed)
    return dg.Failure(
        description=f"{table}: not made: {named}; made: {len(result.made)} date(s). {next(iter(result.failed.values()))}",
        metadata={day.isoformat(): str(error) for day, error in result.failed.items()},
        allow_retries=not any(isinstance(error, DataError) for error in result.failed.values()),
    )
