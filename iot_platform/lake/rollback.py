"""Puts one date of a derived table back to what it was, and holds it so, until somebody releases it (ADR 0011).

A rollback is one commit on exactly the version that was looked at: the earlier rows in new files, the level raised by one
(so that what reads the date follows), and the mark that holds it. Nothing is rewritten; the version undone stays readable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.duckdb import select_files
from iot_platform.errors import ClosedError, InputError, LakeError
from iot_platform.lake.comparison import Comparison, compare
from iot_platform.lake.date_versions import DateVersion, date_versions, is_possible, rollback_contract
from iot_platform.lake.erased_sums import is_before_erasure
from iot_platform.lake.lake import Lake, writer_properties
from iot_platform.lake.levels import Levels
from iot_platform.lake.retention import closed_before
from iot_platform.lake.snapshot import HOLDS, Snapshot, code_id, forced_id, held_id, level_id
from iot_platform.lake.tombstones import read_tombstones
from iot_platform.transforms.catalog import TRANSFORMS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ATTEMPTS = 20
BATCH_ROWS = 131_072


@dataclass(frozen=True)
class Rollback:
    """What a rollback does, or did: of ``day`` the version ``undone`` gives way to ``restored``; ``version`` is the commit
    that did it (None: not done, a dry run). ``is_before_erasure``: it may sum up a device that was erased since."""

    table: str
    day: date
    undone: DateVersion
    restored: DateVersion
    comparison: Comparison
    version: int | None = None
    is_before_erasure: bool = False


def roll_back(
    lake: Lake, table: str, day: date, to: int | None = None, *,
    undo: int | None = None, reason: str = "", is_dry_run: bool = False,
) -> Rollback:  # fmt: skip
    """Put the date back to what it was at table version ``to`` (default: before the newest commit that changed it).

    ``undo``: only if the newest commit that changed the date is this one. Raises ``InputError`` for a table or version that
    cannot be meant, ``LakeError`` when files of that version are gone, when another run changes the date meanwhile, or when
    the table cannot be written; nothing is committed then. A closed date (``ClosedError``) stays as it is: what is made of
    it could not follow, and what has expired would come back.
    """
    seen, known = _known(lake, table, day)
    if (closed := closed_before(lake)) and day < closed:
        raise ClosedError(table, day, closed)
    undone = known[0]
    if undo is not None and undone.version != undo:
        raise LakeError(f"{table} {day} was changed again meanwhile, by version {undone.version}", "Look at that one.")
    restored = _chosen(table, day, known, to)
    if not is_possible(lake, table, day, restored):
        raise LakeError(f"{table} {day}: files of version {to or restored.last} are gone, removed by maintenance",
                        _oldest(lake, table, day, known))  # fmt: skip
    earlier = lake.snapshot(table, restored.last)
    found = Rollback(table, day, undone, restored, compare(lake, seen, earlier, day),
                     is_before_erasure=is_before_erasure(lake, table, day, restored, known))  # fmt: skip
    if is_dry_run:
        return found
    version = _commit(lake, seen, earlier, found, reason)
    return replace(found, version=version)


def versions(lake: Lake, table: str, day: date) -> list[DateVersion]:
    """The versions of the date, newest first. Raises ``InputError`` for a date that was never made."""
    return _known(lake, table, day)[1]


def _known(lake: Lake, table: str, day: date) -> tuple[Snapshot, list[DateVersion]]:
    rollback_contract(lake, table)
    if not lake.exists(table):
        raise InputError(f"{table} was never made", "Run `iot materialize`.")
    seen = lake.writable(table)
    known = list(date_versions(seen, lake, day))
    if not known:
        raise InputError(f"{table} {day} was never made", "`iot status --json` lists the dates there are.")
    return seen, known


def _chosen(table: str, day: date, known: Sequence[DateVersion], to: int | None) -> DateVersion:
    newest = known[0]
    if to is None:
        if len(known) == 1:
            raise InputError(
                f"{table} {day}: version {newest.version} is the only one there is", "There is none to put it back to."
            )
        return known[1]
    if to > newest.last:
        raise InputError(f"{table} has no version {to} yet, its newest is {newest.last}", "Choose one of --list.")
    if to >= newest.version:
        raise InputError(f"{table} {day} is as version {to} has it already", "Choose an earlier one of --list.")
    for version in known:
        if version.version <= to <= version.last:
            return version
    raise InputError(f"{table} {day}: nothing is known of it at version {to}", f"The oldest is {known[-1].version}.")


def _oldest(lake: Lake, table: str, day: date, known: Sequence[DateVersion]) -> str:
    possible = [version for version in known[1:] if is_possible(lake, table, day, version)]
    if not possible:
        return "No earlier version of the date is left: make it again with `iot materialize`."
    return f"The oldest version possible is {possible[-1].version}."


def _commit(lake: Lake, seen: Snapshot, earlier: Snapshot, plan: Rollback, reason: str) -> int:
    """Write the earlier rows in new files and commit, on exactly a version in which the date is as it was seen."""
    table, day = plan.table, plan.day
    contract = seen.contract
    for _ in range(ATTEMPTS):
        now = lake.writable(table)
        if _state(now, day) != _state(seen, day):
            raise LakeError(f"{table} {day} was made again meanwhile, by another run", "Nothing was done; see --list.")
        try:
            with lake.reading(table) as connection:
                # New files, though the old ones are there: maintenance may be removing those at this moment.
                rows = connection.sql(_source(lake, connection, earlier, day)).to_arrow_reader(BATCH_ROWS)
                schema = arrow_schema(contract)
                write_deltalake(
                    now.delta,
                    pa.RecordBatchReader.from_batches(schema, _typed(rows, schema)),
                    mode="overwrite",
                    predicate=f"{contract.partition} = '{day.isoformat()}'",
                    writer_properties=writer_properties(contract),
                    commit_properties=_properties(now, earlier, plan, reason),
                )
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        return now.delta.version()
    raise LakeError(f"{table}: other writers leave no room for a commit", "Run it again; nothing was done.")


def _state(snapshot: Snapshot, day: date) -> tuple[int, int]:
    """What another run would change of a date; files may be merged meanwhile."""
    return snapshot.recorded_level(day), snapshot.rows_by_date.get(day, 0)


def _source(lake: Lake, connection: DuckDBPyConnection, earlier: Snapshot, day: date) -> str:
    """The earlier rows, but none of a device that was erased since: an erasure under way may not have come here yet."""
    source = select_files(earlier.contract, earlier.files([day]))
    tombstones = read_tombstones(lake)
    if not tombstones.hashes or all(column.name != "device_id" for column in earlier.contract.columns):
        return source
    devices = connection.execute(f"select distinct device_id from ({source})").fetchall()
    erased = [[device] for (device,) in devices if tombstones.holds(device)]
    connection.execute("create or replace temp table erased (device_id varchar)")
    if erased:
        connection.executemany("insert into erased values (?)", erased)
    return f"from ({source}) where device_id not in (select device_id from erased)"


def _typed(rows: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        yield batch.cast(schema)


def _properties(now: Snapshot, earlier: Snapshot, plan: Rollback, reason: str) -> CommitProperties:
    day = plan.day
    level = now.recorded_level(day) + 1
    told = {name: plan.restored.metadata[name] for name in ("code_version", "inputs") if name in plan.restored.metadata}
    metadata = {
        "table": plan.table, "date": day.isoformat(), "level": level, "rows": plan.comparison.rows_after, **told,
        "rolled_back": {"undone": plan.undone.version, "restored": plan.restored.version, "reason": reason},
    }  # fmt: skip
    marks = [Transaction(level_id(day), level), *_marks(now, day, is_held=True)]
    if (code := earlier.transaction(code_id(day))) is not None:
        marks.append(Transaction(code_id(day), code))
    note = {"userMetadata": json.dumps(metadata)}
    return CommitProperties(custom_metadata=note, app_transactions=marks, max_commit_retries=0)


def _marks(now: Snapshot, day: date, *, is_held: bool) -> list[Transaction]:
    """Odd is held, even released; either way the number grows."""
    count = now.transaction(held_id(day)) or 0
    step = 1 if count % 2 != is_held else 2
    return [Transaction(held_id(day), count + step), Transaction(HOLDS, now.holds + 1)]


def release(lake: Lake, table: str, day: date) -> int:
    """Let automation make the date again, and ask for it to be made; the version of the commit.

    Raises ``InputError`` for a date that is not held.
    """
    rollback_contract(lake, table)
    for _ in range(ATTEMPTS):
        if not lake.exists(table) or not (now := lake.writable(table)).is_held(day):
            raise InputError(f"{table} {day} is not held", "`iot status` shows the dates that are.")
        # A rollback raised the level above what the date needs; that is passed, whatever else was raised meanwhile.
        behind = now.recorded_level(day) - Levels(lake).needed(TRANSFORMS[table], day)
        marks = [Transaction(forced_id(day), now.forced(day) + max(2, behind + 1)), *_marks(now, day, is_held=False)]
        metadata: dict[str, Any] = {"table": table, "date": day.isoformat(), "hold": "released"}
        properties = CommitProperties(
            custom_metadata={"userMetadata": json.dumps(metadata)}, app_transactions=marks, max_commit_retries=0
        )
        try:
            now.delta.create_write_transaction(
                [], mode="append", schema=now.delta.schema(), partition_by=[now.contract.partition or ""],
                commit_properties=properties,
            )  # fmt: skip
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        return now.version + 1
    raise LakeError(f"{table}: other writers leave no room for a commit", "Run it again; nothing was done.")
