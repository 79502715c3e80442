"""How old an asset may be: one policy a layer. Dagster's freshness daemon judges by them, the UI and the alerts show it.

A policy knows an asset's newest materialization and no dates: filling in an old day makes it green. Whether each closed
date is made from its newest inputs is told by ``automation/date_freshness.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import dagster as dg

from iot_platform.errors import InputError

Definition = TypeVar("Definition", dg.AssetsDefinition, dg.AssetSpec)

REPORT_CRON = "0 6 * * *"  # UTC, as all crons here: the report of yesterday
MAINTENANCE_CRON = "30 3 * * *"


def _streaming(warn: timedelta, fail: timedelta) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn)


_MINUTES = timedelta(minutes=1)
_HOURS = timedelta(hours=1)
# Data flows all day: each layer may be a little later than the one it is made from.
_INGEST = _streaming(10 * _MINUTES, 60 * _MINUTES)
_BRONZE = _streaming(15 * _MINUTES, 65 * _MINUTES)
_SILVER = _streaming(20 * _MINUTES, 75 * _MINUTES)
_GOLD = _streaming(30 * _MINUTES, 90 * _MINUTES)
# Marts of today have to be there when the report is written; who reads them in the morning counts on it.
_MARTS = dg.FreshnessPolicy.cron(REPORT_CRON, lower_bound_delta=6 * _HOURS)

LAYERS: dict[str, dg.FreshnessPolicy] = {
    "kafka": _INGEST,
    "bronze": _BRONZE,
    "registry": _BRONZE,  # synchronized by each drain
    "silver": _SILVER,
    "gold": _GOLD,
    "staging": _MARTS,
    "marts": _MARTS,
    "reports": dg.FreshnessPolicy.cron("0 7 * * *", lower_bound_delta=2 * _HOURS),
    "ops": _streaming(26 * _HOURS, 50 * _HOURS),  # at least once a day, with some slack for a busy night
}
"""By the first part of an asset's key."""

ASSETS: dict[str, dg.FreshnessPolicy] = {
    "reports/p95_weekly": dg.FreshnessPolicy.cron("30 7 * * 1", lower_bound_delta=2 * _HOURS),
}
"""Assets that differ from their layer."""


def policy(key: dg.AssetKey) -> dg.FreshnessPolicy:
    """The policy of an asset. ``InputError`` for a layer that has none: a new layer is given one here."""
    name = "/".join(key.path)
    found = ASSETS.get(name) or LAYERS.get(key.path[0])
    if found is None:
        raise InputError(f"{name}: no freshness policy for the layer {key.path[0]!r}", f"Add one in {__name__}.LAYERS")
    return found


def with_freshness(definitions: Sequence[Definition]) -> list[Definition]:
    """The same assets, each with its policy; one that brings its own keeps it."""

    def fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec if spec.freshness_policy else spec.replace_attributes(freshness_policy=policy(spec.key))

    return [
        one.map_asset_specs(fresh) if isinstance(one, dg.AssetsDefinition) else fresh(one) for one in definitions
    ]
