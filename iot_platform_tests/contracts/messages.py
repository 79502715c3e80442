"""Well-formed messages of every contract, to start from: a test changes the one thing that it is about."""

from __future__ import annotations

import json
from typing import Any

from iot_platform.contracts.parse import KafkaRecord, ParseRules

# 2026-11-19T10:11:12.345Z
EVENT_US = 1_795_083_072_345_000
ARRIVAL_US = EVENT_US + 2_000_000
TOPICS = {
    "iot.environment-readings": "environment_reading",
    "iot.sensor-readings": "sensor_reading",
    "iot.device-events": "device_event",
    "iot.readings": "generic_reading",
}
TOPIC_OF = {contract: topic for topic, contract in TOPICS.items()}
RULES = ParseRules(TOPICS)
VALID: dict[str, dict[str, Any]] = {
    "environment_reading": {
        "sensor_id": "env-1",
        "timestamp": "2026-11-19T10:11:12.345Z",
        "temperature": 21.5,
        "humidity": 44.25,
        "energy_consumption": 12.5,
        "location": "hall",
        "state": "on",
        "device_type": "room",
    },
    "sensor_reading": {
        "sensor_id": "sensor-1",
        "sensor_type": "pressure",
        "value": 1013.2,
        "timestamp": "2026-11-19T10:11:12.345Z",
        "unit": "hPa",
        "location": "hall",
        "status": "ok",
    },
    "device_event": {
        "event_id": "6f1c2f0e-8f61-4c3e-9f2e-0b6c2f7a1d11",
        "device_id": "motion-1",
        "device_type": "motion",
        "timestamp": "2026-11-19T10:11:12.345Z",
        "event_duration": 120.5,
        "value": 3.0,
        "status": "normal",
        "metadata": {"location": "zone-B", "firmware": "1.4.2"},
    },
    "generic_reading": {
        "sensor_id": "generic-1",
        "timestamp": "2026-11-19T10:11:12.345Z",
        "measurements": {"co2": 400.5, "nox": 3.25},
        "site": "yard",
        "tags": {"room": "4"},
    },
}


def message(contract: str, *without: str, **changes: Any) -> dict[str, Any]:
    """A valid message with some fields left out and others changed or added."""
    return {key: value for key, value in VALID[contract].items() if key not in without} | changes


def record(
    value: bytes | str | dict[str, Any] | None,
    contract: str = "sensor_reading",
    headers: list[tuple[str, bytes | None]] | None = None,
    **changes: Any,
) -> KafkaRecord:
    """A record of the contract's topic with this value."""
    if isinstance(value, dict):
        value = json.dumps(value)
    raw = value.encode() if isinstance(value, str) else value
    return KafkaRecord(TOPIC_OF[contract], 0, 7, ARRIVAL_US, b"key", raw, headers or [])._replace(**changes)
