"""How far ingestion has come, as the two Bronze tables themselves say it: the only truth after a lost checkpoint.

What belongs here: reading the tables' commits. Needs neither Spark nor the broker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deltalake import DeltaTable

from iot_platform.ingest.transactions import FENCED
from iot_platform.ingest.turned_away import NOTHING, TurnedAway
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot
from iot_platform.lake.stream_log import last_stream_commit

READINGS, QUARANTINE = "bronze/readings", "bronze/quarantine"
TABLES = (READINGS, QUARANTINE)
Ends = dict[str, dict[int, int]]


def app_id(table: str, generation: int) -> str:
    """The Delta transaction under which a generation of the stream commits to a table, version = batch id."""
    return f"{table}/g{generation}"


@dataclass
class TablePosition:
    """One table: per topic and partition the offset below which all is in it.

    ``is_exact`` is False where no commit says it any more and the rows had to: then the true ends may lie further on.
    """

    ends: Ends = field(default_factory=dict)
    transactions: dict[int, int] = field(default_factory=dict)  # generation -> last batch id
    is_exact: bool = True


@dataclass
class Position:
    """Both tables together; ``newest_*``: how far event time has come, µs since the epoch."""

    tables: dict[str, TablePosition]
    ingest_seq: int = 0
    newest_by_partition: Ends = field(default_factory=dict)
    newest_by_contract: dict[str, int] = field(default_factory=dict)
    topic_ids: dict[str, str] = field(default_factory=dict)  # as the broker named them when they were read
    turned_away: TurnedAway = NOTHING  # by the readings' commits, as far as quarantine may not have it yet

    @property
    def generation(self) -> int:
        """The generation to go on with: the newest one seen, or the next where that was fenced."""
        seen = [(generation, last) for table in self.tables.values() for generation, last in table.transactions.items()]
        if not seen:
            return 1
        newest = max(generation for generation, _ in seen)
        return newest + 1 if (newest, FENCED) in seen else newest

    def last_batch(self, table: str) -> int:
        """Last batch of the current generation in the table; -1 when there is none."""
        return self.tables[table].transactions.get(self.generation, -1)

    @property
    def ends(self) -> Ends:
        """Per partition the smaller end of both tables: all below it is landed. A partition never read is not there."""
        readings, quarantine = (self.tables[name].ends for name in TABLES)
        return {
            topic: {p: min(end, quarantine[topic][p]) for p, end in ends.items() if p in quarantine[topic]}
            for topic, ends in readings.items()
            if topic in quarantine
        }

    @property
    def is_exact(self) -> bool:
        return all(table.is_exact for table in self.tables.values())


def read_position(lake: Lake) -> Position:
    """Read both tables' newest stream commits; tables that are not there yet have brought nothing.

    Raises ``LakeError`` for a table whose log cannot be read.
    """
    position = Position({})
    for table in TABLES:
        if not lake.exists(table):
            position.tables[table] = TablePosition()
            continue
        snapshot = lake.snapshot(table)
        metadata = last_stream_commit(snapshot.delta)
        is_exact = metadata is not None or not snapshot.active
        if metadata is None:
            metadata = position_of_rows(lake, snapshot)
        ends = metadata.get("ends") or {}
        position.tables[table] = TablePosition(_int_keys(ends), _transactions(snapshot.delta, table), is_exact)
        position.ingest_seq = max(position.ingest_seq, int(metadata.get("ingest_seq", 0)))
        position.topic_ids |= metadata.get("topic_ids", {})
        if table == READINGS:
            said = metadata.get("turned_away")
            position.turned_away = TurnedAway.of_json(said) if said else TurnedAway(untold=_int_keys(ends))
        raise_newest(position, metadata.get("newest_by_partition", {}), metadata.get("newest_by_contract", {}))
    return position


def raise_newest(
    position: Position, by_partition: Mapping[str, Mapping[Any, int]], by_contract: Mapping[str, int]
) -> None:
    """Take in how far event time has come; it never goes back."""
    for topic, partitions in by_partition.items():
        newest = position.newest_by_partition.setdefault(topic, {})
        for partition, reached in partitions.items():
            newest[int(partition)] = max(reached, newest.get(int(partition), reached))
    for contract, reached in by_contract.items():
        position.newest_by_contract[contract] = max(reached, position.newest_by_contract.get(contract, reached))


def _int_keys(offsets: Mapping[str, Mapping[str, int]]) -> Ends:
    return {topic: {int(partition): end for partition, end in ends.items()} for topic, ends in offsets.items()}


def _transactions(delta: DeltaTable, table: str) -> dict[int, int]:
    """The last batch of each generation. Delta keeps transactions for ever, unlike commit metadata."""
    return dict(_generations(delta, table))


def _generations(delta: DeltaTable, table: str) -> Iterator[tuple[int, int]]:
    generation, misses = 1, 0
    while misses < 2:  # a generation that was fenced before its first batch may be absent in one table
        last = delta.transaction_version(app_id(table, generation))
        if last is None:
            misses += 1
        else:
            misses = 0
            yield generation, last
        generation += 1


def position_of_rows(lake: Lake, snapshot: Snapshot) -> dict[str, Any]:
    """What the rows themselves say, in the shape of a commit's metadata: for a log whose old commits were cleaned away."""
    files = snapshot.files()
    if not files:
        return {}
    is_readings = snapshot.contract.name == READINGS
    reached = "epoch_us(max(least(event_time, kafka_timestamp)))" if is_readings else "null"
    contract = "contract" if is_readings else "null"
    with lake.reading(snapshot.contract.name) as connection:
        rows = connection.execute(
            f"select topic, kafka_partition, {contract}, max(kafka_offset) + 1, {reached}, max(ingest_seq) "
            "from read_parquet($files) group by all",
            {"files": files},
        ).fetchall()
    found: dict[str, Any] = {"ends": {}, "newest_by_partition": {}, "newest_by_contract": {}, "ingest_seq": 0}
    for topic, partition, name, end, newest, seq in rows:
        ends = found["ends"].setdefault(topic, {})
        ends[str(partition)] = max(end, ends.get(str(partition), 0))
        found["ingest_seq"] = max(found["ingest_seq"], seq)
        if newest is not None:
            partitions = found["newest_by_partition"].setdefault(topic, {})
            partitions[partition] = max(newest, partitions.get(partition, newest))
            found["newest_by_contract"][name] = max(newest, found["newest_by_contract"].get(name, newest))
    return found


def commit_metadata(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"))
