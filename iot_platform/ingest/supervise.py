"""Keeps a continuous ingest running: starts the worker, watches that it gets on, ends what hangs, starts it again.

This process has no JVM and touches no table. It never gives up once a worker has ingested, and says so each time; a worker
that cannot even begin (a wrong address, a missing topic) is a mistake to be told, not to be repeated. That there is only
one writer is the lease's business and, if all else fails, Delta's transaction's: see ``lease`` and ``generation``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic

import psutil

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.ingest.broker import held_offsets
from iot_platform.ingest.lag import lag_of
from iot_platform.ingest.lease import holder
from iot_platform.ingest.progress import Progress, iso, moment, read_progress
from iot_platform.ingest.result import DrainResult
from iot_platform.ingest.run import FINISH_SECONDS
from iot_platform.ingest.standstill import Look, Standstill, patience, pause
from iot_platform.ingest.supervision import BEAT_SECONDS, Supervision, read_supervision, write_supervision
from iot_platform.local.process import ProcessIdentity, locked, wait_until
from iot_platform.settings import Settings
from iot_platform.topics import load_topics

LOOK_SECONDS = 0.2
BROKER_SECONDS = 3.0
LONGEST_INTERVAL_SECONDS = 15.0  # between two questions to the broker
START_SECONDS = 120.0  # to start Spark takes a few seconds, on a machine that is short of everything many
STOP_SECONDS = FINISH_SECONDS + 15.0
END_SECONDS = 30.0
TIDY_SECONDS = 5.0


@dataclass(frozen=True)
class Ended:
    """How a worker ended: its exit code (negative: a signal's number), and why in words."""

    code: int
    reason: str
    was_stuck: bool = False


@dataclass(frozen=True)
class Outcome:
    """What all workers landed, and the exit code: that of a worker which could not begin or did not end in order."""

    result: DrainResult
    exit_code: int


@dataclass
class Supervisor:
    """Supervises the worker that ``command`` starts. ``say`` takes a line for people."""

    settings: Settings
    say: Callable[[str], None]
    accept_loss: bool = False
    command: Sequence[str] = (sys.executable, "-m", "iot_platform.ingest.worker")
    result: DrainResult = field(default_factory=DrainResult)
    _said: Supervision = field(init=False)
    _noted: float = 0.0
    _stuck_in_a_row: int = 0
    _has_ingested: bool = False

    def run(self, stop: threading.Event) -> Outcome:
        """Keep a worker running until ``stop`` is set; then let it finish its batch.

        Raises ``ServiceError`` when another supervisor of this home runs.
        """
        began = monotonic()
        with self._alone():
            own = ProcessIdentity.of(os.getpid())
            self._said = Supervision(socket.gethostname(), own.pid, own.started_at, at := iso(datetime.now(UTC)), at)
            try:
                code = self._keep_running(stop)
            finally:
                self._note(is_over=True, next_start_at=None)
        self.result.seconds = monotonic() - began
        return Outcome(self.result, code)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = locked(self.settings.home / "ingest" / "supervisor.lock", 0)
        try:
            lock.__enter__()
        except ServiceError:
            other = read_supervision(self.settings)
            who = f"process {other.pid} supervises" if other else "another process supervises"
            raise ServiceError(f"a continuous ingest already runs: {who} it", "Stop that one first") from None
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _keep_running(self, stop: threading.Event) -> int:
        while True:
            self._note(next_start_at=None)
            worker = self._start()
            try:
                ended = self._follow(worker, stop)
            finally:
                end_session(worker)
            progress = self._own(worker)
            advanced = progress is not None and moment(progress.advanced_at) > moment(progress.since)
            self._has_ingested |= progress is not None and progress.generation > 0
            if progress:
                self.result.add_json(progress.landed)
            if stop.is_set():
                return self._stopped(ended)
            if not self._has_ingested and ended.code > 0:
                return ended.code  # it said itself what is wrong
            self._stuck_in_a_row = (0 if advanced else self._stuck_in_a_row) + ended.was_stuck
            failures = (0 if advanced else self._said.failures_in_a_row) + 1
            seconds = pause(failures)
            now = datetime.now(UTC)
            self._note(
                restarts=self._said.restarts + 1, failures_in_a_row=failures, last_restart_at=iso(now),
                failing_since=iso(now) if failures == 1 else self._said.failing_since,
                last_reason=ended.reason, next_start_at=iso(now + timedelta(seconds=seconds)),
            )  # fmt: skip
            self.say(f"{ended.reason}; starting it again" + (f" in {seconds:.0f} s" if seconds else ""))
            until = monotonic() + seconds
            while (left := until - monotonic()) > 0 and not stop.wait(min(left, BEAT_SECONDS)):
                self._note()
            if stop.is_set():
                return 0

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: a Ctrl-C at the terminal reaches this process only, which lets the batch finish.
        loss = ["--accept-loss"] if self.accept_loss and not self._has_ingested else []
        return subprocess.Popen(
            [*self.command, "--owner", str(os.getpid()), *loss],
            env=self.settings.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _follow(self, worker: subprocess.Popen[bytes], stop: threading.Event) -> Ended:
        """Until the worker ended, or is to be ended."""
        standstill = Standstill(monotonic())
        interval = min(LONGEST_INTERVAL_SECONDS, self.settings.stuck_seconds / 4)
        asked = monotonic()
        while worker.poll() is None:
            if stop.wait(LOOK_SECONDS):
                worker.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    worker.wait(STOP_SECONDS)
                    break
                return Ended(-signal.SIGKILL, f"the batch did not end within {STOP_SECONDS:.0f} s")
            if monotonic() - self._noted >= BEAT_SECONDS:
                self._note()
            if monotonic() - asked < interval:
                continue
            look = self._look(worker)
            asked = look.at
            stood = standstill.look(look)
            if self._said.failures_in_a_row and self._has_advanced(worker):
                self._note(failures_in_a_row=0, failing_since=None)
                self._stuck_in_a_row = 0
            bound = max(self.settings.stuck_seconds, START_SECONDS if look.is_beginning else 0.0)
            if stood >= patience(bound, self._stuck_in_a_row):
                reason = f"the ingest (process {worker.pid}) is stuck: records wait and none was committed for {stood:.0f} s"
                return Ended(-signal.SIGKILL, reason, was_stuck=True)
        return self._ended(worker)

    def _look(self, worker: subprocess.Popen[bytes]) -> Look:
        progress = self._own(worker)
        if progress is None:  # it waits for the lease, or hangs although nobody has it
            return Look(monotonic(), None, 0 if holder(self.settings) else 1, is_beginning=True)
        if progress.state == "starting":
            return Look(monotonic(), progress.since, 1, is_beginning=True)
        ends = {name: {int(p): at for p, at in topic.partitions.items()} for name, topic in progress.topics.items()}
        try:
            held = held_offsets(self.settings, [topic.name for topic in load_topics(self.settings).values()], BROKER_SECONDS)
            waiting = sum(topic.lag for topic in lag_of(held.offsets, ends).values())
        except PlatformError:
            waiting = None
        return Look(monotonic(), ends, waiting)

    def _ended(self, worker: subprocess.Popen[bytes]) -> Ended:
        code = worker.wait()
        progress = self._own(worker)
        if code < 0:
            with suppress(ValueError):
                return Ended(code, f"the ingest (process {worker.pid}) was ended by {signal.Signals(-code).name}")
        said = f": {progress.last_error}" if progress and progress.state == "failed" else ""
        return Ended(code, f"the ingest (process {worker.pid}) ended with exit code {code}{said}")

    def _stopped(self, ended: Ended) -> int:
        if ended.code in (0, -signal.SIGTERM):  # the signal came before it could listen: nothing was begun
            return 0
        self.say(ended.reason)
        return 1

    def _own(self, worker: subprocess.Popen[bytes]) -> Progress | None:
        progress = read_progress(self.settings)
        return progress if progress and progress.pid == worker.pid else None

    def _has_advanced(self, worker: subprocess.Popen[bytes]) -> bool:
        progress = self._own(worker)
        return progress is not None and moment(progress.advanced_at) > moment(progress.since)

    def _note(self, **changes: object) -> None:
        self._noted = monotonic()
        changes["beat_at"] = iso(datetime.now(UTC))
        self._said = replace(self._said, **changes)  # pyright: ignore[reportArgumentType]
        write_supervision(self.settings, self._said, self.say)


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """End for good what is left of a process and of all that it started, and wait for that: the JVM and Spark's Python
    workers, which have process groups of their own but share its session."""

    def left() -> list[int]:
        found: list[int] = []
        for process in psutil.process_iter(["status"]):
            with suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == leader.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def killed() -> bool:
        for pid in (pids := left()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        leader.poll()
        return not pids

    if leader.returncode == 0:  # Spark's JVM removes its temporary files
        wait_until(lambda: not left(), TIDY_SECONDS)
    wait_until(killed, END_SECONDS)
