"""Tombstones: which devices were erased, known by a keyed hash of their id, so that none comes back by an old message.

The audit row (``ops/erasures``) is written first, then its number as the Delta transaction ``erased/tombstones`` on both
Bronze tables: whoever reads the number finds the rows that it counts, whatever died in between, and a row whose number was
not committed yet is not in force. The key never leaves the settings or its file; without it nobody can tell who was erased.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from secrets import token_hex

from iot_platform.errors import InputError, PlatformError
from iot_platform.lake.erasures import Erasure, read_erasures
from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings

TOMBSTONES = "erased/tombstones"  # Delta transaction on both Bronze tables: how many are in force; only grows
TABLES = ("bronze/quarantine", "bronze/readings")  # in the order of the commits
REMEMBERED = 100_000  # answers kept, a device each
KEY_BYTES = 32


@dataclass(frozen=True)
class Tombstones:
    """The hashes of erased devices by number, and the key they were made with. Picklable: Spark's workers ask it."""

    hashes: tuple[str, ...] = ()
    key: bytes = field(default=b"", repr=False)
    _known: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def first(self, n: int) -> Tombstones:
        """Those that were in force when there were ``n``."""
        return self if n >= len(self.hashes) else Tombstones(self.hashes[:n], self.key)

    def holds(self, device_id: str) -> bool:
        """Whether this device was erased."""
        if not self.hashes:
            return False
        known = self._known.get(device_id)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[device_id] = hash_of(device_id, self.key) in self._as_set
        return known

    @cached_property
    def _as_set(self) -> frozenset[str]:
        return frozenset(self.hashes)


def hash_of(device_id: str, key: bytes) -> str:
    """HMAC-SHA256 of the id, in hexadecimal."""
    return hmac.new(key, device_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def fingerprint_of(key: bytes) -> str:
    """What the audit says of the key: enough to recognise it, of no use to guess it or an id."""
    return hmac.new(key, b"fingerprint of the key of erased devices", hashlib.sha256).hexdigest()[:16]


def key_file(settings: Settings) -> Path:
    return settings.home / "erase.key"


def read_key(settings: Settings) -> bytes | None:
    """The key of the settings, else of its file; None where there is neither. ``PlatformError``: it cannot be read."""
    if text := settings.erase_key.get_secret_value():
        return text.encode()
    try:
        return key_file(settings).read_bytes().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PlatformError(
            f"{key_file(settings)} cannot be read ({error.strerror})", "Make it readable for this user, or set IOT_ERASE_KEY"
        ) from None


def ensure_key(settings: Settings) -> bytes:
    """The key; made at random, in a file that only this user can read, where there is none yet."""
    if key := read_key(settings):
        return key
    path = key_file(settings)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    part.touch(mode=0o600, exist_ok=False)
    with part.open("w", encoding="ascii") as file:
        file.write(token_hex(KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # of two at once one makes it; the other's is the key then
        os.link(part, path)
    part.unlink()
    key = read_key(settings)
    assert key
    return key


def in_force(lake: Lake) -> int:
    """How many tombstones are in force, on one of the tables at least: what is about to be is known where it matters."""
    return max(lake.snapshot(table).transaction(TOMBSTONES) or 0 for table in TABLES)


def read_tombstones(lake: Lake) -> Tombstones:
    """The tombstones in force. Raises ``InputError`` where there are some and their key is missing, or another.

    The number is read before the rows: those can only be more.
    """
    count = in_force(lake)
    if not count:
        return Tombstones()
    erasures = read_erasures(lake)[:count]
    return Tombstones(tuple(one.device_hash for one in erasures), right_key(lake.settings, erasures))


def right_key(settings: Settings, erasures: list[Erasure]) -> bytes:
    """The key that made these hashes. Raises ``InputError`` where it is missing, or another."""
    key = read_key(settings)
    todo = f"Restore {key_file(settings)}, or set IOT_ERASE_KEY to it: without the key erased devices would come back"
    if key is None:
        raise InputError(f"the key of the {len(erasures)} erased device(s) is missing", todo)
    if any(one.key_fingerprint != fingerprint_of(key) for one in erasures):
        raise InputError("the key of the erased devices is another than the one that they were erased with", todo)
    return key


def put_in_force(lake: Lake, number: int) -> None:
    """Let the first ``number`` tombstones be in force on both Bronze tables; nothing where they are already."""
    for table in TABLES:
        snapshot = lake.writable(table)
        if (snapshot.transaction(TOMBSTONES) or 0) < number:
            lake.commit_transaction(snapshot, TOMBSTONES, number)
