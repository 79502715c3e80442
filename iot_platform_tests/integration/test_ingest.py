"""Ingestion through real Kafka, Spark and Delta: every record in exactly one table, exactly once. (Deaths: ``faults``.)"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from iot_platform.contracts.pandera import polars_schema
from iot_platform.contracts.rebuild import rebuild_message
from iot_platform.contracts.tables import BRONZE_QUARANTINE, BRONZE_READINGS, TABLES
from iot_platform.contracts.timestamps import render
from iot_platform.errors import LakeError, ServiceError
from iot_platform.ingest import committed_offsets, drain, end_offsets, lag
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake.ledger import offset_ledger
from iot_platform.topics import create_topics
from iot_platform_tests.contracts.messages import VALID
from iot_platform_tests.contracts.test_refusals import CASES
from iot_platform_tests.integration.stream import Stream, now_us, readings_at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform_tests.conftest import Broker, MakeSettings

pytestmark = pytest.mark.integration
MINUTE_US = 60_000_000


@pytest.fixture
def stream(kafka: Broker, make_settings: MakeSettings, topics_file: Path) -> Stream:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(settings)
    return Stream(settings)


def recent(value: bytes | str | dict[str, Any] | None) -> bytes | None:
    """A case of the parser's tests with its times moved to now: the broker stamps the arrival itself."""
    text = json.dumps(value) if isinstance(value, dict) else value
    if isinstance(text, str):
        for written, shift in (("2026-11-19T10:11:12.345Z", 0), ("2026-11-19T11:11:14.346Z", 120)):
            text = text.replace(written, str(render(now_us() + shift * MINUTE_US)))
        return text.encode()
    return text


def test_every_kind_of_record_ends_in_its_table_exactly_once(stream: Stream, spark: SparkSession) -> None:
    sent: dict[tuple[str, int], tuple[str, bytes | None]] = {}
    for contract in VALID:
        topic = stream.topic(contract)
        wrong = [(reason, recent(value)) for reason, value, of in CASES if of == contract]
        for (offset, value), (reason, _) in zip(
            stream.send([value for _, value in wrong], contract), wrong, strict=True
        ):
            sent[topic, offset] = reason, value
        sent |= {(topic, offset): ("", value) for offset, value in stream.send([recent(VALID[contract])] * 3, contract)}
        unknown = stream.send([recent(VALID[contract])], contract, headers=[("contract", b"nobody's"), ("empty", None)])
        sent |= {(topic, offset): ("unknown_contract", value) for offset, value in unknown}
    waiting = []
    result = drain(stream.settings, spark, on_start=waiting.append)
    readings, quarantine = stream.readings, stream.quarantine

    assert waiting == [len(sent)]
    expected = {place: reason for place, (reason, _) in sent.items() if reason}
    found = {(row["topic"], row["kafka_offset"]): row["reason"] for row in quarantine.iter_rows(named=True)}
    assert found == expected
    assert {(row["topic"], row["kafka_offset"]): row["value"] for row in quarantine.iter_rows(named=True)} == {
        place: value for place, (reason, value) in sent.items() if reason
    }
    odd = quarantine.filter(pl.col("reason") == "unknown_contract")["headers"].to_list()
    assert odd == [[{"key": "contract", "value": b"nobody's"}, {"key": "empty", "value": None}]] * len(VALID)

    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in readings.iter_rows(named=True):
        rows.setdefault((row["topic"], row["kafka_offset"]), []).append(row)
    assert rows.keys() == sent.keys() - expected.keys()
    for place, of_message in rows.items():
        assert rebuild_message(of_message) == json.loads(sent[place][1] or b"")
    for contract, frame in ((BRONZE_READINGS, readings), (BRONZE_QUARANTINE, quarantine)):
        polars_schema(contract).validate(frame.select(contract.column_names), lazy=True)

    assert (result.messages, result.quarantined, result.readings) == (len(sent), len(expected), len(readings))
    assert result.rows_by_date == dict(Counter(readings["event_date"].to_list()))
    assert committed_offsets(stream.settings) == end_offsets(stream.settings)
    assert {topic.lag for topic in lag(stream.settings).values()} == {0}
    _check_metadata(stream, len(sent))
    versions = [stream.version(table) for table in (READINGS, QUARANTINE)]
    assert drain(stream.settings, spark).batches == 0
    assert [stream.version(table) for table in (READINGS, QUARANTINE)] == versions


def _check_metadata(stream: Stream, messages: int) -> None:
    readings, quarantine = stream.metadata(READINGS), stream.metadata(QUARANTINE)
    topic = stream.topic("sensor_reading")
    assert readings["offsets"] == quarantine["offsets"]
    assert sum(until - start for spans in readings["offsets"].values() for start, until in spans.values()) == messages
    assert readings["ends"][topic]["0"] == readings["offsets"][topic]["0"][1]
    assert (readings["generation"], readings["batch_id"]) == (1, 0)
    assert stream.readings["ingest_seq"].unique().to_list() == [readings["ingest_seq"]]
    assert sum(readings["rows_by_date"].values()) == len(stream.readings)
    assert sum(quarantine["rows_by_date"].values()) == len(stream.quarantine)
    assert readings["newest_by_contract"].keys() == VALID.keys()


def test_lateness_goes_on_across_drains(stream: Stream, spark: SparkSession) -> None:
    now = now_us()
    stream.send(readings_at(now - 60 * MINUTE_US, now - 30 * MINUTE_US, now - 45 * MINUTE_US))
    drain(stream.settings, spark)
    stream.send(readings_at(now - 41 * MINUTE_US, now - 39 * MINUTE_US))
    stream.send(readings_at(now - 10_000 * MINUTE_US), headers=[("replayed", b"true"), ("source", b"a.csv")])
    stream.send(readings_at(now - 50 * MINUTE_US), partition=1)
    drain(stream.settings, spark)
    first = stream.readings.filter(pl.col("kafka_partition") == 0)
    assert first["is_late"].to_list() == [False, False, True, True, False, False]
    assert first["source"].to_list()[-1] == "a.csv"
    assert stream.readings.filter(pl.col("kafka_partition") == 1)["is_late"].to_list() == [False]


def test_transactions_leave_offsets_without_a_record_and_the_ledger_says_how_many(
    stream: Stream, spark: SparkSession
) -> None:
    """Offsets 0 to 2, a mark, 4 and 5 aborted, a mark, 7, a mark."""
    from confluent_kafka import Producer

    producer = Producer(
        {"bootstrap.servers": stream.settings.kafka_bootstrap, "transactional.id": stream.topic("sensor_reading")}
    )
    producer.init_transactions(30)
    for count, end in ((3, producer.commit_transaction), (2, producer.abort_transaction), (1, producer.commit_transaction)):
        producer.begin_transaction()
        for value in readings_at(*[now_us()] * count):
            producer.produce(stream.topic("sensor_reading"), value=value, partition=0)
        producer.flush(30)
        end(30)
    stream.send([b"bad"], partition=1)
    drain(stream.settings, spark)
    assert (stream.consumed(), stream.consumed(partition=1)) == ([0, 1, 2, 7], [0])
    ledger = offset_ledger(stream.lake)
    assert (ledger.consumed, ledger.bronze_messages, ledger.quarantined, ledger.without_record) == (5, 4, 1, 5)
    assert ledger.is_balanced


def test_a_missing_topic_is_named(kafka: Broker, make_settings: MakeSettings, topics_file: Path) -> None:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    with pytest.raises(ServiceError, match="no topic .*iot topics create"):
        drain(settings)


@pytest.fixture
def nobody_listens() -> str:
    from iot_platform.local.process import free_ports

    return f"127.0.0.1:{free_ports(1)[0]}"


def test_a_broker_that_is_down_is_one_line_and_soon(make_settings: MakeSettings, nobody_listens: str) -> None:
    with pytest.raises(ServiceError, match="does not answer"):
        drain(make_settings(kafka_bootstrap=nobody_listens))
    with pytest.raises(ServiceError, match="no Kafka broker is running"):
        drain(make_settings())


def test_a_corrupt_table_and_a_place_that_cannot_be_written_are_one_line(stream: Stream, tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    stream.send(readings_at(now_us()))
    with pytest.raises(LakeError, match="cannot write"):
        drain(stream.settings.model_copy(update={"lake": str(blocked / "lake")}))
    for table in TABLES:
        stream.lake.ensure(table)
    log = Path(stream.lake.path(READINGS)) / "_delta_log" / f"{0:020}.json"
    log.write_text("{ torn")
    with pytest.raises(LakeError, match="bronze/readings"):
        drain(stream.settings)
