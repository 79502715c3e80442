"""The conservation checks fail when a row or a Kafka record vanished or appeared, and say how many."""

from __future__ import annotations

from iot_platform.checks.conservation import conserves, offsets_conserve
from iot_platform.lake.levels import Levels
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import D, SmallLake, at
from iot_platform_tests.checks.conftest import Inspect
from iot_platform_tests.checks.rows import usable


def settle(small: SmallLake, usable_rows: int) -> None:
    levels = Levels(small.lake)
    small.put(
        "silver/readings", D, [usable(n) for n in range(usable_rows)],
        level=levels.needed(TRANSFORMS["silver/readings"], D),
    )  # fmt: skip
    small.put("silver/rejected_readings", D, [], level=levels.needed(TRANSFORMS["silver/rejected_readings"], D))


def test_every_row_accounted_for_passes(small: SmallLake, inspect: Inspect) -> None:
    small.day(readings=4)
    settle(small, 4)
    outcome = conserves(inspect(), D)
    assert outcome.passed and outcome.metadata["bronze"] == 4 and outcome.metadata["difference"] == 0


def test_a_lost_row_fails(small: SmallLake, inspect: Inspect) -> None:
    small.day(readings=4)
    settle(small, 3)
    outcome = conserves(inspect(), D)
    assert not outcome.passed and outcome.description.startswith("1 row(s) of Bronze are neither")


def test_an_invented_row_fails(small: SmallLake, inspect: Inspect) -> None:
    small.day(readings=4)
    settle(small, 6)
    outcome = conserves(inspect(), D)
    assert not outcome.passed and outcome.description.startswith("2 row(s) are in Silver or rejected that Bronze")


def test_rows_that_wait_for_their_silver_are_no_loss(small: SmallLake, inspect: Inspect) -> None:
    small.day(readings=4)
    outcome = conserves(inspect(), D)
    assert outcome.passed and outcome.metadata["pending"] == 4


def test_every_kafka_record_in_bronze_or_quarantine_passes(small: SmallLake) -> None:
    small.ingest([{"event_time": at(D, hour)} for hour in range(3)], [{}])
    outcome = offsets_conserve(small.lake)
    assert outcome.passed and not outcome.description
    assert dict(outcome.metadata) == {"consumed": 4, "bronze": 3, "quarantined": 1, "redriven": 0, "difference": 0}


def test_a_consumed_record_that_landed_nowhere_fails(small: SmallLake) -> None:
    small.ingest([{"event_time": at(D, hour)} for hour in range(3)], [{}])
    small.lake.snapshot("bronze/readings").delta.delete("kafka_offset = 1")
    outcome = offsets_conserve(small.lake)
    assert not outcome.passed and outcome.description.startswith("1 consumed Kafka record(s) are neither in Bronze")


def test_a_record_in_both_fails(small: SmallLake) -> None:
    small.ingest([{"event_time": at(D)}], [{}])
    refused = small.rows("bronze/quarantine")[0]
    small.put("bronze/quarantine", refused["event_date"], [refused, refused | {"kafka_offset": 0}])
    outcome = offsets_conserve(small.lake)
    assert not outcome.passed and outcome.description.startswith("1 Kafka record(s) more are in Bronze and quarantine")
