"""The health check warns when too large a share of the device windows fails, and shows the worst devices."""

from __future__ import annotations

from iot_platform.checks.health import fleet_is_healthy
from iot_platform_tests.assets.small_lake import D, SmallLake
from iot_platform_tests.checks.conftest import Inspect
from iot_platform_tests.checks.rows import health

TABLE = "gold/sensor_health"


def test_a_fleet_that_reports_is_healthy(small: SmallLake, inspect: Inspect) -> None:
    small.put(TABLE, D, [health(f"d{n}", 100) for n in range(5)])
    outcome = fleet_is_healthy(inspect(), D)
    assert outcome.passed and outcome.metadata["devices"] == 5 and "offending" not in outcome.metadata


def test_one_of_six_may_fail_and_is_shown(small: SmallLake, inspect: Inspect) -> None:
    small.put(TABLE, D, [health("mute", 0), *(health(f"d{n}", 100) for n in range(5))])
    outcome = fleet_is_healthy(inspect(), D)
    assert outcome.passed and outcome.metadata["silent_devices"] == 1
    assert "| mute | sensor_reading | None | 1 | 1 | 0 | 0.0 |" in outcome.metadata["offending"].value


def test_a_device_that_was_heard_of_is_not_silent_however_little_it_said(small: SmallLake, inspect: Inspect) -> None:
    windows = [health("weak", 0.01, window=n, actual=int(n == 0)) for n in range(9)]
    small.put(TABLE, D, [health("mute", 0), *windows, *(health(f"d{n}", 100) for n in range(5))])
    assert fleet_is_healthy(inspect(), D).metadata["silent_devices"] == 1


def test_the_share_from_which_it_warns_is_the_file_s(small: SmallLake, inspect: Inspect) -> None:
    small.put(TABLE, D, [health("mute", 0), health("weak", 80), *(health(f"d{n}", 100) for n in range(6))])
    outcome = fleet_is_healthy(inspect(), D)
    assert not outcome.passed and outcome.description.startswith("25.00% of 8 device windows fail")
    assert fleet_is_healthy(inspect(fleet_is_healthy={"warn": 0.26}), D).passed


def test_a_site_with_bounds_of_its_own_is_judged_by_itself(small: SmallLake, inspect: Inspect) -> None:
    sick = [health(f"c{n}", 0, site="cellar") for n in range(5)]
    small.put(TABLE, D, [*sick, *(health(f"d{n}", 100, site="hall") for n in range(5))])
    assert not fleet_is_healthy(inspect(), D).passed
    lenient = inspect(fleet_is_healthy={"overrides": [{"site": "cellar", "warn": None}]})
    assert fleet_is_healthy(lenient, D).passed
    strict = inspect(fleet_is_healthy={"warn": None, "overrides": [{"site": "cellar", "fail": 0.5}]})
    outcome = fleet_is_healthy(strict, D)
    assert not outcome.passed and "of site cellar" in outcome.description and "d1" not in outcome.metadata["offending"].value


def test_a_date_without_windows_is_healthy(inspect: Inspect) -> None:
    assert fleet_is_healthy(inspect(), D).passed
