"""What a batch counts: per Kafka partition where its rows are parsed, then added up for the commits.

What belongs here: what the workers tell of a batch, as text that Spark carries. Pure; no rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from iot_platform.contracts.fields import Reading
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.errors import DataError
from iot_platform.ingest.turned_away import Marks, Piece, Place

LATE_US = 10 * 60 * 1_000_000


@dataclass
class PartitionState:
    """One Kafka partition within a batch: where its rows begin, how far its event time has come, what was counted.

    ``turned_away``: the records from ``readings_from`` on that are no readings, by reason; with ``reading_messages`` all
    records there.
    """

    topic: str
    partition: int
    newest: int | None
    readings_from: int
    refused_from: int
    last_offset: int = -1
    reading_messages: int = 0
    readings: int = 0
    refused: int = 0
    late: int = 0
    turned_away: dict[str, Marks] = field(default_factory=dict)
    newest_by_contract: dict[str, int] = field(default_factory=dict)
    reading_dates: dict[int, int] = field(default_factory=dict)
    refused_dates: dict[int, int] = field(default_factory=dict)

    def advance(self, offset: int) -> None:
        """Lateness counts from earlier offsets, so records must come in their order."""
        if offset <= self.last_offset:
            raise DataError(
                f"{self.topic}/{self.partition}: offset {offset} came after {self.last_offset}",
                "The batch was not taken; a Kafka partition must be read by one task, in order",
            )
        self.last_offset = offset

    def judge_lateness(self, reading: Reading, arrival_us: int) -> bool:
        """Whether the message is late, judged by earlier offsets; then it counts for the later ones."""
        is_late = not reading.replayed and self.newest is not None and reading.event_time < self.newest - LATE_US
        reached = min(reading.event_time, arrival_us)
        if self.newest is None or reached > self.newest:
            self.newest = reached
        if reached > self.newest_by_contract.get(reading.contract, reached - 1):
            self.newest_by_contract[reading.contract] = reached
        return is_late

    def count_readings(self, day: int, readings: int, is_late: bool) -> None:
        self.reading_messages += 1
        self.readings += readings
        self.late += is_late
        self.reading_dates[day] = self.reading_dates.get(day, 0) + readings

    def count_refused(self, day: int) -> None:
        self.refused += 1
        self.refused_dates[day] = self.refused_dates.get(day, 0) + 1

    def turn_away(self, offset: int, reason: str) -> None:
        self.turned_away.setdefault(reason, Marks()).add(offset)

    def summary(self) -> str:
        turned_away = [marks.as_json(reason) for reason, marks in self.turned_away.items()]
        records = self.reading_messages + sum(marks.count for marks in self.turned_away.values())
        return json.dumps({**vars(self), "turned_away": turned_away, "records": records})


@dataclass
class BatchSummary:
    """What a micro-batch brought, over all its partitions. Dates are days since 1970-01-01 as ISO text.

    ``records``: all that Kafka held of the offsets that are new to the readings' table, whichever table took them;
    ``messages``: those that were landed now, in either table. ``turned_away``: which of the new ones are no readings.
    """

    messages: int = 0
    records: int = 0
    readings: int = 0
    refused: int = 0
    late: int = 0
    reading_dates: dict[str, int] = field(default_factory=dict)
    refused_dates: dict[str, int] = field(default_factory=dict)
    turned_away: dict[Place, list[Piece]] = field(default_factory=dict)
    newest_by_partition: dict[str, dict[int, int]] = field(default_factory=dict)
    newest_by_contract: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str]) -> BatchSummary:
        """Add up the summaries of a batch; a partition may come in several."""
        total = cls()
        for text in texts:
            part = json.loads(text)
            total.messages += part["reading_messages"] + part["refused"]
            total.records += part["records"]
            if part["turned_away"]:
                own = total.turned_away.setdefault((part["topic"], part["partition"]), [])
                own += map(Piece.of_json, part["turned_away"])
            total.readings += part["readings"]
            total.refused += part["refused"]
            total.late += part["late"]
            _add_dates(total.reading_dates, part["reading_dates"])
            _add_dates(total.refused_dates, part["refused_dates"])
            if part["newest"] is not None:
                newest = total.newest_by_partition.setdefault(part["topic"], {})
                newest[part["partition"]] = max(part["newest"], newest.get(part["partition"], part["newest"]))
            for contract, reached in part["newest_by_contract"].items():
                total.newest_by_contract[contract] = max(reached, total.newest_by_contract.get(contract, reached))
        return total


def _add_dates(total: dict[str, int], part: Mapping[str, int]) -> None:
    for day, count in part.items():
        iso = (EPOCH + timedelta(days=int(day))).date().isoformat()
        total[iso] = total.get(iso, 0) + count
