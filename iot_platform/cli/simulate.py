"""``iot simulate``: options into a simulation, its result into lines. What it does is in ``simulator.simulation``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iot_platform.simulator.options import FleetOptions, History, Live
    from iot_platform.simulator.simulation import SimulationResult

HISTORY, FLEET, FAULTS = "How much", "Fleet", "What is injected (shares of the messages)"


def simulate(
    *,
    days: Annotated[int | None, typer.Option(help="History: so many UTC dates; default 3.", rich_help_panel=HISTORY)] = None,
    until: Annotated[str, typer.Option(help="End of the history, ISO 8601; default now.", rich_help_panel=HISTORY)] = "",
    start: Annotated[str, typer.Option(help="First date of the history, not --days.", rich_help_panel=HISTORY)] = "",
    rate: Annotated[float | None, typer.Option(help="Live: messages a second.", rich_help_panel=HISTORY)] = None,
    max_events: Annotated[int | None, typer.Option(help="End after so many messages.", rich_help_panel=HISTORY)] = None,
    duration: Annotated[float | None, typer.Option(help="Live: end after so many seconds.", rich_help_panel=HISTORY)] = None,
    contract: Annotated[list[str] | None, typer.Option(help="Again for more; default all.", rich_help_panel=FLEET)] = None,
    devices: Annotated[int, typer.Option(help="Devices per contract.", rich_help_panel=FLEET)] = 6,
    cadence: Annotated[float, typer.Option(help="Seconds between a device's readings.", rich_help_panel=FLEET)] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed says the same.", rich_help_panel=FLEET)] = 7,
    silent_devices: Annotated[int, typer.Option(help="Registered, never heard; per contract.", rich_help_panel=FLEET)] = 1,
    half_silent_devices: Annotated[int, typer.Option(help="Every other reading; per contract.", rich_help_panel=FLEET)] = 1,
    status_mix: Annotated[str, typer.Option(help="normal/warning/critical in percent.", rich_help_panel=FLEET)] = "80/15/5",
    anomaly_rate: Annotated[float, typer.Option(help="Readings that jump by 8 to 10 sigma.", rich_help_panel=FAULTS)] = 0.02,
    duplicate_rate: Annotated[float, typer.Option(help="Messages sent twice.", rich_help_panel=FAULTS)] = 0.02,
    late_rate: Annotated[float, typer.Option(help="Further messages that come late.", rich_help_panel=FAULTS)] = 0.01,
    lateness: Annotated[str, typer.Option(help="Shortest-longest, in seconds.", rich_help_panel=FAULTS)] = "900-21600",
    malformed_rate: Annotated[float, typer.Option(help="Further, broken messages.", rich_help_panel=FAULTS)] = 0.005,
    out_of_range_rate: Annotated[float, typer.Option(help="Values beyond physical bounds.", rich_help_panel=FAULTS)] = 0.005,
    null_rate: Annotated[float, typer.Option(help="Values that are null.", rich_help_panel=FAULTS)] = 0.005,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")] = False,
) -> None:
    """Send what a fleet of devices would: its history, or live with --rate, to Kafka. Example: iot simulate --days 3

    Live until Ctrl-C: iot simulate --rate 50. A history that was sent already is not sent again; the same seed and
    options say the same. What was injected stands in the truth file that the last line names.
    """
    from iot_platform.cli.console import emit_json
    from iot_platform.errors import InputError
    from iot_platform.settings import load_settings
    from iot_platform.simulator.options import FleetOptions, SimulationOptions
    from iot_platform.simulator.simulation import simulate as run

    now = datetime.now(UTC)
    given = {"--days": days, "--start": start or None, "--until": until or None}
    if rate is not None and (wrong := next((name for name, value in given.items() if value is not None), "")):
        raise InputError(f"{wrong} is for a history, --rate for a live run", "Give one of the two")
    if rate is None and duration is not None:
        raise InputError("--duration is for a live run", "Give --rate too")
    contracts = tuple(dict.fromkeys(contract)) if contract else FleetOptions.contracts
    fleet = FleetOptions(
        contracts=contracts, devices=devices, cadence_seconds=cadence, seed=seed, silent_devices=silent_devices,
        half_silent_devices=half_silent_devices, status_mix=_shares(status_mix), anomaly_rate=anomaly_rate,
        duplicate_rate=duplicate_rate, late_rate=late_rate, lateness_seconds=_span(lateness), malformed_rate=malformed_rate,
        out_of_range_rate=out_of_range_rate, null_rate=null_rate,
    )  # fmt: skip
    span = _history(days, start, until, now) if rate is None else _live(rate, max_events, duration)
    options = SimulationOptions(span, fleet, max_events)
    with stopped_by_signals() as is_stopped, progress("sending") as on_progress:
        result = run(load_settings(), options, now=now, is_stopped=is_stopped, on_progress=on_progress)
    if as_json:
        emit_json(_as_object(result))
    else:
        _print(result, fleet)


def _history(days: int | None, start: str, until: str, now: datetime) -> History:
    from iot_platform.errors import InputError
    from iot_platform.simulator.options import History

    if start and days is not None:
        raise InputError("--start and --days both say where the history begins", "Give one of the two")
    end = _time("--until", until) if until else now
    return History(3 if days is None else days, end, _time("--start", start) if start else None)


def _live(rate: float, max_events: int | None, duration: float | None) -> Live:
    from iot_platform.simulator.options import Live

    return Live(rate, max_events, duration)


def _time(option: str, text: str) -> datetime:
    """A time or a date (its midnight); in UTC where it names no zone."""
    from iot_platform.errors import InputError

    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} {text!r} is no time", "Write it like 2026-11-19 or 2026-11-19T12:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _shares(text: str) -> tuple[float, float, float]:
    from iot_platform.errors import InputError

    try:
        normal, warning, critical = (float(part) / 100 for part in text.split("/"))
    except ValueError:
        raise InputError(f"--status-mix {text!r} is not three percentages", "Write it like 80/15/5") from None
    return normal, warning, critical


def _span(text: str) -> tuple[float, float]:
    from iot_platform.errors import InputError

    try:
        shortest, longest = (float(part) for part in text.split("-"))
    except ValueError:
        raise InputError(f"--lateness {text!r} is no span of seconds", "Write it like 900-21600") from None
    return shortest, longest


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """While inside, Ctrl-C and SIGTERM do not interrupt: they make the yielded function say True, and work ends in order."""
    stopped = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: stopped.set())
    try:
        yield stopped.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """One line of progress on stderr, which vanishes at the end; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from iot_platform.cli.console import err

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int | None) -> None:
            if done % 200 == 1 or done == total:
                bar.update(task, completed=done, total=total)

        yield advance


def _as_object(result: SimulationResult) -> dict[str, object]:
    return {
        "run": result.run,
        "messages_delivered": result.delivered,
        "already_sent": result.already_sent,
        "messages_resent": result.resent,
        "messages": result.messages,
        "injected": result.injected,
        "complete": result.complete,
        "seconds": result.seconds,
        "truth_file": str(result.truth),
    }


def _print(result: SimulationResult, fleet: FleetOptions) -> None:
    for name in fleet.contracts:
        typer.echo(f"{name}: {result.messages.get(name, 0)} messages from {fleet.devices - fleet.silent_devices} devices")
    if result.injected:
        typer.echo("injected: " + ", ".join(f"{count} {kind}" for kind, count in sorted(result.injected.items())))
    if result.already_sent:
        typer.echo(f"already sent before: {result.already_sent}")
    if result.resent:
        typer.echo(f"sent again, for want of a broker before: {result.resent}")
    if not result.complete:
        typer.echo("stopped before the end; the same command goes on from there")
    typer.echo(f"messages delivered: {result.delivered} in {result.seconds:.1f} s")
    typer.echo(f"truth file: {result.truth}")
