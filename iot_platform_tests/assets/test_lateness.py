"""The late share of a date is told with its materialization, by the drain as by the sensor."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from iot_platform.assets.lateness import lateness
from iot_platform.automation.streaming_sensor import commits_to_report
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at


def land(small: SmallLake) -> None:
    small.ingest([{"event_time": at(D, hour), "is_late": hour < 6} for hour in range(24)])
    small.day(D + DAY, 10)


def test_each_date_has_its_own_share(small: SmallLake) -> None:
    land(small)
    snapshot = small.lake.snapshot("bronze/readings")
    assert lateness(small.lake, snapshot, [D, D + DAY, D + 9 * DAY]) == {
        D: {"late_readings": 6, "late_share": 0.25}, D + DAY: {"late_readings": 0, "late_share": 0.0},
    }  # fmt: skip
    assert lateness(small.lake, small.lake.snapshot("silver/readings"), [D]) == {}


def test_what_continuous_ingestion_brings_is_told_with_its_share(small: SmallLake) -> None:
    land(small)
    with dg.DagsterInstance.ephemeral() as instance:
        events, _ = commits_to_report(small.lake, instance, None)
    shares = {event.partition: event.metadata["late_share"].value for event in events}
    assert shares == {D.isoformat(): 0.25, (D + DAY).isoformat(): 0.0}


def test_a_damaged_file_fails_nothing(small: SmallLake) -> None:
    land(small)
    snapshot = small.lake.snapshot("bronze/readings")
    Path(snapshot.files([D])[0]).write_bytes(b"torn")
    assert lateness(small.lake, snapshot, [D]) == {}
