"""The alerts and a real broker: what waits is seen, a holder that commits nothing is named, a drain ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from iot_platform.alerts.book import read_book
from iot_platform.alerts.gather import Gatherer
from iot_platform.alerts.memory import Memory
from iot_platform.alerts.watch import watch
from iot_platform.ingest.lease import lease
from iot_platform.topics import create_topics
from iot_platform_tests.alerts.receivers import Webhook, running_webhook
from iot_platform_tests.assets.small_lake import SmallLake
from iot_platform_tests.conftest import Broker, MakeSettings
from iot_platform_tests.integration.stream import Stream

pytestmark = pytest.mark.integration
MINUTE = timedelta(minutes=1)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as webhook:
        yield webhook


def test_records_that_nobody_takes_in_are_lag_and_a_stuck_ingest_until_they_are_committed(
    kafka: Broker, make_settings: MakeSettings, topics_file: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(
        kafka_bootstrap=kafka.bootstrap, topics_file=topics_file, slack_webhook_url=webhook.url, alert_lag_records=10
    )
    create_topics(settings)
    stream = Stream(settings)
    stream.send([b"{}"] * 11)
    small = SmallLake(stream.lake)
    now = datetime.now(UTC)
    memory = Memory()
    with dg.DagsterInstance.ephemeral() as instance:
        gatherer = Gatherer(instance, stream.lake, (), ())
        with lease(settings, "drain"):
            for minute in (0, 5, 10, 15):
                memory = watch(gatherer, settings, memory, now + minute * MINUTE).memory
        topic = stream.topic("sensor_reading")
        assert {(one.kind, one.subject) for one in read_book(settings).incidents} == {
            ("lag", topic), ("stuck_ingest", "ingest"),
        }  # fmt: skip
        assert webhook.titles == ["[error] 2 incident(s)"]
        text = str(webhook.received[0]["blocks"])
        assert "11 records wait" in text and re.search(r"process \d+ on \S+ drains", text)
        monkeypatch.setattr("iot_platform_tests.assets.small_lake.TOPIC", topic)
        small.ingest([{"event_time": now} for _ in range(11)])
        for minute in (16, 22):
            memory = watch(gatherer, settings, memory, now + minute * MINUTE).memory
    assert webhook.titles[1:] == ["[over] 2 over"]
    assert memory.since("committed") is None and memory.since(f"lag/{topic}") is None
