"""The composition root: the one place where assets, checks, sensors and resources are put together.

``dagster dev`` calls ``defs``; tests and the command line call ``build_defs`` with their own settings. Importing this
module wires nothing; building definitions reads the topics file and the dbt manifest, and no service.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from iot_platform.alerts.resource import AlertChannels
from iot_platform.alerts.sensor import alerts_sensor
from iot_platform.assets.bronze import bronze_assets
from iot_platform.assets.check_results import check_results_asset
from iot_platform.assets.compute import platform_resources
from iot_platform.assets.derived import derived_asset
from iot_platform.assets.maintenance import maintenance
from iot_platform.assets.marts import marts_assets
from iot_platform.assets.places import placed
from iot_platform.assets.registry import registry_assets
from iot_platform.assets.reports import daily_report, p95_report
from iot_platform.assets.topics import topic_assets
from iot_platform.automation.check_history import check_history_sensor
from iot_platform.automation.date_freshness import date_freshness_checks, date_freshness_sensor
from iot_platform.automation.freshness import with_freshness
from iot_platform.automation.level_sensor import level_sensor
from iot_platform.automation.marts_sensor import marts_sensor
from iot_platform.automation.observation import observation_sensor
from iot_platform.automation.partitions import daily, weekly
from iot_platform.automation.report_schedules import report_schedules
from iot_platform.automation.runs import HostNaming
from iot_platform.automation.schedules import close_day
from iot_platform.automation.streaming_sensor import streaming_sensor
from iot_platform.checks.asset_checks import asset_checks
from iot_platform.lake.levels import daily_transforms
from iot_platform.local.dagster_home import parted
from iot_platform.marts.build import manifest as dbt_manifest
from iot_platform.settings import Settings, load_settings

# Parts of Dagster that are not final and used on purpose: a range in one run, and a check result for each date. Any other
# such part still warns, and a test turns that into an error.
NOT_FINAL_IN_USE = (
    (dg.BetaWarning, ".*`backfill_policy`"),
    (dg.PreviewWarning, "Specifying a partitions_def on an AssetCheckSpec"),
)


@contextmanager
def _not_final_in_use() -> Iterator[None]:
    with warnings.catch_warnings():
        for category, message in NOT_FINAL_IN_USE:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield


def build_defs(
    settings: Settings | None = None, overrides: Mapping[str, Any] | None = None, manifest: Path | None = None
) -> dg.Definitions:
    """Fresh definitions for these settings (default: those of the environment).

    ``overrides`` replaces resources by name. ``manifest`` is dbt's; by default the one kept with the state, which is
    made again (some seconds) when a file of the dbt project changed.
    """
    settings = settings or load_settings()
    with _not_final_in_use():
        return _definitions(settings, overrides or {}, manifest or dbt_manifest(settings))


def _definitions(settings: Settings, overrides: Mapping[str, Any], manifest: Path) -> dg.Definitions:
    partitions = daily(settings)
    marts = marts_assets(settings, manifest, partitions)
    made = [
        bronze_assets(settings, partitions),
        registry_assets(settings),
        *(derived_asset(transform, settings, partitions) for transform in daily_transforms()),
        marts,
        check_results_asset(settings),
        daily_report(partitions),
        p95_report(weekly(settings)),
        maintenance,
    ]
    resources = {**platform_resources(settings), "alerts": AlertChannels.of(settings), **overrides}
    return dg.Definitions(
        assets=[*placed(with_freshness(topic_assets(settings))), *placed(with_freshness(made))],
        asset_checks=[*asset_checks(partitions), date_freshness_checks()],
        sensors=[
            streaming_sensor(),
            level_sensor(partitions),
            marts_sensor(marts),
            observation_sensor(),
            date_freshness_sensor(),
            check_history_sensor(),
            alerts_sensor(),
        ],
        schedules=[close_day(partitions), *report_schedules()],
        resources={**resources, "platform": HostNaming(resources["platform"])},
        # The engines use all cores for one table: a process a step would only add its start to each.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads. Dagster puts the lines of ``.env`` over what was exported, so that it may be told of two homes."""
    settings = load_settings()
    if said := parted(settings):
        logging.getLogger(__name__).warning(said)
    return build_defs(settings)
