"""Row 4, the sending side: a broker goes away under load. Nothing acknowledged is lost, the rest waits on disk."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from iot_platform.cli.app import app
from iot_platform.contracts.timestamps import render
from iot_platform.errors import ServiceError
from iot_platform.ingest import drain
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform.simulator.options import FleetOptions, Live, SimulationOptions
from iot_platform.simulator.producer import Delivered, MessageProducer
from iot_platform.simulator.resend import resend
from iot_platform.simulator.simulation import simulate
from iot_platform.simulator.spool import Outgoing, waiting_files
from iot_platform.topics import create_topics, load_topics
from iot_platform_tests.contracts.messages import message
from iot_platform_tests.faults.test_broker import OwnBroker
from iot_platform_tests.integration.consume import records_of
from iot_platform_tests.integration.derived import materialize, rows_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform_tests.conftest import MakeSettings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration
CONTRACT = "device_event"


@pytest.fixture(scope="module")
def own_broker(session_home: Path) -> Iterator[OwnBroker]:
    """A broker of these tests alone; each leaves it running."""
    local = Settings(home=session_home / "away", _env_file=None)  # pyright: ignore[reportCallIssue]
    with closing(OwnBroker(local)) as broker:
        broker.start()
        yield broker


@pytest.fixture
def settings(own_broker: OwnBroker, make_settings: MakeSettings, topics_file: Path) -> Settings:
    made = make_settings(
        kafka_bootstrap=own_broker.settings.kafka_bootstrap, topics_file=topics_file, spark_master="local[2]"
    )
    create_topics(made)
    return made


@dataclass
class Load:
    """Sends events at a pace through the platform's own producer and keeps what was acknowledged: place -> event id."""

    settings: Settings
    seed: int
    rate: int
    delivery_seconds: float
    sent: list[str] = field(default_factory=list)
    acknowledged: dict[tuple[str, int, int], str] = field(default_factory=dict)
    producer: MessageProducer | None = None

    @contextmanager
    def running(self) -> Iterator[Load]:
        done = threading.Event()
        thread = threading.Thread(target=self._go, args=(done,))
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    def _go(self, done: threading.Event) -> None:
        rng = random.Random(self.seed)
        began = time.monotonic()
        topic = load_topics(self.settings)[CONTRACT].name
        with MessageProducer(
            self.settings, f"load-{self.seed}", on_delivered=self._acknowledge, delivery_seconds=self.delivery_seconds,
            buffered_messages=500,
        ) as self.producer:  # fmt: skip
            while not done.is_set():
                for _ in range(int((time.monotonic() - began) * self.rate) - len(self.sent)):
                    id_ = str(UUID(int=rng.getrandbits(128), version=4))
                    value = message(CONTRACT, event_id=id_, timestamp=render(time.time_ns() // 1_000))
                    self.sent.append(id_)
                    self.producer.send(Outgoing(topic, id_.encode(), json.dumps(value).encode(), [], tag=id_))
                self.producer.wait(0.05)

    def _acknowledge(self, where: Delivered) -> None:
        self.acknowledged[where.topic, where.partition, where.offset] = where.tag


@pytest.mark.parametrize("away_seconds", [1, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_a_broker_that_is_away_costs_nothing_and_the_tables_have_each_message_once(
    own_broker: OwnBroker, settings: Settings, spark: SparkSession, *, seed: int, fault_record: FaultRecord,
    away_seconds: int,
) -> None:
    load = Load(settings, seed, rate=500, delivery_seconds=1.5)
    with load.running():
        assert wait_until(lambda: len(load.acknowledged) > 500, 30)
        own_broker.kill()
        assert wait_until(lambda: load.producer is not None and load.producer.failed > 0, 30)
        time.sleep(away_seconds)  # how long it is away is part of the fault
        began = time.monotonic()
        own_broker.start()
        known = len(load.acknowledged)
        assert wait_until(lambda: len(load.acknowledged) > known + 200, 60)
    (waiting,) = waiting_files(settings)
    kept = len(waiting.read_text().splitlines())
    assert load.producer and kept == load.producer.failed == len(load.sent) - len(load.acknowledged)
    result = resend(settings)
    seconds = time.monotonic() - began
    assert (result.read, result.delivered, result.left, result.torn) == (kept, kept, 0, 0)
    assert not waiting_files(settings)
    held = {
        (record.topic, record.partition, record.offset): json.loads(record.value or b"")["event_id"]
        for record in records_of(settings, [CONTRACT])
    }
    assert {place: held.get(place) for place in load.acknowledged} == load.acknowledged
    silver = silver_events(settings, spark)
    fault_record(
        fault="4 broker away from the producer", injections=1, messages=len(load.sent),
        lost=len(set(load.sent) - silver.keys()), duplicated=silver.total() - len(silver), recovery_seconds=seconds,
        seed=seed,
    )  # fmt: skip
    print(f"{len(load.sent)} sent, {kept} kept on disk, {len(held) - len(load.sent)} arrived twice and are told apart")
    assert silver == Counter(load.sent)


def silver_events(settings: Settings, spark: SparkSession) -> Counter[str]:
    """How often each event stands in Silver."""
    drain(settings, spark)
    days = sorted({row["event_date"] for row in rows_of(settings, "bronze/readings")})
    materialize(settings, {"silver/readings": days}, datetime.now(UTC))
    return Counter(row["event_id"] for row in rows_of(settings, "silver/readings"))


def test_a_resender_that_dies_sends_all_of_it_again_in_order_and_sets_a_torn_line_aside(
    own_broker: OwnBroker, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = load_topics(settings)[CONTRACT].name
    with MessageProducer(settings, "r", delivery_seconds=1) as producer:
        own_broker.kill()
        for number in range(300):
            producer.send(Outgoing(topic, b"k", b"%d" % number, [("n", b"%d" % number)]))
    assert producer.spool and producer.failed == producer.spool.waiting == 300
    with producer.spool.path.open("ab") as file:
        file.write(b'{"topic": "to')
    own_broker.start()
    environment = settings.environment() | {"IOT_FAILPOINT": "resend.acknowledged=kill"}
    command = [Path(sys.executable).with_name("iot"), "resend"]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert producer.spool.waiting == 301, "killed before it could say that all arrived"
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    app(["resend", "--json"], standalone_mode=False)
    said = json.loads(capsys.readouterr().out)
    assert (said["read"], said["delivered"], said["torn"], said["left"]) == (301, 300, 1, 0)
    assert producer.spool.path.with_suffix(".torn").read_bytes() == b'{"topic": "to\n'
    assert [record.value for record in records_of(settings, [CONTRACT])] == [b"%d" % n for n in range(300)] * 2


def test_a_live_simulation_goes_on_without_a_broker_and_sends_again_what_waited_when_it_is_back(
    own_broker: OwnBroker, settings: Settings
) -> None:
    fleet = FleetOptions(contracts=("sensor_reading",), devices=4, cadence_seconds=1, malformed_rate=0, duplicate_rate=0)
    sent = 0
    went: list[str] = []

    def progress(done: int, total: int | None) -> None:
        nonlocal sent
        sent = done
        if done == 300:
            own_broker.kill()
            went.append("away")
        if went == ["away"] and waiting_files(settings):
            own_broker.start()
            went.append("back")

    # Above the client's longest pause between two attempts to connect, or what is sent on its return fails again.
    options = SimulationOptions(Live(rate=600, max_events=6_000), fleet)
    result = simulate(settings, options, now=datetime.now(UTC), on_progress=progress, delivery_seconds=4)
    assert went == ["away", "back"] and sent == 6_000
    assert result.resent > 0 and result.delivered + result.resent == 6_000 and not waiting_files(settings)
    values = {record.value for record in records_of(settings, ["sensor_reading"])}
    assert len(values) == 6_000


def test_a_full_spool_takes_no_further_message_and_keeps_what_it_took(own_broker: OwnBroker, settings: Settings) -> None:
    settings = settings.model_copy(update={"spool_megabytes": 1})
    topic = load_topics(settings)[CONTRACT].name
    producer = MessageProducer(settings, "r", delivery_seconds=1, buffered_messages=100)

    def fill() -> None:
        with producer:
            for _ in range(10_000):
                producer.send(Outgoing(topic, b"k", b"x" * 10_000, []))

    own_broker.kill()
    with pytest.raises(ServiceError, match="no further one is taken in.*iot resend"):
        fill()
    assert producer.spool and 0 < producer.sent < 400
    assert producer.spool.waiting == producer.sent
    own_broker.start()
    assert resend(settings).delivered == producer.sent
