"""Five minutes of trouble: a supervised ingest under full load whose worker is killed every half minute, but for the last
minute, which is for its memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import duckdb
import psutil
import pyarrow as pa
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
SECONDS, RATE, KILL_EVERY, CALM_SECONDS = 300, 5_000, 30.0, 60.0
KILLS = 7  # at the least: one every 30 s of 240 s, less one for slow recoveries
WITNESS_RATE = 50  # messages a second of a producer that keeps the list of what was acknowledged
BUSY_PERCENT = 30.0  # of all cores, before anything is sent: others use the machine too
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
    """Samples what a service and all that it started hold, by worker from its first batch on, every 2 s, in bytes."""

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
    def peaks(self) -> tuple[float, float]:
        """MiB that the first and the last worker held at the most, of those that lived long enough to be compared."""
        peaks = [max(samples) / MEBIBYTE for samples in self.workers.values() if len(samples) >= 3]
        return peaks[0], peaks[-1]

    @property
    def of_the_last(self) -> tuple[float, float]:
        """MiB that the last worker held: median of its second third, when it is warm, and of its last third."""
        samples = [size / MEBIBYTE for size in [*self.workers.values()][-1]]
        third = len(samples) // 3
        assert third >= 5, f"the last worker lived for {2 * len(samples)} s only"
        return median(samples[third:-third]), median(samples[-third:])


@pytest.mark.timeout(1500)
def test_five_minutes_of_full_load_and_a_kill_every_half_minute_end_balanced_with_flat_memory(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord
) -> None:
    is_idle = psutil.cpu_percent(interval=2.0) < BUSY_PERCENT  # else the rate is the machine's, and tells nothing
    recoveries: list[float] = []
    witness = Producer(deployment, seed, WITNESS_RATE)
    witness.send(100)
    witness.finish()
    with ingesting(deployment, "--continuous") as service, Memory(deployment, service).watched() as memory:
        lands(deployment, service)  # a start of Spark is no part of the five minutes
        with simulating(deployment) as simulator, witness.running():
            began = time.monotonic()
            for due in range(1, int((SECONDS - CALM_SECONDS) / KILL_EVERY) + 1):
                lands(deployment, service)
                at = began + due * KILL_EVERY
                assert wait_until(lambda at=at: time.monotonic() >= at, 2 * KILL_EVERY, 0.1)
                if time.monotonic() < began + SECONDS - CALM_SECONDS + KILL_EVERY / 2:
                    recoveries.append(recovery(deployment, service, kill))
            assert wait_until(lambda: simulator.poll() is not None, PATIENCE_SECONDS + SECONDS, 0.2)
            sending = time.monotonic() - began
        told = json.loads(simulator.communicate()[0])
        ends = end_offsets(deployment)
        sent = sum(sum(of.values()) for of in ends.values())
        assert wait_until(lambda: landed_offsets(deployment) >= sent, PATIENCE_SECONDS, 1.0), service.said
        caught_up = time.monotonic() - began - sending
        said, stands = read_supervision(deployment), standing(deployment)
        service.terminate()
        assert service.wait() == 0, service.said
    drain(deployment, spark)
    before, after = memory.peaks
    warm, late = memory.of_the_last
    supervisor = [size / MEBIBYTE for size in memory.supervisor]
    delivered = told["messages_delivered"]
    beside = "" if is_idle else ", and others run"
    print(
        f"{delivered:,} messages in {sending:.0f} s ({delivered / sending:,.0f} a second{beside}),"
        f" {len(recoveries)} kills, recovery {median(recoveries):.1f} s (longest {max(recoveries):.1f}), caught up after "
        f"{caught_up:.1f} s; ingest {before:,.0f} MiB at its first worker's peak, {after:,.0f} at its last one's, which "
        f"held {warm:,.0f} warm and {late:,.0f} in the end; supervisor {supervisor[0]:,.0f} and {supervisor[-1]:,.0f} MiB; "
        f"it stood: {stands.said}"
    )
    ledger = offset_ledger(Lake(deployment))
    landed, duplicated = counted(deployment, ends)
    missing = missing_rows(deployment, witness)
    fault_record(
        fault="2 soak, killed every 30 s", injections=len(recoveries), messages=sent, lost=sent - landed + missing,
        duplicated=duplicated, recovery_seconds=max(recoveries),
    )  # fmt: skip
    assert sent == delivered + len(witness.acknowledged) and not witness.unanswered
    assert ledger.is_balanced and (sent - landed, missing, duplicated) == (0, 0, 0)
    assert said and said.restarts == len(recoveries)
    # Among others a recovery alone takes longer than half a minute.
    assert len(recoveries) >= (KILLS if is_idle else 3)
    assert not is_idle or delivered >= 0.9 * RATE * SECONDS
    # One worker against itself: those that are killed while they warm up hold less than one that lives.
    assert late <= warm * 1.2 and supervisor[-1] <= supervisor[0] * 1.2 + 20


def counted(settings: Settings, ends: Mapping[str, Mapping[int, int]]) -> tuple[int, int]:
    """By the rows of both Bronze tables: how many of the offsets from 0 to the broker's ends are there; how many rows stand
    there twice, and messages that stand in both."""
    lake = Lake(settings)
    places = "topic, kafka_partition, kafka_offset"
    known = [(topic, partition, end) for topic, of in ends.items() for partition, end in of.items()]
    with duckdb.connect() as connection:
        connection.execute("create table ends (topic varchar, kafka_partition int, until bigint)")
        connection.executemany("insert into ends values (?, ?, ?)", known)
        readings, quarantine = (f"read_parquet({lake.snapshot(table).files(None)})" for table in (READINGS, QUARANTINE))
        asked = f"""
            select (select count(*) from (select {places} from {readings} union select {places} from {quarantine})
                    join ends using (topic, kafka_partition) where kafka_offset < until),
                   (select count(*) - count(distinct ({places}, metric)) from {readings})
                 + (select count(*) - count(distinct ({places})) from {quarantine})
                 + (select count(*) from (select {places} from {readings} intersect select {places} from {quarantine}))
        """
        row = connection.execute(asked).fetchone()
    assert row
    return int(row[0]), int(row[1])


def missing_rows(settings: Settings, producer: Producer) -> int:
    """Of all that the broker acknowledged to this producer: rows that are not at their place, with their id."""
    lake = Lake(settings)
    names = ["kind", "topic", "kafka_partition", "kafka_offset", "id", "metric"]
    rows = [
        dict(zip(names, (table, *place, sent.id, metric), strict=True))
        for place, sent in producer.acknowledged.items() for table, metric in sent.rows
    ]  # fmt: skip
    with duckdb.connect() as connection:
        connection.register("wanted", pa.Table.from_pylist(rows))
        readings, quarantine = (f"read_parquet({lake.snapshot(table).files(None)})" for table in (READINGS, QUARANTINE))
        asked = f"""
            select count(*) from wanted
            anti join (
                select '{READINGS}' as kind, topic, kafka_partition, kafka_offset, metric,
                       case contract when 'device_event' then event_id else device_id end as id
                from {readings}
                union all
                select '{QUARANTINE}', topic, kafka_partition, kafka_offset, '',
                       split_part(decode(value, 'replace'), ' ', -1)
                from {quarantine}
            ) as found using (kind, topic, kafka_partition, kafka_offset, metric, id)
        """
        row = connection.execute(asked).fetchone()
    assert row
    return int(row[0])


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
