"""Runs that failed and what of their work nobody did since, read from Dagster's own record."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from iot_platform.alerts.facts import FailedRun, FailedRunsSeen, partition_date
from iot_platform.assets.bronze import BRONZE
from iot_platform.assets.metadata import table_of
from iot_platform.automation.run_events import StepEnd, collect
from iot_platform.automation.runs import PARTITION, RANGE_END, RANGE_START, broken_checks

if TYPE_CHECKING:
    from dagster._core.storage.dagster_run import RunRecord

PAGE = 200  # records read at once
LOOKED_AT = 200  # runs of which it is asked in one look whether their work was done; the next look goes on
LONGEST_ERROR = 500  # characters
OF_A_CHECK = "DagsterAssetCheckFailedError"


@dataclass(frozen=True)
class Failure:
    """Why a run failed, and what it was to make: asset keys with their partitions. It never changes once the run ended."""

    what: str
    error: str
    is_explained: bool
    planned: dict[dg.AssetKey, frozenset[str]]


@dataclass
class FailedRuns:
    """Reads them; remembers the logs of runs that it read already, since these change no more, and whose work was done."""

    _failures: dict[str, Failure] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def look(self, instance: dg.DagsterInstance, since: datetime, asked: Collection[str] = ()) -> FailedRunsSeen:
        """Runs that failed after ``since``, of those that wanted the same only the newest, with outputs still unmade; and
        which of these, and of the runs ``asked``, are over. Of a run that Dagster has no more, neither is said."""
        newest: dict[object, RunRecord] = {}
        for record in _failed_since(instance, since):
            newest.setdefault(_wanted(record.dagster_run), record)
        records = {record.dagster_run.run_id: record for record in newest.values()}
        older = [
            record for run_id in asked if run_id not in records and (record := instance.get_run_record_by_id(run_id))
        ]
        kept = {*records, *(record.dagster_run.run_id for record in older)}
        self._failures = {run_id: found for run_id, found in self._failures.items() if run_id in kept}
        self._done &= kept
        open_ = [record for run_id, record in records.items() if run_id not in self._done]
        unmade = [run for record in open_[:LOOKED_AT] if (run := self._unresolved(instance, record))]
        superseded: set[str] = set()
        for record in older:
            run_id = record.dagster_run.run_id
            if _wanted(record.dagster_run) in newest:
                superseded.add(run_id)
            elif run_id not in self._done:
                self._unresolved(instance, record)
        # Where not all were looked at, one of the same step may be unmade: nothing is over yet.
        return FailedRunsSeen(unmade, self._done | superseded if len(open_) <= LOOKED_AT else ())

    def _unresolved(self, instance: dg.DagsterInstance, record: RunRecord) -> FailedRun | None:
        run = record.dagster_run
        if run.run_id not in self._failures:
            self._failures[run.run_id] = _failure(instance, run)
        failure = self._failures[run.run_id]
        ended = datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)
        began = record.start_time or record.create_timestamp.timestamp()
        unmade = {
            key: left for key, partitions in failure.planned.items() if (left := _unmade(instance, key, partitions, began))
        }
        if not unmade if failure.planned else _was_done_later(instance, record):
            self._done.add(run.run_id)
            return None
        days = sorted({day for left in unmade.values() for one in left if (day := partition_date(one))})
        return FailedRun(run.run_id, failure.what, failure.error, ended, days, failure.is_explained)


def _failed_since(instance: dg.DagsterInstance, since: datetime) -> Iterator[RunRecord]:
    """Newest first, however many: attempts at the same may hide another failure behind hundreds of their own."""
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    cursor: str | None = None
    while True:
        records = instance.get_run_records(wanted, limit=PAGE, cursor=cursor)
        yield from records
        if len(records) < PAGE:
            return
        cursor = records[-1].dagster_run.run_id


def _wanted(run: dg.DagsterRun) -> object:
    """What a run was to do: the same for every attempt at it."""
    tags = run.tags
    selection = frozenset(run.asset_selection or ()), frozenset(run.asset_check_selection or ())
    return (run.job_name, *selection, tags.get(RANGE_START), tags.get(RANGE_END), tags.get(PARTITION))


def _failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Failure:
    logs = instance.all_logs(
        run.run_id,
        of_type={
            dg.DagsterEventType.STEP_FAILURE,
            dg.DagsterEventType.RUN_FAILURE,
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        },
    )
    events = [event for entry in logs if (event := entry.dagster_event)]
    steps = [event for event in events if event.is_step_failure]
    planned: dict[dg.AssetKey, frozenset[str]] = {}
    step_of: dict[dg.AssetKey, str | None] = {}
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            data = event.asset_materialization_planned_data
            subset = data.partitions_subset.get_partition_keys() if data.partitions_subset else [data.partition or ""]
            planned[data.asset_key] = planned.get(data.asset_key, frozenset()) | frozenset(subset)
            step_of[data.asset_key] = event.step_key
    if steps:
        ended = collect(steps[0])
        what = (steps[0].step_key or run.job_name).replace("__", "/")
        error = ended.error if isinstance(ended, StepEnd) else ""
    else:
        what = _named(run)
        error = next((event.message for event in reversed(events) if event.is_failure and event.message), "it never began")
    broken = {check.asset_key for check in broken_checks(instance, run.run_id)}
    explained = {step_of.get(key) for key in broken}
    is_explained = bool(steps) and all(
        step.step_key in explained or _raised(step) == OF_A_CHECK for step in steps
    )
    return Failure(what, " ".join(error.split())[:LONGEST_ERROR], is_explained, planned)


def _named(run: dg.DagsterRun) -> str:
    names = sorted("/".join(key.path) for key in run.asset_selection or ())
    return ", ".join(names[:3] or [run.job_name]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _raised(step: dg.DagsterEvent) -> str | None:
    def classes() -> Iterator[str | None]:
        error = step.step_failure_data.error
        while error:
            yield error.cls_name
            error = error.cause

    return OF_A_CHECK if OF_A_CHECK in classes() else None


def _unmade(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: frozenset[str], began: float
) -> frozenset[str]:
    """Those of the partitions ('' for an asset without) of which there is no materialization since the run began."""
    if table_of(key) in BRONZE:
        partitions = frozenset({""})  # a drain brings everything, whichever date it was asked for
    named = sorted(partitions - {""})
    made: set[str] = set()
    cursor: str | None = None
    while True:
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=named or None, after_timestamp=began),
            limit=1000 if named else 1, cursor=cursor,
        )  # fmt: skip
        made |= {record.partition_key or "" for record in found.records}
        if not named or not found.has_more or not partitions - made:
            return frozenset() if not named and made else frozenset(partitions - made)
        cursor = found.cursor


def _was_done_later(instance: dg.DagsterInstance, record: RunRecord) -> bool:
    """For a run that planned no assets: whether a later one that wanted the same ended well."""
    later = instance.get_runs(
        dg.RunsFilter(
            job_name=record.dagster_run.job_name,
            statuses=[dg.DagsterRunStatus.SUCCESS],
            created_after=record.create_timestamp,
        )
    )
    return any(_wanted(run) == _wanted(record.dagster_run) for run in later)
