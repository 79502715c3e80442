"""The dead-letter topic: everything that goes to quarantine, sent on with its reason, for those who live in Kafka.

A mirror of the table and no part of ingestion: it reads what was committed, in a thread of its own, at least once and in the
order of the batches. A broker that refuses it holds nothing up: the mirror stands where it stood and catches up later.

How far it came is a Delta transaction on ``bronze/quarantine`` (the largest ``ingest_seq`` of which all is acknowledged),
and not a file beside the checkpoint: so it is lost with the table and not with an ``IOT_HOME``, and whoever ingests next,
on whichever machine, goes on there.
"""
# The client documents these names as its own without exporting them in the way that checkers expect:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from iot_platform.contracts.duckdb import select_files
from iot_platform.errors import PlatformError, ServiceError
from iot_platform.lake.lake import Lake
from iot_platform.lake.quarantine import QUARANTINE
from iot_platform.local.process import make_folder
from iot_platform.settings import Settings
from iot_platform.topics import dead_letter_topic, ensure_topic

if TYPE_CHECKING:
    from confluent_kafka import Producer
    from duckdb import DuckDBPyConnection

MIRRORED = "dead-letter/mirrored"
STILL_SECONDS = 10.0  # nothing acknowledged for so long: the broker refuses
PIECE_MESSAGES = 10_000  # then the mark is moved: a restart repeats that many, or one batch
ROWS_AT_ONCE = 64  # values may have megabytes
BUFFERED_KBYTES = 65_536
MEMORY = "256MB"  # in which a batch is put in order; the rest of it on disk
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """Batches that are sent together: those with an ``ingest_seq`` above ``after``, up to ``until``."""

    after: int
    until: int


class Letter(NamedTuple):
    """What is sent for one quarantined message."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]

    def without_value(self) -> Letter:
        """For one that the topic can never take whole: it must not stop those after it, and quarantine has all of it."""
        return Letter(self.key, None, [*self.headers, ("value_bytes", str(len(self.value or b"")))])


class DeadLetters:
    """Sends what quarantine holds and the topic does not. One at a time; two would only send some messages twice."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lake = Lake(settings)
        self.topic = dead_letter_topic(settings)
        self.acknowledged = 0
        self.last_answer = monotonic()
        self._producer: Producer | None = None
        self._refused = ""

    def catch_up(self, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Send everything that was quarantined and not sent yet; how many messages were acknowledged.

        Raises ``ServiceError`` when the broker does not take them, ``LakeError`` for a table that cannot be read: then the
        mark stands where all before it is sent.
        """
        before = self.acknowledged
        snapshot = self.lake.snapshot(QUARANTINE)
        mark = snapshot.transaction(MIRRORED) or 0
        files = snapshot.files(after_seq=mark)
        if not files:
            return 0
        self.last_answer = monotonic()
        ensure_topic(self.settings, self.topic)
        with self.lake.reading(QUARANTINE) as connection:
            connection.execute(f"set memory_limit = '{MEMORY}'")
            make_folder(folder := self.settings.home / "tmp" / "dead-letter")
            connection.execute("set temp_directory = '{}'".format(str(folder).replace("'", "''")))
            source = select_files(snapshot.contract, files)
            for piece in pieces(connection, source, mark):
                if should_stop():
                    break
                self._send(connection, source, piece)
                self.lake.commit_transaction(self.lake.writable(QUARANTINE), MIRRORED, piece.until)
        return self.acknowledged - before

    def _send(self, connection: DuckDBPyConnection, source: str, piece: Piece) -> None:
        sql = (
            "select topic, kafka_partition, kafka_offset, key, value, headers, reason, detail"
            f" from ({source}) where ingest_seq > $after and ingest_seq <= $until"
            " order by ingest_seq, topic, kafka_partition, kafka_offset"
        )
        try:
            for batch in connection.sql(sql, params=piece._asdict()).to_arrow_reader(ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    self._produce(Letter(row["key"], row["value"], headers_of(row)))
                    self._connected().poll(0)
                    self._check()
            while self._connected().flush(0.2):
                self._check()
            self._check()
        except BaseException:
            self._forget()
            raise

    def _produce(self, letter: Letter) -> None:
        from confluent_kafka import KafkaError, KafkaException

        def answered(error: KafkaError | None, _: Any) -> None:
            if error is None:
                self.acknowledged += 1
                self.last_answer = monotonic()
            elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE and letter.value is not None:
                self._produce(letter.without_value())
            else:
                self._refused = error.str()

        while True:
            try:
                self._connected().produce(
                    self.topic.name, value=letter.value, key=letter.key, headers=letter.headers, on_delivery=answered
                )
            except BufferError:
                self._connected().poll(0.2)
                self._check()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE or letter.value is None:
                    raise ServiceError(f"the dead-letter topic refuses a message: {error.args[0].str()}") from None
                letter = letter.without_value()
            else:
                return

    def _check(self) -> None:
        """Raise when a message was refused, or nothing is acknowledged any more."""
        if self._refused:
            raise ServiceError(f"the dead-letter topic {self.topic.name} takes no message: {self._refused}")
        waiting = self._producer is not None and len(self._producer) > 0
        if waiting and monotonic() - self.last_answer > STILL_SECONDS:
            raise ServiceError(f"the broker acknowledges nothing for the dead-letter topic {self.topic.name}")
        if not waiting:
            self.last_answer = monotonic()

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = self._connect()
        return self._producer

    def _connect(self) -> Producer:
        from confluent_kafka import KafkaException, Producer

        from iot_platform.local.kafka import bootstrap

        config: dict[str, Any] = {
            "bootstrap.servers": bootstrap(self.settings),
            "client.id": "iot-platform-dead-letter",
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "zstd",
            "message.max.bytes": self.topic.max_message_bytes,
            "message.timeout.ms": round(STILL_SECONDS * 1000),
            "queue.buffering.max.kbytes": BUFFERED_KBYTES,
            "log_level": 0,
        }
        try:
            return Producer(config | self.settings.kafka_options)
        except (KafkaException, TypeError, ValueError) as error:
            raise ServiceError(f"Kafka's client refuses its options: {error}", "Correct IOT_KAFKA_OPTIONS") from None

    def _forget(self) -> None:
        """Drop what was not acknowledged: it is sent again from the mark, in order."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1)
        self._producer = None
        self._refused = ""


def headers_of(row: dict[str, Any]) -> list[tuple[str, str | bytes | None]]:
    """The message's own headers, then why it could not be a reading and where it stands."""
    own: Sequence[dict[str, Any]] = row["headers"] or ()
    return [
        *((one["key"], one["value"]) for one in own),
        ("reason", row["reason"]),
        ("detail", row["detail"]),
        ("source_topic", row["topic"]),
        ("source_partition", str(row["kafka_partition"])),
        ("source_offset", str(row["kafka_offset"])),
    ]


def pieces(connection: DuckDBPyConnection, source: str, after: int) -> Iterator[Piece]:
    """Whole batches above ``after``, in order, at least ``PIECE_MESSAGES`` messages together."""
    rows = connection.execute(
        f"select ingest_seq, count(*) from ({source}) where ingest_seq > $after group by all order by all", {"after": after}
    ).fetchall()
    messages = 0
    for position, (seq, count) in enumerate(rows):
        messages += count
        if messages >= PIECE_MESSAGES or position == len(rows) - 1:
            yield Piece(after, seq)
            after, messages = seq, 0


@contextmanager
def mirrored(settings: Settings) -> Iterator[Callable[[], None]]:
    """For the time of the block, and once more at its end, quarantine is mirrored; call what is yielded after a batch.

    Without the setting nothing happens. Never raises and never waits but at the end, for as long as the broker goes on
    acknowledging: what is left is sent the next time.
    """
    if not settings.dead_letter:
        yield lambda: None
        return
    worker = Worker(DeadLetters(settings))
    worker.start()
    try:
        yield worker.wake
    finally:
        worker.finish()


class Worker(threading.Thread):
    """Runs the mirror beside ingestion."""

    def __init__(self, letters: DeadLetters) -> None:
        super().__init__(name="dead-letters", daemon=True)
        self.letters = letters
        self._due = threading.Event()
        self._due.set()  # what a former process left
        self._ending = threading.Event()
        self._said = ""

    def wake(self) -> None:
        self._due.set()

    def run(self) -> None:
        pause: float | None = None
        while True:
            self._due.wait(pause)
            self._due.clear()  # before anything is looked at: who sets it now is seen in the next round
            is_last = self._ending.is_set()
            pause = None if self._caught_up() else min(LONGEST_PAUSE_SECONDS, (pause or FIRST_PAUSE_SECONDS / 2) * 2)
            if is_last:
                return

    def finish(self) -> None:
        """Send what is left, and wait for it while it gets on."""
        self._ending.set()
        self._due.set()
        self.letters.last_answer = monotonic()
        while self.is_alive() and monotonic() - self.letters.last_answer < 2 * STILL_SECONDS:
            self.join(0.2)

    def _caught_up(self) -> bool:
        try:
            self.letters.catch_up()
        except PlatformError as error:
            self._say(error.what)
        except Exception as error:  # a mirror that fails, however, must not end the ingestion that it stands beside
            self._say(f"{type(error).__name__}: {error}")
        else:
            self._said = ""
            return True
        return False

    def _say(self, what: str) -> None:
        if what != self._said:
            log.warning("dead letters wait in quarantine: %s; ingestion goes on", what)
        self._said = what
