"""``iot resend``: what no broker took is sent again. What it does is in ``simulator.resend``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from iot_platform.cli.console import JsonOption, emit_json


def resend(as_json: Annotated[bool, JsonOption] = False) -> None:
    """Send the messages again that simulate or replay found no broker for. Example: iot resend

    They wait in undelivered/ below IOT_HOME; a live simulation and a replay send them first, too. One that had arrived after
    all arrives twice and is told apart by its event id.
    """
    from iot_platform.cli.simulate import progress, stopped_by_signals
    from iot_platform.errors import ServiceError
    from iot_platform.settings import load_settings
    from iot_platform.simulator.resend import resend as run

    settings = load_settings()
    with stopped_by_signals() as is_stopped, progress("sending again") as on_progress:
        result = run(settings, is_stopped=is_stopped, on_progress=on_progress)
    if as_json:
        emit_json(asdict(result))
    else:
        typer.echo(f"files: {result.files}")
        typer.echo(f"messages sent again: {result.delivered}")
        if result.busy:
            typer.echo(f"files that a run still uses: {result.busy}")
        if result.torn:
            typer.echo(f"torn lines, set aside in *.torn: {result.torn}")
        if result.left:
            typer.echo(f"messages that still wait: {result.left}")
    if result.failure:
        raise ServiceError(
            f"{result.left} messages were not delivered ({result.failure})", "See `iot services status`, then run it again"
        )
