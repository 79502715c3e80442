"""The alerts sensor: looks at everything twice a minute, and tells people what began and what ended. It launches nothing."""

import dagster as dg

from iot_platform.alerts.failed_runs import FailedRuns
from iot_platform.alerts.gather import Gatherer
from iot_platform.alerts.memory import Memory
from iot_platform.alerts.outbox import Outbox
from iot_platform.alerts.resource import AlertChannels
from iot_platform.alerts.summary import retry_summary
from iot_platform.alerts.watch import watch
from iot_platform.assets.platform import Platform

INTERVAL_SECONDS = 30


def alerts_sensor() -> dg.SensorDefinition:
    """Keeps the incidents, and sends what is new of them."""
    runs = FailedRuns()  # logs of ended runs do not change: read once a process
    news, summaries = Outbox(), Outbox()  # what a slow server takes longer over than one look may last

    @dg.sensor(
        name="alerts",
        description="Finds failed runs and checks, stale assets, stuck or lagging ingestion; tells each once, and its end.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def alerts_tick(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform], alerts: AlertChannels
    ) -> dg.SensorResult:
        graph = context.repository_def.asset_graph if context.repository_def else None
        gatherer = Gatherer(
            context.instance,
            platform.lake,
            graph.get_all_asset_keys() if graph else (),
            graph.asset_check_keys if graph else (),
            runs,
        )
        settings = alerts.settings(platform.settings)
        found = watch(gatherer, settings, Memory.load(context.cursor), platform.now(), news)
        memory, said = found.memory, list[str]()
        if not found.deliveries:  # one round of messages a tick: it stays short even when every server hangs
            memory, said = retry_summary(platform.lake, settings, memory, platform.now(), summaries)
        return dg.SensorResult(skip_reason="; ".join([found.told, *said]), cursor=memory.dump())

    return alerts_tick
