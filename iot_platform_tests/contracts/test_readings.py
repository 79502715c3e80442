"""What a message becomes: columns, units, identities, extras."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iot_platform.contracts.fields import Reading
from iot_platform.contracts.parse import parse_record
from iot_platform.contracts.tables import BRONZE_READINGS
from iot_platform_tests.contracts.messages import EVENT_US, RULES, VALID, message, record


def readings(value: Any, contract: str, **changes: Any) -> list[Reading]:
    parsed = parse_record(record(value, contract, **changes), RULES)
    assert isinstance(parsed, list), parsed
    return parsed


def test_an_environment_message_gives_up_to_three_readings() -> None:
    rows = readings(VALID["environment_reading"], "environment_reading")
    assert [(row.metric, row.value, row.unit) for row in rows] == [
        ("temperature", 21.5, "°C"),
        ("humidity", 44.25, "%"),
        ("energy", 12.5, "Wh"),
    ]
    assert {(row.device_id, row.site, row.state, row.device_type, row.event_time) for row in rows} == {
        ("env-1", "hall", "on", "room", EVENT_US)
    }
    assert len({row.event_id for row in rows}) == 1


def test_an_absent_measurement_gives_no_reading_and_a_null_one_a_null() -> None:
    rows = readings(message("environment_reading", "humidity", energy_consumption=None), "environment_reading")
    assert [(row.metric, row.value) for row in rows] == [("temperature", 21.5), ("energy", None)]


def test_a_device_event_has_one_reading_named_like_the_device_type() -> None:
    (row,) = readings(VALID["device_event"], "device_event")
    assert (row.metric, row.device_type, row.value, row.event_duration_ms) == ("motion", "motion", 3.0, 120.5)
    assert (row.zone, row.firmware, row.site, row.status) == ("zone-B", "1.4.2", None, "normal")
    assert row.event_id == VALID["device_event"]["event_id"]
    assert row.extras is None


def test_a_generic_message_gives_a_reading_an_entry() -> None:
    rows = readings(VALID["generic_reading"], "generic_reading")
    assert [(row.metric, row.value, row.unit) for row in rows] == [("co2", 400.5, None), ("nox", 3.25, None)]
    assert json.loads(rows[0].extras or "") == {"tags": {"room": "4"}}


def test_the_unit_is_the_messages_else_the_declared_one() -> None:
    assert readings(message("sensor_reading", unit="bar"), "sensor_reading")[0].unit == "bar"
    assert readings(message("sensor_reading", "unit"), "sensor_reading")[0].unit == "hPa"
    assert readings(message("sensor_reading", "unit", sensor_type="radon"), "sensor_reading")[0].unit is None


def test_a_derived_identity_is_the_same_for_a_reading_sent_again() -> None:
    (first,) = readings(message("sensor_reading"), "sensor_reading")
    (again,) = readings(message("sensor_reading", timestamp=EVENT_US, value=5, status="?"), "sensor_reading", offset=99)
    assert first.event_id == again.event_id


@pytest.mark.parametrize(
    "changes", [{"sensor_id": "sensor-2"}, {"sensor_type": "humidity"}, {"timestamp": "2026-11-19T10:11:12.346Z"}]
)
def test_a_derived_identity_differs_with_device_metric_and_time(changes: dict[str, Any]) -> None:
    (first,) = readings(message("sensor_reading"), "sensor_reading")
    (other,) = readings(message("sensor_reading", **changes), "sensor_reading")
    assert first.event_id != other.event_id


def test_a_derived_identity_is_this_one_for_ever() -> None:
    (row,) = readings(message("sensor_reading"), "sensor_reading")
    assert row.event_id == "020ddd91-6c09-88f7-ad0d-1794d5b02f00"


@pytest.mark.parametrize("contract", ["environment_reading", "generic_reading", "sensor_reading"])
def test_contracts_do_not_share_identities(contract: str) -> None:
    ids = {readings(VALID[other], other)[0].event_id for other in VALID}
    assert len(ids) == len(VALID)
    assert readings(VALID[contract], contract)[0].event_id in ids


def test_headers_say_whether_and_from_where_a_message_was_replayed() -> None:
    (row,) = readings(VALID["sensor_reading"], "sensor_reading")
    assert (row.replayed, row.source) == (False, None)
    headers = [("replayed", b"true"), ("source", b"room/\xc3\xa9.csv")]
    (row,) = readings(VALID["sensor_reading"], "sensor_reading", headers=headers)
    assert (row.replayed, row.source) == (True, "room/é.csv")


@pytest.mark.parametrize(
    ("said", "replayed"),
    [(b"true", True), (b"True", True), (b"1", True), (b"yes", True), (b"\xff", True), (b"2026-03-10", True),
     (None, False), (b"", False), (b" ", False), (b"false", False), (b"FALSE", False), (b"0", False)],
)  # fmt: skip
def test_every_replayed_header_counts_that_does_not_say_no(said: bytes | None, replayed: bool) -> None:
    (row,) = readings(VALID["sensor_reading"], "sensor_reading", headers=[("replayed", said)])
    assert row.replayed is replayed


def test_unknown_fields_stand_in_extras_under_their_parent() -> None:
    metadata = {"location": "zone-A", "firmware": "2.0", "battery": 80}
    event = message("device_event", metadata=metadata, **{"$raw": 1, "more": [1]})
    (row,) = readings(event, "device_event")
    assert json.loads(row.extras or "") == {"metadata": {"battery": 80}, "$$raw": 1, "more": [1]}
    assert (row.zone, row.firmware) == ("zone-A", "2.0")


def test_a_zone_is_any_text() -> None:
    event = message("device_event", metadata={"location": "hall 7, north", "firmware": "2.0"})
    assert readings(event, "device_event")[0].zone == "hall 7, north"


def test_readings_carry_the_columns_of_bronze_in_its_order() -> None:
    assert tuple(name for name in BRONZE_READINGS.column_names if name in Reading._fields) == Reading._fields
