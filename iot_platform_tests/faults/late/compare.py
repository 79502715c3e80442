"""Holds the lake's tables against the recomputation, row by row; says which rows of which dates differ."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from iot_platform.lake import Lake
from iot_platform_tests.faults.late.oracle import Rows, World, recomputed
from iot_platform_tests.parity.close import differences

KEYS: dict[str, tuple[str, ...]] = {
    "silver/readings": ("topic", "kafka_partition", "kafka_offset", "metric"),
    "silver/rejected_readings": ("topic", "kafka_partition", "kafka_offset", "metric"),
    "gold/sensor_windows": ("device_id", "metric", "window_start"),
    "gold/device_type_windows": ("device_type", "window_start"),
    "gold/location_hourly": ("site", "metric", "hour"),
    "gold/daily_summary": ("device_id", "metric"),
    "gold/sensor_health": ("device_id", "window_start"),
    "gold/duration_p95": ("device_type",),
    "gold/anomaly_events": ("device_id", "metric", "started_at"),
}


def stored(lake: Lake, table: str) -> dict[date, Rows]:
    """The table as it is, by date and key; a key that stands twice is an error of its own."""
    found: dict[date, Rows] = {}
    for row in lake.snapshot(table).delta.to_pyarrow_table().to_pylist():
        rows = found.setdefault(row["event_date"], {})
        key: tuple[Any, ...] = tuple(row[name] for name in KEYS[table])
        assert key not in rows, f"{table} {row['event_date']}: {key} stands twice"
        rows[key] = row
    return found


def assert_recomputed(lake: Lake, world: World, days: Iterable[date]) -> None:
    """Every table holds for these dates exactly what the recomputation gives, and nothing for any other date."""
    days = set(days)
    expected = recomputed(world, days)
    for table in KEYS:
        found = stored(lake, table)
        for day in sorted(days | found.keys()):
            _assert_equal(f"{table} {day}", expected[table].get(day, {}), found.get(day, {}))


def _assert_equal(place: str, expected: Rows, found: Rows) -> None:
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    assert not missing and not more, f"{place}: missing {sorted(missing, key=str)[:5]}, too many {sorted(more, key=str)[:5]}"
    for key, plain in expected.items():
        wrong = differences(plain, found[key], list(plain), scale=1e4)
        assert not wrong, f"{place} {key}: expected != found: {'; '.join(wrong)}"
