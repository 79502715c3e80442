"""Publishes the marts: a copy of the built database beside the one that readers open, renamed over it in one step."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from iot_platform.errors import PlatformError
from iot_platform.lake.lake import first_line
from iot_platform.settings import Settings

DATABASE = "build"  # DuckDB names a database after its file


def build_file(settings: Settings) -> Path:
    """The database that dbt writes, one process at a time; readers never open it."""
    return settings.marts.with_name(f"{DATABASE}.duckdb")


def publish(connection: duckdb.DuckDBPyConnection, target: Path, database: str = DATABASE) -> None:
    """Copy what is committed in ``database`` to ``target``, atomically: a reader sees the old file or the new one, whole.

    A reader that has the old file open keeps reading it. Only the process that has the build file open calls this.
    Raises ``PlatformError`` when the disk refuses; the old file then stays.
    """
    part = target.with_name(f".{target.name}.part")
    path = str(part).replace("'", "''")
    cursor = connection.cursor()
    try:
        _remove(part)  # of a publication that was killed
        cursor.execute(f"attach '{path}' as published")
        try:
            cursor.execute(f"copy from database {database} to published")
        finally:
            cursor.execute("detach published")
        _flush(part)
        part.replace(target)
        _flush(target.parent)
    except (duckdb.Error, OSError) as error:
        _remove(part)
        raise PlatformError(
            f"{target} cannot be published ({first_line(error)})",
            "The file published before stays. Check that the disk is writable and not full, then build again.",
        ) from None
    finally:
        cursor.close()


def _remove(part: Path) -> None:
    for leftover in (part, part.with_name(part.name + ".wal")):
        leftover.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    # A rename that survives a power cut needs the file's content, then the folder's entry, on the disk.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
