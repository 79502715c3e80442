"""Makes one date of one derived table: pin the inputs, compute, check the contract, commit with the level.

What belongs here: the order of these steps, the same for every table and engine. The rows come from
``transforms/<table>.sql``, the commit from the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.metadata import version as package_version
from time import perf_counter

import pyarrow as pa

from iot_platform.contracts.pandera import describe_violations, offending_rows, violations
from iot_platform.contracts.tables import TABLES, TableContract
from iot_platform.engines.protocol import CLOCKS_SCHEMA, Derived, Engine, InputFiles, Params
from iot_platform.errors import ClosedError, DataError, HeldError
from iot_platform.failpoints import reach
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels, look_back
from iot_platform.lake.retention import closed_before
from iot_platform.lake.snapshot import Snapshot
from iot_platform.transforms.catalog import Transform, code_version

MOST_TOLD = 100  # rows that an error carries


@dataclass(frozen=True)
class DateResult:
    """What became of one date. ``skipped``: it was up to date and not forced, or is ``held`` by a rollback or closed, which
    this then says in a line; ``seconds`` is wall time."""

    table: str
    day: date
    rows: int
    version: int
    level: int
    seconds: float
    engine: str
    inputs: Mapping[str, int]
    skipped: bool = False
    held: str = ""


@cache
def pipeline_version() -> str:
    return package_version("iot-platform")


def materialize_date(
    lake: Lake,
    engine: Engine,
    transform: Transform,
    day: date,
    *,
    now: datetime,
    force: bool = False,
    levels: Levels | None = None,
    run_id: str = "",
) -> DateResult:
    """Bring one date of one table up to its inputs, atomically; neighbours stay as they are.

    A date is up to date when it is made from its newest inputs and by this code; ``force`` makes it all the same, but none
    that a rollback holds or that is closed. ``now`` (UTC) becomes ``processed_at``; ``run_id`` stands in the commit.
    Raises ``DataError`` when the result breaks its contract (then nothing is committed) and ``LakeError`` when it cannot be
    written.
    """
    began = perf_counter()
    pinned = levels or Levels(lake)
    code = code_version(transform)
    before = lake.snapshot(transform.table)
    if kept := _kept(lake, before, day):
        return _held(kept, before, day, engine, perf_counter() - began)
    recorded = before.recorded_level(day)
    is_outdated = recorded > 0 and not before.is_made_by(day, code)
    if (force or is_outdated) and pinned.needed(transform, day) <= recorded:
        lake.force(transform.table, day)
        pinned = Levels(lake)
    needed = pinned.needed(transform, day)
    target = lake.snapshot(transform.table)
    inputs = {source.table: pinned.snapshot(source.table).version for source in transform.inputs}
    if target.recorded_level(day) >= needed:
        rows = target.rows_by_date.get(day, 0)
        return DateResult(
            transform.table, day, rows, target.version, needed, perf_counter() - began, engine.name, inputs, skipped=True
        )
    # Asked again now that the inputs are pinned: what is closed since may have lost its own by now.
    if kept := _kept(lake, target, day):
        return _held(kept, target, day, engine, perf_counter() - began)
    with engine.compute(transform, engine_inputs(transform, day, pinned), params(day, now)) as derived:
        check(TABLES[transform.table], day, derived)
        reach("derived.before_commit")
        metadata = {"engine": engine.name, "code_version": code, "rows": derived.rows}
        metadata |= {"run_id": run_id} if run_id else {}
        try:
            version = derived.commit(lake, transform.table, day, level=needed, inputs=inputs, metadata=metadata)
        except HeldError as held:  # put back while it was being made
            return _held(held, lake.snapshot(transform.table), day, engine, perf_counter() - began)
        reach("derived.after_commit")
        rows = derived.rows
    return DateResult(transform.table, day, rows, version, needed, perf_counter() - began, engine.name, inputs)


def _kept(lake: Lake, snapshot: Snapshot, day: date) -> HeldError | ClosedError | None:
    """Why the date is not made again, whatever moved and whoever asks; None where it may be."""
    if snapshot.is_held(day):
        return HeldError(snapshot.contract.name, day)
    closed = closed_before(lake)
    return ClosedError(snapshot.contract.name, day, closed) if closed and day < closed else None


def _held(held: HeldError | ClosedError, snapshot: Snapshot, day: date, engine: Engine, seconds: float) -> DateResult:
    """The result for a date that a rollback holds, or that is closed: what stands there stays."""
    return DateResult(
        snapshot.contract.name, day, snapshot.rows_by_date.get(day, 0), snapshot.version, snapshot.recorded_level(day),
        seconds, engine.name, {}, skipped=True, held=str(held),
    )  # fmt: skip


def params(day: date | None, now: datetime) -> Params:
    return Params(event_date=day, processed_at=now, pipeline_version=pipeline_version())


def engine_inputs(transform: Transform, day: date, pinned: Levels) -> dict[str, InputFiles | pa.Table]:
    """The views that the SQL text reads: pinned files of the dates needed, and the clocks."""
    views: dict[str, InputFiles | pa.Table] = {}
    for source in transform.inputs:
        contract = TABLES[source.table]
        days = look_back(day, source.look_back) if contract.partition else None
        views[contract.view] = InputFiles(pinned.snapshot(source.table), days)
    if transform.clocks:
        as_of = pinned.as_of(day)
        views["clocks"] = pa.Table.from_pylist(
            [{"contract": name, "as_of": moment} for name, moment in as_of.items()], schema=CLOCKS_SCHEMA
        )
    return views


def check(contract: TableContract, day: date | None, derived: Derived) -> None:
    """Hold the computed rows against the table's contract before anything is committed."""
    place = f"{contract.name} {day or ''}".strip()
    broken = violations(contract, derived.batches())
    if broken is not None:
        raise DataError(
            f"{place}: {describe_violations(broken)}", "Nothing was committed for this date; the version before stands.",
            offending_rows(broken.head(MOST_TOLD)), broken.height,
        )  # fmt: skip
    repeated = derived.duplicate_keys(contract.keys)
    if repeated.num_rows:
        rows = [{name: str(value) for name, value in row.items()} for row in repeated.slice(0, MOST_TOLD).to_pylist()]
        raise DataError(
            f"{place}: the key ({', '.join(contract.keys)}) is not unique, e.g. {repeated.slice(0, 1).to_pylist()[0]}",
            "Nothing was committed for this date; the version before stands.",
            rows, repeated.num_rows,
        )  # fmt: skip
