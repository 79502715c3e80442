"""What goes first when runs queue, and how many runs may go at a time: today's data overtakes history.

Dagster takes queued runs by their priority, and a run only while each pool it needs has room. A run that a person
launches has priority 0: before history that a sensor asks for, after everything that is of now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

import dagster as dg

PRIORITY = "dagster/priority"
LANE = "iot/lane"
HISTORY = "history"  # the lane of old dates: dagster.yaml lets one run of it go at a time

DRAIN = 30  # what waits in Kafka is the only thing that can be lost
REGISTRY = 20  # all dates wait for declarations
TODAY = 10
REPORTS = 5
MARTS = 5
OLD = -10

MOST_OF_HISTORY = 5  # runs of old dates that run or wait; the next look asks for more

RECENT = timedelta(days=1)  # today, tomorrow (fast clocks) and yesterday, which is late for an hour after midnight

# One writer at a time: of Bronze, of the registries, of the marts' file, of the reports and of the maintenance. All other
# pools have the default of dagster.yaml: each run writes dates of its own.
SINGLE_WRITER = ("bronze", "registry", "marts", "reports", "maintenance")


def priority_tag(priority: int) -> dict[str, str]:
    return {PRIORITY: str(priority)}


def tags_of_dates(last: date, today: date) -> Mapping[str, str]:
    """The tags of a run of dates up to ``last`` (UTC): recent ones go first, old ones one run at a time."""
    if last >= today - RECENT:
        return priority_tag(TODAY)
    return {**priority_tag(OLD), LANE: HISTORY}


def without_flood(
    requests: Sequence[dg.RunRequest], in_flight: Iterable[dg.DagsterRun]
) -> tuple[list[dg.RunRequest], int]:
    """The requests to make now, and how many of old dates are held back: what is years behind would fill the queue.

    Of the old ones the newest go first. Nothing is lost: the dates stay stale, and the next look finds them.
    """
    room = MOST_OF_HISTORY - sum(run.tags.get(LANE) == HISTORY for run in in_flight)
    old = [request for request in requests if request.tags.get(LANE) == HISTORY]
    chosen = sorted(old, key=_last_date, reverse=True)[: max(0, room)]
    return [request for request in requests if request not in old or request in chosen], len(old) - len(chosen)


def _last_date(request: dg.RunRequest) -> str:
    return request.tags["dagster/asset_partition_range_end"]


def limit_pools(instance: dg.DagsterInstance) -> list[str]:
    """Give the pools of single writers their limit of 1, once; those that were set now. What somebody set by hand stays."""
    if instance.is_ephemeral or not instance.event_log_storage.supports_global_concurrency_limits:
        return []
    known = {pool.name for pool in instance.event_log_storage.get_pool_limits() if not pool.from_default}
    missing = [pool for pool in SINGLE_WRITER if pool not in known]
    for pool in missing:
        instance.event_log_storage.set_concurrency_slots(pool, 1)
    return missing
