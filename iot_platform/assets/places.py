"""Where each asset stands in the graph: its group, and the tags by which people pick (``tag:"iot/tier"=product``).

``iot/layer`` is how far the data has come, ``iot/domain`` what it is about, ``iot/tier`` who suffers when it breaks:
``core`` everything made from it, ``product`` whoever reads it, ``support`` nobody at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import dagster as dg

Definition = TypeVar("Definition", dg.AssetsDefinition, dg.AssetSpec)

LAYER, DOMAIN, TIER = "iot/layer", "iot/domain", "iot/tier"
STAGED = "stg_"


class Place(NamedTuple):
    """The group of a layer's assets, and the tier of those that are not named in ``SUPPORT``."""

    group: str
    tier: str


PLACES: dict[str, Place] = {
    "kafka": Place("ingest", "core"),
    "bronze": Place("bronze", "core"),
    "registry": Place("bronze", "core"),
    "silver": Place("silver", "core"),
    "gold": Place("gold", "product"),
    "staging": Place("marts", "support"),
    "marts": Place("marts", "product"),
    "reports": Place("reports", "product"),
    "ops": Place("ops", "support"),
}
"""By the first part of an asset's key."""

SUPPORT = {"bronze/quarantine", "silver/rejected_readings", "marts/check_trend"}
"""What no reader of figures needs, in a layer that others do need."""

DOMAINS: dict[str, str] = {
    "registry/devices": "devices",
    "registry/metrics": "devices",
    "marts/devices": "devices",
    "gold/sensor_health": "health",
    "marts/device_health_daily": "health",
    "gold/device_type_windows": "durations",
    "gold/duration_p95": "durations",
    "marts/duration_p95_weekly": "durations",
    "reports/p95_weekly": "durations",
    "gold/anomaly_events": "anomalies",
    "marts/anomalies": "anomalies",
    "bronze/quarantine": "quality",
    "silver/rejected_readings": "quality",
    "ops/check_results": "quality",
    "marts/check_trend": "quality",
    "ops/maintenance": "platform",
}
"""What an asset is about; all others are about ``readings``. A staged table is about what its table is about."""


def tags(key: dg.AssetKey) -> dict[str, str]:
    """The tags of an asset."""
    layer = key.path[0]
    name = "/".join(key.path)
    about = key.path[-1].removeprefix(STAGED).replace("__", "/", 1) if layer == "staging" else name
    return {
        LAYER: layer,
        DOMAIN: DOMAINS.get(about, "readings"),
        TIER: "support" if name in SUPPORT else PLACES[layer].tier,
    }


def placed(definitions: Sequence[Definition]) -> list[Definition]:
    """The same assets, each with its group and tags."""

    def place(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(group_name=PLACES[spec.key.path[0]].group).merge_attributes(tags=tags(spec.key))

    return [
        one.map_asset_specs(place) if isinstance(one, dg.AssetsDefinition) else place(one) for one in definitions
    ]
