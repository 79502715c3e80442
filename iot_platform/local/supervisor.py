"""Runs one command for an owner and ends it when the owner ends, however that happens. A script of its own.

``python supervisor.py SIGNAL PATIENCE COMMAND…``: the owner holds the other end of this process's stdin and is its
parent. The pid of the command is the first line on stdout. When stdin closes or the parent changes (a kill -9 leaves
no time for more), the command gets the signal, and after PATIENCE seconds it is killed. It leads a session of its own:
whatever it started there and left behind is killed with it. Only the standard library: it starts in no time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 0.25
PR_SET_PDEATHSIG = 1


def follow_parent() -> Callable[[], None] | None:
    """What the child runs before its command, so that it dies with this process even by kill -9; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with(owner: int) -> None:
    """Have this process killed when its parent ends, however that happens; at once when that is not ``owner`` any more."""

    def ends_alone() -> None:
        if os.getppid() != owner:
            os.kill(os.getpid(), signal.SIGKILL)

    def look() -> None:
        while True:
            ends_alone()
            time.sleep(LOOK_SECONDS)

    if follow := follow_parent():
        follow()
        ends_alone()
    else:
        threading.Thread(target=look, daemon=True).start()


def owner_is_gone(owner: int) -> bool:
    """Wait a moment for the owner's end of stdin to close; also true once the owner is no longer the parent."""
    readable, _, _ = select.select([sys.stdin], [], [], LOOK_SECONDS)
    return (bool(readable) and not os.read(sys.stdin.fileno(), 1)) or os.getppid() != owner


def main(ending: signal.Signals, patience_seconds: float, command: list[str]) -> int:
    """Start the command, follow it and the owner; the command's exit code."""
    owner = os.getppid()
    asked_to_end: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: asked_to_end.append(received))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
        preexec_fn=follow_parent(),  # noqa: PLW1509 - this process has one thread
    )
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    while child.poll() is None and not asked_to_end and not owner_is_gone(owner):
        continue
    if child.poll() is None:
        child.send_signal(ending)
    try:
        code = child.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code  # a signal's number as a shell reports it


if __name__ == "__main__":
    sys.exit(main(signal.Signals[sys.argv[1]], float(sys.argv[2]), sys.argv[3:]))
