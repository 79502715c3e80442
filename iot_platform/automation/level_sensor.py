"""The level sensor: asks for exactly the dates that are older than their inputs. It remembers nothing between ticks.

A lost tick, a crash, a failed run or several arrivals in one tick heal at the next look (design, section 8).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dagster as dg

from iot_platform.assets.derived import LEVEL_TAG
from iot_platform.assets.metadata import asset_key, table_of
from iot_platform.assets.platform import Platform
from iot_platform.assets.registry import REGISTRY
from iot_platform.automation import runs
from iot_platform.automation.planning import Made, Plan, Request, plan
from iot_platform.automation.priorities import REGISTRY as REGISTRY_PRIORITY
from iot_platform.automation.priorities import limit_pools, priority_tag, tags_of_dates, without_flood
from iot_platform.checks.catalog import blocking_checks
from iot_platform.checks.contract import CONTRACT_CHECK
from iot_platform.errors import HeldError
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels, daily_transforms
from iot_platform.transforms.catalog import TRANSFORMS

INTERVAL_SECONDS = 5


@dataclass(frozen=True)
class Stale:
    """What the lake says: stale dates by table in order of dependency, and those whose own inputs moved."""

    dates: Mapping[str, list[date]]
    moved: frozenset[Made]
    levels: Levels

    def level(self, table: str, day: date) -> int:
        return self.levels.needed(TRANSFORMS[table], day)


def look(lake: Lake) -> Stale:
    """Read the levels once."""
    levels = Levels(lake)
    stale = levels.stale()
    moved = {
        (table, day)
        for table, days in stale.items()
        for day in days
        if levels.needed(TRANSFORMS[table], day) > levels.recorded(table, day)
    }
    return Stale(stale, frozenset(moved), levels)


def reads() -> dict[str, dict[str, int]]:
    """Per daily table, the daily tables it reads and how many days it looks back."""
    daily = {transform.table for transform in daily_transforms()}
    return {
        transform.table: {source.table: source.look_back for source in transform.inputs if source.table in daily}
        for transform in daily_transforms()
    }


def decide(
    stale: Stale,
    instance: dg.DagsterInstance,
    now: datetime,
    in_progress: Collection[Made],
    failing: Collection[Made],
) -> tuple[list[dg.RunRequest], list[str]]:
    """The runs to ask for now, and why others are not asked for."""
    given_up: set[Made] = set()
    while True:
        planned: Plan = plan(
            stale.dates, reads(), moved=stale.moved, in_progress=in_progress, failing=failing, given_up=given_up
        )
        requests: list[dg.RunRequest] = []
        reasons: list[str] = []
        newly: set[Made] = set()
        for request in planned.requests:
            identity = request.identity(stale.level)
            tried = runs.attempts(instance, identity)
            if hopeless := _hopeless(instance, request, tried):
                newly |= hopeless
            elif wait := tried.wait(now):
                reasons.append(f"{named(request)} is tried again in {wait.total_seconds():.0f} s")
            else:
                requests.append(run_request(request, identity, tried.count + 1, now.date()))
        if not newly:
            break
        given_up |= newly
    reasons += _reasons(planned, given_up)
    return requests, reasons


def _hopeless(instance: dg.DagsterInstance, request: Request, tried: runs.Attempts) -> set[Made]:
    """Outputs whose rows broke their contract in the last attempt: from the same inputs they would again.

    Everything else that makes a run fail may pass, so that it is tried for ever.
    """
    if tried.last_run is None:
        return set()
    broken = {
        (table_of(check.asset_key), date.fromisoformat(check.partition))
        for check in runs.broken_checks(instance, tried.last_run)
        if check.check_name == CONTRACT_CHECK and check.partition
    }
    return broken & {(table, day) for table in request.tables for day in request.days}


def _reasons(planned: Plan, given_up: Collection[Made]) -> list[str]:
    reasons: list[str] = []
    if planned.waiting:
        reasons.append(f"{len(planned.waiting)} output date(s) wait for a run to end")
    for table, day in sorted(planned.blocked):
        reasons.append(f"{table} {day} is blocked by a failed check of what it reads")
    for table, day in sorted(given_up):
        reasons.append(f"{table} {day} breaks its contract: see its check; made again when its inputs move or by hand")
    return reasons


def named(request: Request) -> str:
    days = f"{request.first}" if request.first == request.last else f"{request.first} … {request.last}"
    return f"{', '.join(request.tables)} of {days}"


def run_request(request: Request, identity: str, attempt: int, today: date) -> dg.RunRequest:
    """One run over the request's dates. A failed attempt does not burn the key: the next one has its own.

    ``today`` (UTC) says which dates are recent: they overtake older ones in Dagster's queue.
    """
    return dg.RunRequest(
        run_key=f"{identity}/{attempt}",
        asset_selection=[asset_key(table) for table in request.tables],
        tags={
            runs.RANGE_START: request.first.isoformat(),
            runs.RANGE_END: request.last.isoformat(),
            LEVEL_TAG: identity,
            "iot/attempt": str(attempt),
            **tags_of_dates(request.last, today),
            **runs.tags(identity),
        },
    )


def failing_outputs(instance: dg.DagsterInstance, days: Collection[date]) -> set[Made]:
    """Outputs on these dates whose newest blocking check failed."""
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

    if not days:
        return set()
    table_by_check = {key: table for table, keys in blocking_checks().items() for key in keys}
    found = instance.event_log_storage.get_asset_check_partition_info(
        list(table_by_check), partition_keys=sorted(day.isoformat() for day in days)
    )
    return {
        (table_by_check[info.check_key], date.fromisoformat(info.partition_key))
        for info in found
        if info.partition_key and info.latest_execution_status == AssetCheckExecutionRecordStatus.FAILED
    }


def registry_mark(lake: Lake) -> str | None:
    """What the registries are to be made from (newest Bronze, declarations); None when they are up to date."""
    from iot_platform.engines.registry import bronze_mark, registry_is_stale
    from iot_platform.lake.declarations import fingerprint

    if not registry_is_stale(lake):
        return None
    newest, changes = bronze_mark(lake.snapshot("bronze/readings"))
    return f"registry/{newest}{f'+{changes}' if changes else ''}/{fingerprint(lake.settings.declarations)}"


def registry_request(
    lake: Lake, instance: dg.DagsterInstance, now: datetime
) -> tuple[dg.RunRequest | None, list[str]]:
    """The run that brings the registries up to Bronze and the declarations, or why there is none though they moved."""
    identity = registry_mark(lake)
    if identity is None:
        return None, []
    tried = runs.attempts(instance, identity)
    if wait := tried.wait(now):
        return None, [f"the registries failed {tried.count} time(s); tried again in {wait.total_seconds():.0f} s"]
    return dg.RunRequest(
        run_key=f"{identity}/{tried.count + 1}",
        asset_selection=[asset_key(table) for table in REGISTRY],
        tags={
            LEVEL_TAG: identity,
            "iot/attempt": str(tried.count + 1),
            **priority_tag(REGISTRY_PRIORITY),
            **runs.tags(identity),
        },
    ), []


def declarations_moved(lake: Lake) -> bool:
    """Whether somebody declared what no table was made from yet (at first: everything)."""
    from iot_platform.engines.registry import DECLARATIONS
    from iot_platform.lake.declarations import fingerprint

    taken = lake.snapshot("registry/devices").delta.transaction_version(DECLARATIONS)
    return taken != fingerprint(lake.settings.declarations)


def evaluate(platform: Platform, instance: dg.DagsterInstance, partitions: dg.PartitionsDefinition) -> dg.SensorResult:
    """One look. Dates wait for new declarations to be taken in, since all of them may bear on these; what readings alone
    change in a registry is taken in beside them, or a stream of drains would keep the dates waiting for ever."""
    runs.bury_dead(instance)
    limit_pools(instance)
    # Runs before levels: a run that ends in between is still taken for running and its dates wait for the next look.
    in_flight = runs.unfinished(instance)
    now = platform.now()
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    is_synchronizing = runs.makes(in_flight, asset_key(REGISTRY[0]))
    if not is_synchronizing:
        registry, reasons = registry_request(platform.lake, instance, now)
        requests += [registry] if registry else []
    if (requests or is_synchronizing) and declarations_moved(platform.lake):
        why = "new declarations are being taken in; the dates come after"
        return dg.SensorResult(run_requests=requests) if requests else dg.SensorResult(skip_reason=why)
    stale = look(platform.lake)
    busy = runs.being_made(in_flight, partitions, stale.dates)
    # Late data of today does not wait for the end of a long rebuild that was done with today.
    yesterday = now.date() - timedelta(days=1)
    recent = {(table, day) for table, listed in stale.dates.items() for day in listed if day >= yesterday} & busy
    busy -= runs.made_already(instance, in_flight, partitions, recent)
    days = {day for listed in stale.dates.values() for day in listed}
    held = {(table, day) for table, listed in stale.levels.held().items() for day in listed}
    found, why_not = decide(stale, instance, now, busy, failing_outputs(instance, days) - held)
    found, held_back = without_flood(found, in_flight)
    if held_back:
        why_not = [f"{held_back} run(s) of older dates are asked for when others have ended", *why_not]
    requests += found
    if requests:
        return dg.SensorResult(run_requests=requests)
    reasons += [*why_not, *(str(HeldError(table, day)) for table, day in sorted(held))]
    return dg.SensorResult(skip_reason="; ".join(reasons[:10]) or "every date is made from its newest inputs")


def level_sensor(partitions: dg.PartitionsDefinition) -> dg.SensorDefinition:
    """Asks for the dates whose inputs moved."""
    targets = [asset_key(table) for table in (*REGISTRY, *(transform.table for transform in daily_transforms()))]

    @dg.sensor(
        name="stale_dates",
        description="Asks for exactly the dates of Silver and Gold that are older than their inputs.",
        target=dg.AssetSelection.assets(*targets),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def stale_dates(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        return evaluate(platform, context.instance, partitions)

    return stale_dates
