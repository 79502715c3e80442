"""The proof: every file of the lake and of the marts is looked through for the device's id, decoded and as it lies there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from iot_platform.contracts.tables import TABLES
from iot_platform.erase.contents import bytes_name, duckdb_names, parquet_names
from iot_platform.erase.old_versions import LOG, all_files, log_names
from iot_platform.erase.texts import NAMES, passed_columns
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
        table = TABLES.get("/".join(shown.split("/")[:2]))
        try:
            if LOG in path:
                is_named = log_names(filesystem, path, trace)
            elif path.endswith(".parquet"):
                is_named = parquet_names(filesystem, path, trace, passed_columns(table) if table else ())
            else:
                is_named = bytes_name(filesystem, path, trace)
            if is_named:
                traces.append(shown)
        except FileNotFoundError:
            continue  # replaced while this ran
        except (OSError, ValueError, pa.ArrowException):
            unreadable.append(shown)
    for path in mart_files(lake.settings):
        files += 1
        traces += [f"{path.name}: {table}" for table in duckdb_names(path, trace, NAMES - {"device_id"})]
    return Verification(files, tuple(traces), tuple(unreadable))


def mart_files(settings: Settings) -> list[Path]:
    """The DuckDB files of the marts that are there."""
    from iot_platform.marts.publish import build_file

    return [path for path in (settings.marts, build_file(settings)) if path.exists()]
