"""A worker that ends is started again, one that stands still is ended, one that cannot begin is told: on quick stand-ins.

The stand-ins are real processes that keep the real files; Spark's own worker is in integration/test_supervised_ingest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import typer

from iot_platform.cli.ingest import ingest
from iot_platform.errors import ServiceError
from iot_platform.ingest import supervise, worker
from iot_platform.ingest.progress import read_progress
from iot_platform.ingest.standing import standing
from iot_platform.ingest.supervise import Outcome, Supervisor
from iot_platform.ingest.supervision import Supervision, read_supervision
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.conftest import MakeSettings

PATIENCE_SECONDS = 60
# Takes the lease, says how it goes, then does what it is for. `runs` counts how often it was started.
WORKER = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from iot_platform.ingest.lease import lease
from iot_platform.ingest.progress import ProgressLog
from iot_platform.ingest.result import DrainResult
from iot_platform.ingest.sink import BatchResult
from iot_platform.settings import load_settings

settings = load_settings()
runs = settings.home / "runs"
with runs.open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
number = len(runs.read_text().splitlines())
stop = threading.Event()
for name in (signal.SIGINT, signal.SIGTERM):
    signal.signal(name, lambda *_: stop.set())

def land(log):
    batch = BatchResult(number, 5, 5, 0, 0, {}, {"t": {0: (0, 5)}})
    result = DrainResult()
    result.add(batch)
    log.batch(batch, 0.1, result.as_json())
"""
INGESTS = """
with lease(settings, "continuous") as held:
    log = ProgressLog(settings, "continuous", held)
    log.begin(1, {"t": {0: 0}}, {"t": 5})
"""


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    made = make_settings(stuck_seconds=1.0)
    made.home.mkdir(parents=True)
    return made


class Running:
    """A supervisor in a thread of its own, with what it said."""

    def __init__(self, settings: Settings, program: str, accept_loss: bool = False) -> None:
        self.settings = settings
        self.said: list[str] = []
        self.stop = threading.Event()
        self.outcome: Outcome | None = None
        command = (sys.executable, "-c", WORKER + program)
        self.supervisor = Supervisor(settings, self.said.append, accept_loss, command)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.outcome = self.supervisor.run(self.stop)

    @property
    def starts(self) -> list[str]:
        runs = self.settings.home / "runs"
        return runs.read_text().splitlines() if runs.exists() else []

    def until(self, condition: Callable[[], bool]) -> None:
        assert wait_until(lambda: condition() or not self.thread.is_alive(), PATIENCE_SECONDS), self.said
        assert condition(), self.said

    @property
    def word(self) -> Supervision:
        found = read_supervision(self.settings)
        assert found
        return found


@contextmanager
def supervising(settings: Settings, program: str, accept_loss: bool = False) -> Iterator[Running]:
    running = Running(settings, program, accept_loss)
    running.thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.thread.join(PATIENCE_SECONDS)
        assert not running.thread.is_alive()


def test_a_worker_that_dies_is_started_again_with_growing_pauses_and_never_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(supervise, "pause", lambda failures: float(asked.append(failures) or 0))
    with supervising(settings, f"{INGESTS}    os.kill(os.getpid(), signal.SIGKILL)", accept_loss=True) as running:
        running.until(lambda: len(running.starts) >= 6)
        running.until(lambda: running.word.restarts >= 5)
        assert running.word.failures_in_a_row >= 5 and "SIGKILL" in running.word.last_reason
        running.until(lambda: standing(settings).state == "failing")
        first = running.word.failing_since
    assert asked[:5] == [1, 2, 3, 4, 5]
    assert "was ended by SIGKILL; starting it again" in running.said[0]
    # A loss that was accepted is that of the first start: a later one is another.
    assert [("--accept-loss" in start) for start in running.starts[:3]] == [True, False, False]
    assert running.word.failing_since == first and running.word.is_over


def test_a_batch_that_lands_forgets_the_failures_before_it_and_counts_go_on(settings: Settings) -> None:
    dies_twice = f"{INGESTS}    land(log) if number > 1 else None\n    os._exit(1) if number < 4 else stop.wait()"
    with supervising(settings, dies_twice) as running:
        running.until(lambda: len(running.starts) == 4 and read_progress(settings).landed != {})  # pyright: ignore
        assert (running.word.restarts, running.word.failures_in_a_row) == (3, 1)
        assert "ended with exit code 1" in running.word.last_reason
        running.until(lambda: running.word.failures_in_a_row == 0)
    assert running.outcome and running.outcome.exit_code == 0
    assert (running.outcome.result.messages, running.outcome.result.batches) == (15, 3)


def test_a_worker_that_cannot_begin_is_a_mistake_that_is_told_and_not_repeated(settings: Settings) -> None:
    with supervising(settings, "sys.exit(2)") as running:
        running.until(lambda: not running.thread.is_alive())
    assert running.outcome and running.outcome.exit_code == 2
    assert running.starts == [f"--owner {os.getpid()}"] and running.word.is_over


@pytest.mark.parametrize(
    "hangs",
    ["time.sleep(3600)", INGESTS.replace("    log.begin", "    time.sleep(3600); log.begin")],
    ids=["before it has the lease", "while Spark starts"],
)
def test_a_worker_that_stands_still_is_ended_with_all_that_it_started_and_another_goes_on(
    settings: Settings, hangs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "START_SECONDS", 1.0)
    child = "subprocess.Popen(['sleep', '3600'], preexec_fn=os.setpgrp)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    behaves = f"if number == 1:\n    {child.replace(chr(10), chr(10) + '    ')}\n"
    own = psutil.Process(os.getpid())
    others = own.children(recursive=True)  # of other tests: a JVM, a broker
    program = behaves + "    exec(" + repr(hangs) + ")\n" + f"{INGESTS}    land(log); stop.wait()"
    with supervising(settings, program) as running:
        running.until(lambda: len(running.starts) == 1)
        first = set(own.children(recursive=True)) - set(others)
        running.until(lambda: len(running.starts) == 2)
        running.until(lambda: standing(settings).state == "running")
        assert wait_until(lambda: not any(process.is_running() for process in first), 10)
        assert "is stuck: records wait and none was committed for" in running.word.last_reason


def test_an_idle_worker_and_one_without_a_broker_are_left_alone(settings: Settings) -> None:
    """Nobody answers at the address: what cannot be known is no standstill."""
    with supervising(settings, f"{INGESTS}    stop.wait()") as running:
        running.until(lambda: (found := read_progress(settings)) is not None and found.generation == 1)
        wait_until(lambda: len(running.starts) > 1, 3 * settings.stuck_seconds)
        assert len(running.starts) == 1


def test_there_is_one_supervisor(settings: Settings) -> None:
    with supervising(settings, f"{INGESTS}    stop.wait()") as running:
        running.until(lambda: standing(settings).state == "running")
        with pytest.raises(ServiceError, match=f"already runs: process {os.getpid()} supervises"):
            Supervisor(settings, print).run(threading.Event())
        assert not running.word.is_over, "who was refused says nothing"


def test_a_stop_lets_the_worker_finish_and_one_that_does_not_is_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    finishes = f"{INGESTS}    stop.wait(); time.sleep(0.5); land(log); log.state('stopped')"
    with supervising(settings, finishes) as running:
        running.until(lambda: standing(settings).state == "running")
    assert running.outcome and (running.outcome.exit_code, running.outcome.result.messages) == (0, 5)
    assert standing(settings).state == "stopped"
    monkeypatch.setattr(supervise, "STOP_SECONDS", 0.5)
    with supervising(settings, f"{INGESTS}    time.sleep(3600)") as running:
        running.until(lambda: standing(settings).state == "running")
    assert running.outcome and running.outcome.exit_code == 1
    assert "did not end within" in running.said[-1]


@pytest.mark.parametrize("without_the_kernel", ["", "supervisor.follow_parent = lambda: None; "], ids=["Linux", "elsewhere"])
def test_a_worker_ends_with_a_supervisor_that_was_killed(tmp_path: Path, without_the_kernel: str) -> None:
    child = tmp_path / "child"
    body = (
        "import os, sys, time; from pathlib import Path; from iot_platform.local import supervisor\n"
        f"{without_the_kernel}supervisor.die_with(int(sys.argv[-1]))\n"
        "Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(3600)"
    )
    parent = "import os, subprocess, sys; subprocess.run([*sys.argv[1:], str(os.getpid())])"
    owner = subprocess.Popen([sys.executable, "-c", parent, sys.executable, "-c", body, str(child)])
    assert wait_until(lambda: child.exists() and child.read_text() != "", PATIENCE_SECONDS)
    follower = psutil.Process(int(child.read_text()))
    owner.kill()
    owner.wait()
    assert wait_until(lambda: not follower.is_running() or follower.status() == psutil.STATUS_ZOMBIE, 10)
    orphan = subprocess.run([sys.executable, "-c", body, str(child), "1"], check=False)
    assert orphan.returncode == -signal.SIGKILL, "its owner was gone before it could listen"


@pytest.fixture
def signals_stay() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_stay")
def test_what_a_worker_cannot_begin_with_is_one_line_and_the_commands_exit_code(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = make_settings(kafka_bootstrap="127.0.0.1:1")
    for name, value in nowhere.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker, "die_with", lambda owner: None)
    assert worker.main(["--owner", "1"]) == 1
    said = capfd.readouterr().err
    assert said.startswith("iot: the Kafka broker at 127.0.0.1:1 does not answer") and said.count("\n") == 1
    with pytest.raises(typer.Exit) as ended:
        ingest(continuous=True)
    assert ended.value.exit_code == 1
    said, out = (told := capfd.readouterr()).err, told.out
    assert said.startswith("iot: the Kafka broker") and said.count("\n") == 1 and out == ""
    assert standing(nowhere).state == "failed"
