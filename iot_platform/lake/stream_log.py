"""What the ingest stream writes into its commits, read back: offsets, sequence, and how far event time has come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deltalake import DeltaTable

PAGE = 50


def last_stream_commit(delta: DeltaTable) -> dict[str, Any] | None:
    """The user metadata of the newest commit made by the ingest stream, or None where there never was one.

    Looks back over commits of others (compaction, redrive), page by page, newest first.
    """
    seen = 0
    limit = PAGE
    while True:
        commits = delta.history(limit)
        for commit in commits[seen:]:
            metadata = user_metadata(commit)
            if "ingest_seq" in metadata:
                return metadata
        if len(commits) < limit:
            return None
        seen, limit = len(commits), limit * 4


def user_metadata(commit: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object that a commit carries for its users; empty where it carries none, or something else."""
    try:
        metadata = json.loads(commit.get("userMetadata") or "{}")
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def newest_times(delta: DeltaTable) -> dict[str, int]:
    """Per contract, the newest min(event_time, kafka_timestamp) that came, in µs since the epoch."""
    metadata = last_stream_commit(delta)
    return {} if metadata is None else {name: int(value) for name, value in metadata["newest_by_contract"].items()}
