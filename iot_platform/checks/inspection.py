"""What the checks of one step look at: the lake, the thresholds, the moment; and counts that several of them need.

One scan of a table and date serves every rate that is made from it, and one connection all scans: opening one costs more
than most of these questions. What was read is kept for the length of a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from iot_platform.checks.thresholds import Thresholds
from iot_platform.contracts.duckdb import select_files
from iot_platform.lake.lake import Lake
from iot_platform.lake.ledger import DateLedger, date_ledger
from iot_platform.lake.levels import DAY_US, day_start_us
from iot_platform.lake.storage import is_failed_read

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BRONZE, SILVER, REJECTED, QUARANTINE = (
    "bronze/readings", "silver/readings", "silver/rejected_readings", "bronze/quarantine",
)  # fmt: skip


class Part(NamedTuple):
    """The rows of a date that overrides can tell apart."""

    contract: str
    metric: str = ""
    site: str | None = None


@dataclass
class Inspection:
    """One step's look. ``days``: all dates that it checks, so that what knows no dates of its own is scanned once."""

    lake: Lake
    thresholds: Thresholds
    now: datetime
    days: tuple[date, ...] = ()
    _counts: dict[tuple[str, date], list[Mapping[str, Any]]] = field(default_factory=dict)
    _arrived: Mapping[tuple[str, date], int] | None = None
    _ledger: dict[date, DateLedger] = field(default_factory=dict)

    @cached_property
    def _connection(self) -> DuckDBPyConnection:
        return self.lake.storage.connect()

    def close(self) -> None:
        """Give the connection back, if there was one; it is opened again when asked for."""
        connection = self.__dict__.pop("_connection", None)
        if connection is not None:
            connection.close()

    @contextmanager
    def reading(self, table: str) -> Iterator[DuckDBPyConnection]:
        """The connection, in UTC, for a question about a table's files; one that cannot be read is a ``LakeError``."""
        import duckdb

        try:
            yield self._connection
        except duckdb.Error as error:
            if not is_failed_read(error):
                raise
            raise self.lake.corrupt(table, error) from None

    def rows(self, day: date, sql: str, tables: Iterable[str], limit: int = -1) -> list[Mapping[str, Any]]:
        """The answer as dictionaries, ``limit`` rows of it at most (-1: all).

        The tables that are named are seen by their view names, at their versions of this moment, just the date of those
        that are partitioned.
        """
        tables = tuple(tables)
        with self.reading(tables[0]) as connection:
            for table in tables:
                snapshot = self.lake.snapshot(table)
                files = snapshot.files([day] if snapshot.contract.partition else None)
                source = select_files(snapshot.contract, files)
                connection.execute(f"create or replace temp view {snapshot.contract.view} as {source}")
            return answered(connection, sql, limit)

    def ledger(self, day: date) -> DateLedger:
        """The ledger of the date; of all dates of the step it is made at once."""
        if day not in self._ledger:
            self._ledger |= {line.event_date: line for line in date_ledger(self.lake, {*self.days, day})}
        return self._ledger[day]

    def _of(self, table: str, day: date, columns: str) -> list[Mapping[str, Any]]:
        if (table, day) not in self._counts:
            view = self.lake.contract(table).view
            sql = f"select contract, metric, site, {columns} from {view} group by all"
            self._counts[table, day] = self.rows(day, sql, (table,))
        return self._counts[table, day]

    def bronze(self, day: date, column: str = "readings") -> Counter[Part]:
        """Per part of the date its rows in Bronze (``readings``), or how many of them came late (``late``)."""
        found = self._of(BRONZE, day, "count(*) as readings, count(*) filter (where is_late) as late")
        return _counted(found, column)

    def silver(self, day: date, column: str = "readings") -> Counter[Part]:
        """Per part of the date its rows in Silver (``readings``), or how many of them are anomalies (``anomalies``)."""
        found = self._of(SILVER, day, "count(*) as readings, count(*) filter (where is_anomaly) as anomalies")
        return _counted(found, column)

    def rejected(self, day: date, reason: str) -> Counter[Part]:
        """Per part of the date its rows that were rejected for the reason."""
        found = self._of(REJECTED, day, "reason, count(*) as readings")
        return _counted((row for row in found if row["reason"] == reason), "readings")

    def arrived(self, day: date) -> Counter[str]:
        """Per topic the messages in Bronze that arrived at the broker on the date, whatever their event date."""
        if self._arrived is None or day not in self.days:
            self.days = tuple(sorted({*self.days, day}))
            self._arrived = self._arrivals()
        return Counter({topic: count for (topic, arrival), count in self._arrived.items() if arrival == day})

    def _arrivals(self) -> dict[tuple[str, date], int]:
        first, last = min(self.days), max(self.days)
        snapshot = self.lake.snapshot(BRONZE)
        # A commit is numbered by its time, and nothing lands before it arrived; a day for clocks that disagree.
        files = snapshot.files(after_seq=max(day_start_us(first) - DAY_US, 0))
        if not files:
            return {}
        since, until = _midnight(first), _midnight(last + timedelta(days=1))
        with self.reading(BRONZE) as connection:
            found = connection.execute(
                "select topic, kafka_timestamp::date as arrival,"
                " count(distinct kafka_offset::hugeint * 1000000 + kafka_partition)"
                f" from ({select_files(snapshot.contract, files)})"
                " where kafka_timestamp >= ? and kafka_timestamp < ? group by all",
                [since, until],
            ).fetchall()
        return {(topic, arrival): messages for topic, arrival, messages in found}


def answered(
    connection: DuckDBPyConnection, sql: str, limit: int = -1, values: Sequence[Any] = ()
) -> list[Mapping[str, Any]]:
    """The answer as dictionaries, ``limit`` rows of it at most (-1: all)."""
    answer = connection.execute(sql, list(values))
    names = [column[0] for column in answer.description or ()]
    found = answer.fetchall() if limit < 0 else answer.fetchmany(limit)
    return [dict(zip(names, row, strict=True)) for row in found]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _counted(found: Iterable[Mapping[str, Any]], column: str) -> Counter[Part]:
    counts: Counter[Part] = Counter()
    for row in found:
        counts[Part(row["contract"], row["metric"], row["site"])] += row[column]
    return counts
