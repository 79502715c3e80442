"""Rows 2 and 3 for the supervised service: a worker that dies, hangs or wakes up as a zombie costs nothing but seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from iot_platform.ingest import drain, holder
from iot_platform.ingest.position import QUARANTINE, READINGS, read_position
from iot_platform.ingest.progress import read_progress
from iot_platform.ingest.standing import standing
from iot_platform.ingest.supervision import read_supervision
from iot_platform.lake import Lake
from iot_platform.local.process import wait_until
from iot_platform_tests.faults.ingest_process import PATIENCE_SECONDS, IngestProcess, ingesting, landed_offsets
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer
from iot_platform_tests.faults.service import family, freeze, kill, lands, recovery, wake
from iot_platform_tests.faults.test_zombie import grow_stale
from iot_platform_tests.faults.watcher import Watcher

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration
STUCK_SECONDS = 10.0


@pytest.mark.parametrize("zombie", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_worker_that_dies_hangs_or_wakes_up_as_a_zombie_is_replaced_and_nothing_is_lost(
    deployment: Settings, spark: SparkSession, *, seed: int, again: str, fault_record: FaultRecord, zombie: bool
) -> None:
    settings = deployment.model_copy(update={"stuck_seconds": STUCK_SECONDS})
    producer = Producer(settings, seed, rate=200)
    with (
        ingesting(settings, "--continuous") as service, Watcher(settings).running(), producer.running(),
    ):  # fmt: skip
        killed = recovery(settings, service, kill)
        hung = recovery(settings, service, freeze)
        said = read_supervision(settings)
        assert said and said.restarts >= 2 and "stuck: records wait" in said.last_reason, service.said
        assert standing(settings).state == "running"
        if zombie:
            the_whole_service_wakes_up_after_another_took_over(settings, spark, service)
        service.terminate()
        assert service.wait() == 0, service.said
    assert holder(settings) is None
    drain(settings, spark)
    verdict = judge(settings, producer)
    fault_record(
        fault=f"3 supervised worker killed, hung{', zombie' if zombie else ''}", injections=2 + zombie, seed=seed,
        recovery_seconds=max(killed, hung - STUCK_SECONDS), **verdict.counts,
    )  # fmt: skip
    print(f"recovery: killed {killed:.1f} s, hung {hung:.1f} s ({STUCK_SECONDS:g} s of them until it counts as stuck)")
    verdict.assert_exact(again)


def the_whole_service_wakes_up_after_another_took_over(
    settings: Settings, spark: SparkSession, service: IngestProcess
) -> None:
    """As on a machine that was suspended: supervisor, worker and JVM stop and go on together."""
    worker = lands(settings, service).pid
    frozen = family(service.process.pid)
    freeze(service.process.pid)
    grow_stale(settings)
    generation = read_position(Lake(settings)).generation
    drain(settings, spark)
    assert read_position(Lake(settings)).generation == generation + 1
    wake(frozen)
    lands(settings, service, not_by=worker)
    assert service.said.count("another process took over ingestion") <= 1


def test_a_stop_in_the_middle_of_a_batch_finishes_it(deployment: Settings, tmp_path: Path, seed: int, again: str) -> None:
    gate = tmp_path / "gate"
    producer = Producer(deployment, seed, rate=0)
    producer.send(300)
    producer.finish()
    with ingesting(deployment, "--continuous", failpoint=f"ingest.after_readings=hold:{gate}") as service:
        assert wait_until(gate.with_name("gate.reached").exists, PATIENCE_SECONDS), service.said
        running = read_progress(deployment)
        assert running and running.state == "ingesting" and running.batch_running_since
        service.terminate()
        began = time.monotonic()
        assert not wait_until(lambda: service.process.poll() is not None, 1.5), "it waits for the batch"
        gate.touch()
        assert service.wait() == 0, service.said
        assert time.monotonic() - began < PATIENCE_SECONDS
    ends = {name: table.ends for name, table in read_position(Lake(deployment)).tables.items()}
    assert ends[READINGS] == ends[QUARANTINE]
    assert landed_offsets(deployment) == len(producer.acknowledged) == 300
    judge(deployment, producer).assert_exact(again)
    stopped = read_progress(deployment)
    assert holder(deployment) is None and stopped and stopped.state == "stopped" and stopped.landed["messages"] == 300
    assert standing(deployment).state == "stopped"


def test_a_backlog_is_taken_in_batches_of_a_bounded_size(
    deployment: Settings, spark: SparkSession, seed: int, again: str
) -> None:
    settings = deployment.model_copy(update={"max_offsets_per_trigger": 500})
    producer = Producer(settings, seed, rate=0)
    producer.send(2_200)
    producer.finish()
    batches: list[int] = []
    result = drain(settings, spark, on_batch=lambda batch: batches.append(batch.messages))
    assert result.messages == sum(batches) == 2_200
    assert len(batches) >= 5 and max(batches) <= 500 + len(settings.topics_file.read_text().splitlines())
    judge(settings, producer).assert_exact(again)
