"""A step that is tried again makes what failed, and leaves what the attempt before it made."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg
import pytest

from iot_platform.assets import derived
from iot_platform.assets.platform import Platform
from iot_platform.automation.partitions import daily
from iot_platform.engines import materialize
from iot_platform.engines.registry import sync_registry
from iot_platform.errors import LakeError
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake

SILVER = "silver/readings"


def test_a_retried_step_does_not_make_its_good_dates_again(
    small: SmallLake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "RETRY", dg.RetryPolicy(max_retries=1))
    make_date = materialize.materialize_date
    made: list[tuple[date, bool]] = []

    def failing_once(lake: Any, engine: Any, transform: Any, day: date, **chosen: Any) -> materialize.DateResult:
        if day == D + DAY and len(made) == 1:
            made.append((day, False))
            raise LakeError("the disk was full")
        result = make_date(lake, engine, transform, day, **chosen)
        made.append((day, not result.skipped))
        return result

    monkeypatch.setattr(materialize, "materialize_date", failing_once)
    small.day(D, 2)
    small.day(D + DAY, 2)
    platform = Platform(settings)
    sync_registry(platform.lake, platform.engine, now=NOW)
    job = dg.Definitions(
        assets=[derived.derived_asset(TRANSFORMS[SILVER], settings, daily(settings))], resources={"platform": platform}
    ).resolve_implicit_global_asset_job_def()
    tags = {
        "dagster/asset_partition_range_start": D.isoformat(),
        "dagster/asset_partition_range_end": (D + DAY).isoformat(),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success
        assert made == [(D, True), (D + DAY, False), (D, False), (D + DAY, True)]
        made.clear()
        assert job.execute_in_process(instance=instance, tags=tags).success  # asked for again: both are made again
        assert made == [(D, True), (D + DAY, False), (D, False), (D + DAY, True)]
    platform.close()
    assert small.lake.snapshot(SILVER).rows_by_date == {D: 2, D + DAY: 2}
