"""What Dagster's own record says about runs: what is being made now, and how often the same request was tried."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import psutil

from iot_platform.assets.metadata import asset_key, table_of
from iot_platform.automation.partitions import dates
from iot_platform.automation.planning import Made

if TYPE_CHECKING:
    from dagster._core.storage.dagster_run import RunRecord

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"
HOST_TAG = "iot/host"  # the machine that a run's process is on
REQUEST_TAG = "iot/request"  # what was asked for, the same on each attempt
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
MANY_DATES = 8  # of a run: more than a week
FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(minutes=10)


@dataclass(frozen=True)
class Attempts:
    """How often a request was run to an end, when the last one ended (UTC; None: never), and which run that was."""

    count: int
    last_ended: datetime | None = None
    last_run: str | None = None

    def wait(self, now: datetime) -> timedelta:
        """How much longer to wait before the next attempt: 30 s after the first failure, twice that after each further, at
        most 10 minutes. There is always a next one: a disk that was full, or a service that was down, heals."""
        if not self.count or self.last_ended is None:
            return timedelta(0)
        delay = min(FIRST_DELAY * 2 ** min(self.count - 1, 10), LONGEST_DELAY)
        return min(delay, max(timedelta(0), self.last_ended + delay - now))


def tags(request: str) -> dict[str, str]:
    """What every run that a sensor asks for carries."""
    return {REQUEST_TAG: request, HOST_TAG: socket.gethostname()}


class HostNaming(dg.ResourceDefinition):
    """A resource that, wherever a run takes it, enters this machine's name into the run's tags: once, at the run's start.

    Sensors name the machine of the runs that they ask for; those that a person or a backfill launches would have none, and
    what a run that is started again has from the first may be another machine's.
    """

    def __init__(self, resource: Any) -> None:
        self.resource = resource
        super().__init__(self._given)

    def _given(self, context: dg.InitResourceContext) -> Any:
        here = socket.gethostname()
        if context.run and context.instance and context.run.tags.get(HOST_TAG) != here:
            context.instance.add_run_tags(context.run.run_id, {HOST_TAG: here})
        return self.resource


def unfinished(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs that are queued or run."""
    return list(instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED)))


def bury_dead(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process is gone as failed; their ids. Dagster's launcher of local processes leaves them running.

    Only runs of this machine can be judged: those that carry its name, as each does from its start (``HostNaming``).
    """
    here = {HOST_TAG: socket.gethostname()}
    running = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    buried: list[str] = []
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=running, tags=here)):
        run = record.dagster_run
        starts = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_START)
        pid = starts[0].get_dagster_event().pid if starts else None
        if pid and record.start_time and not _is_alive(pid, record.start_time):
            instance.report_run_failed(run, f"its process {pid} is gone")
            buried.append(run.run_id)
    return buried


def _is_alive(pid: int, started: float) -> bool:
    """Whether the process is there and is not a later one with the same number (``started``: epoch seconds)."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= started + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def being_made(runs: Iterable[dg.DagsterRun], partitions: dg.PartitionsDefinition, tables: Iterable[str]) -> set[Made]:
    """The outputs that these runs make, or are about to: of the given tables, by date."""
    known = {asset_key(table) for table in tables}
    made: set[Made] = set()
    for run in runs:
        selection = run.asset_selection
        keys = known if selection is None else known & set(selection)
        for day in dates(_partition_keys(run, partitions)):
            made.update((table_of(key), day) for key in keys)
    return made


def made_already(
    instance: dg.DagsterInstance,
    runs: Collection[dg.DagsterRun],
    partitions: dg.PartitionsDefinition,
    wanted: Collection[Made],
) -> set[Made]:
    """Of these outputs those that no run has still to make: they were made since each run began that makes them.

    Only of runs over many dates, whose end is far: what a short one has made, and moved since, is asked for at its end.
    """
    if not wanted:
        return set()
    tables = {table for table, _ in wanted}
    begun = {
        record.dagster_run.run_id: record.start_time
        for record in instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id for run in runs]))
    }
    free = set(wanted)
    newest: dict[Made, float] = {}
    for run in runs:
        mine = being_made([run], partitions, tables) & free
        start = begun.get(run.run_id)
        if start is None or len(_partition_keys(run, partitions)) < MANY_DATES:
            free -= mine
            continue
        for output in mine:
            if output not in newest:
                newest[output] = _last_made(instance, output)
        free -= {output for output in mine if newest[output] < start}
    return free


def _last_made(instance: dg.DagsterInstance, output: Made) -> float:
    """When the output was materialized last, in epoch seconds; 0: never."""
    table, day = output
    wanted = dg.AssetRecordsFilter(asset_key=asset_key(table), asset_partitions=[day.isoformat()])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].timestamp if records else 0.0


def makes(runs: Iterable[dg.DagsterRun], key: dg.AssetKey) -> bool:
    """Whether one of these runs makes the asset; a run without a selection makes every asset."""
    return any(run.asset_selection is None or key in run.asset_selection for run in runs)


def _partition_keys(run: dg.DagsterRun, partitions: dg.PartitionsDefinition) -> list[str]:
    first, last = run.tags.get(RANGE_START), run.tags.get(RANGE_END)
    if first and last:
        return list(partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last)))
    one = run.tags.get(PARTITION)
    return [one] if one else []


def attempts(instance: dg.DagsterInstance, request: str) -> Attempts:
    """Past attempts at one request, whatever became of them: it is asked for again, so none brought what was wanted."""
    filters = dg.RunsFilter(tags={REQUEST_TAG: request}, statuses=FINISHED)
    last = _ended(instance.get_run_records(filters=filters, limit=1))
    return replace(last, count=instance.get_runs_count(filters)) if last.count else last


def broken_checks(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    """The checks of errors (not of warnings) that failed in a run."""
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    events = (entry.dagster_event for entry in logs if entry.dagster_event)
    found = (event.asset_check_evaluation_data for event in events)
    return [check for check in found if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR]


def failures_in_a_row(instance: dg.DagsterInstance, request: str, limit: int = 10) -> Attempts:
    """The failures since the last success of a request that is repeated for ever (the drain)."""
    records = instance.get_run_records(filters=dg.RunsFilter(tags={REQUEST_TAG: request}), limit=limit)
    failed: list[RunRecord] = []
    for record in records:
        if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            break
        failed.append(record)
    return _ended(failed)


def _ended(records: Iterable[RunRecord]) -> Attempts:
    ended = [record for record in records if record.dagster_run.is_finished]
    moments = [record.end_time for record in ended if record.end_time]
    last = ended[0].dagster_run.run_id if ended else None
    return Attempts(len(ended), datetime.fromtimestamp(max(moments), UTC) if moments else None, last)
