"""Processes that outlive a call: who they are, whether they still run, how they end; ports and locks beside them.

A process is known by pid *and* start time, so that a reused pid is never taken for it. What belongs here is true of any
local service; what is Kafka's own is in ``kafka``.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from iot_platform.errors import PlatformError, ServiceError

LOOPBACK = "127.0.0.1"
# The start time that the system derives from its boot time moves a little when the clock is corrected.
START_TIME_TOLERANCE_SECONDS = 5.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for good: its pid and when it started (epoch seconds)."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The process that has this pid now; ``psutil.NoSuchProcess`` when there is none."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The live process, or None when it ended (a zombie did), or when the pid is another's by now."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_at) < START_TIME_TOLERANCE_SECONDS
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    @property
    def is_running(self) -> bool:
        return self.process() is not None


def end(identity: ProcessIdentity, patience_seconds: float) -> bool:
    """Ask the process to end, make it end when patience is over; False when it was not running."""
    process = identity.process()
    if process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        if not wait_until(lambda: not identity.is_running, patience_seconds):
            process.kill()
            wait_until(lambda: not identity.is_running, patience_seconds)
    return True


def end_group(leader: int, patience_seconds: float, first: signal.Signals = signal.SIGTERM) -> None:
    """End every process of the group that this pid leads: first politely, after ``patience_seconds`` for good."""
    with suppress(ProcessLookupError):
        os.killpg(leader, first)
        wait_until(lambda: not _group_runs(leader), patience_seconds)
        os.killpg(leader, signal.SIGKILL)
        wait_until(lambda: not _group_runs(leader), patience_seconds)


def _group_runs(leader: int) -> bool:
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float, poll_seconds: float = POLL_SECONDS) -> bool:
    """Look until the condition holds, at most this long; whether it held. ``poll_seconds``: longer for a costly look."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_seconds)
    return True


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Different loopback ports on which nothing listens now."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the file's lock, alone among all processes; freed by the system when the holder dies.

    Raises ``ServiceError`` when another process holds it for longer than ``seconds``.
    """
    make_folder(path.parent)
    try:
        opened = path.open("a")
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be opened: {error.strerror}", "Set IOT_HOME to a folder that you can write"
        ) from None
    with opened as file:

        def take() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not wait_until(take, seconds):
            raise ServiceError(f"another process holds {path} for {seconds:.0f} s", "Wait for it to end, or end it")
        yield


def make_folder(folder: Path) -> None:
    """Make a folder of the platform's state; ``PlatformError`` when the place cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(
            f"{folder} cannot be made: {error.strerror}", "Set IOT_HOME to a folder that you can write"
        ) from None


def read_state(path: Path) -> dict[str, Any]:
    """A state file's content; empty when there is none or it is not one."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replace a state file whole: a reader sees the old one or the new one."""
    make_folder(path.parent)
    part: Path | None = None
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            json.dump(state, file, indent=2)
    except OSError as error:
        if part:  # what a full disk left half written would only fill it further
            part.unlink(missing_ok=True)
        raise PlatformError(
            f"{path} cannot be written: {error.strerror}", "Free space, or set IOT_HOME to another folder"
        ) from None
    part.replace(path)
