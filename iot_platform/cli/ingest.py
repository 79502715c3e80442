"""``iot ingest``: Kafka into Bronze, once or until stopped. What it does is in ``iot_platform.ingest``."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

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

    With --continuous as a service: a worker ingests, and this process starts it again when it ends or is stuck.
    """
    from iot_platform.settings import load_settings

    settings = load_settings()
    result = _continuously(settings, accept_loss) if continuous else _once(settings, accept_loss)
    if as_json:
        emit_json(result.as_json())
    else:
        out.print(f"messages read: {result.messages:,}")
        out.print(f"readings landed: {result.readings:,} on {len(result.rows_by_date):,} dates")
        out.print(f"late messages: {result.late:,}")
        out.print(f"messages quarantined: {result.quarantined:,}")


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
    from iot_platform.ingest.supervise import Supervisor

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    outcome = Supervisor(settings, lambda line: err.print(line, markup=False), accept_loss).run(stop)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)  # the worker said why
    return outcome.result
