"""Rows of derived tables, good ones; a test breaks what it is about."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from iot_platform_tests.assets.small_lake import NOW, D, at

Row = dict[str, Any]


def usable(number: int = 0, day: date = D, **other: Any) -> Row:
    """One row of ``silver/readings``."""
    row = {"contract": "sensor_reading", "contract_version": 1, "event_id": f"e{number}", "device_id": "d1"}
    row |= {"metric": "temperature", "value": 20.0, "event_time": at(day, 0) + timedelta(minutes=number)}
    row |= {"topic": "t", "kafka_partition": 0, "kafka_offset": number, "kafka_timestamp": NOW, "ingest_seq": 1}
    row |= {"is_late": False, "replayed": False, "recent_count": 0, "is_anomaly": False}
    return row | {"processed_at": NOW, "pipeline_version": "t", "event_date": day} | other


def rejected(number: int = 0, reason: str = "duplicate", day: date = D, **other: Any) -> Row:
    """One row of ``silver/rejected_readings``."""
    row = {name: value for name, value in usable(number, day).items() if name not in ("recent_count", "is_anomaly")}
    return row | {"reason": reason} | other


def health(device: str, percent: float, window: int = 0, day: date = D, **other: Any) -> Row:
    """One row of ``gold/sensor_health``."""
    row = {"device_id": device, "window_start": at(day, 0) + timedelta(minutes=5 * window), "window_seconds": 300}
    row |= {"contract": "sensor_reading", "expected": 5.0, "actual": round(percent / 20), "health_pct": percent}
    row |= {"is_failing": percent < 90, "processed_at": NOW, "pipeline_version": "t", "event_date": day}
    return row | other


def device(device_id: str, source: str = "declared") -> Row:
    """One row of ``registry/devices``."""
    row = {"device_id": device_id, "contract": "sensor_reading", "installed_at": at(D, 0), "source": source}
    return row | {"changes": []}


def metric(name: str) -> Row:
    """One row of ``registry/metrics``."""
    return {"contract": "sensor_reading", "metric": name, "unit": "°C", "source": "contract", "changes": []}
