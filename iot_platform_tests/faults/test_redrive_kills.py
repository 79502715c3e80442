"""A redrive killed -9 at each of its places, as a real process, and run again: each message once, balanced in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import date

import pytest

from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform_tests.contracts.messages import TOPIC_OF, message
from iot_platform_tests.faults.places import count, offsets_of
from iot_platform_tests.faults.record import FaultRecord
from iot_platform_tests.ingest.landed import Landed
from iot_platform_tests.ingest.test_redrive import assert_each_once, rows

MESSAGES = 30


def redrive(settings: Settings, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command itself, after the first date was moved back so far that the messages are good."""
    return subprocess.run(
        [str(PROJECT_ROOT / ".venv" / "bin" / "iot"), "quarantine", "redrive", "--reason", "clock_out_of_range", "--json"],
        env=os.environ | {"IOT_HOME": str(settings.home), "IOT_FIRST_DATE": "2005-01-01"} | environment,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("place", [pytest.param("redrive.before_bronze", marks=pytest.mark.long), "redrive.after_bronze"])
def test_a_killed_redrive_is_finished_by_the_next(settings: Settings, fault_record: FaultRecord, place: str) -> None:
    lake = Lake(settings)
    landed = Landed(lake)
    old = [message("sensor_reading", sensor_id=f"s{n}", timestamp="2008-05-01T00:00:00Z") for n in range(MESSAGES)]
    landed.land([*old, message("sensor_reading")])
    assert redrive(settings, IOT_FAILPOINT=f"{place}=kill").returncode == -signal.SIGKILL
    between = offset_ledger(lake)
    assert between.is_balanced
    assert between.redriven == (MESSAGES if place.endswith("after_bronze") else 0)
    assert rows(lake, "bronze/quarantine")["redriven_at"].null_count() == MESSAGES
    began = time.monotonic()
    ran = redrive(settings)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["redriven"] + told["healed"] == told["marked"] == MESSAGES
    assert_each_once(lake, MESSAGES + 1)
    assert lake.snapshot("bronze/readings").changed(date(2008, 5, 1)) == 1  # what was there is not brought again
    seconds, counted = time.monotonic() - began, count(lake, offsets_of(TOPIC_OF["sensor_reading"], MESSAGES + 1))
    fault_record(fault="1 redrive killed -9", injections=1, recovery_seconds=seconds, **counted.counts)
    counted.assert_exact()
