"""The proof: every file of the lake and of the marts is looked through for the device's id, decoded and as it lies there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow.fs import FileSystem

from iot_platform.contracts.tables import TABLES
from iot_platform.erase.contents import bytes_name, duckdb_names, parquet_names
from iot_platform.erase.old_versions import LOG, UNREADABLE, all_files, log_names
from iot_platform.erase.texts import NAMES, passed_columns
from iot_platform.erase.trace import Trace
from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings

SETTLE_SECONDS = 10.0  # a file of a batch or a date is written in less
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Verification:
    """How many files were looked through, how many could not be, and those in which the id was found."""

    files: int = 0
    traces: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = field(default=())

    @property
    def is_clean(self) -> bool:
        """Whether every file was looked through, and none names the device."""
        return not self.traces and not self.unreadable


def verify(
    lake: Lake, trace: Trace, on_file: Callable[[int], None] | None = None, settle_seconds: float = SETTLE_SECONDS
) -> Verification:
    """Look for the device in every file below the lake's root, and in the marts: the published file and dbt's own.

    A file that was written a moment ago may be half written: it is looked at again for so many seconds.
    """
    filesystem, root = lake.storage.filesystem()
    traces: list[str] = []
    unreadable: list[str] = []
    files = 0
    for path in all_files(lake):
        files += 1
        if on_file:
            on_file(files)
        is_named = _settled(filesystem, root, path, trace, settle_seconds)
        if is_named is not False:
            (traces if is_named else unreadable).append(path.removeprefix(f"{root}/"))
    for path in mart_files(lake.settings):
        files += 1
        traces += [f"{path.name}: {table}" for table in duckdb_names(path, trace, NAMES - {"device_id"})]
    return Verification(files, tuple(traces), tuple(unreadable))


def _settled(filesystem: FileSystem, root: str, path: str, trace: Trace, seconds: float) -> bool | None:
    """Whether the file names the device; None where nobody can tell, also not when its writer has had its time."""
    while True:
        with suppress(*UNREADABLE, ValueError):
            return _names(filesystem, root, path, trace)
        written_at = filesystem.get_file_info(path).mtime_ns or 0
        if time.time() - written_at / 1e9 >= seconds:
            return None
        time.sleep(LOOK_SECONDS)


def _names(filesystem: FileSystem, root: str, path: str, trace: Trace) -> bool:
    table = TABLES.get("/".join(path.removeprefix(f"{root}/").split("/")[:2]))
    try:
        if LOG in path:
            return log_names(filesystem, path, trace)
        if path.endswith(".parquet"):
            return parquet_names(filesystem, path, trace, passed_columns(table) if table else ())
        return bytes_name(filesystem, path, trace)
    except FileNotFoundError:  # replaced while this ran
        return False


def mart_files(settings: Settings) -> list[Path]:
    """The DuckDB files of the marts that are there."""
    from iot_platform.marts.publish import build_file

    return [path for path in (settings.marts, build_file(settings)) if path.exists()]
