"""The sensor that keeps the history of check results up to date. It does the work in its tick: a run would cost more."""

import dagster as dg

from iot_platform.assets.check_results import collected_event
from iot_platform.assets.platform import Platform
from iot_platform.checks.history import collect
from iot_platform.errors import PlatformError

INTERVAL_SECONDS = 30
TICK_SECONDS = 5.0  # a tick that hangs stops the daemon; what is left is for the next


def check_history_sensor() -> dg.SensorDefinition:
    """Adds new evaluations to ``ops/check_results`` and reports that, without a run."""

    @dg.sensor(
        name="check_history",
        description="Takes new check results over from Dagster's log into the table ops/check_results.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def check_history(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            collected = collect(platform.lake, context.instance, TICK_SECONDS)
        except PlatformError as error:
            return dg.SkipReason(str(error))
        if not collected.rows:
            return dg.SkipReason("the history has every check result")
        return dg.SensorResult(asset_events=[collected_event(platform, collected)])

    return check_history
