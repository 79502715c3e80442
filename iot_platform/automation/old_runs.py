"""Forgets old runs: Dagster keeps them for ever, and drains alone are thousands a day.

A run goes with its log. Kept is what the UI and the sensors still read: a run that made the newest version of a date, or of
a table, and one that evaluated a check last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    instance: dg.DagsterInstance, now: datetime, keep: timedelta, most_seconds: float = MOST_SECONDS
) -> Forgotten:
    """Remove the finished runs that were created longer than ``keep`` before ``now``, oldest first."""
    holding = makers_of_newest(instance)
    last = LastEvaluations(instance)
    filters = dg.RunsFilter(statuses=FINISHED, created_before=now - keep)
    deadline = monotonic() + most_seconds
    removed = kept = 0
    cursor: str | None = None
    while monotonic() < deadline:
        page = instance.get_run_records(filters=filters, limit=PAGE, ascending=True, cursor=cursor)
        for record in page:
            run_id = record.dagster_run.run_id
            if run_id in holding or last.are_any_of(run_id):
                kept += 1
                cursor = run_id  # pages go on after a run that is still there
            else:
                instance.delete_run(run_id)
                removed += 1
        if len(page) < PAGE:
            break
    return Forgotten(removed, kept)


def makers_of_newest(instance: dg.DagsterInstance) -> set[str]:
    """The runs that made the newest version of a date, or of a table that has no dates."""
    storage = instance.event_log_storage
    holding: set[str] = set()
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


@dataclass
class LastEvaluations:
    """Which run evaluated a check last, by date. A check is looked up once."""

    instance: dg.DagsterInstance
    _runs: dict[dg.AssetCheckKey, dict[str | None, str]] = field(default_factory=dict)

    def are_any_of(self, run_id: str) -> bool:
        """Whether the run holds the last evaluation of some check."""
        events = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        checks = (entry.event_log_entry.get_dagster_event().asset_check_evaluation_data for entry in events)
        return any(self._of(check.asset_check_key).get(check.partition) == run_id for check in checks)

    def _of(self, key: dg.AssetCheckKey) -> dict[str | None, str]:
        if key not in self._runs:
            infos = self.instance.event_log_storage.get_asset_check_partition_info([key])
            self._runs[key] = {info.partition_key: info.latest_planned_run_id for info in infos}
        return self._runs[key]
