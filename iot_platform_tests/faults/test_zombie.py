"""Row 3: an ingest that was stopped in front of a commit, and wakes up after another took over, is shut out."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from iot_platform.errors import ServiceError
from iot_platform.ingest import drain
from iot_platform.ingest.position import QUARANTINE, READINGS, app_id, read_position
from iot_platform.ingest.transactions import FENCED, commit_once
from iot_platform.lake import Lake
from iot_platform_tests.faults.ingest_process import ingesting
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer
from iot_platform_tests.faults.watcher import Watcher

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration


def test_those_that_wake_up_after_another_took_over_commit_nothing_any_more(
    deployment: Settings, spark: SparkSession, seed: int, again: str, fault_record: FaultRecord
) -> None:
    """Two of them: one stopped before its first commit, its successor between its two commits."""
    producer = Producer(deployment, seed, rate=0)
    with Watcher(deployment).running():
        send(producer)
        with ingesting(deployment, failpoint="ingest.before_commits=stop") as first:
            first.wait_until_stopped()
            grow_stale(deployment)
            send(producer)
            with ingesting(deployment, failpoint="ingest.after_readings=stop") as second:
                second.wait_until_stopped()
                grow_stale(deployment)
                send(producer)
                began = time.monotonic()
                drain(deployment, spark)
                seconds = time.monotonic() - began
                before = judge(deployment, producer)
                for zombie in (first, second):
                    zombie.resume()
                    assert zombie.wait() == 1, zombie.said
                    assert zombie.said.count("another process took over ingestion") == 1
                    assert "Traceback" not in zombie.said
    spark_s_own_way_is_shut_too(deployment, spark)
    verdict = judge(deployment, producer)
    fault_record(fault="3 zombies that wake up", injections=2, recovery_seconds=seconds, seed=seed, **verdict.counts)
    before.assert_exact(again)
    verdict.assert_exact(again)
    position = read_position(Lake(deployment))
    assert [position.tables[READINGS].transactions[generation] for generation in (1, 2)] == [FENCED, FENCED]
    assert position.generation == 3


def send(producer: Producer) -> None:
    producer.send(200)
    producer.finish()


def grow_stale(settings: Settings) -> None:
    """Its last heartbeat is an hour old: the stopped one sends no other."""
    file = settings.home / "ingest" / "lease.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"beat_at": time.time() - 3600}))


def spark_s_own_way_is_shut_too(settings: Settings, spark: SparkSession) -> None:
    """A writer that looks at nothing, as Spark's: Delta itself skips what comes under a fenced generation."""
    lake = Lake(settings)
    for table in (READINGS, QUARANTINE):
        old = app_id(table, 1)
        with pytest.raises(ServiceError, match="took over"):
            commit_once(lake, table, old, 7)
        path = lake.path(table)
        (
            spark.read.format("delta").load(path)
            .write.format("delta").mode("append")
            .option("txnAppId", old).option("txnVersion", 7)
            .save(path)
        )  # fmt: skip
