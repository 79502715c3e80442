"""What waits beside the lake is cleaned without taking a file away from the run that writes it."""

from __future__ import annotations

import os
from pathlib import Path

from iot_platform.erase.beside import IN_USE, Cleaned, clean_beside
from iot_platform.erase.trace import Trace
from iot_platform.settings import Settings
from iot_platform.simulator.spool import Outgoing, Spool, try_alone
from iot_platform.simulator.truth import TruthBlock, TruthFile

TRACE = Trace("dev-1")


def outgoing(number: int) -> Outgoing:
    device = "dev-1" if number % 2 else "dev-10"
    return Outgoing("t", device.encode(), b'{"sensor_id": "%s", "n": %d}' % (device.encode(), number), [])


def test_no_waiting_message_of_a_live_producer_is_lost(settings: Settings) -> None:
    spool = Spool(settings, "run")
    for number in range(3):
        spool.keep(outgoing(number), "away")
    assert clean_beside(settings, TRACE) == [Cleaned("undelivered/run.jsonl", todo=IN_USE)]
    for number in range(3, 5):
        spool.keep(outgoing(number), "away")
    assert spool.waiting == spool.count == 5
    spool.close()
    assert clean_beside(settings, TRACE) == [Cleaned("undelivered/run.jsonl", 2)]
    spool.keep(outgoing(6), "away")
    assert spool.waiting == 4 and b'"dev-1"' not in spool.path.read_bytes()
    spool.close()


def test_the_truth_of_a_running_simulation_goes_on_in_the_file_that_has_its_name(settings: Settings) -> None:
    path = settings.home / "truth" / "run.jsonl"
    truth = TruthFile(path)
    truth.write(TruthBlock("of dev-1", "sensor_reading"))
    held = try_alone(path)
    assert held is not None and _at_work(path)
    with os.fdopen(held, "rb"):
        assert clean_beside(settings, TRACE) == [Cleaned("truth/run.jsonl", todo=IN_USE)]
    assert clean_beside(settings, TRACE) == [Cleaned("truth/run.jsonl", 1)]
    truth.write(TruthBlock("of dev-10", "sensor_reading"))
    assert path.read_text().count("\n") == 1 and "of dev-10" in path.read_text()


def _at_work(path: Path) -> bool:
    return try_alone(path) is None
