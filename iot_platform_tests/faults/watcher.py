"""Readers that look at the tables all through a test, as users do: none may see a number go down, half a batch, or a date of
a derived table that is gone or made of two versions."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from iot_platform.contracts.tables import TABLES
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.lake.levels import daily_transforms
from iot_platform.lake.query import connect
from iot_platform.settings import Settings

PAUSE_SECONDS = 0.5
BRONZE = (READINGS, QUARANTINE)
# A late reading may undo an anomaly or an inferred cadence; of all else a date has more and more rows, as long as nothing is
# declared anew and nothing erased.
SHRINKING = {"gold/anomaly_events", "gold/sensor_health"}
VANISHING = {"gold/anomaly_events"}
Seen = dict[int, int]  # rows by ingest_seq, which is one batch's
Dates = dict[date, dict[datetime, int]]  # rows by date and by when they were made


@dataclass
class Reader(ABC):
    """``wrong`` says what a reader saw that it must not see; ``looks`` how often it looked."""

    settings: Settings
    looks: int = 0
    wrong: list[str] = field(default_factory=list)

    def look(self) -> None:
        """One look at all tables that are there, by delta-rs and by DuckDB in turn."""
        lake = Lake(self.settings)
        for table in self.tables():
            if lake.exists(table):
                self.compare(table, lake)
        self.looks += 1

    @abstractmethod
    def tables(self) -> list[str]:
        """What is looked at."""

    @abstractmethod
    def compare(self, table: str, lake: Lake) -> None:
        """Hold the table against what was seen of it before."""

    def rows(self, lake: Lake, table: str, columns: list[str]) -> dict[tuple[Any, ...], int]:
        """How many rows the table has of each value of these columns, in one version of it."""
        if self.looks % 2:
            view, names = TABLES[table].view, ", ".join(columns)
            with connect(lake, views={view}) as connection:
                found = connection.execute(f"select {names}, count(*) from {view} group by all").fetchall()
            return {row[:-1]: row[-1] for row in found}
        return dict(Counter(pl.read_delta(lake.path(table), columns=columns).rows()))

    @contextmanager
    def running(self) -> Iterator[Reader]:
        """Look again and again for the time of the block, and once more at its end; then nothing may have been wrong."""
        done = threading.Event()
        raised: list[Exception] = []

        def go() -> None:
            try:
                while not done.wait(PAUSE_SECONDS):
                    self.look()
            except Exception as error:  # a reader that fails is a finding
                raised.append(error)

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
        if raised:
            raise raised[0]
        self.look()
        assert self.looks > 1 and not self.wrong, self.wrong[:5]


@dataclass
class Watcher(Reader):
    """Looks at Bronze: a batch that was seen stays as it was, and at every look the books balance."""

    _known: dict[str, Seen] = field(default_factory=dict)

    def look(self) -> None:
        super().look()
        offsets = offset_ledger(Lake(self.settings))
        if not offsets.is_balanced:
            self.wrong.append(f"the offsets do not balance: {offsets}")

    def tables(self) -> list[str]:
        return [*BRONZE]

    def compare(self, table: str, lake: Lake) -> None:
        now = {seq: rows for (seq,), rows in self.rows(lake, table, ["ingest_seq"]).items()}
        for seq, rows in self._known.get(table, {}).items():
            if now.get(seq, 0) != rows:
                self.wrong.append(f"{table}: batch {seq} had {rows} rows, then {now.get(seq, 0)}")
        self._known[table] = now


@dataclass
class DerivedWatcher(Reader):
    """Looks at Silver and Gold, date by date: one that was made stays there, is of one making, and does not get less.

    For scenes in which readings only come, and no date is made twice at the same moment.
    """

    _known: dict[str, Dates] = field(default_factory=dict)

    def tables(self) -> list[str]:
        return [transform.table for transform in daily_transforms()]

    def compare(self, table: str, lake: Lake) -> None:
        now: Dates = {}
        for (day, made), rows in self.rows(lake, table, ["event_date", "processed_at"]).items():
            now.setdefault(day, {})[made] = rows
        known = self._known.setdefault(table, {})
        for day, makings in now.items():
            if len(makings) > 1:
                self.wrong.append(f"{table} {day}: a mix of what was made at {sorted(map(str, makings))}")
        for day in known:
            self._judge(f"{table} {day}", table, known[day], now.get(day, {}))
        known |= now

    def _judge(self, place: str, table: str, before: dict[datetime, int], now: dict[datetime, int]) -> None:
        were, are = sum(before.values()), sum(now.values())
        if not now and table not in VANISHING:
            self.wrong.append(f"{place}: there were {were} rows, then none")
        elif now and are < were and table not in SHRINKING:
            self.wrong.append(f"{place}: there were {were} rows, then {are}")
        for made in before.keys() & now.keys():
            if before[made] != now[made]:
                self.wrong.append(f"{place}: what was made at {made} had {before[made]} rows, then {now[made]}")
