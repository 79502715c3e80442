"""What a batch may let in besides what parses: not the dates that are closed, not the devices that were erased (ADR 0012).

An admission is read when a batch begins and stands in the metadata of the readings' commit, which is made only while it is
still the one in force. So a record that was judged once is judged the same again, though the admission moved meanwhile: in
exactly one of the two tables, whatever dies in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from iot_platform.contracts.fields import Reading
from iot_platform.contracts.parse import KafkaRecord
from iot_platform.contracts.refusal import Refusal
from iot_platform.contracts.timestamps import start_of_day_us
from iot_platform.lake.lake import Lake
from iot_platform.lake.retention import CLOSED_BEFORE, closed_date
from iot_platform.lake.tombstones import TOMBSTONES, Tombstones, read_tombstones

READINGS, QUARANTINE = "bronze/readings", "bronze/quarantine"
Offsets = Mapping[str, Mapping[int, int]]
Expected = Mapping[str, int | None]
"""Delta transactions of a table and the versions they have; None: not there."""
QUOTED = re.compile(rb'"((?:[^"\\]|\\.){1,256})"')
NOBODY = Tombstones()
ERASED = Refusal("erased_device", "the device was erased; its message is not kept")


@dataclass(frozen=True)
class Admission:
    """Event dates before ``closed_before`` (UTC) and devices with a tombstone are refused."""

    closed_before: date | None = None
    tombstones: Tombstones = NOBODY

    @property
    def is_open(self) -> bool:
        """Whether everything that parses is let in."""
        return self.closed_before is None and not self.tombstones.hashes

    @cached_property
    def _closed_us(self) -> int | None:
        return None if self.closed_before is None else start_of_day_us(self.closed_before)

    def refusal(self, reading: Reading) -> Refusal | None:
        """Why the message of this reading is not let in; its readings have the device and the time in common."""
        if self.tombstones.holds(reading.device_id):
            return ERASED
        if self._closed_us is not None and reading.event_time < self._closed_us:
            return Refusal("closed_date", f"dates before {self.closed_before} are closed: their Bronze has expired")
        return None


EVERYBODY = Admission()


@dataclass(frozen=True)
class InForce:
    """The admission of a batch, the tombstones there are now (whose payload is withheld), and what must still be so at its
    commits, per table."""

    admission: Admission
    erased: Tombstones
    expected: Mapping[str, Expected]


def read_admission(lake: Lake) -> InForce:
    """The admission in force now. The marks are read before the tombstones that they number: those can only be more."""
    readings, quarantine = lake.snapshot(READINGS), lake.snapshot(QUARANTINE)
    closed, count = readings.transaction(CLOSED_BEFORE), readings.transaction(TOMBSTONES)
    expected = {
        READINGS: {CLOSED_BEFORE: closed, TOMBSTONES: count},
        QUARANTINE: {TOMBSTONES: quarantine.transaction(TOMBSTONES)},
    }
    erased = read_tombstones(lake)
    return InForce(Admission(closed_date(closed), erased.first(count or 0)), erased, expected)


def is_of_erased(record: KafkaRecord, tombstones: Tombstones) -> bool:
    """Whether a record that could not be parsed names an erased device: as its key, or as any text in its value."""
    if not tombstones.hashes:
        return False
    texts = {record.key or b"", *QUOTED.findall(record.value or b"")}
    return any(tombstones.holds(_text(text)) for text in texts)


def _text(raw: bytes) -> str:
    """The text between quotes, as JSON means it where it can be read so."""
    text = raw.decode("utf-8", "replace")
    try:
        return json.loads(f'"{text}"') if "\\" in text else text
    except ValueError:
        return text

