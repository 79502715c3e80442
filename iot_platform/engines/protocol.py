"""What an engine is: it runs a transform's SQL text over pinned inputs and hands back rows to check, then to commit.

What belongs here: the protocol and the values that pass through it. How a date's inputs are pinned, checked and committed
in order stands in ``materialize.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from iot_platform.contracts.tables import Column
from iot_platform.lake import Lake, Snapshot
from iot_platform.transforms.catalog import DECLARED_DEVICES, Transform, input_columns

CLOCKS_SCHEMA = pa.schema([("contract", pa.string()), ("as_of", pa.timestamp("us", tz="UTC"))])
SAMPLE = 20


@dataclass(frozen=True)
class InputFiles:
    """A pinned version of a table: only ``days`` of it (None: all), and only rows brought after ``after_seq`` (0: all)."""

    snapshot: Snapshot
    days: Sequence[date] | None = None
    after_seq: int = 0


Inputs = Mapping[str, InputFiles | pa.Table]
"""Rows by view name. A transform with ``clocks`` also needs ``clocks``, one with ``declared`` also ``declared_devices``."""


@dataclass(frozen=True)
class Params:
    """The one row of the view ``params``. ``event_date`` is None for a table that is not partitioned.

    ``processed_at`` (zone-aware) is when the run began; both lineage columns come from here, never from a clock.
    """

    event_date: date | None
    processed_at: datetime
    pipeline_version: str

    def table(self) -> pa.Table:
        """The row as Arrow: event_date, day_start, day_end (UTC midnights), processed_at, pipeline_version."""
        start = None
        if self.event_date is not None:
            start = datetime(self.event_date.year, self.event_date.month, self.event_date.day, tzinfo=UTC)
        instant = pa.timestamp("us", tz="UTC")
        return pa.table(
            {
                "event_date": pa.array([self.event_date], pa.date32()),
                "day_start": pa.array([start], instant),
                "day_end": pa.array([start and start + timedelta(days=1)], instant),
                "processed_at": pa.array([self.processed_at.astimezone(UTC)], instant),
                "pipeline_version": pa.array([self.pipeline_version], pa.string()),
            }
        )


class Derived(Protocol):
    """The rows of one computed date, not yet committed. A context manager: leaving it frees them."""

    rows: int
    seconds: float
    schema: pa.Schema

    def batches(self) -> pa.RecordBatchReader:
        """All rows in the contract's types and column order, streamed. May be called again."""
        ...

    def duplicate_keys(self, keys: Sequence[str]) -> pa.Table:
        """Keys that occur more than once, with ``count``: a sample of at most 20; no row when all are unique."""
        ...

    def commit(
        self, lake: Lake, table: str, day: date | None, *, level: int, inputs: Mapping[str, int],
        metadata: Mapping[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """Replace ``day`` of ``table`` by these rows, atomically, with its level; the new version.

        Raises ``LakeError`` when a newer level is recorded already; nothing is written then.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """What runs transforms. An engine keeps no state between computations but its session."""

    name: str

    def compute(self, transform: Transform, inputs: Inputs, params: Params) -> Derived:
        """Run the text. Raises ``LakeError`` for an input that cannot be read, ``PlatformError`` when memory ends."""
        ...

    def close(self) -> None:
        """Give back what the engine holds. Calling it again does nothing."""
        ...


def view_columns(transform: Transform) -> dict[str, tuple[Column, ...]]:
    """The views of tables that a transform reads, with their columns as it sees them."""
    views = {item.view: input_columns(item.table) for item in transform.inputs}
    if transform.declared:
        views[DECLARED_DEVICES] = tuple(c for c in input_columns("registry/devices") if c.name != "source")
    return views


def duplicate_keys_sql(rows: str, keys: Sequence[str]) -> str:
    """The query for ``Derived.duplicate_keys``; both engines speak it."""
    names = ", ".join(keys)
    return (
        f"select {names}, count(*) as count from {rows} group by {names} having count(*) > 1"
        f" order by {names} limit {SAMPLE}"
    )


def clocks_table(inputs: Inputs) -> pa.Table:
    """The rows of the view ``clocks``: how far each contract's data has come."""
    clocks = inputs["clocks"]
    if isinstance(clocks, InputFiles):
        raise TypeError("clocks come from commit metadata, as an Arrow table, never from files")
    return clocks.cast(CLOCKS_SCHEMA)
