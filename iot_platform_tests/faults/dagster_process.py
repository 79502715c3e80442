"""Dagster's daemon as a process that a test may kill, with the runs that it launched; told apart by their home.

No web server, no broker: what it makes is in a lake that the test fills, and what it says stands in Dagster's own record.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psutil

from iot_platform.automation.run import persistent_instance
from iot_platform.automation.runs import UNFINISHED
from iot_platform.local.dagster_home import prepare_dagster_home
from iot_platform.local.process import make_folder, wait_until
from iot_platform.settings import PROJECT_ROOT, Settings

GONE_SECONDS = 30


@dataclass
class Daemon:
    """``dagster-daemon`` on a home of its own, started and killed at will; ``kills`` counts what was killed."""

    settings: Settings
    kills: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.settings.logs / "daemon.log"

    def start(self, failpoint: str = "") -> None:
        """Begin; ``failpoint`` is for the runs that it launches from now on (see ``iot_platform.failpoints``)."""
        home = prepare_dagster_home(self.settings)
        make_folder(self.log.parent)
        environment = self.settings.environment() | {
            "DAGSTER_HOME": str(home), "IOT_FAILPOINT": failpoint, "PYTHONPATH": str(PROJECT_ROOT),
        }  # fmt: skip
        program = Path(sys.executable).with_name("dagster-daemon")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [program, "run", "-m", "iot_platform_tests.faults.dagster_code"],
                cwd=self.settings.home, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL to the daemon alone: the runs that it launched go on, as after a crash of it."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def kill_all(self) -> None:
        """SIGKILL to the daemon and to every process of its home, as when the power fails."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        if self._process:
            self._process.wait()
        self.kills += 1
        assert wait_until(lambda: not self.processes(), GONE_SECONDS)

    def processes(self) -> list[psutil.Process]:
        """All that run on this home but the test itself."""
        home = str(self.settings.home / "dagster")
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_ours = process.pid != os.getpid() and process.environ().get("DAGSTER_HOME") == home
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes of runs."""
        found: list[psutil.Process] = []
        for process in self.processes():
            with suppress(psutil.Error):
                if "execute_run" in process.cmdline():
                    found.append(process)
        return found

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        with persistent_instance(self.settings) as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=list(statuses)) if statuses else None))

    def unfinished(self) -> list[dg.DagsterRun]:
        return self.runs(*UNFINISHED)


@contextmanager
def daemon_of(settings: Settings, manifest: Path) -> Iterator[Daemon]:
    """A daemon that ends with the block, with everything that it started. ``manifest``: dbt's, parsed once for all tests."""
    settings.marts.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, settings.marts.with_name(manifest.name))
    made = Daemon(settings)
    try:
        yield made
    finally:
        made.kill_all()
