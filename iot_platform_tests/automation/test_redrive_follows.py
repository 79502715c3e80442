"""After a redrive everything made from Bronze follows by itself: the sensor's request, the registries, Dagster's record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import dagster as dg
import polars as pl
import pytest

from iot_platform.assets.metadata import asset_key
from iot_platform.automation.streaming_sensor import commits_to_report
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import registry_is_stale, sync_registry
from iot_platform.ingest.redrive import redrive
from iot_platform.lake.ledger import date_ledger
from iot_platform.lake.levels import Levels, bronze_level
from iot_platform.lake.quarantine import Chosen
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.automation.test_level_sensor import Clock, asked, heal, look
from iot_platform_tests.ingest.landed import NOW, Landed
from iot_platform_tests.ingest.test_redrive import DAY, EVENT, EVENT_US, MINUTE_US, event, mend

__all__ = ["mend"]  # a fixture

BEFORE = DAY - timedelta(days=3)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def platform(settings: Settings) -> Iterator[Clock]:
    platform = Clock(settings)
    platform.moment = NOW
    yield platform
    platform.engine.close()


@pytest.fixture
def settled(platform: Clock) -> Landed:
    """Two dates, made to the end, with messages of both in quarantine: one of a device that nobody else speaks of."""
    landed = Landed(platform.lake)
    earlier = EVENT_US - 3 * 24 * 60 * MINUTE_US
    landed.land([event(0, "normal", earlier), event(1, "maintenance", earlier + MINUTE_US, device_id="silent")], EVENT)
    landed.land([event(2, "normal")], EVENT)
    heal(platform)
    assert not any(Levels(platform.lake).stale().values())
    return landed


def brought(platform: Clock) -> None:
    result = redrive(platform.settings, Chosen(), now=NOW)
    assert dict(result.readings_by_date) == {BEFORE: 1}


def test_the_dates_that_a_redrive_touched_are_asked_for_and_no_others(
    platform: Clock, settled: Landed, mend: Callable[[], None], instance: dg.DagsterInstance
) -> None:
    mend()
    brought(platform)
    stale = Levels(platform.lake).stale()
    assert stale["silver/readings"] == stale["silver/rejected_readings"] == [BEFORE]
    sync_registry(platform.lake, platform.engine, now=NOW)
    requests = asked(look(platform, instance))
    assert [(first, last) for tables, first, last in requests if "silver/readings" in tables] == [(str(BEFORE), str(BEFORE))]
    (line,) = date_ledger(platform.lake, [BEFORE])
    assert (line.bronze, line.silver, line.pending, line.is_balanced) == (2, 1, 1, True)
    heal(platform)
    (line,) = date_ledger(platform.lake, [BEFORE])
    assert (line.bronze, line.silver, line.pending, line.is_balanced) == (2, 2, 0, True)
    assert not any(Levels(platform.lake).stale().values())


def test_a_device_that_only_a_redrive_brought_is_known_then(
    platform: Clock, settled: Landed, mend: Callable[[], None]
) -> None:
    def devices() -> dict[str, date]:
        rows = platform.lake.snapshot("registry/devices").delta.to_pyarrow_table().to_pylist()
        return {row["device_id"]: row["installed_at"].date() for row in rows}

    assert "silent" not in devices()
    mend()
    brought(platform)
    assert registry_is_stale(platform.lake)
    sync_registry(platform.lake, platform.engine, now=NOW)
    assert devices()["silent"] == BEFORE
    assert not registry_is_stale(platform.lake)
    settled.land([event(7, "normal", device_id="new")], EVENT)
    assert registry_is_stale(platform.lake)
    sync_registry(platform.lake, platform.engine, now=NOW)
    assert devices().keys() == {"motion-1", "silent", "new"}
    first = pl.DataFrame(pl.from_arrow(platform.lake.snapshot("registry/first_readings").delta.to_pyarrow_table()))
    assert first.select("device_id", "event_time").is_duplicated().sum() == 0
    assert not registry_is_stale(platform.lake)


def test_a_redrive_is_a_materialization_of_the_dates_it_touched(
    platform: Clock, settled: Landed, mend: Callable[[], None], instance: dg.DagsterInstance
) -> None:
    events, cursor = commits_to_report(platform.lake, instance, None)
    for event_ in events:
        instance.report_runless_asset_event(event_)
    assert commits_to_report(platform.lake, instance, cursor) == ([], cursor)
    mend()
    brought(platform)
    (told,), moved = commits_to_report(platform.lake, instance, cursor)
    assert (told.asset_key, told.partition) == (asset_key("bronze/readings"), BEFORE.isoformat())
    assert told.metadata["level"].value == bronze_level(platform.lake.snapshot("bronze/readings"), BEFORE)
    instance.report_runless_asset_event(told)
    assert moved != cursor
    assert commits_to_report(platform.lake, instance, moved) == ([], moved)
    assert commits_to_report(platform.lake, instance, None) == ([], moved)


def test_silver_of_a_touched_date_is_made_with_the_redriven_reading(
    platform: Clock, settled: Landed, mend: Callable[[], None]
) -> None:
    mend()
    brought(platform)
    materialize_date(platform.lake, platform.engine, TRANSFORMS["silver/readings"], BEFORE, now=NOW)
    silver = pl.DataFrame(pl.from_arrow(platform.lake.snapshot("silver/readings").delta.to_pyarrow_table()))
    assert set(silver.filter(pl.col("event_date") == BEFORE)["device_id"]) == {"motion-1", "silent"}
