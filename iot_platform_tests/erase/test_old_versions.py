"""What a log or an old file says of a device goes, whoever wrote it there; what the platform reads there stays."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iot_platform.erase.old_versions import log_names, redact_log, remove_old_files
from iot_platform.erase.run import Erased, refuse_left
from iot_platform.erase.trace import Trace
from iot_platform.erase.verification import verify
from iot_platform.errors import PlatformError
from iot_platform.lake import Lake
from iot_platform.lake.stream_log import stream_commits
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import D, SmallLake
from iot_platform_tests.erase.erasable import traces

TABLE = "bronze/readings"


def written(settings: Settings) -> tuple[Lake, Path]:
    """A table with a batch in it, and its log."""
    small = SmallLake(Lake(settings))
    small.day(D, readings=2)
    return small.lake, Path(small.lake.root) / TABLE / "_delta_log"


def named(lake: Lake, log: Path, trace: Trace) -> list[str]:
    filesystem, _ = lake.storage.filesystem()
    return [path.name for path in sorted(log.iterdir()) if log_names(filesystem, str(path), trace)]


def test_every_text_of_a_commit_loses_the_device_and_the_entry_stays(settings: Settings) -> None:
    lake, log = written(settings)
    last = lake.snapshot(TABLE).version
    lake.commit_transaction(lake.writable(TABLE), "some/mark", 1, note="dev-1 is noisy, dev-10 is not")
    lake.commit_transaction(lake.writable(TABLE), "some/mark", 2, note=json.dumps({"why": ["dev-1"], "ends": {"dev-1": 3}}))
    noted = log / f"{last:020d}.json"
    actions = [json.loads(line) for line in noted.read_text().splitlines()]
    info = next(action["commitInfo"] for action in actions if "commitInfo" in action)
    info["job"] = {"name": "for dev-1"}
    noted.write_text("".join(json.dumps(action) + "\n" for action in actions))
    (log / "_commit_x.json.tmp").write_text('{"commitInfo":{"operationParameters":{"predicate":"device_id = \'dev-1\'"')
    lake = Lake(settings)
    before = stream_commits(lake.snapshot(TABLE).delta)
    trace = Trace("dev-1")
    wanted = ["_commit_x.json.tmp", *(f"{number:020d}.json" for number in range(last, last + 3))]
    assert sorted(named(lake, log, trace)) == sorted(wanted)
    redact_log(lake, TABLE, trace)
    lake = Lake(settings)
    assert named(lake, log, trace) == [] and stream_commits(lake.snapshot(TABLE).delta) == before
    said = [commit.get("userMetadata", "") for commit in lake.snapshot(TABLE).delta.history(2)]
    assert said[1] == "[erased] is noisy, dev-10 is not"
    assert json.loads(said[0]) == {"why": ["[erased]"], "ends": {"dev-1": 3}}, "a topic of this name keeps its position"
    assert lake.snapshot(TABLE).rows == 2


@pytest.mark.parametrize("device", ["0", "WRITE", "sensor_reading"])
def test_a_device_that_is_called_like_a_word_of_the_log_does_not_spoil_it(settings: Settings, device: str) -> None:
    lake, log = written(settings)
    before = stream_commits(lake.snapshot(TABLE).delta)
    redact_log(lake, TABLE, Trace(device))
    lake = Lake(settings)
    assert stream_commits(lake.snapshot(TABLE).delta) == before and lake.snapshot(TABLE).rows == 2
    assert named(lake, log, Trace(device)) == [] and traces(log, device)


def test_a_torn_file_goes_when_it_names_the_device_or_is_old_and_is_told_until_then(settings: Settings) -> None:
    lake, log = written(settings)
    (whole,) = log.parent.rglob("*.parquet")
    names_it, old, young = (whole.with_name(f"{name}.zstd.parquet") for name in ("names-it", "old", "young"))
    names_it.write_bytes(b"PAR1 half a page: dev-1,")
    for torn in (old, young):
        torn.write_bytes(whole.read_bytes()[:-9])
    hour_ago = time.time() - 3601
    os.utime(old, (hour_ago, hour_ago))
    os.utime(whole, (hour_ago, hour_ago))
    trace, now = Trace("dev-1"), datetime.now(UTC)
    assert remove_old_files(lake, TABLE, trace, now) == 2
    assert sorted(log.parent.rglob("*.parquet")) == sorted([whole, young]) and lake.snapshot(TABLE).rows == 2
    found = verify(lake, trace, settle_seconds=0)
    assert not found.is_clean and not found.traces and found.unreadable == (str(young.relative_to(lake.root)),)
    with pytest.raises(PlatformError, match="1 file.s. cannot be read, so whether they name the device is not known"):
        refuse_left(Erased("dev-1", verification=found))
    threading.Timer(0.1, young.write_bytes, [whole.read_bytes()]).start()
    assert verify(lake, trace).is_clean, "a file that is being written is looked at again"
