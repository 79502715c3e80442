"""Messages that no broker took, kept on disk until one does: ``$IOT_HOME/undelivered/<run>.jsonl``, one JSON line each.

What belongs here: the files, their lines and their bounds. Sending them again is ``resend``. A file has one user at a time,
a run that still writes it, a resender or an erasure (a lock of the system, free again when its holder dies). A line that a
crash tore is never glued to the next one: it is set aside by whoever reads the file.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_platform.errors import PlatformError
from iot_platform.local.process import make_folder
from iot_platform.settings import Settings

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Outgoing:
    """One Kafka record to send; ``tag`` is the sender's own note and comes back with the acknowledgement."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    tag: Any = None


def spool_folder(settings: Settings) -> Path:
    return settings.home / "undelivered"


def waiting_files(settings: Settings) -> list[Path]:
    """The files whose messages wait to be sent again, the one that was written last at the end."""
    found: list[tuple[float, Path]] = []
    for path in spool_folder(settings).glob("*.jsonl"):
        try:
            found.append((path.stat().st_mtime, path))
        except FileNotFoundError:  # somebody has just sent it
            continue
    return [path for _, path in sorted(found)]


class Spool:
    """The file of one run, made when the first message needs it. ``limit_bytes`` bounds the whole folder."""

    def __init__(self, settings: Settings, run: str) -> None:
        self.path = spool_folder(settings) / f"{run}.jsonl"
        self.limit_bytes = settings.spool_megabytes << 20
        self.count = 0
        self._fd = -1
        self._size = 0
        self._others = 0

    @property
    def is_full(self) -> bool:
        """Whether no further message should be taken in; what was taken in is kept nevertheless."""
        return self._fd >= 0 and self._size + self._others >= self.limit_bytes

    def keep(self, message: Outgoing, reason: str) -> None:
        """Append a message. ``PlatformError`` when the disk refuses it: then the file ends with the message before."""
        line = json.dumps(as_line(message, reason)).encode() + b"\n"
        try:
            if self._fd < 0:
                self._open()
            written = os.write(self._fd, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if self._fd >= 0:
                os.ftruncate(self._fd, self._size)
            raise PlatformError(
                f"{self.path} cannot be written, a message that no broker took is lost: {error.strerror}", "Free space there"
            ) from None
        self._size += len(line)
        self.count += 1

    def _open(self) -> None:
        make_folder(self.path.parent)
        self._fd = open_alone(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":  # torn when an earlier run died
            self._size += os.write(self._fd, b"\n")
        self._others = sum(path.stat().st_size for path in waiting_files_beside(self.path))

    def discard(self) -> None:
        """Remove the file: its messages are made once more by whoever calls this."""
        self.close()
        self.path.unlink(missing_ok=True)

    @property
    def waiting(self) -> int:
        """How many messages stand in the file now."""
        return count_lines(self.path)

    def close(self) -> None:
        """Let others have the file; a later ``keep`` takes it again."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1


def count_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:
        return 0


def waiting_files_beside(path: Path) -> Iterator[Path]:
    return (other for other in path.parent.glob("*.jsonl") if other != path)


def open_alone(path: Path, flags: int) -> int:
    """Open and lock a file; waits for a resender or an erasure. Raises ``FileNotFoundError`` unless the flags create it."""
    while True:
        fd = os.open(path, flags, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if is_still(path, fd):
            return fd
        os.close(fd)  # it was replaced or removed meanwhile


def try_alone(path: Path) -> int | None:
    """The same without waiting: None when somebody uses the file, or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if is_still(path, fd):
        return fd
    os.close(fd)
    return None


def is_still(path: Path, fd: int) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def as_line(message: Outgoing, reason: str) -> dict[str, Any]:
    """A message as it stands in the file."""
    return {
        "topic": message.topic,
        "key": as_text(message.key),
        "value": as_text(message.value),
        "headers": [[name, as_text(value)] for name, value in message.headers],
        "error": reason,
    }


def parse_line(line: bytes) -> Outgoing | None:
    """The message of a line; None for one that was torn."""
    try:
        found = json.loads(line)
        return Outgoing(
            str(found["topic"]), as_bytes(found["key"]), as_bytes(found["value"]),
            [(str(name), as_bytes(value)) for name, value in found["headers"]],
        )  # fmt: skip
    except (ValueError, TypeError, KeyError):
        return None


def as_text(data: bytes) -> str | dict[str, str]:
    """The bytes as text; ``{"base64": …}`` where they are none, so that nothing is lost."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def as_bytes(text: str | dict[str, str]) -> bytes:
    """What ``as_text`` was given."""
    return text.encode() if isinstance(text, str) else base64.b64decode(text["base64"], validate=True)
