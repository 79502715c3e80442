"""What a cell says: a number exactly as written, a text, a time. Pure; ``CellError`` says what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from iot_platform.simulator.replay.mapping import EPOCHS, TimestampForm

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class CellError(Exception):
    """A cell that is not what it should be: ``reason`` for programs, the text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Cells:
    """Reads cells by the conventions of one mapping: its decimal character and its marks for what is missing."""

    def __init__(self, decimal: str, missing: list[str]) -> None:
        self._decimal = decimal
        point = re.escape(decimal)
        self._number = re.compile(rf"[+-]?(?:[0-9]+(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?")
        self._marks = {mark.strip() for mark in missing}
        self._missing_numbers = {self._parse(mark.strip()) for mark in missing if self._number.fullmatch(mark.strip())}

    def is_missing(self, cell: Any) -> bool:
        """Whether the cell holds nothing, or one of the marks (as text; a number also by its value)."""
        if cell is None:
            return True
        if isinstance(cell, str):
            text = cell.strip()
            if text in self._marks:
                return True
            is_number = self._missing_numbers and self._number.fullmatch(text)
            return bool(is_number) and self._parse(text) in self._missing_numbers
        if isinstance(cell, float) and math.isnan(cell):
            return True
        return not isinstance(cell, bool) and isinstance(cell, int | float) and cell in self._missing_numbers

    def number(self, cell: Any, name: str) -> int | float:
        """The number as written: 21.10 is 21.1, a whole number stays whole."""
        if isinstance(cell, str):
            text = cell.strip()
            if not self._number.fullmatch(text):
                raise CellError("wrong_type", f"{name} is no number: {cell[:60]!r}")
            number = self._parse(text)
        elif isinstance(cell, int | float) and not isinstance(cell, bool):
            number = cell
        elif isinstance(cell, Decimal):
            number = float(cell)
        else:
            raise CellError("wrong_type", f"{name} is no number: {str(cell)[:60]!r}")
        if isinstance(number, float) and not math.isfinite(number):
            raise CellError("not_finite", f"{name} is beyond every number: {str(cell)[:60]!r}")
        return number

    def _parse(self, text: str) -> int | float:
        plain = text.replace(self._decimal, ".")
        return int(plain) if plain.lstrip("+-").isdigit() and len(plain) < 300 else float(plain)

    def text(self, cell: Any, name: str) -> str:
        if isinstance(cell, str):
            return cell.strip()
        if isinstance(cell, bool | int | float | Decimal | date):
            return str(cell)
        raise CellError("wrong_type", f"{name} is no text: {str(cell)[:60]!r}")

    def time_reader(self, form: TimestampForm) -> Callable[[list[Any]], int]:
        """Reads cells (joined by a space) as epoch µs; a time without a zone is in the form's."""
        zone = UTC if form.timezone == "UTC" else ZoneInfo(form.timezone)
        if form.format in EPOCHS:
            factor = EPOCHS[form.format]
            return lambda cells: self._epoch(cells, factor)

        def read(cells: list[Any]) -> int:
            if len(cells) == 1 and isinstance(cells[0], datetime):
                return _to_us(cells[0], zone)
            text = " ".join(self.text(cell, "timestamp") for cell in cells)
            try:
                time = datetime.fromisoformat(text) if form.format == "iso" else datetime.strptime(text, form.format)  # noqa: DTZ007
            except ValueError:
                raise CellError("bad_timestamp", f"no time of the form {form.format}: {text[:60]!r}") from None
            return _to_us(time, zone)

        return read

    def _epoch(self, cells: list[Any], factor: int) -> int:
        text = " ".join(self.text(cell, "timestamp") for cell in cells)
        try:
            us = round(Decimal(text.replace(self._decimal, ".")) * factor)
            EPOCH + us * _MICROSECOND  # pyright: ignore[reportUnusedExpression] - only asks whether there is such a time
        except (InvalidOperation, OverflowError, ValueError):
            raise CellError("bad_timestamp", f"no count of time: {text[:60]!r}") from None
        return us


def _to_us(time: datetime, zone: ZoneInfo | Any) -> int:
    if time.tzinfo is None:
        local = time.replace(tzinfo=zone)
        if zone is not UTC and local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != time:
            raise CellError("bad_timestamp", f"{time} never was in {zone}: clocks were put forward")
        time = local
    return (time - EPOCH) // _MICROSECOND
