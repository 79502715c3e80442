"""``iot services``: the local broker up, down, and how it is. What they do is in ``local.kafka``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from iot_platform.settings import load_settings

if TYPE_CHECKING:
    from iot_platform.local.kafka import KafkaStatus

app = typer.Typer(
    no_args_is_help=True, help="The services that run on this machine: Kafka. Example: iot services up"
)


@app.command()
def up() -> None:
    """Start Kafka, wait until it is healthy, make the topics. Example: iot services up

    It goes on running until `iot services down`. A second time nothing changes.
    """
    from rich.console import Console

    from iot_platform.local.fetch_jars import fetch_with_progress
    from iot_platform.local.kafka import start
    from iot_platform.topics import create_topics

    settings = load_settings()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if not settings.kafka_bootstrap:
        fetch_with_progress(settings, console, ["kafka"])
    with console.status("starting Kafka"):
        service = start(settings)
    with console.status("making the topics"):
        results = create_topics(settings)
    typer.echo(_describe(service.bootstrap, service.mode, service.pid, service.owner_pid))
    made = sum(result.action == "created" for result in results)
    typer.echo(f"topics: {len(results)}, {made} of them new")
    for result in results:
        if result.note:
            typer.echo(result.note, err=True)


@app.command()
def down() -> None:
    """Stop Kafka; its data stays. Example: iot services down"""
    from iot_platform.local.kafka import stop

    settings = load_settings()
    service = stop(settings)
    if service:
        typer.echo(f"Kafka at {service.bootstrap} stopped; its data stays under {settings.home / 'services'}")
    else:
        typer.echo("nothing was running" + (" here; your own broker is not touched" if settings.kafka_bootstrap else ""))


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")] = False,
) -> None:
    """Say how Kafka is; exit code 1 when it runs and does not answer. Example: iot services status --json"""
    from iot_platform.local import kafka

    found = kafka.status(load_settings())
    if as_json:
        typer.echo(json.dumps({"kafka": status_object(found)}, indent=2))
    elif found.service is None:
        typer.echo("Kafka is stopped; `iot services up` starts it")
    else:
        service = found.service
        typer.echo(_describe(service.bootstrap, service.mode, service.pid, service.owner_pid))
    if found.state == "unreachable":
        typer.echo(f"Kafka does not answer; see {found.logs}", err=True)
        raise typer.Exit(1)


def status_object(found: KafkaStatus) -> dict[str, object]:
    """The broker's state as JSON: times as ISO 8601 in UTC, null for what there is not."""
    service = found.service
    return {
        "state": found.state,
        "mode": service.mode if service else None,
        "bootstrap": service.bootstrap if service else None,
        "pid": service.pid or None if service else None,
        "started_at": _iso(service.started_at) if service and service.started_at else None,
        "logs": str(found.logs),
    }


def _describe(bootstrap: str, mode: str, pid: int, owner_pid: int) -> str:
    how = {
        "external": "yours, by IOT_KAFKA_BOOTSTRAP",
        "detached": f"pid {pid}, until `iot services down`",
        "owned": f"pid {pid}, until its owner (pid {owner_pid}) ends",
    }[mode]
    return f"Kafka at {bootstrap} ({how})"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
