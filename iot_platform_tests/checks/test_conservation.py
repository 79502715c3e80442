"""The conservation checks fail when a row or a Kafka record vanished or appeared, and say how many."""

from __future__ import annotations

from iot_platform.checks.conservation import conserves, offsets_conserve
from iot_platform.checks.outcome import Outcome
from iot_platform.lake.ledger import REDRIVEN
from iot_platform.lake.levels import Levels
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import NOW, TOPIC, D, SmallLake, at
from iot_platform_tests.checks.conftest import Inspect
from iot_platform_tests.checks.rows import rejected, usable


def settle(small: SmallLake, usable_rows: int) -> None:
    levels = Levels(small.lake)
    small.put(
        "silver/readings", D, [usable(n, topic=TOPIC) for n in range(usable_rows)],
        level=levels.needed(TRANSFORMS["silver/readings"], D),
    )  # fmt: skip
    small.put("silver/rejected_readings", D, [], level=levels.needed(TRANSFORMS["silver/rejected_readings"], D))


def lines(outcome: Outcome) -> list[str]:
    return str(outcome.metadata["offending"].value).splitlines()[2:]


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
    assert lines(outcome) == [f"| {TOPIC} | 0 | 3 | temperature | d1 | 2026-03-10T18:00:00+00:00 | 1 | 0 | 0 |"]


def test_an_invented_row_fails(small: SmallLake, inspect: Inspect) -> None:
    small.day(readings=4)
    settle(small, 6)
    outcome = conserves(inspect(), D)
    assert not outcome.passed and outcome.description.startswith("2 row(s) are in Silver or rejected that Bronze")
    assert [line.split(" | ")[2] for line in lines(outcome)] == ["4", "5"]
    assert all(line.endswith("| 0 | 1 | 0 |") for line in lines(outcome))


def test_a_row_that_is_in_both_is_shown_even_where_another_is_lost(small: SmallLake, inspect: Inspect) -> None:
    small.day(readings=4)
    settle(small, 3)
    level = Levels(small.lake).needed(TRANSFORMS["silver/rejected_readings"], D)
    twice = [rejected(n, topic=TOPIC) for n in (0, 1)]
    small.put("silver/rejected_readings", D, twice, level=level + 1)
    outcome = conserves(inspect(), D)
    assert not outcome.passed and outcome.metadata["difference"] == -1
    assert [line.split(" | ", 6)[2] for line in lines(outcome)] == ["0", "1", "3"]


def test_rows_that_wait_for_their_silver_are_no_loss(small: SmallLake, inspect: Inspect) -> None:
    small.day(readings=4)
    outcome = conserves(inspect(), D)
    assert outcome.passed and outcome.metadata["pending"] == 4


def test_every_kafka_record_in_bronze_or_quarantine_passes(small: SmallLake, inspect: Inspect) -> None:
    small.ingest([{"event_time": at(D, hour)} for hour in range(3)], [{}])
    outcome = offsets_conserve(inspect())
    assert outcome.passed and not outcome.description
    none = dict.fromkeys(("redriven", "erased", "expired", "landing", "without_record", "difference"), 0)
    counts = {"consumed": 4, "bronze": 3, "quarantined": 1} | none
    assert dict(outcome.metadata) == counts


def test_a_consumed_record_that_landed_nowhere_fails(small: SmallLake, inspect: Inspect) -> None:
    small.ingest([{"event_time": at(D, hour)} for hour in range(3)], [{}])
    small.lake.snapshot("bronze/readings").delta.delete("kafka_offset = 1")
    outcome = offsets_conserve(inspect())
    assert not outcome.passed and outcome.description.startswith("1 consumed Kafka record(s) are neither in Bronze")
    assert lines(outcome) == [f"| {TOPIC} | 0 | 1 | 1 | 1 | nowhere |"]


def test_records_lost_at_the_ends_of_what_was_consumed_are_shown_as_ranges(small: SmallLake, inspect: Inspect) -> None:
    small.ingest([{"event_time": at(D, hour)} for hour in range(9)])
    small.lake.snapshot("bronze/readings").delta.delete("kafka_offset < 2 or kafka_offset in (4, 5) or kafka_offset = 8")
    outcome = offsets_conserve(inspect())
    assert not outcome.passed and outcome.figure == 5
    assert lines(outcome) == [f"| {TOPIC} | 0 | {part} | nowhere |" for part in ("0 | 1 | 2", "4 | 5 | 2", "8 | 8 | 1")]


def test_a_redriven_record_is_in_its_place(small: SmallLake, inspect: Inspect) -> None:
    small.ingest([{"event_time": at(D)}], [{}])
    refused = small.rows("bronze/quarantine")[0]
    small.put("bronze/quarantine", refused["event_date"], [refused, refused | {"kafka_offset": 0, "redriven_at": NOW}])
    small.lake.commit_transaction(small.lake.writable("bronze/readings"), REDRIVEN, 1)
    assert offsets_conserve(inspect()).passed
    small.lake.snapshot("bronze/readings").delta.delete("kafka_offset = 0")
    assert lines(offsets_conserve(inspect())) == [f"| {TOPIC} | 0 | 0 | 0 | 1 | nowhere |"]


def test_a_record_in_both_fails(small: SmallLake, inspect: Inspect) -> None:
    small.ingest([{"event_time": at(D)}], [{}])
    refused = small.rows("bronze/quarantine")[0]
    small.put("bronze/quarantine", refused["event_date"], [refused, refused | {"kafka_offset": 0}])
    outcome = offsets_conserve(inspect())
    assert not outcome.passed and outcome.description.startswith("1 Kafka record(s) more are in Bronze and quarantine")
    assert lines(outcome) == [f"| {TOPIC} | 0 | 0 | 0 | 1 | 2 times |"]
