"""Freshness by date: whether the last closed dates are made from their newest inputs, as the levels say.

``FreshnessPolicy`` judges an asset by its newest materialization, whatever date that was of. Here every daily table has a
check over its recent dates. It costs one look at the levels for all tables, reads no data, and warns: the level sensor
asks for what is stale by itself, so that a date that stays stale is one that cannot be made.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from iot_platform.assets.metadata import asset_key, markdown_table, table_of
from iot_platform.assets.platform import Platform
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels, daily_transforms
from iot_platform.transforms.catalog import TRANSFORMS

CHECK = "dates_are_fresh"
WINDOW_DAYS = 14
INTERVAL_SECONDS = 300
REPEAT = timedelta(hours=6)  # an unchanged answer is told again after this long: it is seen to be looked after


def closed_dates(now: datetime, days: int = WINDOW_DAYS) -> list[date]:
    """The last UTC dates that are over at ``now``, oldest first."""
    today = now.date()
    return [today - timedelta(days=back) for back in range(days, 0, -1)]


def stale_dates(lake: Lake, now: datetime, tables: Collection[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Per daily table its closed dates in the window that are older than their inputs: date, level made from, needed.

    A date counts whose own inputs moved, or that waits for an input that is itself stale.
    """
    levels = Levels(lake)
    stale = levels.stale(closed_dates(now))
    return {
        table: [
            {
                "event_date": day,
                "made_from_level": levels.recorded(table, day),
                "needs_level": levels.needed(TRANSFORMS[table], day),
            }
            for day in days
        ]
        for table, days in stale.items()
        if tables is None or table in tables
    }


def evaluations(
    found: Mapping[str, list[dict[str, Any]]], now: datetime
) -> Iterator[dg.AssetCheckEvaluation]:
    """What was found, as a check result a table; the stale dates stand in it as a table, newest first."""
    closed = closed_dates(now)
    for table, dates in found.items():
        rows = sorted(dates, key=lambda row: str(row["event_date"]), reverse=True)
        metadata: dict[str, Any] = {"stale_dates": len(rows), "from": str(closed[0]), "to": str(closed[-1])}
        metadata |= {"figure": float(len(rows)), "unit": "dates", "warn_at": 1.0}
        if rows:
            metadata["offending"] = dg.MetadataValue.md(markdown_table(list(rows)))
        yield dg.AssetCheckEvaluation(
            asset_key=asset_key(table),
            check_name=CHECK,
            passed=not rows,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=metadata,
            description=f"{len(rows)} of the last {len(closed)} closed dates are older than their inputs" if rows else None,
        )


def date_freshness_checks() -> dg.AssetChecksDefinition:
    """One check a daily table, all of them by one look; a part of them can be run alone."""

    @dg.multi_asset_check(
        name=CHECK,
        specs=[
            dg.AssetCheckSpec(
                CHECK, asset=asset_key(transform.table),
                description=f"The last {WINDOW_DAYS} closed dates are made from their newest inputs.",
            )
            for transform in daily_transforms()
        ],
        can_subset=True,
    )  # fmt: skip
    def dates_are_fresh(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        chosen = {table_of(key.asset_key) for key in context.selected_asset_check_keys}
        now = platform.now()
        for one in evaluations(stale_dates(platform.lake, now, chosen), now):
            yield dg.AssetCheckResult(
                passed=one.passed, asset_key=one.asset_key, check_name=one.check_name, severity=one.severity,
                metadata=one.metadata, description=one.description,
            )  # fmt: skip

    return dates_are_fresh


def to_tell(
    found: Mapping[str, list[dict[str, Any]]], now: datetime, cursor: str | None
) -> tuple[list[dg.AssetCheckEvaluation], str]:
    """The results that differ from those told before, or were told long ago; and the new cursor."""
    before: dict[str, list[str]] = json.loads(cursor) if cursor else {}
    told = dict(before)
    events: list[dg.AssetCheckEvaluation] = []
    for evaluation in evaluations(found, now):
        table = table_of(evaluation.asset_key)
        state = ",".join(str(row["event_date"]) for row in found[table])
        last = before.get(table)
        if last is None or last[0] != state or now - datetime.fromisoformat(last[1]) >= REPEAT:
            events.append(evaluation)
            told[table] = [state, now.isoformat()]
    return events, json.dumps(told, sort_keys=True)


def date_freshness_sensor() -> dg.SensorDefinition:
    """Tells of dates that became stale, or fresh again, also when no run looks at them."""

    @dg.sensor(
        name="dates_observed",
        description="Looks whether the last closed dates are made from their newest inputs, and tells when that changes.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def dates_observed(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult:
        now = platform.now()
        events, cursor = to_tell(stale_dates(platform.lake, now), now, context.cursor)
        return dg.SensorResult(asset_events=events, cursor=cursor)

    return dates_observed
