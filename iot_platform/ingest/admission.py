"""What a batch may let in besides what parses: not the dates that are closed, not the devices that were erased (ADR 0012).

An admission is read when a batch begins and stands in the metadata of the readings' commit, which is made only while it is
still the one in force. So a record that was judged once is judged the same again, though the admission moved meanwhile: in
exactly one of the two tables, whatever dies in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import islice

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
LONGEST_ID = 256
MOST_PIECES = 20_000  # of a message: 30 ms
QUOTED = re.compile(r'"(?P<text>(?:[^"\\]|\\.){1,256})"(?P<name>\s*:)?')
RUN = re.compile(r"""[^\s"'`\\,;=|&?(){}<>\[\]]+""")
WITH_LETTER, WITH_DIGIT = re.compile(r"[^\W\d_]"), re.compile(r"\d")
OWN_HEADERS = {"contract", "contract_version", "replayed"}  # whole they name no device
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
    """Whether a record that could not be parsed names an erased device: as its key, as any text or token in its value, in a
    text that was never closed, or in a header.

    Tombstones are hashes, so each piece is hashed, ``MOST_PIECES`` at most. ``dev-1`` in ``hall/dev-1`` is no piece: nobody
    knows here whether that is a device of its own.
    """
    if not tombstones.hashes:
        return False
    return any(tombstones.holds(piece) for piece in islice(_unique(_pieces(record)), MOST_PIECES))


def _pieces(record: KafkaRecord) -> Iterator[str]:
    key, value = ((raw or b"").decode("utf-8", "replace") for raw in (record.key, record.value))
    yield key
    for name, raw in record.headers:
        said = (raw or b"").decode("utf-8", "replace")
        if name not in OWN_HEADERS:
            yield said
        yield from _tokens(f"{name} {said}")
    yield value.strip()
    for match in QUOTED.finditer(value):
        if not match["name"]:
            yield _text(match["text"])
    yield _text(value.rpartition('"')[2][:LONGEST_ID])
    yield from _tokens(value)


def _tokens(text: str) -> Iterator[str]:
    """What stands there without quotes of its own and cannot be a plain word or a number."""
    for match in RUN.finditer(text):
        run = match[0].strip(".:/")
        for token in (run, *run.split(":")) if ":" in run else (run,):
            if len(token) <= LONGEST_ID and WITH_LETTER.search(token) and WITH_DIGIT.search(token):
                yield token


def _unique(pieces: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for piece in pieces:
        if piece and piece not in seen:
            seen.add(piece)
            yield piece


def _text(text: str) -> str:
    """The text between quotes, as JSON means it where it can be read so."""
    try:
        return json.loads(f'"{text}"') if "\\" in text else text
    except ValueError:
        return text
