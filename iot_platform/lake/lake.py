"""The lake: opens tables at a version, creates them from their contracts, replaces one date atomically."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Schema, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from iot_platform.contracts.arrow import arrow_field, arrow_schema
from iot_platform.contracts.tables import TABLES, Kind, TableContract
from iot_platform.errors import HeldError, InputError, LakeError
from iot_platform.lake.newest import Newest
from iot_platform.lake.snapshot import Snapshot, code_id, code_number, forced_id, level_id
from iot_platform.lake.storage import Storage, is_failed_read
from iot_platform.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COLOUR = re.compile(r"\x1b\[\d*m")
CAUSE = "↳"
RAISED = re.compile(r"^Traceback .*?^\w*(?:Error|Exception): (.*?)$", re.DOTALL | re.MULTILINE)
ANSWER_CODE = re.compile(r"<Code>(\w+)</Code>")
ATTEMPTS = 20
# Statistics cost space and time per file and column: kept for what the platform prunes by.
STATISTICS = ("event_time", "window_start", "hour", "ingest_seq", "kafka_partition", "kafka_offset", "device_id")


def table_properties(contract: TableContract) -> dict[str, str]:
    """The Delta properties of a table, the same whichever engine creates it."""
    named = [column.name for column in contract.columns if column.name in STATISTICS]
    return {"delta.dataSkippingStatsColumns": ",".join(named)} if named else {}


def writer_properties(contract: TableContract) -> WriterProperties:
    """Parquet settings: zstd; growing integers and times without a dictionary and delta-encoded (3.7 x smaller)."""
    growing = {Kind.TIMESTAMP, Kind.BIGINT}
    packed = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
    return WriterProperties(
        compression="ZSTD",
        column_properties={column.name: packed for column in contract.columns if column.kind in growing},
    )


class Lake:
    """All tables of one deployment, at ``settings.lake_root``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = settings.lake_root
        self.storage = Storage.of(settings)
        self.storage_options = self.storage.delta_options
        self._newest: Newest[Snapshot] = Newest()  # what readers share
        self._written: Newest[DeltaTable] = Newest()  # where a writer goes on; nobody else sees these

    def path(self, table: str) -> str:
        return f"{self.root}/{self.contract(table).name}"

    @staticmethod
    def contract(table: str) -> TableContract:
        if table not in TABLES:
            raise InputError(f"there is no table {table!r}", f"Tables: {', '.join(TABLES)}")
        return TABLES[table]

    def exists(self, table: str) -> bool:
        """Whether the table was ever made. Raises ``LakeError`` when that cannot be found out."""
        try:
            if self.storage.is_s3:  # the library's own question would stop all threads until the server answers
                from pyarrow.fs import FileType

                filesystem, root = self.storage.filesystem()
                found = filesystem.get_file_info(f"{root}/{self.contract(table).name}/_delta_log")
                return found.type != FileType.NotFound
            return DeltaTable.is_deltatable(self.path(table), self.storage_options)
        except (DeltaError, OSError) as error:
            raise self.unreachable(table, error) from None

    def ensure(self, table: str) -> None:
        """Create the table, empty, if it is not there. Safe to call by several at once."""
        if not self.exists(table):
            self._create(table)

    def _create(self, table: str) -> None:
        contract = self.contract(table)
        path = self.path(table)
        try:
            if "://" not in path:
                Path(path).mkdir(parents=True, exist_ok=True)
            DeltaTable.create(
                path,
                schema=arrow_schema(contract),  # pyright: ignore[reportArgumentType]  # takes any Arrow schema
                partition_by=[contract.partition] if contract.partition else None,
                configuration=dict(table_properties(contract)),
                mode="ignore",
                storage_options=self.storage_options,
                description=f"{contract.grain}. {contract.description}",
            )
        except (DeltaError, OSError) as error:
            if not self.exists(table):  # not lost to a faster creator: a real failure
                raise self.unwritable(table, error) from None

    def snapshot(self, table: str, version: int | None = None) -> Snapshot:
        """The table at ``version`` (default: newest), created empty when it was never there.

        Raises ``LakeError`` for a log that cannot be read.
        """
        if version is not None:
            return Snapshot(self.contract(table), self._open_at(table, version))
        root = self.path(table)
        if found := self._newest.get(root):
            return found
        snapshot = self._opened(table)
        self._newest.keep(root, snapshot.version, snapshot)
        return snapshot

    def writable(self, table: str) -> Snapshot:
        """The newest version, opened for this caller alone: a commit through its handle moves that on to the version made.

        Raises ``LakeError`` for a log that cannot be read.
        """
        return self._widened(self._opened(table))

    def _opened(self, table: str) -> Snapshot:
        contract = self.contract(table)
        try:
            return Snapshot(contract, self._open(table))
        except TableNotFoundError:
            self._create(table)
        return Snapshot(contract, self._open(table))

    def _widened(self, snapshot: Snapshot) -> Snapshot:
        """The table with every column that its contract has by now: those that it lacks are added to its schema, null in the
        rows that are there. One small commit, no data written anew, and only by who is about to write."""
        for _ in range(ATTEMPTS):
            present = {field.name for field in snapshot.delta.schema().fields}
            absent = [column for column in snapshot.contract.columns if column.name not in present]
            if not absent:
                return snapshot
            named = Schema.from_arrow(pa.schema([arrow_field(column) for column in absent])).fields
            try:
                snapshot.delta.alter.add_columns(named)
            except CommitFailedError:
                pass  # somebody was faster, perhaps with the same columns: looked at again
            except (DeltaError, OSError) as error:
                raise self.unwritable(snapshot.contract.name, error) from None
            snapshot = Snapshot(snapshot.contract, self._open(snapshot.contract.name))
        name = snapshot.contract.name
        raise LakeError(f"{name}: other writers leave no room for a commit", "Run it again; nothing was lost.")

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self.path(table), version=version, storage_options=self.storage_options)
        except TableNotFoundError:
            raise
        except (DeltaError, OSError, ValueError) as error:
            is_of_server = self.storage.is_s3 and isinstance(error, OSError)
            raise (self.unreachable if is_of_server else self.corrupt)(table, error) from None

    def _open_at(self, table: str, version: int) -> DeltaTable:
        try:
            return self._open(table, version)
        except TableNotFoundError:
            raise LakeError(f"{table}: no table at {self.path(table)}", "Run `iot ingest` or `make demo`.") from None

    def replace(
        self,
        table: str,
        day: date | None,
        rows: pa.RecordBatchReader,
        *,
        level: int,
        inputs: Mapping[str, int],
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Replace one date (``None``: the whole of an unpartitioned table) and record its level, in one commit.

        ``metadata`` goes into the commit; its ``code_version`` is also recorded like the level.
        Returns the new version. A commit from inputs older than those recorded, or beside another writer of the same
        date, is refused with ``LakeError``; other dates are untouched and may be written at the same time.
        """
        contract = self.contract(table)
        root = self.path(table)
        # The level is looked up at the very version that the commit is made on: whoever is faster is seen or conflicts.
        delta = self._written.take(root) or self.writable(table).delta
        refuse_older(Snapshot(contract, delta), day, level)
        try:
            write_deltalake(
                delta,
                rows,
                mode="overwrite",
                predicate=f"{contract.partition} = '{day.isoformat()}'" if day else None,
                writer_properties=writer_properties(contract),
                commit_properties=commit_properties(table, day, level, inputs, metadata),
            )
        except CommitFailedError:
            raise LakeError(
                f"{table} {day or ''}: another run wrote this date at the same time", "Run it again; nothing was lost."
            ) from None
        except (DeltaError, OSError) as error:
            raise self.unwritable(table, error) from None
        self._written.keep(root, delta.version(), delta)
        return delta.version()

    def force(self, table: str, day: date | None) -> None:
        """Ask for a date to be made again although no input moved: one small commit that raises what it needs."""
        snapshot = self.writable(table)
        self.commit_transaction(snapshot, forced_id(day), snapshot.forced(day) + 1)

    def commit_transaction(self, snapshot: Snapshot, app_id: str, version: int, note: str = "") -> None:
        """Commit an application transaction without data, through a snapshot that ``writable`` gave.

        Of two at once one commits; that is enough for the other where it says as much, else it is committed after it.
        """
        for _ in range(ATTEMPTS):
            try:
                snapshot.delta.create_write_transaction(
                    [],
                    mode="append",
                    schema=snapshot.delta.schema(),
                    partition_by=[snapshot.contract.partition] if snapshot.contract.partition else None,
                    commit_properties=CommitProperties(
                        custom_metadata={"userMetadata": note} if note else None,
                        app_transactions=[Transaction(app_id, version)],
                    ),
                )
            except CommitFailedError:
                snapshot = self.writable(snapshot.contract.name)
                if (snapshot.transaction(app_id) or 0) >= version:
                    return
            except (DeltaError, OSError) as error:
                raise self.unwritable(snapshot.contract.name, error) from None
            else:
                return
        name = snapshot.contract.name
        raise LakeError(f"{name}: other writers leave no room for a commit", "Run it again; nothing was lost.")

    @contextmanager
    def reading(self, table: str) -> Iterator[DuckDBPyConnection]:
        """A DuckDB connection, in UTC, for a question about a table's files; one that cannot be read is a ``LakeError``."""
        import duckdb

        with self.storage.connect() as connection:
            try:
                yield connection
            except duckdb.Error as error:
                if not is_failed_read(error):
                    raise
                raise self.corrupt(table, error) from None

    def unreachable(self, table: str, error: Exception) -> LakeError:
        """The error for a lake of which nothing can be said."""
        return LakeError(
            f"{self.path(table)} cannot be reached ({first_line(error)})",
            "Check IOT_LAKE and, for s3://, AWS_ENDPOINT_URL, AWS_REGION and the keys.",
        )

    def corrupt(self, table: str, error: Exception) -> LakeError:
        return LakeError(
            f"{table}: the Delta log or a file at {self.path(table)} cannot be read ({first_line(error)})",
            "Restore the file it names from a backup, or move the table away and ingest again from Kafka.",
        )

    def unwritable(self, table: str, error: Exception) -> LakeError:
        """The error for a table that cannot be written to."""
        return LakeError(
            f"{table}: cannot write to {self.path(table)} ({first_line(error)})",
            "Check that the disk is there, writable and not full; what was committed before stands.",
        )


def refuse_older(snapshot: Snapshot, day: date | None, level: int) -> None:
    """Raise ``LakeError`` when the date was made from inputs that are as new as ``level``, or newer; ``HeldError`` (one of
    its kinds) when a rollback holds the date."""
    if snapshot.is_held(day):
        raise HeldError(snapshot.contract.name, day)
    recorded = snapshot.recorded_level(day)
    if recorded >= level:
        raise LakeError(
            f"{snapshot.contract.name} {day or ''}: made meanwhile from newer inputs (level {recorded} >= {level})",
            "Nothing was written and nothing is lost; the newer result stands.",
        )


def commit_properties(
    table: str, day: date | None, level: int, inputs: Mapping[str, int], metadata: Mapping[str, Any] | None, **other: Any
) -> CommitProperties:
    """What the commit of a derived date says besides its files: its level and code, and where it comes from."""
    user = {"table": table, "date": day.isoformat() if day else None, "level": level, "inputs": dict(inputs)}
    marks = [Transaction(level_id(day), level)]
    if code := (metadata or {}).get("code_version"):
        marks.append(Transaction(code_id(day), code_number(code)))
    note = {"userMetadata": json.dumps(user | dict(metadata or {}))}
    return CommitProperties(custom_metadata=note, app_transactions=marks, **other)


def first_line(error: Exception) -> str:
    """The first line of a library's error, without its backtrace; of delta-rs's tree of causes the first and the last."""
    causes = COLOUR.sub("", str(error)).strip().split(CAUSE)
    lines = [cause.strip() for cause in (causes[0], causes[-1]) if cause.strip()]
    if not lines:
        return type(error).__name__
    told = ": ".join(lines) if len(causes) > 1 else lines[0].splitlines()[0]
    if raised := RAISED.search(lines[0]):  # in Python, below a library that prints its traceback
        told = raised[1]
    # A server's answer repeats the request that it refused, a session's token too: only its code is shown.
    if code := ANSWER_CODE.search(told):
        told = f"{lines[0].partition('<')[0]}: {code[1]}"
    return re.sub(r"\s+", " ", told)[:300]
