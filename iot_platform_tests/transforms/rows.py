"""Factories of input rows, and a run of one transform over them: what the tests of the SQL texts and of parity share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from iot_platform.contracts.arrow import ARROW_TYPES, arrow_schema
from iot_platform.contracts.tables import TABLES
from iot_platform.engines.protocol import CLOCKS_SCHEMA, Engine, Inputs, Params, view_columns
from iot_platform.transforms.catalog import TRANSFORMS

Row = dict[str, Any]

DAY = date(2026, 3, 10)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
PROCESSED = datetime(2026, 3, 11, 1, 2, 3, 456789, tzinfo=UTC)
_numbers = itertools.count(1)


def at(seconds: float = 0, *, days: int = 0) -> datetime:
    """A time ``seconds`` after the midnight that begins ``DAY``."""
    return MIDNIGHT + timedelta(days=days, seconds=seconds)


def bronze(**given: Any) -> Row:
    """A row of bronze/readings: its own event and offset unless said; it arrives one second after its event."""
    number = next(_numbers)
    row: Row = {
        "contract": "sensor_reading", "contract_version": 1, "event_id": f"event-{number:09}", "device_id": "d1",
        "metric": "temperature", "value": 20.0, "event_time": at(number), "topic": "t", "kafka_partition": 0,
        "kafka_offset": number, "ingest_seq": 1, "is_late": False, "replayed": False, "batch_id": 0,
    } | given  # fmt: skip
    row.setdefault("kafka_timestamp", row["event_time"] + timedelta(seconds=1))
    row.setdefault("ingested_at", row["kafka_timestamp"])
    row.setdefault("event_date", row["event_time"].date())
    return row


def silver(**given: Any) -> Row:
    """A row of silver/readings, not anomalous unless said."""
    row = bronze(**given)
    return {"recent_count": 0, "is_anomaly": False, "processed_at": PROCESSED, "pipeline_version": "test"} | row


def event(duration: float, device_type: str = "motion", **given: Any) -> Row:
    """A device event as Silver has it."""
    return silver(
        **{"contract": "device_event", "metric": device_type, "device_type": device_type, "event_duration_ms": duration}
        | given
    )


def rejected(reason: str, **given: Any) -> Row:
    return {"reason": reason, "processed_at": PROCESSED, "pipeline_version": "test"} | bronze(**given)


def device(device_id: str = "d1", cadence_seconds: float | None = 60.0, **given: Any) -> Row:
    """A declared device, there since long before ``DAY``."""
    return {
        "device_id": device_id, "contract": "sensor_reading", "cadence_seconds": cadence_seconds,
        "installed_at": at(days=-100), "retired_at": None, "source": "declared",
    } | given  # fmt: skip


def bounds(metric: str = "temperature", low: float | None = -50, high: float | None = 150, **given: Any) -> Row:
    return {
        "contract": "sensor_reading", "metric": metric, "unit": "°C", "min_value": low, "max_value": high,
        "source": "contract",
    } | given  # fmt: skip


NEXT_MIDNIGHT = at(days=1)


def clocks(as_of: datetime = NEXT_MIDNIGHT, *contracts: str) -> pa.Table:
    names = contracts or ("sensor_reading", "device_event", "environment_reading", "generic_reading")
    return pa.Table.from_pylist([{"contract": name, "as_of": as_of} for name in names], schema=CLOCKS_SCHEMA)


def arrow(table: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(TABLES[table]))


def views(table: str, rows: Mapping[str, Iterable[Mapping[str, Any]]], as_of: pa.Table | None = None) -> Inputs:
    """The inputs of a transform from rows by view name; a view that is not given is empty."""
    given = dict(rows)
    tables: dict[str, Any] = {"clocks": clocks() if as_of is None else as_of}
    for view, columns in view_columns(TRANSFORMS[table]).items():
        schema = pa.schema([(column.name, ARROW_TYPES[column.kind]) for column in columns])
        tables[view] = pa.Table.from_pylist([dict(row) for row in given.pop(view, ())], schema=schema)
    assert not given, f"{table} does not read {set(given)}"
    return tables


def params(day: date | None = DAY) -> Params:
    return Params(day, PROCESSED, "test")


def make(
    engine: Engine, table: str, *, day: date | None = DAY, as_of: pa.Table | None = None,
    **rows: Iterable[Mapping[str, Any]],
) -> list[Row]:  # fmt: skip
    """Run a transform over rows by view name; its rows."""
    with engine.compute(TRANSFORMS[table], views(table, rows, as_of), params(day)) as derived:
        return derived.batches().read_all().to_pylist()
