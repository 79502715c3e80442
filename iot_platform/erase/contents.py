"""Looks for a device's id in a file: in its bytes as they lie there; of Parquet and DuckDB in what they decode to.

What belongs here: reading one file, in pieces, whatever its size. Which files, and what becomes of them, others say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iot_platform.erase.trace import Trace

PIECE = 8 * 2**20
ROWS_AT_ONCE = 16_384
ROWS_OF_BYTES = 128  # raw messages: a megabyte each, or more
AROUND = 4096  # bytes on both sides of a piece's end, so that no token is cut


class Opener(Protocol):
    """pyarrow's file system, as far as it is needed here."""

    def open_input_file(self, path: str) -> Any: ...


class Disk:
    """Files of this machine."""

    @staticmethod
    def open_input_file(path: str) -> pa.NativeFile:
        return pa.OSFile(path)


def bytes_name(files: Opener, path: str, trace: Trace) -> bool:
    """Whether the file's bytes hold the id as a token."""
    with files.open_input_file(path) as file:
        tail = b""
        while piece := file.read(PIECE):
            if trace.is_in(tail + piece):
                return True
            tail = piece[-AROUND:]
    return False


def parquet_names(files: Opener, path: str, trace: Trace, passed: Collection[str] = ()) -> bool:
    """Whether any decoded value of a Parquet file, at whatever depth, holds the id as a token; ``passed``: columns that are
    not looked at.

    Its compressed bytes say nothing: they may cut any other text so that the id seems to stand there.
    """
    with files.open_input_file(path) as file:
        parquet = pq.ParquetFile(file)
        names = [field.name for field in parquet.schema_arrow if _holds_text(field.type) and field.name not in passed]
        rows = ROWS_OF_BYTES if any(holds_bytes(field.type) for field in parquet.schema_arrow) else ROWS_AT_ONCE
        for batch in parquet.iter_batches(rows, columns=names):
            if any(any(trace.is_in(text) for text in likely(column, trace)) for column in batch.columns):
                return True
    return False


def likely(column: pa.Array, trace: Trace) -> Iterator[str | bytes]:
    """The values of a column, of whatever depth, that contain the id, be it a token or not."""
    kind = column.type
    if pa.types.is_struct(kind):
        for child in column.flatten():
            yield from likely(child, trace)
    elif pa.types.is_map(kind):
        yield from likely(column.keys, trace)
        yield from likely(column.items, trace)
    elif _is_list(kind):
        yield from likely(column.flatten(), trace)
    elif pa.types.is_dictionary(kind):
        yield from likely(column.dictionary, trace)
    elif _is_view(kind):  # what delta-rs writes when it deletes
        yield from likely(column.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()), trace)
    elif _is_text(kind):
        for needle in trace.needles:
            found = pc.call_function("match_substring", [column], pc.MatchSubstringOptions(needle))
            yield from column.filter(found).to_pylist()


def duckdb_names(path: Path, trace: Trace, passed: Collection[str] = ()) -> list[str]:
    """The tables of a DuckDB file, as ``schema.table``, of which a value holds the id as a token; ``passed`` as above."""
    import duckdb

    found: list[str] = []
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where not internal order by all"
        ).fetchall()
        for schema, table in tables:
            # A cursor each: one that was left before its end would keep the next from beginning.
            rows = connection.cursor().table(f'"{schema}"."{table}"').to_arrow_reader(ROWS_AT_ONCE)
            names = [field.name for field in rows.schema if _holds_text(field.type) and field.name not in passed]
            if any(trace.is_in(text) for batch in rows for name in names for text in likely(batch.column(name), trace)):
                found.append(f"{schema}.{table}")
    return found


def holds_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_view(kind: pa.DataType) -> bool:
    return pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    return any(
        check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_text(kind.field(number).type) for number in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _holds_text(kind.key_type) or _holds_text(kind.item_type)
    if _is_list(kind):
        return _holds_text(kind.value_type)
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return _is_text(kind) or _is_view(kind)
