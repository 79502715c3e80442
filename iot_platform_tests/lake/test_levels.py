"""A date is stale exactly when something it was made from moved since, and making it ends that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from iot_platform.automation.schedules import close
from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import BRONZE_READINGS
from iot_platform.engines import open_engine
from iot_platform.engines.materialize import DateResult, materialize_date
from iot_platform.engines.protocol import Engine
from iot_platform.engines.registry import registry_is_stale, sync_registry
from iot_platform.errors import DataError
from iot_platform.lake import Lake
from iot_platform.lake.levels import Levels, daily_transforms
from iot_platform.transforms.catalog import TRANSFORMS

D = date(2026, 3, 10)
NOW = datetime(2026, 3, 20, tzinfo=UTC)
Ingest = Callable[..., None]


@pytest.fixture
def engine(lake: Lake) -> Iterator[Engine]:
    engine = open_engine(lake.settings)
    yield engine
    engine.close()


@pytest.fixture
def ingest(lake: Lake) -> Ingest:
    """Append readings to Bronze as the stream does: one sequence a batch, how far time came in the commit."""
    state = {"seq": 1_000, "offset": 0, "newest": 0}

    def append(*moments: datetime, device: str = "d1", **other: Any) -> None:
        state["seq"] += 1_000_000
        rows = []
        for moment in moments:
            state["offset"] += 1
            state["newest"] = max(state["newest"], int(moment.timestamp() * 1e6))
            rows.append(
                {
                    "contract": "sensor_reading", "contract_version": 1, "event_id": f"{device}-{moment.isoformat()}",
                    "device_id": device, "metric": "temperature", "value": 20.0 + state["offset"] % 7,
                    "event_time": moment, "topic": "t", "kafka_partition": 0, "kafka_offset": state["offset"],
                    "kafka_timestamp": NOW, "ingest_seq": state["seq"], "is_late": False, "replayed": False,
                    "ingested_at": NOW, "batch_id": 0, "event_date": moment.date(),
                } | other
            )  # fmt: skip
        metadata = {"ingest_seq": state["seq"], "newest_by_contract": {"sensor_reading": state["newest"]}, "offsets": {}}
        write_deltalake(
            lake.snapshot("bronze/readings").delta,
            pa.Table.from_pylist(rows, schema=arrow_schema(BRONZE_READINGS)),
            mode="append",
            commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(metadata)}),
        )

    return append


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def heal(lake: Lake, engine: Engine) -> list[DateResult]:
    """Make everything that is stale, in order, as the level sensor has it made."""
    sync_registry(lake, engine, now=NOW)
    stale = Levels(lake).stale()
    return [
        materialize_date(lake, engine, TRANSFORMS[table], day, now=NOW) for table, days in stale.items() for day in days
    ]


def stale_days(lake: Lake) -> dict[str, set[date]]:
    return {table: set(days) for table, days in Levels(lake).stale().items() if days}


def test_an_empty_lake_needs_nothing(lake: Lake, engine: Engine) -> None:
    assert stale_days(lake) == {}
    assert heal(lake, engine) == []


def test_what_arrived_is_stale_until_it_is_made(lake: Lake, engine: Engine, ingest: Ingest) -> None:
    ingest(at(D, 8), at(D, 9), at(D, 10))
    assert set(stale_days(lake)) == {transform.table for transform in daily_transforms()}
    made = heal(lake, engine)
    assert not any(result.skipped for result in made)
    assert stale_days(lake) == {}
    assert lake.snapshot("silver/readings").rows_by_date == {D: 3}


def test_a_late_reading_makes_stale_its_date_and_those_that_look_back_on_it(
    lake: Lake, engine: Engine, ingest: Ingest
) -> None:
    for n in range(9):
        ingest(at(D + timedelta(days=n), 8), at(D + timedelta(days=n), 9))
    heal(lake, engine)
    ingest(at(D, 8, 30))
    sync_registry(lake, engine, now=NOW)
    stale = stale_days(lake)
    assert stale["silver/readings"] == {D, D + timedelta(days=1)}
    assert stale["silver/rejected_readings"] == {D}
    assert stale["gold/sensor_windows"] == {D, D + timedelta(days=1)}
    assert stale["gold/daily_summary"] == {D + timedelta(days=n) for n in range(8)}
    heal(lake, engine)
    assert stale_days(lake) == {}


def test_a_forced_date_moves_what_reads_it_even_under_a_newer_neighbour(lake: Lake, engine: Engine, ingest: Ingest) -> None:
    ingest(at(D, 8))
    ingest(at(D + timedelta(days=1), 8))
    heal(lake, engine)
    silver = TRANSFORMS["silver/readings"]
    assert materialize_date(lake, engine, silver, D, now=NOW).skipped
    assert not materialize_date(lake, engine, silver, D, now=NOW, force=True).skipped
    stale = stale_days(lake)
    # With the maximum of levels in place of their sum, D + 1 would be missed: its own level is the higher one.
    assert stale["gold/daily_summary"] == {D, D + timedelta(days=1)}
    assert "silver/readings" not in stale
    heal(lake, engine)
    assert stale_days(lake) == {}


def test_a_declared_device_re_makes_only_its_dates(lake: Lake, engine: Engine, ingest: Ingest) -> None:
    for n in range(3):
        ingest(at(D + timedelta(days=n), 8))
    heal(lake, engine)
    lake.settings.declarations.mkdir(parents=True)
    (lake.settings.declarations / "devices.csv").write_text(
        "device_id,contract,device_type,site,zone,state,firmware,cadence_seconds,installed_at,retired_at\n"
        f"d1,sensor_reading,,hall,,,,3600,{(D + timedelta(days=1)).isoformat()}T00:00:00Z,\n"
    )
    assert registry_is_stale(lake)
    sync_registry(lake, engine, now=NOW)
    assert not registry_is_stale(lake)
    assert stale_days(lake)["silver/readings"] == {D + timedelta(days=1), D + timedelta(days=2)}
    heal(lake, engine)
    sites = lake.snapshot("silver/readings").delta.to_pyarrow_table().to_pylist()
    assert {row["event_date"]: row["site"] for row in sites} == {
        D: None, D + timedelta(days=1): "hall", D + timedelta(days=2): "hall",
    }  # fmt: skip


def test_health_of_a_silent_date_is_made_once_time_has_passed_it(lake: Lake, engine: Engine, ingest: Ingest) -> None:
    ingest(*(at(D, 8, minute) for minute in range(0, 60, 10)))
    ingest(at(D + timedelta(days=2), 12))
    heal(lake, engine)
    silent = D + timedelta(days=1)
    rows = [r for r in lake.snapshot("gold/sensor_health").delta.to_pyarrow_table().to_pylist() if r["event_date"] == silent]
    assert rows
    assert {row["health_pct"] for row in rows} == {0.0}
    assert stale_days(lake) == {}


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_device_declared_anew_for_other_dates_leaves_no_health_behind(
    lake: Lake, engine: Engine, ingest: Ingest, is_closed: bool
) -> None:
    """Also where only the calendar had judged it, and the machine's clock stands still: the date's clock then loses one."""
    header = "device_id,contract,device_type,site,zone,state,firmware,cadence_seconds,installed_at,retired_at\n"

    def declare(first: date) -> set[date]:
        lake.settings.declarations.mkdir(parents=True, exist_ok=True)
        span = f"{first.isoformat()}T00:00:00Z,{(first + timedelta(days=1)).isoformat()}T00:00:00Z"
        contract = "generic_reading" if is_closed else "sensor_reading"
        (lake.settings.declarations / "devices.csv").write_text(f"{header}mute,{contract},,,,,,3600,{span}\n")
        heal(lake, engine)
        rows = lake.snapshot("gold/sensor_health").delta.to_pyarrow_table().to_pylist()
        return {row["event_date"] for row in rows if row["device_id"] == "mute"}

    ingest(at(D + timedelta(days=9), 8))
    if is_closed:
        close(lake, D + timedelta(days=8))
    assert declare(D) == {D}
    assert declare(D + timedelta(days=5)) == {D + timedelta(days=5)}
    assert stale_days(lake) == {}


def test_rows_that_break_their_contract_are_not_committed(
    lake: Lake, engine: Engine, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(at(D, 8))
    heal(lake, engine)
    before = lake.snapshot("gold/location_hourly").version
    ingest(at(D, 9))
    transform = TRANSFORMS["gold/location_hourly"]
    monkeypatch.setattr(type(transform), "sql", property(_broken))
    with pytest.raises(DataError, match=r"gold/location_hourly 2026-03-10: .*sensors .*-1"):
        materialize_date(lake, engine, transform, D, now=NOW, force=True)
    assert lake.snapshot("gold/location_hourly").rows_by_date == {D: 1}
    assert lake.snapshot("gold/location_hourly").version in (before, before + 1), "at most the wish to make it again"


def _broken(transform: Any) -> str:
    from importlib import resources

    text = resources.files("iot_platform.transforms").joinpath(f"{transform.contract.view}.sql").read_text()
    return f"select * replace (-1::bigint as sensors) from ({text})"


def test_a_registry_sync_that_dies_half_way_is_done_again(
    lake: Lake, engine: Engine, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iot_platform.engines import registry

    ingest(at(D, 8), at(D, 9))

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_sync_devices", die)
        with pytest.raises(KeyboardInterrupt):
            sync_registry(lake, engine, now=NOW)
    assert lake.snapshot("registry/first_readings").rows == 2
    assert registry_is_stale(lake)
    sync_registry(lake, engine, now=NOW)
    assert lake.snapshot("registry/devices").rows == 1
    assert not registry_is_stale(lake)
    version = lake.snapshot("registry/devices").version
    sync_registry(lake, engine, now=NOW)
    assert lake.snapshot("registry/devices").version == version


def test_new_bounds_re_make_the_dates_that_hold_the_metric(lake: Lake, engine: Engine, ingest: Ingest) -> None:
    ingest(at(D, 8), metric="co2")
    ingest(at(D + timedelta(days=3), 8), metric="co2", value=99_999.0)
    heal(lake, engine)
    lake.settings.declarations.mkdir(parents=True)
    (lake.settings.declarations / "metrics-x.csv").write_text(
        "contract,metric,unit,min_value,max_value,source\nsensor_reading,co2,ppm,0,10000,x.yaml\n"
    )
    heal(lake, engine)
    assert lake.snapshot("silver/readings").rows_by_date == {D: 1}
    assert lake.snapshot("silver/rejected_readings").rows_by_date == {D + timedelta(days=3): 1}
