"""Rows 9 and 10: clocks years off, poison, any damage at all. The stream goes on, and everything is somewhere."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from iot_platform.contracts.rebuild import rebuild_message
from iot_platform.contracts.tables import QUARANTINE_REASONS
from iot_platform.contracts.timestamps import render
from iot_platform.ingest import drain
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.settings import Settings
from iot_platform.topics import create_topics, load_topics
from iot_platform_tests.contracts.messages import message
from iot_platform_tests.contracts.test_refusals import nested
from iot_platform_tests.faults.poison import CLOCKS, Damaged, damaged
from iot_platform_tests.ingest.test_dead_letter import letters

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration
Place = tuple[str, int, int]


def produce(settings: Settings, messages: Iterable[Damaged]) -> dict[Place, Damaged]:
    """Send them; what the broker acknowledged, by place."""
    from confluent_kafka import Producer

    topics = {contract: topic.name for contract, topic in load_topics(settings).items()}
    client = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap, "acks": "all", "message.max.bytes": 32 << 20, "log_level": 0,
         "queue.buffering.max.messages": 1_000_000, "linger.ms": 20, "compression.type": "zstd"}
    )  # fmt: skip
    acknowledged: dict[Place, Damaged] = {}

    def keep(one: Damaged) -> Any:
        def answered(error: Any, answer: Any) -> None:
            assert error is None, error
            acknowledged[answer.topic(), answer.partition(), answer.offset()] = one

        return answered

    for one in messages:
        while True:
            try:
                client.produce(topics[one.contract], value=one.value, headers=one.headers, on_delivery=keep(one))
                break
            except BufferError:
                client.poll(0.1)
        client.poll(0)
    assert client.flush(120) == 0
    return acknowledged


def held(settings: Settings, table: str) -> pl.DataFrame:
    return pl.read_delta(Lake(settings).path(table))


def places(frame: pl.DataFrame) -> Counter[Place]:
    return Counter(frame.select("topic", "kafka_partition", "kafka_offset").iter_rows())  # pyright: ignore[reportArgumentType]


def assert_each_in_one_table(settings: Settings, sent: dict[Place, Damaged], hint: str = "") -> tuple[int, int]:
    """Every acknowledged message once, in Bronze or in quarantine; how many are lost and doubled, which is 0 and 0."""
    readings, quarantine = held(settings, READINGS), held(settings, QUARANTINE)
    rows = readings.select("topic", "kafka_partition", "kafka_offset", "metric")
    landed = places(rows.drop("metric").unique()) + places(quarantine)
    lost, doubled = sent.keys() - landed.keys(), [place for place, times in landed.items() if times > 1]
    assert not lost and not doubled and not rows.is_duplicated().any(), (list(lost)[:3], doubled[:3], hint)
    assert set(quarantine["reason"]) <= set(QUARANTINE_REASONS)
    assert quarantine["detail"].str.len_chars().min() > 0  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    assert offset_ledger(Lake(settings)).is_balanced, hint
    return len(lost), len(doubled)


def test_device_clocks_years_off_are_quarantined_and_make_no_partition(
    deployment: Settings, spark: SparkSession, seed: int, fault_record: FaultRecord
) -> None:
    rng = random.Random(seed)
    now = time.time_ns() // 1_000
    off = [*CLOCKS, render(now + 2 * 3_600_000_000), *(f"{rng.choice([1980, 2005, 2031, 2077])}-0{n % 9 + 1}-05T00:00:00Z"
           for n in range(300))]  # fmt: skip
    wrong = [message("sensor_reading", timestamp=moment) for moment in off]
    good = [message("sensor_reading", timestamp=render(now - n * 1_000_000), sensor_id=f"ok-{n}") for n in range(300)]
    mixed = [Damaged("sensor_reading", json.dumps(one).encode(), [], "") for one in wrong + good]
    rng.shuffle(mixed)
    sent = produce(deployment, mixed)
    began = time.monotonic()
    drain(deployment, spark)
    lost, doubled = assert_each_in_one_table(deployment, sent)
    reasons = Counter(held(deployment, QUARANTINE)["reason"])
    assert reasons.keys() <= {"clock_out_of_range", "bad_timestamp"} and reasons.total() == len(wrong)
    assert reasons["bad_timestamp"] <= 2  # 1e300 is no time at all
    today = datetime.now(UTC).date()
    dates = {path.name.partition("=")[2] for path in Path(Lake(deployment).path(READINGS)).glob("event_date=*")}
    assert dates <= {str(today), str(today - timedelta(days=1))}
    late = held(deployment, READINGS).filter(pl.col("is_late"))
    assert late.is_empty()  # a clock that was refused moves nobody's
    fault_record(
        fault="9 device clocks years off", injections=len(wrong), messages=len(sent), lost=lost, duplicated=doubled,
        recovery_seconds=time.monotonic() - began, seed=seed,
    )  # fmt: skip


def test_poison_is_quarantined_with_its_reason_and_the_stream_lives(
    deployment: Settings, spark: SparkSession, fault_record: FaultRecord
) -> None:
    now = {"timestamp": render(time.time_ns() // 1_000)}
    good = json.dumps(message("sensor_reading", **now)).encode()
    poison: list[tuple[str, bytes | None]] = [
        ("not_utf8", good.replace(b"hall", b"h\xff\xfell")),
        ("not_json", None),
        ("not_json", b""),
        ("not_json", b"\x00" * 1_000),
        ("not_an_object", b"null"),
        ("too_deep", b'{"a":' * 100_000),
        ("too_deep", json.dumps(nested(33)).encode()),
        ("too_large", json.dumps(message("sensor_reading", more="x" * (20 << 20), **now)).encode()),
        ("not_finite", json.dumps(message("sensor_reading", value=math.nan, **now)).encode()),
        ("not_finite", good.replace(b"1013.2", b"1e999")),
        ("not_finite", good.replace(b"1013.2", b"9" * 10_000)),
        *(
            ("wrong_type", json.dumps(message("sensor_reading", **(now | {field: value}))).encode())
            for field, values in {
                "value": (True, "1", [], {}), "sensor_id": (None, 1, True, [], {}), "sensor_type": (None, 1, []),
                "unit": (1, True, [], {}), "timestamp": (None, True, [], {}),
            }.items()
            for value in values
        ),
    ]  # fmt: skip
    began = time.monotonic()
    sent = produce(deployment, [Damaged("sensor_reading", value, [], reason) for reason, value in poison for _ in range(3)])
    sent |= produce(deployment, [Damaged("sensor_reading", good, [], "")] * 5)
    drain(deployment, spark)
    after = produce(deployment, [Damaged("sensor_reading", good, [], "")])
    assert drain(deployment, spark).readings == 1  # alive
    seconds = time.monotonic() - began
    lost, doubled = assert_each_in_one_table(deployment, sent | after)
    found = {place: one["reason"] for one in held(deployment, QUARANTINE).iter_rows(named=True)
             for place in [(one["topic"], one["kafka_partition"], one["kafka_offset"])]}  # fmt: skip
    assert found == {place: one.how for place, one in sent.items() if one.how}
    fault_record(
        fault="10 poison", injections=3 * len(poison), messages=len(sent) + 1, lost=lost, duplicated=doubled,
        recovery_seconds=seconds,
    )  # fmt: skip


@pytest.mark.parametrize("count", [6_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_any_damage_ends_in_bronze_or_in_quarantine_with_a_reason(
    deployment: Settings, spark: SparkSession, *, seed: int, again: str, fault_record: FaultRecord, count: int
) -> None:
    settings = deployment.model_copy(
        update={"dead_letter": True, "dead_letter_topic": f"iot.dead-letter.{deployment.home.parent.name}",
                "max_offsets_per_trigger": max(2_000, count // 5)}
    )  # fmt: skip
    create_topics(settings)
    rng = random.Random(seed)
    sent = produce(settings, (damaged(rng) for _ in range(count)))
    assert len(sent) == count
    began = time.monotonic()
    result = drain(settings, spark)
    seconds = time.monotonic() - began
    assert result.messages == count, again
    lost, doubled = assert_each_in_one_table(settings, sent, again)

    by_place: dict[Place, list[dict[str, Any]]] = {}
    for row in held(settings, READINGS).iter_rows(named=True):
        by_place.setdefault((row["topic"], row["kafka_partition"], row["kafka_offset"]), []).append(row)
    for place, rows in by_place.items():  # what was let in was not changed
        assert rebuild_message(rows) == json.loads(sent[place].value or b""), (sent[place], again)
    raw = held(settings, QUARANTINE)
    for topic, partition, offset, value in raw.select("topic", "kafka_partition", "kafka_offset", "value").iter_rows():
        assert value == sent[topic, partition, offset].value, again
    let_in = Counter(sent[place].how for place in by_place)
    assert let_in["none"] == Counter(one.how for one in sent.values())["none"], again
    assert len(letters(settings)) == result.quarantined  # the mirror had no fault to survive here
    reasons = Counter(raw["reason"])
    print(f"let in {len(by_place)}, refused {dict(reasons.most_common())}")
    fault_record(
        fault="10 any damage (fuzz)", injections=count, messages=count, lost=lost, duplicated=doubled,
        recovery_seconds=seconds, seed=seed,
    )  # fmt: skip
