"""The message back from its rows of ``bronze/readings``: the proof that Bronze lost nothing, and what a re-drive sends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from iot_platform.contracts.timestamps import EPOCH, render
from iot_platform.contracts.wire import CONTRACTS, Json, MetricFields, MetricMap, MetricNamed

_MICROSECOND = timedelta(microseconds=1)


def rebuild_message(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The message that these rows (all of one Kafka record) came from, equal as parsed JSON.

    ``event_time`` may be microseconds since the epoch or a zone-aware ``datetime``.
    """
    first = rows[0]
    newest = CONTRACTS[first["contract"]]
    contract = newest.of_version(first["contract_version"]) or newest
    message: dict[str, Any] = json.loads(first["extras"]) if first["extras"] else {}
    raw = message.pop("$raw", {})
    style = message.pop("$time", "")
    absent = set(message.pop("$absent", ()))
    for key in [key for key in message if key.startswith("$$")]:
        message[key[1:]] = message.pop(key)
    for field in contract.fields:
        if field.json is Json.TIMESTAMP:
            _put(message, field.path, render(_us(first["event_time"]), style))
        elif field.column and first.get(field.column) is not None and field.column not in absent:
            _put(message, field.path, first[field.column])
    match contract.shape:
        case MetricFields():
            fields = {metric.name: metric.field or metric.name for metric in contract.metrics}
            for row in rows:
                message[fields[row["metric"]]] = row["value"]
        case MetricNamed(value_field=value_field):
            message[value_field] = first["value"]
        case MetricMap(field=name):
            message[name] = {row["metric"]: row["value"] for row in rows}
            for key in [key for key in raw if key.startswith(f"{name}.")]:
                message[name][key[len(name) + 1 :]] = raw.pop(key)
    paths = {field.name: field.path for field in contract.fields}
    for name, value in raw.items():
        _put(message, paths.get(name) or tuple(name.split(".")), value)
    return message


def _put(message: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        message = message.setdefault(key, {})
    message[path[-1]] = value


def _us(moment: int | datetime) -> int:
    return moment if isinstance(moment, int) else (moment - EPOCH) // _MICROSECOND
