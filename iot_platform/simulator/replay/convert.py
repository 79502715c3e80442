"""A row into messages, by a mapping. Pure: no file and no broker; the contract's own parser has the last word.

A mapping is compiled once a file (``Converter``), because columns have other positions in every file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from iot_platform.contracts.json_text import dump
from iot_platform.contracts.parse import ParseRules, Reading, Refusal, parse_value
from iot_platform.contracts.timestamps import render
from iot_platform.contracts.wire import Json, MetricFields, MetricMap, MetricNamed
from iot_platform.errors import InputError
from iot_platform.simulator.replay.mapping import VARIABLE, Column, Mapping, Target, target_of, time_column, time_field
from iot_platform.simulator.replay.rows import Cells as RowCells
from iot_platform.simulator.replay.rows import Row, Rows
from iot_platform.simulator.replay.values import CellError, Cells

Message = dict[str, Any]
Fill = Callable[[RowCells, Message, str], None]  # a row's cells, the message, the molten metric


@dataclass(frozen=True)
class Converted:
    """One message of a row, ready to send, with what ingestion will make of it."""

    value: bytes
    readings: Sequence[Reading]

    @property
    def device_id(self) -> str:
        return self.readings[0].device_id


@dataclass
class RowResult:
    """What became of a row. None of both lists filled: every molten cell was missing, which is no fault."""

    messages: list[Converted] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)  # reason, detail


class Converter:
    """Makes messages of one file's rows; ``InputError`` when the file lacks a column that the mapping names."""

    def __init__(self, mapping: Mapping, rows: Rows, variables: dict[str, str], arrival_us: int, rules: ParseRules) -> None:
        self._mapping = mapping
        self._contract = mapping.wire
        self._cells = Cells(mapping.decimal, mapping.missing)
        self._arrival_us = arrival_us
        self._rules = rules
        self._time = self._time_filler(rows)
        self._fills = [self._time, *self._column_fillers(rows), *self._set_fillers(rows, variables)]
        self._melt = [(metric, rows.getter(column)) for metric, column in mapping.melt.items()]

    def convert(self, row: Row) -> RowResult:
        """The row's messages, and why there are not more."""
        result = RowResult()
        if row.problem:
            result.rejected.append(("bad_row", row.problem))
        elif self._melt:
            self._molten(row, result)
        else:
            self._whole(row, result)
        return result

    def _whole(self, row: Row, result: RowResult) -> None:
        try:
            self._finish(self._message(row, ""), result)
        except CellError as error:
            result.rejected.append((error.reason, str(error)))

    def _molten(self, row: Row, result: RowResult) -> None:
        for metric, get in self._melt:
            cell = get(row.cells)
            if self._cells.is_missing(cell):
                continue
            try:
                number = self._cells.number(cell, metric)
                message = self._message(row, metric)
                self._measure(message, metric, number)
                self._finish(message, result)
            except CellError as error:
                refused = (error.reason, str(error))
                if refused not in result.rejected:  # a bad time is the row's, not each cell's
                    result.rejected.append(refused)

    def _message(self, row: Row, metric: str) -> Message:
        message: Message = {}
        for fill in self._fills:
            fill(row.cells, message, metric)
        return message

    def _finish(self, message: Message, result: RowResult) -> None:
        value = dump(message).encode()
        readings = parse_value(self._contract, value, arrival_us=self._arrival_us, rules=self._rules)
        if isinstance(readings, Refusal):
            result.rejected.append((readings.reason, readings.detail))
        else:
            result.messages.append(Converted(value, readings))

    def _measure(self, message: Message, metric: str, number: float) -> None:
        match self._contract.shape:
            case MetricNamed(name_field=name, value_field=value):
                message.setdefault(name, metric)
                message[value] = number
            case MetricMap(field=name):
                message[name] = {metric: number}
            case MetricFields():
                target = target_of(self._contract, metric)
                assert target is not None  # the mapping was checked
                message[target.path[0]] = number

    def _time_filler(self, rows: Rows) -> Fill:
        form = self._mapping.timestamp
        column = time_column(self._mapping)
        columns = form.columns if column is None else [column]
        getters = [rows.getter(name) for name in columns]
        read = self._cells.time_reader(form)
        path = time_field(self._contract).path
        names = ", ".join(str(name) for name in columns)

        def fill(cells: RowCells, message: Message, _: str) -> None:
            parts = [get(cells) for get in getters]
            if any(self._cells.is_missing(part) for part in parts):
                raise CellError("missing_field", f"no timestamp: {names} is missing")
            _put(message, path, render(read(parts)))

        return fill

    def _column_fillers(self, rows: Rows) -> Iterator[Fill]:
        for name, column in self._mapping.columns.items():
            target = target_of(self._contract, name)
            assert target is not None  # the mapping was checked
            if target.json is not Json.TIMESTAMP:
                yield self._column_filler(name, target, column, rows)

    def _column_filler(self, name: str, target: Target, column: Column, rows: Rows) -> Fill:
        get, read = rows.getter(column), self._reader(target)
        required = any(wire.required and wire.path == target.path for wire in self._contract.fields)

        def fill(cells: RowCells, message: Message, _: str) -> None:
            cell = get(cells)
            if not self._cells.is_missing(cell):
                _put(message, target.path, read(cell, name))
            elif required:
                raise CellError("missing_field", f"{name} is missing (column {column})")

        return fill

    def _reader(self, target: Target) -> Callable[[Any, str], Any]:
        if target.json is Json.NUMBER:
            return self._cells.number
        return self._cells.text

    def _set_fillers(self, rows: Rows, variables: dict[str, str]) -> Iterator[Fill]:
        for name, value in self._mapping.set.items():
            target = target_of(self._contract, name)
            assert target is not None  # the mapping was checked
            yield self._set_filler(name, target, value, rows, variables)

    def _set_filler(
        self, name: str, target: Target, value: str | float, rows: Rows, variables: dict[str, str]
    ) -> Fill:  # fmt: skip
        plain = Cells(".", [])
        read = plain.number if target.json is Json.NUMBER else plain.text
        if not isinstance(value, str):
            constant = read(value, name)
            return lambda _cells, message, _metric: _put(message, target.path, constant)
        pieces = VARIABLE.split(value)
        parts = [self._variable(name, piece, rows, variables) if index % 2 else piece for index, piece in enumerate(pieces)]

        def fill(cells: RowCells, message: Message, metric: str) -> None:
            text = "".join(part if isinstance(part, str) else part(cells, metric) for part in parts)
            _put(message, target.path, read(text, name))

        return fill

    def _variable(
        self, name: str, variable: str, rows: Rows, variables: dict[str, str]
    ) -> str | Callable[[RowCells, str], str]:  # fmt: skip
        """A variable of a template: the molten metric, a piece of the path (text at once), or a column of the row."""
        if variable == "metric" and self._mapping.melt:
            return lambda _, metric: metric
        if variable in variables:
            return variables[variable]
        if variable not in rows.names():
            known = [*variables, *(["metric"] if self._mapping.melt else []), *rows.names()]
            there = ", ".join(known) or "no variables"
            raise InputError(f"set.{name}: there is no {{{variable}}}; there are {there}", "Correct the mapping")
        get = rows.getter(variable)

        def of_row(cells: RowCells, _: str) -> str:
            cell = get(cells)
            if self._cells.is_missing(cell):
                raise CellError("missing_field", f"{name}: column {variable} is missing")
            return self._cells.text(cell, variable)

        return of_row


def _put(message: Message, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        message = message.setdefault(key, {})
    message[path[-1]] = value


def mapping_name(stem: str) -> str:
    """A mapping file's name as part of other files' names."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem) or "mapping"
