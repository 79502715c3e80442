"""The declared fields of a message, read one by one: types, closed lists, and what columns cannot give back.

What belongs here: everything about single fields. What they make up together (time, identity, readings) is ``reader``'s.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from iot_platform.contracts.promoted import promoted
from iot_platform.contracts.refusal import Refused, shown
from iot_platform.contracts.wire import Json, WireField

LONGEST_NAME = 256
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MAX_DOUBLE = 1.7976931348623157e308
ABSENT: Any = object()
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class _Reading(NamedTuple):
    """One reading of a message, in the columns of ``bronze/readings``; ``event_time`` in µs since the epoch, UTC.

    Columns that wire contracts add by naming them follow at the end (``promoted``).
    """

    contract: str
    contract_version: int
    event_id: str
    device_id: str
    device_type: str | None
    metric: str
    value: float | None
    unit: str | None
    status: str | None
    event_duration_ms: float | None
    site: str | None
    zone: str | None
    state: str | None
    firmware: str | None
    event_time: int
    extras: str | None
    replayed: bool
    source: str | None


PROMOTED = tuple(field.column for field in promoted(_Reading._fields))
if TYPE_CHECKING:
    Reading = _Reading
else:
    Reading = namedtuple("Reading", (*_Reading._fields, *PROMOTED), defaults=(None,) * len(PROMOTED), module=__name__)
COLUMN = {name: index for index, name in enumerate(Reading._fields)}


@dataclass(slots=True)
class Draft:
    """A message on its way to readings: ``row`` in the order of ``Reading``, ``raw`` and ``extras`` as ``parse`` says."""

    row: list[Any]
    raw: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    moment: Any = None  # the timestamp as it was written


class Field(NamedTuple):
    """A declared field, ready to be read: its key in its parent and the positions of its columns (-1: none)."""

    key: str
    name: str
    json: Json
    required: bool
    allowed: frozenset[str]
    minimum: float | None
    column: int
    also: int


class Group(NamedTuple):
    """The declared fields of the message, or of one object in it; ``keys`` are all that are known there."""

    fields: tuple[Field, ...]
    children: tuple[tuple[str, str, Group], ...]  # key, dotted name, the object's fields
    required: frozenset[str]
    keys: frozenset[str]


def number(value: Any, name: str, raw: dict[str, Any]) -> float:
    """A JSON number as a double; the exact original goes to ``raw`` when the double is not equal to it."""
    if value.__class__ is float:
        if not -MAX_DOUBLE <= value <= MAX_DOUBLE:
            raise Refused("not_finite", f"{name} is {value}")
        return value
    if value.__class__ is not int:
        raise Refused("wrong_type", f"{name}: a number is expected, not {shown(value)}")
    try:
        double = float(value)
    except OverflowError:
        raise Refused("not_finite", f"{name} is beyond every double") from None
    if double != value:
        raw[name] = value
    return double


def check_metric(metric: str, name: str) -> None:
    if not metric or len(metric) > LONGEST_NAME or CONTROL.search(metric):
        raise Refused("wrong_type", f"{name}: not the name of a metric: {shown(metric)}")


def group_of(fields: tuple[WireField, ...], level: int = 0, more_required: frozenset[str] = frozenset()) -> Group:
    """Compile declared fields that begin at this level of their paths."""
    own = [field for field in fields if len(field.path) == level + 1]
    nested: dict[str, list[WireField]] = {}
    for inner in fields:
        if len(inner.path) > level + 1:
            nested.setdefault(inner.path[level], []).append(inner)
    children = tuple(
        (key, ".".join(inner[0].path[: level + 1]), group_of(tuple(inner), level + 1)) for key, inner in nested.items()
    )
    required = {field.path[level] for field in own if field.required}
    required |= {key for key, _, child in children if child.required}
    compiled = (
        Field(
            field.path[level], field.name, field.json, field.required, frozenset(field.allowed), field.minimum,
            COLUMN.get(field.column, -1), COLUMN.get(field.also, -1),
        )
        for field in own
    )  # fmt: skip
    keys = frozenset([field.path[level] for field in own]) | frozenset(nested)
    return Group(tuple(compiled), children, frozenset(required) | more_required, keys)


def check_present(group: Group, message: dict[str, Any], prefix: str = "") -> None:
    """Missing is judged before any type, in the whole message."""
    if not group.required <= message.keys():
        missing = sorted(prefix + key for key in group.required - message.keys())
        raise Refused("missing_field", f"missing: {', '.join(missing)}")
    for key, name, child in group.children:
        inner = message.get(key)
        if isinstance(inner, dict):
            check_present(child, inner, f"{name}.")


def read_group(group: Group, message: dict[str, Any], draft: Draft) -> int:
    """Put the group's fields into the draft; how many of the message's keys they were."""
    seen = 0
    row = draft.row
    for declared in group.fields:
        key, name, json, required, allowed, _, column, also = declared
        value = message.get(key, ABSENT)
        if value is ABSENT:
            continue
        seen += 1
        if value is None and not required:
            draft.raw[name] = None
        elif json is not Json.STRING:
            _READ[json](declared, value, draft)
        elif value.__class__ is not str:
            raise Refused("wrong_type", f"{name}: a text is expected, not {shown(value)}")
        elif allowed and value not in allowed:
            raise Refused("wrong_type", f"{name}: {shown(value)} is none of {', '.join(sorted(allowed))}")
        else:
            row[column] = value
            if also >= 0:
                row[also] = value
    for key, name, child in group.children:
        value = message.get(key, ABSENT)
        if value is not ABSENT:
            seen += 1
            _read_child(key, name, child, value, draft)
    return seen


def _read_child(key: str, name: str, child: Group, value: Any, draft: Draft) -> None:
    if value is None and not child.required:
        draft.raw[name] = None
        return
    if not isinstance(value, dict):
        raise Refused("wrong_type", f"{name}: an object is expected, not {shown(value)}")
    inner = Draft(draft.row, draft.raw)
    if read_group(child, value, inner) != len(value):
        inner.extras |= {other: value[other] for other in value if other not in child.keys}
    if inner.moment is not None:
        draft.moment = inner.moment
    if inner.extras or not value:
        draft.extras[key] = inner.extras


def _read_number(declared: Field, value: Any, draft: Draft) -> None:
    double = number(value, declared.name, draft.raw)
    if declared.minimum is not None and double < declared.minimum:
        raise Refused("wrong_type", f"{declared.name}: {shown(value)} is below {declared.minimum:g}")
    draft.row[declared.column] = double


def _read_timestamp(declared: Field, value: Any, draft: Draft) -> None:
    if value.__class__ is not str and value.__class__ is not int and value.__class__ is not float:
        raise Refused("wrong_type", f"{declared.name}: a text or a number is expected, not {shown(value)}")
    draft.moment = value


def _read_uuid(declared: Field, value: Any, draft: Draft) -> None:
    lower = value.lower() if value.__class__ is str else ""
    if not _UUID.fullmatch(lower):
        raise Refused("wrong_type", f"{declared.name}: a UUID is expected, not {shown(value)}")
    if lower != value:
        draft.raw[declared.name] = value
    draft.row[declared.column] = lower


def _read_object(declared: Field, value: Any, draft: Draft) -> None:
    _check_object(declared, value, draft)
    draft.extras[declared.key] = value


def _check_object(declared: Field, value: Any, draft: Draft) -> None:
    if value.__class__ is not dict:
        raise Refused("wrong_type", f"{declared.name}: an object is expected, not {shown(value)}")


_READ: dict[Json, Callable[[Field, Any, Draft], None]] = {
    Json.NUMBER: _read_number,
    Json.TIMESTAMP: _read_timestamp,
    Json.UUID: _read_uuid,
    Json.OBJECT: _read_object,
    Json.MEASUREMENTS: _check_object,  # its entries are readings, read by ``reader``
}
