"""The demo's data through both engines, the way `iot materialize` goes: the same SQL gives the same tables."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from iot_platform.contracts.parse import KafkaRecord, ParseRules
from iot_platform.contracts.tables import TABLES
from iot_platform.contracts.wire import CONTRACTS
from iot_platform.engines import open_engine
from iot_platform.engines.materialize import DateResult, materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.ingest.batch import BatchRules, Stamp
from iot_platform.ingest.files import FILE, DataFile, Writer
from iot_platform.ingest.position import QUARANTINE, READINGS, app_id, commit_metadata
from iot_platform.ingest.summary import BatchSummary
from iot_platform.ingest.transactions import commit_once
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import daily_transforms
from iot_platform.settings import Settings
from iot_platform.simulator.declarations import declare_devices
from iot_platform.simulator.fleet import build_fleet
from iot_platform.simulator.history import microseconds
from iot_platform.simulator.messages import MessageMaker
from iot_platform.simulator.options import FleetOptions
from iot_platform.simulator.plan import Window, plan_window
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.ingest.kafka_batches import kafka_batch
from iot_platform_tests.integration.derived import rows_of
from iot_platform_tests.parity.close import differences

pytestmark = [pytest.mark.integration, pytest.mark.parity]

FIRST = datetime(2026, 3, 9, tzinfo=UTC)
DATES = [FIRST.date(), FIRST.date() + timedelta(days=1)]
ARRIVAL_US = microseconds(FIRST + timedelta(days=2))
NOW = FIRST + timedelta(days=2, hours=1)
# As the demo's, with fewer devices, one message in two minutes, and more of what is rare.
FLEET = FleetOptions(devices=3, cadence_seconds=120, anomaly_rate=0.05, late_rate=0.03, out_of_range_rate=0.02)
PARTITIONS = 3


def records() -> Iterator[KafkaRecord]:
    """What the simulated fleet sends on these dates, as Kafka would hold it: each partition in order of arrival."""
    for contract, devices in build_fleet(FLEET).items():
        offsets: defaultdict[int, int] = defaultdict(int)
        maker = MessageMaker(CONTRACTS[contract], devices, FLEET, ParseRules())
        for day in range(len(DATES)):
            start_us = microseconds(FIRST + timedelta(days=day))
            plan = plan_window(
                CONTRACTS[contract], devices, FLEET, Window(start_us, start_us + 86_400_000_000, FLEET.cadence_seconds)
            )
            for made in maker.make(plan, range(len(plan)), ARRIVAL_US):
                partition = int(plan.device[made.row]) % PARTITIONS
                offset = offsets[partition]
                offsets[partition] += 1
                yield KafkaRecord(
                    f"topic.{contract}", partition, offset, ARRIVAL_US + offset * 1_000, made.key, made.value, made.headers
                )


def land(settings: Settings) -> None:
    """Bronze as the stream's workers write and commit it, without Kafka and without Spark."""
    lake = Lake(settings)
    stamp = Stamp(batch_id=0, ingest_seq=microseconds(NOW), began_us=microseconds(NOW))
    for table in (READINGS, QUARANTINE):
        lake.ensure(table)
    files: list[DataFile] = []
    told: list[str] = []
    for results in Writer(lake.storage, BatchRules(ParseRules()), stamp)([kafka_batch(records())]):
        for row in results.to_pylist():
            if row["kind"] == FILE:
                files.append(DataFile(**json.loads(row["detail"])))
            else:
                told.append(row["detail"])
    summary = BatchSummary.of(told)
    metadata = commit_metadata(
        {"ingest_seq": stamp.ingest_seq, "newest_by_contract": summary.newest_by_contract, "offsets": {}, "ends": {}}
    )
    for table in (READINGS, QUARANTINE):
        own = [file for file in files if file.table == table]
        assert own
        commit_once(lake, table, app_id(table, 1), 0, metadata=metadata, files=own)
    fleet = build_fleet(FLEET)
    declare_devices(
        settings, "simulator",
        # One device of each contract is left to be inferred.
        [device.declared(FIRST, FLEET.cadence_seconds) for group in fleet.values() for device in group[1:]],
    )  # fmt: skip


def materialize_all(settings: Settings) -> list[DateResult]:
    """The registries and all tables of the second date, by the engine that the settings name; Silver looks back a date."""
    lake, engine = Lake(settings), open_engine(settings)
    assert engine.name == settings.engine
    try:
        sync_registry(lake, engine, now=NOW)
        return [materialize_date(lake, engine, transform, DATES[1], now=NOW) for transform in daily_transforms()]
    finally:
        engine.close()


def by_key(settings: Settings, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = TABLES[table].keys
    rows = rows_of(settings, table)
    found = {tuple(row[name] for name in keys): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.usefixtures("spark")  # the engine takes the session that runs already
def test_the_same_sql_gives_the_same_tables_on_both_engines(make_settings: MakeSettings, tmp_path: Path) -> None:
    embedded = make_settings(home=tmp_path / "embedded", engine="duckdb")
    land(embedded)
    shutil.copytree(embedded.home, tmp_path / "cluster")
    cluster = make_settings(home=tmp_path / "cluster", engine="spark")
    one, other = materialize_all(embedded), materialize_all(cluster)

    def told(results: list[DateResult]) -> list[tuple[str, date, int, int]]:
        return [(result.table, result.day, result.rows, result.level) for result in results]

    assert told(one) == told(other)
    assert {result.engine for result in other} == {"spark"} and not any(result.skipped for result in (*one, *other))
    for table, contract in TABLES.items():
        if contract.layer == "ops":  # made by no engine
            continue
        rows, twins = by_key(embedded, table), by_key(cluster, table)
        assert rows, f"{table} was compared empty"
        assert rows.keys() == twins.keys(), table
        columns = [column.name for column in contract.columns]
        for key, row in rows.items():
            assert not (found := differences(row, twins[key], columns)), f"{table} {key}: {found}"
