"""Forgets old runs: Dagster keeps them for ever, and drains alone are thousands a day.

A run goes with its log. Kept is what the UI and the sensors still read: a run that made the newest version of a date, or of
a table, and one that evaluated a check last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import dagster as dg

from iot_platform.automation.runs import FINISHED

PAGE = 500
MOST_SECONDS = 300.0  # a night; what is left over is forgotten the next night


@dataclass(frozen=True)
class Forgotten:
    """How many old runs were removed, and how many were kept although they are old: something newest is theirs."""

    removed: int
    kept: int


def forget_old_runs(
    instance: dg.DagsterInstance,
    checks: Iterable[dg.AssetCheckKey],
    now: datetime,
    keep: timedelta,
    most_seconds: float = MOST_SECONDS,
) -> Forgotten:
    """Remove the finished runs that were created longer than ``keep`` before ``now``, oldest first."""
    holding = newest_of_something(instance, checks)
    filters = dg.RunsFilter(statuses=FINISHED, created_before=now - keep)
    deadline = monotonic() + most_seconds
    removed = kept = 0
    cursor: str | None = None
    while monotonic() < deadline:
        page = instance.get_run_records(filters=filters, limit=PAGE, ascending=True, cursor=cursor)
        for record in page:
            run_id = record.dagster_run.run_id
            if run_id in holding:
                kept += 1
                cursor = run_id  # pages go on after a run that is still there
            else:
                instance.delete_run(run_id)
                removed += 1
        if len(page) < PAGE:
            break
    return Forgotten(removed, kept)


def newest_of_something(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> set[str]:
    """The runs that made the newest version of a date or a table, or evaluated one of these checks last."""
    storage = instance.event_log_storage
    infos = storage.get_asset_check_partition_info(list(checks))
    holding = {info.latest_planned_run_id for info in infos}
    for key in instance.all_asset_keys():
        newest = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
        ids = sorted(newest.values())
        for first in range(0, len(ids), PAGE):
            chosen = ids[first : first + PAGE]
            found = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=key, storage_ids=chosen), limit=len(chosen)
            )
            holding.update(record.event_log_entry.run_id for record in found.records)
        whole = instance.get_latest_materialization_event(key)
        if whole:
            holding.add(whole.run_id)
    return holding
