"""From real Kafka to Gold by Dagster: a topic ahead asks for a drain, dates are reported, a backfill changes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from iot_platform.assets.platform import Platform
from iot_platform.automation import level_sensor, runs, streaming_sensor
from iot_platform.automation.observation import observation_sensor
from iot_platform.automation.partitions import daily
from iot_platform.automation.run import persistent_instance, run_assets
from iot_platform.definitions import build_defs
from iot_platform.lake.ledger import date_ledger, offset_ledger
from iot_platform.lake.levels import daily_transforms
from iot_platform.topics import create_topics
from iot_platform_tests.integration.stream import Stream

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform_tests.conftest import Broker, MakeSettings

pytestmark = [pytest.mark.integration, pytest.mark.untraced]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST, SECOND = (TODAY - timedelta(days=3)), (TODAY - timedelta(days=2))
DAILY = [transform.table for transform in daily_transforms()]


@pytest.fixture
def stream(kafka: Broker, make_settings: MakeSettings, topics_file: Path, dbt_manifest: Path) -> Stream:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(settings)
    settings.marts.parent.mkdir(parents=True)
    shutil.copy(dbt_manifest, settings.marts.with_name(dbt_manifest.name))  # parsed once for all tests
    return Stream(settings)


def messages(day: datetime, count: int, device: str = "hall-1") -> list[bytes]:
    return [
        b'{"sensor_id": "%s", "sensor_type": "temperature", "value": %d, "timestamp": "%s"}'
        % (device.encode(), 20 + n % 3, (day + timedelta(minutes=5 * n)).isoformat().encode())
        for n in range(count)
    ]


def content(stream: Stream, table: str) -> pl.DataFrame:
    """A table's rows, sorted, without what says only when it was made."""
    rows = pl.read_delta(stream.lake.path(table)).drop("processed_at")
    return rows.sort([name for name, kind in rows.schema.items() if not isinstance(kind, pl.List)])


def evaluate(sensor: dg.SensorDefinition, platform: Platform, instance: dg.DagsterInstance) -> Any:
    return sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))


def test_from_a_topic_to_gold_and_again_by_a_backfill(stream: Stream, spark: SparkSession, dbt_manifest: Path) -> None:
    settings = stream.settings
    platform, definitions = Platform(settings), build_defs(settings, manifest=dbt_manifest)
    stream.send([*messages(FIRST, 60), *messages(SECOND, 40)])
    stream.send([b"{", *messages(SECOND, 10)])  # one is broken, ten were sent before
    with persistent_instance(settings) as instance:
        (request,) = evaluate(streaming_sensor.streaming_sensor(), platform, instance).run_requests
        assert request.partition_key == datetime.now(UTC).date().isoformat()
        observed = evaluate(observation_sensor(), platform, instance)
        told = [event for event in observed.asset_events if isinstance(event, dg.AssetObservation)]
        assert {str(event.metadata["lag"].value) for event in told} == {"0", "111"}

    # What the request makes, in this process: a drain reports the dates that it touched, its own or not.
    today = datetime.now(UTC).date()
    drained = run_assets(settings, today, today, ["bronze", "registry"], definitions=definitions)
    assert drained.is_success, drained.errors
    made = {(made.asset, made.day): made.rows for made in drained.made}
    assert made["bronze/readings", FIRST.date()] == 60 and made["bronze/readings", SECOND.date()] == 50
    assert made["bronze/quarantine", today] == 1 and made["registry/devices", None] == 1
    checked = {(check.asset, check.day): check.passed for check in drained.checks if check.check == "contract"}
    assert checked["bronze/readings", FIRST.date()] and checked["bronze/quarantine", today]
    assert all(checked.values())

    with persistent_instance(settings) as instance:
        looked = evaluate(streaming_sensor.streaming_sensor(), platform, instance)
        assert not looked.run_requests and not looked.asset_events, "the drain reported its dates itself"
        asked = level_sensor.evaluate(platform, instance, daily(settings)).run_requests or ()
        ranges = {(r.tags[runs.RANGE_START], r.tags[runs.RANGE_END]) for r in asked}
        assert ranges == {(FIRST.date().isoformat(), SECOND.date().isoformat())}
    run = run_assets(settings, FIRST.date(), SECOND.date(), ["silver", "gold"], force=False, definitions=definitions)
    assert run.is_success, run.errors
    assert [(line.bronze, line.silver, dict(line.rejected)) for line in date_ledger(stream.lake)] == [
        (60, 60, {}), (50, 40, {"duplicate": 10}),
    ]  # fmt: skip
    assert all(line.is_balanced for line in date_ledger(stream.lake)) and offset_ledger(stream.lake).is_balanced

    # A backfill as anybody launches it makes the same dates again, in one run, and every table is as it was.
    before = {table: content(stream, table) for table in DAILY}
    versions = {table: stream.version(table) for table in DAILY}
    with persistent_instance(settings) as instance:
        count = instance.get_runs_count()
    backfill(stream, f"{FIRST.date()}...{SECOND.date()}")
    with persistent_instance(settings) as instance:
        assert instance.get_runs_count() == count + 1
        (latest,) = instance.get_runs(limit=1)
        assert latest.status == dg.DagsterRunStatus.SUCCESS and runs.RANGE_START in latest.tags
        keys = [dg.AssetCheckKey(dg.AssetKey(["silver", "readings"]), "conservation")]
        found = instance.event_log_storage.get_asset_check_partition_info(keys)
        assert {info.partition_key: info.latest_planned_run_id for info in found} == dict.fromkeys(
            (FIRST.date().isoformat(), SECOND.date().isoformat()), latest.run_id
        )
    for table in DAILY:
        assert stream.version(table) > versions[table], f"{table} was not made again"
        assert content(stream, table).equals(before[table]), table


def backfill(stream: Stream, dates: str) -> None:
    settings = stream.settings
    environment = settings.environment() | {"DAGSTER_HOME": str(settings.home / "dagster")}
    program = Path(sys.executable).with_name("dagster")
    finished = subprocess.run(
        [program, "asset", "materialize", "-m", "iot_platform.definitions", "--select", "group:silver or group:gold",
         "--partition-range", dates],
        env=environment, capture_output=True, text=True, check=False, timeout=240,
        cwd=settings.home,  # not the clone's root: Dagster takes its .env over what the environment says
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
