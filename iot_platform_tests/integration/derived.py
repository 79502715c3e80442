"""Makes derived tables of some dates without Dagster, and reads them back, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import duckdb

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS


def materialize(settings: Settings, dates: Mapping[str, Iterable[date]], now: datetime) -> None:
    """Make each table, in this order, for its dates."""
    lake, engine = Lake(settings), DuckDBEngine(settings)
    try:
        sync_registry(lake, engine, now=now)
        for table, days in dates.items():
            levels = Levels(lake)
            for day in days:
                materialize_date(lake, engine, TRANSFORMS[table], day, now=now, levels=levels)
    finally:
        engine.close()


def rows_of(settings: Settings, table: str) -> list[dict[str, Any]]:
    """Every row of a table."""
    files = Lake(settings).snapshot(table).files(None)
    if not files:
        return []
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        query = f"from read_parquet({files}, hive_partitioning = true)"
        return connection.sql(query).to_arrow_table().to_pylist()
