"""``iot ingest`` as a process of its own, to be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from iot_platform.ingest import committed_offsets, holder
from iot_platform.local.process import wait_until
from iot_platform.local.supervisor import follow_parent
from iot_platform.settings import Settings

PATIENCE_SECONDS = 150.0


@dataclass(frozen=True)
class IngestProcess:
    """A running ``iot ingest``; what it prints is in two files."""

    settings: Settings
    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    @property
    def said(self) -> str:
        """What stands on stderr, lines that only tell progress included."""
        return self.stderr.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; the exit code, below 0 for a signal."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"iot ingest does not end: {self.said[-2000:]}") from None

    def wait_until_stopped(self) -> None:
        """Wait until a failpoint stopped it."""
        known = psutil.Process(self.process.pid)
        is_stopped = wait_until(lambda: known.status() == psutil.STATUS_STOPPED, PATIENCE_SECONDS)
        assert is_stopped, f"iot ingest never got there: {self.said[-2000:]}"

    def terminate(self) -> None:
        self.process.terminate()

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as the system does it when memory is out. Its children notice by themselves."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def kill_worker(self) -> None:
        """SIGKILL for the process that holds the lease, which may be another than the service that was started."""
        found = holder(self.settings)
        assert found, self.said
        os.kill(found.pid, signal.SIGKILL)


@contextmanager
def ingesting(settings: Settings, *options: str, failpoint: str = "") -> Iterator[IngestProcess]:
    """``iot ingest`` for the time of the block at most; neither it nor its Java process outlives that."""
    folder = settings.home / "said"
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.iterdir())) // 2
    stdout, stderr = (folder / f"{number}.{name}" for name in ("out", "err"))
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("iot"), "ingest", *options],
            env=settings.environment() | {"IOT_FAILPOINT": failpoint}, stdout=out, stderr=err, start_new_session=True,
            preexec_fn=follow_parent(),  # noqa: PLW1509 - a test run that is killed must not leave it behind
        )  # fmt: skip
    try:
        yield IngestProcess(settings, process, stdout, stderr)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


def landed_offsets(settings: Settings) -> int:
    """How many offsets both tables have, over all topics, by their own word."""
    return sum(sum(partitions.values()) for partitions in committed_offsets(settings).values())
