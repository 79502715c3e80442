"""What people declare about devices and metrics: the CSV files in ``$IOT_HOME/registry``, read and checked.

``devices*.csv``: device_id, contract, device_type, site, zone, state, firmware, cadence_seconds, installed_at,
retired_at. ``metrics*.csv``: contract, metric, unit, min_value, max_value, source. Times are ISO 8601 with zone; an
empty cell is null. A key that stands in several files is taken from the last file by name.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iot_platform.contracts.wire import CONTRACTS
from iot_platform.errors import InputError

DEVICE_TEXTS = ("device_type", "site", "zone", "state", "firmware")


def fingerprint(folder: Path) -> int:
    """A positive number that changes with any declaration, those in the code included."""
    digest = hashlib.sha256(repr(sorted(CONTRACTS.items())).encode())
    for path in (*sorted(folder.glob("devices*.csv")), *sorted(folder.glob("metrics*.csv"))):
        digest.update(path.name.encode() + path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big") + 1


def declared_devices(folder: Path) -> list[dict[str, Any]]:
    """The declared devices, columns as ``registry/devices`` without ``changes``. A bad cell is an ``InputError``."""
    devices = {row["device_id"]: row for row in _rows(folder, "devices*.csv", _device)}
    return [devices[key] for key in sorted(devices)]


def declared_metrics(folder: Path) -> list[dict[str, Any]]:
    """Metrics with bounds: those of the contracts, then those that mappings add; a declared one cannot be changed."""
    metrics = {
        (contract.name, metric.name): {
            "contract": contract.name,
            "metric": metric.name,
            "unit": metric.unit,
            "min_value": metric.min_value,
            "max_value": metric.max_value,
            "source": "contract",
        }
        for contract in CONTRACTS.values()
        for metric in contract.metrics
    }
    own = set(metrics)
    for row in _rows(folder, "metrics*.csv", _metric):
        key = (row["contract"], row["metric"])
        if key not in own:
            metrics[key] = row
    return [metrics[key] for key in sorted(metrics)]


def _rows(folder: Path, pattern: str, convert: Callable[[dict[str, str]], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(pattern)):
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for number, row in enumerate(csv.DictReader(file), start=2):
                    try:
                        yield convert(row)
                    except (KeyError, TypeError, ValueError) as error:
                        raise InputError(
                            f"{path} line {number}: {error if isinstance(error, ValueError) else f'no column {error}'}",
                            "Correct the line; nothing was taken from the file.",
                        ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})", "Make it a readable UTF-8 CSV file.") from None


def _device(row: dict[str, str]) -> dict[str, Any]:
    if not row["device_id"]:
        raise ValueError("device_id is empty")
    if row["contract"] not in CONTRACTS:
        raise ValueError(f"contract {row['contract']!r} is not one of {', '.join(CONTRACTS)}")
    cadence = _number(row, "cadence_seconds")
    if cadence is not None and cadence <= 0:
        raise ValueError(f"cadence_seconds {cadence:g} is not above 0")
    installed = _moment(row, "installed_at")
    if installed is None:
        raise ValueError("installed_at is empty")
    return {
        "device_id": row["device_id"],
        "contract": row["contract"],
        **{name: row.get(name) or None for name in DEVICE_TEXTS},
        "cadence_seconds": cadence,
        "installed_at": installed,
        "retired_at": _moment(row, "retired_at"),
        "source": "declared",
    }


def _metric(row: dict[str, str]) -> dict[str, Any]:
    if row["contract"] not in CONTRACTS:
        raise ValueError(f"contract {row['contract']!r} is not one of {', '.join(CONTRACTS)}")
    return {
        "contract": row["contract"],
        "metric": row["metric"],
        "unit": row["unit"],
        "min_value": _number(row, "min_value"),
        "max_value": _number(row, "max_value"),
        "source": row["source"],
    }


def _number(row: dict[str, str], name: str) -> float | None:
    return float(row[name]) if row.get(name) else None


def _moment(row: dict[str, str], name: str) -> datetime | None:
    if not row.get(name):
        return None
    moment = datetime.fromisoformat(row[name])
    if moment.tzinfo is None:
        raise ValueError(f"{name} {row[name]!r} has no time zone")
    return moment.astimezone(UTC)
