"""``replay``: finds the files, sends their rows as messages, keeps what was rejected, and registers the devices seen."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from iot_platform.contracts.parse import ParseRules, Reading
from iot_platform.errors import InputError, PlatformError
from iot_platform.local.process import make_folder
from iot_platform.settings import Settings
from iot_platform.simulator.declarations import DeclaredDevice, DeclaredMetric, declare_devices, declare_metrics
from iot_platform.simulator.history import EPOCH, microseconds
from iot_platform.simulator.producer import DELIVERY_SECONDS, MessageProducer
from iot_platform.simulator.replay.convert import Converted, Converter, mapping_name
from iot_platform.simulator.replay.files import SourceFile, find_files
from iot_platform.simulator.replay.mapping import Mapping, load_mapping
from iot_platform.simulator.replay.rows import Row, open_rows, read_all
from iot_platform.simulator.resend import resend
from iot_platform.simulator.spool import Headers, Outgoing, open_alone
from iot_platform.topics import load_topics

LONGEST_WAIT_SECONDS = 0.5
SHOWN_REJECTS = 5
_MICROSECOND = timedelta(microseconds=1)


@dataclass
class ReplayResult:
    """What a replay did. ``rows_without_reading``: rows of a wide file in which every cell was missing. ``messages_resent``:
    those of earlier runs that had found no broker.

    ``rejects_file``: None when nothing was rejected. ``shown``: the first rejections, as ``file:line: reason: detail``.
    """

    files: int = 0
    rows_read: int = 0
    messages_delivered: int = 0
    messages_undelivered: int = 0
    messages_resent: int = 0
    rows_rejected: int = 0
    rows_without_reading: int = 0
    rejects_file: Path | None = None
    undelivered_file: Path | None = None
    failure: str = ""
    shown: list[str] = field(default_factory=list)
    complete: bool = True
    seconds: float = 0.0


def replay(
    settings: Settings,
    path: Path,
    mapping_file: Path,
    *,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
    is_stopped: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
    delivery_seconds: float = DELIVERY_SECONDS,
) -> ReplayResult:
    """Replay a file, or the files below a folder, through Kafka.

    ``now``: wall clock, zone-aware; times more than an hour after it are rejected. Raises ``InputError`` for a mapping,
    path or file that cannot be used (nothing was sent then), ``ServiceError`` without a broker or topic.
    """
    mapping = load_mapping(mapping_file)
    topics = load_topics(settings)
    if mapping.contract not in topics:
        raise InputError(f"{settings.topics_file} has no topic for {mapping.contract}", "Add it there")
    files = find_files(path, mapping)
    name = mapping_name(mapping_file.stem)
    run = f"{name}-{now:%Y%m%dT%H%M%S%fZ}"
    rules = ParseRules(first_date=settings.first_date)
    for source in files:  # before anything is sent
        _look_at(source, mapping, rules)
    result = ReplayResult(files=len(files))
    started = clock()
    producer = MessageProducer(settings, run, is_stopped=is_stopped, delivery_seconds=delivery_seconds)
    producer.cluster([topics[mapping.contract].name])
    result.messages_resent = resend(settings, is_stopped=is_stopped, delivery_seconds=delivery_seconds).delivered
    _declare_metrics(settings, mapping, mapping_file.name, name)
    sender = _Sender(mapping, topics[mapping.contract].name, producer, clock, is_stopped, on_progress, result)
    devices: dict[str, DeclaredDevice] = {}
    with _Rejects(settings.home / "rejects" / f"{run}.jsonl", result) as rejects:
        try:
            with producer:
                sender.send(files, microseconds(now), rules, rejects, devices)
        finally:
            if devices:
                declare_devices(settings, f"replay-{name}", devices.values())
            result.messages_delivered, result.messages_undelivered = producer.delivered, producer.failed
    if producer.failed and producer.spool:
        result.undelivered_file, result.failure = producer.spool.path, producer.first_failure
    result.seconds = clock() - started
    return result


def _look_at(source: SourceFile, mapping: Mapping, rules: ParseRules) -> None:
    """Raise what is wrong with a file as a whole: unreadable, or without a column that the mapping names."""
    with ExitStack() as stack:
        Converter(mapping, open_rows(source, mapping, stack), source.variables, 0, rules)


def _declare_metrics(settings: Settings, mapping: Mapping, source: str, name: str) -> None:
    metrics = [
        DeclaredMetric(mapping.contract, metric, bounds.unit, bounds.min, bounds.max, source)
        for metric, bounds in mapping.metrics.items()
        if not mapping.wire.metric(metric)
    ]
    if metrics:
        declare_metrics(settings, name, metrics)


@dataclass
class _Sender:
    """Sends the rows of all files; the counts go to ``result``."""

    mapping: Mapping
    topic: str
    producer: MessageProducer
    clock: Callable[[], float]
    is_stopped: Callable[[], bool]
    on_progress: Callable[[int, int | None], None]
    result: ReplayResult

    def send(
        self, files: list[SourceFile], arrival_us: int, rules: ParseRules, rejects: _Rejects,
        devices: dict[str, DeclaredDevice],
    ) -> None:  # fmt: skip
        started, sent = self.clock(), 0
        contract = self.mapping.wire
        for source in files:
            headers: Headers = [
                ("contract", contract.name.encode()),
                ("contract_version", str(contract.version).encode()),
                ("replayed", b"true"),
                ("source", source.name.encode("utf-8", "replace")),
            ]
            for message in self._messages(source, arrival_us, rules, rejects):
                if self.mapping.rate:
                    self._pace(started + sent / self.mapping.rate)
                if self.is_stopped() or self.producer.failed:
                    self.result.complete = False
                    return
                self.producer.send(Outgoing(self.topic, message.device_id.encode(), message.value, headers))
                sent += 1
                if self.mapping.devices:
                    _note_device(devices, message.readings[0], self.mapping.devices.cadence_seconds)

    def _messages(
        self, source: SourceFile, arrival_us: int, rules: ParseRules, rejects: _Rejects
    ) -> Iterator[Converted]:  # fmt: skip
        with ExitStack() as stack:
            rows = open_rows(source, self.mapping, stack)
            converter = Converter(self.mapping, rows, source.variables, arrival_us, rules)
            for row in read_all(rows):
                self.result.rows_read += 1
                converted = converter.convert(row)
                yield from converted.messages
                if converted.rejected:
                    rejects.keep(source, row, converted.rejected)
                elif not converted.messages:
                    self.result.rows_without_reading += 1
                self.on_progress(self.result.rows_read, None)

    def _pace(self, due: float) -> None:
        while (ahead := due - self.clock()) > 0 and not self.is_stopped():
            self.producer.wait(min(ahead, LONGEST_WAIT_SECONDS))


class _Rejects:
    """The file of the rows that could not be messages: one JSON line a reason, with file, line and the row itself."""

    def __init__(self, path: Path, result: ReplayResult) -> None:
        self._path = path
        self._result = result
        self._file: IO[str] | None = None

    def __enter__(self) -> _Rejects:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def keep(self, source: SourceFile, row: Row, reasons: list[tuple[str, str]]) -> None:
        self._result.rows_rejected += 1
        for reason, detail in reasons:
            line = {"file": source.name, "line": row.line, "reason": reason, "detail": detail, "row": row.raw}
            self._write(json.dumps(line, default=str) + "\n")
            if len(self._result.shown) < SHOWN_REJECTS:
                self._result.shown.append(f"{source.name}:{row.line}: {reason}: {detail}")

    def _write(self, text: str) -> None:
        try:
            if self._file is None:
                make_folder(self._path.parent)
                self._file = os.fdopen(open_alone(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8")
                self._result.rejects_file = self._path
            self._file.write(text)
        except OSError as error:
            raise PlatformError(f"{self._path} cannot be written: {error.strerror}", "Free space there") from None


def _note_device(devices: dict[str, DeclaredDevice], reading: Reading, cadence_seconds: float) -> None:
    """Note when the reading's device began to report; its attributes are those of its first message."""
    at = EPOCH + reading.event_time * _MICROSECOND
    known = devices.get(reading.device_id)
    if known is None:
        devices[reading.device_id] = DeclaredDevice(
            reading.device_id, reading.contract, cadence_seconds, at, True, reading.device_type or "", reading.site or "",
            reading.zone or "", reading.state or "", reading.firmware or "",
        )  # fmt: skip
    else:
        devices[reading.device_id] = known.seen_also(at)
