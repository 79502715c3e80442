"""An erasure killed -9 as a real process, and run again: the device is in no file, others lose nothing, all balances."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from iot_platform.erase.unfinished import remembered
from iot_platform.lake import Lake
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform_tests.assets.small_lake import TOPIC, D, SmallLake, at
from iot_platform_tests.erase.erasable import DEVICE, OTHER, is_balanced, is_settled, traces
from iot_platform_tests.faults.places import count, offsets_of
from iot_platform_tests.faults.record import FaultRecord


def iot(settings: Settings, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROJECT_ROOT / ".venv" / "bin" / "iot"), *arguments],
        env=os.environ | {"IOT_HOME": str(settings.home)} | environment,
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip


@pytest.mark.parametrize(
    "place", ["erase.after_bronze_readings", pytest.param("erase.after_vacuum", marks=pytest.mark.long)]
)
@pytest.mark.usefixtures("parsed_home")
def test_a_killed_erasure_is_ended_by_the_next(settings: Settings, fault_record: FaultRecord, place: str) -> None:
    lake = Lake(settings)
    small = SmallLake(lake)
    names = [DEVICE, OTHER] * 6
    small.ingest(
        [{"device_id": name, "event_time": at(D, hour)} for hour, name in enumerate(names)],
        [{"key": DEVICE.encode(), "value": b"{"}, {"value": b'{"sensor_id": "dev-10"'}],
    )
    gone = {(TOPIC, 0, offset) for offset in (*range(0, 12, 2), 12)}
    killed = iot(settings, "erase", "--device", DEVICE, "--yes", IOT_FAILPOINT=f"{place}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert is_balanced(lake) and [*remembered(settings).values()] == [DEVICE]
    assert traces(Path(lake.root), DEVICE), "not all of it was gone"
    began = time.monotonic()
    ran = iot(settings, "erase", "--resume", "--json")
    seconds = time.monotonic() - began
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["clean"] and not remembered(settings)
    assert traces(Path(lake.root), DEVICE) == [] and is_settled(lake)
    assert [row["device_id"] for row in small.rows("silver/readings")] == [OTHER] * 6
    counted = count(lake, offsets_of(TOPIC, 14), gone)
    fault_record(fault="1 erasure killed -9", injections=1, recovery_seconds=seconds, **counted.counts)
    counted.assert_exact()
