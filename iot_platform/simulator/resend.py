"""Sends again what no broker took: the files of ``spool``, each in its order, at least once.

A message that had arrived although its acknowledgement was lost arrives twice; Silver tells it apart by its event id. A
file goes when every line of it is acknowledged; killed before, it is sent again whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iot_platform.failpoints import reach
from iot_platform.settings import Settings
from iot_platform.simulator.producer import DELIVERY_SECONDS, Delivered, MessageProducer
from iot_platform.simulator.spool import Outgoing, count_lines, parse_line, try_alone, waiting_files


@dataclass
class ResendResult:
    """``left``: messages that still wait, in their files; ``torn``: broken lines, set aside in ``<run>.torn``; ``busy``:
    files that a run uses, which sends them itself; ``is_cut_off``: the broker went away again."""

    files: int = 0
    read: int = 0
    delivered: int = 0
    left: int = 0
    torn: int = 0
    busy: int = 0
    is_cut_off: bool = False
    failure: str = ""


def resend(
    settings: Settings,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
    delivery_seconds: float = DELIVERY_SECONDS,
) -> ResendResult:
    """Send everything that waits. Nothing waits: no broker is needed.

    Raises ``ServiceError`` without a broker; what it does not take later is counted as ``left``.
    """
    result = ResendResult()
    files = waiting_files(settings)
    if not files:
        return result
    with MessageProducer(
        settings, "resend", is_stopped=is_stopped, delivery_seconds=delivery_seconds, keep_failed=False
    ) as producer:
        producer.cluster([])
        for path in files:
            if not producer.is_cut_off and not is_stopped():
                _file(path, producer, result, is_stopped, on_progress)
    result.left = sum(count_lines(path) for path in waiting_files(settings))
    result.failure, result.is_cut_off = producer.first_failure, producer.is_cut_off
    return result


def _file(
    path: Path, producer: MessageProducer, result: ResendResult, is_stopped: Callable[[], bool],
    on_progress: Callable[[int, int | None], None],
) -> None:  # fmt: skip
    with _alone(path) as fd:
        if fd is None:
            result.busy += 1
            return
        done = bytearray()
        torn: list[bytes] = []

        def acknowledged(where: Delivered) -> None:
            done[where.tag] = 1

        producer.on_delivered = acknowledged
        with os.fdopen(os.dup(fd), "rb") as lines:
            for number, line in enumerate(lines):
                if producer.is_cut_off or is_stopped():
                    break
                done.append(0)
                result.read += 1
                message = parse_line(line)
                if message is None:
                    torn.append(line)
                    done[number] = 1
                    continue
                producer.send(Outgoing(message.topic, message.key, message.value, message.headers, tag=number))
                on_progress(result.read, None)
        producer.flush()
        reach("resend.acknowledged")
        result.files += 1
        result.delivered = producer.delivered
        result.torn += len(torn)
        _set_aside(path, torn)
        _forget(path, fd, done)


@contextmanager
def _alone(path: Path) -> Iterator[int | None]:
    fd = try_alone(path)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _forget(path: Path, fd: int, done: bytearray) -> None:
    """Leave in the file what is not done, in its order; no file is left of nothing."""
    rest = path.with_suffix(".part")
    kept = 0
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb") as lines, rest.open("wb") as target:
        for number, line in enumerate(lines):
            if number >= len(done) or not done[number]:
                target.write(line)
                kept += 1
        target.flush()
        os.fsync(target.fileno())
    if kept:
        rest.replace(path)
    else:
        path.unlink(missing_ok=True)
        rest.unlink()


def _set_aside(path: Path, torn: list[bytes]) -> None:
    if torn:
        with path.with_suffix(".torn").open("ab") as file:
            file.writelines(line.rstrip(b"\n") + b"\n" for line in torn)
