"""``iot erase``: everything of one device, out of every table, mart and old version, with the proof."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import JsonOption, emit_json, out, step, table
from iot_platform.errors import InputError
from iot_platform.settings import Settings, load_settings

if TYPE_CHECKING:
    from iot_platform.erase.run import Erased
    from iot_platform.lake import Lake

SHOWN_FILES = 10


def erase(
    *,
    device: Annotated[str | None, typer.Option(help="the device's id; without it the erasures so far are listed")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    force: Annotated[bool, typer.Option("--force", help="also where no table knows it: refuse its messages")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="end what was begun on this machine and not ended")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="only look through all files; change nothing")] = False,
    wait: Annotated[float, typer.Option(min=0, help="seconds to wait for unfinished runs")] = 300,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Erase a device for good: its rows everywhere, old versions included; its messages are refused from then on.

    Safe beside running ingestion; what was killed is simply run again. Exit code 1 when a trace is left.
    Example: iot erase --device sensor-003
    """
    from iot_platform.erase.run import Request, refuse_left
    from iot_platform.erase.run import erase as erase_device
    from iot_platform.erase.unfinished import remembered
    from iot_platform.lake import Lake

    settings = load_settings()
    lake = Lake(settings)
    if device is None and not resume:
        _list(lake, as_json=as_json)
        return
    devices = [*remembered(settings).values()] if device is None else [device]
    if verify:
        _verify(lake, devices, as_json=as_json)
        return
    for one in devices:
        if not (yes or resume):
            _ask(one)
        with step(f"Erase {one}") as line:
            result = erase_device(lake, Request(one, force, wait, on_step=line.doing))
            line.say("nothing is left" if result.is_clean else "not done")
        if as_json:
            emit_json(as_object(result, settings))
        else:
            _show(result, settings)
        refuse_left(result)
    if not devices:
        out.print("no erasure is unfinished on this machine")


def _ask(device: str) -> None:
    told = f"Erase {device} from every table and all past versions? This cannot be undone, and time travel to before ends."
    try:
        is_wanted = typer.confirm(told, err=True)
    except typer.Abort:
        raise InputError("nothing was erased: nobody said yes", "Say --yes where nobody can be asked") from None
    if not is_wanted:
        raise InputError("nothing was erased")


def _list(lake: Lake, *, as_json: bool) -> None:
    from iot_platform.erase.unfinished import remembered
    from iot_platform.lake.erasures import read_erasures

    here = remembered(lake.settings)
    rows = [
        {
            "number": one.number, "device_hash": one.device_hash, "requested_at": one.requested_at,
            "finished_at": one.finished_at, "resumable_here": one.finished_at is None and one.device_hash in here,
        }
        for one in read_erasures(lake)
    ]  # fmt: skip
    if as_json:
        times = ("requested_at", "finished_at")
        emit_json([row | {name: row[name] and f"{row[name]:%Y-%m-%dT%H:%M:%S.%fZ}" for name in times} for row in rows])
        return
    columns = ("number", "device (hash)", "requested", "finished", "unfinished: --resume")
    shown = [
        (row["number"], row["device_hash"][:16], row["requested_at"], row["finished_at"], row["resumable_here"])
        for row in rows
    ]
    out.print(table("Erasures", columns, shown))


def _verify(lake: Lake, devices: list[str], *, as_json: bool) -> None:
    from iot_platform.erase.run import Erased, refuse_left, trace_of
    from iot_platform.erase.verification import verify

    for one in devices:
        with step(f"Look for {one} in all files") as line:
            found = verify(lake, trace_of(lake, one), lambda files, line=line: line.doing(f"{files} files"))
            line.say(f"{found.files} files", f"{len(found.traces)} with traces")
        if as_json:
            emit_json(_verified(found))
        refuse_left(Erased(one, verification=found))


def _verified(found: Any) -> dict[str, Any]:
    return {"files": found.files, "traces": [*found.traces], "unreadable": [*found.unreadable]}


def as_object(result: Erased, settings: Settings) -> dict[str, Any]:
    """The result as JSON has it."""
    days = result.remade.days
    return {
        "number": result.number,
        "already_erased": result.is_repeated and result.before == result.after,
        "tables": {
            name: {
                "device_before": count.device, "rows_before": count.rows,
                "device_after": result.after[name].device if name in result.after else None,
                "rows_after": result.after[name].rows if name in result.after else None,
            }
            for name, count in result.before.items()
        },
        "remade": [day.isoformat() for day in days] if days else None,
        "closed_dates": [day.isoformat() for day in result.closed],
        "held_dates": {name: [day.isoformat() for day in days] for name, days in result.held.items()},
        "files_removed": result.files_removed,
        "log_entries_rewritten": result.log_entries,
        "checkpoints_removed": result.checkpoints,
        "beside": [{"path": one.path, "places": one.places, "todo": one.todo or None} for one in result.beside],
        "kafka": kafka_keeps(settings),
        "verification": _verified(result.verification),
        "clean": result.is_clean,
    }  # fmt: skip


def kafka_keeps(settings: Settings) -> dict[str, str]:
    """Per topic until when, at the latest, Kafka may hold messages of the device that were sent up to now."""
    from iot_platform.topics import load_topics

    now = datetime.now(UTC)
    return {
        topic.name: f"{now + timedelta(days=topic.retention_days):%Y-%m-%dT%H:%M:%SZ}"
        for topic in load_topics(settings).values()
    }


def _show(result: Erased, settings: Settings) -> None:
    if result.is_repeated and result.before == result.after:
        out.print(f"{result.device_id} is already erased; {result.verification.files} files hold no trace of it")
        _show_left(result)
        return
    rows = [
        (name, count.device, after.device if (after := result.after.get(name)) else None, count.rows, after and after.rows)
        for name, count in result.before.items()
    ]
    out.print(table(f"{result.device_id}, before and after",
                    ("table", "its rows before", "after", "all rows before", "after"), rows))  # fmt: skip
    out.print(
        f"{result.files_removed} old data files removed, {result.log_entries} log entries rewritten,"
        f" {result.checkpoints} old checkpoints removed; {result.verification.files} files looked through,"
        f" {len(result.verification.traces)} with traces"
    )
    out.print("Time travel to before now ends, where it would need a file that is gone.")
    _show_left(result)
    if result.closed:
        out.print(f"Closed dates stay summed up as they were: {result.closed[0]} … {result.closed[-1]}")
    for topic, until in kafka_keeps(settings).items():
        out.print(f"Kafka: {topic} holds its messages until {until} at the latest; they are refused if read again")


def _show_left(result: Erased) -> None:
    for name, days in result.held.items():
        out.print(
            f"{name}: held by a rollback, so it may still sum the device up: {', '.join(map(str, days))}; made again once"
            f" released: iot rollback --table {name} --date {days[0]} --release", soft_wrap=True,
        )  # fmt: skip
    for one in result.beside[:SHOWN_FILES]:
        told = one.todo or f"taken out in {one.places} place(s)"
        out.print(f"beside the lake: {one.path}: {told}", markup=False)
    if len(result.beside) > SHOWN_FILES:
        out.print(f"beside the lake: {len(result.beside) - SHOWN_FILES} more files")
