"""The embedded engine: DuckDB in this process. It needs no service, no extension and no file but its spill folder.

It reads the Parquet files of the pinned versions, keeps the result in a table that spills to
``$IOT_HOME/tmp``, and commits through the lake.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from iot_platform.contracts.arrow import ARROW_TYPES
from iot_platform.contracts.duckdb import DUCKDB_TYPES, PROMOTING
from iot_platform.contracts.promoted import duckdb_value
from iot_platform.contracts.tables import Column, Kind
from iot_platform.engines.protocol import (
    InputFiles,
    Inputs,
    Params,
    clocks_table,
    duplicate_keys_sql,
    view_columns,
)
from iot_platform.errors import LakeError, PlatformError
from iot_platform.lake import Lake
from iot_platform.lake.lake import first_line
from iot_platform.lake.storage import Storage, is_failed_read
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import Transform

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Times are TIMESTAMP (without zone, always UTC) inside: their functions need no time zone rules and are many times faster.
ENGINE_TYPES = DUCKDB_TYPES | {Kind.TIMESTAMP: "timestamp"}
BATCH_ROWS = 131_072
# Measured: three exact percentiles of a reading hold about 60 bytes that cannot spill; half of the memory is for the rest.
BYTES_PER_READING = 60
MEMORY_SHARE = 0.5


@dataclass
class DuckDBDerived:
    """The computed rows, in a temporary table that only this connection sees."""

    transform: Transform
    connection: DuckDBPyConnection
    rows: int
    seconds: float
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        self.schema = pa.schema([pa.field(c.name, ARROW_TYPES[c.kind]) for c in self.transform.columns])

    def batches(self) -> pa.RecordBatchReader:
        reader = self.connection.sql("select * from derived").to_arrow_reader(BATCH_ROWS)
        return pa.RecordBatchReader.from_batches(self.schema, _typed(reader, self.schema))

    def duplicate_keys(self, keys: Sequence[str]) -> pa.Table:
        return self.connection.sql(duplicate_keys_sql("derived", keys)).to_arrow_table()

    def commit(
        self, lake: Lake, table: str, day: date | None, *, level: int, inputs: Mapping[str, int],
        metadata: Mapping[str, Any] | None = None,
    ) -> int:  # fmt: skip
        with explained(table):
            return lake.replace(table, day, self.batches(), level=level, inputs=inputs, metadata=metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()


class DuckDBEngine:
    """Runs each computation on a connection of its own, with views and tables that only it sees.

    The database behind them is one and stays open (opening one costs as much as a small date), so its memory limit
    holds for all computations of the process together.
    """

    name = "duckdb"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._spill: Path | None = None
        self._database: DuckDBPyConnection | None = None
        self._opening = Lock()

    def compute(self, transform: Transform, inputs: Inputs, params: Params) -> DuckDBDerived:
        began = time.perf_counter()
        connection = self._connect()
        try:
            with explained(transform.table):
                _register(connection, transform, inputs, params)
                slices = _slices(connection, transform, inputs)
                for number in range(slices):
                    _open_slice(connection, transform, number, slices)
                    _run(connection, transform, first=number == 0)
                rows = connection.sql("select count(*) from derived").fetchall()[0][0]
        except BaseException:
            connection.close()
            raise
        return DuckDBDerived(transform, connection, rows, time.perf_counter() - began)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._spill is not None:
            shutil.rmtree(self._spill, ignore_errors=True)
            self._spill = None

    def _connect(self) -> DuckDBPyConnection:
        with self._opening:
            if self._database is None:
                self._database = self._open()
            connection = self._database.cursor()
        connection.execute("set TimeZone = 'UTC'")
        return connection

    def _open(self) -> DuckDBPyConnection:
        import duckdb

        options: dict[str, Any] = {
            "memory_limit": self.settings.duckdb_memory,
            "temp_directory": str(self._spill_folder()),
        }
        if self.settings.duckdb_threads:
            options["threads"] = self.settings.duckdb_threads
        try:
            return Storage.of(self.settings).connect(options)
        except duckdb.Error as error:
            raise PlatformError(
                f"DuckDB does not start: {first_line(error)}", "Check IOT_DUCKDB_MEMORY and IOT_DUCKDB_THREADS."
            ) from None

    def _spill_folder(self) -> Path:
        """A folder of this engine alone: DuckDB names its spill files the same in every database."""
        if self._spill is None:
            parent = self.settings.home / "tmp"
            try:
                parent.mkdir(parents=True, exist_ok=True)
                _sweep(parent)
                self._spill = Path(tempfile.mkdtemp(prefix=f"duckdb-{os.getpid()}-", dir=parent))
            except OSError as error:
                raise PlatformError(
                    f"{parent} cannot be written: {error.strerror}", "Set IOT_HOME to a folder that you can write."
                ) from None
        return self._spill


def _sweep(parent: Path) -> None:
    """Remove what processes left behind that were killed in the middle."""
    import psutil

    for folder in parent.glob("duckdb-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _register(connection: DuckDBPyConnection, transform: Transform, inputs: Inputs, params: Params) -> None:
    connection.register("arrow_params", params.table())
    connection.execute(
        "create temp table params as select event_date, make_timestamp(epoch_us(day_start)) as day_start, "
        "make_timestamp(epoch_us(day_end)) as day_end, make_timestamp(epoch_us(processed_at)) as processed_at, "
        "pipeline_version from arrow_params"
    )
    if transform.clocks:
        connection.register("arrow_clocks", clocks_table(inputs))
        connection.execute(
            "create temp table clocks as select contract, make_timestamp(epoch_us(as_of)) as as_of from arrow_clocks"
        )
    for view, columns in view_columns(transform).items():
        rows = inputs[view]
        source = (
            _files_source(connection, columns, rows)
            if isinstance(rows, InputFiles)
            else _table_source(connection, view, columns, rows)
        )
        connection.execute(f"create temp view all_{view} as {source}")


def _table_source(connection: DuckDBPyConnection, view: str, columns: Sequence[Column], rows: pa.Table) -> str:
    connection.register(f"arrow_{view}", rows)
    return f"select {_select(columns, set(rows.column_names))} from arrow_{view}"


def _files_source(connection: DuckDBPyConnection, columns: Sequence[Column], rows: InputFiles) -> str:
    """A select per date: its date stands in the log, not in the files, and files of one date may lack newer columns."""
    snapshot = rows.snapshot
    chosen = set(snapshot.files(rows.days, after_seq=rows.after_seq))
    by_day: dict[date | None, list[str]] = {}
    for file in snapshot.active:
        if file.path in chosen and file.rows:
            by_day.setdefault(file.day, []).append(file.path)
    if not by_day:
        return f"select {_select(columns, set())} where false"
    selects: list[str] = []
    for day, paths in by_day.items():
        listed = ", ".join(_quoted(path) for path in paths)
        files = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
        present = {str(row[0]) for row in connection.sql(f"describe select * from {files}").fetchall()}
        constants = {snapshot.contract.partition: f"date '{day.isoformat()}'"} if day is not None else {}
        where = f" where ingest_seq > {rows.after_seq}" if rows.after_seq else ""
        chosen_columns = _select(columns, present, constants, promoting=snapshot.contract.name == PROMOTING)
        selects.append(f"select {chosen_columns} from {files}{where}")
    return " union all ".join(selects)


def _select(
    columns: Sequence[Column], present: set[str], constants: Mapping[Any, str] | None = None, *, promoting: bool = False
) -> str:
    """The columns in the engine's types; one that the source lacks is null, where ``promoting`` what extras kept."""
    parts: list[str] = []
    for column in columns:
        kind = ENGINE_TYPES[column.kind]
        if constants and column.name in constants:
            value = constants[column.name]
        elif column.name not in present:
            value = f"null::{kind}"
        elif column.kind is Kind.TIMESTAMP:
            value = f'make_timestamp(epoch_us("{column.name}"))'
        else:
            value = f'"{column.name}"::{kind}'
        parts.append(f'{duckdb_value(column.name, value) if promoting else value} as "{column.name}"')
    return ", ".join(parts)


def _slices(connection: DuckDBPyConnection, transform: Transform, inputs: Inputs) -> int:
    """How many slices keep what cannot spill within the memory limit."""
    if not transform.sliced:
        return 1
    rows = 0
    for item in transform.inputs:
        source = inputs[item.view]
        rows += _count(source) if isinstance(source, InputFiles) else source.num_rows
    limit = _bytes(connection.sql("select current_setting('memory_limit')").fetchall()[0][0])
    return max(1, -(-rows * BYTES_PER_READING // int(limit * MEMORY_SHARE)))


def _count(source: InputFiles) -> int:
    chosen = set(source.snapshot.files(source.days, after_seq=source.after_seq))
    return sum(file.rows for file in source.snapshot.active if file.path in chosen)


def _open_slice(connection: DuckDBPyConnection, transform: Transform, number: int, slices: int) -> None:
    for view in view_columns(transform):
        where = f" where hash({transform.slice_by}) % {slices} = {number}" if slices > 1 else ""
        connection.execute(f"create or replace temp view {view} as select * from all_{view}{where}")


def _run(connection: DuckDBPyConnection, transform: Transform, *, first: bool) -> None:
    columns = ", ".join(f'"{c.name}"::{ENGINE_TYPES[c.kind]} as "{c.name}"' for c in transform.columns)
    order = ", ".join(transform.contract.sort)
    target = "create temp table derived as" if first else "insert into derived"
    connection.execute(f"{target} select {columns} from (\n{transform.sql}\n) made order by {order}")


def _typed(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        yield batch.cast(schema)


@contextmanager
def explained(table: str) -> Iterator[None]:
    """Turn DuckDB's failures of files and memory into errors that say what to do; others are defects and pass."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise PlatformError(
            f"{table}: DuckDB ran out of memory: {first_line(error)}",
            "Raise IOT_DUCKDB_MEMORY, or run with IOT_ENGINE=spark.",
        ) from None
    except duckdb.Error as error:
        if not is_failed_read(error):
            raise
        raise LakeError(
            f"{table}: DuckDB cannot read an input or write its spill files: {first_line(error)}",
            "Check the disk or the bucket; restore a damaged file from a backup. What was committed before stands.",
        ) from None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _bytes(text: str) -> int:
    """``3.7 GiB`` in bytes."""
    number, unit = re.fullmatch(r"([\d.]+)\s*(\w+)", text.strip()).groups()  # pyright: ignore[reportOptionalMemberAccess]
    powers = {"bytes": 0, "byte": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4}
    return int(float(number) * 1024 ** powers[unit])
