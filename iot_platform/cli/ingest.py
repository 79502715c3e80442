"""``iot ingest``: Kafka into Bronze, once or until stopped. What it does is in ``iot_platform.ingest``."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import JsonOption, emit_json, err, out, step

if TYPE_CHECKING:
    from iot_platform.ingest import BatchResult, DrainResult
    from iot_platform.settings import Settings


def ingest(
    continuous: Annotated[bool, typer.Option("--continuous", help="Go on until Ctrl-C or SIGTERM.")] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although messages expired in Kafka before they were read.")
    ] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Land what waits in Kafka in bronze/readings and bronze/quarantine, exactly once. Example: iot ingest

    With --continuous as a service: iot ingest --continuous
    """
    from iot_platform.settings import load_settings

    settings = load_settings()
    result = _continuously(settings, accept_loss) if continuous else _once(settings, accept_loss)
    if as_json:
        emit_json(summary(result))
    else:
        out.print(f"messages read: {result.messages:,}")
        out.print(f"readings landed: {result.readings:,} on {len(result.rows_by_date):,} dates")
        out.print(f"late messages: {result.late:,}")
        out.print(f"messages quarantined: {result.quarantined:,}")


def summary(result: DrainResult) -> dict[str, Any]:
    """The result as JSON: dates as ISO text, offsets ``[from, until)`` per topic and partition."""
    return {
        "batches": result.batches,
        "messages": result.messages,
        "readings": result.readings,
        "quarantined": result.quarantined,
        "late": result.late,
        "rows_by_date": {day.isoformat(): rows for day, rows in sorted(result.rows_by_date.items())},
        "offsets": {
            topic: {str(partition): list(span) for partition, span in sorted(spans.items())}
            for topic, spans in sorted(result.offsets.items())
        },
        "seconds": round(result.seconds, 3),
    }


def _once(settings: Settings, accept_loss: bool) -> DrainResult:
    from iot_platform.ingest import drain

    waiting = 0
    done = 0
    with step("Drain Kafka into Bronze") as line:

        def started(offsets: int) -> None:
            nonlocal waiting
            waiting = offsets
            line.doing(f"{offsets:,} messages wait" if offsets else "nothing waits")

        def landed(batch: BatchResult) -> None:
            nonlocal done
            done += batch.messages
            line.doing(f"{done:,} of {waiting:,} messages")

        result = drain(settings, on_start=started, on_batch=landed, accept_loss=accept_loss)
        rate = f", {result.messages / result.seconds:,.0f} a second" if result.messages else ""
        line.say(f"{result.messages:,} messages{rate}")
    return result


def _continuously(settings: Settings, accept_loss: bool) -> DrainResult:
    from iot_platform.ingest import run_continuously

    stop = threading.Event()

    def listen() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())

    def landed(batch: BatchResult) -> None:
        err.print(f"batch {batch.batch_id}: {batch.messages:,} messages, {batch.quarantined:,} quarantined", markup=False)

    return run_continuously(
        settings, stop, on_ready=listen, on_batch=landed, accept_loss=accept_loss,
        on_state=lambda line: err.print(line, markup=False),
    )  # fmt: skip
