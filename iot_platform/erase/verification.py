"""The proof: every file of the lake and of the marts is looked through for the device's id, decoded and as it lies there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from iot_platform.erase.contents import Disk, bytes_name, duckdb_names, parquet_names
from iot_platform.erase.old_versions import all_files
from iot_platform.erase.trace import Trace
from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings


@dataclass(frozen=True)
class Verification:
    """How many files were looked through, how many could not be, and those in which the id was found."""

    files: int = 0
    traces: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = field(default=())

    @property
    def is_clean(self) -> bool:
        return not self.traces


def verify(lake: Lake, trace: Trace, on_file: Callable[[int], None] | None = None) -> Verification:
    """Look for the device in every file below the lake's root, and in the marts: the published file and dbt's own."""
    filesystem, root = lake.storage.filesystem()
    traces: list[str] = []
    unreadable: list[str] = []
    files = 0
    for path in all_files(lake):
        files += 1
        if on_file:
            on_file(files)
        shown = path.removeprefix(f"{root}/")
        look = parquet_names if path.endswith(".parquet") else bytes_name
        try:
            if look(filesystem, path, trace):
                traces.append(shown)
        except FileNotFoundError:
            continue  # replaced while this ran
        except (OSError, pa.ArrowException):
            unreadable.append(shown)
    for path in mart_files(lake.settings):
        files += 1
        tables = duckdb_names(path, trace)
        traces += [f"{path.name}: {table}" for table in tables]
        # Where another id contains this one, compression may well have cut that in two: only what is decoded tells then.
        if not tables and not trace.others and bytes_name(Disk(), str(path), trace):
            traces.append(path.name)
    return Verification(files, tuple(traces), tuple(unreadable))


def mart_files(settings: Settings) -> list[Path]:
    """The DuckDB files of the marts that are there."""
    from iot_platform.marts.publish import build_file

    return [path for path in (settings.marts, build_file(settings)) if path.exists()]
