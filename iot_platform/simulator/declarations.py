"""The CSV files in which simulator and replay declare their devices and metric bounds; ``lake`` makes the registry of them.

A file is merged by key on every write and replaced whole, so that a reader sees the old one or the new one. Lines of
other people's files are never touched: each writer has a file of its own.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from iot_platform.errors import InputError, PlatformError
from iot_platform.local.process import locked, make_folder
from iot_platform.settings import Settings

DEVICE_COLUMNS = (
    "device_id", "contract", "device_type", "site", "zone", "state", "firmware", "cadence_seconds", "installed_at",
    "retired_at",
)  # fmt: skip
METRIC_COLUMNS = ("contract", "metric", "unit", "min_value", "max_value", "source")
Line = dict[str, str]


@dataclass(frozen=True)
class DeclaredDevice:
    """A device with how often it reports and since when (UTC).

    ``is_replayed``: a replay brings it. Its line retires it the moment it is installed: until readings come it is
    expected to say nothing, and how long it reports is then told by them (``transforms/registry_devices.sql``).
    """

    device_id: str
    contract: str
    cadence_seconds: float
    installed_at: datetime
    is_replayed: bool = False
    device_type: str = ""
    site: str = ""
    zone: str = ""
    state: str = ""
    firmware: str = ""

    def line(self) -> Line:
        return {
            "device_id": self.device_id,
            "contract": self.contract,
            "device_type": self.device_type,
            "site": self.site,
            "zone": self.zone,
            "state": self.state,
            "firmware": self.firmware,
            "cadence_seconds": f"{self.cadence_seconds:.12g}",
            "installed_at": iso(self.installed_at),
            "retired_at": iso(self.installed_at) if self.is_replayed else "",
        }

    def seen_also(self, at: datetime) -> DeclaredDevice:
        """The same device, with a reading at this time too."""
        return replace(self, installed_at=min(self.installed_at, at))


@dataclass(frozen=True)
class DeclaredMetric:
    """Unit and physical bounds of a metric that no contract declares (None: no bound)."""

    contract: str
    metric: str
    unit: str
    min_value: float | None
    max_value: float | None
    source: str

    def line(self) -> Line:
        return {
            "contract": self.contract,
            "metric": self.metric,
            "unit": self.unit,
            "min_value": "" if self.min_value is None else repr(self.min_value),
            "max_value": "" if self.max_value is None else repr(self.max_value),
            "source": self.source,
        }


def declare_devices(settings: Settings, name: str, devices: Iterable[DeclaredDevice]) -> Path:
    """Merge devices into ``devices-<name>.csv`` by device id.

    The earlier ``installed_at`` of the two stands; everything else is the newer line's.
    """

    def merge(old: Line, new: Line) -> Line:
        installed_at = min(old["installed_at"] or new["installed_at"], new["installed_at"])
        return new | {"installed_at": installed_at, "retired_at": new["retired_at"] and installed_at}

    path = settings.declarations / f"devices-{name}.csv"
    return _merge(path, DEVICE_COLUMNS, ("device_id",), (device.line() for device in devices), merge)


def declare_metrics(settings: Settings, name: str, metrics: Iterable[DeclaredMetric]) -> Path:
    """Merge metrics into ``metrics-<name>.csv`` by (contract, metric).

    Raises ``InputError`` when another file of the folder gives one of them other bounds or another unit.
    """
    path = settings.declarations / f"metrics-{name}.csv"
    lines = [metric.line() for metric in metrics]
    elsewhere = _declared_elsewhere(settings.declarations, path)
    for line in lines:
        other = elsewhere.get((line["contract"], line["metric"]))
        if other and any(other[0][column] != line[column] for column in ("unit", "min_value", "max_value")):
            raise InputError(
                f"metrics.{line['metric']}: {other[1]} declares it with another unit or other bounds",
                "Give the metric another name, or the same unit and bounds",
            )
    return _merge(path, METRIC_COLUMNS, ("contract", "metric"), lines, lambda _, new: new)


def _declared_elsewhere(folder: Path, own: Path) -> dict[tuple[str, str], tuple[Line, str]]:
    return {
        (line["contract"], line["metric"]): (line, path.name)
        for path in sorted(folder.glob("metrics*.csv"))
        if path != own
        for line in _read(path, METRIC_COLUMNS)
    }


def _merge(
    path: Path, columns: tuple[str, ...], keys: tuple[str, ...], lines: Iterable[Line], merge: Callable[[Line, Line], Line]
) -> Path:
    make_folder(path.parent)
    with locked(path.parent / ".lock", seconds=30):
        merged = {tuple(line[key] for key in keys): line for line in _read(path, columns)}
        for line in lines:
            key = tuple(line[name] for name in keys)
            merged[key] = merge(merged[key], line) if key in merged else line
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(merged[key] for key in sorted(merged))
        if not path.exists() or path.read_text(encoding="utf-8") != text.getvalue():
            _replace(path, text.getvalue())
    return path


def _read(path: Path, columns: tuple[str, ...]) -> list[Line]:
    """The lines of a declaration file, each with every column; none when there is no file."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: line.get(name) or "" for name in columns} for line in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}", "Correct or remove the file") from None


def _replace(path: Path, text: str) -> None:
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise PlatformError(f"{path} cannot be written: {error.strerror}", "Free space, or set IOT_HOME elsewhere") from None
    Path(file.name).replace(path)


def iso(time: datetime) -> str:
    """ISO 8601 in UTC with ``Z``; always with microseconds, so that text order is time order."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
