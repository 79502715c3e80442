"""Whatever ends the owner ends the command."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.local import supervisor
from iot_platform.local.owned import owned, start_owned
from iot_platform.local.process import ProcessIdentity, wait_until

SUPERVISOR = Path(supervisor.__file__)
SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]
STUBBORN = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); open('on', 'w'); signal.pause()"]


def supervised(command: list[str], **options: object) -> tuple[subprocess.Popen[bytes], ProcessIdentity]:
    process = subprocess.Popen(
        [sys.executable, str(SUPERVISOR), "SIGTERM", "10", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        **options,  # pyright: ignore[reportArgumentType, reportCallIssue]
    )
    assert process.stdout
    return process, ProcessIdentity.of(int(process.stdout.readline()))


def test_the_command_ends_when_the_owner_lets_go() -> None:
    process, command = supervised(SLEEP)
    with process:
        assert command.is_running
        assert process.stdin
        process.stdin.close()
        assert process.wait(10) == 128 + signal.SIGTERM
        assert not command.is_running


def test_the_command_ends_when_the_supervisor_is_killed() -> None:
    process, command = supervised(SLEEP)
    with process:
        process.kill()
        assert wait_until(lambda: not command.is_running, 10)


def test_the_command_ends_when_the_owner_is_gone_though_a_child_of_it_holds_the_pipe(tmp_path: Path) -> None:
    owner = (
        "import os, subprocess, sys, signal\n"
        f"p = subprocess.Popen([sys.executable, {str(SUPERVISOR)!r}, 'SIGTERM', '10', *{SLEEP!r}], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE, start_new_session=True)\n"
        "print(p.stdout.readline().decode().strip(), flush=True)\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "    signal.pause()\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE) as process:
        assert process.stdout
        command, fork = (ProcessIdentity.of(int(process.stdout.readline())) for _ in range(2))
        process.kill()
        try:
            assert wait_until(lambda: not command.is_running, 10)
        finally:
            fork_process = fork.process()
            assert fork_process
            fork_process.kill()


def test_a_command_that_does_not_listen_is_killed_when_patience_is_over(tmp_path: Path) -> None:
    process = start_owned(STUBBORN, tmp_path / "log", cwd=tmp_path, patience_seconds=0.2)
    command = ProcessIdentity.of(process.pid)
    assert wait_until((tmp_path / "on").exists, 10)
    process.close()
    assert process.wait() == 128 + signal.SIGKILL
    assert not command.is_running


def test_the_command_ends_by_the_signal_it_wants_and_takes_its_children_along(tmp_path: Path) -> None:
    start_child = f"import subprocess; print(subprocess.Popen({SLEEP!r}).pid, flush=True); import signal; signal.pause()"
    log = tmp_path / "logs" / "log"
    with owned([sys.executable, "-c", start_child], log, ending=signal.SIGINT) as process:
        assert wait_until(lambda: bool(log.read_text()), 10)
        child = ProcessIdentity.of(int(log.read_text()))
        assert child.is_running
    assert process.wait() == 128 + signal.SIGINT and "KeyboardInterrupt" in log.read_text()
    assert wait_until(lambda: not child.is_running, 10)


def test_a_command_that_is_not_there_and_a_log_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="absent was not started. See .*log"):
        start_owned([tmp_path / "absent"], tmp_path / "log")
    with pytest.raises(PlatformError, match="cannot be made: Not a directory"):
        start_owned(SLEEP, Path("/dev/null/logs/log"))


def test_the_end_of_the_command_is_the_end_of_the_supervisor() -> None:
    process, _ = supervised([sys.executable, "-c", "import sys; sys.exit(7)"])
    with process:
        assert process.wait(10) == 7


def test_a_request_to_end_is_passed_on() -> None:
    process, command = supervised(SLEEP)
    with process:
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
        assert not command.is_running
