"""The ingest stream without Kafka and Spark: its own start, checkpoint, parsing, files and commits, on a log in memory.

Only what Spark does is done here: it plans a batch, writes down the plan, hands over the rows, writes down that it is done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from types import SimpleNamespace

import pyarrow as pa

from iot_platform.contracts.parse import KafkaRecord, ParseRules
from iot_platform.ingest.broker import Held as HeldOffsets
from iot_platform.ingest.broker import Range
from iot_platform.ingest.generation import Start, choose_start
from iot_platform.ingest.position import READINGS, app_id
from iot_platform.ingest.redrive import redrive
from iot_platform.ingest.sink import BronzeSink
from iot_platform.lake import Lake
from iot_platform.lake.quarantine import Chosen
from iot_platform.lake.retention import closed_before
from iot_platform_tests.faults.late.messages import TOPIC_OF, Held, Log, Taken
from iot_platform_tests.ingest.kafka_batches import kafka_batch

Offsets = dict[str, dict[int, int]]
PARTITIONS = 2


class Frame:
    """What the sink asks of a Spark frame, over rows in memory: one worker, partitions in order."""

    def __init__(self, held: list[Held], rows_at_once: int = 7) -> None:
        self.sparkSession = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=1))
        self._held = held
        self._rows = rows_at_once

    def coalesce(self, _: int) -> Frame:
        return self

    def mapInArrow(self, function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]], _: str) -> Frame:
        batches = [
            kafka_batch(
                KafkaRecord(*held.place[1:], held.place.arrived, b"key", held.raw, [])
                for held in self._held[first : first + self._rows]
            )
            for first in range(0, len(self._held), self._rows)
        ]
        self._made = [row for batch in function(iter(batches)) for row in batch.to_pylist()]
        return self

    def collect(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(**row) for row in self._made]


class LocalStream:
    """Lands what is in the log, batch by batch; may be killed at any failpoint and started again.

    ``first_date``: older readings are refused as of a broken clock, until a redrive by the settings' rules lets them in.
    """

    def __init__(self, lake: Lake, log: Log, now: Callable[[], datetime], first_date: date | None = None) -> None:
        self.lake = lake
        self.log = log
        self.now = now
        self.first_date = first_date or lake.settings.first_date
        self.refused: list[Taken] = []
        self.taken: list[Taken] = []
        self.erased: set[str] = set()
        self.batches = 0
        self._landed: set[tuple[str, int, int]] = set()

    def drain(self) -> list[Taken]:
        """Land everything that waits, as one batch after the one that was planned and not done; the readings it brought."""
        start, sink = self._begin()
        checkpoint = start.checkpoint
        planned, done = checkpoint.last("offsets"), checkpoint.last("commits")
        before = len(self.taken)
        if planned > done:
            self._land(start, sink, planned)
        self._plan(start, planned + 1)
        self._land(start, sink, planned + 1)
        return self.taken[before:]

    def repeat(self) -> None:
        """Have the newest batch handed to a sink again, as Spark does when its own log did not get it."""
        start, sink = self._begin()
        newest = start.checkpoint.last("commits")
        if newest >= 0 and newest == start.checkpoint.last("offsets"):
            sink(self._frame(start, newest), newest)  # pyright: ignore[reportArgumentType]

    def redrive(self) -> list[Taken]:
        """What was refused is read by the settings' rules, and is taken from now on; the readings that it brought."""
        redrive(self.lake.settings, Chosen(), now=self.now())
        self.batches += 1
        closed = self.closed
        let_in = [replace(one, batch=self.batches) for one in self.refused if one.said.moment.date() >= closed]
        self.taken += let_in
        self.refused = [one for one in self.refused if one.said.moment.date() < closed]
        return let_in

    def forget(self, device: str) -> None:
        """The device is erased: what was refused of it is gone, and nothing of it is let in from now on."""
        self.erased.add(device)
        self.refused = [one for one in self.refused if one.said.device != device]

    @property
    def closed(self) -> date:
        """The first date that is open."""
        return closed_before(self.lake) or date.min

    def lose_checkpoint(self) -> None:
        shutil.rmtree(self.lake.settings.checkpoints / "bronze", ignore_errors=True)

    def _begin(self) -> tuple[Start, BronzeSink]:
        ends = {topic: dict.fromkeys(range(PARTITIONS), 0) for topic in TOPIC_OF.values()}
        for topic, partitions in self.log.ends().items():
            ends[topic] |= partitions
        spans = {topic: {p: Range(0, end) for p, end in partitions.items()} for topic, partitions in ends.items()}
        start = choose_start(self.lake.settings, self.lake, HeldOffsets(spans, {topic: topic for topic in ends}))
        rules = ParseRules({topic: contract for contract, topic in TOPIC_OF.items()}, self.first_date)
        sink = BronzeSink(self.lake, start, {topic: topic for topic in ends}, rules, now=self.now)
        path = start.checkpoint.path
        if not (path / "metadata").exists():
            for folder in ("offsets", "commits", "sources/0"):
                (path / folder).mkdir(parents=True, exist_ok=True)
            (path / "metadata").write_text('{"id": "test"}')
            (path / "sources" / "0" / "0").write_text("v1\n" + _offsets(start.starting))
        return start, sink

    def _plan(self, start: Start, batch: int) -> None:
        ends = {topic: dict.fromkeys(range(PARTITIONS), 0) for topic in TOPIC_OF.values()}
        for topic, partitions in self.log.ends().items():
            ends[topic] |= partitions
        (start.checkpoint.path / "offsets" / str(batch)).write_text("v1\n{}\n" + _offsets(ends))

    def _frame(self, start: Start, batch: int) -> Frame:
        return Frame(list(self.log.between(start.checkpoint.range_of(batch))))

    def _land(self, start: Start, sink: BronzeSink, batch: int) -> None:
        frame = self._frame(start, batch)
        try:
            sink(frame, batch)  # pyright: ignore[reportArgumentType]
        finally:
            self._take_note(start, batch)
        (start.checkpoint.path / "commits" / str(batch)).write_text("v1\n{}")

    def _take_note(self, start: Start, batch: int) -> None:
        """What is in Bronze now because of this batch: all of it or nothing, whatever became of the rest of the step."""
        last = self.lake.snapshot(READINGS).transaction(app_id(READINGS, start.generation))
        if last is None or last < batch:
            return
        fresh = [
            held
            for held in self.log.between(start.checkpoint.range_of(batch))
            if (held.place.topic, held.place.partition, held.place.offset) not in self._landed
        ]
        if fresh:
            self.batches += 1
        for held in fresh:
            self._landed.add((held.place.topic, held.place.partition, held.place.offset))
            if held.said:
                is_taken = held.said.moment.date() >= max(self.first_date, self.closed)
                if not is_taken and held.said.device in self.erased:
                    continue  # for good
                where = self.taken if is_taken else self.refused
                where += [Taken(held.said, metric, value, held.place, self.batches) for metric, value in held.said.values]


def _offsets(ends: Offsets) -> str:
    return json.dumps({topic: {str(p): end for p, end in found.items()} for topic, found in ends.items()})
