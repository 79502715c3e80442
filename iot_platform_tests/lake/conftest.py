"""A small lake without broker, Spark or engine: rows are written as Arrow, as an engine would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import TABLES
from iot_platform.lake import Lake
from iot_platform.settings import Settings

Put = Callable[..., int]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


def p95_row(day: date, device_type: str = "motion", **other: Any) -> dict[str, Any]:
    row = {"device_type": device_type, "events": 500, "excluded": 1, "mean": 2.0, "std": 1.0, "p95": 4.0}
    return row | {"processed_at": NOW, "pipeline_version": "t", "event_date": day} | other


@pytest.fixture
def put(lake: Lake) -> Put:
    """Replace one date of a table by these rows, at this level."""

    def write(table: str, day: date | None, rows: Sequence[Mapping[str, Any]], level: int) -> int:
        content = pa.Table.from_pylist(list(rows), schema=arrow_schema(TABLES[table]))
        return lake.replace(table, day, content.to_reader(), level=level, inputs={"bronze/readings": 3})

    return write
