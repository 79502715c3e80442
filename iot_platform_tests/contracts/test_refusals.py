"""Every reason for which a message is quarantined, and what is no reason."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from iot_platform.contracts.parse import ParseRules, Reading, Refusal, parse_record, parse_value, validate_message
from iot_platform.contracts.refusal import shown
from iot_platform.contracts.tables import QUARANTINE_REASONS
from iot_platform.contracts.wire import CONTRACTS
from iot_platform_tests.contracts.messages import ARRIVAL_US, RULES, VALID, message, record


def refusal(value: bytes | str | dict[str, Any] | None, contract: str = "sensor_reading", **changes: Any) -> Refusal:
    parsed = parse_record(record(value, contract, **changes), RULES)
    assert isinstance(parsed, Refusal), parsed
    return parsed


def readings(value: bytes | str | dict[str, Any], contract: str = "sensor_reading", **changes: Any) -> list[Reading]:
    parsed = parse_record(record(value, contract, **changes), RULES)
    assert isinstance(parsed, list), parsed
    return parsed


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {}
    for _ in range(depth - 2):
        node = {"deeper": node}
    return message("sensor_reading", more=node)


SENSOR, EVENT, ENV, GENERIC = "sensor_reading", "device_event", "environment_reading", "generic_reading"
CASES: list[tuple[str, bytes | str | dict[str, Any] | None, str]] = [
    ("not_utf8", b'{"sensor_id": "\xff\xfe"}', SENSOR),
    ("not_utf8", rb'{"sensor_id": "\ud800"}', SENSOR),
    ("not_json", b"", SENSOR),
    ("not_json", None, SENSOR),
    ("not_json", '{"sensor_id": "a", }', SENSOR),
    ("not_json", "\ufeff{}", SENSOR),
    ("not_json", "{} {}", SENSOR),
    ("not_an_object", "null", SENSOR),
    ("not_an_object", "[1, 2]", SENSOR),
    ("not_an_object", '"text"', SENSOR),
    ("not_an_object", "12", SENSOR),
    ("not_an_object", "true", SENSOR),
    ("not_an_object", "NaN", SENSOR),
    ("too_large", message(SENSOR, more="x" * (1 << 20)), SENSOR),
    ("too_large", message(SENSOR, more="x" * (64 * 1024 + 1)), SENSOR),
    ("too_large", message(SENSOR, more=[{"é" * 33_000: 1}]), SENSOR),
    ("too_deep", nested(33), SENSOR),
    ("too_deep", "[" * 100_000 + "]" * 100_000, SENSOR),
    ("too_deep", '{"a":' * 100_000, SENSOR),
    ("missing_field", message(SENSOR, "sensor_id"), SENSOR),
    ("missing_field", message(SENSOR, "sensor_type"), SENSOR),
    ("missing_field", message(SENSOR, "value"), SENSOR),
    ("missing_field", message(SENSOR, "timestamp"), SENSOR),
    ("missing_field", message(EVENT, "event_id"), EVENT),
    ("missing_field", message(EVENT, "event_duration"), EVENT),
    ("missing_field", message(EVENT, "status"), EVENT),
    ("missing_field", message(EVENT, "value"), EVENT),
    ("missing_field", message(EVENT, "metadata"), EVENT),
    ("missing_field", message(EVENT, metadata={}), EVENT),
    ("missing_field", message(EVENT, metadata={"location": "zone-A"}), EVENT),
    ("missing_field", message(EVENT, metadata={"firmware": "1.4.2", "zone": "zone-A"}), EVENT),
    ("missing_field", message(ENV, "temperature", "humidity", "energy_consumption"), ENV),
    ("missing_field", message(GENERIC, "measurements"), GENERIC),
    ("missing_field", message(GENERIC, measurements={}), GENERIC),
    ("wrong_type", message(SENSOR, value="21.5"), SENSOR),
    ("wrong_type", message(SENSOR, value=True), SENSOR),
    ("wrong_type", message(SENSOR, value=[1]), SENSOR),
    ("wrong_type", message(SENSOR, sensor_id=12), SENSOR),
    ("wrong_type", message(SENSOR, sensor_id=None), SENSOR),
    ("wrong_type", message(SENSOR, timestamp=None), SENSOR),
    ("wrong_type", message(SENSOR, timestamp=True), SENSOR),
    ("wrong_type", message(SENSOR, timestamp={}), SENSOR),
    ("wrong_type", message(SENSOR, unit=3), SENSOR),
    ("wrong_type", message(SENSOR, sensor_type=""), SENSOR),
    ("wrong_type", message(EVENT, event_id="12"), EVENT),
    ("wrong_type", message(EVENT, event_id=12), EVENT),
    ("wrong_type", message(EVENT, event_duration=-0.5), EVENT),
    ("wrong_type", message(EVENT, event_duration=None), EVENT),
    ("wrong_type", message(EVENT, status="broken"), EVENT),
    ("wrong_type", message(EVENT, metadata="none"), EVENT),
    ("wrong_type", message(EVENT, metadata=None), EVENT),
    ("wrong_type", message(EVENT, metadata={"location": "zone-A", "firmware": 1}), EVENT),
    ("wrong_type", message(EVENT, metadata={"location": None, "firmware": "1.4.2"}), EVENT),
    ("wrong_type", message(ENV, humidity="wet"), ENV),
    ("wrong_type", message(GENERIC, measurements=[1]), GENERIC),
    ("wrong_type", message(GENERIC, measurements=None), GENERIC),
    ("wrong_type", message(GENERIC, measurements={"co2": "high"}), GENERIC),
    ("wrong_type", message(GENERIC, measurements={"": 1}), GENERIC),
    ("wrong_type", message(GENERIC, tags=[]), GENERIC),
    ("not_finite", message(SENSOR, value=float("nan")), SENSOR),
    ("not_finite", message(SENSOR, value=float("-inf")), SENSOR),
    ("not_finite", json.dumps(message(SENSOR, value=0)).replace(": 0,", ": 1e999,"), SENSOR),
    ("not_finite", message(SENSOR, value=10**400), SENSOR),
    ("not_finite", json.dumps(message(SENSOR, value=0)).replace(": 0,", f": {'9' * 309},"), SENSOR),
    ("not_finite", json.dumps(message(SENSOR, value=0)).replace(": 0,", f": {'9' * 9000},"), SENSOR),
    ("not_finite", message(SENSOR, more={"deep": [float("nan")]}), SENSOR),
    ("not_finite", message(EVENT, event_duration=float("nan")), EVENT),
    ("bad_timestamp", message(SENSOR, timestamp="yesterday"), SENSOR),
    ("bad_timestamp", message(SENSOR, timestamp=""), SENSOR),
    ("bad_timestamp", message(SENSOR, timestamp="2026-11-19T10:11:12"), SENSOR),
    ("bad_timestamp", message(SENSOR, timestamp="2026-11-19"), SENSOR),
    ("bad_timestamp", message(SENSOR, timestamp="2026-02-30T10:11:12Z"), SENSOR),
    ("bad_timestamp", message(SENSOR, timestamp="1795083072"), SENSOR),
    ("bad_timestamp", message(SENSOR, timestamp=1_795_083_072_345_000_000), SENSOR),
    ("clock_out_of_range", message(SENSOR, timestamp="2009-12-31T23:59:59.999Z"), SENSOR),
    ("clock_out_of_range", message(SENSOR, timestamp=0), SENSOR),
    ("clock_out_of_range", message(SENSOR, timestamp=-5), SENSOR),
    ("clock_out_of_range", message(SENSOR, timestamp="2026-11-19T11:11:14.346Z"), SENSOR),
    ("clock_out_of_range", message(SENSOR, timestamp="2099-01-01T00:00:00Z"), SENSOR),
    ("bad_device_id", message(SENSOR, sensor_id=""), SENSOR),
    ("bad_device_id", message(SENSOR, sensor_id="  "), SENSOR),
    ("bad_device_id", message(SENSOR, sensor_id="x" * 257), SENSOR),
    ("bad_device_id", message(SENSOR, sensor_id="a\nb"), SENSOR),
    ("bad_device_id", message(SENSOR, sensor_id="a\u0085"), SENSOR),
    ("bad_device_id", message(EVENT, device_id="\x00"), EVENT),
]


@pytest.mark.parametrize(
    ("reason", "value", "contract"), CASES, ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)]
)
def test_a_message_that_cannot_be_a_reading_is_refused_with_its_reason(
    reason: str, value: bytes | str | dict[str, Any] | None, contract: str
) -> None:
    refused = refusal(value, contract)
    assert refused.reason == reason, refused
    assert refused.detail
    assert refused.detail.isprintable()


def test_every_reason_of_the_parser_has_a_case() -> None:
    from_operation = {"closed_date", "erased_device"}
    assert {case[0] for case in CASES} | {"unknown_contract"} == set(QUARANTINE_REASONS) - from_operation


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_valid_message_is_taken(contract: str) -> None:
    assert len(readings(VALID[contract], contract)) == {"environment_reading": 3, "generic_reading": 2}.get(contract, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"sensor_id": "x" * 256},
        {"timestamp": "2010-01-01T00:00:00Z"},
        {"timestamp": "2026-11-19T11:11:14.345Z"},
        {"value": None},
        {"value": 1.7976931348623157e308},
        {"more": "x" * (64 * 1024)},
        {"sensor_type": "radon"},
        {"unit": None},
        {"brackets": "{" * 200},
    ],
)
def test_what_is_just_inside_the_rules_is_taken(changes: dict[str, Any]) -> None:
    assert readings(message(SENSOR, **changes))


def test_nesting_up_to_the_limit_is_taken() -> None:
    assert readings(nested(32))


@pytest.mark.parametrize(
    ("headers", "topic"),
    [
        ([("contract", b"nothing_known")], "iot.sensor-readings"),
        ([("contract", b"\xff")], "iot.sensor-readings"),
        ([], "some.other.topic"),
        ([("contract_version", b"2")], "iot.sensor-readings"),
        ([("contract_version", b"two")], "iot.sensor-readings"),
        ([("contract", b"sensor_reading"), ("contract_version", b"99.1")], "iot.sensor-readings"),
    ],
)
def test_a_contract_that_is_not_declared_is_unknown(headers: list[tuple[str, bytes | None]], topic: str) -> None:
    assert refusal(VALID[SENSOR], headers=headers, topic=topic).reason == "unknown_contract"


@pytest.mark.parametrize(
    "headers",
    [
        [("contract", None)],
        [("contract_version", b"1")],
        [("contract_version", b"v1")],
        [("contract", b"sensor_reading"), ("contract_version", b"1.4")],
        [("contract", b"nothing_known"), ("contract", b"sensor_reading")],
    ],
)
def test_a_declared_contract_is_found_by_header_or_topic(headers: list[tuple[str, bytes | None]]) -> None:
    assert readings(VALID[SENSOR], headers=headers)[0].contract == "sensor_reading"


def test_the_header_wins_over_the_topic() -> None:
    taken = readings(VALID[EVENT], SENSOR, headers=[("contract", b"device_event")])
    assert taken[0].contract == "device_event"


def test_the_first_partition_is_a_rule() -> None:
    rules = ParseRules(RULES.contract_of_topic, first_date=date(2026, 11, 20))
    parsed = parse_record(record(VALID[SENSOR]), rules)
    assert isinstance(parsed, Refusal)
    assert parsed.reason == "clock_out_of_range"


def test_a_producer_is_told_the_same_before_it_sends() -> None:
    sensor = CONTRACTS[SENSOR]
    assert validate_message(sensor, VALID[SENSOR], arrival_us=ARRIVAL_US) is None
    wrong = message(SENSOR, value="high")
    told = validate_message(sensor, wrong, arrival_us=ARRIVAL_US)
    assert told == refusal(wrong) == parse_value(sensor, json.dumps(wrong).encode(), arrival_us=ARRIVAL_US)
    assert isinstance(parse_value(sensor, json.dumps(VALID[SENSOR]).encode(), arrival_us=ARRIVAL_US), list)
    for odd in (float("nan"), float("inf")):
        told = validate_message(sensor, message(SENSOR, value=odd), arrival_us=ARRIVAL_US)
        assert told is not None
        assert told.reason == "not_finite"
    told = validate_message(sensor, message(SENSOR, more={1, 2}), arrival_us=ARRIVAL_US)
    assert told is not None
    assert told.reason == "wrong_type"


def test_details_are_short_and_printable() -> None:
    assert shown("a" * 100) == "a" * 60 + "…"
    assert shown("a\nb") == "a\ufffdb"
    assert shown([1, None]) == "[1, None]"
