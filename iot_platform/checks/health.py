"""Whether the fleet is well: the share of device windows that fail on a date. It warns: sick devices are not bad data."""

from __future__ import annotations

from collections import Counter
from datetime import date

from iot_platform.checks.inspection import Inspection, Part
from iot_platform.checks.outcome import Outcome, judged, shown
from iot_platform.checks.rates import SHARE, grouped, judge


def fleet_is_healthy(inspection: Inspection, day: date) -> Outcome:
    """Few of the date's device windows are failing; the worst devices are shown."""
    threshold = inspection.thresholds["fleet_is_healthy"]
    devices = inspection.rows(
        day,
        "select device_id, any_value(contract) as contract, any_value(site) as site, count(*) as windows,"
        " count(*) filter (where is_failing) as failing, sum(actual)::bigint as actual,"
        " round(avg(health_pct), 1) as health_pct"
        " from gold_sensor_health group by device_id order by avg(health_pct), device_id",
        ("gold/sensor_health",),
    )
    windows: Counter[Part] = Counter()
    failing: Counter[Part] = Counter()
    for device in devices:
        part = Part(device["contract"], site=device["site"])
        windows[part] += device["windows"]
        failing[part] += device["failing"]
    outcome, worst = judge(grouped(windows, failing, threshold, ("contract", "site")), threshold.min_rows, "fail")
    parts = set(worst.parts if worst else windows)
    sick = [one for one in devices if one["failing"] and Part(one["contract"], site=one["site"]) in parts]
    silent = sum(1 for device in devices if device["actual"] == 0)
    metadata = {**outcome.metadata, "devices": len(devices), "silent_devices": silent, **shown(sick)}
    if worst is None:
        return Outcome(**{**vars(outcome), "metadata": metadata})
    said = outcome.description.replace(" rows", " device windows", 1)
    return judged(worst.share, worst.bounds, SHARE, said, metadata)
