"""Whether readings refer to what is known: devices that somebody declared, metrics that have bounds. Both only warn."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from iot_platform.checks.inspection import Inspection
from iot_platform.checks.outcome import Outcome, judged, shown


def devices_are_declared(inspection: Inspection, day: date) -> Outcome:
    """Every device with readings on the date was declared; one that was only inferred (or is unknown) is listed."""
    offending = inspection.rows(
        day,
        "select device_id, count(*) as readings, coalesce(max(d.source), 'unknown') as known_as"
        " from silver_readings left join registry_devices d using (device_id)"
        " where d.source is distinct from 'declared' group by device_id order by readings desc, device_id",
        ("silver/readings", "registry/devices"),
    )
    told = f"{len(offending)} device(s) that nobody declared. Declare them in $IOT_HOME/registry/devices*.csv."
    return _listed(inspection, "devices_are_declared", offending, "devices", told)


def metrics_are_declared(inspection: Inspection, day: date) -> Outcome:
    """Every (contract, metric) with readings on the date is declared; others have no physical bounds and are listed."""
    offending = inspection.rows(
        day,
        "select contract, metric, count(*) as readings, min(value) as min, max(value) as max"
        " from silver_readings anti join registry_metrics using (contract, metric)"
        " group by all order by readings desc, contract, metric",
        ("silver/readings", "registry/metrics"),
    )
    told = f"{len(offending)} metric(s) without declared bounds. Declare them in the contract or by a replay mapping."
    return _listed(inspection, "metrics_are_declared", offending, "metrics", told)


def _listed(
    inspection: Inspection, check: str, offending: list[Mapping[str, Any]], unit: str, told: str
) -> Outcome:
    bounds = inspection.thresholds[check].bounds
    return judged(len(offending), bounds, unit, told, {"found": len(offending), **shown(offending)})
