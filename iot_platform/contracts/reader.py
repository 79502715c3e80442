"""One contract's declaration, compiled into a reader of its messages. The hot path of ingestion stands here.

What belongs here: a decoded object to readings. Bytes are ``json_text``'s, single fields ``fields``', headers and
topics ``parse``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from iot_platform.contracts.fields import (
    COLUMN,
    CONTROL,
    LONGEST_NAME,
    Draft,
    Reading,
    check_metric,
    check_present,
    group_of,
    number,
    read_group,
)
from iot_platform.contracts.json_text import dump
from iot_platform.contracts.refusal import Refused, shown
from iot_platform.contracts.timestamps import timestamp_us
from iot_platform.contracts.wire import MetricFields, MetricMap, MetricNamed, WireContract

HOUR_US = 3_600_000_000
_EVENT_ID, _DEVICE_ID, _METRIC, _VALUE, _UNIT, _EVENT_TIME, _EXTRAS, _REPLAYED, _SOURCE = (
    COLUMN[name]
    for name in ("event_id", "device_id", "metric", "value", "unit", "event_time", "extras", "replayed", "source")
)


@dataclass(frozen=True, slots=True)
class Clock:
    """Which event times are taken: from ``first_us`` on, and not later than ``latest_us`` (µs since the epoch)."""

    first_us: int
    latest_us: int


def derived_id(*parts: str) -> str:
    """A stable identity, shaped like a UUID (version 8): the same parts give the same one, always."""
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"


class ContractReader:
    """Reads the messages of one contract."""

    def __init__(self, contract: WireContract) -> None:
        self.contract = contract
        shape = contract.shape
        self._value_field = shape.value_field if isinstance(shape, MetricNamed) else ""
        self._map_field = shape.field if isinstance(shape, MetricMap) else ""
        self._metric_fields = (
            tuple((metric.name, metric.field or metric.name) for metric in contract.metrics)
            if isinstance(shape, MetricFields)
            else ()
        )
        self._metric_keys = frozenset(key for _, key in self._metric_fields)
        self._top = group_of(contract.fields, 0, frozenset({self._value_field} - {""}))
        self._known = self._top.keys | self._metric_keys | ({self._value_field} - {""})
        self._units = {metric.name: metric.unit for metric in contract.metrics}
        self._takes_unit = any(field.column == "unit" for field in contract.fields)
        self._has_event_id = contract.has_event_id
        self._time_name = next(field.name for field in contract.fields if field.column == "event_time")
        self._metric_name = next((field.name for field in contract.fields if field.column == "metric"), "")
        self._template: list[Any] = [None] * len(Reading._fields)
        self._template[:2] = contract.name, contract.version

    def read(
        self, message: dict[str, Any], clock: Clock, *, not_finite: str = "", replayed: bool = False,
        source: str | None = None,
    ) -> list[Reading]:  # fmt: skip
        """The readings of a decoded message, at least one; raises ``Refused``.

        ``not_finite``: a literal somewhere in the message that no double can hold.
        """
        self._check_present(message)
        row = self._template.copy()
        draft = Draft(row)
        seen = read_group(self._top, message, draft)
        if self._metric_name:
            check_metric(row[_METRIC], self._metric_name)
        measured = self._measured(message, draft.raw)
        seen += 0 if self._map_field else len(measured)  # the map is one of the top fields
        if seen != len(message):
            for key, value in message.items():
                if key not in self._known:
                    draft.extras["$" + key if key[:1] == "$" else key] = value
        if not_finite:
            raise Refused("not_finite", f"the message holds the number {not_finite}")
        event_us = self._event_us(draft, clock)
        device = row[_DEVICE_ID]
        if not device or len(device) > LONGEST_NAME or CONTROL.search(device) or device.isspace():
            raise Refused("bad_device_id", f"empty, longer than {LONGEST_NAME} or with control characters: {shown(device)}")
        row[_EVENT_TIME] = event_us
        row[_REPLAYED] = replayed
        row[_SOURCE] = source
        if not self._has_event_id:
            parts = (self.contract.name, device, str(event_us))
            row[_EVENT_ID] = derived_id(*parts, row[_METRIC]) if self._value_field else derived_id(*parts)
        return self._rows(draft, measured)

    def _check_present(self, message: dict[str, Any]) -> None:
        check_present(self._top, message)
        if self._metric_fields and self._metric_keys.isdisjoint(message):
            raise Refused("missing_field", f"none of {', '.join(key for _, key in self._metric_fields)} is there")
        if self._map_field and message[self._map_field] == {}:
            raise Refused("missing_field", f"{self._map_field} holds no measurement")

    def _measured(self, message: dict[str, Any], raw: dict[str, Any]) -> list[tuple[str, float | None]]:
        """The measurements as (metric, or empty for the row's own; value); null where the message says null."""
        if self._value_field:
            value = message[self._value_field]
            return [("", None if value is None else number(value, self._value_field, raw))]
        if self._map_field:
            values = message[self._map_field]
            for metric in values:
                check_metric(metric, self._map_field)
            return [
                (metric, None if value is None else number(value, f"{self._map_field}.{metric}", raw))
                for metric, value in values.items()
            ]
        return [
            (metric, None if (value := message[key]) is None else number(value, key, raw))
            for metric, key in self._metric_fields
            if key in message
        ]

    def _event_us(self, draft: Draft, clock: Clock) -> int:
        event_us, style = timestamp_us(draft.moment, self._time_name)
        if style is None:
            draft.raw[self._time_name] = draft.moment
        elif style:
            draft.extras["$time"] = style
        if event_us < clock.first_us:
            raise Refused("clock_out_of_range", f"{self._time_name} {shown(draft.moment)} lies before the first partition")
        if event_us > clock.latest_us:
            raise Refused("clock_out_of_range", f"{self._time_name} {shown(draft.moment)} lies too far after the arrival")
        return event_us

    def _rows(self, draft: Draft, measured: list[tuple[str, float | None]]) -> list[Reading]:
        row = draft.row
        unit = row[_UNIT]
        if self._takes_unit and unit is None and "unit" not in draft.raw and row[_METRIC] in self._units:
            draft.extras["$absent"] = ["unit"]
        if draft.raw:
            draft.extras["$raw"] = draft.raw
        if draft.extras:
            row[_EXTRAS] = dump(draft.extras)
        rows = []
        for metric, value in measured:
            if metric:
                row[_METRIC] = metric
            row[_VALUE] = value
            if unit is None:
                row[_UNIT] = self._units.get(row[_METRIC])
            rows.append(Reading._make(row))
        return rows


# By identity: hashing a whole declaration for every message would cost a sixth of the parsing.
_readers: dict[int, ContractReader] = {}


def reader_of(contract: WireContract) -> ContractReader:
    """The contract's reader, compiled once a process."""
    found = _readers.get(id(contract))
    if found is None or found.contract is not contract:
        found = _readers[id(contract)] = ContractReader(contract)
    return found
