"""Timestamps on the wire: ISO 8601 with a zone, or epoch seconds, milliseconds, microseconds told apart by magnitude.

All results are microseconds since 1970-01-01T00:00:00Z. A *style* names how a timestamp was written, so that the text can
be given back from the microseconds; the canonical one (UTC, ``Z``, no more than milli- or microseconds) needs no style.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from iot_platform.contracts.refusal import Refused, shown

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
_SECOND = timedelta(seconds=1)
_CANONICAL = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.(?!000)[0-9]{3}|\.[0-9]{3}(?!000)[0-9]{3})?Z"
)
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,]([0-9]+))?)?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)"
    r"|[0-9]{8}[Tt][0-9]{4}(?:[0-9]{2}(?:[.,]([0-9]+))?)?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)"
)
# Seconds reach the year 5138, milliseconds begin in 1973: no time after the first partition is ambiguous.
_MAGNITUDES = ((1e11, "s", 1_000_000), (1e14, "ms", 1_000), (1e17, "us", 1))
_UNITS = {name: factor for _, name, factor in _MAGNITUDES}


def timestamp_us(value: object, field: str) -> tuple[int, str | None]:
    """The time and its style (``""``: canonical; None: no style gives the same text back, keep the original).

    Raises ``Refused``: ``bad_timestamp`` for a text or number that is no time, ``wrong_type`` for anything else.
    """
    if value.__class__ is str:
        return _from_text(value, field)  # pyright: ignore[reportArgumentType]
    if value.__class__ is int or value.__class__ is float:
        return _from_number(value, field)  # pyright: ignore[reportArgumentType]
    raise Refused("wrong_type", f"{field}: a text or a number is expected")


def _from_text(text: str, field: str) -> tuple[int, str | None]:
    canonical = _CANONICAL.fullmatch(text) is not None
    if not canonical and _ISO.fullmatch(text) is None:
        raise Refused("bad_timestamp", f"{field}: no ISO 8601 time with a zone: {shown(text)}")
    try:
        moment = datetime.fromisoformat(text if canonical else text.upper())
        since = moment - EPOCH
    except (ValueError, OverflowError):
        raise Refused("bad_timestamp", f"{field}: no such time: {shown(text)}") from None
    us = since.days * DAY_US + since.seconds * 1_000_000 + since.microseconds
    if canonical:
        return us, ""
    style = _style_of(text)
    return us, style if style and render(us, style) == text else None


def _from_number(number: float, field: str) -> tuple[int, str | None]:
    size = abs(number)
    for limit, style, factor in _MAGNITUDES:
        if size < limit:
            if isinstance(number, int):
                return number * factor, style
            us = round(number * factor)
            return us, f"{style}." if us / factor == number else None
    raise Refused("bad_timestamp", f"{field}: no epoch in s, ms or µs: {shown(number)}")


def _style_of(text: str) -> str | None:
    """``<digits of the fraction><zone as written>``, for the long form with ``T``."""
    match = _ISO.fullmatch(text)
    digits = len(match[1] or "") if match else 0
    return f"{digits}{match[2]}" if match and match[2] and digits <= 6 else None


def render(us: int, style: str = "") -> str | float:
    """The timestamp as it was written, from its microseconds and its style (``s``: whole seconds, ``s.``: with fraction)."""
    if style.rstrip(".") in _UNITS:
        factor = _UNITS[style.rstrip(".")]
        return us / factor if style.endswith(".") else us // factor
    digits, zone = (int(style[0]), style[1:]) if style else (_needed_digits(us), "Z")
    seconds, fraction = divmod(us + _offset_us(zone), 1_000_000)
    text = (EPOCH + seconds * _SECOND).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{f'{fraction:06d}'[:digits]}{zone}" if digits else f"{text}{zone}"


def _needed_digits(us: int) -> int:
    if us % 1_000_000 == 0:
        return 0
    return 3 if us % 1_000 == 0 else 6


def _offset_us(zone: str) -> int:
    if zone in {"Z", "z"}:
        return 0
    digits = zone[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return (-minutes if zone[0] == "-" else minutes) * 60_000_000


def start_of_day_us(day: date) -> int:
    """UTC midnight at which the day begins, in microseconds since the epoch."""
    return (day - EPOCH.date()).days * DAY_US
