"""``iot quarantine``: what waits there and why, one message whole, and a second judgement after a contract was mended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import FromOption, JsonOption, ToOption, emit_json, out, parse_day, parse_range, step, table
from iot_platform.errors import InputError
from iot_platform.settings import load_settings

if TYPE_CHECKING:
    from iot_platform.ingest.redrive import RedriveResult
    from iot_platform.lake.quarantine import Chosen, Held, Message

SHOWN_BYTES = 1024
PER_LINE = 16

app = typer.Typer(no_args_is_help=True, help="Messages that could not be readings. Example: iot quarantine list --by reason")


class By(StrEnum):
    """What counts are told by."""

    REASON = "reason"
    DATE = "date"
    TOPIC = "topic"


ReasonOption = Annotated[list[str] | None, typer.Option("--reason", help="only this reason; again for more")]
TopicOption = Annotated[list[str] | None, typer.Option("--topic", help="only this topic; again for more")]
DateOption = Annotated[str | None, typer.Option("--date", help="only this date of arrival (UTC)")]
First = Annotated[str | None, FromOption]
Last = Annotated[str | None, ToOption]


@app.callback()
def quarantine() -> None:
    """Messages that could not be readings, whole, each with its reason. Example: iot quarantine list --by reason"""


@app.command(name="list")
def listing(
    *,
    reason: ReasonOption = None,
    day: DateOption = None,
    first: First = None,
    last: Last = None,
    topic: TopicOption = None,
    by: Annotated[By | None, typer.Option(help="counts instead: by reason, date of arrival or topic")] = None,
    with_redriven: Annotated[bool, typer.Option("--all", help="also those that were redriven")] = False,
    limit: Annotated[int, typer.Option(min=0, help="messages shown, newest first; 0: all")] = 50,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """What waits in quarantine, newest arrival first; needs no running service.

    Example: iot quarantine list --reason wrong_type --date yesterday
    """
    from iot_platform.lake import Lake
    from iot_platform.lake.quarantine import counts, messages

    lake = Lake(load_settings())
    chosen = _chosen(reason, day, first, last, topic, with_redriven=with_redriven or by is not None)
    if by:
        found = counts(lake, chosen, by.value)
        if as_json:
            emit_json([{by.value: one.group, **_plain(one._asdict(), "group")} for one in found])
        else:
            rows = [(one.group, one.waiting, one.redriven, one.newest_at) for one in found]
            out.print(table("Quarantine", (by.value, "waiting", "redriven", "newest arrival"), rows))
        return
    held = messages(lake, chosen, limit)
    if as_json:
        emit_json([_described(one) for one in held])
        return
    columns = ("message", "reason", "detail", "arrived", "bytes", *(("redriven",) if with_redriven else ()))
    rows = [
        (str(one.id), one.reason, _short(one.detail), one.arrived_at, one.size, one.redriven_at)[: len(columns)]
        for one in held
    ]
    out.print(table("Quarantine", columns, rows))
    if limit and len(held) == limit:
        out.print(f"the newest {limit:,}; --limit 0 shows all, --by reason counts them", markup=False)


@app.command()
def show(
    message: Annotated[str, typer.Argument(help="topic/partition/offset, as `list` shows it")],
    full: Annotated[bool, typer.Option("--full", help=f"all bytes, not only the first {SHOWN_BYTES:,}")] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """One message: reason, detail, times, key, headers, and its bytes as text and in hexadecimal.

    Example: iot quarantine show iot.sensor-readings/0/17
    """
    from iot_platform.lake import Lake
    from iot_platform.lake.quarantine import MessageId
    from iot_platform.lake.quarantine import message as read

    found = read(Lake(load_settings()), MessageId.parse(message))
    if as_json:
        emit_json(_whole(found))
        return
    for line in _lines(found, None if full else SHOWN_BYTES):
        out.print(line, markup=False, soft_wrap=True)


@app.command()
def redrive(
    messages: Annotated[list[str] | None, typer.Argument(help="only these: topic/partition/offset")] = None,
    *,
    reason: ReasonOption = None,
    day: DateOption = None,
    first: First = None,
    last: Last = None,
    topic: TopicOption = None,
    everything: Annotated[bool, typer.Option("--all", help="everything that waits")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only tell what would become of them")] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Parse messages again by today's contracts; those that are good now go to bronze/readings, exactly once.

    They keep their Kafka coordinates; what stays refused stays in quarantine. Tables made from their dates follow by
    themselves. Example: iot quarantine redrive --reason wrong_type --dry-run
    """
    from iot_platform.ingest.redrive import redrive as drive

    settings = load_settings()
    if not any((messages, reason, day, first, last, topic, everything)):
        raise InputError("say which messages", "Give ids, --reason, --date or --topic, or --all for everything that waits.")
    chosen = _chosen(reason, day, first, last, topic, ids=messages or ())
    _refuse_unknown(chosen)
    with step("Judge again, changing nothing" if dry_run else "Redrive") as line:
        result = drive(
            settings, chosen, now=datetime.now(UTC), dry_run=dry_run,
            on_chunk=lambda so_far: line.doing(f"{so_far.redriven:,} of {so_far.chosen:,} messages"),
        )  # fmt: skip
    if as_json:
        emit_json({**result.as_json(), "dry_run": dry_run})
        return
    for told in _told(result, dry_run):
        out.print(told, markup=False)


def _chosen(
    reason: list[str] | None, day: str | None, first: str | None, last: str | None, topic: list[str] | None,
    *, ids: Any = (), with_redriven: bool = False,
) -> Chosen:  # fmt: skip
    from iot_platform.lake.quarantine import Chosen, MessageId

    if day and (first or last):
        raise InputError("--date is one date, --from and --to are a range", "Give one or the other.")
    only = parse_day(day, "--date") if day else None
    start, end = (only, only) if only else parse_range(first, last) or (None, None)
    return Chosen(
        frozenset(reason or ()), start, end, frozenset(topic or ()),
        frozenset(MessageId.parse(one) for one in ids), with_redriven=with_redriven,
    )  # fmt: skip


def _refuse_unknown(chosen: Chosen) -> None:
    """An id that quarantine does not hold is a mistake, and nothing is done then."""
    from iot_platform.lake import Lake
    from iot_platform.lake.quarantine import Chosen, messages

    if not chosen.ids:
        return
    known = {one.id for one in messages(Lake(load_settings()), Chosen(ids=chosen.ids, with_redriven=True))}
    if unknown := sorted(map(str, chosen.ids - known)):
        raise InputError(f"quarantine holds no message {', '.join(unknown[:5])}", "See `iot quarantine list --all`.")


def _told(result: RedriveResult, dry_run: bool) -> Iterator[str]:
    would = "would be " if dry_run else ""
    yield f"messages looked at: {result.chosen:,}"
    yield f"{would}redriven: {result.redriven:,} ({result.readings:,} readings, {result.late:,} of the messages late)"
    for day, rows in sorted(result.readings_by_date.items()):
        yield f"  {day}: {rows:,} readings"
    if result.healed:
        yield f"were in Bronze already: {result.healed:,}"
    yield f"still refused: {result.refused.total():,}"
    for reason, count in result.refused.most_common():
        yield f"  {reason}: {count:,}"
    if result.unmarked:
        yield f"not marked in quarantine yet, since others were writing: {result.unmarked:,}; the next redrive marks them"


def _plain(values: dict[str, Any], *without: str) -> dict[str, Any]:
    from iot_platform.lake.query import as_json

    return {name: as_json(value) for name, value in values.items() if name not in without}


def _described(held: Held) -> dict[str, Any]:
    return {"id": str(held.id), **held.id._asdict(), **_plain(held._asdict(), "id")}


def _whole(message: Message) -> dict[str, Any]:
    return _described(message.held) | {
        "key": _both(message.key),
        "value": _both(message.value),
        "headers": [{"name": name, **(_both(value) or {"text": None, "hex": None})} for name, value in message.headers],
    }


def _both(raw: bytes | None) -> dict[str, str] | None:
    return None if raw is None else {"text": _text(raw), "hex": raw.hex()}


def _text(raw: bytes) -> str:
    """Bytes that are no UTF-8 stand as \\xNN."""
    return raw.decode("utf-8", "backslashreplace")


def _harmless(text: str) -> str:
    """One line, in which nothing that a sender wrote steers the terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _short(detail: str, most: int = 60) -> str:
    return detail if len(detail) <= most else f"{detail[:most]}…"


def _lines(message: Message, most: int | None) -> Iterator[str]:
    held = message.held
    yield f"message: {held.id}"
    yield f"reason: {held.reason}: {held.detail}"
    yield f"arrived: {held.arrived_at}"
    yield f"quarantined: {held.quarantined_at}"
    yield f"redriven: {held.redriven_at or 'no'}"
    yield f"key: {'-' if message.key is None else _harmless(_text(message.key))}"
    for name, value in message.headers:
        yield f"header {_harmless(name)}: {'-' if value is None else _harmless(_text(value))}"
    if message.value is None:
        yield "value: none (a tombstone, or withheld because the device was erased)"
        return
    shown = message.value if most is None else message.value[:most]
    rest = len(message.value) - len(shown)
    yield f"value: {len(message.value):,} bytes" + (f", the first {len(shown):,} of them:" if rest else ":")
    yield _harmless(_text(shown))
    for at in range(0, len(shown), PER_LINE):
        row = shown[at : at + PER_LINE]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:08x}  {row.hex(' '):<{PER_LINE * 3}} {printable}"
