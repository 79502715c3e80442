"""A supervised ``iot ingest --continuous`` in tests: its worker found, struck, and seen to get on again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from iot_platform.ingest.progress import Progress, read_progress
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.faults.ingest_process import PATIENCE_SECONDS, IngestProcess


def lands(settings: Settings, process: IngestProcess, *, not_by: int = 0) -> Progress:
    """Wait until a worker (another than this pid) landed a batch; what it says then."""

    def landed() -> bool:
        assert process.process.poll() is None, process.said
        found = read_progress(settings)
        return found is not None and found.pid != not_by and found.last_batch_at is not None

    assert wait_until(landed, PATIENCE_SECONDS), process.said
    progress = read_progress(settings)
    assert progress
    return progress


def recovery(settings: Settings, process: IngestProcess, strike: Callable[[int], None]) -> float:
    """Strike the worker that ingests now; seconds until another one has landed a batch."""
    worker = lands(settings, process).pid
    began = time.monotonic()
    strike(worker)
    lands(settings, process, not_by=worker)
    return time.monotonic() - began


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def freeze(pid: int) -> None:
    """Stop a process with all that it started: its JVM, Spark's Python workers."""
    _signal(family(pid), signal.SIGSTOP)


def family(pid: int) -> list[psutil.Process]:
    """The process and all that it started."""
    leader = psutil.Process(pid)
    return [leader, *leader.children(recursive=True)]


def wake(frozen: list[psutil.Process]) -> None:
    _signal(frozen, signal.SIGCONT)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
