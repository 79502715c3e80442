"""The marts sensor: asks for a dbt build of the dates on which Gold is ahead of what the published file was made from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg

from iot_platform.assets.derived import LEVEL_TAG
from iot_platform.assets.marts import POOL
from iot_platform.assets.platform import Platform
from iot_platform.automation import runs
from iot_platform.automation.priorities import MARTS, priority_tag
from iot_platform.contracts.tables import TABLES
from iot_platform.lake.lake import Lake

INTERVAL_SECONDS = 15
FAIL = "fail"  # dbt's word for a test that found rows; one that could not be run is an "error"
LONGEST_RANGE = timedelta(days=62)  # of one run: each of its dates is an event of each table
Input = tuple[str, date | None]  # a view and its date; None: it is not partitioned
Levels = Mapping[Input, int]


def lake_levels(lake: Lake) -> dict[Input, int]:
    """The level of every input that the dbt project stages: by date, also those that lost all their rows."""
    from iot_platform.marts.sources import recorded_levels

    return {
        (TABLES[table].view, day): level
        for table in _staged()
        for day, level in recorded_levels(lake.snapshot(table)).items()
    }


def _staged() -> list[str]:
    from iot_platform.marts.sources import SOURCES
    from iot_platform.marts.staging import EPHEMERAL

    # A build checks its own marts, so that the history of checks moves with each build: it comes along, and asks for none.
    return [table for table in SOURCES if table not in EPHEMERAL and TABLES[table].layer != "ops"]


def published_levels(published: Path) -> dict[Input, int]:
    """What the published file says its staged inputs were made from; nothing when there is none."""
    import duckdb

    if not published.exists():
        return {}
    with duckdb.connect(str(published), read_only=True) as connection:
        rows = connection.execute("select input, event_date, min(level) from _input_levels group by all").fetchall()
        if connection.execute("from duckdb_tables() where table_name = '_whole_levels'").fetchall():
            rows += connection.execute("select input, null, min(level) from _whole_levels group by all").fetchall()
    staged = {TABLES[table].view for table in _staged()}
    return {(view, day): int(level) for view, day, level in rows if view in staged}


@dataclass(frozen=True)
class Moved:
    """What moved: some dates (``first`` … ``last``, all of the run's), or only tables without dates."""

    inputs: Levels
    days: tuple[date, date] | None

    @property
    def identity(self) -> str:
        return f"{POOL}/{hashlib.sha256(repr(sorted(map(repr, self.inputs.items()))).encode()).hexdigest()[:20]}"


def moved(lake: Levels, published: Levels) -> Moved | None:
    """The newest dates that moved and, as far as a run reaches, those before them; the next look asks for the rest.

    Dates in between that did not move are within the range and are not made again. None when nothing moved.
    """
    # Both ways: what the lake no longer knows has to leave the marts too.
    inputs = {one: level for one, level in lake.items() if level > published.get(one, 0)}
    inputs |= dict.fromkeys(published.keys() - lake.keys(), 0)
    days = sorted({day for _, day in inputs if day})
    if not days:
        return Moved(inputs, None) if inputs else None
    within = [day for day in days if day > days[-1] - LONGEST_RANGE]
    return Moved(inputs, (within[0], within[-1]))


def decide(lake: Levels, published: Levels, instance: dg.DagsterInstance, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """Ask for a build of the dates that moved. The same state is tried for ever, with growing pauses, but not after a test
    found it wrong: it would again. Which assets: see ``chosen``."""
    found = moved(lake, published)
    if not found:
        return dg.SkipReason("the marts have everything that is in Gold")
    if any(run.tags.get(runs.REQUEST_TAG, "").startswith(POOL) for run in runs.unfinished(instance)):
        return dg.SkipReason("a build of the marts is under way")
    tried = runs.attempts(instance, found.identity)
    if tried.last_run and (wrong := failed_tests(instance, tried.last_run)):
        return dg.SkipReason(f"the marts failed their tests ({', '.join(wrong)}); they are built again when Gold moves")
    if wait := tried.wait(now):
        return dg.SkipReason(f"the marts are tried again in {wait.total_seconds():.0f} s")
    tags = {LEVEL_TAG: found.identity, **priority_tag(MARTS), **runs.tags(found.identity)}
    if found.days:
        tags |= {runs.RANGE_START: found.days[0].isoformat(), runs.RANGE_END: found.days[1].isoformat()}
    return dg.RunRequest(run_key=f"{found.identity}/{tried.count + 1}", tags=tags)


def chosen(marts: dg.AssetsDefinition, request: dg.RunRequest) -> list[dg.AssetKey]:
    """The assets of a request: all, or those without dates when no date moved."""
    if runs.RANGE_START in request.tags:
        return list(marts.keys)
    return [spec.key for spec in marts.specs if spec.partitions_def is None]


def failed_tests(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """The tests that found wrong data in a build; one that could not be run, for want of disk, say, is not among them."""
    broken = {check.check_name: check for check in runs.broken_checks(instance, run_id)}
    return [name for name, check in broken.items() if (status := check.metadata.get("status")) and status.value == FAIL]


def marts_sensor(marts: dg.AssetsDefinition) -> dg.SensorDefinition:
    """Asks for the marts after Gold moved."""

    @dg.sensor(
        name="gold_ahead",
        description="Asks for a build of the marts when Gold is ahead of what they were made from.",
        target=[marts],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def gold_ahead(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        found = decide(
            lake_levels(platform.lake), published_levels(platform.settings.marts), context.instance, platform.now()
        )
        # Named, although they are the sensor's target: a run without a selection is taken to make every asset.
        if isinstance(found, dg.SkipReason):
            return found
        return found.with_replaced_attrs(asset_selection=chosen(marts, found))

    return gold_ahead
