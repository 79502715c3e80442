"""The Spark engine: the same SQL texts on Spark, local or on a cluster. Its workers write; the lake commits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from iot_platform.contracts import promoted
from iot_platform.contracts.arrow import ARROW_TYPES
from iot_platform.contracts.duckdb import PROMOTING
from iot_platform.contracts.tables import Column
from iot_platform.engines.protocol import (
    InputFiles,
    Inputs,
    Params,
    clocks_table,
    duplicate_keys_sql,
    view_columns,
)
from iot_platform.engines.session import first_line
from iot_platform.engines.spark_files import DateWriter, read_files, write_files
from iot_platform.errors import InputError, LakeError
from iot_platform.lake import Lake
from iot_platform.lake.data_files import replace_by_files
from iot_platform.lake.lake import refuse_older
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import Transform

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# A Delta file of about this many rows; and what a driver takes at once when rows are handed to Python.
FILE_ROWS = 2_000_000
CHUNK_ROWS = 500_000


@dataclass
class SparkDerived:
    """The computed rows, cached by Spark (memory, then its local disk)."""

    transform: Transform
    session: SparkSession
    frame: DataFrame
    rows: int
    seconds: float
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        self.schema = pa.schema([pa.field(c.name, ARROW_TYPES[c.kind]) for c in self.transform.columns])

    def batches(self) -> pa.RecordBatchReader:
        """As the protocol says; more than ``CHUNK_ROWS`` rows come in chunks by key, each sorted by itself."""
        return pa.RecordBatchReader.from_batches(self.schema, self._stream())

    def _stream(self) -> Iterator[pa.RecordBatch]:
        from pyspark.sql import functions as f

        chunks = max(1, -(-self.rows // CHUNK_ROWS))
        chunk_of = f.pmod(f.xxhash64(*self.transform.contract.keys), f.lit(chunks))
        for number in range(chunks):
            part = self.frame if chunks == 1 else self.frame.where(chunk_of == number)
            table = part.orderBy(*self.transform.contract.sort).toArrow()
            yield from table.cast(self.schema).to_batches()

    def duplicate_keys(self, keys: Sequence[str]) -> pa.Table:
        self.frame.createOrReplaceTempView("derived")
        return self.session.sql(duplicate_keys_sql("derived", keys)).toArrow()

    def commit(
        self, lake: Lake, table: str, day: date | None, *, level: int, inputs: Mapping[str, int],
        metadata: Mapping[str, Any] | None = None,
    ) -> int:  # fmt: skip
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException

        # What is older than recorded is not worth writing; that is looked at again when it is committed.
        refuse_older(lake.snapshot(table), day, level)
        contract = lake.contract(table)
        sort = list(contract.sort)
        files = max(1, -(-self.rows // FILE_ROWS))
        laid = self.frame.coalesce(1) if files == 1 else self.frame.repartitionByRange(files, *sort)
        try:
            written = write_files(laid.sortWithinPartitions(*sort), DateWriter(lake.storage, contract, day))
        except (PySparkException, Py4JJavaError) as error:
            raise LakeError(
                f"{table}: Spark cannot write to {lake.path(table)} ({first_line(error)})",
                "Check that the disk is there, writable and not full; what was committed before stands.",
            ) from None
        return replace_by_files(lake, table, day, written, level=level, inputs=inputs, metadata=metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.frame.unpersist()


class SparkEngine:
    """Runs each computation in a Spark session of its own (views and options), on one shared context."""

    name = "spark"

    def __init__(
        self, settings: Settings, session: SparkSession | None = None, *, start: Callable[[], SparkSession] | None = None
    ) -> None:
        """``session``: one that runs already and stays its owner's; else one is started when first needed, by ``start``."""
        self.settings = settings
        self._start = start
        self._owned: SparkSession | None = None
        self._given = session
        self._reaches_lake = False

    def compute(self, transform: Transform, inputs: Inputs, params: Params) -> SparkDerived:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException

        began = time.perf_counter()
        session = self._session().newSession()
        self._check_reach(session)
        # Whole microseconds in Parquet, as the contracts say; Spark's own default is a deprecated form of 96 bits.
        session.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        session.conf.set("spark.sql.session.timeZone", "UTC")
        try:
            self._open(session, transform, inputs, params)
            frame = session.sql(transform.sql).select(*_typed(transform.columns)).persist()
            rows = frame.count()
        except (PySparkException, Py4JJavaError) as error:
            if not _is_input_failure(error):
                raise
            raise LakeError(
                f"{transform.table}: Spark cannot read an input: {first_line(error)}",
                "Check the disk; restore a damaged file from a backup. What was committed before stands.",
            ) from None
        return SparkDerived(transform, session, frame, rows, time.perf_counter() - began)

    def close(self) -> None:
        if self._owned is not None:
            self._owned.stop()
            self._owned = None

    def _session(self) -> SparkSession:
        if self._given is not None:
            return self._given
        if self._owned is None:
            from pyspark.sql import SparkSession

            from iot_platform.engines.session import build_spark

            running = SparkSession.getActiveSession()
            if running is not None:  # started by somebody else in this process, and theirs to stop
                return running
            self._owned = build_spark(self.settings, start=self._start)
        return self._owned

    def _check_reach(self, session: SparkSession) -> None:
        """Spark reads by itself: a lake that it has no file system for is said before anything is tried."""
        from py4j.protocol import Py4JJavaError

        scheme, separator, _ = self.settings.lake_root.partition("://")
        if self._reaches_lake or not separator:
            return
        context: Any = session.sparkContext
        try:
            context._jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(scheme, context._jsc.hadoopConfiguration())
        except Py4JJavaError:
            raise InputError(
                f"IOT_ENGINE=spark needs a lake on a file system that Spark reaches, and this Spark has none for {scheme}://",
                "Let the platform start Spark, or give spark-submit the jars that docs/cluster.md names.",
            ) from None
        self._reaches_lake = True

    def _open(self, session: SparkSession, transform: Transform, inputs: Inputs, params: Params) -> None:
        session.createDataFrame(params.table()).createOrReplaceTempView("params")
        if transform.clocks:
            session.createDataFrame(clocks_table(inputs)).createOrReplaceTempView("clocks")
        for view, columns in view_columns(transform).items():
            rows = inputs[view]
            frame = (
                _promoted(read_files(session, rows), rows)
                if isinstance(rows, InputFiles)
                else session.createDataFrame(_in_contract(rows, columns))
            )
            present = set(frame.columns)
            frame.select(*_typed(columns, present)).createOrReplaceTempView(view)


def _promoted(frame: DataFrame, rows: InputFiles) -> DataFrame:
    """With what ``extras`` kept of columns that older rows lack, where the contracts say so."""
    from pyspark.sql import functions as f

    if rows.snapshot.contract.name != PROMOTING or not promoted.KEPT:
        return frame
    return frame.select(*(f.expr(promoted.spark_value(name, f"`{name}`")).alias(name) for name in frame.columns))


def _in_contract(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """The columns in the contract's Arrow types; one that the table lacks is null."""
    names = set(rows.column_names)
    return pa.table(
        {
            c.name: rows[c.name].cast(ARROW_TYPES[c.kind])
            if c.name in names
            else pa.nulls(rows.num_rows, ARROW_TYPES[c.kind])
            for c in columns
        }
    )


def _typed(columns: Sequence[Column], present: set[str] | None = None) -> list[Any]:
    from pyspark.sql import functions as f

    from iot_platform.contracts.spark import SPARK_TYPES

    return [
        (f.col(f"`{c.name}`") if present is None or c.name in present else f.lit(None))
        .cast(SPARK_TYPES[c.kind])
        .alias(c.name)
        for c in columns
    ]


def _is_input_failure(error: Exception) -> bool:
    text = str(error)
    return any(sign in text for sign in ("FAILED_READ_FILE", "FileNotFound", "PATH_NOT_FOUND", "not a Parquet file"))
