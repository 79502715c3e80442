"""A process is known for good, ended for sure; ports and locks are what they say."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.local import process
from iot_platform.local.process import (
    ProcessIdentity,
    end,
    end_group,
    free_ports,
    is_port_free,
    locked,
    make_folder,
    read_state,
    wait_until,
    write_state,
)

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); signal.pause()"


def test_a_reused_pid_is_not_taken_for_the_process() -> None:
    mine = ProcessIdentity.of(os.getpid())
    assert mine.is_running
    assert not ProcessIdentity(mine.pid, mine.started_at - 3600).is_running
    assert not end(ProcessIdentity(mine.pid, mine.started_at - 3600), 1)


def test_a_process_that_ended_and_was_not_reaped_is_not_running() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessIdentity.of(child.pid)
    assert wait_until(lambda: not identity.is_running, 20)
    child.wait()
    assert not identity.is_running


def test_a_process_that_ignores_the_request_is_ended_all_the_same() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        assert end(ProcessIdentity.of(child.pid), 0.2)
        assert child.wait(10) == -signal.SIGKILL


def test_a_group_is_ended_with_the_children_of_its_leader() -> None:
    start_child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", start_child], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout and leader.stdout.readline()
        end_group(leader.pid, 0.3)
        assert leader.stdout.read() == b""  # nobody holds the pipe any more
    end_group(leader.pid, 0.3)


def test_waiting_ends_with_the_deadline() -> None:
    assert not wait_until(lambda: False, 0.05)
    assert wait_until(lambda: True, 0)


def test_a_port_is_free_until_somebody_listens() -> None:
    one, two = free_ports(2)
    assert one != two and is_port_free(one)
    with socket.create_server(("127.0.0.1", one)):
        assert not is_port_free(one)


def test_a_lock_has_one_holder_and_is_free_after_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "lock"
    with locked(path, 1):
        refused = []

        def second() -> None:
            with pytest.raises(ServiceError, match="another process holds"), locked(path, 0.05):
                raise AssertionError("two holders")
            refused.append(True)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert refused
    with locked(path, 0):
        assert path.exists()


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="cannot be made: Not a directory. Set IOT_HOME"):
        make_folder(Path("/dev/null/home"))
    with pytest.raises(PlatformError, match="cannot be opened: Is a directory"), locked(tmp_path, 1):
        raise AssertionError("a folder was locked")
    with pytest.raises(PlatformError, match="cannot be made"):
        write_state(Path("/dev/null/home/state.json"), {})


def test_state_is_replaced_whole_and_a_broken_file_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "services" / "kafka.json"
    assert read_state(path) == {}
    write_state(path, {"pid": 1})
    write_state(path, {"pid": 2})
    assert read_state(path) == {"pid": 2}
    assert [file.name for file in path.parent.iterdir()] == ["kafka.json"]
    for broken in ("{", "[]", "\x00"):
        path.write_text(broken)
        assert read_state(path) == {}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(process.json, "dump", full)
    with pytest.raises(PlatformError, match="cannot be written: No space left on device"):
        write_state(path, {"pid": 3})
    assert path.read_text() == "\x00"
