"""What the supervisor of a continuous ingest says of itself: ``$IOT_HOME/ingest/supervisor.json``, always replaced whole.

Beside ``progress.json``, which is the worker's own: a worker that dies or hangs says nothing more, its supervisor does.
All times are UTC.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from iot_platform.errors import PlatformError
from iot_platform.local.process import ProcessIdentity, read_state, write_state
from iot_platform.settings import Settings

BEAT_SECONDS = 10.0
STALE_SECONDS = 45.0


@dataclass(frozen=True)
class Supervision:
    """``restarts``: of the worker, since the supervisor began; ``failures_in_a_row``: of them those since the last batch
    that landed, the first of them at ``failing_since``; ``next_start_at``: when a worker that ended is started again (None:
    one runs); ``beat_at``: when it last said so; times are ISO 8601, UTC."""

    host: str
    pid: int
    started_at: float
    since: str
    beat_at: str
    restarts: int = 0
    failures_in_a_row: int = 0
    failing_since: str | None = None
    last_restart_at: str | None = None
    last_reason: str = ""
    next_start_at: str | None = None
    is_over: bool = False

    def is_running(self, now: datetime) -> bool:
        """Whether it still supervises. One that was stopped, or whose machine is gone, says nothing more: then nobody may
        wait for it."""
        if self.is_over or (now - datetime.fromisoformat(self.beat_at)).total_seconds() > STALE_SECONDS:
            return False
        return self.host != socket.gethostname() or ProcessIdentity(self.pid, self.started_at).is_running


def supervision_file(settings: Settings) -> Path:
    return settings.home / "ingest" / "supervisor.json"


def read_supervision(settings: Settings) -> Supervision | None:
    """What the newest supervisor of this home said last; None when there never was one."""
    try:
        return Supervision(**read_state(supervision_file(settings)))
    except TypeError:
        return None


def write_supervision(settings: Settings, said: Supervision, on_problem: Callable[[str], None]) -> None:
    """Replace the file; a disk that refuses it is told, and stops nothing."""
    try:
        write_state(supervision_file(settings), asdict(said))
    except PlatformError as error:
        with suppress(OSError):
            on_problem(str(error))
