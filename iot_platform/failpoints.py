"""Named places where tests have a process die, stop or fail, to prove that nothing is lost there.

``IOT_FAILPOINT="<name>=<deed>[@n]"``, several by commas: at the n-th passing (default the first) of that place the process
is killed (``kill``), stopped until somebody continues it (``stop``), told that the disk is full (``full``), or held until
the file named in ``hold:<path>`` is there. Without the variable a place costs one call of a function that does nothing.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iot_platform.errors import InputError
from iot_platform.settings import exported_failpoints

LOOK_SECONDS = 0.02
SHORT_DEEDS = {"kill", "stop", "full"}


@dataclass(frozen=True)
class Failpoint:
    """What happens at one place: ``deed`` is kill, stop, full or hold (until ``file`` is there), at passing ``nth``."""

    name: str
    deed: str
    nth: int = 1
    file: str = ""


def parse(text: str) -> dict[str, Failpoint]:
    """Read the variable's form; a wrong one is an ``InputError``."""
    found: dict[str, Failpoint] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, rest = part.partition("=")
        deed, _, nth = rest.partition("@")
        deed, _, file = deed.partition(":")
        is_known = deed in SHORT_DEEDS or (deed == "hold" and file)
        if not (name and is_known and (not nth or nth.isdigit())):
            raise InputError(f"IOT_FAILPOINT: {part!r} is none", "Write <name>=kill|stop|full|hold:<file>[@n]")
        found[name] = Failpoint(name, deed, int(nth or 1), file)
    return found


class Armed:
    """Counts the passings of the named places and does what was asked for at the right one."""

    def __init__(self, points: dict[str, Failpoint]) -> None:
        self._points = points
        self._passed = dict.fromkeys(points, 0)
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        point = self._points.get(name)
        if point is None:
            return
        with self._lock:
            self._passed[name] += 1
            is_due = self._passed[name] == point.nth
        if is_due:
            do(point)


def do(point: Failpoint) -> None:
    """Do the deed, here and now."""
    if point.deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif point.deed == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif point.deed == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), point.name)
    else:
        # Says that it is here, then waits: the one who holds it knows when to let go.
        Path(f"{point.file}.reached").touch()
        while not Path(point.file).exists():
            time.sleep(LOOK_SECONDS)


def _pass(_: str) -> None:
    """What a place costs where no failpoint was set."""


def _armed() -> Callable[[str], None]:
    text = exported_failpoints()
    return Armed(parse(text)) if text else _pass


reach: Callable[[str], None] = _armed()
"""Pass the place of this name, e.g. ``reach("ingest.before_commits")``."""
