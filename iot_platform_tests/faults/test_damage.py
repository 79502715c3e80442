"""Row 6: torn files and lost checkpoints. Nothing wrong is ever served: either it heals, or one line says what is broken."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iot_platform.errors import LakeError, PlatformError
from iot_platform.ingest import drain
from iot_platform.ingest.position import QUARANTINE, READINGS, read_position
from iot_platform.lake import Lake
from iot_platform.lake.query import select
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer
from iot_platform_tests.faults.watcher import Watcher

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration


def newest(settings: Settings) -> Path:
    """The folder of the newest generation's checkpoint."""
    folders = (settings.checkpoints / "bronze").glob("g*")
    return max((folder for folder in folders if folder.name[1:].isdigit()), key=lambda folder: int(folder.name[1:]))


def remove_metadata(settings: Settings) -> None:
    (newest(settings) / "metadata").unlink()


def tear_newest_plan(settings: Settings) -> None:
    plan = max((newest(settings) / "offsets").iterdir(), key=lambda file: int(file.name) if file.name.isdigit() else -1)
    plan.write_bytes(plan.read_bytes()[:30])


def lose_plans(settings: Settings) -> None:
    shutil.rmtree(newest(settings) / "offsets")


def lose_sources(settings: Settings) -> None:
    shutil.rmtree(newest(settings) / "sources")


def lose_all(settings: Settings) -> None:
    shutil.rmtree(settings.checkpoints)


CHECKPOINT_DAMAGES = (remove_metadata, tear_newest_plan, lose_plans, lose_sources, lose_all)


def test_a_damaged_or_lost_checkpoint_heals_by_itself(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord, arm: Callable[[str], None]
) -> None:
    """One damage after the other, each after an ingest that died with half a batch landed."""
    producer = Producer(deployment, seed, rate=0)
    with Watcher(deployment).running():
        for damage in CHECKPOINT_DAMAGES:
            send(producer)
            arm("ingest.after_readings=full")
            with pytest.raises(PlatformError):
                drain(deployment, spark)
            damage(deployment)
        send(producer)
        arm("")
        began = time.monotonic()
        drain(deployment, spark)
        seconds = time.monotonic() - began
    verdict = judge(deployment, producer)
    fault_record(
        fault="6 checkpoint damaged or lost", injections=len(CHECKPOINT_DAMAGES), recovery_seconds=seconds, seed=seed,
        **verdict.counts,
    )  # fmt: skip
    verdict.assert_exact()
    # Each began a new generation, but for lost sources: Spark writes those again, and they say the same.
    assert read_position(Lake(deployment)).generation == len(CHECKPOINT_DAMAGES)


def test_a_torn_data_file_is_named_and_none_of_its_table_is_served(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord
) -> None:
    producer = Producer(deployment, seed, rate=0)
    send(producer)
    drain(deployment, spark)
    (path, *_) = Lake(deployment).snapshot(READINGS).files()
    file = Path(path.removeprefix("file://"))
    whole = file.read_bytes()
    for torn in (whole[: len(whole) // 2], b""):
        file.write_bytes(torn)
        with pytest.raises(LakeError, match=file.name):
            select(Lake(deployment), "select count(*), sum(value) from bronze_readings")
        send(producer)
        drain(deployment, spark)  # what comes meanwhile is landed all the same
    file.write_bytes(whole)
    verdict = judge(deployment, producer)
    fault_record(fault="6 torn data file, restored", injections=2, seed=seed, **verdict.counts)
    verdict.assert_exact()


@pytest.mark.parametrize("table", [READINGS, QUARANTINE])
def test_a_torn_commit_stops_readers_and_ingestion_until_it_is_taken_away_then_heals(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord, table: str
) -> None:
    producer = Producer(deployment, seed, rate=0)
    for _ in range(2):
        send(producer)
        drain(deployment, spark)
    log = Path(Lake(deployment).path(table)) / "_delta_log"
    commit = max(log.glob("*.json"))
    commit.write_bytes(commit.read_bytes()[:-40])
    send(producer)
    view = table.replace("/", "_")
    with pytest.raises(LakeError, match=table):
        select(Lake(deployment), f"select count(*) from {view}")
    with pytest.raises(LakeError, match=table):
        drain(deployment, spark)
    commit.unlink()
    began = time.monotonic()
    drain(deployment, spark)
    seconds = time.monotonic() - began
    verdict = judge(deployment, producer)
    fault_record(
        fault=f"6 torn commit of {table}, taken away", injections=1, recovery_seconds=seconds, seed=seed, **verdict.counts
    )
    verdict.assert_exact()


def send(producer: Producer) -> None:
    producer.send(100)
    producer.finish()
