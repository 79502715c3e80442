"""The commands of ``iot``, put together. Each is a thin function in a file of its own."""

from __future__ import annotations

import typer

from iot_platform.cli import alerts, quarantine, report, services, topics
from iot_platform.cli.check import check
from iot_platform.cli.demo import demo
from iot_platform.cli.erase import erase
from iot_platform.cli.ingest import ingest
from iot_platform.cli.maintain import maintain
from iot_platform.cli.materialize import materialize
from iot_platform.cli.query import query
from iot_platform.cli.replay import replay
from iot_platform.cli.resend import resend
from iot_platform.cli.rollback import rollback
from iot_platform.cli.simulate import simulate
from iot_platform.cli.status import status

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An IoT data platform: Kafka to checked, date-partitioned tables. Start with: iot demo",
)
app.command()(demo)
app.add_typer(services.app, name="services")
app.add_typer(topics.app, name="topics")
app.command()(simulate)
app.command()(replay)
app.command()(resend)
app.command()(ingest)
app.command()(materialize)
app.command()(check)
app.command()(query)
app.add_typer(report.app, name="report")
app.command()(status)
app.add_typer(quarantine.app, name="quarantine")
app.command()(rollback)
app.command()(erase)
app.command()(maintain)
app.add_typer(alerts.app, name="alerts")
