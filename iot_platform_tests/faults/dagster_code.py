"""The platform's definitions with the level sensor alone: tests that kill Dagster wait for Silver and Gold, and nothing else
(no drain, no marts, no alerts) shall take the machine meanwhile."""

from __future__ import annotations

import dagster as dg

from iot_platform.definitions import build_defs
from iot_platform.settings import load_settings

SENSORS = {"stale_dates"}


@dg.definitions
def defs() -> dg.Definitions:
    """What the daemon of such a test loads."""
    whole = build_defs(load_settings())
    return dg.Definitions(
        assets=whole.assets,
        asset_checks=whole.asset_checks,
        sensors=[sensor for sensor in whole.sensors or () if sensor.name in SENSORS],
        resources=whole.resources,
        executor=whole.executor,
    )
