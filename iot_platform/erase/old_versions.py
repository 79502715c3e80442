"""Past versions of the tables: their data files and log entries, as far as they name the device.

A data file that no version of now holds goes at once. A log entry stays, without the id: if it were gone, a writer that
opened the table before could put its commit under that number, below the checkpoint, where nobody would ever see it. What
goes of the log are older checkpoints. Time travel to before ends where it would need a file that went.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from deltalake.exceptions import DeltaError
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from iot_platform.erase.contents import parquet_names
from iot_platform.erase.texts import passed_columns
from iot_platform.erase.trace import Trace
from iot_platform.lake.lake import Lake

LOG = "_delta_log/"
CHECKPOINT = ".checkpoint"
PART = ".erase.part"
OF_THE_TABLE = frozenset({"metaData", "protocol", "txn"})


def files_of(lake: Lake, table: str) -> tuple[FileSystem, str, list[str]]:
    """The file system, the table's folder on it, and the paths of all files below that folder, sorted."""
    filesystem, root = lake.storage.filesystem()
    folder = f"{root}/{lake.contract(table).name}"
    found = filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    infos: list[FileInfo] = [info for info in found if info.type == FileType.File]
    return filesystem, folder, sorted(info.path.removeprefix(f"{folder}/") for info in infos)


def remove_old_files(lake: Lake, table: str, trace: Trace) -> int:
    """Remove the data files with the device's id that the newest version does not hold; how many went.

    A file that somebody is about to commit cannot be among them: no batch with an erased device is committed, and who
    replaces a date of a derived table reads what was erased already, once no run is unfinished.
    """
    filesystem, folder, paths = files_of(lake, table)
    active = {path.removeprefix(f"{lake.path(table)}/") for path in lake.writable(table).files()}
    removed = 0
    for path in paths:
        if path.startswith(LOG) or not path.endswith(".parquet") or path in active:
            continue
        try:
            if parquet_names(filesystem, f"{folder}/{path}", trace, passed_columns(lake.contract(table))):
                filesystem.delete_file(f"{folder}/{path}")
                removed += 1
        except FileNotFoundError:
            continue  # maintenance was faster
        except OSError:
            continue  # torn, as a kill leaves one: no reader can open it; what it shows is told by the verification
    return removed


def redact_log(lake: Lake, table: str, trace: Trace) -> tuple[int, int]:
    """Write a new checkpoint and take the id out of what is older; entries rewritten, and old checkpoints removed."""
    filesystem, folder, paths = files_of(lake, table)
    entries = [path for path in paths if path.startswith(LOG)]
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
        elif name.endswith(".json"):
            rewritten += _rewrite(filesystem, f"{folder}/{path}", trace)
    return rewritten, removed


def log_names(filesystem: FileSystem, path: str, trace: Trace) -> bool:
    """Whether a file of the log names the device; what the log says of the table itself, in our words, is no trace."""
    if path.endswith(".parquet"):
        return parquet_names(filesystem, path, trace, OF_THE_TABLE)
    return _cleaned(filesystem, path, trace) is not None


def _cleaned(filesystem: FileSystem, path: str, trace: Trace) -> bytes | None:
    """The entry without the id; None where it does not name the device."""
    with filesystem.open_input_file(path) as file:
        text = bytes(file.read())
    if not trace.is_in(text):
        return None
    before = [json.loads(line) for line in text.splitlines() if line.strip()]
    after = [_clean(json.loads(line), trace) for line in text.splitlines() if line.strip()]
    if before == after:
        return None
    return "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in after).encode()


def _rewrite(filesystem: FileSystem, path: str, trace: Trace) -> int:
    content = _cleaned(filesystem, path, trace)
    if content is None:
        return 0
    # The entry is there, whole, at any moment: renamed over on a disk; a bucket shows an object when it is complete.
    is_disk = isinstance(filesystem, LocalFileSystem)
    part = f"{path}{PART}" if is_disk else path
    with filesystem.open_output_stream(part) as file:
        file.write(content)
    if is_disk:
        filesystem.move(part, path)
    return 1


def _clean(action: dict[str, Any], trace: Trace) -> dict[str, Any]:
    """A log action without the id. Bounds of columns go where they name it: which rows a file had, nobody asks any more."""
    for name, body in action.items():
        if not isinstance(body, dict) or name in OF_THE_TABLE:
            continue
        if trace.is_in(body.get("stats") or ""):
            stats = json.loads(body["stats"])
            body["stats"] = json.dumps({"numRecords": stats.get("numRecords")})
        parameters = body.get("operationParameters") or {}
        for parameter in parameters:
            if "redicate" in parameter:  # predicate, matchedPredicates, …
                parameters[parameter] = trace.redacted_json(parameters[parameter])
    return action


def all_files(lake: Lake) -> Iterator[str]:
    """Every file below the lake's root."""
    filesystem, root = lake.storage.filesystem()
    for info in filesystem.get_file_info(FileSelector(root, recursive=True, allow_not_found=True)):
        if info.type == FileType.File:
            yield info.path
