"""Holds the lake's tables against the recomputation, row by row; says which rows of which dates differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from iot_platform.lake import Lake
from iot_platform.lake.ledger import date_ledger, offset_ledger
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


def assert_recomputed(
    lake: Lake, world: World, days: Iterable[date], closed: Mapping[str, Mapping[date, Rows]] | None = None
) -> None:
    """Every table holds for these dates exactly what the recomputation gives, and nothing for any other date.

    ``closed``: what dates held when they were closed, by table; they hold it still, to the last digit.
    """
    frozen = closed or {}
    days = set(days) - {day for dates in frozen.values() for day in dates}
    expected = recomputed(world, days)
    for table in KEYS:
        found, kept = stored(lake, table), frozen.get(table, {})
        for day, rows in kept.items():
            assert found.get(day, {}) == rows, f"{table} {day} is closed, and was changed"
        for day in sorted(days | (found.keys() - kept.keys())):
            _assert_equal(f"{table} {day}", expected[table].get(day, {}), found.get(day, {}))


def assert_balanced(lake: Lake) -> None:
    """Every row and every message is accounted for."""
    wrong = [line for line in date_ledger(lake) if not line.is_balanced]
    offsets = offset_ledger(lake)
    assert not wrong and offsets.is_balanced, f"the ledger is not balanced: {wrong}; {offsets}"
    assert not offsets.without_record, f"the log has no gap, and some were gone over: {offsets}"


def _assert_equal(place: str, expected: Rows, found: Rows) -> None:
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    assert not missing and not more, f"{place}: missing {sorted(missing, key=str)[:5]}, too many {sorted(more, key=str)[:5]}"
    for key, plain in expected.items():
        wrong = differences(plain, found[key], list(plain), scale=1e4)
        assert not wrong, f"{place} {key}: expected != found: {'; '.join(wrong)}"
