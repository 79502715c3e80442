"""The health check warns when too large a share of the device windows fails, and shows the worst devices."""

from __future__ import annotations

from iot_platform.checks.health import fleet_is_healthy
from iot_platform_tests.assets.small_lake import D, SmallLake
from iot_platform_tests.checks.rows import health


def test_a_fleet_that_reports_is_healthy(small: SmallLake) -> None:
    small.put("gold/sensor_health", D, [health(f"d{n}", 100) for n in range(5)])
    outcome = fleet_is_healthy(small.lake, D)
    assert outcome.passed and outcome.metadata["devices"] == 5 and "offending" not in outcome.metadata


def test_one_of_five_may_fail_and_is_shown(small: SmallLake) -> None:
    small.put("gold/sensor_health", D, [health("mute", 0), *(health(f"d{n}", 100) for n in range(4))])
    outcome = fleet_is_healthy(small.lake, D)
    assert outcome.passed and outcome.metadata["silent_devices"] == 1
    assert "| mute | 1 | 1 | 0.0 |" in outcome.metadata["offending"].value


def test_more_than_the_share_allowed_fails(small: SmallLake) -> None:
    small.put("gold/sensor_health", D, [health("mute", 0), health("weak", 80), *(health(f"d{n}", 100) for n in range(6))])
    outcome = fleet_is_healthy(small.lake, D)
    assert not outcome.passed and outcome.description.startswith("25.0% of the device windows fail")
    assert fleet_is_healthy(small.lake, D, max_failing_share=0.25).passed


def test_a_date_without_windows_is_healthy(small: SmallLake) -> None:
    assert fleet_is_healthy(small.lake, D).passed
