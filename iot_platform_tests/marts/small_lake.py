"""A small lake for tests of the marts: Gold and Silver written as Arrow rows at chosen levels, no engine and no broker."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import TABLES
from iot_platform.lake import Lake

SUNDAY, MONDAY, TUESDAY = date(2026, 1, 4), date(2026, 1, 5), date(2026, 1, 6)
NOW = datetime(2026, 1, 7, tzinfo=UTC)

Row = dict[str, Any]


def put(lake: Lake, table: str, day: date | None, rows: Iterable[Row], level: int) -> None:
    """Replace one date; columns that a row does not give are null."""
    lineage = {"processed_at": NOW, "pipeline_version": "test", "event_date": day, "changes": []}
    content = pa.Table.from_pylist([lineage | row for row in rows], schema=arrow_schema(TABLES[table]))
    lake.replace(table, day, content.to_reader(), level=level, inputs={})


def at(day: date, minutes: float = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minutes)


def device(device_id: str, **other: Any) -> Row:
    row = {"device_id": device_id, "contract": "environment_reading", "site": "hall", "cadence_seconds": 60.0}
    return row | {"installed_at": at(SUNDAY), "source": "declared"} | other


def window(device_id: str, metric: str, day: date, avg: float, **other: Any) -> Row:
    row = {"device_id": device_id, "metric": metric, "window_start": at(day), "site": "hall", "readings": 5, "avg": avg}
    row |= {"min": avg - 1, "max": avg + 1, "sum": 5 * avg, "p50": avg, "p95": avg, "p99": avg, "anomalies": 1}
    return row | {"first_event_time": at(day), "last_event_time": at(day, 4)} | other


def health(device_id: str, day: date, actual: int, **other: Any) -> Row:
    percent = 100.0 * actual / 5
    row = {"device_id": device_id, "window_start": at(day), "window_seconds": 300, "contract": "environment_reading"}
    return row | {"expected": 5.0, "actual": actual, "health_pct": percent, "is_failing": percent < 90} | other


def summary(device_id: str, metric: str, day: date, **other: Any) -> Row:
    row = {"device_id": device_id, "metric": metric, "site": "hall", "readings": 5, "avg": 20.0, "min": 19.0, "max": 21.0}
    row |= {"p50": 20.0, "p95": 21.0, "p99": 21.0, "anomalies": 1, "duplicates": 2, "null_values": 0, "not_finite": 0}
    return row | {"out_of_range": 1, "avg_7d": 20.0} | other


def event(number: int, day: date, duration: float, device_type: str = "motion") -> Row:
    row = {"contract": "device_event", "contract_version": 1, "event_id": f"e{number}", "device_id": "camera"}
    row |= {"device_type": device_type, "metric": device_type, "value": 1.0, "event_duration_ms": duration}
    row |= {"event_time": at(day, number / 100), "topic": "t", "kafka_partition": 0, "kafka_offset": number}
    row |= {"kafka_timestamp": at(day), "ingest_seq": 1, "is_late": False, "replayed": False}
    return row | {"recent_count": 0, "is_anomaly": False}


def p95(device_type: str, value: float) -> Row:
    return {"device_type": device_type, "events": 500, "excluded": 0, "mean": value, "std": 1.0, "p95": value}


def anomaly(day: date, first: float, last: float, **other: Any) -> Row:
    """A piece of an anomaly of the room's temperature, from the first to the last minute of the day."""
    row = {"device_id": "room", "metric": "temperature", "detector": "recent_z_score", "readings": 2, "peak_score": first}
    row |= {"started_at": at(day, first), "ended_at": at(day, last), "peak_value": last}
    return row | {"continues": last > 24 * 60 - 15} | other


def checked(event_id: int, day: date | None, evaluated_at: datetime, **other: Any) -> Row:
    row = {"evaluation_id": f"r/{event_id}", "event_id": event_id, "evaluated_at": evaluated_at, "asset": "silver/readings"}
    row |= {"check_name": "null_rate", "event_date": day, "passed": True, "severity": "WARN", "is_blocking": False}
    return row | {"figure": 0.5, "unit": "share"} | other


def fill(lake: Lake) -> None:
    """Three dates over two weeks, one talking and one silent device, a camera with events, an anomaly over midnight from
    Sunday to Monday and one on Tuesday, a check that passed on two dates; all at level 10."""
    put(lake, "registry/devices", None, [device("room"), device("mute")], 10)
    for day in (SUNDAY, MONDAY, TUESDAY):
        put_windows(lake, day, 20.0, 10)
        put(lake, "gold/sensor_health", day, [health("room", day, 5), health("mute", day, 0)], 10)
        put(lake, "gold/daily_summary", day, [summary("room", "temperature", day)], 10)
        put(lake, "silver/readings", day, [event(n, day, float(n)) for n in range(300)], 10)
    put(lake, "gold/duration_p95", MONDAY, [p95("motion", 100.0)], 10)
    put(lake, "gold/anomaly_events", SUNDAY, [anomaly(SUNDAY, 1410, 1435)], 10)
    put(lake, "gold/anomaly_events", MONDAY, [anomaly(MONDAY, 5, 9), anomaly(MONDAY, 600, 601)], 10)
    put(lake, "gold/anomaly_events", TUESDAY, [anomaly(TUESDAY, 3, 3)], 10)
    put(lake, "ops/check_results", None, [checked(1, SUNDAY, NOW), checked(2, MONDAY, NOW, figure=0.7)], 10)


def put_windows(lake: Lake, day: date, temperature: float, level: int) -> None:
    rows = [window("room", "temperature", day, temperature), window("room", "humidity", day, 50.0)]
    put(lake, "gold/sensor_windows", day, [*rows, window("room", "energy", day, 2.0)], level)
