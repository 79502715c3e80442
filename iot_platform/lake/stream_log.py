"""What the ingest stream writes into its commits, read back: offsets, sequence, and how far event time has come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from deltalake import DeltaTable

from iot_platform.contracts.wire import CONTRACTS
from iot_platform.errors import LakeError

PAGE = 50
SUMMARY = "summarizes"  # how many commits one stands for, itself not counted; those before it need not be read
OF_ONE_BATCH = {"offsets", "messages", "records", "batch_id", "readings", "quarantined", "rows_by_date"}


class StreamCommit(NamedTuple):
    """A commit of the ingest stream: when it was made (UTC), and its user metadata."""

    at: datetime
    metadata: dict[str, Any]


class Summarized(LakeError):
    """The stream's older commits were summarized after the table was opened, and may be gone."""


def commits_of(delta: DeltaTable, limit: int | None = None) -> list[dict[str, Any]]:
    """What the newest ``limit`` commits (None: all) say of themselves, newest first and none after the opened version."""
    return _commits(delta, limit)[1]


def _commits(delta: DeltaTable, limit: int | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The commits after the opened version, and those up to it. The library lists both, numbered as if there were none
    after it; so the opened version's own is looked for. It is the last of the shortest list."""
    shortest, found = delta.history(1), delta.history(limit)
    newer = max(len(shortest) - 1, 0)
    while shortest and newer < len(found) and _identity(found[newer]) != _identity(shortest[-1]):
        newer += 1  # committed between the two lists
    own = [commit | {"version": delta.version() - age} for age, commit in enumerate(found[newer:])]
    return found[:newer], own


def _identity(commit: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a commit from the next; its texts may be redacted between two looks."""
    return commit.get("timestamp"), commit.get("operation"), commit.get("operationMetrics")


def last_stream_commit(delta: DeltaTable) -> dict[str, Any] | None:
    """The user metadata of the newest commit made by the ingest stream, or None where there never was one.

    Looks back over commits of others (compaction, redrive), page by page, newest first.
    """
    seen = 0
    limit = PAGE
    while True:
        commits = commits_of(delta, limit)
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


def stream_commits(delta: DeltaTable) -> list[StreamCommit]:
    """What there is to know of all that the stream ever committed, newest first: back to the newest summary of what was
    before it, or to the oldest commit that the log still has.

    Raises ``Summarized`` when a newer summary was made since the table was opened: it has to be opened again.
    """
    found: list[StreamCommit] = []
    newer, commits = _commits(delta)
    if any(SUMMARY in user_metadata(commit) for commit in newer):
        raise Summarized("the log was summarized meanwhile", "Run it again; nothing was lost.")
    for commit in commits:
        metadata = user_metadata(commit)
        if "offsets" in metadata:
            found.append(StreamCommit(datetime.fromtimestamp(commit["timestamp"] / 1000, UTC), metadata))
        if SUMMARY in metadata:
            break
    return found


def summary_of(commits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One commit's metadata that says what all of these say, newest first: the newest position, all offsets and messages."""
    summary = {name: value for name, value in commits[0].items() if name not in OF_ONE_BATCH}
    offsets: dict[str, dict[str, list[int]]] = {}
    for commit in commits:
        for topic, partitions in commit["offsets"].items():
            for partition, (first, until) in partitions.items():
                known = offsets.setdefault(topic, {}).setdefault(partition, [first, until])
                known[:] = [min(known[0], first), max(known[1], until)]
    summary["offsets"] = offsets
    if all("messages" in commit for commit in commits):
        summary["messages"] = sum(commit["messages"] for commit in commits)
    if all("records" in commit for commit in commits):
        summary["records"] = sum(commit["records"] for commit in commits)
    return summary


def newest_id(contract: str) -> str:
    """The Delta transaction on Bronze that says how far a contract's time has come by redriven messages, in µs."""
    return f"newest/{contract}"


def newest_times(delta: DeltaTable) -> dict[str, int]:
    """Per contract, the newest min(event_time, kafka_timestamp) that came, in µs since the epoch."""
    metadata = last_stream_commit(delta)
    newest = {name: int(value) for name, value in metadata["newest_by_contract"].items()} if metadata else {}
    for contract in CONTRACTS:
        redriven = delta.transaction_version(newest_id(contract))
        if redriven is not None:
            newest[contract] = max(redriven, newest.get(contract, redriven))
    return newest
