"""``iot alerts``: tries the channels, and shows the incidents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from iot_platform.cli.console import JsonOption, emit_json, out, table
from iot_platform.errors import InputError, ServiceError
from iot_platform.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Incidents and who is told of them. Example: iot alerts test")


@app.callback()
def alerts() -> None:
    """Incidents and who is told of them. Example: iot alerts test"""


@app.command()
def test() -> None:
    """Send a test message by each configured channel and say what became of it.

    Example: IOT_SMTP_HOST=mail.example.org iot alerts test
    """
    from iot_platform.alerts.channels import configured
    from iot_platform.alerts.messages import trial
    from iot_platform.alerts.outbox import deliver

    channels = configured(load_settings())
    if not channels:
        raise InputError("no channel is configured", "Set IOT_SLACK_WEBHOOK_URL or IOT_SMTP_HOST; see docs/alerts.md.")
    deliveries = deliver(dict.fromkeys(channels, trial(datetime.now(UTC))))
    targets = {channel.name: channel.target for channel in channels}
    out.print(
        table(
            "Test message",
            ("channel", "to", "delivered", "seconds", "why not"),
            [
                (one.channel, targets[one.channel], one.is_delivered, one.seconds, one.error or one.note or None)
                for one in deliveries
            ],
        )
    )
    if failed := [one for one in deliveries if one.error or one.note]:
        raise ServiceError(
            "; ".join(f"{one.channel}: {one.told}" for one in failed), "Correct the channel's settings: docs/alerts.md."
        )


@app.command(name="list")
def listing(
    days: Annotated[float, typer.Option(help="how far back ended incidents are shown")] = 7,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Open incidents, and those that ended lately.

    Example: iot alerts list --json
    """
    from dataclasses import asdict

    from iot_platform.alerts.book import listed, read_book
    from iot_platform.lake.query import as_json as json_value

    now = datetime.now(UTC)
    incidents = listed(read_book(load_settings()).incidents, now, timedelta(days=days))
    if as_json:
        emit_json([json_value(asdict(one)) for one in incidents])
        return
    rows = [
        (
            "open" if one.is_open else one.ending, one.severity, one.kind, one.subject, one.opened_at, one.recovered_at,
            ", ".join(f"{name}: {told.error or 'told'}" for name, told in sorted(one.told.items())) or "nobody", one.summary,
        )
        for one in incidents
    ]  # fmt: skip
    columns = ("state", "severity", "kind", "subject", "opened", "ended", "told", "summary")
    out.print(table("Incidents (UTC)", columns, rows))
    out.print(f"{sum(one.is_open for one in incidents)} open")
