"""Processes that end with the one that started them, however that ends: the owner's side of ``supervisor``."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from iot_platform.errors import ServiceError
from iot_platform.local import supervisor
from iot_platform.local.process import make_folder

PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class OwnedProcess:
    """A command under a supervisor: ``pid`` is the command's own."""

    pid: int
    supervisor: subprocess.Popen[bytes]
    patience_seconds: float

    @property
    def has_ended(self) -> bool:
        return self.supervisor.poll() is not None

    def wait(self) -> int:
        """Wait until the command ends by itself; its exit code, 128 + n after signal n."""
        return self.supervisor.wait()

    def close(self) -> None:
        """End the command and all that it started, and wait for that."""
        for pipe in (self.supervisor.stdin, self.supervisor.stdout):
            if pipe:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self.supervisor.wait(self.patience_seconds + PATIENCE_SECONDS)


def start_owned(
    command: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    ending: signal.Signals = signal.SIGTERM,
    patience_seconds: float = PATIENCE_SECONDS,
) -> OwnedProcess:
    """Start the command with all that it prints in ``log`` (begun anew); it ends by ``close`` or with this process.

    At its end it gets the signal ``ending``, and after ``patience_seconds`` it is killed, with all of its session.
    """
    make_folder(log.parent)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, supervisor.__file__, ending.name, str(patience_seconds), *map(str, command)],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdout
    first_line = process.stdout.readline()
    owned = OwnedProcess(int(first_line or 0), process, patience_seconds)
    if not owned.pid:
        owned.close()
        raise ServiceError(f"{Path(command[0]).name} was not started", f"See {log}")
    return owned


@contextmanager
def owned(
    command: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    ending: signal.Signals = signal.SIGTERM,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Iterator[OwnedProcess]:
    """``start_owned`` for the time of the block."""
    process = start_owned(command, log, cwd=cwd, env=env, ending=ending, patience_seconds=patience_seconds)
    try:
        yield process
    finally:
        process.close()
