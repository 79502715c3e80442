"""The dead-letter topic holds what quarantine holds, in its order, at least once; a broker that refuses holds nothing up."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from iot_platform.errors import InputError, ServiceError
from iot_platform.ingest import dead_letter
from iot_platform.ingest.dead_letter import DeadLetters, mirrored
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform.topics import create_topics, load_topics
from iot_platform_tests.contracts.messages import TOPIC_OF, message
from iot_platform_tests.ingest.landed import Landed

if TYPE_CHECKING:
    from iot_platform_tests.conftest import Broker, MakeSettings

pytestmark = pytest.mark.integration
SENSOR = TOPIC_OF["sensor_reading"]


@pytest.fixture
def settings(kafka: Broker, make_settings: MakeSettings) -> Settings:
    name = f"iot.dead-letter.{uuid4().hex[:8]}"
    return make_settings(kafka_bootstrap=kafka.bootstrap, dead_letter=True, dead_letter_topic=name)


@pytest.fixture
def landed(settings: Settings) -> Landed:
    return Landed(Lake(settings))


def letters(settings: Settings) -> list[Any]:
    """All that the topic holds, in order."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": uuid4().hex, "log_level": 0})
    place = TopicPartition(settings.dead_letter_topic, 0, 0)
    _, end = consumer.get_watermark_offsets(place, timeout=20)
    consumer.assign([place])
    found = []
    while len(found) < end:
        answer = consumer.poll(20)
        assert answer is not None and answer.error() is None
        found.append(answer)
    consumer.close()
    return found


def places(settings: Settings) -> list[tuple[str, int]]:
    found = [dict(letter.headers()) for letter in letters(settings)]
    return [(headers["source_topic"].decode(), int(headers["source_offset"])) for headers in found]


def test_a_letter_is_the_message_with_its_reason(settings: Settings, landed: Landed) -> None:
    landed.land([b"\xff{", message("sensor_reading"), None], headers=[("source", b"a.csv"), ("odd", None)])
    assert DeadLetters(settings).catch_up() == 2
    first, second = letters(settings)
    assert (first.key(), first.value(), second.value()) == (b"key", b"\xff{", None)
    headers = first.headers()
    assert headers[:2] == [("source", b"a.csv"), ("odd", None)]
    assert dict(headers[2:]) | {"detail": b""} == {
        "reason": b"not_utf8", "detail": b"", "source_topic": SENSOR.encode(), "source_partition": b"0",
        "source_offset": b"0",
    }  # fmt: skip
    assert b"UTF-8" in dict(headers)["detail"]


def test_letters_come_in_the_order_of_the_batches_and_once(
    settings: Settings, landed: Landed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter, "PIECE_MESSAGES", 3)
    landed.land([b"{"] * 4)
    landed.land([b"["] * 2, "device_event")
    assert DeadLetters(settings).catch_up() == 6
    landed.land([b"{"])
    for _ in range(2):
        DeadLetters(settings).catch_up()
    of_events = [(TOPIC_OF["device_event"], n) for n in range(2)]
    assert places(settings) == [*((SENSOR, n) for n in range(4)), *of_events, (SENSOR, 4)]


def test_what_was_sent_is_not_sent_again_after_a_redrive_or_a_new_home(
    settings: Settings, landed: Landed, tmp_path: Path
) -> None:
    from iot_platform.ingest.redrive import mark
    from iot_platform_tests.ingest.landed import NOW

    landed.land([b"{", b"["])
    DeadLetters(settings).catch_up()
    mark(landed.lake, NOW.date(), {(SENSOR, 0): [0]}, NOW)  # writes the file anew
    elsewhere = settings.model_copy(update={"home": tmp_path / "other", "lake": landed.lake.root})
    assert DeadLetters(elsewhere).catch_up() == 0
    assert len(letters(settings)) == 2


def test_a_broker_that_is_away_stops_nothing_and_is_caught_up_with_later(
    settings: Settings, landed: Landed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iot_platform.topics.ANSWER_SECONDS", 1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{unused.getsockname()[1]}"})
        with caplog.at_level(logging.WARNING), mirrored(away) as wake:
            landed.land([b"{"] * 3)
            wake()
        assert "dead letters wait in quarantine" in caplog.text
    with mirrored(settings) as wake:
        landed.land([b"["] * 2)
        wake()
    assert places(settings) == [(SENSOR, n) for n in range(5)]


def test_what_was_not_acknowledged_is_sent_again(
    settings: Settings, landed: Landed, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed.land([b"{"] * 3)

    def die(*_: Any) -> None:
        raise ServiceError("gone before the mark")

    with monkeypatch.context() as dying:
        dying.setattr(Lake, "commit_transaction", die)
        with pytest.raises(ServiceError):
            DeadLetters(settings).catch_up()
    DeadLetters(settings).catch_up()
    assert places(settings) == [(SENSOR, n) for n in range(3)] * 2  # at least once


def test_a_message_too_large_for_the_topic_is_told_without_its_value(settings: Settings, landed: Landed) -> None:
    from iot_platform.topics import ensure_topic

    landed.land([b"{", os.urandom(2 << 20), b"["])  # which no compression makes smaller
    dead = DeadLetters(settings)
    ensure_topic(settings, replace(dead.topic, max_message_bytes=1 << 20))
    assert dead.catch_up() == 3
    found = {int(dict(letter.headers())["source_offset"]): letter for letter in letters(settings)}
    assert {offset: letter.value() for offset, letter in found.items()} == {0: b"{", 1: None, 2: b"["}
    assert dict(found[1].headers())["value_bytes"] == str(2 << 20).encode()


def test_the_largest_message_that_kafka_lets_in_is_sent_whole(settings: Settings, landed: Landed) -> None:
    value = json.dumps({"text": "x" * (20 << 20)}).encode()
    landed.land([value])
    DeadLetters(settings).catch_up()
    (letter,) = letters(settings)
    assert letter.value() == value


def test_the_topic_is_made_with_the_others_and_never_ingested(
    settings: Settings, topics_file: Path, make_settings: MakeSettings
) -> None:
    on = settings.model_copy(update={"topics_file": topics_file})
    made = {result.topic.name: result.action for result in create_topics(on)}
    assert made[on.dead_letter_topic] == "created"
    assert {result.action for result in create_topics(on)} == {"unchanged"}
    assert on.dead_letter_topic not in {topic.name for topic in load_topics(on).values()}
    name = load_topics(on)["sensor_reading"].name
    with pytest.raises(InputError, match="is the dead-letter topic"):
        load_topics(on.model_copy(update={"dead_letter_topic": name}))


def test_without_the_setting_nothing_is_mirrored(settings: Settings, landed: Landed) -> None:
    with mirrored(settings.model_copy(update={"dead_letter": False})) as wake:
        landed.land([b"{"])
        wake()
    assert Lake(settings).snapshot("bronze/quarantine").transaction(dead_letter.MIRRORED) is None


def test_a_defect_of_the_mirror_ends_no_ingestion(
    settings: Settings, landed: Landed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Callable[[], None]:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(DeadLetters, "catch_up", broken)
    with caplog.at_level(logging.WARNING), mirrored(settings) as wake:
        landed.land([b"{"])
        wake()
    assert "RuntimeError: no such thing" in caplog.text
