"""Bronze loses nothing: from the rows of any message that was taken the message comes back, equal as parsed JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_platform.contracts.parse import Refusal, parse_record
from iot_platform.contracts.rebuild import rebuild_message
from iot_platform.contracts.tables import QUARANTINE_REASONS
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.contracts.wire import CONTRACTS
from iot_platform_tests.contracts.messages import RULES, TOPIC_OF, VALID, message, record


def rebuilt(value: bytes, contract: str) -> dict[str, Any] | None:
    parsed = parse_record(record(value, contract), RULES)
    if isinstance(parsed, Refusal):
        assert parsed.reason in QUARANTINE_REASONS
        return None
    return rebuild_message([row._asdict() for row in parsed])


def test_the_rows_of_a_table_hold_times_and_come_back_too() -> None:
    parsed = parse_record(record(VALID["sensor_reading"]), RULES)
    assert isinstance(parsed, list)
    rows = [row._asdict() | {"event_time": EPOCH + timedelta(microseconds=row.event_time)} for row in parsed]
    assert rebuild_message(rows) == VALID["sensor_reading"]


@pytest.mark.parametrize(
    ("contract", "sent"),
    [
        ("sensor_reading", message("sensor_reading", value=2**63 + 1)),
        ("sensor_reading", message("sensor_reading", value=10**40 + 1)),
        ("sensor_reading", message("sensor_reading", value=-0.0)),
        ("sensor_reading", message("sensor_reading", value=5e-324)),
        ("sensor_reading", message("sensor_reading", more=2**80, less=-(2**70))),
        ("sensor_reading", message("sensor_reading", timestamp=1795083072.3450001)),
        ("sensor_reading", message("sensor_reading", timestamp="2026-11-19T12:11:12.3450009+02:00")),
        ("sensor_reading", message("sensor_reading", "unit")),
        ("sensor_reading", message("sensor_reading", unit=None)),
        ("sensor_reading", message("sensor_reading", unit="")),
        ("sensor_reading", message("sensor_reading", location=None, status=None)),
        ("sensor_reading", message("sensor_reading", **{"$raw": {"value": 1}, "$$": 2, "$absent": ["x"], "": 0})),
        ("sensor_reading", message("sensor_reading", text="\u0000 \U0001f600 é")),
        ("environment_reading", message("environment_reading", temperature=None, value=1, unit="K")),
        ("device_event", message("device_event", event_id=VALID["device_event"]["event_id"].upper())),
        ("device_event", message("device_event", metadata={"location": "", "firmware": "", "$x": {"y": []}})),
        ("device_event", message("device_event", **{"metadata.location": "elsewhere"})),
        ("device_event", message("device_event", event_duration=2**53 + 1)),
        ("generic_reading", message("generic_reading", measurements={"a.b": 2**60 + 1, "c": None})),
        ("generic_reading", message("generic_reading", tags={})),
        ("generic_reading", message("generic_reading", tags=None)),
    ],
)
def test_what_columns_cannot_hold_comes_back(contract: str, sent: dict[str, Any]) -> None:
    value = json.dumps(sent).encode()
    assert rebuilt(value, contract) == json.loads(value)


def test_of_a_name_given_twice_the_last_counts() -> None:
    text = json.dumps(VALID["sensor_reading"])[:-1] + ', "value": 7}'
    assert rebuilt(text.encode(), "sensor_reading") == json.loads(text)


NAMES = st.sampled_from(
    ["$raw", "$time", "$$x", "value", "unit", "metadata", "location", "tags", "measurements", "state", "zone", "more", "a.b"]
)
REQUIRED_NAMES = st.sampled_from(
    ["sensor_id", "timestamp", "event_id", "device_id", "status", "event_duration", "sensor_type"]
)
HEADERS = st.tuples(
    st.sampled_from(["contract", "contract_version", "replayed", "source", "x"]), st.none() | st.binary(max_size=8)
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
NUMBERS = st.none() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.sampled_from(
    ["2026-11-19T10:11:12Z", "2026-11-19T10:11:12.000Z", "2026-11-19T10:11:12.5+01:00", 1795083072, 1795083072345, 1.5e9]
)


@st.composite
def taken_messages(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Messages near the valid ones: optional fields in any state, odd numbers, unknown fields with awkward names."""
    contract = draw(st.sampled_from(sorted(CONTRACTS)))
    sent = dict(VALID[contract]) | {"timestamp": draw(TIMES)}
    optional = [field.path[0] for field in CONTRACTS[contract].fields if not field.required]
    for name in draw(st.lists(st.sampled_from(optional), unique=True)) if optional else []:
        sent[name] = None
        if draw(st.booleans()):
            del sent[name]
    numbers = [name for name in ("temperature", "humidity", "energy_consumption", "value") if name in sent]
    for name in draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else []:
        sent[name] = draw(NUMBERS)
    if contract == "generic_reading":
        names = st.text("ab.c", min_size=1, max_size=4)
        sent["measurements"] = draw(st.dictionaries(names, NUMBERS, min_size=1, max_size=4))
    if contract == "device_event":
        sent["metadata"] = {**draw(st.dictionaries(NAMES, JSON, max_size=4)), "location": "zone-A", "firmware": "2"}
    modelled = set(sent) | {field.path[0] for field in CONTRACTS[contract].fields} | {
        "temperature", "humidity", "energy_consumption", "value"
    }  # fmt: skip
    unknown = draw(st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=4))
    return contract, sent | {name: value for name, value in unknown.items() if name not in modelled}


@settings(deadline=None)
@given(taken_messages())
def test_every_message_that_is_taken_comes_back(case: tuple[str, dict[str, Any]]) -> None:
    contract, sent = case
    value = json.dumps(sent).encode()
    assert rebuilt(value, contract) == json.loads(value)


@settings(deadline=None)
@given(contract=st.sampled_from(sorted(TOPIC_OF)), changes=st.dictionaries(NAMES | REQUIRED_NAMES, JSON, max_size=4))
def test_any_object_is_taken_whole_or_refused(contract: str, changes: dict[str, Any]) -> None:
    value = json.dumps(VALID[contract] | changes).encode()
    back = rebuilt(value, contract)
    assert back is None or back == json.loads(value)


@settings(deadline=None)
@given(
    value=st.binary(max_size=60) | st.text(max_size=40).map(str.encode) | JSON.map(json.dumps).map(str.encode),
    headers=st.lists(HEADERS),
    cut=st.integers(0, 200),
    contract=st.sampled_from(sorted(TOPIC_OF)),
)
def test_no_bytes_make_the_parser_raise(
    value: bytes, headers: list[tuple[str, bytes | None]], cut: int, contract: str
) -> None:
    for raw in (value, json.dumps(VALID[contract]).encode()[:cut] + value):
        parsed = parse_record(record(raw, contract, headers), RULES)
        assert isinstance(parsed, list) or parsed.reason in QUARANTINE_REASONS
