"""The rows of a file, one at a time: CSV, JSON lines or Parquet. What a cell means is ``convert``'s.

A row that is none (a broken line) comes out too, with its ``problem``: nothing disappears here.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Protocol

from iot_platform.errors import InputError
from iot_platform.simulator.replay.files import PACKED, SourceFile, broken_archive_errors, opened, unreadable
from iot_platform.simulator.replay.mapping import Column, Mapping

LONGEST_LINE = 16 * 1024 * 1024
PARQUET_ROWS = 20_000
# Bytes that the encoding does not know come through decoding as these.
_UNKNOWN_BYTES = re.compile("[\udc80-\udcff]")
Cells = Any
Getter = Callable[[Cells], Any]


@dataclass(slots=True)
class Row:
    """One row: its line (from 1, a header counts; for Parquet the row) and cells; or what is wrong with it.

    ``raw``: the row as it stands in the file, for the rejects file.
    """

    line: int
    cells: Cells
    raw: Any
    problem: str = ""


class Rows(Protocol):
    """An opened file of rows."""

    def getter(self, column: Column) -> Getter:
        """How a cell is taken from a row's cells (None: not there); ``InputError`` when the file has no such column."""
        ...

    def names(self) -> list[str]:
        """The column names; empty where there are none."""
        ...

    def __iter__(self) -> Iterator[Row]: ...


def open_rows(source: SourceFile, mapping: Mapping, stack: ExitStack) -> Rows:
    """Open a file; ``stack`` closes it. Raises ``InputError`` when it cannot be read or is not what its ending says."""
    file = stack.enter_context(opened(source))
    try:
        match source.format:
            case "csv":
                return CsvRows(source, file, mapping)
            case "jsonl":
                return JsonRows(source, file, mapping)
            case "parquet":
                return ParquetRows(source, _seekable(source, file, stack))
    except (OSError, UnicodeDecodeError, *broken_archive_errors()) as error:
        raise unreadable(source, error) from None


def _seekable(source: SourceFile, file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """Parquet is read from its end: a packed file is unpacked to disk first."""
    if source.path.suffix.lower() not in PACKED:
        return file
    unpacked = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    shutil.copyfileobj(file, unpacked)
    unpacked.seek(0)
    return unpacked


def read_all(rows: Rows) -> Iterator[Row]:
    """The rows, and one with a problem at the end where the file breaks off."""
    line = 0
    try:
        for row in rows:
            line = row.line
            yield row
    except (OSError, UnicodeError, *broken_archive_errors()) as error:
        yield Row(line + 1, {}, None, f"the rest of the file cannot be read: {error}")


class _Lines:
    """Lines of a text with their numbers; remembers those of the row that is being read, and takes lines back."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._returned: deque[str] = deque()
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return line

    def take_back_all_but_first(self) -> None:
        self._returned.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        del self.taken[1:]


class CsvRows:
    """A CSV file; another number of fields than the header has is a problem, so is a byte outside the encoding."""

    def __init__(self, source: SourceFile, file: IO[bytes], mapping: Mapping) -> None:
        self._source = source
        self._mapping = mapping
        encoding = "utf-8-sig" if mapping.encoding == "utf-8" else mapping.encoding
        text = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="")
        self._lines = _Lines(text)
        self._header: list[str] = []
        self._needed = 0
        if mapping.header:
            first = next(iter(self), None)
            if first and first.problem:
                raise InputError(
                    f"{source.path}: the header cannot be read: {first.problem}", "Correct delimiter or encoding"
                )
            self._header = [name.strip() for name in first.cells] if first else []

    def names(self) -> list[str]:
        return list(self._header)

    def getter(self, column: Column) -> Getter:
        if isinstance(column, int):
            position = column
            if self._header and position >= len(self._header):
                raise InputError(
                    f"{self._source.path} has {len(self._header)} columns, no position {position}", "Correct the mapping"
                )
        else:
            found = [index for index, name in enumerate(self._header) if name == column.strip()]
            if self._header and len(found) != 1:
                raise _no_column(self._source, column, self._header, twice=len(found) > 1)
            position = found[0] if found else 0  # an empty file has neither header nor rows
        self._needed = max(self._needed, position + 1)
        return lambda cells: cells[position]

    def __iter__(self) -> Iterator[Row]:
        reader = self._reader()
        while True:
            self._lines.taken = []
            line = self._lines.number + 1
            problem, cells = "", []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = str(error)
            if not cells and not problem:
                continue  # an empty line is no row
            problem = problem or self._wrong_width(cells)
            if problem and len(self._lines.taken) > 1:
                # A quote that is never closed must not swallow the good lines after it.
                self._lines.take_back_all_but_first()
                problem, reader = f"a quote is not closed, or {problem}", self._reader()
            raw = "".join(self._lines.taken).rstrip("\r\n")
            if not raw.isascii() and (unknown := _UNKNOWN_BYTES.search(raw)):
                problem = f"byte 0x{ord(unknown[0]) - 0xDC00:02x} is no {self._mapping.encoding}"
            yield Row(line, cells, raw, problem)

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._lines, delimiter=self._mapping.delimiter, strict=True)

    def _wrong_width(self, cells: list[str]) -> str:
        if self._header and len(cells) != len(self._header):
            return f"{len(cells)} fields, the header has {len(self._header)}"
        if len(cells) < self._needed:
            return f"{len(cells)} fields, {self._needed} are needed"
        return ""


class JsonRows:
    """JSON lines: one object a line; a dotted column name reaches into objects."""

    def __init__(self, source: SourceFile, file: IO[bytes], mapping: Mapping) -> None:
        self._file = file
        self._encoding = "utf-8-sig" if mapping.encoding == "utf-8" else mapping.encoding
        self._first = file.readline(LONGEST_LINE)
        if mapping.by_position:
            raise InputError(f"{source.path}: JSON lines have names, no positions", "Name the columns in the mapping")

    def names(self) -> list[str]:
        return []

    def getter(self, column: Column) -> Getter:
        name = str(column)
        path = name.split(".")

        def get(cells: dict[str, Any]) -> Any:
            if name in cells:
                return cells[name]
            node: Any = cells
            for key in path:
                node = node.get(key) if isinstance(node, dict) else None
            return node

        return get

    def __iter__(self) -> Iterator[Row]:
        line, number = self._first, 0
        while line:
            number += 1
            if line.strip():
                yield self._row(number, line)
            line = self._file.readline(LONGEST_LINE)

    def _row(self, number: int, line: bytes) -> Row:
        text = ""
        try:
            text = line.decode(self._encoding).strip()
            cells = json.loads(text, parse_constant=_no_number)
        except UnicodeDecodeError as error:
            return Row(number, {}, line.decode("ascii", "backslashreplace").rstrip(), f"no {error.encoding}: {error.reason}")
        except (ValueError, RecursionError) as error:
            return Row(number, {}, text, f"no JSON: {error}")
        return Row(number, cells, text, "" if isinstance(cells, dict) else "no JSON object")


def _no_number(literal: str) -> float:
    raise ValueError(f"{literal} is no JSON number")


class ParquetRows:
    """A Parquet file, read in batches; columns by name or position."""

    def __init__(self, source: SourceFile, file: IO[bytes]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._source = source
        try:
            self._file = pq.ParquetFile(file)
        except pa.ArrowException as error:
            raise unreadable(source, error) from None
        self._names: list[str] = self._file.schema_arrow.names

    def names(self) -> list[str]:
        return list(self._names)

    def getter(self, column: Column) -> Getter:
        if isinstance(column, int) and column >= len(self._names):
            raise InputError(
                f"{self._source.path} has {len(self._names)} columns, no position {column}", "Correct the mapping"
            )
        name = self._names[column] if isinstance(column, int) else column
        if name not in self._names:
            raise _no_column(self._source, name, self._names)
        return lambda cells: cells.get(name)

    def __iter__(self) -> Iterator[Row]:
        import pyarrow as pa

        number = 0
        try:
            for batch in self._file.iter_batches(batch_size=PARQUET_ROWS):
                for cells in _in_microseconds(batch).to_pylist():
                    number += 1
                    yield Row(number, cells, cells)
        except pa.ArrowException as error:
            raise OSError(str(error)) from None


def _in_microseconds(batch: Any) -> Any:
    """Python has no nanoseconds: such times are cut to microseconds."""
    import pyarrow as pa

    columns = [
        column.cast(pa.timestamp("us", column.type.tz), safe=False) if pa.types.is_timestamp(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _no_column(source: SourceFile, column: str, names: list[str], *, twice: bool = False) -> InputError:
    what = "has more than one column" if twice else "has no column"
    return InputError(f"{source.path} {what} {column!r}; it has {', '.join(names)}", "Correct the mapping")
