"""Rows 1 and 2: ingestion killed (-9) between any two of its steps, or at any moment, loses nothing and doubles nothing."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from iot_platform.ingest import drain
from iot_platform.ingest.position import TABLES, read_position
from iot_platform.lake import Lake
from iot_platform.local.process import wait_until
from iot_platform_tests.faults.ingest_process import PATIENCE_SECONDS, IngestProcess, ingesting, landed_offsets
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer
from iot_platform_tests.faults.watcher import Watcher

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration
STEPS = ("ingest.before_files", "ingest.after_files", "ingest.after_readings", "ingest.after_quarantine")
LONGEST_BATCH_SECONDS = 3.0


def test_a_kill_between_any_two_steps_of_a_batch_loses_and_doubles_nothing(
    deployment: Settings, spark: SparkSession, seed: int, again: str, fault_record: FaultRecord
) -> None:
    producer = Producer(deployment, seed, rate=0)
    with Watcher(deployment).running():
        for step in STEPS:
            producer.send(300)
            producer.finish()
            with ingesting(deployment, failpoint=f"{step}=kill") as process:
                assert process.wait() == -9, process.said
        began = time.monotonic()
        drain(deployment, spark)
        seconds = time.monotonic() - began
    verdict = judge(deployment, producer)
    fault_record(
        fault="1 killed at a named step", injections=len(STEPS), recovery_seconds=seconds, seed=seed, **verdict.counts
    )
    verdict.assert_exact(again)
    position = read_position(Lake(deployment))
    assert {table: list(position.tables[table].transactions) for table in TABLES} == {table: [1] for table in TABLES}


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_kills_at_random_moments_while_messages_come_lose_and_double_nothing(
    deployment: Settings, spark: SparkSession, seed: int, again: str, fault_record: FaultRecord, *, kills: int
) -> None:
    """Every other time the whole service, by hand started again; else what ingests alone, which is started by itself."""
    rng = random.Random(seed)
    producer = Producer(deployment, seed, rate=200)
    recoveries: list[float] = []
    left = kills
    with Watcher(deployment).running(), producer.running():
        while left:
            began = time.monotonic()
            with ingesting(deployment, "--continuous") as process:
                for victim in ("worker", "service")[-left:]:
                    goes_on(deployment, process)
                    recoveries.append(time.monotonic() - began)
                    time.sleep(rng.uniform(0, LONGEST_BATCH_SECONDS))  # the moment of the kill is the fault
                    began = time.monotonic()
                    if victim == "worker":
                        process.kill_worker()
                    else:
                        process.kill()
                    left -= 1
    drain(deployment, spark)
    verdict = judge(deployment, producer)
    fault_record(
        fault="2 killed at random moments", injections=kills, recovery_seconds=max(recoveries), seed=seed, **verdict.counts
    )
    verdict.assert_exact(again)


def goes_on(settings: Settings, process: IngestProcess) -> None:
    """Wait until more is landed than now."""
    before = landed_offsets(settings)
    assert wait_until(lambda: landed_offsets(settings) > before, PATIENCE_SECONDS), process.said
