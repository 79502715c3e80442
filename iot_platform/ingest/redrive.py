"""Redrive: quarantined messages parsed again by today's contracts and, if good, put into Bronze, exactly once (ADR 0010).

A message keeps its coordinates, arrival, ``batch_id`` and ``ingest_seq``. Bronze is committed first, on exactly the version
at which it was seen not to hold these coordinates; then quarantine is marked. Whatever dies in between is healed by the next
redrive that chooses the same messages: it finds them in Bronze and marks them. Needs neither the broker nor Spark.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.fields import Reading
from iot_platform.contracts.parse import ParseRules, parse_record
from iot_platform.contracts.refusal import Refusal
from iot_platform.contracts.tables import BRONZE_READINGS
from iot_platform.contracts.timestamps import DAY_US, EPOCH
from iot_platform.errors import LakeError
from iot_platform.failpoints import reach
from iot_platform.ingest.admission import InForce, read_admission
from iot_platform.ingest.batch import READING_NAMES, BatchRules, Stamp, rows_of
from iot_platform.ingest.candidates import Candidate, chunks, looked_at_once, together
from iot_platform.ingest.earlier import Earlier, Place
from iot_platform.ingest.files import Writer
from iot_platform.ingest.marking import mark
from iot_platform.ingest.summary import LATE_US
from iot_platform.lake.data_files import DataFile
from iot_platform.lake.lake import Lake
from iot_platform.lake.ledger import REDRIVEN
from iot_platform.lake.quarantine import QUARANTINE, Chosen
from iot_platform.lake.snapshot import Snapshot, changed_id
from iot_platform.lake.stream_log import newest_id
from iot_platform.settings import Settings
from iot_platform.topics import load_topics

READINGS = BRONZE_READINGS.name
ATTEMPTS = 200  # a stream commits every two seconds, a look and a commit take a tenth of one


@dataclass
class RedriveResult:
    """What became of the chosen messages; dates are event dates (UTC).

    ``healed``: were in Bronze already, by a redrive that died before its mark or runs beside this one. ``marked``: rows of
    quarantine that this one made say so; a redrive beside it may have been faster. ``unmarked``: messages for whose mark
    other writers left no room; the next redrive marks them.
    """

    chosen: int = 0
    redriven: int = 0
    readings: int = 0
    late: int = 0
    healed: int = 0
    marked: int = 0
    unmarked: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    readings_by_date: Counter[date] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        return {
            "chosen": self.chosen,
            "redriven": self.redriven,
            "readings": self.readings,
            "late": self.late,
            "healed": self.healed,
            "marked": self.marked,
            "unmarked": self.unmarked,
            "refused": dict(sorted(self.refused.items())),
            "readings_by_date": {day.isoformat(): rows for day, rows in sorted(self.readings_by_date.items())},
        }


def parse_rules(settings: Settings) -> ParseRules:
    """How messages are parsed today."""
    return ParseRules({topic.name: contract for contract, topic in load_topics(settings).items()}, settings.first_date)


def redrive(
    settings: Settings,
    chosen: Chosen,
    *,
    now: datetime,
    dry_run: bool = False,
    on_chunk: Callable[[RedriveResult], None] | None = None,
) -> RedriveResult:
    """Parse the chosen messages again; those that are good now go to Bronze. ``now`` (UTC) becomes ``redriven_at``.

    ``dry_run`` only tells what would be done. Safe beside ingestion, maintenance and other redrives. Raises ``LakeError``
    when a table cannot be read or written; what was committed before stands, and a second call goes on.
    """
    lake = Lake(settings)
    result = RedriveResult()
    if not lake.exists(QUARANTINE):
        return result
    if dry_run and not lake.exists(READINGS):
        raise LakeError(f"there is no {READINGS} to look into", "`iot ingest` makes it, as a redrive does that is not dry")
    quarantine = lake.snapshot(QUARANTINE)
    redriver = Redriver(lake, parse_rules(settings), result, now, dry_run=dry_run)
    for dates in looked_at_once(lake, quarantine, chosen):
        result.chosen += sum(len(offsets) for wanted in dates.values() for offsets in wanted.values())
        earlier = Earlier(lake, together(dates.values()))
        # One date of arrival after the other: what is held of it is its offsets, and one chunk of messages.
        for day, wanted in dates.items():
            marks: dict[Place, list[int]] = {}
            for chunk in chunks(lake, quarantine, day, wanted):
                for candidate in redriver.take(chunk, earlier):
                    marks.setdefault(candidate.place, []).append(candidate.record.offset)
                if on_chunk:
                    on_chunk(result)
            if marks and not dry_run:
                redriver.mark(day, marks)
    return result


@dataclass(frozen=True)
class Judged:
    """A candidate that is let in, with its readings and whether they are late."""

    candidate: Candidate
    readings: Sequence[Reading]
    is_late: bool

    @property
    def day(self) -> int:
        return self.readings[0].event_time // DAY_US


class Redriver:
    """Brings chunks of messages into Bronze and counts what became of them."""

    def __init__(self, lake: Lake, rules: ParseRules, result: RedriveResult, now: datetime, *, dry_run: bool) -> None:
        self.lake = lake
        self.rules = rules
        self.result = result
        self.now = now
        self.now_us = (now - EPOCH) // EPOCH.resolution
        self.dry_run = dry_run

    def take(self, chunk: Sequence[Candidate], earlier: Earlier) -> list[Candidate]:
        """Bring what is good into Bronze; the messages that stand there now, and are to be marked."""
        parsed = [(candidate, parse_record(candidate.record, self.rules)) for candidate in chunk]
        written: list[Judged] = []
        files: list[DataFile] = []
        for _ in range(ATTEMPTS):
            in_force = read_admission(self.lake)
            bronze = self.lake.snapshot(READINGS) if self.dry_run else self.lake.writable(READINGS)
            if not _holds(bronze, in_force):
                continue
            earlier.look(bronze)
            is_there = [earlier.holds(candidate.place, candidate.record.offset) for candidate in chunk]
            there = [candidate for candidate, known in zip(chunk, is_there, strict=True) if known]
            fresh = [told for told, known in zip(parsed, is_there, strict=True) if not known]
            judged, refused = judge(fresh, earlier, in_force)
            if judged and not self.dry_run:
                if judged != written:
                    written, files = judged, self._write(judged)
                reach("redrive.before_bronze")
                if not self._commit(bronze, judged, files):
                    continue
                reach("redrive.after_bronze")
            self._count(judged, refused, len(there))
            return [*there, *(one.candidate for one in judged)]
        raise LakeError(f"{READINGS}: other writers leave no room for a commit", "Run it again when they are done")

    def mark(self, day: date, offsets: Mapping[Place, Sequence[int]]) -> None:
        """Say in quarantine that these messages of one date of arrival are in Bronze."""
        marked = mark(self.lake, day, offsets, self.now)
        self.result.marked += marked or 0
        self.result.unmarked += 0 if marked is not None else sum(map(len, offsets.values()))

    def _write(self, judged: Sequence[Judged]) -> list[DataFile]:
        rows = rows_of(BRONZE_READINGS, (*READING_NAMES, "ingest_seq", "batch_id"), [
            (*reading, one.is_late, record.topic, record.partition, record.offset, record.timestamp_us, one.day,
             one.candidate.ingest_seq, one.candidate.batch_id)
            for one in judged for record in (one.candidate.record,) for reading in one.readings
        ], {"ingested_at": self.now_us})  # fmt: skip
        writer = Writer(self.lake.storage, BatchRules(self.rules), Stamp(0, 0, self.now_us))
        return list(writer.write(BRONZE_READINGS, [rows]))

    def _commit(self, bronze: Snapshot, judged: Sequence[Judged], files: Sequence[DataFile]) -> bool:
        """Commit on exactly this version; False when somebody was faster."""
        days = Counter[date]()
        newest: dict[str, int] = {}
        for one in judged:
            days[(EPOCH + timedelta(days=one.day)).date()] += len(one.readings)
            reached = min(one.readings[0].event_time, one.candidate.record.timestamp_us)
            contract = one.readings[0].contract
            newest[contract] = max(reached, newest.get(contract, bronze.transaction(newest_id(contract)) or 0))
        marks = {changed_id(day): bronze.changed(day) + 1 for day in days}
        marks |= {newest_id(contract): reached for contract, reached in newest.items()}
        marks[REDRIVEN] = (bronze.transaction(REDRIVEN) or 0) + len(judged)
        told = {"redrive": {"messages": len(judged), "readings": {day.isoformat(): rows for day, rows in days.items()}}}
        partition = bronze.contract.partition
        assert partition
        try:
            bronze.delta.create_write_transaction(
                [file.action(partition) for file in files],
                mode="append",
                schema=bronze.delta.schema(),
                partition_by=[partition],
                commit_properties=CommitProperties(
                    custom_metadata={"userMetadata": json.dumps(told)},
                    max_commit_retries=0,
                    app_transactions=[Transaction(name, version) for name, version in marks.items()],
                ),
            )
        except CommitFailedError:
            return False
        except (DeltaError, OSError) as error:
            raise self.lake.unwritable(READINGS, error) from None
        return True

    def _count(self, judged: Sequence[Judged], refused: Counter[str], there: int) -> None:
        self.result.healed += there
        self.result.refused += refused
        self.result.redriven += len(judged)
        for one in judged:
            self.result.late += one.is_late
            self.result.readings += len(one.readings)
            self.result.readings_by_date[(EPOCH + timedelta(days=one.day)).date()] += len(one.readings)


def _holds(bronze: Snapshot, in_force: InForce) -> bool:
    """Whether the admission that was read is that of this version too."""
    return all(bronze.transaction(name) == version for name, version in in_force.expected[READINGS].items())


def judge(
    parsed: Sequence[tuple[Candidate, list[Reading] | Refusal]], earlier: Earlier, in_force: InForce
) -> tuple[list[Judged], Counter[str]]:
    """Which messages are let in, late or not; and how many are refused, by reason.

    Late is what lies more than 10 minutes behind the newest time before it in its partition, counting the rows that Bronze
    has of earlier offsets now and what is let in here. What landed before is not judged again.
    """
    judged: list[Judged] = []
    refused = Counter[str]()
    reached: dict[Place, int] = {}
    for candidate, told in parsed:
        if isinstance(told, Refusal):
            refused[told.reason] += 1
            continue
        if (refusal := in_force.admission.refusal(told[0])) is not None:
            refused[refusal.reason] += 1
            continue
        place, record = candidate.place, candidate.record
        moments = earlier.reached_before(place, record.offset), reached.get(place)
        known = [moment for moment in moments if moment is not None]
        event_us = told[0].event_time
        is_late = not told[0].replayed and bool(known) and event_us < max(known) - LATE_US
        reached[place] = max([min(event_us, record.timestamp_us), *known])
        judged.append(Judged(candidate, told, is_late))
    return judged, refused
