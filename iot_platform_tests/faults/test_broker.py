"""Row 4: the broker is killed under load and comes back; producer and ingestion go on by themselves."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from iot_platform.ingest import drain
from iot_platform.local.kafka import running_kafka
from iot_platform.local.process import wait_until
from iot_platform.topics import create_topics
from iot_platform_tests.faults.ingest_process import PATIENCE_SECONDS, IngestProcess, ingesting, landed_offsets
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer
from iot_platform_tests.faults.watcher import Watcher

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.conftest import MakeSettings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration
LONGEST_AWAY_SECONDS = 3.0


@dataclass
class OwnBroker:
    """A broker of this test alone, always at the same address; ``settings`` are those of a deployment on it."""

    local: Settings
    _stack: ExitStack = field(default_factory=ExitStack)
    _pid: int = 0
    _address: str = ""

    @property
    def settings(self) -> Settings:
        return self.local.model_copy(update={"kafka_bootstrap": self._address})

    def start(self) -> None:
        service = self._stack.enter_context(running_kafka(self.local))
        assert service.bootstrap == (self._address or service.bootstrap)
        self._pid, self._address = service.pid, service.bootstrap

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def broker(make_settings: MakeSettings, few_partitions: Path) -> Iterator[OwnBroker]:
    with closing(OwnBroker(make_settings(topics_file=few_partitions, spark_master="local[2]"))) as broker:
        broker.start()
        create_topics(broker.settings)
        yield broker


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_a_broker_killed_under_load_costs_nothing_and_nobody_has_to_help(
    broker: OwnBroker, spark: SparkSession, seed: int, again: str, fault_record: FaultRecord, *, kills: int
) -> None:
    rng = random.Random(seed)
    settings = broker.settings
    producer = Producer(settings, seed, rate=200)
    recoveries: list[float] = []
    with ingesting(settings, "--continuous") as process, Watcher(settings).running(), producer.running():
        catches_up(settings, producer, process)
        for _ in range(kills):
            broker.kill()
            time.sleep(rng.uniform(0, LONGEST_AWAY_SECONDS))  # how long it is away is part of the fault
            began = time.monotonic()
            broker.start()
            catches_up(settings, producer, process)
            recoveries.append(time.monotonic() - began)
        process.terminate()
        assert process.wait() == 0, process.said
    drain(settings, spark)
    verdict = judge(settings, producer)
    fault_record(
        fault="4 broker killed under load", injections=kills, recovery_seconds=max(recoveries), seed=seed, **verdict.counts
    )
    verdict.assert_exact(again)
    assert not producer.failures


def catches_up(settings: Settings, producer: Producer, process: IngestProcess) -> None:
    """New messages are acknowledged, and all that is acknowledged by then is landed."""
    acknowledged = len(producer.acknowledged) + 200
    producer.wait_for(acknowledged)
    assert wait_until(lambda: landed_offsets(settings) >= acknowledged, PATIENCE_SECONDS, 0.2), process.said
