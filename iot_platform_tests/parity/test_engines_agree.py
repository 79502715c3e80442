"""The same texts on DuckDB and on Spark give the same rows, for generated inputs: many worlds in one execution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.protocol import Engine
from iot_platform.engines.spark import SparkEngine
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.parity.cases import VALUES, World, rows_of, worlds
from iot_platform_tests.parity.close import differences
from iot_platform_tests.transforms.rows import DAY, Row, at, clocks, make

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.parity

Pair = tuple[DuckDBEngine, SparkEngine]


@pytest.fixture(scope="module")
def engines(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    chosen = Settings(home=tmp_path_factory.mktemp("parity-home"), _env_file=None)  # pyright: ignore[reportCallIssue]
    duckdb = DuckDBEngine(chosen)
    yield duckdb, SparkEngine(chosen, spark)
    duckdb.close()


def agree(engines: Pair, table: str, **given: Any) -> list[Row]:
    """Run both, hold them against each other, and give DuckDB's rows for the next table to read."""
    one, other = (make(engine, table, **given) for engine in engines)
    contract = TRANSFORMS[table].contract
    columns = [column.name for column in TRANSFORMS[table].columns]
    by_key: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in other:
        by_key[tuple(row[name] for name in contract.keys)].append(row)
    assert len(one) == len(other), table
    for row in one:
        (twin,) = by_key[tuple(row[name] for name in contract.keys)]
        assert not (found := differences(row, twin, columns, scale=_scale(row))), f"{table}: {found} in {row}"
    return one


def _scale(row: Row) -> float:
    """The largest number that the row's figures may have been summed from."""
    names = ("value", "recent_mean", "recent_std", "min", "max")
    largest = max((abs(row[name]) for name in names if row.get(name) is not None), default=0.0)
    return min(largest, 1e150) * row.get("readings", 100)


def _all_tables(engines: Pair, drawn: list[World]) -> dict[str, int]:
    readings: list[Row] = []
    declared: list[Row] = []
    limits: list[Row] = []
    for number, world in enumerate(drawn):
        more_readings, more_declared, more_limits = rows_of(number, world)
        readings += more_readings
        declared += more_declared
        limits += more_limits
    today = [row for row in readings if row["event_date"] == DAY]

    early = [row for row in readings if row["ingest_seq"] == 1]
    known = agree(engines, "registry/first_readings", day=None, bronze_readings=early)
    late = [row for row in readings if row["ingest_seq"] > 1]
    first = agree(engines, "registry/first_readings", day=None, bronze_readings=late, registry_first_readings=known)
    registry = agree(
        engines, "registry/devices", day=None, registry_first_readings=first, declared_devices=declared
    )
    usable = agree(
        engines, "silver/readings", bronze_readings=readings, registry_devices=registry, registry_metrics=limits
    )
    refused = agree(engines, "silver/rejected_readings", bronze_readings=today, registry_metrics=limits)
    assert len(usable) + len(refused) == len(today)
    day_before = {"event_date": at(days=-1).date()}
    week = usable + [row | day_before | {"event_time": at(n, days=-1)} for n, row in enumerate(usable[::3])]
    made = {"silver/readings": usable, "silver/rejected_readings": refused, "registry/devices": registry}
    for table in ("gold/sensor_windows", "gold/device_type_windows", "gold/location_hourly", "gold/duration_p95"):
        made[table] = agree(engines, table, silver_readings=usable)
    made["gold/daily_summary"] = agree(
        engines, "gold/daily_summary", silver_readings=week, silver_rejected_readings=refused
    )
    as_of = clocks(at(60_000), "sensor_reading", "device_event")
    made["gold/sensor_health"] = agree(
        engines, "gold/sensor_health", silver_readings=usable, registry_devices=registry, as_of=as_of
    )
    made["gold/anomaly_events"] = agree(
        engines, "gold/anomaly_events", silver_readings=usable, registry_devices=registry
    )
    return {table: len(rows) for table, rows in made.items()}


# One of every kind with something for every table, whatever is drawn beside it.
ALWAYS = [
    World(seed, values, 140, 30 * (seed % 3), 30, 10, seed % 2 == 0, seed % 3 == 0, cadence, events)
    for seed, (values, cadence, events) in enumerate(
        zip(VALUES, (420.0, 60.0, None, 3600.0, 0.7, 50_000.0, 60.0), (500, 499, 520, 0, 0, 3, 0), strict=True)
    )
]


# The first example that Hypothesis draws is always the simplest, worlds without readings: the empty date. The second is any.
@given(st.lists(worlds, min_size=30, max_size=30))
@settings(
    max_examples=2, phases=[Phase.generate], deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)  # fmt: skip
def test_generated_worlds_are_the_same_on_both_engines(engines: Pair, drawn: list[World]) -> None:
    if not any(world.readings or world.events for world in drawn):
        assert not any(_all_tables(engines, []).values())
        return
    counts = _all_tables(engines, drawn + ALWAYS)
    assert all(counts.values()), f"a table was compared empty: {counts}"


def test_engines_hold_the_protocol(engines: Pair) -> None:
    held: list[Engine] = list(engines)
    assert [engine.name for engine in held] == ["duckdb", "spark"]
