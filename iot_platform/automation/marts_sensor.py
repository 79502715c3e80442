"""The marts sensor: asks for a dbt build when Gold is ahead of what the published file was made from."""

import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import dagster as dg

from iot_platform.assets.marts import POOL
from iot_platform.assets.platform import Platform
from iot_platform.automation import runs
from iot_platform.contracts.tables import TABLES
from iot_platform.lake.lake import Lake

INTERVAL_SECONDS = 15
FAIL = "fail"  # dbt's word for a test that found rows; one that could not be run is an "error"
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


def decide(lake: Levels, published: Levels, instance: dg.DagsterInstance, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """Ask for a build when a date of Gold or the registry moved. The same state is tried for ever, with growing pauses,
    but not after a test found it wrong: it would again."""
    # Both ways: what the lake no longer knows has to leave the marts too.
    moved = {one: level for one, level in lake.items() if level > published.get(one, 0)}
    moved |= dict.fromkeys(published.keys() - lake.keys(), 0)
    if not moved:
        return dg.SkipReason("the marts have everything that is in Gold")
    if any(run.tags.get(runs.REQUEST_TAG, "").startswith(POOL) for run in runs.unfinished(instance)):
        return dg.SkipReason("a build of the marts is under way")
    identity = f"{POOL}/{hashlib.sha256(repr(sorted(map(repr, moved.items()))).encode()).hexdigest()[:20]}"
    tried = runs.attempts(instance, identity)
    if tried.last_run and (wrong := failed_tests(instance, tried.last_run)):
        return dg.SkipReason(f"the marts failed their tests ({', '.join(wrong)}); they are built again when Gold moves")
    if wait := tried.wait(now):
        return dg.SkipReason(f"the marts are tried again in {wait.total_seconds():.0f} s")
    return dg.RunRequest(run_key=f"{identity}/{tried.count + 1}", tags=runs.tags(identity))


def failed_tests(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """The tests that found wrong data in a build; one that could not be run, for want of disk, say, is not among them."""
    broken = runs.broken_checks(instance, run_id)
    return [check.check_name for check in broken if (status := check.metadata.get("status")) and status.value == FAIL]


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
        return found.with_replaced_attrs(asset_selection=list(marts.keys)) if isinstance(found, dg.RunRequest) else found

    return gold_ahead
