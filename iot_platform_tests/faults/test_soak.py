"""An hour of trouble in five minutes: a supervised ingest under full load whose worker is killed every half minute."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import duckdb
import pytest

from iot_platform.ingest import drain, end_offsets
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.ingest.progress import read_progress, resident_bytes
from iot_platform.ingest.standing import standing
from iot_platform.ingest.supervision import read_supervision
from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.local.process import wait_until
from iot_platform_tests.faults.ingest_process import PATIENCE_SECONDS, IngestProcess, ingesting, landed_offsets
from iot_platform_tests.faults.producer import Producer
from iot_platform_tests.faults.service import kill, lands, recovery

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = [pytest.mark.integration, pytest.mark.long]
SECONDS, RATE, KILL_EVERY = 300, 5_000, 30.0
MEBIBYTE = 1 << 20


@contextmanager
def simulating(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The live simulator in a process of its own; its JSON comes on stdout when it ends."""
    words = ["simulate", "--rate", str(RATE), "--duration", str(SECONDS), "--devices", "20", "--cadence", "5", "--json"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("iot"), *words], env=settings.environment(), stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


class Memory:
    """Samples what a service and all that it started hold, by worker: (seconds since that worker's first batch, bytes)."""

    def __init__(self, settings: Settings, service: IngestProcess) -> None:
        self.settings, self.service = settings, service
        self.workers: dict[int, list[int]] = {}
        self.supervisor: list[int] = []

    def look(self) -> None:
        progress = read_progress(self.settings)
        own = resident_bytes(self.service.process.pid)
        if progress and progress.last_batch_at and (held := resident_bytes(progress.pid)):
            self.workers.setdefault(progress.pid, []).append(held)
            self.supervisor.append(own - held)

    @contextmanager
    def watched(self) -> Iterator[Memory]:
        done = threading.Event()

        def go() -> None:
            while not done.wait(2.0):
                self.look()

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    @property
    def before_and_after(self) -> tuple[float, float]:
        """MiB that the first and the last worker held at the most, of those that lived long enough to be compared."""
        grown = [max(samples) / MEBIBYTE for samples in self.workers.values() if len(samples) >= 3]
        return grown[0], grown[-1]


@pytest.mark.timeout(1500)
def test_five_minutes_of_full_load_and_a_kill_every_half_minute_end_balanced_with_flat_memory(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord
) -> None:
    recoveries: list[float] = []
    first = Producer(deployment, seed, rate=0)
    first.send(100)
    first.finish()
    with ingesting(deployment, "--continuous") as service, Memory(deployment, service).watched() as memory:
        lands(deployment, service)  # a start of Spark is no part of the five minutes
        with simulating(deployment) as simulator:
            began = time.monotonic()
            while simulator.poll() is None:
                lands(deployment, service)
                next_kill = time.monotonic() + KILL_EVERY
                wait_until(lambda at=next_kill: time.monotonic() >= at or simulator.poll() is not None, KILL_EVERY + 1, 0.5)
                if simulator.poll() is None:
                    recoveries.append(recovery(deployment, service, kill))
            sending = time.monotonic() - began
        told = json.loads(simulator.communicate()[0])
        ends = sum(sum(of.values()) for of in end_offsets(deployment).values())
        assert wait_until(lambda: landed_offsets(deployment) >= ends, PATIENCE_SECONDS, 1.0), service.said
        caught_up = time.monotonic() - began - sending
        said, stands = read_supervision(deployment), standing(deployment)
        service.terminate()
        assert service.wait() == 0, service.said
    drain(deployment, spark)
    before, after = memory.before_and_after
    supervisor = [size / MEBIBYTE for size in memory.supervisor]
    print(
        f"{told['messages_delivered']:,} messages in {sending:.0f} s ({told['messages_delivered'] / sending:,.0f} a second),"
        f" {len(recoveries)} kills, recovery {median(recoveries):.1f} s (longest {max(recoveries):.1f}), caught up after "
        f"{caught_up:.1f} s; ingest {before:,.0f} MiB before, {after:,.0f} after; supervisor {supervisor[0]:,.0f} and "
        f"{supervisor[-1]:,.0f} MiB; it stood: {stands.said}"
    )
    ledger = offset_ledger(Lake(deployment))
    messages, duplicated = counted(deployment)
    lost = told["messages_delivered"] + len(first.acknowledged) - messages
    fault_record(
        fault="2 soak, killed every 30 s", injections=len(recoveries), messages=told["messages_delivered"], lost=lost,
        duplicated=duplicated, recovery_seconds=max(recoveries),
    )  # fmt: skip
    assert ledger.is_balanced and (lost, duplicated) == (0, 0)
    assert said and said.restarts == len(recoveries) and len(recoveries) >= 3
    assert after <= before * 1.2 and supervisor[-1] <= supervisor[0] * 1.2 + 20


def counted(settings: Settings) -> tuple[int, int]:
    """By the rows of both Bronze tables: how many messages are there; how many rows stand there twice, and messages that
    stand in both."""
    lake = Lake(settings)
    places = "topic, kafka_partition, kafka_offset"
    with duckdb.connect() as connection:
        readings, quarantine = (f"read_parquet({lake.snapshot(table).files(None)})" for table in (READINGS, QUARANTINE))
        asked = f"""
            select (select count(*) from (select {places} from {readings} union select {places} from {quarantine})),
                   (select count(*) - count(distinct ({places}, metric)) from {readings})
                 + (select count(*) - count(distinct ({places})) from {quarantine})
                 + (select count(*) from (select {places} from {readings} intersect select {places} from {quarantine}))
        """
        row = connection.execute(asked).fetchone()
    assert row
    return int(row[0]), int(row[1])


@pytest.mark.timeout(900)
def test_memory_stays_flat_while_a_backlog_is_taken_batch_by_batch(deployment: Settings, seed: int) -> None:
    settings = deployment.model_copy(update={"max_offsets_per_trigger": 20_000, "spark_memory": "512m"})
    producer = Producer(settings, seed, rate=0)
    for _ in range(40):
        producer.send(10_000)
        producer.finish()
    held: list[float] = []
    with ingesting(settings) as process:
        while process.process.poll() is None:
            progress = read_progress(settings)
            if progress and progress.landed and (size := resident_bytes(process.process.pid)):
                held.append(size / MEBIBYTE)
            time.sleep(0.5)
        assert process.wait() == 0, process.said
    third = len(held) // 3
    early, late = median(held[:third]), median(held[-third:])
    print(f"{landed_offsets(settings):,} messages in batches of 20,000: {early:,.0f} MiB early, {late:,.0f} MiB late")
    progress = read_progress(settings)
    assert progress and progress.landed["batches"] >= 20
    assert late <= early * 1.2
