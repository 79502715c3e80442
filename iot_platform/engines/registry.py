"""Keeps the registries true: what is declared (contracts, CSV files) and what is inferred from first readings.

What belongs here: the order of the steps. Inference stands in ``transforms/registry_*.sql``, reading declarations in
``lake.declarations``, and which dates a change bears on in ``lake.changes``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import REGISTRY_DEVICES, REGISTRY_METRICS, TABLES
from iot_platform.engines.materialize import check, params
from iot_platform.engines.protocol import Engine, InputFiles
from iot_platform.failpoints import reach
from iot_platform.lake.changes import Row, Spans, device_spans, with_changes
from iot_platform.lake.declarations import declared_devices, declared_metrics, fingerprint
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot
from iot_platform.lake.tombstones import read_tombstones
from iot_platform.transforms.catalog import DECLARED_DEVICES, TRANSFORMS

# Delta transactions on registry/devices: which declarations and which first readings the registries were made from. They
# are committed last, so that a sync that dies half way is done again.
DECLARATIONS = "declarations"
FIRST_READINGS = "first_readings"
# And how often rows of Bronze had been redriven or erased by then: such rows may have an old ``ingest_seq``.
CHANGES = "changes"
# Delta transaction on registry/first_readings: up to which ``ingest_seq`` of Bronze it was made. Its level may be higher.
SEEN = "seen/bronze"
# A change is worth more than the clocks of its date may lose by it (one for each contract, see ``Levels.clock_level``), also
# where the clock of the machine stands still or was put back.
LEAST_STEP = 1_000


@dataclass(frozen=True)
class RegistryResult:
    """What a synchronization found: rows now, rows that changed, and the tables' versions."""

    devices: int
    metrics: int
    devices_changed: int
    metrics_changed: int
    versions: Mapping[str, int]


def registry_is_stale(lake: Lake) -> bool:
    """Whether readings or declarations came that the registries have not seen."""
    newest, changes = bronze_mark(lake.snapshot("bronze/readings"))
    devices = lake.snapshot("registry/devices")
    return (
        newest > (devices.transaction(FIRST_READINGS) or 0)
        or changes != (devices.transaction(CHANGES) or 0)
        or devices.transaction(DECLARATIONS) != fingerprint(lake.settings.declarations)
    )


def bronze_mark(bronze: Snapshot) -> tuple[int, int]:
    """What of Bronze the registries are to be made from: its newest batch, and how often its dates changed otherwise."""
    return max(bronze.sequences.values(), default=0), sum(bronze.changes.values())


def sync_registry(lake: Lake, engine: Engine, *, now: datetime) -> RegistryResult:
    """Bring ``registry/*`` up to the declarations and to Bronze; commits only what changed. ``now`` is UTC."""
    folder = lake.settings.declarations
    mark = fingerprint(folder)
    devices, metrics = declared_devices(folder), declared_metrics(folder)
    bronze = lake.snapshot("bronze/readings")
    metrics_count, metrics_changed = _sync_metrics(lake, bronze, metrics, now)
    reach("registry.after_metrics")
    _sync_first_readings(lake, engine, bronze, now)
    reach("registry.after_first_readings")
    devices_count, devices_changed = _sync_devices(lake, engine, devices, now)
    reach("registry.after_devices")
    seen, changes = _seen(lake.snapshot("registry/first_readings")), bronze_mark(bronze)[1]
    for made_from, version in ((FIRST_READINGS, seen), (CHANGES, changes), (DECLARATIONS, mark)):
        snapshot = lake.writable("registry/devices")
        if (snapshot.transaction(made_from) or 0) != version:
            lake.commit_transaction(snapshot, made_from, version)
            reach("registry.after_mark")
    versions = {name: lake.snapshot(name).version for name in ("registry/devices", "registry/metrics")}
    return RegistryResult(devices_count, metrics_count, devices_changed, metrics_changed, versions)


def _seen(first_readings: Snapshot) -> int:
    """Up to which ``ingest_seq`` they were made: their level, until that had to grow for another reason."""
    seen = first_readings.transaction(SEEN)
    return first_readings.recorded_level(None) if seen is None else seen


def _sync_first_readings(lake: Lake, engine: Engine, bronze: Snapshot, now: datetime) -> None:
    known = lake.snapshot("registry/first_readings")
    newest, changes = bronze_mark(bronze)
    seen = _seen(known)
    if changes != (lake.snapshot("registry/devices").transaction(CHANGES) or 0):
        # Looking again at dates that were taken in changes nothing for the rows that are known.
        lake.commit_transaction(lake.writable("registry/first_readings"), SEEN, seen)
        _take_in(lake, engine, InputFiles(bronze, list(bronze.changes)), known.recorded_level(None) + 1, now)
    if newest > seen:
        known = lake.snapshot("registry/first_readings")
        rows = InputFiles(bronze, None, after_seq=seen)
        _take_in(lake, engine, rows, max(newest, known.recorded_level(None) + 1), now)
        if known.transaction(SEEN) is not None:
            lake.commit_transaction(lake.writable("registry/first_readings"), SEEN, newest)


def _take_in(lake: Lake, engine: Engine, rows: InputFiles, level: int, now: datetime) -> None:
    transform = TRANSFORMS["registry/first_readings"]
    inputs: dict[str, InputFiles | pa.Table] = {
        "registry_first_readings": InputFiles(lake.snapshot("registry/first_readings"), None),
        "bronze_readings": rows,
    }
    with engine.compute(transform, inputs, params(None, now)) as derived:
        check(TABLES[transform.table], None, derived)
        derived.commit(
            lake, transform.table, None, level=level, inputs={"bronze/readings": rows.snapshot.version}, metadata={}
        )


def _sync_devices(lake: Lake, engine: Engine, declared: list[dict[str, Any]], now: datetime) -> tuple[int, int]:
    first = lake.snapshot("registry/first_readings")
    columns = pa.schema([field for field in arrow_schema(REGISTRY_DEVICES) if field.name not in ("changes", "source")])
    inputs: dict[str, InputFiles | pa.Table] = {
        DECLARED_DEVICES: pa.Table.from_pylist(declared, schema=columns),
        "registry_first_readings": InputFiles(first, None),
    }
    with engine.compute(TRANSFORMS["registry/devices"], inputs, params(None, now)) as derived:
        rows = derived.batches().read_all().to_pylist()
    # A declaration of an erased device is not heeded: its line may still stand in a file.
    erased = read_tombstones(lake)
    rows = [row for row in rows if not erased.holds(row["device_id"])]
    return _replace(lake, "registry/devices", rows, now, device_spans)


def _sync_metrics(lake: Lake, bronze: Snapshot, rows: list[dict[str, Any]], now: datetime) -> tuple[int, int]:
    known = {(row["contract"], row["metric"]): row for row in _rows(lake.snapshot("registry/metrics"))}
    moved = any(
        known.get((row["contract"], row["metric"]), {}).get(name) != value for row in rows for name, value in row.items()
    )
    # A changed metric bears on the dates that already hold it; the data is asked only when there is a change to place.
    held = _dates_by_metric(lake, bronze) if moved and bronze.rows else {}

    def spans(_was: Row | None, row: Row) -> Spans:
        # Open at the end: a date that lands while this runs may be made with the bounds of before.
        found = held.get((row["contract"], row["metric"]))
        return [(found, None, True)] if found else []

    return _replace(lake, "registry/metrics", rows, now, spans)


def _dates_by_metric(lake: Lake, bronze: Snapshot) -> dict[tuple[str, str], date]:
    """The first date that holds each metric."""
    with lake.reading(bronze.contract.name) as connection:
        found = connection.execute(
            "select contract, metric, min(event_date) from"
            f" ({select_files(bronze.contract, bronze.files())}) group by all"
        ).fetchall()
    return {(contract, metric): first for contract, metric, first in found}


def _rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    return snapshot.delta.to_pyarrow_table().to_pylist()


def _replace(
    lake: Lake, table: str, rows: list[dict[str, Any]], now: datetime, spans: Callable[[Row | None, Row], Spans]
) -> tuple[int, int]:
    snapshot = lake.snapshot(table)
    seq = max(int(now.timestamp() * 1_000_000), snapshot.recorded_level(None) + LEAST_STEP)
    contract = REGISTRY_DEVICES if table == "registry/devices" else REGISTRY_METRICS
    merged, changed = with_changes(_rows(snapshot), rows, key=contract.keys, seq=seq, spans=spans)
    if changed:
        content = pa.Table.from_pylist(merged, schema=arrow_schema(contract))
        lake.replace(table, None, content.to_reader(), level=seq, inputs={}, metadata={"rows": len(merged)})
    return len(merged), changed
