"""Whether the fleet is well: the share of device windows that fail on a date. It warns: sick devices are not bad data."""

from __future__ import annotations

from datetime import date

import dagster as dg

from iot_platform.assets.metadata import markdown_table
from iot_platform.checks.outcome import Outcome
from iot_platform.checks.sql import rows
from iot_platform.lake.lake import Lake

MAX_FAILING_SHARE = 0.2


def fleet_is_healthy(lake: Lake, day: date, max_failing_share: float = MAX_FAILING_SHARE) -> Outcome:
    """At most ``max_failing_share`` of the date's device windows are failing; the worst devices are shown."""
    devices = rows(
        lake,
        day,
        "select device_id, count(*) as windows, count(*) filter (where is_failing) as failing,"
        " round(avg(health_pct), 1) as health_pct from gold_sensor_health group by device_id"
        " order by health_pct, device_id",
        ("gold/sensor_health",),
    )
    windows = sum(device["windows"] for device in devices)
    failing = sum(device["failing"] for device in devices)
    share = failing / windows if windows else 0.0
    worst = [device for device in devices if device["failing"]]
    return Outcome(
        share <= max_failing_share,
        "" if share <= max_failing_share else f"{share:.1%} of the device windows fail; allowed are {max_failing_share:.0%}",
        {
            "devices": len(devices),
            "windows": windows,
            "failing_windows": failing,
            "failing_share": share,
            "silent_devices": sum(1 for device in devices if device["health_pct"] == 0),
            **({"offending": dg.MetadataValue.md(markdown_table(worst))} if worst else {}),
        },
    )
