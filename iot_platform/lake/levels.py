"""Levels: which output dates are older than their inputs. Computed from logs and statistics, never from rows (ADR 0002).

The level of an input date is one integer that only grows: for Bronze the largest ``ingest_seq`` and how often rows were
redriven or erased; for a registry the sequence of the last change that bears on the date; for the clocks how far event
time has come into the date, and whether the calendar closed it; for a derived table the level it recorded. What an output
date *needs* is the sum over all inputs it reads, look-back dates included, plus how often it was forced. Each term only
grows, so the sum grows whenever any of them does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa

from iot_platform.contracts.tables import TABLES
from iot_platform.lake.erasures import ERASED_DEVICES, read_erasures
from iot_platform.lake.lake import Lake
from iot_platform.lake.retention import closed_before_of
from iot_platform.lake.snapshot import Snapshot
from iot_platform.lake.stream_log import newest_times
from iot_platform.transforms.catalog import TRANSFORMS, Input, Transform

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
CLOCKED = "gold/sensor_health"  # the table that reads the clocks; it holds until when days were closed
CLOSED = "closed/day"  # the Delta transaction that says so: µs since the epoch, the end of the newest closed date


def day_start_us(day: date) -> int:
    """Start of the UTC day in microseconds since the epoch."""
    return (day - EPOCH.date()).days * DAY_US


def date_of_us(moment: int) -> date:
    return EPOCH.date() + timedelta(days=moment // DAY_US)


def days_between(first: date, last: date) -> list[date]:
    """All dates from first to last, both included."""
    return [first + DAY * n for n in range((last - first).days + 1)]


def look_back(day: date, days: int) -> list[date]:
    """The dates that an output date reads of an input: day - days … day."""
    return days_between(day - DAY * days, day)


def merged(spans: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """The same dates in as few spans as possible, oldest first."""
    found: list[tuple[date, date]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


@dataclass
class Levels:
    """The lake's levels at one moment: every table is opened once, and all answers come from those versions."""

    lake: Lake
    _snapshots: dict[str, Snapshot] = field(default_factory=dict)
    _changes: dict[tuple[str, bool], tuple[tuple[date, date, int], ...]] = field(default_factory=dict)

    def snapshot(self, table: str) -> Snapshot:
        if table not in self._snapshots:
            self._snapshots[table] = self.lake.snapshot(table)
        return self._snapshots[table]

    @cached_property
    def newest(self) -> Mapping[str, int]:
        """Per contract, how far event time has come, in µs since the epoch."""
        return newest_times(self.snapshot("bronze/readings").delta)

    @cached_property
    def closed(self) -> int:
        """Until when days were closed by the calendar, in µs since the epoch (0: none): until then silence is judged."""
        return self.snapshot(CLOCKED).transaction(CLOSED) or 0

    @cached_property
    def closed_before(self) -> date | None:
        """The first date that may be made at all (UTC); None: every date."""
        return closed_before_of(self.snapshot("bronze/readings"))

    @cached_property
    def active(self) -> Mapping[str, list[tuple[date, date]]]:
        """Per contract, the spans of dates on which a registered device with a cadence is installed and not retired."""
        spans: dict[str, set[tuple[date, date]]] = {}
        columns = ["contract", "cadence_seconds", "installed_at", "retired_at"]
        for row in self.registry("registry/devices", columns).to_pylist():
            if row["cadence_seconds"] is not None:
                last = row["retired_at"].date() if row["retired_at"] is not None else date.max
                spans.setdefault(row["contract"], set()).add((row["installed_at"].date(), last))
        return {contract: merged(found) for contract, found in spans.items()}

    def passed(self, contract: str) -> int:
        """How far the contract's time has come, in µs since the epoch: by what it sent, or because days were closed."""
        return max(self.newest.get(contract, 0), self.closed)

    def as_of(self, day: date) -> dict[str, datetime]:
        """Per contract, until when devices can be expected to have reported on ``day``: its end, or the newest time.

        A contract that never sent anything has one too once a day was closed.
        """
        end = day_start_us(day) + DAY_US
        contracts = {*self.newest, *(self.active if self.closed else ())}
        return {name: EPOCH + timedelta(microseconds=min(end, self.passed(name))) for name in sorted(contracts)}

    def changes(self, table: str, *, declared_only: bool) -> tuple[tuple[date, date, int], ...]:
        """The changes of a registry as (first date, last date, sequence of the newest change with this span)."""
        key = (table, declared_only)
        if key not in self._changes:
            newest: dict[tuple[date, date], int] = {}
            listed = [row or () for row in self.registry(table, ["changes"]).column("changes").to_pylist()]
            # The row of an erased device is gone; what it bore on does not become older by that.
            listed += [self._erased_changes()] if table == "registry/devices" else []
            for change in (change for changes in listed for change in changes):
                if change["declared"] or not declared_only:
                    span = (change["from_date"], change["to_date"] or date.max)
                    newest[span] = max(newest.get(span, 0), change["seq"])
            self._changes[key] = tuple((first, last, seq) for (first, last), seq in newest.items())
        return self._changes[key]

    def _erased_changes(self) -> list[dict[str, Any]]:
        if not self.snapshot("registry/devices").transaction(ERASED_DEVICES):
            return []
        return [change for erasure in read_erasures(self.lake) for change in erasure.changes]

    def registry(self, table: str, columns: list[str]) -> pa.Table:
        return self.snapshot(table).delta.to_pyarrow_table(columns=columns)

    def level(self, source: Input, day: date) -> int:
        """The level of one input on one date."""
        if source.table == "bronze/readings":
            return bronze_level(self.snapshot(source.table), day)
        if TABLES[source.table].partition is None:
            return self._registry_level(source, day)
        return self.snapshot(source.table).recorded_level(day)

    def _registry_level(self, source: Input, day: date) -> int:
        spans = self.changes(source.table, declared_only=source.declared_only)
        return max((seq for first, last, seq in spans if first <= day <= last), default=0)

    def clock_level(self, day: date) -> int:
        """How far time has come into the date. Closing it adds one for each contract that had not passed its end by itself:
        less than the µs that a contract adds which passes it later, or that a change of the devices adds, so it only grows.
        """
        start = day_start_us(day)
        end = start + DAY_US
        reached = sum(max(0, min(newest - start, DAY_US)) for newest in self.newest.values())
        if self.closed < end:
            return reached
        behind = (spans for contract, spans in self.active.items() if self.newest.get(contract, 0) < end)
        return reached + sum(any(first <= day <= last for first, last in spans) for spans in behind)

    def needed(self, transform: Transform, day: date, upstream: Mapping[tuple[str, date], int] | None = None) -> int:
        """What the output date would be made from now; ``upstream`` gives levels that inputs are about to have."""
        total = self.snapshot(transform.table).forced(day)
        for source in transform.inputs:
            for read in look_back(day, source.look_back):
                coming = (upstream or {}).get((source.table, read))
                total += self.level(source, read) if coming is None else coming
        return total + (self.clock_level(day) if transform.clocks else 0)

    def recorded(self, table: str, day: date) -> int:
        return self.snapshot(table).recorded_level(day)

    def held(self) -> dict[str, tuple[date, ...]]:
        """Per derived table the dates that rollbacks hold, oldest first; tables without such are left out."""
        made = [transform.table for transform in daily_transforms() if self.lake.exists(transform.table)]
        found = {table: self.snapshot(table).held_days for table in made}
        return {table: days for table, days in found.items() if days}

    def active_days(self) -> set[date]:
        """Dates on which a registered device could have reported: between installed and retired, until its contract's time
        has come; none before the first date of the settings, where no partition is."""
        oldest = self.lake.settings.first_date
        return {
            day
            for contract, spans in self.active.items()
            if self.passed(contract)
            for first, last in spans
            for day in days_between(max(first, oldest), min(last, date_of_us(self.passed(contract) - 1)))
        }

    def _judged_days(self, table: str) -> set[date]:
        """The dates on which silence is judged, and those on which it was: a device declared anew for other dates leaves
        rows behind that are to go."""
        return self.active_days() | set(self.snapshot(table).rows_by_date)

    def stale(self, only: Iterable[date] | None = None) -> dict[str, list[date]]:
        """The output dates that are older than their inputs, per derived table in order of dependency.

        A date whose input is stale is stale too: making them in this order makes each once. ``only`` limits the dates.
        A date that a rollback holds, or that is closed, is left out: it stays as it is, and what reads it is made from it
        as it is.
        """
        wanted = None if only is None else set(only)
        open_from = self.closed_before or date.min
        coming: dict[tuple[str, date], int] = {}
        found: dict[str, list[date]] = {}
        bronze = self.snapshot("bronze/readings")
        # A date that was emptied (an erased device was all that it had) is made again too: what was made from it goes.
        days_of: dict[str, set[date]] = {"bronze/readings": set(bronze.sequences) | bronze.changed_days}
        for transform in daily_transforms():
            candidates = self._judged_days(transform.table) if transform.clocks else set[date]()
            for source in transform.inputs:
                candidates |= days_of.get(source.table, set())
            stale: list[date] = []
            for day in sorted(candidates):
                recorded = self.recorded(transform.table, day)
                if day < open_from or self.snapshot(transform.table).is_held(day):
                    coming[transform.table, day] = recorded
                    continue
                needed = self.needed(transform, day, coming)
                coming[transform.table, day] = max(recorded, needed)
                if needed > recorded and (wanted is None or day in wanted):
                    stale.append(day)
            days_of[transform.table] = candidates
            found[transform.table] = stale
        return found


def bronze_level(snapshot: Snapshot, day: date) -> int:
    """The level of a Bronze date: its newest batch, and how often it was changed otherwise (a redriven row keeps the
    ``ingest_seq`` of its batch, since a newer one could hide a batch that lands beside it)."""
    return snapshot.sequences.get(day, 0) + snapshot.changed(day)


def daily_transforms() -> list[Transform]:
    """The transforms of tables partitioned by date, inputs before outputs."""
    return [transform for transform in TRANSFORMS.values() if TABLES[transform.table].partition]
