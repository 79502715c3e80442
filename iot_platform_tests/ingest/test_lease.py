"""One process ingests at a time; a dead holder is nobody, a hanging one is fenced off."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from iot_platform.errors import ServiceError
from iot_platform.ingest import lease as leases
from iot_platform.ingest.lease import holder, lease
from iot_platform.local.process import ProcessIdentity, locked, wait_until
from iot_platform.settings import Settings


def file(settings: Settings) -> Path:
    return settings.home / "ingest" / "lease.json"


def held_by(settings: Settings, pid: int, **changes: Any) -> None:
    """Somebody else's lease: by default alive, on this machine, just heard of."""
    file(settings).parent.mkdir(parents=True, exist_ok=True)
    started = changes.pop("started_at", None) or ProcessIdentity.of(pid).started_at
    other = {"token": "other", "mode": "drain", "host": socket.gethostname(), "pid": pid, "started_at": started}
    file(settings).write_text(json.dumps(other | {"beat_at": time.time()} | changes))


@pytest.fixture
def other_process() -> Any:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def test_the_lease_is_held_for_the_time_of_the_block(settings: Settings) -> None:
    assert holder(settings) is None
    with lease(settings, "continuous") as held:
        assert not held.needs_new_generation
        found = holder(settings)
        assert found is not None
        assert found.mode == "continuous"
    assert holder(settings) is None
    assert not file(settings).exists()


def test_a_second_one_waits_for_a_drain_and_then_says_who_holds_it(settings: Settings, other_process: int) -> None:
    held_by(settings, other_process)
    with pytest.raises(ServiceError, match=f"process {other_process} .*drain"), lease(settings, "drain", wait_seconds=0.2):
        raise AssertionError("two at once")


def test_nobody_waits_for_a_continuous_ingest(settings: Settings, other_process: int) -> None:
    held_by(settings, other_process, mode="continuous")
    began = time.monotonic()
    with pytest.raises(ServiceError, match="already runs"), lease(settings, "drain", wait_seconds=30):
        raise AssertionError("two at once")
    assert time.monotonic() - began < 10


def test_a_dead_holder_leaves_its_generation_to_go_on_with(settings: Settings) -> None:
    held_by(settings, 2**22 - 1, started_at=1.0)
    assert holder(settings) is None
    with lease(settings, "drain") as held:
        assert not held.needs_new_generation


def test_a_hanging_holder_loses_it_and_must_be_fenced(settings: Settings, other_process: int) -> None:
    held_by(settings, other_process, beat_at=time.time() - 3600)
    assert holder(settings) is None
    with lease(settings, "drain") as held:
        assert held.needs_new_generation


def test_of_another_machine_only_the_heartbeat_counts(settings: Settings) -> None:
    held_by(settings, 2**22 - 1, started_at=1.0, host="elsewhere")
    assert holder(settings) is not None
    held_by(settings, 2**22 - 1, started_at=1.0, host="elsewhere", beat_at=0.0)
    with lease(settings, "drain") as held:
        assert held.needs_new_generation


def test_the_heart_beats_until_another_took_over(
    settings: Settings, other_process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    lost: list[bool] = []
    with lease(settings, "continuous", on_lost=lambda: lost.append(True)) as held:
        first = holder(settings)
        assert first is not None
        assert wait_until(lambda: (now := holder(settings)) is not None and now.beat_at > first.beat_at, 10)
        held_by(settings, other_process)
        assert wait_until(held.lost.is_set, 10)
    assert lost == [True]
    assert json.loads(file(settings).read_text())["token"] == "other"


def test_the_heart_beats_on_after_its_file_could_not_be_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with lease(settings, "continuous") as held:
        folder = file(settings).parent
        aside = folder.with_name("aside")
        folder.rename(aside)
        folder.write_text("a file where the folder should be")
        failed = threading.Event()
        monkeypatch.setattr(leases, "locked", lambda *given: (failed.set(), locked(*given))[1])
        assert failed.wait(10)
        folder.unlink()
        aside.rename(folder)
        before = holder(settings)
        assert before is not None
        assert wait_until(lambda: (now := holder(settings)) is not None and now.beat_at > before.beat_at, 10)
        assert not held.lost.is_set()
