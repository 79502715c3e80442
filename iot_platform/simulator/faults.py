"""Messages that no contract allows, one maker a quarantine reason: what broken devices really send.

A maker takes a good message of the contract and breaks one thing. That each one is refused with just its reason is a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import orjson

from iot_platform.contracts.json_text import JsonLimits
from iot_platform.contracts.wire import MetricFields, MetricMap, MetricNamed, WireContract, WireField

Message = dict[str, Any]
Maker = Callable[[WireContract, Message, int], bytes]
LIMITS = JsonLimits()


def _not_utf8(contract: WireContract, message: Message, number: int) -> bytes:
    device = str(_at(message, _field(contract, "device_id"))).encode()
    return orjson.dumps(message).replace(device, device[:-1] + b"\xff", 1)


def _not_json(contract: WireContract, message: Message, number: int) -> bytes:
    text = orjson.dumps(message)
    return text[: len(text) // 2]  # the line broke in the middle


def _not_an_object(contract: WireContract, message: Message, number: int) -> bytes:
    return orjson.dumps([[message], "ERR 17", 42, None][number % 4])


def _too_large(contract: WireContract, message: Message, number: int) -> bytes:
    return orjson.dumps(message | {"debug": "x" * (LIMITS.string_bytes + 1)})


def _too_deep(contract: WireContract, message: Message, number: int) -> bytes:
    nested: list[Any] = []
    for _ in range(LIMITS.depth):
        nested = [nested]
    return orjson.dumps(message | {"trace": nested})


def _unknown_contract(contract: WireContract, message: Message, number: int) -> bytes:
    return orjson.dumps(message)  # its header names a contract of another age: see ``contract_header``


def _missing_field(contract: WireContract, message: Message, number: int) -> bytes:
    required = [field for field in contract.fields if field.required]
    _drop(message, required[number % len(required)])
    return orjson.dumps(message)


def _wrong_type(contract: WireContract, message: Message, number: int) -> bytes:
    key, holder = _measurement(contract, message)
    holder[key] = ["hot", True, {"value": 21}, [21]][number % 4]
    return orjson.dumps(message)


def _not_finite(contract: WireContract, message: Message, number: int) -> bytes:
    key, holder = _measurement(contract, message)
    holder[key] = [float("nan"), float("inf"), float("-inf")][number % 3]
    text = json.dumps(message)
    return (text.replace("-Infinity", "-1e999") if number % 2 else text).encode()


def _bad_timestamp(contract: WireContract, message: Message, number: int) -> bytes:
    texts = ("yesterday", "2026-13-45T99:00:00Z", "2026-01-05 10:00:00", "")
    _put(message, _field(contract, "event_time"), texts[number % 4])
    return orjson.dumps(message)


def _clock_out_of_range(contract: WireContract, message: Message, number: int) -> bytes:
    # A clock that lost its battery, and one that is decades ahead.
    times = ("1970-01-01T00:03:12Z", 0, "2106-02-07T06:28:15Z", 4_102_444_800_000)
    _put(message, _field(contract, "event_time"), times[number % 4])
    return orjson.dumps(message)


def _bad_device_id(contract: WireContract, message: Message, number: int) -> bytes:
    _put(message, _field(contract, "device_id"), ("", "   ", "\u0000\u0001", "x" * 300)[number % 4])
    return orjson.dumps(message)


MAKERS: dict[str, Maker] = {
    "not_utf8": _not_utf8,
    "not_json": _not_json,
    "not_an_object": _not_an_object,
    "too_large": _too_large,
    "too_deep": _too_deep,
    "unknown_contract": _unknown_contract,
    "missing_field": _missing_field,
    "wrong_type": _wrong_type,
    "not_finite": _not_finite,
    "bad_timestamp": _bad_timestamp,
    "clock_out_of_range": _clock_out_of_range,
    "bad_device_id": _bad_device_id,
}
REASONS = tuple(MAKERS)


def broken(contract: WireContract, message: Message, reason: str, number: int) -> bytes:
    """The bytes of a message that is refused for the reason; ``number`` chooses among its forms."""
    return MAKERS[reason](contract, deepcopy(message), number)


def contract_header(contract: WireContract, reason: str) -> bytes:
    """The contract that the message's header names: its own, but for one that nobody knows."""
    return b"legacy_reading" if reason == "unknown_contract" else contract.name.encode()


def _field(contract: WireContract, column: str) -> WireField:
    return next(field for field in contract.fields if field.column == column)


def _parent(message: Message, field: WireField) -> Message:
    for part in field.path[:-1]:
        message = message[part]
    return message


def _at(message: Message, field: WireField) -> Any:
    return _parent(message, field)[field.path[-1]]


def _put(message: Message, field: WireField, value: Any) -> None:
    _parent(message, field)[field.path[-1]] = value


def _drop(message: Message, field: WireField) -> None:
    del _parent(message, field)[field.path[-1]]


def _measurement(contract: WireContract, message: Message) -> tuple[str, Message]:
    """Where a message carries its first measurement: the key and the object that holds it."""
    match contract.shape:
        case MetricNamed(value_field=field):
            return field, message
        case MetricMap(field=field):
            return next(iter(message[field])), message[field]
        case MetricFields():
            return next(metric.field or metric.name for metric in contract.metrics), message


