"""``make dev`` brings everything up and takes everything down with it."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from iot_platform.errors import ServiceError
from iot_platform.ingest.standing import standing
from iot_platform.local import dev
from iot_platform.local.kafka import running_service
from iot_platform.local.owned import owned
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.conftest import MakeSettings


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started with this home, or by one that was."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("IOT_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def begin(home: Path, until: str) -> tuple[subprocess.Popen[str], str]:
    """``make dev`` of this home, read up to the line that begins like that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "iot_platform.local.dev", "--rate", "5"],
        env=os.environ | {"IOT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(until):
            break
    return process, said


@pytest.mark.integration
@pytest.mark.untraced
@pytest.mark.usefixtures("parsed_home")
def test_everything_comes_up_and_a_kill_leaves_nothing_of_it(settings: Settings) -> None:
    process, said = begin(settings.home, "Ctrl-C")
    with process:
        try:
            address = re.search(r"^Dagster +(\S+)$", said, re.MULTILINE)
            assert address and "5 messages a second" in said, said
            with urllib.request.urlopen(f"{address.group(1)}/server_info", timeout=20) as answer:
                assert answer.status == 200
            assert running_service(settings)
            assert wait_until(lambda: standing(settings).state == "running", 120), standing(settings).said
            assert "Traceback" not in (settings.logs / "dev" / "simulator.log").read_text()
        finally:
            process.kill()
    assert wait_until(lambda: not processes_of(settings.home), 60), processes_of(settings.home)


@pytest.mark.integration
def test_ctrl_c_ends_it_while_it_still_starts(settings: Settings) -> None:
    process, said = begin(settings.home, "simulator")
    with process:
        process.send_signal(signal.SIGINT)
        assert process.stdout
        assert process.stdout.read().strip() == "ended", said
        assert process.wait(60) == 0
    assert wait_until(lambda: not processes_of(settings.home), 60), processes_of(settings.home)


def test_a_taken_port_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("IOT_HOME", str(tmp_path))
    monkeypatch.setattr(dev, "is_port_free", lambda _: False)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert dev.main(["--port", "3000"]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "port 3000 is taken by another program. Choose another by --port\n"


def test_a_dagster_that_ends_or_stays_silent_is_told_with_its_reason(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "dagster.log"
    script = "raise ValueError('no such module')"
    reason = "does not start: ValueError: no such module. See .*dagster.log"
    with owned([sys.executable, "-c", script], log) as ended, pytest.raises(ServiceError, match=reason):
        dev.wait_for_ui(9, ended, log)
    monkeypatch.setattr(dev, "UI_SECONDS", 0.1)
    with owned([sys.executable, "-c", "import signal; print('loading', flush=True); signal.pause()"], log) as silent:
        assert wait_until(lambda: "loading" in log.read_text(), 20)
        with pytest.raises(ServiceError, match="does not start: loading"):
            dev.wait_for_ui(9, silent, log)
