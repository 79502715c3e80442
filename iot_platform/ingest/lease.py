"""Who ingests: one process of an ``IOT_HOME`` at a time, known by a file with a heartbeat.

A holder that died leaves nothing to wait for. One that hangs (stopped, swapped out) loses the lease when its heartbeat
is old; since it may wake up in the middle of a commit, whoever takes over from it must begin a new generation, which
fences it off.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.local.process import ProcessIdentity, locked, read_state, wait_until, write_state
from iot_platform.settings import Settings

Mode = Literal["drain", "continuous"]
BEAT_SECONDS = 5.0
STALE_SECONDS = 45.0
LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Holder:
    """Whoever ingests: its process, how, and when it last said so (epoch seconds)."""

    token: str
    mode: Mode
    host: str
    pid: int
    started_at: float
    beat_at: float

    @property
    def is_fresh(self) -> bool:
        return time.time() - self.beat_at < STALE_SECONDS

    @property
    def is_dead(self) -> bool:
        """Surely gone: only another process of the same machine can know."""
        return self.host == socket.gethostname() and not ProcessIdentity(self.pid, self.started_at).is_running


@dataclass(frozen=True)
class Lease:
    """Held: ``needs_new_generation`` when the holder before may still be alive, ``lost`` when somebody took over."""

    needs_new_generation: bool
    lost: threading.Event


def holder(settings: Settings) -> Holder | None:
    """Who ingests now; None when nobody does."""
    found = _read(settings)
    return found if found and found.is_fresh and not found.is_dead else None


@contextmanager
def lease(
    settings: Settings, mode: Mode, *, wait_seconds: float = 0.0, on_lost: Callable[[], None] | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> Iterator[Lease]:  # fmt: skip
    """Hold the lease for the time of the block.

    Waits up to ``wait_seconds`` for another drain, or until it is to ``give_up``; never for a continuous ingest: that
    brings everything by itself.
    Raises ``ServiceError`` when somebody else goes on holding it.
    """
    mine = Holder(uuid4().hex, mode, socket.gethostname(), os.getpid(), ProcessIdentity.of(os.getpid()).started_at, 0.0)
    taken: list[Lease] = []

    def take() -> bool:
        with locked(_lock_file(settings), LOCK_SECONDS):
            before = _read(settings)
            if before and before.is_fresh and not before.is_dead:
                return before.mode == "continuous" or give_up()
            _write(settings, mine)
            taken.append(Lease(before is not None and not before.is_dead, threading.Event()))
            return True

    wait_until(take, wait_seconds)
    if not taken:
        other = _read(settings)
        who = f"process {other.pid} on {other.host} ({other.mode})" if other else "another process"
        raise ServiceError(
            f"ingestion already runs: {who}",
            "It brings everything that waits in Kafka; stop it if you want to run your own",
        )
    held = taken[0]
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(settings, mine, held, done, on_lost), daemon=True)
    beating.start()
    try:
        yield held
    finally:
        done.set()
        beating.join(BEAT_SECONDS)
        _release(settings, mine)


def _beat(
    settings: Settings, mine: Holder, held: Lease, done: threading.Event, on_lost: Callable[[], None] | None
) -> None:
    while not done.wait(BEAT_SECONDS):
        try:
            with locked(_lock_file(settings), LOCK_SECONDS):
                now = _read(settings)
                if now is not None and now.token == mine.token:
                    _write(settings, mine)
                    continue
        except PlatformError:  # a full disk, a lock that is busy: the next beat may get through before the lease is stale
            continue
        held.lost.set()
        if on_lost:
            on_lost()
        return


def _release(settings: Settings, mine: Holder) -> None:
    with locked(_lock_file(settings), LOCK_SECONDS):
        now = _read(settings)
        if now is not None and now.token == mine.token:
            _lease_file(settings).unlink(missing_ok=True)


def _write(settings: Settings, mine: Holder) -> None:
    write_state(_lease_file(settings), asdict(mine) | {"beat_at": time.time()})


def _read(settings: Settings) -> Holder | None:
    try:
        return Holder(**read_state(_lease_file(settings)))
    except TypeError:
        return None


def _lease_file(settings: Settings) -> Path:
    return settings.home / "ingest" / "lease.json"


def _lock_file(settings: Settings) -> Path:
    return settings.home / "ingest" / "lease.lock"
