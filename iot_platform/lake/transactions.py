"""All application transactions of a table version, read in one pass over its log.

The library answers for one application at a time, in time that grows with their number: asking for each of 4,000 dates
would take minutes. A log that is not on a local disk, or not in the plain form, is left to the library.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import DeltaTable


def transactions(delta: DeltaTable) -> dict[str, int] | None:
    """Application id to version, as of the opened table version; None where the log has to be asked one by one."""
    uri = delta.table_uri.removeprefix("file://")
    log = Path(uri) / "_delta_log"
    if "://" in uri or not log.is_dir():
        return None
    version = delta.version()
    found: dict[str, int] = {}
    start = 0
    checkpoint = max((path for path in log.glob("*.checkpoint.parquet") if _version(path) <= version), default=None)
    try:
        if checkpoint is not None:
            start = _version(checkpoint) + 1
            for row in pq.read_table(checkpoint, columns=["txn"]).column("txn").to_pylist():
                if row is not None and row["appId"] is not None:
                    found[row["appId"]] = row["version"]
        for number in range(start, version + 1):
            for line in (log / f"{number:020d}.json").read_text(encoding="utf-8").splitlines():
                if line.startswith('{"txn"'):
                    action = json.loads(line)["txn"]
                    found[action["appId"]] = action["version"]
    except (OSError, KeyError, ValueError):
        return None
    return found


def _version(path: Path) -> int:
    text = path.name.split(".")[0]
    return int(text) if text.isdigit() else 2**63
