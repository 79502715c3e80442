"""``iot replay``: arguments into a replay, its result into lines. What it does is in ``simulator.replay.run``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iot_platform.simulator.replay.run import ReplayResult


def replay(
    path: Annotated[Path, typer.Argument(help="A CSV, Parquet or JSON lines file (.gz, .zst too), or a folder of them.")],
    mapping: Annotated[Path, typer.Option(help="A YAML file that says what stands where; see examples/.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")] = False,
) -> None:
    """Bring anybody's files to Kafka. Example: iot replay examples/air_quality.csv --mapping examples/air_quality.yaml

    A row that cannot be a message is counted, reported with file and line, and kept in a rejects file.
    """
    from iot_platform.cli.console import emit_json
    from iot_platform.cli.simulate import progress, stopped_by_signals
    from iot_platform.settings import load_settings
    from iot_platform.simulator.replay.run import replay as run

    with stopped_by_signals() as is_stopped, progress("replaying") as on_progress:
        result = run(
            load_settings(), path, mapping, now=datetime.now(UTC), is_stopped=is_stopped, on_progress=on_progress
        )  # fmt: skip
    _report_rejects(result)
    if as_json:
        emit_json(_as_object(result))
    else:
        _print(result)
    _end(result)


def _report_rejects(result: ReplayResult) -> None:
    for line in result.shown:
        typer.echo(f"rejected {line}", err=True)
    if result.rows_rejected > len(result.shown):
        typer.echo(f"{result.rows_rejected - len(result.shown)} more rows rejected, see {result.rejects_file}", err=True)


def _as_object(result: ReplayResult) -> dict[str, object]:
    values = asdict(result)
    for hidden in ("shown", "failure"):
        del values[hidden]
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _print(result: ReplayResult) -> None:
    if not result.complete:
        typer.echo("stopped before the end")
    if result.rows_without_reading:
        typer.echo(f"rows without a reading: {result.rows_without_reading}")
    typer.echo(f"files: {result.files}")
    typer.echo(f"rows read: {result.rows_read}")
    if result.messages_resent:
        typer.echo(f"messages of earlier runs sent again: {result.messages_resent}")
    typer.echo(f"messages delivered: {result.messages_delivered}")
    typer.echo(f"rows rejected: {result.rows_rejected}")
    if result.rejects_file:
        typer.echo(f"rejects file: {result.rejects_file}")


def _end(result: ReplayResult) -> None:
    """Exit code 1 when messages were not delivered, 2 when nothing could be."""
    from iot_platform.errors import InputError, ServiceError

    if result.messages_undelivered:
        raise ServiceError(
            f"{result.messages_undelivered} messages were not delivered ({result.failure}); they are kept in "
            f"{result.undelivered_file}",
            "See `iot services status`, then replay again: that sends them first, and what arrives twice is told apart",
        )
    if not result.messages_delivered and result.complete:
        raise InputError(
            f"nothing could be delivered: {result.rows_read} rows read, {result.rows_rejected} rejected",
            "Correct the mapping or the data" + (f"; see {result.rejects_file}" if result.rejects_file else ""),
        )
