"""A small lake with a device to erase, ``dev-1``, among others whose names contain it; and a look at all its files that
knows nothing of the platform's own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from iot_platform.contracts.tables import TABLES
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.lake import Lake
from iot_platform.lake.ledger import date_ledger, offset_ledger
from iot_platform.lake.levels import Levels
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake, at

DEVICE, OTHER, THIRD = "dev-1", "dev-10", "hall/dev-1"
DAYS = (D, D + DAY)
WHERE = {"topic", "kafka_partition", "kafka_offset", "ingest_seq", "batch_id"}
LINEAGE = {"processed_at", "pipeline_version", "ingested_at"}
DECLARED = "device_id,contract,device_type,site,zone,state,firmware,cadence_seconds,installed_at,retired_at\n"


def readings(device: str, day: Any) -> list[dict[str, Any]]:
    """A day of a device: half-hourly, with a duplicate, a null, one out of range, and a spike."""
    rows = [{"device_id": device, "event_time": at(day, 0) + DAY / 48 * n, "value": 20.0 + n % 5} for n in range(48)]
    return [*rows, dict(rows[3]), rows[4] | {"event_id": f"{device} null", "value": None},
            rows[5] | {"event_id": f"{device} range", "value": 900.0},
            rows[40] | {"event_id": f"{device} odd", "value": 90.0}]  # fmt: skip


def fill(small: SmallLake, *, with_device: bool = True) -> None:
    """Two dates of three devices, declared and inferred; in quarantine messages that are its, name it, or neither."""
    names = [DEVICE, OTHER, THIRD] if with_device else [OTHER, THIRD]
    about = {"extras": '{"gateway":"dev-1"}'} if with_device else {"extras": '{"gateway":"[erased]"}'}
    own = [
        {"key": DEVICE.encode(), "value": b"{"},
        {"key": b"x", "value": b'{"sensor_id": "dev-1", "value": '},
        {"value": b"{}", "headers": [{"key": "from", "value": b"dev-1"}]},
    ]
    others = [{"key": OTHER.encode(), "value": b'{"sensor_id": "dev-10"'}, {"value": b'["hall/dev-1"'}, {}]
    for day in DAYS:
        rows = [row for name in names for row in readings(name, day)]
        rows += [{"device_id": OTHER, "metric": "humidity", "event_time": at(day, 5), **about}]
        small.ingest(rows, [*(own if with_device else []), *others])
    declared = small.lake.settings.declarations
    declared.mkdir(parents=True, exist_ok=True)
    lines = [f"{name},sensor_reading,,hall,,,,1800,{D}T00:00:00Z,\n" for name in names if name != THIRD]
    (declared / "devices.csv").write_text(DECLARED + "".join(lines))


def make(lake: Lake) -> None:
    """All that is made from Bronze, as it is due."""
    engine = DuckDBEngine(lake.settings)
    try:
        sync_registry(lake, engine, now=NOW)
        for table, days in Levels(lake).stale().items():
            for day in days:
                materialize_date(lake, engine, TRANSFORMS[table], day, now=NOW)
    finally:
        engine.close()


def give_manifest(lake: Lake, manifest: Path) -> None:
    """Spare the reading of the dbt project: put what the session read where this home keeps it."""
    marts = lake.settings.marts
    marts.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, marts.with_name(manifest.name))


def content(lake: Lake, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table but for when and where they came, and the bookkeeping of changes."""
    if not lake.exists(table):
        return []
    left_out = WHERE | LINEAGE | {"changes"}
    rows = lake.snapshot(table).delta.to_pyarrow_table().to_pylist()
    return sorted(tuple((k, repr(v)) for k, v in row.items() if k not in left_out) for row in rows)


def contents(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    return {table: content(lake, table) for table in TABLES if not table.startswith("ops/")}


def is_balanced(lake: Lake) -> bool:
    return all(line.is_balanced for line in date_ledger(lake)) and offset_ledger(lake).is_balanced


def is_settled(lake: Lake) -> bool:
    """Balanced with nothing pending."""
    return is_balanced(lake) and not any(line.pending for line in date_ledger(lake))


def traces(root: Path, device: str) -> list[str]:
    """Files below a folder that hold the id, by their bytes or by what they decode to."""
    # Whatever may follow or go before in an id; other devices of these lakes are the only ones that contain it.
    word = re.compile(rb"(?<![A-Za-z0-9_/-])" + re.escape(device.encode()) + rb"(?![A-Za-z0-9_-])")
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and any(word.search(piece) for piece in _pieces(path))
    ]


def _pieces(path: Path) -> Iterator[bytes]:
    if path.suffix != ".parquet":  # compressed bytes may cut "hall/dev-1" in two
        yield path.read_bytes()
    else:
        yield repr(pq.read_metadata(path).to_dict()).encode()
        yield repr(pq.ParquetFile(path).read().to_pylist()).encode()
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
            for schema, table in tables:
                yield repr(connection.execute(f'from "{schema}"."{table}"').fetchall()).encode()
