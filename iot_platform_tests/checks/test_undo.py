"""A date whose blocking check fails after its commit goes back by itself where that is asked for, and the check says so."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from iot_platform.assets.derived import derived_asset
from iot_platform.assets.platform import Platform
from iot_platform.automation.partitions import daily
from iot_platform.automation.run_events import Checked, collect
from iot_platform.checks.asset_checks import asset_checks
from iot_platform.engines.registry import sync_registry
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform.transforms import catalog
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake
from iot_platform_tests.conftest import MakeSettings

SILVER, REJECTED = "silver/readings", "silver/rejected_readings"
CONSERVATION = "conservation"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the transform of Silver loses a reading."""
    text = catalog._text

    def lossy(view: str) -> str:
        return f"select * from ({text(view)}) limit 3" if view == "silver_readings" else text(view)

    monkeypatch.setattr(catalog, "_text", lossy)


def filled(settings: Settings) -> SmallLake:
    small = SmallLake(Lake(settings))
    small.day(D, 4)
    small.day(D + DAY, 4)
    return small


def run(settings: Settings, instance: dg.DagsterInstance) -> dict[tuple[str, str | None], Checked]:
    """Make both dates of Silver's tables, with their checks; the newest result by check and date."""
    platform = Platform(settings)
    sync_registry(platform.lake, platform.engine, now=NOW)
    partitions = daily(settings)
    # Silver's own check looks at the rejected rows too.
    job = dg.Definitions(
        assets=[derived_asset(TRANSFORMS[table], settings, partitions) for table in (REJECTED, SILVER)],
        asset_checks=[one for one in asset_checks(partitions) if one.node_def.name == "check_silver_readings"],
        resources={"platform": platform},
        executor=dg.in_process_executor,
    ).resolve_implicit_global_asset_job_def()
    tags = {
        "dagster/asset_partition_range_start": D.isoformat(),
        "dagster/asset_partition_range_end": (D + DAY).isoformat(),
    }
    done = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
    platform.close()
    found = [collect(event) for event in done.all_events]
    return {(one.check, one.day and one.day.isoformat()): one for one in found if isinstance(one, Checked)}


def metadata(instance: dg.DagsterInstance, check: str) -> dict[str, object]:
    key = dg.AssetCheckKey(dg.AssetKey(SILVER.split("/")), check)
    (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event and record.event.dagster_event
    found = record.event.dagster_event.asset_check_evaluation_data
    return {name: value.value for name, value in found.metadata.items()}


def test_without_the_setting_a_failed_check_undoes_nothing(
    settings: Settings, instance: dg.DagsterInstance, request: pytest.FixtureRequest
) -> None:
    small = filled(settings)
    assert all(one.passed for (check, _), one in run(settings, instance).items() if check == CONSERVATION)
    request.getfixturevalue("dropping")
    found = run(settings, instance)
    assert not found[CONSERVATION, D.isoformat()].passed and "undone" not in found[CONSERVATION, D.isoformat()].description
    assert small.lake.snapshot(SILVER).rows_by_date == {D: 3, D + DAY: 3} and not small.lake.snapshot(SILVER).held_days


def test_with_the_setting_the_date_goes_back_is_held_and_the_check_stays_failed_and_says_so(
    make_settings: MakeSettings, instance: dg.DagsterInstance, request: pytest.FixtureRequest
) -> None:
    settings = make_settings(rollback_on_failed_check=True)
    small = filled(settings)
    run(settings, instance)
    assert not small.lake.snapshot(SILVER).held_days
    request.getfixturevalue("dropping")
    found = run(settings, instance)
    snapshot = small.lake.snapshot(SILVER)
    assert snapshot.rows_by_date == {D: 4, D + DAY: 4} and snapshot.held_days == (D, D + DAY)
    failed = found[CONSERVATION, D.isoformat()]
    assert not failed.passed and failed.severity == "ERROR" and "was undone" in failed.description
    assert found["contract", D.isoformat()].passed
    told = metadata(instance, CONSERVATION)
    assert told["rolled_back"] is True and "--release" in str(told["what_now"])
    assert not found["no_date_is_held", None].passed and "2 date(s)" in found["no_date_is_held", None].description

    before = snapshot.version
    again = run(settings, instance)  # held: nothing is made, nothing is undone, and what stands is good
    assert again[CONSERVATION, D.isoformat()].passed
    assert small.lake.snapshot(SILVER).version == before


def test_a_date_that_was_never_good_stands_and_the_check_says_why(
    make_settings: MakeSettings, instance: dg.DagsterInstance, dropping: None
) -> None:
    settings = make_settings(rollback_on_failed_check=True)
    small = filled(settings)
    found = run(settings, instance)
    assert "it was not undone" in found[CONSERVATION, D.isoformat()].description
    assert metadata(instance, CONSERVATION)["rolled_back"] is False
    assert small.lake.snapshot(SILVER).rows_by_date == {D: 3, D + DAY: 3}
