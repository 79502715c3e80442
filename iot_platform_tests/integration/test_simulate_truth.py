"""The truth file against the platform: everything injected is found with the right reason, and nothing else is."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from iot_platform.ingest.run import drain
from iot_platform.lake.lake import Lake
from iot_platform.simulator.options import FleetOptions, History, SimulationOptions
from iot_platform.simulator.simulation import simulate
from iot_platform.simulator.truth import Injected, load_truth
from iot_platform.simulator.verdict import truth_files, verdicts
from iot_platform.topics import create_topics
from iot_platform_tests.conftest import Broker, MakeSettings
from iot_platform_tests.integration.derived import materialize, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.integration

UNTIL = datetime(2024, 3, 10, tzinfo=UTC)  # always the same dates: always the same chance anomalies
FLEET = FleetOptions(devices=4, cadence_seconds=100, malformed_rate=0.01)
Place = tuple[str, int, int]


def place(line: Injected | dict[str, Any]) -> Place:
    if isinstance(line, Injected):
        return line.topic, line.partition, line.offset
    return line["topic"], line["kafka_partition"], line["kafka_offset"]


def test_what_was_injected_is_found_and_nothing_else(
    kafka: Broker, make_settings: MakeSettings, topics_file: Path, spark: SparkSession
) -> None:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(settings)
    now = datetime.now(UTC)
    result = simulate(settings, SimulationOptions(History(2, UNTIL), FLEET), now=now)
    truth = load_truth(result.truth)
    landed = drain(settings, spark)
    tables = ("silver/readings", "silver/rejected_readings", "gold/sensor_windows")
    materialize(settings, dict.fromkeys(tables, sorted(landed.rows_by_date)), now)
    bronze, silver = rows_of(settings, "bronze/readings"), rows_of(settings, "silver/readings")

    assert landed.messages == result.delivered
    counted = Counter((row["contract"], row["event_date"].isoformat()) for row in bronze)
    assert counted == {(name, day): count for name, days in truth.readings.items() for day, count in days.items()}
    assert {place(row) for row in bronze if row["is_late"]} == {place(line) for line in truth.of("late")}
    quarantined = {place(row): row["reason"] for row in rows_of(settings, "bronze/quarantine")}
    assert quarantined == {place(line): line.reason for line in truth.of("malformed")}
    check_rejected(rows_of(settings, "silver/rejected_readings"), truth.injected)
    assert {line.event_id for line in truth.of("late")} <= {row["event_id"] for row in silver}
    assert sum(row["readings"] for row in rows_of(settings, "gold/sensor_windows")) == len(silver)
    check_anomalies(silver, truth.of("anomaly"))
    for verdict in verdicts(Lake(settings), truth_files(settings.home)):
        assert verdict.injected == len(truth.of(verdict.kind))
        assert verdict.kind == "anomaly" or (verdict.missed, verdict.unexpected) == (0, 0)
        assert verdict.recall and verdict.precision


def check_rejected(rejected: list[dict[str, Any]], injected: tuple[Injected, ...]) -> None:
    by_reason: dict[str, set[Any]] = {"duplicate": set(), "null_value": set(), "out_of_range": set()}
    for row in rejected:
        by_reason[row["reason"]].add(place(row) if row["reason"] == "duplicate" else (row["event_id"], row["metric"]))
    assert by_reason == {
        "duplicate": {place(line) for line in injected if line.kind == "duplicate"},
        "null_value": {(line.event_id, line.metric) for line in injected if line.kind == "null"},
        "out_of_range": {(line.event_id, line.metric) for line in injected if line.kind == "out_of_range"},
    }


def check_anomalies(silver: list[dict[str, Any]], injected: list[Injected]) -> None:
    """Spikes are seen nearly always; what else is flagged is chance."""
    found = {(row["event_id"], row["metric"]) for row in silver if row["is_anomaly"]}
    true = {(line.event_id, line.metric) for line in injected}
    recall, precision = len(found & true) / len(true), len(found & true) / len(found)
    print(f"anomalies: {len(true)} injected, recall {recall:.3f}, precision {precision:.3f}")
    assert recall > 0.95 and precision > 0.9
