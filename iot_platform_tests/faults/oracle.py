"""The judge: what the broker acknowledged against what the two Bronze tables hold, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform_tests.faults.producer import Place, Producer

Row = tuple[str, Place, str, str]  # table, place, id, metric


@dataclass(frozen=True)
class Verdict:
    """``lost``: rows that must be there and are not; ``duplicated``: rows too many, by whatever way they came."""

    messages: int
    lost: Counter[Row]
    duplicated: Counter[Row]

    @property
    def counts(self) -> dict[str, int]:
        """As the fault table takes it."""
        return {"messages": self.messages, "lost": self.lost.total(), "duplicated": self.duplicated.total()}

    def assert_exact(self, hint: str = "") -> None:
        lost, more = ([*rows][:3] for rows in (self.lost, self.duplicated))
        assert not self.lost and not self.duplicated, (
            f"of {self.messages} messages {self.lost.total()} rows are lost ({lost}), {self.duplicated.total()} are too many"
            f" ({more}). {hint}"
        )


def judge(settings: Settings, *producers: Producer) -> Verdict:
    """Hold all that was acknowledged against the tables. A message without an answer may be there, once."""
    expected: Counter[Row] = Counter()
    unanswered: set[str] = set()
    for producer in producers:
        for place, sent in producer.acknowledged.items():
            expected.update((table, place, sent.id, metric) for table, metric in sent.rows)
        unanswered |= producer.unanswered.keys()
    found = Counter(landed(Lake(settings)))
    doubtful = Counter({row: 1 for row in found if row[2] in unanswered})
    messages = sum(len(producer.acknowledged) for producer in producers)
    return Verdict(messages, expected - found, found - expected - doubtful)


def landed(lake: Lake) -> Iterable[Row]:
    """Every row of both tables, with the id that the producer gave it."""
    for name in (READINGS, QUARANTINE):
        frame = pl.read_delta(lake.path(name))
        for row in frame.iter_rows(named=True):
            place = (row["topic"], row["kafka_partition"], row["kafka_offset"])
            if name == QUARANTINE:
                yield name, place, (row["value"] or b"").decode(errors="replace").split()[-1], ""
            else:
                yield name, place, row["event_id" if row["contract"] == "device_event" else "device_id"], row["metric"]
