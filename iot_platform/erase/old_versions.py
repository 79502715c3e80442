"""Past versions of the tables: their data files and log entries, as far as they name the device.

A data file that no version of now holds goes at once. A log entry stays, without the id: if it were gone, a writer that
opened the table before could put its commit under that number, below the checkpoint, where nobody would ever see it. What
goes of the log are older checkpoints. Time travel to before ends where it would need a file that went.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from iot_platform.erase.contents import bytes_name, parquet_names
from iot_platform.erase.texts import passed_columns
from iot_platform.erase.trace import Trace
from iot_platform.lake.lake import Lake

LOG = "_delta_log/"
CHECKPOINT = ".checkpoint"
PART = ".erase.part"
UNCOMMITTED = ".tmp"
PARQUET = ".parquet"  # and what a writer calls it until it is whole
TORN_AFTER = timedelta(hours=1)  # longer than any writer is silent about a file that it still writes
UNREADABLE = (OSError, pa.ArrowException)
OF_THE_TABLE = frozenset({"metaData", "protocol", "txn"})
USER = "userMetadata"
# What Delta says in its own words, and what is needed to read the table: nobody's device, whatever stands there.
FILE = frozenset({"path", "partitionValues"})
OWN = {
    "add": FILE, "remove": FILE, "cdc": FILE,
    "commitInfo": frozenset({"operation", "timestamp", "readVersion", "isolationLevel", "engineInfo", "clientVersion"}),
}  # fmt: skip
# The platform's own words in a commit: the stream's position, what a date was made of and by what.
OURS = frozenset({
    "offsets", "ends", "generation", "topic_ids", "newest_by_partition", "newest_by_contract", "turned_away", "inputs",
    "table", "engine", "run_id", "code_version",
})  # fmt: skip


def files_of(lake: Lake, table: str) -> tuple[FileSystem, str, dict[str, datetime]]:
    """The file system, the table's folder on it, and the paths of all files below that folder, sorted, with the time each
    was last written (UTC)."""
    filesystem, root = lake.storage.filesystem()
    folder = f"{root}/{lake.contract(table).name}"
    found = filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    infos: list[FileInfo] = sorted((info for info in found if info.type == FileType.File), key=lambda info: info.path)
    times = {info.path.removeprefix(f"{folder}/"): datetime.fromtimestamp((info.mtime_ns or 0) / 1e9, UTC) for info in infos}
    return filesystem, folder, times


def remove_old_files(lake: Lake, table: str, trace: Trace, now: datetime) -> int:
    """Remove the data files with the device's id that the newest version does not hold; how many went. ``now`` is UTC.

    A file that somebody is about to commit cannot be among them: no batch with an erased device is committed, and who
    replaces a date of a derived table reads what was erased already, once no run is unfinished. One that a killed writer
    left torn cannot be decoded: it goes where its bytes name the device, and in any case when nobody wrote it for an hour.
    """
    filesystem, folder, times = files_of(lake, table)
    active = {path.removeprefix(f"{lake.path(table)}/") for path in lake.writable(table).files()}
    passed = passed_columns(lake.contract(table))
    removed = 0
    for path, written_at in times.items():
        if path.startswith(LOG) or PARQUET not in path or path in active:
            continue
        with suppress(OSError):  # maintenance was faster; or it cannot be read at all, as the verification tells
            if _is_old_trace(filesystem, f"{folder}/{path}", trace, passed) or (
                now - written_at >= TORN_AFTER and is_torn(filesystem, f"{folder}/{path}")
            ):
                filesystem.delete_file(f"{folder}/{path}")
                removed += 1
    return removed


def _is_old_trace(filesystem: FileSystem, path: str, trace: Trace, passed: Collection[str]) -> bool:
    try:
        return parquet_names(filesystem, path, trace, passed)
    except FileNotFoundError:
        raise
    except UNREADABLE:
        return bytes_name(filesystem, path, trace)


def is_torn(filesystem: FileSystem, path: str) -> bool:
    """Whether the file ends before its footer."""
    with filesystem.open_input_file(path) as file:
        try:
            pq.read_metadata(file)
        except pa.ArrowException:
            return True
    return False


def redact_log(lake: Lake, table: str, trace: Trace) -> tuple[int, int]:
    """Write a new checkpoint and take the id out of what is older; entries rewritten, and old checkpoints removed."""
    filesystem, folder, times = files_of(lake, table)
    entries = [path for path in times if path.startswith(LOG)]
    if not any(log_names(filesystem, f"{folder}/{path}", trace) for path in entries):
        return 0, 0
    snapshot = lake.writable(table)
    try:
        snapshot.delta.create_checkpoint()
    except (DeltaError, OSError) as error:
        raise lake.unwritable(table, error) from None
    rewritten = removed = 0
    for path in entries:
        name = path.removeprefix(LOG)
        if CHECKPOINT in name and name.split(".")[0].isdigit() and int(name.split(".")[0]) < snapshot.version:
            filesystem.delete_file(f"{folder}/{path}")
            removed += 1
        elif name.endswith(PART):  # of an erasure that was killed
            filesystem.delete_file(f"{folder}/{path}")
        elif name.endswith(UNCOMMITTED):  # of a writer that was killed
            if log_names(filesystem, f"{folder}/{path}", trace):
                filesystem.delete_file(f"{folder}/{path}")
        elif name.endswith(".json"):
            rewritten += _rewrite(filesystem, f"{folder}/{path}", trace)
    return rewritten, removed


def log_names(filesystem: FileSystem, path: str, trace: Trace) -> bool:
    """Whether a file of the log names the device; what the log says of the table itself, in our words, is no trace.

    A plain look at the text, whatever could be taken out of it: the proof does not believe the one who cleaned.
    """
    if path.endswith(".parquet"):
        return parquet_names(filesystem, path, trace, OF_THE_TABLE)
    return _names(_read(filesystem, path), trace)


def _read(filesystem: FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as file:
        return bytes(file.read())


def _names(content: bytes, trace: Trace) -> bool:
    if not trace.is_in(content):
        return False
    try:
        return any(trace.is_in(json.dumps(_split(action)[1])) for action in _actions(content))
    except ValueError:  # torn, or none of the log's own: what its bytes say counts
        return True


def _actions(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def _split(action: Any) -> tuple[dict[str, Any], Any]:
    """Of a log action what is Delta's or the stream's own, and what anybody may have put there, in which a device is looked
    for. Where both are put together again the second has to fill the places of the first."""
    if not isinstance(action, dict):
        return {}, action
    kept: dict[str, Any] = {}
    said: dict[str, Any] = {}
    for name, body in action.items():
        own = OWN.get(name, frozenset())
        if name in OF_THE_TABLE:
            kept[name] = body
        elif isinstance(body, dict):
            kept[name] = {key: value for key, value in body.items() if key in own}
            said[name] = {key: value for key, value in body.items() if key not in own}
            if user := _user(body):
                kept[name][USER] = {key: value for key, value in user.items() if key in OURS}
                said[name][USER] = {key: value for key, value in user.items() if key not in OURS}
        else:
            said[name] = body
    return kept, said


def _user(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a commit carries for its users, where that is an object as the platform writes it."""
    try:
        found = json.loads(body.get(USER) or "null")
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _rewrite(filesystem: FileSystem, path: str, trace: Trace) -> int:
    content = _read(filesystem, path)
    if not _names(content, trace):
        return 0
    cleaned = "".join(json.dumps(_clean(action, trace), separators=(",", ":")) + "\n" for action in _actions(content))
    # The entry is there, whole, at any moment: renamed over on a disk; a bucket shows an object when it is complete.
    is_disk = isinstance(filesystem, LocalFileSystem)
    part = f"{path}{PART}" if is_disk else path
    with filesystem.open_output_stream(part) as file:
        file.write(cleaned.encode())
    if is_disk:
        filesystem.move(part, path)
    return 1


def _clean(action: Any, trace: Trace) -> Any:
    """A log action without the id. Bounds of columns go where they name it: which rows a file had, nobody asks any more."""
    kept, said = _split(action)
    if not trace.is_in(json.dumps(said)):
        return action
    for body in said.values() if isinstance(said, dict) else ():
        if isinstance(body, dict) and trace.is_in(body.get("stats") or ""):
            body["stats"] = json.dumps({"numRecords": json.loads(body["stats"]).get("numRecords")})
    # As text, so that only what is a trace there goes: not a key such as the number of a partition.
    said = json.loads(trace.redacted(json.dumps(said)))
    if not isinstance(said, dict):
        return said
    merged = kept | {name: kept.get(name, {}) | body if isinstance(body, dict) else body for name, body in said.items()}
    for name, body in said.items():
        if isinstance(body, dict) and isinstance(body.get(USER), dict):
            merged[name][USER] = json.dumps(kept[name][USER] | body[USER])
    return merged


def all_files(lake: Lake) -> Iterator[str]:
    """Every file below the lake's root."""
    filesystem, root = lake.storage.filesystem()
    for info in filesystem.get_file_info(FileSelector(root, recursive=True, allow_not_found=True)):
        if info.type == FileType.File:
            yield info.path
