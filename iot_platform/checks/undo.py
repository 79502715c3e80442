"""Puts a date back whose blocking check failed after it was committed, where ``IOT_ROLLBACK_ON_FAILED_CHECK`` asks for that.

The check stays failed: its result says what was undone, and who is told of failed checks is told of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import dagster as dg

from iot_platform.checks.catalog import DateCheck
from iot_platform.checks.outcome import Outcome
from iot_platform.checks.schema import VERSION
from iot_platform.errors import PlatformError
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import daily_transforms
from iot_platform.lake.rollback import roll_back

UNDONE = "rolled_back"


def made_version(record: dg.EventLogRecord) -> int | None:
    """The table version that a materialization committed; None of one that committed nothing."""
    materialization = record.asset_materialization
    metadata = materialization.metadata if materialization else {}
    if "held" in metadata or VERSION not in metadata:
        return None
    already = metadata.get("is_up_to_date_already")
    return None if already and already.value else int(metadata[VERSION].value)  # pyright: ignore[reportArgumentType]


def undone_where_failed(
    lake: Lake, day: date, outcomes: Mapping[DateCheck, Outcome], version: int | None
) -> dict[DateCheck, Outcome]:
    """The outcomes of one table and date; if a blocking one failed, the commit ``version`` is undone first, and they say so.

    A date that was changed again since, or has no earlier version, is left as it is; then they say that.
    """
    failed = {check: outcome for check, outcome in outcomes.items() if check.blocking and is_error(outcome)}
    if not failed or version is None:
        return dict(outcomes)
    check = next(iter(failed))
    if check.table not in {transform.table for transform in daily_transforms()}:
        return dict(outcomes)
    try:
        done = roll_back(lake, check.table, day, undo=version, reason=f"check {check.name} failed")
        told = f"version {version} was undone: the date is as version {done.restored.version} had it, and held"
        metadata = {
            UNDONE: True, "undone_version": version, "restored_version": done.restored.version,
            "what_now": f"Mend the cause, then `iot rollback --table {check.table} --date {day} --release`.",
        }  # fmt: skip
    except PlatformError as error:
        told = f"it was not undone: {error}"
        metadata = {UNDONE: False, "what_now": str(error)}
    return {
        one: replace(
            outcome, description=f"{outcome.description}; {told}", metadata={**outcome.metadata, **metadata}
        ) if one in failed else outcome
        for one, outcome in outcomes.items()
    }  # fmt: skip


def is_error(outcome: Outcome) -> bool:
    return not outcome.passed and outcome.severity == dg.AssetCheckSeverity.ERROR
