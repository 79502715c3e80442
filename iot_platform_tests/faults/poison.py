"""Messages that were damaged, from a seed: what a broken device, a bad network or a malicious sender puts on a topic."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from iot_platform.contracts.timestamps import render
from iot_platform_tests.contracts.messages import VALID

Header = tuple[str, str | bytes | None]
# Every JSON type, and the edges of each; text that Python's json would not write stands as Raw.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, -0.0, 1e308, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 5e-324, "", " ", "0",
    "NaN", "\x00", "\ud800", "é" * 300, "x" * 70_000, "2026-11-19T10:11:12Z", "9999-12-31T23:59:60Z", "-1", [], [1], [[]],
    {}, {"a": 1}, {"": None}, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
LITERALS = (b"1e999", b"-1e999", b"1e-999", b"01", b"+1", b".5", b"0x1F", b"9" * 5_000, b"1." + b"3" * 5_000, b"tru", b"'a'")
CLOCKS = ("1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2009-12-31T23:59:59.999999Z", "2099-01-01T00:00:00Z",
          "9999-12-31T23:59:59Z", 0, 1, 4_102_444_800, 253_402_300_799_000, 1e300, -62_135_596_800)  # fmt: skip


@dataclass(frozen=True)
class Damaged:
    """What is produced; ``how``: the damage that was done, by name."""

    contract: str
    value: bytes | None
    headers: list[Header]
    how: str


def damaged(rng: random.Random, now_us: int | None = None) -> Damaged:
    """The next message of this seed; ``now_us`` (default: now) is what healthy ones say as their time, µs."""
    contract = rng.choice(list(VALID))
    now = time.time_ns() // 1_000 if now_us is None else now_us
    message = json.loads(json.dumps(VALID[contract])) | {"timestamp": render(now - rng.randrange(3_600_000_000))}
    how = rng.choices(list(DAMAGES), weights=[weight for weight, _ in DAMAGES.values()])[0]
    headers: list[Header] = []
    if how == "headers":
        headers = _headers(rng)
    value = DAMAGES[how][1](rng, message)
    return Damaged(contract, value, headers, how)


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def _bits(rng: random.Random, message: dict[str, Any]) -> bytes:
    raw = bytearray(_encoded(message))
    for _ in range(rng.randint(1, 8)):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def _cut(rng: random.Random, message: dict[str, Any]) -> bytes:
    raw = _encoded(message)
    return raw[: rng.randrange(len(raw))]


def _spliced(rng: random.Random, message: dict[str, Any]) -> bytes:
    raw = _encoded(message)
    at, other = rng.randrange(len(raw)), rng.randrange(len(raw))
    return raw[:at] + raw[other : other + rng.randint(1, 60)] + raw[at:]


def _noise(rng: random.Random, _: dict[str, Any]) -> bytes:
    return rng.randbytes(rng.randrange(400))


def _nested(rng: random.Random, message: dict[str, Any]) -> bytes:
    depth = rng.choice([10, 30, 31, 32, 33, 40, 200, 20_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    core = opening * depth + (b"1" if opening != b"[" else b"") + closing * rng.choice([depth, depth - 1, 0])
    return core if rng.random() < 0.3 else _encoded(message)[:-1] + b', "more": ' + core + b"}"


def _typed(rng: random.Random, message: dict[str, Any]) -> bytes:
    """Any JSON type in any field, nested ones and ones that nobody declared included."""
    key = rng.choice([*message, "more", "$raw", "$$time"])
    if isinstance(message.get(key), dict) and rng.random() < 0.7:
        inner = message[key]
        inner[rng.choice([*inner, "more"])] = rng.choice(ODD)
    else:
        message[key] = rng.choice(ODD)
    return _encoded(message)


def _dropped(rng: random.Random, message: dict[str, Any]) -> bytes:
    for key in rng.sample(list(message), rng.randint(1, len(message))):
        del message[key]
    return _encoded(message)


def _literal(rng: random.Random, message: dict[str, Any]) -> bytes:
    """Numbers as no JSON library would write them, in the place of a value."""
    key = rng.choice(list(message))
    message[key] = "@@"
    return _encoded(message).replace(b'"@@"', rng.choice(LITERALS))


def _large(rng: random.Random, message: dict[str, Any]) -> bytes:
    size = rng.choice([60_000, 65_536, 65_537, 200_000, (1 << 20) - 300, (1 << 20) + 1])
    message[rng.choice([*message, "more"])] = "x" * size
    return _encoded(message)


def _twice(rng: random.Random, message: dict[str, Any]) -> bytes:
    key = rng.choice(list(message))
    again = json.dumps({key: rng.choice(ODD[:20])}).encode()
    return _encoded(message)[:-1] + b", " + again[1:]


def _clock(rng: random.Random, message: dict[str, Any]) -> bytes:
    return _encoded(message | {"timestamp": rng.choice(CLOCKS)})


def _not_an_object(rng: random.Random, _: dict[str, Any]) -> bytes:
    return json.dumps(rng.choice(ODD)).encode("utf-8", "surrogatepass")


def _tombstone(*_: Any) -> None:
    return None


def _healthy(_: random.Random, message: dict[str, Any]) -> bytes:
    return _encoded(message)


def _headers(rng: random.Random) -> list[Header]:
    known = [b"sensor_reading", b"device_event", b"generic_reading", b"1", b"v1", b"1.9", b"2", b"true", b"false"]
    values: Sequence[bytes | None] = [*known, b"", b"\xff\xfe", b"9" * 40, b"x" * 5_000, None]
    names = ["contract", "contract_version", "replayed", "source", "other", ""]
    return [(rng.choice(names), rng.choice(values)) for _ in range(rng.randint(1, 4))]


Damage = Callable[[random.Random, dict[str, Any]], bytes | None]
DAMAGES: dict[str, tuple[int, Damage]] = {
    "bit flips": (20, _bits), "truncation": (10, _cut), "splice": (8, _spliced), "noise": (4, _noise),
    "nesting": (4, _nested), "types": (22, _typed), "missing fields": (6, _dropped), "literals": (6, _literal),
    "large": (1, _large), "field twice": (4, _twice), "clock": (5, _clock), "not an object": (3, _not_an_object),
    "tombstone": (1, _tombstone), "headers": (4, _healthy), "none": (2, _healthy),
}  # fmt: skip
