"""The bytes of a message as a JSON object, within limits and without losing precision.

What belongs here: bytes to Python objects, and nothing about contracts. The fast decoder takes nearly every message; what it
refuses or would round (NaN and Infinity, 1e999, integers beyond 64 bits) goes through the standard library's.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from iot_platform.contracts.refusal import Refused

# Any run of 19 digits may be an integer beyond 64 bits, which the fast decoder silently turns into a double.
_DIGITS_TO_ZERO = bytes(48 if 48 <= code <= 57 else code for code in range(256))
_LONG_NUMBER = b"0" * 19
# Integers of more digits have no double, and cost quadratic time to read.
_MOST_DIGITS = 309
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True)
class JsonLimits:
    """What a message may be at most: bytes in all, containers within each other, bytes of one text."""

    message_bytes: int = 1 << 20
    depth: int = 32
    string_bytes: int = 64 << 10


class Decoded(NamedTuple):
    """A JSON object; ``not_finite`` is the literal of a number in it that no double can hold, else empty."""

    message: dict[str, Any]
    not_finite: str


def decode(value: bytes | None, limits: JsonLimits) -> Decoded:
    """Decode the value of a Kafka record. Raises ``Refused`` and nothing else, whatever the bytes."""
    if value is None:
        raise Refused("not_json", "the message has no value (a tombstone)")
    size = len(value)
    if size > limits.message_bytes:
        raise Refused("too_large", f"the message has {size} bytes, more than {limits.message_bytes}")
    if value.count(b"{") + value.count(b"[") > limits.depth:
        _check_depth(value, limits.depth)
    not_finite = ""
    if _LONG_NUMBER in value.translate(_DIGITS_TO_ZERO):
        message, not_finite = _decode_carefully(value)
    else:
        try:
            message = orjson.loads(value)
        except orjson.JSONDecodeError:
            message, not_finite = _decode_carefully(value)
    if message.__class__ is not dict:
        raise Refused("not_an_object", f"the message is {_JSON_NAMES.get(type(message), 'a number')}, not an object")
    if size > limits.string_bytes:
        _check_strings(message, limits.string_bytes)
    return Decoded(message, not_finite)


_JSON_NAMES: dict[type, str] = {type(None): "null", list: "an array", str: "a text", bool: "a boolean"}


def _decode_carefully(value: bytes) -> tuple[Any, str]:
    """Decode with the standard library: integers of any length, and numbers without a double noted, not lost."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("not_utf8", f"byte {error.start} is no UTF-8: {error.reason}") from None
    odd: list[str] = []

    def constant(literal: str) -> float:
        odd.append(literal)
        return math.nan

    def integer(literal: str) -> int | float:
        return constant(literal) if len(literal) > _MOST_DIGITS + 1 else int(literal)

    def real(literal: str) -> float:
        number = float(literal)
        return number if math.isfinite(number) else constant(literal)

    try:
        message = json.loads(text, parse_constant=constant, parse_int=integer, parse_float=real)
        json.dumps(message, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("not_utf8", "a text holds half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise Refused("too_deep", "the message is nested too deep to read") from None
    except ValueError as error:
        raise Refused("not_json", str(error)[:200]) from None
    return message, odd[0][:40] if odd else ""


def _check_depth(value: bytes, deepest: int) -> None:
    """Judge the nesting from the bytes alone, so that no decoder has to survive a hundred thousand brackets."""
    depth = 0
    for token in _TOKEN.finditer(value):
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
                if depth > deepest:
                    raise Refused("too_deep", f"the message is nested deeper than {deepest}")
            case b"}" | b"]":
                depth -= 1
            case _:
                continue


def _check_strings(message: dict[str, Any], most_bytes: int) -> None:
    pending: list[Any] = [message]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending += node.keys()
            pending += node.values()
        elif isinstance(node, list):
            pending += node
        elif isinstance(node, str) and len(node.encode()) > most_bytes:
            raise Refused("too_large", f"a text has {len(node.encode())} bytes, more than {most_bytes}")


def dump(value: object) -> str:
    """JSON text of decoded JSON, integers of any length included."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
