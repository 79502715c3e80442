"""One pinned version of a table: its files, counts and levels, read from the Delta log and never from the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from iot_platform.contracts.tables import TableContract
from iot_platform.lake.transactions import transactions

FEW = 8
LEVEL = "level/"
CHANGED = "changed/"
ERASED = "erased/"
ERASED_MESSAGES = "erased/messages"  # the Delta transaction that counts the messages that were erased from a Bronze table
HELD = "held/"
HOLDS = "held"  # the Delta transaction that counts how often any date of a table was held or released


class File(NamedTuple):
    """One active data file; ``day`` is None in a table that is not partitioned."""

    path: str
    day: date | None
    rows: int
    size: int
    max_ingest_seq: int


def level_id(day: date | None) -> str:
    """The Delta transaction under which an output date records the level it was made from."""
    return f"{LEVEL}{day.isoformat() if day else 'all'}"


def forced_id(day: date | None) -> str:
    """The Delta transaction that counts how often an output date was asked to be made again."""
    return f"forced/{day.isoformat() if day else 'all'}"


def changed_id(day: date) -> str:
    """The Delta transaction that counts how often a Bronze date changed otherwise than by a batch: redriven, erased."""
    return f"{CHANGED}{day.isoformat()}"


def erased_id(day: date) -> str:
    """The Delta transaction that counts the rows of a date that were erased, as the ledger takes them (see ``erase``)."""
    return f"{ERASED}{day.isoformat()}"


def held_id(day: date) -> str:
    """The Delta transaction that says whether an output date is held back by a rollback: odd is held, even released."""
    return f"{HELD}{day.isoformat()}"


def code_id(day: date | None) -> str:
    """The Delta transaction under which an output date records the code that made it."""
    return f"code/{day.isoformat() if day else 'all'}"


def code_number(code_version: str) -> int:
    """A code version (hexadecimal) as a transaction's version, which is a whole number of 64 bits with sign."""
    return int(code_version[:15], 16)


@dataclass(frozen=True)
class Snapshot:
    """A table at one version. Whoever holds it reads the same rows, whatever is committed meanwhile."""

    contract: TableContract
    delta: DeltaTable
    asked: list[str] = field(default_factory=list, repr=False, compare=False)

    @property
    def version(self) -> int:
        return self.delta.version()

    @property
    def root(self) -> str:
        """Where the table lies: a path as the file system has it, or an address with its scheme."""
        uri = self.delta.table_uri.rstrip("/")
        return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri

    @cached_property
    def active(self) -> tuple[File, ...]:
        """The active files, oldest partition first."""
        actions: dict[str, list[Any]] = pa.table(self.delta.get_add_actions(flatten=True)).to_pydict()
        count = len(actions["path"])
        empty = [None] * count
        days = actions.get(f"partition.{self.contract.partition}", empty)
        sequences = actions.get("max.ingest_seq", empty)
        root = self.root
        files = (
            File(_absolute(root, actions["path"][i]), days[i], actions["num_records"][i] or 0,
                 actions["size_bytes"][i], sequences[i] or 0)
            for i in range(count)
        )  # fmt: skip
        return tuple(sorted(files, key=lambda file: (file.day or date.min, file.path)))

    def files(self, days: Iterable[date] | None = None, *, after_seq: int = 0) -> list[str]:
        """Paths of the active files: of these dates only, and only those that hold an ``ingest_seq`` above ``after_seq``."""
        wanted = None if days is None else set(days)
        return [
            file.path
            for file in self.active
            if (wanted is None or file.day in wanted) and (not after_seq or file.max_ingest_seq > after_seq)
        ]

    def files_above(self, column: str, value: int) -> list[str]:
        """Paths of the active files that may hold a number above ``value`` in this column, as their statistics have it."""
        actions: dict[str, list[Any]] = pa.table(self.delta.get_add_actions(flatten=True)).to_pydict()
        largest = actions.get(f"max.{column}", [None] * len(actions["path"]))
        pairs = zip(actions["path"], largest, strict=True)
        return sorted(_absolute(self.root, path) for path, most in pairs if most is None or most > value)

    @cached_property
    def rows_by_date(self) -> dict[date, int]:
        """Rows per partition date, dates without rows left out."""
        counts: dict[date, int] = {}
        for file in self.active:
            if file.day is not None and file.rows:
                counts[file.day] = counts.get(file.day, 0) + file.rows
        return counts

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.active)

    @property
    def size(self) -> int:
        """Bytes of the active files."""
        return sum(file.size for file in self.active)

    @cached_property
    def sequences(self) -> dict[date, int]:
        """Largest ``ingest_seq`` per date, from file statistics: the levels of a Bronze table."""
        levels: dict[date, int] = {}
        for file in self.active:
            if file.day is not None:
                levels[file.day] = max(levels.get(file.day, 0), file.max_ingest_seq)
        return levels

    @cached_property
    def _transactions(self) -> dict[str, int] | None:
        return transactions(self.delta)

    def transaction(self, app_id: str) -> int | None:
        """The version that an application recorded in this table, or None."""
        # One date is asked of the library; a sweep over many reads them all at once.
        is_sweep = len(self.asked) >= FEW
        if not is_sweep:
            self.asked.append(app_id)
        known = self._transactions if is_sweep else None
        return self.delta.transaction_version(app_id) if known is None else known.get(app_id)

    def changed(self, day: date) -> int:
        """How often rows of this Bronze date were added or taken otherwise than by a batch of the stream."""
        return self.transaction(changed_id(day)) or 0

    @cached_property
    def changed_days(self) -> frozenset[date]:
        """The dates of which rows were added or taken otherwise, those that lost all included (on a local disk only)."""
        return frozenset(_named_days(self._transactions or (), CHANGED))

    def erased(self, day: date) -> int:
        """How many rows of this date were erased."""
        return self.transaction(erased_id(day)) or 0

    @cached_property
    def erased_days(self) -> frozenset[date]:
        """The dates of which rows were erased, those that lost all included (where the log is not on a local disk: only
        dates with rows)."""
        listed = self._transactions
        if listed is None:
            return frozenset(day for day in self.rows_by_date if self.erased(day))
        return frozenset(_named_days(listed, ERASED))

    @cached_property
    def changes(self) -> dict[date, int]:
        """The dates of Bronze that changed otherwise than by a batch, and how often; dates without rows left out."""
        return {day: times for day in self.sequences if (times := self.changed(day))}

    def recorded_level(self, day: date | None) -> int:
        """The level that this output date was made from; 0 when it was never made."""
        return self.transaction(level_id(day)) or 0

    def recorded_days(self) -> set[date]:
        """Dates that were ever made, those that lost all their rows included (where the log is not on a local disk: only
        dates with rows, since the library lists no transactions)."""
        made = {name.removeprefix(LEVEL) for name in self._transactions or () if name.startswith(LEVEL)}
        return {date.fromisoformat(name) for name in made if name != "all"} | set(self.rows_by_date)

    def is_made_by(self, day: date | None, code_version: str) -> bool:
        """Whether this code made the output date. Stands in the log like the level, so it survives the log's clean-up."""
        return self.transaction(code_id(day)) == code_number(code_version)

    def forced(self, day: date | None) -> int:
        """How often this output date was asked to be made again without new input."""
        return self.transaction(forced_id(day)) or 0

    @cached_property
    def holds(self) -> int:
        """How often any date was held or released; 0 in a table where no date ever was: none need be asked then."""
        return self.transaction(HOLDS) or 0

    def is_held(self, day: date | None) -> bool:
        """Whether a rollback keeps this output date as it is, until somebody releases it."""
        return bool(day and self.holds and (self.transaction(held_id(day)) or 0) % 2)

    @cached_property
    def held_days(self) -> tuple[date, ...]:
        """The dates that are held, oldest first (where the log is not on a local disk: only dates with rows)."""
        if not self.holds:
            return ()
        listed = self._transactions
        named = self.rows_by_date if listed is None else map(_held_day, filter(_names_held, listed))
        return tuple(sorted(day for day in named if self.is_held(day)))


def _named_days(app_ids: Iterable[str], prefix: str) -> Iterator[date]:
    """The dates among these transactions' names; other names may begin the same."""
    for app_id in app_ids:
        if app_id.startswith(prefix):
            with suppress(ValueError):
                yield date.fromisoformat(app_id.removeprefix(prefix))


def _names_held(app_id: str) -> bool:
    return app_id.startswith(HELD)


def _held_day(app_id: str) -> date:
    return date.fromisoformat(app_id.removeprefix(HELD))


def _absolute(root: str, path: str) -> str:
    # Delta writes partition values percent-encoded; a path with a scheme is absolute already (shallow clones).
    if "://" in path:
        return path
    return f"{root}/{unquote(path)}"
