"""A reader that looks at the Bronze tables all through a test, as users do: it must never see a number go down, nor half
a batch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake import Lake
from iot_platform.lake.query import connect
from iot_platform.settings import Settings

PAUSE_SECONDS = 0.5
VIEWS = {READINGS: "bronze_readings", QUARANTINE: "bronze_quarantine"}
Seen = dict[int, int]  # rows by ingest_seq, which is one batch's


@dataclass
class Watcher:
    """``wrong`` says what a reader saw that it must not see; ``looks`` how often it looked."""

    settings: Settings
    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    _known: dict[str, Seen] = field(default_factory=dict)

    def look(self) -> None:
        """One look at both tables, by delta-rs and by DuckDB in turn."""
        lake = Lake(self.settings)
        for table in VIEWS:
            if lake.exists(table):
                self._compare(table, self._by_duckdb(lake, table) if self.looks % 2 else self._by_delta(lake, table))
        self.looks += 1

    def _by_delta(self, lake: Lake, table: str) -> Seen:
        return dict(Counter(pl.read_delta(lake.path(table), columns=["ingest_seq"])["ingest_seq"].to_list()))

    def _by_duckdb(self, lake: Lake, table: str) -> Seen:
        with connect(lake, views={VIEWS[table]}) as connection:
            return dict(connection.execute(f"select ingest_seq, count(*) from {VIEWS[table]} group by all").fetchall())

    def _compare(self, table: str, now: Seen) -> None:
        for seq, rows in self._known.get(table, {}).items():
            if now.get(seq, 0) != rows:
                self.wrong.append(f"{table}: batch {seq} had {rows} rows, then {now.get(seq, 0)}")
        self._known[table] = now

    @contextmanager
    def running(self) -> Iterator[Watcher]:
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
