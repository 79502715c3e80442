"""Row 12: messages that Kafka no longer holds, and topics that were made again: it stops loudly and names what is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import yaml

from iot_platform.errors import DataError
from iot_platform.ingest import drain
from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.local.kafka_client import admin_client
from iot_platform.local.process import wait_until
from iot_platform.topics import create_topics, load_topics
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration


def test_messages_that_expired_unread_are_named_and_skipped_only_when_that_is_accepted(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord
) -> None:
    from confluent_kafka import TopicPartition

    kept, gone = Producer(deployment, seed, rate=0), Producer(deployment, seed + 1, rate=0)
    send(kept)
    drain(deployment, spark)
    send(gone)
    low: dict[tuple[str, int], tuple[int, int]] = {}
    for topic, partition, offset in gone.acknowledged:
        first, last = low.get((topic, partition), (offset, offset))
        low[topic, partition] = min(first, offset), max(last, offset)
    admin = admin_client(deployment, deployment.kafka_bootstrap)
    places = [TopicPartition(topic, partition, last + 1) for (topic, partition), (_, last) in low.items()]
    for answer in admin.delete_records(places).values():
        answer.result(30)
    send(kept)
    for _ in range(2):  # however often it is tried
        with pytest.raises(DataError, match="--accept-loss") as stopped:
            drain(deployment, spark)
        for (topic, partition), (first, last) in low.items():
            assert f"{topic}/{partition} offsets {first} to {last}" in str(stopped.value)
    began = time.monotonic()
    drain(deployment, spark, accept_loss=True)
    seconds = time.monotonic() - began
    verdict = judge(deployment, kept)
    fault_record(
        fault="12 expired unread, loss accepted", injections=1, recovery_seconds=seconds, seed=seed,
        messages=len(kept.acknowledged) + len(gone.acknowledged), lost=len(gone.acknowledged) + verdict.lost.total(),
        duplicated=verdict.duplicated.total(),
    )  # fmt: skip
    verdict.assert_exact()
    ledger = offset_ledger(Lake(deployment))
    assert (ledger.consumed, ledger.without_record) == (len(kept.acknowledged), len(gone.acknowledged))
    assert ledger.is_balanced


def test_a_topic_made_again_is_named_and_never_mixed_with_the_old_one(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord
) -> None:
    """Its offsets would name other messages than the rows of Bronze do: only a new name leads on."""
    old, new = Producer(deployment, seed, rate=0), Producer(deployment, seed + 1, rate=0)
    send(old)
    drain(deployment, spark)
    again = make_again(deployment, "device_event")
    send(new, 500)  # more than the old one held: offsets alone would not tell
    for accept_loss in (False, True):
        with pytest.raises(DataError, match=f"not the one that was read before: {again}.*new name"):
            drain(deployment, spark, accept_loss=accept_loss)
    began = time.monotonic()
    rename(deployment, "device_event", f"{again}.second")
    create_topics(deployment)
    third = Producer(deployment, seed + 2, rate=0)
    send(third)
    drain(deployment, spark)
    seconds = time.monotonic() - began
    unread = {place: sent for place, sent in new.acknowledged.items() if place[0] == again}
    for place in unread:
        del new.acknowledged[place]
    verdict = judge(deployment, old, new, third)
    fault_record(
        fault="12 topic made again, under a new name", injections=1, recovery_seconds=seconds, seed=seed, **verdict.counts
    )
    verdict.assert_exact()


def test_a_topic_made_again_while_the_stream_runs_stops_it_before_anything_is_mixed(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the old one by then, so that no offset is out of range and Spark would read on."""
    old, more = Producer(deployment, seed, rate=0), Producer(deployment, seed + 1, rate=0)
    send(old)
    drain(deployment, spark)
    send(more)

    def replaced(step: str) -> None:
        if step == "ingest.before_files":
            make_again(deployment, "device_event")
            send(Producer(deployment, seed + 2, rate=0), 500)

    monkeypatch.setattr("iot_platform.ingest.sink.reach", replaced)
    before = judge(deployment, old)
    with pytest.raises(DataError, match="not the one that was read before"):
        drain(deployment, spark)
    verdict = judge(deployment, old)
    fault_record(fault="12 topic made again under a running stream", injections=1, seed=seed, **verdict.counts)
    before.assert_exact()
    verdict.assert_exact()


def send(producer: Producer, count: int = 100) -> None:
    producer.send(count)
    producer.finish()


def make_again(settings: Settings, contract: str) -> str:
    """Delete the contract's topic and create it once more; its name."""
    name = load_topics(settings)[contract].name
    admin = admin_client(settings, settings.kafka_bootstrap)
    admin.delete_topics([name])[name].result(30)
    assert wait_until(lambda: name not in admin.list_topics(timeout=10).topics, 30)
    create_topics(settings)
    return name


def rename(settings: Settings, contract: str, name: str) -> None:
    """Give the contract's topic this name in the topics file."""
    content = yaml.safe_load(settings.topics_file.read_text())
    content["topics"][contract]["name"] = name
    settings.topics_file.write_text(yaml.safe_dump(content))
