"""Erasures that were begun and not ended: which devices they are of, on the disk of who began them and nowhere else.

The lake knows a device by its hash only, so a killed erasure could not go on without being told the id again. It is kept in
a file that only this user can read, until the erasure is done.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from iot_platform.settings import Settings


def folder(settings: Settings) -> Path:
    return settings.home / "erase"


def remember(settings: Settings, device_hash: str, device_id: str) -> None:
    """Keep the id until ``forget``."""
    place = folder(settings)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = place / f".{device_hash}.part"
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(json.dumps({"device_id": device_id}), encoding="utf-8")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(place / f"{device_hash}.json")


def forget(settings: Settings, device_hash: str) -> None:
    (folder(settings) / f"{device_hash}.json").unlink(missing_ok=True)


def remembered(settings: Settings) -> dict[str, str]:
    """The devices whose erasure is unfinished: hash to id."""
    files = sorted(folder(settings).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["device_id"] for path in files}
