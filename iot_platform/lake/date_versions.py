"""The versions of one date of a derived table, read off its log: when the date changed, by what, and what still stands.

A table has many versions, most of which changed other dates, or no row at all (merged files, a raised level). One version
of a date is what it held from the commit that changed it until the next such commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from iot_platform.errors import InputError, LakeError
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import daily_transforms
from iot_platform.lake.snapshot import Snapshot
from iot_platform.lake.storage import S3
from iot_platform.lake.stream_log import commits_of, user_metadata


@dataclass(frozen=True)
class DateVersion:
    """What a date held from table version ``version`` until ``last``, both included.

    ``at`` is when that was committed (UTC), ``metadata`` what the commit says (engine, run_id, level, code_version, rows,
    rolled_back). Both are empty where the log no longer has the commit.
    """

    version: int
    last: int
    at: datetime | None
    operation: str
    metadata: Mapping[str, Any]


def rollback_contract(lake: Lake, table: str) -> None:
    """Raise ``InputError``, saying what to do instead, for a table of which no date can be put back."""
    contract = lake.contract(table)
    daily = [transform.table for transform in daily_transforms()]
    if table in daily:
        return
    instead = {
        "bronze": "What came in is never put back: put back what is made of it, or see `iot quarantine` and `iot erase`.",
        "registry": "Registries follow the declarations: correct your devices*.csv, and the next run takes them up.",
    }
    told = instead.get(contract.layer, "It is a record of what happened.")
    raise InputError(f"{table} has no dates that can be put back", f"{told} Tables that have: {', '.join(daily)}.")


def date_versions(snapshot: Snapshot, lake: Lake, day: date) -> Iterator[DateVersion]:
    """The versions of the date, newest first, as the log of this snapshot tells them."""
    last = snapshot.version
    oldest = 0
    for commit in commits_of(snapshot.delta):
        metadata = user_metadata(commit)
        version = int(commit["version"])
        oldest = version
        if _changes(version, metadata, lake, snapshot, day):
            at = datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
            yield DateVersion(version, last, at, str(commit.get("operation") or ""), metadata)
            last = version - 1
    # What stood before the oldest commit that the log has, if that was not the first of all.
    if oldest:
        try:
            before = lake.snapshot(snapshot.contract.name, last)
        except LakeError:
            return
        if before.recorded_level(day):
            yield DateVersion(min(oldest, last), last, None, "", {})


def _changes(version: int, metadata: Mapping[str, Any], lake: Lake, snapshot: Snapshot, day: date) -> bool:
    """Whether the commit changed rows of the date; one that does not say so is read: merged files change no row."""
    if "level" in metadata and "date" in metadata:
        return metadata["date"] == day.isoformat()
    filesystem, root = lake.storage.filesystem()
    try:
        with filesystem.open_input_stream(f"{root}/{snapshot.contract.name}/_delta_log/{version:020d}.json") as file:
            lines = file.read().decode().splitlines()
    except OSError:
        return False
    partition = f"{snapshot.contract.partition}={day.isoformat()}"
    actions = [one.get("add") or one.get("remove") or {} for one in map(json.loads, lines)]
    return any(action.get("dataChange") and partition in action["path"] for action in actions)


def missing_files(lake: Lake, snapshot: Snapshot, day: date) -> list[str]:
    """The date's files in this version that are gone: maintenance removes what only old versions need."""
    from pyarrow.fs import FileType

    paths = [path.removeprefix(S3) for path in snapshot.files([day])]
    filesystem, _ = lake.storage.filesystem()
    found: Sequence[Any] = filesystem.get_file_info(paths) if paths else []
    return [info.path for info in found if info.type != FileType.File]


def is_possible(lake: Lake, table: str, day: date, version: DateVersion) -> bool:
    """Whether all of its files are still there, so that the date can be put back to it."""
    try:
        return not missing_files(lake, lake.snapshot(table, version.last), day)
    except LakeError:  # its log was cleaned away
        return False
